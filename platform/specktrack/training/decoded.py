"""Training videos decoded once into memory-mapped arrays that all ranks of a node share."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specktrack import telemetry
from specktrack.errors import MediaError, QuarantineReason, StorageError
from specktrack.frames import Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.video import ClipReader
from specktrack.video.process import DecodeLimits, DecoderProcess, ProcessReader

STALLED_S = 60.0
"""A decoder that gives nothing for so long is stopped."""

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
        partial = path.with_suffix(f".{os.getpid()}.partial")
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(info.frames, height, width, 3))
        for attempt in (1, 2):
            missing = np.ones(info.frames, bool)
            try:
                whole = Clip(video=ref, start=0, stop=info.frames)
                _read(decoder.read_clip(whole, info=info, viewport=viewport), pixels, missing)
            except MediaError as error:
                log.warning("video cached in part", missing=int(missing.sum()), frames=info.frames, reason=str(error))
                if attempt == 1 and error.reason is QuarantineReason.CRASHED:
                    continue
            break
    pixels.flush()
    if missing.any():
        gaps = partial.with_suffix(".gaps")
        with gaps.open("wb") as file:
            np.save(file, missing)
        gaps.replace(_gaps(path))
    partial.replace(path)
    log.info("video cached", video=ref.name, frames=info.frames)


def _read(reader: ProcessReader | ClipReader, pixels: np.ndarray, missing: np.ndarray) -> None:
    """Fill ``pixels`` and take from ``missing`` what was read; MediaError where reading ends early."""
    lost = 0
    for batch in reader:
        start, stop = int(batch.frame[0]), int(batch.frame[-1]) + 1
        pixels[start:stop] = batch.pixels
        missing[start:stop] = False
        if reader.lost_frames > lost:  # lost frames repeat the one before
            first = max(start, 1)
            missing[first:stop] = (pixels[first:stop] == pixels[first - 1 : stop - 1]).all(axis=(1, 2, 3))
            lost = reader.lost_frames
