"""Mutated bytes: label files, weights and videos end as a result or as one of our errors, never as anything else."""

import json
import os
import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from tests.annotating import WH, tiny_model
from tests.videos import encode

from specktrack.config import read_yaml, sha_of
from specktrack.datasets.layouts import LAYOUTS
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.frames import Viewport
from specktrack.models.checkpoint import load_model
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.video.process import DecoderProcess

ROUNDS = int(os.environ.get("SPECKTRACK_FUZZ_ROUNDS", "150"))
"""Mutations per seed in `make test`; `make faults` runs more."""

HEADER_BYTES = 1200

CVAT = b"""<?xml version="1.0"?><annotations><meta><task><original_size><width>64</width><height>48</height>
</original_size></task></meta><track id="0" label="ball"><points frame="0" outside="0" occluded="0" keyframe="1"
points="3.5,4.5"><attribute name="used_in_game">1</attribute></points><box frame="1" outside="1" occluded="0"
keyframe="1" xtl="1" ytl="2" xbr="3" ybr="4"/></track></annotations>"""
STUDIO = b"""[{"data": {"video": "a.mp4"}, "annotations": [{"result": [{"type": "videorectangle", "value":
{"framesCount": 9, "duration": 1.0, "sequence": [{"frame": 1, "enabled": true, "x": 1, "y": 2, "width": 3, "height": 4,
"time": 0}]}}]}]}]"""
COCO = b"""{"images": [{"id": 1, "file_name": "a/000000.jpg", "width": 64, "height": 48}], "annotations": [{"id": 1,
"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "keypoints": [2, 3, 2], "track_id": 1}], "categories": [{"id": 1,
"name": "ball"}]}"""
FIFTYONE = b"""{"frames": {"1": {"frame_number": 1, "objects": {"objects": [
{"label": "ball", "index": 0, "confidence": 0.9,
"bounding_box": {"top_left": {"x": 0.1, "y": 0.2}, "bottom_right": {"x": 0.3, "y": 0.4}}, "attrs": {"attrs": [{"name":
"visibility", "value": "clear"}]}}]}}, "2": {"frame_number": 2}}}"""
SEEDS = {
    "tennis": b"file name,visibility,x-coordinate,y-coordinate,status\n0000.jpg,1,3,4,0\n0001.jpg,0,,,\n",
    "shuttlecock": b"Frame,Visibility,X,Y\n0,1,3,4\n1,0,0,0\n",
    "multiball": b"Frame,Object,Visibility,X,Y\n0,0,1,3,4\n0,1,1,5,6\n",
    "volleyball": b"frame_num,x,y,visible\n0,0.5,0.25,1\n1,0,0,0\n",
    "badminton": b"Frame,Ball,x,y\n0,1,0.5,0.25\n1,0,-1,-1\n",
    "wasb-soccer": CVAT,
    "wasb-volleyball": b"3 4\n0 0\n5 6\n",
    "wasb-basketball": CVAT,
    "cvat": CVAT,
    "label-studio": STUDIO,
    "coco": COCO,
    "mot": b"1,1,10,20,8,8,1,-1,-1,-1\n2,1,11,21,8,8,1,-1,-1,-1\n",
    "fiftyone": FIFTYONE,
    "yolo": b"0 0.5 0.25 0.1 0.1\n",
}
TOKENS = [
    *(b"\0", b"\xff\xfe", b"\r", b"\n", b",", b"<", b"&", b'"', b"{", b"[" * 2000),
    *(b"NaN", b"inf", b"-1", b"1e309", b"9" * 400, b"null", b"true"),
    *(b"\xf0\x9f\x8f\xb8", b"=cmd()", b"../../etc/passwd", b"%s%n"),
]


def mutations(seed: bytes, rounds: int, key: int) -> Iterator[bytes]:
    """The seed with a few bytes flipped, cut, doubled, or replaced by an odd token."""
    draw = random.Random(key)
    for _ in range(rounds):
        data = bytearray(seed)
        for _ in range(draw.randint(1, 4)):
            at, size = draw.randrange(len(data) + 1), draw.randint(1, 24)
            kind = draw.randrange(5)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                del data[at : at + size]
            elif kind == 2:
                data[at:at] = data[at : at + size]
            elif kind == 3:
                data[at : at + size] = draw.choice(TOKENS)
            else:
                data[at:at] = draw.randbytes(size)
        yield bytes(data)


def test_every_format_has_a_seed():
    assert set(SEEDS) == set(LAYOUTS)


@pytest.mark.parametrize("name", SEEDS)
def test_label_files(name):
    sheets, problems = LAYOUTS[name].read({"match/a.csv": SEEDS[name]})
    assert sheets and not problems, "the seed itself must be good"
    for data in mutations(SEEDS[name], ROUNDS, sorted(SEEDS).index(name)):
        try:
            LAYOUTS[name].read({"match/a.csv": data})
        except SpecktrackError:
            continue


YAML = b"""a: &a {x: 1, y: [2, 3.5, 'four']}
b: {<<: *a, z: !!str 5}
day: 2026-02-28
text: |
  lines
  of it
"""


def test_yaml(tmp_path):
    path = tmp_path / "run.yaml"
    for data in chain([YAML], mutations(YAML, ROUNDS, 7)):
        path.write_bytes(data)
        try:
            sha_of(json.loads(json.dumps(read_yaml(path), default=str, skipkeys=True)))
        except ConfigError:
            assert data != YAML, "the seed itself must be good"


def test_an_xml_that_unfolds_to_gigabytes_is_refused():
    layers = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY l0 "boom">{layers}]><annotations>&l11;</annotations>'
    try:
        sheets, problems = LAYOUTS["cvat"].read({"a.xml": bomb.encode()})
        assert problems and not sheets
    except SpecktrackError:
        pass


def test_weights(tmp_path):
    whole = Path(tiny_model(tmp_path / "tiny.safetensors")).read_bytes()
    refused = 0
    for number, data in enumerate(mutations(whole, ROUNDS // 2, 99)):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        try:
            load_model(path)
        except SpecktrackError:
            refused += 1
        path.unlink()
    assert refused == ROUNDS // 2, "every change of the file must be noticed"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_videos(suffix, tmp_path):
    first = {"container_options": {"movflags": "faststart"}} if suffix == "mp4" else {}
    whole = encode(tmp_path / f"seed.{suffix}", frames=24, **first).read_bytes()
    anywhere = mutations(whole, ROUNDS // 10, len(suffix))
    in_the_header = (data + whole[HEADER_BYTES:] for data in mutations(whole[:HEADER_BYTES], ROUNDS // 10, len(suffix)))
    path, outcomes = tmp_path / f"mutated.{suffix}", []
    with DecoderProcess() as decoder:
        for data in chain(anywhere, in_the_header):
            path.write_bytes(data)
            ref = stat(str(path))
            try:
                info = decoder.probe(ref)
                clip = Clip(video=ref, start=0, stop=min(info.frames, 200))
                outcomes.append(
                    sum(len(b) for b in decoder.read_clip(clip, info=info, viewport=Viewport(info.size_wh_px, WH)))
                )
            except SpecktrackError as error:
                assert "exit code" not in str(error), "native code may crash; this is a bug of ours"
                outcomes.append(str(getattr(error, "reason", error)))
    assert len(outcomes) == ROUNDS // 10 * 2
