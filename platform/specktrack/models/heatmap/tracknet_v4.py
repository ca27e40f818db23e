"""TrackNetV4 (Raj, Wang, Gedeon, ICASSP 2025): a TrackNet whose logits are weighed by motion attention.

Body and head have the names and shapes of TrackNetV2's or V3's, so that their weights are a start for fine-tuning.
"""

# B batch, T frames in window, C channel, H W network px

import torch
import torch.nn.functional as F

from specktrack.models.convolutions import conv_norm_relu
from specktrack.models.heatmap.column_norm import normalise_columns
from specktrack.models.heatmap.motion_prompt import MotionPrompt, brightness_steps
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head
from specktrack.models.heatmap.tracknet import FEATURES, Block, UNet, conv_relu_norm
from specktrack.models.heatmap.tracknet_entries import Fusion, TrackNetV4Config
from specktrack.models.heatmap.tracknet_v3 import channels_with, with_background

DENORMALISED = 0.225
"""Deviation by which the public code multiplies pixels that were never divided by it."""


class TrackNetV4(HeatmapNetwork):
    """Frames (after a background, where the base wants one) in, one heatmap per frame out."""

    config: TrackNetV4Config

    def __init__(self, config: TrackNetV4Config) -> None:
        super().__init__(config)
        block: Block = conv_relu_norm if config.base == "tracknet-v2" else conv_norm_relu
        self.unet = UNet(channels_with(config.background, config.frames_in), block=block)
        self.head = heatmap_head(FEATURES, config.frames_out)
        self.prompt = MotionPrompt(a=0.1, b=0.0, eps=0.1)
        if config.norm == "column":
            normalise_columns(self.unet, config.input_wh[0])

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H, W] of pictures [B, pictures_in, 3, H, W], the background first if there is one."""
        pictures = self.scaled(frames_BTCHW)
        steps = brightness_steps(pictures[:, -self.config.frames_in :]).abs()
        if self.config.denormalise:
            steps = steps * DENORMALISED
        visual = self.head(self.unet(with_background(pictures, self.config.background)))
        return visual * attention_per_frame(self.prompt(steps), self.config.fusion)


def attention_per_frame(attention: torch.Tensor, fusion: Fusion) -> torch.Tensor:
    """Factors of each frame's logits, [B, T, H, W] or [B, 1, H, W], from attention [B, T-1, H, W]."""
    match fusion:
        case "1":  # Eq. 4: each frame by the step that led to it, the first by nothing
            return F.pad(attention, (0, 0, 0, 0, 1, 0), value=1.0)
        case "2":  # the public code: the mean of the steps before and after; the ends have one of them
            before = torch.cat([attention[:, :1], attention], dim=1)
            after = torch.cat([attention, attention[:, -1:]], dim=1)
            return (before + after) / 2
        case "2-text":  # the paper's words
            return attention.mean(dim=1, keepdim=True)
