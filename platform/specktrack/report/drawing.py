"""Drawings by matplotlib as SVG inside a page: text stays text, nothing is fetched, colours follow the page's theme.

Every function takes numbers, with NaN where nothing is to be drawn, and returns "" if nothing is left.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

COLOURS = ("#3b82c4", "#d6604d", "#1b9e77", "#8b80c9", "#c98a00", "#9a5fc0")
"""Readable on white and on black."""
MAX_POINTS = 2000
"""Points of one drawn line; of longer ones every k-th is drawn."""
TIMES = "viridis"
"""Early is dark, late is bright."""
_INK, _RULE = "#010203", "#010204"
"""Stand for the page's own colours, which its style sheet knows."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "specktrack", "font.family": "sans-serif", "font.size": 10.5,
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _RULE, "xtick.color": _INK, "ytick.color": _INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False, "legend.fontsize": 10,
    "axes.grid": True, "grid.color": _RULE, "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.4,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.major.size": 0, "ytick.major.size": 0,
    "figure.constrained_layout.use": True, "path.simplify_threshold": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a plot: y over x, [N] each, broken where y is NaN."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str = COLOURS[0]
    dots: bool = False
    """Marks instead of a line."""
    broad: bool = False
    """A pale band, for what another line is compared with."""


def line_plot(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    wh_px: tuple[int, int] = (620, 210),
    x_lim: tuple[float, float] | None = None,
    y_lim: tuple[float, float] | None = None,
    marks: Mapping[str, tuple[np.ndarray, str]] | None = None,
) -> str:
    """Lines over a common grid, with a legend if there is more than one; ``marks`` are named times and colours."""
    if not any(np.isfinite(line.y).any() for line in lines):
        return ""
    with rc_context(_STYLE):
        axes = _axes(wh_px, x_label, y_label)
        for line in lines:
            step = 1 if line.dots else -(-len(line.x) // MAX_POINTS)
            style: dict[str, Any] = {"marker": "o", "markersize": 3, "linestyle": "none"} if line.dots else {}
            style |= {"linewidth": 5, "alpha": 0.35} if line.broad else {}
            axes.plot(line.x[::step], line.y[::step], color=line.colour, label=_plain(line.name), **style)
        for name, (at, colour) in (marks or {}).items():
            for i, x in enumerate(at[:MAX_POINTS].tolist()):
                axes.axvline(x, color=colour, linewidth=0.9, linestyle=(0, (3, 2)), label=None if i else name)
        if x_lim:
            axes.set_xlim(*x_lim)
        if y_lim:
            axes.set_ylim(*y_lim)
        named = len(lines) + len(marks or {})
        if named > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(named, 5), borderaxespad=0)
        return _svg(axes, f"{y_label} over {x_label}")


@dataclass(frozen=True)
class Curve:
    """One of many lines over the same x."""

    name: str | None
    """In the legend; without one it is drawn thin and grey."""
    y: np.ndarray
    dash: Any = "-"
    """As matplotlib's ``linestyle``."""


def curves(title: str, x_label: str, x: np.ndarray, lines: Sequence[Curve]) -> str:
    """Curves between 0 and 1 over ``x`` [N], the first on top, with their names beside them."""
    with rc_context(_STYLE):
        axes = _axes((740, 360), x_label, "")
        for i, line in reversed(list(enumerate(lines))):
            named: dict[str, Any] = {"label": _plain(line.name), "linewidth": 1.8} if line.name else {"linewidth": 0.8}
            colour = f"C{i % 10}" if line.name else "#aaaaaa"
            axes.plot(x, line.y, color=colour, linestyle=line.dash, **named)
        axes.set(title=_plain(title), xlim=(x[0], x[-1]), ylim=(0, 1))
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
        return _svg(axes, title)


def histogram(values: np.ndarray, *, edges: np.ndarray, x_label: str, wh_px: tuple[int, int] = (360, 220)) -> str:
    """How many values fall between ``edges``; those beyond the last are counted in the last bar."""
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    beyond = values.max() > edges[-1]
    with rc_context(_STYLE):
        axes = _axes(wh_px, x_label + (f" (last bar: also above {edges[-1]:g})" if beyond else ""), "")
        axes.hist(np.clip(values, edges[0], edges[-1]), bins=edges.tolist(), color=COLOURS[0], rwidth=0.9)
        axes.grid(axis="x", visible=False)
        return _svg(axes, f"histogram of {x_label}")


def path_plot(
    paths: Sequence[np.ndarray],
    size_wh_px: tuple[float, float],
    *,
    marks: Mapping[str, tuple[np.ndarray, str]] | None = None,
    width_px: int = 400,
) -> str:
    """Paths [N, 2] in their picture, each early dark and late bright; ``marks`` are named points [M, 2] and colours."""
    if not any(np.isfinite(path).any() for path in paths):
        return ""
    width, height = size_wh_px
    with rc_context(_STYLE):
        axes = _axes((width_px, round(width_px * height / width) + 30), "", "")
        for path in paths:
            points = path[:: -(-len(path) // MAX_POINTS)]
            pieces = np.stack([points[:-1], points[1:]], axis=1)
            lines = LineCollection(list(pieces), cmap=TIMES, linewidths=1.5, capstyle="round")
            lines.set_array(np.linspace(0, 1, max(len(pieces), 1)))
            axes.add_collection(lines)
        for name, (at, colour) in (marks or {}).items():
            axes.plot(
                *at[:MAX_POINTS].T, marker="o", markersize=4, linestyle="none", color=colour, label=name, alpha=0.9
            )
        _as_picture(axes, size_wh_px)
        if marks:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0)
        return _svg(axes, "path in the picture")


def heatmap(xy_px: np.ndarray, size_wh_px: tuple[float, float], *, width_px: int = 400) -> str:
    """Where points [N, 2] of a picture are often, bright where most are."""
    known = xy_px[np.isfinite(xy_px).all(axis=1)]
    if not len(known):
        return ""
    width, height = size_wh_px
    bins = [48, max(1, round(48 * height / width))]
    reach = np.array([[0.0, width], [0.0, height]])
    counts, _, _ = np.histogram2d(known[:, 0], known[:, 1], bins=bins, range=reach)
    with rc_context(_STYLE):
        axes = _axes((width_px, round(width_px * height / width) + 12), "", "")
        shade = np.sqrt(counts.T)
        axes.imshow(
            np.ma.masked_equal(shade, 0), extent=(0, width, height, 0), cmap=TIMES, interpolation="nearest", zorder=2
        )
        _as_picture(axes, size_wh_px)
        return _svg(axes, "where the object was")


def timeline(rows: Mapping[str, Sequence[tuple[float, float, str]]], *, x_label: str, stop: float) -> str:
    """Bars (start, length, colour) in one row for each name."""
    if not rows:
        return ""
    with rc_context(_STYLE):
        axes = _axes((860, 40 + 22 * len(rows)), x_label, "")
        for i, bars in enumerate(rows.values()):
            for colour in sorted({colour for *_, colour in bars}):
                spans = [(start, length) for start, length, mine in bars if mine == colour]
                axes.broken_barh(spans[:MAX_POINTS], (i - 0.4, 0.8), facecolors=colour)
        axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])
        axes.set_xlim(0, max(stop, 1e-3))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        return _svg(axes, f"bars over {x_label}")


def bars(values: Mapping[str, float], *, x_label: str) -> str:
    """One bar for each name, the first on top."""
    if not values:
        return ""
    with rc_context(_STYLE):
        axes = _axes((560, 40 + 24 * len(values)), x_label, "")
        axes.barh([_plain(name) for name in values], list(values.values()), color=COLOURS[0], height=0.65)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        return _svg(axes, f"bars over {x_label}")


def _axes(wh_px: tuple[int, int], x_label: str, y_label: str) -> Axes:
    axes = Figure(figsize=(wh_px[0] / 72, wh_px[1] / 72), dpi=72).add_subplot()
    axes.set_xlabel(_plain(x_label))
    axes.set_ylabel(_plain(y_label))
    return axes


def _as_picture(axes: Axes, size_wh_px: tuple[float, float]) -> None:
    axes.set_xlim(0, size_wh_px[0])
    axes.set_ylim(size_wh_px[1], 0)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.tick_params(labelbottom=False, labelleft=False)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula and XML no character that it does not know."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return (shown if len(shown) <= 60 else f"…{shown[-59:]}").replace("$", r"\$")


def _svg(axes: Axes, described: str) -> str:
    """The axes' figure as an SVG element without what a page cannot have twice."""
    sink = io.StringIO()
    figure = axes.figure
    assert isinstance(figure, Figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's browser has fonts of its own
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = sink.getvalue()
    width = round(figure.get_size_inches()[0] * 72)
    (box,) = re.findall(r'viewBox="([^"]+)"', text)[:1]
    inner = text[text.index(">", text.index("<svg")) + 1 :]
    inner = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", inner, flags=re.S)
    inner = re.sub(r'<g id="[^"]*"', "<g", inner)
    inner = inner.replace(_INK, "var(--dim,#555)").replace(_RULE, "var(--rule,#ccc)")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}"'
    return f'{head} width="{width}" role="img" aria-label="{escape(described)}">{inner.strip()}'
