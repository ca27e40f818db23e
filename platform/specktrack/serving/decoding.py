"""Decoding in child processes: what a replica holds of them.

A child is not trusted once it has read media: sizes and frame numbers are checked here, its answers are JSON and raw
pixels, and it is killed when its clip is done, when it stalls, or when nobody wants the rows any more.
"""

import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

import specktrack
from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Viewport
from specktrack.serving.config import Limits
from specktrack.video import VideoInfo

MOST_HEADER_BYTES = 4_000_000
"""A long clip's seek points are its longest header."""
_PIPE_BYTES = 1 << 20


class Decoders:
    """The process that forks decoding children, started with the first and again if it died."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def open(self) -> "Decoder":
        """A fresh child."""
        ours, theirs, pid = -1, -1, 0
        with self._lock:
            for attempt in (1, 2):
                if self._process is None or self._process.poll() is not None:
                    self._start()
                child_in, ours = os.pipe()
                theirs, child_out = os.pipe()
                assert self._socket is not None
                try:
                    socket.send_fds(self._socket, [b"fork"], [child_in, child_out])
                    pid = int(self._socket.recv(64) or 0)
                except OSError:
                    pid = 0
                os.close(child_in)
                os.close(child_out)
                if pid:
                    break
                os.close(ours)
                os.close(theirs)
                self._stop()
                if attempt == 2:
                    raise MediaError(QuarantineReason.CRASHED, "no decoding process could be started")
        return Decoder(self, pid, write_fd=ours, read_fd=theirs)

    def end(self, pid: int) -> None:
        """Kill a child."""
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.send(b"end %d" % pid)

    def close(self) -> None:
        """End the forking process; its children end with their pipes."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        self._stop()
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # No credentials and no proxies: only what Python needs. One thread: a process with threads must not fork.
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        environment |= {
            "PYTHONPATH": str(Path(specktrack.__file__).parents[1]),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "specktrack.serving.decoder", str(its.fileno())],
                pass_fds=(its.fileno(),), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        self._socket = mine

    def _stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._socket = None


class Decoder:
    """One child: reads one clip, or the pictures of one stream."""

    def __init__(self, parent: Decoders, pid: int, *, write_fd: int, read_fd: int) -> None:
        self.pid, self.decode_errors = pid, 0
        self._parent, self._limits = parent, parent.limits
        self._write_fd, self._read_fd = write_fd, read_fd
        self._lock = threading.Lock()
        self._closed = False
        os.set_blocking(write_fd, False)
        with contextlib.suppress(OSError, AttributeError):  # Linux, and below the user's limit
            fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the child; a thread that reads from it gets MediaError(CRASHED)."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._parent.end(self.pid)

    def __del__(self) -> None:
        self.close()
        for pipe in (
            self._write_fd,
            self._read_fd,
        ):  # not in close: another thread may be reading, and numbers are reused
            os.close(pipe)

    def probe(self, path: str) -> VideoInfo:
        """Measure the clip at a local path; MediaError says why it cannot be used."""
        self._send({"clip": path, "limits": self._ceilings()})
        try:
            info = VideoInfo.model_validate(self._receive()["info"])
        except (ValidationError, KeyError):
            raise _nonsense() from None
        if info.frames > self._limits.frames or info.width_px * info.height_px > self._limits.pixels:
            raise _nonsense()
        return info

    def batches(self, viewport: Viewport, frames: int) -> Iterator[FrameBatch]:
        """The clip's frames at network size; MediaError after the last that could be read if there should be more."""
        width, height = viewport.network_wh_px
        self._send({"network_wh": [width, height]})
        expected = 0
        while True:
            header = self._receive()
            if header.get("end"):
                self.decode_errors = int(header.get("decode_errors", 0))
                return
            pts_s = np.array(header.get("pts_s"), np.float64)
            count = len(pts_s)
            if header.get("first") != expected or not 0 < count <= frames - expected or pts_s.ndim != 1:
                raise _nonsense()
            if header.get("bytes") != count * height * width * 3:
                raise _nonsense()
            pixels = np.empty((count, height, width, 3), np.uint8)
            self._read_into(pixels.data.cast("B"))
            yield FrameBatch(pixels, np.arange(expected, expected + count), pts_s, viewport)
            expected += count

    def picture_size(self, data: bytes) -> tuple[int, int]:
        """Width and height of an encoded picture; MediaError if it cannot be read."""
        return self._ask_for_picture(data, None)[0]

    def picture(self, data: bytes, viewport: Viewport) -> np.ndarray:
        """Pixels [H, W, 3] of an encoded picture at network size; MediaError if it is damaged, or of another size."""
        size, header = self._ask_for_picture(data, viewport)
        pixels = np.empty((viewport.network_wh_px[1], viewport.network_wh_px[0], 3), np.uint8)
        if header.get("bytes") != pixels.nbytes:
            raise _nonsense()
        self._read_into(pixels.data.cast("B"))
        if size != viewport.source_wh_px:
            what = "a picture of another size than the first of its stream"
            raise MediaError(QuarantineReason.SIZE_CHANGED, what, size, remedy="keep one size in a stream")
        return pixels

    def _ask_for_picture(self, data: bytes, viewport: Viewport | None) -> tuple[tuple[int, int], dict[str, Any]]:
        wanted = None if viewport is None else list(viewport.network_wh_px)
        self._send({"picture": len(data), "network_wh": wanted, "limits": self._ceilings()}, data)
        header = self._receive()
        size = header.get("source_wh")
        if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)):
            raise _nonsense()
        return (size[0], size[1]), header

    def _ceilings(self) -> dict[str, int]:
        limits = self._limits
        return {
            "pixels": limits.pixels,
            "frames": limits.frames,
            "memory_bytes": limits.decode_memory_bytes,
            "cpu_s": int(limits.request_s),
        }

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        text = json.dumps(header).encode()
        left = memoryview(len(text).to_bytes(4, "little") + text + payload)
        deadline = time.monotonic() + self._limits.decode_stall_s
        while left:
            self._check_open()
            if not select.select([], [self._write_fd], [], 0.5)[1]:
                if time.monotonic() > deadline:
                    raise self._stalled()
                continue
            try:
                left = left[os.write(self._write_fd, left) :]
            except OSError:
                raise _died() from None

    def _receive(self) -> dict[str, Any]:
        length = bytearray(4)
        self._read_into(memoryview(length))
        size = int.from_bytes(length, "little")
        if size > MOST_HEADER_BYTES:
            raise _nonsense()
        text = bytearray(size)
        self._read_into(memoryview(text))
        try:
            header = json.loads(text)
        except ValueError:
            raise _nonsense() from None
        if not isinstance(header, dict):
            raise _nonsense()
        if "fault" in header:
            reason, what = header["fault"]
            raise MediaError(QuarantineReason(reason), str(what))
        return header

    def _read_into(self, buffer: memoryview) -> None:
        deadline = time.monotonic() + self._limits.decode_stall_s
        while len(buffer):
            self._check_open()
            if not select.select([self._read_fd], [], [], 0.5)[0]:
                if time.monotonic() > deadline:
                    raise self._stalled()
                continue
            count = os.readv(self._read_fd, [buffer])
            if not count:
                raise _died()
            buffer = buffer[count:]

    def _check_open(self) -> None:
        if self._closed:
            raise _died()

    def _stalled(self) -> MediaError:
        self.close()
        what = f"decoding did not move on within {self._limits.decode_stall_s:g} s"
        return MediaError(QuarantineReason.TIMEOUT, what)


def _died() -> MediaError:
    return MediaError(QuarantineReason.CRASHED, "the process that decoded it ended: it crashed or took too much")


def _nonsense() -> MediaError:
    return MediaError(QuarantineReason.CRASHED, "the process that decoded it gave an answer that cannot be")
