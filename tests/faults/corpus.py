"""The bad videos: each is made by a function, and ends as rows or as a quarantine with one of the named reasons."""

import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from tests.videos import FRAMES, GOP, audio_only, encode, picture

from specktrack.errors import QuarantineReason as Reason


@dataclass(frozen=True)
class Bad:
    """One video of the corpus."""

    name: str
    make: Callable[[Path], object]
    reasons: frozenset[Reason] = frozenset()
    """Reasons that are right; none where the video is odd but must give all its rows."""
    suffix: str = ".mp4"


def _bad(name: str, make: Callable[[Path], object], *reasons: Reason, suffix: str = ".mp4") -> Bad:
    return Bad(name, make, frozenset(reasons), suffix)


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
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((4320 * 3 // 2, 7680), 128, np.uint8), format="yuv420p")
        for number in range(8):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _many_streams(path: Path) -> None:
    """A transport stream whose tables announce hundreds of programmes and carry one picture stream."""
    once = encode(path).read_bytes()
    path.write_bytes(once)
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".mkv")), "w") as target:
        streams = [target.add_stream_from_template(source.streams.video[0]) for _ in range(100)]
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = streams[0]
                target.mux(packet)
    path.with_suffix(".mkv").replace(path)


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


def _av1(path: Path) -> None:
    """Run by root, the encoder makes its caller a real-time thread, and everything else on the machine waits."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        encode(path, codec="libsvtav1", codec_options={"preset": "12", "svtav1-params": "lp=1"}, bframes=0)
    finally:
        os.sched_setscheduler(0, *before)


def _noise_in_a_header(path: Path) -> None:
    content = bytearray(encode(path, container_options={"movflags": "faststart"}).read_bytes())
    draw = random.Random(3)
    for _ in range(60):
        content[draw.randrange(64, content.index(b"mdat"))] = draw.randrange(256)
    path.write_bytes(content)


_HEADER_DAMAGE = (
    Reason.NOT_A_VIDEO,
    Reason.TRUNCATED,
    Reason.NO_VIDEO_STREAM,
    Reason.NO_FRAMES,
    Reason.DAMAGED,
    Reason.UNSUPPORTED_CODEC,
    Reason.TOO_LARGE,
    Reason.SIZE_CHANGED,
)
_10_BIT = {"pixel_format": "yuv420p10le"}
_HEVC = {"codec": "libx265", "codec_options": {"x265-params": f"log-level=none:keyint={GOP}"}}
_IRREGULAR_MS = np.cumsum(np.random.default_rng(1).integers(12, 90, FRAMES)).tolist()

CORPUS: tuple[Bad, ...] = (
    _bad("empty", _made_of(b""), Reason.EMPTY),
    _bad("text", _made_of(b"hello world\n" * 200), Reason.NOT_A_VIDEO),
    _bad("noise", _made_of(random.Random(3).randbytes(60_000)), Reason.NOT_A_VIDEO),
    _bad("playlist", _made_of(b"#EXTM3U\n#EXTINF:5,\n/etc/passwd\n#EXT-X-ENDLIST\n"), Reason.NOT_A_VIDEO),
    _bad("ffconcat", _made_of(b"ffconcat version 1.0\nfile '/etc/passwd'\n"), Reason.NOT_A_VIDEO),
    _bad("cut at 30 percent", _cut(0.3), Reason.TRUNCATED),
    _bad("cut at 60 percent", _cut(0.6), Reason.TRUNCATED),
    _bad("cut at 90 percent", _cut(0.9), Reason.TRUNCATED),
    _bad("without index", _without_index, Reason.TRUNCATED),
    _bad("300 bits flipped", _flipped, Reason.DAMAGED),
    _bad("noise in the header", _noise_in_a_header, *_HEADER_DAMAGE),
    _bad("audio alone", audio_only, Reason.NO_VIDEO_STREAM),
    _bad("one frame", lambda path: encode(path, frames=1)),
    _bad("variable rate", lambda path: encode(path, pts_ms=_IRREGULAR_MS)),
    _bad("b-frames", lambda path: encode(path, bframes=4)),
    _bad("turned", lambda path: encode(path, turn=(90, False))),
    _bad("10 bit hevc", lambda path: encode(path, **_HEVC, **_10_BIT)),
    _bad("av1", _av1),
    _bad("prores", lambda path: encode(path, codec="prores_ks", pixel_format="yuv422p10le", bframes=0), suffix=".mov"),
    _bad("interlaced", lambda path: encode(path, codec_options={"flags": "+ilme+ildct"})),
    _bad("321x181", lambda path: encode(path, wh=(321, 181), pixel_format="yuv444p")),
    _bad("1x1", lambda path: encode(path, wh=(1, 1), codec="rawvideo", pixel_format="rgb24", bframes=0), suffix=".avi"),
    _bad("header says 16384x16384", _claims_16384_pixels),
    _bad("shape changes", _of_two_shapes, Reason.SIZE_CHANGED, suffix=".h264"),
    _bad("header says 1e9 frames", _claims_a_billion_frames, *_HEADER_DAMAGE),
    _bad("header says 512 MB a sample", _claims_samples_of_512_mb, Reason.NO_FRAMES),
    _bad("header says 10 hours", _claims_ten_hours),
    _bad("black 8K", _black_8k),
    _bad("100 streams", _many_streams, suffix=".mkv"),
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
