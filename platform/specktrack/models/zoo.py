"""The zoo: one torch-free configuration class per network, in one table.

A model joins by one file with an ``nn.Module`` and one entry in the ``entries`` of its family; the command line, YAML,
the model list, the card, annotating and training follow from the entry.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from specktrack.config import validated
from specktrack.errors import ConfigError
from specktrack.lazy import load
from specktrack.models.entry import Family, NetworkConfig
from specktrack.models.heatmap import entries as heatmap
from specktrack.models.heatmap import tracknet_entries as tracknets
from specktrack.models.kinds import entries as kinds
from specktrack.models.registry import is_registered
from specktrack.models.repair import entries as repair
from specktrack.models.repair.entries import REPAIRS
from specktrack.models.search import entries as search
from specktrack.models.template import entries as template
from specktrack.storage.places import Names

if TYPE_CHECKING:
    from specktrack.models.network import Network

DEFAULT_MODEL = "specknet"
"""The compact network whose weights come inside the package."""

WEIGHTS = Path(__file__).parent / "weights"

_ENTRIES: tuple[type[NetworkConfig], ...] = tuple(
    entry for family in (tracknets, heatmap, repair, template, search, kinds) for entry in family.ENTRIES
)
ZOO = {entry.model_fields["name"].default: entry for entry in _ENTRIES}
"""Every network by name."""

VARIANTS: dict[str, dict[str, object]] = {
    "tracknet-v1-1in1out": {"name": "tracknet-v1", "frames_in": 1},  # Model I of the paper
    "tracknet-v1-table": {"name": "tracknet-v1", "decoder_width": 512},
    "tracknet-v1-unit": {"name": "tracknet-v1", "pixels": "unit"},  # an independent PyTorch port's scale
    "tracknet-v2-3in1out": {"name": "tracknet-v2", "outputs": "last"},
    # The baseline in TrackNetV3's paper: V2 in V3's layers.
    "tracknet-v2-by-v3": {"name": "tracknet-v3", "frames_in": 3, "background": "none"},
    "tracknet-v3-no-background": {"name": "tracknet-v3", "background": "none"},
    "tracknet-v3-subtract": {"name": "tracknet-v3", "background": "subtract"},
    "tracknet-v3-subtract-concat": {"name": "tracknet-v3", "background": "subtract-concat"},
    "tracknet-v3-16-frames": {"name": "tracknet-v3", "frames_in": 16},
    "tracknet-v3-32-frames": {"name": "tracknet-v3", "frames_in": 32},
    "tracknet-v4-fusion-2": {"name": "tracknet-v4", "fusion": "2"},
    "tracknet-v4-fusion-2-text": {"name": "tracknet-v4", "fusion": "2-text"},
    "tracknet-v4-denormalised": {"name": "tracknet-v4", "denormalise": True},
    "tracknet-v4-on-v3": {"name": "tracknet-v4", "base": "tracknet-v3", "frames_in": 8, "background": "concat"},
    # 30 px at 1280x720, the paper's region of interest; the public code's other label is the disk.
    "tracknet-v5-roi": {"name": "tracknet-v5", "target": {"kind": "disk", "radius_px": 12.0}},
    # The rows of V5's paper: its V2 and V4, then V2 with its motion and V2 with its head.
    "tracknet-v2-by-v5": {"name": "tracknet-v5", "motion": "none", "refinement": False},
    "tracknet-v4-by-v5": {"name": "tracknet-v5", "motion": "absolute", "refinement": False},
    "tracknet-v5-no-refinement": {"name": "tracknet-v5", "refinement": False},
    "tracknet-v5-no-motion": {"name": "tracknet-v5", "motion": "none"},
    "cmu-net-siso": {"name": "cmu-net", "frames_in": 1},
    # As it was trained, on courts alone.
    "specknet-court": {"name": "specknet", "input_wh": [768, 432], "target": {"radius_px": 3.0, "stride": 2}},
    "specknet-wide": {"name": "specknet", "widths": [48, 96, 160, 256]},  # the default's teacher
    **template.VARIANTS,
}
"""Published settings other than a network's defaults, by the name that a recipe or ``models show`` uses."""


PARAMETERS: dict[str, int] = {
    "tracknet-v1": 10_708_032,
    "tracknet-v2": 11_334_147,
    "tracknet-v3": 11_341_000,
    "tracknet-v4": 11_334_149,
    "tracknet-v5": 14_771_458,
    "wasb": 1_481_427,
    "monotrack": 2_903_171,
    "restracknet-v2": 1_210_451,
    "cmu-net": 2_367_841,
    "tsm-net": 1_133_985,
    "specknet": 2_113_032,
    "inpaintnet": 520_610,
    "atom": 17_285_033,
    "dimp50": 43_097_303,
    "prdimp50": 40_737_195,
    "super-dimp": 43_097_303,
    "mkdnet": 43_097_303,
    "speckdimp": 1_270_655,
    "global-search": 319_320,
    "kindnet": 35_588,
    "tracknet-v1-1in1out": 10_704_576,
    "tracknet-v1-table": 15_723_840,
    "tracknet-v1-unit": 10_708_032,
    "tracknet-v2-3in1out": 11_334_017,
    "tracknet-v2-by-v3": 11_330_307,
    "tracknet-v3-no-background": 11_339_272,
    "tracknet-v3-subtract": 11_330_056,
    "tracknet-v3-subtract-concat": 11_343_880,
    "tracknet-v3-16-frames": 11_355_344,
    "tracknet-v3-32-frames": 11_384_032,
    "tracknet-v4-fusion-2": 11_334_149,
    "tracknet-v4-fusion-2-text": 11_334_149,
    "tracknet-v4-denormalised": 11_334_149,
    "tracknet-v4-on-v3": 11_341_002,
    "tracknet-v5-roi": 14_771_458,
    "tracknet-v2-by-v5": 11_330_304,
    "tracknet-v4-by-v5": 11_330_306,
    "tracknet-v5-no-refinement": 11_332_610,
    "tracknet-v5-no-motion": 14_769_152,
    "cmu-net-siso": 2_360_929,
    "specknet-court": 2_113_032,
    "specknet-wide": 3_633_736,
    "dimp18": 19_645_911,
    "mkdnet-released": 43_097_303,
}
"""Numbers that each network and variant learns: counting them takes building them, and torch."""


GFLOP_PER_FRAME: dict[str, float] = {
    "tracknet-v1": 367.61,
    "tracknet-v2": 74.82,
    "tracknet-v3": 28.45,
    "tracknet-v4": 74.82,
    "tracknet-v5": 82.90,
    "wasb": 18.07,
    "monotrack": 17.48,
    "restracknet-v2": 10.64,
    "cmu-net": 70.46,
    "tsm-net": 7.24,
    "specknet": 1.67,
    "tracknet-v1-1in1out": 366.02,
    "tracknet-v1-table": 537.48,
    "tracknet-v1-unit": 367.61,
    "tracknet-v2-3in1out": 224.42,
    "tracknet-v2-by-v3": 74.82,
    "tracknet-v3-no-background": 28.39,
    "tracknet-v3-subtract": 28.05,
    "tracknet-v3-subtract-concat": 28.56,
    "tracknet-v3-16-frames": 14.49,
    "tracknet-v3-32-frames": 7.51,
    "tracknet-v4-fusion-2": 74.82,
    "tracknet-v4-fusion-2-text": 74.82,
    "tracknet-v4-denormalised": 74.82,
    "tracknet-v4-on-v3": 28.45,
    "tracknet-v5-roi": 82.90,
    "tracknet-v2-by-v5": 74.82,
    "tracknet-v4-by-v5": 74.82,
    "tracknet-v5-no-refinement": 75.04,
    "tracknet-v5-no-motion": 82.67,
    "cmu-net-siso": 63.24,
    "specknet-court": 3.76,
    "specknet-wide": 3.13,
}
"""Work of a window, shared among the frames that it draws, at each heatmap network's own input size: a multiply and an
add are two. A frame that several windows see (``overlap``) costs as many times that."""


IMPORTABLE = frozenset({
    "tracknet-v1", "tracknet-v2", "tracknet-v3", "tracknet-v4", "wasb", "monotrack", "restracknet-v2", "inpaintnet",
    "atom", "dimp18", "dimp50", "prdimp50", "super-dimp", "mkdnet", "mkdnet-released",
})  # fmt: skip
"""Networks and variants for which a public program's weights can be imported."""


def is_name(text: str) -> bool:
    """Whether a text is a model that the package knows: packaged weights always, others where no file is called so."""
    if is_registered(text):
        return True
    packaged = (WEIGHTS / f"{text}.safetensors").is_file()
    known = text in ZOO or text in VARIANTS or text in REPAIRS
    return "/" not in text and (packaged or (known and not Path(text).exists()))


ModelPlace = Annotated[str, Names(is_word=is_name)]
"""The name of a model, of the package or mlflow:NAME@ALIAS of a registry, or the path of a checkpoint."""


def without_weights(name: str) -> str:
    """How to come by weights of a network or variant that has none in the package; empty for any other name."""
    if name not in ZOO and name not in VARIANTS:
        return ""
    remedy = f"train it: specktrack train --network {name} --data DATASET --output RUN"
    if name in IMPORTABLE:
        remedy += f"; or import public weights: specktrack models import FILE {name}.safetensors --network {name}"
    return f"it is in the zoo, but has no shipped weights; {remedy}; then give the path of the result"


def network_config(values: dict[str, object] | str) -> NetworkConfig:
    """A network's configuration from its name, a variant's name, or a mapping with ``name``; ConfigError if unknown."""
    mapping = VARIANTS.get(values, {"name": values}) if isinstance(values, str) else values
    entry = ZOO.get(str(mapping.get("name")))
    if entry is None:
        raise ConfigError("no such network", mapping.get("name"), remedy=f"the zoo has: {', '.join([*ZOO, *VARIANTS])}")
    return validated(entry, mapping, "network")


def family_of(network: object) -> Family | None:
    """The family of what ``network_config`` takes, or of its result; None if it is unknown."""
    if isinstance(network, NetworkConfig):
        return network.family
    mapping = VARIANTS.get(network, {"name": network}) if isinstance(network, str) else network
    entry = ZOO.get(str(mapping.get("name"))) if isinstance(mapping, dict) else None
    return entry.family if entry else None


def build(config: NetworkConfig) -> "Network":
    """The network of ``config`` with fresh weights."""
    return load(config.module)(config)
