"""Writing video that every browser can play."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from specktrack.errors import ConfigError
from specktrack.storage.files import settle
from specktrack.video.index import VideoInfo
from specktrack.video.sound import Sound

ENCODERS = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {"b": "6M"}),
    ("h264_nvenc", {"cq": "23"}),
)
"""H.264 encoders, best first; PyAV's wheels bundle libx264."""
MOST_FPS = 240
CLOCK_HZ = 90_000
TIME_BASE = Fraction(1, CLOCK_HZ)
LATEST_START_S = 10.0
"""A copy begins when its source does, but clocks of broadcasts begin anywhere: hours of nothing are not written."""
MATRICES = (1, 4, 5, 6, 7, 9)
"""Of ITU-T H.273, those that swscale knows; another becomes BT.709's."""
UNSPECIFIED, BT709 = 2, 1


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float, wh: tuple[int, int]) -> None:
    """Write RGB pictures uint8 [H, W, 3] as H.264 in MP4: 4:2:0, index first, so that a browser plays it at once.

    4:2:0 needs even sides: an odd one is padded by repeating its last row or column. The file appears under its name
    when it is complete.
    """
    rate = _rate(fps)
    with _complete(Path(path)) as container:
        stream = _stream(container, rate, wh)
        for number, pixels in enumerate(frames):
            frame = _frame(pixels, wh, path)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_copy(
    path: str | Path, frames: Iterable[tuple[float, np.ndarray]], like: VideoInfo, sound: Iterator[Sound]
) -> None:
    """The same for pictures of a video that was read, with their times: the copy is to look and sound like its source.

    Each picture keeps its time, pixels their aspect, colours their matrix and meaning, and all the sound is there, as
    AAC. A source that begins after ``LATEST_START_S``, or before 0, begins at 0.
    """
    width, height = like.size_wh_px
    with _complete(Path(path)) as container:
        stream = _stream(container, _rate(like.fps), like.size_wh_px)
        context = stream.codec_context
        context.flags |= Flags.frame_duration  # or all last as long as the mean rate says
        context.time_base, context.sample_aspect_ratio = TIME_BASE, Fraction(*like.pixel_aspect)
        matrix, context.color_primaries, context.color_trc = like.colour
        context.colorspace = matrix if matrix in (*MATRICES, UNSPECIFIED) else BT709
        context.color_range = ColorRange.MPEG
        track, start_s, end_s = _Track(container, sound), None, 0.0
        for (pts_s, pixels), next_s in _with_next(frames):
            if start_s is None:
                start_s, end_s = (0.0 if 0 <= pts_s <= LATEST_START_S else pts_s), pts_s + like.duration_s
                track.begin(start_s)
            track.play_until(pts_s)
            frame = _frame(pixels, (width, height), path)
            frame.colorspace = context.colorspace
            frame = frame.reformat(format="yuv420p", dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base = round((pts_s - start_s) / TIME_BASE), TIME_BASE
            frame.duration = max(1, round(((next_s if next_s is not None else end_s) - pts_s) / TIME_BASE))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        track.end()


class _Track:
    """The sound of a copy; its packets go between those of the pictures, as players want them."""

    def __init__(self, container: OutputContainer, sound: Iterator[Sound]) -> None:
        self._container, self._sound = container, sound
        self._next: Sound | None = next(sound, None)
        self._start_s = 0.0
        self._stream: AudioStream | None = None
        if self._next is not None:
            layout = "mono" if self._next.samples.shape[1] == 1 else "stereo"
            self._stream = container.add_stream("aac", rate=self._next.rate_hz, layout=layout)

    def begin(self, start_s: float) -> None:
        """Have sound at ``start_s`` be at the copy's 0; what is before is dropped."""
        self._start_s = start_s

    def play_until(self, pts_s: float) -> None:
        """Write the pieces that begin by then."""
        while self._stream is not None and self._next is not None and self._next.start_s <= pts_s:
            piece, self._next = self._next, next(self._sound, None)
            at = round((piece.start_s - self._start_s) * piece.rate_hz)
            samples, at = piece.samples[max(0, -at) :], max(0, at)
            if not len(samples):
                continue
            layout = "mono" if samples.shape[1] == 1 else "stereo"
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = piece.rate_hz, at, Fraction(1, piece.rate_hz)
            self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Write the rest."""
        self.play_until(float("inf"))
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def _complete(path: Path) -> Iterator[OutputContainer]:
    """A container whose file has its name once it is complete."""
    partial = path.with_name(f".{path.name}.part")
    try:
        options = {"movflags": "+faststart", "movie_timescale": str(CLOCK_HZ)}
        with av.open(str(partial), "w", format="mp4", options=options) as container:
            yield container
        settle(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _rate(fps: float) -> Fraction:
    return Fraction(min(max(fps, 1), MOST_FPS)).limit_denominator(1001)


def _stream(container: OutputContainer, rate: Fraction, wh: tuple[int, int]) -> VideoStream:
    name, options = next(((n, o) for n, o in ENCODERS if n in av.codecs_available), ("", {}))
    if not name:
        raise ConfigError("this PyAV has no H.264 encoder", remedy="install the wheel of the 'av' package")
    stream = cast(VideoStream, container.add_stream(name, rate=rate, options=options))
    stream.width, stream.height, stream.pix_fmt = wh[0] + wh[0] % 2, wh[1] + wh[1] % 2, "yuv420p"
    return stream


def _frame(pixels: np.ndarray, wh: tuple[int, int], path: str | Path) -> VideoFrame:
    width, height = wh
    if pixels.shape != (height, width, 3):
        raise ConfigError("the picture's size differs from the video's", pixels.shape, str(path))
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")


def _with_next(
    frames: Iterable[tuple[float, np.ndarray]],
) -> Iterator[tuple[tuple[float, np.ndarray], float | None]]:
    """Each picture with the time of the next one; None for the last."""
    held: tuple[float, np.ndarray] | None = None
    for each in frames:
        if held is not None:
            yield held, each[0]
        held = each
    if held is not None:
        yield held, None
