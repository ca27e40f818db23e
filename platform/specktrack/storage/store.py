"""The interface of a store, and what its implementations share."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from specktrack.errors import ConfigError, Conflict, MediaError, QuarantineReason, StorageError
from specktrack.schema import VideoRef, sha256_hex

PROBE_NAME = re.compile(r"_probe-[0-9a-f]{32}")
"""Of an object that is written to ask something of a store, and removed at once."""
WITHOUT_CONDITIONS = (
    "use one that supports If-None-Match, or use --single-writer and make sure that nobody else writes there"
)


@dataclass(frozen=True)
class ObjectInfo:
    """One object in a listing."""

    key: str
    size_bytes: int
    etag: str
    modified_s: float = 0.0
    """Seconds since 1970."""


class MissingError(StorageError):
    """The object or file is not there."""


class RefusedError(StorageError):
    """The object is there and its bytes are not given out, to us or to anyone: others may be read all the same."""


class Store(Protocol):
    """A folder or an S3 prefix; keys are relative, ``/``-separated, without ``..``."""

    uri: str
    single_writer: bool
    """Nobody else writes here, says the user: what the store cannot promise is not asked of it."""

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """The object's bytes, checked against ``sha256`` where known; MissingError, or StorageError if damaged."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """The object's bytes from ``start`` to ``stop``, or to its end; MissingError."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object: readers see the old bytes or the new ones."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet; Conflict if another writer was first.

        For a single writer it is enough to look before.
        """

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace an object from a local file."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix``, ordered by key."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it is missing."""

    def now_s(self) -> float:
        """Seconds since 1970 by the clock that dates the store's objects: this machine's may be days ahead."""

    def clear_unfinished(self, *, older_than_s: float, uploads_below: str = "") -> int:
        """Remove what writers that died had begun and never finished; how many there were.

        Younger ones may belong to an active writer. Temporary files have names that nobody else gives; of uploads,
        which others make as well, those are removed whose key begins with ``uploads_below``.
        """

    def uri_of(self, key: str) -> str:
        """The object's own URI."""


def put_alone(store: Store, key: str, data: bytes) -> None:
    """``put_if_absent`` of a single writer."""
    if store.exists(key):
        raise Conflict("another writer was first", place=store.uri_of(key))
    store.put(key, data)


def check_exclusive(store: Store) -> None:
    """StorageError if the second of two writers of one object is not refused: some S3 servers let both believe so."""
    probe = new_probe()
    try:
        store.put_if_absent(probe, b"")
        store.put_if_absent(probe, b"")
    except Conflict:
        return
    finally:
        store.delete(probe)
    raise StorageError(
        "the server has no conditional writes: two writers of one object would both succeed",
        place=store.uri,
        remedy=WITHOUT_CONDITIONS,
    )


def new_probe() -> str:
    """A key of its own for such an object."""
    return f"_probe-{uuid.uuid4().hex}"


def checked_key(key: str) -> str:
    """The key, if it names something below the root; ConfigError otherwise."""
    if not key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ConfigError("not a key below the store's root", key, remedy="use a relative path without '..'")
    return key


def verified(data: bytes, sha256: str | None, place: str) -> bytes:
    """The bytes, if they are the ones that were recorded; StorageError otherwise."""
    if sha256 is not None and sha256_hex(data) != sha256:
        raise StorageError(
            "the object's bytes differ from its recorded SHA-256", sha256, place, "restore the object or recreate it"
        )
    return data


def changed(ref: VideoRef) -> MediaError:
    """The refusal of bytes that are not the ones that were listed."""
    return MediaError(
        QuarantineReason.CHANGED, "the video was replaced or removed after it was listed", ref.uri, remedy="run again"
    )


@contextmanager
def reading(ref: VideoRef) -> Iterator[None]:
    """Around access to a video: what a store says about this one alone is a reason to set it aside."""
    try:
        yield
    except (Conflict, MissingError):  # another ETag, none
        raise changed(ref) from None
    except RefusedError as error:
        raise MediaError(QuarantineReason.UNREADABLE, error.what, place=error.place, remedy=error.remedy) from None
