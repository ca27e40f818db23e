"""Messages between a process and its decoder process: a JSON head and bytes, over two pipes. Nothing is unpickled."""

import json
import os
import struct
from typing import Any, BinaryIO

from pydantic_core import from_json

_LENGTHS = struct.Struct(">IQ")
MOST_HEAD_BYTES = 64 * 2**20
"""A match's seek points are a few hundred kilobytes."""


class ClosedError(Exception):
    """The other side is gone, or does not keep to the protocol."""


class Channel:
    """One side's end of the two pipes."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming: BinaryIO = os.fdopen(incoming, "rb", buffering=2**16)
        self._outgoing: BinaryIO = os.fdopen(outgoing, "wb", buffering=0)

    def send(self, head: dict[str, Any], body: Any = b"") -> None:
        """Send a message; ``body`` is bytes or a C-contiguous uint8 array. ClosedError if nobody reads it."""
        view, text = memoryview(body).cast("B"), json.dumps(head).encode()
        try:
            self._write(memoryview(_LENGTHS.pack(len(text), len(view)) + text))
            self._write(view)
        except (OSError, ValueError) as error:
            raise ClosedError(str(error)) from None

    def receive_head(self) -> tuple[dict[str, Any], int]:
        """The next message's head and the length of its body, which must then be read with ``receive_into``."""
        head_bytes, body_bytes = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if head_bytes > MOST_HEAD_BYTES:
            raise ClosedError(f"a head of {head_bytes} bytes")
        try:
            head = from_json(self._read(head_bytes))
        except ValueError:
            raise ClosedError("a head that is not JSON") from None
        if not isinstance(head, dict):
            raise ClosedError("a head that is no object")
        return head, body_bytes

    def receive_into(self, buffer: Any) -> None:
        """Fill ``buffer`` with the body of the message whose head came last."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view):
            try:
                count = self._incoming.readinto(view[filled:])  # type: ignore[attr-defined]
            except (OSError, ValueError) as error:
                raise ClosedError(str(error)) from None
            if not count:
                raise ClosedError("the pipe was closed")
            filled += count

    def close(self) -> None:
        """Close both ends."""
        self._incoming.close()
        self._outgoing.close()

    def _read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.receive_into(buffer)
        return bytes(buffer)

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[self._outgoing.write(view) :]
