"""One heatmap per frame from the heatmaps of all windows that saw it."""

# T frames out per window, H W heatmap px

import torch

from specktrack.models.windowed_entries import Ensemble


class Overlapping:
    """Live state: weighted sums of the heatmaps of frames whose windows have not all run."""

    def __init__(self, kind: Ensemble, *, outputs: int, stride: int) -> None:
        self._weights = [1.0 if kind == "average" else float(min(i + 1, outputs - i)) for i in range(outputs)]
        self._windows = outputs // stride if kind == "triangular" else 0  # that see a frame away from the ends
        self._sums: dict[int, torch.Tensor] = {}  # frame -> weighted heatmap sum
        self._totals: dict[int, float] = {}
        self._plain: dict[int, list[torch.Tensor]] = {}  # frames that may turn out to be near an end

    def add(self, first: int, window: torch.Tensor) -> None:
        """Take the heatmaps [T, H, W] of a window that draws the frames from ``first`` on."""
        for i, heatmap in enumerate(window):
            frame, weight = first + i, self._weights[i]
            self._sums[frame] = self._sums[frame] + weight * heatmap if frame in self._sums else weight * heatmap
            self._totals[frame] = self._totals.get(frame, 0.0) + weight
            if self._windows:
                self._plain.setdefault(frame, []).append(heatmap)

    def take(self, begin: int, end: int) -> tuple[list[int], torch.Tensor]:
        """Frames in [begin, end) and their heatmaps [N, H, W]; they and all before them are forgotten."""
        frames = [frame for frame in sorted(self._sums) if begin <= frame < end]
        means = [self._mean(frame) for frame in frames]
        for part in (self._sums, self._totals, self._plain):
            for frame in [frame for frame in part if frame < end]:
                del part[frame]
        return frames, torch.stack(means) if means else torch.zeros(0)

    def _mean(self, frame: int) -> torch.Tensor:
        seen = self._plain.get(frame, [])
        if seen and len(seen) < self._windows:
            return torch.stack(seen).mean(dim=0)
        return self._sums[frame] / self._totals[frame]
