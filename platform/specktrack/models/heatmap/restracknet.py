"""ResTrackNetV2: a TrackNetV2 of pre-activation bottlenecks, the smallest U-Net that the WASB paper compares with."""

# B batch, T frames in window, C channel, H W network px

import torch
from torch import nn

from specktrack.models.convolutions import conv_norm, conv_norm_relu
from specktrack.models.heatmap.entries import ResTrackNetV2Config
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head


def _norm_relu(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


class _Bottleneck(nn.Module):
    """Norm and ReLU before 1x1, 3x3 and 1x1; where the width changes, the shortcut is a pooling and a 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_norm_relu(inputs),
            nn.Conv2d(inputs, outputs, 1),
            *_norm_relu(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1),
            *_norm_relu(outputs),
            nn.Conv2d(outputs, outputs, 1),
        )
        self.pool = nn.MaxPool2d(stride)
        self.shortcut = conv_norm(inputs, outputs, 1, bias=True) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(self.pool(x))


class _Upsampling(nn.Module):
    """The same with a transposed convolution in the middle and a nearest upsampling in the shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_norm_relu(width),
            nn.Conv2d(width, width, 1),
            *_norm_relu(width),
            nn.ConvTranspose2d(width, width, 2, stride=2),
            *_norm_relu(width),
            nn.Conv2d(width, width, 1),
        )
        self.upsample = nn.Upsample(scale_factor=2.0)
        self.shortcut = conv_norm(width, width, 1, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(self.upsample(x))


def _blocks(inputs: int, outputs: int, blocks: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _Bottleneck(inputs, outputs, stride), *(_Bottleneck(outputs, outputs) for _ in range(blocks - 1))
    )


class ResTrackNetV2(HeatmapNetwork):
    """U-Net from 1/2 to 1/16 of the network size, with no skip at full resolution."""

    def __init__(self, config: ResTrackNetV2Config) -> None:
        super().__init__(config)
        self.neck = nn.Sequential(
            conv_norm_relu(3 * config.frames_in, 64, bias=True), conv_norm_relu(64, 64, bias=True)
        )
        self.down2, self.down4 = _blocks(64, 16, 3, stride=2), _blocks(16, 32, 3, stride=2)
        self.down8, self.down16 = _blocks(32, 64, 4, stride=2), _blocks(64, 128, 3, stride=2)
        self.lift8, self.up8 = _Upsampling(128), _blocks(64 + 128, 64, 3)
        self.lift4, self.up4 = _Upsampling(64), _blocks(32 + 64, 32, 2)
        self.lift2, self.up2 = _Upsampling(32), _blocks(16 + 32, 16, 2)
        self.lift1 = _Upsampling(16)
        self.out = nn.Sequential(conv_norm_relu(16, 64, bias=True), conv_norm_relu(64, 64, bias=True))
        self.head = heatmap_head(64, config.frames_out)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H, W] of frames [B, T, 3, H, W]; H and W are multiples of 16."""
        skip2 = self.down2(self.neck(self.scaled(frames_BTCHW).flatten(1, 2)))
        skip4 = self.down4(skip2)
        skip8 = self.down8(skip4)
        x = self.down16(skip8)
        x = self.up8(torch.cat([skip8, self.lift8(x)], dim=1))
        x = self.up4(torch.cat([skip4, self.lift4(x)], dim=1))
        x = self.up2(torch.cat([skip2, self.lift2(x)], dim=1))
        return self.head(self.out(self.lift1(x)))
