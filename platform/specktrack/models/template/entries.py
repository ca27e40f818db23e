"""Zoo entries of the template trackers: from one box they learn a filter for the target, and a box head refines it.

The published figures are those of the papers and their released parameters: ATOM (Danelljan et al., CVPR 2019), DiMP
(Bhat et al., ICCV 2019), PrDiMP (Danelljan et al., CVPR 2020), Super-DiMP and MKDNet (Zhu et al., TNNLS 2023).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from specktrack.config import Config
from specktrack.models.entry import Family, NetworkConfig


class BackboneConfig(Config):
    """A residual network (He et al., CVPR 2016)."""

    block: Literal["basic", "bottleneck"] = "bottleneck"
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 with four times the width going out."""
    depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks per stage; the third stage is the last that is used, a fourth only keeps the keys of ImageNet weights."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels inside each stage; the first is also that of the stem."""
    stem_pool: bool = True
    """Max pooling behind the stem, as published; without it every stride is halved, for targets of few px."""
    classes: int = Field(default=1000, ge=0)
    """Outputs of the unused classifier that ImageNet weights bring along; 0 leaves it away."""
    frozen_stages: int = Field(default=2, ge=0)
    """Stages that keep their first weights in training, with the stem; 0 trains everything."""

    def channels(self, stage: int) -> int:
        """Channels that leave ``stage`` (from 1)."""
        return self.widths[stage - 1] * (4 if self.block == "bottleneck" else 1)

    def stride(self, stage: int) -> int:
        """Network px per cell of what leaves ``stage`` (from 1)."""
        return (4 if self.stem_pool else 2) * 2 ** (stage - 1)


RESNET18 = BackboneConfig(block="basic", depths=(2, 2, 2, 2))
RESNET50 = BackboneConfig()


class TargetModelConfig(Config):
    """The filter that finds the target: how its features are made and how it is learned from samples."""

    features: int = Field(default=512, ge=1)
    """Channels of the features that the filter sees."""
    feature_blocks: int = Field(default=0, ge=0)
    """Residual blocks between backbone and the last convolution of these features."""
    filter_size: int = Field(default=4, ge=1)
    """Side of the filter, in cells."""
    optimizer: Literal["gauss-newton", "newton", "conjugate-gradient"] = "gauss-newton"
    """DiMP's learned least squares, PrDiMP's probabilistic loss, or ATOM's two layers without offline training."""
    iterations: int = Field(default=5, ge=1)
    """Steps of the optimizer while the network is trained offline."""
    first_step: float = Field(default=0.9, gt=0)
    """Initial factor on the optimal step length."""
    first_regularisation: float = Field(default=0.1, gt=0)
    """Initial weight on the filter's own size."""
    least_regularisation: float = Field(default=1e-3, gt=0)
    """The learned weight never falls below it."""
    step_damping: float = Field(default=0.0, ge=0)
    """Added to the curvature when the step length is found."""
    sigma: float = Field(default=0.25, gt=0)
    """Standard deviation of the wanted score's Gaussian, in sides of the target."""


class BoxHeadConfig(Config):
    """ATOM's overlap network: it scores boxes on features that the template modulates."""

    prediction: tuple[int, int] = (256, 256)
    """Channels of the search features on the finer and the coarser level."""
    hidden: tuple[int, int] = (256, 256)
    """Units behind each pooled level."""
    loss: Literal["kl", "iou"] = "kl"
    """PrDiMP's density over boxes, or the squared error of the predicted overlap."""
    emphasis: float = Field(default=1.0, gt=0)
    """Factor on the loss's published weight, which is too small for a backbone that learns from nothing."""
    proposals: int = Field(default=128, ge=2)
    """Boxes per picture in training."""


class OnlineConfig(Config):
    """Settings of the tracker while it follows; the defaults are Super-DiMP's, published with its weights."""

    first_iterations: int = Field(default=10, ge=1)
    """Steps on the initial samples."""
    update_iterations: int = Field(default=2, ge=1)
    """Steps of a regular update."""
    distractor_iterations: int = Field(default=1, ge=1)
    """Steps when another peak competes."""
    update_every: int = Field(default=20, ge=1)
    """Frames between regular updates."""
    memory: int = Field(default=50, ge=16)
    """Samples kept; the least important one makes room."""
    learning_rate: float = Field(default=0.01, gt=0, lt=1)
    """Share of a new sample in the memory's weights."""
    distractor_learning_rate: float = Field(default=0.02, gt=0, lt=1)
    """The same, of a sample with a competing peak."""
    least_initial_weight: float = Field(default=0.25, ge=0, le=1)
    """Share that the samples of the prompt keep forever."""

    softmax: bool = False
    """Scores are a density over cells (PrDiMP)."""
    lost_below: float = 0.25
    """Score of the peak below which the target counts as lost."""
    competing_above: float = 0.8
    """Share of the highest peak from which another one makes the place uncertain."""
    distracting_above: float = 0.5
    """Share of the highest peak from which another one is a distractor to learn from."""
    neighbourhood: float = 2.2
    """Side around a peak, in target sizes, within which there is no other peak."""
    farthest: float = 0.8
    """Displacement, in half sides of the search region, beyond which a peak is less likely the target."""
    between_cells: bool = False
    """A peak's place is the top of a parabola through it and its neighbours; published is the cell, which is a quarter
    of a target wide."""

    boxes: int = Field(default=10, ge=1)
    """Boxes that climb the box head's score: the last one, and variations of it."""
    boxes_averaged: int = Field(default=3, ge=1)
    """The best of them make the result."""
    box_steps: int = Field(default=10, ge=0)
    """Steps of the climb; 0 keeps the prompt's size."""
    box_step: float = Field(default=2.5e-3, gt=0)
    """Length of a step per gradient."""
    box_space: Literal["relative", "pixel"] = "relative"
    """Coordinates of the climb: centre by size and log size (PrDiMP), or corner and size (ATOM, DiMP)."""
    position_jitter: float = 0.1
    """Of the varied boxes, in target sizes."""
    size_jitter: float = 0.5
    """Of the varied boxes, in target sizes."""
    most_aspect: float = 6.0
    """Boxes that grow longer than that are dropped."""
    size_gain: float | None = Field(default=None, gt=0, le=1)
    """Of the box head only this share of its change of size is believed per frame, in both sides alike, and the place
    is that of the peak: a weak head's errors add up from frame to frame. None takes its whole box, as published."""

    follows_flight: bool = False
    """The search region goes ahead of the target by its motion, grows with doubt, and several peaks are weighed by the
    flight to them; published is the last place, and a region of one size."""

    border: Literal["inside_major", "replicate"] = "inside_major"
    """Where the search region reaches over the frame's edge: move and shrink it, or repeat the edge."""
    most_shrink: float = Field(default=1.5, ge=1)
    """Largest shrinking of the search region at an edge."""
    rotations_deg: tuple[float, ...] = (10, -10, 45, -45)
    """Initial samples: rotations."""
    blurs_px: tuple[tuple[float, float], ...] = ((3, 1), (1, 3), (2, 2))
    """Initial samples: blurs, sigma in network px along x and y."""
    shifts: tuple[tuple[float, float], ...] = ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6))
    """Initial samples: shifts along x and y in half sides of the search region."""
    random_shift: float = 1 / 3
    """Of flipped, blurred and rotated samples: largest, in half sides of the search region."""
    dropouts: int = Field(default=2, ge=0)
    """Initial samples whose features lose random channels."""
    dropout: float = 0.2
    """Share of the channels lost."""

    @model_serializer(mode="wrap")
    def _as_models_are_known(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Later settings only where they are used, so that a published tracker keeps its hash."""
        return {name: value for name, value in fields(self).items() if name != "follows_flight" or value}


DIMP_ONLINE = OnlineConfig(box_steps=5, box_step=1.0, box_space="pixel", border="replicate")


class TemplateConfig(NetworkConfig):
    """Settings shared by all template trackers."""

    family: ClassVar[Family] = "template"
    takes_prompt: ClassVar[bool] = True
    module: ClassVar[str] = "specktrack.models.template.dimp:Dimp"

    input_wh: tuple[int, int] = (352, 352)
    """The search region, resized to this."""
    search_area: float = Field(default=6.0, gt=1)
    """Side of the search region, in square roots of the target's area."""
    backbone: BackboneConfig = RESNET50
    target_model: TargetModelConfig = TargetModelConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()
    online: OnlineConfig = OnlineConfig()

    @property
    def stride(self) -> int:
        """Network px per cell of the target model's features."""
        return self.backbone.stride(3)

    @property
    def cells(self) -> int:
        """Cells of the target model's features along a side."""
        return self.input_wh[0] // self.stride

    @property
    def sigma_cells(self) -> float:
        """Standard deviation of the wanted score, in cells."""
        return self.target_model.sigma / self.search_area * self.cells


class AtomConfig(TemplateConfig):
    """ATOM: a two-layer target model learned on the prompt alone, and an overlap network for the box."""

    name: Literal["atom"] = "atom"
    input_wh: tuple[int, int] = (288, 288)
    search_area: float = Field(default=5.0, gt=1)
    backbone: BackboneConfig = RESNET18
    target_model: TargetModelConfig = TargetModelConfig(features=64, optimizer="conjugate-gradient")
    box_head: BoxHeadConfig = BoxHeadConfig(loss="iou", proposals=16)
    online: OnlineConfig = DIMP_ONLINE.model_copy(
        update={
            "memory": 250, "update_every": 10, "update_iterations": 5, "distractor_iterations": 5,
            "first_iterations": 60, "dropouts": 7,
            "rotations_deg": (5, -5, 10, -10, 20, -20, 30, -30, 45, -45, -60, 60),
            "blurs_px": ((2, 0.2), (0.2, 2), (3, 1), (1, 3), (2, 2)),
        }
    )  # fmt: skip


class DimpConfig(TemplateConfig):
    """DiMP: a target model whose learning is itself learned; ResNet-50, or ResNet-18 as the variant dimp18."""

    name: Literal["dimp50"] = "dimp50"
    input_wh: tuple[int, int] = (288, 288)
    search_area: float = Field(default=5.0, gt=1)
    box_head: BoxHeadConfig = BoxHeadConfig(loss="iou", proposals=8)
    online: OnlineConfig = DIMP_ONLINE


class PrDimpConfig(TemplateConfig):
    """PrDiMP: the target's position and its box as densities, learned by their KL divergence."""

    name: Literal["prdimp50"] = "prdimp50"
    input_wh: tuple[int, int] = (288, 288)
    search_area: float = Field(default=5.0, gt=1)
    target_model: TargetModelConfig = TargetModelConfig(
        optimizer="newton", first_step=1.0, first_regularisation=0.05, least_regularisation=0.05, step_damping=0.05
    )
    online: OnlineConfig = OnlineConfig(softmax=True, lost_below=0.04)


class SuperDimpConfig(TemplateConfig):
    """Super-DiMP: DiMP's target model with PrDiMP's box density; the LaTOT paper's baseline."""

    name: Literal["super-dimp"] = "super-dimp"


class MkdNetConfig(TemplateConfig):
    """MKDNet's student: Super-DiMP taught to see degraded, tiny targets as a teacher sees clean ones."""

    name: Literal["mkdnet"] = "mkdnet"


class SpeckDimpConfig(TemplateConfig):
    """The project's compact template tracker for CPUs: Super-DiMP at half the stride on a small search region."""

    name: Literal["speckdimp"] = "speckdimp"
    input_wh: tuple[int, int] = (144, 144)
    search_area: float = Field(default=4.0, gt=1)
    backbone: BackboneConfig = BackboneConfig(
        block="basic", depths=(1, 2, 2), widths=(16, 32, 96), stem_pool=False, classes=0, frozen_stages=0
    )
    target_model: TargetModelConfig = TargetModelConfig(features=96)
    box_head: BoxHeadConfig = BoxHeadConfig(prediction=(64, 96), hidden=(128, 128), proposals=64, emphasis=30)
    online: OnlineConfig = OnlineConfig(between_cells=True, boxes=4, box_steps=0, follows_flight=True)


ENTRIES: tuple[type[TemplateConfig], ...] = (
    AtomConfig,
    DimpConfig,
    PrDimpConfig,
    SuperDimpConfig,
    MkdNetConfig,
    SpeckDimpConfig,
)
VARIANTS: dict[str, dict[str, object]] = {
    "dimp18": {
        "name": "dimp50",
        "backbone": RESNET18.model_dump(),
        "target_model": {"features": 256, "feature_blocks": 1},
        "box_head": {"loss": "iou", "proposals": 8},
    },
    "mkdnet-released": {  # the paper says that its online parameters are Super-DiMP's
        "name": "mkdnet",
        "online": {"first_iterations": 25, "update_iterations": 3, "distractor_iterations": 3},
    },
}
"""DiMP on ResNet-18, and MKDNet with the online parameters of its released code."""
