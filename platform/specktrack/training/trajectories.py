"""Training of networks that repair trajectories: windows of labels, of which some frames are hidden.

Every draw is a function of (seed, sample number), and ranks take slices of one list, as for pictures.
"""

# B batch, T frames in window

from collections.abc import Iterable, Sequence

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch import nn

from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.models import build
from specktrack.models.checkpoint import load_model
from specktrack.models.inpaint import InpaintNet
from specktrack.sampling import epoch_order, window_starts
from specktrack.training import omitted
from specktrack.training.checkpoints import checkpoint, restore
from specktrack.training.config import HidingConfig, TrainConfig
from specktrack.training.journal import Journal
from specktrack.training.omitted import usable
from specktrack.training.state import TrainState

VALIDATED = 512
"""Windows that are measured on."""


class TrajectoryWindows:
    """The global list of samples: windows of consecutive labelled frames with what is hidden of each."""

    def __init__(self, tracks: list[np.ndarray], *, frames_in: int, seed: int, hiding: HidingConfig) -> None:
        """``tracks`` are float32 [N, 2] in shares of the picture, NaN where absent, inf where not labelled."""
        self._tracks, self._seed, self._hiding, self._T = tracks, seed, hiding, frames_in
        starts = [
            np.stack([np.full(len(good), index), good], axis=1)
            for index, track in enumerate(tracks)
            if len(good := window_starts(~np.isinf(track[:, 0]), frames_in))
        ]
        if not starts:
            raise ConfigError("no video has enough labelled frames in a row", frames_in, remedy="give other data")
        self._windows = np.concatenate(starts)

    def __len__(self) -> int:
        """Samples per epoch."""
        return len(self._windows)

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample ``number`` of the run: positions float32 [T, 2] and what is hidden, bool [T]."""
        epoch, place = divmod(number, len(self))
        track, start = self._windows[epoch_order(self._seed, epoch, len(self))[place]]
        xy = self._tracks[track][start : start + self._T]
        draw = np.random.default_rng([self._seed, 1, number])
        mirrored, reverse, in_run = draw.random(3)
        if mirrored < self._hiding.mirror:
            xy = np.stack([1 - xy[:, 0], xy[:, 1]], axis=1)
        if reverse < self._hiding.mirror:
            xy = xy[::-1]
        if in_run >= self._hiding.runs:
            return xy, draw.random(self._T) < self._hiding.frames
        length = draw.integers(1, self._T - 1)
        first = draw.integers(0, self._T - length + 1)
        return xy, (np.arange(self._T) >= first) & (np.arange(self._T) < first + length)

    def batch(self, numbers: Iterable[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples as tensors: positions [B, T, 2] and what is hidden, bool [B, T]."""
        samples = [self.sample(number) for number in numbers]
        xy, hidden = (np.stack(column) for column in zip(*samples, strict=True))
        return torch.from_numpy(xy).to(device), torch.from_numpy(hidden).to(device)


def load_tracks(uris: Sequence[str]) -> list[np.ndarray]:
    """Labels of all videos of the datasets, videos or not: float32 [N, 2] in shares of the picture."""
    tracks, left_out = [], []
    for dataset in map(load_dataset, uris):
        for video in dataset.card.videos:
            label, wh_px = dataset.track(video), (video.width_px, video.height_px)
            if len(label):
                xy = np.full((int(label.frame[-1]) + 1, 2), np.inf, np.float32)
                label, part = usable(label, np.zeros(len(xy), bool), wh_px)
                xy[label.frame] = label.xy_px / np.array(wh_px, np.float32)
                tracks.append(xy)
                left_out.append(part)
    omitted.check(left_out, uris)
    return tracks


class _WithLoss(nn.Module):
    """What DistributedDataParallel wraps: its forward is the loss, so that gradients meet."""

    def __init__(self, network: InpaintNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, xy_BT2: torch.Tensor, hidden_BT: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.network.loss(xy_BT2, xy_BT2, hidden_BT)


def train_trajectories(config: TrainConfig) -> None:
    """Train as one worker of a TorchTrainer."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank, workers = context.get_world_rank(), context.get_world_size()
    windows = _windows(config, config.data)
    held_out = _windows(config, config.validation) if config.validation else None
    config = config.with_steps(windows=len(windows))
    state = _state(config, device)
    assert isinstance(state.network, InpaintNet)
    learner = ray.train.torch.prepare_model(_WithLoss(state.network))

    with Journal(config, enabled=rank == 0, first_step=state.step) as journal:
        for step in range(state.step, config.steps):
            numbers = range(step * config.batch_size + rank, (step + 1) * config.batch_size, workers)
            results = learner(*windows.batch(numbers, device))
            state.update(results["loss"])
            last = state.step == config.steps
            if state.step % config.log_every == 0 or state.step == 1 or last:
                journal.write(state.step, "train", {k: v.detach() for k, v in results.items()} | state.figures())
            if held_out and rank == 0 and (state.step % config.validate_every == 0 or last):
                journal.write(state.step, "validation", measure(state.average, held_out, device))
            if state.step % config.checkpoint_every == 0 or last:
                checkpoint(state, journal, rank, kept=config.workers > 0)
        if rank == 0:
            journal.save_model(state.average)


def _windows(config: TrainConfig, uris: Sequence[str]) -> TrajectoryWindows:
    return TrajectoryWindows(
        load_tracks(uris), frames_in=config.network.frames_in, seed=config.seed, hiding=config.hiding
    )


def _state(config: TrainConfig, device: torch.device) -> TrainState:
    torch.manual_seed(config.seed)  # initial weights: the one draw that torch offers no generator for
    network = load_model(config.init).network.train() if config.init else build(config.network)
    state = TrainState(network, config, device)
    restore(state)
    return state


@torch.inference_mode()
def measure(network: nn.Module, windows: TrajectoryWindows, device: torch.device) -> dict[str, torch.Tensor]:
    """Loss and mean error at hidden frames of the first held-out windows."""
    assert isinstance(network, InpaintNet)
    xy, hidden = windows.batch(range(min(VALIDATED, len(windows))), device)
    return network.loss(xy, xy, hidden)
