"""A folder as a store."""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from specktrack import telemetry
from specktrack.errors import Conflict, StorageError
from specktrack.storage.store import MissingError, ObjectInfo, RefusedError, checked_key, put_alone, verified
from specktrack.storage.uris import absolute

CHUNK_BYTES = 4 * 2**20
log = telemetry.get_logger()

_TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{32}\.tmp")


class FileStore:
    """A folder on a local or shared POSIX file system; every write is atomic and on disk when it returns."""

    def __init__(self, root: str | Path, *, single_writer: bool = False) -> None:
        self.root, self.single_writer = absolute(root), single_writer
        self.uri = self.root.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def uri_of(self, key: str) -> str:
        """The object's ``file://`` URI."""
        return self._path(key).as_uri()

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """See Store."""
        with os_errors(self.uri_of(key)):
            data = self._path(key).read_bytes()
        return verified(data, sha256, self.uri_of(key))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See Store."""
        with os_errors(self.uri_of(key)), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def exists(self, key: str) -> bool:
        """See Store."""
        return self._path(key).is_file()

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        with os_errors(self.uri_of(key)), self._written(key, data) as temporary:
            temporary.replace(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See Store. A hard link is the one atomic step that refuses an existing name."""
        if self.single_writer:
            return put_alone(self, key, data)
        with os_errors(self.uri_of(key)), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                raise Conflict("another writer was first", place=self.uri_of(key)) from None
        return None

    def put_file(self, key: str, path: Path) -> None:
        """See Store."""
        with os_errors(self.uri_of(key)), path.open("rb") as source, self._written(key, source) as temporary:
            temporary.replace(self._path(key))

    def delete(self, key: str) -> None:
        """See Store."""
        with os_errors(self.uri_of(key)):
            self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store. Neither temporary files of active writers, or killed, nor pipes and devices are listed.

        A path below that cannot be looked at (a link to itself, a folder of another user) is left out, and said.
        """
        found: list[ObjectInfo] = []
        with os_errors(self.uri):
            for path in _files_below(self.root / prefix.rpartition("/")[0]):
                key = str(path).removeprefix(str(self.root)).lstrip("/")  # a hundred thousand times: not by pathlib
                if key.startswith(prefix) and not _TEMPORARY_NAME.fullmatch(path.name):
                    try:
                        if info := file_info(path, key):
                            found.append(info)
                    except OSError as error:
                        _leave_out(error)
        return iter(sorted(found, key=lambda info: info.key))

    def now_s(self) -> float:
        """See Store. A network's file system has a clock of its own."""
        with os_errors(self.uri), self._written("_probe", b"") as temporary:
            return temporary.stat().st_mtime

    def clear_unfinished(self, *, older_than_s: float, uploads_below: str = "") -> int:
        """See Store: temporary files of writers that were killed."""
        cleared = 0
        with os_errors(self.uri):
            found = [path for path in self.root.rglob(".*.tmp") if _TEMPORARY_NAME.fullmatch(path.name)]
            before_s = self.now_s() - older_than_s if found else 0.0
            for path in found:
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < before_s:
                        path.unlink()
                        cleared += 1
        return cleared

    @contextmanager
    def _written(self, key: str, data: bytes | BinaryIO) -> Iterator[Path]:
        """A complete temporary file next to the object's place, gone afterwards; then the folder is synced."""
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                chunks = [data] if isinstance(data, bytes) else iter(lambda: data.read(CHUNK_BYTES), b"")
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
            _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)


def settle(partial: Path, path: Path) -> None:
    """Give a complete file its name: a power failure leaves the whole file under it, or none."""
    _sync(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have the bytes of a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_NO_LINKS = (
    "check the permissions; on a file system without hard links use --single-writer, and make sure that nobody else"
    " writes"
)
_OS_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "check the permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "free some space and run the same command again",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a part of the path is a file",
    errno.ELOOP: "a link leads to itself",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EISDIR: "a folder has this name; choose another",
    errno.EPERM: _NO_LINKS,
    errno.ENOTSUP: _NO_LINKS,
    errno.ENOSYS: _NO_LINKS,
}


_ODD = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors of one path, which say nothing of those beside it."""
_REFUSED = _ODD | {errno.EIO, errno.ENXIO, errno.EISDIR, errno.ENOTDIR}


@contextmanager
def os_errors(place: str) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        missing, refused = isinstance(error, FileNotFoundError), error.errno in _REFUSED
        kind = MissingError if missing else RefusedError if refused else StorageError
        remedy = _OS_REMEDIES.get(error.errno or 0, "")
        raise kind(error.strerror or type(error).__name__, place=place, remedy=remedy) from None


def _files_below(start: Path) -> Iterator[Path]:
    """All files, also below links to folders, unless what they lead to is listed already or holds what is listed."""
    listed = [os.path.realpath(start)]

    def failed(error: OSError) -> None:
        if error.filename == str(start) and not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error
        _leave_out(error)

    for folder, folders, names in os.walk(start, onerror=failed, followlinks=True):
        for path in sorted(Path(folder, name) for name in folders):
            if not os.path.islink(path):  # noqa: PTH114 -- False, and no error, where a path is too long
                continue
            target = os.path.realpath(path)
            if any(os.path.commonpath([target, each]) in (target, each) for each in listed):
                folders.remove(path.name)
                _say_left_out(str(path), f"a link to {target}, which is listed, or holds what is")
            else:
                listed.append(target)
        yield from (Path(folder, name) for name in names)


def _leave_out(error: OSError) -> None:
    """Say that path skipped, unless it was removed meanwhile; what is not the path's own fault is raised."""
    path = str(error.filename)
    if error.errno in _ODD or (isinstance(error, FileNotFoundError) and Path(path).is_symlink()):
        _say_left_out(path, error.strerror or "")
    elif not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@lru_cache
def _say_left_out(path: str, why: str) -> None:
    log.warning("path skipped", path=path, why=why)


def file_info(path: Path | int, key: str) -> ObjectInfo | None:
    """A file, or an open one's descriptor, as an object: its ETag is its time of change and its size.

    None for what is no regular file: opening a pipe may wait forever.
    """
    status = os.fstat(path) if isinstance(path, int) else path.stat()
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(key, status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_mtime)
