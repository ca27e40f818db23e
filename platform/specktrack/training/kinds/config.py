"""Settings for training a network that tells what an object is."""

from typing import ClassVar

from pydantic import Field, SerializeAsAny

from specktrack.config import Config
from specktrack.models.kinds.entries import KindNetConfig
from specktrack.training.config import OneRateConfig


class KindSamplingConfig(Config):
    """How pictures of an object are drawn and varied."""

    frames: int = Field(default=4, ge=1)
    """Pictures in a sample, from a run of 1 to ``frames_in`` frames of one track."""
    jitter_px: float = Field(default=2.5, ge=0)
    """Standard deviation by which each picture's centre is off, as a tracker's is, and again for all of them alike."""
    scale: float = Field(default=0.25, ge=0, lt=0.9)
    """Largest share by which all are shown larger or smaller."""
    turn_deg: float = Field(default=8.0, ge=0)
    """Largest turn of all."""
    gamma: float = Field(default=0.4, ge=0)
    """Largest logarithm of the exponent that bends brightness."""
    inverted: float = Field(default=0.1, ge=0, le=1)
    """Share of samples with dark and bright exchanged: a hot motor on cold sky is a dark drone on bright sky."""
    blurred: float = Field(default=0.3, ge=0, le=1)
    """Share of samples that are blurred."""
    noise: float = Field(default=3.0, ge=0)
    """Largest standard deviation of noise, grey levels."""


class KindTrainConfig(OneRateConfig):
    """Everything that decides the trained weights of a network that tells kinds, and where they go."""

    scope: ClassVar[str] = " for kind networks"
    course: ClassVar[str] = "specktrack.training.kinds.course:KindCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("accuracy",)
    sees_pictures: ClassVar[bool] = False
    """It does, but all that it sees of them is cut when a run begins."""

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
