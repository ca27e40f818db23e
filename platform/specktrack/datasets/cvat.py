"""CVAT 1.1, for video and for images, read and written: rows go out, and come back corrected, as labels.

    <track id label source>  <points|box|polygon|... frame keyframe outside occluded ...>        CVAT for video
    <image id name width height>  <points|box|polygon|... label occluded ...>                    CVAT for images

CVAT interpolates linearly between keyframes, which no ball does: every frame is written as a keyframe, and each gap
begins with ``outside="1"``. Frames count from 0. CVAT measures from the picture's edge, rows from the first pixel's
centre: half a px is added and taken away. It knows no score, no time, and of visibility absent, occluded and the rest.

Any shape is read by the centre of what encloses it, and all but points with its size. A skeleton is a track for each
of its points. A project's file holds the tracks of many tasks, each with its own video and frames from 0. Which label
is the ball, and which tracks are one object: see ``objects``. Where shapes have the attribute ``used_in_game`` (WASB's
soccer), those that have not 1 are distractors. A row's kind is the attribute ``kind``, which the task's label needs.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from xml.etree import ElementTree

import numpy as np

from specktrack.datasets.lines import ALL_FRAMES, Line, Sheet, Track, VideoRows
from specktrack.frames import Trajectory
from specktrack.schema import Visibility

LABEL = "ball"
"""Object 0; object k is ``ball-k``. The CVAT task needs labels of these names."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SHAPES = ("points", "box", "polygon", "polyline", "ellipse", "mask")


@dataclass
class _Drawn:
    """A track as it is drawn: what its file says of it, and its present shapes."""

    track: Track
    task: str
    """Id of its task in a project's file; empty if there is only one."""
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class _Task:
    """One task as the file describes it."""

    video: str
    looked_at: range
    wh_px: tuple[int, int] | None


def is_cvat(data: bytes) -> bool:
    """Whether a file begins like an XML document of CVAT."""
    return b"<annotations" in data[:4000]


def read_cvat(data: bytes, place: str, *, published: bool = False) -> tuple[list[Sheet], list[str]]:
    """A sheet for each task of the file, and the problems in it.

    ``published`` reads labels of a public dataset: all frames of its video were looked at, whatever the task's settings
    say, and interpolated positions are labels like the others.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return [], [f"{place} has a document type, which CVAT does not write"]
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        return [], [f"{place}:{error.position[0]} is not XML: {error.msg}"]
    if root.tag != "annotations":
        return [], [f"{place} is not a file of CVAT"]
    try:
        tasks = {"": _Task("", ALL_FRAMES, None)} if published else dict(_tasks(root))
    except ValueError as error:
        return [], [f"{place} {error}"]
    drawn: list[_Drawn] = []
    problems: list[str] = []
    for element in root.findall("track"):
        element.attrib.setdefault("task_id", next(iter(tasks)) if len(tasks) == 1 else "")
        try:
            drawn += _read_track(element, keep_interpolated=not published)
        except ValueError as error:
            problems.append(f"{place} track {element.get('id')} {error}")
    images = root.findall("image")
    try:
        drawn += _read_images(images, tasks)
    except ValueError as error:
        problems.append(f"{place} {error}")
    if not drawn and not images and not problems:
        problems.append(f"{place} holds no tracks and no images")
    problems += [f"{place} {doubt}" for doubt in _two_primaries(drawn)]
    if lost := sorted({each.task for each in drawn if each.task not in tasks}):
        problems.append(f"{place} has tracks of the tasks {', '.join(lost)}, which it does not describe")
    if problems:
        return [], problems
    return list(_sheets(tasks, drawn, images)), []


def _sheets(
    tasks: Mapping[str, _Task], drawn: Sequence[_Drawn], images: Sequence[ElementTree.Element]
) -> Iterator[Sheet]:
    """A sheet per task in which something is drawn or listed: nobody may have opened the others."""
    only = next(iter(tasks))
    for key, task in tasks.items():
        mine = [each for each in drawn if each.task == key]
        listed = [image for image in images if image.get("task_id", only) == key]
        if mine or listed:
            yield _sheet(task, mine, listed)


def _sheet(task: _Task, drawn: Sequence[_Drawn], images: Sequence[ElementTree.Element]) -> Sheet:
    tracks = {i: each.track for i, each in enumerate(drawn)}
    lines = [replace(line, track=i) for i, each in enumerate(drawn) for line in each.lines]
    size = next((_size(image) for image in images), task.wh_px)
    looked_at: Collection[int | str] = task.looked_at
    listed = [_frame_of(image, task) for image in images]
    if listed and (task.looked_at is ALL_FRAMES or any(isinstance(frame, str) for frame in listed)):
        looked_at = listed  # others may never have been opened
    return Sheet(lines, task.video, looked_at, tracks=tracks, wh_px=size)


def _read_track(element: ElementTree.Element, *, keep_interpolated: bool) -> Iterator[_Drawn]:
    """The present shapes of a track; more than one where it is a skeleton, or where ``used_in_game`` changes."""
    inner = element.findall("track")
    if inner:  # a skeleton, as older versions write it
        for track in inner:
            track.set("label", _of_skeleton(element.get("label", ""), track.get("label", "")))
            track.set("task_id", element.get("task_id", ""))
            yield from _read_track(track, keep_interpolated=keep_interpolated)
        return
    found: dict[tuple[str, bool | None], _Drawn] = {}
    seen: set[tuple[str, int]] = set()
    for shape, label in _shapes_of(element, element.get("label", "")):
        frame = int(_float(shape, "frame"))
        if frame < 0 or (label, frame) in seen:
            raise ValueError(f"has frame {frame} {'below 0' if frame < 0 else 'a second time'}")
        seen.add((label, frame))
        said = [item.text for item in shape.iter("attribute") if item.get("name") == "used_in_game"]
        primary = said[0] == "1" if said else None
        drawn = _Drawn(Track(label, primary=primary), element.get("task_id", ""))
        drawn = found.setdefault((label, primary), drawn)
        if shape.get("outside") == "1":
            continue
        line = _read_shape(shape, frame)
        if keep_interpolated and shape.get("keyframe") == "0":
            line = replace(line, interpolated=True)
        drawn.lines.append(line)
    yield from found.values()


def _shapes_of(element: ElementTree.Element, label: str) -> Iterator[tuple[ElementTree.Element, str]]:
    """Shapes and their labels; those of a skeleton take its frame."""
    for shape in element:
        if shape.tag == "skeleton":
            for point in shape:
                if point.tag in _SHAPES:
                    point.set("frame", shape.get("frame", ""))
                    yield point, _of_skeleton(shape.get("label", label), point.get("label", ""))
        elif shape.tag in _SHAPES:
            yield shape, shape.get("label", label)
        elif shape.tag not in ("attribute", "tag"):
            raise ValueError(f"is a {shape.tag}; {', '.join(_SHAPES)} and skeletons can be read")


def _of_skeleton(outer: str, inner: str) -> str:
    """The label of a skeleton's point; CVAT numbers points that nobody named."""
    return outer if not inner or inner.isdecimal() else inner


def _read_images(images: Sequence[ElementTree.Element], tasks: dict[str, _Task]) -> Iterator[_Drawn]:
    """Shapes by label, the second of one label in an image in a track of its own, and so on."""
    found: dict[tuple[str, str, int], _Drawn] = {}
    for image in images:
        key = image.get("task_id", next(iter(tasks)))
        frame = _frame_of(image, tasks.get(key))
        count: dict[str, int] = {}
        for shape, label in _shapes_of(image, ""):
            place = count[label] = count.get(label, -1) + 1
            shape.set("frame", image.get("id", ""))
            drawn = found.setdefault((key, label, place), _Drawn(Track(label), key))
            if shape.get("outside") != "1":
                drawn.lines.append(_read_shape(shape, frame))
    yield from found.values()


def _frame_of(image: ElementTree.Element, task: _Task | None) -> int | str:
    """A frame of a video is named ``frame_000012``; other names are those of pictures."""
    name = PurePosixPath(image.get("name", "")).name
    if numbered := re.fullmatch(r"frame_(\d{6,})(?:\.\w+)?", name, re.IGNORECASE):
        return int(numbered[1])
    if PurePosixPath(name).suffix:
        return name
    number = int(_float(image, "id"))
    inside = task is not None and task.looked_at is not ALL_FRAMES and 0 <= number < len(task.looked_at)
    return task.looked_at[number] if inside and task is not None else number


def _read_shape(shape: ElementTree.Element, frame: int | str) -> Line:
    word = Visibility.OCCLUDED if shape.get("occluded") == "1" else Visibility.CLEAR
    kind = next((item.text for item in shape.iter("attribute") if item.get("name") == "kind" and item.text), None)
    left, top, right, bottom = _enclosing(shape, frame)
    x, y = (left + right) / 2, (top + bottom) / 2
    if shape.tag == "points":
        return Line(frame, x, y, word, kind=kind)
    if right <= left or bottom <= top:
        raise ValueError(f"frame {frame} has a {shape.tag} without a size")
    return Line(frame, x, y, word, 0, right - left, bottom - top, kind=kind)


def _enclosing(shape: ElementTree.Element, frame: int | str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what encloses a shape."""
    if shape.tag == "box":
        left, top, right, bottom = (_float(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        return left, top, right, bottom
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (_float(shape, name) for name in ("cx", "cy", "rx", "ry"))
        return cx - rx, cy - ry, cx + rx, cy + ry
    if shape.tag == "mask":
        left, top, width, height = (_float(shape, name) for name in ("left", "top", "width", "height"))
        return left, top, left + width, top + height
    text = shape.get("points", "")
    try:
        found = np.array([[float(word) for word in pair.split(",")] for pair in text.strip("; ").split(";")])
    except ValueError:
        found = np.zeros((0, 0))
    if found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise ValueError(f"frame {frame} has points {text[:80]!r}, not 'x,y'")
    if shape.tag == "points":
        found = found[:1]  # of several points the first, as WASB does
    (left, top), (right, bottom) = found.min(axis=0).tolist(), found.max(axis=0).tolist()
    return left, top, right, bottom


def _float(shape: ElementTree.Element, name: str) -> float:
    try:
        value = float(shape.get(name, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f"frame {shape.get('frame')} has {name} {shape.get(name)!r}, not a number")
    return value


def _tasks(root: ElementTree.Element) -> Iterator[tuple[str, _Task]]:
    """The tasks that a file describes, by id, or the only one under no name."""
    of_project = root.findall("meta/project/tasks/task")
    if of_project:
        for task in of_project:
            yield task.findtext("id") or "", _Task(task.findtext("source") or "", _looked_at(task), _task_size(task))
        return
    only = root.find("meta/task")
    only = root.find("meta/job") if only is None else only
    if only is None:
        yield "", _Task(root.findtext("meta/source") or "", ALL_FRAMES, None)
    else:
        video = only.findtext("source") or root.findtext("meta/source") or ""
        yield "", _Task(video, _looked_at(only), _task_size(only) or _task_size(root.find("meta")))


def _task_size(element: ElementTree.Element | None) -> tuple[int, int] | None:
    size = None if element is None else element.find("original_size")
    return None if size is None else _pair(size.findtext("width"), size.findtext("height"))


def _size(image: ElementTree.Element) -> tuple[int, int] | None:
    return _pair(image.get("width"), image.get("height"))


def _pair(width: str | None, height: str | None) -> tuple[int, int] | None:
    whole = re.fullmatch(r"([0-9]{1,6}) ([0-9]{1,6})", f"{width} {height}")
    return (int(whole[1]), int(whole[2])) if whole else None


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


def _two_primaries(tracks: Sequence[_Drawn]) -> Iterator[str]:
    seen: set[int | str] = set()
    for drawn in tracks:
        for line in drawn.lines:
            if drawn.track.primary and line.frame in seen:
                yield f"has two balls marked as used in the game in frame {line.frame}"
            if drawn.track.primary:
                seen.add(line.frame)


# --- writing --------------------------------------------------------------------------------------------------------


def write_cvat(video: VideoRows) -> bytes:
    """One task's file: a track of boxes where all positions have a size, of points otherwise."""
    first = min((int(track.frame[0]) for track in video.tracks.values() if len(track)), default=0)
    root = _document(
        video, size=str(video.frames - first), mode="interpolation", overlap="0", start_frame=str(first),
        stop_frame=str(max(first, video.frames - 1)), frame_filter="",
    )  # fmt: skip
    for number, track in video.tracks.items():
        attributes = {"id": str(number), "label": label_of(number), "source": "auto"}
        ElementTree.SubElement(root, "track", attributes).extend(_shapes(track, video.frames))
    return _written(root)


def write_cvat_images(video: VideoRows) -> bytes:
    """The same as images: one for each frame that has rows, named as its picture or as CVAT names a video's frames."""
    assert video.wh_px is not None
    root = _document(video, mode="annotation")
    images: dict[int, ElementTree.Element] = {}
    for frame in video.listed:
        name = xml_text(video.pictures[frame]) if video.pictures else f"frame_{frame:06d}"
        size = {"width": str(video.wh_px[0]), "height": str(video.wh_px[1])}
        images[frame] = ElementTree.SubElement(root, "image", {"id": str(frame), "name": name, **size})
    for number, track in video.tracks.items():
        boxes = _has_sizes(track)
        for i in np.flatnonzero(track.present):
            occluded = track.visibility[i] == Visibility.OCCLUDED.value
            shape = _shape(int(track.frame[i]), track.xy_px[i], track.wh_px[i], boxes=boxes, occluded=occluded)
            _say_kind(shape, track.kind[i])
            for name in ("frame", "keyframe", "outside"):
                del shape.attrib[name]
            shape.attrib |= {"label": label_of(number), "source": "auto"}
            images[int(track.frame[i])].append(shape)
    return _written(root)


def _document(video: VideoRows, **settings: str) -> ElementTree.Element:
    """The root of a file, with the description of its task."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    for key, text in {"name": video.name, **settings}.items():
        ElementTree.SubElement(task, key).text = text
    labels = ElementTree.SubElement(task, "labels")
    for number in video.tracks:
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = label_of(number)
    ElementTree.SubElement(task, "source").text = xml_text(video.uri.rstrip("/").rpartition("/")[2])
    return root


def _written(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _has_sizes(track: Trajectory) -> bool:
    present = track.present
    return bool(present.any()) and not np.isnan(track.wh_px[present]).any()


def label_of(number: int) -> str:
    """The name of an object's label."""
    return LABEL if number == 0 else f"{LABEL}-{number}"


def xml_text(text: str) -> str:
    """Text with what XML cannot hold percent-encoded."""
    return _NOT_XML.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")), text
    )


def _shapes(track: Trajectory, frames: int) -> list[ElementTree.Element]:
    boxes = _has_sizes(track)
    shapes: list[ElementTree.Element] = []
    last: tuple[int, np.ndarray, np.ndarray] | None = None  # the position that waits for what follows it
    columns = track.frame, track.xy_px, track.wh_px, track.visibility, track.kind
    for frame, xy, wh, word, kind in zip(*columns, strict=True):
        if last is not None and (word == Visibility.ABSENT.value or frame > last[0] + 1):
            shapes.append(_shape(last[0] + 1, last[1], last[2], boxes=boxes, outside=True))
            last = None
        if word != Visibility.ABSENT.value:
            occluded = word == Visibility.OCCLUDED.value
            shapes.append(_shape(int(frame), xy, wh, boxes=boxes, occluded=occluded))
            _say_kind(shapes[-1], kind)
            last = int(frame), xy, wh
    if last is not None and last[0] + 1 < frames:  # or CVAT shows the last position to the end
        shapes.append(_shape(last[0] + 1, last[1], last[2], boxes=boxes, outside=True))
    return shapes


def _say_kind(shape: ElementTree.Element, kind: str | None) -> None:
    if kind is not None:
        ElementTree.SubElement(shape, "attribute", {"name": "kind"}).text = xml_text(kind)


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
