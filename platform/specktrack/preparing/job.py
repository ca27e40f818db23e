"""The whole run: plan -> skip what is complete -> pack -> index -> backgrounds -> seal -> labels."""

import time
from collections import Counter
from contextlib import ExitStack

from specktrack import telemetry
from specktrack.annotating import outputs
from specktrack.annotating.job import cluster_needed, completed, on_ray, quarantine, stop_if_hopeless
from specktrack.annotating.plan import Cutting, Plan, known, make_plan
from specktrack.annotating.progress import Meter
from specktrack.annotating.workers import MOST_FRAMES_HERE, Here, Workers
from specktrack.config import sha_of
from specktrack.datasets import CARD_NAME, Dataset, load_dataset, save_dataset
from specktrack.errors import ConfigError
from specktrack.ledger import SUCCESS, Ledger
from specktrack.preparing.config import PACK_FORMAT, PrepareConfig, PrepareReport
from specktrack.preparing.packer import Packer, PackerArguments, Still, StillMaker
from specktrack.preparing.prepared import viewport_of, write_index
from specktrack.schema import ClipRecord, ClipStatus
from specktrack.storage import open_store

MOST_HERE = 4 * MOST_FRAMES_HERE
"""Frames that this process packs in less time than a cluster and its actors take to start and pack them."""

log = telemetry.get_logger()


def prepare(config: PrepareConfig) -> PrepareReport:
    """Pack every labelled video of a dataset; what an earlier run completed in the destination is kept.

    Clips that cannot be read are quarantined and counted in the report. The destination is a dataset itself as soon as
    its card, which is written last, is there. Raises ConfigError if it was made with other settings, StorageError.
    """
    started, dataset = time.monotonic(), load_dataset(config.data)
    videos = [video.ref for video in dataset.card.videos if not video.labels_only]
    if not videos:
        raise ConfigError("the dataset has no video", config.data, remedy="import its labels with their videos")
    store = open_store(config.destination, single_writer=config.single_writer)
    ledger = Ledger(store, PACK_FORMAT, sha_of(config.settings))
    note = {"config": config.model_dump(mode="json"), "versions": outputs.versions()}
    outputs.begin(store, config.settings, note, resume=config.resume)
    done = completed(ledger, videos, retry_quarantined=config.retry_quarantined)
    with ExitStack() as stack:
        needed = cluster_needed(config.address, config.workers, len(videos))
        workers = stack.enter_context(on_ray(config.address, config.workers, needed)) if needed else Here()
        plan = make_plan(known(videos, done), Cutting(1, 1, config.clip_s, workers.attempts), workers)
        frames = sum(row["frames"] for row in plan.to_do(done))
        if not needed and frames > MOST_HERE:
            because = f"{frames} frames are to be packed"
            workers = stack.enter_context(on_ray(config.address, config.workers, because))
        packing = time.monotonic()
        now = quarantine(plan, ledger) | _pack(config, plan, ledger, done, workers)
        packing_s = time.monotonic() - packing
        standing = {key: record for key, record in (done | now).items() if key in set(plan.keys)}
        write_index(store, standing.values(), config.settings)
        if not config.own_size:  # no network that sees videos at their own size wants a background
            list(workers.work(_stills(dataset, standing, config.input_wh), StillMaker, store))
    ledger.seal(plan.keys)
    save_dataset(dataset, store)
    reasons = Counter(str(record.reason) for record in standing.values() if record.reason is not None)
    packed = sum(record.rows for record in now.values())
    return PrepareReport(
        destination=store.uri,
        videos=len(videos),
        clips=plan.size,
        committed=sum(record.status is ClipStatus.COMMITTED for record in now.values()),
        resumed=plan.size - len(plan.to_do(done)),
        quarantined=dict(sorted(reasons.items())),
        frames=packed,
        frames_per_s=round(packed / packing_s, 1) if packed else 0.0,
        size_bytes=sum(info.size_bytes for info in store.list("data/")),
        wall_s=round(time.monotonic() - started, 3),
    )


def _pack(
    config: PrepareConfig, plan: Plan, ledger: Ledger, done: dict[str, ClipRecord], workers: Workers
) -> dict[str, ClipRecord]:
    """Records of the clips that had none."""
    rows = plan.to_do(done)
    if not rows:
        return {}
    for key in (CARD_NAME, SUCCESS):  # whatever vouches for the whole
        ledger.store.delete(key)
    arguments = PackerArguments(
        ledger.store,
        config.settings["input_wh"],
        config.pictures,
        ledger.config_sha,
        config.timeout_s,
        workers.attempts,
    )
    now: dict[str, ClipRecord] = {}
    with Meter(len(rows), sum(row["frames"] for row in rows), doing="packing") as meter:
        for receipt in workers.work(rows, Packer, arguments):
            record = ClipRecord.model_validate_json(receipt["record"])
            now[record.key] = record
            meter.add(receipt["frames"])
            if record.reason is not None:
                log.warning("clip quarantined", clip=record.key, reason=str(record.reason), detail=record.detail)
                stop_if_hopeless(now)
    return now


def _stills(dataset: Dataset, standing: dict[str, ClipRecord], input_wh: tuple[int, int]) -> list[Still]:
    """The videos of which there is a pack."""
    there = {record.video.key for record in standing.values() if record.data_uri is not None}
    rows = []
    for video in dataset.card.videos:
        if video.ref.key in there:
            width, height = viewport_of((video.width_px, video.height_px), input_wh).network_wh_px
            rows.append(Still(video=video.ref.model_dump_json(), width=width, height=height))
    return rows
