"""Settings for training a network on windows of frames."""

from typing import ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from specktrack.augment import AugmentConfig
from specktrack.config import Config
from specktrack.models.heatmap.entries import SpeckNetConfig, WindowedConfig
from specktrack.sampling import SamplingConfig
from specktrack.training.config import EpochsConfig
from specktrack.training.places import ModelPlace


class DistillConfig(Config):
    """Terms that a teacher adds to the loss beside the labels, with their weights."""

    teacher: ModelPlace = Field(min_length=1)
    """Teacher model: a name or a path. It is not trained."""
    heatmap: float = Field(default=1.0, ge=0)
    """Weight of the loss against the teacher's heatmap."""
    position: float = Field(default=0.0, ge=0)
    """Weight of the distance to the teacher's position, network px."""
    feature: float = Field(default=0.0, ge=0)
    """Weight of the distance between features; needs ``stages``."""
    stages: tuple[tuple[str, str], ...] = ()
    """Pairs of modules of student and teacher whose outputs are compared."""

    @model_validator(mode="after")
    def _terms(self) -> Self:
        if bool(self.feature) != bool(self.stages):
            raise ValueError("feature and stages must be given together")
        if not (self.heatmap or self.position or self.feature):
            raise ValueError("all weights are 0: set heatmap, position or feature")
        return self


class MiningConfig(Config):
    """Which frames are hard, and how their labels are softened (WASB's mining of hard samples)."""

    model: ModelPlace = Field(min_length=1)
    """Model that finds hard samples: frames in which its position is more than 4 source px but less than 10 network px
    from the label. WASB does this once, after epoch 20 of 30: use the model of a first run, and also start from it
    (``init``)."""
    smallest: float = Field(default=0.7, gt=0.5, lt=1)
    """Value of a label at its radius, c_min: 0.7 in the paper, 0.6 in the public configuration."""


class WindowedTrainConfig(EpochsConfig):
    """Everything that decides the trained weights, and where they go."""

    scope: ClassVar[str] = " for windowed networks"
    course: ClassVar[str] = "specktrack.training.windowed.course:WindowedCourse"
    measured_on: ClassVar[str] = "validation or hold_out_every"
    measured_by: ClassVar[tuple[str, ...]] = ("f1", "accuracy")

    network: SerializeAsAny[WindowedConfig] = SpeckNetConfig()
    """Network from the zoo: a name, or a mapping of its name and fields."""
    hold_out_every: int = Field(default=0, ge=0)
    """Keep every n-th training video for validation; 0 keeps none."""
    distill: DistillConfig | None = None
    """A teacher to learn from beside the labels."""
    mining: MiningConfig | None = None
    """Softer labels for frames that a model of an earlier run gets wrong."""
    decoys: ModelPlace | None = None
    """Model of an earlier run whose false positives are mined for ``sampling.on_decoy``."""
    occluded: Literal["absent", "drawn"] = "absent"
    """How to train on an object that is labelled as occluded: as absent, like WASB, or at its position, like
    TrackNetV1, V2, V4 and V5."""
    sampling: SamplingConfig = SamplingConfig()
    """Where crops are taken and how they vary."""
    augment: AugmentConfig = AugmentConfig()
    """How strongly light, colour and noise vary, and what is mixed."""
    compile: bool = False
    """Compile the network. This takes about a minute; on CPUs, steps become at most a tenth faster (docs/log.md)."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names and paths of all models whose weights are read."""
        teacher = (self.distill.teacher,) if self.distill else ()
        mining = (self.mining.model,) if self.mining else ()
        return (*super().models, *teacher, *mining, *((self.decoys,) if self.decoys else ()))

    @property
    def measures(self) -> bool:
        """Whether there is something to measure on."""
        return super().measures or bool(self.hold_out_every)

    @property
    def reads_ahead(self) -> bool:
        """Whether whole videos are looked through before training begins: by models that mine."""
        return bool(self.mining or self.decoys)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.mining and (self.augment.mix != "none" or self.network.target.kind != "disk"):
            raise ValueError("mining needs augment.mix=none and a target of kind disk")
        if bool(self.sampling.on_decoy) != bool(self.decoys):
            raise ValueError("decoys (the model to mine) and sampling.on_decoy must be given together")
        if self.sampling.shares and len(self.sampling.shares) != len(self.data):
            raise ValueError(
                f"sampling.shares has {len(self.sampling.shares)} numbers, but data has {len(self.data)} datasets"
            )
        crop_wh = self.sampling.crop_wh
        if any(side % 16 for side in crop_wh) and crop_wh != self.network.input_wh:
            raise ValueError(f"sampling.crop_wh {crop_wh} must be multiples of 16, or the network's input_wh")
        return self
