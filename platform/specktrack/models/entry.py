"""Description of every network in the zoo, without loading torch."""

import inspect
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from specktrack.config import Config

Family = Literal["windowed", "template", "search", "repair", "kind"]
"""How a network is used: on windows of frames, on a search region with a template, on a whole frame with a template, on
a trajectory, or on pictures cut around what was found. Each family has one session in ``tracking``."""


MOST_INPUT_PX = 2**26
"""Of one forward pass, all frames together: 800 MB as numbers. The largest of the zoo sees a tenth of it."""


class NetworkConfig(Config):
    """One network with all that decides its shape; subclasses give their family, their module and their fields."""

    family: ClassVar[Family]
    takes_prompt: ClassVar[bool] = False
    """Whether it follows what a prompt's box shows, and nothing without one."""
    module: ClassVar[str]
    """``module:class`` of the network, imported when it is built."""

    name: str
    """The network's name in the zoo."""
    frames_in: int = Field(default=1, ge=1)
    """Consecutive frames that one forward pass sees."""
    input_wh: tuple[int, int]
    """Width and height of what one forward pass sees, in network px."""

    @model_validator(mode="after")
    def _within_reason(self) -> Self:
        width, height = self.input_wh
        if min(width, height) < 1 or self.frames_in * width * height > MOST_INPUT_PX:
            seen = f"{self.frames_in} x {width} x {height}"
            raise ValueError(f"frames_in x input_wh is {seen} px; it must be between 1 and {MOST_INPUT_PX}")
        return self

    @property
    def frames_out(self) -> int:
        """Frames that one forward pass speaks about."""
        return self.frames_in

    @classmethod
    def about(cls) -> str:
        """The network's description and origin: its entry's docstring, on one line."""
        return " ".join(inspect.cleandoc(cls.__doc__ or "").split())
