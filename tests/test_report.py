"""Reports: one page that needs nothing beside it, says the right numbers and cannot be broken by a name."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from specktrack.cli.main import main
from specktrack.datasets.dataset import DatasetVideo, make_dataset, save_dataset
from specktrack.errors import ConfigError
from specktrack.evaluate import EvaluateConfig, evaluate
from specktrack.evaluate.comparing import compare
from specktrack.frames import Trajectory
from specktrack.report import ReportConfig, drawing, page, report
from specktrack.schema import Provenance, VideoRef
from specktrack.storage import open_store
from specktrack.video import write_video

HOSTILE = "s3://bucket/<script>alert(\"x\")</script>&amp;/' onload='y 羽\ud800.mp4"
PLAIN = "file:///bucket/b.mp4"
NAN = float("nan")


def rows(uri: str, shift: float = 0.0, n: int = 30, number: int = 0) -> pa.Table:
    """A path with a gap of four frames, of which two are filled in; frame 20 is the least certain."""
    xy = np.stack([10.0 * np.arange(n) + shift, 100 + np.arange(n) ** 1.5], axis=1).astype(np.float32)
    xy[10:12] = NAN
    score = np.linspace(0.5, 0.9, n).astype(np.float32)
    score[20] = 0.123
    provenance = np.full(n, Provenance.DETECTED.value, object)
    provenance[12:14] = Provenance.INPAINTED.value
    return Trajectory(np.arange(n), np.arange(n) / 30, xy, score, provenance=provenance).to_rows(uri, object_id=number)


class _Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data) -> None:
        self.text.append(data)


def read_page(path: Path) -> _Page:
    """Parse a page and check what holds for all of them."""
    text = path.read_text(encoding="utf-8")
    found = _Page(text)
    assert not {"script", "link", "iframe", "object", "a"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    fetched = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert all(re.match("#|data:image/(jpeg|png);base64,", value) for value in fetched)
    assert not re.search(r"url\((?!#)", text) and "@import" not in text
    for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(drawn)
        assert "nan" not in drawn and 'id="axes' not in drawn
    return found


def test_a_page_about_rows_tells_what_was_found(tmp_path: Path) -> None:
    pq.write_table(pa.concat_tables([rows(PLAIN), rows("file:///bucket/c.mp4", 5)]), tmp_path / "rows.parquet")
    summary = report(ReportConfig(source=str(tmp_path / "rows.parquet"), output=str(tmp_path / "r.html")))
    assert (summary.about, summary.output) == ("rows", (tmp_path / "r.html").as_uri())
    found = read_page(tmp_path / "r.html")
    assert "Rows of 2 videos" in found.text and "93.33 %" in found.text, "28 of 30 frames have a position"
    at = found.text.index("Least certain moments")
    assert "20" in found.text[at : at + 30] and "0.123" in found.text[at : at + 30]
    assert found.text.count("b.mp4") >= 2, "the folder that all videos share is left out"
    assert "y, filled in" in found.text
    for caption in (
        "positions of the object; brighter is more frequent",
        "speed, smoothed",
        "when the object was found",
    ):
        assert caption in found.text


def test_an_output_of_annotate_and_labels_are_rows_too(tmp_path: Path) -> None:
    video = DatasetVideo(
        ref=VideoRef(uri=PLAIN, etag="", size_bytes=0), width_px=640, height_px=360, fps=30, frames=30, labels_only=True
    )
    save_dataset(make_dataset(rows(PLAIN), (video,), name="t", layout="rows", source="t"), open_store(str(tmp_path)))
    (tmp_path / "run.json").write_text('{"report": {"seconds": {"decode": 3.5, "network": 9}}}')
    assert report(ReportConfig(source=str(tmp_path), output=str(tmp_path / "r.html"), videos=0)).about == "rows"
    text = read_page(tmp_path / "r.html").text
    assert "path in the picture" not in text and {"decode", "network", "time by stage"} <= set(text)


def evaluated(folder: Path, uri: str = PLAIN) -> Path:
    """An evaluation in which frames 0-2 are 60, 50 and 40 px off and frame 5 is not found, beside another object."""
    labels = pa.concat_tables([rows(uri), rows(uri, 40, number=1)])
    video = DatasetVideo(
        ref=VideoRef(uri=uri, etag="", size_bytes=0), width_px=640, height_px=360, fps=30, frames=30, labels_only=True
    )
    dataset = make_dataset(labels, (video,), name="t", layout="rows", source="t")
    save_dataset(dataset, open_store(str(folder / "data")))
    found = rows(uri).to_pylist()
    for row, far in zip(found, (60, 50, 40), strict=False):
        row["y"] += far
    found[5].update(x=None, y=None, visibility="absent")
    pq.write_table(pa.Table.from_pylist(found, schema=rows(uri).schema), folder / "found.parquet")
    output = folder / "evaluation"
    evaluate(EvaluateConfig(data=str(folder / "data"), predictions=str(folder / "found.parquet"), output=str(output)))
    return output


def test_a_page_about_an_evaluation_tells_the_counts_and_the_worst_frames(tmp_path: Path) -> None:
    summary = report(ReportConfig(source=str(evaluated(tmp_path)), output=str(tmp_path / "e.html")))
    assert summary.about == "evaluation"
    found = read_page(tmp_path / "e.html")
    at = found.text.index("4 px at 512x288")
    counts = found.text[at + 1 : at + 6]
    assert counts == ["24", "2", "3", "0", "1"], "tp, tn, fp1, fp2, fn"
    worst = found.text[found.text.index("Worst frames") :]
    assert [worst[i + 1] for i, text in enumerate(worst[:60]) if text == "b.mp4"][:4] == ["0", "1", "2", "5"]
    assert any("Other objects are labelled in 28 frames" in text for text in found.text)


def test_conditions_are_a_table(tmp_path: Path) -> None:
    folder = evaluated(tmp_path)
    content = json.loads((folder / "evaluation.json").read_text())
    easy = content["at"][content["headline"]]
    content["conditions"] = {"fast <b>": easy | {"total": 7}, "slow": easy}
    (folder / "evaluation.json").write_text(json.dumps(content))
    report(ReportConfig(source=str(folder / "evaluation.json"), output=str(tmp_path / "e.html")))
    found = read_page(tmp_path / "e.html")
    at = found.text.index("condition")
    assert found.text[at + 11 : at + 13] == ["fast <b>", "7"] and "slow" in found.text


@pytest.mark.parametrize("about", ["rows", "evaluation"])
def test_a_hostile_name_stays_text(tmp_path: Path, about: str) -> None:
    name = HOSTILE.replace("\ud800", "\x01")
    if about == "rows":
        pq.write_table(rows(name), tmp_path / "rows.parquet")
    source = tmp_path / "rows.parquet" if about == "rows" else evaluated(tmp_path, name)
    report(ReportConfig(source=str(source), output=str(tmp_path / "r.html"), pictures=False))
    found = read_page(tmp_path / "r.html")
    assert any("onload='y" in text for text in found.text)


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    absent = rows(PLAIN).slice(10, 2)
    pq.write_table(absent, tmp_path / "rows.parquet")
    report(ReportConfig(source=str(tmp_path / "rows.parquet"), output=str(tmp_path / "r.html")))
    assert "No position in any frame." in read_page(tmp_path / "r.html").text
    pq.write_table(absent.slice(0, 0), tmp_path / "rows.parquet")
    report(ReportConfig(source=str(tmp_path / "rows.parquet"), output=str(tmp_path / "r.html")))
    assert "Rows of 0 videos" in read_page(tmp_path / "r.html").text


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the name of a report must end in \.html: 'r\.pdf'"):
        report(ReportConfig(source=str(tmp_path), output="r.pdf"))
    (tmp_path / "evaluation.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"not an evaluation: it has no protocol.*evaluation\.json"):
        report(ReportConfig(source=str(tmp_path), output=str(tmp_path / "r.html")))
    assert not (tmp_path / "r.html").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(rows(PLAIN), tmp_path / "rows.parquet")
    assert main(["report", str(tmp_path / "rows.parquet"), str(tmp_path / "r.html"), "--json"]) == 0
    assert '"about": "rows"' in capsys.readouterr().out


def test_what_was_in_the_picture_is_shown_where_it_can_be_read(tmp_path: Path) -> None:
    """The bright square lies where the least certain row is, in the middle of its piece."""
    pixels = np.full((30, 240, 320, 3), 40, np.uint8)
    place = rows((tmp_path / "v.mp4").as_uri())
    x, y = (int(place[name][20].as_py()) for name in "xy")
    pixels[20, y - 4 : y + 5, x - 4 : x + 5] = 250
    write_video(tmp_path / "v.mp4", pixels, fps=30, wh=(320, 240))
    pq.write_table(pa.concat_tables([place, rows(PLAIN)]), tmp_path / "rows.parquet")
    report(ReportConfig(source=str(tmp_path / "rows.parquet"), output=str(tmp_path / "r.html")))
    found = read_page(tmp_path / "r.html")
    shown = [value for name, value in found.attributes if name == "src"]
    assert shown, "of the video that is there"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[0].partition(",")[2]))))
    middle = picture[80:128, 80:128].mean()
    assert middle > 120 and picture[:30].mean() < 60
    assert any("v.mp4, frame 20, score 0.12" in text for text in found.text)


def test_an_evaluation_is_compared_with_another(tmp_path: Path) -> None:
    folder = evaluated(tmp_path)
    data = str(tmp_path / "data")
    pq.write_table(rows(PLAIN), tmp_path / "right.parquet")
    config = EvaluateConfig(
        data=data, predictions=str(tmp_path / "right.parquet"), against=str(folder), output=str(tmp_path / "new")
    )
    found = evaluate(config).comparison
    assert found is not None and (found.videos, found.frames) == (1, 30)
    assert found.ratios["accuracy"].difference == pytest.approx(4 / 30)
    report(ReportConfig(source=str(tmp_path / "new"), output=str(tmp_path / "e.html")))
    text = read_page(tmp_path / "e.html").text
    at = text.index("accuracy", text.index("Compared"))
    assert text[at : at + 4] == ["accuracy", "100.00 %", "86.67 %", "13.33 %"]
    with pytest.raises(ConfigError, match="no evaluation of points found"):
        evaluate(config.model_copy(update={"against": data}))
    with pytest.raises(ConfigError, match="protocol points, this one uses wasb"):
        evaluate(config.model_copy(update={"protocol": "wasb"}))


def test_an_interval_holds_the_difference_and_says_when_chance_could_have_made_it(tmp_path: Path) -> None:
    def frames(right: np.ndarray) -> pa.Table:
        videos, n = right.shape
        return pa.table({
            "video": np.repeat([f"v{i}" for i in range(videos)], n), "frame": np.tile(np.arange(n), videos),
            "outcome": np.where(right.ravel(), "tp", "fp1"),
        })  # fmt: skip

    random = np.random.default_rng(0)
    old = random.random((12, 50)) < 0.8
    better, other = old | (random.random(old.shape) < 0.4), random.random(old.shape) < 0.8
    store = open_store(str(tmp_path))
    store.put("evaluation.json", b'{"protocol": "points"}')
    pq.write_table(frames(old), tmp_path / "frames.parquet")
    surely, perhaps = (compare(frames(right), str(tmp_path), "points").ratios["accuracy"] for right in (better, other))
    assert surely.low > 0 and surely.low < surely.difference < surely.high
    assert perhaps.low < 0 < perhaps.high


# --- drawings -------------------------------------------------------------------------------------------------------


def test_a_drawing_of_nothing_is_nothing() -> None:
    x, nothing = np.arange(6.0), np.full((6, 2), NAN)
    assert drawing.line_plot([drawing.Line("a", x, np.full(6, NAN))], x_label="", y_label="") == ""
    assert drawing.path_plot([nothing], (9, 9)) == drawing.heatmap(nothing, (9, 9)) == ""
    assert drawing.histogram(nothing[:, 0], edges=x, x_label="px") == drawing.bars({}, x_label="s") == ""


def test_a_long_line_is_thinned_and_a_histogram_counts_what_is_beyond() -> None:
    x = np.arange(50_000.0)
    drawn = drawing.line_plot([drawing.Line("a", x, np.sin(x))], x_label="frame", y_label="px")
    assert len(re.findall(r"\bL ", drawn)) <= 2 * drawing.MAX_POINTS
    assert "last bar: also above 3" in drawing.histogram(np.array([1, 99, NAN]), edges=np.arange(4.0), x_label="px")


def test_a_drawing_takes_its_colours_from_the_page_and_is_the_same_every_time() -> None:
    line = drawing.Line("<b> & $x$ 羽\ud800", np.arange(3.0), np.arange(3.0))
    first, second = (drawing.line_plot([line, line], x_label="s", y_label="px") for _ in range(2))
    assert first == second and "var(--dim,#555)" in first and "#000000" not in first
    assert "&lt;b&gt; &amp; $x$ 羽?" in "".join(ElementTree.fromstring(first).itertext()).replace("&", "&amp;").replace(
        "<b>", "&lt;b&gt;"
    )


def test_numbers_read_well() -> None:
    assert [page.cell(v) for v in (None, NAN, 3, 12345, 0.12345, 123.456, 12345.6, "<b>")] == [
        "–", "–", "3", "12,345", "0.123", "123.5", "12,346", "&lt;b&gt;",
    ]  # fmt: skip
    assert page.short_names(["file:///a/b%20c/1.mp4", "file:///a/d/1.mp4"]) == {
        "file:///a/b%20c/1.mp4": "b c/1.mp4", "file:///a/d/1.mp4": "d/1.mp4",
    }  # fmt: skip
    assert page.short_names(["s3://b/x/frames/"]) == {"s3://b/x/frames/": "frames/"}
