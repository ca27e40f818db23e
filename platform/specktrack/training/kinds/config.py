"""Settings for training a kind network."""

from typing import ClassVar

from pydantic import Field, SerializeAsAny

from specktrack.config import Config
from specktrack.models.kinds.entries import KindNetConfig
from specktrack.training.config import OneRateConfig


class KindSamplingConfig(Config):
    """How crops of an object are drawn and augmented."""

    frames: int = Field(default=4, ge=1)
    """Crops in a sample, taken from 1 to ``frames_in`` consecutive frames of one track."""
    jitter_px: float = Field(default=2.5, ge=0)
    """Standard deviation of the shift of each crop, as trackers are off, and of a second shift common to the sample."""
    scale: float = Field(default=0.25, ge=0, lt=0.9)
    """Largest relative change of size of a sample."""
    rotation_deg: float = Field(default=8.0, ge=0)
    """Largest rotation of a sample."""
    gamma: float = Field(default=0.4, ge=0)
    """Range of the logarithm of the gamma exponent."""
    inverted: float = Field(default=0.1, ge=0, le=1)
    """Share of samples with inverted brightness: thermal video shows bright objects on a dark sky."""
    blurred: float = Field(default=0.3, ge=0, le=1)
    """Share of samples that are blurred."""
    noise: float = Field(default=3.0, ge=0)
    """Largest standard deviation of noise, grey levels."""


class KindTrainConfig(OneRateConfig):
    """Settings of a kind network's training run."""

    scope: ClassVar[str] = " for kind networks"
    course: ClassVar[str] = "specktrack.training.kinds.course:KindCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("accuracy",)
    sees_pictures: ClassVar[bool] = False
    """It does, but its crops are cut once, when a run begins."""

    network: SerializeAsAny[KindNetConfig] = KindNetConfig()
    """Network of the zoo: its name, or a mapping of name and fields."""
    steps: int = Field(default=2000, ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int = Field(default=32, ge=1)
    """Samples per step over all workers."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak of the schedule."""
    average: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the moving average of the weights; the average is what is saved and measured."""
    sampling: KindSamplingConfig = KindSamplingConfig()
    """How samples are drawn."""
