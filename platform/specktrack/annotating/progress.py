"""Progress of a run: a bar with rate and time left on a terminal, otherwise an occasional log line."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from specktrack import telemetry

LINE_EVERY_S = 10.0

log = telemetry.get_logger()


class Meter:
    """Counts finished clips and their frames, and shows them on stderr."""

    def __init__(self, clips: int, frames: int, *, doing: str = "annotating") -> None:
        self.clips = self.frames = 0
        self._all_clips, self._all_frames, self._doing = clips, frames, doing
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if telemetry.shows_bars():
            columns = (
                TextColumn(doing),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("clips, {task.fields[rate]:.0f} frames/s,"),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("", total=clips, rate=0.0)

    @property
    def frames_per_s(self) -> float:
        """Mean rate since the start."""
        return self.frames / max(time.monotonic() - self._started, 1e-9)

    def add(self, frames: int) -> None:
        """One more clip is finished."""
        self.clips += 1
        self.frames += frames
        if self._bar is not None:
            self._bar.update(self._task, completed=self.clips, rate=self.frames_per_s)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S or self.clips == self._all_clips:
            self._last_line = time.monotonic()
            left_s = (self._all_frames - self.frames) / self.frames_per_s if self.frames else None
            log.info(
                self._doing,
                clips=self.clips,
                of=self._all_clips,
                frames_per_s=round(self.frames_per_s, 1),
                left_s=None if left_s is None else round(max(0.0, left_s)),
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
