"""Decoding by PyAV: every container and codec that FFmpeg knows, exact from any seek point."""

import heapq
import logging
from bisect import bisect_right
from collections.abc import Generator
from fractions import Fraction
from typing import NamedTuple

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from specktrack.errors import MediaError, QuarantineReason
from specktrack.schema import VideoRef
from specktrack.video.container import check_size, open_container, packets
from specktrack.video.index import Picture, VideoInfo

SAME_ASPECT = 0.01
"""Pictures of another size are scaled to the network's size if their shape is the same within this fraction."""
BACK_OFFS_S = (0.0, 4.0, 32.0, None)
"""How far before a keyframe to look for it: seeking in transport streams is a guess. None: from the first byte."""


class _Numbered(NamedTuple):
    frame: int
    pts_s: float
    picture: av.VideoFrame | None
    """None where a packet was there and no picture came of it."""
    errors: int


class PyAVDecoder:
    """Pictures of one video at one size, scaled by area averaging.

    A lost picture (its packet is there, but cannot be decoded) is replaced by the one before it, so that later frames
    keep their number; at the very start by the one after it. A size that changes inside the stream, as adaptive
    recordings do, is scaled to the same network size; a shape that changes is MediaError(SIZE_CHANGED), because one
    viewport could not map its positions.
    """

    def __init__(
        self, ref: VideoRef, info: VideoInfo, *, wh_px: tuple[int, int], luma: bool = False, threads: int = 1
    ) -> None:
        self._ref, self._info, self._threads, self._luma = ref, info, threads, luma
        self._wh_px = wh_px if info.rotation_deg % 180 == 0 else (wh_px[1], wh_px[0])
        # One scaler for all frames: a new one costs 1 ms per frame.
        self._reformatter, self._luma_reformatter = VideoReformatter(), VideoReformatter()
        self.decode_errors = 0
        self.lost = 0

    def pictures(self, start: int, stop: int) -> Generator[Picture]:
        """Frames [start, stop) in order, fewer if the bytes end before."""
        _collect_errors()
        shown: av.VideoFrame | None = None
        waiting: list[_Numbered] = []
        for item in self._counted() if self._info.counted else self._from_before(start):
            if item.frame >= stop:
                break
            if item.picture is not None:
                shown = item.picture
            if item.frame < start:
                continue
            self.lost += item.picture is None
            self.decode_errors += item.errors + (item.picture is None)
            waiting.append(item)
            if shown is not None:
                pixels, luma = self._pixels(shown), self._luma_of(shown) if self._luma else None
                yield from (Picture(each.frame, each.pts_s, pixels, luma) for each in waiting)
                waiting.clear()

    def _from_before(self, start: int) -> Generator[_Numbered]:
        """Numbered pictures from the nearest seek point whose first picture is sound and not after ``start``.

        A damaged keyframe is patched up with what was decoded before it, so decoding has to begin before it as well.
        """
        point, step = bisect_right(self._info.keyframes, start) - 1, 1
        while True:
            numbered = self._from_point(point)
            head = []
            for item in numbered:
                head.append(item)
                if item.picture is not None:
                    break
            sound = head and head[-1].picture is not None and head[-1].errors == 0 and head[-1].frame <= start
            if point == 0 or sound:
                yield from head
                yield from numbered
                return
            numbered.close()
            point, step = max(0, point - step), step * 2

    def _from_point(self, point: int) -> Generator[_Numbered]:
        """Pictures numbered by the rank of their pts among the packets stored from a seek point on.

        When a picture comes out, all packets with smaller pts have gone in: those without a picture are lost. Where
        the bytes end early this holds up to the last decode time, because a missing packet has a later one.
        """
        frame, key_pts = self._info.keyframes[point], self._info.keyframe_pts[point]
        announced: list[int] = []  # heap of pts
        errors: dict[int | None, int] = {}
        last_dts, time_base = key_pts, Fraction(1)
        for packet, stream in self._stored(point):
            time_base = stream.time_base or time_base
            if packet is not None and packet.size == 0 and frame + len(announced) < self._info.frames:
                announced = sorted(pts for pts in announced if pts <= last_dts)
            pictures, failed = self._decode(packet, stream)
            pts = packet.pts if packet is not None else None
            errors[pts] = errors.get(pts, 0) + failed
            if packet is not None and pts is not None and pts >= key_pts and not packet.is_discard:
                heapq.heappush(announced, pts)
                last_dts = packet.dts or last_dts
            for picture in pictures:
                while announced and announced[0] <= (picture.pts or 0):
                    pts = heapq.heappop(announced)
                    shown = picture if pts == picture.pts else None
                    yield _Numbered(frame, float(pts * time_base), shown, errors.pop(pts, 0) + errors.pop(None, 0))
                    frame += 1
        for pts in sorted(announced):
            yield _Numbered(frame, float(pts * time_base), None, errors.pop(pts, 0))
            frame += 1

    def _counted(self) -> Generator[_Numbered]:
        """Pictures numbered in the order in which they come out, from the first."""
        frame, times_s = 0, self._info.times_s
        for packet, stream in self._stored(0):
            pictures, failed = self._decode(packet, stream)
            for picture in pictures:
                pts_s = times_s[frame] if frame < len(times_s) else frame / self._info.fps
                yield _Numbered(frame, pts_s, picture, failed)
                frame, failed = frame + 1, 0

    def _stored(self, point: int) -> Generator[tuple[av.Packet | None, VideoStream]]:
        """Packets from a seek point's keyframe on, in stored order; none if it cannot be found."""
        key_pts = self._info.keyframe_pts[point]
        for back_off_s in BACK_OFFS_S if point else (None,):
            with open_container(self._ref, stream=self._info.stream) as (container, stream, _):
                stream.codec_context.thread_count = self._threads
                stream.codec_context.thread_type = "NONE" if self._threads == 1 else "AUTO"
                if back_off_s is not None and not _seek(container, stream, key_pts, back_off_s):
                    continue
                found = point == 0
                for packet in packets(container, stream):
                    found = found or (packet is not None and packet.pts == key_pts)
                    if found:
                        yield packet, stream
                    elif packet is not None and packet.is_keyframe and (packet.pts or 0) > key_pts:
                        break
                if found:
                    return

    def _decode(self, packet: av.Packet | None, stream: VideoStream) -> tuple[list[av.VideoFrame], int]:
        """Pictures that come out when a packet goes in, and the number of errors raised or logged on the way."""
        if packet is None:
            return [], 1
        raised, pictures = int(packet.is_corrupt), []
        with av.logging.Capture(local=self._threads == 1) as lines:
            try:
                pictures = stream.codec_context.decode(packet if packet.size else None)
            except av.FFmpegError:
                raised = 1
        return pictures, max(raised, sum(level <= av.logging.ERROR for level, _, _ in lines))

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        if (frame.width, frame.height) != self._info.coded_wh_px:
            self._check_shape(frame)
        width, height = self._wh_px
        scaled = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.AREA, threads=1
        )
        return self._upright(_plane(scaled, width * 3).reshape(height, width, 3))

    def _luma_of(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = self._info.coded_wh_px
        grey = self._luma_reformatter.reformat(
            frame, width=width, height=height, format="gray", interpolation=Interpolation.AREA, threads=1
        )
        return self._upright(_plane(grey, width))

    def _upright(self, pixels: np.ndarray) -> np.ndarray:
        turned = np.rot90(pixels, self._info.rotation_deg // 90)
        return turned[:, ::-1] if self._info.mirrored else turned

    def _check_shape(self, frame: av.VideoFrame) -> None:
        check_size(frame.width, frame.height, self._ref.uri)
        width, height = self._info.coded_wh_px
        if abs(frame.width * height - frame.height * width) > SAME_ASPECT * frame.width * height:
            what = f"the picture size changes within the stream, from {width}x{height}"
            raise MediaError(
                QuarantineReason.SIZE_CHANGED, what, f"{frame.width}x{frame.height}", self._ref.uri,
                "split the video where its size changes",
            )  # fmt: skip


def _plane(frame: av.VideoFrame, row_bytes: int) -> np.ndarray:
    """uint8 [H, row_bytes] of a picture in one plane, without what pads its rows."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)[:, :row_bytes]


def _collect_errors() -> None:
    """Have FFmpeg's errors collected, to be counted, and none printed; a log level that the user has set stands.

    Most are about nothing: a probe skips an MP4's samples and hands out zeros, and the parser complains of each.
    """
    if av.logging.get_level() is None:
        logging.getLogger("libav").setLevel(logging.CRITICAL + 1)
        av.logging.set_skip_repeated(False)  # two equal errors are two, also when a clip is read again
        av.logging.set_level(av.logging.ERROR)


def _seek(container: InputContainer, stream: VideoStream, pts: int, back_off_s: float) -> bool:
    try:
        container.seek(pts - round(back_off_s / (stream.time_base or 1)), stream=stream)
    except av.FFmpegError:
        return False
    return True
