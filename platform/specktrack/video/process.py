"""Decoding in a separate process, whose death costs one attempt at one clip.

Decoders are native code that reads untrusted bytes: they crash, hang and run out of memory. The decoder process is
confined (``sandbox.py``): it gets bytes from its owner and returns pictures, over one socket. Its answers are checked,
because it may have been taken over.

    owner                                  decoder process
    {"probe": ref}               ->
                                 <-        {"bytes": [offset, size]}        any number of times, whenever it reads
    {} + bytes                   ->
                                 <-        {"info": ...}
    {"times": ref, "info": ...}  ->
                                 <-        {"pts_s": [...]}
    {"read": clip, "info": ...}  ->
                                 <-        {"pictures": 32, "frame": n, "pts_s": [...]} + pixels    per batch, then {}
                                           and, where the viewport wants it, + luma
    {"sound": ref}               ->
                                 <-        {"channels": 2, "rate_hz": 48000, "start_s": t} + samples    each, then {}
    {"picture": [w, h]} + bytes  ->
                                 <-        {"pictures": 1, "picture_wh_px": [w, h]} + pixels
                                 <-        {"error": {"reason": ...}}       in the place of an answer
                                 <-        {"said": "..."}                  a few times, at any moment: is logged
"""

import io
import math
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from signal import Signals
from typing import Annotated, Any, BinaryIO, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, ValidationError

from specktrack import telemetry
from specktrack.config import Config
from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.storage import open_binary, unchanged
from specktrack.video.channel import MOST_SAID, ClosedError
from specktrack.video.container import MAX_PIXELS
from specktrack.video.folder import FolderDecoder, index_folder
from specktrack.video.forking import Child, fork
from specktrack.video.index import VideoInfo, frame_times
from specktrack.video.sandbox import MEMORY_BYTES
from specktrack.video.sound import MOST_S, RATES_HZ, Sound
from specktrack.video.unconfined import ClipReader, batch_frames_for, frames_of

MOST_TEXT = 300
"""Characters that are kept of a text: FFmpeg's longest messages are half as long."""
MOST_BYTES_AT_ONCE = 16 * 2**20
MOST_OFFSET = 2**50
SLOWEST_BYTES_PER_S = 10**6
"""A video that is measured more slowly than this is not: most are no slower to read, some are decoded for it."""
SLOWEST_PIXELS_PER_S, SLOWEST_FRAMES_PER_S = 10**6, 10
"""A clip is given up where it is decoded more slowly than both: a core decodes 100 times as fast, 8K included."""

log = telemetry.get_logger()


class DecodeLimits(Config):
    """Ceilings of one decoder process."""

    pixels: int = MAX_PIXELS
    """Of one picture."""
    frames: int = 10**8
    """Of one video: what a day of it has at 1000 frames/s."""
    memory_bytes: int = MEMORY_BYTES
    """Address space."""
    cpu_s: int | None = None
    """CPU time in all."""
    stall_s: float = Field(default=120.0, gt=0)
    """Waiting for one answer; the time for reading the bytes that it asks for does not count. What a clip's answers
    take of it, they earn again by their pictures (SLOWEST_PIXELS_PER_S)."""


def _plain(text: str) -> str:
    """The text as records, logs and answers over HTTP may carry it: short, and no control characters."""
    return "".join(each if each.isprintable() else " " for each in text[:MOST_TEXT])


def _plain_lines(text: str) -> str:
    return "\n".join(map(_plain, text.splitlines()))


def _plainly_described(info: VideoInfo) -> VideoInfo:
    words = {name: _plain(text) for name, text in info if isinstance(text, str)}
    return info.model_copy(update=words)


Text = Annotated[str, AfterValidator(_plain)]


class Fault(Config):
    """The MediaError that ends a request; its place is known to the owner."""

    reason: QuarantineReason
    what: Text
    value: Annotated[int, Field(ge=-(2**63), lt=2**63)] | float | Text | None = None
    remedy: Text = ""


class Answer(Config):
    """Messages of a decoder process."""

    error: Fault | None = None
    bytes: tuple[NonNegativeInt, PositiveInt] | None = None
    """Offset and size of a piece of the video that it needs."""
    info: Annotated[VideoInfo, AfterValidator(_plainly_described)] | None = None
    picture_wh_px: tuple[PositiveInt, PositiveInt] | None = None
    pictures: NonNegativeInt = 0
    """Pictures whose pixels follow."""
    frame: int | None = None
    """Number of the first of them."""
    pts_s: tuple[float, ...] = ()
    channels: Literal[0, 1, 2] = 0
    """Of the samples that follow, 16 bits each."""
    rate_hz: int = 0
    start_s: float = 0.0
    decode_errors: NonNegativeInt = 0
    lost_frames: NonNegativeInt = 0
    said: Annotated[str, Field(max_length=MOST_SAID), AfterValidator(_plain_lines)] | None = None
    """Text for the owner's log: a bug's traceback, a confinement that failed."""


class _FaultError(Exception):
    """The decoder says why a request cannot be answered; it is ready for the next."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class _NonsenseError(Exception):
    """An answer that its request cannot have."""


class HeldFile(io.RawIOBase):
    """Bytes in memory as a file that copies what is read of them, not all."""

    def __init__(self, held: bytes | memoryview) -> None:
        super().__init__()
        self._held, self._position = memoryview(held), 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; a place behind the end has no bytes."""
        self._position = offset + (0, self._position, len(self._held))[whence]
        return self._position

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to the buffer's length."""
        piece = self._held[self._position : self._position + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


class DecoderProcess:
    """Measures videos, reads clips and decodes pictures, one thing at a time.

    A process that died, hung or was stopped is replaced at the next request.
    """

    def __init__(self, limits: DecodeLimits | None = None, *, held: "bytes | memoryview | None" = None) -> None:
        """``held`` are the bytes of the one video that is asked about, where they are in memory: its URI is a name."""
        self.limits, self._held = limits or DecodeLimits(), held
        self._child: Child | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's number, if there is one."""
        return self._child.pid if self._child is not None else None

    def close(self) -> None:
        """End the process for good, from whichever thread: what waits for it gets MediaError(CRASHED)."""
        self._closed = True
        self.stop()

    def stop(self) -> None:
        """The same, and the next request starts another."""
        if (child := self._child) is not None:
            child.stop()

    def probe(self, ref: VideoRef) -> VideoInfo:
        """Like ``video.probe``; MediaError(CRASHED) if the process dies over it twice."""
        measure = self._probe_folder if ref.uri.endswith("/") else self._probe
        try:
            info = measure(ref)
        except MediaError as error:
            if error.reason is not QuarantineReason.CRASHED or self._closed:
                raise
            info = measure(ref)  # it may have been killed from outside
        self._check_size(info.size_wh_px, ref.uri)
        if info.frames > self.limits.frames:
            what = f"the video has more than {self.limits.frames:,} frames"
            raise MediaError(QuarantineReason.TOO_LARGE, what, info.frames, ref.uri)
        if info.others:
            _log_choice(ref.uri, info.stream, info.others)
        return info

    def frame_times(self, ref: VideoRef, info: VideoInfo) -> np.ndarray:
        """Presentation times of all frames, float64 seconds: those that reading them gives."""
        if info.decoder == "frames":
            return frame_times(ref, info)
        request = {"times": ref.model_dump(mode="json"), "info": info.model_dump(mode="json")}
        with self._bytes_of(ref) as source, self._asked(request, ref.uri) as child:
            child.channel.patience_s += ref.size_bytes / SLOWEST_BYTES_PER_S
            answer, _ = self._answer(child, source)
            if len(answer.pts_s) != info.frames:
                raise _NonsenseError
            return np.array(answer.pts_s)

    def read_clip(self, clip: Clip, *, info: VideoInfo, viewport: Viewport) -> "ProcessReader | ClipReader":
        """Like ``video.read_clip``; of a folder of images this process reads the bytes, and has each image decoded."""
        if not clip.video.uri.endswith("/"):
            return ProcessReader(self, clip, info, viewport)
        images = FolderDecoder(clip.video, info, wh_px=viewport.network_wh_px, luma=viewport.luma, decode=self.picture)
        return ClipReader(clip, info, viewport, images, batch_frames_for(viewport))

    def read_sound(self, ref: VideoRef) -> Generator[Sound]:
        """Like ``video.sound.read_sound``."""
        if ref.uri.endswith("/"):
            return
        with self._bytes_of(ref) as source, self._asked({"sound": ref.model_dump(mode="json")}, ref.uri) as child:
            while True:
                answer, samples = self._answer(child, source)
                if not answer.channels:
                    return
                if answer.rate_hz not in RATES_HZ:
                    raise _NonsenseError
                yield Sound(samples, answer.rate_hz, answer.start_s)
                child.channel.patience_s += len(samples) / answer.rate_hz
                child.channel.patience_s = min(child.channel.patience_s, self.limits.stall_s)

    def picture(self, data: bytes, wh_px: tuple[int, int] = (0, 0)) -> tuple[tuple[int, int], np.ndarray]:
        """Like ``video.pictures.decode_picture``: the upright size of a picture, and its pixels uint8 [H, W, 3]."""
        with self._asked({"picture": wh_px}, body=data) as child:
            answer, pixels = self._answer(child, None, wh_px, 1)
            if answer.picture_wh_px is None or not len(pixels):
                raise _NonsenseError
        self._check_size(answer.picture_wh_px)
        return answer.picture_wh_px, pixels[0]

    def batches(self, reader: "ProcessReader") -> Generator[FrameBatch]:
        """A clip's frames, for its reader, who is told of damage."""
        clip, info, viewport = reader.clip, reader.info, reader.viewport
        most, left = batch_frames_for(viewport), frames_of(clip, info)
        source_w, source_h = viewport.source_wh_px
        luma_bytes = source_w * source_h * viewport.luma
        request = {
            "read": clip.model_dump(mode="json"),
            "info": info.model_dump(mode="json"),
            "source_wh_px": viewport.source_wh_px,
            "network_wh_px": viewport.network_wh_px,
            "luma": viewport.luma,
            "batch_frames": most,
        }
        asked = self._asked(request, clip.video.uri)
        same = unchanged(clip.video) if self._held is None else nullcontext()
        with same, self._bytes_of(clip.video) as source, asked as child:
            while True:
                answer, pixels = self._answer(
                    child, source, viewport.network_wh_px, min(most, len(left)), beside_bytes=luma_bytes
                )
                if len(answer.pts_s) != len(pixels) or answer.frame != (left.start if len(pixels) else None):
                    raise _NonsenseError
                reader.decode_errors, reader.lost_frames = answer.decode_errors, answer.lost_frames
                if not len(pixels):
                    return
                luma = np.empty((len(pixels), source_h, source_w), np.uint8) if viewport.luma else None
                if luma is not None:
                    child.channel.receive_into(luma)
                frame, pts_s = np.array(left[: len(pixels)]), np.array(answer.pts_s, np.float64)
                yield FrameBatch(pixels, frame, pts_s, viewport, luma=luma)
                left = left[len(pixels) :]
                frame_s = max(math.prod(info.size_wh_px) / SLOWEST_PIXELS_PER_S, 1 / SLOWEST_FRAMES_PER_S)
                child.channel.patience_s += len(pixels) * frame_s
                child.channel.patience_s = min(child.channel.patience_s, self.limits.stall_s)

    def _probe(self, ref: VideoRef) -> VideoInfo:
        with self._bytes_of(ref) as source, self._asked({"probe": ref.model_dump(mode="json")}, ref.uri) as child:
            child.channel.patience_s += ref.size_bytes / SLOWEST_BYTES_PER_S
            answer, _ = self._answer(child, source)
            if answer.info is None:
                raise _NonsenseError
            return answer.info

    def _probe_folder(self, ref: VideoRef) -> VideoInfo:
        return index_folder(ref, decode=self.picture)

    def _bytes_of(self, ref: VideoRef) -> BinaryIO:
        return open_binary(ref) if self._held is None else io.BufferedReader(HeldFile(self._held))

    def _check_size(self, wh_px: tuple[int, int], place: str = "") -> None:
        if wh_px[0] * wh_px[1] > self.limits.pixels:
            what = f"a picture has more than {self.limits.pixels:,} pixels"
            raise MediaError(QuarantineReason.TOO_LARGE, what, wh_px, place)

    @contextmanager
    def _asked(self, request: dict[str, Any], place: str = "", body: bytes = b"") -> Iterator[Child]:
        """The process at work on a request; it is ended unless the request comes to its end."""
        child = self._start()
        child.idle, child.channel.patience_s = False, self.limits.stall_s
        try:
            child.channel.send(request, body)
            yield child
            child.idle = True
        except _FaultError as error:
            child.idle, fault = True, error.fault
            raise MediaError(fault.reason, fault.what, fault.value, place, fault.remedy) from None
        except ClosedError:
            raise MediaError(QuarantineReason.CRASHED, "the decoder died", self._end(), place) from None
        except (ValidationError, _NonsenseError):
            what = "the decoder gave an impossible answer"
            raise MediaError(QuarantineReason.CRASHED, what, place=place) from None
        except TimeoutError:
            what = f"decoding is too slow: it did not move on within {self.limits.stall_s:g} s"
            raise MediaError(QuarantineReason.TIMEOUT, what, place=place) from None
        finally:
            if not child.idle:
                self._end()

    def _answer(
        self,
        child: Child,
        source: BinaryIO | None = None,
        network_wh_px: tuple[int, int] = (0, 0),
        most: int = 0,
        *,
        beside_bytes: int = 0,
    ) -> tuple[Answer, np.ndarray]:
        """The next answer and its pixels uint8 [N, H, W, 3], at most ``most``, or its samples int16 [N, C].

        Bytes of ``source`` go out before. ``beside_bytes`` of each picture follow, which the caller receives.
        """
        width, height = network_wh_px
        while True:
            head, body_bytes = child.channel.receive_head()
            answer = Answer.model_validate(head)
            samples = body_bytes // (2 * answer.channels) if answer.channels else 0
            picture_bytes = height * width * 3 + beside_bytes
            expected = samples * 2 * answer.channels if answer.channels else answer.pictures * picture_bytes
            if answer.pictures > most or samples > MOST_S * RATES_HZ[-1] or body_bytes != expected:
                raise _NonsenseError
            if answer.said is not None:
                if child.may_say == 0:
                    raise _NonsenseError
                child.may_say -= 1
                _log(answer.said)
                continue
            if answer.error is not None:
                raise _FaultError(answer.error)
            if answer.bytes is None or source is None:
                break
            offset, size = answer.bytes
            source.seek(min(offset, MOST_OFFSET))
            child.channel.send({}, source.read(min(size, MOST_BYTES_AT_ONCE)))
        if answer.channels:
            body = np.empty((samples, answer.channels), np.int16)
        else:
            body = np.empty((answer.pictures, height, width, 3), np.uint8)
        if body_bytes:
            child.channel.receive_into(body)
        return answer, body

    def _start(self) -> Child:
        """The process, started if there is none. Closing wins, at whichever moment it comes from another thread."""
        if self._child is None:
            self._child = fork(memory_bytes=self.limits.memory_bytes, cpu_s=self.limits.cpu_s)
        if self._closed:
            self._end()
            raise MediaError(QuarantineReason.CRASHED, "the decoder was closed")
        assert self._child.idle, "a decoder process does one thing at a time"
        return self._child

    def _end(self) -> str:
        """Kill the process if it lives; how it ended."""
        child, self._child = self._child, None
        code = child.end() if child is not None else None
        return Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


@lru_cache
def _log(said: str) -> None:
    """Log what a decoder process said, once: it is mostly the same."""
    log.warning("a decoder process reported", said=said)


@lru_cache
def _log_choice(video: str, stream: int, others: str) -> None:
    """Log once which stream is read if there are several."""
    log.info("the file has several video streams; choose with --stream", video=video, stream=stream, others=others)


class ProcessReader:
    """Frames of one clip in batches, as ClipReader gives them, decoded in another process."""

    def __init__(self, process: DecoderProcess, clip: Clip, info: VideoInfo, viewport: Viewport) -> None:
        self.clip, self.info, self.viewport = clip, info, viewport
        self.decode_errors = self.lost_frames = 0
        self._batches = process.batches(self)

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        return next(self._batches)

    def close(self) -> None:
        """End the reading; where that is before the clip's end, the process ends too."""
        self._batches.close()
