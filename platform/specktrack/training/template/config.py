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
    """Pictures that it is tested on."""
    max_gap: int = Field(default=200, ge=1)
    """Maximum distance in frames between the base frame and any other."""
    template_jitter: tuple[float, float] = (3.0, 0.25)
    """For templates: range of the centre in target sizes, and standard deviation of the log size."""
    search_jitter: tuple[float, float] | None = None
    """The same for search regions. By default, the range of the centre is half a target size smaller than the region's,
    which is 5.5 for Super-DiMP and 4.5 for DiMP as published, with 0.5."""
    distractors: float = Field(default=0.0, ge=0, lt=1)
    """Share of search regions placed elsewhere in the frame, without a target; none as published."""
    grey: float = Field(default=0.05, ge=0, le=1)
    """Share of samples without colour."""
    mirrored: float = Field(default=0.5, ge=0, le=1)
    """Share of pictures that are mirrored independently; mirroring a whole sample, as published, adds nothing."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of brightness."""


class MkdNetDistillConfig(Config):
    """MKDNet's distillation; each level can be switched off for an ablation."""

    teacher: ModelPlace
    """Teacher model: a name or a path. It is not trained."""
    preset: Literal["paper", "released"] = "paper"
    """Follow the text of the paper, or its released code where that differs."""
    features: bool = True
    """Feature level: consistency and a discriminator on the pooled features of the proposals."""
    scores: bool = True
    """Score level."""
    boxes: bool = True
    """Level of the box scores."""
    tiny_px: float = 16.0
    """Size to which the mean target is degraded, in network px."""
    discriminator_learning_rate: float = 5e-4
    """Adam."""


class TemplateTrainConfig(TrainConfig):
    """Everything that decides the trained weights of a template tracker, and where they go."""

    scope: ClassVar[str] = " for template networks"
    course: ClassVar[str] = "specktrack.training.template.course:TemplateCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("success_auc", "pointing")

    network: SerializeAsAny[TemplateConfig] = SpeckDimpConfig()
    """Network from the zoo: a name, or a mapping of its name and fields."""
    distill: MkdNetDistillConfig | None = None
    """Learn from a teacher as MKDNet does."""
    learning_rates: dict[str, float] = {"": 1e-3}
    """Peak learning rate by prefix of parameter name; the longest matching prefix applies. AdamW."""
    warmup_steps: int = Field(default=50, ge=0)
    """Steps of linear warm-up to the peak learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Applied only to weights with more than one dimension."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Maximum Euclidean norm of the gradient; 0, as published, does not clip."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is saved; 0 saves the weights themselves."""
    pairs: PairConfig = PairConfig()
    """How pictures are drawn and varied."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names and paths of all models whose weights are read."""
        return (*super().models, *((self.distill.teacher,) if self.distill else ()))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.learning_rates:
            raise ValueError("learning_rates matches no parameter; '' matches all")
        if self.batch_size < 2 * self.parts:
            raise ValueError(f"batch_size {self.batch_size}: the box head's norms need two sequences in every shard")
        if self.network.backbone.frozen_stages and not self.init:
            raise ValueError(
                "the backbone's first stages are frozen and would stay random: give initial weights with init, or "
                "train them too by network.backbone.frozen_stages=0"
            )
        if self.distill is not None and self.network.target_model.optimizer == "conjugate-gradient":
            raise ValueError("no scores to distil: ATOM's target model is not trained")
        return self
