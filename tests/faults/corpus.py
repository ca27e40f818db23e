"""The bad videos: each is made by a function, and ends as rows or as a quarantine with the named reason."""

import os
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from tests.videos import FRAMES, GOP, audio_only, cut, encode, picture

from specktrack.errors import QuarantineReason as Reason


@dataclass(frozen=True)
class Bad:
    """One video of the corpus."""

    name: str
    make: Callable[[Path], object]
    reason: Reason | None = None
    """None where the video is odd but must give all its rows."""
    suffix: str = ".mp4"
    rows: int = 0
    """Rows that are left at least."""
    damaged: bool = False
    """Decode errors must be counted."""


def _bad(name: str, make: Callable[[Path], object], reason: Reason | None = None, **more: Any) -> Bad:
    rows = more.pop("rows", 0 if reason else FRAMES)
    return Bad(name, make, reason, rows=rows, **more)


def _whole(path: Path, **options: object) -> bytes:
    return encode(path.with_name(f"whole {path.name}"), **options).read_bytes()


def _made_of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _cut(share: float, **options: object) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        whole = path.with_name("whole.mp4")
        content = encode(whole, container_options={"movflags": "faststart"}, **options).read_bytes()
        whole.unlink()
        path.write_bytes(content[: int(share * len(content))])

    return make


def _flipped(path: Path) -> None:
    content = bytearray(encode(path).read_bytes())
    draw = random.Random(7)
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 8
    for _ in range(300):
        content[draw.randrange(begin, end)] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _without_index(path: Path) -> None:
    content = encode(path).read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])


def _without_frames(path: Path) -> None:
    content = encode(path, container_options={"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    path.write_bytes(content[: content.index(b"moof") - 4])


def _patched(path: Path, box: bytes, offset: int, value: bytes) -> None:
    """An MP4 whose header says something else: ``value`` at ``offset`` behind every box of that name."""
    content = bytearray(encode(path).read_bytes())
    at = content.find(box)
    assert at > 0
    while at > 0:
        content[at + 4 + offset : at + 4 + offset + len(value)] = value
        at = content.find(box, at + 4)
    path.write_bytes(content)


def _claims_a_billion_frames(path: Path) -> None:
    _patched(path, b"stsz", 8, struct.pack(">I", 10**9))


def _claims_samples_of_512_mb(path: Path) -> None:
    _patched(path, b"stsz", 4, struct.pack(">I", 2**29))


def _claims_ten_hours(path: Path) -> None:
    _patched(path, b"mvhd", 16, struct.pack(">I", 10 * 3600 * 1000))


def _claims_16384_pixels(path: Path) -> None:
    _patched(path, b"avc1", 24, struct.pack(">HH", 16384, 16384))


def _black_8k(path: Path) -> None:
    """60 black frames: two are encoded, and their packets repeated."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((4320 * 3 // 2, 7680), 128, np.uint8), format="yuv420p")
        encoded = []
        for number in range(2):
            frame.pts = number
            encoded += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(frame)]
        for number in range(FRAMES_8K):
            content, is_key = encoded[number % len(encoded)]
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 30), is_key
            packet.pts = packet.dts = number
            container.mux(packet)


def _many_streams(path: Path) -> None:
    """A thousand picture streams are announced, and one has pictures."""
    _remuxed(path, streams=1000)


def _remuxed(path: Path, *, streams: int = 1, order: Sequence[int] = (0,), attached: bytes = b"") -> None:
    """The packets of a video in another container, with their times exchanged within groups as ``order`` says."""
    whole = encode(path.with_name("whole.mkv"), bframes=0)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        added = [target.add_stream_from_template(source.streams.video[0]) for _ in range(streams)]
        if attached:
            target.add_attachment("font.ttf", "application/x-truetype-font", attached)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        times = [packet.pts for packet in packets]
        for number, packet in enumerate(packets):
            packet.pts = times[min(number - number % len(order) + order[number % len(order)], len(times) - 1)]
            packet.dts = times[number] - DELAY_MS  # of decoding; it may not be later than the picture's time
            packet.stream = added[0]
            target.mux(packet)
    whole.unlink()


def _begins_before_nought(path: Path) -> None:
    """Times from -1 s on, as transport streams that were cut have them."""
    encode(path, pts_ms=[33 * number - 1000 for number in range(FRAMES)], bframes=0)


def _edited(path: Path) -> None:
    cut(encode(path.with_name("whole.mp4")), path, from_s=25 / 30)
    path.with_name("whole.mp4").unlink()


def _much_metadata(path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["comment"] = "x" * 10_000_000
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number, (64, 48)), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _of_two_shapes(path: Path) -> None:
    first, second = path.with_name("a.h264"), path.with_name("b.h264")
    path.write_bytes(encode(first).read_bytes() + encode(second, wh=(160, 160)).read_bytes())
    first.unlink()
    second.unlink()


def _av1(path: Path, pixel_format: str = "yuv420p") -> None:
    """Run by root, the encoder makes its caller a real-time thread, and everything else on the machine waits."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        options = {"preset": "12", "svtav1-params": "lp=1"}
        encode(path, codec="libsvtav1", codec_options=options, bframes=0, pixel_format=pixel_format)
    finally:
        os.sched_setscheduler(0, *before)


def _noise_in_a_header(path: Path) -> None:
    """The tables of samples are noise; the boxes around them are as they were."""
    content = bytearray(encode(path).read_bytes())
    for box in (b"stts", b"stss", b"ctts", b"stsc", b"stsz", b"stco"):
        at = content.index(box)
        size = int.from_bytes(content[at - 4 : at])
        content[at + 4 : at - 4 + size] = random.Random(3).randbytes(size - 8)
    path.write_bytes(content)


FRAMES_8K = 60
DELAY_MS = 100
_10_BIT = {"pixel_format": "yuv420p10le"}
_HEVC = {"codec": "libx265", "codec_options": {"x265-params": f"log-level=none:keyint={GOP}"}}
_IRREGULAR_MS = np.cumsum(np.random.default_rng(1).integers(12, 90, FRAMES)).tolist()

CORPUS: tuple[Bad, ...] = (
    _bad("empty", _made_of(b""), Reason.EMPTY),
    _bad("text", _made_of(b"hello world\n" * 200), Reason.NOT_A_VIDEO),
    _bad("noise", _made_of(random.Random(3).randbytes(60_000)), Reason.NOT_A_VIDEO),
    _bad("playlist", _made_of(b"#EXTM3U\n#EXTINF:5,\n/etc/passwd\n#EXT-X-ENDLIST\n"), Reason.NOT_A_VIDEO),
    _bad("ffconcat", _made_of(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), Reason.NOT_A_VIDEO),
    _bad("cut at 30 percent", _cut(0.3), Reason.TRUNCATED, rows=11),
    _bad("cut at 60 percent", _cut(0.6), Reason.TRUNCATED, rows=32),
    _bad("cut at 90 percent", _cut(0.9), Reason.TRUNCATED, rows=54),
    _bad("without index", _without_index, Reason.TRUNCATED),
    _bad("300 bits flipped", _flipped, Reason.DAMAGED, rows=FRAMES, damaged=True),
    _bad("noise in the header", _noise_in_a_header, Reason.TRUNCATED),
    _bad("audio alone", audio_only, Reason.NO_VIDEO_STREAM),
    _bad("one frame", lambda path: encode(path, frames=1), rows=1),
    _bad("no frame", _without_frames, Reason.NO_FRAMES),
    _bad("times before nought", _begins_before_nought, suffix=".mkv"),
    _bad("times in disorder", lambda path: _remuxed(path, order=(0, 2, 1)), suffix=".mkv"),
    _bad("edit list", _edited, rows=FRAMES - 25),
    _bad("attachment", lambda path: _remuxed(path, attached=b"\0" * 5_000_000), suffix=".mkv"),
    _bad("variable rate", lambda path: encode(path, pts_ms=_IRREGULAR_MS)),
    _bad("b-frames", lambda path: encode(path, bframes=4)),
    _bad("turned", lambda path: encode(path, turn=(90, False))),
    _bad("10 bit hevc", lambda path: encode(path, **_HEVC, **_10_BIT)),
    _bad("av1", _av1),
    _bad("10 bit av1", lambda path: _av1(path, "yuv420p10le")),
    _bad("prores", lambda path: encode(path, codec="prores_ks", pixel_format="yuv422p10le", bframes=0), suffix=".mov"),
    _bad("interlaced", lambda path: encode(path, codec_options={"flags": "+ilme+ildct"})),
    _bad("321x181", lambda path: encode(path, wh=(321, 181), pixel_format="yuv444p")),
    _bad("1x1", lambda path: encode(path, wh=(1, 1), codec="rawvideo", pixel_format="rgb24", bframes=0), suffix=".avi"),
    _bad("header says 16384x16384", _claims_16384_pixels),
    _bad("coded 16384x64", lambda path: encode(path, wh=(16384, 64), frames=2), Reason.TOO_LARGE, suffix=".h264"),
    _bad("shape changes", _of_two_shapes, Reason.SIZE_CHANGED, suffix=".h264"),
    _bad("header says 1e9 frames", _claims_a_billion_frames, Reason.TRUNCATED),
    _bad("header says 512 MB a sample", _claims_samples_of_512_mb, Reason.NO_FRAMES),
    _bad("header says 10 hours", _claims_ten_hours),
    _bad("black 8K", _black_8k, rows=FRAMES_8K),
    _bad("1000 streams", _many_streams, suffix=".mkv"),
    _bad("10 MB of metadata", _much_metadata),
    _bad("naïve 観客 🏸", encode),
    _bad("new\nline", encode),
    _bad("a#b%20c?d", encode),
    _bad("n" * 200, encode),
)


def make(folder: Path, bad: Bad) -> Path:
    """Write one video of the corpus into ``folder``."""
    path = folder / f"{bad.name}{bad.suffix}"
    bad.make(path)
    return path
