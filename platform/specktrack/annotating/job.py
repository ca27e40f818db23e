"""The whole run: expand -> plan -> skip what is complete -> annotate -> overlays -> seal."""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from specktrack import telemetry
from specktrack.annotating import outputs, overlays
from specktrack.annotating.annotator import STAGES, Annotator, AnnotatorArguments
from specktrack.annotating.config import AnnotateConfig, AnnotateReport
from specktrack.annotating.estimate import estimate
from specktrack.annotating.live import annotate_live
from specktrack.annotating.plan import Cutting, Plan, known, make_plan
from specktrack.annotating.progress import Meter
from specktrack.annotating.prompts import prompts_of
from specktrack.annotating.stopping import finished_first
from specktrack.annotating.workers import MOST_FRAMES_HERE, MOST_VIDEOS_HERE, Attempts, Here, Workers
from specktrack.config import sha_of
from specktrack.errors import ConfigError, QuarantineReason, SpecktrackError, StorageError
from specktrack.ledger import SUCCESS, Ledger, collect_garbage, find_faults, read_records
from specktrack.schema import ClipRecord, ClipStatus, Prompt, VideoRef
from specktrack.storage import Store, expand_sources, open_store
from specktrack.tracking.following import Following
from specktrack.tracking.tracker import Parts, Tracker, load_parts, make_tracker

HOPELESS_AFTER = 5
"""Videos that crash before the first success and so end a run: one alone may be made to."""

MEASURE_FROM_FRAMES = 10_000
"""With so many to annotate, the minute in which engines are prepared and measured is won back."""

log = telemetry.get_logger()


class Progress(NamedTuple):
    """How far a run is."""

    clips: int
    done: int
    """Clips with a record, those of earlier runs included."""
    frames: int
    """Annotated now."""
    planned: int
    """Frames of the clips that had no record at the start."""


Watch = Callable[[Progress], None]


def _nobody_watches(_: Progress) -> None:
    pass


def annotate(config: AnnotateConfig, *, watch: Watch | None = None, inside: bool = False) -> AnnotateReport:
    """Annotate every video that the sources name; what an earlier run completed in the output is kept.

    ``watch`` is told of every clip, and ends the run by raising; ``inside`` does the work in this process however much
    it is. Without it, that is done if there is little to do and no cluster is named.
    Videos that cannot be used are quarantined and counted in the report. Raises ConfigError if the output was made by
    another model or configuration, CheckpointError, StorageError.
    """
    started = time.monotonic()
    if config.live is not None:
        return annotate_live(config)
    if config.gc:
        removed = collect_garbage(config.output)
        return AnnotateReport(output=open_store(config.output).uri, videos=0, clips=0, removed=removed)
    if config.verify and not config.sources:
        return _verified(open_store(config.output))
    run = _settled(config, watch or _nobody_watches)
    with ExitStack() as stack:
        kept = known(run.videos, run.done)
        idle = not kept.to_measure and not config.overlay
        quiet = inside or idle
        needed = "" if quiet else cluster_needed(config.address, config.workers, len(kept.to_measure))
        workers = stack.enter_context(on_ray(config.address, config.workers, needed)) if needed else Here()
        with run.timed("plan"):
            plan = make_plan(kept, run.cutting(workers.attempts), workers)
        frames = sum(row["frames"] for row in plan.to_do(run.done))
        if not (inside or needed) and frames > MOST_FRAMES_HERE:
            because = f"{frames} frames are to be annotated"
            workers = stack.enter_context(on_ray(config.address, config.workers, because))
        elif not needed:
            log.info("working in this process", frames=frames, because="a cluster would take longer to start")
        if config.dry_run:
            expected = estimate(plan.to_do(run.done), _arguments(run, plan, workers), workers, config.price)
            return _report(run, plan, {}, repeated=0).model_copy(update={"estimate": expected})
        with run.timed("annotate"):
            now = quarantine(plan, run.ledger) | _annotate(run, plan, workers)
        repeated = workers.attempts.repeated()
        without_overlay = _draw(run, now, workers) if config.overlay else 0
    if now or not run.ledger.is_sealed(run.done.values()):
        run.ledger.seal(plan.keys)
    run.seconds["wall"] = time.monotonic() - started
    report = _report(run, plan, now, repeated=repeated, without_overlay=without_overlay)
    outputs.describe(run.ledger.store, config, run.parts.model, run.settings, report)
    return report


@dataclass(frozen=True)
class _Run:
    """Facts that are settled before there is a plan, and the time that each stage has taken so far."""

    config: AnnotateConfig
    videos: list[VideoRef]
    parts: Parts
    tracker: Tracker
    prompts: Mapping[str, tuple[Prompt, ...]]
    """By the URI of their video."""
    settings: dict[str, Any]
    """All that decides the rows beside the model."""
    ledger: Ledger
    damaged: int
    """Records that name no whole rows, of videos that are not among the sources."""
    done: dict[str, ClipRecord]
    """Records of earlier runs, by key."""
    watch: Watch
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def cutting(self, attempts: Attempts) -> Cutting:
        """How videos become clips."""
        tracker = self.tracker
        return Cutting(tracker.stride, tracker.lead, self.config.clip_s, attempts, tracker.step_s, self.prompts)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to a stage."""
        started = time.monotonic()
        yield
        self.seconds[stage] += time.monotonic() - started


def _settled(config: AnnotateConfig, watch: Watch) -> _Run:
    """A run whose output is claimed; what can be refused before any video is looked at is refused here."""
    videos, parts = _videos(config), load_parts(config)
    tracker = make_tracker(config, device="cpu", parts=parts, prompted=bool(config.prompt))
    prompts = prompts_of(config.prompt, videos)
    tracker.open(next(iter(prompts.values()), ()))  # a prompt too many or too few
    settings = outputs.settings_of(config, tracker, prompts, parts.finder)
    store = open_store(config.output, single_writer=config.single_writer)
    ledger = Ledger(store, parts.model.sha256, sha_of(settings))
    outputs.claim(store, config, parts.model, settings)
    damaged = _mend(ledger, videos, config) if config.verify else 0
    nothing_kept = config.dry_run and not config.resume
    retried, forget = config.retry_quarantined, not config.dry_run
    done = {} if nothing_kept else completed(ledger, videos, retry_quarantined=retried, forget=forget)
    return _Run(config, videos, parts, tracker, prompts, settings, ledger, damaged, done, watch)


def _draw(run: _Run, now: dict[str, ClipRecord], workers: Workers) -> int:
    """Draw the videos with new rows and those that have no overlay; the number that could not be drawn."""
    with run.timed("overlay"):
        store, changed = run.ledger.store, {record.video.key for record in now.values()}
        rows = overlays.wanted(run.videos, changed=changed, store=store)
        arguments = overlays.OverlayArguments(store.uri, run.config.timeout_s, workers.attempts)
        return sum(bool(row["fault"]) for row in workers.work(rows, overlays.Overlayer, arguments))


def cluster_needed(address: str | None, workers: int | None, videos: int) -> str:
    """Why a cluster does the work, as far as that is known before so many videos are measured; empty if it need not."""
    if address is not None or workers is not None:
        return "a cluster was asked for"
    ray = sys.modules.get("ray")  # not imported for the question: who is connected has imported it
    if os.environ.get("RAY_ADDRESS") or (ray is not None and ray.is_initialized()):
        return "there is one"
    return f"there are {videos} videos" if videos > MOST_VIDEOS_HERE else ""


@contextmanager
def on_ray(address: str | None, most: int | None, because: str) -> Iterator[Workers]:
    """At most so many actors on the cluster at ``address``."""
    from specktrack.annotating.pool import pool  # loads ray, which this process may do without

    log.info("working on Ray", address=address or "auto", because=because)
    with pool(address or "auto", most) as workers:
        yield workers


def _videos(config: AnnotateConfig) -> list[VideoRef]:
    """The videos that the sources name, without the overlays of an output that lies below them."""
    own = open_store(config.output).uri + "/overlays/"
    videos = [video for video in expand_sources(config.sources, stream=config.stream) if not video.uri.startswith(own)]
    if not videos:
        raise ConfigError("the sources contain only the output's own videos", ", ".join(config.sources))
    return videos


def _verified(store: Store) -> AnnotateReport:
    """Clips whose rows are lost from an output; StorageError if records that its seal counts are lost."""
    faults = _faults(store)
    records = 0 if faults else len(read_records(store.uri))
    return AnnotateReport(output=store.uri, videos=0, clips=records, damaged=len(faults))


def _mend(ledger: Ledger, videos: list[VideoRef], config: AnnotateConfig) -> int:
    """Discard the records without whole rows of the videos named, so that their clips are done again; how many stay."""
    faults, named = _faults(ledger.store), {video.key for video in videos}
    mended = [] if config.dry_run else [key for key in faults if key.partition("/")[0] in named]
    for key in mended:
        ledger.discard(key)
    return len(faults) - len(mended)


def _faults(store: Store) -> dict[str, str]:
    faults = find_faults(store)
    for key, what in faults.items():
        log.warning("rows are lost", clip=key, detail=what)
    return faults


def completed(
    ledger: Ledger, videos: list[VideoRef], *, retry_quarantined: bool, forget: bool = True
) -> dict[str, ClipRecord]:
    """Records of earlier runs, less those of videos since replaced, and of quarantined clips that are to be retried.

    With ``forget`` what is left out is removed from the ledger, too.
    """
    done = ledger.completed()
    keys = {video.uri: video.key for video in videos}
    for key, record in list(done.items()):
        replaced = keys.get(record.video.uri, record.video.key) != record.video.key
        retried = retry_quarantined and record.status is ClipStatus.QUARANTINED and record.video.uri in keys
        if replaced or retried:
            del done[key]
            if forget:
                ledger.forget(key)
    return done


def quarantine(plan: Plan, ledger: Ledger) -> dict[str, ClipRecord]:
    """Records of the videos that could not be measured; StorageError if the store gives out none at all."""
    reasons = {row["reason"] for row in plan.unreadable.values()}
    if not plan.size and reasons == {QuarantineReason.UNREADABLE}:
        detail = next(iter(plan.unreadable.values()))["detail"]
        raise StorageError(
            "no video can be read; the first because of", detail, remedy="check the permissions and run again"
        )
    now = {}
    for key, row in plan.unreadable.items():
        video, reason = VideoRef.model_validate_json(row["video"]), QuarantineReason(row["reason"])
        log.warning("video quarantined", video=video.uri, reason=str(reason), detail=row["detail"])
        now[key] = ledger.quarantine(video, 0, 0, reason=reason, detail=row["detail"])
    return now


def _annotate(run: _Run, plan: Plan, workers: Workers) -> dict[str, ClipRecord]:
    """Records of the clips that had none."""
    rows = plan.to_do(run.done)
    if not rows:
        return {}
    run.ledger.store.delete(SUCCESS)
    arguments = _arguments(run, plan, workers)
    now: dict[str, ClipRecord] = {}
    before, planned = plan.size - len(rows), sum(row["frames"] for row in rows)
    run.watch(Progress(clips=plan.size, done=before, frames=0, planned=planned))
    with Meter(len(rows), planned) as meter, finished_first(workers.attempts.stop):
        for receipt in workers.work(rows, Annotator, arguments):
            record = ClipRecord.model_validate_json(receipt["record"])
            now[record.key] = record
            meter.add(receipt["frames"])
            run.watch(Progress(clips=plan.size, done=before + len(now), frames=meter.frames, planned=planned))
            for stage in STAGES:
                run.seconds[stage] += receipt["seconds"].get(stage, 0.0)
            if record.reason is not None:
                log.warning("clip quarantined", clip=record.key, reason=str(record.reason), detail=record.detail)
                stop_if_hopeless(now)
    return now


def _arguments(run: _Run, plan: Plan, workers: Workers) -> AnnotatorArguments:
    config, ledger = run.config, run.ledger
    return AnnotatorArguments(
        store=ledger.store,
        following=Following.of(config.model, config),
        parts=workers.share(run.parts),
        prompted=bool(config.prompt),
        model_sha=ledger.model_sha,
        config_sha=ledger.config_sha,
        timeout_s=config.timeout_s,
        gpu=workers.gpu,
        threads=workers.threads,
        settle=sum(row["frames"] for row in plan.to_do(run.done)) > MEASURE_FROM_FRAMES,
        attempts=workers.attempts,
    )


def stop_if_hopeless(now: dict[str, ClipRecord]) -> None:
    """Raise SpecktrackError if all clips so far crashed, of several videos: the fault is not the videos'."""
    crashed = [record for record in now.values() if record.reason is QuarantineReason.CRASHED]
    videos = len({record.video.key for record in crashed})
    if len(crashed) == len(now) and videos >= HOPELESS_AFTER:
        raise SpecktrackError(
            f"the first {len(crashed)} clips, of {videos} videos, all failed, the last because of",
            crashed[-1].detail,
            remedy="fix the cause, then run again with --retry-quarantined",
        )


def _report(
    run: _Run, plan: Plan, now: dict[str, ClipRecord], *, repeated: int, without_overlay: int = 0
) -> AnnotateReport:
    """The run in numbers; ``now`` holds the records that it made."""
    planned = set(plan.keys)
    standing = {key: record for key, record in (run.done | now).items() if key in planned}
    reasons = [str(record.reason) for record in standing.values() if record.reason is not None]
    if run.config.dry_run:
        reasons += [row["reason"] for row in plan.unreadable.values()]
    to_do = plan.to_do(run.done)
    frames = sum(row["frames"] for row in to_do if row["key"] in now)
    return AnnotateReport(
        output=run.ledger.store.uri,
        damaged=run.damaged,
        videos=len(run.videos),
        clips=plan.size,
        committed=sum(record.status is ClipStatus.COMMITTED for record in now.values()),
        resumed=plan.size - len(to_do),
        repeated=repeated,
        without_overlay=without_overlay,
        quarantined=dict(sorted(Counter(reasons).items())),
        planned_frames=sum(row["frames"] for row in to_do),
        frames=frames,
        rows=sum(record.rows for record in standing.values()),
        wall_s=round(run.seconds["wall"], 3),
        frames_per_s=round(frames / run.seconds["annotate"], 1) if frames else 0.0,
        seconds={stage: round(spent, 3) for stage, spent in run.seconds.items() if stage != "wall"},
    )
