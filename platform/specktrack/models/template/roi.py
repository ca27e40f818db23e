"""Precise RoI pooling (Jiang et al., ECCV 2018) in plain PyTorch: exact, and differentiable in features and boxes.

A bin's value is the integral of the bilinearly interpolated features over the bin, by the bin's area. Bilinear
interpolation is a product of two hats, so the integral is too: out = Wy F Wx^T / area with W[bin, k] the integral of
the hat around k over the bin. The gradients are autograd's.
"""

# B batch, N boxes per picture, C channel, h w cells, s bins along a side

import torch


def precise_roi_pool(features_BChw: torch.Tensor, boxes_BN4: torch.Tensor, *, bins: int, scale: float) -> torch.Tensor:
    """Pool boxes (x0, y0, x1, y1 in network px) on their picture's features; [B, N, C, bins, bins].

    Cell k lies at coordinate k after multiplication by ``scale``; outside there is nothing, and an empty box gives 0.
    """
    batch, channels, height, width = features_BChw.shape
    dtype = torch.promote_types(features_BChw.dtype, torch.float32)  # half precision cannot tell positions apart
    features, boxes = features_BChw.to(dtype), boxes_BN4.to(dtype) * scale
    wy_BNsh, side_y = _hat_weights(boxes[..., 1], boxes[..., 3], bins, height)
    wx_BNsw, side_x = _hat_weights(boxes[..., 0], boxes[..., 2], bins, width)
    rows = wy_BNsh.flatten(1, 2) @ features.transpose(1, 2).reshape(batch, height, channels * width)
    rows_BNsCw = rows.unflatten(1, (-1, bins)).unflatten(3, (channels, width))
    pooled = torch.einsum("bnscw,bntw->bncst", rows_BNsCw, wx_BNsw)
    area = (side_x * side_y)[..., None, None, None]
    return torch.where(area > 0, pooled / area.clamp(min=torch.finfo(area.dtype).tiny), 0.0)


def _hat_weights(
    start_BN: torch.Tensor, stop_BN: torch.Tensor, bins: int, cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integral of each cell's hat over each bin, [B, N, bins, cells], and the side of a bin [B, N]."""
    side = (stop_BN - start_BN).clamp(min=0) / bins
    edges = start_BN[..., None] + side[..., None] * torch.arange(bins + 1, device=start_BN.device)
    upto = _hat_integral(edges[..., None] - torch.arange(cells, device=start_BN.device))
    return upto[..., 1:, :] - upto[..., :-1, :], side


def _hat_integral(t: torch.Tensor) -> torch.Tensor:
    """Integral of max(0, 1 - |x|) from minus infinity to t."""
    t = t.clamp(-1, 1)
    return 0.5 + t - 0.5 * t * t.abs()
