"""MOTChallenge's text of boxes, written and read: ``frame,id,left,top,width,height,conf,-1,-1,-1``.

    SEQ/gt/gt.txt beside SEQ.mp4 or SEQ/img1/, with SEQ/seqinfo.ini        ground truth
    SEQ.txt beside SEQ.mp4                                                 results

Frames and px count from 1, boxes from the picture's edge: the box of the one pixel (10, 10) is 11, 11, 1, 1. A frame
without a line of an object is one without the object. In ground truth the eighth column is a class and ``conf`` 0 tells
lines to pass over. Ids become objects from the lowest of the ball's on.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from specktrack.datasets.boxes import corners
from specktrack.datasets.lines import ALL_FRAMES, Line, Sheet, Track, VideoRows
from specktrack.schema import Visibility

_NUMBER = r"\s*-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?\s*"
_LINE = re.compile(rf"\s*\d+\s*[,\s]\s*-?\d+(?:\.0*)?\s*(?:[,\s]{_NUMBER}){{4,8}},?\s*")


def is_mot(data: bytes) -> bool:
    """Whether a file begins with a line of MOTChallenge's: frame, id, a box and more."""
    first = data[:300].decode("utf-8-sig", errors="replace").split("\n")[0]
    return _LINE.fullmatch(first) is not None and "," in first


def read_mot(files: Mapping[str, bytes]) -> tuple[list[Sheet], list[str]]:
    """The sheet of one sequence, and the problems in its file; ``seqinfo.ini`` beside it gives number and size."""
    place, data = next(iter(files.items()))
    settings = next((text for key, text in files.items() if key.endswith(".ini")), b"").decode("utf-8-sig", "replace")
    told = dict(re.findall(r"^\s*(\w+)\s*=\s*(\d{1,9})\s*$", settings, re.MULTILINE))
    is_truth = PurePosixPath(place).parent.name == "gt"
    lines: list[Line] = []
    tracks: dict[int, Track] = {}
    problems: list[str] = []
    for number, text in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        try:
            values = [float(word) for word in text.replace(",", " ").split()]
        except ValueError:
            values = []
        if len(values) < 6 or not np.isfinite(values).all():
            problems.append(f"{place}:{number} is {text[:80]!r}, not frame,id,left,top,width,height,...")
            continue
        frame, identity, left, top, width, height = values[:6]
        if frame < 1 or not (frame.is_integer() and identity.is_integer()):
            problems.append(f"{place}:{number} has frame {frame:g} and id {identity:g}, not whole numbers from 1")
            continue
        if (is_truth and values[6:7] == [0.0]) or width <= 0 or height <= 0:
            continue
        label = f"{values[7]:g}" if is_truth and len(values) == 9 and values[7] > 0 else ""
        key = int(identity)
        tracks[key] = Track(label, key)
        lines.append(
            Line(int(frame) - 1, left - 1 + width / 2, top - 1 + height / 2, Visibility.CLEAR, key, width, height)
        )
    if not lines and not problems:
        problems.append(f"{place} holds no boxes")
    length = int(told["seqLength"]) if "seqLength" in told else None
    size = (int(told["imWidth"]), int(told["imHeight"])) if {"imWidth", "imHeight"} <= told.keys() else None
    return [Sheet(lines, looked_at=ALL_FRAMES, frames=length, tracks=tracks, wh_px=size)], problems


def write_mot(video: VideoRows) -> bytes:
    """Frames, ids and px from 1; labels have conf 1."""
    lines = []
    for number, track in video.tracks.items():
        boxes = corners(video, number)
        for i in np.flatnonzero(track.present):
            left, top, width, height = boxes[i]
            score = 1.0 if np.isnan(track.score[i]) else float(track.score[i])
            place = f"{left + 1:.3f},{top + 1:.3f},{width:.3f},{height:.3f}"
            lines.append((int(track.frame[i]), number, f"{place},{score:.6g},-1,-1,-1"))
    return "".join(f"{frame + 1},{number + 1},{rest}\n" for frame, number, rest in sorted(lines)).encode()
