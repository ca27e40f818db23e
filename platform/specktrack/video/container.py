"""Opening a video: which bytes, formats and sizes are let in, and its packets, one after another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from specktrack.errors import MediaError, QuarantineReason
from specktrack.schema import VideoRef
from specktrack.storage import open_binary

MAX_SIDE_PX = 8192
MAX_PIXELS = 36_000_000
MAX_DURATION_S = 6 * 3600
MAX_BYTES = 20_000_000_000
MAX_FPS = 1000
MAX_DECODED_PIXELS = 5 * 10**13
"""Ceilings: 100 kB of black 8K frames are 6 GB of pixels, so the size in bytes alone says nothing. All pictures
together may be what 6 h of 1080p have at 1000 frames/s, or of 8K at 60: three days of one core."""

MAX_SAMPLE_BYTES = 100_000_000
"""A sample table that claims more is not trusted: its samples are looked for in the bytes."""

DEMUXERS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,mxf,h264,hevc,obu,ivf,yuv4mpegpipe,mjpeg,gif,dv"
"""Formats that carry their own pictures. Playlists and concat scripts are absent: they name other files and hosts."""


class Source:
    """A video's bytes as a file object for the demuxer; ``hollow`` hands out zeros instead of reading."""

    def __init__(self, ref: VideoRef) -> None:
        self._file: BinaryIO = open_binary(ref)
        self._bytes, self._position = ref.size_bytes, 0
        self.size = ref.size_bytes
        """May be set beyond the bytes that are there, to what a truncated file promises: zeros follow."""
        self._tail = b""
        self.fragmented = False
        """A movie-extends box was seen: samples are announced along the file, not only in its header."""
        self.hollow = False

    def read(self, n: int) -> bytes:
        """Up to ``n`` bytes from the position."""
        n = max(0, min(n, self.size - self._position))
        chunk = b""
        if not self.hollow:
            self._file.seek(self._position)
            chunk = self._file.read(n)
        if self.hollow or self._position + n > self._bytes:
            chunk = chunk.ljust(n, b"\0")
        self._position += len(chunk)
        self.fragmented = self.fragmented or b"mvex" in self._tail + chunk
        self._tail = chunk[-3:]
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move without reading."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seekable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Close the file below."""
        self._file.close()


@contextmanager
def open_container(ref: VideoRef) -> Iterator[tuple[InputContainer, VideoStream, Source]]:
    """The opened container, its video stream and its bytes, closed afterwards; MediaError says why it cannot be.

    FFmpeg reads through a file object, may use no protocol of its own and no format that refers to other files.
    """
    if ref.size_bytes == 0:
        raise MediaError(QuarantineReason.EMPTY, "the video has no bytes", ref.uri)
    if ref.size_bytes > MAX_BYTES:
        raise too_large("bytes", ref.size_bytes, MAX_BYTES, ref.uri)
    source = Source(ref)
    try:
        try:
            container = av.open(
                source,
                "r",
                metadata_errors="replace",
                container_options={"format_whitelist": DEMUXERS, "protocol_whitelist": "none"},
            )
        except av.FFmpegError as error:
            raise _unreadable(ref, source, error) from None
        with container:
            yield container, _video_stream(container, ref), source
    finally:
        source.close()


def _unreadable(ref: VideoRef, source: Source, error: av.FFmpegError) -> MediaError:
    source.seek(4)
    if source.read(4) in (b"ftyp", b"moov", b"mdat"):
        what = "the MP4's index is missing: the bytes end before it, or it is damaged"
        return MediaError(QuarantineReason.TRUNCATED, what, ref.uri, remedy="copy the video again")
    return MediaError(QuarantineReason.NOT_A_VIDEO, f"no video format is recognised ({error.strerror})", ref.uri)


def _video_stream(container: InputContainer, ref: VideoRef) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise MediaError(QuarantineReason.NO_VIDEO_STREAM, "the container holds no video stream", ref.uri)
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(QuarantineReason.UNSUPPORTED_CODEC, "no decoder for the video stream", ref.uri)
    check_size(stream.codec_context.width, stream.codec_context.height, ref.uri)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def check_size(width_px: int, height_px: int, place: str = "") -> None:
    """MediaError(TOO_LARGE) for a picture beyond the ceilings."""
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise too_large("pixels a side", max(width_px, height_px), MAX_SIDE_PX, place)
    if width_px * height_px > MAX_PIXELS:
        raise too_large("pixels", width_px * height_px, MAX_PIXELS, place)


def too_large(unit: str, value: float, limit: float, place: str) -> MediaError:
    """The refusal of a video or picture beyond a ceiling."""
    what = f"more than {limit:,} {unit}"
    return MediaError(QuarantineReason.TOO_LARGE, what, value, place, "cut or scale it down before annotating")


def packets(container: InputContainer, stream: VideoStream, *, patience: int = 64) -> Iterator[av.Packet | None]:
    """Packets in stored order, the empty one that drains the decoder last; None for each that cannot be read.

    After ``patience`` failures in a row the stream is taken to end there.
    """
    failures = 0
    while failures < patience:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except av.FFmpegError:
            failures += 1
            yield None
    yield av.Packet(0)
