"""Settings for training a network that repairs trajectories."""

from typing import ClassVar, Literal

from pydantic import Field, SerializeAsAny

from specktrack.config import Config
from specktrack.models.repair.entries import InpaintNetConfig
from specktrack.training.config import EpochsConfig
from specktrack.training.places import Place


class HidingConfig(Config):
    """Which parts of a trajectory are hidden from a network that learns to repair it."""

    frames: float = Field(default=0.3, ge=0, le=1)
    """Share of the frames hidden one by one; TrackNetV3 found 0.3 the best of 0.2, 0.3 and 0.4."""
    runs: float = Field(default=0.0, ge=0, le=1)
    """Share of windows in which one run of frames is hidden instead: gaps as detectors leave them."""
    mirror: float = Field(default=0.0, ge=0, le=1)
    """Share of windows mirrored, and of windows reversed in time."""


class RepairTrainConfig(EpochsConfig):
    """Everything that decides the trained weights of a network that repairs trajectories, and where they go."""

    scope: ClassVar[str] = " for repair networks"
    course: ClassVar[str] = "specktrack.training.repair.course:RepairCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("accuracy",)
    sees_pictures: ClassVar[bool] = False

    network: SerializeAsAny[InpaintNetConfig] = InpaintNetConfig()
    """Network of the zoo: its name, or a mapping of name and fields."""
    rows: Place = ""
    """A tracker's rows of all videos of ``data`` and ``validation``, as ``annotate`` writes them: the network then sees
    these, as published, and is to find the labels. Without them it sees the labels."""
    precision: Literal["fp32"] = "fp32"
    """Positions, in shares of the picture, have more digits than bf16."""
    hiding: HidingConfig = HidingConfig()
    """The parts that the network learns to restore."""
