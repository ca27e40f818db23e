"""What an archive costs, and what limits a cluster of which size: stage costs, a model of them, and a simulation.

    python benchmarks/scaling.py measure    # CPU seconds of each stage here, to docs/results/scaling.json
    python benchmarks/scaling.py check      # the simulation against Ray on 1 to 8 logical nodes, to the same file
    python benchmarks/scaling.py page       # docs/scaling.md from that file

The check has workers sleep instead of compute, for two cores cannot compute like eight nodes: it tests what the model
says of Ray's scheduling and of the driver, not of the network's speed.
"""

import heapq
import json
import os
import platform as machine
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parents[1] / "docs" / "results" / "scaling.json"
PAGE, TEMPLATE = RESULT.parents[1] / "scaling.md", Path(__file__).with_name("scaling.template.md")
FPS, CLIP_S, LEAD_FRAMES = 30.0, 20.0, 14
"""Of the archive, of a clip, and the frames that a clip decodes beside its own (7 before and 7 after, for SpeckNet)."""
VIDEO_H = 1.0
GB_PER_H = 2.2
"""Of 720p H.264 at 5 Mbit/s."""
CORES_PER_NODE, GB_PER_S_PER_NODE, PUTS_PER_S = 16, 1.25, 3500.0
"""A node of 16 cores with 10 Gbit/s; writes that S3 takes at one prefix."""
PRICE_PER_CORE_H = 0.05
NODES = (1, 8, 64, 512, 4096)
HOURS = (10, 1_000, 100_000, 1_000_000)
CHECK_CLIPS, CHECK_WORK_S, CHECK_NODES, DRIVER_CLIPS = 96, 0.25, (1, 2, 4, 8), 1000


@dataclass(frozen=True)
class Costs:
    """Of one worker, CPU seconds; of the driver, seconds that nothing else of it can overlap."""

    decode_s: float
    """Of a frame: decode and resize."""
    network_s: float
    """Of a frame: network, peaks, choice."""
    clip_s: float
    """Of a clip beside its frames: open, commit rows and record."""
    probe_s: float
    """Of a video: find its frames and seek points."""
    driver_s: float
    """Of a clip, on the driver: its receipt."""
    plan_bytes: float
    """Of a clip, in the driver's memory."""

    @property
    def clip_work_s(self) -> float:
        return self.clip_s + (CLIP_S * FPS + LEAD_FRAMES) * (self.decode_s + self.network_s)


# --- what it costs --------------------------------------------------------------------------------------------------


def measure() -> Costs:
    """Stage costs of the default model on rendered 720p video, one thread."""
    import numpy as np
    import torch

    from specktrack.annotating.plan import Cutting, Planner
    from specktrack.annotating.workers import Here
    from specktrack.datasets.synthetic import SynthConfig, write_archive
    from specktrack.frames import FrameBatch
    from specktrack.ledger import Ledger
    from specktrack.schema import Clip, ClipRecord
    from specktrack.storage import expand_sources, open_store
    from specktrack.tracking.following import Following
    from specktrack.tracking.tracker import make_tracker
    from specktrack.video.unconfined import probe, read_clip

    torch.set_num_threads(1)
    tracker = make_tracker(Following(engine="eager"), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        write_archive(SynthConfig(videos=1, frames=48, width_px=1280, height_px=720), folder)
        (ref,) = expand_sources([folder])
        began = time.process_time()
        info = probe(ref)
        probe_s = time.process_time() - began
        clip, view = Clip(video=ref, start=0, stop=info.frames), tracker.viewport(info.size_wh_px)
        began = time.process_time()
        with read_clip(clip, info=info, viewport=view) as reader:
            batches = list(reader)
        decode_s = (time.process_time() - began) / info.frames
        session = tracker.open()
        session.push(batches[0][:16])  # what the first pass sets up is not a frame's cost
        session.finish()
        session, parts, began = tracker.open(), [], time.process_time()
        for batch in batches:
            parts.append(session.push(FrameBatch(batch.pixels, batch.frame, batch.pts_s, view)))
        parts.append(session.finish())
        network_s = (time.process_time() - began) / info.frames
        ledger = Ledger(open_store(f"{folder}/out"), "model", "config")
        rows = parts[-1].to_rows(ref.uri)
        began = time.perf_counter()
        record = ledger.commit(clip, rows, decode_errors=0, metadata={})
        clip_s = time.perf_counter() - began
        planned = Planner(Cutting(4, 7, CLIP_S, Here().attempts))({"video": ref.model_dump_json()})
    receipt = record.model_dump_json()
    began = time.perf_counter()
    for _ in range(2000):
        ClipRecord.model_validate_json(receipt)
    driver_s = (time.perf_counter() - began) / 2000
    plan_bytes = float(np.mean([sum(sys.getsizeof(value) for value in row.values()) for row in planned]))
    return Costs(decode_s, network_s, clip_s, probe_s, driver_s, plan_bytes)


# --- what limits it -------------------------------------------------------------------------------------------------


def stages(costs: Costs, hours: float, nodes: int) -> dict[str, float]:
    """Seconds that each resource is busy for an archive on so many nodes; the longest is the bottleneck."""
    clips = hours * 3600 / CLIP_S
    workers = nodes * CORES_PER_NODE
    work = clips * costs.clip_work_s + hours / VIDEO_H * costs.probe_s
    return {
        "workers": max(work / workers, costs.clip_work_s),
        "driver": clips * costs.driver_s,
        "network": hours * GB_PER_H / (GB_PER_S_PER_NODE * nodes),
        "store": 2 * clips / PUTS_PER_S,
    }


def simulate(clips: int, workers: int, work_s: float, driver_s: float, *, waiting: int = 2) -> float:
    """Seconds until the last receipt is counted: workers take a clip each, with ``waiting`` in flight; one driver."""
    free = [(0.0, worker) for worker in range(workers)]
    arrivals = []
    for _ in range(clips):
        at, worker = heapq.heappop(free)
        heapq.heappush(free, (at + work_s, worker))
        arrivals.append(at + work_s)
    now = 0.0
    for at in sorted(arrivals):
        now = max(now, at) + driver_s
    return now


# --- the check ------------------------------------------------------------------------------------------------------


class Sleeper:
    """Stands for an annotating actor: its work takes time and no processor."""

    def __init__(self, work_s: float) -> None:
        self._work_s = work_s

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        began = time.time()
        time.sleep(self._work_s)
        return [{"key": row["key"], "began": began}]


def check() -> Iterator[dict[str, float]]:
    """Ray on logical nodes against the simulation, from the first clip's begin on; last, what the driver can take."""
    import ray
    from ray.cluster_utils import Cluster

    from specktrack.annotating.pool import work

    for nodes in CHECK_NODES:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        ray.init(cluster.address, include_dashboard=False, log_to_driver=False, logging_level="error")
        try:
            rows = [{"key": number} for number in range(CHECK_CLIPS)]
            found = list(work(rows, Sleeper, CHECK_WORK_S, workers=nodes))
            took_s = time.time() - min(each["began"] for each in found)
            if nodes == CHECK_NODES[-1]:
                rows = [{"key": number} for number in range(DRIVER_CLIPS)]
                found = list(work(rows, Sleeper, 0.0, workers=nodes))
                idle_s = (time.time() - min(each["began"] for each in found)) / DRIVER_CLIPS
        finally:
            ray.shutdown()
            cluster.shutdown()
        expected_s = simulate(CHECK_CLIPS, nodes, CHECK_WORK_S, 0.0)
        yield {"nodes": nodes, "took_s": round(took_s, 2), "simulated_s": round(expected_s, 2)}
    yield {"driver_s": round(idle_s, 5)}


# --- the page -------------------------------------------------------------------------------------------------------


def table(costs: Costs) -> str:
    """What an archive of each size takes on clusters of each size, and what is busy longest."""
    lines = ["| hours of video | " + " | ".join(f"{n} node{'s' * (n > 1)}" for n in NODES) + " |"]
    lines.append("|--:|" + "---|" * len(NODES))
    for hours in HOURS:
        cells = []
        for nodes in NODES:
            busy = stages(costs, hours, nodes)
            name = max(busy, key=lambda each: busy[each])
            cells.append(f"{_time(busy[name])}, {name}")
        lines.append(f"| {hours:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def page(known: dict[str, Any]) -> str:
    """docs/scaling.md."""
    costs = Costs(**known["costs"])
    core_h = costs.clip_work_s / CLIP_S
    checked = "\n".join(
        f"| {row['nodes']} | {row['took_s']} | {row['simulated_s']} | {row['took_s'] / row['simulated_s']:.2f} |"
        for row in known["check"]
    )
    return TEMPLATE.read_text(encoding="utf-8").format(
        **{name: value for name, value in vars(costs).items() if name != "plan_bytes"},
        clip_length_s=CLIP_S,
        fps=FPS,
        lead_frames=LEAD_FRAMES,
        core_h=core_h,
        price=PRICE_PER_CORE_H,
        cost=core_h * PRICE_PER_CORE_H,
        cores=CORES_PER_NODE,
        gb_per_h=GB_PER_H,
        gb_per_s=GB_PER_S_PER_NODE,
        puts_per_s=PUTS_PER_S,
        table=table(costs),
        driver_nodes=costs.clip_work_s / costs.driver_s / CORES_PER_NODE,
        clips_per_s=1 / costs.driver_s,
        hours_per_h=CLIP_S / costs.driver_s,
        plan_kb=costs.plan_bytes / 1000,
        plan_gb=costs.plan_bytes * 100_000 * 3600 / CLIP_S / 1e9,
        store_clips_per_s=PUTS_PER_S / 2,
        check_clips=CHECK_CLIPS,
        check_work_s=CHECK_WORK_S,
        measured=_where(known["measured"]),
        checked=_where(known["checked"]),
        check=checked,
    )


def _where(about: dict[str, str]) -> str:
    return f"{about['machine']}, {about['date']}"


def main(words: list[str]) -> None:
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    about = {"machine": f"{os.cpu_count()} cores {machine.machine()}", "date": time.strftime("%Y-%m-%d")}
    if words == ["measure"]:
        costs = {name: float(f"{value:.4g}") for name, value in vars(measure()).items()}
        known |= {"costs": costs, "measured": about}
    elif words == ["check"]:
        *found, driver = check()
        known |= {"check": found, "checked": about}
        known["costs"] |= driver  # what Ray takes of the driver for a clip counts, not only the receipt
    elif words != ["page"]:
        sys.exit(__doc__)
    RESULT.write_text(json.dumps(known, indent=1) + "\n")
    if "costs" in known and "check" in known:
        PAGE.write_text(page(known), encoding="utf-8")
        print(page(known))


if __name__ == "__main__":
    main(sys.argv[1:])
