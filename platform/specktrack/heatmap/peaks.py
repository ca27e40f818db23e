"""The project's decoding: sub-pixel centroids around the highest peaks, for whole batches on any device."""

# H W heatmap px, M heatmaps, K candidates

import torch
import torch.nn.functional as F


def decode(
    heatmap: torch.Tensor, *, stride: int = 1, candidates: int = 1, window: int = 7
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the highest peaks of heatmaps [..., H, W] in [0, 1].

    Returns positions [..., K, 2] in network px and scores [..., K] in falling order (the peaks' values; 0 with position
    NaN where fewer peaks exist). A peak is a maximum of its 5x5 neighbourhood; its position is the weighted centroid of
    the ``window`` x ``window`` heatmap px around it, over what rises above a fifth of the peak, so that neither a flat
    disk nor the background pulls it to the window's middle.
    """
    leading, (height, width) = heatmap.shape[:-2], heatmap.shape[-2:]
    flat = heatmap.reshape(-1, 1, height, width).float()
    if candidates == 1:
        score, index = flat.flatten(1).max(dim=1, keepdim=True)
    else:
        is_peak = flat == _neighbourhood_maximum(flat, 2)
        score, index = (flat * is_peak).flatten(1).topk(candidates, dim=1)
    centre = torch.stack([index % width, index // width], dim=-1).float()  # [M, K, 2]
    for _ in range(2):  # a flat peak's first maximum lies at its rim: the second window is centred
        centre = _centroid(flat[:, 0], centre.round().long(), score, window)
    xy = (centre + 0.5) * stride - 0.5
    xy = torch.where((score > 0)[..., None], xy, torch.nan)
    return xy.view(*leading, -1, 2), score.view(*leading, -1)


def _neighbourhood_maximum(heatmap: torch.Tensor, reach: int) -> torch.Tensor:
    """Maximum over (2 reach + 1)^2 px around every pixel of heatmaps [..., H, W] of non-negative values.

    Shifted slices: max_pool2d with stride 1 takes 13 times as long on a CPU.
    """
    height, width = heatmap.shape[-2:]
    padded = F.pad(heatmap, (reach,) * 4)
    rows = padded[..., :width]
    for shift in range(1, 2 * reach + 1):
        rows = torch.maximum(rows, padded[..., shift : shift + width])
    both = rows[..., :height, :]
    for shift in range(1, 2 * reach + 1):
        both = torch.maximum(both, rows[..., shift : shift + height, :])
    return both


def _centroid(heatmap: torch.Tensor, centre: torch.Tensor, score: torch.Tensor, window: int) -> torch.Tensor:
    """Weighted centroids [M, K, 2] in ``window`` x ``window`` px around ``centre`` [M, K, 2] of heatmaps [M, H, W]."""
    height, width = heatmap.shape[-2:]
    offsets = torch.arange(window, device=heatmap.device) - window // 2
    x = centre[..., 0, None, None] + offsets[None, :]  # [M, K, 1, window]
    y = centre[..., 1, None, None] + offsets[:, None]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    linear = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    values = heatmap.flatten(1).gather(1, linear.flatten(1)).view(linear.shape) * inside
    weight = (values - 0.2 * score[..., None, None]).clamp(min=0)
    total = weight.sum(dim=(-2, -1)).clamp(min=1e-12)
    shift_x = (weight * offsets[None, :]).sum(dim=(-2, -1)) / total
    shift_y = (weight * offsets[:, None]).sum(dim=(-2, -1)) / total
    return centre + torch.stack([shift_x, shift_y], dim=-1)
