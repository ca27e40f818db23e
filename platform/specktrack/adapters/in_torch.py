"""Labelled windows as a ``torch.utils.data.Dataset``, for training code of your own.

    data = LabelledWindows("labels", frames=3, size_wh=(512, 288))
    for batch in DataLoader(data, batch_size=8, shuffle=True, num_workers=4): ...

Each item is decoded on demand, in the calling process: simple, and slower than ``specktrack train``, which keeps
decoded video.
"""

# T frames, C channel, H W px

from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.frames import Viewport
from specktrack.sampling import window_starts
from specktrack.schema import Clip
from specktrack.video import read_clip


class LabelledWindow(TypedDict):
    """One item."""

    frames: torch.Tensor
    """uint8 [T, 3, H, W], RGB."""
    xy: torch.Tensor
    """float32 [T, 2], px of these pictures from the centre of the first; NaN where absent."""
    frame: torch.Tensor
    """int64 [T], numbers in the video."""
    video: str
    """Its URI."""


class LabelledWindows(Dataset[LabelledWindow]):
    """All runs of ``frames`` labelled frames in a row, of object 0; ConfigError, LabelError, MediaError."""

    def __init__(self, data: str, *, frames: int = 3, size_wh: tuple[int, int] | None = None) -> None:
        """``data`` is a dataset or a folder in a known format; ``size_wh`` the pictures' size, else the video's."""
        dataset = load_dataset(data)
        self._frames, self._size_wh = frames, size_wh
        self._videos = [video for video in dataset.card.videos if not video.labels_only]
        self._tracks = [dataset.track(video) for video in self._videos]
        self._windows: list[tuple[int, int]] = []
        for number, (video, track) in enumerate(zip(self._videos, self._tracks, strict=True)):
            labelled = np.zeros(video.frames, bool)
            labelled[track.frame] = True
            self._windows += [(number, int(start)) for start in window_starts(labelled, frames)]
        if not self._windows:
            raise ConfigError("no video has enough consecutive labelled frames", frames, data, "use other data")

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> LabelledWindow:
        number, start = self._windows[index]
        video, track = self._videos[number], self._tracks[number].between(start, start + self._frames)
        size_wh_px = video.width_px, video.height_px
        viewport = Viewport(size_wh_px, self._size_wh or size_wh_px)
        with read_clip(Clip(video=video.ref, start=start, stop=start + self._frames), viewport=viewport) as reader:
            pixels = np.concatenate([batch.pixels for batch in reader])
        return LabelledWindow(
            frames=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            xy=torch.from_numpy(viewport.to_network(track.xy_px).astype(np.float32)),
            frame=torch.from_numpy(track.frame),
            video=video.ref.uri,
        )
