"""How a video is followed, as one configuration: every verb, the server and the Python API hold it or inherit it.

A new setting is one field here. ``tracker.make_tracker`` is the only way from it to rows; this module loads no torch.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from specktrack.config import Config, validated
from specktrack.errors import ConfigError
from specktrack.models.entry import Family
from specktrack.models.heatmap.engines import EngineChoice
from specktrack.models.heatmap.entries import Decoding
from specktrack.models.zoo import DEFAULT_MODEL, ModelPlace

Delay = Literal["full", "low"]
"""How long a row waits for what comes after its picture."""
Ensemble = Literal["middle", "average", "triangular", "pooled"]
"""How the windows that see a frame are weighed: ``middle`` is the project's, the mean in which a window's middle counts
most; ``average`` is the plain mean; ``triangular`` is TrackNetV3's, equal to ``middle`` but a plain mean at a video's
ends; ``pooled`` takes no mean but the regions of each heatmap side by side, and with an overlap of all frames it is
WASB's step 1. With an overlap of 1 they are all TrackNetV3's ``nonoverlap`` and WASB's step 3."""


class Reading(Config):
    """How one position per frame comes from the heatmaps of overlapping windows."""

    input_wh: tuple[int, int] | None = None
    """Size to which a 16:9 video is scaled for a heatmap network, in multiples of 16; by default the model's own. A
    larger size shows smaller objects and takes longer, in proportion to its area. Other aspect ratios keep the area."""
    overlap: int = Field(default=2, ge=1)
    """Number of windows of a heatmap network that see each frame. 1 is fastest; frames_in is the full temporal
    ensemble."""
    ensemble: Ensemble = "middle"
    """How the heatmaps of overlapping windows are combined: middle (the middle of a window weighs most), average, or
    triangular (TrackNetV3's). pooled decodes each separately; with decoding=components and an overlap of all frames it
    is WASB's step 1."""
    decoding: Decoding = "peaks"
    """How positions are found in a heatmap: peaks (sub-pixel, chosen by the trajectory around them), or a paper's rule:
    largest-box (TrackNetV2 to V4), largest-contour (V5), hough (V1), components (WASB)."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Minimum score of an isolated peak; by default the decoding's own. A lower threshold finds more objects and makes
    more mistakes, at no cost in time."""
    delay: Delay = "full"
    """When a row is final. full waits for all windows and neighbours of its frame (14 frames by default). low, for live
    video, gives each frame one window, which ends with it, and waits for two frames: slightly less accurate, and
    frames_in times as many forward passes as with an overlap of 1."""
    flip: bool = False
    """Average with the heatmaps of the mirrored picture: slightly more accurate, and takes twice as long."""
    time_step: float | None = Field(default=None, ge=0)
    """Seconds between the frames of a window; by default the step the model was trained with, from its card. Video with
    a higher frame rate is followed as several interleaved videos of a lower rate, so every frame has a row. 0 takes
    consecutive frames."""

    @field_validator("input_wh")
    @classmethod
    def _halved_four_times(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and any(side < 16 or side % 16 for side in value):
            width, height = (max(1, round(side / 16)) * 16 for side in value)
            raise ValueError(f"both sides must be multiples of 16: use {width},{height}")
        return value

    @model_validator(mode="after")
    def _pools_regions(self) -> Self:
        if self.ensemble == "pooled" and self.decoding != "components":
            raise ValueError("ensemble=pooled needs decoding=components")
        return self


class Manner(Reading):
    """How any model's outputs become rows: how they are read, and what helps."""

    repair: ModelPlace = "none"
    """How gaps are filled: none, ballistic, inpaintnet, or the path of a repair network. Filled rows are marked."""
    repair_gap: int | None = Field(default=None, ge=0)
    """Longest gap that is filled, frames, in place of the repair's own (ballistic 8, inpaintnet 16). 0 sets no limit,
    as InpaintNet is published: a row is then final when the video ends."""
    finder: ModelPlace | None = None
    """Search network (name or path) that finds the target again when a template model has lost it."""
    kinds: ModelPlace | None = None
    """A kind network (kindnet, or a path) that says what each object is, with a probability: drone, bird, airplane or
    helicopter. It looks at the video's own pixels around the positions of the last second, in 1 ms per row."""
    engine: EngineChoice = "auto"
    """Engine that runs a heatmap network: auto (the fastest on this machine that gives the same rows), eager,
    eager-bf16, compiled, openvino, openvino-bf16, onnx, cuda-graphs, or openvino-int8 (faster, with different rows)."""

    @model_validator(mode="after")
    def _fills_gaps(self) -> Self:
        if self.repair_gap is not None and self.repair == "none":
            raise ValueError("repair_gap goes with repair: name what fills gaps")
        return self

    def for_family(self, family: Family) -> "Manner":
        """Without what a network of ``family`` cannot use, for those who set up several models at once."""
        kept = Manner.model_fields.keys() - NOT_FOR[family]
        return Manner(**{name: getattr(self, name) for name in kept})


class Following(Manner):
    """Which model follows, and how its outputs become rows."""

    model: ModelPlace = DEFAULT_MODEL
    """Name of a packaged model, or the path of a checkpoint."""

    @classmethod
    def of(cls, model: str, manner: Manner | Mapping[str, Any]) -> Self:
        """A model with the settings of a larger configuration, or with those given; ConfigError for an unknown one."""
        if isinstance(manner, Manner):
            manner = {name: getattr(manner, name) for name in Manner.model_fields}
        return validated(cls, {**manner, "model": model}, "how a video is followed")

    def check(self, family: Family, name: str) -> None:
        """ConfigError for a setting that a network of ``family``, called ``name``, cannot use."""
        if unused := sorted(changed(self) & NOT_FOR[family]):
            taker = next(other for other, refused in NOT_FOR.items() if unused[0] not in refused)
            what, remedy = f"a {family} network takes no {unused[0]}", f"only a {taker} network does: leave it out"
            raise ConfigError(what, name, remedy=remedy)


_HEATMAPS = frozenset(Reading.model_fields) | {"engine"}
NOT_FOR: Mapping[Family, frozenset[str]] = {
    "windowed": frozenset({"finder"}),
    "template": _HEATMAPS,
    "search": _HEATMAPS | {"finder"},
    "repair": _HEATMAPS | {"finder"},
    "kind": _HEATMAPS | {"finder"},
}
"""Settings that mean nothing to a family's networks."""


def changed(manner: Manner) -> set[str]:
    """Names of the settings that are not at their defaults."""
    return {name for name, field in Manner.model_fields.items() if getattr(manner, name) != field.default}
