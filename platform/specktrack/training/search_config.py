"""What a training run of a search network is told."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from specktrack.config import Config, VerbConfig
from specktrack.errors import ConfigError
from specktrack.models import network_config
from specktrack.models.search_entries import GlobalSearchConfig, SearchConfig


class SearchSamplingConfig(Config):
    """How a template and the frame to search in are drawn."""

    crop_wh: tuple[int, int] = (160, 112)
    """Size of a searched picture, network px."""
    sizes_net: tuple[float, ...] = (2.5, 4, 6, 9, 14, 22, 36)
    """Bounds of the size buckets, network px: every bucket gets the same number of targets."""
    own_objects: float = Field(default=0.2, ge=0, le=1)
    """Share of samples that follow a labelled object of the videos; the others follow a drawn or cut-out one."""
    absent: float = Field(default=0.15, ge=0, lt=1)
    """Share of samples in which the target is not to be found."""
    distractors: int = Field(default=4, ge=0)
    """Largest number of other objects in a searched picture."""
    most_gap: int = Field(default=30, ge=1)
    """Frames between template and searched picture, at most."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if len(self.sizes_net) < 2 or list(self.sizes_net) != sorted(set(self.sizes_net)) or self.sizes_net[0] <= 0:
            raise ValueError(f"sizes_net {self.sizes_net} must be positive and rise")
        if any(side % 16 for side in self.crop_wh):
            raise ValueError(f"crop_wh {self.crop_wh} must be multiples of 16")
        return self


class SearchTrainConfig(VerbConfig):
    """Everything that decides the trained weights of a search network, and where they go."""

    verb: ClassVar[str] = "search_train"

    data: tuple[str, ...] = Field(min_length=1)
    """Datasets whose videos are the background, and whose labelled objects are some of the targets."""
    output: str
    """Folder or s3:// prefix for the model, checkpoints and logs; an unfinished run in it is resumed."""
    network: SerializeAsAny[SearchConfig] = GlobalSearchConfig()
    """Search network of the zoo: its name, or a mapping of name and fields."""
    init: str = ""
    """Model whose weights to start from: a name or a path."""

    steps: int = Field(default=4000, ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int = Field(default=8, ge=1)
    """Samples per step over all workers."""
    learning_rate: float = Field(default=6e-3, gt=0)
    """Peak of the schedule: linear warm-up, then half a cosine down to 1 %."""
    warmup_steps: int = Field(default=50, ge=0)
    """Steps until the peak."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW, on convolution weights only."""
    optimiser: Literal["adamw"] = "adamw"
    """Its name."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What follows the warm-up."""
    clip_norm: float = Field(default=5.0, ge=0)
    """Largest norm of the gradient; 0 does not limit it."""
    average: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the moving average of the weights; the average is what is saved."""
    sampling: SearchSamplingConfig = SearchSamplingConfig()
    """How samples are drawn."""
    seed: int = 0
    """Decides initial weights, order, crops and objects."""

    workers: int = Field(default=1, ge=0)
    """Ray Train workers: gloo on CPUs, nccl on GPUs; 0 trains in this process, without a cluster."""
    gpu: bool | None = None
    """One GPU per worker; the default uses GPUs where the cluster has them."""
    address: str = "auto"
    """Ray cluster: auto, local or an address."""
    cache: str = "~/.cache/specktrack/frames"
    """Folder on each node for decoded training video."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of metrics."""
    checkpoint_every: int = Field(default=250, ge=1)
    """Steps between checkpoints; at most that many are repeated after a crash."""

    name: str = ""
    """Name of the resulting weights; the network's by default."""
    description: str = ""
    """One sentence for the model card."""
    licence: str = ""
    """Licence of the weights, for the model card."""

    @property
    def milestones(self) -> tuple[float, ...]:
        """No schedule here has steps."""
        return ()

    @field_validator("network", mode="before")
    @classmethod
    def _from_zoo(cls, value: Any) -> Any:
        if isinstance(value, (str, dict)):
            try:
                return network_config(value)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.batch_size % max(1, self.workers):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of workers {self.workers}")
        return self
