"""What a person looks at after an evaluation: the papers' three plots, and one page with tables by attribute."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from specktrack import page
from specktrack.evaluate.box_report import BoxReport, TrackerEvaluation

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


def plots(report: BoxReport) -> dict[str, str]:
    """SVG text by name: success, precision and normalised precision."""
    at_px = f"precision at {report.precision_px} px"
    steps = len(report.trackers[0].success_curve) - 1
    drawn = {
        "success": ("Success", "overlap threshold", np.arange(steps + 1) / steps, "success_curve", "success_auc"),
        "precision": (f"Precision ({at_px})", "centre error, px", np.arange(51), "precision_curve", "precision"),
        "normalised_precision": (
            "Normalised precision", "centre error / box size", np.arange(51) / 100, "normalised_curve",
            "normalised_precision_auc",
        ),
    }  # fmt: skip
    return {
        name: _plot(title, label, x, {t.tracker: (getattr(t, score), getattr(t, curve)) for t in report.trackers})
        for name, (title, label, x, curve, score) in drawn.items()
    }


def report_page(report: BoxReport, sequences: Sequence[Mapping[str, Any]]) -> str:
    """The whole evaluation as one HTML page; ``sequences`` are the rows per sequence."""
    counted = f"{report.sequences} sequences ({report.tiny} tiny by LaTOT's rule), {report.frames} labels"
    best = report.trackers[0]
    headings = dict.fromkeys((report.ranked_by, "success_auc", "precision", "normalised_precision_auc"))
    headline = {_COLUMNS[key]: getattr(best, key) for key in headings}
    captions = {"success": "success", "precision": "precision", "normalised_precision": "normalised precision"}
    return page.document(
        f"{len(report.trackers)} trackers on {report.data.rstrip('/').rpartition('/')[2]}",
        f"protocol {report.protocol}; {counted}; precision at {report.precision_px} px; labels {report.data}",
        *_doubts(report),
        page.cards({f"best of {len(report.trackers)}": best.tracker, **headline}),
        page.section("Trackers", _trackers(report), note="Best first."),
        page.section("Plots", *(page.figure(drawing, captions[name]) for name, drawing in plots(report).items())),
        page.section(
            "By attribute",
            *(page.subsection(_COLUMNS[key].capitalize(), _by_attribute(report, key)) for key in headings),
            note=_checks(report),
        ),
        page.section("Pointing by size of the label", _by_size(report)),
        page.section("Sequences", _by_sequence(report, sequences), note=f"By {_COLUMNS[report.ranked_by]}."),
    )


def _trackers(report: BoxReport) -> str:
    rows = [[tracker.tracker, *(getattr(tracker, name) for name in _COLUMNS)] for tracker in report.trackers]
    return page.table(["tracker", *_COLUMNS.values()], rows)


def _doubts(report: BoxReport) -> list[str]:
    """What a reader must know before comparing numbers."""
    found = []
    for tracker in report.trackers:
        faults = {
            f"{len(tracker.missing_sequences)} sequences without results, counted as lost": len(
                tracker.missing_sequences
            ),
            f"{tracker.missing_frames} labels beyond the end of the results, counted as lost": tracker.missing_frames,
            f"{tracker.held_frames} predictions that are no box": tracker.held_frames,
        }
        if told := [text for text, number in faults.items() if number]:
            found.append(page.doubt(f"{tracker.tracker}: {'; '.join(told)}."))
    return found


def _by_attribute(report: BoxReport, key: str) -> str:
    names = list(report.attributes)
    head = ["tracker", "all", *(f"{name} ({report.attributes[name]})" for name in names)]
    rows: list[list[Any]] = [
        [t.tracker, getattr(t, key), *(getattr(t.by_attribute[name], key) for name in names)] for t in report.trackers
    ]
    return page.table(head, rows)


def _by_size(report: BoxReport) -> str:
    used = [i for i, bucket in enumerate(report.trackers[0].pointing_by_size) if bucket.frames]
    sizes = report.trackers[0].pointing_by_size
    head = ["tracker", *(f"{sizes[i].size} ({sizes[i].frames})" for i in used)]
    return page.table(head, [[t.tracker, *(_ratio(t, i) for i in used)] for t in report.trackers])


def _ratio(tracker: TrackerEvaluation, bucket: int) -> float:
    return tracker.pointing_by_size[bucket].hits / tracker.pointing_by_size[bucket].frames


def _checks(report: BoxReport) -> str:
    return " ".join(
        f"{check.attribute}: labelled in {check.labelled} sequences, by its definition in {check.computed}; "
        f"they differ in {len(check.differ)}."
        for check in report.attribute_checks
    )


def _by_sequence(report: BoxReport, sequences: Sequence[Mapping[str, Any]]) -> str:
    """What ranks here, of every tracker on every sequence."""
    names = [tracker.tracker for tracker in report.trackers]
    cells: dict[str, dict[str, float | None]] = {}
    for row in sequences:
        cells.setdefault(row["sequence"], {})[row["tracker"]] = row[report.ranked_by]
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
