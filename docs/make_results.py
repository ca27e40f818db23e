"""Print the tables of docs/results.md between their markers from docs/results: ``python docs/make_results.py``.

With ``--check``, say whether the page is stale and exit 1. The JSON files come from ``compare_models.py``,
``accuracy_by_speed.py``, ``repair.py`` and ``per_window.py`` in benchmarks/; a folder FOOTAGE-STEPS holds one
comparison at an equal budget.
"""

import functools
import json
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from specktrack.verbs.papers import FIGURES

HERE = Path(__file__).parent
PAGE, RESULTS, PUBLISHED = HERE / "results.md", HERE / "results", FIGURES
BEGIN = "<!-- printed by docs/make_results.py from docs/results -->"
END = "<!-- end of what docs/make_results.py prints -->"
PAPER, SOURCE = "4 px at 512x288", "4 px"
UNDER = (
    "Accuracy by condition, with its number of frames; what labels do not record (blur, size, occlusion) has no column:"
)
FOOTAGE = {"rallies": "broadcast rallies", "rendered": "rendered video"}
"""What networks were trained on and tested with at an equal budget, what counts most first."""
Row = list[Any]


def page() -> str:
    """The whole page with fresh tables."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    """All tables: trained models, the comparison at an equal budget, costs, conditions and the papers."""
    trained, comparisons = _runs(RESULTS), _comparisons()
    costs = _read(RESULTS / "costs.json") if (RESULTS / "costs.json").exists() else {"models": {}}
    parts = [
        *_generalisation(),
        *_kinds(),
        *_by_speed(),
        "### Trained models\nThe shipped weights on the five test rallies, with the windows that annotate uses.",
        _accuracy_table(trained, costs),
        "F1, accuracy, precision, recall and AP are at 4 px in 512x288, as in the papers; `source px` is 4 px in the\n"
        "video. Errors are px at 512x288 where label and prediction are both present. Parameters, GFLOP per frame and\n"
        "frames/s are from the table of costs below: the network alone, on one core.",
        UNDER,
        _condition_table(trained),
    ]
    for (footage, steps), runs in comparisons.items():
        parts += [f"### Networks at an equal budget: {FOOTAGE[footage]}, {steps:,} steps", _what_was_equal(runs)]
        parts += [_accuracy_table(runs, costs), UNDER, _condition_table(runs), *_per_window(runs)]
    parts += [
        *_costs(costs),
        *_repairs(),
        "### Compared with the papers\n"
        "Accuracy / precision / recall / F1 in per cent; a dash means that the paper prints none. Frames/s are from\n"
        "the paper's machine. Ours are from the longest equal budget above, so budget and footage are always the main\n"
        "difference. An independent retraining of V1 to V5 for 30 epochs reached F1 75, 81, 84, 80 and 77 on the\n"
        "shuttlecock test split (github.com/AnInsomniacy/tracknet-series-pytorch): the papers are hard to reproduce.",
        _table("model|ours|published|frames/s|where|other differences", _beside(comparisons)),
    ]
    return "\n\n".join(["", *parts, ""])


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _comparisons() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Runs by footage and steps, what says most first: rallies, and many networks."""
    found = {}
    for folder in filter(Path.is_dir, RESULTS.glob("*-*")):
        footage, _, steps = folder.name.partition("-")
        found[footage, int(steps)] = _runs(folder)
    order = list(FOOTAGE)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]))))


def _runs(folder: Path) -> list[dict[str, Any]]:
    """What was measured of each model there, the best first."""
    found = []
    for path in folder.glob("*.json"):
        values = _read(path)
        if "f1" in values:
            rest = path.stem.removeprefix(values["model"])
            label = values["model"] + rest.replace(".seed", ", seed ").replace(".trained", "")
            found.append(values | {"label": label})
    return sorted(found, key=lambda run: (-run["f1"], run["label"]))


def _what_was_equal(runs: list[dict[str, Any]]) -> str:
    steps, batch_size, samples = (_shared(runs, "budget", name) for name in ("steps", "batch_size", "samples"))
    (crop_w, crop_h), (width, height) = _shared(runs, "budget", "crop_wh"), _shared(runs, "network", "input_wh")
    test = f"{_shared(runs, 'frames')} frames of {_shared(runs, 'videos')} test videos"
    wall = sum(run["budget"]["wall_s"] for run in runs) / 60
    dates = " to ".join(sorted({run["date"] for run in runs}))
    return (
        f"From random weights, with recipe `fast` and no augmentation of pictures: {samples:,} windows"
        f" ({steps} steps of {batch_size}),\ncrops of {crop_w}x{crop_h} from pictures at"
        f" {width}x{height}; then tested on {test} with windows end to end.\n"
        f"{wall:.0f} minutes of training in total on {_shared(runs, 'machine')}, {dates}, on a shared machine.\n"
        "Such short training ranks how fast networks learn, not how good they become."
    )


def _shared(runs: list[dict[str, Any]], *keys: str) -> Any:
    """What all runs have there; ValueError names those that differ, which do not belong in one table."""
    found = {run["label"]: functools.reduce(operator.getitem, keys, run) for run in runs}
    first = next(iter(found.values()))
    if any(value != first for value in found.values()):
        raise ValueError(f"runs of one table differ in {'.'.join(keys)}: {found}")
    return first


def _accuracy_table(runs: list[dict[str, Any]], costs: dict[str, Any]) -> str:
    head = (
        "model|frames|F1|accuracy|precision|recall|F1, source px|accuracy, source px|precision, source px|"
        "recall, source px|AP|error p50|p90|p99|parameters|GFLOP|frames/s"
    )
    return _table(head, [_accuracy_row(run, costs["models"].get(run["model"])) for run in runs])


def _accuracy_row(run: dict[str, Any], cost: dict[str, Any] | None) -> Row:
    error, average = run["error_512x288_px"], run.get("average_precision")
    names = ("f1", "accuracy", "precision", "recall")
    ratios = [_three(run["at"][tolerance][name]) for tolerance in (PAPER, SOURCE) for name in names]
    return [
        run["label"], run["frames"], *ratios,
        "" if average is None else _three(average), *(_two(error[name]) for name in ("p50", "p90", "p99")),
        *(_cost(cost) if cost else ["", "", ""]),
    ]  # fmt: skip


def _cost(cost: dict[str, Any]) -> Row:
    return [f"{cost['parameters']:,}", f"{cost['gflop_per_frame']:.1f}", f"{cost['frames_per_s']:.1f}"]


def _costs(costs: dict[str, Any]) -> list[str]:
    if not costs["models"]:
        return []
    reference = costs["models"]["specknet"]["frames_per_s"]
    rows = [
        [
            name, *_cost(c), f"{c['frames_per_s'] / reference:.2f}", "{}x{}".format(*c["own_wh"]),
            f"{c['own_gflop_per_frame']:.1f}",
        ]
        for name, c in sorted(costs["models"].items(), key=lambda item: -item[1]["frames_per_s"])
    ]  # fmt: skip
    head = (
        "### Costs\n"
        "CPU time of one window at 512x288 on one core, with batch norm folded and bf16 where it is faster"
        f" ({costs['machine']},\n{costs['date']}); a multiply and an add are 2 FLOP. The last two columns are at each"
        " network's own input size."
    )
    columns = "model|parameters|GFLOP per frame|frames/s|SpeckNet = 1|own input|GFLOP per frame there"
    return [head, _table(columns, rows)]


def _by_speed() -> list[str]:
    path = RESULTS / "accuracy_by_speed.json"
    if not path.exists():
        return []
    stored = _read(path)
    rows: list[Row] = []
    best = 0.0
    for each in sorted(stored["rows"], key=lambda row: (-row["frames_per_s"], -row["at"]["f1"])):
        counts = _counts(each["at"])
        if each["at"]["f1"] > best:
            best = each["at"]["f1"]
            counts[5] = f"**{counts[5]}**"
        rows.append([each["model"], each["input"], each["overlap"], f"{each['frames_per_s']:.0f}", *counts])
    head = (
        "### Accuracy by speed\n`--model`, `--input-wh` and `--overlap` on the test rallies,"
        f" {stored['tolerance']}, fastest first; bold: nothing faster is as accurate.\nFrames/s are in one process,"
        f" from open to rows ({stored['machine']}, {stored['date']})."
    )
    return [head, _table(f"model|input|windows per frame|frames/s|{_COUNTS}", rows)]


def _generalisation() -> list[str]:
    path = RESULTS / "generalisation.json"
    if not path.exists():
        return []
    stored = _read(path)
    rows = [
        [
            domain, at["clips"], at["total"], *_counts(at)[:8], _three(at["f1_in_play"]),
            _or_empty(at["recall_at_rest"], _three), at["frames_at_rest"] or "",
            _or_empty(at["false_rows_per_minute_absent"], "{:.1f}".format),
        ]
        for domain, at in stored["domains"].items()
    ]  # fmt: skip
    few = f" At most {stored['most_clips']} of each, except badminton." if stored["most_clips"] else ""
    head = (
        "### Outside the training data\nThe default on clips of places and sports held out of its training, and on\n"
        "test rallies of known courts (`python benchmarks/generalisation.py DATA`, "
        f"{stored['date']}, {stored['machine']}).{few}\nA prediction is right within 4 px at 512x288,"
        " or, for flying objects, within the box. At rest: a label moves less than\n2 px at 512x288 in half a second."
    )
    names = "F1 in play|recall at rest|frames at rest|false rows per minute of absence"
    return [head, _table(f"footage|clips|frames|TP|TN|FP1|FP2|FN|F1|precision|recall|{names}", rows)]


def _kinds() -> list[str]:
    path = RESULTS / "kinds.json"
    if not path.exists():
        return []
    stored = _read(path)
    kinds = stored["kinds"]
    parts = [
        f"### Kinds of flying objects\n`--kinds {stored['model']}` on clips of places held out of its training"
        " (`python benchmarks/kinds.py DATA`,\n"
        f"{stored['date']}, {stored['machine']}), at the labelled positions moved by 1.5 px. By row: each\n"
        "row's kind, from the last second of its track; by track: the most frequent kind of a clip. Confusion\n"
        "matrices: true kinds down, predicted kinds across, rows (clips)."
    ]
    summary: list[Row] = []
    for light, at in stored["lights"].items():
        error = at["calibration_error"]
        shares = (at[name] for name in ("accuracy_by_row", "balanced_accuracy_by_row", "accuracy_by_track"))
        summary.append([light, at["clips"], f"{at['rows']:,}", *map(_three, shares), _or_empty(error, _three)])
    head = "light|clips|rows|right by row|mean of kinds|right by track|calibration error"
    parts.append(_table(head, summary))
    for light, at in stored["lights"].items():
        rows = [
            [kind, *(f"{n:,} ({clips})" for n, clips in zip(by_row, by_track, strict=True))]
            for kind, by_row, by_track in zip(kinds, at["rows_by_kind"], at["tracks_by_kind"], strict=True)
        ]
        parts.append(_table("|".join([light, *kinds]), rows))
    return parts


def _or_empty(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


def _repairs() -> list[str]:
    path = RESULTS / "repair.json"
    if not path.exists():
        return []
    stored = _read(path)
    rows = [[name, *_counts(at)] for name, at in stored["repairs"].items()]
    head = (
        f"### Gap repair\nRows of {stored['model']} on the test rallies after each repair: {stored['frames']:,}"
        f" frames, {stored['tolerance']}, {stored['date']}.\nWithout `--repair`, no gaps are filled."
    )
    return [head, _table(f"repair|{_COUNTS}", rows)]


_COUNTS = "TP|TN|FP1|FP2|FN|F1|precision|recall|accuracy"


def _counts(at: dict[str, Any]) -> Row:
    counted = [int(at[name]) for name in ("tp", "tn", "fp1", "fp2", "fn")]
    return [*counted, *(_three(at[name]) for name in ("f1", "precision", "recall", "accuracy"))]


def _per_window(runs: list[dict[str, Any]]) -> list[str]:
    """Both ways of counting of the runs that were counted both ways."""
    rows: list[Row] = []
    for run in runs:
        if both := run.get("per_window"):
            rows.append([run["label"], f"every output ({both['outputs']:,})", *_counts(both["every_output"])])
            rows.append(["", f"each frame once ({both['frames']:,})", *_counts(both["once"])])
    head = (
        "### Counted per window, as TrackNetV2 and V4 do\n"
        "They count every heatmap of every window, so a frame counts up to three times. Both lines follow their rule\n"
        "(published decoding at 0.5; 4 px at 512x288 from the centre of the label's heatmap). The second line, with\n"
        "windows end to end, therefore differs from the table above, which uses the decoding of sessions. Between the\n"
        "two lines, only the counting and the start of the windows differ."
    )
    return [head, _table(f"model|counted|{_COUNTS}", rows)] if rows else []


def _condition_table(runs: list[dict[str, Any]]) -> str:
    """Accuracy by condition; nothing where a run has no such frames, and all counts where runs differ in them."""
    runs = [run for run in runs if run.get("conditions")]
    totals: dict[str, set[int]] = {}
    for run in runs:
        for name, counts in run["conditions"].items():
            totals.setdefault(name, set()).add(counts["total"])
    head = ["model", *(f"{name} ({', '.join(map(str, sorted(frames)))})" for name, frames in totals.items())]
    rows = [[run["label"], *(_accuracy(run["conditions"].get(name)) for name in totals)] for run in runs]
    return _table("|".join(head), rows)


def _accuracy(counts: dict[str, Any] | None) -> str:
    return "" if counts is None else _three(counts["accuracy"])


def _beside(comparisons: dict[tuple[str, int], list[dict[str, Any]]]) -> list[Row]:
    order = list(FOOTAGE)
    longest_last = sorted(comparisons, key=lambda each: (-order.index(each[0]), each[1]))
    mine = {run["label"]: (run, f"{each[0]}, {each[1]} steps") for each in longest_last for run in comparisons[each]}
    rows: list[Row] = []
    for name, entry in yaml.safe_load(PUBLISHED.read_text(encoding="utf-8")).items():
        ours = "no run"
        if name in mine:
            run, where = mine[name]
            ours = f"{_four(run, 100)} ({where})"
        for number, row in enumerate(entry["rows"]):
            first = number == 0
            printed = [_four(row), row.get("fps", ""), row["where"]]
            rows.append([name, ours if first else "", *printed, entry["difference"] if first else ""])
    return rows


def _four(ratios: dict[str, Any], times: float = 1) -> str:
    names = ("accuracy", "precision", "recall", "f1")
    return " / ".join(f"{times * ratios[name]:.4g}" if name in ratios else "-" for name in names)


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
