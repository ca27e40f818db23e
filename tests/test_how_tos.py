"""Every command of a how-to is run, in the page's order, on footage small enough for a test."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.csv
import pytest
import torch
from tests.test_importing import tracknet_v3

from specktrack.cli.main import main
from specktrack.datasets import load_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.frames import Trajectory, trajectories
from specktrack.schema import Clip
from specktrack.storage import open_store, stat
from specktrack.video import read_clip, write_video

DOCS = Path(__file__).parents[1] / "docs"
SMALL = {
    "--steps 400": "--steps 2",
    "--clips 20": "--clips 4",
    "--clip-s 2": "--clip-s 0.5",
    "annotate footage": "annotate footage --input-wh 160x96",
    "evaluate --model mine": "evaluate --model mine --input-wh 160x96",
}
"""What a page says, and what does the same in less time."""


def commands_of(page: str) -> Iterator[str]:
    """The program's lines in the fenced blocks of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("specktrack "):
                yield line


def walk(page: str, by_hand: Mapping[str, Callable[[], None]], small: Mapping[str, str] = SMALL) -> None:
    """Run a page's commands; after one that begins with a key of ``by_hand``, what the page has a person do."""
    begun = dict.fromkeys(by_hand, False)
    for line in commands_of(page):
        for said, less in small.items():
            line = line.replace(said, less)
        assert main(shlex.split(line, comments=True)[1:] + ["--json"] * ("--plain" not in line)) == 0, line
        for key, act in by_hand.items():
            if line.startswith(key):
                begun[key] = True
                act()
    assert all(begun.values())


@pytest.fixture
def footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Trajectory]:
    """Two videos in ``footage/``, and where the ball is in them, by the video's name."""
    write_archive(SynthConfig(videos=2, frames=45, width_px=160, height_px=96, seed=3), str(tmp_path / "rendered"))
    truth = load_dataset(str(tmp_path / "rendered"))
    (tmp_path / "footage").mkdir()
    for source in (tmp_path / "rendered").rglob("*.mp4"):
        shutil.copy(source, tmp_path / "footage")
    monkeypatch.chdir(tmp_path)
    settings = {
        "TRAIN_BATCH_SIZE": "2", "TRAIN_WORKERS": "0", "TRAIN_GPU": "false", "TRAIN_SAMPLING__CROP_WH": "[64, 48]",
        "TRAIN_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"SPECKTRACK_{name}", value)
    return {Path(video.ref.uri).name: truth.track(video) for video in truth.card.videos}


def correct(truth: dict[str, Trajectory]) -> None:
    """Do in each task what a person does: put every point where the ball is, or switch it off."""
    Path("todo/corrected").mkdir()
    for clip in json.loads(Path("todo/picked.json").read_text())["clips"]:
        name = Path(clip["name"]).stem
        tree = ElementTree.parse(f"todo/tasks/{name}.xml")
        rows = truth[Path(clip["video"]).name].between(clip["start"], clip["stop"])
        (track,) = tree.getroot().findall("track")
        for point in list(track):
            track.remove(point)
        for i in range(len(rows)):
            shape = {"frame": str(i), "keyframe": "1", "outside": str(int(not rows.present[i])), "occluded": "0"}
            at = np.nan_to_num(rows.xy_px[i]) + 0.5
            ElementTree.SubElement(track, "points", shape | {"points": f"{at[0]:.2f},{at[1]:.2f}"})
        tree.write(f"todo/corrected/{name}.xml")


def test_my_own_sport(footage: dict[str, Trajectory], capsys: pytest.CaptureFixture[str]) -> None:
    walk("how-to/my-own-sport.md", {"specktrack export": lambda: correct(footage)})
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reports = [report for report in printed if isinstance(report, dict)]
    picked = json.loads(Path("todo/picked.json").read_text())
    assert picked["doubt"] >= picked["doubt_of_all"] > 0
    starts = sorted((clip["video"], clip["start"], clip["stop"]) for clip in picked["clips"])
    assert len(starts) == 4 and all(one[:2] != other[:2] for one, other in pairwise(starts))
    labels = load_dataset("labels")
    by_clip = {Path(uri).name: tracks[0] for uri, tracks in trajectories(labels.rows).items()}
    for clip in picked["clips"]:  # what was corrected is where the ball is in the video that the clip was cut from
        truth = footage[Path(clip["video"]).name].between(clip["start"], clip["stop"])
        np.testing.assert_allclose(by_clip[clip["name"]].xy_px, truth.xy_px, atol=0.01)
    diff = next(report for report in reports if "moved_px" in report)
    changes = diff["changes"]
    assert diff["frames"] == sum(changes.values()) == picked["frames"]
    listed = pyarrow.csv.read_csv("corrections.csv", pyarrow.csv.ReadOptions(use_threads=False))
    assert len(listed) == diff["frames"] - changes["unchanged"] > 0
    comparison = next(report["comparison"] for report in reports if report.get("comparison"))
    before = json.loads(Path("score-before/evaluation.json").read_text())
    assert comparison["ratios"]["f1"]["against"] == before["f1"]
    assert Path("after/_SUCCESS").exists()


def test_the_first_page(footage: dict[str, Trajectory]) -> None:
    walk("index.md", {}, SMALL | {"specktrack doctor": "specktrack doctor --quiet"})
    assert sorted(path.name for path in Path("rows/overlays").iterdir()) == sorted(footage)
    assert Path("rows.csv").read_text().startswith('"video","frame"')


def test_scripts_and_editors(footage: dict[str, Trajectory], capsys: pytest.CaptureFixture[str]) -> None:
    Path("rendered").rename("labels")
    walk("how-to/scripts.md", {})
    out = capsys.readouterr().out
    assert "\nlabelled_frames\t90\n" in out and "_specktrack()" in out and "step_s" not in out


@pytest.mark.slow  # 11 million parameters on a CPU
def test_from_tracknet_scripts(footage: dict[str, Trajectory]) -> None:
    """With weights that have the keys and shapes of TrackNetV3's, and labels as V2 and V3 are published."""
    short = footage["0000.mp4"].between(0, 9)  # eight windows of eight frames for each frame take their time
    with read_clip(Clip(video=stat("footage/0000.mp4"), start=0, stop=9)) as batches:
        pictures = np.concatenate([batch.pixels for batch in batches])
    shutil.rmtree("footage")
    Path("footage").mkdir()
    write_video("footage/0000.mp4", pictures, fps=30, wh=(160, 96))
    Path("ckpts").mkdir()
    shapes = tracknet_v3()
    tensors = {name: torch.zeros(shape) if shape else torch.tensor(1) for name, shape in shapes.items()}
    tensors |= {name: torch.ones(shape) for name, shape in shapes.items() if name.endswith("running_var")}
    torch.save({"model": tensors, "param_dict": {"seq_len": 8, "bg_mode": "concat"}}, "ckpts/TrackNet_best.pt")
    for folder in ("csv", "video"):
        Path("dataset/match1", folder).mkdir(parents=True)
    shutil.copy("footage/0000.mp4", "dataset/match1/video/0000.mp4")
    places = zip(short.frame, short.present, np.nan_to_num(short.xy_px), strict=True)
    lines = [f"{frame},{int(present)},{x:.0f},{y:.0f}" for frame, present, (x, y) in places]
    Path("dataset/match1/csv/0000_ball.csv").write_text("\n".join(["Frame,Visibility,X,Y", *lines]))
    walk("how-to/from-tracknet.md", {})
    assert json.loads(Path("score/evaluation.json").read_text())["frames"] == 9
    assert [path.name for path in Path("csvs").iterdir()] == ["0000_ball.csv"]


def test_a_terabyte_on_a_cluster(footage: dict[str, Trajectory], s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the job around it, which ``test_submit`` is about."""
    for name in footage:
        open_store(f"s3://{s3}/videos").put(name, Path("footage", name).read_bytes())
    less = {"s3://bucket": f"s3://{s3}", "submit annotate": "annotate", "annotate s3": "annotate --input-wh 160x96 s3"}
    walk("how-to/cluster.md", {}, less)
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert reports[0]["estimate"]["frames"] == 90 and reports[0]["estimate"]["cost"] is not None
    assert reports[1]["committed"] == 2 and reports[2]["resumed"] == 2 and reports[3]["damaged"] == 0


def test_every_page_is_walked() -> None:
    walked = set(re.findall(r'walk\("([^"]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {f"how-to/{path.name}" for path in (DOCS / "how-to").iterdir()} | {"index.md"} == walked
