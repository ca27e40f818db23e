"""The table of all formats: name, direction, precision, and what the format cannot hold.

``data import``, ``export``, their help and messages and docs/data.md list formats from here. A format has one name:
what ``export --to X`` writes, ``data import X`` reads, for every X that goes both ways. An import makes labels: scores
are left out, and provenance is labelled, or interpolated where the file tells.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from specktrack import telemetry
from specktrack.datasets.benchmarks import benchmark_of
from specktrack.datasets.box_importing import read_boxes_dataset
from specktrack.datasets.dataset import Dataset
from specktrack.datasets.exports import ALIASES, EXPORTS, PLAIN
from specktrack.datasets.huggingface import is_huggingface, read_huggingface
from specktrack.datasets.importing import ImportOptions, read_layout
from specktrack.datasets.label_files import VideoFinder, nearest, recognise
from specktrack.datasets.layouts import LAYOUTS
from specktrack.datasets.row_files import rows_at, rows_file_in
from specktrack.datasets.row_importing import labels_of_rows
from specktrack.errors import ConfigError, LabelError
from specktrack.storage import open_store

Read = Callable[[str, ImportOptions], Dataset]
"""Labels at a place, in memory."""


@dataclass(frozen=True)
class Format:
    """One format."""

    name: str
    files: str
    """Where its files lie and what is in them."""
    read: Read | None = field(default=None, repr=False)
    """How ``data import`` reads it; None for one that is only written."""
    precision_px: float = 0.0
    """Positions that are written and read again come back within it, in pictures up to 4096 px wide."""
    lost: tuple[str, ...] = ()
    """Members of LOSSES that it cannot hold."""

    @property
    def is_written(self) -> bool:
        """Whether ``export`` writes it."""
        return self.name in EXPORTS or self.name in PLAIN


LOSSES = {
    "objects": "all objects except object 0",
    "sizes": "sizes: boxes become points",
    "points": "points: they become boxes",
    "visibility": "visibility, except present or absent",
    "blurred": "blurred: it becomes clear",
    "times": "times: the video's are used",
    "scores": "scores",
    "kinds": "what the object is",
}
"""Kinds of information that a format may be unable to hold."""
_POINTS, _BOXES = ("sizes", "times", "scores", "kinds"), ("points", "visibility", "times", "scores", "kinds")


# --- what reads -----------------------------------------------------------------------------------------------------


def _layout(name: str) -> Read:
    return lambda place, options: read_layout(name, open_store(place), options)


def _benchmark(name: str) -> Read:
    def read(place: str, options: ImportOptions) -> Dataset:
        _refuse_unused(name, label=options.label, missing=options.missing)
        return read_boxes_dataset(name, place, options)

    return read


def _rows(kind: str) -> Read:
    def read(place: str, options: ImportOptions) -> Dataset:
        _refuse_unused(kind, label=options.label, missing=options.missing)
        place = rows_file_in(place, kind) or place
        rows = rows_at(place)
        if rows is None:
            raise ConfigError("no rows found", place, remedy="give an output of annotate, or a file of rows")
        return labels_of_rows(rows, place, options)

    return read


def _huggingface(place: str, options: ImportOptions) -> Dataset:
    _refuse_unused("huggingface", label=options.label, missing=options.missing)
    return labels_of_rows(read_huggingface(place), place, options)


def _refuse_unused(name: str, **options: str | None) -> None:
    if given := [key for key, text in options.items() if text is not None]:
        raise ConfigError(f"{name} does not take --{given[0]}", options[given[0]], remedy="leave it out")


FORMATS = {
    item.name: item
    for item in (
        Format(
            "tennis", "`game3/Clip2/Label.csv` beside its frames (TrackNetV1)", _layout("tennis"), 0.011,
            ("objects", *_POINTS),
        ),
        Format(
            "shuttlecock", "`match1/csv/*_ball.csv` and `video/` or `frame/` (TrackNetV2, V3), or NAME.csv beside "
            "NAME.mp4", _layout("shuttlecock"), 0.011, ("objects", "visibility", *_POINTS),
        ),
        Format("multiball", "NAME.csv with a column Object", _layout("multiball"), 0.011, _POINTS),
        Format(
            "volleyball", "`csvs/NAME.csv` and `images/NAME/` or `videos/`; fractions of width and height",
            _layout("volleyball"), 0.01, ("objects", "visibility", *_POINTS),
        ),
        Format(
            "badminton", "NAME.csv beside NAME.mp4; fractions of width and height", _layout("badminton"), 0.01,
            ("objects", "visibility", *_POINTS),
        ),
        Format("wasb-soccer", "`annos/ID-1.xml`, CVAT with used_in_game", _layout("wasb-soccer")),
        Format("wasb-basketball", "`ball-annos/GAME/*_CLIP.xml`, CVAT", _layout("wasb-basketball")),
        Format(
            "wasb-volleyball", "`MATCH/CLIP.txt`, x y in line i for frame i", _layout("wasb-volleyball"), 0.011,
            ("objects", "visibility", *_POINTS),
        ),
        Format(
            "cvat", "CVAT 1.1 XML, for video (any shape, skeletons, projects); reads that for images too",
            _layout("cvat"), 0.002, ("blurred", "times", "scores"),
        ),
        Format(
            "cvat-images", "CVAT 1.1 XML for images: an image for each frame", _layout("cvat"), 0.002,
            ("blurred", "times", "scores"),
        ),
        Format(
            "label-studio", "Label Studio's JSON of videos, whole or JSON_MIN", _layout("label-studio"), 0.002,
            ("visibility", "times", "scores", "kinds"),
        ),
        Format("coco", "one JSON of images, annotations and categories", _layout("coco"), 0.002, ("times", "scores")),
        Format(
            "fiftyone", "`manifest.json` and `labels/NAME.json`: FiftyOneVideoLabelsDataset", _layout("fiftyone"),
            0.002, ("times", "scores"),
        ),
        Format(
            "mot", "`SEQ/gt/gt.txt` or NAME.txt of frame,id,left,top,width,height,conf,...", _layout("mot"), 0.002,
            _BOXES,
        ),
        Format(
            "yolo", "`labels/NAME/000012.txt` of class x y width height, and `data.yaml`", _layout("yolo"), 0.002,
            _BOXES,
        ),
        Format(
            "otb", "`SEQ/groundtruth_rect.txt` and `img/`; results SEQ.txt", _benchmark("otb"), 0.001,
            ("objects", *_BOXES),
        ),
        Format(
            "lasot", "`SEQ/groundtruth.txt`, `img/` and flags of absence; results SEQ.txt", _benchmark("lasot"), 0.001,
            ("objects", *_BOXES),
        ),
        Format(
            "got10k", "`SEQ/groundtruth.txt` beside its pictures, `absence.label`; results `SEQ/SEQ_001.txt`",
            _benchmark("got10k"), 0.001, ("objects", *_BOXES),
        ),
        Format(
            "latot", "`SEQ/SEQ.txt` and `img/`; results SEQ.txt", _benchmark("latot"), 0.001, ("objects", *_BOXES)
        ),
        Format("trackingnet", "`anno/SEQ.txt` and `frames/SEQ/`", _benchmark("trackingnet")),
        Format("uav", "`anno/UAV123/SEQ.txt`, `data_seq/`, `configSeqs.m`", _benchmark("uav")),
        Format("csv", "rows.csv: all row columns", _rows("csv"), 0.001),
        Format("jsonl", "rows.jsonl: all row columns", _rows("jsonl"), 0.001),
        Format("parquet", "rows.parquet: all row columns", _rows("parquet")),
        Format("huggingface", "`README.md` and `data/*.parquet`: all row columns, for `datasets`", _huggingface),
        Format("rows", "an output of annotate, or a file of rows that a person has checked", _rows("rows")),
    )
}  # fmt: skip
"""All formats, by name."""


BENCHMARKS = ("otb", "lasot", "got10k", "latot", "trackingnet", "uav")
"""Benchmarks of boxes, which have lists of splits."""


def readable() -> list[str]:
    """Names that ``data import`` takes."""
    return ["auto", *(name for name, item in FORMATS.items() if item.read is not None), *ALIASES]


def writable() -> list[str]:
    """Names that ``export --to`` takes."""
    return [*(name for name, item in FORMATS.items() if item.is_written), *ALIASES]


def read_labels(name: str, place: str, options: ImportOptions) -> Dataset:
    """Labels of a format, or of the one that is recognised (``auto``). ConfigError, LabelError."""
    if name == "auto":
        name = recognised(place, options)
    found = FORMATS.get(ALIASES.get(name, name))
    if found is None or found.read is None:
        raise ConfigError("no such label format", name, remedy=f"one of {', '.join(readable())}")
    if options.split is not None and name not in BENCHMARKS:
        raise ConfigError("only box benchmarks have split lists", name, remedy="import all, then `data split`")
    return found.read(place, options)


def recognised(place: str, options: ImportOptions) -> str:
    """The name of the format that the labels at a place are in, which the log tells with the reason.

    LabelError names the format that they are nearest to and what differs.
    """
    store = open_store(place)
    finder = VideoFinder(store, open_store(options.videos) if options.videos is not None else None)
    found = recognise(store, finder) or benchmark_of(store)
    if found is None and (kind := next((kind for kind in PLAIN if rows_file_in(place, kind)), None)):
        found = kind, f"rows.{kind} holds rows"
    if found is None and is_huggingface(store):
        found = "huggingface", "README.md is beside data/*.parquet"
    if found is None:
        differs = nearest(store)
        what = "no dataset.json and no label files of a known format" + (f"; {differs}" if differs else "")
        known = "; ".join(f"{item.name}: {item.about}" for item in LAYOUTS.values())
        raise LabelError(what, place=store.uri, remedy=f"known are {known}")
    name, because = found
    telemetry.get_logger().info("format of labels", format=name, because=because)
    return name
