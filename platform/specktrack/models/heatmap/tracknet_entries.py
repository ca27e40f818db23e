"""Zoo entries of the TrackNet line."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from specktrack.models.heatmap.entries import DISK, Decoding, HeatmapTarget, Loss, WindowedConfig

Background = Literal["none", "concat", "subtract", "subtract-concat"]
"""How a still picture of the scene enters: not at all, as one more frame, or as each frame's difference to it, alone or
beside the frame."""

Fusion = Literal["1", "2", "2-text"]
"""TrackNetV4's two versions, the second as its code has it and as its text does."""

Norm = Literal["channel", "column"]
"""See ``models.column_norm``."""


class TrackNetV1Config(WindowedConfig):
    """TrackNetV1 (Huang et al., AVSS 2019): three frames to one map of 256 grey levels."""

    module: ClassVar[str] = "specktrack.models.heatmap.tracknet_v1:TrackNetV1"
    published_decoding: ClassVar[Decoding] = "hough"

    name: Literal["tracknet-v1"] = "tracknet-v1"
    input_wh: tuple[int, int] = (640, 360)
    target: HeatmapTarget = HeatmapTarget(kind="levels", radius_px=10**0.5 / 2)
    loss: Loss = "cross-entropy"
    pixels: Literal["unit", "bytes", "imagenet"] = "bytes"
    decoder_width: Literal[256, 512] = 256
    """Channels of the first decoder block: 256 in the public code and weights, 512 in the paper's table."""
    norm: Norm = "channel"
    """Axis that batch norm normalises: ``column`` only for weights of the public Keras programs."""

    @property
    def frames_out(self) -> int:
        """One heatmap, of the newest frame."""
        return 1


class TrackNetV2Config(WindowedConfig):
    """TrackNetV2 (Sun et al., ICPAI 2020): a VGG-like U-Net on three frames; 3-in-3-out or 3-in-1-out."""

    module: ClassVar[str] = "specktrack.models.heatmap.tracknet:TrackNetV2"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["tracknet-v2"] = "tracknet-v2"
    target: HeatmapTarget = DISK
    loss: Loss = "wbce"
    outputs: Literal["all", "last"] = "all"
    """``all``: one heatmap per frame (3-in-3-out); ``last``: only the last frame's (3-in-1-out)."""
    norm: Norm = "channel"
    """Axis that batch norm normalises: ``column`` only for weights of the public Keras programs."""

    @property
    def frames_out(self) -> int:
        """Heatmaps per forward pass."""
        return self.frames_in if self.outputs == "all" else 1


class TrackNetV3Config(WindowedConfig):
    """TrackNetV3's tracking network (Chen and Wang, MMAsia 2023): eight frames beside the median of the video."""

    module: ClassVar[str] = "specktrack.models.heatmap.tracknet_v3:TrackNetV3"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["tracknet-v3"] = "tracknet-v3"
    frames_in: int = Field(default=8, ge=1)
    target: HeatmapTarget = DISK
    loss: Loss = "wbce"
    background: Background = "concat"
    """How the video's median picture enters."""

    @property
    def wants_background(self) -> bool:
        """Whether there is one at all."""
        return self.background != "none"


class TrackNetV4Config(WindowedConfig):
    """TrackNetV4 (Raj et al., ICASSP 2025): motion attention on the logits of V2 or V3, two parameters more."""

    module: ClassVar[str] = "specktrack.models.heatmap.tracknet_v4:TrackNetV4"
    published_decoding: ClassVar[Decoding] = "largest-box"

    name: Literal["tracknet-v4"] = "tracknet-v4"
    frames_in: int = Field(default=3, ge=2)
    target: HeatmapTarget = DISK
    loss: Loss = "wbce"
    base: Literal["tracknet-v2", "tracknet-v3"] = "tracknet-v2"
    """Whose layers it has; with the same frames_in and background a model of the base is a start (``init``)."""
    background: Background = "none"
    """Only with the base tracknet-v3, whose published one is ``concat``."""
    fusion: Fusion = "1"
    """Which attention weighs which frame's logits."""
    denormalise: bool = False
    """Multiply differences by 0.225, as the public code does by way of undoing a normalisation that was not done."""
    norm: Norm = "channel"
    """Axis that batch norm normalises: ``column`` only for weights of the public Keras programs."""

    @property
    def wants_background(self) -> bool:
        """Whether its base does."""
        return self.background != "none"

    @model_validator(mode="after")
    def _background_of_v3(self) -> Self:
        if self.base == "tracknet-v2" and self.wants_background:
            raise ValueError(f"background {self.background!r} belongs to base 'tracknet-v3', not to {self.base!r}")
        return self


class TrackNetV5Config(WindowedConfig):
    """TrackNetV5 (arXiv 2512.02789): signed brightness changes as input, drafts refined by a transformer."""

    module: ClassVar[str] = "specktrack.models.heatmap.tracknet_v5:TrackNetV5"
    published_decoding: ClassVar[Decoding] = "largest-contour"

    name: Literal["tracknet-v5"] = "tracknet-v5"
    frames_in: int = Field(default=3, ge=2)
    target: HeatmapTarget = DISK
    loss: Loss = "wbce"
    motion: Literal["signed", "absolute", "none"] = "signed"
    """Brightness changes: by their sign, as input and as attention; without it, as attention only, as in TrackNetV4; or
    not at all."""
    refinement: bool = True
    """Whether a transformer corrects the drafts."""


ENTRIES: tuple[type[WindowedConfig], ...] = (
    TrackNetV1Config,
    TrackNetV2Config,
    TrackNetV3Config,
    TrackNetV4Config,
    TrackNetV5Config,
)
