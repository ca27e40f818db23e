"""Public formats of labels: where their files lie and how they are read.

    tennis           game*/Clip*/Label.csv + frames     file name,visibility,x-coordinate,y-coordinate,status    px
    shuttlecock      match*/csv/*_ball.csv + video/     Frame,Visibility,X,Y         px
    multiball        NAME.csv beside NAME.mp4           Frame,Object,Visibility,X,Y  px; object 0 is the primary ball
    volleyball       csvs/NAME.csv + images/NAME/       frame_num,x,y,visible        x, y divided by width and height
    badminton        NNN.csv beside NNN.mp4             Frame,Ball,x,y               x, y divided by width and height
    wasb-soccer      annos/ID-1.xml + videos, frames    CVAT video XML; used_in_game tells the primary ball
    wasb-volleyball  */MATCH/CLIP.txt + videos/         x y in line i for frame i; 0 0 is absent
    wasb-basketball  ball-annos/GAME/*_CLIP.xml         CVAT video XML
    cvat             NAME.xml, NAME/annotations.xml     CVAT for video 1.1
    label-studio     *.json                             Label Studio's JSON with VideoRectangle

A video may be a file or a folder of frames in all of them. No layout of Badminton100K, Tennis50K and Squash30K is
published; they are assumed to come as matches in the shuttlecock layout, at 1080p. A format is data: how its files are
found, how a label file finds its video, and one function that reads a file. Problems are sentences that name file and
line, gathered so that all are seen at once.
"""

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from specktrack.datasets.cvat import is_cvat, read_cvat
from specktrack.datasets.label_studio import is_label_studio, read_label_studio
from specktrack.datasets.lines import Line, Sheet
from specktrack.schema import Visibility

WORDS = {0: Visibility.ABSENT, 1: Visibility.CLEAR, 2: Visibility.BLURRED, 3: Visibility.OCCLUDED}
"""Numbers of the tennis dataset; the others use 0 and 1 of them."""


@dataclass(frozen=True)
class LabelFormat:
    """One public format."""

    name: str
    about: str
    """What its files begin with, for messages."""
    is_label: Callable[[str], bool] = field(repr=False)
    """Whether a key may be a label file of this layout."""
    begins: Callable[[bytes], bool] = field(repr=False)
    """Whether a file's first bytes are of this format."""
    videos: Callable[[PurePosixPath], tuple[str, ...]] = field(repr=False)
    """Keys (without suffix; with a trailing slash for a folder) where the video of a label file may be."""
    read: Callable[[bytes, str], tuple[list[Sheet], list[str]]] = field(repr=False)
    """The sheets of a file, and the problems in it; takes the bytes and the file's key."""
    normalised: bool = False
    """Coordinates are divided by width and height."""
    edge_px: float = 0.0
    """Where the centre of the first pixel lies: 0.5 in tools that measure from the picture's edge."""
    numbered_by_name: bool = False
    """In a folder of frames a frame number is the one in the image's name, not its place in the order."""


# --- lines of CSV ---------------------------------------------------------------------------------------------------


def _number(text: str, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column} is {text!r}, not a number") from None
    if not np.isfinite(value):
        raise ValueError(f"{column} is {text!r}, not finite")
    return value


def _index(text: str, column: str) -> int:
    value = _number(text, column)
    if value < 0 or not value.is_integer():
        raise ValueError(f"{column} is {text!r}, not a whole number from 0")
    return int(value)


def _word(text: str, column: str) -> Visibility:
    value = _number(text, column)
    if value not in WORDS:
        raise ValueError(f"{column} is {text!r}, not one of 0, 1, 2, 3")
    return WORDS[int(value)]


def _point(frame: int | str, x: str, y: str, visibility: Visibility, *, number: int = 0) -> Line:
    if visibility is Visibility.ABSENT:
        return Line(frame, float("nan"), float("nan"), visibility, number)
    return Line(frame, _number(x, "x"), _number(y, "y"), visibility, number)


def _badminton_line(row: Mapping[str, str]) -> Line:
    return _point(_index(row["Frame"], "Frame"), row["x"], row["y"], _word(row["Ball"], "Ball"))


def _shuttlecock_line(row: Mapping[str, str]) -> Line:
    return _point(_index(row["Frame"], "Frame"), row["X"], row["Y"], _word(row["Visibility"], "Visibility"))


def _multiball_line(row: Mapping[str, str]) -> Line:
    word, number = _word(row["Visibility"], "Visibility"), _index(row["Object"], "Object")
    return _point(_index(row["Frame"], "Frame"), row["X"], row["Y"], word, number=number)


def _tennis_line(row: Mapping[str, str]) -> Line:
    name = PurePosixPath(row["file name"]).name
    return _point(name, row["x-coordinate"], row["y-coordinate"], _word(row["visibility"], "visibility"))


def _volleyball_line(row: Mapping[str, str]) -> Line:
    """``visible`` is 0 in every row of the published files by mistake; only the coordinates say who is absent."""
    absent = not row["x"].strip() or (_number(row["x"], "x") <= 0 and _number(row["y"], "y") <= 0)
    word = Visibility.ABSENT if absent else Visibility.CLEAR
    return _point(_index(row["frame_num"], "frame_num"), row["x"], row["y"], word)


def _columns(data: bytes) -> tuple[str, ...]:
    first = data[:1000].decode("utf-8-sig", errors="replace").splitlines()[:1]
    return tuple(name.strip() for name in first[0].split(",")) if first else ()


def read_csv(
    data: bytes, place: str, *, name: str, columns: tuple[str, ...], line: Callable[[Mapping[str, str]], Line]
) -> tuple[list[Sheet], list[str]]:
    """The lines of a CSV file and the problems in it; ``line`` reads one, or says in a ValueError what is wrong."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = tuple(text.strip() for text in reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [f"{place}:1 is not CSV text: {error}"]
    if header != columns:
        return [], [f"{place}:1 has columns {','.join(header)!r}, {name} has {','.join(columns)!r}"]
    reader.fieldnames = list(header)
    lines: list[Line] = []
    problems: list[str] = []
    seen: set[tuple[int | str, int]] = set()
    try:
        for row in reader:
            try:
                lines.append(_checked_line(row, columns, line, seen))
            except ValueError as error:
                problems.append(f"{place}:{reader.line_num} {error}")
    except csv.Error as error:
        problems.append(f"{place}:{reader.line_num} is not CSV: {error}")
    if not lines and not problems:
        problems.append(f"{place} holds no labels")
    return [Sheet(lines)], problems


def _checked_line(
    row: Mapping[str, str | None],
    columns: tuple[str, ...],
    read: Callable[[Mapping[str, str]], Line],
    seen: set[tuple[int | str, int]],
) -> Line:
    if None in row or None in row.values():
        raise ValueError(f"has not {len(columns)} fields")
    line = read({name: text or "" for name, text in row.items()})
    if (line.frame, line.object) in seen:
        raise ValueError(f"has frame {line.frame} a second time")
    seen.add((line.frame, line.object))
    return line


# --- WASB's volleyball ----------------------------------------------------------------------------------------------


def _is_pairs(data: bytes) -> bool:
    first = data[:200].decode("utf-8-sig", errors="replace").split("\n")[0].split()
    return len(first) == 2 and all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in first)


def read_pairs(data: bytes, place: str) -> tuple[list[Sheet], list[str]]:
    """``x y`` in line i is frame i; ``0 0`` is absent. Blank lines may follow the last one."""
    lines: list[Line] = []
    problems: list[str] = []
    for frame, text in enumerate(data.decode("utf-8-sig", errors="replace").rstrip().splitlines()):
        words = text.split()
        try:
            if len(words) != 2:
                raise ValueError(f"is {text!r}, not 'x y'")
            absent = _number(words[0], "x") == 0 and _number(words[1], "y") == 0
            word = Visibility.ABSENT if absent else Visibility.CLEAR
            lines.append(_point(frame, words[0], words[1], word))
        except ValueError as error:
            problems.append(f"{place}:{frame + 1} {error}")
    if not lines and not problems:
        problems.append(f"{place} holds no labels")
    return [Sheet(lines)], problems


# --- where videos are -----------------------------------------------------------------------------------------------


def _either(place: object) -> tuple[str, str]:
    """A video file, or a folder of frames."""
    return str(place), f"{place}/"


def _beside(key: PurePosixPath) -> tuple[str, ...]:
    return _either(key.with_suffix(""))


def _of_clip(key: PurePosixPath) -> tuple[str, ...]:
    folder = str(key.parent)
    return ("./",) if folder == "." else (f"{folder}/", folder)


def _of_match(key: PurePosixPath) -> tuple[str, ...]:
    stem, match = key.stem.removesuffix("_ball"), key.parent.parent
    return (str(match / "video" / stem), *_either(key.parent / stem), f"{match / 'frame' / stem}/")


def _of_images(key: PurePosixPath) -> tuple[str, ...]:
    return (f"{key.parent.parent / 'images' / key.stem}/", *reversed(_beside(key)))


def _of_soccer(key: PurePosixPath) -> tuple[str, ...]:
    root = key.parent.parent
    return (*_either(root / "videos" / key.stem), f"{root / 'frames' / key.stem}/", *_beside(key))


def _of_game(key: PurePosixPath) -> tuple[str, ...]:
    clip = key.stem.rpartition("_")[2]  # basketball: GAME/anything_CLIP.xml
    return (*reversed(_either(key.parent.parent.parent / "videos" / key.parent.name / clip)), *_beside(key))


def _of_task(key: PurePosixPath) -> tuple[str, ...]:
    return _either(key.parent) if key.stem == "annotations" and str(key.parent) != "." else _beside(key)


def _csv(
    name: str,
    columns: str,
    line: Callable[[Mapping[str, str]], Line],
    is_label: Callable[[str], bool],
    videos: Callable[[PurePosixPath], tuple[str, ...]],
    *,
    normalised: bool = False,
) -> LabelFormat:
    names = tuple(columns.split(","))
    read = partial(read_csv, name=name, columns=names, line=line)
    return LabelFormat(name, columns, is_label, lambda data: _columns(data) == names, videos, read, normalised)


def _ends(*suffixes: str) -> Callable[[str], bool]:
    return lambda key: key.endswith(suffixes)


def _is_rally(key: str) -> bool:
    folders = r"(^|/)(corrected_)?(csv|labels?|annos?|annotations?)/[^/]+\.csv$"
    return key.endswith("_ball.csv") or re.search(folders, key, re.IGNORECASE) is not None


def _is_soccer(key: str) -> bool:
    return re.search(r"(^|/)ID-\d+\.xml$", key) is not None


def _is_basketball(key: str) -> bool:
    return re.search(r"(^|/)ball-annos/[^/]+/[^/]+\.xml$", key) is not None


def _is_clip(key: str) -> bool:
    return re.search(r"(^|/)\d+/[^/]+\.txt$", key) is not None


def _is_tasks(key: str) -> bool:
    ours = ("dataset.json", "drop_frame.json", "run.json", "evaluation.json")
    return key.endswith(".json") and PurePosixPath(key).name not in ours


_published_cvat = partial(read_cvat, published=True)

FORMATS = {
    item.name: item
    for item in (
        _csv(
            "tennis", "file name,visibility,x-coordinate,y-coordinate,status", _tennis_line,
            lambda key: PurePosixPath(key).name == "Label.csv", _of_clip,
        ),
        _csv("shuttlecock", "Frame,Visibility,X,Y", _shuttlecock_line, _is_rally, _of_match),
        _csv("multiball", "Frame,Object,Visibility,X,Y", _multiball_line, _ends(".csv"), _of_match),
        _csv("volleyball", "frame_num,x,y,visible", _volleyball_line, _ends(".csv"), _of_images, normalised=True),
        _csv("badminton", "Frame,Ball,x,y", _badminton_line, _ends(".csv"), _beside, normalised=True),
        LabelFormat(
            "wasb-soccer", "ID-1.xml", _is_soccer, is_cvat, _of_soccer, _published_cvat, numbered_by_name=True,
        ),
        LabelFormat(
            "wasb-basketball", "ball-annos/*/*.xml", _is_basketball, is_cvat, _of_game, _published_cvat,
            numbered_by_name=True,
        ),
        LabelFormat("wasb-volleyball", "'x y' per line", _is_clip, _is_pairs, _of_game, read_pairs),
        LabelFormat("cvat", "CVAT for video 1.1", _ends(".xml"), is_cvat, _of_task, read_cvat, edge_px=0.5),
        LabelFormat(
            "label-studio", "Label Studio JSON", _is_tasks, is_label_studio, _beside, read_label_studio,
            normalised=True, edge_px=0.5,
        ),
    )
}  # fmt: skip
