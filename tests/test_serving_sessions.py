"""What outlives a request: records of batches, streams and sessions, and the pictures they are sent."""

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from starlette.requests import Request
from starlette.websockets import WebSocketDisconnect
from tests.clock import Clock

from specktrack.errors import ConfigError, MediaError
from specktrack.frames import concat
from specktrack.serving import batch_records
from specktrack.serving.answers import BatchState
from specktrack.serving.batch_records import BatchRecords
from specktrack.serving.batches import BatchReplica
from specktrack.serving.config import (
    Access,
    Limits,
    ServeConfig,
)
from specktrack.serving.problems import Refusal
from specktrack.serving.replica import decode_limits
from specktrack.serving.routes import _session_routes
from specktrack.serving.sessions import HeldSession, Sessions
from specktrack.serving.streams import MOST_WAITING, MOST_WAITING_BYTES, NEWEST, Arrival, Arrivals, Told, _read
from specktrack.storage import stat
from specktrack.tracking.tracker import Tracker, tracker_of
from specktrack.video import write_video
from specktrack.video.process import DecoderProcess

SMALL = Limits(body_bytes=1000, frames=100, pixels=100_000, picture_bytes=100_000)


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return tracker_of("specknet", device="cpu")


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    with DecoderProcess(decode_limits(SMALL)) as decoder:
        yield decoder


def png(wh: tuple[int, int]) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", wh, (200, 10, 10)).save(sink, "PNG")
    return sink.getvalue()


class TestRecords:
    def test_a_batch_is_found_again_until_it_is_done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_records, "time", clock := Clock())
        records = BatchRecords([str(tmp_path / "a"), str(tmp_path / "b")])
        batch = records.create(["file:///v.mp4"], (tmp_path / "b" / "x").as_uri(), "tiny")
        again = BatchRecords([str(tmp_path / "a"), str(tmp_path / "b")])
        assert again.get(batch.id) == batch and list(again.forsaken()) == [], "who took it in waits for it"
        clock.now_s += batch_records.LOST_AFTER_S
        assert list(again.forsaken()) == [batch.id]
        again.wait_for(batch.id)
        assert list(records.forsaken()) == []
        again.save(batch.model_copy(update={"state": BatchState.DONE}))
        again.wait_for(batch.id)
        assert list((tmp_path / "b" / "_batches" / "open").iterdir()) == []
        assert records.get("../../x") is None and records.get("0" * 16) is None

    def test_one_of_many_begins_a_run_and_a_dead_one_keeps_nobody_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_records, "time", clock := Clock())
        batch = BatchRecords([str(tmp_path)]).create(["file:///v.mp4"], (tmp_path / "x").as_uri(), "tiny")
        with ThreadPoolExecutor(8) as pool:
            begun = list(pool.map(lambda _: BatchRecords([str(tmp_path)]).begin(batch), range(8)))
        (running,) = [each for each in begun if each is not None]
        assert (running.runs, running.state) == (1, BatchState.RUNNING)
        clock.now_s += batch_records.LOST_AFTER_S  # it died before its record said that it began
        second = BatchRecords([str(tmp_path)]).begin(batch)
        assert second is not None and second.runs == 2

    @pytest.mark.parametrize("fault", ["unreadable", "garbage", "a root that is a file", "a mark that says nothing"])
    def test_one_that_cannot_be_read_keeps_no_other_from_its_turn(
        self, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(batch_records, "time", clock := Clock())
        roots = [str(tmp_path / "a"), str(tmp_path / "b")]
        records = BatchRecords(roots)
        bad, good, other = (
            records.create(["file:///v.mp4"], (tmp_path / root / "x").as_uri(), "tiny").id for root in "aab"
        )
        own = tmp_path / "a" / "_batches"
        record, mark = own / f"{bad}.json", own / "open" / bad
        if fault == "unreadable":
            record.unlink()
            record.mkdir()
        elif fault == "garbage":
            record.write_text("{}")
        elif fault == "a mark that says nothing":
            mark.write_bytes(b"nan")
        else:
            own.rename(tmp_path / "away")
            own.write_text("")
        clock.now_s += batch_records.LOST_AFTER_S
        expected = {"a root that is a file": {other}, "a mark that says nothing": {bad, good, other}}
        assert set(records.forsaken()) == expected.get(fault, {good, other})
        for key in (bad, good, other):
            records.wait_for(key)
        if fault in ("unreadable", "garbage"):
            assert bad in capsys.readouterr().err
        if fault == "garbage":
            assert not mark.exists() and "not a batch's record" in (own / "damaged" / bad).read_text()
        if fault == "unreadable":
            record.rmdir()
            record.write_text(records.get(good).model_copy(update={"id": bad}).model_dump_json())  # type: ignore[union-attr]
            clock.now_s += batch_records.LOST_AFTER_S
            assert bad in records.forsaken(), "it is looked for again"

    def test_a_batch_of_a_root_that_is_no_more_is_refused_in_a_sentence(self, tmp_path: Path) -> None:
        batch = BatchRecords([str(tmp_path / "a")]).create(["file:///v.mp4"], (tmp_path / "a" / "x").as_uri(), "tiny")
        with pytest.raises(ConfigError, match="no longer an output of this server"):
            BatchRecords([str(tmp_path / "b")]).save(batch)

    def test_a_batch_cancelled_before_its_first_clip_is_not_run(self, tmp_path: Path) -> None:
        config = ServeConfig(access=Access(outputs=(str(tmp_path),)))
        records = BatchRecords(config.access.outputs)
        batch = records.create(["file:///v.mp4"], (tmp_path / "x").as_uri(), "tiny")
        records.ask_to_stop(batch)
        BatchReplica(config, {"tiny": "no such file"})._run(batch.id, "replica")
        ended = records.get(batch.id)
        assert ended is not None and (ended.state, ended.error) == (BatchState.CANCELLED, None)
        assert list(records.forsaken()) == [] and not (tmp_path / "x").exists()


class TestDecoding:
    def test_bad_clips_and_pictures_are_refused_with_a_reason(self, tmp_path: Path, decoder: DecoderProcess) -> None:
        (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
        write_video(tmp_path / "long.mp4", [np.zeros((48, 64, 3), np.uint8)] * 101, fps=25, wh=(64, 48))
        write_video(tmp_path / "wide.mp4", [np.zeros((400, 400, 3), np.uint8)] * 2, fps=25, wh=(400, 400))
        for name, reason in {"list": "not_a_video", "long": "too_large", "wide": "too_large"}.items():
            with pytest.raises(MediaError) as fault:
                decoder.probe(stat(str(tmp_path / f"{name}.mp4")))
            assert fault.value.reason == reason
        for data, reason in {
            b"GIF89a": "damaged",
            png((400, 400)): "too_large",
            png((8, 8))[:45]: "damaged",
        }.items():
            with pytest.raises(MediaError) as fault:
                decoder.picture(data)
            assert fault.value.reason == reason
        assert decoder.picture(png((8, 6)))[0] == (8, 6)
        tracker = tracker_of("specknet", device="cpu")
        live = HeldSession(tracker.open(), tracker, decoder, SMALL, model="specknet", fps=25)
        with pytest.raises(MediaError, match="size differs from that of the stream's first picture"):
            live.push([png((8, 6)), png((6, 8))], None)

    def test_rows_keep_number_and_time_where_pictures_were_dropped(
        self, tracker: Tracker, decoder: DecoderProcess
    ) -> None:
        live = HeldSession(tracker.open(), tracker, decoder, SMALL, model="specknet", fps=25)
        numbers = [n for n in range(60) if n % 20 < 12]
        parts = []
        for start in range(0, len(numbers), 6):
            some = numbers[start : start + 6]
            parts.append(live.push([png((64, 48))] * len(some), numbers=some))
            waiting = live.provisional()
            told = concat([*parts, waiting]).frame.tolist()
            assert told == numbers[: len(told)]
        rows = concat([*parts, live.finish()])
        assert rows.frame.tolist() == numbers and rows.pts_s.tolist() == [n / 25 for n in numbers]
        assert len(live.provisional()) == 0

    def test_a_picture_is_scaled_to_the_network(self, decoder: DecoderProcess) -> None:
        wh_px, pixels = decoder.picture(png((8, 6)), (4, 3))
        assert wh_px == (8, 6) and pixels.shape == (3, 4, 3) and (pixels == [200, 10, 10]).all()


class TestSessions:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        monkeypatch.setattr("specktrack.serving.sessions.time", clock := Clock())
        return clock

    def sessions(self, **limits: Any) -> Sessions:
        return Sessions("replica", decode_limits(SMALL), Limits(session_idle_s=60, **limits))

    def test_one_that_idles_is_closed_and_says_so(self, tracker: Tracker, clock: Clock) -> None:
        sessions = self.sessions(sessions=1)
        key = sessions.add(tracker.open(), tracker, model="specknet", fps=25)
        with pytest.raises(Refusal, match="limited to 1 streams and sessions"):
            sessions.add(tracker.open(), tracker, model="specknet", fps=25)
        clock.now_s += 59
        assert sessions.idle() == [] and (len(sessions), sessions.resting) == (1, 1)
        clock.now_s += 2
        assert sessions.idle() == [key]
        other = sessions.add(tracker.open(), tracker, model="specknet", fps=25)  # it made room
        assert len(sessions) == 1
        sessions.remove(other)
        with pytest.raises(Refusal, match=r"no such session.*idle for too long") as refusal:
            sessions.get(key)
        assert refusal.value.status == 404

    def test_one_at_work_is_not_idle_however_long_it_takes(self, tracker: Tracker, clock: Clock) -> None:
        sessions = self.sessions()
        key = sessions.add(tracker.open(), tracker, model="specknet", fps=25)

        async def work(log: list[str]) -> None:
            async with sessions.using(key) as live:
                log.append("begun")
                clock.now_s += 61
                assert sessions.idle() == [] and sessions.resting == 0
                assert len(await asyncio.to_thread(live.push, [png((8, 6))], None)) >= 0  # its decoder lives
                log.append("done")

        async def two() -> list[str]:
            log: list[str] = []
            await asyncio.gather(work(log), work(log))
            assert sessions.idle() == [], "the end of a call counts, not its beginning"
            return log

        assert asyncio.run(two()) == ["begun", "done"] * 2
        clock.now_s += 61
        assert sessions.idle() == [key]

    def test_a_call_that_waited_for_one_that_ended_it_is_told(self, tracker: Tracker) -> None:
        sessions = self.sessions()
        key = sessions.add(tracker.open(), tracker, model="specknet", fps=25)

        async def end() -> None:
            async with sessions.using(key):
                await asyncio.sleep(0)  # the other comes
                sessions.remove(key)

        async def both() -> list[BaseException | None]:
            return await asyncio.gather(end(), end(), return_exceptions=True)

        first, second = asyncio.run(both())
        assert first is None and isinstance(second, Refusal) and second.status == 404

    def test_one_whose_caller_left_before_he_knew_its_id_is_dropped(self, tmp_path: Path) -> None:
        dropped, begun = [], asyncio.Event()

        class Held:
            """An ingress whose replica never answers about the first picture."""

            config, boxed = ServeConfig(), ("boxes",)

            def boxed_model(self, _: str | None) -> Any:
                return None

            async def open(self, *_: Any) -> str:
                return "t.home.key"

            async def push(self, *_: Any) -> pa.Table:
                begun.set()
                return await asyncio.Event().wait()

            async def drop(self, key: str) -> None:
                await asyncio.sleep(0)
                dropped.append(key)

        body = (
            b'--B\r\nContent-Disposition: form-data; name="box"\r\n\r\n{"cx_px":1,"cy_px":1,"w_px":1,"h_px":1}\r\n'
            b'--B\r\nContent-Disposition: form-data; name="frame"; filename="f"\r\n\r\npicture\r\n--B--\r\n'
        )

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def leave() -> None:
            scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=B")]}
            (post, *_) = _session_routes(cast(Any, Held())).routes
            asking = asyncio.create_task(cast(Any, post).endpoint(request=Request(scope, receive), folder=tmp_path))
            await asyncio.wait_for(begun.wait(), 60)
            asking.cancel()  # as Serve does when the caller is gone
            await asyncio.wait({asking})
            assert asking.cancelled()

        asyncio.run(leave())
        assert dropped == ["t.home.key"]


class TestArrivals:
    def test_they_are_bounded_in_bytes_and_in_pictures(self) -> None:
        arrivals = Arrivals()
        large = bytes(MOST_WAITING_BYTES // 3)
        for _ in range(4):
            assert not arrivals.full()
            arrivals.put_nowait(Arrival(0, 0.0, large))
        assert arrivals.full() and arrivals.qsize() == 4
        arrivals.get_nowait()
        arrivals.get_nowait()
        assert not arrivals.full()
        for _ in range(MOST_WAITING - 2):
            arrivals.put_nowait(Arrival(0, 0.0, b""))
        assert arrivals.full() and arrivals.waiting_bytes == 2 * len(large)

    def test_the_oldest_make_room_for_the_newest_where_that_is_asked_for(self) -> None:
        arrivals = Arrivals(drops=True)
        for number in range(NEWEST + 5):
            asyncio.run(arrivals.add(bytes([number])))
        assert (arrivals.came, arrivals.dropped, arrivals.qsize()) == (NEWEST + 5, 5, NEWEST)
        taken = [arrivals.get_nowait() for _ in range(NEWEST)]
        assert [each and each.number for each in taken] == list(range(5, NEWEST + 5)), "what is kept has its numbers"
        assert arrivals.waiting_bytes == 0

    def test_the_lag_is_the_age_of_the_newest_picture_that_has_a_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("specktrack.serving.streams.time", clock := Clock())
        told, began_s = Told(), clock.now_s
        told.take([Arrival(n, began_s + n, b"") for n in range(4)])
        clock.now_s += 10
        assert told.lag_s([]) is None
        assert told.lag_s([{"frame": 2, "final": False}]) == 8
        clock.now_s += 1
        assert told.lag_s([{"frame": 0, "final": True}]) == 9, "a late row of an old picture makes it no older"
        assert told.lag_s([{"frame": 2, "final": True}, {"frame": 3, "final": False}]) == 8

    @pytest.mark.parametrize(("size_bytes", "taken"), [(100_000, True), (100_001, False)])
    def test_a_picture_beyond_the_ceiling_is_not_taken(self, size_bytes: int, taken: bool) -> None:
        messages = [{"type": "websocket.receive", "bytes": bytes(size_bytes)}, {"type": "websocket.disconnect"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        gateway = cast(Any, SimpleNamespace(config=ServeConfig(limits=SMALL)))
        arrivals = Arrivals()
        with pytest.raises(WebSocketDisconnect if taken else MediaError):
            asyncio.run(_read(gateway, cast(Any, SimpleNamespace(receive=receive)), arrivals))
        assert arrivals.qsize() == taken
