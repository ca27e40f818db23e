"""Files that other tools' own readers take: FiftyOne's, Hugging Face's."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from specktrack.datasets import export_rows
from specktrack.frames import Trajectory
from specktrack.schema import ROWS

URI, WH = "file:///videos/a.mp4", (64, 48)


@pytest.fixture
def rows() -> pa.Table:
    """A point, nothing, a box, with scores."""
    xy = np.array([[10.0, 20.0], [np.nan, np.nan], [30.5, 5.25]], np.float32)
    wh = np.array([[np.nan, np.nan], [np.nan, np.nan], [8.0, 6.0]], np.float32)
    track = Trajectory(np.arange(3), np.arange(3) / 30, xy, np.array([0.9, 0.1, 0.5], np.float32), wh_px=wh)
    return track.to_rows(URI)


def test_hugging_face_loads_the_folder(rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    export_rows(rows, "huggingface", f"{tmp_path}/folder/")
    loaded = datasets.load_dataset(f"{tmp_path}/folder", split="train", cache_dir=str(tmp_path / "arrow"))
    assert loaded.column_names == ROWS.names and len(loaded) == 3
    assert loaded[1]["x"] is None and loaded[1]["visibility"] == "absent" and loaded[2]["w"] == 8.0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "3 rows, 2 of them with a position" in card and all(f"| `{name}` |" in card for name in ROWS.names)


def test_fiftyones_own_library_reads_the_labels(rows: pa.Table, tmp_path: Path) -> None:
    video = pytest.importorskip("eta.core.video", reason="voxel51-eta is not installed")
    export_rows(rows, "fiftyone", f"{tmp_path}/folder/", sizes_wh_px={URI: WH})
    labels = video.VideoLabels.from_json(str(tmp_path / "folder/labels/a.json"))
    assert sorted(labels) == [1, 2, 3]
    first, third = (labels[number].objects[0] for number in (1, 3))
    assert (first.label, first.index, first.confidence) == ("ball", 0, pytest.approx(0.9))
    assert {each.name: each.value for each in first.attrs} == {"visibility": "clear", "point": True}
    box = third.bounding_box
    assert [box.top_left.x * 64, box.top_left.y * 48] == pytest.approx([30.5 + 0.5 - 4, 5.25 + 0.5 - 3])
    assert not len(labels[2].objects)
    index = json.loads((tmp_path / "folder/manifest.json").read_text())["index"]
    assert index == [{"data": "/videos/a.mp4", "labels": "labels/a.json"}]
