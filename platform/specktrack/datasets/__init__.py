"""Labelled video: public formats in, one row schema out, other tools' formats out again.

dataset.py       Dataset and DatasetCard on disk or in S3
formats.py       public formats of labels (cvat.py, label_studio.py: annotating tools, read and written)
label_files.py   where label files and their videos lie; importing.py joins them into rows
benchmarks.py    benchmarks of box tracking; box_importing.py makes datasets of them
exports.py       rows written in other formats (boxes.py: COCO, MOT, OTB, GOT-10k)
splits.py        training and test parts: the papers' splits, and honest ones by video or match
checks.py        what a dataset holds, and labels that cannot be right
synthetic.py     rendered truth (flight.py: physics and rallies; scenery.py: courts, crowds, people)
"""

from specktrack import telemetry
from specktrack.datasets.box_importing import BENCHMARKS, read_boxes_dataset
from specktrack.datasets.checks import check_dataset, dataset_stats
from specktrack.datasets.dataset import (
    CARD_NAME,
    Dataset,
    DatasetCard,
    DatasetVideo,
    make_dataset,
    read_dataset,
    save_dataset,
)
from specktrack.datasets.exports import EXPORTS, PLAIN, export_rows
from specktrack.datasets.formats import FORMATS
from specktrack.datasets.importing import read_layout
from specktrack.datasets.splits import SplitReport, split_dataset
from specktrack.errors import ConfigError
from specktrack.storage import local_path, open_store

__all__ = [
    "BENCHMARKS",
    "EXPORTS",
    "FORMATS",
    "PLAIN",
    "Dataset",
    "DatasetCard",
    "DatasetVideo",
    "SplitReport",
    "check_dataset",
    "dataset_stats",
    "export_rows",
    "import_dataset",
    "load_dataset",
    "make_dataset",
    "save_dataset",
    "split_dataset",
]

log = telemetry.get_logger()


def load_dataset(path_or_uri: str) -> Dataset:
    """Read a saved dataset, or import in memory a folder whose layout is recognised. ConfigError, LabelError."""
    store = open_store(str(path_or_uri))
    folder = local_path(store.uri)
    if folder is not None and not folder.is_dir():
        raise ConfigError("no such folder", str(path_or_uri), remedy="give a dataset, or a folder of labels and videos")
    return read_dataset(store) if store.exists(CARD_NAME) else read_layout("auto", store)


def import_dataset(
    layout: str,
    source: str,
    destination: str,
    *,
    labels_only_wh_px: tuple[int, int] | None = None,
    videos: str | None = None,
    split: str | None = None,
) -> DatasetCard:
    """Import labels of a public format (or ``auto``) and save them as a dataset that refers to their videos.

    ``videos`` is where the videos are, if they are not beside their labels. ``labels_only_wh_px`` gives the picture's
    size for labels whose videos are not there at all; such videos are marked in the card. ``split`` takes only
    that part of a box benchmark, by the list beside its labels. Raises LabelError naming every problem, ConfigError for
    an unknown format or split.
    """
    if layout in BENCHMARKS:
        dataset = read_boxes_dataset(str(source), split=split, labels_only_wh_px=labels_only_wh_px)
    elif split is not None:
        raise ConfigError("only box benchmarks have lists of a split", layout, remedy="import all, then `data split`")
    else:
        dataset = read_layout(layout, open_store(str(source)), labels_only_wh_px=labels_only_wh_px, videos=videos)
    card = save_dataset(dataset, open_store(str(destination)))
    log.info("dataset imported", source=card.source, format=card.format, videos=len(card.videos), rows=card.rows)
    return card
