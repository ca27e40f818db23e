"""``specktrack data ...``: import, check, split and render labels."""

from typing import Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from specktrack import datasets
from specktrack.config import VerbConfig
from specktrack.datasets import DatasetCard, SplitReport
from specktrack.datasets.formats import readable
from specktrack.datasets.patches import PatchesConfig, write_patches
from specktrack.datasets.splits import DRAWN, PUBLISHED
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.storage.places import Place


class DataImportConfig(VerbConfig):
    """Convert labels to a dataset; their videos stay where they are."""

    verb: ClassVar[str] = "data_import"

    format: str = Field(
        description=f"{', '.join(readable())}; auto detects the format and says why.",
        json_schema_extra={"enum": list[Any](readable())},
    )
    source: Place
    """The folder with labels and videos; for rows, a single file works too."""
    destination: Place
    """The folder or s3:// prefix for the dataset."""
    videos: Place | None = None
    """The folder or s3:// prefix of the videos, if not beside their labels; they are matched by path or by file
    name."""
    labels_only_wh_px: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height of the pictures, for labels without videos."""
    label: str | None = None
    """Name of the ball's label, if a file has several labels and not exactly one is a known name of a ball."""
    missing: datasets.Missing | None = None
    """Meaning of frames without a label, if a file should have one for each: absent, or unlabelled (no row)."""
    stream: NonNegativeInt | None = None
    """Number of the video stream that was labelled, if a file has several; by default the best."""
    kind: str | None = Field(default=None, pattern=r"\S")
    """What every labelled object is, such as bird: kind networks learn from it."""
    split: str | None = None
    """Box benchmarks: import only the train or test sequences, by the list beside the labels."""


def data_import(config: DataImportConfig) -> DatasetCard:
    """Import a dataset; its card."""
    options = config.model_dump(exclude={"format", "source", "destination"})
    return datasets.import_dataset(config.format, config.source, config.destination, **options)


class DataCheckConfig(VerbConfig):
    """Find labels that cannot be right."""

    verb: ClassVar[str] = "data_check"

    data: Place
    """The dataset, or a folder in a known format."""
    output: Place | None = None
    """Folder for one picture per video, with labels drawn on their frames, doubtful ones first."""
    labels: int = Field(default=12, ge=1)
    """Labels on each picture."""


def data_check(config: DataCheckConfig) -> dict[str, Any]:
    """Check a dataset; the findings."""
    return datasets.check_dataset(datasets.load_dataset(config.data), config.output, n=config.labels)


class DataStatsConfig(VerbConfig):
    """Count the contents of a dataset."""

    verb: ClassVar[str] = "data_stats"

    data: Place
    """The dataset, or a folder in a known format."""


def data_stats(config: DataStatsConfig) -> dict[str, Any]:
    """Numbers about a dataset."""
    return datasets.dataset_stats(datasets.load_dataset(config.data))


class DataSplitConfig(VerbConfig):
    """Split a dataset into training and test videos."""

    verb: ClassVar[str] = "data_split"

    data: Place
    """The dataset, or a folder in a known format."""
    destination: Place
    """The folder or s3:// prefix for the datasets train, val and test."""
    by: str = Field(
        default="match", description=f"{' or '.join(DRAWN)} (drawn by seed), or a paper's: {', '.join(PUBLISHED)}."
    )
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the labelled frames for test, by match or video."""
    val_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the labelled frames for val, by match or video; 0 writes none."""
    seed: int = Field(default=0, ge=0)
    """Seed for drawing matches or videos."""


def data_split(config: DataSplitConfig) -> list[SplitReport]:
    """Split a dataset; its parts."""
    shares = config.model_dump(include={"test_share", "val_share", "seed"})
    return datasets.split_dataset(datasets.load_dataset(config.data), config.destination, config.by, **shares)


class DataSynthConfig(SynthConfig):
    """Render videos of an object with exact labels."""

    verb: ClassVar[str] = "data_synth"

    destination: Place
    """The folder or s3:// prefix for the videos and their labels."""


def data_synth(config: DataSynthConfig) -> DatasetCard:
    """Render an archive; its card."""
    settings = SynthConfig.model_validate(config.model_dump(exclude={"destination"}))
    return write_archive(settings, config.destination)


class DataPatchesConfig(PatchesConfig):
    """Render arbitrary moving things, with their boxes, over arbitrary scenes."""

    verb: ClassVar[str] = "data_patches"

    destination: Place
    """The folder for the sequences and their labels."""


def data_patches(config: DataPatchesConfig) -> DatasetCard:
    """Render sequences; the dataset's card."""
    settings = PatchesConfig.model_validate(config.model_dump(exclude={"destination"}))
    return write_patches(settings, config.destination)
