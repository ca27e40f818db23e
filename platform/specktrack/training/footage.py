"""Frames of labelled videos, wherever they are: decoded whole in memory, or in packs until they are needed."""

# N frames, H W network px

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from specktrack.datasets import DatasetVideo
from specktrack.frames import Viewport
from specktrack.preparing.prepared import PackedFrames, Prepared, open_prepared
from specktrack.sampling import Motion, motion_cells
from specktrack.tracking.windowed.background import median_picture, stepped
from specktrack.training.decoded import decoded, unpacked


class Pixels(Protocol):
    """Frames of a video, uint8 [N, H, W, 3]: a tensor, or what is indexed like one and reads what it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, H, W, 3."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> torch.Tensor:
        """By a frame, a slice of frames, or a tensor of frames with a slice of rows and one of columns."""


@dataclass(frozen=True)
class Footage:
    """One video."""

    pixels: Pixels
    missing: np.ndarray
    """bool [N]: frames that could not be decoded; what ``pixels`` holds there means nothing."""
    motion: Motion
    background: torch.Tensor | None = None
    """uint8 [H, W, 3]: the median picture, where one was asked for."""


class PackedPixels:
    """A prepared video's frames, read from its packs."""

    def __init__(self, frames: PackedFrames) -> None:
        self._frames = frames
        width, height = frames.wh
        self.shape = (len(frames), height, width, 3)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: Any, /) -> torch.Tensor:
        """See Pixels."""
        if isinstance(key, tuple):
            frames, rows, columns = key
            return torch.from_numpy(self._frames.take(frames.tolist(), rows, columns))
        if isinstance(key, slice):
            return torch.from_numpy(self._frames.take(range(*key.indices(len(self)))))
        return torch.from_numpy(np.array(self._frames[int(key)]))


class PackedMotion:
    """How much moves in a prepared video, read from its packs."""

    def __init__(self, frames: PackedFrames) -> None:
        self._frames = frames

    def __getitem__(self, frame: int, /) -> np.ndarray:
        """See Motion."""
        return self._frames.motion(frame)


@dataclass(frozen=True)
class Reading:
    """How a run reads its videos, and where it keeps what it read."""

    folder: Path
    streamed: bool = False
    """Prepared videos are read as they are needed, not whole."""
    most_bytes: int = 0
    """Of packs that are kept, where they are streamed from far away."""

    def footage(
        self, video: DatasetVideo, prepared: Prepared | None, *, input_wh: tuple[int, int], background: bool
    ) -> Footage | None:
        """A video at the size of a network of ``input_wh``; None where it could not be prepared.

        MediaError if it is none, ConfigError if it is prepared at another size.
        """
        size = (video.width_px, video.height_px)
        if prepared is None:
            found = decoded(video.ref, self.folder, viewport=Viewport.fit(size, input_wh))
            chosen = found.pixels[:: stepped(len(found.pixels)).step]
            still = torch.from_numpy(median_picture(chosen)) if background else None
            return Footage(torch.from_numpy(found.pixels), found.missing, motion_cells(found.pixels), still)
        frames = self.packed(video, prepared, input_wh=input_wh)
        if frames is None or (missing := frames.missing()).all():
            return None
        still = torch.from_numpy(np.array(prepared.background(video.ref))) if background else None
        if self.streamed:
            return Footage(PackedPixels(frames), missing, PackedMotion(frames), still)
        found = unpacked(video.ref, frames, self.folder, pictures=prepared.settings["pictures"])
        return Footage(torch.from_numpy(found.pixels), found.missing, motion_cells(found.pixels), still)

    def packed(
        self, video: DatasetVideo, prepared: Prepared, *, input_wh: tuple[int, int] | None
    ) -> PackedFrames | None:
        """A prepared video's frames, at its own size without ``input_wh``; None where it could not be prepared."""
        viewport = prepared.viewport((video.width_px, video.height_px), input_wh)
        blocks = prepared.blocks(self.folder / "packs", most_bytes=self.most_bytes)
        return prepared.frames(video.ref, viewport.network_wh_px, blocks)


@lru_cache(maxsize=16)
def prepared_at(uri: str) -> Prepared | None:
    """The index of the data at a place, read once by a process."""
    return open_prepared(uri)
