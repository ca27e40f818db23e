"""What a server does when it is overloaded, fuzzed, killed or restarted; minutes, so `make test-slow` runs it."""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import ray.serve
import ray.util
from tests.annotating import make_video
from tests.ports import free_port
from tests.ray.fuzzing import fuzz
from tests.ray.test_serve import KEY, encoded_pictures, folder

from specktrack.ledger import read_annotations
from specktrack.schema import Box
from specktrack.serving.application import SCALING
from specktrack.serving.client import Client, ServerError
from specktrack.serving.config import Access, Limits, ServerConfig
from specktrack.serving.server import deploy

__all__ = ["folder"]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("ray_local")]


@pytest.fixture
def server(ray_local: None, folder: Path) -> Iterator[Callable[..., str]]:
    """Starts, or starts again, a server with settings of its own for a deployment; its URL."""
    port = free_port()

    def start(name: str = "Windowed", *, models: tuple[str, ...] = ("tiny", "boxes"), **changed: Any) -> str:
        config = ServerConfig(
            port=port,
            models=tuple(str(folder / f"{model}.safetensors") for model in models),
            limits=Limits(body_bytes=20_000_000, session_idle_s=20.0),
            access=Access(
                api_keys_file=str(folder / "keys"), sources=(str(folder / "videos"),), outputs=(str(folder / "out"),)
            ),
            deployments=({"name": name, **changed},) if changed else (),
        )
        deploy(config)
        return f"http://127.0.0.1:{port}"

    yield start
    ray.serve.shutdown()


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


async def ask(url: str, count: int, *, tries: int = 1) -> list[tuple[int, float]]:
    """(status, seconds) of so many clips asked for at once, a failure being repeated after a second."""
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120, limits=limits
    ) as http:

        async def one() -> tuple[int, float]:
            for attempt in range(tries):
                started = time.perf_counter()
                try:
                    answer = await http.post("/v1/annotate", json={"uri": "v0.mp4"})
                    status = answer.status_code
                    assert status != 503 or answer.headers["retry-after"]
                except httpx.TransportError:
                    status = 0
                if status == 200 or attempt + 1 == tries:
                    break
                await asyncio.sleep(random.uniform(0.5, 1.5))
            return status, time.perf_counter() - started

        return await asyncio.gather(*(one() for _ in range(count)))


def replicas(name: str = "Windowed") -> int:
    deployment = ray.serve.status().applications["specktrack"].deployments[name]
    return deployment.replica_states.get("RUNNING", 0)


def until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class TestLoad:
    def test_what_is_too_much_is_refused_at_once_and_the_rest_is_answered(self, server: Callable[..., str]) -> None:
        url = server(max_ongoing_requests=2, max_queued_requests=4, num_replicas=1, autoscaling_config=None)
        statuses = Counter(status for status, _ in asyncio.run(ask(url, 60)))
        assert statuses.keys() == {200, 503} and statuses[200] >= 6 and statuses[503] >= 30
        assert {status for status, _ in asyncio.run(ask(url, 3, tries=20))} == {200}

    def test_what_finds_no_place_in_the_ingress_is_told_when_to_come_again(self, server: Callable[..., str]) -> None:
        url = server("Gateway", max_ongoing_requests=1, max_queued_requests=1, num_replicas=1, autoscaling_config=None)
        statuses = Counter(status for status, _ in asyncio.run(ask(url, 30)))  # which looks at Retry-After
        assert statuses.keys() == {200, 503}

    def test_replicas_come_under_load_and_go_after_it(self, server: Callable[..., str]) -> None:
        scaling = {
            "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2, "upscale_delay_s": 1,
            "downscale_delay_s": 3, "metrics_interval_s": 0.5, "look_back_period_s": 2,
        }  # fmt: skip
        url = server(autoscaling_config=scaling, max_ongoing_requests=8, max_queued_requests=-1)
        assert replicas() == 1
        end, seen = time.monotonic() + 120, 1
        while seen < 2 and time.monotonic() < end:
            assert {status for status, _ in asyncio.run(ask(url, 24))} == {200}
            seen = max(seen, replicas())
        assert seen == 2
        until(lambda: replicas() == 1, 120)


class TestSessions:
    def test_they_bring_replicas_spread_stay_where_they_are_and_keep_them(
        self, server: Callable[..., str], folder: Path
    ) -> None:
        scaling = {
            "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2, "upscale_delay_s": 1,
            "downscale_delay_s": 3, "metrics_interval_s": 0.5, "look_back_period_s": 1,
        }  # fmt: skip
        box, pictures = Box(cx_px=12, cy_px=12, w_px=8, h_px=8), encoded_pictures(folder / "videos" / "v0.mp4")
        with Client(server("Template", autoscaling_config={**SCALING, **scaling}), key=KEY, tries=1) as following:
            first = [following.open_session(pictures[0], box) for _ in range(3)]
            until(lambda: replicas("Template") == 2, 60)  # three that rest are more than two requests
            time.sleep(2.5)  # what a replica holds is known after a second
            other = following.open_session(pictures[0], box)
            assert [home(each) for each in first] == [home(first[0])] * 3 and home(other) != home(first[0])
            for each in first[1:]:
                following.close_session(each.id)
            rows: dict[str, list[Any]] = {first[0].id: [], other.id: []}
            for picture in pictures[1:11]:  # two sessions, for which one replica would do
                for key, followed in rows.items():
                    followed += following.push_frames(key, [picture])
                time.sleep(1)
            assert replicas("Template") == 2 and rows[first[0].id] == rows[other.id]
            assert [row.frame for row in rows[other.id]] == list(range(1, 11))
            for key in rows:
                following.close_session(key)
            until(lambda: replicas("Template") == 1, 60)


def home(session: Any) -> str:
    """The replica that a session lives on."""
    return session.id.split(".")[1]


class TestBatches:
    def test_it_tells_how_far_it_is_stops_when_told_and_goes_on_and_its_replica_comes_and_goes(
        self, server: Callable[..., str], folder: Path
    ) -> None:
        for i in range(3):
            make_video(folder / "videos" / "long" / f"l{i}.mp4", 3000, seed=i)
        asked = {"sources": ["long"], "output": "stopped"}
        scaling = {
            "min_replicas": 0, "max_replicas": 1, "target_ongoing_requests": 1.2, "upscale_delay_s": 0,
            "downscale_delay_s": 3, "metrics_interval_s": 0.5, "look_back_period_s": 1,
        }  # fmt: skip
        with client(server("Batches", autoscaling_config=scaling)) as http:
            assert replicas("Batches") == 0
            key = http.post("/v1/batches", json=asked).json()["id"]
            seen: list[dict[str, Any]] = []

            def now() -> dict[str, Any]:
                seen.append(http.get(f"/v1/batches/{key}").json())
                return seen[-1]

            until(lambda: now()["done"] > 0, 120)
            assert replicas("Batches") == 1
            clips = seen[-1]["clips"]
            assert seen[-1]["done"] < clips and seen[-1]["inside"] and 0 < seen[-1]["frames"] < 9000
            assert http.delete(f"/v1/batches/{key}").status_code == 202
            until(lambda: now()["state"] == "cancelled", 60)
            stopped = seen[-1]
            assert stopped["done"] < clips and stopped["error"] is None
            key = http.post("/v1/batches", json=asked).json()["id"]
            until(lambda: now()["state"] == "done", 200)
            assert (seen[-1]["done"], seen[-1]["rows"]) == (clips, 9000)
            assert 0 < seen[-1]["frames"] <= 9000 - stopped["frames"], "what was done before is not done again"
            until(lambda: replicas("Batches") == 0, 60)

    def test_a_large_one_stops_too_and_leaves_no_actors(self, server: Callable[..., str], folder: Path) -> None:
        for i in range(6):
            make_video(folder / "videos" / "large" / f"l{i}.mp4", 3000, seed=i)
        asked = {"sources": ["large"], "output": "large"}
        with client(server()) as http:
            key = http.post("/v1/batches", json=asked).json()["id"]
            until(lambda: http.get(f"/v1/batches/{key}").json()["done"] > 0, 120)
            assert http.delete(f"/v1/batches/{key}").json()["inside"] is False
            until(lambda: http.get(f"/v1/batches/{key}").json()["state"] == "cancelled", 60)
            said = http.get(f"/v1/batches/{key}").json()
            assert 0 < said["done"] < said["clips"] and said["error"] is None
            until(lambda: ray.available_resources().get("CPU", 0) >= 3, 30)  # of four; Windowed has one


class TestDeaths:
    def test_clips_are_answered_although_replicas_are_killed(self, server: Callable[..., str]) -> None:
        url = server(num_replicas=2, autoscaling_config=None, max_queued_requests=-1)
        answers: list[tuple[int, float]] = []
        for _ in range(3):
            actors = ray.util.list_named_actors(all_namespaces=True)
            victim = random.choice([actor for actor in actors if "specktrack#Windowed" in actor["name"]])
            ray.kill(ray.get_actor(**victim))
            answers += asyncio.run(ask(url, 40, tries=30))
        assert Counter(status for status, _ in answers) == {200: 120}

    def test_a_batch_goes_on_after_the_server_was_restarted_and_can_be_cancelled(
        self, server: Callable[..., str], folder: Path
    ) -> None:
        for i in range(12):
            make_video(folder / "videos" / "many" / f"m{i}.mp4", 60, seed=i)
        url = server()
        with client(url) as http:
            asked = http.post("/v1/batches", json={"sources": ["many"], "output": "many"}).json()
            until(lambda: http.get(f"/v1/batches/{asked['id']}").json()["state"] == "running", 120)
        ray.serve.shutdown()
        url = server()
        with client(url) as http:
            until(lambda: http.get(f"/v1/batches/{asked['id']}").json()["state"] == "done", 300)
            said = http.get(f"/v1/batches/{asked['id']}").json()
            assert (said["rows"], said["runs"], said["inside"]) == (12 * 60, 2, False)
            assert read_annotations(str(folder / "out" / "many")).num_rows == 12 * 60
            other = http.post("/v1/batches", json={"sources": ["many"], "output": "never"}).json()
            assert http.delete(f"/v1/batches/{other['id']}").status_code == 202
            until(lambda: http.get(f"/v1/batches/{other['id']}").json()["state"] == "cancelled", 120)

    def test_a_session_whose_replica_was_killed_is_gone_and_says_so(
        self, server: Callable[..., str], folder: Path
    ) -> None:
        picture = encoded_pictures(folder / "videos" / "v0.mp4")[0]
        with Client(server(), key=KEY, tries=1) as following:
            box = Box(cx_px=12, cy_px=12, w_px=8, h_px=8)
            opened = following.open_session(picture, box, model="boxes")
            assert following.push_frames(opened.id, [picture])
            actors = ray.util.list_named_actors(all_namespaces=True)
            (home,) = [actor for actor in actors if "specktrack#Template" in actor["name"]]
            ray.kill(ray.get_actor(**home))
            deadline = time.monotonic() + 120
            while True:
                assert time.monotonic() < deadline
                with pytest.raises(ServerError) as refused:
                    following.push_frames(opened.id, [picture])
                if refused.value.status == 410:
                    break
                assert refused.value.status == 503, refused.value
                time.sleep(0.5)
            assert "open a new session" in str(refused.value)

    def test_a_client_that_leaves_frees_its_place(self, server: Callable[..., str], folder: Path) -> None:
        """The only place is taken by a clip of minutes; the next clip waits for it, and not for minutes."""
        make_video(folder / "videos" / "long.mp4", 30_000)
        url = server(num_replicas=1, autoscaling_config=None, max_ongoing_requests=1, max_queued_requests=1)
        assert asyncio.run(ask(url, 1))[0][0] == 200  # whatever is slow the first time
        host, port = url.removeprefix("http://").split(":")
        body = b'{"uri": "long.mp4"}'
        with socket.create_connection((host, int(port)), 20) as hasty:
            hasty.sendall(
                f"POST /v1/annotate HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            time.sleep(3)
            with pytest.raises(TimeoutError):
                asyncio.run(asyncio.wait_for(ask(url, 1), 3))
        ((status, seconds),) = asyncio.run(ask(url, 1))
        assert status == 200 and seconds < 10


def test_an_application_that_replaces_another_has_replaced_it_when_it_is_said_to_be_ready(
    server: Callable[..., str],
) -> None:
    server()
    with client(server(models=("tiny",))) as http:
        assert [[model["name"] for model in http.get("/v1/models").json()] for _ in range(10)] == [["tiny"]] * 10


def test_2000_requests_are_no_server_error(server: Callable[..., str]) -> None:
    statuses = fuzz(server(), KEY, 2_200)
    assert sum(statuses.values()) >= 2_000 and max(statuses) < 500, statuses
