"""What a paper's counting is worth: every output of every window, as TrackNetV2 and V4 print, beside each frame once.

    python benchmarks/per_window.py NAME MODEL TEST          NAME as rendered-240/tracknet-v2

Adds ``per_window`` to docs/results/NAME.json, whose counts must be those of MODEL over TEST. Both are by the rule of
the TrackNetV2 and V3 programs, with the network's published decoding; once per frame means windows end to end.
``docs/make_results.py`` makes a table of it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from specktrack.evaluate import EvaluateConfig, EvaluationReport, evaluate
from specktrack.models.checkpoint import load_model
from specktrack.models.heatmap.entries import WindowedConfig

RESULTS = Path(__file__).parents[1] / "docs" / "results"
RULE = "published"
"""The tolerance of the protocol ``shuttlecock`` that is those programs' own."""


def main() -> None:
    """Count twice, and add it to the stored result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("model")
    parser.add_argument("test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{options.name}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["per_window"] = _both(options.model, options.test, stored)
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(options.name, stored["per_window"], flush=True)


def _both(model: str, test: str, stored: dict[str, Any]) -> dict[str, Any]:
    end_to_end = {"overlap": 1} if "budget" in stored else {}
    again = _evaluated(data=test, model=model, **end_to_end)
    if again.counts != stored["counts"]:
        raise ValueError(f"{model} over {test} counts {again.counts}, and what is stored is {stored['counts']}")
    network = load_model(model).config
    assert isinstance(network, WindowedConfig)
    report = _evaluated(
        data=test, model=model, protocol="shuttlecock", overlap=1, decoding=network.published_decoding, per_window=True
    )
    assert report.per_window is not None
    return {
        "outputs": report.per_window.outputs,
        "frames": report.frames,
        "every_output": report.per_window.at[RULE],
        "once": report.at[RULE],
        "decoding": network.published_decoding,
        "date": time.strftime("%Y-%m-%d"),
    }


def _evaluated(**settings: Any) -> EvaluationReport:
    report = evaluate(EvaluateConfig(**settings))
    assert isinstance(report, EvaluationReport)
    return report


if __name__ == "__main__":
    main()
