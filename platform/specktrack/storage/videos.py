"""How videos are recognised: a file or object with a video's suffix or named as one, or a folder of numbered images."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from specktrack import telemetry
from specktrack.config import sha_of
from specktrack.errors import ConfigError, MediaError
from specktrack.schema import VideoRef
from specktrack.storage.opening import object_info, open_store
from specktrack.storage.store import ObjectInfo, Store, changed, reading
from specktrack.storage.uris import local_path, to_uri

log = telemetry.get_logger()

VIDEO_SUFFIXES = frozenset(
    {
        ".264", ".265", ".3g2", ".3gp", ".asf", ".avc", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265",
        ".hevc", ".insv", ".ismv", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg",
        ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".obu",
        ".ogm", ".ogv", ".qt", ".tod", ".trp", ".ts", ".tp", ".vob", ".vro", ".webm", ".wmv", ".xvid", ".y4m",
    }
)  # fmt: skip
"""Suffixes of videos when a folder or prefix is listed; a path given explicitly is taken whatever its suffix."""
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}
_LEFT_BEHIND = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that archives, network drives and Windows put beside what people put there."""
MOST_KINDS_SAID = 8


def stat(uri: str, *, stream: int | None = None) -> VideoRef:
    """The identity of one video: a file, an object, or a folder of numbered images; ConfigError if there is none.

    ``stream`` is the one to read of it, the best if not given.
    """
    return _found(to_uri(uri)).model_copy(update={"stream": stream})


def _found(uri: str) -> VideoRef:
    if info := object_info(uri):
        return as_video(uri, info)
    if (path := local_path(uri)) is not None and path.exists() and not path.is_dir():
        raise ConfigError("neither a file nor a folder", uri, remedy="copy its contents to a file")
    store = open_store(uri)
    frames = _frames_in(store)
    if not frames:
        raise ConfigError("no such video", uri, remedy="give a video, or a folder of numbered images")
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
    """Videos by suffix and folders of frames, at any depth, ordered by URI. Hidden names are left out, others said."""
    folders: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in store.list():
        if not is_hidden(info.key):
            folders[info.key.rpartition("/")[0]].append(info)
    refs, unread = [], Counter[str]()
    for folder, objects in folders.items():
        videos = [info for info in objects if is_video(info.key)]
        refs += [as_video(store.uri_of(video.key), video) for video in videos]
        frames = [] if videos else _frames(objects)
        if frames:
            refs.append(_frame_folder((store.uri_of(folder) if folder else store.uri) + "/", frames))
        read = {info.key for info in (videos or frames)}
        unread.update(PurePosixPath(info.key).suffix.lower() for info in objects if info.key not in read)
    if unread:
        log.info(
            "files that are not videos", place=store.uri, number_by_suffix=dict(unread.most_common(MOST_KINDS_SAID))
        )
    return sorted(refs, key=lambda ref: ref.uri)


def is_hidden(key: str) -> bool:
    """Whether a file or a folder above it has a name that hides it: ``.x``, ``._x`` and ``__MACOSX`` from a Mac."""
    return any(part.startswith(".") or part in _LEFT_BEHIND for part in key.split("/"))


def is_video(name: str) -> bool:
    """Whether the suffix is one of a video."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def as_video(uri: str, info: ObjectInfo) -> VideoRef:
    """A file or object as a video."""
    return VideoRef(uri=uri, etag=info.etag, size_bytes=info.size_bytes)


def _frames_in(store: Store) -> list[ObjectInfo]:
    return _frames([info for info in store.list() if "/" not in info.key and not is_hidden(info.key)])


def _frames(objects: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    """The images of a folder in order of their numbers if most are frames: one prefix, one suffix, distinct numbers.

    The others are strays: a cover, a preview.
    """
    kinds: dict[tuple[str, str], list[tuple[int, ObjectInfo]]] = defaultdict(list)
    images = [info for info in objects if PurePosixPath(info.key).suffix.lower() in IMAGE_SUFFIXES]
    for info in images:
        name = PurePosixPath(info.key)
        suffix = name.suffix.lower()
        if match := re.fullmatch(r"(.*?)(\d+)", name.stem, re.DOTALL):
            kinds[match[1], _SAME_SUFFIX.get(suffix, suffix)].append((int(match[2]), info))
    most = max(kinds.values(), key=len, default=[])
    numbered = dict(most)
    if len(most) < 2 or 2 * len(most) <= len(images) or len(numbered) != len(most):
        return []
    return [numbered[number] for number in sorted(numbered)]


def _frame_folder(uri: str, frames: Sequence[ObjectInfo]) -> VideoRef:
    etag, size_bytes = _identity(frames)
    return VideoRef(uri=uri, etag=etag, size_bytes=size_bytes)


def _identity(frames: Sequence[ObjectInfo]) -> tuple[str, int]:
    """ETag and size of a folder of frames, over the names and ETags of its images."""
    etag = sha_of([[PurePosixPath(info.key).name, info.etag, info.size_bytes] for info in frames])[:32]
    return etag, sum(info.size_bytes for info in frames)
