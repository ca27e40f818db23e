"""Tables of labels: CSV files whose columns go by name.

Columns may come in any order and case, under the names that public trackers give them, beside others that are not
read, and without those that are not needed. Fields are separated by commas, semicolons, tabs or bars, numbers may have
a decimal comma, the text may begin with a byte order mark and be UTF-8 or UTF-16: what spreadsheets and scripts write.

What a table says of absence is read by what it means. No position, NaN, (0, 0) and equal whole numbers below 0 such as
(-1, -1) are nowhere, whatever the column of visibility says; a note tells it where the two disagree. Where that column
says of no frame that the object can be seen, and there are positions, the positions are believed (the beach volleyball
files were published so).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from specktrack.datasets.lines import Line, Sheet
from specktrack.schema import Visibility

WORDS = {0: Visibility.ABSENT, 1: Visibility.CLEAR, 2: Visibility.BLURRED, 3: Visibility.OCCLUDED}
"""Numbers of the tennis dataset; the others use 0 and 1 of them."""
_ALIASES: Mapping[str, str] = {
    "picture": "filename file image imagename imagefile imagepath img imgname framename picture",
    "frame": "frame framenum framenumber frameno framenr frameid frameindex frameidx num",
    "object": "object objectid obj objid ballid trackid",
    "visibility": "visibility visible vis isvisible visibilityclass ball ballvisible ballvisibility",
    "x": "x xcoordinate xcoord ballx xball cx xc centerx xcenter centrex xcentre xpx xpos posx",
    "y": "y ycoordinate ycoord bally yball cy yc centery ycenter centrey ycentre ypx ypos posy",
}
_ROLES = {alias: role for role, names in _ALIASES.items() for alias in names.split()}
"""Role of a column, by its name in small letters and digits alone."""
UNESCAPED = r"^'([=+\-@\t\r])"
"""How a text begins that was kept from being a formula, see exports."""
_NOTHING = ("", "nan", "none", "null", "na", "n/a", "-")
"""A field in which there is no number."""
_TRUTH = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_BOXES = {"w", "h", "width", "height"}
SHARE_LIMIT = 1.05
"""Positions that all lie below it are shares of the picture."""
_LISTED = 200
"""Lines from which an unnamed table's format is told."""


@dataclass(frozen=True)
class CsvColumns:
    """The columns of one format."""

    name: str
    header: str
    """As it is published, and as it is written."""
    shares: bool = False
    """x and y are divided by width and height."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles without which a table is not of this format; visibility follows from positions."""
        roles = [role_of(name) for name in self.header.split(",")]
        return tuple(role for role in roles if role not in ("", "visibility"))


COLUMNS = {
    item.name: item
    for item in (
        CsvColumns("tennis", "file name,visibility,x-coordinate,y-coordinate,status"),
        CsvColumns("shuttlecock", "Frame,Visibility,X,Y"),
        CsvColumns("multiball", "Frame,Object,Visibility,X,Y"),
        CsvColumns("volleyball", "frame_num,x,y,visible", shares=True),
        CsvColumns("badminton", "Frame,Ball,x,y", shares=True),
    )
}


@dataclass(frozen=True)
class Table:
    """A CSV file as text: its columns by role, and its rows."""

    header: tuple[str, ...]
    at: Mapping[str, int]
    """Place of the column of each role."""
    rows: list[tuple[int, list[str]]]
    """Line number and fields; lines without any text are left out."""
    broken: list[str] = field(default_factory=list)
    """Problems in the CSV, by line."""

    def text(self, fields: Sequence[str], role: str) -> str:
        """The field of a role; empty where the table has no such column."""
        return fields[self.at[role]].strip() if role in self.at else ""


def role_of(name: str) -> str:
    """Role of a column of this name, empty for one that is not read."""
    return _ROLES.get(re.sub(r"[^a-z0-9]", "", name.casefold()), "")


def text_of(data: bytes) -> str:
    """The text of a file as spreadsheets write it; UnicodeDecodeError if it is none."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def separator_of(text: str) -> tuple[str, int]:
    """The separator of a table's fields and where its header begins, after a spreadsheet's ``sep=;``."""
    told = re.match(r"sep=(.)\r?\n?", text)
    start = told.end() if told else 0
    first = re.split(r"[\r\n]", text[start : start + 4000], maxsplit=1)[0]
    known = {mark: sum(bool(role_of(name)) for name in first.split(mark)) for mark in ",;\t|"}
    return (told[1] if told else max(known, key=lambda mark: (known[mark], first.count(mark)))), start


def read_table(data: bytes, *, most: int | None = None) -> Table:
    """The table in a file, or its first ``most`` rows. ValueError for what is not a table at all."""
    text = text_of(data)
    mark, start = separator_of(text)
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=mark, strict=True, skipinitialspace=True)
    before = text.count("\n", 0, start)
    rows: list[tuple[int, list[str]]] = []
    broken: list[str] = []
    try:
        header = tuple(name.strip() for name in next(reader, []))
        for fields in reader:
            if any(text.strip() for text in fields):
                rows.append((reader.line_num + before, fields))
            if most is not None and len(rows) >= most:
                break
    except csv.Error as error:
        if not rows:
            raise ValueError(str(error)) from None
        broken.append(f":{reader.line_num + before} is not CSV: {error}")
    at: dict[str, int] = {}
    for i, name in enumerate(header):
        at.setdefault(role_of(name), i)
    at.pop("", None)
    unnamed = [i for i, name in enumerate(header) if not name or re.fullmatch(r"Unnamed: \d+", name)]
    if "frame" not in at and "picture" not in at and unnamed[:1] == [0] and len(at) > 1:
        at["frame"] = 0  # the index of a data frame, which is what its rows are named by
    return Table(header, at, rows, broken)


def read_csv(data: bytes, place: str, *, columns: CsvColumns) -> tuple[list[Sheet], list[str]]:
    """The lines of a CSV file and the problems in it."""
    try:
        table = read_table(data)
    except ValueError as error:
        return [], [f"{place}:1 is not CSV text: {error}"]
    if missing := [role for role in columns.needs if role not in table.at]:
        return [], [f"{place}:1 {_differs(table, columns, missing)}"]
    believed, notes = _believed(table)
    lines: list[Line] = []
    problems = [place + text for text in table.broken]
    seen: set[tuple[int | str, int]] = set()
    doubted: Counter[str] = Counter()
    for number, fields in table.rows:
        try:
            line, doubt = _read_row(table, fields, columns, believed=believed)
            if (line.frame, line.track) in seen:
                raise ValueError(f"has frame {line.frame} twice")
        except ValueError as error:
            problems.append(f"{place}:{number} {error}")
            continue
        seen.add((line.frame, line.track))
        lines.append(line)
        if doubt:
            doubted[doubt] += 1
    if not lines and not problems:
        problems.append(f"{place} holds no labels")
    notes += [f"{count} rows say visible {doubt}: they are absent" for doubt, count in doubted.items()]
    if not columns.shares and _are_shares(table):
        notes.append(f"all positions lie below {SHARE_LIMIT} px: are they fractions of the picture, as in badminton?")
    return [Sheet(lines, notes=tuple(notes))], problems


def _differs(table: Table, columns: CsvColumns, missing: Sequence[str]) -> str:
    has = ",".join(table.header)[:200]
    return f"has columns {has!r}, {columns.name} has {columns.header!r}: none of them is the {' or '.join(missing)}"


def _believed(table: Table) -> tuple[bool, list[str]]:
    """Whether the column of visibility is to be believed, and what to say if it is not."""
    if "visibility" not in table.at:
        return False, []
    fields = [fields for _, fields in table.rows if len(fields) >= len(table.header)]
    try:
        seen = any(number(table.text(each, "visibility"), "visibility") for each in fields)
        placed = any(_position(table, each) is not None for each in fields) if not seen else False
    except ValueError:
        return True, []  # said when its row is read
    if seen or not placed:
        return True, []
    return False, ["the visibility column never says visible: the positions are used"]


def _read_row(table: Table, fields: Sequence[str], columns: CsvColumns, *, believed: bool) -> tuple[Line, str]:
    """A row's line, and how visibility and position disagree in it; ValueError says what is wrong."""
    count = len(table.header)
    if len(fields) < count or any(text.strip() for text in fields[count:]):
        raise ValueError(f"does not have {count} fields")
    frame: int | str = (
        PurePosixPath(re.sub(UNESCAPED, r"\1", table.text(fields, "picture")).replace("\\", "/")).name
        if "picture" in columns.needs
        else index(table.text(fields, "frame"), table.header[table.at["frame"]])
    )
    track = index(table.text(fields, "object"), "object") if "object" in columns.needs else 0
    word = Visibility.CLEAR
    if believed:
        word = _word(table.text(fields, "visibility"), table.header[table.at["visibility"]])
    gone = Line(frame, float("nan"), float("nan"), Visibility.ABSENT, track)
    if word is Visibility.ABSENT:
        return gone, ""
    position = _position(table, fields)
    if position is not None:
        return Line(frame, *position, word, track), ""
    x, y = (table.text(fields, role) for role in "xy")
    return gone, "" if not believed else "without a position" if x.casefold() in _NOTHING else f"at ({x}, {y})"


def _position(table: Table, fields: Sequence[str]) -> tuple[float, float] | None:
    """x and y as in the file; None for what stands for no position."""
    x, y = (table.text(fields, role) for role in "xy")
    if x.casefold() in _NOTHING and y.casefold() in _NOTHING:
        return None
    position = number(x, "x"), number(y, "y")
    return None if is_nowhere(*position) else position


def is_nowhere(x: float, y: float) -> bool:
    """Whether a position stands for none: (0, 0), (-1, -1) and the like."""
    return x == y and x <= 0 and float(x).is_integer()


def number(text: str, column: str) -> float:
    """A finite number, also with a decimal comma; ValueError names the column."""
    plain = text.strip().lstrip("'")
    if "." not in plain:
        plain = plain.replace(",", ".")
    try:
        value = _TRUTH[plain.casefold()] if plain.casefold() in _TRUTH else float(plain)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a number") from None
    if not np.isfinite(value):
        raise ValueError(f"{column} is {text!r}, not finite")
    return value


def index(text: str, column: str) -> int:
    """A whole number from 0; ValueError names the column."""
    value = number(text, column)
    if value < 0 or not value.is_integer():
        raise ValueError(f"{column} is {text!r}, not a whole number >= 0")
    return int(value)


def _word(text: str, column: str) -> Visibility:
    value = number(text, column)
    if value not in WORDS:
        raise ValueError(f"{column} is {text!r}, not one of 0, 1, 2, 3")
    return WORDS[int(value)]


# --- which format a table is of -------------------------------------------------------------------------------------


def format_of(data: bytes) -> str | None:
    """The name of the format that a table is of; None if it holds no positions by frame."""
    try:
        table = read_table(data, most=_LISTED)
    except ValueError:
        return None
    names = {name.casefold() for name in table.header}
    fits = not [role for role in nearest(table).needs if role not in table.at]
    corners = "visibility" not in table.at and names >= {"w", "h"}  # boxes: x and y may be a corner
    return nearest(table).name if fits and "video" not in names and not corners else None


def nearest(table: Table) -> CsvColumns:
    """The format of which a table lacks least, by its columns and by the size of its positions."""
    shares = _are_shares(table)

    def distance(columns: CsvColumns) -> tuple[int, ...]:
        missing = sum(role not in table.at for role in columns.needs)
        spare = sum(role in table.at and role not in columns.needs for role in ("frame", "object"))
        strange = len({_plain(name) for name in columns.header.split(",")} - {_plain(name) for name in table.header})
        return missing, spare, int(shares is not None and columns.shares != shares), strange

    return min(COLUMNS.values(), key=distance)


def what_differs(data: bytes) -> str:
    """How a table differs from the format that it is nearest to, as a sentence about its file."""
    try:
        table = read_table(data, most=_LISTED)
    except ValueError as error:
        return f"is not CSV text: {error}"
    columns = nearest(table)
    missing = [role for role in columns.needs if role not in table.at]
    if missing:
        return f"is closest to {columns.name}: it {_differs(table, columns, missing)}"
    return f"is closest to {columns.name}, but has x and y as well as w and h: they may be corners"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _are_shares(table: Table) -> bool | None:
    """Whether positions are shares of the picture; None if no position tells."""
    largest, whole = 0.0, True
    for _, fields in table.rows[:_LISTED]:
        if len(fields) >= len(table.header) and {"x", "y"} <= table.at.keys():
            try:
                position = _position(table, fields)
            except ValueError:
                continue
            if position is not None:
                largest = max(largest, *position)
                whole = whole and all(value.is_integer() for value in position)
    return None if largest <= 0 else largest <= SHARE_LIMIT and not whole
