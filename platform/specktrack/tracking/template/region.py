"""Search regions: where a square is cut from a frame around the target, and the boxes and pixels in it.

Source px have integer coordinates at pixel centres; in the region, as in the published trackers, a box is x, y, w, h
with x and y counted from the region's edge, in network px.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from specktrack.schema import Box

Border = Literal["inside_major", "inside", "replicate"]


@dataclass(frozen=True)
class Region:
    """A square of whole source px and the size to which it is resized."""

    x0_px: int
    y0_px: int
    side_px: int
    side_net: int
    step: int
    """Source px that are averaged into one before resizing."""

    @classmethod
    def around(
        cls, centre_xy_px: tuple[float, float], side_px: float, frame_wh_px: tuple[int, int], side_net: int,
        *, border: Border, most_shrink: float,
    ) -> "Region":  # fmt: skip
        """The region around a position.

        ``replicate`` reaches over the frame's edges, ``inside`` moves and shrinks until it does not, ``inside_major``
        only as far as the longer side of the frame allows; none shrinks more than ``most_shrink``.
        """
        if border != "replicate":
            ratios = [side_px / side for side in frame_wh_px]
            shrink = max(ratios) if border == "inside" else min(ratios)
            side_px = int(side_px / min(max(shrink, 1.0), most_shrink))
        step = max(1, int(side_px / side_net - 0.1))
        cells = max(2, round(side_px / step))
        corner = []
        for centre, frame_side in zip(centre_xy_px, frame_wh_px, strict=True):
            start = int(centre) // step - (cells - 1) // 2
            if border != "replicate":
                start = _moved_inside(start, cells, -(-frame_side // step))
            corner.append(start * step)
        return cls(corner[0], corner[1], cells * step, side_net, step)

    @property
    def scale(self) -> float:
        """Source px per network px."""
        return self.side_px / self.side_net

    def box_net(self, box: Box) -> tuple[float, float, float, float]:
        """A box in source px as x, y, w, h in network px of the region."""
        x = (box.cx_px + 0.5 - box.w_px / 2 - self.x0_px) / self.scale
        y = (box.cy_px + 0.5 - box.h_px / 2 - self.y0_px) / self.scale
        return x, y, box.w_px / self.scale, box.h_px / self.scale

    def box_px(self, x: float, y: float, w: float, h: float) -> Box:
        """The inverse of ``box_net``."""
        return Box(
            cx_px=(x + w / 2) * self.scale + self.x0_px - 0.5,
            cy_px=(y + h / 2) * self.scale + self.y0_px - 0.5,
            w_px=w * self.scale,
            h_px=h * self.scale,
        )

    def cut(self, frame_HWC: np.ndarray) -> torch.Tensor:
        """The region's pixels, float32 [3, side_net, side_net] in 0..255; beyond the frame its edge is repeated."""
        height, width = frame_HWC.shape[:2]
        x1, y1 = self.x0_px + self.side_px, self.y0_px + self.side_px
        if self.x0_px >= 0 and self.y0_px >= 0 and x1 <= width and y1 <= height:
            return self._resized(frame_HWC[self.y0_px : y1, self.x0_px : x1])
        ys, y_cells = self._reached(self.y0_px, height)
        xs, x_cells = self._reached(self.x0_px, width)
        return self._resized(frame_HWC[ys.clip(0, height - 1)[:, None], xs.clip(0, width - 1)], y_cells, x_cells)

    def _resized(
        self,
        pixels_HWC: np.ndarray,
        y_cells: slice | torch.Tensor = slice(None),
        x_cells: slice | torch.Tensor = slice(None),
    ) -> torch.Tensor:
        patch = torch.from_numpy(np.ascontiguousarray(pixels_HWC)).permute(2, 0, 1)[None].float()
        if self.step > 1:
            patch = F.avg_pool2d(patch, self.step)
        patch = patch[:, :, y_cells][..., x_cells]
        size = (self.side_net, self.side_net)
        return F.interpolate(patch, size, mode="bilinear", align_corners=False)[0]

    def _reached(self, start_px: int, frame_px: int) -> tuple[np.ndarray, torch.Tensor]:
        """On one axis: the px to read, and which of the cells averaged from them each cell of the region is.

        Cells wholly beyond the frame repeat its edge, so one on each side stands for all: what is read is bounded by
        the frame, however large the region is.
        """
        first = max(0, -start_px // self.step - 1)
        last = (frame_px - 1 - start_px) // self.step + 1
        cells = torch.arange(self.side_px // self.step)
        reached = cells.clamp(first, max(first, last))
        low, high = int(reached[0]), int(reached[-1])
        return np.arange(start_px + low * self.step, start_px + (high + 1) * self.step), reached - low


def _moved_inside(start: int, cells: int, frame_cells: int) -> int:
    """A start from which ``cells`` lie inside the frame, or as far outside on one side as on the other."""
    if cells > frame_cells:
        return -((cells - frame_cells) // 2)
    return min(max(start, 0), frame_cells - cells)
