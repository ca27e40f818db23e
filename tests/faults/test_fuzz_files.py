"""Mutated bytes, continued: whatever else people bring ends as a result or as one of our errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tests.faults.test_fuzz import ROUNDS, mutations

from specktrack.annotating.prompts import prompts_of
from specktrack.datasets import load_dataset
from specktrack.datasets.benchmarks import read_benchmark
from specktrack.datasets.dataset import CARD_NAME, DatasetVideo, make_dataset, save_dataset
from specktrack.datasets.rows import read_rows
from specktrack.errors import SpecktrackError
from specktrack.frames import Trajectory
from specktrack.models.importing import read_public
from specktrack.schema import VideoRef
from specktrack.storage import open_store
from specktrack.video.pictures import decode_picture

VIDEO = VideoRef(uri="file:///a.mp4", etag="", size_bytes=0)
BOXES = "10,20,5,6\n11,21,5,6\n12,22,5,6\n"
UAV = r"struct('name','bird1_2','path','E:\UAV123\bird1\','startFrame',775,'endFrame',777,'nz',6,'ext','jpg')"
ROWS = Trajectory(np.arange(3), np.arange(3) / 30, np.ones((3, 2), np.float32), np.ones(3, np.float32)).to_rows(
    VIDEO.uri
)


class Kind(NamedTuple):
    """A kind of file."""

    files: dict[str, str | Callable[[Path], None]]
    """Contents by name, or what writes them; the first is mutated."""
    read: Callable[[Path], object]
    """Is given its path."""


def torch_file(path: Path, **options: bool) -> None:
    state = {"conv.weight": torch.zeros(2, 3), "steps": 3, "best": np.float64(0.5)}
    torch.save({"state_dict": state, "epoch": 3}, path, **options)


def keras_file(path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="pip install 'specktrack[keras]'")
    with h5py.File(path, "w") as file:
        file.create_dataset("conv2d/conv2d/kernel:0", (3, 3, 2, 2), "f4", compression="gzip", chunks=(3, 3, 1, 1))
        file.create_dataset("conv2d/conv2d/bias:0", (2,), "f4")


def dataset(path: Path) -> None:
    video = DatasetVideo(ref=VIDEO, width_px=64, height_px=48, fps=30.0, frames=3, labels_only=True)
    made = make_dataset(ROWS, (video,), name="a", layout="tennis", source="here")
    save_dataset(made, open_store(str(path.parent)))


def picture(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(noise).save(path)


def folder(levels: int) -> Callable[[Path], object]:
    return lambda path: read_benchmark(str(path.parents[levels]))


def prompts(path: Path) -> object:
    return prompts_of([str(path)], [VIDEO])


def rows(path: Path) -> object:
    return read_rows(str(path))


PROMPT = {"video": "a.mp4", "frame": 0, "cx": 4, "cy": 5, "w": 6, "h": 7}
GOT = {"GOT_1/groundtruth.txt": BOXES, "GOT_1/absence.label": "0\n0\n1\n", "GOT_1/cover.label": "8\n8\n0\n"}
SET = {"a": {"gt_rect": [[1, 2, 3, 4], []], "img_names": ["a/img/0.jpg"] * 2, "absent": [1, 0], "attr": ["fast"]}}
KINDS = {
    "otb": Kind({"a/groundtruth_rect.txt": BOXES, "a/attrs.txt": "SV"}, folder(1)),
    "got10k": Kind({"GOT_1/meta_info.ini": "resolution: (64, 48)", **GOT}, folder(1)),
    "got10k's flags": Kind(dict(sorted(GOT.items())), folder(1)),
    "uav": Kind({"configSeqs.m": UAV, "anno/UAV123/bird1_2.txt": BOXES}, folder(0)),
    "latot": Kind({"annos/attr/b.txt": "1,0,0,0,1,0,0,0,0,0,0,1", "annos/b.txt": BOXES}, folder(2)),
    "a benchmark's JSON": Kind({"Set.json": json.dumps(SET)}, lambda path: read_benchmark(str(path))),
    "prompts in CSV": Kind({"p.csv": "video,frame,cx,cy,w,h\na.mp4,0,4,5,6,7\n"}, prompts),
    "prompts in JSON": Kind({"p.json": json.dumps([PROMPT])}, prompts),
    "rows in CSV": Kind({"r.csv": "video,frame,x,y,score\na.mp4,0,1,2,0.5\na.mp4,1,,,0.5\n"}, rows),
    "rows in JSON": Kind({"r.jsonl": '{"video": "a.mp4", "frame": 0, "x": 1, "y": 2}\n' * 2}, rows),
    "rows in Parquet": Kind({"r.parquet": lambda path: pq.write_table(ROWS, path)}, rows),
    "a dataset's card": Kind({CARD_NAME: dataset}, lambda path: load_dataset(str(path.parent))),
    "torch": Kind({"w.pt": torch_file}, read_public),
    "old torch": Kind({"w.pt": lambda path: torch_file(path, _use_new_zipfile_serialization=False)}, read_public),
    "keras": Kind({"w.h5": keras_file}, read_public),
    **{
        suffix: Kind({f"a.{suffix}": picture}, lambda path: decode_picture(path.read_bytes()))
        for suffix in ("png", "jpg", "webp", "tiff", "bmp")
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")  # Pillow's
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_ends_as_a_result_or_as_one_of_our_errors(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    for file, content in reversed(kind.files.items()):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_text(content)
    seed = path.read_bytes()
    try:
        kind.read(path)
    except SpecktrackError as error:
        assert "unknown layout" in str(error), "the seed itself must be good"
    for data in mutations(seed, ROUNDS // 5, list(KINDS).index(name)):
        path.write_bytes(data)
        try:
            kind.read(path)
        except SpecktrackError:
            continue
