"""Prompts for videos of an archive, and annotating with them."""

import json

import numpy as np
import pytest
from tests.test_template_tracking import PROMPT, tiny

import specktrack
from specktrack.annotating import annotate_here
from specktrack.annotating.plan import Cutting, cut
from specktrack.annotating.prompts import parse_prompt, prompts_of
from specktrack.errors import ConfigError
from specktrack.schema import Box, Prompt, VideoRef
from specktrack.storage import stat
from specktrack.video import write_video
from specktrack.video.unconfined import probe

VIDEOS = [VideoRef(uri=f"file:///archive/{name}", etag="1", size_bytes=1) for name in ("a.mp4", "b.mp4", "frames/")]
A = Prompt(frame=2, box=Box(cx_px=10.5, cy_px=20, w_px=4, h_px=5))


def test_one_video_takes_its_prompt_from_the_command_line():
    assert prompts_of(["2,10.5,20,4,5"], VIDEOS[:1]) == {VIDEOS[0].uri: (A,)}
    assert prompts_of([], VIDEOS) == {}


def test_a_file_names_videos_by_name_path_or_uri(tmp_path):
    lines = "video,frame,cx,cy,w,h\na.mp4,2,10.5,20,4,5\n/archive/b.mp4, 0,1,2,3,4\nframes,7,1,2,3,4\n"
    (tmp_path / "p.csv").write_text(lines)
    found = prompts_of([str(tmp_path / "p.csv")], VIDEOS)
    assert found[VIDEOS[0].uri] == (A,) and [found[v.uri][0].frame for v in VIDEOS] == [2, 0, 7]
    entries = [{"video": v.uri, "frame": 1, "cx": 1, "cy": 2, "w": 3, "h": 4} for v in VIDEOS]
    (tmp_path / "p.json").write_text(
        json.dumps([{**entry, "video": entry["video"].rstrip("/")} for entry in entries[:2]])
    )
    assert {p.frame for (p,) in prompts_of([str(tmp_path / "p.json")], VIDEOS[:2]).values()} == {1}


def test_prompts_without_a_number_are_objects_of_their_own(tmp_path):
    told = prompts_of(["2,10,20,4,5", "9,30,20,4,5,0", "2,50,20,4,5"], VIDEOS[:1])[VIDEOS[0].uri]
    assert [(p.frame, p.object) for p in told] == [(2, 1), (9, 0), (2, 2)]
    lines = "video,frame,cx,cy,w,h,object\na.mp4,2,10,20,4,5,3\na.mp4,8,11,21,4,5,3\na.mp4,2,50,20,4,5,\n"
    (tmp_path / "p.csv").write_text(lines)
    told = prompts_of([str(tmp_path / "p.csv")], VIDEOS[:1])[VIDEOS[0].uri]
    assert [(p.frame, p.object) for p in told] == [(2, 3), (8, 3), (2, 0)]
    assert A.model_dump() == {"frame": 2, "box": A.box.model_dump()}  # as outputs of one object know it
    with pytest.raises(ConfigError, match=r"two prompts of object 4 in one frame: 2; .*frame,cx,cy,w,h,object"):
        prompts_of(["2,10,20,4,5,4", "2,30,20,4,5,4"], VIDEOS[:1])


@pytest.mark.parametrize(("text", "message"), [
    ("1,2,3", r"not a prompt: '1,2,3'; write frame,cx,cy,w,h in source px"),
    ("1,2,3,0,5", r"not a prompt, w: input should be greater than 0: '0'"),
    ("-1,2,3,4,5", r"not a prompt, frame: input should be greater than or equal to 0"),
    ("1,x,3,4,5", r"not a prompt, cx: input should be a valid number.*'x'"),
    ("1,,3,4,5", r"missing values in a prompt: \['cx'\]"),
    ("1,nan,3,4,5", r"not a prompt, cx: input should be a finite number"),
    ("1,2,3,4,5,-1", r"not a prompt, object: input should be greater than or equal to 0"),
])  # fmt: skip
def test_a_wrong_prompt_is_explained(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_prompt(text)


def test_a_wrong_file_is_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"one prompt for 3 videos.*give a CSV file with video,frame,cx,cy,w,h"):
        prompts_of(["0,1,2,3,4"], VIDEOS)
    path = tmp_path / "p.csv"
    path.write_text("video,frame,cx,cy,w,h\na.mp4,2,10.5,20,4,5\n")
    with pytest.raises(ConfigError, match=r"2 of 3 videos have no prompt: 'file:///archive/b.mp4'.*add a line"):
        prompts_of([str(path)], VIDEOS)
    path.write_text("name;frame\n")
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(ConfigError, match=r"not a file of prompts.*columns: video,frame,cx,cy,w,h"):
        prompts_of([str(tmp_path / "p.json")], VIDEOS)


@pytest.fixture(scope="module")
def video_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "match.mp4"
    draw = np.random.default_rng(1)
    write_video(path, list(draw.integers(0, 255, (12, 72, 96, 3), dtype=np.uint8)), fps=30, wh=(96, 72))
    return path


def test_a_video_with_a_prompt_stays_one_clip(video_file):
    ref = stat(video_file.as_uri())
    info = probe(ref)
    whole = Cutting(stride=1, lead=None, clip_s=0.1, attempts=None, prompts={ref.uri: (PROMPT,)})
    (clip,) = cut(ref, info, whole)
    assert (clip.start, clip.stop, clip.prompts) == (0, 12, (PROMPT,))
    late = Cutting(
        stride=1, lead=None, clip_s=0.1, attempts=None, prompts={ref.uri: (Prompt(frame=12, box=PROMPT.box),)}
    )
    with pytest.raises(ConfigError, match=r"the prompt's frame is not among the video's 12, of 96x72 px: 12"):
        cut(ref, info, late)
    outside = Prompt(frame=2, box=Box(cx_px=200, cy_px=36, w_px=10, h_px=8))
    with pytest.raises(ConfigError, match=r"lies outside the frame: .*frame 2 of 96x72 px"):
        cut(ref, info, Cutting(stride=1, lead=None, clip_s=0.1, attempts=None, prompts={ref.uri: (outside,)}))


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A red thing that goes right before still noise, and where it is."""
    path = tmp_path_factory.mktemp("moving") / "moving.mp4"
    way = 12 + 3.0 * np.arange(20)
    pixels = np.tile(np.random.default_rng(1).integers(90, 130, (72, 96, 3), dtype=np.uint8), (20, 1, 1, 1))
    for frame, x in enumerate(way.astype(int)):
        pixels[frame, 32:41, x - 4 : x + 5] = (230, 30, 30)
    write_video(path, list(pixels), fps=30, wh=(96, 72))
    return path, way


def test_a_prompt_in_the_middle_is_followed_in_both_directions(moving):
    path, way = moving
    rows = list(specktrack.follow(path, [10, way[10], 36, 9, 9], device="cpu"))
    assert [row["frame"] for row in rows] == list(range(20))
    assert np.abs([row["x"] for row in rows] - way).max() < 3
    table = annotate_here(
        path, model="speckdimp", prompt=[f"10,{way[10]},36,9,9", f"2,{way[2]},36,9,9,1"], device="cpu"
    )
    assert table["object"].to_pylist() == [0] * 20 + [1] * 20


def test_rows_come_while_the_video_is_read(moving):
    path, way = moving
    first = next(iter(specktrack.follow(str(path), f"0,{way[0]},36,9,9", device="cpu")))
    assert (first["frame"], first["x"], first["w"], first["provenance"]) == (0, way[0], 9, "tracked")
    for box, message in (
        ("0,500,36,9,9", r"outside the frame: \(500.*frame 0 of 96x72"),
        ("20,9,9,9,9", "video's 20, of 96x72"),
    ):
        with pytest.raises(ConfigError, match=message):
            next(specktrack.follow(path, box, device="cpu"))


def test_annotating_with_a_template_model_gives_a_row_per_frame_with_boxes(video_file):
    rows = annotate_here(video_file, model=tiny(), prompt="3,30,36,10,8", device="cpu")
    assert rows["frame"].to_pylist() == list(range(12))
    assert rows["w"][3].as_py() == 10 and rows["h"][3].as_py() == 8 and rows["x"][2].as_py() is not None  # backwards
    assert set(rows["provenance"].to_pylist()) == {"tracked"}
    with pytest.raises(ConfigError, match="needs a prompt"):
        annotate_here(video_file, model=tiny(), device="cpu")
