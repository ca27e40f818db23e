"""CVAT for video 1.1, read and written: rows go out as tracks, and corrected tracks come back as labels.

    <track id label source>  <points|box frame keyframe outside occluded ...>

CVAT interpolates linearly between keyframes, which no ball does: every frame is written as a keyframe, and each gap
begins with ``outside="1"``. Frames count from 0. CVAT measures from the picture's edge, rows from the first pixel's
centre: half a px is added and taken away. It knows no score, no time, and of visibility absent, occluded and the rest.

Objects: a label ``ball-2`` is object 2. Tracks of another label are one object as long as no two of them are present in
one frame (people split one ball into many tracks); the first is object 0, the primary one. Where shapes have the
attribute ``used_in_game`` (WASB's soccer), those that have not 1 are distractors, from object 1 on.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

import numpy as np

from specktrack.datasets.lines import ALL_FRAMES, Line, Sheet, VideoRows
from specktrack.frames import Trajectory
from specktrack.schema import Visibility

LABEL = "ball"
"""Object 0; object k is ``ball-k``. The CVAT task needs labels of these names."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class _Track:
    label: str
    primary: bool | None
    """What ``used_in_game`` says; None where there is no such attribute."""
    lines: list[Line] = field(default_factory=list)


def is_cvat(data: bytes) -> bool:
    """Whether a file begins like an XML document of CVAT."""
    return b"<annotations" in data[:4000]


def read_cvat(data: bytes, place: str, *, published: bool = False) -> tuple[list[Sheet], list[str]]:
    """The sheet of one file, and the problems in it.

    ``published`` reads labels of a public dataset: all frames of its video were looked at, whatever the task's settings
    say, and interpolated positions are labels like the others.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return [], [f"{place} has a document type, which CVAT does not write"]
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        return [], [f"{place}:{error.position[0]} is not XML: {error.msg}"]
    if root.tag != "annotations" or root.find("image") is not None:
        return [], [f"{place} is not a 'CVAT for video' file"]
    problems: list[str] = []
    tracks: list[_Track] = []
    for element in root.iter("track"):
        try:
            tracks += _read_track(element, keep_interpolated=not published)
        except ValueError as error:
            problems.append(f"{place} track {element.get('id')} {error}")
    if not tracks and not problems:
        problems.append(f"{place} holds no tracks")
    problems += [f"{place} {doubt}" for doubt in _two_primaries(tracks)]
    task = root.find("meta/task")
    task = root.find("meta/job") if task is None else task
    try:
        looked_at = ALL_FRAMES if published or task is None else _looked_at(task)
    except ValueError as error:
        return [], [*problems, f"{place} {error}"]
    video = "" if published or task is None else (task.findtext("source") or root.findtext("meta/source") or "")
    return [Sheet(list(_objects(tracks)), video, looked_at)], problems


def _read_track(element: ElementTree.Element, *, keep_interpolated: bool) -> Iterator[_Track]:
    """The track's present shapes; two tracks where ``used_in_game`` changes."""
    tracks: dict[bool | None, _Track] = {}
    seen: set[int] = set()
    for shape in element:
        if shape.tag not in ("points", "box"):
            raise ValueError(f"is a {shape.tag}; points and boxes can be read")
        frame = int(_float(shape, "frame"))
        if frame < 0 or frame in seen:
            raise ValueError(f"has frame {frame} {'below 0' if frame < 0 else 'a second time'}")
        seen.add(frame)
        if shape.get("outside") == "1":
            continue
        said = [item.text for item in shape.iter("attribute") if item.get("name") == "used_in_game"]
        primary = said[0] == "1" if said else None
        line = _read_shape(shape, frame)
        if keep_interpolated and shape.get("keyframe") == "0":
            line = replace(line, interpolated=True)
        tracks.setdefault(primary, _Track(element.get("label", ""), primary)).lines.append(line)
    yield from tracks.values()


def _read_shape(shape: ElementTree.Element, frame: int) -> Line:
    word = Visibility.OCCLUDED if shape.get("occluded") == "1" else Visibility.CLEAR
    if shape.tag == "box":
        left, top, right, bottom = (_float(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        if right <= left or bottom <= top:
            raise ValueError(f"frame {frame} has a box without a size")
        return Line(frame, (left + right) / 2, (top + bottom) / 2, word, 0, right - left, bottom - top)
    text = shape.get("points", "")
    found = re.match(r"\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*(;|$)", text)  # of several points the first, as WASB does
    if not found:
        raise ValueError(f"frame {frame} has points {text!r}, not 'x,y'")
    return Line(frame, float(found[1]), float(found[2]), word)


def _float(shape: ElementTree.Element, name: str) -> float:
    try:
        value = float(shape.get(name, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"frame {shape.get('frame')} has {name} {shape.get(name)!r}, not a number")
    return value


def _looked_at(task: ElementTree.Element) -> range:
    """Frames of the task; CVAT's frame numbers are those of the video also where the task takes every k-th frame."""
    start, stop, size = (task.findtext(name) for name in ("start_frame", "stop_frame", "size"))
    step = re.search(r"step\s*=\s*(\d+)", task.findtext("frame_filter") or "")
    if not stop and not size:
        return ALL_FRAMES
    try:
        every, first = int(step[1]) if step else 1, int(start or 0)
        frames = range(first, int(stop) + 1 if stop else first + int(size or 0) * every, every)
    except ValueError as error:
        raise ValueError(f"has a task whose frames are not numbers: {error}") from None
    if not frames:
        raise ValueError("has a task without frames")
    return frames


def _two_primaries(tracks: Sequence[_Track]) -> Iterator[str]:
    seen: set[int | str] = set()
    for track in tracks:
        for line in track.lines:
            if track.primary and line.frame in seen:
                yield f"has two balls used in the game in frame {line.frame}"
            if track.primary:
                seen.add(line.frame)


def _objects(tracks: Sequence[_Track]) -> Iterator[Line]:
    """All lines with the object that their track is."""
    taken: dict[int, set[int | str]] = {}
    for track in sorted(tracks, key=lambda track: track.primary is False):
        frames = {line.frame for line in track.lines}
        named = re.fullmatch(r".*-(\d+)", track.label)
        number = int(named[1]) if named else int(track.primary is False)
        while taken.get(number, set()) & frames:
            number += 1
        taken.setdefault(number, set()).update(frames)
        yield from (replace(line, object=number) for line in track.lines)


# --- writing --------------------------------------------------------------------------------------------------------


def write_cvat(video: VideoRows) -> bytes:
    """One task's file: a track of boxes where all positions have a size, of points otherwise."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    meta = ElementTree.SubElement(root, "meta")
    task = ElementTree.SubElement(meta, "task")
    settings = {
        "name": video.name, "size": str(video.frames), "mode": "interpolation", "overlap": "0",
        "start_frame": "0", "stop_frame": str(max(0, video.frames - 1)), "frame_filter": "",
    }  # fmt: skip
    for key, text in settings.items():
        ElementTree.SubElement(task, key).text = text
    labels = ElementTree.SubElement(task, "labels")
    for number in video.tracks:
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = label_of(number)
    ElementTree.SubElement(task, "source").text = xml_text(video.uri.rstrip("/").rpartition("/")[2])
    for number, track in video.tracks.items():
        attributes = {"id": str(number), "label": label_of(number), "source": "auto"}
        ElementTree.SubElement(root, "track", attributes).extend(_shapes(track, video.frames))
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def label_of(number: int) -> str:
    """The name of an object's label."""
    return LABEL if number == 0 else f"{LABEL}-{number}"


def xml_text(text: str) -> str:
    """Text with what XML cannot hold percent-encoded."""
    return _NOT_XML.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")), text
    )


def _shapes(track: Trajectory, frames: int) -> list[ElementTree.Element]:
    present = track.present
    boxes = bool(present.any()) and not np.isnan(track.wh_px[present]).any()
    shapes: list[ElementTree.Element] = []
    last: tuple[int, np.ndarray, np.ndarray] | None = None  # the position that waits for what follows it
    for frame, xy, wh, word in zip(track.frame, track.xy_px, track.wh_px, track.visibility, strict=True):
        if last is not None and (word == Visibility.ABSENT.value or frame > last[0] + 1):
            shapes.append(_shape(last[0] + 1, last[1], last[2], boxes=boxes, outside=True))
            last = None
        if word != Visibility.ABSENT.value:
            occluded = word == Visibility.OCCLUDED.value
            shapes.append(_shape(int(frame), xy, wh, boxes=boxes, occluded=occluded))
            last = int(frame), xy, wh
    if last is not None and last[0] + 1 < frames:  # or CVAT shows the last position to the end
        shapes.append(_shape(last[0] + 1, last[1], last[2], boxes=boxes, outside=True))
    return shapes


def _shape(
    frame: int, xy: np.ndarray, wh: np.ndarray, *, boxes: bool, outside: bool = False, occluded: bool = False
) -> ElementTree.Element:
    x, y = (float(value) + 0.5 for value in xy)
    common = {"frame": str(frame), "keyframe": "1", "outside": str(int(outside)), "occluded": str(int(occluded))}
    if not boxes:
        return ElementTree.Element("points", {**common, "points": f"{x:.3f},{y:.3f}", "z_order": "0"})
    w, h = (float(value) / 2 for value in wh)
    corners = {"xtl": x - w, "ytl": y - h, "xbr": x + w, "ybr": y + h}
    return ElementTree.Element("box", {**common, **{k: f"{v:.3f}" for k, v in corners.items()}, "z_order": "0"})
