"""The deployments with networks: clips and live sessions, windows of all of them in one forward pass.

A session runs in a thread of its own and is the very session that ``specktrack annotate`` opens. Only its detector is
another: it hands each window to Serve's batch queue of the replica, where windows of other clips and streams wait too,
and one thread runs the network. On the CPU rows are bit for bit those of windows run alone.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import ray
import torch
from ray import serve

from specktrack import telemetry
from specktrack.annotating.clips import annotate_clip
from specktrack.errors import CheckpointError, ConfigError, MediaError, QuarantineReason
from specktrack.frames import Trajectory
from specktrack.models.heatmap.detector import Detector
from specktrack.schema import ROWS, Clip, Prompt, VideoRef
from specktrack.serving.answers import Wanted
from specktrack.serving.catalog import ServedModel
from specktrack.serving.config import Limits, ServeConfig
from specktrack.serving.metrics import TrackingMetrics
from specktrack.serving.passes import QueuedDetector, Watchdog, Window, forward
from specktrack.serving.problems import LongerThanAllowed, request_id
from specktrack.serving.sessions import HeldSession, Sessions
from specktrack.tracking.both_ways import goes_back
from specktrack.tracking.following import Reading
from specktrack.tracking.prompts import check_prompt
from specktrack.tracking.tracker import Tracker, load_parts, make_tracker
from specktrack.tracking.windowed.interleaved import at_rate
from specktrack.video import VideoInfo
from specktrack.video.process import DecodeLimits, DecoderProcess

MODELS_PER_REPLICA = 4
"""Loaded at a time; the one that was not used for longest makes room."""
READINGS_PER_MODEL = 4
"""Trackers of one model that are kept, each with its own copy of the network: requests choose how they read."""
PROJECTED_AFTER_S = 5.0
"""From then on a clip's pace says how long all of it will take."""
STUCK_AFTER_S = 120.0
"""The largest batch of windows takes seconds on the slowest machine."""
THREADS = 64
"""Clips and sessions at work at a time; most of them wait for the network."""

log = telemetry.get_logger()
T = TypeVar("T")


class MakeTracker(Protocol):
    """Makes the trackers of one model."""

    def __call__(self, reading: Reading, *, prompted: bool = False) -> Tracker:
        """A tracker with these reading settings; its sessions need prompts if it is ``prompted``."""
        ...


def trackers_of(
    config: ServeConfig, model: ServedModel, *, device: str, through: Callable[[Detector], Detector]
) -> MakeTracker:
    """Makes the trackers of a model, which is loaded once, for each reading that a request asks for."""
    parts = load_parts(config.following(model.path, model.family))
    if parts.model.sha256 != model.sha256:
        raise CheckpointError("the model was replaced since the server started", model.path, remedy="restart it")

    @lru_cache(READINGS_PER_MODEL)
    def make(reading: Reading, *, prompted: bool = False) -> Tracker:
        following = config.following(model.path, model.family, reading)
        return make_tracker(following, device=device, parts=parts, prompted=prompted, through=through)

    return make


class ClipFollower:
    """Follows one clip in a thread, and tells what it finds."""

    def __init__(
        self,
        tracker: Tracker,
        decoder: DecoderProcess,
        video: str,
        tell: Callable[[dict[str, Any] | pa.Table], Any],
        most_s: float | None,
    ) -> None:
        self._tracker, self._decoder, self._video = tracker, decoder, video
        self._tell, self._most_s = tell, most_s
        self._started_s = time.perf_counter()
        self.done = 0
        """Frames that were followed."""

    def follow(self, size_bytes: int, wanted: Wanted) -> int:
        """Tell the clip's facts and its rows; decoding errors. MediaError, or LongerThanAllowed where it will be."""
        ref = VideoRef(uri="file:///clip", etag="", size_bytes=size_bytes)
        with self._decoder:
            try:
                return self._follow(ref, self._decoder.probe(ref), wanted)
            except MediaError as fault:  # a path of ours is nobody's business
                raise MediaError(fault.reason, fault.what, place=self._video, remedy=fault.remedy) from None

    def _follow(self, ref: VideoRef, info: VideoInfo, wanted: Wanted) -> int:
        start, stop = wanted.start, min(wanted.stop or info.frames, info.frames)
        if start >= stop:
            raise ConfigError("the video ends before the first frame asked for", start, f"{info.frames} frames")
        clip = self._clip(ref, info, start, stop, wanted.prompts)
        facts = {"fps": info.fps, "width": info.width_px, "height": info.height_px, "frames": info.frames}
        self._tell({**facts, "wanted": stop - start})
        back = goes_back(clip.prompts, clip.start)  # then no row is final before both directions are known

        def tell(rows: Trajectory) -> None:
            if len(rows := rows.between(start, stop)):
                self._tell(rows.to_rows(self._video))

        def take(rows: Trajectory) -> None:
            self._count(rows, clip.stop - clip.start)
            if not back:
                tell(rows)

        result = annotate_clip(self._tracker, clip, info, self._decoder, told=take)
        if result.error is not None:
            raise result.error
        if back:
            tell(result.trajectory)
        return result.decode_errors

    def _clip(self, ref: VideoRef, info: VideoInfo, start: int, stop: int, prompts: tuple[Prompt, ...]) -> Clip:
        """The frames to follow: those whose rows are wanted, or the whole video if a box may be in another frame."""
        for prompt in prompts:
            check_prompt(prompt, info.frames, info.size_wh_px, self._video)
        if prompts:
            return Clip(video=ref, start=0, stop=info.frames, prompts=prompts)
        lead = at_rate(self._tracker, info.fps).lead or info.frames
        return Clip(video=ref, start=start, stop=stop, lead_in=min(lead, start), lead_out=lead)

    def _count(self, rows: Trajectory, frames: int) -> None:
        """Note progress; LongerThanAllowed as soon as the pace so far says that all ``frames`` will take too long."""
        self.done += rows.frames
        spent_s = time.perf_counter() - self._started_s
        if self._most_s is not None and spent_s > PROJECTED_AFTER_S:
            estimate_s = spent_s * frames / self.done
            if estimate_s > self._most_s:
                raise LongerThanAllowed(estimate_s, self._most_s)


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
        """Makes the trackers of a model, which is loaded if necessary."""
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

    async def tracker(self, name: str, reading: Reading | None = None, *, prompted: bool = False) -> Tracker:
        """The tracker of a model that is read as a request came to, or else as the server is set up."""
        make = partial(await self.loaded(name), reading or self._config.reading(Reading()), prompted=prompted)
        return await asyncio.get_running_loop().run_in_executor(self._threads, make)

    async def warm(self, name: str) -> None:
        """Load a model before somebody asks for it."""
        await self.tracker(name)

    async def annotate(
        self, data: np.ndarray | bytes, name: str, video: str, reading: Reading, wanted: Wanted
    ) -> tuple[pa.Table, dict[str, Any]]:
        """Rows of a clip, and what is known of it; MediaError if it cannot be used to its end.

        LongerThanAllowed as soon as its first frames show that it will be.
        """
        most_s, parts = self._config.limits.request_s, [ROWS.empty_table()]
        said: dict[str, Any] = {}
        async with asyncio.timeout(most_s), aclosing(self._told(data, name, video, reading, wanted, most_s)) as told:
            async for each in told:
                if isinstance(each, dict):
                    said |= each
                else:
                    parts.append(each)
        return pa.concat_tables(parts).unify_dictionaries(), said

    async def follow_clip(
        self, data: np.ndarray | bytes, name: str, video: str, reading: Reading, wanted: Wanted
    ) -> AsyncIterator[dict[str, Any] | pa.Table]:
        """The facts about a clip, its rows as they become final, and finally its decoding errors; MediaError."""
        async with aclosing(self._told(data, name, video, reading, wanted, None)) as told:
            async for each in told:
                yield each

    async def _told(
        self,
        data: np.ndarray | bytes,
        name: str,
        video: str,
        reading: Reading,
        wanted: Wanted,
        most_s: float | None,
    ) -> AsyncGenerator[dict[str, Any] | pa.Table]:
        loop = asyncio.get_running_loop()
        tracker = await self.tracker(name, reading, prompted=bool(wanted.prompts))
        queue: asyncio.Queue[dict[str, Any] | pa.Table | None] = asyncio.Queue()
        decoder = DecoderProcess(self._decode_limits, held=data if isinstance(data, bytes) else data.data)
        follower = ClipFollower(
            tracker, decoder, video, lambda each: loop.call_soon_threadsafe(queue.put_nowait, each), most_s
        )
        started, ended = time.perf_counter(), dict[str, Any](reason="interrupted")
        work = asyncio.ensure_future(self._in_thread(lambda: follower.follow(len(data), wanted), decoder))
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (each := await queue.get()) is not None:
                if isinstance(each, dict):
                    each |= {"model": name, "model_sha256": self._models[name].sha256}
                yield each
            errors = await work
            ended = {"frames": follower.done, "decode_errors": errors}
            if errors:
                self._metrics.decode_errors.inc(errors)
            self._metrics.clip_seconds.observe(time.perf_counter() - started, tags={"model": name})
            yield {"decode_errors": errors}
        except MediaError as error:
            self._metrics.quarantined.inc(tags={"reason": str(error.reason)})
            ended = {"reason": str(error.reason)}
            raise
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
            seconds = time.perf_counter() - started
            log.info("clip ended", request=request_id(), clip=video, model=name, seconds=round(seconds, 4), **ended)
            if follower.done:
                self._metrics.frames.inc(follower.done, tags={"model": name})

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
        final, _ = await self._pushed(key, len(pictures), lambda live: (live.push(pictures, pts_s), None))
        return final.to_rows("live")

    async def follow(
        self, key: str, pictures: list[bytes], pts_s: list[float] | None, numbers: list[int], *, provisional: bool
    ) -> tuple[pa.Table, pa.Table | None]:
        """The same for a stream, whose pictures have their numbers; with ``provisional`` also the rows that wait."""

        def work(live: HeldSession) -> tuple[Trajectory, Trajectory | None]:
            return live.push(pictures, pts_s, numbers), live.provisional() if provisional else None

        final, waiting = await self._pushed(key, len(pictures), work)
        return final.to_rows("live"), None if waiting is None else waiting.to_rows("live")

    async def _pushed(self, key: str, frames: int, work: Callable[[HeldSession], T]) -> T:
        async with self._sessions.using(key) as live:
            try:
                result = await self._in_thread(lambda: work(live))
            except (MediaError, ConfigError) as error:
                reason = str(error.reason) if isinstance(error, MediaError) else "refused"
                if isinstance(error, MediaError):
                    self._metrics.quarantined.inc(tags={"reason": reason})
                    if error.reason in (QuarantineReason.DAMAGED, QuarantineReason.CRASHED):
                        self._metrics.decode_errors.inc()
                self._forget(key, reason)
                raise
        self._metrics.frames.inc(frames, tags={"model": live.model})
        return result

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
        """The load by which ``scaling`` decides."""
        return {"sessions": len(self._sessions), "resting": self._sessions.resting}

    def record_routing_stats(self) -> dict[str, int]:
        """The counts by which ``routing`` chooses."""
        return {"sessions": len(self._sessions)}

    def _load(self, model: ServedModel, loop: asyncio.AbstractEventLoop) -> MakeTracker:
        def through(detector: Detector) -> Detector:
            def submit(frames_THWC: torch.Tensor) -> Future[torch.Tensor]:
                return asyncio.run_coroutine_threadsafe(self.forward(Window(detector, model.name, frames_THWC)), loop)

            return QueuedDetector(detector, submit, windows_at_once=self._config.batch_windows)

        make = trackers_of(self._config, model, device=self._device, through=through)
        log.info("model loaded", model=model.name, device=self._device)
        return make

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
