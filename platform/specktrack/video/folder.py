"""A folder of numbered images read as a video."""

from collections.abc import Generator
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from specktrack.errors import MediaError, QuarantineReason
from specktrack.schema import VideoRef
from specktrack.storage import frame_names, open_store
from specktrack.video.container import check_size
from specktrack.video.index import Picture, VideoInfo

ASSUMED_FPS = 30.0
"""Images carry no time."""


def index_folder(ref: VideoRef, *, fps: float = ASSUMED_FPS) -> VideoInfo:
    """Measure a folder of images: frame i is the i-th by number; size and codec are the first image's."""
    names = frame_names(ref.uri)
    if not names:
        raise MediaError(QuarantineReason.NO_FRAMES, "no numbered images in the folder", ref.uri)
    first = _open(open_store(ref.uri).get(names[0]), ref, names[0])
    width_px, height_px = ImageOps.exif_transpose(first).size
    return VideoInfo(
        container="frames",
        codec=(first.format or "image").lower(),
        pixel_format=first.mode,
        bit_depth=8,
        width_px=width_px,
        height_px=height_px,
        frames=len(names),
        fps=fps,
        duration_s=len(names) / fps,
        keyframes=tuple(range(0, len(names), 8)),
        keyframe_pts=tuple(range(0, len(names), 8)),
        decoder="frames",
    )


class FolderDecoder:
    """Images of one folder at one size, scaled by area averaging; one that cannot be read repeats the one before."""

    def __init__(self, ref: VideoRef, info: VideoInfo, *, wh_px: tuple[int, int], threads: int = 1) -> None:
        self._ref, self._info, self._wh_px = ref, info, wh_px
        self.decode_errors = 0
        self.lost = 0

    def pictures(self, start: int, stop: int) -> Generator[Picture]:
        """Frames [start, stop) in order."""
        store, names = open_store(self._ref.uri), frame_names(self._ref.uri)
        pixels: np.ndarray | None = None
        waiting: list[int] = []
        for frame in range(start, min(stop, len(names))):
            waiting.append(frame)
            try:
                pixels = self._pixels(_open(store.get(names[frame]), self._ref, names[frame]), names[frame])
            except _UnreadableError:
                self.lost += 1
                self.decode_errors += 1
            if pixels is not None:
                yield from (Picture(each, each / self._info.fps, pixels) for each in waiting)
                waiting.clear()

    def _pixels(self, image: Image.Image, name: str) -> np.ndarray:
        try:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError):
            raise _UnreadableError from None
        if upright.size != self._info.size_wh_px:
            what = "an image has another size than the first of its folder"
            place = f"{self._ref.uri}{name}"
            raise MediaError(QuarantineReason.SIZE_CHANGED, what, upright.size, place, "keep one size in a folder")
        return scaled(upright, self._wh_px)


def scaled(picture: Image.Image, wh_px: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] of an RGB picture at another size: by area averaging where it shrinks."""
    if picture.size == wh_px:
        return np.asarray(picture)
    shrinks = wh_px[0] < picture.width and wh_px[1] < picture.height
    kernel = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(picture.resize(wh_px, kernel))


class _UnreadableError(Exception):
    pass


def _open(data: bytes, ref: VideoRef, name: str) -> Image.Image:
    try:
        image = Image.open(BytesIO(data))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        raise _UnreadableError(name) from None
    check_size(*image.size, ref)
    return image
