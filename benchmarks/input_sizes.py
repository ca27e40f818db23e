"""What a larger input is worth, and what it costs: the default model's rows of labelled videos at several sizes.

    python benchmarks/input_sizes.py TEST [--model specknet] [--sizes 512x288 704x400 ...]

Each size is followed with one and with two windows per frame, in this process: frames/s is from the opening of the
first video to the rows of the last. Leaves its numbers in docs/results/input_sizes.json; ``docs/make_results.py`` makes
a table of it. Nothing else should run on the machine.
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

from specktrack.annotate import annotate_here
from specktrack.evaluate import EvaluateConfig, EvaluationReport, evaluate
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.windowed_entries import HeatmapReading

RESULT = Path(__file__).parents[1] / "docs" / "results" / "input_sizes.json"
SIZES = ("512x288", "640x368", "704x400", "768x432", "896x512", "1024x576")
COUNTED = "4 px at 512x288"


def main() -> None:
    """Follow the videos once per size and overlap, count and time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="specknet")
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    options = parser.parse_args()
    model, rows = load_model(options.model), []
    for size in options.sizes:
        for overlap in (2, 1):
            width, height = map(int, size.split("x"))
            row = _measured(options.data, model, HeatmapReading(input_wh=(width, height), overlap=overlap))
            rows.append({"size": size, "overlap": overlap, **row})
            print(rows[-1], flush=True)
    where = f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}"
    own = "x".join(map(str, model.config.input_wh))
    values = {"model": model.card.name, "own": own, "tolerance": COUNTED, "rows": rows, "machine": where}
    RESULT.write_text(json.dumps(values | {"date": time.strftime("%Y-%m-%d")}, indent=1) + "\n", encoding="utf-8")


def _measured(data: str, model: Model, reading: HeatmapReading) -> dict[str, Any]:
    started = time.perf_counter()
    table = annotate_here(data, model=model, reading=reading, device="cpu")
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, f"{folder}/rows.parquet")
        report = evaluate(EvaluateConfig(data=data, predictions=f"{folder}/rows.parquet"))
    assert isinstance(report, EvaluationReport)
    return {"frames_per_s": round(table.num_rows / seconds, 1), "at": report.at[COUNTED]}


if __name__ == "__main__":
    main()
