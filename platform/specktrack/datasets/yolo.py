"""YOLO's labels, written and read: a text per frame, a line ``class x y w h`` per object, as shares of the picture.

    labels/train/NAME_12.txt    beside images/train/NAME_12.jpg, or of the video NAME
    labels/NAME/000012.txt      beside images/NAME/000012.jpg, or of the video NAME
    data.yaml, classes.txt      names of the classes

A frame is the number in the file's name, or the picture of that name. A text without a line is a frame without the
object. x and y are the centre from the picture's edge. Outlines (``class x1 y1 x2 y2 ...``) are read by what encloses
them; a confidence and the id of a track may follow a box. Which class is the ball: see ``objects``.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import yaml

from specktrack.config import load_yaml
from specktrack.datasets.boxes import corners
from specktrack.datasets.lines import Line, Sheet, Track, VideoRows
from specktrack.schema import Visibility

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_LINE = re.compile(rf"\d{{1,4}}(?:\s+{_NUMBER}){{4,}}\s*", re.IGNORECASE)
NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
"""Files beside or above labels that name the classes."""
_NAMES_BYTES = 200_000


def is_yolo(data: bytes) -> bool:
    """Whether a file begins with a line of YOLO's: a class, and shares of the picture."""
    first = data[:2000].decode("utf-8-sig", errors="replace").split("\n")[0]
    return _LINE.fullmatch(first) is not None and all(-0.1 <= float(word) <= 1.1 for word in first.split()[1:5])


def video_of(key: str) -> str:
    """The video of a label file, by its place: what precedes the number in the file's name, or the folder."""
    path = PurePosixPath(key)
    stem = re.sub(r"[-_. ]?\d+$", "", path.stem)
    return str(path.parent / stem) if stem else str(path.parent)


def read_yolo(files: Mapping[str, bytes]) -> tuple[list[Sheet], list[str]]:
    """The sheet of one video, and the problems in its files, which are those of frames and one that names classes."""
    names: Mapping[str, str] = {}
    lines: list[Line] = []
    tracks: dict[int, Track] = {}
    numbers: dict[tuple[str, int | None, int], int] = {}
    problems: list[str] = []
    of_frames = {PurePosixPath(key).stem: key for key in files if PurePosixPath(key).name not in NAMES}
    for key in files.keys() - of_frames.values():
        names = class_names(files[key], key)
    for stem, key in of_frames.items():
        data, count = files[key], dict[str, int]()
        for number, text in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), 1):
            if not text.strip():
                continue
            try:
                name, (x, y, w, h), identity = _read_line(text)
            except ValueError as error:
                problems.append(f"{key}:{number} {error}")
                continue
            label = names.get(name, name)
            count[label] = count.get(label, -1) + 1
            track = numbers.setdefault((label, identity, count[label] if identity is None else 0), len(numbers))
            tracks[track] = Track(label, identity)
            if w > 0 and h > 0:
                lines.append(Line(stem, x, y, Visibility.CLEAR, track, w, h))
    return [Sheet(lines, looked_at=list(of_frames), whole=True, tracks=tracks)], problems


def _read_line(text: str) -> tuple[str, tuple[float, float, float, float], int | None]:
    """Class, centre and size, and the id of the track if there is one."""
    words = text.split()
    try:
        values = [float(word) for word in words[1:]]
        kind = str(int(words[0]))
    except ValueError:
        values, kind = [], ""
    if len(values) < 4 or not np.isfinite(values).all():
        raise ValueError(f"is {text[:80]!r}, not 'class x y width height'")
    is_id = len(values) == 6 and values[5].is_integer() and values[5] > 1
    if len(values) >= 6 and len(values) % 2 == 0 and not is_id:  # an outline
        points = np.array(values).reshape(-1, 2)
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        x, y, w, h = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    else:
        x, y, w, h = values[:4]
    return kind, (x, y, w, h), int(values[5]) if is_id else None


def class_names(data: bytes, place: str) -> Mapping[str, str]:
    """Names of classes by number, from a YAML file or a list; none where it says none."""
    text = data[:_NAMES_BYTES].decode("utf-8-sig", errors="replace")
    if not place.endswith((".yaml", ".yml")):
        return {str(i): line.strip() for i, line in enumerate(text.splitlines()) if line.strip()}
    try:
        names = (load_yaml(text) or {}).get("names") or []
    except (yaml.YAMLError, AttributeError):
        return {}
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    return {str(number): name for number, name in pairs if isinstance(name, str)}


def write_yolo(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """labels/NAME/000012.txt for every frame that has rows, empty where it holds nothing, named as its picture."""
    written: dict[str, bytes] = {}
    for video in videos:
        assert video.wh_px is not None
        texts: dict[int, list[str]] = {frame: [] for frame in video.listed}
        for number, track in video.tracks.items():
            shares = corners(video, number) / np.array([*video.wh_px, *video.wh_px])
            for i in np.flatnonzero(track.present):
                left, top, width, height = shares[i]
                place = f"{left + width / 2:.7f} {top + height / 2:.7f} {width:.7f} {height:.7f}"
                texts[int(track.frame[i])].append(f"{number} {place}\n")
        for frame, lines in texts.items():
            stem = PurePosixPath(video.picture(frame)).stem
            written[f"labels/{video.name}/{stem}.txt"] = "".join(lines).encode()
    most = max(number for video in videos for number in video.tracks) + 1
    names = [{0: "ball"}.get(number, f"ball-{number}") for number in range(most)]
    about = {"path": ".", "train": "images", "val": "images", "nc": most, "names": dict(enumerate(names))}
    written["data.yaml"] = yaml.safe_dump(about, sort_keys=False).encode()
    return written
