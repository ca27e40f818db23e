"""Bytes in a folder or in S3 behind one interface, and the videos that a person's sources name.

A ``file://`` URI is absolute and percent-encoded. An ``s3://bucket/key`` URI holds the key as S3 knows it, unencoded:
both carry any name (spaces, newlines, any script) there and back. S3 follows the standard AWS variables and profiles;
``AWS_ENDPOINT_URL`` points at any S3-compatible server.
"""

import errno
import functools
import glob
import io
import os
import random
import re
import time
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote_to_bytes, urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from specktrack.config import sha_of
from specktrack.errors import ConfigError, Conflict, MediaError, QuarantineReason, StorageError
from specktrack.schema import VideoRef, sha256_hex

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
        ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
"""What counts as a video when a folder or prefix is listed; a path given explicitly is taken whatever its suffix."""
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

BLOCK_BYTES = 4 * 2**20
"""One ranged GET: decoders read 32 KiB at a time, and a request costs 10-40 ms whatever its size."""
BLOCKS_KEPT = 4
BODY_TRIES = 4
"""Tries for an answer whose body breaks off; the requests themselves are retried by botocore."""


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


class Store(Protocol):
    """A folder or an S3 prefix; keys are relative, ``/``-separated, without ``..``."""

    uri: str

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """The object's bytes, checked against ``sha256`` where known; MissingError, or StorageError if damaged."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object: readers see the old bytes or the new ones."""

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet; Conflict if another writer was first."""

    def put_file(self, key: str, path: Path) -> None:
        """Write or replace an object from a local file."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key begins with ``prefix``, ordered by key."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it is missing."""

    def uri_of(self, key: str) -> str:
        """The object's own URI."""


def to_uri(path_or_uri: str) -> str:
    """The one spelling of a place: ``file://``, absolute and percent-encoded, or ``s3://`` unchanged.

    A trailing slash stays. ConfigError for a scheme that is not supported.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path_or_uri)
    if scheme is None:
        path = _absolute(path_or_uri)
    elif scheme[1] == "file" and urlsplit(path_or_uri).netloc in ("", "localhost"):
        path = _absolute(os.fsdecode(unquote_to_bytes(path_or_uri.removeprefix("file://").removeprefix("localhost"))))
    elif scheme[1] == "s3" and (bucket := path_or_uri[5:].partition("/")[0]):
        if "@" in bucket:
            raise ConfigError("an S3 URI carries no credentials", remedy="set AWS_PROFILE or the AWS_ variables")
        return path_or_uri
    else:
        raise ConfigError(
            "not a place to read from or write to", path_or_uri, remedy="give a path or s3://bucket/prefix"
        )
    return path.as_uri() + ("/" if path_or_uri.endswith("/") and path != Path("/") else "")


def _absolute(path: str | Path) -> Path:
    """Absolute and without ``..``; links are kept, because a video's name is the one its owner gave it."""
    return Path(os.path.normpath(Path(path).expanduser().absolute()))


def local_path(uri: str) -> Path | None:
    """The path behind a ``file://`` URI (or a plain path); None for S3."""
    uri = to_uri(uri)
    if uri.startswith("s3://"):
        return None
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


def open_store(uri: str) -> Store:
    """The store at a path, ``file://`` or ``s3://bucket/prefix``; nothing is created or checked yet."""
    path = local_path(uri)
    return FileStore(path) if path is not None else S3Store(uri)


def _checked(key: str) -> str:
    if not key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ConfigError("not a key below the store's root", key, remedy="use a relative path without '..'")
    return key


def _verified(data: bytes, sha256: str | None, place: str) -> bytes:
    if sha256 is not None and sha256_hex(data) != sha256:
        raise StorageError(
            "the object's bytes differ from its recorded SHA-256", sha256, place, "restore the object or make it anew"
        )
    return data


# --- a folder ---------------------------------------------------------------------------------------------------


class FileStore:
    """A folder on a local or shared POSIX file system; every write is atomic and on disk when it returns."""

    def __init__(self, root: str | Path) -> None:
        self.root = _absolute(root)
        self.uri = self.root.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)

    def uri_of(self, key: str) -> str:
        """The object's ``file://`` URI."""
        return self._path(key).as_uri()

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """See Store."""
        with _os_errors(self.uri_of(key)):
            data = self._path(key).read_bytes()
        return _verified(data, sha256, self.uri_of(key))

    def exists(self, key: str) -> bool:
        """See Store."""
        return self._path(key).is_file()

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        with _os_errors(self.uri_of(key)), self._written(key, data) as temporary:
            temporary.replace(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See Store. A hard link is the one atomic step that refuses an existing name."""
        with _os_errors(self.uri_of(key)), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                raise Conflict("another writer was first", place=self.uri_of(key)) from None

    def put_file(self, key: str, path: Path) -> None:
        """See Store."""
        with _os_errors(self.uri_of(key)), path.open("rb") as source, self._written(key, source) as temporary:
            temporary.replace(self._path(key))

    def delete(self, key: str) -> None:
        """See Store."""
        with _os_errors(self.uri_of(key)):
            self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store. Temporary files of writers at work, or killed, are not listed."""
        start = self.root / prefix.rpartition("/")[0]
        found: list[ObjectInfo] = []
        with _os_errors(self.uri):
            for folder, _, names in os.walk(start, onerror=_unless_missing):
                for name in names:
                    path = Path(folder, name)
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix) and not (name.startswith(".") and name.endswith(".tmp")):
                        with suppress(FileNotFoundError):  # removed meanwhile, or a dangling link
                            found.append(_file_info(path, key))
        return iter(sorted(found, key=lambda info: info.key))

    @contextmanager
    def _written(self, key: str, data: bytes | BinaryIO) -> Iterator[Path]:
        """A complete temporary file next to the object's place, gone afterwards; then the folder is synced."""
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                chunks = [data] if isinstance(data, bytes) else iter(lambda: data.read(BLOCK_BYTES), b"")
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            temporary.unlink(missing_ok=True)


_OS_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "check the permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "free some space and run the same command again",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EPERM: "the file system must support hard links; choose another place",
    errno.ENOTSUP: "the file system must support hard links; choose another place",
}


@contextmanager
def _os_errors(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = MissingError if isinstance(error, FileNotFoundError) else StorageError
        remedy = _OS_REMEDIES.get(error.errno or 0, "")
        raise kind(error.strerror or type(error).__name__, place=place, remedy=remedy) from None


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _file_info(path: Path, key: str) -> ObjectInfo:
    status = path.stat()
    return ObjectInfo(key, status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", status.st_mtime)


# --- S3 ---------------------------------------------------------------------------------------------------------


class S3Store:
    """A bucket or a prefix in it, on Amazon S3 or any server that speaks its protocol with conditional PUT."""

    def __init__(self, uri: str) -> None:
        self.uri = to_uri(uri).rstrip("/")
        self._bucket, self._prefix = _split_s3(self.uri)
        if self._prefix:
            self._prefix += "/"

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + _checked(key)}

    def uri_of(self, key: str) -> str:
        """The object's ``s3://`` URI."""
        return f"{self.uri}/{_checked(key)}"

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """See Store."""
        return _verified(_s3_get(self.uri_of(key), **self._at(key)), sha256, self.uri_of(key))

    def exists(self, key: str) -> bool:
        """See Store."""
        return _s3_head(self.uri_of(key)) is not None

    def put(self, key: str, data: bytes) -> None:
        """See Store."""
        with _s3_errors(self.uri_of(key)):
            _client().put_object(**self._at(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        """See Store. A PUT whose answer was lost is repeated by the client and then conflicts with itself."""
        with _s3_errors(self.uri_of(key)):
            _client().put_object(**self._at(key), Body=data, IfNoneMatch="*")

    def put_file(self, key: str, path: Path) -> None:
        """See Store. Large files go up in parts; a failed upload leaves no parts behind."""
        with _s3_errors(self.uri_of(key)):
            _client().upload_file(str(path), *self._at(key).values())

    def delete(self, key: str) -> None:
        """See Store."""
        with _s3_errors(self.uri_of(key)):
            _client().delete_object(**self._at(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store."""
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        with _s3_errors(f"{self.uri}/{prefix}"):
            for page in pages:
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if key and not key.endswith("/"):  # consoles make empty objects as folders
                        yield ObjectInfo(key, item["Size"], item["ETag"].strip('"'), item["LastModified"].timestamp())


def _client() -> Any:
    """The S3 client for the AWS settings of this moment (one per process and setting; clients are thread-safe)."""
    return _make_client(tuple(sorted((name, text) for name, text in os.environ.items() if name.startswith("AWS_"))))


@functools.lru_cache(maxsize=4)
def _make_client(settings: tuple[tuple[str, str], ...]) -> Any:
    attempts = int(dict(settings).get("AWS_MAX_ATTEMPTS", "8"))  # with jitter up to 20 s: outlasts a 30 s outage
    with _s3_errors("AWS settings"):
        return boto3.session.Session().client(
            "s3",
            config=ClientConfig(
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=32,
                tcp_keepalive=True,
            ),
        )


def _split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key. Not by urlsplit, which drops newlines and ends the path at ``?`` or ``#``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


_S3_REMEDIES = {
    301: "set AWS_REGION to the bucket's region",
    400: "check AWS_REGION and the credentials",
    401: "check the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
    403: "check the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the bucket's policy",
    404: "check the bucket's name, the key and AWS_ENDPOINT_URL",
}


@contextmanager
def _s3_errors(place: str) -> Iterator[None]:
    """Turn the client's errors, after its retries, into ours; 412 and 409 mean that another writer was first."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status in (409, 412):
            raise Conflict("another writer was first", place=place) from None
        code = error.response.get("Error", {}).get("Code", "")
        remedy = _S3_REMEDIES.get(status, "it stayed so after retries; run the same command again later")
        kind = MissingError if status == 404 else StorageError
        raise kind(f"S3 answered {status} {code}".rstrip(), place=place, remedy=remedy) from None
    except (BotoCoreError, Boto3Error, ValueError) as error:
        text = re.sub(r"//[^/@\s]*@", "//", str(error))  # an endpoint may carry a password
        raise StorageError(
            f"S3 cannot be used: {text}", place=place, remedy="check the AWS settings and AWS_ENDPOINT_URL"
        ) from None


def _s3_get(place: str, **request: str) -> bytes:
    """GET an object or a range of it; a body that breaks off or fails its checksum is asked for again."""
    for attempt in range(BODY_TRIES):
        with _s3_errors(place):
            body = _client().get_object(**request)["Body"]
            try:
                return body.read()
            except BotoCoreError:
                if attempt == BODY_TRIES - 1:
                    raise
        time.sleep(random.uniform(0, 0.2 * 2**attempt))
    raise AssertionError("the last try returns or raises")


def _s3_head(uri: str) -> ObjectInfo | None:
    bucket, key = _split_s3(uri)
    try:
        with _s3_errors(uri):
            head = _client().head_object(Bucket=bucket, Key=key)
    except MissingError:
        return None
    return ObjectInfo(key, head["ContentLength"], head["ETag"].strip('"'), head["LastModified"].timestamp())


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
        bucket, key = _split_s3(self._ref.uri)
        try:
            block = _s3_get(
                self._ref.uri, Bucket=bucket, Key=key, Range=f"bytes={first}-{last}", IfMatch=f'"{self._ref.etag}"'
            )
        except (Conflict, MissingError):
            raise _changed(self._ref) from None
        self._blocks[index] = block
        if len(self._blocks) > BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return block


# --- videos -----------------------------------------------------------------------------------------------------


def open_binary(ref: VideoRef) -> BinaryIO:
    """The video's bytes as a seekable, read-only file; MediaError(CHANGED) if they are not the ones of ``ref``."""
    path = local_path(ref.uri)
    if path is None:
        return io.BufferedReader(RangedReader(ref), buffer_size=2**16)
    try:
        with _os_errors(ref.uri):
            file = path.open("rb")
    except MissingError:
        raise _changed(ref) from None
    if _file_info(path, path.name).etag != ref.etag:
        file.close()
        raise _changed(ref)
    return file


def _changed(ref: VideoRef) -> MediaError:
    return MediaError(
        QuarantineReason.CHANGED, "the video was replaced or removed after it was listed", ref.uri, remedy="run again"
    )


def stat(uri: str) -> VideoRef:
    """The identity of one video: a file, an object, or a folder of numbered images; ConfigError if there is none."""
    uri = to_uri(uri)
    path = local_path(uri)
    if path is None:
        info = None if uri.endswith("/") else _s3_head(uri)
    else:
        with _os_errors(uri):
            info = _file_info(path, path.name) if path.is_file() else None
    if info is not None:
        return VideoRef(uri=uri, etag=info.etag, size_bytes=info.size_bytes)
    store = open_store(uri)
    frames = _frames([info for info in store.list() if "/" not in info.key])
    if not frames:
        raise ConfigError("no such video", uri, remedy="give a video, or a folder that holds numbered images")
    return _frame_folder(store.uri + "/", frames)


def frame_names(uri: str) -> list[str]:
    """Names of the images in a folder of frames, in order of their numbers; empty if it is not such a folder."""
    return [info.key for info in _frames([info for info in open_store(uri).list() if "/" not in info.key])]


def expand_sources(sources: Sequence[str]) -> list[VideoRef]:
    """The videos that files, folders, globs, ``s3://`` prefixes and ``@lists`` name, without duplicates.

    Order: as given, and by name below each. Lines of a list are any of these, relative to the list's folder; blank
    lines and those that begin with ``#`` are left out. ConfigError names a source that holds no video.
    """
    found: dict[str, VideoRef] = {}
    for ref in (ref for source in sources for ref in _expand(source, ())):
        found.setdefault(ref.uri, ref)
    if not found:
        raise ConfigError(
            "no source is given", remedy="name a video, a folder, a glob, s3://bucket/prefix or @list.txt"
        )
    return list(found.values())


def _expand(source: str, lists: tuple[str, ...]) -> list[VideoRef]:
    if source.startswith("@"):
        return _expand_list(source[1:], lists)
    path = local_path(source)
    if path is None:
        refs = _expand_s3(source)
    else:
        with _os_errors(source):
            refs = _expand_path(path)
    if not refs:
        raise ConfigError(
            "no video found", source, remedy="name a video, a folder, a glob, s3://bucket/prefix or @list.txt"
        )
    return refs


def _expand_path(path: Path) -> list[VideoRef]:
    if path.is_dir():
        return _videos_below(FileStore(path))
    if path.is_file():
        return [stat(str(path))]
    matches = sorted(Path("/").glob(str(path.relative_to("/"))))
    refs = [stat(str(match)) for match in matches if match.is_file() and _wanted(path.name, match.name)]
    return refs + [ref for folder in matches if folder.is_dir() for ref in _videos_below(FileStore(folder))]


def _expand_list(name: str, lists: tuple[str, ...]) -> list[VideoRef]:
    uri = to_uri(name)
    if uri in lists:
        raise ConfigError("a list that contains itself", uri, remedy="take the line out")
    folder, _, key = uri.rpartition("/")
    path = local_path(uri)
    try:
        text = (open_store(folder).get(key) if path is None else FileStore(path.parent).get(path.name)).decode()
    except UnicodeDecodeError:
        raise ConfigError("a list of sources is UTF-8 text", uri) from None
    refs: list[VideoRef] = []
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            at, bare = ("@", line[1:]) if line.startswith("@") else ("", line)
            if "://" not in bare:
                bare = f"{folder}/{bare}" if path is None else str(path.parent / Path(bare).expanduser())
            refs += _expand(at + bare, (*lists, uri))
    return refs


def _expand_s3(uri: str) -> list[VideoRef]:
    bucket, key = _split_s3(uri)
    if key and not key.endswith("/") and (info := _s3_head(uri)):
        return [VideoRef(uri=uri, etag=info.etag, size_bytes=info.size_bytes)]
    if refs := _videos_below(S3Store(uri)):
        return refs
    store = S3Store(f"s3://{bucket}")
    if glob.has_magic(key):
        pattern = PurePosixPath("/", key)
        literal = re.split(r"[*?\[]", key)[0]
        objects = [info for info in store.list(literal) if PurePosixPath("/", info.key).match(str(pattern))]
        objects = [info for info in objects if _wanted(pattern.name, info.key)]
    else:
        objects = [info for info in store.list(key) if _is_video(info.key)]
    return [VideoRef(uri=store.uri_of(info.key), etag=info.etag, size_bytes=info.size_bytes) for info in objects]


def _videos_below(store: Store) -> list[VideoRef]:
    """Videos by suffix and folders of frames, at any depth, ordered by URI; hidden names are left out."""
    folders: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in store.list():
        if not any(part.startswith(".") for part in info.key.split("/")):
            folders[info.key.rpartition("/")[0]].append(info)
    refs = []
    for folder, objects in folders.items():
        videos = [info for info in objects if _is_video(info.key)]
        refs += [VideoRef(uri=store.uri_of(v.key), etag=v.etag, size_bytes=v.size_bytes) for v in videos]
        if not videos and (frames := _frames(objects)):
            refs.append(_frame_folder((store.uri_of(folder) if folder else store.uri) + "/", frames))
    return sorted(refs, key=lambda ref: ref.uri)


def _is_video(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def _wanted(pattern: str, name: str) -> bool:
    """Whether a match of a glob is meant as a video: ``*.bin`` says so, ``*`` does not."""
    suffix = PurePosixPath(pattern).suffix
    if PurePosixPath(name).name.startswith("."):
        return pattern.startswith(".")
    return _is_video(name) or bool(suffix and not glob.has_magic(suffix))


def _frames(objects: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """The images of a folder in order of their numbers if they are frames: one prefix, one suffix, distinct numbers."""
    numbered: dict[int, ObjectInfo] = {}
    kinds = set()
    images = [info for info in objects if PurePosixPath(info.key).suffix.lower() in IMAGE_SUFFIXES]
    for info in images:
        name = PurePosixPath(info.key)
        match = re.fullmatch(r"(.*?)(\d+)", name.stem, re.DOTALL)
        if match is None:
            return []
        kinds.add((match[1], name.suffix))
        numbered[int(match[2])] = info
    if len(images) < 2 or len(kinds) != 1 or len(numbered) != len(images):
        return []
    return [numbered[number] for number in sorted(numbered)]


def _frame_folder(uri: str, frames: Sequence[ObjectInfo]) -> VideoRef:
    etag = sha_of([[PurePosixPath(info.key).name, info.etag, info.size_bytes] for info in frames])[:32]
    return VideoRef(uri=uri, etag=etag, size_bytes=sum(info.size_bytes for info in frames))
