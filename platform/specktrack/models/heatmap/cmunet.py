"""CMU-Net: cross-stage and within-stage multi-scale fusion in a U-Net, for 1920x1080 pictures.

The published part is one abstract: local detail in shallow stages, global semantics in deep ones, fusion across stages
and within each. Its authors' later networks add: five stages, one heatmap of the last frame from several (MISO) or one
(SISO) frames, TrackNetV2's rule to decode. The layers here are this project's own:
- frames enter by pixel unshuffle, so that nothing runs at 1920x1080 and yet no pixel is lost; the heatmap is at half
  resolution and its centroid gives back what that took;
- within a stage, channels form four groups in a chain, each adding its neighbour's result before its own convolution
  (Res2Net, Gao et al., 2019): one block sees 3, 5 and 7 px at once;
- the deepest stage adds means over the whole picture and over its 2x2 and 4x4 parts (pyramid pooling, Zhao et al.,
  2017);
- across stages, every decoder stage sums all five stages, finer ones as encoded and coarser ones as decoded, each
  brought to its width by a 1x1 and to its resolution by pooling or bilinear upsampling (UNet 3+, Huang et al., 2020,
  with sums for its concatenations).
"""

# B batch, T frames in window, C channel, H W network px

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.convolutions import conv_norm, conv_norm_relu
from specktrack.models.heatmap.entries import CmuNetConfig
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head

_GROUPS = 4
_MULTIPLE = 32
"""The coarsest stage's network px per feature px."""


class _WithinStage(nn.Module):
    """Residual block whose channel groups see ever wider surroundings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        part = width // _GROUPS
        self.enter, self.leave = conv_norm_relu(width, width, 1), conv_norm(width, width, 1)
        self.chain = nn.ModuleList(conv_norm_relu(part, part) for _ in range(_GROUPS - 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.enter(x).chunk(_GROUPS, dim=1)
        parts = [first]
        for conv, part in zip(self.chain, others, strict=True):
            parts.append(conv(part if len(parts) == 1 else part + parts[-1]))
        return F.relu(x + self.leave(torch.cat(parts, dim=1)))


class _Surroundings(nn.Module):
    """Adds what means over parts of the picture say; the parts are fractions, so that any size will do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in (1, 2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (x.shape[-2], x.shape[-1])
        for conv, parts in zip(self.levels, (1, 2, 4), strict=True):
            x = x + F.interpolate(conv(F.adaptive_avg_pool2d(x, parts)), size=size)
        return x


class _CrossStage(nn.Module):
    """Sums all stages at one stage's width and resolution: finer ones as encoded, coarser ones as decoded."""

    def __init__(self, widths: tuple[int, ...], stage: int) -> None:
        super().__init__()
        self.stage = stage
        self.to_width = nn.ModuleList(conv_norm(width, widths[stage], 1) for width in widths)
        self.block = _WithinStage(widths[stage])

    def forward(self, stages: list[torch.Tensor]) -> torch.Tensor:
        size = (stages[self.stage].shape[-2], stages[self.stage].shape[-1])
        total = torch.zeros_like(stages[self.stage])
        for conv, x in zip(self.to_width, stages, strict=True):
            factor = x.shape[-2] // size[0]  # the 1x1 runs if there are fewer pixels
            total = total + (conv(F.max_pool2d(x, factor)) if factor > 1 else _grow(conv(x), size))
        return self.block(F.relu(total))


def _grow(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return x if x.shape[-2] == size[0] else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class CmuNet(HeatmapNetwork):
    """U-Net from 1/2 to 1/32 of the network size."""

    def __init__(self, config: CmuNetConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.stem = conv_norm_relu(3 * 4 * config.frames_in, widths[0])
        self.down = nn.ModuleList(conv_norm_relu(widths[i], widths[i + 1], stride=2) for i in range(4))
        blocks = (1, 1, 2, 2, 2)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(_WithinStage(width) for _ in range(n))) for width, n in zip(widths, blocks, strict=True)
        )
        self.surroundings = _Surroundings(widths[-1])
        self.decoder = nn.ModuleList(_CrossStage(widths, stage) for stage in (3, 2, 1, 0))
        self.head = heatmap_head(widths[0], config.frames_out)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, 1, H/2, W/2] of frames [B, T, 3, H, W] of any even size."""
        height, width = frames_BTCHW.shape[-2:]
        picture = self.scaled(frames_BTCHW).flatten(1, 2) - 0.5
        picture = F.pad(picture, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))  # 1080 is no multiple of 16
        x = self.stem(F.pixel_unshuffle(picture, 2))
        stages = [self.encoder[0](x)]
        for down, block in zip(self.down, list(self.encoder)[1:], strict=True):
            stages.append(block(down(stages[-1])))
        stages[-1] = self.surroundings(stages[-1])
        for stage, fuse in zip((3, 2, 1, 0), self.decoder, strict=True):
            stages[stage] = fuse(stages)
        return self.head(stages[0])[..., : height // 2, : width // 2]
