"""Decoding by decord, on request, where it is correct.

Measured against PyAV on the same files (``benchmarks/decoders.py``), decord's frame numbers are silently wrong on open
groups of pictures, transport streams, edit lists and size changes, it hides damage, and it is not faster. It is kept
as a second opinion: at source size both give the same bytes.

decord scales bilinearly while it decodes, which smears a ball of a few pixels: on broadcast video its luma differs from
area averaging by 14 levels at the 99th percentile. It is therefore asked for twice the wanted size, and blocks of 2x2
pixels are averaged, which brings the difference to 4 levels and costs half its speed.
"""

from collections.abc import Generator

import numpy as np

from specktrack.errors import ConfigError
from specktrack.schema import VideoRef
from specktrack.storage import local_path
from specktrack.video.index import Picture, VideoInfo, frame_times

CODECS = ("h264", "hevc")
"""decord opens VP9 as well and fails in the middle of it with more than one thread."""
CONTAINERS = ("mov", "matroska")
OVERSAMPLING = 2


def objection(ref: VideoRef, info: VideoInfo) -> str | None:
    """Why decord would be wrong about a video; None if it is right."""
    reasons = {
        "the video is not a local file": local_path(ref.uri) is None,
        f"the container is {info.container}": info.container not in CONTAINERS,
        f"the codec is {info.codec}": info.codec not in CODECS,
        f"the pictures have {info.bit_depth} bits": info.bit_depth != 8,
        "it holds several video streams": bool(info.others),
        "an edit list hides pictures": info.edited,
        "the pictures are stored turned": bool(info.rotation_deg or info.mirrored),
        "its groups of pictures are open": info.open_gop,
        "its times do not tell its order": info.counted,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class DecordDecoder:
    """Pictures of one local video at one size; the bytes must be whole, because decord hides damage."""

    def __init__(
        self, ref: VideoRef, info: VideoInfo, *, wh_px: tuple[int, int], luma: bool = False, threads: int = 1
    ) -> None:
        if luma:
            raise ConfigError("decord gives no luma at source size", ref.uri, remedy="use decoder=pyav")
        if reason := objection(ref, info):
            raise ConfigError(f"decord cannot read this video correctly: {reason}", ref.uri, remedy="use decoder=pyav")
        self._ref, self._info, self._wh_px, self._threads = ref, info, wh_px, threads
        self.decode_errors = 0
        self.lost = 0

    def pictures(self, start: int, stop: int) -> Generator[Picture]:
        """Frames [start, stop) in order, fewer if the bytes end before."""
        try:
            import decord  # optional: no wheels beyond x86-64
        except ImportError:
            raise ConfigError("decord is not installed", remedy="pip install decord, or use decoder=pyav") from None
        decord.logging.set_level(decord.logging.QUIET)  # its own FFmpeg prints otherwise
        width, height = self._wh_px
        source = self._wh_px == self._info.size_wh_px
        factor = 1 if source else OVERSAMPLING
        size = {} if source else {"width": width * factor, "height": height * factor}
        try:
            reader = decord.VideoReader(str(local_path(self._ref.uri)), num_threads=self._threads, **size)
        except (decord.DECORDError, RuntimeError) as error:
            raise ConfigError(
                f"decord cannot open this video: {error}", self._ref.uri, remedy="use decoder=pyav"
            ) from None
        if len(reader) != self._info.frames:
            what = f"decord counts {len(reader)} frames, but there are {self._info.frames}"
            raise ConfigError(what, place=self._ref.uri, remedy="use decoder=pyav")
        times_s = frame_times(self._ref, self._info)
        reader.seek_accurate(start)
        for frame in range(start, min(stop, len(reader))):
            try:
                pixels = reader.next().asnumpy()
            except (decord.DECORDError, RuntimeError, StopIteration):
                return  # truncated: the reader above says how many are missing
            yield Picture(frame, float(times_s[frame]), pixels if factor == 1 else _halved(pixels))


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Means of blocks of 2x2 pixels."""
    wide = pixels.astype(np.uint16)
    return ((wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)
