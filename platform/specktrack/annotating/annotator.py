"""The actor that annotates clips and commits them; only receipts travel back."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import torch

from specktrack import telemetry
from specktrack.annotating.background import Backgrounds
from specktrack.annotating.clips import ClipResult, annotate_clip
from specktrack.annotating.plan import PlannedClip
from specktrack.annotating.workers import Attempts
from specktrack.errors import MediaError, QuarantineReason, SpecktrackError
from specktrack.frames import Trajectory
from specktrack.ledger import Ledger
from specktrack.schema import Clip, ClipRecord
from specktrack.storage import Store
from specktrack.tracking.following import Following
from specktrack.tracking.tracker import Parts, make_tracker
from specktrack.video import VideoInfo
from specktrack.video.process import DecodeLimits, DecoderProcess

log = telemetry.get_logger()

STAGES = ("decode", "track", "starve", "commit")


@dataclass(frozen=True)
class Order:
    """What every annotator of a run is given."""

    store: Store
    """The output."""
    following: Following
    parts: Callable[[], Parts]
    prompted: bool
    """Every video has its prompts."""
    model_sha: str
    config_sha: str
    timeout_s: float
    gpu: bool
    threads: int
    """Of torch."""
    settle: bool
    """There is so much to do that measuring engines pays."""
    attempts: Attempts


class Receipt(TypedDict):
    """What comes back for one clip, as a row of a Ray dataset."""

    record: str
    """ClipRecord as JSON."""
    frames: int
    """Frames annotated now; 0 where the record was there already."""
    seconds: dict[str, float]


class Annotator:
    """An actor's work: annotates clips, one after the other, with one model on one device."""

    wants_gpu: ClassVar[bool] = True

    def __init__(self, order: Order) -> None:
        torch.set_num_threads(order.threads)
        self._order, parts, device = order, order.parts(), "cuda" if order.gpu else "cpu"
        self._model = parts.model
        self._tracker = make_tracker(
            order.following, device=device, parts=parts, prompted=order.prompted, settle=order.settle
        )
        self._decoder, self._backgrounds = DecoderProcess(DecodeLimits(stall_s=order.timeout_s)), Backgrounds()
        self._ledger = Ledger(order.store, order.model_sha, order.config_sha)

    def __call__(self, row: PlannedClip) -> list[Receipt]:
        """Annotate and commit the clip in ``row``, or quarantine it; other errors than of the media fail the run."""
        clip, info = Clip.model_validate_json(row["clip"]), VideoInfo.model_validate_json(row["info"])
        key = row["key"]
        try:
            attempt = self._order.attempts.begin(key)
        except MediaError as error:
            return [self._commit(clip, info, ClipResult(Trajectory.empty(), 0, error))]
        if attempt > 1 and (record := self._ledger.record(key)):  # the worker died after its commit
            return [Receipt(record=record.model_dump_json(), frames=0, seconds=dict.fromkeys(STAGES, 0.0))]
        try:
            result = self._annotate(clip, info)
        except SpecktrackError:
            raise
        except Exception as fault:  # at the actor's boundary: one video that trips a bug must not end an archive's run
            log.exception("clip failed", clip=key)
            what = f"{type(fault).__name__}: {fault}"
            result = ClipResult(Trajectory.empty(), 0, MediaError(QuarantineReason.CRASHED, what, place=clip.video.uri))
        return [self._commit(clip, info, result)]

    def _annotate(self, clip: Clip, info: VideoInfo) -> ClipResult:
        """The clip's rows; where the decoder dies it gets a second chance, for it may have been killed from outside."""
        for _ in range(2):
            result = annotate_clip(self._tracker, clip, info, self._decoder, backgrounds=self._backgrounds)
            if result.error is None or result.error.reason is not QuarantineReason.CRASHED:
                break
            log.warning("the decoder died", clip=clip.key, video=clip.video.uri, detail=str(result.error))
        return result

    def _commit(self, clip: Clip, info: VideoInfo, result: ClipResult) -> Receipt:
        started = time.perf_counter()
        rows, metadata = result.trajectory.to_rows(clip.video.uri), self._metadata(info)
        record: ClipRecord
        if result.error is None:
            record = self._ledger.commit(clip, rows, decode_errors=result.decode_errors, metadata=metadata)
        else:
            record = self._ledger.quarantine(
                clip.video,
                clip.start,
                clip.stop,
                reason=result.error.reason,
                detail=str(result.error),
                table=rows,
                decode_errors=result.decode_errors,
                metadata=metadata,
            )
        seconds = {**dict.fromkeys(STAGES, 0.0), **result.seconds, "commit": time.perf_counter() - started}
        return Receipt(record=record.model_dump_json(), frames=result.trajectory.frames, seconds=seconds)

    def _metadata(self, info: VideoInfo) -> dict[str, str]:
        return {
            "model": self._model.card.name,
            "model_sha256": self._order.model_sha,
            "config_sha256": self._order.config_sha,
            "fps": repr(info.fps),
            "width": str(info.width_px),
            "height": str(info.height_px),
            "frames": str(info.frames),
        }
