"""SpeckNet: the project's compact network for CPUs.

What makes it cheap and what keeps it good:
- frames enter by pixel unshuffle, so no convolution runs at full resolution, where most of a TrackNet's time goes, and
  yet no pixel of a 2-px ball is lost;
- one pass sees eight frames and draws eight heatmaps, so windows may overlap by half (each frame is then seen twice,
  which removes most false peaks) at a quarter of a pass per frame;
- residual blocks and additive skips need no concatenation, the costliest part of a U-Net decoder;
- convolution, batch norm, ReLU in that order: batch norm folds away for inference.
The heatmap is at half resolution with an exact Gaussian centre; the centroid gives back what the stride took.
"""

# B batch, T frames in window, C channel, H W network px

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _Residual(nn.Module):
    """x + conv(relu(conv(x))), then ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class SpeckNet(HeatmapNetwork):
    """Residual U-Net from 1/2 to 1/16 of the network size."""

    def __init__(self, config: SpeckNetConfig) -> None:
        super().__init__(config)
        half, quarter, eighth, sixteenth = config.widths
        self.stem = _conv(3 * 4 * config.frames_in, half)
        self.enc2 = _Residual(half)
        self.down4, self.enc4 = _conv(half, quarter, stride=2), _Residual(quarter)
        self.down8, self.enc8 = _conv(quarter, eighth, stride=2), nn.Sequential(_Residual(eighth), _Residual(eighth))
        self.down16, self.enc16 = _conv(eighth, sixteenth, stride=2), _Residual(sixteenth)
        self.lift8, self.dec8 = _conv(sixteenth, eighth, 1), _Residual(eighth)
        self.lift4, self.dec4 = _conv(eighth, quarter, 1), _Residual(quarter)
        self.lift2, self.dec2 = _conv(quarter, half, 1), _Residual(half)
        self.head = heatmap_head(half, config.frames_out)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H/2, W/2] of frames [B, T, 3, H, W]; H and W are multiples of 16."""
        x = F.pixel_unshuffle(frames_BTCHW.flatten(1, 2) - 0.5, 2)
        skip2 = self.enc2(F.relu(self.stem(x)))
        skip4 = self.enc4(F.relu(self.down4(skip2)))
        skip8 = self.enc8(F.relu(self.down8(skip4)))
        x = self.enc16(F.relu(self.down16(skip8)))
        x = self.dec8(F.relu(skip8 + F.interpolate(self.lift8(x), scale_factor=2.0)))
        x = self.dec4(F.relu(skip4 + F.interpolate(self.lift4(x), scale_factor=2.0)))
        x = self.dec2(F.relu(skip2 + F.interpolate(self.lift2(x), scale_factor=2.0)))
        return self.head(x)
