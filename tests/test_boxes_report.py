"""Box trackers: the report, and what real benchmarks say."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.boxes import lines, path_of_boxes, shifted, write

from specktrack.cli.main import main
from specktrack.datasets.benchmarks import Benchmark, read_benchmark, read_boxes
from specktrack.errors import ConfigError
from specktrack.evaluate import BoxReport, EvaluateConfig, evaluate
from specktrack.evaluate.trackers import as_text
from specktrack.metrics.boxes import (
    BOX_PROTOCOLS,
    is_tiny,
    moves_fast,
    score_sequence,
)

OTB, GOT, UAV, LATOT = (BOX_PROTOCOLS[name] for name in ("otb", "got10k", "uav", "latot-all"))


@pytest.fixture
def latot(tmp_path: Path) -> tuple[str, str]:
    """Three sequences with attributes, of which two are the test split; two trackers, one of them lacks one."""
    tracks = {"a1": path_of_boxes(), "b1": path_of_boxes(side=30), "c1": path_of_boxes(side=8, step=9)}
    attributes = {"a1": "1,0", "b1": "0,0", "c1": "0,1"}
    files = {f"{name}/{name}.txt": lines(boxes, "\t") for name, boxes in tracks.items()}
    files |= {f"annos/attr/{name}.txt": flags + ",0" * 10 for name, flags in attributes.items()}
    files["dataset-split/test.txt"] = "a1.txt\nc1.txt\n"
    results = {f"Good/{name}.txt": lines(boxes) for name, boxes in tracks.items()}
    results |= {f"Off/{name}.txt": lines(shifted(boxes, 4)) for name, boxes in tracks.items() if name != "c1"}
    return write(tmp_path / "LaTOT", files), write(tmp_path / "results", results)


def test_the_report_ranks_trackers_and_groups_by_attribute(latot: tuple[str, str], tmp_path: Path) -> None:
    data, results = latot
    out = tmp_path / "out"
    report = evaluate(EvaluateConfig(data=data, predictions=results, protocol="latot-all", output=str(out)))
    assert isinstance(report, BoxReport)
    assert [entry.tracker for entry in report.trackers] == ["Good", "Off"]
    assert (report.tracker, report.sequences, report.frames, report.tiny, report.precision_px) == ("Good", 3, 120, 2, 5)
    assert report.success_auc == pytest.approx(20 / 21)
    assert report.attributes == {"SV": 1, "FM": 1, "tiny": 2}
    off = report.trackers[1]
    assert off.missing_sequences == ("c1",)
    assert off.by_attribute["SV"].precision == 1.0
    assert off.by_attribute["FM"].success_auc == 0.0
    checks = {check.attribute: check for check in report.attribute_checks}
    assert (checks["SV"].differ, checks["FM"].differ) == (("a1",), ())
    assert json.loads((out / "evaluation.json").read_text()) == report.model_dump(mode="json")
    assert len(pq.read_table(out / "sequences.parquet")) == 6
    page = (out / "report.html").read_text()
    assert "1 sequences without results, counted as lost" in page
    assert "FM (1)" in page
    for name in ("success", "precision", "normalised_precision"):
        drawing = ElementTree.parse(out / f"{name}.svg").getroot()
        assert [text.partition("] ")[2] for text in drawing.itertext() if text.startswith("[")] == ["Good", "Off"]


def test_each_of_latots_twelve_attributes_has_its_scores(tmp_path: Path) -> None:
    """Sequence i has attribute i alone; the tracker is off by i px, so every attribute has a score of its own."""
    tracks = {f"s{i}": path_of_boxes(side=20) for i in range(12)}
    files = {f"annos/{name}.txt": lines(boxes) for name, boxes in tracks.items()}
    files |= {f"annos/attr/s{i}.txt": ",".join("1" if j == i else "0" for j in range(12)) for i in range(12)}
    results = {f"s{i}.txt": lines(shifted(tracks[f"s{i}"], i)) for i in range(12)}
    config = EvaluateConfig(
        data=write(tmp_path / "d", files), predictions=write(tmp_path / "r", results), protocol="latot-all"
    )
    report = evaluate(config)
    assert isinstance(report, BoxReport)
    names = ["SV", "FM", "OV", "IV", "CM", "MB", "BC", "SO", "PO", "FO", "AM", "LI"]  # the paper's table II
    scores = [report.trackers[0].by_attribute[name] for name in names]
    assert [score.sequences for score in scores] == [1] * 12
    assert [score.average_overlap for score in scores] == sorted((s.average_overlap for s in scores), reverse=True)
    assert len({score.average_overlap for score in scores}) == 12
    assert [score.precision for score in scores[:6]] == [1.0] * 6 and scores[6].precision < 0.1


def test_every_figure_is_read_where_it_says(tmp_path: Path) -> None:
    """Of 40 frames the first is given; the others overlap by 0.66 and are off by 0.205 of the box."""
    boxes = path_of_boxes(side=20)
    data = write(tmp_path / "d", {f"{name}.txt": lines(boxes) for name in "ab"})
    off = {"a.txt": lines(shifted(boxes, 4.1)), "b.txt": lines(boxes)}
    gone = {"a.txt": lines(shifted(boxes, 400)), "b.txt": lines(boxes)}
    files = {f"{name}/{file}": text for name, of in (("Off", off), ("Gone", gone)) for file, text in of.items()}
    config = EvaluateConfig(data=data, predictions=write(tmp_path / "r", files | {"Half/b.txt": lines(boxes)}))
    report = evaluate(config.model_copy(update={"protocol": "latot-all"}))
    assert isinstance(report, BoxReport)
    found = {entry.tracker: entry for entry in report.trackers}
    for name, both in (("success_50", 1), ("success_75", 0.5 + 1 / 80), ("normalised_precision", 0.5 + 1 / 80)):
        assert getattr(found["Off"], name) == pytest.approx(both), name
    assert found["Gone"].lost == pytest.approx(39 / 80)  # a sequence that is never lost counts too
    assert found["Half"].lost == 0.5 and found["Half"].missing_sequences == ("a",)


def test_the_test_split_counts_its_sequences_only(latot: tuple[str, str]) -> None:
    data, results = latot
    report = evaluate(EvaluateConfig(data=data, predictions=results, protocol="latot-test"))
    assert isinstance(report, BoxReport)
    assert (report.sequences, report.frames) == (2, 80)
    Path(data, "dataset-split/test.txt").write_text("a1\nz9\n")
    with pytest.raises(ConfigError, match="1 of the 2 sequences of the test split are missing: 'z9'"):
        evaluate(EvaluateConfig(data=data, predictions=results, protocol="latot-test"))
    Path(data, "dataset-split/test.txt").unlink()
    with pytest.raises(ConfigError, match="the list of that split is missing: 'test'"):
        evaluate(EvaluateConfig(data=data, predictions=results, protocol="latot-test"))


def test_the_size_of_the_pictures_decides_too_what_is_tiny(latot: tuple[str, str]) -> None:
    data, results = latot
    for name, wh in {"a1": (100, 90), "c1": (640, 360)}.items():
        Path(data, f"{name}/img").mkdir()
        for i in range(2):
            Image.new("RGB", wh).save(Path(data, f"{name}/img/{i:05d}.jpg"))
    report = evaluate(EvaluateConfig(data=data, predictions=results, protocol="otb"))
    assert isinstance(report, BoxReport)
    assert report.tiny == 1  # a1's ten px are more than 1 % of its pictures


def test_under_pointing_the_hits_stand_first(
    latot: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, results = latot
    out = tmp_path / "out"
    given = ["--predictions", results, "--data", data, "--protocol", "pointing", "--output", str(out)]
    assert main(["evaluate", *given]) == 0
    shown = capsys.readouterr().out
    assert "hits / frames" in shown and "39 / 39" in shown
    page = (out / "report.html").read_text()
    assert main(["report", str(out), str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == page
    assert page.index("pointing</") < page.index("success AUC</")
    rows = pq.read_table(out / "sequences.parquet").to_pylist()
    assert {row["pointing"] for row in rows if row["tracker"] == "Good"} == {1.0}
    assert [row["pointing"] for row in rows if row["sequence"] == "c1"] == [1.0, 0.0]  # Off has no results there
    assert "By pointing." in page


def test_lasot_drops_zero_curves_but_not_missing_sequences(latot: tuple[str, str]) -> None:
    data, results = latot
    report = evaluate(EvaluateConfig(data=data, predictions=results, protocol="lasot"))
    assert isinstance(report, BoxReport)
    assert report.trackers[1].sequences == 3
    assert report.trackers[1].precision == pytest.approx(2 / 3)


def test_got10k_pools_frames(tmp_path: Path) -> None:
    data = write(tmp_path / "d", {"a/a.txt": lines(path_of_boxes(11)), "b/b.txt": lines(path_of_boxes(31))})
    lost = write(tmp_path / "r", {"a.txt": lines(path_of_boxes(11)), "b.txt": lines(path_of_boxes(31) + 500)})
    pooled = evaluate(EvaluateConfig(data=data, predictions=lost, protocol="got10k"))
    assert isinstance(pooled, BoxReport)
    assert (pooled.average_overlap, pooled.success_50, pooled.success_75, pooled.lost) == (0.25, 0.25, 0.25, 0.75)


def test_the_command_line_prints_the_numbers_first(latot: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    data, results = latot
    options = ["evaluate", "--predictions", f"{results}/Good", "--data", data, "--protocol", "otb"]
    assert main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["success_auc"] == pytest.approx(20 / 21)
    assert (report["precision"], report["normalised_precision_auc"]) == (1.0, 1.0)
    assert main(options) == 0
    shown = capsys.readouterr().out
    assert "3 sequences, 120 labels, protocol otb" in shown
    assert "0.952" in shown


def test_text_keeps_fractions() -> None:
    """Whole numbers, as some toolkits write, would cost a perfect tracker half its score at 4 px."""
    boxes = path_of_boxes(side=4.3) + 0.37
    assert np.abs(read_boxes(as_text(boxes), "here") - boxes).max() < 1e-4
    lost = np.where(np.arange(len(boxes))[:, None] % 3 == 1, np.nan, boxes)
    read = read_boxes(as_text(lost), "here")
    assert (read[1] == 0).all()  # no toolkit stops at it, and none takes it for a box
    for rule in (OTB, LATOT, GOT, UAV):
        assert score_sequence(read, boxes, rule).overlap == pytest.approx(score_sequence(lost, boxes, rule).overlap)
    whole = score_sequence(np.floor(boxes), boxes, OTB)
    assert whole.success.mean() < 0.8


def test_a_model_is_run_from_the_first_box(tmp_path: Path) -> None:
    """The pictures may begin before the labels; the tracker is told the first box and sees the frames after it."""
    from specktrack.evaluate import trackers
    from specktrack.frames import FrameBatch, Trajectory, Viewport
    from specktrack.schema import Prompt

    boxes = path_of_boxes(6, side=6)
    frames = tmp_path / "a/img"
    frames.mkdir(parents=True)
    for i in range(9):  # a white target on black; three pictures come before the first label
        picture = np.zeros((60, 80, 3), np.uint8)
        x, y = (boxes[max(0, i - 3), :2]).astype(int)
        picture[y : y + 6, x : x + 6] = 255
        Image.fromarray(picture).save(frames / f"{i:04d}.png")
    entry = {"gt_rect": boxes.tolist(), "img_names": [f"a/img/{i:04d}.png" for i in range(3, 9)]}
    (tmp_path / "set.json").write_text(json.dumps({"a": entry}))

    class Brightest:
        """Follows the white pixels; the box keeps the prompt's size."""

        def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
            return Viewport(source_wh_px, source_wh_px)

        def open(self, prompts: tuple[Prompt, ...]) -> "Brightest":
            [self.prompt] = prompts
            return self

        def push(self, batch: FrameBatch) -> Trajectory:
            centre = [np.argwhere(pixels[..., 0] > 128).mean(axis=0)[::-1] for pixels in batch.pixels]
            size = [self.prompt.box.w_px, self.prompt.box.h_px]
            n = len(batch)
            xy_px, wh_px = np.array(centre, np.float32), np.array([size] * n, np.float32)
            return Trajectory(batch.frame, batch.pts_s, xy_px, np.ones(n, np.float32), wh_px=wh_px)

        def finish(self) -> Trajectory:
            return Trajectory.empty()

    (sequence,) = read_benchmark(str(tmp_path / "set.json")).sequences
    tracker = Brightest()
    found = trackers.run_sequence(tracker, sequence)  # type: ignore[arg-type]
    assert tracker.prompt.frame == 3
    assert np.abs(found - boxes).max() < 1e-5
    for picture in sorted(frames.iterdir())[5:]:
        picture.unlink()
    with pytest.raises(ConfigError, match="6 boxes from picture 3 on, and 5 pictures"):
        trackers.run_sequence(tracker, sequence)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tracking_data(real_data: Path) -> Path:
    return real_data / "tracking"


@pytest.mark.real
def test_dtb70_agrees_with_two_independent_toolkits(tracking_data: Path, tmp_path: Path) -> None:
    folder = tracking_data / "dtb70"
    report = evaluate(
        EvaluateConfig(
            data=str(folder / "DTB70.json"), predictions=str(folder / "results"), protocol="otb", output=str(tmp_path)
        )
    )
    assert isinstance(report, BoxReport)
    mine = {(row["tracker"], row["sequence"]): row for row in pq.read_table(tmp_path / "sequences.parquet").to_pylist()}
    names = {
        "pt_success_auc": "success_auc", "pt_prec@5": "precision_5px", "pt_prec@20": "precision_20px",
        "pt_normprec@0.2": "normalised_precision", "pt_normprec_auc": "normalised_precision_auc",
        "got10k_success": "success_auc", "got10k_prec@5": "precision_5px", "got10k_prec@20": "precision_20px",
    }  # fmt: skip
    with (folder / "oracle_scores.csv").open() as file:
        oracle = list(csv.DictReader(file))
    assert len(oracle) == len(mine) == 210
    for row in oracle:
        found = mine[row["tracker"], row["sequence"]]
        for theirs, ours in names.items():
            assert found[ours] == pytest.approx(float(row[theirs]), abs=1e-6), (row["tracker"], row["sequence"], theirs)
    for entry in report.trackers:
        expected = np.mean([float(row["pt_success_auc"]) for row in oracle if row["tracker"] == entry.tracker])
        assert entry.success_auc == pytest.approx(expected, abs=1e-6)


@pytest.mark.real
def test_lasot_has_52_tiny_sequences_here(tracking_data: Path) -> None:
    benchmark = read_benchmark(str(tracking_data / "lasot_tiny52"))
    assert len(benchmark.sequences) == 52
    assert all(is_tiny(sequence.label_xywh, (1280, 720)) for sequence in benchmark.sequences)
    assert all("LR" in (sequence.attributes or ()) for sequence in benchmark.sequences)


@pytest.mark.real
def test_no_sequence_of_dtb70_or_otb_here_is_tiny(tracking_data: Path) -> None:
    for place in ("dtb70/DTB70.json", "otb"):
        sequences = read_benchmark(str(tracking_data / place)).sequences
        assert not any(is_tiny(sequence.label_xywh, None) for sequence in sequences)


@pytest.mark.real
def test_latot_boat2_in_both_formats(tracking_data: Path, tmp_path: Path) -> None:
    here = tracking_data / "latot"
    texts = {name: (here / f"LaTOT_boat2_{name}.txt").read_text() for name in ("annos_comma", "original_tab")}
    lists = {f"dataset-split/{name}.txt": (here / f"LaTOT_{name}.txt").read_text() for name in ("train", "test")}
    videos = read_benchmark(write(tmp_path / "videos", {"boat2/boat2.txt": texts["original_tab"], **lists}))
    toolkit = read_benchmark(write(tmp_path / "toolkit", {"annos/boat2.txt": texts["annos_comma"]}))
    (sequence,), (copy,) = videos.sequences, toolkit.sequences
    assert len(sequence.label_xywh) == 47
    assert np.abs(sequence.label_xywh - copy.label_xywh).max() <= 0.005
    assert {name: len(names) for name, names in videos.splits.items()} == {"test": 165, "train": 269}
    assert np.sqrt(sequence.label_xywh[:, 2:].prod(axis=1)).mean() == pytest.approx(13.9, abs=0.1)
    assert is_tiny(sequence.label_xywh, (1280, 720))
    assert moves_fast(sequence.label_xywh)
    whole = score_sequence(np.floor(sequence.label_xywh), sequence.label_xywh, LATOT)
    assert whole.success.mean() == pytest.approx(0.775, abs=0.004)  # what whole numbers cost
    assert isinstance(videos, Benchmark)
