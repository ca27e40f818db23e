"""A server under load on loopback, in ratios within one run: batching, HTTP over a handle, overload, killed replicas.

    python benchmarks/serving.py [seconds per part]

Batching with a small network and a clip of eight seconds (128x64), so that the server is measured: with ``specknet``'s
own size on a CPU a batch of windows takes as long as its windows one after another. HTTP and kills with a shorter clip,
of which enough are answered to see one in a thousand fail. Overload with the shipped network on clips of 640x360, since
the load comes from the same cores: refusing costs as much as a small clip's network.
"""

import asyncio
import itertools
import os
import platform
import random
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

from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.serving.client import AsyncClient, ServerError
from specktrack.serving.config import ServerConfig
from specktrack.serving.health import APPLICATION
from specktrack.serving.server import deploy, quietly_connected
from specktrack.video import write_video

WH, FRAMES, LONG_FRAMES, PORT = (128, 64), 48, 240, 18555
AT_ONCE = 8
Answer = tuple[int, float]
"""Status and seconds."""


def make_model(folder: Path) -> str:
    torch.manual_seed(0)
    config = zoo.network_config({"name": "specknet", "frames_in": 8, "input_wh": WH, "widths": (16, 32, 64, 96)})
    save_model(folder / "small.safetensors", zoo.build(config).eval(), ModelCard(name="small", network=config))
    return str(folder / "small.safetensors")


def make_clip(folder: Path, wh: tuple[int, int], frames: int = FRAMES) -> bytes:
    """A spot that flies over a still scene."""
    scene = np.random.default_rng(0).integers(0, 60, (wh[1], wh[0], 3), dtype=np.uint8)

    def picture(i: int) -> np.ndarray:
        pixels = scene.copy()
        at = 10 + i % FRAMES
        pixels[at : at + 4, 2 * at : 2 * at + 4] = 250
        return pixels

    write_video(folder / "clip.mp4", (picture(i) for i in range(frames)), fps=30, wh=wh)
    return (folder / "clip.mp4").read_bytes()


def server_config(model: str, *, batch_windows: int = 8, replicas: int = 1) -> ServerConfig:
    room = {"max_ongoing_requests": AT_ONCE, "max_queued_requests": AT_ONCE}
    windowed = {"name": "Windowed", "num_replicas": replicas, "autoscaling_config": None, **room}
    gateway = {"name": "Gateway", "num_replicas": replicas, "autoscaling_config": None}
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
        answered, spent = {1: 0, AT_ONCE: 0}, {1: 0.0, AT_ONCE: 0.0}
        for clients in (1, AT_ONCE) * 4:  # in turns, so that a change of the machine's load meets both
            started = time.monotonic()
            answered[clients] += len(good(await closed_loop(call, clients, seconds / 4)))
            spent[clients] += time.monotonic() - started
        alone, together = (answered[clients] / spent[clients] for clients in (1, AT_ONCE))
        print(f"one at a time {alone:.1f} clips/s, {AT_ONCE} at a time {together:.1f} clips/s: {together / alone:.2f}x")
        return alone, together


async def over_handle(clip: bytes, seconds: float) -> None:
    """One after the other, so that a change of the machine's load meets both."""
    handle = serve.get_deployment_handle("Windowed", APPLICATION).options(multiplexed_model_id="small")

    async def through_handle() -> Answer:
        started = time.perf_counter()
        await handle.annotate.remote(clip, "small", "clip")
        return 200, time.perf_counter() - started

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client:
        await closed_loop(through_handle, 1, 2)
        direct: list[Answer] = []
        over_http: list[Answer] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            direct.append(await through_handle())
            over_http.append(await post(client, clip))
        for name, answers in (("handle", direct), ("HTTP", over_http)):
            print(f"{name}: p50 {at(good(answers), 0.5)}, p99 {at(good(answers), 0.99)} of {len(answers)}")


async def overload(clip: bytes, alone: float, saturation: float, seconds: float) -> None:
    limits = httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=60, limits=limits) as client:
        call = lambda: post(client, clip)  # noqa: E731
        await closed_loop(call, AT_ONCE, 3)
        started = time.monotonic()
        answers = await open_loop(call, 4 * saturation, seconds)
        spent, started = time.monotonic() - started, time.monotonic()
        refused = sorted(spent for status, spent in answers if status == 503)
        other = sum(status not in (200, 503) for status, _ in answers)
        goodput = len(good(answers)) / spent / saturation
        print(f"4x saturation: goodput {100 * goodput:.0f} %, {len(refused)} of {len(answers)} answered 503")
        print(f"  503 after p50 {at(refused, 0.5)}, p99 {at(refused, 0.99)}; other failures {other}")
        while (await call())[1] > 1.5 / alone:
            pass
        print(f"  answers as fast as one at a time, but for a half, {time.monotonic() - started:.1f} s afterwards")


async def killed(clip: bytes, per_s: float, seconds: float) -> None:
    """Through the project's client, which asks again. In turns a replica with networks and one of the ingress dies."""
    kills = 0

    async def killer() -> None:
        nonlocal kills
        for deployment in itertools.cycle(("Windowed", "Gateway")):
            await asyncio.sleep(20)
            actors = list_named_actors(all_namespaces=True)
            victims = [actor for actor in actors if f"{APPLICATION}#{deployment}" in actor["name"]]
            ray.kill(ray.get_actor(**random.choice(victims)))
            kills += 1

    async with AsyncClient(f"http://127.0.0.1:{PORT}", timeout_s=60) as client:

        async def persistent() -> Answer:
            started = time.perf_counter()
            try:
                await client.annotate(clip)
                return 200, time.perf_counter() - started
            except (ServerError, httpx.TransportError) as error:
                return getattr(error, "status", 0), time.perf_counter() - started

        task = asyncio.create_task(killer())
        answers = await open_loop(persistent, per_s, seconds)
        task.cancel()
    times = good(answers)
    share = 100 * len(times) / len(answers)
    print(f"one of two replicas killed every 20 s, {kills} in all: {share:.2f} % of {len(answers)} succeed")
    print(f"  p50 {at(times, 0.5)}, p99 {at(times, 0.99)}, slowest {at(times, 1.0)}")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, quietly_connected("local"):
        folder = Path(name)
        small, clip = make_model(folder), make_clip(folder, WH, LONG_FRAMES)
        rates: dict[int, tuple[float, float]] = {}
        for batch_windows in (1, 8):
            print(f"-- batch_windows {batch_windows}")
            deploy(server_config(small, batch_windows=batch_windows))
            rates[batch_windows] = asyncio.run(measure(clip, seconds))
        print(f"-- sharing forward passes, {AT_ONCE} at a time: {rates[8][1] / rates[1][1]:.2f}x")
        print(f"-- {AT_ONCE} at a time that share them over one at a time: {rates[8][1] / rates[1][0]:.2f}x")
        clip = make_clip(folder, WH)
        asyncio.run(over_handle(clip, 4 * seconds))
        deploy(server_config(small, replicas=2))
        _, together = asyncio.run(measure(clip, seconds))
        asyncio.run(killed(clip, together / 2, 20 * seconds))
        print(f"-- {zoo.DEFAULT_MODEL}")
        clip = make_clip(folder, (640, 360))
        deploy(server_config(zoo.DEFAULT_MODEL))
        alone, together = asyncio.run(measure(clip, seconds))
        asyncio.run(overload(clip, alone, together, 2 * seconds))
        serve.shutdown()


if __name__ == "__main__":
    main()
