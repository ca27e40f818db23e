"""Following live pictures: one session over encoded pictures, and ``annotate --live``, which reads a camera."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from specktrack import telemetry
from specktrack.annotating.config import AnnotateConfig, AnnotateReport
from specktrack.errors import ConfigError, MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.tracking.following import Following
from specktrack.tracking.tracker import Session, Tracker, make_tracker
from specktrack.tracking.windowed.interleaved import at_rate
from specktrack.video.live import NEWEST, Camera, target_of
from specktrack.video.pictures import decode_at
from specktrack.video.process import DecoderProcess

FPS = 30.0
"""At which a camera is taken to run, where the model was taught a step in time."""
TOLD_EVERY_S = 10.0

log = telemetry.get_logger()


class LiveSession:
    """One object followed through pictures that come one after another."""

    def __init__(
        self, session: Session, tracker: Tracker, decoder: DecoderProcess, *, fps: float, most_frames: int | None = None
    ) -> None:
        self.frames = 0
        self._session, self._tracker, self._decoder = session, tracker, decoder
        self._fps, self._most_frames = fps, most_frames
        self._viewport: Viewport | None = None
        self._numbers = np.zeros(0, np.int64)  # as the rows say them, of frames whose rows are not final
        self._final = 0  # rows so far

    def push(
        self, pictures: Sequence[bytes], pts_s: Sequence[float] | None = None, numbers: Sequence[int] | None = None
    ) -> Trajectory:
        """Follow through encoded pictures; the rows that are now final. Without times they come at the stated rate.

        ``numbers`` are the frames' own where some in between were dropped: what is left is followed as one video, and
        its rows keep number and time.
        """
        if self._most_frames is not None and self.frames + len(pictures) > self._most_frames:
            raise MediaError(QuarantineReason.TOO_LARGE, f"a session takes {self._most_frames:,} frames")
        if not pictures:
            return Trajectory.empty()
        if self._viewport is None:
            self._viewport = self._tracker.viewport(self._decoder.picture(pictures[0])[0])
        shown, lumas = [], []
        for picture in pictures:
            wh_px, pixels, luma = decode_at(picture, self._viewport, self._decoder.picture)
            shown.append(pixels)
            lumas += [] if luma is None else [luma]
            if wh_px != self._viewport.source_wh_px:
                what = "the picture's size differs from that of the stream's first picture"
                raise MediaError(QuarantineReason.SIZE_CHANGED, what, wh_px, remedy="send pictures of one size")
        frame = np.arange(self.frames, self.frames + len(pictures))
        self.frames += len(pictures)
        own = frame if numbers is None else np.array(numbers)
        self._numbers = np.concatenate([self._numbers, own])
        times_s = own / self._fps if pts_s is None else np.array(pts_s, np.float64)
        luma = np.stack(lumas) if lumas else None
        return self._ended(self._session.push(FrameBatch(np.stack(shown), frame, times_s, self._viewport, luma=luma)))

    def provisional(self) -> Trajectory:
        """Rows that later pictures may still change, as they are known now."""
        return self._numbered(self._session.provisional()) if self.frames else Trajectory.empty()

    def finish(self) -> Trajectory:
        """The remaining rows."""
        return self._ended(self._session.finish()) if self.frames else Trajectory.empty()

    def close(self) -> None:
        """End its decoder."""
        self._decoder.close()

    def _numbered(self, rows: Trajectory) -> Trajectory:
        return replace(rows, frame=self._numbers[rows.frame - self._final])

    def _ended(self, rows: Trajectory) -> Trajectory:
        numbered = self._numbered(rows)
        if len(rows):
            ended = int(rows.frame[-1]) + 1 - self._final
            self._numbers, self._final = self._numbers[ended:], self._final + ended
        return numbered


class Shot(NamedTuple):
    """A picture that came."""

    number: int
    at_s: float
    picture: bytes


class Newest:
    """A camera's pictures, taken in a thread of their own; the newest wait, and older ones are dropped and counted."""

    def __init__(self, camera: Camera) -> None:
        self.came = self.dropped = 0
        self._camera = camera
        self._fault: BaseException | None = None
        self._waiting: deque[Shot] = deque()
        self._changed, self._ended = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[list[Shot]]:
        """All that came since the last time, at least one picture; raises what ended the camera."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                shots = list(self._waiting)
                self._waiting.clear()
            if not shots:
                if self._fault is not None:
                    raise self._fault
                return
            yield shots

    def _run(self) -> None:
        try:
            for picture in self._camera.pictures():
                with self._changed:
                    self._waiting.append(Shot(self.came, time.monotonic(), picture))
                    self.came += 1
                    if len(self._waiting) > NEWEST:
                        self._waiting.popleft()
                        self.dropped += 1
                    self._changed.notify()
        except BaseException as fault:  # noqa: BLE001 -- a thread's end: it is raised where pictures are awaited
            self._fault = fault
        with self._changed:
            self._ended = True
            self._changed.notify()


def annotate_live(config: AnnotateConfig) -> AnnotateReport:
    """Follow the object through a camera's pictures until interrupted; each row is a line of ``output`` once final.

    What comes faster than it is followed is dropped and has no row. ConfigError for what is no camera, StorageError if
    it stays away, MediaError for pictures that cannot be used.
    """
    assert config.live is not None
    if not config.output.endswith((".jsonl", "/stdout")):
        what, remedy = "rows of a camera are written as JSON Lines", "name a file.jsonl, or /dev/stdout"
        raise ConfigError(what, config.output, "output", remedy)
    tracker = at_rate(make_tracker(Following.of(config.model, config)), FPS)
    camera, told_s, first_s = Camera(config.live, target_of(config.live)), time.monotonic(), None
    rows, started = 0, time.monotonic()
    with closing(camera), DecoderProcess() as decoder, Path(config.output).open("a", encoding="utf-8") as file:

        def write(final: Trajectory) -> int:
            for row in final.to_rows(config.live or "").to_pylist():
                file.write(json.dumps(row) + "\n")
            file.flush()
            return len(final)

        session, newest = LiveSession(tracker.open(), tracker, decoder, fps=FPS), Newest(camera)
        try:
            for shots in newest:
                first_s = shots[0].at_s if first_s is None else first_s
                times_s = [shot.at_s - first_s for shot in shots]
                rows += write(session.push([shot.picture for shot in shots], times_s, [shot.number for shot in shots]))
                if time.monotonic() - told_s > TOLD_EVERY_S:
                    told_s, lag_s = time.monotonic(), round(time.monotonic() - shots[-1].at_s, 2)
                    log.info("following", pictures=newest.came, rows=rows, dropped=newest.dropped, lag_s=lag_s)
        except KeyboardInterrupt:
            log.info("stopping", pictures=newest.came, dropped=newest.dropped)
        finally:
            rows += write(session.finish())
    wall_s = time.monotonic() - started
    return AnnotateReport(
        output=config.output, videos=1, clips=0, frames=session.frames, rows=rows, wall_s=round(wall_s, 1),
        frames_per_s=round(session.frames / wall_s, 1),
    )  # fmt: skip
