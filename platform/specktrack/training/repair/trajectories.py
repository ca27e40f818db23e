"""Samples for networks that repair trajectories: windows of labels or of a tracker's rows, with some frames hidden.

Every draw is a function of (seed, sample number), and ranks take slices of one list, as for pictures.
"""

# B batch, T frames in window

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from specktrack.datasets import load_dataset
from specktrack.datasets.rows import pair_videos, read_rows
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory, trajectories
from specktrack.sampling import shuffled, window_starts
from specktrack.training import omitted
from specktrack.training.omitted import usable
from specktrack.training.repair.config import HidingConfig


@dataclass(frozen=True)
class Track:
    """One video's positions, float32 [N, 2] in shares of the picture, NaN where absent."""

    truth: np.ndarray
    """The labels; inf where a frame has none."""
    seen: np.ndarray
    """The network's input: a tracker's positions, or the labels again."""


class Windows(NamedTuple):
    """Samples as tensors."""

    seen_BT2: torch.Tensor
    truth_BT2: torch.Tensor
    hidden_BT: torch.Tensor


class TrajectoryWindows:
    """The global list of samples: windows of consecutive labelled frames with what is hidden of each."""

    def __init__(self, tracks: Sequence[Track], *, frames_in: int, seed: int, hiding: HidingConfig) -> None:
        self._tracks, self._seed, self._hiding, self._T = tracks, seed, hiding, frames_in
        starts = [
            np.stack([np.full(len(good), index), good], axis=1)
            for index, track in enumerate(tracks)
            if len(good := window_starts(~np.isinf(track.truth[:, 0]), frames_in))
        ]
        if not starts:
            raise ConfigError("no video has enough consecutive labelled frames", frames_in, remedy="use other data")
        self._windows = np.concatenate(starts)

    def __len__(self) -> int:
        """Samples per epoch."""
        return len(self._windows)

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sample ``number`` of the run: positions seen and true, float32 [T, 2], and what is hidden, bool [T]."""
        epoch, place = divmod(number, len(self))
        index, start = self._windows[shuffled((self._seed, 0, epoch), len(self))[place]]
        track, window = self._tracks[index], slice(start, start + self._T)
        xy = np.stack([track.seen[window], track.truth[window]])
        draw = np.random.default_rng([self._seed, 1, number])
        mirrored, reverse, in_run = draw.random(3)
        if mirrored < self._hiding.mirror:
            xy = np.stack([1 - xy[..., 0], xy[..., 1]], axis=-1)
        if reverse < self._hiding.mirror:
            xy = xy[:, ::-1]
        if in_run >= self._hiding.runs:
            return *xy, draw.random(self._T) < self._hiding.frames
        length = draw.integers(1, self._T - 1)
        first = draw.integers(0, self._T - length + 1)
        return *xy, (np.arange(self._T) >= first) & (np.arange(self._T) < first + length)

    def batch(self, numbers: Iterable[int]) -> Windows:
        """Positions seen and true, and what is hidden of those seen."""
        columns = zip(*(self.sample(number) for number in numbers), strict=True)
        return Windows(*(torch.from_numpy(np.stack(column)) for column in columns))


def load_tracks(uris: Sequence[str], rows: str = "") -> list[Track]:
    """Labels of all videos of the datasets, videos or not, beside the ``rows`` of a tracker, if there are any.

    Rows and labels meet by video (its URI, or a name that only one has) and frame; a frame without a row is one in
    which the tracker saw nothing. ConfigError for a video of which there are no rows.
    """
    followed = trajectories(read_rows(rows)) if rows else {}
    tracks, left_out = [], []
    for dataset in map(load_dataset, uris):
        named = pair_videos([video.ref.uri for video in dataset.card.videos], list(followed))
        for video in dataset.card.videos:
            label, wh_px = dataset.track(video), (video.width_px, video.height_px)
            if len(label):
                truth = np.full((int(label.frame[-1]) + 1, 2), np.inf, np.float32)
                label, part = usable(label, np.zeros(len(truth), bool), wh_px)
                truth[label.frame] = label.xy_px / np.array(wh_px, np.float32)
                seen = _seen(followed, named.get(video.ref.uri), video.ref.uri, wh_px, len(truth)) if rows else truth
                tracks.append(Track(truth, seen))
                left_out.append(part)
    omitted.check(left_out, uris)
    return tracks


def _seen(
    followed: Mapping[str, Mapping[int, Trajectory]],
    name: str | None,
    uri: str,
    wh_px: tuple[int, int],
    frames: int,
) -> np.ndarray:
    """A tracker's positions of object 0 in the first ``frames`` frames, float32 [frames, 2]."""
    if name is None:
        raise ConfigError("no rows of a labelled video", uri, "rows", "annotate all videos that are trained on")
    xy = np.full((frames, 2), np.nan, np.float32)
    if (row := followed[name].get(0)) is not None:
        row = row[row.frame < frames]
        xy[row.frame] = row.xy_px / np.array(wh_px, np.float32)
    return xy
