"""Rows as ``supervision.Detections``, frame by frame, and back: for its annotators, zones, sinks and metrics.

supervision measures boxes from the picture's edge and knows no points: a point becomes a square of ``box_px`` around
it, and ``data["point"]`` says so. An object's number is its ``tracker_id``, a score its ``confidence``.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import supervision as sv

from specktrack.datasets.exports import POINT_BOX_PX
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import ROWS, Visibility


def detections(rows: pa.Table, *, box_px: float = POINT_BOX_PX) -> Iterator[tuple[int, sv.Detections]]:
    """(frame, what is present in it) for each frame of one video that has rows, in order. ConfigError for more videos.

    ``data`` holds ``class_name`` (the kind, else ball), ``kind_score``, ``visibility``, ``provenance`` and ``point``.
    """
    videos = pc.unique(rows["video"]).to_pylist()
    if len(videos) > 1:
        raise ConfigError("rows of several videos", len(videos), remedy="filter the rows by video first")
    rows = rows.sort_by([("frame", "ascending"), ("object", "ascending")])
    frame = rows["frame"].to_numpy()
    for number in np.unique(frame):
        first, last = np.searchsorted(frame, [number, number + 1]).tolist()
        yield int(number), _detections(rows.slice(first, last - first), box_px)


def _detections(rows: pa.Table, box_px: float) -> sv.Detections:
    def column(name: str) -> np.ndarray:
        return rows[name].to_numpy(zero_copy_only=False)

    rows = rows.filter(pc.is_valid(rows["x"]))
    if not rows.num_rows:
        return sv.Detections.empty()
    xy, wh = (np.stack([column(name) for name in pair], axis=1).astype(np.float32) for pair in ("xy", "wh"))
    is_point = np.isnan(wh).any(axis=1)
    wh[is_point] = box_px
    score = column("score").astype(np.float32)
    words = {name: np.array(rows[name].cast(pa.string()).to_pylist()) for name in ("visibility", "provenance")}
    names = np.array([kind or "ball" for kind in rows["kind"].cast(pa.string()).to_pylist()])
    sure = column("kind_score").astype(np.float32)
    return sv.Detections(
        xyxy=np.concatenate([xy + 0.5 - wh / 2, xy + 0.5 + wh / 2], axis=1),
        confidence=None if np.isnan(score).any() else score,
        class_id=np.zeros(len(xy), int),
        tracker_id=column("object").astype(int),
        data={"class_name": names, "kind_score": sure, "point": is_point, **words},
    )


def rows_of(frames: Iterable[tuple[int, sv.Detections]], video: str, *, fps: float) -> pa.Table:
    """Rows of (frame, detections) of the video at a URI, whose frame n is shown at n / ``fps``.

    An object that is seen in some of the frames is absent in the others. Without ``tracker_id`` the detections of a
    frame are objects 0, 1, ... by falling confidence.
    """
    listed = sorted(frames, key=lambda each: each[0])
    number = np.array([frame for frame, _ in listed], np.int64)
    found: dict[int, dict[int, tuple[np.ndarray, bool, float]]] = {}
    for at, (_, seen) in enumerate(listed):
        for i, identity in enumerate(_identities(seen)):
            score = np.nan if seen.confidence is None else float(seen.confidence[i])
            is_point = bool(seen.data["point"][i]) if "point" in seen.data else False
            found.setdefault(identity, {})[at] = seen.xyxy[i], is_point, score
    tables = [_track(number, fps, places).to_rows(video, object_id=each) for each, places in sorted(found.items())]
    return pa.concat_tables([ROWS.empty_table(), *tables]).unify_dictionaries()


def _identities(seen: sv.Detections) -> list[int]:
    if seen.tracker_id is not None:
        return [int(identity) for identity in seen.tracker_id]
    if seen.confidence is None:
        return list(range(len(seen)))
    return np.argsort(np.argsort(-seen.confidence, kind="stable")).tolist()


def _track(number: np.ndarray, fps: float, places: dict[int, tuple[np.ndarray, bool, float]]) -> Trajectory:
    n = len(number)
    xy, wh, score = np.full((n, 2), np.nan, np.float32), np.full((n, 2), np.nan, np.float32), np.full(n, np.nan)
    for at, (box, is_point, confidence) in places.items():
        xy[at], score[at] = (box[:2] + box[2:]) / 2 - 0.5, confidence
        if not is_point:
            wh[at] = box[2:] - box[:2]
    words = np.where(np.isnan(xy[:, 0]), Visibility.ABSENT.value, Visibility.CLEAR.value).astype(object)
    return Trajectory(number, number / fps, xy, score.astype(np.float32), visibility=words, wh_px=wh)
