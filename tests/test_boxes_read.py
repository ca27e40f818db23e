"""Box trackers: each benchmark's layout on disk, and the results of any tracker."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.boxes import lines, path_of_boxes, write

from specktrack.datasets import import_dataset, load_dataset
from specktrack.datasets.benchmarks import read_benchmark, read_boxes
from specktrack.errors import ConfigError, LabelError
from specktrack.evaluate import BoxReport, EvaluateConfig, evaluate
from specktrack.evaluate.trackers import find_results

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
        ({"x/a/a.txt": lines(BOXES), "y/a/a.txt": lines(BOXES)}, "two sequences with the same name: 'a'"),
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
        (None, ["b/img", "c/img"], "all sequences, including those of the test split"),
        ("train", ["c/img"], "only the train split"),
    ]:
        card = import_dataset("latot", both, str(tmp_path / f"s{split}"), split=split, labels_only_wh_px=(64, 48))
        assert [video.ref.uri.rstrip("/")[-5:] for video in card.videos] == names and note in card.notes
    with pytest.raises(ConfigError, match="the list of that split is missing: 'val'"):
        import_dataset("latot", both, str(tmp_path / "v"), split="val", labels_only_wh_px=(64, 48))
    with pytest.raises(ConfigError, match="only box benchmarks have split lists: 'tennis'"):
        import_dataset("tennis", both, str(tmp_path / "v"), split="train")
    with pytest.raises(LabelError, match="a sequence without its pictures: 'b'"):
        import_dataset("latot", labels, str(tmp_path / "alone"))
    alone = import_dataset("latot", labels, str(tmp_path / "alone"), labels_only_wh_px=(1280, 720))
    assert alone.videos[0].labels_only


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
