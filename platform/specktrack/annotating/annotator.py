"""The actor that annotates clips and commits them; only receipts travel back."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from specktrack import telemetry
from specktrack.annotating.background import Backgrounds
from specktrack.annotating.clips import ClipResult, annotate_clip
from specktrack.annotating.plan import PlannedClip
from specktrack.annotating.receipts import Receipt, carried_out
from specktrack.annotating.workers import Attempts
from specktrack.errors import MediaError, QuarantineReason
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
class AnnotatorArguments:
    """Arguments shared by all annotators of a run."""

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


class Annotator:
    """An actor's work: annotates clips, one after the other, with one model on one device."""

    wants_gpu: ClassVar[bool] = True

    def __init__(self, arguments: AnnotatorArguments) -> None:
        torch.set_num_threads(arguments.threads)
        self._arguments, parts, device = arguments, arguments.parts(), "cuda" if arguments.gpu else "cpu"
        self._model = parts.model
        self._tracker = make_tracker(
            arguments.following, device=device, parts=parts, prompted=arguments.prompted, settle=arguments.settle
        )
        self._decoder, self._backgrounds = DecoderProcess(DecodeLimits(stall_s=arguments.timeout_s)), Backgrounds()
        self._ledger = Ledger(arguments.store, arguments.model_sha, arguments.config_sha)

    def __call__(self, row: PlannedClip) -> list[Receipt]:
        """Annotate and commit the clip in ``row``, or quarantine it; other errors than of the media fail the run."""
        return [carried_out(row, self._arguments.attempts, self._ledger, self)]

    def work(self, clip: Clip, info: VideoInfo) -> ClipResult:
        """The clip's rows; where the decoder dies it gets a second chance, for it may have been killed from outside."""
        for _ in range(2):
            result = annotate_clip(self._tracker, clip, info, self._decoder, backgrounds=self._backgrounds)
            if result.error is None or result.error.reason is not QuarantineReason.CRASHED:
                break
            log.warning("the decoder died", clip=clip.key, video=clip.video.uri, detail=str(result.error))
        return result

    def failed(self, error: MediaError) -> ClipResult:
        """See Work."""
        return ClipResult(Trajectory.empty(), 0, error)

    def commit(self, clip: Clip, info: VideoInfo, result: ClipResult) -> Receipt:
        """See Work."""
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
            "model_sha256": self._arguments.model_sha,
            "config_sha256": self._arguments.config_sha,
            "fps": repr(info.fps),
            "width": str(info.width_px),
            "height": str(info.height_px),
            "frames": str(info.frames),
        }
