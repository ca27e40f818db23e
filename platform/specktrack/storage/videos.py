"""What is a video: a file or object with a video's suffix or named as one, or a folder of numbered images."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from specktrack.config import sha_of
from specktrack.errors import ConfigError, MediaError
from specktrack.schema import VideoRef
from specktrack.storage.opening import object_info, open_store
from specktrack.storage.store import ObjectInfo, Store, changed, reading
from specktrack.storage.uris import local_path, to_uri

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
        ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
"""What counts as a video when a folder or prefix is listed; a path given explicitly is taken whatever its suffix."""
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def stat(uri: str) -> VideoRef:
    """The identity of one video: a file, an object, or a folder of numbered images; ConfigError if there is none."""
    uri = to_uri(uri)
    if info := object_info(uri):
        return as_video(uri, info)
    if (path := local_path(uri)) is not None and path.exists() and not path.is_dir():
        raise ConfigError("neither a file nor a folder", uri, remedy="copy what comes out of it to a file")
    store = open_store(uri)
    frames = _frames_in(store)
    if not frames:
        raise ConfigError("no such video", uri, remedy="give a video, or a folder that holds numbered images")
    return _frame_folder(store.uri + "/", frames)


def frame_names(uri: str) -> list[str]:
    """Names of the images in a folder of frames, in order of their numbers; empty if it is not such a folder."""
    return [info.key for info in _frames_in(open_store(uri))]


def listed_frames(ref: VideoRef) -> list[str]:
    """The same of a folder that was listed before; MediaError(CHANGED) if it holds other images now."""
    with reading(ref):
        frames = _frames_in(open_store(ref.uri))
    if not frames or _identity(frames) != (ref.etag, ref.size_bytes):
        raise changed(ref)
    return [info.key for info in frames]


@contextmanager
def unchanged(ref: VideoRef) -> Iterator[None]:
    """Around the reading of a video: MediaError(CHANGED) in the end if it was replaced meanwhile, or written over.

    Bytes from S3 need no second look, because each request names the ETag.
    """

    def check() -> None:
        if ref.uri.endswith("/"):
            listed_frames(ref)
        elif not ref.uri.startswith("s3://"):
            with reading(ref):
                info = object_info(ref.uri)
            if info is None or info.etag != ref.etag:
                raise changed(ref)

    try:
        yield
    except MediaError:  # the change may be its cause
        check()
        raise
    check()


def videos_below(store: Store) -> list[VideoRef]:
    """Videos by suffix and folders of frames, at any depth, ordered by URI; hidden names are left out."""
    folders: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in store.list():
        if not any(part.startswith(".") for part in info.key.split("/")):
            folders[info.key.rpartition("/")[0]].append(info)
    refs = []
    for folder, objects in folders.items():
        videos = [info for info in objects if is_video(info.key)]
        refs += [as_video(store.uri_of(video.key), video) for video in videos]
        if not videos and (frames := _frames(objects)):
            refs.append(_frame_folder((store.uri_of(folder) if folder else store.uri) + "/", frames))
    return sorted(refs, key=lambda ref: ref.uri)


def is_video(name: str) -> bool:
    """Whether the suffix is one of a video."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def as_video(uri: str, info: ObjectInfo) -> VideoRef:
    """A file or object as a video."""
    return VideoRef(uri=uri, etag=info.etag, size_bytes=info.size_bytes)


def _frames_in(store: Store) -> list[ObjectInfo]:
    return _frames([info for info in store.list() if "/" not in info.key and not info.key.startswith(".")])


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
    etag, size_bytes = _identity(frames)
    return VideoRef(uri=uri, etag=etag, size_bytes=size_bytes)


def _identity(frames: Sequence[ObjectInfo]) -> tuple[str, int]:
    """ETag and size of a folder of frames, over the names and ETags of its images."""
    etag = sha_of([[PurePosixPath(info.key).name, info.etag, info.size_bytes] for info in frames])[:32]
    return etag, sum(info.size_bytes for info in frames)
