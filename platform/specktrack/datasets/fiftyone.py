"""FiftyOne's folder of labelled videos (``fiftyone.types.FiftyOneVideoLabelsDataset``), written and read.

    manifest.json        {"index": [{"data": "data/NAME.mp4", "labels": "labels/NAME.json"}]}
    labels/NAME.json     {"frames": {"1": {"frame_number": 1, "objects": {"objects": [OBJECT, ...]}}}}
    OBJECT               {"label", "index", "confidence", "attrs",
                          "bounding_box": {"top_left": {"x", "y"}, "bottom_right": {"x", "y"}}}

Frames count from 1, corners are shares of the picture from its edge. A frame that is listed without an object is one
without it. The format knows boxes: a point is the middle of its nominal box, has the attribute ``point``, and is read
back as one; visibility and kind are attributes too. Videos are not copied: ``data`` is where they are.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pydantic_core import from_json

from specktrack.datasets.boxes import corners
from specktrack.datasets.lines import Line, Sheet, Track, VideoRows
from specktrack.schema import Visibility
from specktrack.storage import local_path

MANIFEST = "manifest.json"
_TYPE = "eta.core.datasets.LabeledVideoDataset"
_LABEL = "ball"
"""Of object 0; object k is ``ball-k``, its index is k."""


def is_fiftyone(data: bytes) -> bool:
    """Whether a file is like one of labels of a video."""
    begin = data[:2000]
    return begin.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and b'"frames"' in begin and b'"frame_number"' in begin


def read_fiftyone(files: Mapping[str, bytes]) -> tuple[list[Sheet], list[str]]:
    """The sheet of one video, and the problems in its file; the manifest above it names the video."""
    place, data = next(iter(files.items()))
    try:
        lines, tracks, looked_at = _lines(from_json(data.removeprefix(b"\xef\xbb\xbf")))
        video = _video(place, files)
    except (KeyError, TypeError, AttributeError) as error:
        return [], [f"{place} is not a file of FiftyOne's: {type(error).__name__} {error}"]
    except ValueError as error:
        return [], [f"{place} {error}"]
    return [Sheet(lines, video, looked_at, tracks=tracks)], []


def _lines(content: Mapping[str, Any]) -> tuple[list[Line], dict[int, Track], list[int]]:
    lines: list[Line] = []
    tracks: dict[int, Track] = {}
    numbers: dict[tuple[str, int | None, int], int] = {}
    looked_at = [int(number) - 1 for number in content["frames"]]
    for frame, said in zip(looked_at, content["frames"].values(), strict=True):
        if frame < 0:
            raise ValueError("has frame 0, but frames count from 1")
        for i, item in enumerate((said.get("objects") or {}).get("objects") or []):
            index = None if item.get("index") is None else int(item["index"])
            key = str(item["label"]), index, 0 if index is not None else i
            number = numbers.setdefault(key, len(numbers))
            tracks[number] = Track(key[0], index)
            lines.append(_line(item, frame, number))
    return lines, tracks, looked_at


def _line(item: Mapping[str, Any], frame: int, track: int) -> Line:
    low, high = (
        np.array([float(item["bounding_box"][corner][axis]) for axis in "xy"])
        for corner in ("top_left", "bottom_right")
    )
    if not np.isfinite([low, high]).all() or (high <= low).any():
        raise ValueError(f"frame {frame + 1} has a box from {low.tolist()} to {high.tolist()}")
    said = {str(each["name"]): each["value"] for each in (item.get("attrs") or {}).get("attrs") or []}
    words = [word.value for word in Visibility if word is not Visibility.ABSENT]
    word = Visibility(said["visibility"]) if said.get("visibility") in words else Visibility.CLEAR
    (x, y), (w, h) = (low + high) / 2, high - low
    kind = str(said["kind"]) if said.get("kind") else None
    if said.get("point") is True:
        return Line(frame, x, y, word, track, kind=kind)
    return Line(frame, x, y, word, track, w, h, kind=kind)


def _video(place: str, files: Mapping[str, bytes]) -> str:
    """The manifest's entry for the video of the labels at ``place``; nothing without one."""
    for key, data in files.items():
        if PurePosixPath(key).name == MANIFEST:
            root = PurePosixPath(key).parent
            for each in from_json(data)["index"]:
                if root / str(each["labels"]) == PurePosixPath(place):
                    return str(each["data"])
    return ""


# --- writing --------------------------------------------------------------------------------------------------------


def write_fiftyone(videos: Sequence[VideoRows]) -> dict[str, bytes]:
    """The manifest, and a file of labels for each video."""
    index = [
        {"data": str(local_path(video.uri) or video.uri), "labels": f"labels/{video.name}.json"} for video in videos
    ]
    manifest = {"type": _TYPE, "description": "rows of specktrack", "index": index}
    files = {MANIFEST: json.dumps(manifest, indent=1).encode()}
    for video in videos:
        frames: dict[str, dict[str, Any]] = {str(f + 1): {"frame_number": f + 1} for f in video.listed}
        for frame, item in _objects(video):
            frames[str(frame + 1)].setdefault("objects", {"objects": []})["objects"].append(item)
        files[f"labels/{video.name}.json"] = json.dumps({"frames": frames}).encode()
    return files


def _objects(video: VideoRows) -> Iterator[tuple[int, dict[str, Any]]]:
    assert video.wh_px is not None
    for number, track in video.tracks.items():
        shares = corners(video, number) / np.array([*video.wh_px, *video.wh_px])
        for i in np.flatnonzero(track.present):
            left, top, width, height = shares[i].tolist()
            attributes = [_attribute("Categorical", "visibility", str(track.visibility[i]))]
            if track.kind[i] is not None:
                attributes.append(_attribute("Categorical", "kind", str(track.kind[i])))
            if np.isnan(track.wh_px[i]).any():
                attributes.append(_attribute("Boolean", "point", True))
            item: dict[str, Any] = {
                "type": "eta.core.objects.DetectedObject",
                "label": f"{_LABEL}-{number}" if number else _LABEL,
                "index": number,
                "bounding_box": {
                    "top_left": {"x": left, "y": top},
                    "bottom_right": {"x": left + width, "y": top + height},
                },
                "attrs": {"type": "eta.core.data.AttributeContainer", "attrs": attributes},
            }
            if not np.isnan(track.score[i]):
                item["confidence"] = round(float(track.score[i]), 6)
            yield int(track.frame[i]), item


def _attribute(kind: str, name: str, value: object) -> dict[str, object]:
    return {"type": f"eta.core.data.{kind}Attribute", "name": name, "value": value}
