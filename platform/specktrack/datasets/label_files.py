"""Label files in a store, and the videos they belong to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from pydantic_core import from_json

from specktrack.datasets.formats import FORMATS, LabelFormat
from specktrack.errors import ConfigError, LabelError
from specktrack.storage import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Store, stat

_TRIED = 8
"""Files of one kind that are opened to see whether they are of a format."""


@dataclass(frozen=True)
class LabelFile:
    """A label file and what its place says."""

    key: str
    places: tuple[str, ...]
    """Where its video may be, as keys; with a trailing slash for a folder of frames."""
    keep: tuple[int, int] | None = None
    """Half-open range of frames that the dataset's authors count; None keeps all."""


class VideoFinder:
    """Finds the videos of label files: at their places beside the labels, or in another store by place or name."""

    def __init__(self, store: Store, elsewhere: Store | None = None) -> None:
        self._here = _Videos(store)
        self._elsewhere = _Videos(elsewhere) if elsewhere is not None else None

    def at(self, places: tuple[str, ...]) -> str | None:
        """URI of the video at the first place that has one; elsewhere also of the only one of that file name."""
        here = next((self._here.places[place] for place in places if place in self._here.places), None)
        if here or self._elsewhere is None:
            return here
        there = next((self._elsewhere.places[place] for place in places if place in self._elsewhere.places), None)
        return there or self._elsewhere.only(PurePosixPath(places[0]).name)

    def named(self, name: str) -> str | None:
        """URI of the video that a label file names by its URI or file name; None if there is none.

        A place that was given for the videos goes before the URI, which may be where they were once. Label Studio puts
        eight hex digits in front of the names of files that are uploaded to it.
        """
        stem = re.sub(r"\.\w+$", "", PurePosixPath(unquote(name.rstrip("/"))).name)
        stems = (stem, re.sub(r"^[0-9a-f]{8}-", "", stem))
        if self._elsewhere is not None and (uri := self._elsewhere.first(stems)):
            return uri
        if urlsplit(name).scheme in ("s3", "file"):
            try:
                return stat(name).uri
            except ConfigError:
                pass  # it has moved: by its name
        return self._here.first(stems)


class _Videos:
    """Videos and folders of images below a store."""

    def __init__(self, store: Store) -> None:
        self.places: dict[str, str] = {}
        """URI by key without suffix, with a trailing slash for a folder."""
        self._named: dict[str, set[str]] = {}
        for info in store.list():
            path = PurePosixPath(info.key)
            if path.suffix.lower() in VIDEO_SUFFIXES:
                self._add(str(path.with_suffix("")), store.uri_of(info.key))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                folder = str(path.parent)
                self._add(f"{folder}/", f"{store.uri if folder == '.' else store.uri_of(folder)}/")

    def _add(self, place: str, uri: str) -> None:
        self.places.setdefault(place, uri)
        self._named.setdefault(PurePosixPath(place).name, set()).add(uri)

    def first(self, stems: tuple[str, ...]) -> str | None:
        """The video of the first of these names that only one has."""
        return next((uri for stem in stems if (uri := self.only(stem))), None)

    def only(self, stem: str) -> str | None:
        """The video of this name, if it is the only one."""
        uris = self._named.get(stem, set())
        return next(iter(uris)) if len(uris) == 1 else None


def recognise(store: Store) -> LabelFormat | None:
    """The format whose label files lie in the store and begin as they should; None if there is none."""
    keys = [info.key for info in store.list() if info.key.endswith((".csv", ".xml", ".txt", ".json"))]
    for candidate in FORMATS.values():
        mine = [key for key in keys if candidate.is_label(key)]
        if any(candidate.begins(store.get(key)) for key in mine[:_TRIED]):
            return candidate
    return None


def find_labels(store: Store, layout: LabelFormat) -> list[LabelFile]:
    """The format's label files, ordered by key; corrected labels replace the ones they correct."""
    keys = {info.key for info in store.list()}
    drops = {str(PurePosixPath(key).parent): key for key in keys if PurePosixPath(key).name == "drop_frame.json"}
    found: dict[tuple[str, ...], LabelFile] = {}
    for key in sorted(keys):
        if layout.is_label(key):
            item = LabelFile(key, layout.videos(PurePosixPath(key)), _kept(store, key, drops))
            # Labels and their corrections look for one video at the place that comes first.
            if item.places[:1] not in found or is_corrected(key):
                found[item.places[:1]] = item
    return sorted(found.values(), key=lambda item: item.key)


def is_corrected(key: str) -> bool:
    """Whether the label file lies among TrackNetV3's corrected labels."""
    return PurePosixPath(key).parent.name == "corrected_csv"


def _kept(store: Store, key: str, drops: Mapping[str, str]) -> tuple[int, int] | None:
    """Frames that a drop_frame.json above the label file keeps: ``<match number>_<rally>`` -> start, end."""
    path = PurePosixPath(key)
    match = re.search(r"match(\d+)", str(path.parent))
    above = next((drops[str(parent)] for parent in path.parents if str(parent) in drops), None)
    if match is None or above is None:
        return None
    try:
        table = from_json(store.get(above))
        rally = f"{match[1]}_{path.stem.removesuffix('_ball')}"
        return (int(table["start"][rally]), int(table["end"][rally])) if rally in table["start"] else None
    except (ValueError, KeyError, TypeError) as error:
        raise LabelError(
            f"not a table of dropped frames: {error}",
            place=store.uri_of(above),
            remedy="needs 'start' and 'end' per rally",
        ) from None
