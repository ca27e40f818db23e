"""Settings for training a search network."""

from typing import ClassVar, Self

from pydantic import Field, SerializeAsAny, model_validator

from specktrack.config import Config
from specktrack.models.search.entries import GlobalSearchConfig, SearchConfig
from specktrack.training.config import OneRateConfig


class SearchSamplingConfig(Config):
    """How a template and the frame to search in are drawn."""

    crop_wh: tuple[int, int] = (160, 112)
    """Size of a searched picture, network px."""
    sizes_net: tuple[float, ...] = (2.5, 4, 6, 9, 14, 22, 36)
    """Bounds of the size buckets, network px; every bucket gets the same number of targets."""
    own_objects: float = Field(default=0.2, ge=0, le=1)
    """Share of samples that follow a labelled object of the videos; the others follow a drawn or cut-out one."""
    absent: float = Field(default=0.15, ge=0, lt=1)
    """Share of samples without the target."""
    distractors: int = Field(default=4, ge=0)
    """Maximum number of other objects in a search picture."""
    most_gap: int = Field(default=30, ge=1)
    """Maximum number of frames between the template and the search picture."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if len(self.sizes_net) < 2 or list(self.sizes_net) != sorted(set(self.sizes_net)) or self.sizes_net[0] <= 0:
            raise ValueError(f"sizes_net {self.sizes_net} must be positive and increasing")
        if any(side % 16 for side in self.crop_wh):
            raise ValueError(f"crop_wh {self.crop_wh} must be multiples of 16")
        return self


class SearchTrainConfig(OneRateConfig):
    """Everything that decides the trained weights of a search network, and where they go."""

    scope: ClassVar[str] = " for search networks"
    course: ClassVar[str] = "specktrack.training.search.course:SearchCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("success_auc", "pointing")

    network: SerializeAsAny[SearchConfig] = GlobalSearchConfig()
    """Network from the zoo: a name, or a mapping of its name and fields."""
    steps: int = Field(default=4000, ge=1)
    """Optimiser steps of the whole run."""
    learning_rate: float = Field(default=6e-3, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=50, ge=0)
    """Steps of linear warm-up to the peak learning rate."""
    average: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the moving average of the weights; the average is what is saved and validated."""
    sampling: SearchSamplingConfig = SearchSamplingConfig()
    """How samples are drawn."""
