"""Sequences are scored and followed on Ray Data as they are in one process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.test_template_tracking import tiny

from specktrack.evaluate import BoxReport, EvaluateConfig, evaluate
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.models.zoo import build, network_config

pytestmark = pytest.mark.ray


def test_the_cluster_and_one_process_agree(ray_local: None, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(7):
        label = np.cumsum(random.uniform(0, 3, (30, 4)), axis=0) + 5
        for place, boxes in (("data", label), ("results/A", label + random.normal(0, 2, (30, 4)))):
            (tmp_path / place / f"s{i}").mkdir(parents=True, exist_ok=True)
            name = f"s{i}/s{i}.txt" if place == "data" else f"s{i}.txt"
            np.savetxt(tmp_path / place / name, boxes, fmt="%.3f", delimiter=",")
    reports = []
    for address in (None, "auto"):
        config = EvaluateConfig(
            data=str(tmp_path / "data"), predictions=str(tmp_path / "results"), protocol="latot-all", address=address
        )
        reports.append(evaluate(config))
    here, there = reports
    assert isinstance(here, BoxReport)
    assert isinstance(there, BoxReport)
    assert there.trackers == here.trackers
    assert here.sequences == 7


@pytest.mark.slow
def test_a_model_and_its_finder_follow_on_the_cluster_as_in_one_process(ray_local: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    template, search = tiny(), network_config("global-search")
    save_model(tmp_path / "template.safetensors", template.network, template.card)
    save_model(tmp_path / "search.safetensors", build(search), ModelCard(name="search", network=search))
    random = np.random.default_rng(0)
    for name, start in (("a", 12), ("b", 30)):
        folder = tmp_path / "data" / name
        (folder / "img").mkdir(parents=True)
        boxes = np.array([[start + i, 20, 10, 8] for i in range(6)], float)
        ground = random.integers(0, 80, (60, 80, 3), dtype=np.uint8)
        for i, (x, y, w, h) in enumerate(boxes.astype(int)):
            pixels = ground.copy()
            if i not in (3, 4):  # gone, so that the finder is asked
                pixels[y : y + h, x : x + w] = 230
            Image.fromarray(pixels).save(folder / "img" / f"{i:04d}.png")
        np.savetxt(folder / f"{name}.txt", boxes, fmt="%.1f", delimiter=",")
    curves = {}
    for finder in (None, str(tmp_path / "search.safetensors")):
        for address in (None, "auto"):
            config = EvaluateConfig(
                data=str(tmp_path / "data"), model=str(tmp_path / "template.safetensors"), finder=finder,
                protocol="otb", address=address, output=str(tmp_path / f"out-{address}"),
            )  # fmt: skip
            report = evaluate(config)
            assert isinstance(report, BoxReport) and report.sequences == 2
            text = (tmp_path / f"out-{address}" / "results" / report.tracker / "a.txt").read_text()
            curves[finder is None, address] = (report.trackers, text)
    for alone in (True, False):
        assert curves[alone, None] == curves[alone, "auto"]
