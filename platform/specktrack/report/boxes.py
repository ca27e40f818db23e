"""The page about box trackers: the papers' three plots, and tables by attribute, by size and by sequence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specktrack.report import drawing, page

_DASHES = ("-", (0, (7, 4)), (0, (2, 3)), (0, (9, 3, 2, 3)))
_LEGEND_LINES = 25
"""Trackers named beside a plot; the others' lines are drawn thin and grey."""

_COLUMNS: Mapping[str, str] = {
    "success_auc": "success AUC",
    "precision": "precision",
    "normalised_precision_auc": "norm. precision AUC",
    "normalised_precision": "norm. precision 0.2",
    "success_50": "success 0.5",
    "success_75": "success 0.75",
    "average_overlap": "mean IoU",
    "pointing": "pointing",
    "lost": "frames lost",
}


def box_plots(content: Mapping[str, Any]) -> dict[str, str]:
    """SVG text by name: success, precision and normalised precision of an ``evaluation.json``."""
    at_px = f"precision at {content['precision_px']} px"
    trackers = content["trackers"]
    steps = len(trackers[0]["success_curve"]) - 1
    drawn = {
        "success": ("Success", "overlap threshold", np.arange(steps + 1) / steps, "success_curve", "success_auc"),
        "precision": (f"Precision ({at_px})", "centre error, px", np.arange(51), "precision_curve", "precision"),
        "normalised_precision": (
            "Normalised precision", "centre error / box size", np.arange(51) / 100, "normalised_curve",
            "normalised_precision_auc",
        ),
    }  # fmt: skip
    return {
        name: _plot(title, label, x, {t["tracker"]: (t[score], t[curve]) for t in trackers})
        for name, (title, label, x, curve, score) in drawn.items()
    }


def boxes_page(content: Mapping[str, Any], sequences: Sequence[Mapping[str, Any]]) -> str:
    """The page of ``evaluation.json`` and ``sequences``, the rows of ``sequences.parquet``."""
    counted = f"{content['sequences']} sequences ({content['tiny']} tiny by LaTOT's rule), {content['frames']} labels"
    trackers, ranked_by = content["trackers"], content["ranked_by"]
    headings = dict.fromkeys((ranked_by, "success_auc", "precision", "normalised_precision_auc"))
    headline = {_COLUMNS[key]: trackers[0][key] for key in headings}
    captions = {"success": "success", "precision": "precision", "normalised_precision": "normalised precision"}
    return page.document(
        f"{len(trackers)} trackers on {content['data'].rstrip('/').rpartition('/')[2]}",
        f"protocol {content['protocol']}; {counted}; precision at {content['precision_px']} px; "
        f"labels {content['data']}",
        *_doubts(trackers),
        page.cards({f"best of {len(trackers)}": trackers[0]["tracker"], **headline}),
        page.section("Trackers", _trackers(trackers), note="Best first."),
        page.section("Plots", *(page.figure(drawing, captions[name]) for name, drawing in box_plots(content).items())),
        page.section(
            "By attribute",
            *(page.subsection(_COLUMNS[key].capitalize(), _by_attribute(content, key)) for key in headings),
            note=_checks(content),
        ),
        page.section("Pointing by size of the label", _by_size(trackers)),
        page.section("Sequences", _by_sequence(content, sequences), note=f"By {_COLUMNS[ranked_by]}."),
    )


def _trackers(trackers: Sequence[Mapping[str, Any]]) -> str:
    rows = [[tracker["tracker"], *(tracker[name] for name in _COLUMNS)] for tracker in trackers]
    return page.table(["tracker", *_COLUMNS.values()], rows)


def _doubts(trackers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Caveats for comparing the numbers."""
    found = []
    for tracker in trackers:
        faults = {
            "sequences without results, counted as lost": len(tracker["missing_sequences"]),
            "labels beyond the end of the results, counted as lost": tracker["missing_frames"],
            "predictions that are no box": tracker["held_frames"],
        }
        if told := [f"{number} {text}" for text, number in faults.items() if number]:
            found.append(page.doubt(f"{tracker['tracker']}: {'; '.join(told)}."))
    return found


def _by_attribute(content: Mapping[str, Any], key: str) -> str:
    attributes = content["attributes"]
    head = ["tracker", "all", *(f"{name} ({number})" for name, number in attributes.items())]
    rows: list[list[Any]] = [
        [t["tracker"], t[key], *(t["by_attribute"][name][key] for name in attributes)] for t in content["trackers"]
    ]
    return page.table(head, rows)


def _by_size(trackers: Sequence[Mapping[str, Any]]) -> str:
    sizes = trackers[0]["pointing_by_size"]
    used = [i for i, bucket in enumerate(sizes) if bucket["frames"]]
    head = ["tracker", *(f"{sizes[i]['size']} ({sizes[i]['frames']})" for i in used)]
    return page.table(head, [[t["tracker"], *(_ratio(t["pointing_by_size"][i]) for i in used)] for t in trackers])


def _ratio(bucket: Mapping[str, Any]) -> float:
    return float(bucket["hits"] / bucket["frames"])


def _checks(content: Mapping[str, Any]) -> str:
    return " ".join(
        f"{check['attribute']}: labelled in {check['labelled']} sequences, by its definition in {check['computed']}; "
        f"they differ in {len(check['differ'])}."
        for check in content["attribute_checks"]
    )


def _by_sequence(content: Mapping[str, Any], sequences: Sequence[Mapping[str, Any]]) -> str:
    """The ranking metric of every tracker on every sequence."""
    names = [tracker["tracker"] for tracker in content["trackers"]]
    cells: dict[str, dict[str, float | None]] = {}
    for row in sequences:
        cells.setdefault(row["sequence"], {})[row["tracker"]] = row[content["ranked_by"]]
    rows: list[list[Any]] = [[sequence, *(found[name] for name in names)] for sequence, found in cells.items()]
    return page.table(["sequence", *names], rows)


def _plot(title: str, x_label: str, x: np.ndarray, curves: Mapping[str, tuple[float, Sequence[float]]]) -> str:
    """Curves over a grid, the best first in the legend with its score."""
    ranked = sorted(curves.items(), key=lambda item: item[1][0], reverse=True)
    lines = []
    for i, (name, (score, curve)) in enumerate(ranked):
        shown = f"[{score:.3f}] {name}" if i < _LEGEND_LINES else None
        lines.append(drawing.Curve(shown, np.asarray(curve, float), _DASHES[i // 10 % len(_DASHES)]))
    return drawing.curves(title, x_label, x, lines)
