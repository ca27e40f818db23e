"""Labelled video: import of public formats to one row schema, and export to the formats of other tools.

formats.py       the one table of formats
dataset.py       Dataset and DatasetCard on disk or in S3
layouts.py       labels in files beside their videos: csv_labels.py, cvat.py, label_studio.py, coco.py, mot.py, yolo.py,
                 fiftyone.py
huggingface.py   rows as a folder that Hugging Face's datasets loads
label_files.py   where label files and their videos lie; objects.py: which of their tracks is the ball
importing.py     label files and videos joined into rows
benchmarks.py    benchmarks of box tracking; box_importing.py makes datasets of them
rows.py          rows from wherever a person has them
exports.py       rows written in other formats (boxes.py: OTB, GOT-10k, LaSOT, LaTOT)
splits.py        training and test parts: the papers' splits, and honest ones by video or match
checks.py        what a dataset holds, and labels that cannot be right
synthetic.py     rendered truth (flight.py: physics and rallies; scenery.py: courts, crowds, people)
"""

from specktrack import telemetry
from specktrack.datasets.checks import check_dataset, dataset_stats
from specktrack.datasets.dataset import (
    CARD_NAME,
    Dataset,
    DatasetCard,
    DatasetVideo,
    all_of,
    make_dataset,
    read_dataset,
    save_dataset,
)
from specktrack.datasets.exports import EXPORTS, PLAIN, export_rows
from specktrack.datasets.formats import FORMATS, read_labels
from specktrack.datasets.importing import ImportOptions, Missing
from specktrack.datasets.splits import SplitReport, split_dataset
from specktrack.errors import ConfigError
from specktrack.storage import local_path, open_store

__all__ = [
    "EXPORTS",
    "FORMATS",
    "PLAIN",
    "Dataset",
    "DatasetCard",
    "DatasetVideo",
    "Missing",
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


def load_dataset(path_or_uri: str, *, stream: int | None = None) -> Dataset:
    """Read a saved dataset, or import in memory a folder whose layout is recognised. ConfigError, LabelError.

    ``stream`` is the one that was labelled in videos of several; a saved dataset knows it already.
    """
    store = open_store(str(path_or_uri))
    folder = local_path(store.uri)
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            "no such folder", str(path_or_uri), remedy="give a dataset, or a folder with labels and videos"
        )
    if not store.exists(CARD_NAME):
        return read_labels("auto", store.uri, ImportOptions(stream=stream))
    if stream is not None:
        raise ConfigError(
            "the dataset's card already names the streams", stream, store.uri, "give --stream to `data import`"
        )
    return read_dataset(store)


def import_dataset(
    layout: str,
    source: str,
    destination: str,
    *,
    labels_only_wh_px: tuple[int, int] | None = None,
    videos: str | None = None,
    split: str | None = None,
    label: str | None = None,
    missing: Missing | None = None,
    stream: int | None = None,
    kind: str | None = None,
) -> DatasetCard:
    """Import labels of a format (or ``auto``) and save them as a dataset that refers to their videos.

    ``videos`` is where the videos are, if they are not beside their labels. ``labels_only_wh_px`` gives the picture's
    size for labels whose videos are not there at all; such videos are marked in the card. ``split`` takes only
    that part of a box benchmark, by the list beside its labels. ``label`` is the name of the ball in a file of several
    labels, ``missing`` what frames without a label are, where a file should have one for each, and ``stream`` the
    one that was labelled in videos of several. ``kind`` says what every labelled object is. Raises LabelError naming
    every problem, ConfigError for an unknown format or split.
    """
    options = ImportOptions(videos, labels_only_wh_px, label, missing, split, stream)
    dataset = read_labels(layout, source, options)
    if kind is not None:
        dataset = all_of(kind, dataset)
    card = save_dataset(dataset, open_store(destination))
    log.info("dataset imported", source=card.source, format=card.format, videos=len(card.videos), rows=card.rows)
    return card
