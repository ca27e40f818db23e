"""Zoo entries of the networks that tell what a followed object is."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from specktrack.models.entry import Family, NetworkConfig

SKY = ("drone", "bird", "airplane", "helicopter")
"""What flies there."""


class KindNetConfig(NetworkConfig):
    """The project's own: pictures of an object at source size, several frames of it, and what it is."""

    family: ClassVar[Family] = "kind"
    module: ClassVar[str] = "specktrack.models.kinds.kindnet:KindNet"

    name: Literal["kindnet"] = "kindnet"
    kinds: tuple[str, ...] = Field(default=SKY, min_length=2)
    """The words it chooses from."""
    frames_in: int = Field(default=32, ge=1)
    """Newest frames of a track that are looked at together."""
    input_wh: tuple[int, int] = (96, 96)
    """Size of the luma that is cut around a position, source px: multiples of 16. Its middle half is seen as it is, the
    whole at half the size beside it."""
    widths: tuple[int, int, int] = (12, 24, 40)
    """Channels of the first layer and the later ones at half size, and of those at quarter size."""
    features: int = Field(default=48, ge=1)
    """Numbers that one picture becomes."""

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        width, height = self.input_wh
        if width != height or width % 16:
            raise ValueError(f"input_wh {width},{height} must be a square of a multiple of 16")
        if len(set(self.kinds)) < len(self.kinds) or "" in self.kinds:
            raise ValueError(f"kinds {self.kinds} must be distinct words")
        return self


ENTRIES: tuple[type[NetworkConfig], ...] = (KindNetConfig,)
