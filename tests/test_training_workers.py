"""A run goes on alike on another number of workers: of every family, without Ray, by the same step."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from tests.test_global_search import TINY as SEARCH
from tests.test_template_tracking import tiny

from specktrack.datasets.dataset import read_dataset, save_dataset
from specktrack.datasets.patches import PatchesConfig, write_patches
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.models.checkpoint import load_tensors, save_model
from specktrack.schema import ROWS
from specktrack.storage import open_store

pytestmark = pytest.mark.timeout(1200)  # fifteen processes, one after the other: under a minute on idle cores
SPECKNET = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": [128, 80]}
FAMILIES = {
    "windowed": {"network": SPECKNET, "sampling": {"crop_wh": [64, 48]}, "augment": {"mix": "samples"}},
    "repair": {"network": "inpaintnet", "hiding": {"runs": 0.5}},
    "search": {"network": SEARCH, "sampling": {"crop_wh": [96, 64]}},
    "template": {"network": tiny().config.model_dump(mode="json"), "pairs": {"templates": 2, "searches": 1}},
    "kind": {"network": {"name": "kindnet", "kinds": ["0000", "0001"], "input_wh": [32, 32], "widths": [4, 8, 8]}},
}
FAMILIES["distilled"] = {**FAMILIES["template"], "distill": {"teacher": "teacher.safetensors", "tiny_px": 7}}


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worked")
    write_archive(SynthConfig(videos=2, frames=24, width_px=128, height_px=80), str(folder / "archive"))
    archive = open_store(str(folder / "archive"))
    save_dataset(named_by_video(read_dataset(archive)), archive)
    write_patches(PatchesConfig(sequences=2, frames=9, width_px=96, height_px=64), str(folder / "sequences"))
    save_model(folder / "teacher.safetensors", tiny().network, tiny().card)
    for name, options in FAMILIES.items():
        data = "sequences" if name in ("template", "distilled") else "archive"
        run = {"data": [str(folder / data)], "output": "o", "cache": str(folder / "cache"), "steps": 3, "workers": 2,
               "batch_size": 4, "shards": 2, "precision": "fp32", "warmup_steps": 0, **options}  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(run))
    subprocess.run(
        [sys.executable, "-m", "tests.training_workers", str(folder)], check=True, timeout=1100, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"},
    )  # fmt: skip
    return folder


def named_by_video(dataset):
    """With a kind for each video: its name."""
    rows, field = dataset.rows, ROWS.field("kind")
    words = [None if row["x"] is None else Path(row["video"]).stem for row in rows.select(["x", "video"]).to_pylist()]
    kinds = pa.array(words, pa.string()).cast(field.type)
    return replace(dataset, rows=rows.set_column(rows.schema.get_field_index("kind"), field, kinds))


@pytest.mark.parametrize("name", FAMILIES)
def test_two_workers_have_the_losses_and_weights_of_one(name, worked):
    one, two = (json.loads((worked / f"{name}-{n}/losses.json").read_text()) for n in (1, 2))
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-5, abs=1e-6, nan_ok=True)
    one, two = (load_tensors(worked / f"{name}-{n}/state.safetensors")[0] for n in (1, 2))
    moved = {tensor: (two[tensor] - one[tensor]).abs().max() for tensor in one if one[tensor].is_floating_point()}
    assert one.keys() == two.keys() and max(moved.values()) < 2e-6
    assert one["optimizer/0/step"] == 3
