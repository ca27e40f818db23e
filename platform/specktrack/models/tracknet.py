"""TrackNetV2 (Sun et al., ICPAI 2020, Table I), with the official code's choices where table and code differ."""

# B batch, T frames in window, C channel, H W network px

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.heatmap_network import HeatmapNetwork, heatmap_head
from specktrack.models.windowed_entries import TrackNetV2Config


def _convs(*channels: int) -> nn.Sequential:
    """3x3 convolutions with bias, each followed by ReLU and then batch norm: the order of the official code."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(outputs, eps=1e-3)]
    return nn.Sequential(*layers)


class TrackNetV2(HeatmapNetwork):
    """VGG-like encoder of three poolings, decoder of nearest upsampling, concatenated as [upsampled, skip]."""

    def __init__(self, config: TrackNetV2Config) -> None:
        super().__init__(config)
        self.down1 = _convs(3 * config.frames_in, 64, 64)
        self.down2 = _convs(64, 128, 128)
        self.down3 = _convs(128, 256, 256, 256)
        self.bottom = _convs(256, 512, 512, 512)
        self.up3 = _convs(512 + 256, 256, 256, 256)
        self.up2 = _convs(256 + 128, 128, 128)
        self.up1 = _convs(128 + 64, 64, 64)
        self.head = heatmap_head(64, config.frames_out)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, frames_out, H, W] of frames [B, T, 3, H, W]; H and W are multiples of 8."""
        skip1 = self.down1(frames_BTCHW.flatten(1, 2))
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        skip3 = self.down3(F.max_pool2d(skip2, 2))
        x = self.bottom(F.max_pool2d(skip3, 2))
        x = self.up3(torch.cat([F.interpolate(x, scale_factor=2.0), skip3], dim=1))
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2.0), skip2], dim=1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2.0), skip1], dim=1))
        return self.head(x)
