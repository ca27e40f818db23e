"""Samples for networks that repair trajectories: windows of labels, of which some frames are hidden.

Every draw is a function of (seed, sample number), and ranks take slices of one list, as for pictures.
"""

# B batch, T frames in window

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.sampling import epoch_order, window_starts
from specktrack.training import omitted
from specktrack.training.omitted import usable
from specktrack.training.repair_config import HidingConfig


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
