"""Decoding in a process of its own, whose death costs one attempt at one clip.

Decoders are native code that reads bytes which anyone may have made: they crash, hang and outgrow memory. The decoder
process is confined (``sandbox.py``): it gets the video's bytes from its owner and gives pictures back, over two pipes.

    owner                                  decoder process
    {"probe": ref}               ->
                                 <-        {"bytes": [offset, size]}        any number of times, whenever it reads
    {} + bytes                   ->
                                 <-        {"info": ...}  or  {"error": ...}
    {"read": clip, "info": ...}  ->
                                 <-        {"frame": n, "pts_s": [...]} + pixels    per batch, then {"end": true}
"""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from specktrack.errors import MediaError, QuarantineReason, SpecktrackError
from specktrack.frames import FrameBatch, Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.storage import open_binary
from specktrack.video import ClipReader, VideoInfo, batch_frames_for, probe, read_clip
from specktrack.video.channel import Channel, ClosedError

MOST_BYTES_AT_ONCE = 16 * 2**20


class DecoderProcess:
    """Measures and reads videos, one at a time; a process that died or was stopped is replaced at the next request."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._lifeline = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the process; the next request starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._lifeline)
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = None

    def stop(self) -> None:
        """Kill the process, from whichever thread: what waits for it gets MediaError(CRASHED)."""
        if self._process is not None:
            self._process.kill()

    def probe(self, ref: VideoRef) -> VideoInfo:
        """Like ``video.probe``; MediaError(CRASHED) if the process dies over it twice."""
        if ref.uri.endswith("/"):
            return probe(ref)
        try:
            return self._probe(ref)
        except MediaError as error:
            if error.reason is not QuarantineReason.CRASHED:
                raise
            return self._probe(ref)  # it may have been killed from outside

    def read_clip(self, clip: Clip, *, info: VideoInfo, viewport: Viewport) -> "ProcessReader | ClipReader":
        """Like ``video.read_clip``. Folders of images are read in this process: their decoder is Pillow."""
        if clip.video.uri.endswith("/"):
            return read_clip(clip, info=info, viewport=viewport)
        return ProcessReader(self, clip, info, viewport)

    def pictures(self, clip: Clip, info: VideoInfo, viewport: Viewport) -> Generator[tuple[dict[str, Any], np.ndarray]]:
        """Heads and pixels uint8 [N, H, W, 3] of a clip's batches, and a last head with no pixels."""
        width, height = viewport.network_wh_px
        most = batch_frames_for(viewport.network_wh_px)
        request = {
            "read": clip.model_dump(mode="json"),
            "info": info.model_dump(mode="json"),
            "source_wh_px": viewport.source_wh_px,
            "network_wh_px": viewport.network_wh_px,
            "batch_frames": most,
        }
        ended = False
        try:
            with open_binary(clip.video) as source:
                head, body_bytes = self._ask(request, clip.video, source)
                while True:
                    frames = len(head.get("pts_s", ()))
                    if frames > most or body_bytes != frames * height * width * 3 or self._channel is None:
                        raise self._died(clip.video)
                    pixels = np.empty((frames, height, width, 3), np.uint8)
                    if ended := not frames:
                        yield head, pixels
                        return
                    self._channel.receive_into(pixels)
                    yield head, pixels
                    head, body_bytes = self._answer(clip.video, source)
        except ClosedError:
            raise self._died(clip.video) from None
        except MediaError:
            ended = True  # the process is ready for the next request
            raise
        finally:
            if not ended:
                self.close()

    def _probe(self, ref: VideoRef) -> VideoInfo:
        with open_binary(ref) as source:
            head, _ = self._ask({"probe": ref.model_dump(mode="json")}, ref, source)
        return VideoInfo.model_validate(head["info"])

    def _ask(self, request: dict[str, Any], ref: VideoRef, source: BinaryIO) -> tuple[dict[str, Any], int]:
        """Send a request and serve bytes until the answer's head comes."""
        self._start().send(request)
        return self._answer(ref, source)

    def _answer(self, ref: VideoRef, source: BinaryIO) -> tuple[dict[str, Any], int]:
        channel = self._channel
        try:
            while channel is not None:
                head, body_bytes = channel.receive_head()
                if "error" in head:
                    raise MediaError(*head["error"])
                if "bytes" not in head:
                    return head, body_bytes
                channel.send({}, self._bytes(source, *head["bytes"]))
        except ClosedError:
            pass
        raise self._died(ref)

    def _bytes(self, source: BinaryIO, offset: int, size: int) -> bytes:
        try:
            source.seek(int(offset))
            return source.read(min(int(size), MOST_BYTES_AT_ONCE))
        except SpecktrackError:
            self.close()  # it waits for bytes that do not come
            raise

    def _died(self, ref: VideoRef) -> MediaError:
        code = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(5)
        self.close()
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return MediaError(QuarantineReason.CRASHED, "the decoder died", how, ref.uri)

    def _start(self) -> Channel:
        """The channel to the process, which is started if there is none. Its environment holds no credentials."""
        if self._channel is not None:
            return self._channel
        requests, to_child = os.pipe()
        from_child, answers = os.pipe()
        lifeline, self._lifeline = os.pipe()
        given = (requests, answers, lifeline)
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "specktrack.video.child", *map(str, given)],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        for end in given:
            os.close(end)
        self._channel = Channel(from_child, to_child)
        try:
            self._channel.receive_head()
        except ClosedError:
            code = self._process.wait()
            self.close()
            raise SpecktrackError("the decoder process does not start", f"exit code {code}") from None
        return self._channel


class ProcessReader:
    """Frames of one clip in batches, as ClipReader gives them, decoded in another process."""

    def __init__(self, process: DecoderProcess, clip: Clip, info: VideoInfo, viewport: Viewport) -> None:
        self.clip, self.info, self.viewport = clip, info, viewport
        self.decode_errors = self.lost_frames = 0
        self._batches = process.pictures(clip, info, viewport)

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        head, pixels = next(self._batches)
        self.decode_errors, self.lost_frames = int(head["decode_errors"]), int(head["lost_frames"])
        if not len(pixels):
            raise StopIteration
        frame = int(head["frame"]) + np.arange(len(pixels))
        return FrameBatch(pixels, frame, np.array(head["pts_s"], np.float64), self.viewport)

    def close(self) -> None:
        """End the reading; where that is before the clip's end, the process ends too."""
        self._batches.close()
