import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from benchmarks import scaling

from specktrack.models.zoo import VARIANTS, ZOO

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def results(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_results", DOCS / "make_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_stored_numbers_say(results):
    assert results.page() == results.PAGE.read_text(encoding="utf-8"), "run docs/make_results.py"


def test_a_simulated_run_is_limited_by_workers_and_then_by_the_driver():
    assert scaling.simulate(96, 8, 0.25, 0.0) == pytest.approx(3.0)
    assert scaling.simulate(96, 96, 0.25, 0.0) == pytest.approx(0.25)
    assert scaling.simulate(96, 96, 0.25, 0.1) == pytest.approx(0.25 + 9.6)
    costs = scaling.Costs(decode_s=0.01, network_s=0.09, clip_s=0.0, probe_s=0.0, driver_s=0.01, plan_bytes=1000)
    few, many = (scaling.stages(costs, 1000, nodes) for nodes in (1, 4096))
    assert max(few, key=few.get) == "workers" and max(many, key=many.get) == "driver"


def test_stored_results_hold_numbers_and_no_paths():
    stored = DOCS / "results"
    for path in [*stored.glob("*.json"), *stored.glob("*-*/*.json")]:
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


@pytest.fixture
def stored(results, tmp_path, monkeypatch):
    """A function that stores a run, and the page's tables over what was stored."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def store(name, f1, **extra):
        error = {"p50": 1.0, "p90": 2.0, "p99": None}
        at = {key: counts(3, 1) for key in (results.PAPER, results.SOURCE)}
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        values = {"model": path.name.partition(".")[0], "f1": f1, "accuracy": f1, "precision": f1, "recall": f1,
                  "frames": 4, "at": at, "error_512x288_px": error, "conditions": {"slow": counts(1, 1)},
                  "network": {"input_wh": [256, 144]}, "machine": "m", "date": "d", "average_precision": None,
                  **extra}  # fmt: skip
        path.write_text(json.dumps(values))

    return store


def equal(steps=5):
    budget = {"steps": steps, "batch_size": 2, "samples": 2 * steps, "crop_wh": [64, 48], "wall_s": 60}
    return {"budget": budget, "videos": 1}


def test_every_model_stands_in_every_table_best_first(results, stored, tmp_path):
    stored("rendered-5/wasb", 0.4, **equal())
    stored("rendered-5/tracknet-v2", 0.6, **equal())
    stored("specknet.trained", 0.9)
    stored("specknet-wide.trained", 0.8)
    models = {"specknet": {"parameters": 1000, "gflop_per_frame": 2.0, "frames_per_s": 80.0, "own_wh": [512, 288],
                           "own_gflop_per_frame": 2.0}}  # fmt: skip
    (tmp_path / "costs.json").write_text(json.dumps({"models": models, "machine": "m", "date": "d"}))
    text = results.tables()
    assert "| specknet | 4 | 0.500 | 0.750 |" in text and "10 windows (5 steps of 2)" in text
    assert "| 1,000 | 2.0 | 80.0 |\n" in text, "costs stand beside the accuracy"
    assert text.index("| tracknet-v2 | 4 |") < text.index("| wasb | 4 |")
    assert "| model | slow (2) |" in text and "| wasb | 0.500 |" in text
    assert "| tracknet-v2 | 60 / 60 / 60 / 60 (rendered, 5 steps) | 85.2 / 97.2 / 85.4 / 90.9 | 31.84 |" in text
    assert "|  | 96.3 / 97 / 98.7 / 97.8 |  | the same, training matches |" in text
    assert "| tracknet-v5 | no run | 97.33 / 99.23 / 97.97 / 98.59 |" in text


def test_rallies_and_many_networks_stand_first_and_long_training_beside_the_papers(results, stored):
    stored("rendered-50/wasb", 0.7, **equal(50))
    stored("rallies-9/wasb", 0.3, **equal(9))
    stored("rallies-9/wasb.seed1", 0.2, **equal(9))
    stored("rallies-12/wasb", 0.4, **equal(12))
    text = results.tables()
    order = [
        "rallies, 9 steps",
        "| wasb, seed 1 | 4 |",
        "rallies, 12 steps",
        "24 windows (12 steps of 2)",
        "video, 50 steps",
    ]
    assert sorted(order, key=text.index) == order
    assert "| wasb | 40 / 40 / 40 / 40 (rallies, 12 steps) | 87 / - / - / 91.6 |" in text


def test_runs_without_a_condition_leave_its_place_empty(results, stored):
    stored("rendered-5/wasb", 0.4, **equal())
    stored("rendered-5/tracknet-v2", 0.6, **equal(), conditions={"slow": counts(3, 1), "fast": counts(1, 1)})
    text = results.tables()
    assert "| model | slow (2, 4) | fast (2) |" in text
    assert "| tracknet-v2 | 0.750 | 0.500 |" in text and "| wasb | 0.500 |  |" in text


def test_the_best_for_a_speed_is_bold(results, stored, tmp_path):
    rows = [
        {"model": "m", "input": "8x8", "overlap": overlap, "frames_per_s": speed, "at": counts(3, 1) | {"f1": f1}}
        for overlap, speed, f1 in ((4, 10.0, 0.97), (2, 20.0, 0.9), (1, 40.0, 0.93))
    ]
    values = {"tolerance": "t", "rows": rows, "machine": "m", "date": "d"}
    (tmp_path / "accuracy_by_speed.json").write_text(json.dumps(values))
    lines = [line for line in results.tables().splitlines() if line.startswith("| m | 8x8 |")]
    starts = ["| m | 8x8 | 1 | 40 |", "| m | 8x8 | 2 | 20 |", "| m | 8x8 | 4 | 10 |"]
    assert [line[:20] for line in lines] == [start[:20] for start in starts]
    assert ["**" in line for line in lines] == [True, False, True] and "| **0.970** |" in lines[2]


def test_repairs_stand_side_by_side(results, stored, tmp_path):
    stored("rendered-5/wasb", 0.4, **equal())
    repairs = {"none": counts(3, 1), "ballistic": counts(4, 0)}
    values = {"model": "m", "frames": 4, "tolerance": "t", "date": "d", "repairs": repairs}
    (tmp_path / "repair.json").write_text(json.dumps(values))
    text = results.tables()
    assert "| repair | TP | TN | FP1 | FP2 | FN | F1 | precision | recall | accuracy |" in text
    assert "| none | 3 | 0 | 0 | 0 | 1 | 0.500 | 0.500 | 0.500 | 0.750 |" in text


def test_a_papers_counting_stands_beside_each_frame_once(results, stored):
    both = {"outputs": 1200, "frames": 4, "every_output": counts(900.0, 300.0), "once": counts(2, 2)}
    stored("rendered-5/tracknet-v2", 0.6, **equal(), per_window=both)
    stored("rendered-5/wasb", 0.4, **equal())
    text = results.tables()
    assert "| tracknet-v2 | every output (1,200) | 900 | 0 | 0 | 0 | 300 | 0.500 | 0.500 | 0.500 | 0.750 |\n" in text
    assert "|  | each frame once (4) | 2 | 0 | 0 | 0 | 2 | 0.500 | 0.500 | 0.500 | 0.500 |\n" in text
    assert "| wasb | every output" not in text


def test_runs_of_different_budgets_are_not_put_into_one_table(results, stored):
    stored("rendered-5/wasb", 0.4, **equal())
    stored("rendered-5/tracknet-v2", 0.6, **equal(steps=6))
    with pytest.raises(ValueError, match=r"differ in budget.steps: \{'tracknet-v2': 6, 'wasb': 5\}"):
        results.tables()


def test_every_published_row_is_of_a_network_of_the_zoo(results):
    published = yaml.safe_load(results.PUBLISHED.read_text(encoding="utf-8"))
    assert set(published) <= {*ZOO, *VARIANTS}
    for name, entry in published.items():
        for row in entry["rows"]:
            if {"precision", "recall", "f1"} <= set(row):
                both = row["precision"] + row["recall"]
                assert row["f1"] == pytest.approx(2 * row["precision"] * row["recall"] / both, abs=0.11), (name, row)
