"""The zoo: one torch-free configuration class per network, in one table.

A model joins by one file with an ``nn.Module`` and one entry here; the command line, YAML, the model list, the card,
annotating and training follow from the entry.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, ValidationError

from specktrack.config import Config, explain
from specktrack.errors import ConfigError

if TYPE_CHECKING:
    from specktrack.models.heatmap_network import HeatmapNetwork

DEFAULT_MODEL = "specknet"
"""The compact network whose weights come inside the package."""

WEIGHTS = Path(__file__).parent / "weights"


class HeatmapTarget(Config):
    """What a network is taught to draw for one visible object; the fields are the arguments of ``heatmap.encode``."""

    kind: Literal["disk", "gaussian"] = "gaussian"
    """Ones within the radius, or a Gaussian around the exact centre."""
    radius_px: float = Field(default=2.0, gt=0)
    """Disk radius or Gaussian sigma, in network px."""
    stride: int = Field(default=1, ge=1)
    """Network px per heatmap px."""


class WindowedConfig(Config):
    """What every network has in common that sees a window of frames and draws one heatmap per frame."""

    family: ClassVar[str] = "windowed"
    module: ClassVar[str]
    """``module:class`` of the network, imported when it is built."""

    name: str
    """The network's name in the zoo."""
    frames_in: int = Field(default=3, ge=1)
    """Consecutive frames that one forward pass sees."""
    input_wh: tuple[int, int] = (512, 288)
    """Network size of a 16:9 source; other aspect ratios keep its area (see Viewport.fit)."""
    target: HeatmapTarget = HeatmapTarget()

    @property
    def frames_out(self) -> int:
        """Heatmaps per forward pass."""
        return self.frames_in


class TrackNetV2Config(WindowedConfig):
    """TrackNetV2 (Sun et al., ICPAI 2020): a VGG-like U-Net on three frames; 3-in-3-out or 3-in-1-out."""

    module: ClassVar[str] = "specktrack.models.tracknet:TrackNetV2"

    name: Literal["tracknet-v2"] = "tracknet-v2"
    target: HeatmapTarget = HeatmapTarget(kind="disk", radius_px=2.5)
    outputs: Literal["all", "last"] = "all"
    """``all``: one heatmap per frame (3-in-3-out); ``last``: only the last frame's (3-in-1-out)."""

    @property
    def frames_out(self) -> int:
        """Heatmaps per forward pass."""
        return self.frames_in if self.outputs == "all" else 1


class SpeckNetConfig(WindowedConfig):
    """The project's compact network for CPUs: a residual U-Net at half resolution over a longer window."""

    module: ClassVar[str] = "specktrack.models.specknet:SpeckNet"

    name: Literal["specknet"] = "specknet"
    frames_in: int = Field(default=8, ge=1)
    target: HeatmapTarget = HeatmapTarget(kind="gaussian", radius_px=2.5, stride=2)
    widths: tuple[int, int, int, int] = (48, 96, 160, 256)
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the network size."""


ZOO: dict[str, type[WindowedConfig]] = {
    entry.model_fields["name"].default: entry for entry in (TrackNetV2Config, SpeckNetConfig)
}


def network_config(values: dict[str, object] | str) -> WindowedConfig:
    """A network's configuration from its name or from a mapping with ``name``; ConfigError if it is not in the zoo."""
    mapping = {"name": values} if isinstance(values, str) else values
    if mapping.get("name") not in ZOO:
        raise ConfigError("no such network", mapping.get("name"), remedy=f"the zoo has: {', '.join(ZOO)}")
    try:
        return ZOO[str(mapping["name"])].model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(explain(error, ZOO[str(mapping["name"])]), place="network") from None


def build(config: WindowedConfig) -> "HeatmapNetwork":
    """The network of ``config`` with fresh weights."""
    module_name, class_name = config.module.split(":")
    return getattr(importlib.import_module(module_name), class_name)(config)


def __getattr__(name: str) -> object:
    """``models.load_model`` and ``models.Model`` without loading torch before they are used."""
    if name in ("load_model", "Model"):
        return getattr(importlib.import_module("specktrack.models.checkpoint"), name)
    raise AttributeError(name)
