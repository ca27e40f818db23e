"""How late rows of a live stream are, and how good: pictures at a rate into a server, against their labels.

    python benchmarks/live.py [--seconds 60] [--rates 15 30] [--data DATASET] [--model NAME]

Client, server and network share the machine. A row is late by the time from sending its picture to receiving its first
row (provisional) and its final one, for each picture that was not dropped; F1 counts those pictures. Without ``--data``
a rendered video with exact labels is streamed over and over. ``--seconds 600 --rates 30`` is the ten minutes in which
the memory of the server's processes should not grow: it is told a fifth of the way in and at the end.
"""

import argparse
import asyncio
import io
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from ray import serve

from specktrack.datasets import load_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.frames import Trajectory, split_by_video
from specktrack.metrics.points import PointCounts, classify_points
from specktrack.schema import Clip
from specktrack.serving.answers import Row
from specktrack.serving.client import AsyncClient
from specktrack.serving.config import ServerConfig
from specktrack.serving.server import deploy, quietly_connected
from specktrack.video.unconfined import read_clip

PORT = 18557
TOLERANCE_PX, COUNTED_WH = 4.0, (512, 288)
READINGS = {"default": {}, "overlap=1": {"overlap": 1}, "delay=low": {"delay": "low"}}


@dataclass
class Video:
    """Encoded pictures, and where the object is in each."""

    pictures: list[bytes]
    xy_px: np.ndarray
    wh_px: tuple[int, int]


@dataclass
class Run:
    """What came of one stream, by frame."""

    sent_s: dict[int, float] = field(default_factory=dict)
    first: dict[int, tuple[float, Row]] = field(default_factory=dict)
    final: dict[int, tuple[float, Row]] = field(default_factory=dict)
    dropped: int = 0
    memory_mb: list[float] = field(default_factory=list)


def load(data: str | None, folder: Path) -> Video:
    """The first video of a dataset, or a rendered one."""
    if data is None:
        write_archive(SynthConfig(videos=1, frames=600, seed=7, sport="badminton"), data := str(folder / "synth"))
    dataset = load_dataset(data)
    video = dataset.videos[0]
    labels = Trajectory.from_rows(split_by_video(dataset.rows)[video.ref.uri])
    pictures = []
    with read_clip(Clip(video=video.ref, start=0, stop=min(len(labels), 1800))) as reader:
        for batch in reader:
            for pixels in batch.pixels:
                sink = io.BytesIO()
                Image.fromarray(pixels).save(sink, "JPEG", quality=90)
                pictures.append(sink.getvalue())
    return Video(pictures, labels.xy_px[: len(pictures)], (video.width_px, video.height_px))


async def stream(video: Video, fps: float, seconds: float, reading: dict[str, object], model: str) -> Run:
    """Send pictures at a rate, and note when rows come."""
    run, count = Run(), int(fps * seconds)
    started = time.monotonic()

    async def paced() -> AsyncIterator[bytes]:
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / fps - time.monotonic()))
            run.sent_s[number] = time.monotonic()
            if number in (count // 5, count - 1):
                run.memory_mb.append(memory_mb())
            yield video.pictures[number % len(video.pictures)]

    async with AsyncClient(f"http://127.0.0.1:{PORT}") as client:
        asked = {"drop": "newest", "provisional": True, **reading}
        async for rows in client.stream(paced(), model=model, fps=fps, **asked):
            now_s = time.monotonic()
            for row in rows:
                run.first.setdefault(row.frame, (now_s, row))
                if row.final:
                    run.final[row.frame] = now_s, row
            run.dropped = rows.dropped
    return run


def memory_mb() -> float:
    """Resident memory of the server's processes."""
    replicas = [
        each for each in psutil.process_iter(["cmdline"]) if "ServeReplica" in " ".join(each.info["cmdline"] or ())
    ]
    return sum(each.memory_info().rss for each in replicas) / 1e6


def late(run: Run, rows: dict[int, tuple[float, Row]], share: float) -> float:
    """A quantile of seconds from picture to row."""
    return float(np.quantile([at_s - run.sent_s[frame] for frame, (at_s, _) in rows.items()], share))


def f1(video: Video, rows: dict[int, tuple[float, Row]]) -> float:
    """Of the pictures that have rows."""
    frames = np.array(sorted(rows)) % len(video.pictures)
    found = np.array([(row.x, row.y) for _, (_, row) in sorted(rows.items())], float)
    scale = COUNTED_WH[0] / video.wh_px[0], COUNTED_WH[1] / video.wh_px[1]
    return PointCounts.of(classify_points(found, video.xy_px[frames], tolerance=TOLERANCE_PX, scale=scale)).f1


def measured(video: Video, fps: float, seconds: float, reading: str, model: str) -> str:
    """A line of the table."""
    run = asyncio.run(stream(video, fps, seconds, READINGS[reading], model))
    lags = [f"{late(run, rows, share):.2f}" for rows in (run.first, run.final) for share in (0.5, 0.99)]
    cells = [
        reading, f"{fps:g}", f"{lags[0]} / {lags[1]} s", f"{lags[2]} / {lags[3]} s",
        f"{100 * run.dropped / len(run.sent_s):.0f} %", f"{f1(video, run.first):.3f}", f"{f1(video, run.final):.3f}",
        " -> ".join(f"{mb:.0f}" for mb in run.memory_mb),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(rates: Sequence[float], seconds: float, data: str | None, model: str) -> None:
    """Serve, stream in each reading at each rate, print a table."""
    with tempfile.TemporaryDirectory() as folder, quietly_connected("local"):
        video = load(data, Path(folder))
        deploy(ServerConfig(port=PORT, models=(model,)))
        asyncio.run(stream(video, 10, 5, {}, model))  # loaded and measured
        print(
            f"{os.cpu_count()} cores, {platform.machine()}, {date.today()}, {video.wh_px[0]}x{video.wh_px[1]}, {model}"
        )
        print(
            "| reading | frames/s in | provisional p50 / p99 | final p50 / p99 | dropped | F1 first | F1 final | MB |"
        )
        print("|---|--:|--:|--:|--:|--:|--:|--:|")
        for reading in READINGS:
            for fps in rates:
                print(measured(video, fps, seconds, reading, model), flush=True)
        serve.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rates", type=float, nargs="+", default=[15, 30])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--data")
    parser.add_argument("--model", default="specknet")
    options = parser.parse_args()
    main(options.rates, options.seconds, options.data, options.model)
