"""COCO's JSON of images and annotations, written and read.

    {"images": [{"id", "file_name", "width", "height", "video_id", "frame_id"}],
     "videos": [{"id", "name", "file_name"}],
     "annotations": [{"image_id", "category_id", "bbox", "track_id", "keypoints"}], "categories": [{"id", "name"}]}

An image for each frame that was looked at; one without an annotation is one without the object. ``videos``, and the
``video_id`` and ``frame_id`` (from 0) of images, are those of CocoVID; without them images of one folder are one video,
and a frame is what the picture's name says. Boxes are measured from the picture's edge. A point has ``keypoints``
beside its nominal box and is read back as one. Which category is the ball: see ``objects``; a category whose
``supercategory`` is the ball, and its keypoint the ``centre`` that we write, is a kind of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pydantic_core import from_json

from specktrack.datasets.boxes import corners
from specktrack.datasets.lines import Line, Sheet, Track, VideoRows
from specktrack.schema import Visibility

_POINT = {1: Visibility.OCCLUDED, 2: Visibility.CLEAR}
"""Meaning of a keypoint's flag; 0 is not labelled."""
_LABEL = "ball"
"""The category of what is of no kind that is known."""
_POINTS = ["centre"]
"""Keypoints of our categories; a project's name, which Roboflow makes the supercategory, may be ``ball`` as well."""


def is_coco(data: bytes) -> bool:
    """Whether a file is like one of COCO."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and b'"images"' in data and b'"annotations"' in data


def read_coco(data: bytes, place: str) -> tuple[list[Sheet], list[str]]:
    """A sheet per video, and the problems in the file."""
    try:
        content = from_json(data.removeprefix(b"\xef\xbb\xbf"))
        return _sheets(content), []
    except (KeyError, TypeError, AttributeError) as error:
        return [], [f"{place} is not a file of COCO: {type(error).__name__} {error}"]
    except ValueError as error:
        return [], [f"{place} {error}"]


def _sheets(content: Mapping[str, Any]) -> list[Sheet]:
    listed = content.get("categories") or []
    kinds = {
        item["id"]: str(item["name"])
        for item in listed
        if item.get("supercategory") == _LABEL and item.get("keypoints") == _POINTS
    }
    names = {item["id"]: _LABEL if item["id"] in kinds else str(item["name"]) for item in listed}
    videos = {item["id"]: str(item.get("file_name") or item["name"]) for item in content.get("videos") or []}
    images = {item["id"]: item for item in content["images"]}
    if not images:
        raise ValueError("has no images")
    of_video: dict[str, dict[Any, int | str]] = {}
    for key, item in images.items():
        name, frame = _place(item, videos)
        of_video.setdefault(name, {})[key] = frame
    drawn: dict[Any, list[Mapping[str, Any]]] = {}
    for item in content["annotations"]:
        if item["image_id"] not in images:
            raise ValueError(f"annotation {item.get('id')} belongs to image {item['image_id']}, which is not listed")
        drawn.setdefault(item["image_id"], []).append(item)
    return [_sheet(name, frames, images, drawn, names, kinds) for name, frames in of_video.items()]


def _place(image: Mapping[str, Any], videos: Mapping[Any, str]) -> tuple[str, int | str]:
    """The video of an image, and its frame: a number, or the picture's name."""
    path = PurePosixPath(str(image["file_name"]).replace("\\", "/"))
    if image.get("video_id") in videos:
        number = image.get("frame_id")
        return videos[image["video_id"]], path.name if number is None else int(number)
    stem = path.stem.rstrip("0123456789")
    return (f"{path.parent}/" if str(path.parent) != "." else stem.rstrip("_-. ") or "./"), path.name


def _sheet(
    video: str,
    frames: Mapping[Any, int | str],
    images: Mapping[Any, Mapping[str, Any]],
    drawn: Mapping[Any, Sequence[Mapping[str, Any]]],
    names: Mapping[Any, str],
    kinds: Mapping[Any, str],
) -> Sheet:
    lines: list[Line] = []
    tracks: dict[int, Track] = {}
    numbers: dict[tuple[str, int | None, int], int] = {}
    for image, frame in frames.items():
        count: dict[str, int] = {}
        for item in drawn.get(image, []):
            label = names.get(item["category_id"], str(item["category_id"]))
            said = item.get("track_id", (item.get("attributes") or {}).get("track_id"))
            identity = None if said is None else int(said)
            count[label] = count.get(label, -1) + 1
            key = label, identity, 0 if identity is not None else count[label]
            track = numbers.setdefault(key, len(numbers))
            tracks[track] = Track(label, identity)
            line = _line(item, frame, track)
            if line is not None:
                lines.append(replace(line, kind=kinds.get(item["category_id"])))
    sizes = {(int(images[key]["width"]), int(images[key]["height"])) for key in frames if "width" in images[key]}
    if len(sizes) > 1:
        raise ValueError(f"has pictures of {len(sizes)} different sizes in one video, {video}")
    return Sheet(lines, video, list(frames.values()), tracks=tracks, wh_px=next(iter(sizes), None))


def _line(item: Mapping[str, Any], frame: int | str, track: int) -> Line | None:
    """An annotation's line; None for a box or a point that stands for none."""
    left, top, width, height = (float(value) for value in item["bbox"])
    if not np.isfinite([left, top, width, height]).all():
        raise ValueError(f"annotation {item.get('id')} has a box that is not finite")
    attributes = item.get("attributes") or {}
    said = str(attributes.get("visibility", "")).lower()
    word = Visibility.OCCLUDED if attributes.get("occluded") is True else Visibility.CLEAR
    word = Visibility(said) if said in [each.value for each in Visibility if each is not Visibility.ABSENT] else word
    points = item.get("keypoints") or []
    if len(points) == 3:
        flag = int(points[2])
        if flag not in _POINT:
            return None
        word = _POINT[flag] if word is Visibility.CLEAR else word
        return Line(frame, float(points[0]), float(points[1]), word, track)
    if width <= 0 or height <= 0:
        return None
    return Line(frame, left + width / 2, top + height / 2, word, track, width, height)


# --- writing --------------------------------------------------------------------------------------------------------


def write_coco(videos: Sequence[VideoRows]) -> bytes:
    """COCO instances: an image per frame with rows, a category for the ball and one for each kind of it, ``track_id``
    and ``video_id`` as in CocoVID.

    Image names are NAME/ and the picture's own, or NAME/000000.jpg, what ``ffmpeg -start_number 0`` makes of a video
    file. Scores are kept, so the list of annotations is also one of results.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    kinds = sorted({kind for video in videos for track in video.tracks.values() for kind in track.kind} - {None})
    ids_of_kinds = {None: 1} | {kind: number for number, kind in enumerate(kinds, 2)}
    for video_id, video in enumerate(videos, 1):
        assert video.wh_px is not None
        width, height = video.wh_px
        ids = {frame: len(images) + i for i, frame in enumerate(video.listed, 1)}
        images += [
            {"id": ids[frame], "file_name": f"{video.name}/{video.picture(frame)}", "width": width, "height": height,
             "video_id": video_id, "frame_id": frame}
            for frame in video.listed
        ]  # fmt: skip
        for number in video.tracks:
            annotations += _annotations(video, number, ids, ids_of_kinds, first_id=len(annotations) + 1)
    listed = [{"id": i, "name": video.name, "file_name": video.uri} for i, video in enumerate(videos, 1)]
    point = {"keypoints": _POINTS, "skeleton": []}
    categories = [
        {"id": number, "name": kind or _LABEL, "supercategory": _LABEL if kind else "object", **point}
        for kind, number in ids_of_kinds.items()
    ]
    content = {
        "info": {"description": "rows of specktrack", "point_box_px": videos[0].box_px}, "licenses": [],
        "videos": listed, "categories": categories, "images": images, "annotations": annotations,
    }  # fmt: skip
    return (json.dumps(content) + "\n").encode()


def _annotations(
    video: VideoRows,
    number: int,
    image_ids: Mapping[int, int],
    ids_of_kinds: Mapping[str | None, int],
    *,
    first_id: int,
) -> list[dict[str, Any]]:
    track, boxes = video.tracks[number], corners(video, number).round(3)
    written: list[dict[str, Any]] = []
    for i in np.flatnonzero(track.present):
        box = boxes[i].tolist()
        item = {
            "id": first_id + len(written), "image_id": image_ids[int(track.frame[i])],
            "category_id": ids_of_kinds[track.kind[i]], "bbox": box,
            "area": round(box[2] * box[3], 3), "iscrowd": 0, "track_id": number + 1,
            "attributes": {"visibility": str(track.visibility[i])},
        }  # fmt: skip
        if not np.isnan(track.score[i]):
            item["score"] = round(float(track.score[i]), 6)
        if np.isnan(track.wh_px[i]).any():
            x, y = (track.xy_px[i].astype(float) + 0.5).round(3).tolist()
            item |= {
                "keypoints": [x, y, 1 if track.visibility[i] == Visibility.OCCLUDED.value else 2],
                "num_keypoints": 1,
            }
        written.append(item)
    return written
