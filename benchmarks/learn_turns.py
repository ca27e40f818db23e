"""Teach the network of rallies/turns.py what hits, bounces and serves look like, from simulated rallies alone.

    python benchmarks/learn_turns.py [--plays 400] [--cache plays.pickle]

Plays of four sports are simulated and filmed from behind the court and from anywhere around it, at 24 to 60 frames per
second. Jitter, gaps (above all at hits, where a player stands before the ball), cuts and wrong positions are put in.
Writes platform/specktrack/rallies/turns.safetensors and prints precision and recall on plays that it was not taught.
"""

import argparse
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

from specktrack.datasets import flight, scenery
from specktrack.datasets.flight import Rally, play
from specktrack.datasets.synthetic import generator
from specktrack.rallies.turns import DILATIONS, KINDS, channels
from specktrack.schema import Event

WEIGHTS = Path(__file__).parents[1] / "platform/specktrack/rallies/turns.safetensors"
WH_PX = (1280, 720)
DURATION_S = 16.0
WIDTH = 32
BLUR_FRAMES = 0.8
"""Targets fall off around an event like a bell of this width."""
FILMINGS = 8
"""Cameras from which each play is filmed."""
OUTPUTS = {Event.HIT: (0,), Event.SERVE: (0, 2), Event.BOUNCE: (1,)}


@dataclass(frozen=True)
class Filmed:
    """What a tracker would give of one play, and what is to be found in it."""

    read: np.ndarray
    """float32 [N, C]."""
    target: np.ndarray
    """float32 [N, 3]."""
    counts: np.ndarray
    """float32 [N]: 0 where nobody could know."""


def simulate(number: int) -> Rally:
    random = generator(7, "turns", number)
    sport = flight.SPORTS[number % len(flight.SPORTS)]
    return play(random, sport, duration_s=DURATION_S, doubles=bool(number // 4 % 2))


def film(rally: Rally, random: np.random.Generator) -> Filmed:
    rate = float(random.choice([24, 25, 30, 30, 50, 60]))
    time_s = np.arange(int(DURATION_S * rate)) / rate
    xy_px, _ = _camera(rally, random).project(rally.ball(time_s))
    waves = random.uniform(0.2, 1.5, (2, 2)), random.uniform(0, 6.3, (2, 2))
    sway = np.sin(time_s[:, None, None] * waves[0] + waves[1]).mean(axis=1)
    xy_px = xy_px + sway * random.choice([0.0, random.uniform(0, 60)])
    outside = ((xy_px < 0) | (xy_px >= np.array(WH_PX))).any(axis=1)
    xy_px[outside] = np.nan
    target, counts = _truth(rally, time_s, xy_px)
    return Filmed(channels(time_s, _as_tracked(xy_px, rally, time_s, random)), target, counts)


def _camera(rally: Rally, random: np.random.Generator) -> scenery.Camera:
    """Where broadcasters stand, or anywhere around the court."""
    if random.random() < 0.6:
        return scenery.broadcast_camera(random, rally.sport, WH_PX)
    width, length = rally.sport.court_wl_m
    around, far = random.uniform(0, 2 * np.pi), length * random.uniform(0.7, 1.6)
    position = np.array([far * np.cos(around), far * np.sin(around), length * random.uniform(0.08, 0.7)])
    target = np.array([random.normal(0, 0.1) * width, random.normal(0, 0.1) * length, 1.0])
    centre = ((WH_PX[0] - 1) / 2, (WH_PX[1] - 1) / 2)
    corners = np.array([[x, y, z] for x in (-width / 2, width / 2) for y in (-length / 2, length / 2) for z in (0, 3)])
    seen, _ = scenery.Camera.aim(position, target, 1.0, centre).project(corners)
    focal = float((np.array(WH_PX) / 2 / np.abs(seen - centre).max(axis=0)).min()) * random.uniform(0.8, 1.3)
    return scenery.Camera.aim(position, target, focal, centre)


def _truth(rally: Rally, time_s: np.ndarray, xy_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and which frames count: not those of events that happen where the ball has not been seen for long."""
    rate = 1 / (time_s[1] - time_s[0])
    target, counts = np.zeros((len(time_s), len(KINDS)), np.float32), np.ones(len(time_s), np.float32)
    known = np.flatnonzero(np.isfinite(xy_px[:, 0]))
    for happening in rally.happenings:
        if happening.event not in OUTPUTS:
            continue
        frame = happening.time_s * rate
        bell = np.exp(-((np.arange(len(time_s)) - frame) ** 2) / (2 * BLUR_FRAMES**2))
        around = known[np.abs(known - frame) <= 0.2 * rate]
        if not ((around < frame).any() and (around > frame).any()):
            counts[bell > 0.01] = 0
            continue
        for output in OUTPUTS[happening.event]:
            target[:, output] = np.maximum(target[:, output], bell)
    return target, counts


def _as_tracked(xy_px: np.ndarray, rally: Rally, time_s: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Positions with what trackers do to them."""
    rate, n = 1 / (time_s[1] - time_s[0]), len(time_s)
    xy_px = xy_px + random.normal(0, random.choice([0.2, 0.6, 1.2, 2.5]), xy_px.shape)
    lost = random.random(n) < random.choice([0, 0.01, 0.05])
    for happening in rally.happenings:
        if happening.event in OUTPUTS and random.random() < 0.3:
            middle = int(happening.time_s * rate + random.normal(0, 1))
            lost[max(0, middle - int(random.integers(0, 4))) : middle + int(random.integers(0, 4))] = True
    for _ in range(int(random.integers(0, 3))):  # cuts and people in the way
        start = int(random.integers(n))
        lost[start : start + int(random.uniform(0.1, 1.5) * rate)] = True
    wrong = random.random(n) < random.choice([0, 0, 0.005, 0.02])
    xy_px[wrong] = random.uniform(0, WH_PX, (n, 2))[wrong]
    xy_px[lost] = np.nan
    if random.random() < 0.5:
        xy_px[:, 0] = WH_PX[0] - 1 - xy_px[:, 0]
    return xy_px


class Network(nn.Module):
    """As ``rallies.turns.likelihoods`` computes it, before the sigmoid."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        inputs = [channels_in, *[WIDTH] * (len(DILATIONS) - 1)]
        self.layers = nn.ModuleList(
            nn.Conv1d(c, WIDTH, 5, dilation=d, padding=2 * d) for c, d in zip(inputs, DILATIONS, strict=True)
        )
        self.out = nn.Conv1d(WIDTH, len(KINDS), 1)

    def forward(self, read_BCN: torch.Tensor) -> torch.Tensor:
        state = torch.relu(self.layers[0](read_BCN))
        for layer in self.layers[1:]:
            state = state + torch.relu(layer(state))
        return self.out(state)

    def save(self, path: Path) -> None:
        tensors = {f"{i}.{k}": v.numpy() for i, layer in enumerate(self.layers) for k, v in layer.state_dict().items()}
        tensors |= {"out.weight": self.out.weight.detach()[:, :, 0].numpy(), "out.bias": self.out.bias.detach().numpy()}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


def teach(clips: list[Filmed], steps: int) -> Network:
    torch.manual_seed(0)
    network = Network(clips[0].read.shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    random = np.random.default_rng(0)
    for step in range(steps):
        batch = [_cut(clips[i], random) for i in random.integers(len(clips), size=24)]
        read, target, counts = (torch.from_numpy(np.stack(part)) for part in zip(*batch, strict=True))
        logits = network(read.transpose(1, 2)).transpose(1, 2)
        each = nn.functional.binary_cross_entropy_with_logits(
            logits, target, pos_weight=torch.tensor(3.0), reduction="none"
        )
        loss = (each * counts[..., None]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    return network


def _cut(clip: Filmed, random: np.random.Generator, length: int = 256) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = int(random.integers(max(1, len(clip.read) - length)))
    span = slice(start, start + length)
    return clip.read[span], clip.target[span], clip.counts[span]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--plays", type=int, default=400)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    start = time.perf_counter()
    if options.cache and options.cache.exists():
        plays = pickle.loads(options.cache.read_bytes())
    else:
        plays = [simulate(number) for number in range(options.plays)]
        if options.cache:
            options.cache.write_bytes(pickle.dumps(plays))
    print(f"{len(plays)} plays in {time.perf_counter() - start:.0f} s", flush=True)
    clips = [film(rally, generator(8, "film", 100 * n + k)) for n, rally in enumerate(plays) for k in range(FILMINGS)]
    print(f"{len(clips)} clips, {sum(len(clip.read) for clip in clips)} frames", flush=True)
    teach(clips, options.steps).save(WEIGHTS)
    print(f"written to {WEIGHTS.name} after {time.perf_counter() - start:.0f} s; `benchmarks/events.py` judges it")


if __name__ == "__main__":
    main()
