"""Zoo entries of the networks that repair a trajectory: they see positions, never a picture."""

from typing import ClassVar, Literal

from pydantic import Field

from specktrack.models.entry import Family, NetworkConfig

REPAIRS = ("none", "ballistic")
"""Ways to treat gaps that need no network."""


class InpaintNetConfig(NetworkConfig):
    """InpaintNet, the trajectory rectification network of TrackNetV3 (Chen and Wang, MMAsia 2023)."""

    family: ClassVar[Family] = "repair"
    module: ClassVar[str] = "specktrack.models.repair.inpaint:InpaintNet"

    name: Literal["inpaintnet"] = "inpaintnet"
    frames_in: int = Field(default=16, ge=1)
    """Consecutive positions that one forward pass sees; the paper tried 8, 16 and 32."""
    input_wh: tuple[int, int] = (512, 288)
    """The picture size that positions are divided by."""


ENTRIES: tuple[type[NetworkConfig], ...] = (InpaintNetConfig,)
