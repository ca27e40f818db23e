"""The page about box trackers: the papers' three plots, and tables by attribute, by size and by sequence."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from specktrack.report import page

_COLOURS = (
    "#d62728",
    "#1f77b4",
    "#2ca02c",
    "#9467bd",
    "#ff7f0e",
    "#17becf",
    "#e377c2",
    "#8c564b",
    "#7f7f7f",
    "#bcbd22",
)
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LEGEND_LINES = 25
"""Trackers named beside a plot; the others' lines are drawn thin and grey."""
_LEFT, _TOP, _WIDTH, _HEIGHT, _SIDE = 56, 34, 420, 300, 250

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
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + _SIDE} {_TOP + _HEIGHT + 50}" '
        f'width="{_LEFT + _WIDTH + _SIDE}" height="{_TOP + _HEIGHT + 50}" '
        'font-family="sans-serif" font-size="12">',
        f'<text x="{_LEFT + _WIDTH / 2}" y="20" text-anchor="middle" font-size="15">{escape(title)}</text>',
    ]
    for tick in np.linspace(0, 1, 6):
        left, down = _LEFT + tick * _WIDTH, _TOP + (1 - tick) * _HEIGHT
        parts += [
            f'<path d="M{_LEFT} {down:.1f}h{_WIDTH}M{left:.1f} {_TOP}v{_HEIGHT}" stroke="#ddd" fill="none"/>',
            f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{tick:.1f}</text>',
            f'<text x="{left:.1f}" y="{_TOP + _HEIGHT + 16}" text-anchor="middle">{tick * x[-1]:g}</text>',
        ]
    label_y = _TOP + _HEIGHT + 36
    parts.append(f'<text x="{_LEFT + _WIDTH / 2}" y="{label_y}" text-anchor="middle">{escape(x_label)}</text>')
    for i, (name, (score, curve)) in reversed(list(enumerate(ranked))):  # the best on top
        points = " ".join(
            f"{_LEFT + at / x[-1] * _WIDTH:.1f},{_TOP + (1 - value) * _HEIGHT:.1f}"
            for at, value in zip(x, curve, strict=True)
        )
        named = i < _LEGEND_LINES
        colour = _COLOURS[i % len(_COLOURS)] if named else "#ccc"
        style = f'stroke="{colour}" stroke-width="{2 if named else 1}" stroke-dasharray="{_DASHES[i // 10 % 4]}"'
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        if named:
            y = _TOP + 8 + 13 * i
            parts += [
                f'<path d="M{_LEFT + _WIDTH + 12} {y}h22" fill="none" {style}/>',
                f'<text x="{_LEFT + _WIDTH + 40}" y="{y + 4}">[{score:.3f}] {escape(name)}</text>',
            ]
    return "".join(parts) + "</svg>\n"
