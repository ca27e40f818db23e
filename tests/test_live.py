"""Cameras: what is watched, what is not, and rows that are written as they become final."""

import json
from itertools import islice
from pathlib import Path

import pytest
from tests.cameras import HttpCamera, RtspCamera, jpeg, running

from specktrack.annotating import AnnotateConfig, annotate
from specktrack.annotating.live import Newest
from specktrack.errors import ConfigError, StorageError
from specktrack.serving.config import Access
from specktrack.serving.fetch import camera as allowed_camera
from specktrack.serving.problems import Refusal
from specktrack.video import live
from specktrack.video.live import Camera, target_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSES_S", (0.01,))
    monkeypatch.setattr(live, "AWAY_S", 0.5)
    monkeypatch.setattr(live, "STALL_S", 5.0)


def test_an_http_camera_s_own_pictures_come_and_it_is_connected_to_again() -> None:
    with running(HttpCamera(pictures=4)) as server:
        camera = Camera(server.url, target_of(server.url))
        found = list(islice(camera.pictures(), 10))
        camera.close()
        assert server.connections >= 3
    assert found[:3] == [jpeg(0), jpeg(1), jpeg(2)] and found[-1] in {jpeg(number) for number in range(4)}
    with running(HttpCamera(pictures=4)) as server:
        url = server.url.replace("/video", "/gone")
        with pytest.raises(StorageError, match="sends no picture: 'status 404'"):
            next(Camera(url, target_of(url)).pictures())


def test_an_rtsp_camera_is_watched_and_one_that_leads_elsewhere_is_left() -> None:
    with running(RtspCamera()) as server:
        camera = Camera(server.url, target_of(server.url))
        (first,) = islice(camera.pictures(), 1)
        camera.close()
        assert first[:2] == b"\xff\xd8" and server.asked[0].startswith("OPTIONS")
    with running(HttpCamera(pictures=4)) as other:
        elsewhere = other.url.replace("http", "rtsp")
        with running(RtspCamera(leads_to=elsewhere)) as server:
            with pytest.raises(StorageError, match="sends no picture"):
                next(Camera(server.url, target_of(server.url)).pictures())
            assert any(line.startswith("DESCRIBE") for line in server.asked) and other.connections == 0


def test_a_camera_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the camera sends no picture") as error:
        next(Camera("rtsp://user:word@127.0.0.1:9/x", target_of("rtsp://user:word@127.0.0.1:9/x")).pictures())
    assert "word" not in str(error.value), "a password is in no message"
    with pytest.raises(StorageError, match="the camera sends no picture"):
        next(Camera("/dev/video99", None).pictures())
    with pytest.raises(ConfigError, match="not a camera"):
        target_of("ftp://x/y")


def test_a_server_watches_what_is_on_its_lists() -> None:
    access = Access(cameras=("127.0.0.1:8554",), devices=("/dev/video0",), networks=("127.0.0.0/8",))
    target = allowed_camera("rtsp://user:word@127.0.0.1:8554/court", access)
    assert target is not None and (target.addresses, target.port) == (("127.0.0.1",), 8554)
    assert target.url.netloc == "user:word@127.0.0.1:8554" and allowed_camera("/dev/video0", access) is None
    for place in ("/dev/video1", "rtsp://127.0.0.1/court", "file:///etc/passwd", "rtsp://other:8554/x", "/etc/passwd"):
        with pytest.raises(Refusal) as refusal:
            allowed_camera(place, access)
        assert refusal.value.status == 403
    private = access.model_copy(update={"networks": ()})
    with pytest.raises(Refusal, match="must not be fetched from"):
        allowed_camera("rtsp://127.0.0.1:8554/court", private)


def test_the_newest_pictures_wait_and_older_ones_are_counted() -> None:
    with running(HttpCamera(pictures=40)) as server:
        camera = Camera(server.url, target_of(server.url))
        newest = Newest(camera)
        while newest.came < 30:
            pass
        shots = next(iter(newest))
        camera.close()
    assert len(shots) <= live.NEWEST and newest.dropped >= 22
    numbers = [shot.number for shot in shots]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a run of pictures"


def test_rows_of_a_camera_are_lines_as_they_become_final(tmp_path: Path) -> None:
    with running(HttpCamera(pictures=20, pause_s=0.02, connections=2)) as server:
        config = AnnotateConfig(live=server.url, output=str(tmp_path / "rows.jsonl"), overlap=1)
        with pytest.raises(StorageError, match="sends no picture"):
            annotate(config)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    frames = [row["frame"] for row in rows]
    assert frames == sorted(set(frames)) and {row["video"] for row in rows} == {config.live}
    assert frames[-1] == 39, "the newest picture has a row, however slow this machine is"
    with pytest.raises(ConfigError, match=r"name a file.jsonl"):
        annotate(config.model_copy(update={"output": str(tmp_path)}))
