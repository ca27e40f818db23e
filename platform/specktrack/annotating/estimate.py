"""Estimate a run's cost from a short trial of its own clips on its own workers."""

import time
from collections.abc import Sequence
from typing import ClassVar

from specktrack.annotating.annotator import Annotator, AnnotatorArguments
from specktrack.annotating.config import Estimate
from specktrack.annotating.plan import PlannedClip
from specktrack.annotating.workers import Workers
from specktrack.schema import Clip
from specktrack.video import VideoInfo

TRIAL_FRAMES, WARM_UP_FRAMES = 120, 24
"""Of each trial clip: what is timed, and what is followed before to have everything set up."""


class Trial:
    """An actor's work: annotates the beginning of a clip, and says how long it took; commits nothing."""

    wants_gpu: ClassVar[bool] = True

    def __init__(self, arguments: AnnotatorArguments) -> None:
        self._annotator = Annotator(arguments)

    def __call__(self, row: PlannedClip) -> list[dict[str, float]]:
        """Frames that were decoded and followed, in how many seconds; none of a clip that cannot be read."""
        clip, info = Clip.model_validate_json(row["clip"]), VideoInfo.model_validate_json(row["info"])
        self._annotator.work(_beginning(clip, WARM_UP_FRAMES), info)
        started, part = time.perf_counter(), _beginning(clip, TRIAL_FRAMES)
        result = self._annotator.work(part, info)
        seconds = time.perf_counter() - started
        return [{"frames": _decoded(part), "seconds": seconds}] if result.error is None else []


def estimate(
    rows: Sequence[PlannedClip], arguments: AnnotatorArguments, workers: Workers, price: float | None
) -> Estimate:
    """Try as many clips as there are workers, all at once, and project their rate onto all of ``rows``."""
    frames = sum(row["frames"] for row in rows)
    if not rows:
        return Estimate(frames=0, seconds=0.0, worker_hours=0.0, workers=0, frames_per_s=None, cost=None)
    most = max(1, min(len(rows), workers.number))
    tried = [rows[i * len(rows) // most] for i in range(most)]
    started = time.perf_counter()
    found = list(workers.work(tried, Trial, arguments))
    starting_s = time.perf_counter() - started - max((each["seconds"] for each in found), default=0.0)
    rate = sum(each["frames"] / each["seconds"] for each in found)
    if not found:
        return Estimate(frames=frames, seconds=None, worker_hours=None, workers=most, frames_per_s=None, cost=None)
    decoded = sum(_decoded(Clip.model_validate_json(row["clip"])) for row in rows)
    seconds = starting_s + decoded / rate
    worker_hours = most * seconds / 3600
    return Estimate(
        frames=frames,
        seconds=round(seconds, 1),
        worker_hours=round(worker_hours, 4),
        workers=most,
        frames_per_s=round(frames / seconds, 1),
        cost=None if price is None else round(price * worker_hours, 4),
    )


def _beginning(clip: Clip, frames: int) -> Clip:
    """The clip's first frames, with the same warm-up before them."""
    return clip.model_copy(update={"stop": min(clip.stop, clip.start + frames), "lead_out": 0})


def _decoded(clip: Clip) -> int:
    return clip.stop - clip.start + clip.lead_in + clip.lead_out
