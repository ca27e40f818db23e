"""The small verbs: datasets, the zoo, exporting and rendering rows. Each is a configuration and a function."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveFloat, PositiveInt

from specktrack import datasets, overlay
from specktrack.config import Config, VerbConfig
from specktrack.datasets import DatasetCard, SplitReport
from specktrack.datasets.patches import PatchesConfig, write_patches
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError
from specktrack.models import VARIANTS, WEIGHTS, ZOO, build, network_config
from specktrack.rows import check_frames, labels_of_rows, read_rows, rows_of, store_of
from specktrack.storage import open_store, stat, to_uri
from specktrack.video.confined import probe


class DataImportConfig(VerbConfig):
    """Bring labels into the row schema; their videos stay where they are."""

    verb: ClassVar[str] = "data_import"

    format: str
    """auto, tennis, shuttlecock, multiball, volleyball, badminton, wasb-soccer, wasb-volleyball, wasb-basketball,
    cvat, label-studio; otb, lasot, got10k, trackingnet, uav, latot: benchmarks of boxes; or rows: a file or folder of
    rows that were checked by a person."""
    source: str
    """The folder with labels and videos; for rows also one file."""
    destination: str
    """The folder or s3:// prefix for the dataset."""
    videos: str | None = None
    """The folder or s3:// prefix where the videos are, if not beside their labels; found by place or by file name."""
    labels_only_wh_px: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height of the pictures, for labels that came without their videos."""
    split: str | None = None
    """Box benchmarks: only the train or test sequences, by the list beside the labels."""


def data_import(config: DataImportConfig) -> DatasetCard:
    """Import a dataset; its card."""
    where = config.model_dump(include={"videos", "labels_only_wh_px"})
    if config.format == "rows" and config.split is None:
        dataset = labels_of_rows(read_rows(config.source), config.source, **where)
        return datasets.save_dataset(dataset, open_store(config.destination))
    return datasets.import_dataset(config.format, config.source, config.destination, split=config.split, **where)


class DataCheckConfig(VerbConfig):
    """Look for labels that cannot be right."""

    verb: ClassVar[str] = "data_check"

    data: str
    """The dataset, or a folder in a known format."""
    output: str | None = None
    """Folder for one picture per video with labels drawn on their frames, doubtful ones first."""
    labels: int = Field(default=12, ge=1)
    """Labels on each picture."""


def data_check(config: DataCheckConfig) -> dict[str, Any]:
    """Check a dataset; the findings."""
    return datasets.check_dataset(datasets.load_dataset(config.data), config.output, n=config.labels)


class DataStatsConfig(VerbConfig):
    """Count what a dataset holds."""

    verb: ClassVar[str] = "data_stats"

    data: str
    """The dataset, or a folder in a known format."""


def data_stats(config: DataStatsConfig) -> dict[str, Any]:
    """Numbers about a dataset."""
    return datasets.dataset_stats(datasets.load_dataset(config.data))


class DataSplitConfig(VerbConfig):
    """Divide a dataset into training and test videos; the videos stay where they are."""

    verb: ClassVar[str] = "data_split"

    data: str
    """The dataset, or a folder in a known format."""
    destination: str
    """The folder or s3:// prefix for the datasets train, val and test."""
    by: str = "match"
    """match or video (drawn by seed), or a paper's: shuttlecock, tennis-game, tennis-clip, wasb-soccer, wasb-tennis,
    wasb-badminton, wasb-volleyball, wasb-basketball."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the labelled frames for test, by match or video."""
    val_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the labelled frames for val, by match or video; 0 writes none."""
    seed: int = Field(default=0, ge=0)
    """Draws the matches or videos."""


def data_split(config: DataSplitConfig) -> list[SplitReport]:
    """Split a dataset; its parts."""
    shares = config.model_dump(include={"test_share", "val_share", "seed"})
    return datasets.split_dataset(datasets.load_dataset(config.data), config.destination, config.by, **shares)


class DataSynthConfig(SynthConfig):
    """Render videos with an object whose position is known."""

    verb: ClassVar[str] = "data_synth"

    destination: str
    """The folder or s3:// prefix for the videos and their labels."""


def data_synth(config: DataSynthConfig) -> DatasetCard:
    """Render an archive; its card."""
    settings = SynthConfig.model_validate(config.model_dump(exclude={"destination"}))
    return write_archive(settings, config.destination)


class DataPatchesConfig(PatchesConfig):
    """Render arbitrary moving things, with their boxes, over arbitrary scenes."""

    verb: ClassVar[str] = "data_patches"

    destination: str
    """The folder for the sequences and their labels."""


def data_patches(config: DataPatchesConfig) -> DatasetCard:
    """Render sequences; the dataset's card."""
    settings = PatchesConfig.model_validate(config.model_dump(exclude={"destination"}))
    return write_patches(settings, config.destination)


class ZooEntry(Config):
    """One model of the zoo."""

    name: str
    family: str
    parameters: int
    frames_in: int
    frames_out: int
    input_wh: tuple[int, int]
    weights: str | None
    """File name of the weights inside the package; None where it must be trained first."""


class ModelsListConfig(VerbConfig):
    """The models that can be named."""

    verb: ClassVar[str] = "models_list"


def models_list(_: ModelsListConfig) -> list[ZooEntry]:
    """One entry per network of the zoo and per published variant."""
    return [_entry(name) for name in (*ZOO, *VARIANTS)]


class ModelsShowConfig(VerbConfig):
    """One model's configuration and card."""

    verb: ClassVar[str] = "models_show"

    name: str
    """Name in the zoo, or path of a checkpoint."""


def models_show(config: ModelsShowConfig) -> dict[str, Any]:
    """The zoo entry, and the card where there are weights. CheckpointError if there is neither."""
    from specktrack.models.checkpoint import load_model  # torch takes seconds that `data check` need not wait for

    shown: dict[str, Any] = {}
    if config.name in ZOO or config.name in VARIANTS:
        network = network_config(config.name)
        shown = _entry(config.name).model_dump() | {
            "about": network.about(),
            "network": network.model_dump(mode="json"),
        }
        if shown["weights"] is None:
            return shown
    card = load_model(config.name).card.model_dump(mode="json")
    return shown | card | {"parameters": shown.get("parameters") or _parameters(card["network"])}


class ModelsImportConfig(VerbConfig):
    """Read weights that were published for a network of the zoo."""

    verb: ClassVar[str] = "models_import"

    source: str
    """A PyTorch file of weights, or a Keras file (.h5, .keras), which needs the extra 'keras'."""
    destination: str
    """The checkpoint to write, a .safetensors file."""
    network: str = ""
    """The variant whose weights they are, where shapes cannot tell, such as tracknet-v4-fusion-2."""
    licence: str = ""
    """Licence of the weights, for the model card."""


def models_import(config: ModelsImportConfig) -> dict[str, Any]:
    """Import published weights; the card of the checkpoint."""
    from specktrack.models.importing import import_model  # as above

    card = import_model(config.source, config.destination, network=config.network, licence=config.licence)
    return {"model": config.destination, **card.model_dump(mode="json")}


class ModelsExportConfig(VerbConfig):
    """Write a trained model as a file that other runtimes load."""

    verb: ClassVar[str] = "models_export"

    name: str
    """Name of a packaged model, or the path of a checkpoint."""
    destination: str
    """The file: .onnx, .pt2 for torch-export, or .xml for openvino, which writes the weights beside it as .bin."""
    format: Literal["onnx", "torch-export", "openvino"]
    """What the file is for; onnx and openvino need the extra 'export'."""


class ModelsExportReport(Config):
    """What was written and how far it is from the original."""

    model: str
    sha256: str
    """Of network and weights."""
    written: tuple[str, ...]
    bytes: int
    largest_difference: float
    """Over all output values of rendered frames, fp32 on the CPU; heatmaps lie in [0, 1]."""
    differing: float
    """Share of values that differ by more than 1e-3; above 0 only where the output is the likeliest of many levels."""
    largest_distance_px: float
    """Between positions decoded from them, network px."""
    positions: int
    """How many of those were compared: frames in which the network found an object."""


def models_export(config: ModelsExportConfig) -> ModelsExportReport:
    """Export a model and compare the file with it."""
    from specktrack.models.checkpoint import load_model  # as above
    from specktrack.models.exporting import export_model

    model = load_model(config.name)
    written, parity = export_model(model, config.destination, config.format)
    return ModelsExportReport(
        model=model.card.name,
        sha256=model.sha256,
        written=tuple(str(path) for path in written),
        bytes=sum(path.stat().st_size for path in written),
        **parity.model_dump(),
    )


class ExportConfig(VerbConfig):
    """Write rows in another tool's format."""

    verb: ClassVar[str] = "export"

    annotations: str
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    to: str
    """csv, jsonl (all columns); tracknet-csv, tennis, badminton, multiball (points); cvat, label-studio (to correct
    and to import again); coco, mot, otb, got10k (boxes)."""
    destination: str
    """The folder, or the file where there is one to write."""
    video: str | None = None
    """Only the rows of this video (its URI, path or file name)."""
    box_px: PositiveFloat | None = None
    """Side of the square that stands for a point in formats of boxes, which refuse points without it."""
    size_wh_px: tuple[PositiveInt, PositiveInt] | None = None
    """Width and height of the pictures, for formats that need them where the videos cannot be read."""


class ExportReport(Config):
    """What was written."""

    rows: int
    written: tuple[str, ...]
    """URIs."""


def export(config: ExportConfig) -> ExportReport:
    """Export rows; what was written."""
    rows = read_rows(config.annotations)
    if config.video is not None:
        rows = rows_of(rows, config.video, config.annotations)
    needs_size = config.to in datasets.EXPORTS and datasets.EXPORTS[config.to].needs_size
    sizes_wh_px = _sizes_wh_px(config, rows) if needs_size else {}
    written = datasets.export_rows(rows, config.to, config.destination, sizes_wh_px=sizes_wh_px, box_px=config.box_px)
    return ExportReport(rows=rows.num_rows, written=tuple(written))


def _sizes_wh_px(config: ExportConfig, rows: pa.Table) -> dict[str, tuple[int, int]]:
    """Each video's size: as given, or as it is."""
    uris = pc.unique(rows["video"]).to_pylist()
    return {uri: config.size_wh_px or probe(stat(uri)).size_wh_px for uri in uris}


class RenderConfig(VerbConfig):
    """Draw rows onto their video."""

    verb: ClassVar[str] = "render"

    video: str
    """The video."""
    annotations: str
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    output: str
    """The MP4 file to write, in a folder or S3."""


class RenderReport(Config):
    """What was drawn."""

    output: str
    """Its URI."""
    rows: int
    bytes: int


def render_video(config: RenderConfig) -> RenderReport:
    """Render an overlay video; it appears when it is complete."""
    output = to_uri(config.output)
    if not output.lower().endswith(".mp4"):
        raise ConfigError("an overlay is written as .mp4", config.output, remedy="give a name that ends in .mp4")
    video = stat(to_uri(config.video))
    rows = rows_of(read_rows(config.annotations), config.video, config.annotations)
    check_frames(rows, probe(video).frames, config.annotations)
    store, key = store_of(output)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, "overlay.mp4")
        overlay.render(video, rows, drawn)
        store.put_file(key, drawn)
        return RenderReport(output=output, rows=rows.num_rows, bytes=drawn.stat().st_size)


def _entry(name: str) -> ZooEntry:
    config = network_config(name)
    weights = WEIGHTS / f"{name}.safetensors"
    return ZooEntry(
        name=name,
        family=config.family,
        parameters=_parameters(name),
        frames_in=config.frames_in,
        frames_out=config.frames_out,
        input_wh=config.input_wh,
        weights=weights.name if weights.is_file() else None,
    )


def _parameters(network: str | dict[str, object]) -> int:
    """How many numbers a network learns; built on the meta device, which allocates nothing."""
    import torch  # as above

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(network_config(network)).parameters())
