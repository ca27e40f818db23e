"""A frame's candidates from all windows that saw it: those of their mean heatmap, or of each heatmap side by side."""

# T frames out per window, N frames, H W heatmap px, K candidates

from collections.abc import Callable

import torch

from specktrack.tracking.following import Ensemble

Decode = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From heatmaps [N, H, W] to candidates [N, K, 2] and their scores [N, K], best first."""


def joined(kind: Ensemble, decode: Decode, *, outputs: int, stride: int) -> "Overlapping | Pooled":
    """Joins windows of ``outputs`` heatmaps, one every ``stride`` frames."""
    if kind == "pooled":
        return Pooled(decode, outputs=outputs, stride=stride)
    return Overlapping(kind, decode, outputs=outputs, stride=stride)


Found = tuple[list[int], torch.Tensor, torch.Tensor]
"""Frames, and their candidates as of ``Decode``."""
_NONE: Found = [], torch.zeros(0), torch.zeros(0)


class Overlapping:
    """Live state: weighted sums of the heatmaps of frames whose windows have not all run."""

    def __init__(self, kind: Ensemble, decode: Decode, *, outputs: int, stride: int) -> None:
        self._decode = decode
        self.decoded = 1
        """Heatmaps of a frame that are decoded."""
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

    def seen(self, begin: int, end: int) -> Found:
        """Frames in [begin, end) and their candidates, by the windows that have seen them so far."""
        frames = [frame for frame in sorted(self._sums) if begin <= frame < end]
        return (frames, *self._decode(torch.stack([self._mean(frame) for frame in frames]))) if frames else _NONE

    def take(self, begin: int, end: int) -> Found:
        """The same; these frames and all before them are forgotten."""
        found = self.seen(begin, end)
        for part in (self._sums, self._totals, self._plain):
            for frame in [frame for frame in part if frame < end]:
                del part[frame]
        return found

    def _mean(self, frame: int) -> torch.Tensor:
        seen = self._plain.get(frame, [])
        if seen and len(seen) < self._windows:
            return torch.stack(seen).mean(dim=0)
        return self._sums[frame] / self._totals[frame]


class Pooled:
    """Live state: what each window alone shows of frames whose windows have not all run (WASB's "step 1").

    A region that only one window draws is a candidate; in a mean of heatmaps it may be below the threshold.
    """

    def __init__(self, decode: Decode, *, outputs: int, stride: int) -> None:
        self._decode = decode
        self.decoded = -(-outputs // stride)
        """Heatmaps of a frame that are decoded, at most."""
        self._found: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def add(self, first: int, window: torch.Tensor) -> None:
        """Take the heatmaps [T, H, W] of a window that draws the frames from ``first`` on."""
        for i, candidates in enumerate(zip(*self._decode(window), strict=True)):
            self._found.setdefault(first + i, []).append(candidates)

    def seen(self, begin: int, end: int) -> Found:
        """As ``Overlapping.seen``, with the candidates of all windows: NaN and 0 where fewer windows saw a frame."""
        frames = [frame for frame in sorted(self._found) if begin <= frame < end]
        pools = [self._pool(self._found[frame]) for frame in frames]
        return (frames, torch.stack([xy for xy, _ in pools]), torch.stack([s for _, s in pools])) if frames else _NONE

    def take(self, begin: int, end: int) -> Found:
        """The same; these frames and all before them are forgotten."""
        found = self.seen(begin, end)
        self._found = {frame: windows for frame, windows in self._found.items() if frame >= end}
        return found

    def _pool(self, found: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        slots = self.decoded * len(found[0][1])
        xy, score = torch.full((slots, 2), torch.nan), torch.zeros(slots)
        order = torch.cat([s for _, s in found]).argsort(descending=True, stable=True)
        xy[: len(order)] = torch.cat([place for place, _ in found])[order]
        score[: len(order)] = torch.cat([s for _, s in found])[order]
        return xy, score
