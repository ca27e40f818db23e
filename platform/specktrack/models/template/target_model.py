"""The target model: a filter that scores every cell of a search region, learned from a few samples.

The learning is itself a differentiable network. DiMP (Bhat et al., ICCV 2019): steepest descent on a least-squares loss
with the optimal step length from the Gauss-Newton curvature; label, mask and weight are learned functions of the
distance from the target. PrDiMP (Danelljan et al., CVPR 2020): the same descent with Newton's curvature on the KL
divergence from a wanted density.

The score map has one cell more than the features, since the filter's side is even and the padding half of it.
"""

# n samples, S sequences, C channel, h w cells of the features, H W cells of the scores, k side of the filter, b bins

import math

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.template.entries import TargetModelConfig
from specktrack.models.template.roi import precise_roi_pool

BINS, BIN_CELLS = 100, 0.1
"""Distances from the target at which label, mask and weight are learned; beyond the last one they are constant."""
_MASK_REACH = 3.0


class InstanceL2Norm(nn.Module):
    """Scales each sample so that its mean square is ``scale`` squared, whatever its size."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, features_BChw: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        energy = features_BChw.square().sum(dim=(1, 2, 3), keepdim=True)
        return features_BChw * (self.scale * (features_BChw[0].numel() / (energy + 1e-5)).sqrt())


def apply_filter(features_nSChw: torch.Tensor, filter_SCkk: torch.Tensor) -> torch.Tensor:
    """Scores [n, S, h + 1, w + 1] (for an even filter) of each sequence's samples by its own filter.

    One product of matrices per sample gives what each cell contributes through each element of the filter, and a fold
    adds the contributions up: much faster than a convolution to one channel.
    """
    n, sequences, _, h, w = features_nSChw.shape
    k = filter_SCkk.shape[-1]
    turned = filter_SCkk.flip(-1, -2).flatten(2).transpose(1, 2)
    parts = turned @ features_nSChw.flatten(3)
    size = (h + 1 - k % 2, w + 1 - k % 2)
    return F.fold(parts.flatten(0, 1), size, k, padding=k - 1 - k // 2).view(n, sequences, *size)


def filter_gradient(features_nSChw: torch.Tensor, residual_nSHW: torch.Tensor, k: int) -> torch.Tensor:
    """The transpose of ``apply_filter``, summed over samples: [n, S, C, h, w] and [n, S, H, W] to [S, C, k, k]."""
    n, sequences, _, h, w = features_nSChw.shape
    columns = F.unfold(residual_nSHW.flatten(0, 1)[:, None], k, padding=k - 1 - k // 2)
    columns = columns.view(n, sequences, k * k, h * w)
    gradient = (features_nSChw.flatten(3) @ columns.transpose(2, 3)).sum(dim=0)
    return gradient.unflatten(2, (k, k)).flip(-1, -2)


def centres_in_cells(boxes: torch.Tensor, *, stride: int, k: int) -> torch.Tensor:
    """Where the centres of boxes [..., 4] (x, y, w, h; network px) lie in the score map, as (x, y) [..., 2]."""
    return (boxes[..., :2] + boxes[..., 2:] / 2) / stride - (k % 2) / 2


def distance_bins(centre_xy: torch.Tensor, size_hw: tuple[int, int], *, bins: int, bin_cells: float) -> torch.Tensor:
    """Soft one-hot code of cells' distances from a centre, [..., 2] to [..., bins, H, W]; the last bin saturates."""
    ys, xs = (torch.arange(side, device=centre_xy.device, dtype=centre_xy.dtype) for side in size_hw)
    x, y = centre_xy[..., 0, None, None], centre_xy[..., 1, None, None]
    distance = ((xs - x).square() + (ys[:, None] - y).square()).sqrt()[..., None, :, :] / bin_cells
    offset = distance - torch.arange(bins, device=centre_xy.device, dtype=centre_xy.dtype)[:, None, None]
    code = (1 - offset.abs()).clamp(min=0)
    last = (1 + offset[..., -1:, :, :]).clamp(0, 1)
    return torch.cat([code[..., :-1, :, :], last], dim=-3)


def gaussian_label(centre_xy: torch.Tensor, size_hw: tuple[int, int], sigma: float) -> torch.Tensor:
    """Gaussian of peak one around a centre, [..., 2] to [..., H, W]; none where the centre is far outside."""
    ys, xs = (torch.arange(side, device=centre_xy.device, dtype=centre_xy.dtype) for side in size_hw)
    dx, dy = xs - centre_xy[..., 0, None], ys - centre_xy[..., 1, None]
    return (-0.5 * dx.square() / sigma**2).exp()[..., None, :] * (-0.5 * dy.square() / sigma**2).exp()[..., :, None]


def hinge_loss(score: torch.Tensor, label: torch.Tensor, *, threshold: float = 0.05) -> torch.Tensor:
    """LBHinge (DiMP): squared error, but where the label is below the threshold only positive scores are wrong."""
    background = label < threshold
    return F.mse_loss(torch.where(background, score.clamp(min=0), score), torch.where(background, 0.0, label))


def score_kl_loss(score_HW: torch.Tensor, density_HW: torch.Tensor) -> torch.Tensor:
    """KL divergence (but for a constant) of the scores' softmax from a density over cells; mean over maps with one."""
    scores, density = score_HW.flatten(-2), density_HW.flatten(-2)
    there = density.sum(dim=-1) > 0
    divergence = scores.logsumexp(dim=-1) - (scores * density).sum(dim=-1)
    return torch.where(there, divergence, 0).sum() / there.sum().clamp(min=1)


class FilterInitializer(nn.Module):
    """The first filter: features behind one convolution, pooled in the box, mean over samples."""

    def __init__(self, channels: int, k: int, stride: int) -> None:
        super().__init__()
        self.k, self.stride = k, stride
        self.filter_conv = nn.Conv2d(channels, channels, 3, padding=1)
        # Published is a random start, on a trained backbone. The identity makes the target's own features the first
        # filter, from which the steps of the optimizer get somewhere while the features are still random.
        nn.init.dirac_(self.filter_conv.weight)
        assert self.filter_conv.bias is not None
        nn.init.zeros_(self.filter_conv.bias)

    def forward(self, features_nSChw: torch.Tensor, boxes_nS4: torch.Tensor) -> torch.Tensor:
        """Filters [S, C, k, k] from boxes (x, y, w, h in network px)."""
        n, sequences = boxes_nS4.shape[:2]
        features = self.filter_conv(features_nSChw.flatten(0, 1))
        corners = torch.cat([boxes_nS4[..., :2], boxes_nS4[..., :2] + boxes_nS4[..., 2:]], dim=-1).view(-1, 1, 4)
        pooled = precise_roi_pool(features, corners, bins=self.k, scale=1 / self.stride)
        return pooled.view(n, sequences, -1, self.k, self.k).mean(dim=0)


class ZeroInitializer(nn.Module):
    """The first filter is zero (PrDiMP)."""

    def __init__(self, channels: int, k: int) -> None:
        super().__init__()
        self.channels, self.k = channels, k

    def forward(self, features_nSChw: torch.Tensor, boxes_nS4: torch.Tensor) -> torch.Tensor:
        """Filters [S, C, k, k]."""
        return features_nSChw.new_zeros(boxes_nS4.shape[1], self.channels, self.k, self.k)


class GaussNewton(nn.Module):
    """DiMP's optimizer: steepest descent with the optimal step on sum |v (s' - y)|^2 + lambda |w|^2."""

    def __init__(self, config: TargetModelConfig, *, stride: int, sigma_cells: float) -> None:
        super().__init__()
        self.config, self.stride = config, stride
        self.log_step_length = nn.Parameter(torch.tensor([math.log(config.first_step)]))
        self.filter_reg = nn.Parameter(torch.tensor([config.first_regularisation]))
        cells = torch.arange(BINS)[:, None, None] * BIN_CELLS
        label = (-0.5 * cells.square() / sigma_cells**2).exp()
        self.label_map_predictor = _per_bin(label - label.min())
        self.target_mask_predictor = nn.Sequential(_per_bin(_MASK_REACH * torch.tanh(2 - cells)), nn.Sigmoid())
        self.spatial_weight_predictor = _per_bin(torch.ones_like(cells))

    def forward(
        self,
        filter_SCkk: torch.Tensor,
        features_nSChw: torch.Tensor,
        boxes_nS4: torch.Tensor,
        *,
        sample_weight_nS: torch.Tensor | None = None,
        iterations: int | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The filters after each step, the given one first, and the losses at each of them."""
        k, (n, sequences) = filter_SCkk.shape[-1], features_nSChw.shape[:2]
        size_hw = score_size_hw(features_nSChw, k)
        centre = centres_in_cells(boxes_nS4, stride=self.stride, k=k).view(-1, 2)
        bins = distance_bins(centre, size_hw, bins=BINS, bin_cells=BIN_CELLS)
        label, mask, weight = (
            predictor(bins).view(n, sequences, *size_hw)
            for predictor in (self.label_map_predictor, self.target_mask_predictor, self.spatial_weight_predictor)
        )
        importance = importance_nS(features_nSChw, sample_weight_nS)
        weight = weight * importance.sqrt()[..., None, None]
        regularisation = self.filter_reg.square().clamp(min=self.config.least_regularisation**2)

        def terms(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            score = apply_filter(features_nSChw, w)
            activated = (1 - mask) / 2 * score.abs() + (1 + mask) / 2 * score
            slope = (1 - mask) / 2 * score.detach().sign() + (1 + mask) / 2
            residual = weight * (activated - label)
            return residual, slope, (residual.square().sum() + regularisation * w.square().sum()) / sequences

        w, filters, losses = filter_SCkk, [filter_SCkk], []
        for _ in range(self.config.iterations if iterations is None else iterations):
            residual, slope, loss = terms(w)
            losses.append(loss)
            gradient = filter_gradient(features_nSChw, slope * weight * residual, k) + regularisation * w
            response = weight * slope * apply_filter(features_nSChw, gradient)
            curvature = response.square().sum(dim=(0, 2, 3))
            step = self.log_step_length.exp()
            w = descended(w, gradient, curvature, step=step, damping=regularisation + self.config.step_damping)
            filters.append(w)
        losses.append(terms(w)[2])
        return filters, torch.cat(losses)


class Newton(nn.Module):
    """PrDiMP's optimizer: steepest descent with the optimal step on the mean KL divergence + lambda / 2 |w|^2."""

    def __init__(self, config: TargetModelConfig, *, stride: int, sigma_cells: float) -> None:
        super().__init__()
        self.config, self.stride, self.sigma_cells = config, stride, sigma_cells
        self.log_step_length = nn.Parameter(torch.tensor([math.log(config.first_step)]))
        self.filter_reg = nn.Parameter(torch.tensor([config.first_regularisation]))

    def forward(
        self,
        filter_SCkk: torch.Tensor,
        features_nSChw: torch.Tensor,
        boxes_nS4: torch.Tensor,
        *,
        sample_weight_nS: torch.Tensor | None = None,
        iterations: int | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The filters after each step, the given one first, and the losses at each of them."""
        k, sequences = filter_SCkk.shape[-1], features_nSChw.shape[1]
        size_hw = score_size_hw(features_nSChw, k)
        label = gaussian_label(centres_in_cells(boxes_nS4, stride=self.stride, k=k), size_hw, self.sigma_cells)
        density = label / label.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-8)
        importance = importance_nS(features_nSChw, sample_weight_nS)[..., None, None]
        regularisation = self.filter_reg.square().clamp(min=self.config.least_regularisation**2)

        def loss_of(score: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            divergence = score.flatten(-2).logsumexp(dim=-1) - (score * density).sum(dim=(-2, -1))
            return ((importance[..., 0, 0] * divergence).sum() + regularisation * w.square().sum() / 2) / sequences

        w, filters, losses = filter_SCkk, [filter_SCkk], []
        for _ in range(self.config.iterations if iterations is None else iterations):
            score = apply_filter(features_nSChw, w)
            losses.append(loss_of(score, w))
            probability = score.flatten(-2).softmax(dim=-1).view_as(score)
            gradient = filter_gradient(features_nSChw, importance * (probability - density), k) + regularisation * w
            response = apply_filter(features_nSChw, gradient)
            mean = (probability * response).sum(dim=(-2, -1), keepdim=True)
            spread = (importance * probability * (response - mean).square()).sum(dim=(0, 2, 3))
            step = self.log_step_length.exp()
            w = descended(w, gradient, spread, step=step, damping=regularisation + self.config.step_damping)
            filters.append(w)
        losses.append(loss_of(apply_filter(features_nSChw, w), w))
        return filters, torch.cat(losses)


def importance_nS(features_nSChw: torch.Tensor, sample_weight_nS: torch.Tensor | None) -> torch.Tensor:
    """How much each sample counts: as given, else all alike."""
    n, sequences = features_nSChw.shape[:2]
    return features_nSChw.new_full((n, sequences), 1 / n) if sample_weight_nS is None else sample_weight_nS


def score_size_hw(features_nSChw: torch.Tensor, k: int) -> tuple[int, int]:
    """Height and width of the scores of a filter of k x k: an even one gains a row and a column."""
    return features_nSChw.shape[-2] + 1 - k % 2, features_nSChw.shape[-1] + 1 - k % 2


def descended(
    w_SCkk: torch.Tensor, gradient_SCkk: torch.Tensor, curvature_S: torch.Tensor,
    *, step: torch.Tensor, damping: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The filters one step further down: ``step`` of the optimal length, at the curvature along the gradient."""
    squared_S = gradient_SCkk.square().sum(dim=(1, 2, 3))
    length_S = step * squared_S / (curvature_S + damping * squared_S).clamp(min=1e-8)
    return w_SCkk - length_S[:, None, None, None] * gradient_SCkk


def _per_bin(values_b11: torch.Tensor) -> nn.Conv2d:
    """A learned function of the distance, as the 1x1 convolution of its bins."""
    predictor = nn.Conv2d(len(values_b11), 1, 1, bias=False)
    with torch.no_grad():
        predictor.weight.copy_(values_b11[None])
    return predictor
