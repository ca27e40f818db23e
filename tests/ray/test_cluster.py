"""A Ray that is started here keeps its own affairs to itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WORK = """
from specktrack.annotate.pool import work
from specktrack.cluster import connected

class Twice:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, row):
        return [{"number": row["number"] * self.factor}]

with connected("local"):
    print(sorted(row["number"] for row in work([{"number": 1}, {"number": 2}], Twice, 2, workers=1)))
"""


@pytest.mark.ray
def test_work_prints_nothing_but_its_own_lines() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")}, cwd=ROOT,
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("[2, 4]\n", "", 0)
