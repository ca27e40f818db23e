"""Public benchmarks of box tracking, read where they lie: OTB, LaSOT, GOT-10k, TrackingNet, LaTOT, DTB70, UAV123.

    otb          <seq>/groundtruth_rect.txt (.1.txt, .2.txt: one per target), <seq>/img/, attrs.txt   also DTB70
    lasot        [<class>/]<seq>/groundtruth.txt, img/, full_occlusion.txt, out_of_view.txt
    got10k       <seq>/groundtruth.txt, images beside it, absence.label, cover.label, meta_info.ini
    trackingnet  [TRAIN_0/]anno/<seq>.txt, frames/<seq>/
    uav          anno/UAV123/<seq>.txt, data_seq/UAV123/<folder>/, configSeqs.m (which pictures are a sequence's)
    latot        <seq>/<seq>.txt, <seq>/img/          as LaTOT's videos come
    annos        annos/<seq>.txt, annos/attr/<seq>.txt  as its evaluation toolkit has them
    flat         <seq>.txt, absent/<seq>.txt, att/<seq>.txt  as LaSOT's toolkit has them, and results of trackers
    got10k results  <seq>/<seq>_001.txt
    json         one file for all sequences: gt_rect, img_names or image_files, attr, absent

Boxes are x, y, w, h with x, y the left top pixel, numbers separated by commas, tabs, spaces or semicolons. They are
kept as they are written, since results are written alike; OTB counts pixels from 1, which rows and prompts, counting
from 0, take back.
"""

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic_core import from_json

from specktrack.errors import ConfigError, LabelError
from specktrack.frames import Trajectory
from specktrack.schema import Provenance
from specktrack.storage import Store, local_path, open_store, to_uri

LATOT_ATTRIBUTES = ("SV", "FM", "OV", "IV", "CM", "MB", "BC", "SO", "PO", "FO", "AM", "LI")
"""Columns of LaTOT's attribute files: the order of the paper's table II."""
LASOT_ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
"""Columns of the attribute files of LaSOT's toolkit."""
_NUMBER = r"(?:-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan)"
_SUFFIXES = (".txt", ".label", ".ini", "configSeqs.m")
_LIST = re.compile(r"(?:.*/)?(?:(?:[A-Za-z]+_)?(?P<split>train|test)(?:_sequences|ing_set)?|list|readme)\.txt", re.I)
"""Files of names, or for people: not labels."""


@dataclass(frozen=True)
class BoxSequence:
    """One labelled sequence of a benchmark; its pictures are found when they are needed."""

    name: str
    label_xywh: np.ndarray
    """float64 [N, 4]: left, top, width, height in source px, as written; NaN or no size if there is no label."""
    absent: np.ndarray
    """bool [N]: the label says that the target cannot be seen."""
    attributes: tuple[str, ...] | None = None
    """The challenges it was labelled with; None where the benchmark does not say."""
    frames_uri: str = ""
    """The folder of its pictures, with a trailing slash; it need not be there."""
    first_picture: str = ""
    """The picture that the first label belongs to; the folder's first if empty."""
    wh_px: tuple[int, int] | None = None
    """Size of the pictures, where the benchmark says so."""
    origin_px: int = 0
    """The number of the picture's first pixel."""

    @property
    def labelled(self) -> np.ndarray:
        """bool [N]: there is a box of positive size, and the target can be seen."""
        boxes = self.label_xywh
        return np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1) & ~self.absent

    def to_rows(self, *, fps: float = 30.0) -> pa.Table:
        """In the row schema: centres x + (w - 1) / 2 (from 0) and sizes, null where absent. Pictures carry no time."""
        seen, n = self.labelled, len(self.label_xywh)
        boxes = np.where(seen[:, None], self.label_xywh, np.nan)
        track = Trajectory(
            frame=np.arange(n),
            pts_s=np.arange(n) / fps,
            xy_px=(boxes[:, :2] - self.origin_px + (boxes[:, 2:] - 1) / 2).astype(np.float32),
            score=np.full(n, np.nan, np.float32),
            provenance=np.full(n, Provenance.LABELLED.value, object),
            wh_px=boxes[:, 2:].astype(np.float32),
        )
        return track.to_rows(self.frames_uri or to_uri(self.name))


@dataclass(frozen=True)
class Benchmark:
    """The sequences below one folder or in one JSON file."""

    name: str
    layout: str
    sequences: tuple[BoxSequence, ...]
    splits: Mapping[str, tuple[str, ...]]
    """Names of sequences by split (``test``, ``train``), from lists that lie beside the labels."""

    def split(self, name: str, place: str) -> "Benchmark":
        """Only the sequences of a split; ConfigError if no list of it lies there, or a sequence of it is missing."""
        if name not in self.splits:
            wanted = f"put the list of names beside the labels as dataset-split/{name}.txt"
            raise ConfigError("the list of that split is missing", name, place, wanted)
        known = {sequence.name: sequence for sequence in self.sequences}
        if missing := [item for item in self.splits[name] if item not in known]:
            what = f"{len(missing)} of the {len(self.splits[name])} sequences of the {name} split are missing"
            raise ConfigError(what, missing[0], place, "complete the labels, or use a protocol without a split")
        return replace(self, sequences=tuple(known[item] for item in self.splits[name]))


def read_benchmark(place: str) -> Benchmark:
    """The benchmark in a folder or a JSON file. ConfigError if there is none, LabelError for labels not to be read."""
    uri = to_uri(place)
    name = PurePosixPath(uri.rstrip("/")).stem
    if uri.endswith(".json"):
        folder, _, key = uri.rpartition("/")
        return _ordered(name, "json", _read_json(open_store(folder), key), {}, place)
    path = local_path(uri)
    if path is not None and not path.is_dir():
        raise ConfigError("no such folder", place, remedy="give the benchmark's folder or its JSON file")
    store = open_store(uri)
    found = sorted(_label_keys(store))
    keys = [key for key in found if not _LIST.fullmatch(key)]
    layout = next((name for name, (pattern, _) in _LAYOUTS.items() if any(map(pattern.fullmatch, keys))), None)
    if layout is None:
        known = ", ".join(_LAYOUTS)
        raise ConfigError("no labels of a tracking benchmark", place, remedy=f"known layouts are {known}, json")
    pattern, read = _LAYOUTS[layout]
    labels = _Folder(store, frozenset(found))
    sequences = [read(labels, match) for key in keys if (match := pattern.fullmatch(key))]
    return _ordered(name, layout, sequences, _splits(labels), place)


def benchmark_of(store: Store) -> tuple[str, str] | None:
    """The benchmark whose labels lie in a store, by the name of its format, and the file that tells; None without."""
    found = frozenset(_label_keys(store))
    for layout, (pattern, _) in _LAYOUTS.items():
        key = next((key for key in sorted(found) if pattern.fullmatch(key) and not _LIST.fullmatch(key)), None)
        if key is None:
            continue
        first = store.get(key)[:400].decode("utf-8", errors="replace").split("\n")[0]
        if not re.fullmatch(rf"\s*{_NUMBER}(?:[\s,;]+{_NUMBER}){{3}}\s*", first, re.IGNORECASE):
            continue
        folder = key.rpartition("/")[0]
        of_got10k = {f"{folder}/{name}" for name in ("absence.label", "cover.label", "meta_info.ini")} & found
        names = {"lasot or got10k": "got10k" if of_got10k else "lasot", "annos": "latot", "flat": "lasot"}
        return names.get(layout, layout.partition(" ")[0]), key
    return None


def read_boxes(data: bytes, place: str, *, columns: Sequence[int] = (4,)) -> np.ndarray:
    """float64 [N, columns] from a text of one box per line; LabelError names the line that is none."""
    text = re.sub(rb"[,;\t]", b" ", data.removeprefix(b"\xef\xbb\xbf"))
    if not text.strip():
        return np.zeros((0, columns[0]))
    try:
        boxes = np.loadtxt(io.BytesIO(text), ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise LabelError(f"not a list of boxes: {str(error).split(';')[0]}", place=place) from None
    if boxes.shape[1] not in columns:
        what = f"a box has {' or '.join(map(str, columns))} numbers per line, these have"
        raise LabelError(what, boxes.shape[1], place, "write x, y, w, h")
    return boxes


@dataclass(frozen=True)
class _Folder:
    store: Store
    keys: frozenset[str]

    @property
    def settings(self) -> list[str]:
        return sorted(key for key in self.keys if key.endswith("configSeqs.m"))

    def boxes(self, key: str) -> np.ndarray:
        return read_boxes(self.store.get(key), self.store.uri_of(key))

    def text(self, *keys: str) -> str | None:
        """The first of the files that is there."""
        found = next((key for key in keys if key in self.keys), None)
        return None if found is None else self.store.get(found).decode("utf-8-sig", errors="replace")

    def flags(self, n: int, *keys: str) -> np.ndarray:
        """bool [n] from the first file of zeros and ones that is there; all False without one."""
        text = self.text(*keys)
        if text is None:
            return np.zeros(n, bool)
        flags = np.array([float(word) != 0 for word in re.findall(r"\d+(?:\.\d+)?", text)])
        if len(flags) != n:
            raise LabelError(f"{len(flags)} flags for {n} boxes", place=self.store.uri_of(next(iter(keys))))
        return flags

    def attributes(self, columns: Sequence[str], *keys: str) -> tuple[str, ...] | None:
        """From a line of names, or of one zero or one for each of ``columns``."""
        text = self.text(*keys)
        if text is None:
            return None
        words = re.findall(r"[\w/-]+", text)
        if not all(word in ("0", "1") for word in words):
            return tuple(words)
        if len(columns) != len(words):
            what = f"{len(words)} attributes where {len(columns)} are known"
            raise LabelError(what, place=self.store.uri_of(next(key for key in keys if key in self.keys)))
        return tuple(name for name, word in zip(columns, words, strict=True) if word == "1")

    def sequence(
        self, name: str, boxes: np.ndarray, frames: str, absent: np.ndarray | None = None, **more: Any
    ) -> BoxSequence:
        absent = np.zeros(len(boxes), bool) if absent is None else absent
        return BoxSequence(name, boxes, absent, frames_uri=self.store.uri_of(frames) + "/", **more)


_FIRST_PICTURES = {"David": "0300.jpg"}
"""Sequences of OTB whose labels begin after their first picture."""


def _otb(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    base, name = match["path"], match["name"]
    label = f"{name}.{match['target']}" if match["target"] else name
    attributes = folder.attributes((), f"{base}/attrs.txt")
    sequence = folder.sequence(label, folder.boxes(match[0]), f"{base}/img", attributes=attributes)
    return replace(sequence, first_picture=_FIRST_PICTURES.get(name, ""), origin_px=1)


def _lasot(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    base, boxes = match["path"], folder.boxes(match[0])
    if {f"{base}/{name}" for name in ("absence.label", "cover.label", "meta_info.ini")} & folder.keys:
        return _got10k(folder, match)
    n = len(boxes)
    absent = folder.flags(n, f"{base}/full_occlusion.txt") | folder.flags(n, f"{base}/out_of_view.txt")
    return folder.sequence(match["name"], boxes, f"{base}/img", absent)


def _got10k(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    base, boxes = match["path"], folder.boxes(match[0])
    absent = folder.flags(len(boxes), f"{base}/absence.label")
    if f"{base}/cover.label" in folder.keys:  # eighths of the target that can be seen
        absent |= ~folder.flags(len(boxes), f"{base}/cover.label")
    return folder.sequence(match["name"], boxes, base, absent, wh_px=_resolution(folder, base))


def _resolution(folder: _Folder, base: str) -> tuple[int, int] | None:
    """From ``resolution = (1920, 1080)`` in GOT-10k's meta_info.ini."""
    found = re.search(r"^resolution\D+(\d{1,6})\D+(\d{1,6})", folder.text(f"{base}/meta_info.ini") or "", re.M)
    return (int(found[1]), int(found[2])) if found else None


def _trackingnet(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    return folder.sequence(match["name"], folder.boxes(match[0]), f"{match['path']}frames/{match['name']}")


def _uav(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    pictures, first = match["name"], ""
    line = re.search(rf"'name','{re.escape(match['name'])}',[^)]*", folder.text(*folder.settings) or "")
    if line:  # struct('name','bird1_2','path','..\\UAV123\\bird1\\','startFrame',775,'endFrame',1477,'nz',6,'ext','jpg'
        of = dict(re.findall(r"'(path|startFrame|nz|ext)',\s*'?([^',]+)", line[0]))
        number = re.fullmatch(r"(\d{1,9}) (\d)", f"{of.get('startFrame')} {of.get('nz')}")
        if number is None or not {"path", "ext"} <= of.keys():
            what = "a sequence needs path, startFrame, nz and ext"
            raise LabelError(what, match["name"], folder.store.uri_of(folder.settings[0]))
        pictures = re.split(r"[\\/]", of["path"].rstrip("\\/"))[-1]
        first = f"{int(number[1]):0{number[2]}d}.{of['ext']}"
    return folder.sequence(match["name"], folder.boxes(match[0]), f"data_seq/UAV123/{pictures}", first_picture=first)


def _latot(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    name, boxes = match["name"], folder.boxes(match[0])
    attributes = folder.attributes(LATOT_ATTRIBUTES, f"annos/attr/{name}.txt", f"attr/{name}.txt")
    pictures = f"{match['path']}/img" if match.re.groupindex.keys() >= {"path"} else f"{name}/img"
    return folder.sequence(name, boxes, pictures, attributes=attributes)


def _flat(folder: _Folder, match: re.Match[str]) -> BoxSequence:
    name, boxes = match["name"], folder.boxes(match[0])
    absent = folder.flags(len(boxes), f"absent/{name}.txt")
    attributes = folder.attributes(LASOT_ATTRIBUTES, f"att/{name}.txt")
    return folder.sequence(name, boxes, f"{name}/img", absent, attributes=attributes)


_Reader = Callable[[_Folder, re.Match[str]], BoxSequence]
_DEEP = r"(?P<path>(?:.+/)?(?P<name>[^/]+))"
_LAYOUTS: Mapping[str, tuple[re.Pattern[str], _Reader]] = {
    "otb": (re.compile(rf"{_DEEP}/groundtruth_rect(?:\.(?P<target>\d+))?\.txt"), _otb),
    "lasot or got10k": (re.compile(rf"{_DEEP}/groundtruth\.txt"), _lasot),
    "uav": (re.compile(r"anno/UAV123/(?P<name>[^/]+)\.txt"), _uav),
    "trackingnet": (re.compile(r"(?P<path>(?:[^/]+/)?)anno/(?P<name>[^/]+)\.txt"), _trackingnet),
    "latot": (re.compile(r"(?P<path>(?:.+/)?(?P<name>[^/]+))/(?P=name)\.txt"), _latot),
    "annos": (re.compile(r"annos/(?P<name>[^/]+)\.txt"), _latot),
    "flat": (re.compile(r"(?P<name>[^/]+)\.txt"), _flat),
    "got10k results": (re.compile(rf"{_DEEP}/(?P=name)_001\.txt"), _got10k),
}
"""Where the labels of a layout lie, most telling first, and what reads one of them."""


def _label_keys(store: Store) -> Iterator[str]:
    """Keys of what may be labels; folders of pictures only are not looked into where that can be avoided."""
    path = local_path(store.uri)
    if path is None:
        yield from (info.key for info in store.list() if info.key.endswith(_SUFFIXES))
        return
    for folder, below, names in os.walk(path):
        passed_over = ("img", "frames", "data_seq", "__MACOSX")
        below[:] = [name for name in below if name not in passed_over and not name.startswith(".")]
        mine = [name for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")]
        yield from ((Path(folder).relative_to(path) / name).as_posix() for name in mine)


def _splits(folder: _Folder) -> dict[str, tuple[str, ...]]:
    """Lists of names: ``dataset-split/test.txt``, ``test_sequences.txt``, ``LaTOT_test.txt``."""
    lists = {
        match["split"].lower(): key for key in sorted(folder.keys) if (match := _LIST.fullmatch(key)) and match["split"]
    }
    return {
        split: tuple(line.removesuffix(".txt") for line in (folder.text(key) or "").split())
        for split, key in lists.items()
    }


def _read_json(store: Store, key: str) -> list[BoxSequence]:
    place = store.uri_of(key)
    try:
        content = from_json(store.get(key))
        return [_of_json(name, entry, store) for name, entry in content.items()]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"not a benchmark's JSON file: {type(error).__name__}: {error}"
        raise LabelError(
            what, place=place, remedy="each sequence needs gt_rect, and img_names or image_files"
        ) from None


def _of_json(name: str, entry: Mapping[str, Any], store: Store) -> BoxSequence:
    boxes = np.array([box if len(box) == 4 else [np.nan] * 4 for box in entry["gt_rect"]], float).reshape(-1, 4)
    pictures = entry.get("img_names") or entry.get("image_files") or []
    folder, _, first = str(pictures[0]).rpartition("/") if pictures else ("", "", "")
    uri = to_uri(folder) if folder.startswith("/") else f"{store.uri}/{folder}"
    # LaSOT's file says 1 where the target is there.
    present = np.array(entry.get("absent", []), float)
    absent = present == 0 if len(present) == len(boxes) else np.zeros(len(boxes), bool)
    attributes = tuple(map(str, entry["attr"])) if "attr" in entry else None
    return BoxSequence(name, boxes, absent, attributes, f"{uri}/" if folder else "", first)


def _ordered(
    name: str, layout: str, sequences: Sequence[BoxSequence], splits: Mapping[str, tuple[str, ...]], place: str
) -> Benchmark:
    """In order of names; LabelError if a name is there twice, or a sequence has no box."""
    kept = sorted(sequences, key=lambda item: item.name)
    for before, after in pairwise(kept):
        if before.name == after.name:
            raise LabelError("two sequences with the same name", after.name, place, "give the folder of one benchmark")
    for item in kept:
        if not len(item.label_xywh):
            raise LabelError("a sequence without a box", item.name, place)
    return Benchmark(name, layout, tuple(kept), splits)
