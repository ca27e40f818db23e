"""One self-contained HTML page: text, tables, drawings and pictures; no script, no link, nothing from elsewhere.

Every text is escaped here, so a video may have any name; the page's own policy forbids what escaping would miss.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import unquote

import numpy as np
from PIL import Image

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root{--ink:#1d2530;--dim:#667080;--rule:#dfe3e8;--card:#f5f7f9;--paper:#fff;--doubt:#fff4d6}
@media(prefers-color-scheme:dark){:root{--ink:#e3e7ec;--dim:#98a2b0;--rule:#343c47;--card:#212830;--paper:#171c22;
--doubt:#4a3d14}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;margin:2rem auto;
padding:0 1.2rem}
h1,h2,h3{overflow-wrap:anywhere}
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
figure svg,figure img{display:block;max-width:100%;height:auto}
figure{display:inline-block;vertical-align:top;margin:.5rem 1.2rem .5rem 0}
svg *{stroke-linejoin:round;stroke-linecap:butt}
.strip{display:flex;flex-wrap:wrap;gap:.8rem}.strip figure{margin:0;max-width:13rem}
.strip img{border-radius:6px;width:13rem}
@media print{:root{--ink:#000;--dim:#444;--rule:#bbb;--card:#f2f2f2;--paper:#fff;--doubt:#eee}
body{max-width:none;margin:0;font-size:11px}figure,tr,.cards div{break-inside:avoid}h2,h3{break-after:avoid}
.scroll{overflow:visible}}
"""


def document(title: str, subtitle: str, *parts: str) -> str:
    """The page; ``parts`` are HTML made by the functions below."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="note">{escape(subtitle)}</p>{"".join(parts)}</main></body></html>\n'
    )


def section(heading: str, *parts: str, note: str = "") -> str:
    """A heading with what belongs below it; nothing if there are no parts."""
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
    """Rows below their heads; nothing if there are no rows."""
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{escape(name) or "&nbsp;"}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><tr>{heads}</tr>{body}</table></div>'


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
    """A drawing with its caption; nothing if there is no drawing."""
    return drawing and f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def picture(pixels: np.ndarray, caption: str, described: str) -> str:
    """A picture, uint8 [H, W, 3], as JPEG inside the page."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=82)
    data = base64.b64encode(sink.getvalue()).decode()
    image = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(described)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def strip(pictures: Sequence[str]) -> str:
    """Pictures side by side; nothing if there are none."""
    return f'<div class="strip">{"".join(pictures)}</div>' if pictures else ""
