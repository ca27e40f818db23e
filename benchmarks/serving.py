"""A server under load on loopback, in ratios within one run: batching, HTTP over a handle, overload, killed replicas.

    python benchmarks/serving.py [seconds per part]

The clip is short and small (128x64, 48 frames), so that the server and not the network is measured; with ``specknet``'s
own size on a CPU a batch of windows takes as long as its windows one after another.
"""

import asyncio
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import ray
import torch
from ray import serve
from ray.util import list_named_actors

from specktrack import models
from specktrack.cluster import connected
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.serving.config import ServerConfig
from specktrack.serving.gateway import APPLICATION
from specktrack.serving.server import deploy
from specktrack.video import write_video

WH, FRAMES, PORT = (128, 64), 48, 18555
QUEUE, AT_ONCE = 16, 8
Answer = tuple[int, float]
"""Status and seconds."""


def make_model(folder: Path) -> str:
    torch.manual_seed(0)
    config = models.network_config({"name": "specknet", "frames_in": 8, "input_wh": WH, "widths": (16, 32, 64, 96)})
    save_model(folder / "small.safetensors", models.build(config).eval(), ModelCard(name="small", network=config))
    return str(folder / "small.safetensors")


def make_clip(folder: Path) -> bytes:
    """A spot that flies over a still scene."""
    scene = np.random.default_rng(0).integers(0, 60, (WH[1], WH[0], 3), dtype=np.uint8)

    def picture(i: int) -> np.ndarray:
        pixels = scene.copy()
        pixels[10 + i : 14 + i, 10 + 2 * i : 14 + 2 * i] = 250
        return pixels

    write_video(folder / "clip.mp4", (picture(i) for i in range(FRAMES)), fps=30, wh=WH)
    return (folder / "clip.mp4").read_bytes()


def server_config(model: str, *, batch_windows: int) -> ServerConfig:
    fixed = {"num_replicas": 1, "autoscaling_config": None}
    windowed = {"name": "Windowed", **fixed, "max_ongoing_requests": AT_ONCE, "max_queued_requests": QUEUE}
    gateway = {"name": "Gateway", **fixed}
    return ServerConfig(port=PORT, models=(model,), batch_windows=batch_windows, deployments=(windowed, gateway))


async def post(client: httpx.AsyncClient, clip: bytes) -> Answer:
    started = time.perf_counter()
    try:
        answer = await client.post("/v1/annotate", content=clip, headers={"Content-Type": "video/mp4"})
        assert answer.status_code != 503 or "retry-after" in answer.headers
        return answer.status_code, time.perf_counter() - started
    except httpx.TransportError:
        return 0, time.perf_counter() - started


async def closed_loop(call: Callable[[], Awaitable[Answer]], clients: int, seconds: float) -> list[Answer]:
    """So many clients, each asking again as soon as it is answered."""
    answers: list[Answer] = []
    end = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end:
            answers.append(await call())

    await asyncio.gather(*(one() for _ in range(clients)))
    return answers


async def open_loop(call: Callable[[], Awaitable[Answer]], per_s: float, seconds: float) -> list[Answer]:
    """Requests at a rate, whether or not the server keeps up."""
    tasks, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        tasks.append(asyncio.create_task(call()))
        await asyncio.sleep(random.expovariate(per_s))
    return await asyncio.gather(*tasks)


def good(answers: list[Answer]) -> list[float]:
    return sorted(seconds for status, seconds in answers if status == 200)


def at(seconds: list[float], share: float) -> str:
    return f"{1000 * seconds[min(len(seconds) - 1, int(share * len(seconds)))]:.0f} ms" if seconds else "-"


async def measure(clip: bytes, seconds: float) -> tuple[float, float]:
    """Answers per second, one at a time and at saturation."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=60, limits=limits) as client:
        call = lambda: post(client, clip)  # noqa: E731
        await closed_loop(call, AT_ONCE, 3)
        alone = len(good(await closed_loop(call, 1, seconds))) / seconds
        together = len(good(await closed_loop(call, AT_ONCE, seconds))) / seconds
        print(f"one at a time {alone:.1f} clips/s, {AT_ONCE} at a time {together:.1f} clips/s: {together / alone:.2f}x")
        return alone, together


async def over_handle(clip: bytes, seconds: float) -> None:
    handle = serve.get_deployment_handle("Windowed", APPLICATION).options(multiplexed_model_id="small")

    async def through_handle() -> Answer:
        started = time.perf_counter()
        await handle.annotate.remote(clip, "small", "clip")
        return 200, time.perf_counter() - started

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client:
        await closed_loop(through_handle, 1, 2)
        direct: list[Answer] = []
        over_http: list[Answer] = []
        for _ in range(5):  # in turns, so that a change of the machine's load meets both
            direct += await closed_loop(through_handle, 1, seconds / 5)
            over_http += await closed_loop(lambda: post(client, clip), 1, seconds / 5)
        for name, answers in (("handle", direct), ("HTTP", over_http)):
            print(f"{name}: p50 {at(good(answers), 0.5)}, p99 {at(good(answers), 0.99)} of {len(answers)}")


async def overload(clip: bytes, saturation: float, seconds: float) -> None:
    limits = httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=60, limits=limits) as client:
        call = lambda: post(client, clip)  # noqa: E731
        answers = await open_loop(call, 4 * saturation, seconds)
        refused = sorted(spent for status, spent in answers if status == 503)
        other = sum(status not in (200, 503) for status, _ in answers)
        goodput = len(good(answers)) / seconds / saturation
        print(f"4x saturation: goodput {100 * goodput:.0f} %, {len(refused)} of {len(answers)} answered 503")
        print(f"  503 after p50 {at(refused, 0.5)}, p99 {at(refused, 0.99)}; other failures {other}")
        started = time.monotonic()
        calm = statistics.median(good(await closed_loop(call, 1, 5)) or [60.0])
        print(f"  afterwards p50 {1000 * calm:.0f} ms within {time.monotonic() - started:.0f} s")


async def killed(clip: bytes, saturation: float, seconds: float) -> None:
    limits = httpx.Limits(max_connections=200)
    tries = 0

    async def persistent() -> Answer:
        nonlocal tries
        started = time.perf_counter()
        for _ in range(10):
            tries += 1
            status, _ = await post(client, clip)
            if status == 200:
                break
            await asyncio.sleep(1)
        return status, time.perf_counter() - started

    async def killer() -> None:
        while True:
            await asyncio.sleep(20)
            actors = list_named_actors(all_namespaces=True)
            victims = [actor for actor in actors if f"{APPLICATION}#Windowed" in actor["name"]]
            ray.kill(ray.get_actor(**random.choice(victims)))

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=60, limits=limits) as client:
        task = asyncio.create_task(killer())
        answers = await open_loop(persistent, saturation / 2, seconds)
        task.cancel()
        share = len(good(answers)) / len(answers)
        print(f"a replica killed every 20 s at half load: {100 * share:.2f} % of {len(answers)} succeed, {tries} tries")
        print(f"  slowest {at(good(answers), 1.0)}")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, connected("local"):
        model, clip = make_model(Path(name)), make_clip(Path(name))
        rates: dict[int, tuple[float, float]] = {}
        for batch_windows in (1, 8):
            print(f"-- batch_windows {batch_windows}")
            deploy(server_config(model, batch_windows=batch_windows))
            rates[batch_windows] = asyncio.run(measure(clip, seconds))
        print(f"-- sharing forward passes, {AT_ONCE} at a time: {rates[8][1] / rates[1][1]:.2f}x")
        print(f"-- {AT_ONCE} at a time that share them over one at a time: {rates[8][1] / rates[1][0]:.2f}x")
        asyncio.run(over_handle(clip, seconds))
        asyncio.run(overload(clip, rates[8][1], seconds))
        asyncio.run(killed(clip, rates[8][1], 3 * seconds))
        serve.shutdown()


if __name__ == "__main__":
    main()
