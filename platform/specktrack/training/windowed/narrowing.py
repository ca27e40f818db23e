"""Initial weights for a narrower SpeckNet: from every stage of a wider one, the channels that carry most.

A student that starts from a part of its teacher learns in minutes what takes hours from random weights. A channel's
weight is the spread that batch norm gives it where it is written, times how strongly it is read. This needs no data, as
pruning by batch norm's scales (Liu et al., ICCV 2017) and by the norms of weights (Li et al., ICLR 2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from specktrack.errors import ConfigError
from specktrack.models.entry import NetworkConfig
from specktrack.models.heatmap.entries import SpeckNetConfig


@dataclass(frozen=True)
class _Stream:
    """Channels that several convolutions write, added up, and several read; ``stage`` is their place in widths."""

    stage: int
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]


_RESIDUAL = {0: ("enc2", "dec2"), 1: ("enc4", "dec4"), 2: ("enc8.0", "enc8.1", "dec8"), 3: ("enc16",)}
_BESIDE = {
    0: (("stem", "lift2"), ("down4", "head")),
    1: (("down4", "lift4"), ("down8", "lift2")),
    2: (("down8", "lift8"), ("down16", "lift4")),
    3: (("down16",), ("lift8",)),
}
_STREAMS = (
    *(
        _Stream(
            stage,
            (*written_by, *(f"{block}.second" for block in _RESIDUAL[stage])),
            (*read_by, *(f"{block}.first" for block in _RESIDUAL[stage])),
        )
        for stage, (written_by, read_by) in _BESIDE.items()
    ),
    *(
        _Stream(stage, (f"{block}.first",), (f"{block}.second",))
        for stage, blocks in _RESIDUAL.items()
        for block in blocks
    ),
)


def narrowed(weights: Mapping[str, torch.Tensor], of: NetworkConfig, to: NetworkConfig) -> Mapping[str, torch.Tensor]:
    """Weights of the network ``to``, cut out of those of the network ``of`` where both are SpeckNets of other widths.

    ConfigError if a stage would have to become wider.
    """
    if not isinstance(of, SpeckNetConfig) or not isinstance(to, SpeckNetConfig) or of.widths == to.widths:
        return weights
    cut = dict(weights)
    for stream in _STREAMS:
        width = to.widths[stream.stage]
        if width > of.widths[stream.stage]:
            raise ConfigError(f"init has widths {of.widths}, which cannot become wider", to.widths, "network.widths")
        kept = _carried(weights, stream).topk(width).indices.sort().values
        for written in _written(weights, stream):
            cut[written] = cut[written].index_select(0, kept)
        for read in _kernels(weights, stream.read_by):
            cut[read] = cut[read].index_select(1, kept)
    return cut


def _carried(weights: Mapping[str, torch.Tensor], stream: _Stream) -> torch.Tensor:
    """How much each channel of a stream carries."""
    spread = sum(weights[f"{name}.1.weight"].abs() for name in stream.written_by)
    read = sum(weights[kernel].square().sum(dim=(0, 2, 3)) for kernel in _kernels(weights, stream.read_by))
    return spread * torch.as_tensor(read).sqrt()


def _written(weights: Mapping[str, torch.Tensor], stream: _Stream) -> list[str]:
    """All tensors with a value per channel: kernels, and batch norm's scales, shifts and statistics."""
    return [key for name in stream.written_by for key in weights if key.startswith(f"{name}.") and weights[key].ndim]


def _kernels(weights: Mapping[str, torch.Tensor], names: tuple[str, ...]) -> list[str]:
    return [f"{name}.0.weight" if f"{name}.0.weight" in weights else f"{name}.weight" for name in names]
