"""WASB (Tarashima et al., BMVC 2023): a small HRNet whose finest branch keeps the full resolution of its input.

High-Resolution Net (Sun et al., CVPR 2019) with a stem of stride 1, one bottleneck of 32 and three stages of one
module, each of two basic blocks per branch at 16, 32, 64 and 128 channels.
"""

# B batch, T frames in window, C channel, H W network px

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.convolutions import conv_norm, conv_norm_relu
from specktrack.models.heatmap.entries import WasbConfig
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 to four times the width, beside a 1x1 shortcut."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm_relu(inputs, width, 1), conv_norm_relu(width, width), conv_norm(width, 4 * width, 1)
        )
        self.shortcut = conv_norm(inputs, 4 * width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class _Block(nn.Module):
    """Two 3x3 beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_norm_relu(width, width), conv_norm(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def _to_finer(inputs: int, outputs: int, octaves: int) -> nn.Module:
    """A 1x1, then nearest upsampling."""
    return conv_norm(inputs, outputs, 1).append(nn.Upsample(scale_factor=2.0**octaves))


def _to_coarser(inputs: int, outputs: int, octaves: int) -> nn.Module:
    """One 3x3 of stride 2 per octave; the last changes the width and has no ReLU, because a sum follows."""
    halvings = [conv_norm_relu(inputs, inputs, stride=2) for _ in range(octaves - 1)]
    return nn.Sequential(*halvings, conv_norm(inputs, outputs, stride=2))


class _Fusion(nn.Module):
    """One branch receives the sum of all, resized to it."""

    def __init__(self, widths: tuple[int, ...], to: int) -> None:
        super().__init__()
        self.resize = nn.ModuleList(_resize(widths, to, source) for source in range(len(widths)))

    def forward(self, branches: list[torch.Tensor]) -> torch.Tensor:
        total = torch.zeros((), device=branches[0].device, dtype=branches[0].dtype)
        for resize, x in zip(self.resize, branches, strict=True):
            total = total + resize(x)
        return F.relu(total)


class _Stage(nn.Module):
    """Two blocks on every branch, then the fusions."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(_Block(width), _Block(width)) for width in widths)
        self.fusions = nn.ModuleList(_Fusion(widths, to) for to in range(len(widths)))

    def forward(self, branches: list[torch.Tensor], *, wanted: int) -> list[torch.Tensor]:
        """The first ``wanted`` branches, finest first."""
        inner = [run(x) for run, x in zip(self.branches, branches, strict=True)]
        return [fuse(inner) for fuse in list(self.fusions)[:wanted]]


def _resize(widths: tuple[int, ...], to: int, source: int) -> nn.Module:
    """From branch ``source`` to branch ``to``; each branch is an octave coarser than the one before."""
    if source == to:
        return nn.Identity()
    make = _to_finer if source > to else _to_coarser
    return make(widths[source], widths[to], abs(source - to))


class Wasb(HeatmapNetwork):
    """HRNet with branches at 1, 1/2, 1/4 and 1/8 of the network size."""

    def __init__(self, config: WasbConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.stem = nn.Sequential(conv_norm_relu(3 * config.frames_in, 64), conv_norm_relu(64, 64))
        self.stage1 = _Bottleneck(64, 32)
        self.finest = conv_norm_relu(128, widths[0])
        self.coarser = nn.ModuleList([conv_norm_relu(128, widths[1], stride=2)])
        self.coarser.extend(conv_norm_relu(a, b, stride=2) for a, b in itertools.pairwise(widths[1:]))
        self.stages = nn.ModuleList(_Stage(widths[: n + 1]) for n in range(1, len(widths)))
        self.head = heatmap_head(widths[0], config.frames_out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=1e-3)  # the sums over branches are large: "absent" would drown in them
        # The published network counts the last stage's coarser outputs, which nothing reads: here they stand still,
        # because distributed training waits for the gradient of every parameter that asks for one.
        for name, parameter in self.stages[-1].named_parameters():
            parameter.requires_grad_(not name.startswith("fusions") or name.startswith("fusions.0."))

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H, W] of frames [B, T, 3, H, W]; H and W are multiples of 8."""
        x = self.stage1(self.stem(self.scaled(frames_BTCHW).flatten(1, 2)))
        branches, coarsest = [self.finest(x)], x
        for begin, stage in zip(self.coarser, self.stages, strict=True):
            branches.append(begin(coarsest))
            branches = stage(branches, wanted=1 if stage is self.stages[-1] else len(branches))
            coarsest = branches[-1]
        return self.head(branches[0])
