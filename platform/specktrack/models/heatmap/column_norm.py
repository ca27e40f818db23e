"""The batch norm of the TrackNets' Keras programs, which normalises columns where it was meant to normalise channels.

Keras normalises the last axis unless set otherwise; pictures were given as [C, H, W]. Weights trained so work
only so, and only at the width that they were trained at. New training has no reason to use it.
"""

import torch
from torch import nn

from specktrack.errors import ConfigError

_OCTAVES = {"down1": 0, "down2": 1, "down3": 2, "bottom": 3, "up3": 2, "up2": 1, "up1": 0, "head": 0}
"""How often each block's pictures were halved, by its name in the TrackNet line."""


class ColumnNorm(nn.Module):
    """Batch norm with one mean, deviation, gain and offset per column of pictures [B, C, H, W]."""

    def __init__(self, width: int, *, eps: float, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=eps, momentum=momentum)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape; ConfigError at another width."""
        if x.shape[-1] != self.norm.num_features:
            raise ConfigError(
                "the weights of this network only work for one width",
                x.shape[-1],
                f"where {self.norm.num_features} columns were trained",
                remedy="use pictures of the network's aspect ratio, or train without column norm",
            )
        return self.norm(x.transpose(1, 3)).transpose(1, 3)


def normalise_columns(body: nn.Module, width: int) -> None:
    """Put a column norm in the place of every batch norm of a network of the TrackNet line, ``width`` px wide."""
    for name, octaves in _OCTAVES.items():
        block = getattr(body, name, None)
        if isinstance(block, nn.Sequential):
            for i, layer in enumerate(block):
                if isinstance(layer, nn.BatchNorm2d):
                    block[i] = ColumnNorm(width >> octaves, eps=layer.eps, momentum=layer.momentum)
