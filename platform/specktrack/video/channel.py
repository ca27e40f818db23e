"""Messages between a process and its decoder process: a JSON head and bytes, over a socket. Nothing is unpickled."""

import json
import math
import os
import select
import socket
import struct
import time
from typing import Any

from pydantic_core import from_json

_LENGTHS = struct.Struct(">IQ")
MOST_HEAD_BYTES = 64 * 2**20
"""A match's seek points are a few hundred kilobytes."""
MOST_SAID = 10_000
"""Characters that a decoder process may say at once: a bug's traceback."""


class ClosedError(Exception):
    """The other side is gone, or does not keep to the protocol."""


class Channel:
    """One side's end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.patience_s = math.inf
        """Seconds that this side waits for the other from now on; waiting uses them up, and then TimeoutError comes."""
        end.setblocking(False)

    def send(self, head: dict[str, Any], *body: Any) -> None:
        """Send a message; each part of its body is bytes or a C-contiguous array. ClosedError if nobody reads it."""
        views, text = [memoryview(part).cast("B") for part in body], json.dumps(head).encode()
        for part in (memoryview(_LENGTHS.pack(len(text), sum(map(len, views))) + text), *views):
            left = part
            while left:
                left = left[self._do(os.write, left, select.POLLOUT) :]

    def receive_head(self) -> tuple[dict[str, Any], int]:
        """The next message's head and the length of its body, which must then be read with ``receive_into``."""
        head_bytes, body_bytes = _LENGTHS.unpack(self._receive(_LENGTHS.size))
        if head_bytes > MOST_HEAD_BYTES:
            raise ClosedError(f"a head of {head_bytes} bytes")
        try:
            head = from_json(self._receive(head_bytes))
        except ValueError:
            raise ClosedError("a head that is not JSON") from None
        if not isinstance(head, dict):
            raise ClosedError("a head that is no object")
        return head, body_bytes

    def receive_into(self, buffer: Any) -> None:
        """Fill ``buffer`` with the body of the message whose head came last, or with its next part."""
        left = memoryview(buffer).cast("B")
        while left:
            count = self._do(os.readv, [left], select.POLLIN)
            if not count:
                raise ClosedError("the socket was closed")
            left = left[count:]

    def _receive(self, size: int) -> bytearray:
        buffer = bytearray(size)
        self.receive_into(buffer)
        return buffer

    def _do(self, call: Any, argument: Any, when: int) -> int:
        """``os.write`` and ``os.readv``: a confined process may use a socket as a file, and send to nobody."""
        while True:
            try:
                return int(call(self._end.fileno(), argument))
            except BlockingIOError:
                self._wait(when)
            except OSError as error:
                raise ClosedError(str(error)) from None

    def _wait(self, when: int) -> None:
        waiting = select.poll()
        waiting.register(self._end, when)
        started = time.monotonic()
        ready = waiting.poll(None if math.isinf(self.patience_s) else 1000 * max(0.0, self.patience_s))
        self.patience_s -= time.monotonic() - started
        if not ready:
            raise TimeoutError
