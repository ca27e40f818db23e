"""One clip from a run's plan to its receipt: counted, processed once, set aside if it fails."""

from typing import Protocol, TypedDict, TypeVar

from specktrack import telemetry
from specktrack.annotating.plan import PlannedClip
from specktrack.annotating.workers import Attempts
from specktrack.errors import MediaError, QuarantineReason, SpecktrackError
from specktrack.ledger import Ledger
from specktrack.schema import Clip
from specktrack.video import VideoInfo

Result = TypeVar("Result")

log = telemetry.get_logger()


class Receipt(TypedDict):
    """Result for one clip, as a row of a Ray dataset."""

    record: str
    """ClipRecord as JSON."""
    frames: int
    """Frames that were done now; 0 where the record was there already."""
    seconds: dict[str, float]
    """Work time by stage; nothing where there was none."""


class Work(Protocol[Result]):
    """How a clip is processed."""

    def work(self, clip: Clip, info: VideoInfo) -> Result:
        """Read the clip; a fault of the media is a part of the result."""
        ...

    def failed(self, error: MediaError) -> Result:
        """The result of a clip of which nothing is known but the fault."""
        ...

    def commit(self, clip: Clip, info: VideoInfo, result: Result) -> Receipt:
        """Write the result and its record, or that it is set aside."""
        ...


def carried_out(row: PlannedClip, attempts: Attempts, ledger: Ledger, what: Work[Result]) -> list[Receipt]:
    """Do and commit the clip in ``row``, or quarantine it; nothing once the run is to stop.

    Other errors than of the media are raised.
    """
    clip, info, key = Clip.model_validate_json(row["clip"]), VideoInfo.model_validate_json(row["info"]), row["key"]
    try:
        attempt = attempts.begin(key)
    except MediaError as error:
        return [what.commit(clip, info, what.failed(error))]
    if not attempt:
        return []
    if attempt > 1 and (record := ledger.record(key)):  # the worker died after its commit
        return [Receipt(record=record.model_dump_json(), frames=0, seconds={})]
    try:
        result = what.work(clip, info)
    except SpecktrackError:
        raise
    except Exception as fault:  # at the actor's boundary: one video that trips a bug must not end an archive's run
        log.exception("clip failed", clip=key)
        named = f"{type(fault).__name__}: {fault}"
        result = what.failed(MediaError(QuarantineReason.CRASHED, named, place=clip.video.uri))
    return [what.commit(clip, info, result)]
