"""Predictions of box trackers: their text files, rows, or a model that is run from the first box of each sequence."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from specktrack.datasets.benchmarks import BoxSequence, read_boxes
from specktrack.datasets.rows import read_rows
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import Box, Clip, Prompt
from specktrack.storage import frame_names, open_store, stat, to_uri
from specktrack.video import probe, read_clip

if TYPE_CHECKING:
    from specktrack.tracking.tracker import Tracker

_NOT_BOXES = re.compile(r"_(?:time|times|confidence|object_presence_scores|score|scores)$")
"""Other files that toolkits write beside a sequence's boxes."""
_ROW_FILES = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class Results:
    """The predictions of one tracker, by name of the sequence."""

    tracker: str
    files: Mapping[str, tuple[str, str]]
    """Store and key of a text file."""
    boxes: Mapping[str, np.ndarray]
    """Boxes that are there already, float64 [N, 4]."""

    def read(self, sequence: str) -> np.ndarray | None:
        """float64 [N, 4]; None if there is nothing for the sequence. LabelError for a text that holds no boxes."""
        if sequence in self.boxes:
            return self.boxes[sequence]
        if sequence not in self.files:
            return None
        store_uri, key = self.files[sequence]
        store = open_store(store_uri)
        boxes = read_boxes(store.get(key), store.uri_of(key), columns=(4, 2))
        return boxes if boxes.shape[1] == 4 else np.hstack([boxes, np.ones_like(boxes)])  # points: boxes of one pixel


def find_results(place: str, sequences: Sequence[BoxSequence]) -> list[Results]:
    """The trackers whose results lie at ``place``, by name: folders of one text file per sequence, or rows.

    A folder with text files is a tracker; so are pytracking's ``<tracker>/<settings>/<seq>.txt`` and GOT-10k's
    ``<tracker>/<seq>/<seq>_001.txt``. ConfigError if nothing there belongs to a sequence.
    """
    names = {_plain(sequence.name): sequence for sequence in sequences}
    uri = to_uri(place)
    if uri.endswith(_ROW_FILES) or open_store(uri).exists("_SUCCESS"):
        return [_from_rows(place, names)]
    found: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    store, first = open_store(uri), None
    for info in store.list():
        path = PurePosixPath(info.key)
        first = first or info.key
        if path.suffix != ".txt" or _NOT_BOXES.search(path.stem):
            continue
        run_of_got10k = re.fullmatch(rf"{re.escape(path.parent.name)}_\d{{3}}", path.stem)
        name, folder = (path.parent.name, path.parent.parent) if run_of_got10k else (path.stem, path.parent)
        if sequence := names.get(_plain(name)):
            found[str(folder)].setdefault(sequence.name, (store.uri, info.key))
    if not found:
        remedy = f"write one text file per sequence: {sequences[0].name}.txt"
        raise ConfigError("no results for any sequence of the benchmark", first, place, remedy)
    root = PurePosixPath(uri).name
    return [
        Results((root if folder == "." else folder).removesuffix("_tracking_result"), files, {})
        for folder, files in sorted(found.items())
    ]


def run_sequence(tracker: "Tracker", sequence: BoxSequence) -> np.ndarray:
    """Follow a sequence's target from its first box; boxes float64 [N, 4], NaN where it is lost.

    ConfigError if the pictures are not there, or fewer than the boxes.
    """
    ref = stat(sequence.frames_uri)
    pictures, n = frame_names(ref.uri), len(sequence.label_xywh)
    offset = pictures.index(sequence.first_picture) if sequence.first_picture in pictures else 0
    if len(pictures) < offset + n:
        what = f"{n} boxes from picture {offset} on, and {len(pictures)} pictures"
        raise ConfigError(what, sequence.name, ref.uri, "complete the pictures")
    first = int(sequence.labelled.argmax())
    x, y, w, h = sequence.label_xywh[first] - [sequence.origin_px, sequence.origin_px, 0, 0]
    box = Box(cx_px=x + (w - 1) / 2, cy_px=y + (h - 1) / 2, w_px=w, h_px=h)
    info = probe(ref)
    clip = Clip(video=ref, start=offset + first, stop=offset + n, prompts=(Prompt(frame=offset + first, box=box),))
    session = tracker.open(clip.prompts)
    with read_clip(clip, info=info, viewport=tracker.viewport(info.size_wh_px)) as reader:
        parts = [session.push(batch) for batch in reader]
    return boxes_of([*parts, session.finish()], n, offset=offset, origin_px=sequence.origin_px)


def boxes_of(parts: Sequence[Trajectory], n: int, *, offset: int = 0, origin_px: int = 0) -> np.ndarray:
    """float64 [n, 4] of frames offset .. offset + n; NaN where absent, one pixel large where only a point is known."""
    boxes = np.full((n, 4), np.nan)
    for part in parts:
        inside = (part.frame >= offset) & (part.frame < offset + n)
        size = np.where(np.isnan(part.wh_px), 1.0, part.wh_px)[inside]
        boxes[part.frame[inside] - offset] = np.hstack([part.xy_px[inside] - (size - 1) / 2 + origin_px, size])
    boxes[np.isnan(boxes).any(axis=1)] = np.nan
    return boxes


def as_text(boxes_xywh: np.ndarray) -> bytes:
    """One ``x,y,w,h`` per line, as floats: whole numbers would cost a perfect tracker half its score at 4 px.

    A frame without a box is four zeros: to every toolkit a box of no size is none, while pytracking's stops at NaN.
    """
    return "".join(",".join(f"{value:.4f}" for value in box) + "\n" for box in np.nan_to_num(boxes_xywh)).encode()


def _from_rows(place: str, names: Mapping[str, BoxSequence]) -> Results:
    rows = read_rows(place)
    boxes = {}
    for uri in rows["video"].unique().to_pylist():
        parts = PurePosixPath(uri.rstrip("/")).parts
        name = parts[-2] if parts[-1] == "img" and len(parts) > 1 else PurePosixPath(parts[-1]).stem
        if sequence := names.get(_plain(name)) or names.get(_plain(parts[-1])):
            track = Trajectory.from_rows(rows.filter(pc.equal(rows["video"], uri)))
            boxes[sequence.name] = boxes_of([track], int(track.frame.max()) + 1, origin_px=sequence.origin_px)
    if not boxes:
        raise ConfigError("no rows of any sequence of the benchmark", next(iter(names.values())).name, place)
    return Results(PurePosixPath(to_uri(place).rstrip("/")).stem, {}, boxes)


def _plain(name: str) -> str:
    """Toolkits write the second target of Jogging as Jogging.2, Jogging-2 and Jogging_2."""
    return re.sub(r"[._ -]+", "-", name).lower()
