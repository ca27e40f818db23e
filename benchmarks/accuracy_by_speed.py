"""What accuracy costs: the shipped models over labelled videos, in several input sizes and windows per frame.

    python benchmarks/accuracy_by_speed.py TEST [MODEL:WIDTHxHEIGHT:OVERLAP ...]

Every setting is followed in this process: frames/s is from the opening of the first video to the rows of the last.
Leaves its numbers in docs/results/accuracy_by_speed.json; ``docs/make_results.py`` makes a table of it. Nothing else
should run on the machine.
"""

import argparse
import json
import os
import platform as machine
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from specktrack.annotating import annotate_here
from specktrack.evaluate import EvaluateConfig, EvaluationReport, evaluate
from specktrack.models.checkpoint import load_model

RESULT = Path(__file__).parents[1] / "docs" / "results" / "accuracy_by_speed.json"
SETTINGS = (
    *(f"specknet:{size}:{overlap}" for size in ("512x288", "640x368", "768x432", "896x512") for overlap in (1, 2)),
    "specknet:768x432:4",
    *(f"specknet-wide:{size}:{overlap}" for size in ("640x368", "768x432") for overlap in (1, 2)),
    "specknet-wide:768x432:4",
)
COUNTED = "4 px at 512x288"


def main() -> None:
    """Follow the videos once per setting, count and time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("settings", nargs="*", default=SETTINGS)
    options = parser.parse_args()
    rows = []
    for setting in options.settings:
        rows.append(_measured(options.data, *setting.split(":")))
        print(rows[-1], flush=True)
    where = f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}"
    values = {"tolerance": COUNTED, "rows": rows, "machine": where, "date": time.strftime("%Y-%m-%d")}
    RESULT.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _measured(data: str, name: str, size: str, overlap: str) -> dict[str, Any]:
    width, height = map(int, size.split("x"))
    model = load_model(name)
    started = time.perf_counter()
    table = annotate_here(data, model=model, input_wh=(width, height), overlap=int(overlap), device="cpu")
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/rows.parquet")
        report = evaluate(EvaluateConfig(data=data, predictions=f"{folder}/rows.parquet"))
    assert isinstance(report, EvaluationReport)
    return {
        "model": name,
        "input": size,
        "overlap": int(overlap),
        "frames_per_s": round(table.num_rows / seconds, 1),
        "at": report.at[COUNTED],
    }


if __name__ == "__main__":
    main()
