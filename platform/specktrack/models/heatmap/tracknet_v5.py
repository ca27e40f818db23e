"""TrackNetV5 (arXiv 2512.02789): the direction of brightness changes as input, and a transformer that refines drafts.

Where paper and public code differ this is the code: joint attention over all frames' patches (the paper factorises).
The rows that its paper compares are its parts left out: V2 and V4 in these layers, and V5 without one of its additions.
"""

# B batch, T frames in window, C channel, H W network px, D width of a token, h w patches

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.heatmap.motion_prompt import MotionPrompt, brightness_steps
from specktrack.models.heatmap.network import ABSENT, HeatmapNetwork
from specktrack.models.heatmap.tracknet import FEATURES, UNet, bilinear, conv_relu_norm
from specktrack.models.heatmap.tracknet_entries import TrackNetV5Config

PATCH_PX = 16
WIDTH = 256


_START = {"signed": (0.2, 0.15), "absolute": (0.1, 0.0)}
"""The motion prompt's a and b."""


class TrackNetV5(HeatmapNetwork):
    """Three frames in, three heatmaps out. Without its refinement it has no bias, and starts at one half."""

    config: TrackNetV5Config

    def __init__(self, config: TrackNetV5Config) -> None:
        super().__init__(config)
        frames = config.frames_in
        self.prompt = None
        if config.motion != "none":
            a, b = _START[config.motion]
            self.prompt = MotionPrompt(a=a, b=b, eps=1e-6)
        block = partial(conv_relu_norm, bias=False, eps=1e-5, momentum=0.1)
        changes = 2 * (frames - 1) if config.motion == "signed" else 0
        self.unet = UNet(3 * frames + changes, block=block, upsample=bilinear)
        self.draft = nn.Conv2d(FEATURES, frames, 1, bias=False)
        width, height = config.input_wh
        self.refine = Refinement(frames, (height // PATCH_PX, width // PATCH_PX)) if config.refinement else None

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H, W] of frames [B, T, 3, H, W]; H and W are multiples of 16."""
        pictures, attention = self._with_motion(self.scaled(frames_BTCHW))
        draft = self.draft(self.unet(pictures))
        if attention is not None:
            draft = torch.cat([draft[:, :1], draft[:, 1:] * attention], dim=1)
        return draft if self.refine is None else draft + self.refine(draft)

    def _with_motion(self, frames_BTCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The U-Net's input [B, C, H, W], and by what the drafts of all frames but the first are multiplied.

        Signed changes are seen too, between the frames that they lie between; of them the brighter ones multiply.
        """
        if self.prompt is None:
            return frames_BTCHW.flatten(1, 2), None
        steps = brightness_steps(frames_BTCHW)
        if self.config.motion == "absolute":
            return frames_BTCHW.flatten(1, 2), self.prompt(steps.abs())
        brighter, darker = self.prompt(steps.clamp(min=0)), self.prompt((-steps).clamp(min=0))
        change = torch.stack([brighter, darker], dim=2)  # [B, T-1, 2, H, W]
        parts = [frames_BTCHW[:, 0]]
        for t in range(1, frames_BTCHW.shape[1]):
            parts += [change[:, t - 1], frames_BTCHW[:, t]]
        return torch.cat(parts, dim=1), brighter


class Refinement(nn.Module):
    """The residual that a transformer over the patches of all drafts adds to them."""

    def __init__(self, frames: int, patches_hw: tuple[int, int]) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.embed = nn.Conv2d(1, WIDTH, PATCH_PX, stride=PATCH_PX)
        self.place = nn.Parameter(torch.randn(1, WIDTH, *patches_hw))
        self.time = nn.Parameter(torch.randn(1, frames, 1, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 4 * WIDTH, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.lift = nn.Conv2d(WIDTH, PATCH_PX**2, 1)
        assert self.lift.bias is not None
        nn.init.constant_(self.lift.bias, ABSENT)

    def forward(self, draft_BTHW: torch.Tensor) -> torch.Tensor:
        """Additional logits [B, T, H, W]; the places learned at the zoo's size are interpolated for other sizes."""
        batch, frames = draft_BTHW.shape[:2]
        patches = self.embed(self.dropout(draft_BTHW).flatten(0, 1)[:, None])  # [B T, D, h, w]
        h, w = patches.shape[-2:]
        learned = self.place.shape[-2:] == (h, w)
        place = self.place if learned else F.interpolate(self.place, (h, w), mode="bilinear", align_corners=False)
        tokens = (patches + place).flatten(2).transpose(1, 2).unflatten(0, (batch, frames)) + self.time
        refined = self.encoder(tokens.flatten(1, 2))  # [B, T h w, D]
        maps = refined.reshape(batch * frames, h, w, WIDTH).permute(0, 3, 1, 2)
        return F.pixel_shuffle(self.lift(maps), PATCH_PX).unflatten(0, (batch, frames))[:, :, 0]
