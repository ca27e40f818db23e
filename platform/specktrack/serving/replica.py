"""The deployments with networks: clips and live sessions, windows of all of them in one forward pass.

A session runs in a thread of its own and is the very session that ``specktrack annotate`` opens. Only its detector is
another: it hands each window to Serve's batch queue of the replica, where windows of other clips and streams wait too,
and one thread runs the network. On the CPU rows are bit for bit those of windows run alone.
"""

import asyncio
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
import torch
from ray import serve

from specktrack import telemetry
from specktrack.annotating.clips import annotate_clip
from specktrack.errors import CheckpointError, ConfigError, MediaError, QuarantineReason
from specktrack.models.heatmap.detector import Detector
from specktrack.schema import Clip, Prompt
from specktrack.serving.catalog import ServedModel
from specktrack.serving.config import Limits, ServeConfig
from specktrack.serving.metrics import TrackingMetrics
from specktrack.serving.passes import QueuedDetector, Watchdog, Window, forward
from specktrack.serving.problems import request_id
from specktrack.serving.sessions import Sessions
from specktrack.storage import stat
from specktrack.tracking.following import Reading
from specktrack.tracking.tracker import Tracker, load_parts, make_tracker
from specktrack.tracking.windowed.interleaved import at_rate
from specktrack.video.process import DecodeLimits, DecoderProcess

MODELS_PER_REPLICA = 4
"""Loaded at a time; the one that was not used for longest makes room."""
READINGS_PER_MODEL = 4
"""Trackers of one model that are kept, each with its own copy of the network: requests choose how they read."""
STUCK_AFTER_S = 120.0
"""The largest batch of windows takes seconds on the slowest machine."""
THREADS = 64
"""Clips and sessions at work at a time; most of them wait for the network."""

log = telemetry.get_logger()
T = TypeVar("T")
MakeTracker = Callable[[Reading], Tracker]


def trackers_of(
    config: ServeConfig, model: ServedModel, *, device: str, through: Callable[[Detector], Detector]
) -> MakeTracker:
    """What makes the trackers of a model, which is loaded once, for each reading that a request comes to."""
    parts = load_parts(config.following(model.path, model.family))
    if parts.model.sha256 != model.sha256:
        raise CheckpointError("the model was replaced since the server started", model.path, remedy="restart it")

    @lru_cache(READINGS_PER_MODEL)
    def make(reading: Reading) -> Tracker:
        following = config.following(model.path, model.family, reading)
        return make_tracker(following, device=device, parts=parts, through=through)

    return make


class TrackingReplica:
    """Holds models, follows clips, and keeps live sessions."""

    def __init__(self, config: ServeConfig, models: tuple[ServedModel, ...]) -> None:
        self._config, self._models = config, {model.name: model for model in models}
        self._decode_limits = decode_limits(config.limits)
        self._threads = ThreadPoolExecutor(THREADS, "clip")
        self._network_thread = ThreadPoolExecutor(1, "network")
        self._pulse = Watchdog(self._network_thread, most_s=STUCK_AFTER_S)
        self._device = "cuda" if ray.get_gpu_ids() else "cpu"
        self._sessions = Sessions(serve.get_replica_context().replica_tag, self._decode_limits, config.limits)
        self._metrics = TrackingMetrics()
        type(self).forward.set_max_batch_size(config.batch_windows)

    @serve.multiplexed(max_num_models_per_replica=MODELS_PER_REPLICA)
    async def loaded(self, name: str) -> MakeTracker:
        """What makes the trackers of a model, which is loaded if it is not there."""
        if name not in self._models:
            raise CheckpointError("no such model", name, remedy=f"there are: {', '.join(self._models)}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._load, self._models[name], loop)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0)  # a batch is what came during the pass before
    async def forward(self, windows: list[Window]) -> list[torch.Tensor]:
        """Heatmaps of windows that waited together; those of one model and size share a forward pass."""
        return await asyncio.get_running_loop().run_in_executor(
            self._network_thread, forward, windows, self._count_pass
        )

    async def tracker(self, name: str, reading: Reading | None = None) -> Tracker:
        """The tracker of a model that is read as a request came to, or else as the server is set up."""
        make = await self.loaded(name)
        reading = reading or self._config.reading(Reading())
        return await asyncio.get_running_loop().run_in_executor(self._threads, make, reading)

    async def warm(self, name: str) -> None:
        """Load a model before somebody asks for it."""
        await self.tracker(name)

    async def annotate(
        self, clip: np.ndarray | bytes, name: str, video: str, reading: Reading
    ) -> tuple[pa.Table, dict[str, Any]]:
        """Rows of a whole clip, and what is known of it; MediaError if it cannot be used to its end."""
        tracker, decoder = await self.tracker(name, reading), DecoderProcess(self._decode_limits)
        started, ended = time.perf_counter(), {"reason": "interrupted"}
        try:
            async with asyncio.timeout(self._config.limits.request_s):
                rows, facts = await self._in_thread(lambda: self._follow(tracker, clip, video, decoder), decoder)
            ended = {"frames": rows.num_rows, "decode_errors": facts["decode_errors"]}
        except MediaError as error:
            self._metrics.quarantined.inc(tags={"reason": str(error.reason)})
            ended = {"reason": str(error.reason)}
            raise
        finally:
            seconds = time.perf_counter() - started
            log.info("clip ended", request=request_id(), clip=video, model=name, seconds=round(seconds, 4), **ended)
        self._metrics.clip_seconds.observe(seconds, tags={"model": name})
        self._metrics.frames.inc(rows.num_rows, tags={"model": name})
        return rows, {**facts, "model": name, "model_sha256": self._models[name].sha256}

    async def open(self, name: str, prompt: tuple[Prompt, ...] | None, fps: float, reading: Reading) -> str:
        """A new session's id."""
        tracker = await self.tracker(name, reading)
        session = at_rate(tracker, fps).open(prompt)
        key = self._sessions.add(session, tracker, model=name, fps=fps)
        log.info("session opened", request=request_id(), session=key, model=name)
        self._metrics.sessions.set(len(self._sessions))
        return key

    async def push(self, key: str, pictures: list[bytes], pts_s: list[float] | None) -> pa.Table:
        """Rows that are final after more pictures; a fault of one of them closes the session."""
        async with self._sessions.using(key) as live:
            try:
                trajectory = await self._in_thread(lambda: live.push(pictures, pts_s))
            except (MediaError, ConfigError) as error:
                reason = str(error.reason) if isinstance(error, MediaError) else "refused"
                if isinstance(error, MediaError):
                    self._metrics.quarantined.inc(tags={"reason": reason})
                    if error.reason in (QuarantineReason.DAMAGED, QuarantineReason.CRASHED):
                        self._metrics.decode_errors.inc()
                self._forget(key, reason)
                raise
        self._metrics.frames.inc(len(pictures), tags={"model": live.model})
        return trajectory.to_rows("live")

    async def finish(self, key: str) -> pa.Table:
        """The remaining rows of a session, which is closed."""
        async with self._sessions.using(key) as live:
            trajectory = await self._in_thread(live.finish)
            self._forget(key, "finished")
        return trajectory.to_rows("live")

    async def drop(self, key: str) -> None:
        """Close a session whose rows nobody waits for."""
        self._forget(key, "dropped")

    def check_health(self) -> None:
        """Called by Serve now and then: closes idle sessions. Raises, and is replaced, if the network stands still."""
        for key in self._sessions.idle():
            self._forget(key, "idle")
        self._metrics.sessions.set(len(self._sessions))
        self._pulse.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``scaling`` decides by."""
        return {"sessions": len(self._sessions), "resting": self._sessions.resting}

    def record_routing_stats(self) -> dict[str, int]:
        """What ``routing`` chooses by."""
        return {"sessions": len(self._sessions)}

    def _load(self, model: ServedModel, loop: asyncio.AbstractEventLoop) -> MakeTracker:
        def through(detector: Detector) -> Detector:
            def submit(frames_THWC: torch.Tensor) -> Future[torch.Tensor]:
                return asyncio.run_coroutine_threadsafe(self.forward(Window(detector, model.name, frames_THWC)), loop)

            return QueuedDetector(detector, submit, windows_at_once=self._config.batch_windows)

        make = trackers_of(self._config, model, device=self._device, through=through)
        log.info("model loaded", model=model.name, device=self._device)
        return make

    def _follow(
        self, tracker: Tracker, data: np.ndarray | bytes, video: str, decoder: DecoderProcess
    ) -> tuple[pa.Table, dict[str, Any]]:
        """In the clip's thread."""
        with tempfile.TemporaryDirectory(prefix="specktrack-") as folder, decoder:
            path = Path(folder, "clip")
            path.write_bytes(data if isinstance(data, bytes) else data.data)
            ref = stat(str(path))
            try:
                info = decoder.probe(ref)
                result = annotate_clip(tracker, Clip(video=ref, start=0, stop=info.frames), info, decoder)
                if result.decode_errors:
                    self._metrics.decode_errors.inc(result.decode_errors)
                if result.error is not None:
                    raise result.error
            except MediaError as fault:  # a path of ours is nobody's business
                raise MediaError(fault.reason, fault.what, place=video, remedy=fault.remedy) from None
        facts = {
            "fps": info.fps, "width": info.width_px, "height": info.height_px, "frames": info.frames,
            "decode_errors": result.decode_errors,
        }  # fmt: skip
        return result.trajectory.to_rows(video), facts

    async def _in_thread(self, work: Callable[[], T], decoder: DecoderProcess | None = None) -> T:
        """Run work in a thread. A request that is cancelled ends its decoder, on which the thread ends soon.

        It ends before the request does: a session is pushed by one thread at a time, and a replica at work is not idle.
        """
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if decoder is not None:
                decoder.close()
            await asyncio.wait({running})
            running.cancelled() or running.exception()  # nobody waits for it
            raise

    def _forget(self, key: str, reason: str) -> None:
        if (live := self._sessions.remove(key)) is not None:
            seconds = round(time.monotonic() - live.opened_s, 4)
            facts = {"model": live.model, "frames": live.frames, "seconds": seconds, "reason": reason}
            log.info("session ended", request=request_id(), session=key, **facts)
        self._metrics.sessions.set(len(self._sessions))

    def _count_pass(self, model: str, windows: int) -> None:
        self._metrics.batch_windows.observe(windows, tags={"model": model})


def decode_limits(limits: Limits) -> DecodeLimits:
    """The server's ceilings for the process that decodes one clip, or the pictures of one stream."""
    return DecodeLimits(
        pixels=limits.pixels,
        frames=limits.frames,
        memory_bytes=limits.decode_memory_bytes,
        cpu_s=math.ceil(limits.request_s),
        stall_s=limits.decode_stall_s,
    )
