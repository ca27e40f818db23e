"""Zoo entries of the heatmap networks: they see a window of frames and draw one heatmap per frame."""

from typing import ClassVar, Literal

from pydantic import Field

from specktrack.config import Config
from specktrack.models.entry import Family, NetworkConfig

Loss = Literal["focal", "wbce", "cross-entropy", "quality-focal", "bce-dice"]
"""The loss, by the names of ``heatmap.LOSSES``: ``focal`` is the project's own, ``wbce`` TrackNetV2 to V5's,
``cross-entropy`` TrackNetV1's over 256 grey levels, ``quality-focal`` WASB's, ``bce-dice`` MonoTrack's."""

Decoding = Literal["peaks", "largest-box", "largest-contour", "hough", "components"]
"""How centres are found in a heatmap: ``peaks`` is the project's own, sub-pixel; the others are those of
``heatmap.PUBLISHED``: TrackNetV2 and V3's, TrackNetV5's, TrackNetV1's and WASB's."""

Pixels = Literal["unit", "bytes", "imagenet"]
"""From 0 to 1, from 0 to 255, or normalised by ImageNet's mean and deviation."""


class HeatmapTarget(Config):
    """The label drawn for one visible object; the fields are the arguments of ``heatmap.encode``."""

    kind: Literal["disk", "gaussian", "levels"] = "gaussian"
    """Ones within the radius, a Gaussian around the exact centre, or TrackNetV1's Gaussian of 256 grey levels."""
    radius_px: float = Field(default=2.0, gt=0)
    """Disk radius or Gaussian sigma, in network px."""
    stride: int = Field(default=1, ge=1)
    """Network px per heatmap px."""


DISK = HeatmapTarget(kind="disk", radius_px=2.5)
"""The label of TrackNetV2 to V5 and of WASB's models: in their code a disk, where texts speak of a Gaussian."""


class WindowedConfig(NetworkConfig):
    """Settings shared by every network that sees a window of frames and draws one heatmap per frame."""

    family: ClassVar[Family] = "windowed"
    published_decoding: ClassVar[Decoding] = "peaks"
    """Its paper's; sessions use the project's own unless set otherwise."""

    frames_in: int = Field(default=3, ge=1)
    """Consecutive frames that one forward pass sees."""
    input_wh: tuple[int, int] = (512, 288)
    """Network size of a 16:9 source; other aspect ratios keep its area (see Viewport.fit)."""
    target: HeatmapTarget = HeatmapTarget()
    loss: Loss = "focal"
    """The training loss."""
    pixels: Pixels = "unit"
    """Values that the network sees."""

    @property
    def wants_background(self) -> bool:
        """Whether a still picture of the scene comes before the frames of each window."""
        return False

    @property
    def pictures_in(self) -> int:
        """Pictures in one forward pass: the frames, after the background where the network wants one."""
        return self.frames_in + self.wants_background


class SpeckNetConfig(WindowedConfig):
    """The project's compact network for CPUs: a residual U-Net at half resolution over a longer window."""

    module: ClassVar[str] = "specktrack.models.heatmap.specknet:SpeckNet"

    name: Literal["specknet"] = "specknet"
    frames_in: int = Field(default=8, ge=1)
    target: HeatmapTarget = HeatmapTarget(kind="gaussian", radius_px=2.5, stride=2)
    widths: tuple[int, int, int, int] = (32, 64, 128, 192)
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the network size."""


class WasbConfig(WindowedConfig):
    """WASB (Tarashima et al., BMVC 2023): a small high-resolution net that never leaves full resolution."""

    module: ClassVar[str] = "specktrack.models.heatmap.wasb:Wasb"
    published_decoding: ClassVar[Decoding] = "components"

    name: Literal["wasb"] = "wasb"
    target: HeatmapTarget = DISK
    loss: Loss = "quality-focal"
    pixels: Pixels = "imagenet"
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the branches at 1, 1/2, 1/4 and 1/8 of the network size."""


class MonoTrackConfig(WindowedConfig):
    """MonoTrack's detector (Liu and Wang, CVPR workshops 2022): a residual U-Net, a quarter of TrackNetV2's size."""

    module: ClassVar[str] = "specktrack.models.heatmap.monotrack:MonoTrack"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["monotrack"] = "monotrack"
    target: HeatmapTarget = DISK
    loss: Loss = "bce-dice"


class ResTrackNetV2Config(WindowedConfig):
    """ResTrackNetV2: a TrackNetV2 of bottlenecks, a tenth of its size, as compared in the WASB paper."""

    module: ClassVar[str] = "specktrack.models.heatmap.restracknet:ResTrackNetV2"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["restracknet-v2"] = "restracknet-v2"
    target: HeatmapTarget = DISK
    loss: Loss = "wbce"


class CmuNetConfig(WindowedConfig):
    """CMU-Net (Badminton100K's baseline): a U-Net with fusion across stages and within them, on 1920x1080 pictures.

    Its layers are unpublished. This is a design from its abstract and from its successors' public facts, not a copy.
    """

    module: ClassVar[str] = "specktrack.models.heatmap.cmunet:CmuNet"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["cmu-net"] = "cmu-net"
    input_wh: tuple[int, int] = (1920, 1080)
    target: HeatmapTarget = HeatmapTarget(kind="gaussian", radius_px=4.0, stride=2)
    widths: tuple[int, int, int, int, int] = (32, 64, 128, 192, 256)
    """Channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the network size; multiples of 4."""

    @property
    def frames_out(self) -> int:
        """One heatmap, of the last frame: the multi-frame form is multiple-in-single-out."""
        return 1


class TsmNetConfig(WindowedConfig):
    """A residual U-Net on single frames whose blocks exchange channels with the frames beside them (TSM, ICCV 2019)."""

    module: ClassVar[str] = "specktrack.models.heatmap.tsmnet:TsmNet"

    name: Literal["tsm-net"] = "tsm-net"
    frames_in: int = Field(default=8, ge=1)
    target: HeatmapTarget = HeatmapTarget(kind="gaussian", radius_px=2.5, stride=2)
    widths: tuple[int, int, int, int] = (32, 48, 96, 160)
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the network size."""
    shifted: float = Field(default=0.125, ge=0, le=0.5)
    """Share of a block's channels that comes from the frame before, and as large a share from the frame after."""


ENTRIES: tuple[type[WindowedConfig], ...] = (
    WasbConfig,
    MonoTrackConfig,
    ResTrackNetV2Config,
    CmuNetConfig,
    TsmNetConfig,
    SpeckNetConfig,
)
