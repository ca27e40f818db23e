"""What annotate runs keep, refuse and do again. A cluster changes none of it, so this process does the work."""

import os
from functools import partial
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image
from tests.annotating import WH, make_video, run, tiny_model, two_videos

from specktrack.annotating import AnnotateConfig, annotate_here, job
from specktrack.annotating.job import Progress
from specktrack.datasets.patches import PatchesConfig, load_scenes, render_patches
from specktrack.errors import ConfigError, StorageError
from specktrack.ledger import read_annotations, read_records
from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.schema import ClipStatus
from specktrack.storage import open_store, stat
from specktrack.video import write_video
from specktrack.video.unconfined import probe

annotate = partial(job.annotate, inside=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_videos(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def uncut(archive: Path, model: str) -> pa.Table:
    """The archive's rows, each video in one pass."""
    return annotate_here(archive, model=model, device="cpu")


def rot(video: Path, content: bytes | None = None) -> None:
    """Write other bytes, zeros if none are given, without a trace in the file's size and time: it is the same video."""
    status = video.stat()
    video.write_bytes(content or bytes(status.st_size))
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_is_lost_of_an_output_is_found_and_done_again(
    archive: Path, model: str, uncut: pa.Table, tmp_path: Path
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


def test_an_object_that_s3_does_not_give_out_is_set_aside_and_a_store_that_gives_none_ends_the_run(
    archive: Path, model: str, s3: str
) -> None:
    source = f"s3://{s3}/in"
    boto3.client("s3").put_object(Bucket=s3, Key="in/cold.mp4", Body=b"x", StorageClass="GLACIER")
    with pytest.raises(StorageError, match=r"no video can be read.*403"):
        annotate(run(model, f"s3://{s3}/none", source))
    open_store(source).put_file("short.mp4", archive / "short.mp4")
    report = annotate(run(model, f"s3://{s3}/out", source))
    assert report.committed == 1 and report.quarantined == {"unreadable": 1}


def test_gaps_are_repaired_alike_in_cut_and_uncut_video(archive: Path, tmp_path: Path) -> None:
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
    archive: Path, model: str, tmp_path: Path
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
        with pytest.raises(StorageError, match=r"not the file of settings.*run\.json\); remove it"):
            annotate(config)
    (tmp_path / "out" / "run.json").write_text(note)
    report = annotate(changed.model_copy(update={"resume": False}))
    assert report.committed == 1 and (tmp_path / "out" / "kept.txt").exists()
    assert len(list((tmp_path / "out" / "data").rglob("*.parquet"))) == 1


def test_an_output_in_a_folder_of_videos_takes_and_removes_none_of_them(
    archive: Path, model: str, tmp_path: Path
) -> None:
    video = tmp_path / "data" / "short.mp4"
    video.parent.mkdir()
    video.write_bytes((archive / "short.mp4").read_bytes())
    os.utime(video, (0, 0))
    config = run(model, tmp_path, tmp_path)
    assert annotate(config).committed == 1
    assert annotate(config.model_copy(update={"resume": False})).committed == 1 and video.exists()
    assert len(list(tmp_path.glob("data/*/*.parquet"))) == 1


def test_overlays_are_drawn_and_are_no_sources_of_the_next_run(archive: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "short.mp4").write_bytes((archive / "short.mp4").read_bytes())
    config = run(model, tmp_path / "out", tmp_path, overlay=True)
    annotate(config)
    drawn = tmp_path / "out" / "overlays" / "short.mp4"
    assert probe(stat(str(drawn))).frames == 50
    written = drawn.stat().st_mtime_ns
    assert annotate(config).videos == 1 and drawn.stat().st_mtime_ns == written


def test_a_video_whose_overlay_cannot_be_drawn_ends_nothing(archive: Path, model: str, tmp_path: Path) -> None:
    for name in ("gone.mp4", "kept.mp4"):
        (tmp_path / name).write_bytes((archive / "short.mp4").read_bytes())

    def watch(seen: Progress) -> None:
        if seen.done == seen.clips:
            rot(tmp_path / "gone.mp4")

    report = annotate(run(model, tmp_path / "out", tmp_path, overlay=True), watch=watch)
    assert (report.exit_code, report.rows, report.without_overlay) == (0, 100, 1)
    assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["kept.mp4"]


def test_a_replaced_video_is_annotated_anew_and_its_old_rows_are_gone(model: str, tmp_path: Path) -> None:
    video = make_video(tmp_path / "in" / "v.mp4", 60)
    annotate(run(model, tmp_path / "out", video))
    make_video(video, 40, seed=3)
    assert annotate(run(model, tmp_path / "out", video)).committed == 1
    assert read_annotations(str(tmp_path / "out")).num_rows == 40


def test_a_finder_helps_a_template_model_and_belongs_to_the_outputs_identity(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", 6)
    torch.manual_seed(0)
    network = zoo.network_config("global-search")
    finder = str(tmp_path / "finder.safetensors")
    save_model(finder, zoo.build(network).eval(), ModelCard(name="random", network=network))
    config = run("speckdimp", tmp_path / "out", video, prompt="0,12,12,4,4", finder=finder)
    assert annotate(config).rows == 6
    with pytest.raises(ConfigError, match=r"another model or configuration.*finder"):
        annotate(config.model_copy(update={"finder": None}))


def test_quarantined_clips_are_left_so_until_a_retry_is_asked_for(archive: Path, model: str, tmp_path: Path) -> None:
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


def test_a_prompts_file_follows_the_targets_of_a_video_and_of_a_folder_of_pictures(tmp_path: Path) -> None:
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


def test_bad_videos_are_set_aside_with_their_reason_and_the_others_complete(archive: Path, model: str, s3: str) -> None:
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
