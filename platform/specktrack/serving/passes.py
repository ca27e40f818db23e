"""Forward passes that windows of several clips and streams share."""

# B windows, T frames in window, H W network px, C channel

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from specktrack.models.heatmap.detector import Detector

MOST_WINDOWS = 64
CPU_PASS_PX = 8 * 128 * 64


class Window:
    """One window of one clip or stream, waiting for its forward pass."""

    def __init__(self, detector: Detector, model: str, frames_THWC: torch.Tensor) -> None:
        self.detector, self.model, self.frames_THWC = detector, model, frames_THWC


class Watchdog:
    """Whether the one thread of an executor still takes up work."""

    def __init__(self, executor: ThreadPoolExecutor, *, most_s: float) -> None:
        self._executor, self._most_s = executor, most_s
        self._asked_s, self._answer = time.monotonic(), executor.submit(int)

    def check(self) -> None:
        """RuntimeError if the thread has not come to a task of nothing for too long, or takes none."""
        now_s = time.monotonic()
        if self._answer.done():
            self._asked_s, self._answer = now_s, self._executor.submit(int)
        elif now_s - self._asked_s > self._most_s:
            raise RuntimeError(f"the network's thread has been busy with one pass for {now_s - self._asked_s:.0f} s")


class QueuedDetector(Detector):
    """A detector whose windows go through a queue that sessions share."""

    def __init__(
        self, detector: Detector, submit: Callable[[torch.Tensor], Future[torch.Tensor]], *, windows_at_once: int
    ) -> None:
        vars(self).update(vars(detector))
        self.windows_at_once, self._submit = windows_at_once, submit

    def heatmaps(self, windows_BTHWC: torch.Tensor) -> torch.Tensor:
        """As Detector.heatmaps; called in a session's thread."""
        return torch.stack([waiting.result() for waiting in [self._submit(window) for window in windows_BTHWC]])


def windows_per_pass(window: Window) -> int:
    """On a CPU only small pictures gain by it (1.7x at 128x64; 512x288 loses), and fp32 may differ by 6e-8 there."""
    if window.detector.device.type != "cpu":
        return MOST_WINDOWS
    height, width = window.frames_THWC.shape[1:3]
    return 1 if window.detector.dtype == torch.float32 else max(1, CPU_PASS_PX // (width * height))


def forward(windows: Sequence[Window], count: Callable[[str, int], None]) -> list[torch.Tensor]:
    """Heatmaps of windows that waited together; those of one model and size share passes.

    ``count`` is told the model and the number of windows of each pass.
    """
    together: dict[tuple[int, torch.Size], list[int]] = {}
    for i, window in enumerate(windows):
        together.setdefault((id(window.detector), window.frames_THWC.shape), []).append(i)
    heatmaps = [torch.empty(0)] * len(windows)
    for members in together.values():
        first = windows[members[0]]
        most = windows_per_pass(first)
        for some in (members[start : start + most] for start in range(0, len(members), most)):
            count(first.model, len(some))
            stacked = torch.stack([windows[i].frames_THWC for i in some])
            for i, heatmap in zip(some, first.detector.heatmaps(stacked), strict=True):
                heatmaps[i] = heatmap
    return heatmaps
