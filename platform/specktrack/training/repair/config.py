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
    """Share of frames hidden individually; of 0.2, 0.3 and 0.4, TrackNetV3 found 0.3 best."""
    runs: float = Field(default=0.0, ge=0, le=1)
    """Share of windows in which one run of frames is hidden instead, like the gaps of detectors."""
    mirror: float = Field(default=0.0, ge=0, le=1)
    """Share of windows mirrored, and of windows reversed in time."""


class RepairTrainConfig(EpochsConfig):
    """Everything that decides the trained weights of a network that repairs trajectories, and where they go."""

    scope: ClassVar[str] = " for repair networks"
    course: ClassVar[str] = "specktrack.training.repair.course:RepairCourse"
    measured_by: ClassVar[tuple[str, ...]] = ("accuracy",)
    sees_pictures: ClassVar[bool] = False

    network: SerializeAsAny[InpaintNetConfig] = InpaintNetConfig()
    """Network from the zoo: a name, or a mapping of its name and fields."""
    rows: Place = ""
    """A tracker's rows for all videos of ``data`` and ``validation``, as written by ``annotate``: the network then gets
    these as input, as published, and predicts the labels. Without them, its input is the labels."""
    precision: Literal["fp32"] = "fp32"
    """Positions, in shares of the picture, have more digits than bf16."""
    hiding: HidingConfig = HidingConfig()
    """The parts that the network learns to restore."""
