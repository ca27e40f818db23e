"""Settings for training a template tracker."""

from typing import ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from specktrack.config import Config
from specktrack.models.template.entries import SpeckDimpConfig, TemplateConfig
from specktrack.training.config import TrainConfig
from specktrack.training.places import ModelPlace


class PairConfig(Config):
    """How pictures are drawn and varied; the defaults are Super-DiMP's."""

    templates: int = Field(default=3, ge=1)
    """Pictures that the target model learns from."""
    searches: int = Field(default=3, ge=1)
    """Pictures that it is judged on."""
    max_gap: int = Field(default=200, ge=1)
    """Frames between the base frame and any other."""
    template_jitter: tuple[float, float] = (3.0, 0.25)
    """Of templates: range of the centre in target sizes, and standard deviation of the log size."""
    search_jitter: tuple[float, float] | None = None
    """Of search regions: the same. None lets centres reach half a target size less far than the region does, which is
    5.5 for Super-DiMP and 4.5 for DiMP as published, and 0.5."""
    distractors: float = Field(default=0.0, ge=0, lt=1)
    """Share of search regions that show what is elsewhere in the frame, and no target; none as published."""
    grey: float = Field(default=0.05, ge=0, le=1)
    """Share of samples without colour."""
    mirrored: float = Field(default=0.5, ge=0, le=1)
    """Share of pictures that are mirrored, each by itself; a sample's common mirror, as published, adds nothing."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of a picture's light."""


class MkdNetDistillConfig(Config):
    """MKDNet's distillation; each level can be switched off for an ablation."""

    teacher: ModelPlace
    """Model that teaches: a name or a path."""
    preset: Literal["paper", "released"] = "paper"
    """The paper's text, or its released code where that differs."""
    features: bool = True
    """Feature level: consistency and a discriminator on the proposals' pooled features."""
    scores: bool = True
    """Score level."""
    boxes: bool = True
    """Level of the box scores."""
    tiny_px: float = 16.0
    """Side to which the mean target is degraded, in network px."""
    discriminator_learning_rate: float = 5e-4
    """Adam."""


class TemplateTrainConfig(TrainConfig):
    """Everything that decides the trained weights of a template tracker, and where they go."""

    scope: ClassVar[str] = " for template networks"
    course: ClassVar[str] = "specktrack.training.template.course:TemplateCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("success_auc", "pointing")

    network: SerializeAsAny[TemplateConfig] = SpeckDimpConfig()
    """Network of the zoo: its name, or a mapping of name and fields."""
    distill: MkdNetDistillConfig | None = None
    """Learn from a teacher as MKDNet does."""
    learning_rates: dict[str, float] = {"": 1e-3}
    """Peak by the beginning of a parameter's name; the longest that fits counts. AdamW."""
    warmup_steps: int = Field(default=50, ge=0)
    """Steps of a linear rise to the peak."""
    weight_decay: float = Field(default=0.0, ge=0)
    """On weights of more than one dimension only."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Longest gradient, by its Euclidean norm; 0 leaves gradients as they are, as published."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is saved; 0 saves the weights themselves."""
    pairs: PairConfig = PairConfig()
    """How pictures are drawn and varied."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names and paths of all models whose weights are read."""
        return (*super().models, *((self.distill.teacher,) if self.distill else ()))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.learning_rates:
            raise ValueError("learning_rates names no parameter; '' stands for all")
        if self.batch_size < 2 * self.parts:
            raise ValueError(f"batch_size {self.batch_size}: the box head's norms need two sequences in every shard")
        if self.network.backbone.frozen_stages and not self.init:
            raise ValueError(
                "the backbone's first stages are frozen and would stay random: give init weights to start from, or "
                "train them too by network.backbone.frozen_stages=0"
            )
        if self.distill is not None and self.network.target_model.optimizer == "conjugate-gradient":
            raise ValueError("no scores to distil: ATOM's target model is not trained")
        return self
