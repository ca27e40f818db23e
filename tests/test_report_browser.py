"""Reports in a real browser: nothing is blocked, nothing lies beside the page, and both themes can be read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.ray.browser import CHROMIUM, DRIVER, browser
from tests.test_report import PLAIN, evaluated, rows

from specktrack.report import ReportConfig, report

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

_CONTRAST = """
const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((v) => {
  const c = v / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor);
const against = (colour) => { const ink = light(colour);
  return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); };
const told = [...document.querySelectorAll("h1, h2, h3, td, th, p.note, figcaption")]
  .filter((e) => e.textContent.trim()).map((e) => against(getComputedStyle(e).color));
const drawn = [...document.querySelectorAll("svg text")].map((e) => against(getComputedStyle(e).fill));
return [Math.min(...told), Math.min(...drawn), told.length, drawn.length];
"""


def test_pages_work_as_a_person_sees_them(tmp_path: Path) -> None:
    pq.write_table(pa.concat_tables([rows(PLAIN), rows("file:///bucket/c.mp4", 5)]), tmp_path / "rows.parquet")
    report(ReportConfig(source=str(tmp_path / "rows.parquet"), output=str(tmp_path / "rows.html"), pictures=False))
    report(ReportConfig(source=str(evaluated(tmp_path)), output=str(tmp_path / "evaluation.html"), pictures=False))
    with browser(tmp_path / "profile", downloads=tmp_path, size=(1100, 900)) as window:
        for name in ("rows", "evaluation"):
            window.go((tmp_path / f"{name}.html").as_uri())
            for theme in ("light", "dark"):
                window.media(theme)
                told, drawn, texts, labels = window.run(_CONTRAST)
                assert told >= 4.5 and drawn >= 4.5, (name, theme, told, drawn)
                assert texts > 20 and labels > 20
            assert window.run("return document.querySelectorAll('svg[role=img][aria-label]').length") >= 5
            overlap = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            for width in (1100, 480):
                window.resize(width, 900)
                assert window.run(overlap) <= 0, (name, width)
            assert window.errors() == []
