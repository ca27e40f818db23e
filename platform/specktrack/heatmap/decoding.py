"""The decodings of the papers, by name, in the shape of the project's own."""

# N heatmaps, H W heatmap px, K candidates

from collections.abc import Callable, Mapping

import numpy as np
import torch

from specktrack.heatmap.circles import only_circle
from specktrack.heatmap.regions import components, largest_box, largest_contour

PUBLISHED: Mapping[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "largest-box": largest_box,
    "largest-contour": largest_contour,
    "hough": only_circle,
    "components": components,
}
"""From one heatmap float32 [H, W] in [0, 1] to positions [M, 2] in heatmap px and scores [M] in [0, 1], best first."""


def decode_published(
    name: str, heatmaps_NHW: torch.Tensor, *, stride: int = 1, candidates: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [N, K, 2] in network px and scores [N, K] by the published decoding ``name``; NaN and 0 beyond M."""
    xy = np.full((len(heatmaps_NHW), candidates, 2), np.nan, np.float32)
    score = np.zeros((len(heatmaps_NHW), candidates), np.float32)
    for n, heatmap in enumerate(heatmaps_NHW.float().cpu().numpy()):
        found_xy, found_score = PUBLISHED[name](heatmap)
        kept = min(candidates, len(found_xy))
        xy[n, :kept] = (found_xy[:kept] + 0.5) * stride - 0.5
        score[n, :kept] = found_score[:kept]
    return torch.from_numpy(xy), torch.from_numpy(score)
