"""Zoo entries of the networks that classify followed objects."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from specktrack.models.entry import Family, NetworkConfig

SKY = ("drone", "bird", "airplane", "helicopter")
"""The classes of the shipped weights."""


class KindNetConfig(NetworkConfig):
    """The project's own: classifies an object from crops at source size in several frames."""

    family: ClassVar[Family] = "kind"
    module: ClassVar[str] = "specktrack.models.kinds.kindnet:KindNet"

    name: Literal["kindnet"] = "kindnet"
    kinds: tuple[str, ...] = Field(default=SKY, min_length=2)
    """The classes."""
    frames_in: int = Field(default=32, ge=1)
    """Latest frames of a track that are classified together."""
    input_wh: tuple[int, int] = (96, 96)
    """Size of the crop, source px: a square, multiple of 16. Its central half is seen at full size, the whole crop at
    half size."""
    widths: tuple[int, int, int] = (12, 24, 40)
    """Channels of the first layer and the later ones at half size, and of those at quarter size."""
    features: int = Field(default=48, ge=1)
    """Features per crop."""

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        width, height = self.input_wh
        if width != height or width % 16:
            raise ValueError(f"input_wh {width},{height} must be a square of a multiple of 16")
        if len(set(self.kinds)) < len(self.kinds) or "" in self.kinds:
            raise ValueError(f"kinds {self.kinds} must be distinct words")
        return self


ENTRIES: tuple[type[NetworkConfig], ...] = (KindNetConfig,)
