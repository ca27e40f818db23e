import importlib.util
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def results(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_stored_numbers_say(results):
    assert results.page() == results.PAGE.read_text(encoding="utf-8"), "run docs/make_results.py"


def test_stored_results_hold_numbers_and_no_paths():
    for path in (DOCS / "results").glob("*.json"):
        assert "/" not in json.dumps(json.loads(path.read_text())).replace(" px/frame", ""), path.name


def test_the_card_of_the_default_says_what_was_measured():
    from specktrack.models.checkpoint import load_weights

    stored = json.loads((DOCS / "results" / "specknet.trained.json").read_text())
    card, _ = load_weights("specknet")
    assert card.weights_sha256 == stored["weights_sha256"]
    for tolerance, measured in stored["at"].items():
        assert card.metrics[tolerance] == pytest.approx(measured, abs=1e-4)


def counts(tp, fn):
    ratios = {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": tp / (tp + fn)}
    return {"tp": tp, "tn": 0, "fp1": 0, "fp2": 0, "fn": fn, "total": tp + fn, **ratios}


def test_every_model_stands_in_every_table_best_first(results, tmp_path, monkeypatch):
    budget = {"steps": 5, "batch_size": 2, "samples": 10, "crop_wh": [64, 48], "wall_s": 60}
    equal = {"budget": budget, "footage": "rallies"}
    for name, f1, extra in (("wasb", 0.4, equal), ("tracknet-v2", 0.6, equal),
                            ("specknet.trained", 0.9, {})):  # fmt: skip
        error = {"p50": 1.0, "p90": 2.0, "p99": None}
        at = {key: counts(3, 1) for key in (results.PAPER, results.SOURCE)}
        values = {"f1": f1, "accuracy": f1, "frames": 4, "at": at,
                  "error_512x288_px": error, "conditions": {"slow": counts(1, 1)}, "network": {"input_wh": [256, 144]},
                  "machine": "m", "date": "d", "average_precision": None, **extra}  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    text = results.tables()
    assert "| specknet, trained | 4 | 0.500 | 0.750 |" in text and "10 windows (5 steps of 2)" in text
    assert text.index("| tracknet-v2 | 4 |") < text.index("| wasb | 4 |")
    assert "| model | slow (2) |" in text and "| wasb | 0.500 |" in text
    assert "| tracknet-v2 | 60.0, 60.0 | 90.9, 85.2 |" in text and "| tracknet-v5 | no run on rallies |" in text
