"""Whole annotate runs on a local Ray: what is complete stays, what dies is done again, bad videos are set aside."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from tests.annotating import pids_of, run, tiny_model, two_videos

from specktrack.annotating import annotate, annotate_here
from specktrack.annotating.annotator import Annotator
from specktrack.annotating.job import Progress, stop_if_hopeless
from specktrack.annotating.pool import Attempts, work
from specktrack.errors import MediaError, SpecktrackError, StorageError
from specktrack.ledger import read_annotations, read_records
from specktrack.schema import ClipRecord, ClipStatus, VideoRef
from specktrack.storage import open_store

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny network with fixed random weights: its rows mean nothing, but any change of them shows."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_videos(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def uncut(archive: Path, model: str) -> pa.Table:
    """The archive's rows, each video in one pass in this process."""
    return annotate_here(archive, model=model, device="cpu")


class TestAnnotate:
    def test_rows_of_cut_videos_are_those_of_one_pass(
        self, archive: Path, model: str, uncut: pa.Table, tmp_path: Path
    ) -> None:
        report = annotate(run(model, tmp_path / "out", archive))
        assert (report.videos, report.clips, report.committed, report.resumed) == (2, 6, 6, 0)
        assert (report.frames, report.rows, report.exit_code) == (270, 270, 0)
        assert read_annotations(str(tmp_path / "out")).equals(uncut)
        note = json.loads((tmp_path / "out" / "run.json").read_text())
        assert note["status"] == "finished" and note["model_card"]["name"] == "tiny" and note["versions"]["ray"]
        assert note["report"]["seconds"].keys() >= {"plan", "annotate", "decode", "track", "commit"}
        assert json.loads((tmp_path / "out" / "_SUCCESS").read_text())["rows"] == 270

    def test_on_s3_what_is_complete_is_not_done_again(
        self, archive: Path, model: str, uncut: pa.Table, s3: str
    ) -> None:
        source, output = f"s3://{s3}/in", f"s3://{s3}/out"
        for path in archive.iterdir():
            open_store(source).put_file(path.name, path)
        annotate(run(model, output, f"{source}/short.mp4"))
        first = {record.key: record for record in read_records(output)}
        report = annotate(run(model, output, source))
        assert (report.clips, report.committed, report.resumed, report.rows) == (6, 5, 1, 270)
        records = read_records(output)
        assert all(first[record.key] == record for record in records if record.key in first)
        rows = read_annotations(output)
        assert rows.drop_columns("video").equals(uncut.drop_columns("video"))

    def test_ctrl_c_lets_the_clips_at_work_be_finished_and_the_rest_is_done_later(
        self, archive: Path, model: str, tmp_path: Path
    ) -> None:
        """On whichever node they are: none is begun after it."""
        config = run(model, tmp_path / "out", archive, workers=1).model_copy(update={"clip_s": 0.3})

        def watch(seen: Progress) -> None:
            if seen.done == 1:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            annotate(config, watch=watch)
        kept = len(list((tmp_path / "out/records").rglob("*.json")))
        report = annotate(config)
        assert 1 <= report.resumed == kept < report.clips == report.resumed + report.committed

    def test_a_dry_run_counts_and_writes_nothing(self, archive: Path, model: str, tmp_path: Path) -> None:
        (tmp_path / "text.mp4").write_text("not a video")
        report = annotate(run(model, tmp_path / "out", archive, tmp_path / "text.mp4", dry_run=True))
        assert (report.videos, report.clips, report.planned_frames, report.committed) == (3, 6, 270, 0)
        assert report.estimate is not None and report.estimate.workers == 2 and report.estimate.seconds
        assert report.quarantined == {"not_a_video": 1} and not (tmp_path / "out").exists()


class TestDeaths:
    def test_a_row_that_kills_its_worker_again_and_again_is_set_aside(self) -> None:
        class Deadly:
            def __init__(self, attempts: Attempts) -> None:
                self._attempts = attempts

            def __call__(self, row: dict[str, str]) -> list[dict[str, str]]:
                try:
                    attempt = self._attempts.begin(row["key"])
                except MediaError as error:
                    return [{"key": row["key"], "outcome": str(error.reason)}]
                if row["key"] == "poison" or (row["key"] == "once" and attempt == 1):
                    os.kill(os.getpid(), signal.SIGKILL)
                return [{"key": row["key"], "outcome": f"attempt {attempt}"}]

        rows = [{"key": key} for key in ("a", "poison", "b", "once", "c", "d")]
        outcomes = {row["key"]: row["outcome"] for row in work(rows, Deadly, Attempts(), workers=2)}
        assert outcomes.pop("poison") == "crashed" and outcomes.pop("once") == "attempt 2"
        assert outcomes == dict.fromkeys("abcd", "attempt 1")

    def test_an_error_of_ours_keeps_its_class_and_text_across_workers(self) -> None:
        class Failing:
            def __init__(self, place: str) -> None:
                self._place = place

            def __call__(self, row: dict[str, str]) -> list[dict[str, str]]:
                raise StorageError("S3 answered 403", row["key"], self._place, "check the policy")

        with pytest.raises(StorageError, match=r"^S3 answered 403: 'a' \(s3://b\); check the policy$"):
            list(work([{"key": "a"}], Failing, "s3://b"))

    def test_a_run_in_which_everything_crashes_ends(self) -> None:
        def ref(i: int) -> VideoRef:
            return VideoRef(uri=f"file:///{i}.mp4", etag="1", size_bytes=1)

        crashed = {
            str(i): ClipRecord(
                video=ref(i), start=i, stop=i + 1, status="quarantined", reason="crashed", detail="KeyError: 'x'",
                model_sha="m", config_sha="c",
            )
            for i in range(5)
        }  # fmt: skip
        stop_if_hopeless(dict(list(crashed.items())[:4]))
        with pytest.raises(
            SpecktrackError, match=r"the first 5 clips, of 5 videos, all failed.*KeyError.*--retry-quarantined"
        ):
            stop_if_hopeless(crashed)
        committed = crashed["0"].model_copy(update={"status": ClipStatus.COMMITTED, "reason": None})
        stop_if_hopeless(crashed | {"0": committed})
        stop_if_hopeless({key: record.model_copy(update={"video": ref(0)}) for key, record in crashed.items()})

    def test_killed_workers_neither_lose_nor_double_rows(
        self, archive: Path, model: str, uncut: pa.Table, tmp_path: Path
    ) -> None:
        killed: list[int] = []

        def watch(seen: Progress) -> None:
            alive = set(pids_of(f"ray::MapWorker(FlatMap({Annotator.__name__}")) - {*killed}
            if 0 < seen.done < 4 and alive:
                killed.append(alive.pop())
                os.kill(killed[-1], signal.SIGKILL)

        report = annotate(run(model, tmp_path / "out", archive), watch=watch)
        assert killed and report.exit_code == 0
        assert read_annotations(str(tmp_path / "out")).equals(uncut)

    def test_a_killed_driver_is_resumed_by_the_same_command(
        self, archive: Path, model: str, uncut: pa.Table, tmp_path: Path
    ) -> None:
        config = run(model, tmp_path / "out", archive, address="local", workers=1)
        script = (
            "import sys; from specktrack.annotating import *; annotate(AnnotateConfig.model_validate_json(sys.argv[1]))"
        )
        driver = subprocess.Popen(
            [sys.executable, "-c", script, config.model_dump_json()],
            env={name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": "platform"},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 90
        while not list((tmp_path / "out").glob("records/*/*.json")):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        before = {record.key: record for record in read_records(str(tmp_path / "out"))}
        assert not (tmp_path / "out" / "_SUCCESS").exists()
        report = annotate(config)
        assert report.resumed >= len(before) > 0 and report.committed + report.resumed == 6
        assert all(record == before[record.key] for record in read_records(config.output) if record.key in before)
        assert read_annotations(config.output).equals(uncut)

    @pytest.mark.slow
    def test_two_drivers_on_one_output_agree(self, archive: Path, model: str, uncut: pa.Table, tmp_path: Path) -> None:
        config, reports = run(model, tmp_path / "out", archive), []
        drivers = [threading.Thread(target=lambda: reports.append(annotate(config))) for _ in range(2)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
        assert [report.exit_code for report in reports] == [0, 0]
        assert read_annotations(config.output).equals(uncut)
        assert len(list(Path(tmp_path, "out", "data").rglob("*.parquet"))) == 6
