"""TrackNetV2 (Sun et al., ICPAI 2020, Table I), with the official code's choices where table and code differ.

Its U-Net is the body of TrackNetV3, V4 and V5 too; what they change in it are the arguments of ``UNet``.
"""

# B batch, T frames in window, C channel, H W network px

import itertools
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.heatmap.column_norm import normalise_columns
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head
from specktrack.models.heatmap.tracknet_entries import TrackNetV2Config

Block = Callable[[int, int], Iterable[nn.Module]]
"""From channels in and out to the layers of one convolution."""

FEATURES = 64
"""Channels of the U-Net's features at full resolution."""


def conv_relu_norm(
    inputs: int, outputs: int, *, bias: bool = True, eps: float = 1e-3, momentum: float = 0.01
) -> list[nn.Module]:
    """The order of TrackNetV1, V2 and V5; bias, epsilon and momentum (Keras' 0.99) are those of V1's and V2's code."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return [conv, nn.ReLU(inplace=True), nn.BatchNorm2d(outputs, eps=eps, momentum=momentum)]


def convs(block: Block, *channels: int) -> nn.Sequential:
    """3x3 convolutions one after the other, from the first number of channels to the last."""
    return nn.Sequential(
        *(layer for inputs, outputs in itertools.pairwise(channels) for layer in block(inputs, outputs))
    )


def nearest(x: torch.Tensor) -> torch.Tensor:
    """Twice the size, by repetition."""
    return F.interpolate(x, scale_factor=2.0)


bilinear = partial(F.interpolate, scale_factor=2.0, mode="bilinear", align_corners=True)
"""Twice the size, between corners that stay in place: TrackNetV5."""


class UNet(nn.Module):
    """VGG-like encoder of three poolings, decoder that concatenates [upsampled, skip]."""

    def __init__(
        self, inputs: int, *, block: Block, upsample: Callable[[torch.Tensor], torch.Tensor] = nearest
    ) -> None:
        super().__init__()
        self._upsample = upsample
        self.down1 = convs(block, inputs, 64, 64)
        self.down2 = convs(block, 64, 128, 128)
        self.down3 = convs(block, 128, 256, 256, 256)
        self.bottom = convs(block, 256, 512, 512, 512)
        self.up3 = convs(block, 512 + 256, 256, 256, 256)
        self.up2 = convs(block, 256 + 128, 128, 128)
        self.up1 = convs(block, 128 + 64, 64, FEATURES)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Features [B, 64, H, W]; H and W are multiples of 8."""
        skip1 = self.down1(x_BCHW)
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        skip3 = self.down3(F.max_pool2d(skip2, 2))
        x = self.bottom(F.max_pool2d(skip3, 2))
        x = self.up3(torch.cat([self._upsample(x), skip3], dim=1))
        x = self.up2(torch.cat([self._upsample(x), skip2], dim=1))
        return self.up1(torch.cat([self._upsample(x), skip1], dim=1))


class TrackNetV2(HeatmapNetwork):
    """Three frames in; three heatmaps out, or the last frame's."""

    def __init__(self, config: TrackNetV2Config) -> None:
        super().__init__(config)
        self.unet = UNet(3 * config.frames_in, block=conv_relu_norm)
        self.head = heatmap_head(FEATURES, config.frames_out)
        if config.norm == "column":
            normalise_columns(self.unet, config.input_wh[0])

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, frames_out, H, W] of frames [B, T, 3, H, W]; H and W are multiples of 8."""
        return self.head(self.unet(self.scaled(frames_BTCHW).flatten(1, 2)))
