"""What filling gaps is worth: the default model's rows of labelled videos after each repair.

    python benchmarks/repair.py TEST [--model specknet]

Leaves its numbers in docs/results/repair.json; ``docs/make_results.py`` makes a table of it.
"""

import argparse
import json
import os
import platform as machine
import time
from pathlib import Path

import torch

from specktrack.evaluate import EvaluateConfig, EvaluationReport, evaluate

RESULT = Path(__file__).parents[1] / "docs" / "results" / "repair.json"
REPAIRS = ("none", "ballistic", "inpaintnet")
COUNTED = "4 px at 512x288"


def main() -> None:
    """Follow the videos once per repair, and count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="specknet")
    options = parser.parse_args()
    repairs = {}
    for repair in REPAIRS:
        report = evaluate(EvaluateConfig(data=options.data, model=options.model, repair=repair))
        assert isinstance(report, EvaluationReport)
        repairs[repair] = report.at[COUNTED]
        print(repair, repairs[repair], flush=True)
    where = f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}"
    values = {"model": Path(options.model).stem, "frames": report.frames, "tolerance": COUNTED, "repairs": repairs}
    values |= {"machine": where, "date": time.strftime("%Y-%m-%d")}
    RESULT.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
