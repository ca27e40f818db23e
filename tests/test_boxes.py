"""Box trackers: each benchmark's counting, its layout on disk, results of any tracker, and the report."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from specktrack.box_metrics import (
    BOX_PROTOCOLS,
    box_iou,
    changes_scale,
    is_tiny,
    moves_fast,
    score_sequence,
    size_buckets,
)
from specktrack.cli import main
from specktrack.datasets import import_dataset, load_dataset
from specktrack.datasets.benchmarks import Benchmark, read_benchmark, read_boxes
from specktrack.errors import ConfigError, LabelError
from specktrack.evaluate import BoxReport, EvaluateConfig, evaluate
from specktrack.evaluate.trackers import as_text, find_results

OTB, LASOT, GOT, UAV, LATOT = (BOX_PROTOCOLS[name] for name in ("otb", "lasot", "got10k", "uav", "latot-all"))
POINTING = BOX_PROTOCOLS["pointing"]


def path_of_boxes(n: int = 40, *, side: float = 10, step: float = 3) -> np.ndarray:
    """A target of ``side`` px that moves right, away from every edge."""
    at = np.arange(n)
    return np.stack([20 + step * at, 30 + 0 * at, 0 * at + side, 0 * at + side], axis=1).astype(float)


def shifted(boxes: np.ndarray, dx: float) -> np.ndarray:
    return boxes + np.array([dx, 0, 0, 0])


def lines(boxes: np.ndarray, separator: str = ",") -> str:
    return "".join(separator.join(f"{value:g}" for value in box) + "\n" for box in boxes)


def write(folder: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


# --- counting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOX_PROTOCOLS)
def test_a_perfect_tracker_scores_20_of_21(name: str) -> None:
    """Success asks for more than the threshold, so nothing reaches 1.0; GOT-10k takes 101 thresholds."""
    boxes = path_of_boxes(side=7.3)
    scores = score_sequence(boxes, boxes, BOX_PROTOCOLS[name])
    assert scores.success.mean() == pytest.approx(100 / 101 if name == "got10k" else 20 / 21)
    assert (scores.precision.mean(), scores.normalised.mean(), scores.overlap) == pytest.approx((1, 1, 1))
    assert scores.lost == 0


def test_overlap_is_strict_and_errors_are_not() -> None:
    label = np.array([[10, 10, 10, 10], [10, 10, 10, 10]], float)
    half = score_sequence(np.array([[10, 10, 10, 10], [10, 10, 10, 5]], float), label, OTB)
    assert half.success[9] == 1.0
    assert half.success[10] == 0.5  # IoU 0.5 is not more than 0.5
    three = score_sequence(shifted(label, 3), label, OTB)
    assert list(three.precision[2:4]) == [0.5, 1.0]
    assert list(three.normalised[29:31]) == [0.5, 1.0]


def test_the_first_frame_is_given() -> None:
    label = path_of_boxes(4)
    lost = shifted(label, 1000)
    for protocol in (OTB, LASOT, LATOT, UAV):
        assert score_sequence(lost, label, protocol).success[0] == 0.25
    assert score_sequence(lost, label, GOT).success[0] == 0.0  # not counted at all
    assert score_sequence(lost, label, GOT).frames == 3


def test_what_a_frame_without_a_label_is() -> None:
    """Frame 2 of 4 has no box; a perfect tracker in the others."""
    label = path_of_boxes(4)
    label[2] = 0
    predicted = path_of_boxes(4)
    otb, lasot = score_sequence(predicted, label, OTB), score_sequence(predicted, label, LASOT)
    assert (otb.success[0], otb.precision[50], otb.normalised[0]) == (0.75, 0.75, 1.0)
    assert (lasot.success[0], lasot.precision[0], lasot.normalised[0]) == (0.75, 1.0, 1.0)
    label[2] = np.nan
    uav = score_sequence(predicted, label, UAV)
    assert (uav.frames, uav.success[0], uav.precision[0], uav.normalised[0]) == (3, 1, 1, 1)


def test_what_a_frame_with_a_hidden_target_is() -> None:
    boxes, absent = path_of_boxes(4), np.array([False, False, True, False])
    scores = {name: score_sequence(boxes, boxes, rule, absent=absent) for name, rule in BOX_PROTOCOLS.items()}
    assert scores["otb"].success[0] == 1.0
    assert (scores["lasot"].success[0], scores["lasot"].precision[50], scores["lasot"].frames) == (0.75, 0.75, 4)
    assert (scores["got10k"].success[0], scores["got10k"].frames) == (1.0, 2)
    unlabelled = boxes * [[1], [1], [0], [1]]
    assert score_sequence(boxes, unlabelled, LASOT, absent=absent).precision[50] == 0.75  # hidden comes first


def test_lost_frames_are_those_that_show_the_target() -> None:
    """Of five frames two show nothing; of the other three one is missed."""
    label, absent = path_of_boxes(5), np.array([False, False, True, False, False])
    label[3] = np.nan
    missed = label.copy()
    missed[1, 0] += 500
    for name, rule in BOX_PROTOCOLS.items():
        assert score_sequence(path_of_boxes(5), label, rule, absent=absent).lost == 0, name
        wanted = 1 / 2 if rule.pooled else 1 / 3
        assert score_sequence(missed, label, rule, absent=absent).lost == pytest.approx(wanted), name


def test_a_label_that_touches_zero_is_none_to_the_matlab_toolkits() -> None:
    label = path_of_boxes(4)
    label[1, 0] = 0
    assert score_sequence(label, label, OTB).success[0] == 1.0
    lasot = score_sequence(label, label, LASOT)
    assert (lasot.success[0], lasot.precision[0]) == (0.75, 1.0)


def test_predictions_that_are_no_box() -> None:
    label = path_of_boxes(4, step=0)
    predicted = label.copy()
    predicted[1] = np.nan
    predicted[2, 2] = 0
    held = score_sequence(predicted, label, OTB)
    assert (held.held, held.success[19]) == (2, 1.0)  # the box before stands for them
    assert score_sequence(predicted, label, UAV).success[0] == 0.5


def test_longer_results_are_cut_and_shorter_ones_miss() -> None:
    label = path_of_boxes(4)
    assert score_sequence(path_of_boxes(9), label, OTB).success[0] == 1.0
    short = score_sequence(label[:3], label, OTB)
    assert (short.success[0], short.precision[50], short.missing) == (0.75, 0.75, 1)


def test_got10k_cuts_boxes_at_the_picture() -> None:
    label = np.array([[90, 10, 10, 10]] * 3, float)
    wide = label + np.array([0, 0, 40, 0])
    assert score_sequence(wide, label, GOT).overlap == pytest.approx(0.2)
    assert score_sequence(wide, label, GOT, wh_px=(100, 50)).overlap == pytest.approx(1.0)


def test_pointing_asks_whether_the_centre_lies_in_the_box() -> None:
    label = np.concatenate([path_of_boxes(3, side=4), path_of_boxes(2, side=20)])
    predicted = label + np.array([[0, 0, 0, 0], [2, 0, 0, 0], [2.1, 0, 0, 0], [9, 9, 0, 0], [0, 11, 0, 0]])
    scores = score_sequence(predicted, label, POINTING)
    found = {name: tuple(pair) for name, pair in zip(size_buckets(), scores.pointing, strict=True)}
    assert found["< 8 px"] == (1, 2)
    assert found["16-22 px"] == (1, 2)
    assert scores.pointing[:, 1].sum() == 4  # the first frame was given


@given(st.lists(st.tuples(*[st.floats(1, 50)] * 4), min_size=1, max_size=5), st.floats(-5, 5))
def test_overlap_is_symmetric_and_in_range(boxes: list[tuple[float, ...]], dx: float) -> None:
    one = np.array(boxes)
    other = shifted(one, dx)
    assert np.allclose(box_iou(one, other), box_iou(other, one))
    assert ((box_iou(one, other) >= 0) & (box_iou(one, other) <= 1)).all()
    assert np.allclose(box_iou(one, one), 1)


def test_tiny_fast_and_changing() -> None:
    small = path_of_boxes(side=21.9)
    assert is_tiny(small, (1280, 720))
    assert not is_tiny(small, (200, 200))  # more than 1 % of the picture
    assert not is_tiny(path_of_boxes(side=22), (1280, 720))
    assert moves_fast(path_of_boxes(side=10, step=10.1))
    assert not moves_fast(path_of_boxes(side=10, step=10))
    growing = path_of_boxes(70)
    growing[:, 2] *= np.linspace(1, 4, 70)
    assert changes_scale(growing)
    assert not changes_scale(growing[:30])
    assert changes_scale(growing[:30], fps=10) is False
    assert changes_scale(growing[:60:3], fps=10)
    assert changes_scale(growing[::-1])  # shrinking
    flat = path_of_boxes(side=16, step=9)
    flat[:, 3] = 4.0  # 8 px by the root of its area
    assert moves_fast(flat) and not moves_fast(flat * [7.9 / 9, 1, 1, 1])


# --- layouts --------------------------------------------------------------------------------------------------------

BOXES = path_of_boxes(3)


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
def test_numbers_are_separated_by_anything(separator: str) -> None:
    assert read_boxes(lines(BOXES, separator).encode(), "here").tolist() == BOXES.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n", r"a box has 4 numbers per line, these have: 3 \(here\)"),
        ("1,2,3,4\n1,2,three,4\n", "not a list of boxes"),
    ],
)
def test_texts_that_are_no_boxes(text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read_boxes(text.encode(), "here")


TEXT, TABS, LATOT_FLAGS = lines(BOXES), lines(BOXES, "\t"), "1,0,0,0,1,0,0,0,0,0,0,1"
UAV_LINE = r"struct('name','bird1_2','path','E:\UAV123\bird1\','startFrame',775,'endFrame',777,'nz',6,'ext','jpg')"
LAYOUTS: dict[str, tuple[dict[str, str], str, str]] = {
    "otb": ({"Crossing/groundtruth_rect.txt": TABS, "Crossing/attrs.txt": "SV, BC"}, "Crossing", "Crossing/img"),
    "otb, one of two targets": ({"Jogging/groundtruth_rect.2.txt": TEXT}, "Jogging.2", "Jogging/img"),
    "lasot": (
        {
            "drone/drone-1/groundtruth.txt": TEXT, "drone/drone-1/out_of_view.txt": "0,0,1",
            "drone/drone-1/full_occlusion.txt": "0,0,0",
        },
        "drone-1", "drone/drone-1/img",
    ),
    "got10k": (
        {
            "val/GOT_1/groundtruth.txt": TEXT, "val/GOT_1/absence.label": "0\n0\n0\n", "list.txt": "GOT_1\n",
            "val/GOT_1/cover.label": "8\n8\n0\n", "val/GOT_1/meta_info.ini": "[METAINFO]\nresolution: (1920, 1080)\n",
        },
        "GOT_1", "val/GOT_1",
    ),
    "trackingnet": ({"TRAIN_0/anno/x_0.txt": TEXT}, "x_0", "TRAIN_0/frames/x_0"),
    "uav": (
        {"anno/UAV123/bird1_2.txt": TEXT, "anno/UAV20L/bird1.txt": TEXT, "configSeqs.m": UAV_LINE},
        "bird1_2", "data_seq/UAV123/bird1",
    ),
    "latot": ({"TOT/boat2/boat2.txt": TABS, "annos/attr/boat2.txt": LATOT_FLAGS}, "boat2", "TOT/boat2/img"),
    "latot's toolkit": (
        {"annos/boat2.txt": TEXT, "annos/attr/boat2.txt": LATOT_FLAGS, "test_sequences.txt": "boat2\n"},
        "boat2", "boat2/img",
    ),
    "lasot's toolkit": (
        {"kite-7.txt": TEXT, "absent/kite-7.txt": "0\n0\n1\n", "att/kite-7.txt": "0,0,0,0,0,0,0,0,1,0,0,0,1,0"},
        "kite-7", "kite-7/img",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_where_it_lies(tmp_path: Path, layout: str) -> None:
    files, name, frames = LAYOUTS[layout]
    (sequence,) = read_benchmark(write(tmp_path, files)).sequences
    assert sequence.name == name
    assert sequence.label_xywh.tolist() == BOXES.tolist()
    assert sequence.frames_uri == (tmp_path / frames).as_uri() + "/"
    assert sequence.absent.tolist() == [False, False, layout in ("lasot", "got10k", "lasot's toolkit")]
    expected = {"otb": ("SV", "BC"), "lasot's toolkit": ("SV", "LR")}
    latot = ("SV", "CM", "LI") if layout.startswith("latot") else None
    assert sequence.attributes == expected.get(layout, latot)
    assert sequence.wh_px == ((1920, 1080) if layout == "got10k" else None)
    assert sequence.first_picture == ("000775.jpg" if layout == "uav" else "")


@pytest.mark.parametrize("key", ["img_names", "image_files"])
def test_a_json_file_holds_all_sequences(tmp_path: Path, key: str) -> None:
    entry = {"gt_rect": [*BOXES[:2].tolist(), []], key: [f"a/img/{i:04d}.jpg" for i in (7, 8, 9)], "absent": [1, 0, 1]}
    (tmp_path / "Set.json").write_text(json.dumps({"a": {**entry, "attr": ["Fast Motion"]}}))
    benchmark = read_benchmark(str(tmp_path / "Set.json"))
    (sequence,) = benchmark.sequences
    assert (benchmark.name, benchmark.layout) == ("Set", "json")
    assert sequence.labelled.tolist() == [True, False, False]
    assert (sequence.attributes, sequence.first_picture) == (("Fast Motion",), "0007.jpg")
    assert sequence.frames_uri == (tmp_path / "a/img").as_uri() + "/"


def test_rows_hold_centres_and_sizes(tmp_path: Path) -> None:
    (sequence,) = read_benchmark(write(tmp_path, LAYOUTS["lasot"][0])).sequences
    rows = sequence.to_rows().to_pydict()
    assert (rows["x"][0], rows["y"][0], rows["w"][0], rows["h"][0]) == (24.5, 34.5, 10, 10)  # 20 + 9 / 2
    assert rows["visibility"] == ["clear", "clear", "absent"]
    assert set(rows["provenance"]) == {"labelled"}
    (crossing,) = read_benchmark(write(tmp_path / "otb", LAYOUTS["otb"][0])).sequences
    assert crossing.to_rows()["x"][0].as_py() == 23.5  # OTB counts pixels from 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.mp4": ""}, "no labels of a tracking benchmark"),
        ({"a/a.txt": "1,2,3\n"}, r"a box has 4 numbers per line, these have: 3 \(file:.*a/a.txt\)"),
        ({"a/a.txt": ""}, "a sequence without a box: 'a'"),
        ({"x/a/a.txt": lines(BOXES), "y/a/a.txt": lines(BOXES)}, "two sequences of one name: 'a'"),
        (
            {"a/groundtruth.txt": lines(BOXES), "a/out_of_view.txt": "0,0", "a/full_occlusion.txt": ""},
            "flags for 3 boxes",
        ),
        ({"a/a.txt": lines(BOXES), "attr/a.txt": "1,0,1"}, "3 attributes where 12 are known"),
    ],
)
def test_labels_that_cannot_be_read(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_benchmark(write(tmp_path, files))


def test_files_that_are_no_benchmark(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": {"frames": []}}')
    with pytest.raises(LabelError, match="not a benchmark's JSON file: KeyError: 'gt_rect'"):
        read_benchmark(str(tmp_path / "x.json"))
    with pytest.raises(ConfigError, match="no such folder"):
        read_benchmark(str(tmp_path / "none"))


def test_a_benchmark_is_imported_as_a_dataset(tmp_path: Path) -> None:
    """Rows with sizes on folders of pictures, from the first labelled picture on."""
    for i in range(5):
        (tmp_path / "src/a/img").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60)).save(tmp_path / f"src/a/img/{i:04d}.png")
    entry = {"gt_rect": BOXES.tolist(), "img_names": [f"a/img/{i:04d}.png" for i in (2, 3, 4)]}
    (tmp_path / "src/set.json").write_text(json.dumps({"a": entry}))
    card = import_dataset("latot", str(tmp_path / "src/set.json"), str(tmp_path / "out"))
    assert (card.rows, card.videos[0].frames, card.videos[0].width_px) == (3, 5, 80)
    dataset = load_dataset(str(tmp_path / "out"))
    track = dataset.track(dataset.card.videos[0])
    assert track.frame.tolist() == [2, 3, 4]
    assert track.wh_px.tolist() == [[10, 10]] * 3
    labels = write(tmp_path / "labels", {"b/b.txt": lines(BOXES)})
    lists = {"c/c.txt": lines(BOXES), "dataset-split/train.txt": "c\n", "dataset-split/test.txt": "b\n"}
    both = write(tmp_path / "both", {"b/b.txt": lines(BOXES), **lists})
    for split, names, note in [
        (None, ["b/img", "c/img"], "all sequences, those of the test split too"),
        ("train", ["c/img"], "only the train split"),
    ]:
        card = import_dataset("latot", both, str(tmp_path / f"s{split}"), split=split, labels_only_wh_px=(64, 48))
        assert [video.ref.uri.rstrip("/")[-5:] for video in card.videos] == names and note in card.notes
    with pytest.raises(ConfigError, match="no list of that split is there: 'val'"):
        import_dataset("latot", both, str(tmp_path / "v"), split="val", labels_only_wh_px=(64, 48))
    with pytest.raises(ConfigError, match="only box benchmarks have lists of a split: 'auto'"):
        import_dataset("auto", both, str(tmp_path / "v"), split="train")
    with pytest.raises(LabelError, match="a sequence without its pictures: 'b'"):
        import_dataset("latot", labels, str(tmp_path / "alone"))
    alone = import_dataset("latot", labels, str(tmp_path / "alone"), labels_only_wh_px=(1280, 720))
    assert alone.videos[0].labels_only


# --- results --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "trackers"),
    [
        (["a.txt", "a_time.txt"], ["results"]),
        (["Atom/a.txt", "Dimp/a.txt", "Dimp/b.txt"], ["Atom", "Dimp"]),
        (["dimp/super_dimp_000/a.txt", "dimp/super_dimp_000/a_time.txt"], ["dimp/super_dimp_000"]),
        (["KCF/a/a_001.txt", "KCF/a/a_002.txt", "KCF/a/a_time.txt"], ["KCF"]),
        (["ATOM_tracking_result/a.txt"], ["ATOM"]),
    ],
)
def test_trackers_are_found_however_their_toolkit_wrote_them(
    tmp_path: Path, files: list[str], trackers: list[str]
) -> None:
    place = write(tmp_path / "results", {name: lines(BOXES + (100 if "_002" in name else 0)) for name in files})
    benchmark = read_benchmark(write(tmp_path / "data", {"a/a.txt": lines(BOXES), "b/b.txt": lines(BOXES)}))
    found = find_results(place, benchmark.sequences)
    assert [result.tracker for result in found] == trackers
    boxes = found[0].read("a")
    assert boxes is not None
    assert boxes.tolist() == BOXES.tolist()


def test_the_second_target_of_a_sequence_has_many_names(tmp_path: Path) -> None:
    benchmark = read_benchmark(write(tmp_path / "d", {"Jogging/groundtruth_rect.2.txt": lines(BOXES)}))
    for name in ("Jogging.2", "Jogging-2", "Jogging_2", "jogging_2"):
        place = write(tmp_path / name, {f"{name}.txt": lines(BOXES)})
        assert find_results(place, benchmark.sequences)[0].read("Jogging.2") is not None


def test_results_of_nothing_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"a/a.txt": lines(BOXES)})
    place = write(tmp_path / "results", {"KCF/other.txt": lines(BOXES)})
    with pytest.raises(
        ConfigError, match=r"no results for any sequence .*'KCF/other.txt'.*one text file per sequence: a.txt"
    ):
        evaluate(EvaluateConfig(data=data, predictions=place, protocol="otb"))


def test_rows_are_results_too(tmp_path: Path) -> None:
    """What annotate writes on a benchmark's folders of pictures, and points of trackers that know no size."""
    data = write(tmp_path / "data", {"a/groundtruth_rect.txt": lines(BOXES)})
    (sequence,) = read_benchmark(data).sequences
    pq.write_table(sequence.to_rows(), tmp_path / "rows.parquet")
    whole = evaluate(EvaluateConfig(data=data, predictions=str(tmp_path / "rows.parquet"), protocol="otb"))
    assert isinstance(whole, BoxReport)
    assert whole.success_auc == pytest.approx(20 / 21)
    (tmp_path / "points.csv").write_text("video,frame,x,y\na.mp4,0,23.5,33.5\na.mp4,1,26.5,33.5\na.mp4,2,300,33.5\n")
    points = evaluate(EvaluateConfig(data=data, predictions=str(tmp_path / "points.csv"), protocol="pointing"))
    assert isinstance(points, BoxReport)
    assert points.pointing == 0.5
    shown = [(bucket.size, bucket.hits, bucket.frames) for bucket in points.pointing_by_size if bucket.frames]
    assert points.ranked_by == "pointing" and sum(frames for _, _, frames in shown) == 2 * sum(h for _, h, _ in shown)


# --- the report -----------------------------------------------------------------------------------------------------


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
        assert len(drawing.findall(".//{*}polyline")) == 2


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
    with pytest.raises(ConfigError, match="1 of the 2 sequences of the test split are not there: 'z9'"):
        evaluate(EvaluateConfig(data=data, predictions=results, protocol="latot-test"))
    Path(data, "dataset-split/test.txt").unlink()
    with pytest.raises(ConfigError, match="no list of that split is there: 'test'"):
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

        def open(self, prompt: Prompt) -> "Brightest":
            self.prompt = prompt
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


# --- the real benchmarks --------------------------------------------------------------------------------------------


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
