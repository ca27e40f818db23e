"""TrackNetV1 (Huang et al., AVSS 2019): VGG encoder, mirrored decoder, a class of 256 grey levels for every pixel.

Every convolution is 3x3 with bias, ReLU and then batch norm, the last one too, whose 256 channels go to the softmax.
The first decoder block has 256 channels in the public code and its weights and 512 in the paper's table.
"""

# B batch, T frames in window, L grey levels, H W network px

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.heatmap.labels import LEVELS
from specktrack.models.heatmap.column_norm import normalise_columns
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.heatmap.tracknet import conv_relu_norm, convs, nearest
from specktrack.models.heatmap.tracknet_entries import TrackNetV1Config


class TrackNetV1(HeatmapNetwork):
    """Frames in, newest first and as BGR; one map of grey levels for the newest out. No skip connections."""

    def __init__(self, config: TrackNetV1Config) -> None:
        super().__init__(config)
        block, wide = conv_relu_norm, config.decoder_width
        self.down1 = convs(block, 3 * config.frames_in, 64, 64)
        self.down2 = convs(block, 64, 128, 128)
        self.down3 = convs(block, 128, 256, 256, 256)
        self.bottom = convs(block, 256, 512, 512, 512)
        self.up3 = convs(block, 512, wide, wide, wide)
        self.up2 = convs(block, wide, 128, 128)
        self.up1 = convs(block, 128, 64, 64)
        self.head = convs(block, 64, LEVELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.uniform_(module.weight, -0.05, 0.05)  # the paper's
        last_norm = self.head[-1]
        assert isinstance(last_norm, nn.BatchNorm2d)
        with torch.no_grad():
            last_norm.bias[0] = 8.0  # starts at "black": nearly every pixel of every label is
        if config.norm == "column":
            normalise_columns(self, config.input_wh[0])

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, 256, H, W] of the newest frame's grey levels; H and W are multiples of 8."""
        newest_first_bgr = self.scaled(frames_BTCHW).flip(1, 2)
        x = F.max_pool2d(self.down1(newest_first_bgr.flatten(1, 2)), 2)
        x = F.max_pool2d(self.down2(x), 2)
        x = self.bottom(F.max_pool2d(self.down3(x), 2))
        x = self.up2(nearest(self.up3(nearest(x))))
        return self.head(self.up1(nearest(x)))

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """float32 [B, 1, H, W]: the likeliest grey level of each pixel of [B, 256, H, W], in [0, 1]."""
        return output.argmax(dim=1, keepdim=True).float() / (LEVELS - 1)
