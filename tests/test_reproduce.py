"""A paper's table from one command: its steps, and all of them on rendered video in the layout of the data set."""

import csv
import json
from pathlib import Path

import pytest

from specktrack.cli.main import main
from specktrack.datasets import load_dataset
from specktrack.datasets.splits import PUBLISHED
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError
from specktrack.evaluate import EvaluateConfig
from specktrack.metrics.protocols import PROTOCOLS
from specktrack.training import TrainConfig, recipe_path
from specktrack.verbs.papers import PAPERS
from specktrack.verbs.reproduce import ReproduceConfig, plan, reproduce


def steps_of(paper, **settings):
    return plan(ReproduceConfig(paper=paper, data="/data", output="/out", **settings))


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_is_made_of_what_there_is(name):
    paper = PAPERS[name]
    assert paper.split in PUBLISHED and paper.tolerance in {each.name for each in PROTOCOLS[paper.protocol].tolerances}
    assert all({"accuracy", "f1"} <= line.figures.keys() for line in paper.lines), "figures that are published"
    for step in steps_of(name):
        if step.verb == "train":
            TrainConfig.parse(step.settings, yaml_file=recipe_path(step.recipe), environment={})
        if step.verb == "evaluate":
            EvaluateConfig.parse(step.settings, environment={})


def test_tracknet_v3_is_trained_read_and_counted_as_published():
    steps = steps_of("tracknetv3", settings={"tracknet-v3": {"epochs": 1}}, address="local")
    assert [f"{step.verb} {step.recipe}".strip() for step in steps] == [
        "data split", "train tracknet-v3", "annotate", "train inpaintnet", "evaluate", "evaluate",
    ]  # fmt: skip
    split, network, rows, repair, without, repaired = (step.settings for step in steps)
    assert (split["by"], split["destination"]) == ("shuttlecock", "/out/parts")
    assert (network["validation"], network["epochs"], network["address"]) == (["/out/parts/val"], 1, "local")
    triangular = {"overlap": 8, "ensemble": "triangular", "decoding": "largest-box"}
    assert triangular.items() <= rows.items() and rows["sources"] == ["/out/parts/train", "/out/parts/val"]
    assert (repair["rows"], repair["data"]) == ("/out/rows", ["/out/parts/train"])
    assert triangular.items() <= without.items() and "repair" not in without
    assert (repaired["repair"], repaired["repair_gap"], repaired["model"]) == ("/out/inpaintnet", 0, "/out/tracknet-v3")


def test_what_a_paper_does_not_train_is_refused():
    with pytest.raises(ConfigError, match=r"tracknetv3 does not train it: 'wasb' .*take tracknet-v3 or inpaintnet"):
        steps_of("tracknetv3", settings={"wasb": {"epochs": 1}})
    with pytest.raises(ConfigError, match=r"no such paper: 'tracknetv9'.*there are: tracknetv2, tracknetv3"):
        steps_of("tracknetv9")


def test_a_wrong_setting_is_found_before_anything_is_done(tmp_path):
    given = {"paper": "tracknetv3", "data": str(tmp_path / "none"), "output": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=r"unknown key 'epoch'; did you mean 'epochs'"):
        reproduce(ReproduceConfig(**given, settings={"inpaintnet": {"epoch": 1}}))
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_done_beside_the_published_figures(tmp_path, capsys):
    arguments = ["reproduce", "tracknetv3", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "overlap=8 ensemble=triangular" in out and "97.51" in out and not (tmp_path / "out").exists()


def shuttlecocks(root: Path) -> str:
    """Two rallies to train and validate on and one to test on, as TrackNetV3 lays its data set out."""
    write_archive(SynthConfig(videos=3, frames=20, width_px=96, height_px=64, sport="badminton"), str(root / "drawn"))
    rows = load_dataset(str(root / "drawn")).rows.to_pylist()
    places = ["train/match1/{}/1_01_00", "train/match1/{}/1_02_00", "test/match1/{}/1_05_02"]
    for uri, place in zip(sorted({row["video"] for row in rows}), places, strict=True):
        video, labels = (root / "set" / f"{place.format(kind)}" for kind in ("video", "csv"))
        for file in (video, labels):
            file.parent.mkdir(parents=True, exist_ok=True)
        Path(uri.removeprefix("file://")).rename(video.with_suffix(".mp4"))
        with labels.with_name(f"{labels.name}_ball.csv").open("w") as sink:
            table = csv.writer(sink)
            table.writerow(["Frame", "Visibility", "X", "Y"])
            for row in (row for row in rows if row["video"] == uri):
                seen = row["x"] is not None
                table.writerow([row["frame"], int(seen), *((row["x"], row["y"]) if seen else (0, 0))])
    return str(root / "set")


def test_the_table_of_tracknet_v3_is_made_from_its_data_set_by_one_command(tmp_path, capsys):
    few = {"workers": 0, "steps": 2, "epochs": 0, "batch_size": 2, "gpu": False, "validate_every": 2}
    few["cache"] = str(tmp_path / "cache")
    small = {"network.input_wh": [48, 32], "sampling.crop_wh": [48, 32]}
    settings = {"tracknet-v3": few | small, "inpaintnet": few}
    out = tmp_path / "out"
    code = main([
        "reproduce", "tracknetv3", "--data", shuttlecocks(tmp_path), "--output", str(out),
        "--settings", json.dumps(settings), "--json",
    ])  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    assert code == 0 and report == json.loads((out / "reproduced.json").read_text())
    assert [row["network"] for row in report["rows"]] == ["tracknet-v3", "inpaintnet"]
    for number, row in enumerate(report["rows"]):
        assert row["counts"]["total"] == 20 and set(row["ours"]) == set(row["published"])
        evaluated = json.loads((out / f"evaluations/{number}" / "evaluation.json").read_text())
        assert row["ours"]["f1"] == round(100 * evaluated["at"]["published"]["f1"], 2)
    assert report["rows"][1]["published"]["f1"] == 98.56
    deciding = {"steps": 2, "epochs": 0, "batch_size": 2}
    assert report["changed"] == {"tracknet-v3": deciding | small, "inpaintnet": deciding}, "beside where it ran"
