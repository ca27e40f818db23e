"""Formats of boxes, written from rows: COCO, MOTChallenge, OTB and GOT-10k.

A row has a centre and a size, an integer coordinate being a pixel's centre; these formats have corners measured from
the picture's edge, 0-based in COCO and GOT-10k, 1-based in MOTChallenge and OTB (the box of the one pixel (10, 10) is
10, 10, 1, 1 or 11, 11, 1, 1). A point has no size and is refused, unless the export is told the side of the square
that stands for it; its centre stays where it is.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from specktrack.datasets.lines import VideoRows
from specktrack.errors import ConfigError
from specktrack.schema import Provenance, Visibility


def corners(video: VideoRows, number: int) -> np.ndarray:
    """Left, top, width, height [N, 4] in source px from the picture's edge; NaN where absent.

    ConfigError for a present row without a size where no ``box_px`` is given.
    """
    track = video.tracks[number]
    wh = track.wh_px.astype(float)
    point = track.present & np.isnan(wh).any(axis=1)
    if point.any() and video.box_px is None:
        raise ConfigError(
            f"{int(point.sum())} rows are points without a size, the first in frame {track.frame[point.argmax()]}",
            place=video.uri,
            remedy="give --box-px, the side of the square that stands for a point, or use a format of points",
        )  # fmt: skip
    wh[point] = video.box_px
    left_top = track.xy_px.astype(float) + 0.5 - wh / 2
    return np.concatenate([left_top, np.where(np.isnan(left_top), np.nan, wh)], axis=1)


def is_labelled(video: VideoRows) -> bool:
    """Whether all rows are labels: they are written as ground truth, others as results."""
    return all((track.provenance == Provenance.LABELLED.value).all() for track in video.tracks.values())


def write_coco(videos: Sequence[VideoRows]) -> bytes:
    """COCO instances: an image per frame with rows, one category, ``track_id`` and ``video_id`` as in CocoVID.

    Points get ``keypoints`` beside their nominal box. Image names are NAME/000000.jpg, what ``ffmpeg -start_number 0``
    makes of a video. Scores are kept, so the list of annotations is also one of results.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_id, video in enumerate(videos, 1):
        assert video.wh_px is not None
        width, height = video.wh_px
        frames = sorted({int(frame) for track in video.tracks.values() for frame in track.frame})
        ids = {frame: len(images) + i for i, frame in enumerate(frames, 1)}
        images += [
            {"id": ids[frame], "file_name": f"{video.name}/{frame:06d}.jpg", "width": width, "height": height,
             "video_id": video_id, "frame_id": frame}
            for frame in frames
        ]  # fmt: skip
        for number in video.tracks:
            annotations += _coco_annotations(video, number, ids, first_id=len(annotations) + 1)
    listed = [{"id": i, "name": video.name, "file_name": video.uri} for i, video in enumerate(videos, 1)]
    category = {"id": 1, "name": "ball", "supercategory": "object", "keypoints": ["centre"], "skeleton": []}
    content = {
        "info": {"description": "rows of specktrack"}, "licenses": [], "videos": listed,
        "categories": [category], "images": images, "annotations": annotations,
    }  # fmt: skip
    return (json.dumps(content) + "\n").encode()


def _coco_annotations(
    video: VideoRows, number: int, image_ids: dict[int, int], *, first_id: int
) -> list[dict[str, Any]]:
    track, boxes = video.tracks[number], corners(video, number).round(3)
    written: list[dict[str, Any]] = []
    for i in np.flatnonzero(track.present):
        box = boxes[i].tolist()
        item = {
            "id": first_id + len(written), "image_id": image_ids[int(track.frame[i])], "category_id": 1, "bbox": box,
            "area": round(box[2] * box[3], 3), "iscrowd": 0, "track_id": number + 1,
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


def write_mot(video: VideoRows) -> bytes:
    """``frame,id,left,top,width,height,conf,-1,-1,-1``: frames, ids and px from 1; labels have conf 1."""
    lines = []
    for number, track in video.tracks.items():
        boxes = corners(video, number)
        for i in np.flatnonzero(track.present):
            left, top, width, height = boxes[i]
            score = 1.0 if np.isnan(track.score[i]) else float(track.score[i])
            place = f"{left + 1:.3f},{top + 1:.3f},{width:.3f},{height:.3f}"
            lines.append((int(track.frame[i]), number, f"{place},{score:.6g},-1,-1,-1"))
    return "".join(f"{frame + 1},{number + 1},{rest}\n" for frame, number, rest in sorted(lines)).encode()


def write_otb(video: VideoRows) -> dict[str, bytes]:
    """``x,y,w,h`` per frame, px from 1, nan where absent: NAME.txt, or NAME/groundtruth_rect.txt of labels."""
    name = f"{video.name}/groundtruth_rect.txt" if is_labelled(video) else f"{video.name}.txt"
    return {name: _box_lines(video, origin=1)}


def write_got10k(video: VideoRows) -> dict[str, bytes]:
    """``x,y,w,h`` per frame, px from 0, nan where absent: NAME/NAME_001.txt, or the ground truth of labels."""
    lines = _box_lines(video, origin=0)
    if not is_labelled(video):
        return {f"{video.name}/{video.name}_001.txt": lines}
    (track,) = video.tracks.values()
    absent = "".join(f"{int(not present)}\n" for present in track.present)
    return {f"{video.name}/groundtruth.txt": lines, f"{video.name}/absence.label": absent.encode()}


def _box_lines(video: VideoRows, *, origin: int) -> bytes:
    ((number, track),) = video.tracks.items()
    if not (track.frame == np.arange(len(track))).all():
        raise ConfigError(
            "this format has no frame numbers, so it needs rows for all frames from 0", f"{len(track)} rows", video.uri,
            "export the rows of whole videos",
        )  # fmt: skip
    boxes = corners(video, number) + np.array([origin, origin, 0, 0])
    return "".join(",".join("nan" if np.isnan(v) else f"{v:.4f}" for v in box) + "\n" for box in boxes).encode()
