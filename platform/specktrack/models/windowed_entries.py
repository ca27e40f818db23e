"""Zoo entries of the heatmap networks: they see a window of frames and draw one heatmap per frame."""

from typing import ClassVar, Literal

from pydantic import Field

from specktrack.config import Config
from specktrack.models.entry import Family, NetworkConfig

Loss = Literal["focal", "wbce", "cross-entropy", "quality-focal", "bce-dice"]
"""What is minimised, by the names of ``heatmap.LOSSES``: ``focal`` is the project's own, ``wbce`` TrackNetV2 to V5's,
``cross-entropy`` TrackNetV1's over 256 grey levels, ``quality-focal`` WASB's, ``bce-dice`` MonoTrack's."""

Decoding = Literal["peaks", "largest-box", "largest-contour", "hough", "components"]
"""How centres are found in a heatmap: ``peaks`` is the project's own, sub-pixel; the others are those of
``heatmap.PUBLISHED``: TrackNetV2 and V3's, TrackNetV5's, TrackNetV1's and WASB's."""


class HeatmapTarget(Config):
    """What a network is taught to draw for one visible object; the fields are the arguments of ``heatmap.encode``."""

    kind: Literal["disk", "gaussian", "levels"] = "gaussian"
    """Ones within the radius, a Gaussian around the exact centre, or TrackNetV1's Gaussian of 256 grey levels."""
    radius_px: float = Field(default=2.0, gt=0)
    """Disk radius or Gaussian sigma, in network px."""
    stride: int = Field(default=1, ge=1)
    """Network px per heatmap px."""


class WindowedConfig(NetworkConfig):
    """What every network has in common that sees a window of frames and draws one heatmap per frame."""

    family: ClassVar[Family] = "windowed"
    published_decoding: ClassVar[Decoding] = "peaks"
    """Its paper's; sessions use the project's own unless they are told otherwise."""

    frames_in: int = Field(default=3, ge=1)
    """Consecutive frames that one forward pass sees."""
    input_wh: tuple[int, int] = (512, 288)
    """Network size of a 16:9 source; other aspect ratios keep its area (see Viewport.fit)."""
    target: HeatmapTarget = HeatmapTarget()
    loss: Loss = "focal"
    """What training minimises."""
    pixels: Literal["unit", "bytes", "imagenet"] = "unit"
    """Values that the network sees: from 0 to 1, from 0 to 255, or normalised by ImageNet's mean and deviation."""

    @property
    def pictures_in(self) -> int:
        """Pictures in one forward pass: the frames, after the background where the network wants one."""
        return self.frames_in


class TrackNetV2Config(WindowedConfig):
    """TrackNetV2 (Sun et al., ICPAI 2020): a VGG-like U-Net on three frames; 3-in-3-out or 3-in-1-out."""

    module: ClassVar[str] = "specktrack.models.tracknet:TrackNetV2"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["tracknet-v2"] = "tracknet-v2"
    target: HeatmapTarget = HeatmapTarget(kind="disk", radius_px=2.5)
    loss: Loss = "wbce"
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
