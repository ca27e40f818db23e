"""Global search: where in a whole frame is the target of a template?

A tiny object drowns in deep features, counts little in a dense loss, and its IoU says little. So
- the template is compared with the frame at 1/2, 1/4 and 1/8 of the network size, by cosine: with the mean feature of
  its box, and with its nine cells around the centre as a kernel, both at the frame's own scale;
- every level, shallow and deep, draws its own map and is supervised, and so is the map that joins them;
- the loss looks at points: of each map the best cells inside the box must exceed one half and the best cells outside
  must not, a fixed number of each, however large the object; what is right already is left alone.
Source: the project's notes on global search for small objects; the loss is multiple-instance max pooling with online
hard examples (the CornerNet-style Gaussian regression is what it replaces).
"""

# B batch, C channel, H W network px, L level

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.convolutions import conv_norm, conv_norm_relu
from specktrack.models.network import Network
from specktrack.models.search.entries import GlobalSearchConfig

STRIDES = (2, 4, 8)
"""Network px per cell of the compared levels; the joined map has the first."""
KERNEL = 3
"""Cells along a side of the template's kernel, and samples along a side of its box."""


@dataclass(frozen=True)
class Template:
    """A template's kernels on each level."""

    kernels: tuple[torch.Tensor, ...]
    """[B, C, 3, 3]: unit features of the cells around the target's centre."""
    means: tuple[torch.Tensor, ...]
    """[B, C, 1, 1]: unit mean feature of the target's box."""

    def expand(self, batch: int) -> "Template":
        """One template for ``batch`` frames."""
        return Template(
            tuple(kernel.expand(batch, -1, -1, -1) for kernel in self.kernels),
            tuple(mean.expand(batch, -1, -1, -1) for mean in self.means),
        )


@dataclass(frozen=True)
class SearchBatch:
    """Templates with the frames in which to search."""

    templates_BCHW: torch.Tensor
    """float32 in [0, 1]."""
    template_boxes: torch.Tensor
    """float32 [B, 4]: centre x, y, width, height in px of the template's crop."""
    frames_BCHW: torch.Tensor
    """float32 in [0, 1]."""
    boxes: torch.Tensor
    """float32 [B, 4]: the target in the frame; NaN where it is not there."""


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv_norm_relu(width, width), conv_norm(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Compare(nn.Module):
    """One level: features to unit vectors, their agreement with the template, and a map of it."""

    def __init__(self, width: int, matches: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, matches, 1, bias=False)
        self.join = conv_norm_relu(3 * matches + 1, outputs)
        self.head = _head(outputs)

    def unit(self, features: torch.Tensor) -> torch.Tensor:
        """Unit vectors of what sets a place apart from its picture: without its mean, all places would look alike."""
        return F.normalize(F.instance_norm(self.project(features)), dim=1)

    def forward(
        self, features: torch.Tensor, kernel: torch.Tensor, mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the comparison, and the plain cosine [B, 1, h, w] with which every map starts."""
        unit = self.unit(features)
        around = _correlate(unit, kernel)
        agreement = unit * mean
        cosine = (agreement.sum(dim=1, keepdim=True) + around.sum(dim=1, keepdim=True)) / 2
        scale = unit.shape[1] ** 0.5  # a product of unit vectors is as small as their number of channels is large
        return self.join(torch.cat([unit * scale, around * scale, agreement * scale, cosine], dim=1)), cosine


class GlobalSearch(Network):
    """Maps of where the template's target is, of whole frames."""

    config: GlobalSearchConfig

    def __init__(self, config: GlobalSearchConfig) -> None:
        super().__init__(config)
        half, quarter, eighth, sixteenth = config.widths
        self.stem, self.enc2 = conv_norm_relu(3 * 4, half), _Residual(half)
        self.down4, self.enc4 = conv_norm_relu(half, quarter, stride=2), _Residual(quarter)
        self.down8, self.enc8 = conv_norm_relu(quarter, eighth, stride=2), _Residual(eighth)
        self.down16, self.enc16 = conv_norm_relu(eighth, sixteenth, stride=2), _Residual(sixteenth)
        widths = (half, quarter, eighth)
        self.compare = nn.ModuleList(
            _Compare(width, matches, width) for width, matches in zip(widths, config.matches, strict=True)
        )
        self.lift8, self.dec8 = conv_norm(sixteenth, eighth, 1), _Residual(eighth)
        self.lift4, self.dec4 = conv_norm(eighth, quarter, 1), _Residual(quarter)
        self.lift2, self.dec2 = conv_norm(quarter, half, 1), _Residual(half)
        self.head = _head(half)
        self.gains = nn.Parameter(torch.full((1 + len(STRIDES),), 4.0))
        """Of the plain cosine in the joined map and in each level's."""

    def features(self, frames_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """Features at 1/2, 1/4, 1/8 and 1/16; H and W are multiples of 16."""
        x = self.enc2(self.stem(F.pixel_unshuffle(frames_BCHW - 0.5, 2)))
        levels = [x]
        for down, enc in ((self.down4, self.enc4), (self.down8, self.enc8), (self.down16, self.enc16)):
            levels.append(enc(down(levels[-1])))
        return levels

    def template(self, crops_BCHW: torch.Tensor, boxes: torch.Tensor) -> Template:
        """The template of ``boxes`` [B, 4] as centre x, y, width, height in px of ``crops_BCHW``."""
        kernels, means = [], []
        levels = self.features(crops_BCHW)
        for stride, compare, features in zip(STRIDES, self.compare, levels, strict=False):
            assert isinstance(compare, _Compare)
            unit = compare.unit(features).float()
            cells = boxes.new_full((len(boxes), 2), float(KERNEL * stride))
            kernels.append(_sample(unit, boxes[:, :2], cells, stride))
            inside = _sample(unit, boxes[:, :2], boxes[:, 2:], stride)
            means.append(F.normalize(inside.mean(dim=(2, 3), keepdim=True), dim=1))
        return Template(tuple(kernels), tuple(means))

    def forward(self, frames_BCHW: torch.Tensor, template: Template) -> list[torch.Tensor]:
        """Logits [B, H/stride, W/stride]: the joined map at 1/2, then one map per level, shallow first."""
        *levels, deep = self.features(frames_BCHW)
        found = [
            compare(features, kernel.to(features.dtype), mean.to(features.dtype))
            for compare, features, kernel, mean in zip(
                self.compare, levels, template.kernels, template.means, strict=True
            )
        ]
        joined, cosines = zip(*found, strict=True)
        x = self.dec8(F.relu(joined[2] + F.interpolate(self.lift8(deep), scale_factor=2.0)))
        x = self.dec4(F.relu(joined[1] + F.interpolate(self.lift4(x), scale_factor=2.0)))
        x = self.dec2(F.relu(joined[0] + F.interpolate(self.lift2(x), scale_factor=2.0)))
        size = list(x.shape[2:])
        together = torch.stack([F.interpolate(cosine, size) for cosine in cosines]).mean(dim=0)
        maps = [self.head(x) + self.gains[0] * together]
        for gain, compare, level, cosine in zip(self.gains[1:], self.compare, joined, cosines, strict=True):
            assert isinstance(compare, _Compare)
            maps.append(compare.head(level) + gain * cosine)
        return [logits.squeeze(1).float() for logits in maps]

    def loss(self, batch: SearchBatch) -> dict[str, torch.Tensor]:
        """``loss`` to minimise, and detached metrics.

        ``hit``: share of targets whose best point lies in their box, ``hit_small`` of those up to 8 px; ``false``:
        share of frames without the target in which some point exceeds one half.
        """
        maps = self(batch.frames_BCHW, self.template(batch.templates_BCHW, batch.template_boxes))
        strides = (STRIDES[0], *STRIDES)
        losses = [
            point_loss(m, batch.boxes, stride, points=self.config.points)
            for m, stride in zip(maps, strides, strict=True)
        ]
        with torch.no_grad():
            xy, score = best_point(maps[0])
            there = ~batch.boxes.isnan().any(dim=1)
            hit = ((xy - batch.boxes[:, :2]).abs() <= batch.boxes[:, 2:] / 2).all(dim=1)
            small = there & (batch.boxes[:, 2:].prod(dim=1).sqrt() <= 8)
            metrics = {
                "hit": hit[there].float().mean(),
                "hit_small": hit[small].float().mean(),
                "false": (score[~there] > 0.5).float().mean(),
            }
        return {"loss": torch.stack(losses).mean(), "joined": losses[0].detach(), **metrics}


def point_loss(logits_BHW: torch.Tensor, boxes: torch.Tensor, stride: int, *, points: int) -> torch.Tensor:
    """Push the ``points`` best cells inside each box above one half, and the best ones outside below; a mean over B.

    ``boxes`` [B, 4] as centre x, y, width, height in network px; NaN has no inside. A box that owns no cell's centre
    owns the cell that holds its own. Cells that touch the box from outside are neither. Cells on the right side of one
    half add nothing, so that there is always one positive and one negative kind, and never an easy one.
    """
    inside, outside = box_cells(boxes, logits_BHW.shape[1:], stride)
    flat = logits_BHW.flatten(1)
    none = torch.finfo(flat.dtype).min
    best_inside = flat.masked_fill(~inside.flatten(1), none).topk(points, dim=1).values
    best_outside = flat.masked_fill(~outside.flatten(1), none).topk(points, dim=1).values
    known = best_inside > none
    positive = torch.where(known & (best_inside <= 0), F.softplus(-best_inside.clamp(min=-50)), 0)
    negative = torch.where(best_outside >= 0, F.softplus(best_outside), 0)
    share = known.sum(dim=1).clamp(min=1)
    return (positive.sum(dim=1) / share + negative.mean(dim=1)).mean()


def box_cells(boxes: torch.Tensor, hw: Sequence[int], stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """bool [B, h, w] twice: cells whose centre lies in the box, and cells that do not touch it."""
    y, x = (
        (torch.arange(n, device=boxes.device, dtype=torch.float32) + 0.5) * stride - 0.5 for n in hw
    )  # an integer coordinate is a pixel's centre
    dx = (x - boxes[:, None, :1]).abs()
    dy = (y - boxes[:, None, 1:2]).abs()
    half_w, half_h = boxes[:, None, 2:3] / 2, boxes[:, None, 3:4] / 2

    def within(margin_x: torch.Tensor | float, margin_y: torch.Tensor | float) -> torch.Tensor:
        return (dx <= margin_x)[:, 0, None, :] & (dy <= margin_y)[:, 0, :, None]

    inside = within(half_w, half_h)
    nearest = within(stride / 2, stride / 2)
    empty = ~inside.flatten(1).any(dim=1)
    inside = torch.where(empty[:, None, None], nearest, inside)
    return inside, ~(within(half_w + stride / 2, half_h + stride / 2) | inside)


def best_point(logits_BHW: torch.Tensor, stride: int = STRIDES[0]) -> tuple[torch.Tensor, torch.Tensor]:
    """The best point of each map, [B, 2] in network px (the centroid of the peak's 3x3 cells), and its score [B]."""
    xy, score = best_points(logits_BHW, 1, stride)
    return xy[:, 0], score[:, 0]


def best_points(logits_BHW: torch.Tensor, count: int, stride: int = STRIDES[0]) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``count`` highest peaks of each map: [B, count, 2] in network px and scores [B, count], best first."""
    probability = torch.sigmoid(logits_BHW)
    highest = F.max_pool2d(probability[:, None], 5, 1, 2)[:, 0]
    peaks = torch.where(probability == highest, probability, 0).flatten(1)
    score, index = peaks.topk(count, dim=1)
    height, width = logits_BHW.shape[1:]
    row, column = index // width, index % width
    shift = torch.arange(-1, 2, device=logits_BHW.device)
    rows = (row[..., None, None] + shift[:, None]).expand(-1, -1, 3, 3)
    columns = (column[..., None, None] + shift).expand(-1, -1, 3, 3)
    there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    cell = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).flatten(1)
    around = probability.flatten(1).gather(1, cell).reshape(there.shape) * there
    total = around.sum(dim=(2, 3)).clamp(min=1e-12)
    x = (around * columns).sum(dim=(2, 3)) / total
    y = (around * rows).sum(dim=(2, 3)) / total
    return (torch.stack([x, y], dim=-1) + 0.5) * stride - 0.5, score


def _head(width: int) -> nn.Conv2d:
    """To logits; it starts below one half everywhere, where only targets are taught."""
    head = nn.Conv2d(width, 1, 1)
    assert head.bias is not None
    nn.init.constant_(head.bias, -2.0)
    return head


def _correlate(unit: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Each channel of each frame with its own kernel [B, C, 3, 3], 'same' size."""
    batch, channels, height, width = unit.shape
    kernels = kernel.reshape(batch * channels, 1, KERNEL, KERNEL) / KERNEL**2
    frames = unit.reshape(1, batch * channels, height, width)
    found = F.conv2d(frames, kernels, padding=KERNEL // 2, groups=batch * channels)
    return found.reshape(batch, channels, height, width)


def _sample(features: torch.Tensor, xy: torch.Tensor, wh: torch.Tensor, stride: int) -> torch.Tensor:
    """[B, C, 3, 3]: features at the centres of a 3x3 grid over the boxes, by bilinear interpolation."""
    height, width = features.shape[2:]
    steps = (torch.arange(KERNEL, device=xy.device, dtype=torch.float32) - (KERNEL - 1) / 2) / KERNEL
    x = (xy[:, :1] + 0.5 + steps * wh[:, :1]) / (stride * width) * 2 - 1
    y = (xy[:, 1:] + 0.5 + steps * wh[:, 1:]) / (stride * height) * 2 - 1
    grid = torch.stack([x[:, None, :].expand(-1, KERNEL, -1), y[:, :, None].expand(-1, -1, KERNEL)], dim=-1)
    return F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
