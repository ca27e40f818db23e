"""The one table of formats: rows that are written come back, whatever people do to a table on the way."""

import csv
import io
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specktrack.cli.main import main
from specktrack.datasets import FORMATS, export_rows, import_dataset, load_dataset
from specktrack.datasets.csv_labels import COLUMNS
from specktrack.datasets.exports import EXPORTS, PLAIN, POINT_BOX_PX
from specktrack.datasets.formats import LOSSES, read_labels, readable, writable
from specktrack.datasets.importing import ImportOptions
from specktrack.datasets.layouts import LAYOUTS
from specktrack.datasets.row_files import rows_at
from specktrack.errors import ConfigError, LabelError
from specktrack.frames import Trajectory
from specktrack.schema import Provenance, Visibility

ROOT = Path(__file__).parents[1]
WH = (64, 48)
URI = "file:///videos/a.mp4"
BOTH_WAYS = [name for name, item in FORMATS.items() if item.read is not None and item.is_written]


@pytest.fixture(autouse=True)
def unhurried_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files need not outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@st.composite
def tables(draw: st.DrawFn, *, objects: int, sized: bool) -> pa.Table:
    """Labels of a whole video. Each object is seen, and object 0 in the last frame, by which the end is known."""
    n = draw(st.integers(1, 6))
    words = st.sampled_from([word.value for word in Visibility])
    parts = []
    for number in range(objects):
        said = np.array(draw(st.lists(words, min_size=n, max_size=n)), object)
        seen = -1 if number == 0 else 0
        said[seen] = Visibility.CLEAR.value if said[seen] == Visibility.ABSENT.value else said[seen]
        places = st.tuples(st.floats(0, WH[0] - 1, width=32), st.floats(0, WH[1] - 1, width=32))
        xy = np.array(draw(st.lists(places, min_size=n, max_size=n)), np.float32)
        sides = st.floats(1, 20, width=32)
        wh = np.array(draw(st.lists(st.tuples(sides, sides), min_size=n, max_size=n)), np.float32)
        gone = said == Visibility.ABSENT.value
        xy[gone] = np.nan
        wh[gone if sized else slice(None)] = np.nan
        provenance = np.full(n, Provenance.LABELLED.value, object)
        kinds = np.array(draw(st.lists(st.sampled_from([None, "bird", "=drone"]), min_size=n, max_size=n)), object)
        kinds[gone] = None
        track = Trajectory(
            np.arange(n), np.arange(n) / 30, xy, np.full(n, np.nan, np.float32), said, provenance, wh, kind=kinds
        )  # fmt: skip
        parts.append(track.to_rows(URI, object_id=number))
    return pa.concat_tables(parts)


def column(rows: pa.Table, name: str) -> np.ndarray:
    rows = rows.sort_by([("object", "ascending"), ("frame", "ascending")])
    return rows[name].to_numpy(zero_copy_only=False)


def kinds(rows: pa.Table) -> list[str | None]:
    return rows.sort_by([("object", "ascending"), ("frame", "ascending")])["kind"].to_pylist()


def assert_kept(found: pa.Table, sent: pa.Table, precision_px: float, lost: Sequence[str]) -> None:
    """What a format that loses ``lost`` must give back."""
    for name in ("object", "frame"):
        assert column(found, name).tolist() == column(sent, name).tolist()
    words = column(sent, "visibility").astype(str)
    there = words != Visibility.ABSENT.value
    if "visibility" in lost:
        words[there] = Visibility.CLEAR.value
    if "blurred" in lost:
        words[words == Visibility.BLURRED.value] = Visibility.CLEAR.value
    assert column(found, "visibility").tolist() == words.tolist()
    for name in ("x", "y", "w", "h"):
        wanted = column(sent, name).astype(float)
        if name in "wh" and "sizes" in lost:
            wanted[:] = np.nan
        if name in "wh" and "points" in lost and np.isnan(wanted).all():
            wanted[there] = POINT_BOX_PX
        np.testing.assert_allclose(column(found, name).astype(float), wanted, 1e-6, precision_px, err_msg=name)
    np.testing.assert_allclose(column(found, "pts_s"), column(sent, "pts_s"))
    assert kinds(found) == ([None] * len(words) if "kinds" in lost else kinds(sent))
    assert set(column(found, "provenance")) == {"labelled"}


@pytest.mark.parametrize("sized", [False, True], ids=["points", "boxes"])
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_what_is_exported_is_imported_under_the_same_name(name: str, sized: bool) -> None:
    item = FORMATS[name]
    many = name in PLAIN or EXPORTS[name].many_objects
    assert many == ("objects" not in item.lost)

    @settings(max_examples=8, deadline=None)
    @given(tables(objects=2 if many else 1, sized=sized))
    def comes_back(sent: pa.Table) -> None:
        with tempfile.TemporaryDirectory() as folder:
            export_rows(sent, name, f"{folder}/out/", sizes_wh_px={URI: WH})
            found = read_labels(name, f"{folder}/out", ImportOptions(labels_only_wh_px=WH))
            assert len(found.card.videos) == 1
            assert_kept(found.rows, sent, item.precision_px, item.lost)

    comes_back()


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_what_is_exported_is_recognised(tmp_path: Path, name: str) -> None:
    """By another name only where the files are the same: toolkits' flat lists of boxes, CVAT for images."""
    xy = np.array([[10.0, 20.0], [np.nan, np.nan], [30.5, 5.25]], np.float32)
    provenance = np.full(3, Provenance.LABELLED.value, object)
    track = Trajectory(np.arange(3), np.arange(3) / 30, xy, np.full(3, np.nan, np.float32), provenance=provenance)
    export_rows(track.to_rows(URI), name, f"{tmp_path}/out/", sizes_wh_px={URI: WH})
    card = import_dataset("auto", str(tmp_path / "out"), str(tmp_path / "set"), labels_only_wh_px=WH)
    same = {"cvat-images": "cvat", "csv": "rows", "jsonl": "rows", "parquet": "rows", "huggingface": "rows"}
    assert card.format == same.get(name, name)


# --- what people do to tables ---------------------------------------------------------------------------------------


def respelled(text: str, draw: st.DataObject, *, extra: bool = True) -> bytes:
    """The same table as another program or person would have written it."""
    lines = list(csv.reader(io.StringIO(text)))
    header, rows = lines[0], lines[1:]
    order = draw.draw(st.permutations(range(len(header))), label="order")
    case = draw.draw(st.sampled_from([str.upper, str.lower, str.title, str]), label="case")
    mark = draw.draw(st.sampled_from(",;\t|"), label="separator")
    comma = draw.draw(st.booleans(), label="decimal comma") if mark != "," else False
    added = draw.draw(st.lists(st.sampled_from(["Time", "Inpaint_Mask", "L", "note"]), unique=True)) if extra else []
    nameless = draw.draw(st.booleans(), label="index") if extra else False
    out = [[*([""] if nameless else []), *(case(header[i]) for i in order), *added]]
    for number, row in enumerate(rows):
        fields = [row[i].replace(".", ",") if comma and re.fullmatch(r"-?\d+\.\d+", row[i]) else row[i] for i in order]
        out.append([*([str(number)] if nameless else []), *fields, *("0" for _ in added)])
    sink = io.StringIO()
    end = draw.draw(st.sampled_from(["\n", "\r\n"]), label="line end")
    csv.writer(sink, delimiter=mark, lineterminator=end).writerows(out)
    blank = end * draw.draw(st.integers(0, 2), label="blank lines")
    told = f"sep={mark}{end}" if mark == ";" and draw.draw(st.booleans(), label="told separator") else ""
    encoding = draw.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), label="encoding")
    return (told + sink.getvalue() + blank).encode(encoding)


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=30, deadline=None)
@given(draw=st.data())
def test_columns_go_by_name_however_a_table_is_spelled(name: str, draw: st.DataObject) -> None:
    first = "0007.jpg" if name == "tennis" else "7"
    second = "0008.jpg" if name == "tennis" else "8"
    shares = COLUMNS[name].shares
    values = {
        "frame": first, "file name": first, "object": "0", "visibility": "1", "visible": "1", "ball": "1",
        "x": "0.25" if shares else "20.5", "y": "0.125" if shares else "10.25", "status": "0",
    }  # fmt: skip
    values |= {"frame_num": first, "x-coordinate": values["x"], "y-coordinate": values["y"]}
    header = COLUMNS[name].header.split(",")
    gone = values | {"frame": second, "frame_num": second, "file name": second, "x": "-1", "y": "-1", "visible": "0"}
    gone |= {"x-coordinate": "", "y-coordinate": "", "visibility": "0", "ball": "0"}
    text = "\n".join(",".join(values[key.lower()] for key in header) for values in (values, gone))
    text = f"{COLUMNS[name].header}\n{text}\n"
    wanted, problems = LAYOUTS[name].read({"a.csv": text.encode()})
    assert not problems and len(wanted[0].lines) == 2
    data = respelled(text, draw)
    assert LAYOUTS[name].begins(data), data
    found, problems = LAYOUTS[name].read({"a.csv": data})
    assert not problems
    assert repr(found) == repr(wanted)


@settings(max_examples=40, deadline=None)
@given(draw=st.data())
def test_rows_come_back_from_a_spreadsheet(draw: st.DataObject) -> None:
    xy = np.array([[10.25, 20.5], [np.nan, np.nan]], np.float32)
    sent = Trajectory(np.arange(2), np.arange(2) / 30, xy, np.array([0.5, np.nan], np.float32)).to_rows(URI)
    with tempfile.TemporaryDirectory() as folder:
        export_rows(sent, "csv", f"{folder}/rows.csv")
        path = Path(folder, "rows.csv")
        path.write_bytes(respelled(path.read_text(), draw))
        found = rows_at(str(path))
        assert found is not None
        assert found.to_pylist() == sent.to_pylist()


@pytest.mark.parametrize(
    ("header", "row", "name"),
    [
        ("Frame,X,Y,Visibility,L,Theta", "0,20,16,1,3.1,12", "shuttlecock"),
        ("frame_num,visible,x,y", "0,1,20,16", "shuttlecock"),
        ("Frame,Visibility,X,Y,Time", "0,1,20,16,00:00:00.000", "shuttlecock"),
        (",Frame,Visibility,X,Y", "0,0,1,20,16", "shuttlecock"),
        (",Visibility,X,Y", "0,1,20,16", "shuttlecock"),
        ("frame,x,y", "0,20,16", "shuttlecock"),
        ("frame,x,y,ball", "0,0.2,0.3,1", "badminton"),
        ("frame_num,x,y,visible", "0,0.2,0.3,0", "volleyball"),
        ("Frame,Object,Visibility,X,Y", "0,0,1,20,16", "multiball"),
        ("filename,visible,x,y", "0000.jpg,1,20,16", "tennis"),
        ("frame,x,y,w,h", "0,20,16,4,4", None),
        ("t,u,v", "0,20,16", None),
        ("video,frame,x,y", "a.mp4,0,20,16", None),
    ],
)
def test_a_table_is_recognised_by_its_columns(header: str, row: str, name: str | None) -> None:
    data = f"{header}\n{row}\n".encode()
    assert [each for each in COLUMNS if LAYOUTS[each].begins(data)] == ([name] if name else [])


def test_what_differs_is_told_of_a_table_that_is_nearly_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Frame,Visibility,X\n0,1,2\n")
    with pytest.raises(LabelError, match=r"a\.csv is closest to shuttlecock: it has columns .*the y"):
        load_dataset(str(tmp_path))
    (tmp_path / "a.csv").write_text("frame,x,y,w,h\n0,1,2,3,4\n")
    with pytest.raises(LabelError, match=r"a\.csv is closest to shuttlecock, but has x and y as well as w and h"):
        load_dataset(str(tmp_path))
    (tmp_path / "a.csv").unlink()
    (tmp_path / "b.txt").write_text("one two three\n")
    with pytest.raises(LabelError, match=r"b\.txt begins with 'one two three', which matches no known format"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("name", [name for name in COLUMNS if not COLUMNS[name].shares])
def test_a_position_at_the_corner_is_not_taken_for_none(tmp_path: Path, name: str) -> None:
    xy = np.array([[0.0, 0.0], [0.004, -0.004], [0.004, 0.004]], np.float32)
    sent = Trajectory(np.arange(3), np.arange(3) / 30, xy, np.full(3, np.nan, np.float32)).to_rows(URI)
    export_rows(sent, name, f"{tmp_path}/out/")
    import_dataset(name, str(tmp_path / "out"), str(tmp_path / "set"), labels_only_wh_px=WH)
    found = load_dataset(str(tmp_path / "set")).rows
    np.testing.assert_allclose(column(found, "x").astype(float), xy[:, 0], atol=FORMATS[name].precision_px)
    assert found["y"].null_count == 0


@pytest.mark.parametrize(("name", "kept"), [("=1.jpg", "'=1.jpg"), ("@a.jpg", "'@a.jpg"), ("a,1.jpg", "a,1.jpg")])
def test_names_of_pictures_are_no_formulas(tmp_path: Path, name: str, kept: str) -> None:
    table = "file name,visibility,x-coordinate,y-coordinate,status"
    sink = io.StringIO()
    csv.writer(sink).writerows([table.split(","), [kept, "1", "2", "3", ""]])
    (sheet,), problems = LAYOUTS["tennis"].read({"Label.csv": sink.getvalue().encode()})
    assert not problems and sheet.lines[0].frame == name


# --- the table is the only list -------------------------------------------------------------------------------------


def test_every_export_is_in_the_table_and_comes_back() -> None:
    assert {*EXPORTS, *PLAIN} == {name for name, item in FORMATS.items() if item.is_written} == set(BOTH_WAYS)
    assert set(LAYOUTS) <= set(FORMATS)
    assert all(set(item.lost) <= set(LOSSES) for item in FORMATS.values())
    for name in readable():
        with pytest.raises((ConfigError, LabelError)) as raised:
            import_dataset(name, "/nowhere/at/all", "/nowhere/else")
        assert "no such label format" not in str(raised.value)


def test_help_lists_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, names in (("data import", readable()), ("export", writable())):
        main([*verb.split(), "--help"])
        words = set(re.findall(r"[\w-]+", capsys.readouterr().out))
        assert set(names) <= words


def row_of_docs(name: str) -> str:
    item = FORMATS[name]
    ways = " and ".join(way for way, there in (("import", item.read), ("export", item.is_written)) if there)
    exact = f"{item.precision_px:g} px" if item.is_written and item.precision_px else "exact" if item.is_written else ""
    return f"| `{name}` | {ways} | {item.files} | {exact} | {', '.join(item.lost)} |"


def test_the_page_on_data_has_the_table() -> None:
    """To mend it, print ``row_of_docs`` for every name."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if re.match(r"\| `[\w-]+` \| (import|export)", line)]
    assert listed == [row_of_docs(name) for name in FORMATS]
    assert all(f"| {key} | {text} |" in page for key, text in LOSSES.items())
