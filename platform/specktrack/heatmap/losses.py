"""Losses of heatmap networks, each as its paper or its public code has it, computed in fp32."""

# B batch, T heatmaps, L levels, H W heatmap px

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from specktrack.heatmap.labels import LEVELS


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The project's own: |p - y|^2 * BCE summed over pixels, mean over heatmaps [..., H, W].

    On a binary target this is TrackNetV2's weighted BCE (focal loss, gamma 2, its equation with w = the prediction); on
    a soft one it is the quality focal loss that WASB uses. Computed from logits, so that no epsilon is needed.
    """
    return _quality_focal(logits, target).sum(dim=(-2, -1)).mean()


def quality_focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """WASB (BMVC 2023): |p - y|^2 * BCE, mean over all pixels."""
    return _quality_focal(logits, target).mean()


def weighted_bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """TrackNetV2 (ICPAI 2020), also V3 to V5: -(1-p)^2 y log p - p^2 (1-y) log(1-p), mean over all pixels.

    Logarithms are of values clamped to at least 1e-7, the epsilon of the public code.
    """
    p = torch.sigmoid(logits.float())
    hit = (1 - p).square() * target * p.clamp(min=1e-7).log()
    miss = p.square() * (1 - target) * (1 - p).clamp(min=1e-7).log()
    return -(hit + miss).mean()


def cross_entropy(logits_BLHW: torch.Tensor, target_B1HW: torch.Tensor) -> torch.Tensor:
    """TrackNetV1 (AVSS 2019): cross-entropy of each pixel's grey level among 256, unweighted, mean over pixels."""
    level = (target_B1HW[:, 0] * (LEVELS - 1)).round().long()
    return F.cross_entropy(logits_BLHW.float(), level)


def bce_dice(logits: torch.Tensor, target: torch.Tensor, *, share: float = 0.1, eps: float = 1e-4) -> torch.Tensor:
    """MonoTrack: (1 - share) BCE + share * Dice, Dice = -2 (sum p y + eps) / (sum p + sum y + eps) per heatmap."""
    logits = logits.float()
    p = torch.sigmoid(logits)
    both, either = (p * target).sum(dim=(-2, -1)), (p + target).sum(dim=(-2, -1))
    dice = (-2 * (both + eps) / (either + eps)).mean()
    return (1 - share) * F.binary_cross_entropy_with_logits(logits, target) + share * dice


LOSSES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "focal": focal,
    "wbce": weighted_bce,
    "cross-entropy": cross_entropy,
    "quality-focal": quality_focal,
    "bce-dice": bce_dice,
}
"""From a network's raw output and the label [B, T, H, W] in [0, 1] to a scalar."""


def _quality_focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    logits = logits.float()
    weight = (torch.sigmoid(logits) - target).square()
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
