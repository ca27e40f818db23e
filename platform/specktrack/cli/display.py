"""Reports for people, on a terminal or in a log: tables by rich, printed to stdout."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python
from rich.console import Console, JustifyMethod
from rich.table import Table

if TYPE_CHECKING:
    from specktrack.cli.submit import SubmitReport
    from specktrack.evaluate import BoxReport, EvaluationReport
    from specktrack.evaluate.comparing import Comparison
    from specktrack.verbs.doctor import DoctorReport
    from specktrack.verbs.reproduce import ReproduceReport

_MAX_ITEMS = 6
"""Entries of a list or mapping that are written out before it is only counted."""


def show(report: Any) -> None:
    """A mapping as two columns, a list of mappings as a table, anything else as it is."""
    plain = to_jsonable_python(report, inf_nan_mode="null")
    if isinstance(plain, Mapping):
        table = _table(("", "right"), ("", "left"), header=False)
        for key, text in _lines(plain):
            table.add_row(key, text)
        _print(table)
    elif isinstance(plain, list) and plain and isinstance(plain[0], Mapping):
        table = _table(*((key.replace("_", " "), "left") for key in plain[0]))
        for row in plain:
            table.add_row(*(_text(row.get(key)) for key in plain[0]))
        _print(table)
    else:
        _print(_text(plain))


def show_evaluation(report: "EvaluationReport | BoxReport") -> None:
    """Of points or of boxes."""
    from specktrack.evaluate import BoxReport  # which loads Arrow

    if isinstance(report, BoxReport):
        _show_boxes(report)
    else:
        _show_points(report)


def show_reproduction(report: "ReproduceReport") -> None:
    """The paper's table with ours in it; the steps where nothing was done yet."""
    names = ("accuracy", "precision", "recall", "f1")
    columns = (f"{name}, {whose}" for name in names for whose in ("paper", "ours"))
    title = f"{report.paper}, per cent, tolerance {report.tolerance}"
    table = _table(("network", "left"), ("where", "left"), *((name, "right") for name in columns), title=title)
    for row in report.rows:
        figures = (of.get(name) for name in names for of in (row.published, row.ours))
        table.add_row(row.network, row.where, *("-" if figure is None else f"{figure:.4g}" for figure in figures))
    if not any(row.ours for row in report.rows):
        steps = _table(("step", "left"), ("settings", "left"))
        for step in report.steps:
            settings = " ".join(f"{key}={_text(value)}" for key, value in step.settings.items())
            steps.add_row(f"{step.verb} {step.recipe}", settings)
        _print(steps)
    _print(table)
    if report.changed:
        _print(f"not the published settings: {_text(report.changed)}")


def _show_boxes(report: "BoxReport") -> None:
    """The trackers, best first, then what ranks them by attribute, and pointing by size of the label."""
    precision = f"precision {report.precision_px} px"
    columns = ("success", precision, "norm. precision", "mean IoU", "pointing", "lost", "sequences missing")
    table = _table(
        ("tracker", "left"), *((name, "right") for name in columns),
        title=f"{report.sequences} sequences, {report.frames} labels, protocol {report.protocol}",
    )  # fmt: skip
    for entry in report.trackers:
        numbers = (entry.success_auc, entry.precision, entry.normalised_precision_auc, entry.average_overlap)
        shares = (entry.pointing, entry.lost)
        cells = ["-" if number is None else f"{number:.3f}" for number in (*numbers, *shares)]
        table.add_row(entry.tracker, *cells, str(len(entry.missing_sequences)))
    _print(table)
    if report.attributes:
        word = "pointing" if report.ranked_by == "pointing" else "success"
        by_attribute = _table((word, "left"), *((name, "right") for name in report.attributes))
        for entry in report.trackers:
            scores = [getattr(entry.by_attribute[name], report.ranked_by) for name in report.attributes]
            by_attribute.add_row(entry.tracker, *("-" if score is None else f"{score:.3f}" for score in scores))
        _print(by_attribute)
    if report.ranked_by == "pointing":
        by_size = _table(("hits / frames", "left"), *((bucket.size, "right") for bucket in report.pointing_by_size))
        for entry in report.trackers:
            by_size.add_row(entry.tracker, *(f"{bucket.hits} / {bucket.frames}" for bucket in entry.pointing_by_size))
        _print(by_size)


def _show_points(report: "EvaluationReport") -> None:
    """Counts and ratios at each tolerance, then position errors, then the videos from worst to best."""
    counts = _table(
        ("tolerance", "left"), *((name, "right") for name in ("TP", "TN", "FP1", "FP2", "FN")),
        *((name, "right") for name in ("F1", "precision", "recall", "accuracy")),
        title=f"{report.frames} labelled frames of {len(report.per_video)} videos, protocol {report.protocol}",
    )  # fmt: skip
    rules = dict(report.at)
    if report.per_window:
        rules |= {f"{name}, every window's output": at for name, at in report.per_window.at.items()}
    for name, at in rules.items():
        numbers = [str(at[key]) for key in ("tp", "tn", "fp1", "fp2", "fn")]
        counts.add_row(name, *numbers, *(_percent(at[key]) for key in ("f1", "precision", "recall", "accuracy")))
    _print(counts)
    errors = _table(("error", "left"), *((name, "right") for name in ("p50", "p90", "p99", "mean")))
    for unit, summary in (("source px", report.error_px), ("px at 512x288", report.error_512x288_px)):
        errors.add_row(unit, *(_text(summary[name]) for name in ("p50", "p90", "p99", "mean")))
    _print(errors)
    videos = _table(
        ("video", "left"), *((name, "right") for name in ("frames", "missing", "F1", "accuracy", "p50 px"))
    )  # fmt: skip
    for entry in sorted(report.per_video, key=lambda entry: entry.at[report.headline]["accuracy"]):
        at = entry.at[report.headline]
        videos.add_row(
            entry.video.rstrip("/").rpartition("/")[2], str(entry.frames), str(entry.missing),
            _percent(at["f1"]), _percent(at["accuracy"]), _text(entry.error_px["p50"]),
        )  # fmt: skip
    _print(videos)
    if report.comparison:
        _print(_compared(report.comparison))
    if report.missing:
        _print(f"{report.missing} labelled frames have no prediction and were counted as 'absent'.")
    if report.average_precision is not None:
        _print(f"average precision: {_percent(report.average_precision)}")
    if report.distractors:
        fp1, fp2, frames = report.distractors.fp1, report.distractors.fp2, report.distractors.frames
        _print(f"{fp1} FP1 and {fp2} FP2 lie on another labelled object, which {frames} frames have.")
    for video, reason in report.unread.items():
        _print(f"not read: {video}: {reason}")


def _compared(comparison: "Comparison") -> Table:
    """Paired differences with their intervals."""
    table = _table(
        ("ratio", "left"), *((name, "right") for name in ("now", "against", "difference", "95 % of draws")),
        title=f"against {comparison.against}, {comparison.frames} frames of {comparison.videos} videos",
    )  # fmt: skip
    for name, at in comparison.ratios.items():
        interval = f"{100 * at.low:+.2f} to {100 * at.high:+.2f}"
        table.add_row(name, _percent(at.now), _percent(at.against), f"{100 * at.difference:+.2f}", interval)
    return table


def show_job(report: "SubmitReport") -> None:
    """The job's outcome, then the report of its verb."""
    show({"job": report.submission_id, "status": report.status, "exit_code": report.exit_code})
    if report.result is not None:
        _print("")
        show(report.result)


def show_checks(report: "DoctorReport") -> None:
    """One line per check, with what to do where it failed."""
    table = _table(("", "left"), ("", "left"), ("", "left"), header=False)
    for check in report.checks:
        verdict = "[green]ok[/]" if check.ok else "[red]failed[/]"
        table.add_row(verdict, check.name, check.detail + (f"\n-> {check.remedy}" if check.remedy else ""))
    _print(table)


def _table(*columns: tuple[str, JustifyMethod], title: str | None = None, header: bool = True) -> Table:
    table = Table(title=title, title_justify="left", show_header=header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")
    return table


def _print(what: Table | str) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a log has no width; do not wrap at a guess of 80
    console.print(what, highlight=False)


def _lines(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in mapping.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping) and len(value) <= 2 * _MAX_ITEMS:
            yield from _lines(value, f"{name}: ")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            return "none"
        simple = len(value) <= _MAX_ITEMS and not any(isinstance(item, Mapping | list) for item in value)
        return ", ".join(map(_text, value)) if simple else f"{len(value)} entries"
    return str(value)


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2f} %"
