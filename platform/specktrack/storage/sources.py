"""The videos that a person's sources name: files, folders, globs, ``s3://`` prefixes and lists of these.

A name is taken as it is typed. One that is not there may be meant in another spelling: accents composed or in parts
(NFC, and NFD as Macs write it), letters large or small, Windows' backslashes, brackets that are no glob.
"""

import codecs
import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from stat import S_ISDIR

from specktrack import telemetry
from specktrack.errors import ConfigError
from specktrack.schema import VideoRef
from specktrack.storage.files import FileStore, os_errors
from specktrack.storage.opening import object_info, open_store
from specktrack.storage.store import RefusedError
from specktrack.storage.uris import local_path, split_s3, to_uri
from specktrack.storage.videos import as_video, is_video, stat, videos_below

MOST_NESTED = 8
"""Lists in lists in lists."""
MOST_LIST_BYTES = 64 * 2**20
"""Half a million long paths; a video that is named as a list is larger."""

log = telemetry.get_logger()


def expand_sources(sources: Sequence[str], *, stream: int | None = None) -> list[VideoRef]:
    """The videos that files, folders, globs, ``s3://`` prefixes and ``@lists`` name, without duplicates.

    Order: as given, and by name below each. Lines of a list are any of these, relative to the list's folder; blank
    lines and those that begin with ``#`` are left out. ConfigError names a source that holds no video; one that is
    there and that the system refuses to show is a video that cannot be read. ``stream`` is the one to read of each.
    """
    found: dict[str, VideoRef] = {}
    read: set[str] = set()
    for ref in (ref for source in sources for ref in _expand(source, (), read)):
        found.setdefault(ref.uri, ref)
    if not found:
        raise ConfigError(
            "no source is given", remedy="name a video, a folder, a glob, s3://bucket/prefix or @list.txt"
        )
    return [ref.model_copy(update={"stream": stream}) for ref in found.values()]


def _expand(source: str, lists: tuple[str, ...], read: set[str]) -> list[VideoRef]:
    """``lists`` are those that led here, ``read`` all that were read before."""
    if source.startswith("@"):
        return _expand_list(source[1:], lists, read)
    path = local_path(source)
    refs = _expand_s3(source) if path is None else _expand_path(path)
    if not refs and path is not None and "\\" in source:
        refs = _expand_path(Path(str(path).replace("\\", "/")))
    if not refs:
        raise ConfigError(
            "no video found", source, remedy="name a video, a folder, a glob, s3://bucket/prefix or @list.txt"
        )
    return refs


def _expand_path(path: Path) -> list[VideoRef]:
    try:
        with os_errors(str(path)):
            is_there = _is_there(path)
    except RefusedError:
        return [VideoRef(uri=to_uri(str(path)), etag="", size_bytes=0)]
    with os_errors(str(path)):
        if is_there:
            return _at(path)
        matches = _matches(path)
        named = [match for match in matches if match.is_dir() or _wanted(path.name, match.name)]
        if not matches and (spelled := _as_spelled(path)):
            log.info("found with a different spelling", asked=str(path), found=str(spelled))
            named = [spelled]
        return [ref for match in sorted(named, key=Path.is_dir) for ref in _at(match)]


def _is_there(path: Path) -> bool:
    """Whether there is a file or folder; OSError if there is one that cannot be looked into."""
    try:
        if S_ISDIR(path.stat().st_mode):
            os.scandir(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _at(path: Path) -> list[VideoRef]:
    return videos_below(FileStore(path)) if path.is_dir() else [stat(str(path))]


def _matches(path: Path) -> list[Path]:
    """The matches of a glob; folders above it that exist, and brackets that match nothing, are taken as names."""
    above = next(folder for folder in path.parents if folder.is_dir())
    pattern = str(path.relative_to(above))
    return sorted(above.glob(pattern)) or sorted(above.glob(pattern.replace("[", "[[]")))


def _as_spelled(path: Path) -> Path | None:
    """The path in the spelling of the folders that it leads through; None if there is none, or more than one."""
    found = Path("/")
    for part in path.parts[1:]:
        if os.path.lexists(found / part):
            found /= part
        elif found.is_dir() and (name := _same_name(part, (each.name for each in found.iterdir()))):
            found /= name
        else:
            return None
    return found if found != path else None


def _same_name(name: str, names: Iterable[str]) -> str | None:
    """The only one of ``names`` that is the same but for its accents' spelling, or else for large and small letters."""
    there = list(names)
    for same in (_composed, lambda text: _composed(text).casefold()):
        alike = [each for each in there if same(each) == same(name)]
        if len(alike) == 1:
            return alike[0]
    return None


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _expand_list(name: str, lists: tuple[str, ...], read: set[str]) -> list[VideoRef]:
    uri = to_uri(name)
    if uri in lists:
        raise ConfigError("the list contains itself", uri, remedy="remove the line")
    if len(lists) == MOST_NESTED:
        raise ConfigError(f"lists are nested more than {MOST_NESTED} deep", uri, remedy="write a single list")
    if uri in read:
        return []
    read.add(uri)
    folder, _, key = uri.rpartition("/")
    path = local_path(uri)
    info = object_info(uri)
    if info is not None and info.size_bytes > MOST_LIST_BYTES:
        raise ConfigError("too large for a list of sources", info.size_bytes, uri, "name a video without '@'")
    data = open_store(folder).get(key) if path is None else FileStore(path.parent).get(path.name)
    refs: list[VideoRef] = []
    for line in _lines(data, uri):
        at, bare = ("@", line[1:]) if line.startswith("@") else ("", line)
        if path is None and "://" not in bare:
            bare = f"{folder}/{bare}"
        elif "://" not in bare and bare != "~" and not bare.startswith("~/"):
            bare = str(path.parent / bare) if path is not None else bare
        refs += _expand(at + bare, (*lists, uri), read)
    return refs


def _lines(data: bytes, place: str) -> list[str]:
    """The lines that name something: as editors on Windows save them too, with marks, and with quotes around a path."""
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise ConfigError("a list of sources must be UTF-8 text", place) from None
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line for line in lines]
    return [line for line in lines if line and not line.startswith("#")]


def _expand_s3(uri: str) -> list[VideoRef]:
    bucket, key = split_s3(uri)
    if key and (info := object_info(uri)):
        return [as_video(uri, info)]
    if refs := videos_below(open_store(uri)):
        return refs
    store = open_store(f"s3://{bucket}")
    if glob.has_magic(key):
        objects = [info for info in store.list(re.split(r"[*?\[]", key)[0]) if _fits(info.key, key)]
        found = [info for info in objects if _wanted(PurePosixPath(key).name, info.key)]
    else:
        found = [info for info in store.list(key) if is_video(info.key)]
    if not found and not key.isascii():
        plain = re.split(r"[^\0-\x7f]", key)[0][:-1]  # its last letter may carry an accent
        alike = [info for info in store.list(plain) if _composed(info.key) == _composed(key)]
        found = alike if len(alike) == 1 else []
    return [as_video(store.uri_of(info.key), info) for info in found]


def _fits(key: str, pattern: str) -> bool:
    """Whether a key matches a glob, part by part, or is what it says."""
    names, parts = key.split("/"), pattern.split("/")
    alike = (name == part or fnmatchcase(name, part) for name, part in zip(names, parts, strict=False))
    return len(names) == len(parts) and all(alike)


def _wanted(pattern: str, name: str) -> bool:
    """Whether a match of a glob is meant as a video: ``*.bin`` says so, ``*`` does not."""
    suffix = PurePosixPath(pattern).suffix
    if PurePosixPath(name).name.startswith("."):
        return pattern.startswith(".")
    return is_video(name) or bool(suffix and not glob.has_magic(suffix))
