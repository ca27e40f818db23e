"""A clip is complete or it is not: whatever dies, whoever else writes, on a folder and on S3 alike."""

import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specktrack import __version__
from specktrack.errors import Conflict, QuarantineReason, StorageError
from specktrack.frames import Trajectory, concat
from specktrack.ledger import (
    Ledger,
    clear,
    collect_garbage,
    find_faults,
    read_annotations,
    read_records,
    scan_annotations,
)
from specktrack.schema import ROWS, Clip, ClipStatus, VideoRef, sha256_hex
from specktrack.storage import ObjectInfo, Store, open_store
from specktrack.storage.store import new_probe

VIDEO = VideoRef(uri="file:///in/match.mp4", etag="1", size_bytes=9)
OTHER = VideoRef(uri="file:///in/a%20b.mp4", etag="1", size_bytes=9)


def trajectory(start: int, stop: int) -> Trajectory:
    frame = np.arange(start, stop)
    xy_px = np.stack([frame * 2.5, frame + 0.25], axis=1).astype(np.float32)
    xy_px[frame % 3 == 0] = np.nan
    return Trajectory(frame, frame / 30, xy_px, np.full(len(frame), 0.5, np.float32))


def rows(start: int, stop: int, video: VideoRef = VIDEO) -> pa.Table:
    return trajectory(start, stop).to_rows(video.uri)


def clip(start: int, stop: int, video: VideoRef = VIDEO) -> Clip:
    return Clip(video=video, start=start, stop=stop)


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (tmp_path / "out").as_uri() if request.param == "file" else f"s3://{request.getfixturevalue('s3')}/out"


@pytest.fixture
def ledger(root: str) -> Ledger:
    return Ledger(open_store(root), "model", "config")


class TestCommit:
    def test_rows_come_back_ordered_by_video_object_and_frame(self, ledger: Ledger, root: str) -> None:
        both = pa.concat_tables([rows(5, 9), trajectory(5, 9).to_rows(VIDEO.uri, object_id=1)])
        record = ledger.commit(clip(5, 9), both, decode_errors=2)
        ledger.commit(clip(0, 5), rows(0, 5))
        ledger.commit(clip(0, 3, OTHER), rows(0, 3, OTHER))
        assert (record.rows, record.decode_errors, record.status) == (8, 2, ClipStatus.COMMITTED)
        table = read_annotations(root)
        assert table.schema.equals(ROWS)
        assert table["video"].to_pylist() == [OTHER.uri] * 3 + [VIDEO.uri] * 13
        assert table["object"].to_pylist() == [0] * 12 + [1] * 4
        assert table["frame"].to_pylist() == [0, 1, 2, *range(9), *range(5, 9)]
        expected = concat([trajectory(0, 9)])
        stored = Trajectory.from_rows(table.slice(3, 9))
        np.testing.assert_array_equal(stored.xy_px, expected.xy_px)
        assert [part["frame"][0].as_py() for part in scan_annotations(root)] == [0, 0, 5]
        assert sorted(ledger.completed()) == sorted(record.key for record in read_records(root))

    def test_the_data_is_plain_parquet_with_the_facts_in_its_metadata(self, ledger: Ledger) -> None:
        record = ledger.commit(clip(0, 4), rows(0, 4), metadata={"model": "tracknet-v2", "fps": "30.0"})
        data = ledger.store.get(record.data_uri or "")
        file = pq.ParquetFile(io.BytesIO(data))
        metadata = file.schema_arrow.metadata
        assert metadata[b"model"] == b"tracknet-v2" and metadata[b"package_version"] == __version__.encode()
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert sha256_hex(data) == record.sha256 and record.data_uri.startswith(f"data/{VIDEO.key}/")

    def test_equal_rows_give_equal_bytes_however_they_were_put_together(self, ledger: Ledger) -> None:
        parts = pa.concat_tables([rows(6, 9), rows(0, 2), rows(2, 6)])
        first = ledger.commit(clip(0, 9), parts, metadata={"b": "2", "a": "1"})
        ledger.forget(first.key)
        second = ledger.commit(clip(0, 9), rows(0, 9), metadata={"a": "1", "b": "2"})
        assert first.sha256 == second.sha256 and first.data_uri != second.data_uri

    def test_of_two_writers_one_wins_and_the_loser_takes_its_rows_back(self, ledger: Ledger, root: str) -> None:
        start, results = threading.Barrier(4), []

        def write() -> None:
            start.wait()
            results.append(Ledger(open_store(root), "model", "config").commit(clip(0, 4), rows(0, 4)))

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({record.data_uri for record in results}) == 1 and len(results) == 4
        assert [info.key for info in ledger.store.list("data/")] == [results[0].data_uri]
        assert read_annotations(root).num_rows == 4

    def test_a_loser_whose_winner_is_forgotten_meanwhile_commits_after_all(self, ledger: Ledger, root: str) -> None:
        class Forgetting(Dying):
            def put_if_absent(self, key: str, data: bytes) -> None:
                if self.left == 0:
                    self.left = 1
                    standing = ledger.commit(clip(0, 4), rows(0, 4))
                    try:
                        self.store.put_if_absent(key, data)
                    finally:
                        ledger.forget(standing.key)
                self.store.put_if_absent(key, data)

        record = Ledger(Forgetting(ledger.store, 0, after=False), "model", "config").commit(clip(0, 4), rows(0, 4))
        assert read_records(root) == [record] and read_annotations(root).num_rows == 4

    def test_another_model_in_the_same_output_is_a_conflict(self, ledger: Ledger, root: str) -> None:
        ledger.commit(clip(0, 4), rows(0, 4))
        stranger = Ledger(open_store(root), "another", "config")
        with pytest.raises(Conflict, match=r"another model or configuration.*choose another --output"):
            stranger.completed()
        with pytest.raises(Conflict, match="another model or configuration"):
            stranger.commit(clip(0, 4), rows(0, 4))

    @pytest.mark.parametrize(
        ("table", "fault"),
        [
            (rows(0, 5), "outside the clip"),
            (rows(0, 4, OTHER), "another video"),
            (pa.concat_tables([rows(0, 4), rows(3, 4)]), "two rows for one frame"),
        ],
    )
    def test_rows_that_are_not_the_clips_own_are_never_written(
        self, tmp_path: Path, table: pa.Table, fault: str
    ) -> None:
        store = open_store(str(tmp_path))
        with pytest.raises(AssertionError, match=fault):
            Ledger(store, "m", "c").commit(clip(0, 4), table)
        assert list(store.list()) == []


class TestQuarantine:
    def test_a_clip_keeps_the_rows_read_before_the_fault(self, ledger: Ledger, root: str) -> None:
        record = ledger.quarantine(
            VIDEO, 0, 9, reason=QuarantineReason.TRUNCATED, detail="ends at 4", table=rows(0, 4), decode_errors=1
        )
        assert (record.status, record.rows, record.reason) == (ClipStatus.QUARANTINED, 4, QuarantineReason.TRUNCATED)
        assert read_annotations(root).num_rows == 4

    def test_a_video_that_could_not_be_cut_has_a_record_and_no_rows(self, ledger: Ledger, root: str) -> None:
        record = ledger.quarantine(VIDEO, 0, 0, reason=QuarantineReason.EMPTY, detail="no bytes")
        assert record.data_uri is None and ledger.completed() == {record.key: record}
        assert read_annotations(root).equals(ROWS.empty_table())

    def test_forget_lets_the_clip_be_done_again(self, ledger: Ledger) -> None:
        record = ledger.quarantine(VIDEO, 0, 9, reason=QuarantineReason.CRASHED, detail="x", table=rows(0, 4))
        ledger.forget(record.key)
        ledger.forget(record.key)
        assert list(ledger.store.list()) == []
        assert ledger.commit(clip(0, 9), rows(0, 9)).status is ClipStatus.COMMITTED


class Dying:
    """A store whose process is killed at one step: before the step's effect, or after it and before its answer."""

    def __init__(self, store: Store, step: int, *, after: bool) -> None:
        self.store, self.uri, self.left, self.after = store, store.uri, step, after

    def _step(self, effect: str, *arguments: object) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KeyboardInterrupt
        getattr(self.store, effect)(*arguments)
        if self.left == 0:
            raise KeyboardInterrupt

    def put(self, key: str, data: bytes) -> None:
        self._step("put", key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._step("put_if_absent", key, data)

    def delete(self, key: str) -> None:
        self._step("delete", key)

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        return self.store.get(key, sha256=sha256)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.store.list(prefix)

    def now_s(self) -> float:
        return self.store.now_s()


STARTS = (0, 3, 6)


def job(store: Store) -> None:
    """Do the clip again that was set aside, commit those without a record, seal."""
    ledger = Ledger(store, "model", "config")
    done = ledger.completed()
    for record in list(done.values()):
        if record.status is ClipStatus.QUARANTINED:
            ledger.forget(done.pop(record.key).key)
    keys = {start: f"{VIDEO.key}/{clip(start, start + 3).key}" for start in STARTS}
    for start, key in keys.items():
        if key not in done:
            ledger.commit(clip(start, start + 3), rows(start, start + 3))
    ledger.seal(list(keys.values()))


def set_one_aside(uri: str) -> Store:
    store = open_store(uri)
    Ledger(store, "model", "config").quarantine(
        VIDEO, 0, 3, reason=QuarantineReason.TIMEOUT, detail="x", table=rows(0, 1)
    )
    return store


def check_a_death(uri: str) -> None:
    """What a reader sees after a death are whole clips; the same job goes on to the whole; nothing else stays."""
    store = open_store(uri)
    if list(store.list("records/")):
        whole = [(r.start, r.stop if r.status is ClipStatus.COMMITTED else 1) for r in read_records(uri)]
        assert read_annotations(uri).equals(pa.concat_tables([rows(*each) for each in whole]).unify_dictionaries())
    job(store)
    assert read_annotations(uri).equals(rows(0, 9)) and store.exists("_SUCCESS")
    collect_garbage(uri, older_than_s=-60)
    assert len(list(store.list("data/"))) == len(list(store.list("records/"))) == len(STARTS)


CHANGES = ("open", "os.mkdir", "os.rename", "os.link", "os.remove")


def die_at_every_change(folder: str) -> None:
    """One process after the other does the job in a folder of its own; the first dies before its first change of the
    file system, the second before its second: of SIGKILL, or where a file is opened to be written, within its bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    for step in itertools.count(1):
        store = set_one_aside(f"{folder}/{step}")
        child = os.fork()
        if child == 0:
            left = iter(range(1, step))

            def die(event: str, said: tuple[Any, ...], left: Iterator[int] = left) -> None:
                reads = event == "open" and not said[2] & (os.O_WRONLY | os.O_RDWR)
                if event in CHANGES and folder in str(said[0]) and not reads and next(left, None) is None:
                    if event == "open":
                        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
                    else:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(die)
            job(store)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return


class TestCrashes:
    @pytest.mark.parametrize("after", [False, True])
    def test_a_death_at_any_step_loses_nothing_and_doubles_nothing(self, root: str, after: bool) -> None:
        for step in itertools.count(1):
            store = set_one_aside(f"{root}/{step}")
            try:
                job(Dying(store, step, after=after))
            except KeyboardInterrupt:
                check_a_death(store.uri)
            else:
                break
        assert step > 9

    def test_a_process_killed_at_any_change_of_a_folder_loses_nothing_and_doubles_nothing(self, tmp_path: Path) -> None:
        code = "import sys; from tests.test_ledger import *; die_at_every_change(sys.argv[1])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["platform", "."])}
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, timeout=120, check=True)
        folders = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
        assert len(folders) > 20 and 20 in {path.stat().st_size for path in tmp_path.rglob(".*.tmp")}
        for folder in folders[:-1]:
            assert not (folder / "_SUCCESS").exists() or len(list(folder.glob("records/*/*"))) == len(STARTS)
            check_a_death(folder.as_uri())

    def test_a_put_whose_answer_was_lost_keeps_its_rows(self, ledger: Ledger, root: str) -> None:
        class Repeating(Dying):
            def put_if_absent(self, key: str, data: bytes) -> None:
                self.store.put_if_absent(key, data)
                self.store.put_if_absent(key, data)  # what an S3 client does after a reset connection

        once = Ledger(Repeating(ledger.store, 0, after=False), "model", "config")
        record = once.commit(clip(0, 4), rows(0, 4))
        assert record.rows == 4 and read_annotations(root).num_rows == 4


class TestSeal:
    def test_success_counts_and_its_hash_depends_on_results_only(self, root: str) -> None:
        contents = []
        for run, order in (("1", (0, 3)), ("2", (3, 0))):
            ledger = Ledger(open_store(f"{root}/{run}"), "model", "config")
            for start in order:
                ledger.commit(clip(start, start + 3), rows(start, start + 3))
            ledger.quarantine(OTHER, 0, 0, reason=QuarantineReason.EMPTY, detail=f"run {run}")
            contents.append(ledger.seal([]))
            assert json.loads(ledger.store.get("_SUCCESS")) == contents[-1]
        assert contents[0] == contents[1]
        assert contents[0]["clips"] == {"committed": 2, "quarantined": 1} and contents[0]["reasons"] == {"empty": 1}
        assert (contents[0]["rows"], contents[0]["videos"]) == (6, 2)

    def test_a_planned_clip_without_record_is_refused(self, ledger: Ledger) -> None:
        record = ledger.commit(clip(0, 3), rows(0, 3))
        with pytest.raises(
            StorageError, match=r"1 clips have no record.*000000003-000000006.*run the same command again"
        ):
            ledger.seal([record.key, f"{VIDEO.key}/{clip(3, 6).key}"])
        assert not ledger.store.exists("_SUCCESS")

    def test_only_old_rows_without_a_record_are_removed(self, ledger: Ledger, root: str) -> None:
        record = ledger.commit(clip(0, 3), rows(0, 3))
        ledger.store.put(f"data/{VIDEO.key}/{32 * '0'}.parquet", b"rows of a writer")
        ledger.seal([])
        assert len(list(ledger.store.list("data/"))) == 2
        assert collect_garbage(root, older_than_s=-60) == 1
        assert [info.key for info in ledger.store.list("data/")] == [record.data_uri]

    def test_probes_of_a_killed_writer_are_removed_once_they_are_old(self, ledger: Ledger, root: str) -> None:
        ledger.commit(clip(0, 3), rows(0, 3))
        ledger.store.put(new_probe(), b"")
        assert collect_garbage(root) == 0
        assert collect_garbage(root, older_than_s=-60) == 1
        assert not list(ledger.store.list("_probe-"))

    def test_files_of_others_in_the_same_folder_are_neither_read_nor_removed(self, ledger: Ledger, root: str) -> None:
        record = ledger.commit(clip(0, 3), rows(0, 3))
        theirs = [
            *("data/match.mp4", f"data/{VIDEO.key}/notes.parquet", f"data/{32 * '0'}.parquet", "data/a/b.parquet"),
            *("records/best.json", f"records/{VIDEO.key}/summary.json", "overlays/theirs.mp4", ".draft.tmp", "x.tmp"),
            *("_probe-1", f"_probe-{32 * 'x'}"),
        ]
        ours = [f"overlays/{VIDEO.name}.mp4", f"overlays/{VIDEO.key}.mp4"]
        for key in theirs + ours:
            ledger.store.put(key, b"x")
        ledger.seal([])
        assert collect_garbage(root, older_than_s=-60) == 0
        assert read_records(root) == [record]
        clear(ledger.store)
        assert [info.key for info in ledger.store.list()] == sorted(theirs)


class TestIndex:
    @pytest.fixture
    def read(self, ledger: Ledger, root: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Keys of the records that are read one by one; three were there when a run was finished."""
        for start in (0, 3, 6):
            ledger.commit(clip(start, start + 3), rows(start, start + 3))
        ledger.seal([])
        read, get = [], type(ledger.store).get

        def noted(store: Store, key: str, **rest: Any) -> bytes:
            if key.startswith("records/"):
                read.append(key)
            return get(store, key, **rest)

        monkeypatch.setattr(type(ledger.store), "get", noted)
        return read

    def test_records_that_nobody_touched_are_read_at_once(self, ledger: Ledger, root: str, read: list[str]) -> None:
        before = ledger.completed()
        assert len(before) == 3 and read_records(root) == sorted(before.values(), key=lambda each: each.start)
        assert read == [] and read_annotations(root).equals(rows(0, 9))

    def test_one_that_is_new_or_done_again_is_read_itself(self, ledger: Ledger, root: str, read: list[str]) -> None:
        ledger.forget(f"{VIDEO.key}/{clip(3, 6).key}")
        again = ledger.commit(clip(3, 6), rows(3, 6))
        new = ledger.commit(clip(0, 3, OTHER), rows(0, 3, OTHER))
        read.clear()
        found = ledger.completed()
        assert {found[again.key], found[new.key]} == {again, new} and len(found) == 4
        assert sorted(read) == sorted(f"records/{record.key}.json" for record in (again, new))
        (ledger.seal([]), read.clear())
        assert ledger.completed() == found and read == []

    def test_a_damaged_one_is_not_believed(self, ledger: Ledger, read: list[str]) -> None:
        before, whole = ledger.completed(), ledger.store.get("_records.parquet")
        for place in range(0, len(whole), 97):
            flipped = bytearray(whole)
            flipped[place] ^= 4
            ledger.store.put("_records.parquet", bytes(flipped))
            assert ledger.completed() == before, place
        read.clear()
        for damaged in (whole[:-9], b"", b"{}"):
            ledger.store.put("_records.parquet", damaged)
            assert ledger.completed() == before and len(read) == 3
            read.clear()


class TestReaders:
    def test_rows_without_a_record_are_invisible(self, ledger: Ledger, root: str) -> None:
        record = ledger.commit(clip(0, 3), rows(0, 3))
        ledger.store.put(f"data/{VIDEO.key}/torn.parquet", ledger.store.get(record.data_uri or ""))
        assert read_annotations(root).num_rows == 3

    def test_damaged_rows_and_records_are_named(self, ledger: Ledger, root: str) -> None:
        record = ledger.commit(clip(0, 3), rows(0, 3))
        ledger.store.put(record.data_uri or "", b"PAR1 damaged")
        with pytest.raises(StorageError, match=r"differ from its recorded SHA-256.*parquet"):
            read_annotations(root)
        ledger.store.put(f"records/{record.key}.json", b"{}")
        with pytest.raises(StorageError, match=r"not a record.*000000000-000000003\.json"):
            read_records(root)

    def test_every_flipped_bit_is_noticed(self, tmp_path: Path) -> None:
        ledger = Ledger(open_store(str(tmp_path)), "model", "config")
        record = ledger.quarantine(VIDEO, 0, 3, reason=QuarantineReason.DAMAGED, detail="x", table=rows(0, 3))
        for key in (f"records/{record.key}.json", record.data_uri or ""):
            data = ledger.store.get(key)
            for bit in np.random.default_rng(0).choice(8 * len(data), 400, replace=False):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                (tmp_path / key).write_bytes(flipped)
                with pytest.raises(StorageError, match=r"\.json|\.parquet"):
                    read_annotations(str(tmp_path))
            (tmp_path / key).write_bytes(data)
        assert read_annotations(str(tmp_path)).num_rows == 3

    def test_a_record_that_is_lost_or_replaced_after_the_end_is_noticed(self, ledger: Ledger, root: str) -> None:
        records = [ledger.commit(clip(start, start + 3), rows(start, start + 3)) for start in (0, 3)]
        place = f"records/{records[0].key}.json"
        standing = ledger.store.get(place)
        ledger.seal([])
        ledger.store.delete(place)
        for read in (read_records, read_annotations, scan_annotations):
            with pytest.raises(StorageError, match=r"lost or changed.*: 1 .*run the same command again"):
                read(root)
        assert read_annotations(root, video=VIDEO).num_rows == 3
        ledger.commit(clip(0, 3), rows(0, 3), metadata={"other": "bytes"})
        with pytest.raises(StorageError, match="lost or changed"):
            read_records(root)
        ledger.store.put(place, standing)
        ledger.commit(clip(6, 9), rows(6, 9))  # a run at work adds to it
        assert len(read_records(root)) == 3
        ledger.store.put("_SUCCESS", b"{}")
        with pytest.raises(StorageError, match=r"not the summary of a finished run.*_SUCCESS"):
            read_records(root)

    def test_records_without_a_checksum_are_read(self, ledger: Ledger, root: str) -> None:
        record = ledger.commit(clip(0, 3), rows(0, 3))
        ledger.store.put(f"records/{record.key}.json", record.model_dump_json().encode())
        assert read_records(root) == [record]

    def test_a_place_without_annotations_is_named(self, root: str) -> None:
        with pytest.raises(StorageError, match=r"no annotations.*give the --output of an annotate run"):
            read_annotations(root)


class TestFaults:
    """What is lost or changed behind the ledger's back is found, and named."""

    def test_rows_lost_cut_changed_or_too_few_and_damaged_records_are_found(self, ledger: Ledger) -> None:
        records = [ledger.commit(clip(at, at + 4), rows(at, at + 4)) for at in range(0, 24, 4)]
        ledger.quarantine(VIDEO, 24, 28, reason=QuarantineReason.DAMAGED, detail="")
        assert find_faults(ledger.store) == {}
        whole, lost, cut, changed, few, torn = records
        data = ledger.store.get(cut.data_uri or "")
        ledger.store.delete(lost.data_uri or "")
        ledger.store.put(cut.data_uri or "", data[:-9])
        ledger.store.put(changed.data_uri or "", data[:50] + b"x" + data[51:])
        place = f"records/{few.key}.json"
        ledger.store.delete(place)
        ledger.store.put(place, few.model_copy(update={"rows": 9}).model_dump_json().encode())
        record = ledger.store.get(f"records/{torn.key}.json")
        ledger.store.put(f"records/{torn.key}.json", record[: len(record) // 2])
        faults = find_faults(ledger.store)
        assert set(faults) == {each.key for each in (lost, cut, changed, few, torn)}
        assert "SHA-256" in faults[cut.key] and faults[few.key] == "4 of 9 rows exist"
        ledger.store.put("_SUCCESS", b"{}")
        for key in faults:
            ledger.discard(key)
        assert not ledger.store.exists("_SUCCESS")
        assert set(ledger.completed()) == {whole.key, f"{VIDEO.key}/000000024-000000028"}

    def test_orphans_go_by_the_store_s_clock_however_wrong_ours_is(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orphan = f"data/{VIDEO.key}/{'0' * 32}.parquet"
        ledger.store.put(orphan, b"a writer at work is about to name this")
        now_s = time.time()
        monkeypatch.setattr(time, "time", lambda: now_s + 40 * 24 * 3600)
        ledger.seal([])
        assert collect_garbage(ledger.store.uri) == 0 and ledger.store.exists(orphan)

    def test_orphans_live_a_day(self, tmp_path: Path) -> None:
        ledger = Ledger(open_store(str(tmp_path)), "model", "config")
        for hours in (23, 25):
            name = f"data/{VIDEO.key}/{hours:032d}.parquet"
            ledger.store.put(name, b"")
            os.utime(tmp_path / name, (time.time() - hours * 3600,) * 2)
        ledger.seal([])
        assert [path.stem[-2:] for path in tmp_path.glob("data/*/*")] == ["23"]
