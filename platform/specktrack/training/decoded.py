"""Training videos decoded once, or unpacked, into memory-mapped arrays that all ranks of a node share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specktrack import telemetry
from specktrack.errors import MediaError, QuarantineReason, StorageError
from specktrack.frames import Viewport
from specktrack.preparing.frames import fill
from specktrack.preparing.prepared import PackedFrames
from specktrack.schema import Clip, VideoRef
from specktrack.storage.files import settle
from specktrack.video.process import DecodeLimits, DecoderProcess

STALLED_S = 60.0
"""A decoder that gives nothing for so long is stopped."""
AT_ONCE = 64
"""Frames that are unpacked at a time."""

log = telemetry.get_logger()


@dataclass(frozen=True)
class Decoded:
    """All frames of a video."""

    pixels: np.ndarray
    """uint8 [N, H, W, 3], a memory map."""
    missing: np.ndarray
    """bool [N]: frames that could not be decoded; what ``pixels`` holds there means nothing."""


def decoded(ref: VideoRef, folder: Path, *, viewport: Viewport | None = None) -> Decoded:
    """The video at the viewport's network size, or at its own; decoded into ``folder`` unless it is there.

    Raises MediaError if it is no video, StorageError if what was there is damaged.
    """
    size = "source" if viewport is None else "x".join(map(str, viewport.network_wh_px))
    path = folder / f"{ref.key}-{size}.npy"
    if not path.is_file():
        _decode(ref, viewport, path)
    return _mapped(path)


def unpacked(ref: VideoRef, frames: PackedFrames, folder: Path, *, pictures: str) -> Decoded:
    """The same of a prepared video, from its packs of such ``pictures``."""
    exact = "" if pictures == "exact" else f"-{pictures}"
    path = folder / f"{ref.key}-{'x'.join(map(str, frames.wh))}{exact}.npy"
    if not path.is_file():
        width, height = frames.wh
        with _new(path, (len(frames), height, width, 3)) as (pixels, missing):
            missing[:] = frames.missing()
            for start in range(0, len(frames), AT_ONCE):
                some = range(start, min(start + AT_ONCE, len(frames)))
                pixels[some.start : some.stop] = frames.take(some)
        log.info("video cached", video=ref.name, frames=len(frames))
    return _mapped(path)


def _mapped(path: Path) -> Decoded:
    gaps = _gaps(path)
    try:  # copy on write: torch wants writable memory, the file stays as it is
        pixels = np.lib.format.open_memmap(path, mode="c")
        missing = np.lib.format.open_memmap(gaps) if gaps.is_file() else np.zeros(len(pixels), bool)
    except ValueError as error:  # of a file that holds objects, which would be unpickled, as well
        raise StorageError(f"not a decoded video: {error}", place=str(path), remedy="remove it") from None
    return Decoded(pixels, missing)


def _gaps(path: Path) -> Path:
    """Beside the pixels, where some are missing."""
    return path.with_suffix(".missing.npy")


def _decode(ref: VideoRef, viewport: Viewport | None, path: Path) -> None:
    """In a process of its own, as videos are that anyone may have made; one that died gets a second chance."""
    with DecoderProcess(DecodeLimits(stall_s=STALLED_S)) as decoder:
        info = decoder.probe(ref)
        viewport = viewport or Viewport(info.size_wh_px, info.size_wh_px)
        width, height = viewport.network_wh_px
        whole = Clip(video=ref, start=0, stop=info.frames)
        with _new(path, (info.frames, height, width, 3)) as (pixels, missing):
            for attempt in (1, 2):
                missing[:] = True
                try:
                    fill(decoder.read_clip(whole, info=info, viewport=viewport), pixels, missing)
                except MediaError as error:
                    lost = int(missing.sum())
                    log.warning("video cached partly", missing=lost, frames=info.frames, reason=str(error))
                    if attempt == 1 and error.reason is QuarantineReason.CRASHED:
                        continue
                break
    log.info("video cached", video=ref.name, frames=info.frames)


@contextmanager
def _new(path: Path, shape: tuple[int, int, int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pixels of this shape and which of them are missing, to be filled in the block; then they are at ``path``."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    missing = np.ones(shape[0], bool)
    yield pixels, missing
    pixels.flush()
    if missing.any():
        gaps = partial.with_suffix(".gaps")
        with gaps.open("wb") as file:
            np.save(file, missing)
        settle(gaps, _gaps(path))
    settle(partial, path)
