"""Evaluating: labels and rows are joined by video and frame, and counted as the protocol says."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from specktrack.datasets import export_rows, import_dataset
from specktrack.datasets.dataset import DatasetVideo, make_dataset, save_dataset
from specktrack.datasets.rows import pair_videos, read_rows, rows_of
from specktrack.errors import ConfigError, StorageError
from specktrack.evaluate import EvaluateConfig, EvaluationReport
from specktrack.evaluate.points import evaluate
from specktrack.frames import Trajectory
from specktrack.ledger import Ledger
from specktrack.metrics.boxes import BOX_PROTOCOLS
from specktrack.metrics.protocols import PROTOCOLS
from specktrack.schema import Clip, VideoRef
from specktrack.storage import open_store

NOWHERE = (float("nan"), float("nan"))
Points = Mapping[int, tuple[float, float]]


def track(points: Points, visibility: list[str] | None = None) -> Trajectory:
    frame = np.array(sorted(points), np.int64)
    xy_px = np.array([points[int(f)] for f in frame], np.float32).reshape(-1, 2)
    words = {"visibility": np.array(visibility, object)} if visibility else {}
    return Trajectory(frame, frame / 25, xy_px, np.full(len(frame), 0.5, np.float32), **words)


def dataset(folder: Path, videos: Mapping[str, Trajectory], *, wh: tuple[int, int] = (1280, 720)) -> str:
    """A dataset of labels whose videos are elsewhere."""
    entries = tuple(
        DatasetVideo(
            ref=VideoRef(uri=uri, etag="", size_bytes=0), width_px=wh[0], height_px=wh[1], fps=25, frames=len(labels),
            labels_only=True,
        )
        for uri, labels in videos.items()
    )  # fmt: skip
    rows = pa.concat_tables([labels.to_rows(uri) for uri, labels in videos.items()])
    save_dataset(make_dataset(rows, entries, name="test", layout="rows", source="test"), open_store(str(folder)))
    return str(folder)


def predictions(path: Path, videos: Mapping[str, Trajectory]) -> str:
    pq.write_table(pa.concat_tables([rows.to_rows(uri) for uri, rows in videos.items()]), path)
    return str(path)


def run(
    tmp_path: Path, labels: Mapping[str, Trajectory], rows: Mapping[str, Trajectory], **rest: str
) -> EvaluationReport:
    data, found = dataset(tmp_path / "labels", labels), predictions(tmp_path / "rows.parquet", rows)
    return evaluate(EvaluateConfig(data=data, predictions=found, **rest))  # type: ignore[arg-type]


A, B = "file:///videos/a.mp4", "file:///videos/b.mp4"
LABELS = {A: track({0: (100, 100), 1: (110, 100), 2: (120, 100), 3: NOWHERE, 4: NOWHERE, 5: (150, 100)})}


def test_one_frame_of_each_kind(tmp_path: Path) -> None:
    found = {A: track({0: (103, 104), 1: (116, 108), 2: NOWHERE, 3: (5, 5), 4: NOWHERE, 5: (150, 100)})}
    report = run(tmp_path, LABELS, found)
    assert report.headline == "4 px at 512x288"
    assert report.counts == {"tp": 3, "tn": 1, "fp1": 0, "fp2": 1, "fn": 1, "total": 6}
    assert [report.at[name]["tp"] for name in ("4 px", "5 px")] == [1, 2]
    assert report.at["5 px"]["fp1"] == 1
    assert (report.precision, report.recall, report.f1) == pytest.approx((0.75, 0.75, 0.75))
    assert report.accuracy == pytest.approx(4 / 6)
    assert report.error_px["p50"] == pytest.approx(5.0)
    assert report.error_512x288_px["p50"] == pytest.approx(2.0)
    assert (report.missing, report.beyond_labels, report.exit_code) == (0, 0, 0)


def test_a_labelled_frame_without_a_prediction_is_absent_and_missing(tmp_path: Path) -> None:
    report = run(tmp_path, LABELS, {A: track({0: (100, 100), 3: NOWHERE, 77: (1, 1)})})
    assert report.counts == {"tp": 1, "tn": 2, "fp1": 0, "fp2": 0, "fn": 3, "total": 6}
    assert (report.missing, report.beyond_labels) == (4, 1)


def test_videos_are_matched_by_a_unique_name_where_uris_differ(tmp_path: Path) -> None:
    moved = {"s3://bucket/a.mp4": LABELS[A], "s3://bucket/other.mp4": LABELS[A]}
    report = run(tmp_path, LABELS, moved)
    assert (report.accuracy, report.beyond_labels) == (1.0, 6)


def test_a_video_without_any_prediction_is_counted_as_missing(tmp_path: Path) -> None:
    report = run(tmp_path, {**LABELS, B: LABELS[A]}, LABELS)
    assert report.missing == 6
    assert [(entry.video, entry.missing) for entry in report.per_video] == [(A, 0), (B, 6)]
    assert [entry.at["4 px"]["accuracy"] for entry in report.per_video] == pytest.approx([1.0, 2 / 6])


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no prediction belongs to a labelled video: 'file:///videos/b.mp4'"):
        run(tmp_path, LABELS, {B: LABELS[A]})


def test_names_that_are_not_unique_match_nothing() -> None:
    assert pair_videos(["file:///1/a.mp4", "file:///2/a.mp4"], ["s3://b/a.mp4"]) == {}
    assert pair_videos(["file:///1/a.mp4"], ["s3://b/a.mp4", "s3://c/a.mp4"]) == {}
    assert pair_videos(["file:///1/a.mp4", "file:///2/a.mp4"], ["file:///2/a.mp4"]) == dict.fromkeys(
        ["file:///2/a.mp4"], "file:///2/a.mp4"
    )


def test_wasb_counts_strictly_in_source_px_and_takes_occluded_as_absent(tmp_path: Path) -> None:
    labels = {A: track({0: (100, 100), 1: (100, 100), 2: (50, 50)}, ["clear", "blurred", "occluded"])}
    found = {A: track({0: (104, 100), 1: (103.9, 100), 2: NOWHERE})}
    report = run(tmp_path, labels, found, protocol="wasb")
    assert report.headline == "< 4 px"
    assert report.counts == {"tp": 1, "tn": 1, "fp1": 1, "fp2": 0, "fn": 0, "total": 3}


def test_tennis_protocols_choose_their_clips(tmp_path: Path) -> None:
    frames = {f"file:///t/game{game}/Clip{clip}/": 10 for game in range(1, 11) for clip in (1, 2)}
    assert {uri.split("/")[4] for uri in PROTOCOLS["tennis-game"].counted(frames)} == {"game1", "game4", "game9"}
    chosen = PROTOCOLS["tennis-clip"].counted(frames)
    assert len(chosen) == 6
    assert "file:///t/game10/Clip2/" in chosen
    assert "file:///t/game7/Clip2/" not in chosen
    with pytest.raises(ConfigError, match=r"not a clip of the tennis dataset: 'file:///videos/a.mp4'"):
        run(tmp_path, LABELS, LABELS, protocol="tennis-game")


def test_a_part_that_was_split_off_counts_whole() -> None:
    frames = {f"file:///t/game1/Clip{clip}/": 10 for clip in (8, 10)}
    clips = PROTOCOLS["tennis-clip"]
    assert clips.counted(frames, split="tennis-clip/test") == set(frames)
    with pytest.raises(ConfigError, match=r"the protocol counts only the test part: 'tennis-clip/train'"):
        clips.counted(frames, split="tennis-clip/train")


def test_shuttlecock_and_wasb_count_the_test_part_where_names_tell() -> None:
    matches = {f"s3://b/set/{part}/match1/video/a.mp4": 1 for part in ("train", "test")}
    assert PROTOCOLS["shuttlecock"].counted(matches) == {"s3://b/set/test/match1/video/a.mp4"}
    assert PROTOCOLS["shuttlecock"].counted({A: 3, B: 3}) == {A, B}
    soccer = {f"file:///soccer/videos/ID-{n}.avi": 1 for n in range(1, 7)}
    wasb = PROTOCOLS["wasb"]
    assert wasb.counted(soccer, layout="wasb-soccer") == {f"file:///soccer/videos/ID-{n}.avi" for n in (5, 6)}
    assert wasb.counted(soccer, layout="rows") == set(soccer)
    assert wasb.counted({"file:///club/court2/": 5}, layout="tennis") == {"file:///club/court2/"}


def test_the_published_rule_takes_the_truth_from_the_label_heatmap(tmp_path: Path) -> None:
    """At 1280x720 a label at (101, 100) px is (40.4, 40) at 512x288: its heatmap has its centre at (40, 40)."""
    labels = {A: track({0: (101, 100), 1: (101, 100), 2: NOWHERE})}
    # Network px 44.2 and 44.6 in x, 40 in y: source px (x + 0.5) / 0.4 - 0.5.
    found = {A: track({0: (111.25, 100.75), 1: (112.25, 100.75), 2: NOWHERE})}
    report = run(tmp_path, labels, found, protocol="shuttlecock")
    assert [report.at["published"][name] for name in ("tp", "fp1", "tn")] == [0, 2, 1]
    assert [report.at["4 px at 512x288"][name] for name in ("tp", "fp1")] == [0, 2]
    nearer = {A: track({0: (109.25, 100.75), 1: (110.75, 100.75), 2: NOWHERE})}  # network px 43.4 and 44.0
    report = run(tmp_path, labels, nearer, protocol="shuttlecock")
    assert report.at["published"]["tp"] == 2, "4.0 px from the whole px (40, 40) is a hit"


def test_each_paper_has_its_tolerance() -> None:
    names = {name: [tolerance.name for tolerance in protocol.tolerances] for name, protocol in PROTOCOLS.items()}
    assert names["points"] == ["4 px at 512x288", "4 px", "5 px", "published", "< 4 px"]
    assert names["shuttlecock"] == [*names["points"][:4], "7.5 px at 1280x720"]
    assert names["tennis-game"] == names["tennis-clip"]
    assert names["tennis-game"] == [*names["points"][:4], "< 4 px at 512x288", "5 px at 1280x720"]


def test_wasb_average_precision_by_hand(tmp_path: Path) -> None:
    """Falling scores: hit, miss (FP1), hit, absent label (FP2); one label is not found: recall is over TP + FN = 3."""
    labels = {A: track({0: (10, 10), 1: (10, 10), 2: (10, 10), 3: NOWHERE, 4: (10, 10)})}
    found = track({0: (10, 10), 1: (50, 10), 2: (10, 12), 3: (9, 9), 4: NOWHERE})
    found = Trajectory(found.frame, found.pts_s, found.xy_px, np.array([0.9, 0.8, 0.7, 0.6, 0.1], np.float32))
    report = run(tmp_path, labels, {A: found}, protocol="wasb")
    assert report.counts == {"tp": 2, "tn": 0, "fp1": 1, "fp2": 1, "fn": 1, "total": 5}
    assert report.average_precision == pytest.approx((1 + 2 / 3) / 3)


def test_other_labelled_objects_are_known_distractors(tmp_path: Path) -> None:
    rows = pa.concat_tables(
        [
            track({0: (10, 10), 1: (20, 10), 2: NOWHERE, 3: (40, 10)}).to_rows(A),
            track({0: (90, 90), 1: (90, 90), 2: (90, 90), 3: NOWHERE}).to_rows(A, object_id=1),
        ]
    )
    video = DatasetVideo(
        ref=VideoRef(uri=A, etag="", size_bytes=0), width_px=512, height_px=288, fps=25, frames=4, labels_only=True
    )
    save_dataset(make_dataset(rows, (video,), name="t", layout="rows", source="t"), open_store(str(tmp_path / "l")))
    found = predictions(tmp_path / "r.parquet", {A: track({0: (10, 10), 1: (91, 90), 2: (89, 90), 3: (200, 200)})})
    report = evaluate(EvaluateConfig(data=str(tmp_path / "l"), predictions=found, output=str(tmp_path / "out")))
    assert report.counts == {"tp": 1, "tn": 0, "fp1": 2, "fp2": 1, "fn": 0, "total": 4}
    assert report.distractors is not None
    assert report.distractors.model_dump() == {"frames": 3, "fp1": 1, "fp2": 1}
    assert pq.read_table(tmp_path / "out" / "frames.parquet")["on_other"].to_pylist() == [False, True, True, False]


def test_an_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"protocol='four': there are: points, shuttlecock, .*wasb, latot-all"):
        EvaluateConfig.parse({"data": "x", "predictions": "y", "protocol": "four"}, environment={})
    assert EvaluateConfig.model_json_schema()["properties"]["protocol"]["enum"] == [*PROTOCOLS, *BOX_PROTOCOLS]


@pytest.mark.parametrize("given", [{}, {"model": "m", "predictions": "p"}])
def test_either_a_model_or_predictions(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="give either model or predictions"):
        EvaluateConfig.parse({"data": "x", **given}, environment={})


def test_the_report_and_one_row_per_frame_are_written(tmp_path: Path) -> None:
    found = {A: track({0: (100, 103), 1: NOWHERE, 2: (400, 400), 3: (1, 1), 4: NOWHERE})}
    report = run(tmp_path, LABELS, found, output=str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written == report.model_dump(mode="json")
    frames = pq.read_table(tmp_path / "out" / "frames.parquet").to_pydict()
    assert frames["outcome"] == ["tp", "fn", "fp1", "fp2", "tn", "fn"]
    assert frames["error_px"][:2] == [3.0, None]
    assert frames["x"][5] is None


def test_the_output_of_annotate_is_read_through_its_records(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "annotations"))
    video = VideoRef(uri=A, etag="e", size_bytes=1)
    Ledger(store, "model", "config").commit(Clip(video=video, start=0, stop=6), LABELS[A].to_rows(A), metadata={})
    (tmp_path / "annotations" / "data" / "stray.parquet").write_bytes(b"nobody's")
    report = evaluate(EvaluateConfig(data=dataset(tmp_path / "l", LABELS), predictions=str(tmp_path / "annotations")))
    assert report.accuracy == 1.0


def test_csv_rows_with_only_the_columns_that_matter(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"video,frame,x,y\n{A},0,100,100\n{A},1,,\n{A},2,120,100\n")
    report = evaluate(EvaluateConfig(data=dataset(tmp_path / "l", LABELS), predictions=str(tmp_path / "rows.csv")))
    assert (report.counts["tp"], report.counts["fn"], report.missing) == (2, 2, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"video,frame\na,0\n", r"rows lack columns: \['x', 'y'\]"),
        ("rows.csv", b"video,frame,x,y\na,zero,1,1\n", "not rows"),
        ("rows.csv", b"", "not a CSV file"),
        ("rows.parquet", b"PAR0", "not a Parquet file"),
        ("rows.csv", b"video,frame,x,y\na,,1,1\n", r"not rows: .*'frame' with null values.*rows.csv"),
        ("rows.csv", b"video,frame,x,y\na,0,1,1\na,-1,1,1\n", r"a frame below 0: .*rows.csv, row 1\)"),
        ("rows.csv", b"video,frame,x,y\na,0,1,\n", "a position of which x or y is missing"),
        ("rows.csv", b"video,frame,x,y\na,0,inf,1\n", "a position that is not finite"),
        ("rows.csv", b"video,frame,x,y\n ,0,1,1\n", "a row without the name of its video"),
        ("rows.csv", b"video,frame,x,y,visibility\na,0,1,1,seen\n", "a visibility other than absent, clear"),
        ("rows.csv", b"video,frame,x,y,visibility\na,0,1,1,absent\n", "visibility and position disagree"),
        ("rows.csv", b"video,frame,x,y\na,0,one,1\n", "not rows: .*'one'"),
        ("rows.jsonl", b"{", "not a JSON Lines file"),
        ("rows.txt", b"", r"no rows found: .*; give an output of annotate, or a .parquet, .csv or .jsonl file"),
    ],
)
def test_files_that_are_no_rows(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_rows(str(tmp_path / name))


def test_what_is_exported_can_be_compared_again(tmp_path: Path) -> None:
    data = dataset(tmp_path / "l", LABELS)
    for to in ("csv", "jsonl"):
        export_rows(read_rows(data), to, str(tmp_path / f"rows.{to}"))
        assert evaluate(EvaluateConfig(data=data, predictions=str(tmp_path / f"rows.{to}"))).accuracy == 1.0


def test_a_video_may_be_named_by_number_and_nothing_found_be_nan(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("video,frame,x,y\n00003,0,nan,NaN\n00003,1,5,6\n")
    rows = read_rows(str(tmp_path / "rows.csv"))
    assert rows["x"].to_pylist() == [None, 5.0]
    assert rows["visibility"].to_pylist() == ["absent", "clear"]
    assert pair_videos(["s3://b/00003.mp4"], rows["video"].to_pylist()[:1])


def test_predictions_of_another_video_of_the_same_name_are_refused(tmp_path: Path) -> None:
    from specktrack.datasets.synthetic import SynthConfig, write_archive

    write_archive(SynthConfig(videos=1, frames=3, width_px=64, height_px=48), str(tmp_path / "archive"))
    found = predictions(tmp_path / "rows.parquet", {"s3://other/0000.mp4": track({0: (1, 1), 9: (1, 1)})})
    with pytest.raises(ConfigError, match=r"they reach frame 9, but the video has 3 frames: 's3://other/0000.mp4'"):
        evaluate(EvaluateConfig(data=str(tmp_path / "archive"), predictions=found))


def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        evaluate(EvaluateConfig(data=dataset(tmp_path / "l", LABELS), model="none", output=str(tmp_path / "file")))


def test_predictions_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.parquet"):
        read_rows(str(tmp_path / "none.parquet"))


def test_two_rows_for_one_frame_are_refused(tmp_path: Path) -> None:
    twice = pa.concat_tables([LABELS[A].to_rows(A), LABELS[A].to_rows(A)])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ConfigError, match=r"two rows for one frame of one object: 0"):
        evaluate(EvaluateConfig(data=dataset(tmp_path / "l", LABELS), predictions=str(tmp_path / "twice.parquet")))


def test_rows_of_one_video_are_found_by_name() -> None:
    rows = pa.concat_tables([LABELS[A].to_rows(A), LABELS[A].to_rows(B)])
    assert set(rows_of(rows, "elsewhere/b.mp4", "here")["video"].to_pylist()) == {B}
    with pytest.raises(ConfigError, match=r"no rows of this video: 'c.mp4' \(here\); there are rows of: file:///"):
        rows_of(rows, "c.mp4", "here")
    with pytest.raises(ConfigError, match=r"no rows of this video: 'c.mp4'"):
        rows_of(LABELS[A].to_rows(A), "c.mp4", "here")


def windowed(path: Path, rows: list[tuple[int, int, float | None]], uri: str = A) -> str:
    """A file of rows by window: (window, frame, x or None), all at y = 100."""
    lines = [f"{uri},{w},{f},{'' if x is None else x},{'' if x is None else 100}" for w, f, x in rows]
    path.write_text("\n".join(["video,window,frame,x,y", *lines]) + "\n")
    return str(path)


def test_every_output_of_every_window_is_counted_by_hand(tmp_path: Path) -> None:
    """Four frames, 3-in-3-out: windows 0 and 1. Label x: 100, 110, absent, 150 px at 1280x720."""
    data = dataset(tmp_path / "l", {A: track({0: (100, 100), 1: (110, 100), 2: NOWHERE, 3: (150, 100)})})
    rows = [(0, 0, 100), (0, 1, 118), (0, 2, None), (1, 1, None), (1, 2, 5), (1, 3, 170)]
    config = EvaluateConfig(
        data=data, predictions=windowed(tmp_path / "w.csv", rows), per_window=True, protocol="shuttlecock"
    )
    report = evaluate(config)
    assert report.per_window is not None
    assert (report.per_window.outputs, report.per_window.frames) == (6, 4)
    counts = report.per_window.at["4 px at 512x288"]
    # 8 px off in frame 1 are 3.2 px at 512x288, 20 px in frame 3 are 8.
    assert [counts[name] for name in ("tp", "tn", "fp1", "fp2", "fn", "total")] == [2, 1, 1, 1, 1, 6]
    # Once per frame: frame 1 from window 0, where it is in the middle, and frame 2 from window 1.
    assert report.counts == {"tp": 2, "tn": 0, "fp1": 1, "fp2": 1, "fn": 0, "total": 4}
    assert report.per_window.at["published"]["total"] == 6


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, 1), (0, 0, 2)], r"a window has two rows for one frame: 0"),
        ([(3, 1, 1)], r"a row lies before its window: 'frame 1, window 3'.*row 0"),
    ],
)
def test_rows_that_cannot_be_of_windows(tmp_path: Path, rows: list[tuple[int, int, float]], message: str) -> None:
    data = dataset(tmp_path / "l", LABELS)
    with pytest.raises(ConfigError, match=message):
        evaluate(EvaluateConfig(data=data, predictions=windowed(tmp_path / "w.csv", rows), per_window=True))


def test_counting_windows_needs_their_column(tmp_path: Path) -> None:
    data = dataset(tmp_path / "l", LABELS)
    with pytest.raises(ConfigError, match=r"rows lack the column 'window'.*the first frame of each row's window"):
        evaluate(EvaluateConfig(data=data, predictions=predictions(tmp_path / "r.parquet", LABELS), per_window=True))
    with pytest.raises(ConfigError, match="rows by window must come from a file"):
        evaluate(EvaluateConfig(data=data, predictions=data, per_window=True))


@pytest.mark.parametrize(("outputs", "counted"), [("all", 3 * 5), ("last", 5)])
def test_a_model_is_counted_window_by_window(tmp_path: Path, outputs: str, counted: int) -> None:
    """A network that draws its frame's brightest spot finds the rendered spot in every window."""
    import torch

    from specktrack.evaluate.window_outputs import WindowRunner
    from specktrack.models.checkpoint import Model, ModelCard
    from specktrack.models.zoo import build, network_config
    from specktrack.storage import stat
    from specktrack.video import write_video

    config = network_config({"name": "tracknet-v2", "input_wh": (64, 48), "outputs": outputs})
    network = build(config)

    def brightest(frames_BTCHW: torch.Tensor) -> torch.Tensor:
        return (frames_BTCHW[:, -config.frames_out :, 1] - 0.5) * 40

    network.forward = brightest  # type: ignore[method-assign]
    centres = [(10 + 6 * i, 20) for i in range(7)]
    pictures = np.zeros((7, 48, 64, 3), np.uint8)
    for i, (x, y) in enumerate(centres):
        if i != 4:
            pictures[i, y - 1 : y + 2, x - 1 : x + 2] = 255
    write_video(tmp_path / "a.mp4", list(pictures), fps=30, wh=(64, 48))
    rows = WindowRunner(Model(network, ModelCard(name="spot", network=config))).run(stat(str(tmp_path / "a.mp4")))
    assert len(rows) == counted
    table = rows.to_pylist()
    assert {row["window"] for row in table} == set(range(5))
    assert {row["frame"] - row["window"] for row in table} == ({0, 1, 2} if outputs == "all" else {2})
    for row in table:
        if row["frame"] == 4:
            assert row["x"] is None
        else:
            assert (row["x"], row["y"]) == pytest.approx(centres[row["frame"]], abs=1)


def test_a_region_of_one_pixel_counts_where_a_paper_counts_regions(tmp_path: Path) -> None:
    """WASB's score of such a region is 0.6 / 1.6, and its rule is any region above one half."""
    import torch

    from specktrack.evaluate.window_outputs import WindowRunner
    from specktrack.models.checkpoint import Model, ModelCard
    from specktrack.models.zoo import build, network_config
    from specktrack.storage import stat
    from specktrack.video import write_video

    config = network_config({"name": "wasb", "frames_in": 1, "input_wh": (64, 48), "widths": [4, 4, 4, 4]})
    network = build(config)

    def one_pixel(frames_BTCHW: torch.Tensor) -> torch.Tensor:
        bright = frames_BTCHW.mean(dim=(2, 3, 4)) > 0.5
        logits = torch.full((*bright.shape, 48, 64), -9.0)
        logits[..., 20, 30] = torch.where(bright, 0.4, -0.4)
        return logits

    network.forward = one_pixel  # type: ignore[method-assign]
    pictures = [np.full((48, 64, 3), 255 * (i != 1), np.uint8) for i in range(3)]
    write_video(tmp_path / "a.mp4", pictures, fps=30, wh=(64, 48))
    rows = WindowRunner(Model(network, ModelCard(name="pixel", network=config))).run(stat(str(tmp_path / "a.mp4")))
    assert [(row["x"], row["y"]) for row in rows.to_pylist()] == [(30, 20), (None, None), (30, 20)]
    assert 0.33 < rows["score"][0].as_py() < 0.5


def test_a_model_is_evaluated_on_rendered_videos(tmp_path: Path) -> None:
    """The whole way in this process: an archive, an untrained network, a report with every frame in it."""
    import torch

    from specktrack.datasets.synthetic import SynthConfig, write_archive
    from specktrack.models.checkpoint import ModelCard, save_model
    from specktrack.models.zoo import build, network_config

    torch.manual_seed(0)
    config = network_config({"name": "tracknet-v2", "input_wh": (64, 48)})
    save_model(tmp_path / "m.safetensors", build(config), ModelCard(name="untrained", network=config))
    write_archive(SynthConfig(videos=2, frames=7, width_px=64, height_px=48), str(tmp_path / "archive"))
    report = evaluate(EvaluateConfig(data=str(tmp_path / "archive"), model=str(tmp_path / "m.safetensors")))
    assert (report.frames, report.missing, report.beyond_labels, report.counts["total"]) == (14, 0, 0, 14)
    assert report.exit_code == 0


@pytest.mark.real
def test_the_shuttlecock_protocol_counts_the_10836_frames_that_its_authors_keep(
    tmp_path: Path, real_data: Path
) -> None:
    rallies = str(real_data / "trajectories" / "shuttlecock_test")
    import_dataset("auto", rallies, str(tmp_path / "set"), labels_only_wh_px=(1280, 720))
    labels = {"data": str(tmp_path / "set"), "predictions": str(tmp_path / "set")}
    report = evaluate(EvaluateConfig(protocol="shuttlecock", **labels))
    assert report.at["published"]["tp"] == 9433, "TP, FP1 and FN of the papers' rows: 8980 + 22 + 431 in TrackNetV4's"
    assert (report.frames, report.counts["total"], report.missing, len(report.per_video)) == (10836, 10836, 0, 29)
    assert report.f1 == report.at["published"]["f1"] == 1.0


def test_how_heatmaps_are_read_goes_with_a_model():
    with pytest.raises(ConfigError, match="decoding needs a model"):
        EvaluateConfig.parse({"data": "d", "predictions": "p", "decoding": "hough"}, environment={})
