"""What feeds training, and whether it keeps up: samples per second of the loader, of a step, and of both together.

    PYTHONPATH=platform python benchmarks/training_input.py [--copies N] [--cache-gb G] [--pictures jpeg] [--steps N]

Rendered rallies are prepared into an S3 server on loopback (moto, in a process of its own; --folder keeps them in a
folder); with --copies each is stored so many times under other names, which makes a data set of any size of real
bytes. Printed are samples/s of data held in memory and of streamed ones, of a step, and of a whole run on Ray Train
either way, with the share of its time that waited for data, what it kept on disk, and the largest memory of its
processes.
"""

import argparse
import atexit
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from specktrack.datasets import load_dataset, make_dataset, save_dataset
from specktrack.datasets.dataset import DatasetVideo
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.preparing import PrepareConfig, prepare
from specktrack.preparing.prepared import INDEX, background_key
from specktrack.storage import open_store
from specktrack.training import TrainConfig, train
from specktrack.training.course import Course, course_of
from specktrack.training.feeding import decoded_bytes
from specktrack.training.state import TrainState
from specktrack.training.worker import Learner, learn

WH = (512, 288)
NAMES = {"never": "in memory", "always": "streamed"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--cache-gb", type=float, default=2.0)
    parser.add_argument("--pictures", default="jpeg")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--folder", action="store_true")
    parser.add_argument("--alone", action="store_true", help="no runs of both together")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        place = str(folder / "store") if options.folder else served()
        write_archive(SynthConfig(videos=2, frames=options.frames, width_px=1280, height_px=720), f"{name}/archive")
        started = time.perf_counter()
        settings = {"data": f"{name}/archive", "destination": f"{place}/packs", "input_wh": list(WH)}
        report = prepare(PrepareConfig.parse({**settings, "pictures": options.pictures}, environment={}))
        print(f"prepared: {report.frames} frames, {report.frames / (time.perf_counter() - started):.0f} a second, "
              f"{report.size_bytes / report.frames / 1e3:.0f} kB each")  # fmt: skip
        data = copied(f"{place}/packs", f"{place}/many", options.copies) if options.copies > 1 else f"{place}/packs"
        print(f"data set: {decoded_bytes(data) / 1e9:.2f} GB decoded, node cache {options.cache_gb} GB")
        given = {
            "data": [data], "network": {"name": "specknet"}, "batch_size": options.batch, "steps": options.steps,
            "cache_gb": options.cache_gb, "log_every": 1, "warmup_steps": 0, "sampling.crop_wh": "[256, 160]",
        }  # fmt: skip
        torch.set_num_threads(1)
        ways = ("never", "always") if decoded_bytes(data) < 5e9 else ("always",)
        for how in ways:
            run = TrainConfig.parse({**given, "stream": how, "output": "o", "cache": f"{name}/{how}"}, environment={})
            course = course_of(run, torch.device("cpu"))
            loader(course, how, options.steps)
        one_step(course, options.batch)
        for how in () if options.alone else ways:
            places = {"output": f"{name}/run-{how}", "cache": f"{name}/run-cache-{how}"}
            whole_run(TrainConfig.parse({**given, **places, "stream": how, "workers": 1}, environment={}))


def served() -> str:
    """A bucket of an S3 server that ends with this process."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3_server"], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.kill)
    assert process.stdout is not None
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{int(process.stdout.readline())}"
    boto3.client("s3").create_bucket(Bucket="bench")
    return "s3://bench"


def copied(source: str, destination: str, copies: int) -> str:
    """The prepared data ``copies`` times, with real objects for each."""
    packs, store, dataset = open_store(source), open_store(destination), load_dataset(source)
    table = pq.read_table(io.BytesIO(packs.get(INDEX)))
    videos, rows, tables = [], [], []
    for copy in range(copies):
        names = {}
        for video in dataset.card.videos:
            ref = video.ref.model_copy(update={"uri": f"{video.ref.uri}.{copy}.mp4"})
            names[video.ref.key] = ref.key
            videos.append(DatasetVideo.model_validate(video.model_dump() | {"ref": ref.model_dump()}))
            tables.append(dataset.track(video).to_rows(ref.uri))
            store.put(background_key(ref.key), packs.get(background_key(video.ref.key)))
        for row in table.to_pylist():
            key = f"data/{names[row['video']]}/{copy}-{Path(row['pack']).name}"
            store.put(key, packs.get(row["pack"]))
            rows.append(row | {"video": names[row["video"]], "pack": key})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    store.put(INDEX, sink.getvalue())
    labels = pa.concat_tables(tables).unify_dictionaries()
    save_dataset(make_dataset(labels, tuple(videos), name="many", layout="rows", source=source), store)
    return destination


def loader(course: Course, how: str, steps: int) -> None:
    """Samples a second that one thread reads, and their batches."""
    size = course.config.batch_size
    course.samples(range(10**6, 10**6 + size))  # what is loaded once
    began, cpu = time.perf_counter(), time.process_time()
    for step in range(steps):
        course.samples(range(step * size, (step + 1) * size))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    each_ms = 1e3 * cpu / steps / size
    print(f"loader alone, {NAMES[how]}: {steps * size / wall:.1f} samples/s, {each_ms:.1f} ms of CPU each", flush=True)


def one_step(course: Course, size: int) -> None:
    """Samples a second that a step on one core takes in."""
    state: TrainState = course.state(course.network())
    learner, batch = Learner(course, state), course.samples(range(size))
    learn(learner, state, (batch,))
    began = time.perf_counter()
    for _ in range(5):
        learn(learner, state, (batch,))
    print(f"step alone, one core: {5 * size / (time.perf_counter() - began):.1f} samples/s", flush=True)


def whole_run(run: TrainConfig) -> None:
    """Both together, as ``specktrack train`` does."""
    memory, over = defaultdict[str, int](int), threading.Event()
    watch = threading.Thread(target=watch_memory, args=(memory, over))
    watch.start()
    train(run)
    over.set()
    watch.join()
    noted = [json.loads(line) for line in Path(run.output, "metrics.jsonl").read_text().splitlines()][1:]
    took_s = noted[-1]["elapsed_s"] - noted[0]["elapsed_s"]
    waited = sum(line["waited"] for line in noted) / len(noted)
    kept = sum(path.stat().st_size for path in Path(run.cache).rglob("*") if path.is_file())
    print(f"a run, {NAMES[run.stream]}: {(len(noted) - 1) * run.batch_size / max(took_s, 0.1):.1f} samples/s, "
          f"waited {100 * waited:.1f} %, {kept / 1e9:.2f} GB kept on disk", flush=True)  # fmt: skip
    print(
        "  largest memory, MB: " + ", ".join(f"{name} {size >> 20}" for name, size in sorted(memory.items())),
        flush=True,
    )


def watch_memory(memory: dict[str, int], over: threading.Event) -> None:
    """The most that each kind of our Ray's processes had as its own, without what it shares."""
    while not over.wait(0.5):
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                title = (process / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
                if title.startswith("ray::") and parent_of(parent_of(process.name)) == str(os.getpid()):
                    sizes = (process / "smaps_rollup").read_text()
                    own = sum(int(line.split()[1]) << 10 for line in sizes.splitlines() if line.startswith("Private_"))
                    name = title.removeprefix("ray::").partition("(")[0].partition(".")[0]
                    memory[name] = max(memory[name], own)


def parent_of(process: str) -> str:
    """The number of the process that began one."""
    return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[1]


if __name__ == "__main__":
    main()
