"""Batches: many videos in the background, in a separate deployment.

The rows are those of ``specktrack annotate``, written through the same ledger: a batch that was interrupted, by
anything, resumes where it stopped.
"""

import asyncio
import threading
import time
from typing import Any

from ray import serve

from specktrack import telemetry
from specktrack.annotating import AnnotateConfig
from specktrack.annotating.job import Progress, annotate
from specktrack.errors import ConfigError, SpecktrackError, StorageError
from specktrack.serving import webhooks
from specktrack.serving.answers import BatchState
from specktrack.serving.batch_records import UPLOADS, BatchRecord, BatchRecords, is_forsaken
from specktrack.serving.config import ServeConfig
from specktrack.serving.metrics import FollowMetrics
from specktrack.serving.places import is_below, without_roots
from specktrack.storage import expand_sources

HEARTBEAT_S = 5.0
LOOK_EVERY_S = 1.0
MOST_RUNS = 5
"""Replicas that may die over a batch before it is given up."""

log = telemetry.get_logger()


class _StopRun(Exception):
    """Raised inside a run that somebody asked to stop."""


class BatchReplica:
    """Runs one batch at a time: few videos in this process, many as a Ray Data run, both through the ledger."""

    def __init__(self, config: ServeConfig, paths: dict[str, str]) -> None:
        self._config, self._paths = config, paths
        self._records = BatchRecords(config.access.outputs)
        self._metrics = FollowMetrics()

    async def run(self, key: str) -> None:
        """Bring a batch to its end; returns at once if it is there, or somebody else is working on it."""
        replica = str(serve.get_replica_context().replica_tag)
        running = asyncio.ensure_future(asyncio.to_thread(self._run, key, replica))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:  # the ingress that asked is gone; the work goes on, and this replica is not idle
            await asyncio.wait({running})
            raise

    def _run(self, key: str, replica: str) -> None:
        batch = self._records.get(key)
        if batch is None or batch.state.is_final or not is_forsaken(batch):
            return
        begun = self._records.begin(batch)
        if begun is None:
            return
        roots = self._config.access
        with _Heartbeat(self._records, begun, self._metrics) as heart:
            try:
                heart.look()  # after the record says "running": a client that saw "queued" left its mark before
                heart.update(**self._annotate(begun, heart), state=BatchState.DONE)
            except _StopRun:
                heart.update(state=BatchState.CANCELLED)
            except SpecktrackError as error:
                heart.update(state=BatchState.FAILED, error=without_roots(str(error), (*roots.sources, *roots.outputs)))
            except Exception as fault:  # at the actor's boundary: the client must learn that it ended
                log.exception("batch failed", batch=key, replica=replica)
                heart.update(state=BatchState.FAILED, error=f"{type(fault).__name__}: {fault}")
        log.info("batch ended", batch=key, state=str(heart.batch.state), clips=heart.batch.done)
        if heart.batch.webhook is not None:
            webhooks.tell(heart.batch.webhook, heart.batch.public, self._config.access)

    def _annotate(self, batch: BatchRecord, heart: "_Heartbeat") -> dict[str, Any]:
        if batch.runs > MOST_RUNS:
            raise ConfigError(f"{MOST_RUNS} replicas died on this batch", batch.id, remedy="look at the server's log")
        videos = expand_sources(batch.source_uris)
        access = self._config.access
        own = [f"{root.rstrip('/')}/{UPLOADS}/{batch.id}" for root in access.outputs]
        for video in videos:
            if not any(is_below(video.uri, root) for root in (*access.sources, *own)):
                raise ConfigError("a source lies outside the server's sources", video.uri)
        # A video that kills this process would kill it again: from the second run on actors take the blow.
        inside = batch.runs == 1 and len(videos) <= self._config.small_batch_videos
        heart.update(inside=inside)
        log.info("batch begun", batch=batch.id, run=batch.runs, videos=len(videos), inside=inside)
        following = self._config.following(self._paths[batch.model], "windowed", batch.reading)
        asked = AnnotateConfig(
            sources=batch.source_uris, output=batch.output_uri, overlay=batch.overlay, **following.model_dump()
        )
        report = annotate(asked, watch=heart.saw, inside=inside)
        for reason, clips in report.quarantined.items():
            self._metrics.quarantined.inc(clips, tags={"reason": reason})
        return {
            "clips": report.clips, "done": report.clips, "frames": report.frames, "rows": report.rows,
            "quarantined": report.quarantined,
        }  # fmt: skip


class _Heartbeat:
    """Keeps a running batch's record alive, and looks whether it is to stop."""

    def __init__(self, records: BatchRecords, batch: BatchRecord, metrics: FollowMetrics) -> None:
        self.batch, self._records, self._metrics = batch, records, metrics
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._to_stop, self._frames = False, 0
        self._thread = threading.Thread(target=self._beat, name="batch heartbeat", daemon=True)

    def __enter__(self) -> "_Heartbeat":
        self._save()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._save()

    def update(self, **changes: Any) -> None:
        """Change the record; it is written with the next beat."""
        with self._lock:
            self.batch = self.batch.model_copy(update=changes)

    def saw(self, seen: Progress) -> None:
        """Called by the run after every clip."""
        if (frames := seen.frames - self._frames) > 0:
            self._metrics.frames.inc(frames, tags={"model": self.batch.model})
            self._frames = seen.frames
        self.update(clips=seen.clips, done=seen.done, frames=seen.frames, frames_planned=seen.planned)
        self._stop_if_asked()

    def look(self) -> None:
        """Look now whether somebody asked to stop, and stop then."""
        self._to_stop = self._records.is_to_stop(self.batch)
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._to_stop:
            raise _StopRun

    def _beat(self) -> None:
        written = self.batch
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self._to_stop = self._records.is_to_stop(self.batch)
                if self.batch is not written or time.time() - written.heartbeat_s > HEARTBEAT_S:
                    self._save()
                    written = self.batch
            except StorageError as error:
                log.warning("no heartbeat", batch=self.batch.id, error=str(error))

    def _save(self) -> None:
        with self._lock:
            batch = self.batch = self.batch.model_copy(update={"heartbeat_s": time.time()})
        self._records.save(batch)
