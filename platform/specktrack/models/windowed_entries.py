"""Zoo entries of the heatmap networks: they see a window of frames and draw one heatmap per frame."""

from typing import ClassVar, Literal

from pydantic import Field

from specktrack.config import Config
from specktrack.models.entry import Family, NetworkConfig


class HeatmapTarget(Config):
    """What a network is taught to draw for one visible object; the fields are the arguments of ``heatmap.encode``."""

    kind: Literal["disk", "gaussian"] = "gaussian"
    """Ones within the radius, or a Gaussian around the exact centre."""
    radius_px: float = Field(default=2.0, gt=0)
    """Disk radius or Gaussian sigma, in network px."""
    stride: int = Field(default=1, ge=1)
    """Network px per heatmap px."""


class WindowedConfig(NetworkConfig):
    """What every network has in common that sees a window of frames and draws one heatmap per frame."""

    family: ClassVar[Family] = "windowed"

    frames_in: int = Field(default=3, ge=1)
    """Consecutive frames that one forward pass sees."""
    input_wh: tuple[int, int] = (512, 288)
    """Network size of a 16:9 source; other aspect ratios keep its area (see Viewport.fit)."""
    target: HeatmapTarget = HeatmapTarget()


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
