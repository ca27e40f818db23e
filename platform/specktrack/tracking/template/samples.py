"""Training samples of the target model: varied samples of the prompt, then a memory of samples with weights."""

# n samples, C channel, h w cells, H W network px

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from specktrack.models.template.entries import OnlineConfig
from specktrack.schema import Box
from specktrack.tracking.template.region import Region


@dataclass(frozen=True)
class Variation:
    """One way to see the prompt again; shifts are in network px."""

    shift_xy: tuple[int, int] = (0, 0)
    mirrored: bool = False
    rotation_deg: float = 0.0
    blur_px: tuple[float, float] | None = None


def variations(config: OnlineConfig, side_net: int, generator: torch.Generator) -> list[Variation]:
    """The prompt itself, shifted, mirrored, blurred and rotated, in that order; all but the first few also move."""
    half = side_net / 2

    def anywhere() -> tuple[int, int]:
        x, y = ((torch.rand(2, generator=generator) - 0.5) * config.random_shift * side_net).long().tolist()
        return x, y

    shifted = [Variation(shift_xy=(int(x * half), int(y * half))) for x, y in config.shifts]
    blurred = [Variation(shift_xy=anywhere(), blur_px=blur) for blur in config.blurs_px]
    rotated = [Variation(shift_xy=anywhere(), rotation_deg=degrees) for degrees in config.rotations_deg]
    return [Variation(), *shifted, Variation(shift_xy=anywhere(), mirrored=True), *blurred, *rotated]


def prompt_samples(
    wide: torch.Tensor, region: Region, box: Box, ways: list[Variation]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [n, 3, H, W] and boxes [n, 4] (x, y, w, h) from a region ``wide`` [3, 2 H, 2 W] around the prompt.

    A box keeps its size when it is mirrored or turned, and its centre goes where the target's does (published is that
    it stays, which is a px off: much for a target of four).
    """
    side = region.side_net // 2
    x, y, w, h = region.box_net(box)
    pictures, boxes = [], []
    for way in ways:
        left, top = side // 2 - way.shift_xy[0], side // 2 - way.shift_xy[1]
        dx, dy = _moved(way, x + w / 2 - side, y + h / 2 - side)
        pictures.append(_varied(wide, way)[:, top : top + side, left : left + side])
        boxes.append(torch.tensor([side + dx - w / 2 - left, side + dy - h / 2 - top, w, h]))
    return torch.stack(pictures), torch.stack(boxes)


def _moved(way: Variation, dx: float, dy: float) -> tuple[float, float]:
    """Where a point, relative to the middle, goes."""
    cos, sin = math.cos(math.radians(way.rotation_deg)), math.sin(math.radians(way.rotation_deg))
    dx = -dx if way.mirrored else dx
    return cos * dx + sin * dy, cos * dy - sin * dx


def _varied(picture_CHW: torch.Tensor, way: Variation) -> torch.Tensor:
    if way.mirrored:
        return picture_CHW.flip(-1)
    if way.rotation_deg:
        cos, sin = math.cos(math.radians(way.rotation_deg)), math.sin(math.radians(way.rotation_deg))
        turn = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], device=picture_CHW.device)
        grid = F.affine_grid(turn, [1, *picture_CHW.shape], align_corners=False)
        return F.grid_sample(picture_CHW[None], grid, padding_mode="border", align_corners=False)[0]
    if way.blur_px is not None:
        return _blurred(picture_CHW, way.blur_px)
    return picture_CHW


def _blurred(picture_CHW: torch.Tensor, sigma_xy: tuple[float, float]) -> torch.Tensor:
    picture = picture_CHW[:, None]
    for axis, sigma in zip((-1, -2), sigma_xy, strict=True):
        reach = math.ceil(2 * sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=picture.device) / sigma).square())
        shape = (1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1)
        padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = F.pad(picture, padding, mode="replicate")
        picture = F.conv2d(padded, (kernel / kernel.sum()).view(shape))
    return picture[:, 0]


def with_dropout(features_nChw: torch.Tensor, config: OnlineConfig, generator: torch.Generator) -> torch.Tensor:
    """The samples' features and, behind them, those of the first sample with random channels left away."""
    shape = (config.dropouts, features_nChw.shape[1], 1, 1)
    kept = (torch.rand(shape, generator=generator) >= config.dropout).to(features_nChw)
    return torch.cat([features_nChw, features_nChw[:1] * kept / (1 - config.dropout)])


class SampleMemory:
    """Features, boxes and weights of at most ``config.memory`` samples; those of the prompt stay."""

    def __init__(self, features_nChw: torch.Tensor, boxes_n4: torch.Tensor, config: OnlineConfig) -> None:
        self._config, self._first = config, len(features_nChw)
        capacity = max(config.memory, self._first + 1)
        self._features = features_nChw.new_zeros(capacity, *features_nChw.shape[1:])
        self._boxes, self._weights = boxes_n4.new_ones(capacity, 4), torch.zeros(capacity)
        self._features[: self._first], self._boxes[: self._first] = features_nChw, boxes_n4
        self._weights[: self._first] = 1 / self._first
        self._stored, self._previous = self._first, -1

    def add(self, features_Chw: torch.Tensor, box_4: torch.Tensor, *, learning_rate: float) -> None:
        """Keep a sample in the place of the least important one; it weighs a little more than the one before it."""
        weights, least = self._weights, self._config.least_initial_weight
        if self._stored < len(weights):
            place, self._stored = self._stored, self._stored + 1
        else:
            place = self._first + int(weights[self._first :].argmin())
        if self._previous < 0:
            weights /= 1 - learning_rate
            weights[place] = learning_rate
        else:
            weights[place] = weights[self._previous] / (1 - learning_rate)
        weights /= weights.sum()
        if weights[: self._first].sum() < least:
            weights /= least + weights[self._first :].sum()
            weights[: self._first] = least / self._first
        self._features[place], self._boxes[place], self._previous = features_Chw, box_4, place

    @property
    def weights(self) -> torch.Tensor:
        """Of the stored samples, [n]; they sum to one."""
        return self._weights[: self._stored]

    def samples(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features [n, C, h, w], boxes [n, 4] and weights [n] of the stored samples."""
        return self._features[: self._stored], self._boxes[: self._stored], self.weights.to(self._features.device)
