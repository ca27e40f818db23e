"""Bytes in a folder or in S3 behind one interface, and the videos that a person's sources name.

    uris      how a place is spelled
    store     Store, the interface, and what a listing holds
    files     FileStore, a folder
    s3        S3Store, a bucket or a prefix; ranged: one of its objects as a seekable file
    opening   open_store, open_binary: which of the two a place is; read_through: neither
    videos    what is a video: stat, frame_names, listed_frames, is_hidden; unchanged: whether it still is
    sources   what a person's words name: expand_sources

S3 follows the standard AWS variables and profiles; ``AWS_ENDPOINT_URL`` points at any S3-compatible server. Its client
library is loaded with the first ``s3://`` URI that is opened. Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from specktrack.lazy import names

if TYPE_CHECKING:
    from specktrack.storage.files import FileStore
    from specktrack.storage.opening import open_binary, open_store, read_through
    from specktrack.storage.sources import expand_sources
    from specktrack.storage.store import MissingError, ObjectInfo, Store, check_exclusive, reading
    from specktrack.storage.uris import local_path, to_uri
    from specktrack.storage.videos import (
        IMAGE_SUFFIXES,
        VIDEO_SUFFIXES,
        frame_names,
        is_hidden,
        listed_frames,
        stat,
        unchanged,
    )

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "FileStore",
    "MissingError",
    "ObjectInfo",
    "Store",
    "check_exclusive",
    "expand_sources",
    "frame_names",
    "is_hidden",
    "listed_frames",
    "local_path",
    "open_binary",
    "open_store",
    "read_through",
    "reading",
    "stat",
    "to_uri",
    "unchanged",
]

__getattr__ = names(
    __name__,
    FileStore="specktrack.storage.files",
    open_binary="specktrack.storage.opening",
    open_store="specktrack.storage.opening",
    read_through="specktrack.storage.opening",
    expand_sources="specktrack.storage.sources",
    MissingError="specktrack.storage.store",
    ObjectInfo="specktrack.storage.store",
    Store="specktrack.storage.store",
    check_exclusive="specktrack.storage.store",
    reading="specktrack.storage.store",
    local_path="specktrack.storage.uris",
    to_uri="specktrack.storage.uris",
    IMAGE_SUFFIXES="specktrack.storage.videos",
    VIDEO_SUFFIXES="specktrack.storage.videos",
    frame_names="specktrack.storage.videos",
    is_hidden="specktrack.storage.videos",
    listed_frames="specktrack.storage.videos",
    stat="specktrack.storage.videos",
    unchanged="specktrack.storage.videos",
)
