"""Whole annotate runs on a local Ray: what is complete stays, what dies is done again, bad videos are set aside."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from tests.annotating import WH, make_video, pids_of, run, tiny_model

from specktrack.annotating import AnnotateConfig, annotate, annotate_here
from specktrack.annotating.annotator import Annotator
from specktrack.annotating.job import Progress, stop_if_hopeless
from specktrack.annotating.pool import Attempts, work
from specktrack.datasets.patches import PatchesConfig, load_scenes, render_patches
from specktrack.errors import ConfigError, MediaError, SpecktrackError, StorageError
from specktrack.ledger import read_annotations, read_records
from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.schema import ClipRecord, ClipStatus, VideoRef
from specktrack.storage import open_store, stat
from specktrack.video import write_video
from specktrack.video.unconfined import probe

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny network with fixed random weights: its rows mean nothing, but any change of them shows."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, 220 and 50 frames."""
    folder = tmp_path_factory.mktemp("archive")
    make_video(folder / "a long one.mp4", 220)
    make_video(folder / "short.mp4", 50, seed=1)
    return folder


@pytest.fixture(scope="module")
def uncut(archive: Path, model: str) -> pa.Table:
    """The archive's rows, each video in one pass in this process."""
    return annotate_here(archive, model=model, device="cpu")


def rot(video: Path, content: bytes | None = None) -> None:
    """Write other bytes, zeros if none are given, without a trace in the file's size and time: it is the same video."""
    status = video.stat()
    video.write_bytes(content or bytes(status.st_size))
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))


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

    def test_what_is_lost_of_an_output_is_found_and_done_again(
        self, archive: Path, model: str, uncut: pa.Table, tmp_path: Path
    ) -> None:
        output = tmp_path / "out"
        annotate(run(model, output, archive))
        lost, *_, cut = sorted(output.glob("data/*/*"))
        lost.unlink()
        cut.write_bytes(cut.read_bytes()[:-1])
        only_look = AnnotateConfig(output=str(output), verify=True)
        found = annotate(only_look)
        assert (found.damaged, found.exit_code) == (2, 4)
        with pytest.raises(StorageError):
            read_annotations(str(output))
        mended = annotate(run(model, output, archive, verify=True))
        assert (mended.damaged, mended.committed, mended.resumed, mended.exit_code) == (0, 2, 4, 0)
        assert read_annotations(str(output)).equals(uncut) and annotate(only_look).exit_code == 0
        next(output.glob("records/*/*")).unlink()
        with pytest.raises(StorageError, match="records were lost"):
            annotate(only_look)

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

    def test_an_object_that_s3_does_not_give_out_is_set_aside_and_a_store_that_gives_none_ends_the_run(
        self, archive: Path, model: str, s3: str
    ) -> None:
        source = f"s3://{s3}/in"
        boto3.client("s3").put_object(Bucket=s3, Key="in/cold.mp4", Body=b"x", StorageClass="GLACIER")
        with pytest.raises(StorageError, match=r"no video can be read.*403"):
            annotate(run(model, f"s3://{s3}/none", source))
        open_store(source).put_file("short.mp4", archive / "short.mp4")
        report = annotate(run(model, f"s3://{s3}/out", source))
        assert report.committed == 1 and report.quarantined == {"unreadable": 1}

    def test_gaps_are_repaired_alike_in_cut_and_uncut_video(self, archive: Path, tmp_path: Path) -> None:
        torch.manual_seed(0)
        config = zoo.network_config({"name": "specknet", "frames_in": 4, "input_wh": WH, "widths": (4, 8, 8, 8)})
        network = zoo.build(config).eval()
        with torch.no_grad():  # one that sees something in most frames
            logits = network(torch.rand(1, 4, 3, WH[1], WH[0]))
            network.head.weight /= logits.std()
            network.head.bias.copy_(-(logits.mean() + 4) / logits.std() - 1.7)
        model = str(tmp_path / "claims.safetensors")
        save_model(model, network, ModelCard(name="claims", network=config))
        uncut = annotate_here(archive, model=model, repair="ballistic", device="cpu")
        assert "interpolated" in uncut["provenance"].to_pylist()
        report = annotate(run(model, tmp_path / "out", archive, repair="ballistic"))
        assert report.clips == 6 and read_annotations(str(tmp_path / "out")).equals(uncut)
        with pytest.raises(ConfigError, match="another model or configuration"):
            annotate(run(model, tmp_path / "out", archive))

    def test_an_output_of_another_configuration_is_refused_with_the_difference(
        self, archive: Path, model: str, tmp_path: Path
    ) -> None:
        config = run(model, tmp_path / "out", archive / "short.mp4")
        annotate(config)
        changed = config.model_copy(update={"clip_s": 3.0})
        with pytest.raises(ConfigError, match=r"another model or configuration.*clip_s 1\.5 -> 3\.0.*--output"):
            annotate(changed)
        (tmp_path / "out" / "kept.txt").write_text("not ours")
        note = (tmp_path / "out" / "run.json").read_text()
        for damaged in (note[:-9], "[]", '{"made_by": 1}', "\0"):
            (tmp_path / "out" / "run.json").write_text(damaged)
            with pytest.raises(StorageError, match=r"not the note.*run\.json\); remove it"):
                annotate(config)
        (tmp_path / "out" / "run.json").write_text(note)
        report = annotate(changed.model_copy(update={"resume": False}))
        assert report.committed == 1 and (tmp_path / "out" / "kept.txt").exists()
        assert len(list((tmp_path / "out" / "data").rglob("*.parquet"))) == 1

    def test_an_output_in_a_folder_of_videos_takes_and_removes_none_of_them(
        self, archive: Path, model: str, tmp_path: Path
    ) -> None:
        video = tmp_path / "data" / "short.mp4"
        video.parent.mkdir()
        video.write_bytes((archive / "short.mp4").read_bytes())
        os.utime(video, (0, 0))
        config = run(model, tmp_path, tmp_path)
        assert annotate(config).committed == 1
        assert annotate(config.model_copy(update={"resume": False})).committed == 1 and video.exists()
        assert len(list(tmp_path.rglob("*.parquet"))) == 1

    def test_overlays_are_drawn_and_are_no_sources_of_the_next_run(
        self, archive: Path, model: str, tmp_path: Path
    ) -> None:
        (tmp_path / "short.mp4").write_bytes((archive / "short.mp4").read_bytes())
        config = run(model, tmp_path / "out", tmp_path, overlay=True)
        annotate(config)
        drawn = tmp_path / "out" / "overlays" / "short.mp4"
        assert probe(stat(str(drawn))).frames == 50
        written = drawn.stat().st_mtime_ns
        assert annotate(config).videos == 1 and drawn.stat().st_mtime_ns == written

    def test_a_video_whose_overlay_cannot_be_drawn_ends_nothing(
        self, archive: Path, model: str, tmp_path: Path
    ) -> None:
        for name in ("gone.mp4", "kept.mp4"):
            (tmp_path / name).write_bytes((archive / "short.mp4").read_bytes())

        def watch(seen: Progress) -> None:
            if seen.done == seen.clips:
                rot(tmp_path / "gone.mp4")

        report = annotate(run(model, tmp_path / "out", tmp_path, overlay=True), watch=watch)
        assert (report.exit_code, report.rows, report.without_overlay) == (0, 100, 1)
        assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["kept.mp4"]

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

    def test_a_replaced_video_is_annotated_anew_and_its_old_rows_are_gone(self, model: str, tmp_path: Path) -> None:
        video = make_video(tmp_path / "in" / "v.mp4", 60)
        annotate(run(model, tmp_path / "out", video))
        make_video(video, 40, seed=3)
        assert annotate(run(model, tmp_path / "out", video)).committed == 1
        assert read_annotations(str(tmp_path / "out")).num_rows == 40


class TestPrompts:
    def test_a_prompts_file_follows_the_targets_of_a_video_and_of_a_folder_of_pictures(self, tmp_path: Path) -> None:
        archive = tmp_path / "archive"
        (archive / "pictures").mkdir(parents=True)
        config = PatchesConfig(frames=8, width_px=96, height_px=64, size_px=(9, 12), distractors=0)
        (first, target), (second, other) = (render_patches(config, i, load_scenes(config)) for i in range(2))
        write_video(archive / "match.mp4", first, fps=30, wh=(96, 64))
        for i, pixels in enumerate(second):
            Image.fromarray(pixels).save(archive / "pictures" / f"{i:04d}.png")
        lines = ["video,frame,cx,cy,w,h"]
        for video, frame, label in (("match.mp4", 0, target), ("pictures", 2, other)):
            box = (*label.xy_px[frame], *label.wh_px[frame])
            lines.append(f"{video},{frame}," + ",".join(f"{value:.2f}" for value in box))
        prompts = tmp_path / "prompts.csv"
        prompts.write_text("\n".join(lines))

        report = annotate(run("speckdimp", tmp_path / "out", archive, prompt=str(prompts)))
        assert (report.videos, report.clips, report.committed, report.rows) == (2, 2, 2, 16)
        rows = read_annotations(str(tmp_path / "out"))
        assert rows.equals(annotate_here(archive, model="speckdimp", prompt=str(prompts), device="cpu"))
        pictures = rows.filter(pc.equal(rows["video"], (archive / "pictures").as_uri() + "/"))
        followed = np.column_stack([pictures[c].to_numpy(zero_copy_only=False) for c in ("x", "y")])
        assert rows["w"].null_count == 0  # the frames before the prompt are followed backwards
        assert np.abs(followed - other.xy_px).max() < 5

        with pytest.raises(ConfigError, match=r"1 of 2 videos have no prompt"):
            prompts.write_text("\n".join(lines[:2]))
            annotate(run("speckdimp", tmp_path / "other", archive, prompt=str(prompts)))

    def test_a_finder_helps_a_template_model_and_belongs_to_the_outputs_identity(self, tmp_path: Path) -> None:
        video = make_video(tmp_path / "v.mp4", 6)
        torch.manual_seed(0)
        network = zoo.network_config("global-search")
        finder = str(tmp_path / "finder.safetensors")
        save_model(finder, zoo.build(network).eval(), ModelCard(name="random", network=network))
        config = run("speckdimp", tmp_path / "out", video, prompt="0,12,12,4,4", finder=finder)
        assert annotate(config).rows == 6
        with pytest.raises(ConfigError, match=r"another model or configuration.*finder"):
            annotate(config.model_copy(update={"finder": None}))


class TestQuarantine:
    def test_bad_videos_are_set_aside_with_their_reason_and_the_others_complete(
        self, archive: Path, model: str, s3: str
    ) -> None:
        source, output = open_store(f"s3://{s3}/in"), f"s3://{s3}/out"
        whole = (archive / "a long one.mp4").read_bytes()
        source.put("good.mp4", whole)
        source.put("empty.mp4", b"")
        source.put("text.mp4", b"this is no video\n" * 100)
        source.put("cut.mp4", whole[: len(whole) // 2])
        report = annotate(run(model, output, source.uri))
        assert report.exit_code == 5 and report.quarantined["empty"] == 1 and report.quarantined["not_a_video"] == 1
        assert report.quarantined["truncated"] >= 1
        records = read_records(output)
        good = [record for record in records if record.video.uri.endswith("good.mp4")]
        assert len(good) == 5 and all(record.status is ClipStatus.COMMITTED for record in good)
        prefix = read_annotations(output).filter(pa.compute.field("video") == source.uri_of("cut.mp4"))
        assert 0 < prefix.num_rows < 220 and prefix["frame"].to_pylist() == list(range(prefix.num_rows))
        assert all(record.detail for record in records if record.reason)
        source.put("cut.mp4", whole)
        source.delete("empty.mp4")
        source.delete("text.mp4")
        mended = annotate(run(model, output, source.uri, retry_quarantined=True))
        assert mended.exit_code == 0 and mended.committed == 5

    def test_quarantined_clips_are_left_so_until_a_retry_is_asked_for(
        self, archive: Path, model: str, tmp_path: Path
    ) -> None:
        video = tmp_path / "short.mp4"
        whole = (archive / "short.mp4").read_bytes()
        video.write_bytes(whole)
        config = run(model, tmp_path / "out", video)
        rot(video)
        assert annotate(config).quarantined == {"not_a_video": 1}
        rot(video, whole)
        assert annotate(config).quarantined == {"not_a_video": 1}
        report = annotate(config.model_copy(update={"retry_quarantined": True}))
        assert (report.committed, report.rows, report.exit_code) == (1, 50, 0)


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
