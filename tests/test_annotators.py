"""CVAT and Label Studio: rows go out, corrected rows come back; and what their files may hold besides."""

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from specktrack.cli.main import main
from specktrack.datasets import export_rows, import_dataset, load_dataset
from specktrack.errors import LabelError
from specktrack.frames import Trajectory
from specktrack.schema import Visibility
from specktrack.video import write_video

WH = (64, 48)
GONE = (np.nan, np.nan)
XY = [(10.0, 20.0), (12.5, 18.25), GONE, GONE, (30.0, 5.0), (31.0, 6.5)]


def make_video(path: Path, frames: int = 6) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [np.full((WH[1], WH[0], 3), 40 * i, np.uint8) for i in range(frames)], fps=30, wh=WH)
    return path.as_uri()


def rows(
    uri: str, *objects: list[tuple[float, float]], wh: tuple[float, float] = GONE, words: object = None
) -> pa.Table:
    """Predictions of one or more objects; all of the same size."""
    tables = []
    for number, points in enumerate(objects):
        n = len(points)
        xy = np.array(points, np.float32)
        size = np.where(np.isnan(xy), np.nan, np.array(wh, np.float32)).astype(np.float32)
        named = {"visibility": np.array(words, object)} if words is not None else {}
        track = Trajectory(np.arange(n), np.arange(n) / 30, xy, np.full(n, 0.75, np.float32), wh_px=size, **named)
        tables.append(track.to_rows(uri, object_id=number))
    return pa.concat_tables(tables)


def column(table: pa.Table, name: str, number: int = 0) -> np.ndarray:
    mine = table.filter(pa.compute.equal(table["object"], number)).sort_by("frame")
    return mine[name].to_numpy(zero_copy_only=False)


def assert_same_points(found: pa.Table, sent: pa.Table, number: int = 0, atol: float = 1e-3) -> None:
    for name in ("frame", "x", "y", "w", "h"):
        np.testing.assert_allclose(
            column(found, name, number).astype(float), column(sent, name, number).astype(float), atol=atol, err_msg=name
        )


@pytest.mark.parametrize("to", ["cvat", "label-studio"])
@pytest.mark.parametrize("wh", [GONE, (6.0, 4.0)], ids=["points", "boxes"])
def test_predictions_come_back_as_labels(tmp_path: Path, to: str, wh: tuple[float, float]) -> None:
    sent = rows(make_video(tmp_path / "videos" / "match.mp4"), XY, wh=wh)
    sizes = {sent["video"][0].as_py(): WH}
    export_rows(sent, to, str(tmp_path / "out"), sizes_wh_px=sizes, box_px=8)
    card = import_dataset("auto", str(tmp_path / "out"), str(tmp_path / "set"), videos=str(tmp_path / "videos"))
    assert card.format == to
    found = load_dataset(str(tmp_path / "set")).rows
    assert_same_points(found, sent)
    assert set(found["provenance"].cast(pa.string()).to_pylist()) == {"labelled"}
    assert found["score"].null_count == 6 and set(found["video"].to_pylist()) == set(sizes)


@pytest.mark.parametrize("to", ["cvat", "label-studio"])
def test_several_objects_keep_their_numbers(tmp_path: Path, to: str) -> None:
    late = [GONE, GONE, (5.0, 5.0), (6.0, 6.0), GONE, GONE]  # never there together with object 0
    sent = rows(make_video(tmp_path / "match.mp4"), XY, late, list(reversed(XY)))
    export_rows(sent, to, str(tmp_path), sizes_wh_px={sent["video"][0].as_py(): WH}, box_px=6)
    found = load_dataset(str(tmp_path)).rows
    for number in range(3):
        assert_same_points(found, sent, number)


def test_cvat_has_a_keyframe_for_every_frame_and_an_end_for_every_run(tmp_path: Path) -> None:
    words = ["clear", "occluded", "absent", "absent", "blurred", "clear"]
    sent = rows(make_video(tmp_path / "match.mp4"), XY, words=words)
    assert export_rows(sent, "cvat", str(tmp_path / "task.xml")) == [(tmp_path / "task.xml").as_uri()]
    root = ElementTree.parse(tmp_path / "task.xml").getroot()
    assert (root.findtext("version"), root.findtext("meta/task/size")) == ("1.1", "6")
    (track,) = root.iter("track")
    shapes = [(int(s.get("frame", "")), s.get("outside"), s.get("occluded"), s.get("points")) for s in track]
    assert shapes == [
        (0, "0", "0", "10.500,20.500"), (1, "0", "1", "13.000,18.750"), (2, "1", "0", "13.000,18.750"),
        (4, "0", "0", "30.500,5.500"), (5, "0", "0", "31.500,7.000"),
    ]  # fmt: skip
    assert {s.get("keyframe") for s in track} == {"1"}
    back = load_dataset(str(tmp_path)).rows["visibility"].cast(pa.string()).to_pylist()
    assert back == ["clear", "occluded", "absent", "absent", "clear", "clear"], "CVAT does not know 'blurred'"


def cvat(path: Path, *tracks: str, meta: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<?xml version='1.0'?><annotations><meta>{meta}</meta>{''.join(tracks)}</annotations>")
    return path


def points(frame: int, x: float, y: float, rest: str = "outside='0' occluded='0' keyframe='1'", inner: str = "") -> str:
    return f"<points frame='{frame}' points='{x},{y}' {rest}>{inner}</points>"


def track(*shapes: str, label: str = "ball") -> str:
    return f"<track id='0' label='{label}'>{''.join(shapes)}</track>"


def test_cvat_interpolation_is_told_from_what_a_person_placed(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    between = "outside='0' occluded='0' keyframe='0'"
    shapes = [points(0, 10.5, 5.5), points(1, 11.5, 5.5, between), points(2, 12.5, 5.5, between), points(3, 13.5, 5.5)]
    cvat(tmp_path / "a.xml", track(*shapes, points(4, 13.5, 5.5, "outside='1' occluded='0' keyframe='1'")))
    found = load_dataset(str(tmp_path)).rows
    words = ["labelled", "interpolated", "interpolated", "labelled", "labelled", "labelled"]
    assert found["provenance"].cast(pa.string()).to_pylist() == words
    assert found["gap"].to_pylist() == [0, 2, 2, 0, 0, 0]
    assert found["x"].to_pylist() == [10, 11, 12, 13, None, None]


def test_one_ball_in_many_tracks_is_one_object_and_two_at_a_time_are_two(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    first = track(points(0, 10.5, 5.5), points(1, 11.5, 5.5))
    later = track(points(4, 20.5, 9.5))
    beside = track(points(1, 40.5, 30.5), points(4, 41.5, 30.5))
    cvat(tmp_path / "a.xml", first, later, beside)
    found = load_dataset(str(tmp_path)).rows
    np.testing.assert_array_equal(column(found, "x", 0), [10, 11, np.nan, np.nan, 20, np.nan])
    np.testing.assert_array_equal(column(found, "x", 1), [np.nan, 40, np.nan, np.nan, 41, np.nan])


def test_a_task_that_takes_every_second_frame_labels_only_those(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    task = "<task><size>3</size><start_frame>0</start_frame><stop_frame>5</stop_frame>"
    task += "<frame_filter>step=2</frame_filter><source>elsewhere/a.mp4</source></task>"
    cvat(tmp_path / "task" / "annotations.xml", track(points(2, 10.5, 5.5), points(4, 11.5, 5.5)), meta=task)
    dataset = load_dataset(str(tmp_path))
    assert dataset.rows["frame"].to_pylist() == [0, 2, 4]
    assert dataset.rows["x"].to_pylist() == [None, 10, 11]
    assert dataset.card.notes == ("task/annotations.xml: 3 of 6 frames were looked at",)


def file_of(*tracks: str, meta: str = "") -> str:
    return f"<annotations>{meta}{''.join(tracks)}</annotations>"


NO_NUMBER = "<points frame='0' points='a,b' outside='0'/>"
FLAT = "<box frame='1' xtl='5' ytl='5' xbr='5' ybr='9'/>"
NINE = "<meta><task><size>9</size></task></meta>"
BAD_CVAT = {
    "not xml": ("<annotations><track", r"a\.xml:1 is not XML"),
    "entities": ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", r"a\.xml has a document type"),
    "other xml": ("<kml><annotations/></kml>", r"a\.xml is not a file of CVAT"),
    "no tracks": (file_of(), r"a\.xml holds no tracks"),
    "shape": (file_of(track("<cuboid frame='0'/>")), r"track 0 is a cuboid; points, box, polygon"),
    "outline": (file_of(track("<polygon frame='0'/>")), r"track 0 frame 0 has points '', not 'x,y'"),
    "number": (file_of(track(NO_NUMBER)), r"track 0 frame 0 has points 'a,b', not 'x,y'"),
    "twice": (file_of(track(points(3, 1, 1), points(3, 1, 1))), r"track 0 has frame 3 a second time"),
    "box": (file_of(track(FLAT)), r"frame 1 has a box without a size"),
    "beyond": (file_of(track(points(9, 1, 1))), r"labels frame 9, but its video has 6 frames"),
    "longer": (file_of(track(points(0, 1, 1)), meta=NINE), r"a\.xml goes to frame 8, but its video has 6 frames"),
    "outside": (file_of(track(points(0, 900, 1))), r"frame 0 lies at \(899\.5, 0\.5\) px, outside"),
}


@pytest.mark.parametrize(("text", "message"), BAD_CVAT.values(), ids=BAD_CVAT.keys())
def test_cvat_files_that_cannot_be_right(tmp_path: Path, text: str, message: str) -> None:
    make_video(tmp_path / "a.mp4")
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError, match=message):
        import_dataset("cvat", str(tmp_path), str(tmp_path / "set"))


# --- Label Studio ---------------------------------------------------------------------------------------------------


def key(frame: int, x: float = 25.0, *, enabled: bool = True, **rest: float) -> dict[str, object]:
    return {"frame": frame, "x": x, "y": 50.0, "width": 12.5, "height": 25.0, "enabled": enabled, **rest}


def task(
    video: str, *regions: tuple[str, list[dict[str, object]]], frames: int = 6, **rest: object
) -> dict[str, object]:
    result = [
        {"type": "videorectangle", "value": {"sequence": keys, "labels": [label], "framesCount": frames}}
        for label, keys in regions
    ]
    return {"data": {"video": video}, "annotations": [{"result": result, **rest}]}


def test_label_studio_interpolates_between_keys_and_ends_with_disabled_ones(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    keys = [key(1, 0.0), key(4, 37.5, enabled=False), key(6, 50.0)]
    (tmp_path / "export.json").write_text(json.dumps([task("/data/upload/7/0a1b2c3d-a.mp4", ("ball", keys))]))
    found = load_dataset(str(tmp_path)).rows
    # The centre is (x + 6.25) % of 64 px, half a px less: 3.5 for x = 0.
    np.testing.assert_allclose(column(found, "x").astype(float), [3.5, 11.5, 19.5, 27.5, np.nan, 35.5])
    np.testing.assert_allclose(column(found, "w").astype(float)[:2], [8, 8])
    words = ["labelled", "interpolated", "interpolated", "labelled", "labelled", "labelled"]
    assert found["provenance"].cast(pa.string()).to_pylist() == words


def test_the_last_submitted_annotation_counts_and_cancelled_ones_do_not(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4")
    tasks = [task("a.mp4", ("ball", [key(1, 0.0)])), task("a.mp4", ("ball", [key(1, 50.0)]), was_cancelled=True)]
    tasks[0]["annotations"] += tasks[1]["annotations"]  # type: ignore[operator]
    tasks[0]["predictions"] = task("a.mp4", ("ball", [key(1, 10.0)]))["annotations"]
    (tmp_path / "export.json").write_text(json.dumps(tasks[:1]))
    assert column(load_dataset(str(tmp_path)).rows, "x")[0] == 3.5


BAD_TASKS: Mapping[str, tuple[object, str]] = {
    "frames": (
        task("a.mp4", ("ball", [key(1)]), frames=5),
        r"counts 5 frames in a\.mp4, which has 6: set the frame rate",
    ),
    "rotated": (task("a.mp4", ("ball", [key(1, rotation=5)])), r"task 0 has a rotated box in frame 1"),
    "size": (task("a.mp4", ("ball", [{**key(1), "width": 0}])), r"task 0 has a box without a size in frame 1"),
    "from 1": (task("a.mp4", ("ball", [key(0)])), r"task 0 has frame 0, but Label Studio counts from 1"),
    "lacks": (task("a.mp4", ("ball", [{"frame": 1, "x": 1}])), r"task 0 lacks 'y'"),
    "data": ({"video": "data"}, r"task 0 lacks 'data'"),
    "video": (task("b.mp4", ("ball", [key(1)])), r"has no video beside it \(b\.mp4\); --videos names the place"),
    "twice": (task("a.mp4", ("ball-1", [key(1)]), ("ball-1", [key(1, 60.0)])), "has an object twice in one frame"),
}


@pytest.mark.parametrize(("content", "message"), BAD_TASKS.values(), ids=BAD_TASKS.keys())
def test_tasks_that_cannot_be_right(tmp_path: Path, content: object, message: str) -> None:
    make_video(tmp_path / "a.mp4")
    (tmp_path / "tasks.json").write_text(json.dumps([content]))
    with pytest.raises(LabelError, match=message):
        import_dataset("label-studio", str(tmp_path), str(tmp_path / "set"))


def test_points_become_squares_that_come_back_as_points(tmp_path: Path) -> None:
    sent = rows(make_video(tmp_path / "a.mp4"), XY)
    sizes = {sent["video"][0].as_py(): WH}
    written = export_rows(sent, "label-studio", str(tmp_path / "out" / "t.json"), sizes_wh_px=sizes, box_px=8)
    assert [uri.rpartition("/")[2] for uri in written] == ["t.json", "t.xml"]
    (sent_task,) = json.loads((tmp_path / "out" / "t.json").read_text())
    (prediction,) = sent_task["predictions"]
    value = prediction["result"][0]["value"]
    assert (value["framesCount"], value["labels"], prediction["score"]) == (6, ["ball point"], 0.75)
    assert [(item["frame"], item["enabled"]) for item in value["sequence"]] == [
        (1, True),
        (2, False),
        (5, True),
        (6, False),
    ]
    assert value["sequence"][0]["x"] == pytest.approx(100 * 6.5 / 64), "centre 10.5 px from the edge, 4 px to the left"
    labels = ElementTree.parse(tmp_path / "out" / "t.xml").getroot().iter("Label")
    assert [label.get("value") for label in labels] == value["labels"]


# --- WASB's sports --------------------------------------------------------------------------------------------------


def used(value: int) -> str:
    return f"<attribute name='used_in_game'>{value}</attribute>"


def frames(folder: Path, first: int, n: int, name: str) -> None:
    folder.mkdir(parents=True)
    for i in range(first, first + n):
        Image.new("RGB", WH).save(folder / name.format(i))


def test_wasb_soccer_takes_the_ball_in_the_game_and_knows_the_others(tmp_path: Path) -> None:
    frames(tmp_path / "frames" / "ID-1", 1, 4, "{:05d}.png")
    spare = [points(f, 50, 40, inner=used(0)) for f in (1, 2, 3, 4)]
    hidden = points(3, 12, 5, "outside='0' occluded='1' keyframe='0'", used(1))
    game = [points(2, 10.25, 5, inner=used(1)), hidden, points(4, 13, 5, "outside='1' occluded='0'", used(1))]
    cvat(tmp_path / "annos" / "ID-1.xml", track(*spare), track(*game), meta="<task><size>999</size></task>")
    dataset = load_dataset(str(tmp_path))
    assert dataset.card.format == "wasb-soccer"
    np.testing.assert_array_equal(column(dataset.rows, "x"), [np.nan, 10.25, 12, np.nan])
    words = column(dataset.rows, "visibility").tolist()
    assert words == ["absent", "clear", "occluded", "absent"]
    np.testing.assert_array_equal(column(dataset.rows, "x", 1), [50, 50, 50, 50])
    cvat(tmp_path / "annos" / "ID-1.xml", track(*game), track(points(2, 1, 1, inner=used(1))))
    with pytest.raises(LabelError, match=r"ID-1\.xml has two balls marked as used in the game in frame 2"):
        load_dataset(str(tmp_path))


def test_wasb_basketball_reads_the_first_of_several_points(tmp_path: Path) -> None:
    frames(tmp_path / "videos" / "21800974" / "07", 0, 3, "{:06d}.jpg")
    many = "<points frame='1' outside='0' occluded='0' points='10.5,6.0;40,40'/>"
    cvat(tmp_path / "ball-annos" / "21800974" / "nba_07.xml", track(points(0, 9, 6), many))
    dataset = load_dataset(str(tmp_path))
    assert dataset.card.format == "wasb-basketball"
    assert dataset.rows["x"].to_pylist() == [9, 10.5, None]
    assert dataset.card.videos[0].ref.uri.endswith("/videos/21800974/07/")


def test_wasb_volleyball_counts_lines(tmp_path: Path) -> None:
    frames(tmp_path / "videos" / "4" / "3596", 3576, 3, "{}.jpg")
    folder = tmp_path / "volleyball_ball_annotation" / "4"
    folder.mkdir(parents=True)
    (folder / "3596.txt").write_text("10 20\n0 0\n12.5 21\n\n")
    dataset = load_dataset(str(tmp_path))
    assert dataset.card.format == "wasb-volleyball"
    assert dataset.rows["x"].to_pylist() == [10, None, 12.5]
    (folder / "3596.txt").write_text("10 20\n0\n12.5 x\n")
    with pytest.raises(LabelError, match=r"3596\.txt:2 is '0', not 'x y'.*3596\.txt:3 y is 'x', not a number"):
        load_dataset(str(tmp_path))


def test_multiball_holds_all_objects_and_object_0_is_the_primary(tmp_path: Path) -> None:
    sent = rows(make_video(tmp_path / "match1" / "video" / "a.mp4"), XY, list(reversed(XY)))
    export_rows(sent, "multiball", str(tmp_path / "match1" / "csv"))
    text = (tmp_path / "match1" / "csv" / "a.csv").read_text().splitlines()
    assert text[:3] == ["Frame,Object,Visibility,X,Y", "0,0,1,10.00,20.00", "0,1,1,31.00,6.50"]
    dataset = load_dataset(str(tmp_path))
    assert dataset.card.format == "multiball"
    for number in (0, 1):
        assert_same_points(dataset.rows, sent, number, atol=0.01)
    assert dataset.track(dataset.card.videos[0]).visibility[2] == Visibility.ABSENT


def test_from_predictions_to_corrected_labels_on_the_command_line(tmp_path: Path, capsys) -> None:
    sent = rows(make_video(tmp_path / "videos" / "a.mp4"), XY)
    export_rows(sent, "csv", str(tmp_path / "rows.csv"))
    assert (
        main(["export", str(tmp_path / "rows.csv"), "--to", "label-studio", "--box-px", "8", str(tmp_path / "ls")]) == 0
    )
    arguments = ["data", "import", "label-studio", str(tmp_path / "ls"), str(tmp_path / "set")]
    assert main([*arguments, "--videos", str(tmp_path / "videos"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rows"] == 6
    assert_same_points(load_dataset(str(tmp_path / "set")).rows, sent)


def test_checked_rows_become_labels_of_the_videos_where_they_are_now(tmp_path: Path) -> None:
    uri = make_video(tmp_path / "now" / "a.mp4")
    sent = rows("file:///before/a.mp4", XY, list(reversed(XY)))
    export_rows(sent, "csv", str(tmp_path / "rows.csv"))
    command = ["data", "import", "rows", str(tmp_path / "rows.csv"), str(tmp_path / "set")]
    assert main(command) == 2
    assert main([*command, "--videos", str(tmp_path / "now")]) == 0
    dataset = load_dataset(str(tmp_path / "set"))
    assert (dataset.card.format, dataset.card.videos[0].ref.uri, dataset.card.videos[0].frames) == ("rows", uri, 6)
    for number in (0, 1):
        assert_same_points(dataset.rows, sent, number)
    assert set(dataset.rows["provenance"].cast(pa.string()).to_pylist()) == {"labelled"}
    assert dataset.rows["score"].null_count == 12
    assert main([*command[:-1], str(tmp_path / "alone"), "--labels-only-wh-px", "64x48"]) == 0
    assert load_dataset(str(tmp_path / "alone")).card.videos[0].labels_only
