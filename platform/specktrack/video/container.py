"""Opening a video: accepted bytes, formats and sizes, and its packets, one by one."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
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

LOOKED_AT = 256
"""Packets of pictures among which a moving stream has two, where the container does not say how many it has."""

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
def open_container(ref: VideoRef, *, stream: int | None = None) -> Iterator[tuple[InputContainer, VideoStream, Source]]:
    """The opened container, its video stream and its bytes, closed afterwards; MediaError says why it cannot be.

    ``stream`` is the number of the stream that was chosen before; without it, it is the one that ``ref`` names or the
    best (see ``_best``). FFmpeg reads through a file object, may use no protocol of its own and no format that refers
    to other files.
    """
    if ref.size_bytes == 0:
        raise MediaError(QuarantineReason.EMPTY, "the video has no bytes", ref.uri)
    if ref.size_bytes > MAX_BYTES:
        raise too_large("bytes", ref.size_bytes, MAX_BYTES, ref.uri)
    number = ref.stream if stream is None else stream
    with ExitStack() as opened:
        container, source = opened.enter_context(demuxed(ref))
        if number is None and len(rivals := rivals_in(container)) > 1:
            number = _best(container, rivals).index
            opened.close()  # packets were read: begin again
            container, source = opened.enter_context(demuxed(ref))
        yield container, _video_stream(container, ref, number), source


@contextmanager
def demuxed(ref: VideoRef) -> Iterator[tuple[InputContainer, Source]]:
    """A video's container and its bytes, closed afterwards."""
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
            yield container, source
    finally:
        source.close()


def _unreadable(ref: VideoRef, source: Source, error: av.FFmpegError) -> MediaError:
    source.seek(4)
    if source.read(4) in (b"ftyp", b"moov", b"mdat"):
        what = "the MP4's index is missing: the file ends before it, or it is damaged"
        return MediaError(QuarantineReason.TRUNCATED, what, ref.uri, remedy="copy the video again")
    return MediaError(QuarantineReason.NOT_A_VIDEO, f"no video format is recognised ({error.strerror})", ref.uri)


def rivals_in(container: InputContainer) -> list[VideoStream]:
    """The video streams that could be the video: no attached pictures, and one without a decoder only if all are."""
    shown = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return [stream for stream in shown if stream.codec_context is not None] or shown[:1]


def _best(container: InputContainer, rivals: Sequence[VideoStream]) -> VideoStream:
    """The stream that FFmpeg takes: the default one, then the largest, the longest, the first. Never a still."""
    frames = {stream.index: stream.frames for stream in rivals}
    if not all(frames.values()):
        frames = _first_frames(container, rivals)

    def merit(stream: VideoStream) -> tuple[bool, bool, int, int, int]:
        moves = frames[stream.index] > 1 and not stream.disposition & Disposition.still_image
        is_default = bool(stream.disposition & Disposition.default)
        return moves, is_default, stream.width * stream.height, frames[stream.index], -stream.index

    return max(rivals, key=merit)


def _first_frames(container: InputContainer, rivals: Sequence[VideoStream]) -> dict[int, int]:
    """0, 1 or 2 (and more) pictures by stream, as far as the first packets tell."""
    frames = dict.fromkeys((stream.index for stream in rivals), 0)
    try:
        for count, packet in enumerate(container.demux(list(rivals))):
            if packet.size:
                frames[packet.stream.index] = min(2, frames[packet.stream.index] + 1)
            if count == LOOKED_AT or min(frames.values()) == 2:
                break
    except av.FFmpegError:
        pass  # it will be met again, where it is counted
    return frames


def _video_stream(container: InputContainer, ref: VideoRef, number: int | None) -> VideoStream:
    streams = rivals_in(container) if number is None else [s for s in container.streams.video if s.index == number]
    if not streams:
        there = "; ".join(map(described, container.streams.video))
        what = "the container holds no video stream" + (f" of this number, but {there}" if there else "")
        raise MediaError(QuarantineReason.NO_VIDEO_STREAM, what, number, ref.uri)
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(QuarantineReason.UNSUPPORTED_CODEC, "no decoder for the video stream", ref.uri)
    check_size(stream.codec_context.width, stream.codec_context.height, ref.uri)
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def described(stream: VideoStream) -> str:
    """A video stream for people, as in ``1: h264 320x180, 90 frames, default``."""
    words = [f"{stream.index}: no decoder"]
    if stream.codec_context is not None:
        words = [f"{stream.index}: {stream.codec_context.name} {stream.width}x{stream.height}"]
    words += [f"{stream.frames} frame{'s' * (stream.frames > 1)}"] * bool(stream.frames)
    return ", ".join(words + [each.name for each in stream.disposition if each.name])


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


def packets(container: InputContainer, stream: Stream, *, patience: int = 64) -> Iterator[av.Packet | None]:
    """Packets in stored order, and an empty one that drains the decoder last; None for each that cannot be read.

    Packets without bytes (a camera that dropped frames writes them) are no pictures and left out: a decoder would take
    the first for the end. After ``patience`` failures in a row the stream is taken to end there.
    """
    failures = 0
    while failures < patience:
        try:
            for packet in container.demux(stream):
                failures = 0
                if packet.size:
                    yield packet
            break
        except av.FFmpegError:
            failures += 1
            yield None
    yield av.Packet(0)
