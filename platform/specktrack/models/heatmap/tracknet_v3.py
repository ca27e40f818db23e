"""TrackNetV3's tracking network (Chen and Wang, MMAsia 2023): TrackNetV2's U-Net over eight frames and a background."""

# B batch, T frames in window, C channel, H W network px

import torch

from specktrack.models.convolutions import conv_norm_relu
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head
from specktrack.models.heatmap.tracknet import FEATURES, UNet
from specktrack.models.heatmap.tracknet_entries import Background, TrackNetV3Config


class TrackNetV3(HeatmapNetwork):
    """Background and frames in, one heatmap per frame out."""

    config: TrackNetV3Config

    def __init__(self, config: TrackNetV3Config) -> None:
        super().__init__(config)
        self.unet = UNet(channels_with(config.background, config.frames_in), block=conv_norm_relu)
        self.head = heatmap_head(FEATURES, config.frames_out)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H, W] of pictures [B, pictures_in, 3, H, W], the background first if there is one."""
        return self.head(self.unet(with_background(self.scaled(frames_BTCHW), self.config.background)))


def channels_with(background: Background, frames: int) -> int:
    """Channels of what ``with_background`` returns."""
    return {"none": 3 * frames, "concat": 3 * (frames + 1), "subtract": frames, "subtract-concat": 4 * frames}[
        background
    ]


def with_background(pictures_BTCHW: torch.Tensor, background: Background) -> torch.Tensor:
    """The U-Net's input [B, C, H, W] of pictures in [0, 1], the first of which is the background (unless ``none``).

    A difference is |frame - background| summed over the colours. The public code casts the sum to 8 bits, where it
    wraps around above 255; here it stays at 1.
    """
    if background in ("none", "concat"):
        return pictures_BTCHW.flatten(1, 2)
    frames = pictures_BTCHW[:, 1:]
    difference = (frames - pictures_BTCHW[:, :1]).abs().sum(dim=2, keepdim=True).clamp(max=1)
    return (torch.cat([frames, difference], dim=2) if background == "subtract-concat" else difference).flatten(1, 2)
