"""Where a flight turns: moments at which something other than gravity and air changed how the ball moves.

A small convolutional network reads one trajectory, frame by frame, and says how likely each frame is a hit, a bounce
and a serve. It has seen nothing but simulated rallies (datasets/flight.py) filmed from many places, with jitter, gaps
and wrong positions put in; ``benchmarks/learn_turns.py`` made its weights. It runs in numpy: an hour of video takes a
second.
"""

# N frames, C channels, K taps of a convolution

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from safetensors.numpy import load

from specktrack.schema import Event

RATE_HZ = 60.0
"""Videos of twice this rate and more are read every second, third, ... frame."""
FILL_S = 0.15
"""Gaps up to this long are bridged by a straight line before speeds are taken; the network is told where."""
DILATIONS = (1, 2, 4, 8)
"""Of the network's layers: a frame's verdict depends on 30 frames on either side."""
APART_S = 0.13
"""Of two turns that are closer the likelier one counts."""
KINDS = ("hit", "bounce", "serve")
"""Outputs; a serve is a hit too."""
_TAPS = 5
_FARTHEST = 4.0
"""Speeds beyond so many times the usual one are cut: wrong positions make them."""


@dataclass(frozen=True)
class Turn:
    """One hit, serve or bounce."""

    event: Event
    time_s: float
    score: float
    """How likely it is, in [0, 1]."""


def find_turns(time_s: np.ndarray, xy_px: np.ndarray, *, threshold: float) -> list[Turn]:
    """The turns of one trajectory in the order of time; frames [N] rise by one, positions [N, 2] are NaN where absent.

    ``threshold`` is the least likelihood of a turn that counts.
    """
    if np.isfinite(xy_px[:, 0]).sum() < 3:
        return []
    stride = max(1, round(1 / (float(np.median(np.diff(time_s))) * RATE_HZ)))
    time_s, xy_px = time_s[::stride], xy_px[::stride]
    likely = likelihoods(channels(time_s, xy_px), _weights())
    hit, bounce, serve = likely.T
    best = np.maximum(hit, bounce)
    turns: list[Turn] = []
    for n in np.argsort(-best, kind="stable").tolist():
        if best[n] < threshold:
            break
        at_s = _peak(time_s, best, n)
        if all(abs(turn.time_s - at_s) >= APART_S for turn in turns):
            opens = serve[max(0, n - 2) : n + 3].max() >= 0.5
            event = Event.BOUNCE if bounce[n] > hit[n] else Event.SERVE if opens else Event.HIT
            turns.append(Turn(event, at_s, float(best[n])))
    return sorted(turns, key=lambda turn: turn.time_s)


def _peak(time_s: np.ndarray, likely: np.ndarray, n: int) -> float:
    """Where between its neighbours a peak lies: their mean time, each by its likelihood."""
    near = slice(max(0, n - 1), n + 2)
    return float(np.average(time_s[near], weights=likely[near]))


def channels(time_s: np.ndarray, xy_px: np.ndarray) -> np.ndarray:
    """The network's input, float32 [N, 6]: velocity and position in the trajectory's own units, presence, rate."""
    step_s = float(np.median(np.diff(time_s)))
    known = np.isfinite(xy_px[:, 0])
    xy = bridged(xy_px, known, most=max(1, round(FILL_S / step_s)))
    velocity = np.diff(xy, axis=0, prepend=xy[:1]) / step_s
    speed = np.hypot(*velocity.T)
    usual = np.nanpercentile(speed, 80) if np.isfinite(speed).any() else 1.0
    low, high = np.nanpercentile(xy_px[known], (5, 95), axis=0)
    result = np.concatenate(
        [
            np.clip(velocity / max(float(usual), 1e-3), -_FARTHEST, _FARTHEST),
            np.clip((xy - low) / np.maximum(high - low, 1.0), -1, 2) - 0.5,
            known[:, None],
            np.full((len(xy), 1), 30 * step_s),
        ],
        axis=1,
    )
    return np.nan_to_num(result).astype(np.float32)


def bridged(xy_px: np.ndarray, known: np.ndarray, *, most: int) -> np.ndarray:
    """Positions [N, 2] with straight lines over gaps of at most ``most`` frames."""
    at = np.flatnonzero(known)
    frames = np.arange(len(xy_px))
    filled = np.stack([np.interp(frames, at, xy_px[at, axis]) for axis in (0, 1)], axis=1)
    before = np.searchsorted(at, frames, "right") - 1
    gap = np.append(np.diff(at), len(xy_px) + most)[np.maximum(before, 0)]
    far = (gap > most + 1) | (before < 0)
    return np.where((known | ~far)[:, None], filled, np.nan)


def likelihoods(read: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Of each frame [N, C] the likelihoods [N, 3] of KINDS."""
    state = read
    for i, dilation in enumerate(DILATIONS):
        new = np.maximum(_convolved(state, weights[f"{i}.weight"], dilation) + weights[f"{i}.bias"], 0)
        state = new if i == 0 else state + new
    return 1 / (1 + np.exp(-(state @ weights["out.weight"].T + weights["out.bias"])))


def _convolved(state: np.ndarray, weight: np.ndarray, dilation: int) -> np.ndarray:
    """[N, C] with a filter [C out, C in, K], zeros beyond both ends."""
    reach = dilation * (_TAPS // 2)
    padded = np.pad(state, ((reach, reach), (0, 0)))
    return sum(padded[k * dilation : k * dilation + len(state)] @ weight[:, :, k].T for k in range(_TAPS))


@cache
def _weights() -> dict[str, np.ndarray]:
    return load(files("specktrack.rallies").joinpath("turns.safetensors").read_bytes())
