"""What people's label files really look like: by kind of trouble, each made here as its tool makes it."""

import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.videos import encode, muxed

from specktrack.datasets import Dataset, DatasetCard, export_rows, import_dataset, load_dataset
from specktrack.errors import ConfigError, LabelError
from specktrack.evaluate.annotating import rows_of_model
from specktrack.evaluate.config import EvaluateConfig
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.verbs.rows import ExportConfig, export
from specktrack.video import write_video
from specktrack.video.confined import read_clip

WH = (64, 48)
N = 12
FRAMES = range(N)
XY = np.array([(10 + 2.5 * n, 30 - 1.25 * n) for n in FRAMES])
"""Where the ball is, by frame."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "video.mp4"
    write_video(path, [np.full((WH[1], WH[0], 3), 20 * n, np.uint8) for n in FRAMES], fps=30, wh=WH)
    return path


class Folder:
    """A folder that a person hands in."""

    def __init__(self, path: Path, video: Path) -> None:
        self.path, self._video = path / "given", video
        self.path.mkdir()
        self._set = path / "set"

    def video(self, name: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._video, self.path / name)

    def pictures(self, folder: str, *, first: int = 0, suffix: str = ".jpg", n: int = N) -> None:
        (self.path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("RGB", WH, (20 * i, 0, 0)).save(self.path / folder / f"{i + first:04d}{suffix}", format="JPEG")

    def text(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def json(self, name: str, content: object) -> None:
        self.text(name, json.dumps(content))

    def table(self, name: str, header: str, line: Callable[[int, float, float], str], frames: range = FRAMES) -> None:
        self.text(name, "\n".join([header, *(line(n, *XY[n]) for n in frames)]) + "\n")

    def given(self, layout: str = "auto", **options: object) -> tuple[DatasetCard, Dataset]:
        card = import_dataset(layout, str(self.path), str(self._set), **options)  # type: ignore[arg-type]
        return card, load_dataset(str(self._set))

    def refused(self, message: str, layout: str = "auto", **options: object) -> str:
        with pytest.raises(LabelError, match=message) as raised:
            self.given(layout, **options)
        assert not self._set.exists()
        return str(raised.value)


@pytest.fixture
def folder(tmp_path: Path, video: Path) -> Folder:
    return Folder(tmp_path, video)


def words(rows: pa.Table, name: str) -> list[str]:
    return rows[name].cast(pa.string()).to_pylist()


def assert_ball(dataset: Dataset, *, absent: range = range(0), atol: float = 1e-3, shift: float = 0.0) -> None:
    """All rows of the first video are the ball's, and nothing else is there."""
    track = dataset.track(dataset.card.videos[0])
    wanted = XY.copy() + shift
    wanted[list(absent)] = np.nan
    assert track.frame.tolist() == list(FRAMES)
    np.testing.assert_allclose(track.xy_px, wanted, atol=atol)
    np.testing.assert_allclose(track.pts_s, np.arange(N) / 30)
    assert set(dataset.rows["object"].to_pylist()) == {0}


# --- which stream was labelled --------------------------------------------------------------------------------------


def test_the_stream_that_was_labelled_is_chosen_everywhere(folder: Folder, video: Path, tmp_path: Path) -> None:
    """Import keeps it in the card, which a moved dataset keeps too; export takes its size."""
    half = tmp_path / "half.mp4"
    write_video(half, [np.full((WH[1] // 2, WH[0] // 2, 3), 20 * n, np.uint8) for n in FRAMES], fps=30, wh=(32, 24))
    muxed(folder.path / "a.mp4", video, half, default=0)
    folder.table("a.csv", "Frame,Visibility,X,Y", lambda n, x, y: f"{n},1,{x / 4},{y / 4}")
    card, _ = folder.given()
    assert (card.videos[0].width_px, card.videos[0].ref.stream) == (64, None)
    small = import_dataset("auto", str(folder.path), str(folder.path), stream=1)
    assert small.videos[0].width_px == 32
    found = load_dataset(str(folder.path))  # its video is inside: named relative to it, and looked at again
    assert found.card.videos[0].ref.stream == 1
    frames, unread = rows_of_model(EvaluateConfig(data=str(folder.path), model="specknet"), list(found.card.videos))
    assert not unread and [len(rows) for rows in frames.values()] == [N]
    with pytest.raises(ConfigError, match="card already names the streams"):
        load_dataset(str(folder.path), stream=0)
    rows = tmp_path / "rows.csv"
    export_rows(found.rows, "csv", str(rows))
    for stream, width in ((0, 64), (1, 32)):
        export(ExportConfig(annotations=str(rows), to="coco", destination=str(tmp_path / "coco.json"), stream=stream))
        assert json.loads((tmp_path / "coco.json").read_text())["images"][0]["width"] == width


# --- which object is the ball ---------------------------------------------------------------------------------------


def cvat(*tracks: str, source: str = "video.mp4", meta: str = "") -> str:
    about = meta or f"<task><size>{N}</size><source>{source}</source></task>"
    return f"<annotations><version>1.1</version><meta>{about}</meta>{''.join(tracks)}</annotations>"


def track(label: str, shapes: str, rest: str = "") -> str:
    return f"<track id='0' label='{label}' source='manual' {rest}>{shapes}</track>"


def shapes(tag: str, attributes: Callable[[float, float], str], frames: range = FRAMES) -> str:
    """One shape per frame around the ball, from the picture's edge."""
    common = "keyframe='1' outside='0' occluded='0'"
    return "".join(f"<{tag} frame='{n}' {common} {attributes(*(XY[n] + 0.5))}/>" for n in frames)


def at(x: float, y: float) -> str:
    return f"points='{x:.3f},{y:.3f}'"


PLAYER = track("player", shapes("box", lambda x, y: "xtl='5' ytl='10' xbr='15' ybr='40'"))
BALL = shapes("points", at)


@pytest.mark.parametrize("label", ["ball", "Ball", "tennis_ball", "Shuttlecock", "sports ball", "ball_occluded"])
def test_the_ball_is_known_by_its_name_among_players(folder: Folder, label: str) -> None:
    folder.video("video.mp4")
    folder.text("a.xml", cvat(PLAYER, track(label, BALL), track("ball boy", BALL)))
    card, dataset = folder.given()
    assert card.format == "cvat"
    assert_ball(dataset)
    assert card.notes == (
        f"a.xml: the ball is {label!r}; tracks of other labels are left out: ball boy (1), player (1)",
    )
    assert set(words(dataset.rows, "visibility")) == {"occluded" if "occluded" in label else "clear"}


def test_a_person_says_which_label_it_is(folder: Folder) -> None:
    folder.video("video.mp4")
    folder.text("a.xml", cvat(PLAYER, track("thing", BALL)))
    folder.refused(
        "a.xml has several labels, none of them known as a ball: player, thing; --label names the one to take"
    )
    folder.refused("a.xml has no label 'racket'; it has player, thing", label="racket")
    assert_ball(folder.given(label="thing")[1])
    folder.text("a.xml", cvat(track("ball", BALL), track("shuttlecock", BALL)))
    with pytest.raises(LabelError, match="several labels known as a ball: ball, shuttlecock"):
        load_dataset(str(folder.path))


def test_overlapping_tracks_that_lie_together_are_one_ball(folder: Folder) -> None:
    folder.video("video.mp4")
    first, second = shapes("points", at, range(8)), shapes("points", at, range(6, N))
    folder.text("a.xml", cvat(track("ball", first), track("ball", second)))
    assert_ball(folder.given()[1])
    far = shapes("points", lambda x, y: at(60, 40), range(6, N))
    folder.text("a.xml", cvat(track("ball", BALL), track("ball", far)))
    dataset = load_dataset(str(folder.path))
    assert set(dataset.rows["object"].to_pylist()) == {0, 1}
    assert any("two of 'ball' are in frame 6" in note for note in dataset.card.notes)


# --- what a label tool means ----------------------------------------------------------------------------------------


def ring(x: float, y: float) -> str:
    return f"points='{x - 3},{y - 3};{x + 3},{y - 3};{x + 3},{y + 3};{x - 3},{y + 3}'"


@pytest.mark.parametrize(
    ("drawn", "size"),
    [
        (shapes("polygon", ring), 6),
        (shapes("polyline", ring), 6),
        (shapes("ellipse", lambda x, y: f"cx='{x}' cy='{y}' rx='2' ry='2'"), 4),
        (shapes("mask", lambda x, y: f"rle='1' left='{x - 2}' top='{y - 2}' width='4' height='4'"), 4),
        (track("ball", BALL), None),  # a skeleton, nested
        ("".join(f"<skeleton frame='{n}' keyframe='1'><points label='1' outside='0' occluded='0' "
                 f"{at(*(XY[n] + 0.5))}/></skeleton>" for n in FRAMES), None),
    ],
    ids=["polygon", "polyline", "ellipse", "mask", "nested skeleton", "skeleton"],
)  # fmt: skip
def test_any_shape_is_its_centre(folder: Folder, drawn: str, size: float | None) -> None:
    folder.video("video.mp4")
    folder.text("a.xml", cvat(track("ball", drawn)))
    dataset = folder.given()[1]
    assert_ball(dataset)
    assert dataset.rows["w"].to_pylist() == pytest.approx([size] * N) if size else dataset.rows["w"].null_count == N


def test_cvat_for_images_has_an_image_for_each_frame(folder: Folder) -> None:
    folder.video("video.mp4")
    image = (
        "<image id='{0}' name='frame_{0:06d}' width='64' height='48'><points label='ball' occluded='0' {1}/></image>"
    )
    images = [image.format(n, at(*(XY[n] + 0.5))) for n in FRAMES]
    folder.text("video.xml", cvat(*images))
    assert_ball(folder.given()[1])
    folder.text("video.xml", cvat(*images[2:5], meta=" "))
    assert load_dataset(str(folder.path)).rows["frame"].to_pylist() == [2, 3, 4], "others were never opened"
    folder.text("video.xml", cvat(*(image.replace("width='64'", "width='640'") for image in images)))
    with pytest.raises(LabelError, match="was made on pictures of 640x48, but its video has 64x48"):
        load_dataset(str(folder.path))


def test_cvat_for_images_names_pictures(folder: Folder) -> None:
    folder.pictures("video", first=1, suffix=".png")
    image = "<image id='{}' name='clip/{:04d}.jpg' width='64' height='48'><points label='ball' {}/></image>"
    folder.text("video.xml", cvat(*(image.format(90 - n, n + 1, at(*(XY[n] + 0.5))) for n in FRAMES)))
    assert_ball(folder.given()[1])


def test_a_project_is_read_task_by_task(folder: Folder) -> None:
    folder.video("one.mp4")
    folder.video("two.mp4")
    task = "<task><id>{}</id><size>{}</size><source>{}.mp4</source></task>"
    tasks = "".join(task.format(i, N, name) for i, name in ((1, "one"), (2, "two"), (3, "three")))
    lower = shapes("points", lambda x, y: at(x, y + 18))  # the first frames just below the picture
    tracks = track("ball", BALL, "task_id='1'"), track("ball", lower, "task_id='2'")
    folder.text("annotations.xml", cvat(*tracks, meta=f"<project><tasks>{tasks}</tasks></project>"))
    card, dataset = folder.given()
    assert [video.ref.uri.rpartition("/")[2] for video in card.videos] == ["one.mp4", "two.mp4"]
    assert_ball(dataset)
    np.testing.assert_allclose(dataset.track(card.videos[1]).xy_px, XY + np.array([0, 18]), atol=1e-3)
    assert card.notes == ("annotations.xml: 1 positions lie just outside the picture and are kept",)


def key(n: int, **rest: object) -> dict[str, object]:
    x, y = XY[n] + 0.5
    share = {"x": (x - 2) / 64 * 100, "y": (y - 2) / 48 * 100, "width": 400 / 64, "height": 400 / 48}
    return {"frame": n + 1, "enabled": True, "rotation": 0, "time": n / 30, **share, **rest}


def task(video: str, *keys: dict[str, object], labels: list[str] | None = None) -> list[dict[str, object]]:
    value = {"framesCount": N, "duration": N / 30, "sequence": list(keys), "labels": labels or ["ball"]}
    result = {"id": "a", "type": "videorectangle", "from_name": "box", "to_name": "video", "value": value}
    return [{"id": 1, "data": {"video": video}, "annotations": [{"was_cancelled": False, "result": [result]}]}]


def test_label_studio_tells_what_it_interpolated(folder: Folder) -> None:
    folder.video("video.mp4")
    folder.json("p.json", task("video.mp4", *(key(n, **({} if n % 5 == 0 else {"auto": True})) for n in FRAMES)))
    card, dataset = folder.given()
    assert card.format == "label-studio"
    assert_ball(dataset)
    assert words(dataset.rows, "provenance") == ["interpolated" if n % 5 else "labelled" for n in FRAMES]


def test_a_last_key_that_stays_lasts_to_the_end(folder: Folder) -> None:
    folder.video("video.mp4")
    folder.json("p.json", task("video.mp4", key(3)))
    rows = folder.given()[1].rows
    assert rows["x"].to_pylist() == pytest.approx([None] * 3 + [XY[3, 0]] * 9)
    assert words(rows, "provenance") == ["labelled"] * 4 + ["interpolated"] * 8
    folder.json("p.json", task("video.mp4", key(3, enabled=False)))
    assert load_dataset(str(folder.path)).rows["x"].null_count == N - 1


def test_label_studios_short_export(folder: Folder) -> None:
    folder.video("video.mp4")
    region = {"framesCount": N, "duration": N / 30, "sequence": [key(n) for n in FRAMES]}
    short = {"video": "/data/upload/3/1a2b3c4d-video.mp4", "id": 1, "any name": [region], "annotator": 1}
    folder.json("p.json", [short])
    card, dataset = folder.given()
    assert card.format == "label-studio"
    assert_ball(dataset)


def test_a_region_may_say_occluded_and_a_task_nobody_opened_says_nothing(folder: Folder) -> None:
    folder.video("video.mp4")
    unopened = [{"id": 2, "data": {"video": "other.mp4"}, "annotations": []}]
    folder.json("p.json", task("video.mp4", *map(key, FRAMES), labels=["Ball", "Occluded"]) + unopened)
    card, dataset = folder.given()
    assert_ball(dataset)
    assert len(card.videos) == 1 and set(words(dataset.rows, "visibility")) == {"occluded"}


# --- absent values as positions, and rows that are missing ----------------------------------------------------------


@pytest.mark.parametrize("nowhere", ["1,-1,-1", "1,0,0", "1,,", "1,nan,nan", "1,-1.0,-1.0", "0,-1,-1", "1,-999,-999"])
def test_no_position_is_absent_whatever_the_row_says(folder: Folder, nowhere: str) -> None:
    folder.video("match1/video/r1.mp4")
    line = lambda n, x, y: f"{n},{nowhere}" if n < 3 else f"{n},1,{x},{y}"  # noqa: E731
    folder.table("match1/csv/r1_ball.csv", "Frame,Visibility,X,Y", line)
    card, dataset = folder.given()
    assert card.format == "shuttlecock"
    assert_ball(dataset, absent=range(3))
    said = [note for note in card.notes if "r1_ball.csv: 3 rows say visible" in note]
    assert len(said) == (nowhere[0] == "1")


def test_occluded_without_a_position_is_absent(folder: Folder) -> None:
    folder.pictures("game1/Clip1")
    line = lambda n, x, y: f"{n:04d}.jpg,3,," if n < 3 else f"{n:04d}.jpg,2,{x},{y}"  # noqa: E731
    folder.table("game1/Clip1/Label.csv", "file name,visibility,x-coordinate,y-coordinate", line)
    card, dataset = folder.given()
    assert_ball(dataset, absent=range(3))
    assert words(dataset.rows, "visibility") == ["absent"] * 3 + ["blurred"] * (N - 3)
    assert card.notes == ("game1/Clip1/Label.csv: 3 rows say visible without a position: they are absent",)


def test_rows_that_are_missing_need_a_word(folder: Folder) -> None:
    folder.video("match1/video/r1.mp4")
    folder.table("match1/csv/r1_ball.csv", "Frame,Visibility,X,Y", "{},1,{},{}".format, range(2, N - 1))
    message = folder.refused(
        "r1_ball.csv has 9 labels, but its video has 12 frames;"
        " say what the others are with --missing absent or --missing unlabelled"
    )
    assert message.count(";") == 2
    absent = folder.given(missing="absent")[1].rows
    assert absent["frame"].to_pylist() == list(FRAMES) and absent["x"].null_count == 3
    unlabelled = folder.given(missing="unlabelled")[1].rows
    assert unlabelled["frame"].to_pylist() == list(range(2, N - 1)) and unlabelled["x"].null_count == 0


def test_one_line_says_that_pictures_are_missing(folder: Folder) -> None:
    folder.pictures("game1/Clip1", n=3)
    folder.table("game1/Clip1/Label.csv", "file name,visibility,x-coordinate,y-coordinate", "{:04d}.jpg,1,{},{}".format)
    message = folder.refused(r"Label.csv has 12 labels, but its video has 3 pictures; correct the files")
    assert message.count(";") == 1


# --- finding files --------------------------------------------------------------------------------------------------

TABLE = "Frame,Visibility,X,Y"


def test_what_a_mac_adds_to_archives_is_passed_over(folder: Folder) -> None:
    folder.video("match1/video/r1.mp4")
    folder.table("match1/csv/r1_ball.csv", TABLE, "{},1,{},{}".format)
    for name in ("match1/csv/._r1_ball.csv", "match1/video/._r1.mp4", "__MACOSX/match1/csv/r1_ball.csv"):
        folder.text(name, "\0\5\x16\7\0\2\0\0Mac OS X")
    card, dataset = folder.given()
    assert_ball(dataset)
    assert card.notes == ()


@pytest.mark.parametrize(
    ("table", "lies"),
    [
        ("match1/csv/résumé_ball.csv", "match1/video/résumé.mp4"),
        ("match1/csv/R1_BALL.CSV", "match1/video/r1.MP4"),
        ("r1.csv", "r1.mp4"),
        ("labels/r1.csv", "clips/r1.mp4"),
        ("match1/csv/r1_ball_predict.csv", "match1/video/r1.mp4"),
    ],
)
def test_videos_are_found_as_people_name_them(folder: Folder, table: str, lies: str) -> None:
    folder.video(unicodedata.normalize("NFD", lies))
    folder.table(unicodedata.normalize("NFC", table), TABLE, "{},1,{},{}".format)
    card, dataset = folder.given()
    assert card.format == "shuttlecock"
    assert_ball(dataset)
    assert len(card.videos[0].ref.uri) >= len(folder.path.as_uri())


@pytest.mark.parametrize("place", ["videos/vid1.mp4", "images/vid1.mp4/", "images/vid1/", "csvs/vid1.mp4"])
def test_shares_of_a_video_in_any_of_its_places(folder: Folder, place: str) -> None:
    folder.pictures(place) if place.endswith("/") else folder.video(place)
    line = lambda n, x, y: f"{n},{x / 64:.6f},{y / 48:.6f},0"  # noqa: E731
    folder.table("csvs/vid1.csv", "frame_num,x,y,visible", line)
    folder.pictures("charts", n=1)  # a stray picture is no video
    card, dataset = folder.given()
    assert card.format == "volleyball"
    assert_ball(dataset)


@pytest.mark.parametrize(
    ("named", "lies"),
    [
        ("/data/local-files/?d=video.mp4", "video.mp4"),
        ("/data/local-files/?d=clips%2Fvideo.mp4", "clips/video.mp4"),
        ("https://b.s3.amazonaws.com/clips/video.mp4?X-Amz-Signature=secret", "video.mp4"),
        ("C:\\clips\\video.mp4", "video.mp4"),
        ("/data/upload/3/1a2b3c4d-My_match_1.mp4", "My match (1).mp4"),
        ("s3://nobody-has-this-bucket/video.mp4", "video.mp4"),
        ("video.mp4", "video.mp4"),
    ],
)
def test_label_studio_names_videos_in_many_ways(
    folder: Folder, named: str, lies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    folder.video(lies)
    if lies == "video.mp4":
        folder.pictures("video", n=1)  # a stray picture in a folder of the same name
    folder.json("p.json", task(named, *map(key, FRAMES)))
    card, dataset = folder.given()
    assert_ball(dataset)
    assert "secret" not in card.model_dump_json()


def test_a_signed_address_is_in_no_output(folder: Folder) -> None:
    folder.json("p.json", task("https://b.example/clips/video.mp4?X-Amz-Signature=secret", *map(key, FRAMES)))
    assert "secret" not in folder.refused(r"p.json has no video beside it \(video.mp4\)")
    card, dataset = folder.given(labels_only_wh_px=WH)
    assert_ball(dataset)
    assert card.videos[0].ref.uri == f"{folder.path.as_uri()}/video.mp4"


@pytest.mark.parametrize(
    ("said", "first", "suffix"), [(".jpg", 0, ".JPG"), (".jpg", 0, ".png"), (".jpg", 1, ".jpg"), (".PNG", 1, ".jpeg")]
)
def test_pictures_are_found_and_written_by_their_own_names(
    folder: Folder, said: str, first: int, suffix: str, tmp_path: Path
) -> None:
    folder.pictures("game1/Clip1", first=first, suffix=suffix)
    line = lambda n, x, y: f"{n + first:04d}{said},1,{x},{y}"  # noqa: E731
    folder.table("game1/Clip1/Label.csv", "file name,visibility,x-coordinate,y-coordinate", line)
    dataset = folder.given()[1]
    assert_ball(dataset)
    uri = dataset.card.videos[0].ref.uri
    names = [f"{n + first:04d}{suffix}" for n in FRAMES]
    export_rows(dataset.rows, "tennis", str(tmp_path / "out/Label.csv"))
    lines = (tmp_path / "out/Label.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == names
    for to in ("coco", "yolo", "cvat-images"):
        export_rows(dataset.rows, to, f"{tmp_path}/{to}/", sizes_wh_px={uri: WH})
    images = json.loads((tmp_path / "coco/coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [f"Clip1/{name}" for name in names]
    assert re.findall(r'name="([^"]+)"', (tmp_path / "cvat-images/Clip1.xml").read_text()) == names
    stems = sorted(path.stem for path in (tmp_path / "yolo/labels/Clip1").iterdir())
    assert stems == [name.partition(".")[0] for name in names]


def test_a_cover_among_the_pictures_is_none_of_them(folder: Folder) -> None:
    folder.pictures("game1/Clip1")
    Image.new("RGB", WH).save(folder.path / "game1/Clip1/cover.png")
    folder.table("game1/Clip1/Label.csv", "file name,visibility,x-coordinate,y-coordinate", "{:04d}.jpg,1,{},{}".format)
    assert_ball(folder.given()[1])


def test_labels_have_the_times_of_their_video(folder: Folder) -> None:
    """Those that annotating it gives: an MPEG transport stream does not begin at 0."""
    encode(folder.path / "r1.ts", wh=(160, 96), frames=N)
    folder.table("r1.csv", TABLE, "{},1,{},{}".format)
    track = folder.given()[1].track(folder.given()[0].videos[0])
    video = stat(str(folder.path / "r1.ts"))
    with read_clip(Clip(video=video, start=0, stop=N)) as reader:
        np.testing.assert_array_equal(track.pts_s, np.concatenate([batch.pts_s for batch in reader]))
    assert track.pts_s[0] > 1 / 30


def test_what_nobody_read_is_told(folder: Folder) -> None:
    for name in ("r1", "r2"):
        folder.video(f"{name}.mp4")
    folder.table("r1.csv", TABLE, "{},1,{},{}".format)
    folder.text("scores.csv", "player,points\nA,3\n")
    folder.text("README.txt", "hello")
    card, dataset = folder.given()
    assert_ball(dataset)
    assert card.notes == ("not read, no labels of this format: scores.csv", "not read, videos without labels: r2")


# --- importers of box formats ---------------------------------------------------------------------------------------


def test_mot_counts_from_1(folder: Folder) -> None:
    folder.video("seq.mp4")
    line = "{},7,{},{},4,4,1,-1,-1,-1\n"
    folder.text("seq/gt/gt.txt", "".join(line.format(n + 1, x - 2 + 1.5, y - 2 + 1.5) for n, (x, y) in enumerate(XY)))
    card, dataset = folder.given()
    assert card.format == "mot"
    assert_ball(dataset)
    assert dataset.rows["w"].to_pylist() == [4] * N
    folder.text("seq/seqinfo.ini", "[Sequence]\nseqLength=99\nimWidth=64\nimHeight=48\n")
    with pytest.raises(LabelError, match="counts 99 frames in its video, which has 12"):
        load_dataset(str(folder.path))


def yolo(folder: Folder, place: str, *, first: int = 0, frames: range = FRAMES, kind: int = 0) -> None:
    for n in frames:
        x, y = XY[n] + 0.5
        folder.text(place.format(n + first), f"{kind} {x / 64:.6f} {y / 48:.6f} 0.0625 0.0833\n")


@pytest.mark.parametrize(
    ("labels", "first", "lies"),
    [
        ("labels/train/v_{}.txt", 0, "v.mp4"),
        ("labels/v_{}.txt", 1, "v.mp4"),
        ("labels/train/{:04d}.txt", 3, "images/train/"),
        ("labels/v/{:04d}.txt", 0, "videos/v.mp4"),
    ],
)
def test_yolo_has_a_file_per_frame(folder: Folder, labels: str, first: int, lies: str) -> None:
    folder.pictures(lies, first=first) if lies.endswith("/") else folder.video(lies)
    yolo(folder, labels, first=first)
    card, dataset = folder.given()
    assert card.format == "yolo"
    assert_ball(dataset)
    assert dataset.rows["w"].to_pylist() == pytest.approx([4] * N)


def test_yolo_without_a_video_names_it_once(folder: Folder) -> None:
    yolo(folder, "labels/train/v_{}.txt")
    message = folder.refused(r"has no video beside it \(labels/train/v.mp4\)")
    assert message.count("v_") == 1
    assert_ball(folder.given(labels_only_wh_px=WH)[1])


def test_yolo_that_lacks_frames_needs_a_word_and_knows_its_classes(folder: Folder) -> None:
    folder.video("v.mp4")
    yolo(folder, "labels/v_{}.txt", frames=range(N - 2), kind=1)
    for n in range(N - 2):
        path = folder.path / f"labels/v_{n}.txt"
        path.write_text(f"0 0.5 0.5 0.5 0.5\n{path.read_text()}")
    folder.refused("labels/v_0.txt has 10 labels, but its video has 12 frames; say what the others are with --missing")
    folder.refused("several labels, none of them known as a ball: 0, 1", missing="absent")
    folder.text("data.yaml", "names: [player, ball]\n")
    dataset = folder.given(missing="absent")[1]
    assert_ball(dataset, absent=range(N - 2, N))


def test_coco_of_pictures_alone(folder: Folder) -> None:
    """Without CocoVID's videos and frames: images of one folder are a video, frames by the pictures' names."""
    folder.pictures("clip", first=1)
    images = [{"id": 50 - n, "file_name": f"clip/{n + 1:04d}.jpg", "width": 64, "height": 48} for n in FRAMES]
    boxes = [
        {"id": n, "image_id": 50 - n, "category_id": 3, "bbox": [*(XY[n] + 0.5 - 2), 4, 4], "iscrowd": 0}
        for n in FRAMES
        if n != 4
    ]
    person = {"id": 99, "image_id": 50, "category_id": 1, "bbox": [1, 1, 20, 40], "iscrowd": 0}
    names = [{"id": 1, "name": "person"}, {"id": 3, "name": "sports ball"}]
    folder.json("instances.json", {"images": images, "annotations": [person, *boxes], "categories": names})
    card, dataset = folder.given()
    assert card.format == "coco"
    assert_ball(dataset, absent=range(4, 5))
    assert card.notes[0].startswith("instances.json: the ball is 'sports ball'")


def test_numbers_from_1_are_told(folder: Folder) -> None:
    folder.video("r1.mp4")
    folder.table("r1.csv", TABLE, lambda n, x, y: f"{n + 1},1,{x},{y}")
    folder.refused("r1.csv counts frames from 1 to 12; in this format they count from 0")


def test_names_that_do_not_tell_where_they_begin_are_refused(folder: Folder) -> None:
    folder.video("v.mp4")
    yolo(folder, "labels/v_{}.txt", frames=range(2, 9))
    folder.refused("names images 2 to 8 of a video of 12 frames, so it is unclear whether", missing="absent")


@pytest.mark.real
def test_the_field_collection_gives_what_its_readme_says(real_data: Path, tmp_path: Path) -> None:
    """Files as other programs wrote them, of which the tests above make their own."""
    field = real_data / "field" / "labels"
    if not field.is_dir():
        pytest.skip("the collection of label files is not here")
    t = np.arange(90) % 60 / 60
    ball = np.stack([20 + 280 * t, 162 - 432 * t * (1 - t)], axis=1)
    for name, layout in {"excel_eu": "shuttlecock", "ls_min": "label-studio", "cvat_players": "cvat"}.items():
        card = import_dataset("auto", str(field / name), str(tmp_path / name))
        dataset = load_dataset(str(tmp_path / name))
        assert card.format == layout
        np.testing.assert_allclose(dataset.track(card.videos[0]).xy_px, ball, atol=0.01)
