"""A whole server on a local Ray: real HTTP, real replicas, rows equal to those of annotate."""

import asyncio
import io
import json
import queue
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
import ray.serve
import torch
import websockets
from PIL import Image
from tests.annotating import WH, make_video
from tests.ports import free_port
from tests.ray.browser import CHROMIUM, DRIVER, Browser, browser
from tests.ray.fuzzing import fuzz
from tests.test_template_tracking import tiny as tiny_template_model
from websockets.sync.client import connect

from specktrack.annotating import annotate_here
from specktrack.datasets.row_files import rows_at
from specktrack.frames import concat
from specktrack.ledger import read_annotations
from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, load_model, save_model
from specktrack.models.inference import fast_dtype
from specktrack.schema import Box, Clip, Prompt
from specktrack.serving.client import AsyncClient, Client, LiveRows, ServerError
from specktrack.serving.config import Access, Limits, ServerConfig
from specktrack.serving.server import deploy
from specktrack.serving.webhooks import signature
from specktrack.storage import stat
from specktrack.tracking.tracker import open_session
from specktrack.video.unconfined import read_clip

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

KEY, SECRET = "a-key-for-these-tests-only", b"a-secret-for-these-tests-only"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    torch.manual_seed(0)
    small = zoo.network_config({"name": "specknet", "frames_in": 4, "input_wh": WH, "widths": (4, 8, 8, 8)})
    still = zoo.network_config({"name": "tracknet-v3", "frames_in": 2, "input_wh": WH})
    for name, config in {"tiny": small, "other": small, "still": still}.items():
        network = zoo.build(config)  # weights that find something everywhere: any change of the rows shows
        torch.nn.init.normal_(network.get_parameter("head.weight"))
        torch.nn.init.constant_(network.get_parameter("head.bias"), 0.5)
        save_model(folder / f"{name}.safetensors", network.eval(), ModelCard(name=name, network=config))
    boxes = tiny_template_model()
    save_model(folder / "boxes.safetensors", boxes.network, ModelCard(name="boxes", network=boxes.config))
    for seed in range(3):
        make_video(folder / "videos" / f"v{seed}.mp4", 40 + 7 * seed, seed=seed)
    (folder / "keys").write_text(f"{KEY}\n")
    (folder / "secret").write_bytes(SECRET)
    return folder


@pytest.fixture(scope="module")
def slow_host() -> Iterator["SlowHost"]:
    """A host whose clip comes a byte at a time."""
    with SlowHost() as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.05,))
        thread.start()
        yield host
        host.released.set()
        host.shutdown()
        thread.join()


class SlowHost(ThreadingHTTPServer):
    """Counts who came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlowAnswer)
        self.came, self.released = threading.Semaphore(0), threading.Event()


class SlowAnswer(BaseHTTPRequestHandler):
    server: SlowHost

    def do_GET(self) -> None:
        self.server.came.release()
        self.send_response(200)
        self.end_headers()
        while not self.server.released.wait(0.3):
            self.wfile.write(b"x")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator["Receiver"]:
    """A host that is told of the ends of batches."""
    with Receiver() as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.05,))
        thread.start()
        yield host
        host.shutdown()
        thread.join()


class Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverAnswer)
        self.told: queue.Queue[tuple[Any, bytes]] = queue.Queue()


class ReceiverAnswer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.told.put((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def server(ray_local: None, folder: Path, slow_host: SlowHost, receiver: Receiver) -> Iterator[str]:
    """URL of a server with four models."""
    config = ServerConfig(
        port=free_port(),
        models=tuple(str(folder / f"{name}.safetensors") for name in ("tiny", "other", "boxes", "still")),
        limits=Limits(body_bytes=2_000_000, stall_s=6.0, frames=400, session_idle_s=30.0),
        access=Access(
            api_keys_file=str(folder / "keys"),
            sources=(str(folder / "videos"),),
            outputs=(str(folder / "out"),),
            hosts=(f"127.0.0.1:{slow_host.server_port}",),
            webhooks=(f"127.0.0.1:{receiver.server_port}",),
            webhook_key_file=str(folder / "secret"),
            origins=("https://example.org",),
            schemes=("https", "http"),
            networks=("127.0.0.0/8",),
        ),
    )
    deploy(config)
    yield f"http://127.0.0.1:{config.port}"
    ray.serve.shutdown()


@pytest.fixture
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, headers={"Authorization": f"Bearer {KEY}"}, timeout=120) as client:
        yield client


def expected_rows(folder: Path, video: str, model: str = "tiny", **settings: Any) -> list[dict[str, Any]]:
    """What annotate says, as plain rows without the video's name."""
    rows = annotate_here(folder / "videos" / video, model=folder / f"{model}.safetensors", device="cpu", **settings)
    assert rows["x"].null_count < rows.num_rows / 2
    return rows.drop_columns("video").to_pylist()


def encoded_pictures(video: Path) -> list[bytes]:
    """The frames of a video as PNG, at their own size."""
    encoded = []
    with read_clip(Clip(video=stat(str(video)), start=0, stop=40)) as reader:
        for batch in reader:
            for pixels in batch.pixels:
                sink = io.BytesIO()
                Image.fromarray(pixels).save(sink, "PNG")
                encoded.append(sink.getvalue())
    return encoded


def stream_url(server: str, **query: object) -> str:
    return f"ws{server.removeprefix('http')}/v1/stream?" + "&".join(f"{key}={value}" for key, value in query.items())


def follow(url: str, pictures: list[bytes], **options: Any) -> list[dict[str, Any]]:
    """The rows of a stream to its end."""
    rows: list[dict[str, Any]] = []
    with connect(url, subprotocols=[websockets.Subprotocol(f"bearer.{KEY}")], **options) as socket_:
        for picture in pictures:
            socket_.send(picture)
        socket_.send('{"end": true}')
        while True:
            said = json.loads(socket_.recv(timeout=120))
            rows += [row for row in said.get("rows", []) if row.pop("final")]
            if said.get("done") or "problem" in said:
                assert "problem" not in said, said
                assert said["frames"] == len(pictures)
                return rows


def wait_for(http: httpx.Client, batch: str, *states: str) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while (said := http.get(f"/v1/batches/{batch}").json())["state"] not in states:
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    return said


class TestClips:
    def test_rows_are_those_of_annotate_in_every_format(self, http: httpx.Client, folder: Path) -> None:
        video, expected = folder / "videos" / "v1.mp4", expected_rows(folder, "v1.mp4")
        with video.open("rb") as file:
            answer = http.post("/v1/annotate", files={"clip": ("../my clip.mp4", file)})
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["video"], said["model"], said["frames"], said["width"]) == ("my clip.mp4", "tiny", 47, WH[0])
        assert said["rows"] == expected and answer.headers["x-request-id"]
        for kind, read in {
            "application/vnd.apache.parquet": lambda data: pq.read_table(io.BytesIO(data)),
            "application/vnd.apache.arrow.stream": lambda data: pa.ipc.open_stream(data).read_all(),
            "text/csv": lambda data: pa.csv.read_csv(io.BytesIO(data)),
        }.items():
            headers = {"Accept": kind, "Content-Type": "video/mp4", "X-Request-ID": "mine"}
            answer = http.post("/v1/annotate", content=video.read_bytes(), headers=headers)
            assert answer.headers["content-type"].partition(";")[0] == kind and answer.headers["x-request-id"] == "mine"
            rows = read(answer.content)
            assert rows["frame"].to_pylist() == list(range(47))
            if kind != "text/csv":
                assert rows.schema.metadata[b"model"] == b"tiny"
                assert rows.drop_columns("video").to_pylist() == expected

    def test_a_request_chooses_how_its_clip_is_read(self, server: str, http: httpx.Client, folder: Path) -> None:
        video = folder / "videos" / "v0.mp4"
        expected = expected_rows(folder, "v0.mp4", overlap=1)
        assert expected != expected_rows(folder, "v0.mp4")
        clip = {"clip": ("clip.mp4", video.read_bytes())}
        for given in (
            {"params": {"overlap": 1}, "files": clip}, {"data": {"overlap": "1"}, "files": clip},
            {"json": {"uri": "v0.mp4", "overlap": 1}},
            {"json": {"uri": "v0.mp4", "overlap": 4}, "params": {"overlap": 1}},
        ):  # fmt: skip
            assert http.post("/v1/annotate", **given).json()["rows"] == expected, given
        with Client(server, key=KEY) as client:
            table = client.annotate(video, overlap=1, input_wh=(192, 96), decoding="largest-box")
        small = expected_rows(folder, "v0.mp4", overlap=1, input_wh=(192, 96), decoding="largest-box")
        assert table.drop_columns("video").to_pylist() == small
        assert follow(stream_url(server, fps=30, overlap=1), encoded_pictures(video)) == expected
        for given, said in (
            ({"overlap": 9}, "at most 8"), ({"input_wh": "1600x912"}, "at most 1,000,000 pixels"),
            ({"input_wh": "640,361"}, "use 640,368"), ({"overlp": 1}, "overlp"),
        ):  # fmt: skip
            answer = http.post("/v1/annotate", params=given, json={"uri": "v0.mp4"})
            assert answer.status_code == 422 and said in answer.json()["detail"], answer.text

    def test_rows_are_told_as_they_become_final_in_two_formats(self, http: httpx.Client, folder: Path) -> None:
        expected, sent = expected_rows(folder, "v2.mp4"), {"json": {"uri": "v2.mp4"}}
        with http.stream("POST", "/v1/annotate", headers={"Accept": "application/x-ndjson"}, **sent) as answer:
            lines = [json.loads(line) for line in answer.iter_lines()]
        assert (lines[0]["event"], lines[0]["frames"], lines[0]["video"]) == ("clip", 54, "v2.mp4")
        assert lines[-1] == {"event": "end", "decode_errors": 0}
        assert [line for line in lines if "event" not in line] == expected
        answer = http.post("/v1/annotate", headers={"Accept": "application/vnd.apache.arrow.stream"}, **sent)
        rows = pa.ipc.open_stream(answer.content).read_all()
        assert rows.drop_columns("video").to_pylist() == expected and rows.schema.metadata[b"model"] == b"tiny"
        headers = {"Accept": "application/x-ndjson", "Content-Type": "video/mp4"}
        answer = http.post("/v1/annotate", content=b"no video", headers=headers)
        assert answer.status_code == 422 and "no video format" in answer.json()["detail"], "known before the first row"

    def test_rows_of_a_range_are_those_of_the_whole_clip(self, http: httpx.Client, folder: Path) -> None:
        expected = expected_rows(folder, "v1.mp4")
        for params, span in (({"start": 13, "stop": 31}, slice(13, 31)), ({"start": 40, "stop": 900}, slice(40, None))):
            said = http.post("/v1/annotate", params=params, json={"uri": "v1.mp4"}).json()
            assert said["rows"] == expected[span] and said["frames"] == 47
        for params, said in (({"start": 47}, "ends before"), ({"start": 5, "stop": 5}, "no frames from start=5")):
            answer = http.post("/v1/annotate", params=params, json={"uri": "v1.mp4"})
            assert answer.status_code == 422 and said in answer.json()["detail"], answer.text

    @pytest.mark.parametrize("model", ["boxes", "tiny"])
    def test_boxes_in_any_frame_say_what_is_followed_in_both_directions(
        self, server: str, http: httpx.Client, folder: Path, model: str
    ) -> None:
        video = folder / "videos" / "v0.mp4"
        weights = str(folder / f"{model}.safetensors")
        later = ("20,32,30,8,8", "5,17,25,8,8") if model == "tiny" else ("20,32,30,8,8",)
        for prompt, span in ((("0,12,12,8,8",), None), (later, (3, 30))):
            rows = annotate_here(video, model=weights, device="cpu", prompt=prompt).drop_columns("video").to_pylist()
            asked: dict[str, Any] = {"model": model, "prompt": list(prompt)}
            if span is not None:
                rows = [row for row in rows if row["frame"] in range(*span)]
                asked |= {"start": span[0], "stop": span[1]}
            said = http.post("/v1/annotate", params=asked, json={"uri": "v0.mp4"}).json()
            assert said["rows"] == rows, prompt
        with Client(server, key=KEY) as client:
            assert client.annotate(video, **asked).drop_columns("video").to_pylist() == rows
        for prompt, what in (
            ("40,1,1,4,4", "not among the video's 40"),
            ("0,1,1,4", "not a prompt"),
            ("0,500,1,4,4", "500"),
        ):
            answer = http.post("/v1/annotate", params={"model": model, "prompt": prompt}, json={"uri": "v0.mp4"})
            assert answer.status_code == 422 and what in answer.json()["detail"], answer.text

    def test_a_path_below_the_sources_is_read_and_no_other(self, http: httpx.Client, folder: Path) -> None:
        answer = http.post("/v1/annotate", json={"uri": "v0.mp4", "model": "other"})
        assert answer.json()["rows"] == expected_rows(folder, "v0.mp4", "other")
        for uri in ("../keys", "/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "https://example.org/a"):
            answer = http.post("/v1/annotate", json={"uri": uri})
            assert answer.status_code == 403 and answer.headers["content-type"] == "application/problem+json"

    def test_slow_hosts_of_clips_keep_nobody_else_waiting(self, http: httpx.Client, slow_host: SlowHost) -> None:
        uri = f"http://127.0.0.1:{slow_host.server_port}/clip.mp4"
        with ThreadPoolExecutor(8) as pool:
            slow = [pool.submit(http.post, "/v1/annotate", json={"uri": uri}) for _ in range(8)]
            assert all(slow_host.came.acquire(timeout=60) for _ in slow), "all are fetched at once"
            assert http.post("/v1/annotate", json={"uri": "v0.mp4"}).status_code == 200
            assert not any(each.done() for each in slow)
            slow_host.released.set()
            assert {each.result().status_code for each in slow} == {422}  # what came is no video

    def test_clips_of_two_models_at_once_share_forward_passes_and_keep_their_rows(
        self, http: httpx.Client, folder: Path
    ) -> None:
        asked = [(f"v{i % 3}.mp4", ("tiny", "other")[i % 2]) for i in range(12)]
        expected = {each: expected_rows(folder, *each) for each in set(asked)}
        with ThreadPoolExecutor(12) as pool:
            answers = list(
                pool.map(lambda each: http.post("/v1/annotate", json={"uri": each[0], "model": each[1]}), asked)
            )
        assert [answer.status_code for answer in answers] == [200] * 12
        assert all(answer.json()["rows"] == expected[each] for each, answer in zip(asked, answers, strict=True))

    def test_a_clip_s_background_is_that_of_annotate_and_a_stream_s_is_a_running_one(
        self, server: str, http: httpx.Client, folder: Path
    ) -> None:
        expected = expected_rows(folder, "v0.mp4", "still")
        answer = http.post("/v1/annotate", json={"uri": "v0.mp4", "model": "still"})
        assert answer.json()["rows"] == expected
        pictures = encoded_pictures(folder / "videos" / "v0.mp4")
        rows = follow(stream_url(server, fps=30, model="still"), pictures)
        assert [row["frame"] for row in rows] == list(range(40)) and rows != expected

    @pytest.mark.parametrize(
        ("sent", "status", "said"),
        [
            ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "send multipart/form-data"),
            ({"content": b"", "headers": {"Content-Type": "video/mp4"}}, 422, "no bytes"),
            ({"content": b"no video", "headers": {"Content-Type": "video/mp4"}}, 422, "no video format"),
            ({"content": b"x" * 2_100_000, "headers": {"Content-Type": "video/mp4"}}, 413, "2,000,000 bytes"),
            ({"json": {"uri": "v0.mp4", "model": "nobody"}}, 404, "there are: tiny, other, boxes, still"),
            ({"json": {"uri": "v0.mp4", "frames": 1}}, 422, "unknown key 'frames'"),
            ({"json": {"uri": 7}}, 422, "uri"),
            ({"json": {"uri": "gone.mp4"}}, 422, "no such video: 'gone.mp4'"),
            ({"content": b'{"uri": NaN}', "headers": {"Content-Type": "application/json"}}, 400, "not JSON"),
            ({"files": {"film": ("a.mp4", b"x")}}, 400, "named 'clip'"),
            ({"json": {"uri": "v0.mp4"}, "headers": {"Accept": "image/png"}}, 406, "accept one of"),
            ({"json": {"uri": "v0.mp4"}, "headers": {"Authorization": "Bearer wrong"}}, 401, "valid key"),
            ({"json": {"uri": "v0.mp4"}, "params": {"key": KEY}, "headers": {"Authorization": ""}}, 401, "valid key"),
        ],
    )
    def test_what_is_refused_says_why(self, http: httpx.Client, sent: dict[str, Any], status: int, said: str) -> None:
        answer = http.post("/v1/annotate", **sent)
        problem = answer.json()
        assert (answer.status_code, problem["status"]) == (status, status), problem
        assert said in problem["detail"] and answer.headers["content-type"] == "application/problem+json"

    def test_a_body_that_stalls_is_given_up(self, server: str) -> None:
        host, port = server.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 120) as slow:
            slow.sendall(
                f"POST /v1/annotate HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
                "Content-Type: video/mp4\r\nContent-Length: 1000\r\n\r\nfew".encode()
            )
            assert b" 408 " in slow.recv(100)


class TestStreams:
    def test_rows_are_those_of_annotate(self, server: str, folder: Path) -> None:
        pictures = encoded_pictures(folder / "videos" / "v0.mp4")
        rows = follow(stream_url(server, fps=30), pictures)
        assert rows == expected_rows(folder, "v0.mp4")

    def test_rows_come_before_they_are_final_and_again_when_they_are(self, server: str, folder: Path) -> None:
        pictures, told = encoded_pictures(folder / "videos" / "v0.mp4"), list[LiveRows]()
        with Client(server, key=KEY) as client:
            told.extend(client.stream(pictures, fps=30, provisional=True, delay="low"))
        rows = [row for message in told for row in message]
        final = [row.model_dump(exclude={"final"}) for row in rows if row.final]
        assert final == expected_rows(folder, "v0.mp4", delay="low") and final != expected_rows(folder, "v0.mp4")
        first = {row.frame: row.final for row in reversed(rows)}
        assert not all(first.values()) and list(reversed(first)) == sorted(first), "in order, and not yet final"
        assert told[-1].done and (told[-1].frames, told[-1].dropped) == (40, 0) and told[-1].lag_s is not None

    def test_what_comes_too_fast_is_dropped_and_counted(self, server: str, folder: Path) -> None:
        pictures = encoded_pictures(folder / "videos" / "v0.mp4")
        with Client(server, key=KEY) as client:
            told = list(client.stream(pictures * 5, fps=30, drop="newest"))
        rows = [row for message in told for row in message]
        assert told[-1].frames == 200 and told[-1].dropped == 200 - len(rows) > 0
        assert [row.frame for row in rows] == sorted({row.frame for row in rows}) and rows[-1].frame == 199
        assert all(row.pts_s == row.frame / 30 for row in rows)

    def test_a_fault_is_told_before_the_connection_is_closed(self, server: str) -> None:
        for query, message, status, said in (
            ({"model": "nobody"}, b"", 404, "no such model"),
            ({"fps": -1}, b"", 422, "fps='-1': input should be greater than 0"),
            ({"overlap": 9}, b"", 422, "more windows per frame than this server allows"),
            ({}, b"no picture", 422, "not a readable picture"),
            ({}, "no end", 400, "text message"),
        ):
            with connect(stream_url(server, **query), additional_headers={"Authorization": f"Bearer {KEY}"}) as socket_:
                if message:
                    socket_.send(message)
                problem = json.loads(socket_.recv(timeout=120))["problem"]
                assert problem["status"] == status and said in problem["detail"]
                with pytest.raises(websockets.ConnectionClosed):
                    socket_.recv(timeout=120)

    def test_no_key_and_other_sites_are_refused_at_the_handshake(self, server: str) -> None:
        for headers in ({}, {"Authorization": f"Bearer {KEY}", "Origin": "https://evil.example"}):
            with (
                pytest.raises(websockets.InvalidStatus, match="403"),
                connect(stream_url(server), additional_headers=headers),
            ):
                pass


class TestSessions:
    def test_a_box_is_followed_as_by_a_session_in_this_process(self, server: str, folder: Path) -> None:
        video, box = folder / "videos" / "v0.mp4", Box(cx_px=12, cy_px=12, w_px=8, h_px=8)
        session = open_session(load_model(folder / "boxes.safetensors"), prompt=Prompt(frame=0, box=box), device="cpu")
        with read_clip(Clip(video=stat(str(video)), start=0, stop=40)) as reader:
            expected = concat([*map(session.push, reader), session.finish()]).to_rows("v").drop_columns("video")
        first, *others = encoded_pictures(video)
        with Client(server, key=KEY) as client:
            opened = client.open_session(first, box, model="boxes", fps=30)
            rows = [
                *opened.rows,
                *client.push_frames(opened.id, others[:10]),
                *client.push_frames(opened.id, others[10:]),
            ]
            rows += client.close_session(opened.id)
            assert [row.model_dump() for row in rows] == expected.to_pylist() and rows[5].w is not None
            with pytest.raises(ServerError, match="no such session"):
                client.push_frames(opened.id, others[:1])
            with pytest.raises(ServerError, match="give prompt=frame"):
                client.annotate(video, model="boxes")
            with pytest.raises(ServerError, match="not a readable picture"):
                client.open_session(b"no picture", box, model="boxes")

    @pytest.mark.slow
    def test_one_that_nobody_sends_frames_to_is_closed(self, http: httpx.Client, folder: Path) -> None:
        picture = encoded_pictures(folder / "videos" / "v0.mp4")[0]
        opened = open_session_at(http, picture, 12, 12, 4, 4)
        route, sent = f"/v1/sessions/{opened.json()['id']}/frames", {"Content-Type": "image/png"}
        time.sleep(opened.json()["idle_s"] / 2)
        assert http.post(route, content=picture, headers=sent).status_code == 200
        time.sleep(opened.json()["idle_s"] + 7)  # the replica looks every five seconds
        answer = http.post(route, content=picture, headers=sent)
        assert answer.status_code == 404 and "idle for too long" in answer.json()["detail"]

    def test_a_box_for_a_model_that_takes_none_is_refused(self, http: httpx.Client, folder: Path) -> None:
        picture = encoded_pictures(folder / "videos" / "v0.mp4")[0]
        answer = open_session_at(http, picture, 12, 12, 4, 4, model="tiny")
        assert answer.status_code == 422 and "a model that takes a box: 'tiny'; there are: boxes" in answer.text
        for key in ("x", "w.gone.abc", "w..", "t.x.y"):
            answer = http.post(f"/v1/sessions/{key}/frames", content=picture, headers={"Content-Type": "image/png"})
            assert answer.status_code in (404, 410), answer.text

    def test_a_box_that_no_object_can_have_is_refused_and_the_replica_lives(
        self, http: httpx.Client, folder: Path
    ) -> None:
        picture = encoded_pictures(folder / "videos" / "v0.mp4")[0]
        for box, said in (
            ((12, 12, 1e200, 1e200), "larger than the frame"),
            ((12, 12, 8000, 8000), "larger than the frame"),
            ((12, 12, 1e-300, 5), "below 0.1 px"),
            ((1e300, 12, 4, 4), "outside the frame"),
            ((12, 12, float("inf"), 4), "w_px"),
            ((float("nan"), 12, 4, 4), "cx_px"),
            ((12, 12, -1, 4), "w_px"),
        ):
            answer = open_session_at(http, picture, *box)
            assert answer.status_code == 422 and said in answer.json()["detail"], answer.text
        opened = open_session_at(http, picture, 12, 12, 4, 4)  # the first model that takes a box
        assert opened.status_code == 201 and opened.json()["model"] == "boxes", opened.text
        assert http.delete(f"/v1/sessions/{opened.json()['id']}").status_code == 200


def open_session_at(
    http: httpx.Client, picture: bytes, cx: float, cy: float, w: float, h: float, **rest: str
) -> httpx.Response:
    box = json.dumps({"cx_px": cx, "cy_px": cy, "w_px": w, "h_px": h})
    return http.post("/v1/sessions", files={"frame": ("f.png", picture)}, data={"box": box, **rest})


class TestBatches:
    def test_rows_are_those_of_annotate_and_the_replica_comes_and_goes(self, http: httpx.Client, folder: Path) -> None:
        asked = {"sources": ["v0.mp4", "v1.mp4"], "output": "one", "overlap": 4}
        answer = http.post("/v1/batches", json=asked)
        assert answer.status_code == 202, answer.text
        said = wait_for(http, answer.json()["id"], "done", "failed")
        assert (said["state"], said["clips"], said["done"], said["rows"]) == ("done", 2, 2, 87)
        assert answer.headers["location"] == f"/v1/batches/{said['id']}"
        rows = read_annotations(str(folder / "out" / "one"))
        for video in ("v0.mp4", "v1.mp4"):
            own = rows.filter(pc.ends_with(rows["video"], video)).drop_columns("video").to_pylist()
            assert own == expected_rows(folder, video, overlap=4)
        again = http.post("/v1/batches", json={"sources": ["v0.mp4"], "output": "one", "model": "other"}).json()
        failed = wait_for(http, again["id"], "done", "failed")
        assert failed["state"] == "failed" and "another model" in failed["error"]
        assert str(folder) not in json.dumps([said, failed]), "paths of the server are nobody's business"

    def test_clips_may_be_sent_and_their_rows_and_drawings_come_back(
        self, http: httpx.Client, folder: Path, receiver: "Receiver"
    ) -> None:
        clips = [("clip", (f"v{n}.mp4", (folder / "videos" / f"v{n}.mp4").read_bytes())) for n in (0, 1)]
        asked = {"overlay": "true", "overlap": "1", "webhook": f"http://127.0.0.1:{receiver.server_port}/told"}
        answers = [
            http.post("/v1/batches", files=clips, data=asked, headers={"Idempotency-Key": "two clips"}) for _ in "ab"
        ]
        assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
        (key,) = {answer.json()["id"] for answer in answers}
        other = http.post("/v1/batches", files=clips[:1], data=asked, headers={"Idempotency-Key": "two clips"})
        assert other.status_code == 422 and "stands for another request" in other.text
        said = wait_for(http, key, "done", "failed")
        assert (said["state"], said["rows"], said["frames"], said["frames_planned"]) == ("done", 87, 87, 87), said
        assert said["sources"] == ["v0.mp4", "v1.mp4"] and str(folder) not in json.dumps(said)
        rows = http.get(f"/v1/batches/{key}/rows").json()["rows"]
        named = [
            {"video": f"{n}/v{n}.mp4", **row} for n in (0, 1) for row in expected_rows(folder, f"v{n}.mp4", overlap=1)
        ]
        assert rows == named
        for kind, read in {
            "application/vnd.apache.parquet": lambda data: pq.read_table(io.BytesIO(data)),
            "application/vnd.apache.arrow.stream": lambda data: pa.ipc.open_stream(data).read_all(),
            "text/csv": lambda data: pa.csv.read_csv(io.BytesIO(data)),
            "application/x-ndjson": lambda data: pa.json.read_json(io.BytesIO(data)),
        }.items():
            table = read(http.get(f"/v1/batches/{key}/rows", headers={"Accept": kind}).content)
            assert table.num_rows == 87 and set(table["video"].to_pylist()) == {"0/v0.mp4", "1/v1.mp4"}, kind
        drawn = http.get(f"/v1/batches/{key}/overlay", params={"video": "0/v0.mp4"})
        assert drawn.headers["content-type"] == "video/mp4"
        with av.open(io.BytesIO(drawn.content)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 40
        assert http.get(f"/v1/batches/{key}/overlay").status_code == 404
        listed = http.get("/v1/batches", params={"limit": 1}).json()
        assert listed["batches"][0]["id"] == key and listed["next"] == key
        assert key not in http.get("/v1/batches", params={"after": key}).text
        headers, body = receiver.told.get(timeout=60)
        timestamp = headers["Specktrack-Timestamp"]
        assert headers["Specktrack-Signature"] == signature(SECRET, timestamp, body) and json.loads(body) == said

    def test_places_that_are_not_allowed_are_refused(self, http: httpx.Client) -> None:
        for asked, status in (
            ({"sources": ["/etc"], "output": "x"}, 403),
            ({"sources": ["v0.mp4"], "output": "/tmp/elsewhere"}, 403),
            ({"sources": ["v0.mp4"], "output": "../x"}, 403),
            ({"sources": [], "output": "x"}, 422),
            ({"sources": ["gone.mp4"]}, 422),
            ({"sources": ["v0.mp4"], "webhook": "http://127.0.0.1:1/told"}, 403),
            ({"sources": ["v0.mp4"], "output": "x", "model": "nobody"}, 404),
            ({"sources": ["v0.mp4"], "output": "x", "model": "boxes"}, 422),
        ):
            assert http.post("/v1/batches", json=asked).status_code == status, asked
        assert http.get("/v1/batches/0123456789abcdef").status_code == 404
        assert http.delete("/v1/batches/..%2Fx").status_code == 404


class TestClient:
    def test_it_speaks_every_part_of_the_interface(self, server: str, folder: Path) -> None:
        expected = expected_rows(folder, "v0.mp4")
        with Client(server, key=KEY) as client:
            assert [model.name for model in client.models()] == ["tiny", "other", "boxes", "still"]
            path = folder / "videos" / "v0.mp4"
            for clip in (path, str(path), path.read_bytes(), path.as_uri()):
                assert client.annotate(clip).drop_columns("video").to_pylist() == expected
            with pytest.raises(ServerError, match="no video format") as refused:
                client.annotate(b"no video")
            assert (refused.value.status, refused.value.reason) == (422, "not_a_video")
            with pytest.raises(ServerError, match="a model that takes a box"):
                client.open_session(b"", Box(cx_px=1, cy_px=1, w_px=1, h_px=1), model="tiny")
        with Client(server) as nobody, pytest.raises(ServerError, match="valid key"):
            nobody.models()

    def test_it_streams(self, server: str, folder: Path) -> None:
        async def rows() -> list[dict[str, Any]]:
            async with AsyncClient(server, key=KEY) as client:
                pictures = encoded_pictures(folder / "videos" / "v0.mp4")
                return [
                    row.model_dump(exclude={"final"}) async for some in client.stream(pictures, fps=30) for row in some
                ]

        assert asyncio.run(rows()) == expected_rows(folder, "v0.mp4")

    def test_what_ends_a_stream_is_raised(self, server: str, folder: Path) -> None:
        (picture, *_) = encoded_pictures(folder / "videos" / "v0.mp4")

        async def unplugged() -> AsyncIterator[bytes]:
            yield picture
            raise OSError("the camera is gone")

        async def stream(key: str, pictures: Any) -> None:
            async with AsyncClient(server, key=key) as client:
                async for _ in client.stream(pictures):
                    pass

        with pytest.raises(OSError, match="the camera is gone"):
            asyncio.run(stream(KEY, unplugged()))
        with pytest.raises(ServerError, match="check the key") as refused:
            asyncio.run(stream("another key", [picture]))
        assert refused.value.status == 403
        with pytest.raises(ServerError, match="not a readable picture"):
            asyncio.run(stream(KEY, [picture, b"no picture", *[picture] * 100]))


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")
class TestPlayground:
    def test_a_person_sees_the_trajectory_and_takes_the_rows_along(
        self, server: str, folder: Path, tmp_path: Path
    ) -> None:
        downloads = tmp_path / "downloads"
        downloads.mkdir()
        with playground(server, tmp_path / "profile", downloads) as page:
            page.type("#file", str(folder / "videos" / "v0.mp4"))
            page.wait("document.body.dataset.state === 'done'")
            page.wait("document.getElementById('video').readyState >= 2")
            page.run("const s = document.getElementById('scrub'); s.value = 20; s.oninput()")
            page.wait(f"{PAINTED}('overlay') > 100 && {PAINTED}('plot') > 100 && {PAINTED}('strip') > 100")
            page.wait(f"{PAINTED}('loupe') > 100 && document.getElementById('clock').value.endsWith('20')")
            page.resize(500, 900)  # a telephone's: nothing lies beside the window
            assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            page.resize(1440, 900)
            near = page.run("return document.getElementById('loupe').toDataURL()")
            page.type("#zoom", RIGHT * 4)
            assert page.run("return document.getElementById('zoom-text').textContent") == "12×"
            assert page.run("return document.getElementById('loupe').toDataURL()") != near
            for kind in ("csv", "json", "parquet"):
                page.click(f"#get-{kind}")
            wait_for_files(downloads, {"v0.csv", "v0.json", "v0.parquet"})
            expected = expected_rows(folder, "v0.mp4")
            assert json.loads((downloads / "v0.json").read_text())["rows"] == expected
            assert pq.read_table(downloads / "v0.parquet").drop_columns("video").to_pylist() == expected
            assert [said for said in page.errors() if "401" not in said] == []

    def test_a_box_is_drawn_and_what_it_shows_is_followed(self, server: str, folder: Path, tmp_path: Path) -> None:
        downloads = tmp_path / "downloads"
        downloads.mkdir()
        with playground(server, tmp_path / "profile", downloads) as page:
            page.type("#file", str(folder / "videos" / "v0.mp4"))
            page.wait("document.body.dataset.state === 'done'")
            page.run("const s = document.getElementById('scrub'); s.value = 20; s.oninput()")
            page.click("#box")
            page.click("#follow")  # which wants a box first
            assert page.run("return document.body.dataset.state") == "done"
            page.drag("#overlay", (-60, -40), (20, 30))
            box = page.run("return ['x', 'y', 'w', 'h'].map((name) => document.getElementById(`box-${name}`).value)")
            assert all(float(side) > 4 for side in box[2:])
            page.click("#follow")
            page.wait(f"/ by boxes in /.test({SUMMARY})")
            assert page.run("return document.getElementById('clock').value").endswith("20")
            page.click("#get-json")
            wait_for_files(downloads, {"v0.json"})
            rows = json.loads((downloads / "v0.json").read_text())["rows"]
            assert rows == expected_rows(folder, "v0.mp4", "boxes", prompt=",".join(["20", *box]))
            assert [said for said in page.errors() if "401" not in said] == []

    def test_clips_are_dropped_anywhere_and_the_last_one_counts(
        self, server: str, folder: Path, tmp_path: Path
    ) -> None:
        downloads = tmp_path / "downloads"
        downloads.mkdir()
        with playground(server, tmp_path / "profile", downloads) as page:
            page.click("#model option:nth-child(2)")
            page.drop("header", folder / "videos" / "v0.mp4")
            page.drop("#stage", folder / "videos" / "v1.mp4")
            page.wait(f"/ of 47 frames .* by other /.test({SUMMARY})")
            page.click("#model option:nth-child(1)")
            page.click("#get-parquet")  # of the rows that are shown, whatever is chosen by now
            wait_for_files(downloads, {"v1.parquet"})
            rows = pq.read_table(downloads / "v1.parquet").drop_columns("video").to_pylist()
            assert rows == expected_rows(folder, "v1.mp4", "other")

            page.drop("#stage", film(tmp_path / "old.avi", 30))
            page.wait("/cannot play this clip/.test(document.getElementById('message').textContent)")
            page.wait(f"/ of 30 frames /.test({SUMMARY}) && {PAINTED}('overlay') > 100")

            page.click("#again")
            page.click("#live")
            page.wait(f"/[1-9][0-9]* frames followed/.test({SUMMARY})")
            page.drop("#stage", folder / "videos" / "v0.mp4")  # which ends the live stream
            page.wait(f"/ of 40 frames .* by tiny /.test({SUMMARY})")
            page.click("#again")
            page.click("#sample")
            page.wait(f"/ of 120 frames /.test({SUMMARY})")
            page.click("#again")
            page.run("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")  # as without https
            page.click("#live")
            page.wait("/over https or from localhost/.test(document.getElementById('message').textContent)")
            assert [said for said in page.errors() if "401" not in said] == []

    def test_the_api_s_page_needs_no_other_server(self, server: str, tmp_path: Path) -> None:
        with browser(tmp_path / "profile", downloads=tmp_path) as page:
            page.go(f"{server}/docs")
            page.wait("document.querySelectorAll('.opblock').length >= 10")
            assert page.run("return document.querySelector('.title').textContent").startswith("specktrack")
            fetched = page.run("return performance.getEntriesByType('resource').map((each) => each.name)")
            assert fetched and all(name.startswith(server) for name in fetched) and page.errors() == []


def film(path: Path, frames: int) -> Path:
    """A video that no browser plays."""
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = *WH, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (WH[1], WH[0], 3), dtype=np.uint8)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
        container.mux(stream.encode())
    return path


@contextmanager
def playground(server: str, profile: Path, downloads: Path) -> Iterator[Browser]:
    """The page after its question for a key."""
    with browser(profile, downloads=downloads) as page:
        page.go(server)
        page.wait("document.getElementById('key-dialog').open")
        page.type("#key", KEY)
        page.click("#key-dialog [value=save]")
        page.wait("document.getElementById('model').options.length === 3")
        yield page


def wait_for_files(folder: Path, names: set[str]) -> None:
    deadline = time.monotonic() + 120
    while {path.name for path in folder.iterdir()} != names:
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.1)

    def test_results_stay_keys_work_after_a_click_and_corrected_rows_are_labels(
        self, server: str, folder: Path, tmp_path: Path
    ) -> None:
        downloads = tmp_path / "downloads"
        downloads.mkdir()
        (tmp_path / "bad.mp4").write_bytes(b"no video")
        with playground(server, tmp_path / "profile", downloads) as page:
            page.wait("/Up to 2 MB and 400 frames/.test(document.getElementById('limits').textContent)")
            page.drop("#stage", folder / "videos" / "v0.mp4")
            page.wait(f"/ of 40 frames /.test({SUMMARY})")
            address = page.run("return location.href")
            assert "#result=" in address
            page.drop("#stage", tmp_path / "bad.mp4")  # a wrong drop costs nothing
            page.wait("/no video format/.test(document.getElementById('message').textContent)")
            page.wait(f"/ of 40 frames /.test({SUMMARY}) && document.body.dataset.state === 'done'")
            page.go("about:blank")
            page.go(address)  # nor does a reload
            page.wait(f"/ of 40 frames /.test({SUMMARY}) && document.body.dataset.state === 'done'")

            page.click("#get-csv")  # a button keeps the focus, and the keys work
            for key, frame in (("End", 39), ("ArrowLeft", 38), ("KeyJ", 28), ("Home", 0), ("KeyL", 10)):
                page.run(KEY_DOWN, key)
                assert page.run("return document.getElementById('clock').value").endswith(f"· {frame}"), key
            page.click("#correct")
            page.click("#absent")
            page.click("#accept")
            page.click("#save-labels")
            wait_for_files(downloads, {"v0.csv", "v0.labels.csv"})
            rows = rows_at(str(downloads / "v0.labels.csv"))
            assert rows is not None and rows["frame"].to_pylist() == [10, 11]
            assert set(rows["provenance"].to_pylist()) == {"labelled"} and rows["visibility"][0].as_py() == "absent"

            page.click("#batches-button")
            page.type("#batch-files", str(folder / "videos" / "v1.mp4"))
            page.wait(
                "[...document.querySelectorAll('#batch-list li')].some((li) => /v1.mp4 done/.test(li.textContent))"
            )
            page.click("#again")
            page.click("#live")
            page.wait(f"/[1-9][0-9]* frames followed/.test({SUMMARY})")
            page.wait("/ s behind, /.test(document.getElementById('live-text').textContent)")
            page.click("#keep")  # the rows stay, and have an address
            page.wait("document.body.dataset.state === 'done' && location.hash.startsWith('#result=')")


RIGHT = "\ue014"
"""The right arrow in the WebDriver protocol."""
KEY_DOWN = (
    "document.activeElement.dispatchEvent("
    "new KeyboardEvent('keydown', { code: arguments[0], bubbles: true, cancelable: true }))"
)
"""JavaScript: a key is pressed where the focus is."""
SUMMARY = "document.getElementById('summary').textContent"
PAINTED = (
    "((id) => { const c = document.getElementById(id);"
    "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v).length; })"
)
"""JavaScript: how many pixels of a canvas are not transparent."""


class TestLogs:
    def test_a_request_s_id_is_in_its_problem_and_in_the_lines_of_every_deployment(
        self, server: str, http: httpx.Client, folder: Path
    ) -> None:
        def ask(route: str, name: str, **sent: Any) -> httpx.Response:
            return http.post(route, headers={**http.headers, "X-Request-ID": name}, **sent)

        assert ask("/v1/annotate", "id-of-a-clip", json={"uri": "v0.mp4"}).status_code == 200
        bad = ask("/v1/annotate", "id-of-a-bad-clip", files={"clip": ("bad.mp4", b"no video")})
        assert bad.json()["request_id"] == "id-of-a-bad-clip" and bad.status_code == 422
        assert ask("/v1/nothing", "id-of-nothing").json()["request_id"] == "id-of-nothing"
        assert http.get("/v1/models", params={"x": "y"}, headers={"Authorization": ""}).json()["request_id"]
        with connect(stream_url(server, fps=30), additional_headers={"Authorization": f"Bearer {KEY}"}) as socket_:
            socket_.send(b"no picture")
            name = json.loads(socket_.recv(timeout=120))["problem"]["request_id"]
        said = {
            "id-of-a-clip": {"event": "clip ended", "clip": "v0.mp4", "model": "tiny", "frames": 40},
            "id-of-a-bad-clip": {"event": "clip ended", "clip": "bad.mp4", "model": "tiny", "reason": "not_a_video"},
            name: {"event": "session ended", "model": "tiny", "frames": 0, "reason": "damaged"},
        }
        deadline = time.monotonic() + 120
        while not all(any(line.items() >= wanted.items() for line in logged(key)) for key, wanted in said.items()):
            assert time.monotonic() < deadline, {key: logged(key) for key in said}
            time.sleep(0.5)


def logged(request: str) -> list[dict[str, Any]]:
    """Our lines about a request in the logs of this Ray."""
    lines = []
    for path in Path(ray._private.worker._global_node.get_logs_dir_path()).rglob("*"):
        if path.is_file():
            for line in path.read_text(errors="replace").splitlines():
                if f'"request": "{request}"' in line:
                    lines.append(json.loads(line[line.index("{") :]))
    return lines


class TestServer:
    def test_it_tells_what_it_is(self, http: httpx.Client) -> None:
        assert http.get("/healthz").json() == {"status": "ok"} and http.get("/readyz").json() == {"status": "ready"}
        known = http.get("/v1/models").json()
        assert [model["name"] for model in known] == ["tiny", "other", "boxes", "still"] and "path" not in known[0]
        assert http.get("/v1/limits").json()["body_bytes"] == 2_000_000
        page = http.get("/", headers={"Authorization": ""})
        assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
        paths = http.get("/openapi.json").json()["paths"]
        assert {"/v1/annotate", "/v1/sessions", "/v1/batches/{batch_id}", "/metrics"} <= set(paths)
        assert http.get("/v1/models", headers={"Authorization": ""}).status_code == 401
        assert http.get("/nothing").json()["status"] == 404
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/", 200), ("/v1/annotate", 405), ("/nothing", 404)):
            head = http.head(path)  # as some load balancers ask
            assert (head.status_code, head.content) == (status, b""), path
        assert int(http.head("/").headers["content-length"]) == len(http.get("/").content)
        assert http.get("/playground/../../config.py").status_code == 404

    def test_unknown_parameters_are_refused_and_named_sites_may_call(self, http: httpx.Client) -> None:
        for route, said in (("/v1/models?modle=x", "allowed: none"), ("/v1/batches?limt=3", "did you mean 'limit'?")):
            answer = http.get(route)
            assert answer.status_code == 422 and said in answer.json()["detail"], answer.text
        for origin, allowed in (("https://example.org", "https://example.org"), ("https://evil.example", None)):
            answer = http.get("/v1/models", headers={"Origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        assert http.options("/v1/annotate", headers=asked).status_code == 200

    def test_requests_from_its_own_document_are_no_server_error(self, server: str) -> None:
        statuses = fuzz(server, KEY, 120)
        assert max(statuses) < 500 and min(statuses) == 200, statuses

    def test_prometheus_is_told_of_requests_and_of_batches_of_more_than_one_window(self, http: httpx.Client) -> None:
        deadline = time.monotonic() + 120  # Ray collects metrics every ten seconds
        shared = fast_dtype(torch.device("cpu")) != torch.float32  # elsewhere each window has a pass of its own
        while True:
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: http.post("/v1/annotate", json={"uri": "v2.mp4"}), range(8)))
            assert {answer.status_code for answer in answers} == {200}
            page = http.get("/metrics").text
            passes = total(page, "ray_specktrack_batch_windows_count")
            alone = total(page, "ray_specktrack_batch_windows_bucket", 'le="1.0"')
            if passes > alone * shared and "ray_specktrack_requests_total" in page and "ray_serve_deployment" in page:
                break
            assert time.monotonic() < deadline, f"{alone} of {passes} forward passes had one window"
            time.sleep(0.5)

    def test_the_dashboard_asks_for_metrics_and_labels_that_are_exported(
        self, http: httpx.Client, folder: Path
    ) -> None:
        for clip, status in (((folder / "videos" / "v0.mp4").read_bytes(), 200), (b"no video", 422)):
            assert http.post("/v1/annotate", files={"clip": ("v.mp4", clip)}).status_code == status
        asked = dashboard_metrics()
        assert {"ray_serve_deployment_queued_queries", "ray_serve_deployment_replica_healthy"} <= asked.keys()
        del asked["ray_specktrack_decode_errors_total"]  # comes with the first one
        deadline = time.monotonic() + 120  # Ray collects metrics every ten seconds
        while missing := {name for name, labels in asked.items() if not is_exported(http, name, labels)}:
            assert time.monotonic() < deadline, missing
            time.sleep(0.5)


def total(page: str, name: str, label: str = "") -> float:
    """Sum of a metric over its labels."""
    lines = [line for line in page.splitlines() if line.startswith(f"{name}{{") and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def dashboard_metrics() -> dict[str, set[str]]:
    """The labels that the Grafana dashboard groups each metric by."""
    board = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "specktrack.json").read_text())
    found: dict[str, set[str]] = {}
    for expression in (target["expr"] for panel in board["panels"] for target in panel["targets"]):
        (name,) = re.findall(r"\bray_\w+", expression)
        for labels in re.findall(r"by \(([^)]*)\)", expression) or [""]:
            found.setdefault(name, set()).update(filter(None, re.split(r",\s*", labels)))
    return found


def is_exported(http: httpx.Client, name: str, labels: set[str]) -> bool:
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return any(all(f'{label}="' in line for label in labels) for line in lines)
