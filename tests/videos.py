"""Test videos: every frame carries its number in its pixels."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.stream import Disposition

FRAMES = 72
WH = (160, 96)
BITS = 10
GOP = 18


def picture(number: int, wh: tuple[int, int] = WH) -> np.ndarray:
    """A moving texture under a bar code of the number, 10 cells from the left, most significant last."""
    width, height = wh
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([(x * 2 + number * 5) % 256, (y * 2 + number * 3) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    for bit in range(BITS):
        cell = slice(bit * width // BITS, (bit + 1) * width // BITS)
        pixels[: height // 3, cell] = 255 if number >> bit & 1 else 0
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """The number in the bar code of a picture of any size."""
    height, width = pixels.shape[:2]
    cells = [pixels[height // 6, (2 * bit + 1) * width // (2 * BITS)].mean() > 128 for bit in range(BITS)]
    return sum(1 << bit for bit, on in enumerate(cells) if on)


def encode(
    path: Path, *, codec: str = "libx264", codec_options: dict[str, str] | None = None, pixel_format: str = "yuv420p",
    wh: tuple[int, int] = WH, frames: int = FRAMES, pts_ms: list[int] | None = None, ticks: list[int] | None = None,
    bframes: int = 3,
    container_options: dict[str, str] | None = None, turn: tuple[int, bool] | None = None,
    pixel_aspect: tuple[int, int] = (1, 1), colour: tuple[int, int, int] = (2, 2, 2),
    picture_of: Callable[[int, tuple[int, int]], np.ndarray] = picture,
) -> Path:  # fmt: skip
    """Encode numbered pictures, 30 a second, or at ``pts_ms``, or at these ``ticks`` of 1/30 s."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=30, options=codec_options or {})
        stream.width, stream.height, stream.pix_fmt = (*wh, pixel_format)
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.sample_aspect_ratio = GOP, bframes, Fraction(*pixel_aspect)
        context.colorspace, context.color_primaries, context.color_trc = colour
        if pts_ms:
            context.time_base = Fraction(1, 1000)
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture_of(number, wh), format="rgb24")
            frame.colorspace = colour[0]
            frame.pts = (pts_ms or ticks or range(frames))[number]
            frame.time_base = Fraction(1, 1000) if pts_ms else Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(source: Path, target: Path, *, from_s: float) -> Path:
    """What ``ffmpeg -ss from_s -i source -c copy target`` does: packets from the keyframe before, hidden by an edit."""
    with av.open(str(source)) as given, av.open(str(target), "w") as taken:
        stream = given.streams.video[0]
        copy = taken.add_stream_from_template(stream)
        offset = round(from_s / stream.time_base)
        given.seek(offset, stream=stream)
        for packet in given.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = copy
                taken.mux(packet)
    return target


def muxed(path: Path, *sources: Path, default: int | None = None, attached: int | None = None) -> Path:
    """The streams of several MOVs in one container, by time; ``default`` and ``attached`` number them there."""
    with ExitStack() as opened, av.open(str(path), "w") as target:
        packets = []
        for number, source in enumerate(sources):
            stream = opened.enter_context(av.open(str(source))).streams.video[0]
            copy = target.add_stream_from_template(stream)
            copy.disposition = Disposition.attached_pic if number == attached else Disposition(int(number == default))
            packets += [(packet, copy) for packet in stream.container.demux(stream) if packet.size]
        for packet, copy in sorted(packets, key=lambda each: each[0].dts * each[0].time_base):
            packet.stream = copy
            target.mux(packet)
    return path


def retimed(source: Path, target: Path, pts: Callable[[int, int], int]) -> Path:
    """The packets of a video without B-frames again, with other times: ``pts`` of a packet's number and its own."""
    with av.open(str(source)) as given, av.open(str(target), "w") as taken:
        copy = taken.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = pts(number, packet.pts)
            packet.stream = copy
            taken.mux(packet)
    return target


def emptied(path: Path, numbers: Collection[int]) -> Path:
    """An MP4 or MOV of one stream, index last, some of whose samples have lost their bytes: as cameras drop frames."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        entries = list(container.streams.video[0].index_entries)
    gone = sorted((entries[number].pos, entries[number].size) for number in numbers)
    sizes = data.index(b"stsz") + 16
    for number in numbers:
        data[sizes + 4 * number : sizes + 4 * number + 4] = bytes(4)
    chunks = data.index(b"stco") + 8
    for at in range(chunks + 4, chunks + 4 + 4 * int.from_bytes(data[chunks : chunks + 4]), 4):
        position = int.from_bytes(data[at : at + 4])
        moved = position - sum(size for start, size in gone if start < position)
        data[at : at + 4] = moved.to_bytes(4)
    box = data.index(b"mdat") - 4
    length = int.from_bytes(data[box : box + 4]) - sum(size for _, size in gone)
    data[box : box + 4] = length.to_bytes(4)
    for start, size in reversed(gone):
        del data[start : start + size]
    path.write_bytes(data)
    return path


TONE_HZ = 440


def with_sound(video: Path, target: Path, *, seconds: float, rate_hz: int = 44100, start_s: float = 0.0) -> Path:
    """A video with a tone beside it, on both of two channels."""
    with av.open(str(video)) as given, av.open(str(target), "w") as taken:
        copy = taken.add_stream_from_template(given.streams.video[0])
        track = taken.add_stream(
            "pcm_s16le" if target.suffix in (".mkv", ".mov") else "aac", rate=rate_hz, layout="stereo"
        )
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = copy
                taken.mux(packet)
        samples = np.sin(2 * np.pi * TONE_HZ * np.arange(round(seconds * rate_hz)) / rate_hz) * 10_000
        both = np.repeat(samples.astype(np.int16), 2).reshape(1, -1)
        frame = AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, round(start_s * rate_hz), Fraction(1, rate_hz)
        taken.mux(track.encode(frame))
        taken.mux(track.encode())
    return target
