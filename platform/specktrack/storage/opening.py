"""Whether a place is a folder or in S3.

What needs boto3 is imported where S3 is met: local use does not pay for it (0.1 s and 12 MB in every process).
"""

import io
from collections.abc import Callable
from typing import BinaryIO

from specktrack.schema import VideoRef
from specktrack.storage.files import FileStore, file_info, os_errors
from specktrack.storage.store import MissingError, ObjectInfo, Store, changed
from specktrack.storage.uris import local_path


def open_store(uri: str) -> Store:
    """The store at a path, ``file://`` or ``s3://bucket/prefix``; nothing is created or checked yet."""
    path = local_path(uri)
    if path is not None:
        return FileStore(path)
    from specktrack.storage.s3 import S3Store

    return S3Store(uri)


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
    """The video's bytes as a seekable, read-only file; MediaError(CHANGED) if they are not the ones of ``ref``."""
    if _opener is not None:
        return _opener(ref)
    path = local_path(ref.uri)
    if path is None:
        from specktrack.storage.ranged import RangedReader

        return io.BufferedReader(RangedReader(ref), buffer_size=2**16)
    try:
        with os_errors(ref.uri):
            file = path.open("rb")
    except MissingError:
        raise changed(ref) from None
    if file_info(path, path.name).etag != ref.etag:
        file.close()
        raise changed(ref)
    return file
