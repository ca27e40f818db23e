"""MonoTrack's shuttlecock detector (Liu and Wang, CVPR workshops 2022), in the size that the WASB paper compares to."""

# B batch, T frames in window, C channel, H W network px

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.convolutions import conv_norm_relu
from specktrack.models.heatmap.entries import MonoTrackConfig
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head


class _Residual(nn.Module):
    """``convs`` 3x3 convolutions beside a 1x1 shortcut; no ReLU after the sum."""

    def __init__(self, convs: int, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * convs]
        self.body = nn.Sequential(*(conv_norm_relu(widths[i], widths[i + 1], bias=True) for i in range(convs)))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class _Up(nn.Module):
    """A transposed convolution to half the width, concatenated as [skip, upsampled], then a residual block."""

    def __init__(self, convs: int, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        self.block = _Residual(convs, inputs // 2 + skip, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.block(torch.cat([skip, self.up(x)], dim=1))


class MonoTrack(HeatmapNetwork):
    """Residual U-Net of three poolings; the neck adds its two convolutions' outputs."""

    def __init__(self, config: MonoTrackConfig) -> None:
        super().__init__(config)
        self.neck1 = conv_norm_relu(3 * config.frames_in, 32, bias=True)
        self.neck2 = conv_norm_relu(32, 32, bias=True)
        self.down1, self.down2, self.down3 = _Residual(2, 32, 64), _Residual(3, 64, 128), _Residual(3, 128, 256)
        self.up3, self.up2, self.up1 = _Up(3, 256, 128, 128), _Up(2, 128, 64, 64), _Up(2, 64, 32, 32)
        self.head = heatmap_head(32, config.frames_out)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H, W] of frames [B, T, 3, H, W]; H and W are multiples of 8."""
        x = self.neck1(self.scaled(frames_BTCHW).flatten(1, 2))
        skip1 = x + self.neck2(x)
        skip2 = self.down1(F.max_pool2d(skip1, 2))
        skip3 = self.down2(F.max_pool2d(skip2, 2))
        x = self.down3(F.max_pool2d(skip3, 2))
        return self.head(self.up1(self.up2(self.up3(x, skip3), skip2), skip1))
