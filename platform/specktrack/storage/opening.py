"""Whether a place is a folder or in S3.

What needs boto3 is imported where S3 is met: local use does not pay for it (0.1 s and 12 MB in every process).
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from specktrack.schema import VideoRef
from specktrack.storage.files import FileStore, file_info, os_errors
from specktrack.storage.store import ObjectInfo, Store, changed, reading
from specktrack.storage.uris import local_path


def open_store(uri: str, *, single_writer: bool = False) -> Store:
    """The store at a path, ``file://`` or ``s3://bucket/prefix``; nothing is created or checked yet.

    ``single_writer`` does without what keeps two writers apart, where a server or a file system does not have it.
    """
    path = local_path(uri)
    if path is not None:
        return FileStore(path, single_writer=single_writer)
    from specktrack.storage.s3 import S3Store

    return S3Store(uri, single_writer=single_writer)


def object_info(uri: str) -> ObjectInfo | None:
    """The file or object at a URI; None if it is not there, or a folder."""
    path = local_path(uri)
    if path is not None:
        with os_errors(uri):
            return file_info(path, path.name) if path.is_file() else None
    from specktrack.storage.s3 import head

    return None if uri.endswith("/") else head(uri)


_opener: Callable[[VideoRef], BinaryIO] | None = None


def read_through(opener: Callable[[VideoRef], BinaryIO]) -> None:
    """From now on ``open_binary`` asks ``opener``: a decoder process has no storage of its own, its owner has."""
    global _opener
    _opener = opener


def open_binary(ref: VideoRef) -> BinaryIO:
    """The video's bytes as a seekable, read-only file.

    MediaError: CHANGED if they are not those of ``ref``, UNREADABLE if the store does not give them out.
    """
    if _opener is not None:
        return _opener(ref)
    path = local_path(ref.uri)
    if path is None:
        from specktrack.storage.ranged import RangedReader

        return io.BufferedReader(RangedReader(ref), buffer_size=2**16)
    return io.BufferedReader(_LocalFile(ref, path))


class _LocalFile(io.FileIO):
    """A local video's bytes."""

    def __init__(self, ref: VideoRef, path: Path) -> None:
        self._ref = ref
        with reading(ref), os_errors(ref.uri):
            super().__init__(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # a pipe now?
        info = file_info(self.fileno(), path.name)
        if info is None or info.etag != ref.etag:
            self.close()
            raise changed(ref)

    def readinto(self, buffer: Any) -> int:
        """Read up to the buffer's length."""
        with reading(self._ref), os_errors(self._ref.uri):
            return super().readinto(buffer)
