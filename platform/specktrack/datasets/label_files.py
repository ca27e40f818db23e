"""Label files in a store, and the videos they belong to."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic_core import from_json

from specktrack.datasets.csv_labels import what_differs
from specktrack.datasets.layouts import LAYOUTS, Layout
from specktrack.errors import ConfigError, LabelError, StorageError
from specktrack.storage import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Store, is_hidden, stat

_TRIED = 12
"""Files of one kind that are opened to see whether they are of a format."""
_LABEL_SUFFIXES = (".csv", ".tsv", ".xml", ".txt", ".json")
_OURS = ("dataset.json", "drop_frame.json", "run.json", "evaluation.json")
_FOR_PEOPLE = re.compile(r"(readme|licen[cs]e|notice|changelog|citation|requirements)\b.*", re.IGNORECASE)
_NAMED = 5
"""Names that a sentence lists."""


@dataclass(frozen=True)
class LabelFile:
    """The label files of one video, mostly a single one, and what their place says."""

    keys: tuple[str, ...]
    """Labels, then what is read with them."""
    places: tuple[str, ...]
    """Where its video may be, as keys; with a trailing slash for a folder of frames."""
    keep: tuple[int, int] | None = None
    """Half-open range of frames that the dataset's authors count; None keeps all."""

    @property
    def key(self) -> str:
        """The file that messages name."""
        return self.keys[0]


def files_in(store: Store) -> list[str]:
    """Keys of the files that a person put there: without hidden ones and what macOS adds to archives."""
    return [info.key for info in store.list() if not is_hidden(info.key)]


def folded(name: str) -> str:
    """A name as people compare it: without regard to letter case and to how accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class VideoFinder:
    """Finds the videos of label files: at their places beside the labels, or in another store by place or name."""

    def __init__(self, store: Store, elsewhere: Store | None = None) -> None:
        self._here = _Videos(store)
        self._elsewhere = _Videos(elsewhere) if elsewhere is not None else None

    def at(self, places: tuple[str, ...], key: str = "") -> str | None:
        """URI of the video at the first place that has one, or of the only one of its name beside ``key``'s folder.

        Elsewhere also of the only one of that name.
        """
        here = self._here.at(places) or self._here.near(key, places)
        if here or self._elsewhere is None:
            return here
        return self._elsewhere.at(places) or self._elsewhere.only(PurePosixPath(places[0]).name)

    def named(self, name: str) -> str | None:
        """URI of the video that a label file names by its URI, path or file name; None if there is none.

        A place that was given for the videos goes before the URI, which may be where they were once.
        """
        names = dict.fromkeys((file_name(name), unquote(file_name(name))))
        if self._elsewhere is not None and (uri := self._elsewhere.named(names)):
            return uri
        if urlsplit(name).scheme in ("s3", "file"):
            try:
                return stat(name).uri
            except (ConfigError, StorageError):
                pass  # it has moved, or cannot be reached from here: by its name
        return self._here.named(names)

    def unlabelled(self, used: Iterable[str]) -> list[str]:
        """Names of the videos beside the labels that are none of those that were used."""
        return self._here.without(set(used))


def file_name(text: str) -> str:
    """The file name in what a tool calls its video: a path of any system, a URL with its query, Label Studio's ``?d=``.

    A folder keeps its trailing slash. Nothing of a query is left but a path.
    """
    if re.match(r"(?!s3:|file:)\w+://|/", text):
        parts = urlsplit(text)
        inner = parse_qs(parts.query).get("d")
        text = inner[0] if inner else unquote(parts.path)
    elif text.startswith("file://"):
        text = unquote(text)
    path = PurePosixPath(text.replace("\\", "/"))
    return path.name + ("/" if text.endswith("/") else "")


class _Videos:
    """Videos and folders of images below a store."""

    def __init__(self, store: Store) -> None:
        self._places: dict[str, str] = {}
        """URI by key without suffix, with a trailing slash for a folder."""
        self._folded: dict[str, set[str]] = defaultdict(set)
        """The same by names as people compare them."""
        self._named: dict[str, set[str]] = defaultdict(set)
        """URI by stem."""
        pictures: dict[str, int] = defaultdict(int)
        for key in files_in(store):
            path = PurePosixPath(key)
            if path.suffix.lower() in VIDEO_SUFFIXES:
                self._add(str(path.with_suffix("")), store.uri_of(key))
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                pictures[str(path.parent)] += 1
        for folder, count in pictures.items():
            if count > 1:  # one picture is a cover or a chart
                uri = f"{store.uri if folder == '.' else store.uri_of(folder)}/"
                self._add(f"{folder}/", uri)
                if PurePosixPath(folder).suffix.lower() in VIDEO_SUFFIXES:  # frames in a folder named as the video
                    self._add(f"{PurePosixPath(folder).with_suffix('')}/", uri)

    def _add(self, place: str, uri: str) -> None:
        self._places.setdefault(place, uri)
        self._folded[folded(place)].add(uri)
        self._named[folded(PurePosixPath(place).name)].add(uri)

    def at(self, places: tuple[str, ...]) -> str | None:
        """The video at the first place that has one."""
        for place in places:
            if uri := self._places.get(place) or _single(self._folded.get(folded(place), set())):
                return uri
        return None

    def near(self, key: str, places: tuple[str, ...]) -> str | None:
        """The only video of this name in a folder that lies beside the one of ``key``."""
        stem, around = PurePosixPath(places[0]).name, str(PurePosixPath(key).parent.parent)
        if not key or not stem or "/" not in key:
            return None
        beside = {
            uri for place, uri in self._places.items()
            if folded(PurePosixPath(place).name) == folded(stem) and str(PurePosixPath(place).parent.parent) == around
        }  # fmt: skip
        return _single(beside)

    def named(self, names: Iterable[str]) -> str | None:
        """The only video of a file name: as it is, without what Label Studio puts before it, or as that cleans names.

        Uploads get eight hex digits before their name, which loses all but letters, digits and ``_-.``.
        """
        for name in names:
            stem = re.sub(r"\.\w+$", "", name.rstrip("/"))
            for each in (stem, re.sub(r"^[0-9a-f]{8}-", "", stem)):
                cleaned = [uris for other, uris in self._named.items() if _cleaned(other) == folded(each)]
                if uri := self.only(each, folder=name.endswith("/")) or _single(set().union(*cleaned)):
                    return uri
        return None

    def only(self, stem: str, *, folder: bool = False) -> str | None:
        """The video of this name, if it is the only one; between a file and a folder of frames it is the file."""
        uris = self._named.get(folded(stem), set())
        return _single(uris) or _single({uri for uri in uris if uri.endswith("/") == folder})

    def without(self, used: set[str]) -> list[str]:
        """Names of the other videos, as they are below the store."""
        known = {PurePosixPath(place).name for place, uri in self._places.items() if uri in used}
        rest = (place for place, uri in self._places.items() if uri not in used)
        return sorted({place for place in rest if PurePosixPath(place).name not in known})


def _cleaned(stem: str) -> str:
    return re.sub(r"[^-\w.]", "", stem.strip().replace(" ", "_"))


def _single(uris: set[str]) -> str | None:
    return next(iter(uris)) if len(uris) == 1 else None


# --- which files are labels -----------------------------------------------------------------------------------------


def recognise(store: Store, finder: VideoFinder) -> tuple[str, str] | None:
    """The layout whose label files lie in the store and begin as they should, and why; None if there is none.

    Of several the one that most files with a video beside them are of, then the one of most files.
    """
    keys = [key for key in files_in(store) if folded(key).endswith(_LABEL_SUFFIXES) and _is_label(key)]
    best, found = (0, 0), None
    data: dict[str, bytes] = {}
    for layout in LAYOUTS.values():
        mine = [key for key in keys if layout.is_label(folded(key))]
        step = max(1, len(mine) // _TRIED)
        tried = mine[::step]
        data |= {key: store.get(key) for key in tried if key not in data}
        fits = [key for key in tried if layout.begins(data[key])]
        placed = [key for key in fits if finder.at(layout.videos(PurePosixPath(layout.video_of(key))))]
        score = len(placed) * step, (len(fits) + any(map(layout.is_sure, map(folded, fits)))) * step
        if fits and score > best:
            best, found = score, (layout.name, f"{(placed or fits)[0]} has {layout.about}")
    return found


def nearest(store: Store) -> str:
    """A sentence: the format nearest to the label files in a store, and how they differ; empty if there are none."""
    for key in files_in(store):
        if folded(key).endswith((".csv", ".tsv")):
            return f"{key} {what_differs(store.get(key))}"
    for key in files_in(store):
        if folded(key).endswith(_LABEL_SUFFIXES) and _is_label(key):
            begins = store.get(key)[:60].decode("utf-8", errors="replace").split("\n")[0]
            return f"{key} begins with {begins!r}, which matches no known format"
    return ""


def _is_label(key: str) -> bool:
    name = PurePosixPath(key).name
    return name not in _OURS and not _FOR_PEOPLE.fullmatch(name)


def find_labels(store: Store, layout: Layout, finder: VideoFinder) -> list[LabelFile]:
    """The format's label files, ordered by key; corrected labels replace the ones they correct.

    A file that does not begin as the format does is none, unless it lies where only labels lie or beside its video.
    """
    keys = files_in(store)
    drops = {str(PurePosixPath(key).parent): key for key in keys if PurePosixPath(key).name == "drop_frame.json"}
    beside = {key for key in keys if PurePosixPath(key).name in layout.beside}
    groups: dict[str, list[str]] = defaultdict(list)
    for key in sorted(keys):
        if layout.is_label(folded(key)) and _is_label(key) and key not in beside:
            groups[layout.video_of(key)].append(key)
    found: dict[tuple[str, ...], LabelFile] = {}
    sure = [name for name, mine in groups.items() if _is_meant(store, layout, finder, name, mine)]
    for name in sure or groups:  # where none begins as it should, the reader says what is wrong
        mine, places = groups[name], layout.videos(PurePosixPath(name))
        item = LabelFile((*_in_order(mine), *_above(mine[0], beside)), places, _kept(store, mine[0], drops))
        # Labels and their corrections look for one video at the place that comes first.
        if item.places[:1] not in found or is_corrected(item.key):
            found[item.places[:1]] = item
    return sorted(found.values(), key=lambda item: item.key)


def _is_meant(store: Store, layout: Layout, finder: VideoFinder, name: str, keys: list[str]) -> bool:
    if layout.is_sure(folded(keys[0])) or finder.at(layout.videos(PurePosixPath(name))) is not None:
        return True
    return any(layout.begins(store.get(key)) for key in keys)


def _in_order(keys: list[str]) -> list[str]:
    """Files of frames in the order of the numbers in their names."""
    return keys if len(keys) == 1 else sorted(keys, key=lambda key: [int(n) for n in re.findall(r"\d+", key)[-1:]])


def _above(key: str, beside: set[str]) -> list[str]:
    """The nearest file that is read with a label file: in its folder or one above."""
    for folder in PurePosixPath(key).parents:
        if mine := sorted(each for each in beside if PurePosixPath(each).parent == folder):
            return mine[:1]
    return []


def unread(
    store: Store, layout: Layout, files: Iterable[LabelFile], used: Iterable[str], finder: VideoFinder
) -> list[str]:
    """Sentences about what a folder holds and nobody read: label files, and videos without labels."""
    read, placed = {key for file in files for key in file.keys}, {file.places[:1] for file in files}
    rest = []
    for key in files_in(store):
        path = PurePosixPath(key)
        corrected = layout.is_label(folded(key)) and layout.videos(path)[:1] in placed
        settings = path.suffix == ".xml" and str(path.with_suffix(".json")) in read  # of Label Studio's page
        is_one = folded(key).endswith(_LABEL_SUFFIXES) and _is_label(key)
        if is_one and key not in read and not corrected and not settings:
            rest.append(key)
    said = {"no labels of this format": rest, "videos without labels": finder.unlabelled(used)}
    return [f"not read, {what}: {_listed(names)}" for what, names in said.items() if names]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


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
