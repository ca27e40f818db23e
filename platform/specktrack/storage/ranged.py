"""One S3 object as a seekable file."""

import errno
import io
import os
from collections import OrderedDict
from typing import Any

from specktrack.schema import VideoRef
from specktrack.storage.s3 import get_object
from specktrack.storage.store import reading
from specktrack.storage.uris import split_s3

BLOCK_BYTES = 4 * 2**20
"""One ranged GET: decoders read 32 KiB at a time, and a request costs 10-40 ms whatever its size."""
BLOCKS_KEPT = 4


class RangedReader(io.RawIOBase):
    """A seekable file over ranged GETs of one S3 object: at most 16 MiB in memory, nothing on disk.

    Every request names the ETag, so bytes of two versions never mix: MediaError(CHANGED) if the object was replaced.
    """

    def __init__(self, ref: VideoRef) -> None:
        super().__init__()
        self._ref, self._position = ref, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move without reading."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ref.size_bytes}[whence]
        if origin + offset < 0:
            raise OSError(errno.EINVAL, f"seek to {origin + offset}, before the start")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of the present block."""
        if self._position >= self._ref.size_bytes:
            return 0
        index, offset = divmod(self._position, BLOCK_BYTES)
        chunk = self._block(index)[offset : offset + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def _block(self, index: int) -> bytes:
        if index in self._blocks:
            self._blocks.move_to_end(index)
            return self._blocks[index]
        first = index * BLOCK_BYTES
        last = min(first + BLOCK_BYTES, self._ref.size_bytes) - 1
        bucket, key = split_s3(self._ref.uri)
        with reading(self._ref):
            block = get_object(
                self._ref.uri, Bucket=bucket, Key=key, Range=f"bytes={first}-{last}", IfMatch=f'"{self._ref.etag}"'
            )
        self._blocks[index] = block
        if len(self._blocks) > BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return block
