"""The videos that a person's sources name: files, folders, globs, ``s3://`` prefixes and lists of these."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from specktrack.errors import ConfigError
from specktrack.schema import VideoRef
from specktrack.storage.files import FileStore, os_errors
from specktrack.storage.opening import object_info, open_store
from specktrack.storage.uris import local_path, split_s3, to_uri
from specktrack.storage.videos import as_video, is_video, stat, videos_below


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
        with os_errors(source):
            refs = _expand_path(path)
    if not refs:
        raise ConfigError(
            "no video found", source, remedy="name a video, a folder, a glob, s3://bucket/prefix or @list.txt"
        )
    return refs


def _expand_path(path: Path) -> list[VideoRef]:
    if path.is_dir():
        return videos_below(FileStore(path))
    if path.exists():
        return [stat(str(path))]
    matches = sorted(Path("/").glob(str(path.relative_to("/"))))
    refs = [stat(str(match)) for match in matches if match.is_file() and _wanted(path.name, match.name)]
    return refs + [ref for folder in matches if folder.is_dir() for ref in videos_below(FileStore(folder))]


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
    bucket, key = split_s3(uri)
    if key and (info := object_info(uri)):
        return [as_video(uri, info)]
    if refs := videos_below(open_store(uri)):
        return refs
    store = open_store(f"s3://{bucket}")
    if glob.has_magic(key):
        pattern = PurePosixPath("/", key)
        literal = re.split(r"[*?\[]", key)[0]
        objects = [info for info in store.list(literal) if PurePosixPath("/", info.key).match(str(pattern))]
        objects = [info for info in objects if _wanted(pattern.name, info.key)]
    else:
        objects = [info for info in store.list(key) if is_video(info.key)]
    return [as_video(store.uri_of(info.key), info) for info in objects]


def _wanted(pattern: str, name: str) -> bool:
    """Whether a match of a glob is meant as a video: ``*.bin`` says so, ``*`` does not."""
    suffix = PurePosixPath(pattern).suffix
    if PurePosixPath(name).name.startswith("."):
        return pattern.startswith(".")
    return is_video(name) or bool(suffix and not glob.has_magic(suffix))
