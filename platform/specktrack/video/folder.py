"""A folder of numbered images read as a video."""

from collections.abc import Callable, Generator
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import Viewport
from specktrack.schema import VideoRef
from specktrack.storage import listed_frames, open_store, reading, unchanged
from specktrack.video.index import Picture, VideoInfo
from specktrack.video.pictures import PictureDecoder, decode_at, decode_picture

T = TypeVar("T")

ASSUMED_FPS = 30.0
"""Images carry no time."""


def index_folder(ref: VideoRef, *, fps: float = ASSUMED_FPS, decode: PictureDecoder = decode_picture) -> VideoInfo:
    """Measure a folder of images: frame i is the i-th by number; the size is the first image's."""
    if ref.stream:
        what = "a folder of images has one stream, number 0"
        raise MediaError(QuarantineReason.NO_VIDEO_STREAM, what, ref.stream, ref.uri)
    names = listed_frames(ref)
    size_wh_px, _ = _decoded(ref, names[0], lambda data: decode(data, (0, 0)))
    return VideoInfo(
        container="frames",
        codec=PurePosixPath(names[0]).suffix.removeprefix(".").lower(),
        pixel_format="rgb24",
        bit_depth=8,
        width_px=size_wh_px[0],
        height_px=size_wh_px[1],
        frames=len(names),
        fps=fps,
        duration_s=len(names) / fps,
        keyframes=tuple(range(0, len(names), 8)),
        keyframe_pts=tuple(range(0, len(names), 8)),
        decoder="frames",
    )


class FolderDecoder:
    """Images of one folder at one size; one that cannot be read repeats the one before."""

    def __init__(
        self,
        ref: VideoRef,
        info: VideoInfo,
        *,
        wh_px: tuple[int, int],
        luma: bool = False,
        threads: int = 1,
        decode: PictureDecoder = decode_picture,
    ) -> None:
        self._ref, self._info, self._decode = ref, info, decode
        self._viewport = Viewport(info.size_wh_px, wh_px, luma)
        self.decode_errors = 0
        self.lost = 0

    def pictures(self, start: int, stop: int) -> Generator[Picture]:
        """Frames [start, stop) in order; MediaError(CHANGED) where they are not those that were listed."""
        with unchanged(self._ref):
            yield from self._pictures(listed_frames(self._ref), start, stop)

    def _pictures(self, names: list[str], start: int, stop: int) -> Generator[Picture]:
        shown: tuple[np.ndarray, np.ndarray | None] | None = None
        waiting: list[int] = []
        for frame in range(start, min(stop, len(names))):
            waiting.append(frame)
            try:
                shown = self._shown(names[frame])
            except MediaError as error:
                if error.reason is not QuarantineReason.DAMAGED:
                    raise
                self.lost += 1
                self.decode_errors += 1
            if shown is not None:
                yield from (Picture(each, each / self._info.fps, *shown) for each in waiting)
                waiting.clear()

    def _shown(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """The pixels of an image, and its luma where that is wanted."""
        size_wh_px, pixels, luma = _decoded(self._ref, name, lambda data: decode_at(data, self._viewport, self._decode))
        if size_wh_px != self._info.size_wh_px:
            what = "the image's size differs from that of the first image in its folder"
            place = f"{self._ref.uri}{name}"
            raise MediaError(QuarantineReason.SIZE_CHANGED, what, size_wh_px, place, "use one size per folder")
        return pixels, luma


def _decoded(ref: VideoRef, name: str, decode: Callable[[bytes], T]) -> T:
    try:
        with reading(ref):
            data = open_store(ref.uri).get(name)
        return decode(data)
    except MediaError as error:
        raise MediaError(error.reason, error.what, error.value, f"{ref.uri}{name}", error.remedy) from None
