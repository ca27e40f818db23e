"""Label Studio's JSON for video, read and written: predictions go out, corrected annotations come back as labels.

    [{"data": {"video": URI}, "predictions" | "annotations": [{"result": [
        {"type": "videorectangle", "value": {"sequence": [{"frame", "x", "y", "width", "height", "enabled", "time"}],
                                             "framesCount", "duration", "labels"}}]}]}]
    [{"video": URI, NAME OF THE CONTROL: [value, ...]}]                                                       JSON_MIN

Frames count from 1; x, y (the top left corner), width and height are percentages of the picture. ``enabled: false``
says that the object is gone after that frame; a last key that is enabled lasts to the end of the video. Between two
keys Label Studio interpolates linearly, so every frame is written; what it interpolated itself comes with ``auto``.
There are only boxes: a point is written as a square whose label ends in ``point``, and read back as a point. Labels are
``ball`` for object 0 and ``ball-k`` for object k, as for CVAT; which label is the ball: see ``objects``. Scores, times
and visibility other than absent are not kept. Label Studio counts frames by the rate that is typed into its
configuration: files that count other frames than the video has are refused, because every position would lie in a wrong
frame.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic_core import from_json

from specktrack.datasets.boxes import corners
from specktrack.datasets.cvat import label_of
from specktrack.datasets.lines import ALL_FRAMES, Line, Sheet, Track, VideoRows
from specktrack.schema import Visibility

CONFIG = """<View>
  <Video name="video" value="$video" frameRate="{fps:g}"/>
  <VideoRectangle name="box" toName="video"/>
  <Labels name="labels" toName="video">
{labels}
  </Labels>
</View>
"""
"""The labelling configuration that the written predictions fit."""


def is_label_studio(data: bytes) -> bool:
    """Whether a file begins like tasks of Label Studio, whole or short."""
    whole = b'"data"' in data[:100_000] and (b'"annotations"' in data or b'"predictions"' in data)
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") and (whole or b'"sequence"' in data)


def read_label_studio(data: bytes, place: str) -> tuple[list[Sheet], list[str]]:
    """One sheet per task, and the problems in the file."""
    try:
        tasks = from_json(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        return [], [f"{place} is not JSON: {error}"]
    sheets: list[Sheet] = []
    problems: list[str] = []
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks]):
        try:
            sheets += _read_task(task)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = str(error) if type(error) is ValueError else f"lacks {error}"
            problems.append(f"{place} task {number} {what}")
    if not sheets and not problems:
        problems.append(f"{place} holds no tasks with annotations or predictions")
    return sheets, problems


def _read_task(task: Mapping[str, Any]) -> Iterator[Sheet]:
    """The task's sheet; none of one that nobody has annotated."""
    video, regions = _short(task) if "data" not in task else _whole(task)
    if regions is None:
        return
    lines: list[Line] = []
    tracks: dict[int, Track] = {}
    counted = {int(region["framesCount"]) for region in regions if "framesCount" in region}
    if len(counted) > 1:
        raise ValueError(f"has different frame counts for one video, {sorted(counted)}")
    for number, region in enumerate(regions):
        label = " ".join(map(str, region.get("labels") or []))
        tracks[number] = Track(label)
        mine = [replace(line, track=number) for line in _read_region(region)]
        lines += [replace(line, w=float("nan"), h=float("nan")) for line in mine] if label.endswith(" point") else mine
    yield Sheet(lines, video, ALL_FRAMES, frames=next(iter(counted), None), tracks=tracks)


def _whole(task: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]] | None]:
    """The video and the regions of a task as JSON: of its annotations the last one submitted counts."""
    values = [value for value in task["data"].values() if isinstance(value, str)]
    done = [item for item in task.get("annotations") or [] if not item.get("was_cancelled")]
    versions = done or task.get("predictions") or []
    video = str(task["data"].get("video") or next(iter(values), ""))
    if not versions:
        return video, None
    return video, [item["value"] for item in versions[-1]["result"] if item.get("type") == "videorectangle"]


def _short(task: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]]]:
    """The same of a task as JSON_MIN, where regions lie under the name of their control."""
    regions: list[Mapping[str, Any]] = [
        region for found in task.values() if isinstance(found, list)
        for region in found if isinstance(region, dict) and "sequence" in region
    ]  # fmt: skip
    if not regions:
        raise KeyError("data")
    named = [value for value in task.values() if isinstance(value, str) and re.search(r"\.\w{2,4}(\?|$)", value)]
    return str(task.get("video") or next(iter(named), "")), regions


def _read_region(value: Mapping[str, Any]) -> Iterator[Line]:
    """A line per frame in which the region is shown; the last one may last."""
    keys = list({int(key["frame"]): key for key in sorted(value["sequence"], key=lambda key: key["frame"])}.values())
    for key, after in zip(keys, [*keys[1:], None], strict=True):
        box, frame = _box(key), int(key["frame"]) - 1
        enabled = bool(key.get("enabled", True))
        line = _line(frame, box, interpolated=bool(key.get("auto")))
        yield replace(line, lasts=enabled and after is None)
        if after is None or not enabled:
            continue
        steps = int(after["frame"]) - 1 - frame
        for step in range(1, steps):
            yield _line(frame + step, box + (_box(after) - box) * step / steps, interpolated=True)


def _box(key: Mapping[str, Any]) -> np.ndarray:
    """Centre and size as shares of the picture, float64 [4]."""
    if key.get("rotation"):
        raise ValueError(f"has a rotated box in frame {key['frame']}; rotate it back")
    if int(key["frame"]) < 1:
        raise ValueError(f"has frame {key['frame']}, but Label Studio counts from 1")
    x, y, w, h = (float(key[name]) / 100 for name in ("x", "y", "width", "height"))
    if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
        raise ValueError(f"has a box without a size in frame {key['frame']}")
    return np.array([x + w / 2, y + h / 2, w, h])


def _line(frame: int, box: np.ndarray, *, interpolated: bool = False) -> Line:
    x, y, w, h = box.tolist()
    return Line(frame, x, y, Visibility.CLEAR, 0, w, h, interpolated)


# --- writing --------------------------------------------------------------------------------------------------------


def write_label_studio(videos: Sequence[VideoRows]) -> bytes:
    """One task per video, with its rows as a prediction that a person can correct."""
    return (json.dumps([_task(video) for video in videos], indent=1) + "\n").encode()


def label_config(videos: Sequence[VideoRows]) -> bytes:
    """The labelling configuration for the project that takes the predictions."""
    names = sorted({_label(video, number) for video in videos for number in video.tracks})
    labels = "\n".join(f'    <Label value="{name}"/>' for name in names)
    return CONFIG.format(fps=round(videos[0].fps, 3), labels=labels).encode()


def _label(video: VideoRows, number: int) -> str:
    return label_of(number) + (" point" if _is_point(video, number) else "")


def _is_point(video: VideoRows, number: int) -> bool:
    track = video.tracks[number]
    return bool(np.isnan(track.wh_px[track.present]).any())


def _task(video: VideoRows) -> dict[str, Any]:
    regions = [_region(video, number) for number, track in video.tracks.items() if track.present.any()]
    scores = np.concatenate([track.score[track.present] for track in video.tracks.values()])
    prediction: dict[str, Any] = {"model_version": "specktrack", "result": regions}
    if len(scores) and not np.isnan(scores).any():
        prediction["score"] = round(float(scores.mean()), 4)
    return {"data": {"video": video.uri}, "predictions": [prediction]}


def _region(video: VideoRows, number: int) -> dict[str, Any]:
    assert video.wh_px is not None
    track = video.tracks[number]
    share = corners(video, number) / np.array([*video.wh_px, *video.wh_px]) * 100
    sequence = []
    present = track.present
    for i in np.flatnonzero(present):
        stays = bool(i + 1 < len(track) and present[i + 1] and track.frame[i + 1] == track.frame[i] + 1)
        box = dict(zip(("x", "y", "width", "height"), share[i].round(6).tolist(), strict=True))
        time_s = round(float(track.pts_s[i]), 6)
        frame = int(track.frame[i]) + 1
        sequence.append({"frame": frame, "time": time_s, "enabled": stays, "rotation": 0, **box})
    value = {
        "sequence": sequence, "framesCount": video.frames, "duration": round(video.frames / video.fps, 6),
        "labels": [_label(video, number)],
    }  # fmt: skip
    return {
        "id": f"object{number}", "type": "videorectangle", "origin": "prediction", "from_name": "box",
        "to_name": "video", "value": value,
    }  # fmt: skip
