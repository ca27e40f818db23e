"""Labels: what a network is taught to draw for a centre."""

# H W heatmap px

from typing import Literal

import torch
import torch.nn.functional as F

LEVELS = 256
"""Grey levels of TrackNetV1's label, and classes of its output."""


def encode(
    xy_net: torch.Tensor,
    size_hw: tuple[int, int],
    *,
    kind: Literal["disk", "gaussian", "levels"],
    radius_px: float,
    stride: int = 1,
) -> torch.Tensor:
    """Draw centres [..., 2] (network px; NaN where absent) as heatmaps [..., H, W] in [0, 1].

    ``size_hw`` is the network's input size. ``disk`` is one within ``radius_px`` of the pixel that holds the centre
    (TrackNetV2's code: 21 px at 2.5); ``gaussian`` is exp(-d^2 / 2 radius_px^2) around the exact centre; ``levels`` is
    TrackNetV1's Gaussian of 256 grey levels. An absent object gives an all-zero heatmap.
    """
    height, width = size_hw[0] // stride, size_hw[1] // stride
    present = ~torch.isnan(xy_net).any(dim=-1)
    centre = torch.nan_to_num(xy_net, nan=-1e4)
    if kind == "levels":
        return _levels(centre, (height, width), radius_px=radius_px) * present[..., None, None]
    if kind == "disk":
        centre = (centre + 0.5).floor()  # the pixel that holds the centre
    # Heatmap pixel j has its centre at network px (j + 0.5) * stride - 0.5.
    xs = (torch.arange(width, device=xy_net.device) + 0.5) * stride - 0.5
    ys = (torch.arange(height, device=xy_net.device) + 0.5) * stride - 0.5
    distance2 = _distance2(centre, xs, ys)
    if kind == "disk":
        heatmap = (distance2 <= radius_px**2).to(xy_net.dtype)
    else:
        heatmap = torch.exp(-distance2 / (2 * radius_px**2))
    return heatmap * present[..., None, None]


def real_valued(
    xy_net: torch.Tensor, size_hw: tuple[int, int], *, radius_px: float, smallest: float, stride: int = 1
) -> torch.Tensor:
    """WASB's label for mined samples: a disk whose rim is less sure than its middle, as heatmaps [..., H, W].

    min(1, smallest * exp(1 - d^2 / radius_px^2)) around the pixel that holds the centre, and 0 where that is below one
    half: ``smallest`` at the radius, 1 where the object surely is. ``smallest`` is the paper's c_min, 0.7 there.
    """
    # A Gaussian of deviation radius / sqrt(2) is exp(-d^2 / radius^2).
    centre = (xy_net + 0.5).floor()
    bell = encode(centre, size_hw, kind="gaussian", radius_px=radius_px / 2**0.5, stride=stride)
    value = (smallest * torch.e * bell).clamp(max=1)
    return torch.where(value < 0.5, 0.0, value)


def _levels(centre: torch.Tensor, size_hw: tuple[int, int], *, radius_px: float) -> torch.Tensor:
    """TrackNetV1's label: drawn at twice the network's size (1280x720), truncated to whole levels, halved by averaging.

    The centre is a whole pixel of the larger picture. With ``radius_px`` = sqrt(10) / 2 this is 255 exp(-d^2 / 20).
    """
    height, width = size_hw
    centre = (2 * centre + 1).floor()  # the larger picture's pixel that holds it: (xy + 0.5) * 2 - 0.5, rounded
    xs = torch.arange(2 * width, device=centre.device)
    ys = torch.arange(2 * height, device=centre.device)
    grey = ((LEVELS - 1) * torch.exp(-_distance2(centre, xs, ys) / (2 * (2 * radius_px) ** 2))).floor()
    halved = F.avg_pool2d(grey.reshape(-1, 1, 2 * height, 2 * width), 2)
    return (halved + 0.5).floor().reshape(*centre.shape[:-1], height, width) / (LEVELS - 1)


def _distance2(centre: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    """Squared distances [..., len(ys), len(xs)] from centres [..., 2]."""
    dx2 = (xs - centre[..., 0, None]).square()
    dy2 = (ys - centre[..., 1, None]).square()
    return dy2[..., :, None] + dx2[..., None, :]
