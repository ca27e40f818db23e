"""Zoo entries of the search networks: from a template they find the target anywhere in a whole frame."""

from typing import ClassVar, Literal

from pydantic import Field

from specktrack.models.entry import Family, NetworkConfig


class SearchConfig(NetworkConfig):
    """Settings shared by all search networks."""

    family: ClassVar[Family] = "search"
    takes_prompt: ClassVar[bool] = True

    input_wh: tuple[int, int] = (640, 352)
    """The whole frame, resized to about this."""
    template_px: int = Field(default=64, ge=32, multiple_of=16)
    """Side of the template's crop, at the frame's scale, so that the target's size is seen; larger targets shrink."""
    points: int = Field(default=4, ge=1)
    """Points inside and points outside the box that the loss looks at, whatever the object's size."""


class GlobalSearchConfig(SearchConfig):
    """The project's global search: correlation with the template on three levels, each supervised by points."""

    name: Literal["global-search"] = "global-search"
    module: ClassVar[str] = "specktrack.models.search.global_search:GlobalSearch"
    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the network size."""
    matches: tuple[int, int, int] = (16, 24, 24)
    """Channels that are compared with the template at 1/2, 1/4 and 1/8."""


ENTRIES: tuple[type[SearchConfig], ...] = (GlobalSearchConfig,)
