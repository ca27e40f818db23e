"""Formats of boxes by their own rules, and names that were made to break a file."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from specktrack.cli.main import main
from specktrack.datasets import EXPORTS, export_rows
from specktrack.datasets.exports import POINT_BOX_PX
from specktrack.datasets.rows import read_rows
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import Provenance
from specktrack.serving import formats

GONE = (np.nan, np.nan)
A, B = "file:///videos/a.mp4", "s3://bucket/videos/b.mp4"
WH = (64, 48)


def rows(uri: str, points: list[tuple[float, float]], *, number: int = 0, labelled: bool = False, **rest) -> pa.Table:
    """Boxes of 10 x 4 px, so that the one around (14.5, 9.5) covers the px 10..19 and 8..11."""
    n = len(points)
    xy = np.array(points, np.float32)
    wh = np.where(np.isnan(xy), np.nan, np.array(rest.get("wh", (10.0, 4.0)), np.float32)).astype(np.float32)
    score = np.full(n, np.nan if labelled else 0.5, np.float32)
    provenance = np.full(n, (Provenance.LABELLED if labelled else Provenance.TRACKED).value, object)
    start = rest.get("start", 0)
    track = Trajectory(
        np.arange(start, start + n), np.arange(n) / 25, xy, score, provenance=provenance, wh_px=wh
    )  # fmt: skip
    return track.to_rows(uri, object_id=number)


BOXES = [(14.5, 9.5), GONE, (20.25, 9.5)]


def test_mot_counts_frames_ids_and_px_from_1(tmp_path: Path) -> None:
    both = pa.concat_tables([rows(A, BOXES), rows(A, [GONE, (30.5, 9.5)], number=1)])
    export_rows(both, "mot", str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").read_text().splitlines() == [
        "1,1,11.000,9.000,10.000,4.000,0.5,-1,-1,-1",
        "2,2,27.000,9.000,10.000,4.000,0.5,-1,-1,-1",
        "3,1,16.750,9.000,10.000,4.000,0.5,-1,-1,-1",
    ]


@pytest.mark.parametrize(
    ("to", "labelled", "names", "first"),
    [
        ("otb", False, ["a.txt"], "11.0000,9.0000,10.0000,4.0000"),
        ("otb", True, ["a/groundtruth_rect.txt"], "11.0000,9.0000,10.0000,4.0000"),
        ("got10k", False, ["a/a_001.txt"], "10.0000,8.0000,10.0000,4.0000"),
        ("got10k", True, ["a/groundtruth.txt", "a/absence.label"], "10.0000,8.0000,10.0000,4.0000"),
    ],
)
def test_otb_and_got10k_have_a_line_per_frame(tmp_path: Path, to, labelled, names, first) -> None:
    written = export_rows(rows(A, BOXES, labelled=labelled), to, str(tmp_path))
    assert [Path(uri.removeprefix("file://")).relative_to(tmp_path).as_posix() for uri in written] == names
    lines = (tmp_path / names[0]).read_text().splitlines()
    assert (len(lines), lines[0], lines[1]) == (3, first, "nan,nan,nan,nan")
    parsed = np.loadtxt(tmp_path / names[0], delimiter=",")
    assert parsed.shape == (3, 4) and np.isnan(parsed[1]).all()
    if len(names) == 2:
        assert (tmp_path / names[1]).read_text() == "0\n1\n0\n"


def test_formats_without_frame_numbers_need_every_frame(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no frame numbers, so it needs rows for all frames from 0: '3 rows'"):
        export_rows(rows(A, BOXES, start=5), "otb", str(tmp_path))


COCO = {
    "type": "object",
    "required": ["info", "licenses", "images", "annotations", "categories"],
    "properties": {
        "images": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "width", "height", "file_name"],
                "properties": {
                    "id": {"type": "integer", "minimum": 1},
                    "width": {"type": "integer", "minimum": 1},
                    "height": {"type": "integer", "minimum": 1},
                    "file_name": {"type": "string"},
                },
            },
        },
        "categories": {
            "type": "array",
            "items": {"required": ["id", "name", "supercategory", "keypoints", "skeleton"]},
        },
        "annotations": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "image_id", "category_id", "bbox", "area", "iscrowd"],
                "properties": {
                    "bbox": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
                    "area": {"type": "number", "exclusiveMinimum": 0},
                    "iscrowd": {"enum": [0, 1]},
                    "keypoints": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
                },
            },
        },
    },
}
"""The rules of the COCO data format for detection and keypoints."""


def test_coco_follows_its_schema_and_its_ids_fit(tmp_path: Path) -> None:
    points = rows(B, [(14.5, 9.5), (3.0, 4.0)], number=0, wh=GONE)
    tables = [rows(A, BOXES), rows(A, [GONE, (30.5, 9.5)], number=1), points]
    sizes = {A: WH, B: (1280, 720)}
    export_rows(pa.concat_tables(tables), "coco", str(tmp_path / "c.json"), sizes_wh_px=sizes, box_px=5)
    coco = json.loads((tmp_path / "c.json").read_text())
    jsonschema.validate(coco, COCO)
    images = {image["id"]: image for image in coco["images"]}
    assert [image["file_name"] for image in coco["images"]][:2] == ["a/000000.jpg", "a/000001.jpg"]
    assert (len(images), images[4]["width"], images[4]["video_id"]) == (5, 1280, 2)
    ids = [item["id"] for item in coco["annotations"]]
    assert ids == list(range(1, 6)) and {item["image_id"] for item in coco["annotations"]} <= set(images)
    first, other = coco["annotations"][0], coco["annotations"][3]
    assert (first["bbox"], first["area"], first["score"], first["track_id"]) == ([10, 8, 10, 4], 40, 0.5, 1)
    assert "keypoints" not in first
    assert (other["bbox"], other["keypoints"], other["num_keypoints"]) == ([12.5, 7.5, 5, 5], [15, 10, 2], 1)


@pytest.mark.parametrize("to", ["coco", "mot", "otb", "got10k"])
def test_a_square_stands_for_a_point_and_its_centre_stays(tmp_path: Path, to: str) -> None:
    points, sizes = rows(A, BOXES, wh=GONE), {A: WH}
    for name, given, side in (("default", {}, POINT_BOX_PX), ("told", {"box_px": 8}, 8)):
        (uri, *_) = export_rows(points, to, str(tmp_path / name), sizes_wh_px=sizes, **given)
        text = Path(uri.removeprefix("file://")).read_text()
        first = json.loads(text)["annotations"][0]["bbox"] if to == "coco" else text.splitlines()[0].split(",")
        left, top, width, height = map(float, first[2:6] if to == "mot" else first[:4])
        origin = 1 if to in ("mot", "otb") else 0
        assert (width, height) == (side, side)
        assert (left + width / 2, top + height / 2) == (14.5 + 0.5 + origin, 9.5 + 0.5 + origin)


@pytest.mark.parametrize("to", ["coco", "label-studio", "badminton"])
def test_formats_that_need_a_size_say_so(tmp_path: Path, to: str) -> None:
    with pytest.raises(ConfigError, match=rf"{to} needs the video's size, which is not known: 'file:///videos/a.mp4'"):
        export_rows(rows(A, BOXES), to, str(tmp_path))


HOSTILE = 's3://bucket/..%2f<script>alert("x")</script>&amp;\n\x01, "quoted" 羽毛球.mp4'


NAMED: dict[str, Callable[[Any], str]] = {
    "coco": lambda content: content["videos"][0]["file_name"],
    "fiftyone": lambda content: content["index"][0]["data"],
    "label-studio": lambda content: content[0]["data"]["video"],
}


@pytest.mark.parametrize("to", ["csv", "jsonl", *EXPORTS])
def test_hostile_names_neither_break_a_file_nor_leave_the_folder(tmp_path: Path, to: str) -> None:
    out = tmp_path / "deep" / "out"
    written = export_rows(rows(HOSTILE, BOXES), to, f"{out}/", sizes_wh_px={HOSTILE: WH})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(written) and all(path.is_relative_to(out) for path in files)
    for path in files:
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            if path.parent.name != "labels":  # FiftyOne's, which its manifest names
                assert HOSTILE in NAMED[to](content)
        elif path.suffix == ".xml":
            ElementTree.parse(path)
        elif path.suffix == ".jsonl":
            assert {json.loads(line)["video"] for line in path.read_text().splitlines()} == {HOSTILE}


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "+1", "-1.mp4", "@SUM(A1)", "\t=1", "'quoted", "file:///a=b.mp4"]
)
def test_no_cell_of_a_csv_is_a_formula_and_names_come_back(tmp_path: Path, name: str) -> None:
    export_rows(rows(name, BOXES), "csv", str(tmp_path / "rows.csv"))
    over_http = b"".join(formats.to_csv([rows(name, BOXES)], {})).decode()
    assert over_http == (tmp_path / "rows.csv").read_bytes().decode()
    cells = [cell for line in csv.reader(io.StringIO(over_http, newline="")) for cell in line]
    assert not any(re.match(r"[=+\-@\t\r](?!\d*\.?\d*$)", cell) for cell in cells)
    export_rows(rows(name, BOXES), "jsonl", str(tmp_path / "rows.jsonl"))
    assert read_rows(str(tmp_path / "rows.csv"))["video"].equals(read_rows(str(tmp_path / "rows.jsonl"))["video"])


def test_export_and_its_options_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_rows(rows(A, BOXES, wh=GONE), "csv", str(tmp_path / "rows.csv"))
    command = ["export", str(tmp_path / "rows.csv"), str(tmp_path / "c.json"), "--to", "coco", "--size-wh-px", "64x48"]
    assert main(command) == 0
    assert json.loads((tmp_path / "c.json").read_text())["annotations"][0]["bbox"][2:] == [POINT_BOX_PX] * 2
    assert main([*command, "--box-px", "6"]) == 0
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["images"][0]["width"] == 64 and content["annotations"][0]["bbox"][2:] == [6, 6]
    assert main([*command[:4], "xls"]) == 2
    assert "one of" in capsys.readouterr().err
