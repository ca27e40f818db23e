"""Print the tables of docs/results.md between their markers from docs/results/*.json: ``python docs/make_results.py``.

With ``--check``, say whether the page is stale and exit 1. The JSON files come from ``benchmarks/compare_models.py``.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PAGE, RESULTS, PUBLISHED = HERE / "results.md", HERE / "results", HERE / "published.yaml"
BEGIN = "<!-- printed by docs/make_results.py from docs/results -->"
END = "<!-- end of what docs/make_results.py prints -->"
PAPER, SOURCE = "4 px at 512x288", "4 px"
UNDER = "Accuracy under conditions, frames in brackets; what labels do not say (blur, size, occlusion) has no column:"
Row = list[Any]


def page() -> str:
    """The whole page with fresh tables."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """All tables: trained models, the comparison at an equal budget, costs, conditions and the papers."""
    runs = sorted(_runs(), key=lambda run: -run["f1"])
    trained, equal = [r for r in runs if "budget" not in r], [r for r in runs if "budget" in r]
    parts = [
        "### Trained models\nAs they come, over the five test rallies, in the windows that they are annotated with.",
        _accuracy_table(trained),
        "F1, accuracy, precision, recall and AP are at 4 px in 512x288, as the papers count; `source px` is 4 px in\n"
        "the video. Errors are px at 512x288 where label and prediction are both present.",
        UNDER,
        _condition_table(trained),
    ]
    if equal:
        parts += ["### All networks at an equal budget", _what_was_equal(equal), _accuracy_table(equal)]
        parts += [UNDER, _condition_table(equal)]
    parts += [
        *_costs(),
        "### Beside the papers\n"
        "Per cent. An independent re-training of V1 to V5 for 30 epochs reached F1 75, 81, 84, 80 and 77 on the\n"
        "shuttlecock test split (github.com/AnInsomniacy/tracknet-series-pytorch): the papers are hard to match.",
        _table("model|ours: F1, accuracy|published: F1, accuracy|where|what explains the difference", _beside(equal)),
    ]
    return "\n\n".join(["", *parts, ""])


def _runs() -> Iterable[dict[str, Any]]:
    for path in sorted(RESULTS.glob("*.json")):
        values = json.loads(path.read_text(encoding="utf-8"))
        if "f1" in values:
            yield values | {"label": path.stem.replace(".seed", ", seed ").replace(".trained", ", trained")}


def _what_was_equal(runs: list[dict[str, Any]]) -> str:
    run, budget = runs[0], runs[0]["budget"]
    wall = sum(r["budget"]["wall_s"] for r in runs) / 60
    (crop_w, crop_h), (width, height) = budget["crop_wh"], run["network"]["input_wh"]
    footage = {"rallies": "broadcast rallies", "rendered": "rendered video"}[run["footage"]]
    return (
        f"Fresh weights, {footage}, recipe `fast` with pictures not varied: {budget['samples']:,} windows"
        f" ({budget['steps']} steps of {budget['batch_size']}),\ncrops of {crop_w}x{crop_h} of pictures at"
        f" {width}x{height}; then followed over {run['frames']} test frames with windows end to end.\n{wall:.0f}"
        f" minutes of training in all on {run['machine']}, {run['date']}, beside other work. So short a\n"
        "training ranks how fast networks learn, not how good they become."
    )


def _accuracy_table(runs: list[dict[str, Any]]) -> str:
    head = "model|frames|F1|accuracy|precision|recall|F1, source px|accuracy, source px|AP|error p50|p90|p99"
    return _table(head, [_accuracy_row(run) for run in runs])


def _accuracy_row(run: dict[str, Any]) -> Row:
    paper, source, error = run["at"][PAPER], run["at"][SOURCE], run["error_512x288_px"]
    ratios = [_three(paper[name]) for name in ("f1", "accuracy", "precision", "recall")]
    average = run.get("average_precision")
    return [
        run["label"], run["frames"], *ratios, _three(source["f1"]), _three(source["accuracy"]),
        "" if average is None else _three(average), *(_two(error[name]) for name in ("p50", "p90", "p99")),
    ]  # fmt: skip


def _costs() -> list[str]:
    path = RESULTS / "costs.json"
    if not path.exists():
        return []
    costs = json.loads(path.read_text(encoding="utf-8"))
    reference = costs["models"]["specknet"]["frames_per_s"]
    rows = [
        [name, f"{c['parameters']:,}", f"{c['gflop_per_frame']:.1f}", f"{c['frames_per_s'] / reference:.2f}"]
        for name, c in sorted(costs["models"].items(), key=lambda item: -item[1]["frames_per_s"])
    ]
    head = (
        "### What they cost\n"
        "One window at 512x288 on one core, batch norm folded, bf16 where it pays, CPU time of one run"
        f" ({costs['machine']},\n{costs['date']}); a multiply and an add are 2 FLOP. SpeckNet's rate was {reference:g}"
        " frames/s."
    )
    return [head, _table("model|parameters|GFLOP per frame|frames/s, SpeckNet = 1", rows)]


def _condition_table(runs: list[dict[str, Any]]) -> str:
    frames = {name: counts["total"] for run in runs for name, counts in run.get("conditions", {}).items()}
    head = "model|" + "|".join(f"{name} ({total})" for name, total in frames.items())
    rows = [
        [run["label"], *(_three(run["conditions"][name]["accuracy"]) for name in frames)]
        for run in runs if run.get("conditions")
    ]  # fmt: skip
    return _table(head, rows)


def _beside(runs: list[dict[str, Any]]) -> list[Row]:
    mine = {run["label"]: run for run in runs if run["footage"] == "rallies"}
    rows = []
    for name, entry in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")).items():
        theirs = ", ".join(str(entry["row"].get(key, "-")) for key in ("f1", "accuracy"))
        ours = (
            ", ".join(f"{100 * mine[name][key]:.1f}" for key in ("f1", "accuracy"))
            if name in mine
            else "no run on rallies"
        )
        rows.append([name, ours, theirs, entry["source"], entry["difference"]])
    return rows


def _three(value: float) -> str:
    return f"{value:.3f}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _table(head: str, rows: list[Row]) -> str:
    lines = [head, "|".join(["---", *["--:"] * head.count("|")]), *("|".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line.replace('|', ' | ')} |" for line in lines)


def main() -> int:
    """Write the page, or compare it."""
    fresh = page()
    stale = fresh != PAGE.read_text(encoding="utf-8")
    if stale and "--check" not in sys.argv[1:]:
        PAGE.write_text(fresh, encoding="utf-8")
    if stale:
        print("stale, run docs/make_results.py" if "--check" in sys.argv[1:] else f"written: {PAGE.name}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
