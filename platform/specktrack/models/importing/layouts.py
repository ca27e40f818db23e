"""Public layouts of weights: which network a layout is for, and the key of each of its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Public:
    """The content of a public checkpoint."""

    tensors: dict[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that its program saved with the weights, such as TrackNetV3's background mode."""


def _as_they_are(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


@dataclass(frozen=True)
class Layout:
    """One public program's way to name and lay out one network's weights."""

    origin: str
    """Whose, in words."""
    sign: str
    """A key that no other layout has."""
    network: Callable[[Public], dict[str, object]]
    """The network's name and fields, from shapes and settings."""
    key: Callable[[str], str]
    """From our tensor's name to the public key."""
    settle: Callable[[dict[str, Tensor]], dict[str, Tensor]] = _as_they_are
    """Makes up for differences that are no names, on tensors by our names."""
    part: str = ""
    """How the names of our tensors begin that such a file has; all, if empty."""
    beside: tuple[str, ...] = ()
    """How the keys of other networks begin that lie in the same file; they are left there."""


BLOCKS = {"down1": 2, "down2": 2, "down3": 3, "bottom": 3, "up3": 3, "up2": 2, "up1": 2}
"""Convolutions in each block of the TrackNet line, in order."""


def place_in_line(name: str) -> tuple[int, int, str] | None:
    """(number of the convolution in the whole network from 1, layer in its block's triple, leaf) of a TrackNet tensor.

    Blocks are flat: the n-th triple holds a convolution and, in either order, ReLU and norm. None for other tensors.
    """
    block, _, rest = name.removeprefix("unet.").partition(".")
    index, _, leaf = rest.partition(".")
    if block not in BLOCKS:
        return None
    before = sum(list(BLOCKS.values())[: list(BLOCKS).index(block)])
    triple, layer = divmod(int(index), 3)
    return before + triple + 1, layer, leaf
