"""Public point labels in and out, and everything an import refuses."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from specktrack.datasets import check_dataset, dataset_stats, export_rows, import_dataset, load_dataset
from specktrack.datasets.checks import find_doubts
from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset
from specktrack.errors import ConfigError, LabelError, StorageError
from specktrack.frames import Trajectory
from specktrack.schema import ROWS, VideoRef, Visibility
from specktrack.video import write_video

WH = (64, 48)
XY = np.array([[10.0, 20.0], [12.5, 18.0], [np.nan, np.nan], [30.0, 5.0]])


def make_video(path: Path, frames: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, [np.full((WH[1], WH[0], 3), 40 * i, np.uint8) for i in range(frames)], fps=30, wh=WH)


def make_frames(folder: Path, frames: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(frames):
        Image.new("RGB", WH, (40 * i, 0, 0)).save(folder / f"{i:04d}.jpg")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def badminton(folder: Path, *lines: str) -> Path:
    make_video(folder / "00001.mp4")
    default = ("0,1,0.15625,0.41667", "1,1,0.1953125,0.375", "2,0,-1,-1", "3,1,0.46875,0.10417")
    write(folder / "00001.csv", "Frame,Ball,x,y", *(lines or default))
    return folder


def shuttlecock(folder: Path) -> Path:
    make_video(folder / "match1" / "video" / "1_01_00.mp4")
    lines = ("0,1,10,20", "1,1,12.5,18", "2,0,0,0", "3,1,30,5")
    write(folder / "match1" / "csv" / "1_01_00_ball.csv", "Frame,Visibility,X,Y", *lines)
    return folder


def tennis(folder: Path) -> Path:
    make_frames(folder / "game1" / "Clip2")
    lines = ("0000.jpg,1,10,20,0", "0001.jpg,2,12.5,18,1", "0002.jpg,0,,,", "0003.jpg,3,30,5,0")
    header = "file name,visibility,x-coordinate,y-coordinate,status"
    write(folder / "game1" / "Clip2" / "Label.csv", header, *lines)
    return folder


def volleyball(folder: Path) -> Path:
    make_frames(folder / "images" / "Clip")
    lines = ("0,0.15625,0.4166667,0", "1,0.1953125,0.375,0", "2,,,0", "3,0.46875,0.1041667,0")
    write(folder / "csvs" / "Clip.csv", "frame_num,x,y,visible", *lines)
    return folder


def positions(dataset: Dataset) -> np.ndarray:
    return dataset.track(dataset.card.videos[0]).xy_px


@pytest.mark.parametrize("layout", [badminton, shuttlecock, tennis, volleyball], ids=lambda layout: layout.__name__)
def test_every_layout_is_recognised_and_gives_the_same_rows(tmp_path: Path, layout) -> None:
    source = layout(tmp_path / "source")
    card = import_dataset("auto", str(source), str(tmp_path / "set"))
    assert card.format == layout.__name__
    dataset = load_dataset(str(tmp_path / "set"))
    assert dataset.card == card
    assert dataset.rows.schema.equals(ROWS)
    np.testing.assert_allclose(positions(dataset), XY, atol=2e-3)
    video = card.videos[0]
    assert (video.width_px, video.height_px, video.fps, video.frames, video.labels_only) == (*WH, 30, 4, False)
    assert dataset.rows["pts_s"].to_pylist() == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30])
    assert set(dataset.rows["provenance"].cast(pa.string()).to_pylist()) == {"labelled"}
    assert dataset.rows["score"].null_count == 4
    assert load_dataset(str(source)).rows.equals(dataset.rows), "an unimported folder is read in memory"


def test_tennis_visibility_has_four_words_and_its_video_is_a_folder(tmp_path: Path) -> None:
    dataset = load_dataset(str(tennis(tmp_path)))
    words = dataset.rows["visibility"].cast(pa.string()).to_pylist()
    assert words == ["clear", "blurred", "absent", "occluded"]
    assert dataset.card.videos[0].ref.uri.endswith("/game1/Clip2/")


def test_shuttlecock_may_lie_flat_and_carry_a_byte_order_mark(tmp_path: Path) -> None:
    make_video(tmp_path / "a b.mp4")
    text = "\ufeffFrame,Visibility,X,Y\r\n0,1,10,20\r\n1,1,12.5,18\r\n2,0,0,0\r\n3,1,30,5\r\n"
    (tmp_path / "a b_ball.csv").write_text(text, encoding="utf-8", newline="")
    np.testing.assert_allclose(positions(load_dataset(str(tmp_path))), XY)


@pytest.mark.parametrize("name", ["Badminton100K", "Tennis50K", "Squash30K"])
def test_sets_of_matches_at_1080p_are_read_in_the_shuttlecock_layout(tmp_path: Path, name: str) -> None:
    for part, match in (("train", "match1"), ("test", "match2")):
        folder = tmp_path / name / part / match
        path = folder / "video" / "1_00_01.mp4"
        path.parent.mkdir(parents=True)
        write_video(path, [np.full((1080, 1920, 3), 40 * i, np.uint8) for i in range(2)], fps=30, wh=(1920, 1080))
        write(folder / "csv" / "1_00_01_ball.csv", "Frame,Visibility,X,Y", "0,1,1900,1070", "1,0,0,0")
    card = import_dataset("auto", str(tmp_path / name), str(tmp_path / "set"))
    assert card.format == "shuttlecock"
    assert [(video.width_px, video.height_px, video.frames) for video in card.videos] == [(1920, 1080, 2)] * 2
    dataset = load_dataset(str(tmp_path / "set"))
    for video in card.videos:
        np.testing.assert_array_equal(dataset.track(video).xy_px, [[1900, 1070], [np.nan, np.nan]])


def test_corrected_labels_and_dropped_frames_are_honoured(tmp_path: Path) -> None:
    shuttlecock(tmp_path)
    lines = ("0,1,10,20", "1,1,50,40", "2,0,0,0", "3,1,30,5")
    write(tmp_path / "match1" / "corrected_csv" / "1_01_00_ball.csv", "Frame,Visibility,X,Y", *lines)
    write(tmp_path / "drop_frame.json", json.dumps({"start": {"1_1_01_00": 1}, "end": {"1_1_01_00": 3}}))
    dataset = load_dataset(str(tmp_path))
    assert dataset.rows["frame"].to_pylist() == [1, 2]
    assert dataset.rows["x"].to_pylist() == [50, None]
    assert dataset.card.videos[0].frames == 4
    assert [note.split()[0] for note in dataset.card.notes] == ["drop_frame.json:", "corrected"]


def test_damaged_table_of_dropped_frames_is_refused(tmp_path: Path) -> None:
    shuttlecock(tmp_path)
    write(tmp_path / "drop_frame.json", '{"begin": {}}')
    with pytest.raises(LabelError, match=r"not a table of dropped frames.*drop_frame\.json.*needs 'start'"):
        load_dataset(str(tmp_path))


def test_labels_without_videos_need_a_size_and_are_marked(tmp_path: Path) -> None:
    shuttlecock(tmp_path)
    shutil.rmtree(tmp_path / "match1" / "video")
    with pytest.raises(LabelError, match=r"1_01_00_ball\.csv has no video beside it \(match1/video/1_01_00\.mp4\)"):
        load_dataset(str(tmp_path))
    card = import_dataset("shuttlecock", str(tmp_path), str(tmp_path / "set"), labels_only_wh_px=WH)
    assert card.videos[0].labels_only
    assert card.videos[0].ref.uri.endswith("/match1/video/1_01_00.mp4")
    assert any(note.startswith("labels only: 1 video") for note in card.notes)
    np.testing.assert_allclose(positions(load_dataset(str(tmp_path / "set"))), XY)


BAD_LINES = {
    "not a number": (["0,1,0.1,0.1", "1,1,abc,0.1"], r"00001\.csv:3 x is 'abc', not a number"),
    "not finite": (["0,1,0.1,0.1", "1,1,nan,0.1"], r"00001\.csv:3 x is 'nan', not finite"),
    "twice": (["0,1,0.1,0.1", "0,1,0.2,0.2"], r"00001\.csv:3 has frame 0 twice"),
    "fields": (["0,1,0.1,0.1", "1,1"], r"00001\.csv:3 does not have 4 fields"),
    "frame": (["0.5,1,0.1,0.1"], r"00001\.csv:2 Frame is '0\.5', not a whole number"),
    "word": (["0,7,0.1,0.1"], r"00001\.csv:2 Ball is '7', not one of 0, 1, 2, 3"),
    "outside": (["0,1,1.5,0.1", *(f"{i},0,-1,-1" for i in (1, 2, 3))], r"frame 0 lies at \(96, 4\.8\) px, outside"),
    "beyond": (["0,1,0.1,0.1", "1,0,-1,-1", "2,0,-1,-1", "9,0,-1,-1"], r"labels frame 9, but its video has 4 frames"),
    "count": (["0,1,0.1,0.1"], r"00001\.csv has 1 labels, but its video has 4 frames"),
    "nothing": ([""], r"00001\.csv holds no labels"),
}


@pytest.mark.parametrize(("lines", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_import_refuses_what_cannot_be_right(tmp_path: Path, lines: Sequence[str], message: str) -> None:
    badminton(tmp_path / "source", *lines)
    with pytest.raises(LabelError, match=message):
        import_dataset("badminton", str(tmp_path / "source"), str(tmp_path / "set"))
    assert not (tmp_path / "set").exists()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    badminton(tmp_path, "x,1,0,0", "y,1,0,0")
    write(tmp_path / "00002.csv", "Frame,Ball,x,y", *(f"{i},9,0,0" for i in range(30)))
    with pytest.raises(LabelError, match=r"00001\.csv:2 .*00001\.csv:3 .*00002\.csv:2 .*and 20 more"):
        load_dataset(str(tmp_path))


def test_slight_overhang_is_kept(tmp_path: Path) -> None:
    badminton(tmp_path, "0,1,1.01,0.5", "1,0,-1,-1", "2,0,-1,-1", "3,0,-1,-1")
    assert positions(load_dataset(str(tmp_path)))[0, 0] == pytest.approx(64.64)


def test_wrong_columns_name_both_headers(tmp_path: Path) -> None:
    make_video(tmp_path / "00001.mp4")
    write(tmp_path / "00001.csv", "Frame,Ball,u,y", "0,1,1,1")
    with pytest.raises(LabelError, match=r"00001\.csv:1 has columns 'Frame,Ball,u,y', badminton has .*none of them is"):
        import_dataset("badminton", str(tmp_path), str(tmp_path / "set"))


def test_unknown_layouts_and_formats_name_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "t,u,v")
    with pytest.raises(LabelError, match=r"no dataset\.json and no label files.*shuttlecock: Frame,Visibility,X,Y"):
        load_dataset(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no such label format: 'soccer'.*one of auto, tennis"):
        import_dataset("soccer", str(tmp_path), str(tmp_path / "set"))


def test_unreadable_video_is_a_problem_of_its_label_file(tmp_path: Path) -> None:
    badminton(tmp_path)
    (tmp_path / "00001.mp4").write_bytes(b"no video at all")
    with pytest.raises(LabelError, match=r"00001\.csv: its video cannot be read"):
        load_dataset(str(tmp_path))


def test_damaged_datasets_are_refused(tmp_path: Path) -> None:
    import_dataset("auto", str(badminton(tmp_path / "source")), str(tmp_path / "set"))
    labels = tmp_path / "set" / "labels.parquet"
    labels.write_bytes(labels.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match=r"SHA-256"):
        load_dataset(str(tmp_path / "set"))
    card = json.loads((tmp_path / "set" / "dataset.json").read_text())
    card["colour"] = "red"
    write(tmp_path / "set" / "dataset.json", json.dumps(card))
    with pytest.raises(ConfigError, match=r"not a dataset card: unknown key 'colour'.*dataset\.json"):
        load_dataset(str(tmp_path / "set"))
    write(tmp_path / "set" / "dataset.json", "[]")
    with pytest.raises(ConfigError, match=r"not a dataset card.*dataset\.json"):
        load_dataset(str(tmp_path / "set"))


def test_a_dataset_beside_its_videos_moves_with_them(tmp_path: Path) -> None:
    import_dataset("badminton", str(badminton(tmp_path / "old")), str(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    dataset = load_dataset(str(tmp_path / "new"))
    assert dataset.card.videos[0].ref.uri == (tmp_path / "new" / "00001.mp4").as_uri()
    np.testing.assert_allclose(positions(dataset), XY, atol=2e-3)
    (tmp_path / "new" / "00001.mp4").write_bytes(b"other")
    with pytest.raises(ConfigError, match=r"has 5 bytes, but its card says \d+"):
        load_dataset(str(tmp_path / "new"))


def test_import_from_s3_to_s3(tmp_path: Path, s3: str) -> None:
    client = boto3.client("s3")
    for path in sorted(shuttlecock(tmp_path).rglob("*.*")):
        client.upload_file(str(path), s3, f"raw/{path.relative_to(tmp_path).as_posix()}")
    card = import_dataset("auto", f"s3://{s3}/raw", f"s3://{s3}/labels")
    assert card.videos[0].ref.uri == f"s3://{s3}/raw/match1/video/1_01_00.mp4"
    np.testing.assert_allclose(positions(load_dataset(f"s3://{s3}/labels")), XY)


# --- out ------------------------------------------------------------------------------------------------------------


def test_tracknet_csv_and_tennis_come_back_unchanged(tmp_path: Path) -> None:
    source = tennis(tmp_path / "source")
    rows = load_dataset(str(source)).rows
    written = export_rows(rows, "tennis", str(tmp_path / "out" / "Label.csv"))
    assert written == [(tmp_path / "out" / "Label.csv").as_uri()]
    shutil.copy(tmp_path / "out" / "Label.csv", source / "game1" / "Clip2" / "Label.csv")
    assert load_dataset(str(source)).rows.equals(rows)
    export_rows(rows, "tracknet-csv", str(tmp_path / "flat"))
    text = (tmp_path / "flat" / "Clip2_ball.csv").read_text()
    assert text == "Frame,Visibility,X,Y\n0,1,10.00,20.00\n1,1,12.50,18.00\n2,0,0,0\n3,1,30.00,5.00\n"


def test_badminton_export_divides_by_the_size(tmp_path: Path) -> None:
    source = badminton(tmp_path / "source")
    dataset = load_dataset(str(source))
    uri = dataset.card.videos[0].ref.uri
    with pytest.raises(ConfigError, match=r"badminton needs the video's size, which is not known.*00001\.mp4"):
        export_rows(dataset.rows, "badminton", str(tmp_path / "out"))
    export_rows(dataset.rows, "badminton", str(source), sizes_wh_px={uri: WH})
    np.testing.assert_allclose(positions(load_dataset(str(source))), XY, atol=2e-3)


def test_plain_csv_and_jsonl_hold_every_column(tmp_path: Path) -> None:
    rows = load_dataset(str(shuttlecock(tmp_path / "source"))).rows
    export_rows(rows, "csv", str(tmp_path / "rows.csv"))
    header, first, _, absent, _ = (tmp_path / "rows.csv").read_text().splitlines()
    assert header.replace('"', "") == ",".join(ROWS.names)
    assert first.endswith(',0,0,0,10,20,,,"clear",,"labelled",0,,')
    assert ",2,0.0666" in absent and ',,,,,"absent",' in absent
    (tmp_path / "folder").mkdir()
    assert export_rows(rows, "jsonl", str(tmp_path / "folder")) == [(tmp_path / "folder" / "rows.jsonl").as_uri()]
    lines = [json.loads(line) for line in (tmp_path / "folder" / "rows.jsonl").read_text().splitlines()]
    assert lines == rows.to_pylist()


def test_exports_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    rows = load_dataset(str(shuttlecock(tmp_path / "source"))).rows
    with pytest.raises(ConfigError, match=r"no such export: 'xls'.*csv, jsonl"):
        export_rows(rows, "xls", str(tmp_path))
    second = rows.set_column(3, ROWS.field("object"), pa.array([1] * 4, pa.int32()))
    with pytest.raises(ConfigError, match=r"shuttlecock can hold only one object per video: \[0, 1\]"):
        export_rows(pa.concat_tables([rows, second]), "tracknet-csv", str(tmp_path / "out"))


def test_videos_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    for match in ("match1", "match2"):
        shutil.move(shuttlecock(tmp_path / match) / "match1", tmp_path / "both" / match)
    written = export_rows(load_dataset(str(tmp_path / "both")).rows, "tracknet-csv", str(tmp_path / "out"))
    assert [uri.rpartition("/")[2] for uri in written] == ["0000-1_01_00_ball.csv", "0001-1_01_00_ball.csv"]


# --- statistics and doubts ------------------------------------------------------------------------------------------


def labelled(xy_px: np.ndarray, wh: tuple[int, int] = (1280, 720)) -> Dataset:
    """A dataset of one video that is not there."""
    ref = VideoRef(uri="file:///nowhere/v.mp4", etag="", size_bytes=0)
    n = len(xy_px)
    score = np.full(n, np.nan, np.float32)
    track = Trajectory(np.arange(n), np.arange(n) / 30, np.asarray(xy_px, np.float32), score)
    video = DatasetVideo(ref=ref, width_px=wh[0], height_px=wh[1], fps=30, frames=n, labels_only=True)
    return make_dataset(track.to_rows(ref.uri), (video,), name="v", layout="rows", source="test")


def path(n: int = 100) -> np.ndarray:
    return np.stack([100 + 4.0 * np.arange(n), 300 + 3.0 * np.arange(n)], axis=1)


def test_statistics_are_plain_numbers() -> None:
    xy = path()
    xy[10:15] = np.nan
    stats = json.loads(json.dumps(dataset_stats(labelled(xy))))
    assert stats["labelled_frames"] == 100 and stats["videos"] == 1
    assert stats["visibility"] == {"absent": 5, "clear": 95, "blurred": 0, "occluded": 0}
    assert stats["speed_px_per_frame"]["p50"] == 5.0
    assert stats["speed_px_per_frame_at_512x288"]["p100"] == 2.0
    assert stats["gap_frames"] == {"count": 1, "p50": 5.0, "p90": 5.0, "p99": 5.0, "p100": 5.0}
    assert stats["per_video"][0]["labels_only"] is True


@pytest.mark.parametrize(
    ("kind", "frame", "change"),
    [
        ("jump", 40, lambda xy: xy.__setitem__(40, [1200, 20])),
        ("lonely", 40, lambda xy: xy.__setitem__([38, 39, 41, 42], np.nan)),
        ("standstill", 9, lambda xy: xy.__setitem__(slice(10, 90), xy[9])),
        ("outside", 0, lambda xy: xy.__setitem__(0, [-3, 100])),
        ("corner", 0, lambda xy: xy.__setitem__(0, [0, 0])),
    ],
)
def test_doubtful_labels_are_found(kind: str, frame: int, change) -> None:
    assert find_doubts(labelled(path())) == []
    xy = path()
    change(xy)
    assert [(doubt.kind, doubt.frame) for doubt in find_doubts(labelled(xy))] == [(kind, frame)]


def test_labels_of_another_frame_are_found_in_the_pictures(tmp_path: Path) -> None:
    n = 60
    xy = np.stack([20 + 3.0 * np.arange(n), 20 + 1.5 * np.arange(n)], axis=1)
    pictures = np.full((n, 144, 256, 3), 60, np.uint8)
    for i, (x, y) in enumerate(np.rint(xy).astype(int)):
        pictures[i, y - 2 : y + 3, x - 2 : x + 3] = 250
    write_video(tmp_path / "a.mp4", list(pictures), fps=30, wh=(256, 144))
    for shift, kinds in ((0, []), (2, ["shifted"])):
        moved = np.roll(xy, -shift, axis=0)
        moved[n - 2 :] = np.nan
        lines = [f"{i},0,0,0" if np.isnan(x) else f"{i},1,{x:.2f},{y:.2f}" for i, (x, y) in enumerate(moved)]
        write(tmp_path / "a_ball.csv", "Frame,Visibility,X,Y", *lines)
        doubts = find_doubts(load_dataset(str(tmp_path)))
        assert [doubt.kind for doubt in doubts] == kinds
    assert "fit the picture +2 frames away" in doubts[0].detail


def test_check_draws_labels_on_their_frames(tmp_path: Path) -> None:
    dataset = load_dataset(str(shuttlecock(tmp_path / "source")))
    report = check_dataset(dataset, str(tmp_path / "sheets"), n=2)
    assert report["counts"] == {} and report["findings"] == []
    (sheet,) = (tmp_path / "sheets").iterdir()
    assert report["sheets"] == [sheet.as_uri()]
    with Image.open(sheet) as image:
        assert image.size == (400, 200)
        last = np.asarray(image)[100, 295]  # beside the centre of the second tile: frame 3 of the grey ramp
    assert np.abs(last.astype(int) - 120).max() < 6
    assert check_dataset(dataset)["sheets"] == []


@pytest.mark.real
def test_real_labels_import_whole(tmp_path: Path, real_data: Path) -> None:
    rallies = load_dataset(str(real_data / "badminton" / "test"))
    assert rallies.rows.num_rows == 1389
    assert (rallies.rows["visibility"].cast(pa.string()).to_numpy() == Visibility.ABSENT.value).sum() == 140
    card = import_dataset(
        "auto", str(real_data / "trajectories" / "shuttlecock_test"), str(tmp_path), labels_only_wh_px=(1280, 720)
    )
    assert (card.rows, sum(video.frames for video in card.videos)) == (10836, 12656)
    beach = load_dataset(str(real_data / "volleyball_frames"))
    assert beach.rows.num_rows == 21 and beach.rows["x"].null_count == 0


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no such folder: '.*/nosuch'"):
        load_dataset(str(tmp_path / "nosuch"))
