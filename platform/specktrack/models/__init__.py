"""The zoo: one torch-free configuration class per network, in one table.

A model joins by one file with an ``nn.Module`` and one entry here; the command line, YAML, the model list, the card,
annotating and training follow from the entry.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from specktrack.config import explain
from specktrack.errors import ConfigError
from specktrack.models.entry import NetworkConfig
from specktrack.models.repair_entries import InpaintNetConfig
from specktrack.models.windowed_entries import (
    CmuNetConfig,
    MonoTrackConfig,
    ResTrackNetV2Config,
    SpeckNetConfig,
    TrackNetV2Config,
    TsmNetConfig,
    WasbConfig,
)

if TYPE_CHECKING:
    from specktrack.models.network import Network

DEFAULT_MODEL = "specknet"
"""The compact network whose weights come inside the package."""

WEIGHTS = Path(__file__).parent / "weights"

ZOO: dict[str, type[NetworkConfig]] = {
    entry.model_fields["name"].default: entry
    for entry in (
        TrackNetV2Config,
        WasbConfig,
        MonoTrackConfig,
        ResTrackNetV2Config,
        CmuNetConfig,
        TsmNetConfig,
        SpeckNetConfig,
        InpaintNetConfig,
    )
}
"""Every network by name."""

VARIANTS: dict[str, dict[str, object]] = {
    "tracknet-v2-3in1out": {"name": "tracknet-v2", "outputs": "last"},
    "cmu-net-siso": {"name": "cmu-net", "frames_in": 1},
}
"""Published settings other than a network's defaults, by the name that a recipe or ``models show`` uses."""


def network_config(values: dict[str, object] | str) -> NetworkConfig:
    """A network's configuration from its name, a variant's name, or a mapping with ``name``; ConfigError if unknown."""
    mapping = VARIANTS.get(values, {"name": values}) if isinstance(values, str) else values
    entry = ZOO.get(str(mapping.get("name")))
    if entry is None:
        raise ConfigError("no such network", mapping.get("name"), remedy=f"the zoo has: {', '.join([*ZOO, *VARIANTS])}")
    try:
        return entry.model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(explain(error, entry), place="network") from None


def build(config: NetworkConfig) -> "Network":
    """The network of ``config`` with fresh weights."""
    module_name, class_name = config.module.split(":")
    return getattr(importlib.import_module(module_name), class_name)(config)


def __getattr__(name: str) -> object:
    """``models.load_model`` and ``models.Model`` without loading torch before they are used."""
    if name in ("load_model", "Model"):
        return getattr(importlib.import_module("specktrack.models.checkpoint"), name)
    raise AttributeError(name)
