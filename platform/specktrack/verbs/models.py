"""``specktrack models ...``: the zoo, and import and export of weights."""

import math
from typing import Any, ClassVar

from specktrack.config import Config, VerbConfig
from specktrack.models.cards import HEADLINE, UNSEEN, read_card
from specktrack.models.formats import Format
from specktrack.models.zoo import GFLOP_PER_FRAME, PARAMETERS, VARIANTS, WEIGHTS, ZOO, ModelPlace, network_config
from specktrack.storage.places import Place


class ZooEntry(Config):
    """One model of the zoo."""

    name: str
    family: str
    parameters: int | None
    """None for a network that nobody has counted yet."""
    frames_in: int
    frames_out: int
    input_wh: tuple[int, int]
    """Size at which a 16:9 video is seen: that of the weights, where there are some, else the network's own."""
    gflop_per_frame: float | None
    """At that size, in one window (``overlap``), a multiply and an add as two; None of other than heatmap networks."""
    weights: str | None
    """File name of the weights inside the package; None where it must be trained first."""
    f1_known: float | None
    """Of the weights, on test video of places that they were trained on, 4 px at 512x288; None where not measured."""
    f1_unseen: float | None
    """The same of places and sports that they were not trained on."""


class ModelsListConfig(VerbConfig):
    """List the models of the zoo."""

    verb: ClassVar[str] = "models_list"


def models_list(_: ModelsListConfig) -> list[ZooEntry]:
    """One entry per network of the zoo and per published variant."""
    return [_entry(name) for name in (*ZOO, *VARIANTS)]


class ModelsShowConfig(VerbConfig):
    """Show a model's configuration and card."""

    verb: ClassVar[str] = "models_show"

    name: ModelPlace
    """Name in the zoo, or path of a checkpoint."""


def models_show(config: ModelsShowConfig) -> dict[str, Any]:
    """The zoo entry, and the card if there are weights. CheckpointError if there is neither."""
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
    model = load_model(config.name)
    card = model.card.model_dump(mode="json")
    return shown | card | {"parameters": sum(parameter.numel() for parameter in model.network.parameters())}


class ModelsImportConfig(VerbConfig):
    """Import published weights of a network in the zoo."""

    verb: ClassVar[str] = "models_import"

    source: Place
    """A PyTorch file of weights, or a Keras file (.h5, .keras), which needs the extra 'keras'."""
    destination: Place
    """The checkpoint to write, a .safetensors file."""
    network: str = ""
    """The variant that the weights belong to, if shapes cannot tell, such as tracknet-v4-fusion-2."""
    licence: str = ""
    """Licence of the weights, for the model card."""


def models_import(config: ModelsImportConfig) -> dict[str, Any]:
    """Import published weights; the card of the checkpoint."""
    from specktrack.models.importing import import_model  # as above

    card = import_model(config.source, config.destination, network=config.network, licence=config.licence)
    return {"model": config.destination, **card.model_dump(mode="json")}


class ModelsExportConfig(VerbConfig):
    """Export a trained model to a file for other runtimes."""

    verb: ClassVar[str] = "models_export"

    name: ModelPlace
    """Name of a packaged model, or the path of a checkpoint."""
    destination: Place
    """The file: .onnx, .pt2 for torch-export, or .xml for openvino, which writes the weights beside it as .bin."""
    format: Format
    """Format of the file; all except torch-export need the extra 'export'."""


class ModelsExportReport(Config):
    """The exported file, and how far its output is from the original's."""

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
    moved: float
    """Share of the positions found in fp32 that lie more than one network px away, or are not found."""


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


def _entry(name: str) -> ZooEntry:
    weights = WEIGHTS / f"{name}.safetensors"
    card: dict[str, Any] = read_card(weights) if weights.is_file() else {"network": name, "metrics": {}}
    own, config = network_config(name), network_config(card["network"])
    gflop = GFLOP_PER_FRAME.get(name)
    area = math.prod(config.input_wh) / math.prod(own.input_wh)
    return ZooEntry(
        name=name,
        family=config.family,
        parameters=PARAMETERS.get(name),
        frames_in=config.frames_in,
        frames_out=config.frames_out,
        input_wh=config.input_wh,
        gflop_per_frame=None if gflop is None else round(gflop * area, 2),
        weights=weights.name if weights.is_file() else None,
        f1_known=card["metrics"].get(HEADLINE, {}).get("f1"),
        f1_unseen=card["metrics"].get(UNSEEN, {}).get("f1"),
    )
