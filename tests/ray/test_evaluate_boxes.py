"""Sequences are scored and followed on Ray Data as they are in one process."""

from pathlib import Path

import numpy as np
import pytest

from specktrack.evaluate import BoxReport, EvaluateConfig, evaluate

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
