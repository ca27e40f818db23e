"""One self-contained HTML page: text, tables and SVG drawings; no script, no link, nothing from elsewhere.

Every text is escaped here, so a video may have any name; the page's own policy forbids what escaping would miss.
Drawings take numbers with NaN where there is nothing to draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import numpy as np

COLOURS = ("#2166ac", "#d6604d", "#1b9e77", "#7570b3", "#e6a100", "#6a3d9a")
_TIME_COLOURS = ("#440154", "#46307e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#e5d518")
"""Early to late."""
MAX_POINTS = 2000
"""Points of one drawn line; of longer ones every k-th is drawn."""
_LEFT, _TOP, _BOTTOM = 46, 12, 34

_STYLE = """
:root{--ink:#1d2530;--dim:#667080;--rule:#dfe3e8;--card:#f5f7f9;--paper:#fff;--doubt:#fff4d6}
@media(prefers-color-scheme:dark){:root{--ink:#e3e7ec;--dim:#98a2b0;--rule:#343c47;--card:#212830;--paper:#171c22;
--doubt:#4a3d14}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;margin:2rem auto;
padding:0 1.2rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .5rem}h3{font-size:1rem;margin:1.4rem 0 .2rem}
p.note,figcaption{color:var(--dim);margin:.2rem 0;font-size:.9rem;overflow-wrap:anywhere}
p.doubt{background:var(--doubt);padding:.4rem .8rem;border-radius:6px;overflow-wrap:anywhere}
.cards{display:flex;flex-wrap:wrap;gap:.7rem;margin:1.2rem 0}
.cards div{background:var(--card);border-radius:8px;padding:.55rem 1rem;min-width:6.5rem}
.cards b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.cards span{color:var(--dim);font-size:.85rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4rem 0}
th{color:var(--dim);font-weight:600;font-size:.88rem}
td,th{padding:.2rem .75rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left;padding-left:0;white-space:normal;overflow-wrap:anywhere;min-width:9rem}
figure svg{display:block}figure{display:inline-block;vertical-align:top;margin:.5rem 1.2rem .5rem 0}
svg{max-width:100%;height:auto}svg text{fill:var(--dim);font-size:11px}svg .rule{stroke:var(--rule)}
svg .frame{fill:var(--card);stroke:var(--rule)}
"""


def document(title: str, subtitle: str, *parts: str) -> str:
    """The page; ``parts`` are HTML made by the functions below."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="note">{escape(subtitle)}</p>{"".join(parts)}</body></html>\n'
    )


def section(heading: str, *parts: str, note: str = "") -> str:
    """A heading with what belongs below it; nothing where there are no parts."""
    if not any(parts):
        return ""
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<h2>{escape(heading)}</h2>{told}{''.join(parts)}"


def subsection(heading: str, *parts: str) -> str:
    """A smaller heading with what belongs below it."""
    return f"<h3>{escape(heading)}</h3>{''.join(parts)}"


def doubt(text: str) -> str:
    """A paragraph of caveats, which a reader should know before trusting the numbers."""
    return f'<p class="doubt">{escape(text)}</p>'


def cards(values: Mapping[str, Any]) -> str:
    """The numbers that matter most, large."""
    boxes = (f"<div><b>{cell(value)}</b><span>{escape(name)}</span></div>" for name, value in values.items())
    return f'<div class="cards">{"".join(boxes)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows below their heads; nothing where there are no rows."""
    if not rows:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{heads}</tr>{body}</table></div>'


def cell(value: Any) -> str:
    """A number with as many digits as one reads, or escaped text."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def percent(ratio: float | None) -> str | None:
    """A share as text."""
    return None if ratio is None else f"{100 * ratio:.2f} %"


def short_names(uris: Sequence[str]) -> dict[str, str]:
    """Names for tables: the URIs, decoded, without the folders that all of them share."""
    folders = [uri.rstrip("/").split("/")[:-1] for uri in uris]
    shared = next((i for i, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1), None)
    depth = min(map(len, folders), default=0) if shared is None else shared
    return {uri: unquote("/".join(uri.split("/")[depth:])) for uri in uris}


def figure(drawing: str, caption: str) -> str:
    """A drawing with its caption; nothing where there is no drawing."""
    return drawing and f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


# --- drawings -------------------------------------------------------------------------------------------------------


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


def line_plot(lines: Sequence[Line], *, x_label: str, y_label: str, wh: tuple[int, int] = (520, 170)) -> str:
    """SVG of lines over a common grid, with a legend where there is more than one."""
    known = [line.y[~np.isnan(line.y)] for line in lines]
    if not sum(map(len, known)):
        return ""
    values = np.concatenate(known)
    low, high = _nice(float(values.min()), float(values.max()))
    frames = np.concatenate([line.x for line in lines])
    first, last = float(frames.min()), float(frames.max())
    axes = _Axes((first, max(last, first + 1)), (low, high), wh)
    parts = [axes.grid(x_label, y_label)]
    for line in lines:
        step = -(-len(line.x) // MAX_POINTS) if not line.dots else 1
        x, y = axes.x(line.x[::step]), axes.y(line.y[::step])
        parts.append(_dots(x, y, line.colour) if line.dots else _polylines(x, y, line.colour, broad=line.broad))
    if len(lines) > 1:
        at = _LEFT + 6
        for line in lines:
            parts.append(f'<circle cx="{at}" cy="7" r="4" fill="{line.colour}"/>')
            parts.append(f'<text x="{at + 8}" y="11">{escape(line.name)}</text>')
            at += 22 + 7 * len(line.name)
    return axes.svg(parts)


def histogram(values: np.ndarray, *, edges: np.ndarray, x_label: str, wh: tuple[int, int] = (360, 190)) -> str:
    """SVG of how many values fall between ``edges``; those beyond the last are counted in the last bar."""
    values = values[~np.isnan(values)]
    if not len(values):
        return ""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    beyond = values.max() > edges[-1]
    axes = _Axes((float(edges[0]), float(edges[-1])), (0.0, _nice(0, float(counts.max()))[1]), wh)
    parts = [axes.grid(x_label + (f" (last bar: also above {edges[-1]:g})" if beyond else ""), "")]
    floor = axes.y(np.zeros(1))[0]
    lefts, rights, tops = axes.x(edges[:-1]), axes.x(edges[1:]), axes.y(counts.astype(float))
    for left, right, top, count in zip(lefts, rights, tops, counts, strict=True):
        if count:
            box = (
                f'x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(1, right - left - 1):.1f}" height="{floor - top:.1f}"'
            )
            parts.append(f'<rect {box} fill="{COLOURS[0]}"><title>{count}</title></rect>')
    return axes.svg(parts)


def path_plot(
    xy_px: np.ndarray, size_wh_px: tuple[float, float], *, marks: Mapping[str, np.ndarray] | None = None
) -> str:
    """SVG of a path [N, 2] in its picture, early dark and late bright; ``marks`` are points [M, 2] by colour."""
    width, height = size_wh_px
    scale = 360 / max(width, 1)
    present = ~np.isnan(xy_px).any(axis=1)
    if not present.any():
        return ""
    step = -(-len(xy_px) // MAX_POINTS)
    points = (xy_px[::step] + 0.5) * scale
    parts = [f'<rect class="frame" x="0" y="0" width="360" height="{height * scale:.0f}"/>']
    for colour, part in zip(_TIME_COLOURS, _chunks(len(points), len(_TIME_COLOURS)), strict=True):
        parts.append(_polylines(points[part, 0], points[part, 1], colour))
    for colour, at in (marks or {}).items():
        parts.append(_dots((at[:, 0] + 0.5) * scale, (at[:, 1] + 0.5) * scale, colour))
    return _svg(360, round(height * scale), parts)


def _chunks(n: int, count: int) -> list[slice]:
    """``count`` neighbouring slices that share their ends, so that a line through them has no holes."""
    ends = np.linspace(0, n, count + 1).astype(int)
    return [slice(a, b + 1) for a, b in pairwise(ends.tolist())]


class _Axes:
    """The mapping from data to a drawing's px, and the grid."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], wh: tuple[int, int]) -> None:
        self._x, self._y, self._wh = x, y, wh

    def x(self, values: np.ndarray) -> np.ndarray:
        low, high = self._x
        return _LEFT + (values - low) / (high - low) * self._wh[0]

    def y(self, values: np.ndarray) -> np.ndarray:
        low, high = self._y
        return _TOP + (high - values) / (high - low) * self._wh[1]

    def grid(self, x_label: str, y_label: str) -> str:
        width, height = self._wh
        parts = []
        for tick in np.linspace(*self._y, 5):
            y = self.y(np.array([tick]))[0]
            parts.append(f'<path class="rule" d="M{_LEFT} {y:.1f}h{width}"/>')
            parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        digits = ".0f" if self._x[1] - self._x[0] >= 20 else ".3g"
        for tick in np.linspace(*self._x, 6):
            x = self.x(np.array([tick]))[0]
            parts.append(f'<text x="{x:.1f}" y="{_TOP + height + 15}" text-anchor="middle">{tick:{digits}}</text>')
        label = f"{y_label} over {x_label}" if y_label else x_label
        parts.append(
            f'<text x="{_LEFT + width / 2}" y="{_TOP + height + 30}" text-anchor="middle">{escape(label)}</text>'
        )
        return "".join(parts)

    def svg(self, parts: Sequence[str]) -> str:
        return _svg(_LEFT + self._wh[0] + 14, _TOP + self._wh[1] + _BOTTOM, parts)


def _nice(low: float, high: float) -> tuple[float, float]:
    """A range around low..high whose quarters are round numbers."""
    power = 10 ** np.floor(np.log10(max(high - low, 1e-9) / 4))
    for step in power * np.array([1, 2, 2.5, 5, 10, 20]):
        start = float(np.floor(low / step) * step)
        if start + 4 * step >= high:
            break
    return start, start + 4 * float(step)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {size} role="img">{"".join(parts)}</svg>'


def _polylines(x: np.ndarray, y: np.ndarray, colour: str, *, broad: bool = False) -> str:
    """Lines through neighbours that are both there; a lone point is a dot."""
    known = ~(np.isnan(x) | np.isnan(y))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    stroke = f'stroke="{colour}" ' + ('stroke-width="5" stroke-opacity="0.35"' if broad else 'stroke-width="1.5"')
    parts = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start == 1:
            parts.append(f'<circle cx="{x[start]:.1f}" cy="{y[start]:.1f}" r="1.2" fill="{colour}"/>')
        else:
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[start:stop], y[start:stop], strict=True))
            parts.append(f'<polyline points="{points}" fill="none" {stroke}/>')
    return "".join(parts)


def _dots(x: np.ndarray, y: np.ndarray, colour: str) -> str:
    known = ~(np.isnan(x) | np.isnan(y))
    spots = zip(x[known][:MAX_POINTS], y[known][:MAX_POINTS], strict=True)
    return "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="{colour}" fill-opacity="0.8"/>' for a, b in spots)
