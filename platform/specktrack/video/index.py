"""A video's index: its frames in presentation order and the points where decoding can start.

A frame's identity is its rank among the presentation times (pts) of the stream's packets, never a frame rate. One pass
over the packets, without decoding, finds it for every container (300,000 packets per second). An MP4 with a complete
sample table holds all times in its header, so the samples themselves are not fetched in that pass: indexing a match in
object storage costs its header and a few hundred kilobytes.

Edit lists are honoured as FFmpeg does: packets that an edit discards are decoded and never shown, and are not frames.
A cut made by ``ffmpeg -ss ... -c copy`` promises 296 samples and shows 164.

Where the packets' times do not tell their order (raw streams, B-frames in AVI, doubled times, joined transport streams
whose clock starts again), frames are numbered by counting decoded pictures from the first, and every read starts there:
``VideoInfo.counted``. Each picture keeps its own time all the same, if it has one that can be (``times.py``).
"""

import math
from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.stream import VideoStream
from pydantic import Field

from specktrack.config import Config
from specktrack.errors import MediaError, QuarantineReason
from specktrack.schema import VideoRef
from specktrack.video.container import (
    MAX_BYTES,
    MAX_DECODED_PIXELS,
    MAX_DURATION_S,
    MAX_FPS,
    MAX_SAMPLE_BYTES,
    Source,
    check_size,
    described,
    open_container,
    packets,
    rivals_in,
    too_large,
)
from specktrack.video.times import mended

HEAD_FRAMES = 16
"""Pictures decoded while indexing: enough to see the first frame shown, its shape, and that packets are pictures."""
HIDING_CODECS = ("vp8",)
"""Some of their packets are references that are never shown."""
POINT_SPACING_FRAMES = 8
"""Seek points closer than this (all-intra streams) are thinned: they save nothing and fill the index."""
SAME_TIME = 0.1
"""Frame intervals within a tenth of the median, and the tick that times are rounded to, make a constant rate."""

MOST_ASPECT, MOST_SIDE = 16, 4096
"""Of pixels that are not square; anamorphic film has 2:1, and standards name numbers below 200."""

DecoderName = Literal["pyav", "decord", "frames"]


class VideoInfo(Config):
    """Facts about a video that need no full decoding."""

    container: str
    """FFmpeg's short name of the format (``mov``, ``matroska``, ``mpegts``), or ``frames`` for a folder."""
    stream: int = Field(default=0, ge=0)
    """The number of the stream that is read."""
    others: str = ""
    """The streams that might have been read instead."""
    codec: str
    pixel_format: str
    bit_depth: int
    width_px: int = Field(ge=1)
    """Upright: rotation metadata is applied."""
    height_px: int = Field(ge=1)
    rotation_deg: int = 0
    """Counterclockwise turn that makes the stored picture upright: 0, 90, 180 or 270."""
    mirrored: bool = False
    """Flipped left to right after the turn."""
    pixel_aspect: tuple[int, int] = (1, 1)
    """A pixel's width to its height as it is to be shown, upright."""
    colour: tuple[int, int, int] = (2, 2, 2)
    """Matrix, primaries and transfer, by the numbers of ITU-T H.273; 2 is unspecified."""
    frames: int = Field(ge=1)
    """Frames in presentation order, as indexed."""
    fps: float = Field(gt=0)
    """Mean rate, for people and for writing; never for identity."""
    duration_s: float
    variable_rate: bool = False
    keyframes: tuple[int, ...] = (0,)
    """Frames where decoding can start, rising; the first is 0."""
    keyframe_pts: tuple[int, ...] = (0,)
    """The same in ticks of the stream's time base."""
    counted: bool = False
    """Times do not tell the order: frames are counted from the first decoded picture, and every read starts there."""
    times_s: tuple[float, ...] = ()
    """Presentation times of a counted video; empty where its pictures have none: they are ``frame / fps`` then."""
    open_gop: bool = False
    """Some pictures shown before a keyframe come after it in the stream."""
    edited: bool = False
    """An edit list hides decoded pictures."""
    decoder: DecoderName = "pyav"
    """The decoder that ``read_clip`` uses for this video."""

    @property
    def size_wh_px(self) -> tuple[int, int]:
        """Upright width and height."""
        return self.width_px, self.height_px

    @property
    def coded_wh_px(self) -> tuple[int, int]:
        """Width and height as stored, before the turn."""
        return self.size_wh_px if self.rotation_deg % 180 == 0 else (self.height_px, self.width_px)


class Picture(NamedTuple):
    """One decoded frame at network size."""

    frame: int
    pts_s: float
    pixels: np.ndarray
    """uint8 [H, W, 3] RGB; valid until the next picture is asked for."""
    luma: np.ndarray | None = None
    """uint8 [H, W] at source size, where it was asked for."""


@dataclass
class _Scan:
    """The packets of a stream in stored order, and the first pictures that come out of them."""

    pts: array = field(default_factory=lambda: array("q"))
    key: bytearray = field(default_factory=bytearray)
    shown: bytearray = field(default_factory=bytearray)
    dts: array = field(default_factory=lambda: array("q"))
    """Decode times of the packets that have one: Matroska's often have none."""
    duration: int = 0
    """Of the last packet, ticks."""
    timeless: bool = False
    """A packet without pts was met."""
    first: av.VideoFrame | None = None
    """The first picture; of those after it the time alone is kept, for 16 pictures of 8K are 800 MB."""
    head: list[int | None] = field(default_factory=list)
    """pts of the first pictures."""
    errors: int = 0


def measure(ref: VideoRef) -> VideoInfo:
    """Measure one video object; MediaError says why it cannot be used."""
    with open_container(ref) as (container, stream, source):
        scan = _scan(container, stream, source)
        if scan.first is None:
            raise MediaError(QuarantineReason.NO_FRAMES, "no picture can be decoded from the video stream", ref.uri)
        first = scan.first
        tick_s = float(stream.time_base or 0)
        timeline = _timeline(scan) if _is_timed(scan, stream.codec_context.name) else None
        times_s = _seconds(timeline["pts"], stream) if timeline is not None else None
        last_s = scan.duration * tick_s
        rate = float(stream.guessed_rate or stream.average_rate or 0)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        rate = rate if rate <= MAX_FPS else 0.0  # of one picture it is the time base's
        facts: dict[str, Any] = {
            "container": container.format.name.split(",")[0],
            "stream": stream.index,
            "others": "; ".join(described(other) for other in rivals_in(container) if other is not stream),
            "codec": stream.codec_context.name,
            "pixel_format": first.format.name,
            "bit_depth": first.format.components[0].bits,
            "colour": (int(first.colorspace), int(first.color_primaries), int(first.color_trc)),
        }
    check_size(first.width, first.height, ref.uri)
    rotation_deg, mirrored = _orientation(first)
    turned = rotation_deg % 180 != 0
    facts |= {"rotation_deg": rotation_deg, "mirrored": mirrored, "pixel_aspect": _aspect(aspect, turned=turned)}
    facts["width_px"], facts["height_px"] = (first.height, first.width) if turned else (first.width, first.height)
    if timeline is not None and times_s is not None:
        facts |= _rates(times_s, last_s, rate, tick_s) | timeline["facts"]
    else:
        facts |= _count(ref, facts["stream"], last_s, rate, tick_s)
    info = VideoInfo(**facts)
    for unit, value, most in (
        ("seconds", info.duration_s, MAX_DURATION_S),
        ("frames/s", round(info.fps, 3), MAX_FPS),
        ("pixels in all", info.frames * info.width_px * info.height_px, MAX_DECODED_PIXELS),
    ):
        if value > most:
            raise too_large(unit, value, most, ref.uri)
    return info


def frame_times(ref: VideoRef, info: VideoInfo) -> np.ndarray:
    """Presentation times of all frames, float64 seconds: those that reading them gives."""
    if info.counted or info.decoder == "frames":
        return np.array(info.times_s) if info.times_s else np.arange(info.frames) / info.fps
    with open_container(ref, stream=info.stream) as (container, stream, source):
        return _seconds(_timeline(_scan(container, stream, source))["pts"], stream)


def _seconds(pts: np.ndarray, stream: VideoStream) -> np.ndarray:
    """Ticks to the nearest float64 seconds, as an exact fraction gives them."""
    time_base = stream.time_base or Fraction(1)
    return pts * time_base.numerator / time_base.denominator


def _scan(container: InputContainer, stream: VideoStream, source: Source) -> _Scan:
    scan = _Scan()
    samples = stream.index_entries
    sizes = [entry.size for entry in samples]
    complete = container.format.name.startswith("mov") and stream.frames == len(samples) > 0 and not source.fragmented
    complete = complete and max(sizes) <= MAX_SAMPLE_BYTES and sum(sizes) <= MAX_BYTES
    keys = {entry.timestamp for entry in samples if entry.is_keyframe} if complete else None
    if complete:
        source.size = max(source.size, max(entry.pos + entry.size for entry in samples))
    for packet in packets(container, stream):
        if packet is None:
            scan.errors += 1
            continue
        if len(scan.head) < HEAD_FRAMES:
            for picture in _decoded(packet, stream, scan):
                scan.first = scan.first or picture
                scan.head.append(picture.pts)
            source.hollow = complete and len(scan.head) >= HEAD_FRAMES
        if packet.size == 0:  # the one that drains the decoder
            break
        if packet.pts is None:
            scan.timeless = True
            continue
        scan.pts.append(packet.pts)
        scan.key.append(packet.dts in keys if keys is not None else packet.is_keyframe)
        scan.shown.append(not packet.is_discard)
        scan.duration = packet.duration or scan.duration
        if packet.dts is not None:
            scan.dts.append(packet.dts)
    return scan


def _decoded(packet: av.Packet, stream: VideoStream, scan: _Scan) -> list[av.VideoFrame]:
    """Pictures that come out when a packet goes in; the empty one that drains the decoder may know no stream."""
    try:
        return stream.codec_context.decode(packet if packet.size else None)
    except av.FFmpegError:
        scan.errors += 1
        return []


def _is_timed(scan: _Scan, codec: str) -> bool:
    """Whether ranks of pts identify pictures: every packet one picture, shown in the order of its time."""
    head = [pts for pts in scan.head if pts is not None]
    if codec in HIDING_CODECS or scan.timeless or len(head) < len(scan.head) or len(set(scan.pts)) != len(scan.pts):
        return False
    if any(b <= a for a, b in pairwise(head)) or any(b < a for a, b in pairwise(scan.dts)):
        return False
    expected = sorted(p for p, shown in zip(scan.pts, scan.shown, strict=True) if shown and head[0] <= p <= head[-1])
    return expected == head or (scan.errors > 0 and set(head) <= set(expected))


def _timeline(scan: _Scan) -> dict[str, Any]:
    """pts of all frames in presentation order (int64 ticks) and the fields of VideoInfo that follow from them."""
    pts, key = np.array(scan.pts, np.int64), np.frombuffer(bytes(scan.key), bool)
    shown = np.frombuffer(bytes(scan.shown), bool)
    first = scan.head[0] or 0
    frames = np.sort(pts[shown & (pts >= first)])
    before = np.maximum.accumulate(np.concatenate([[np.iinfo(np.int64).min], pts[:-1]]))
    points = np.flatnonzero(key & (before < pts))  # all that is stored earlier is also shown earlier
    numbers = np.searchsorted(frames, pts[points])
    keyframes, keyframe_pts = [0], [first]
    for number, point_pts in zip(numbers.tolist(), pts[points].tolist(), strict=True):
        if keyframes[-1] + POINT_SPACING_FRAMES <= number < len(frames):
            keyframes.append(number)
            keyframe_pts.append(point_pts)
    after = np.minimum.accumulate(pts[::-1])[::-1]
    facts = {
        "keyframes": tuple(keyframes),
        "keyframe_pts": tuple(keyframe_pts),
        "open_gop": bool((after[points[1:]] < pts[points[1:]]).any()),
        "edited": not shown.all(),
    }
    return {"pts": frames, "facts": facts}


def _rates(times_s: np.ndarray, last_s: float, nominal_fps: float, tick_s: float) -> dict[str, Any]:
    """Count, rate and length from presentation times; the nominal rate where the measured one agrees with it."""
    steps_s = np.diff(times_s)
    median_s = float(np.median(steps_s)) if len(steps_s) else 0.0
    fps = 1 / float(steps_s.mean()) if median_s > 0 else nominal_fps or 25.0
    if nominal_fps and math.isclose(fps, nominal_fps, rel_tol=0.002):
        fps = nominal_fps
    return {
        "frames": len(times_s),
        "fps": fps,
        "duration_s": float(times_s[-1] - times_s[0]) + (last_s or median_s or 1 / fps),
        "variable_rate": bool((np.abs(steps_s - median_s) > SAME_TIME * median_s + tick_s).any()),
    }


def _count(ref: VideoRef, number: int, last_s: float, nominal_fps: float, tick_s: float) -> dict[str, Any]:
    """The same of all decodable pictures, in the order in which they come out."""
    own: list[int | None] = []
    with open_container(ref, stream=number) as (container, stream, _):
        for packet in packets(container, stream):
            if packet is not None:
                own += [picture.pts for picture in _decoded(packet, stream, _Scan())]
        ticks = np.array([math.nan if pts is None else pts for pts in own], float)
        step_s = 1 / (nominal_fps or 25.0)
        if np.isnan(ticks).all():
            return _rates(np.arange(len(own)) * step_s, 0.0, nominal_fps, 0.0) | {"counted": True}
        times_s = mended(_seconds(ticks, stream), step_s=step_s)
    return _rates(times_s, last_s, nominal_fps, tick_s) | {"counted": True, "times_s": tuple(times_s.tolist())}


def _aspect(pixel: Fraction, *, turned: bool) -> tuple[int, int]:
    """Width and height of an upright pixel; square where a container says what no camera does."""
    if not 1 / MOST_ASPECT <= pixel <= MOST_ASPECT or pixel.limit_denominator(MOST_SIDE) != pixel:
        return 1, 1
    return (pixel.denominator, pixel.numerator) if turned else (pixel.numerator, pixel.denominator)


def _orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Counterclockwise turn in degrees and mirroring from the display matrix (16.16 fixed point, rows of three)."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return 0, False
    a, b, _, c, d = np.frombuffer(memoryview(matrix), "<i4")[:5].astype(float)
    mirrored = a * d - b * c < 0
    if mirrored:
        a = -a
    return round(-math.degrees(math.atan2(b, a)) / 90) % 4 * 90, bool(mirrored)
