"""Rows as boxes, and the benchmarks' files of them: OTB, GOT-10k, LaSOT and LaTOT.

A row has a centre and a size, an integer coordinate being a pixel's centre; these formats have corners measured from
the picture's edge, 1-based in OTB and 0-based in the others (the box of the one pixel (10, 10) is 11, 11, 1, 1 or
10, 10, 1, 1). A point has no size: a square of ``box_px`` stands for it, and its centre stays where it is.
"""

import numpy as np

from specktrack.datasets.lines import VideoRows
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import Provenance


def corners(video: VideoRows, number: int) -> np.ndarray:
    """Left, top, width, height [N, 4] in source px from the picture's edge; NaN where absent."""
    track = video.tracks[number]
    wh = track.wh_px.astype(float)
    wh[track.present & np.isnan(wh).any(axis=1)] = video.box_px
    left_top = track.xy_px.astype(float) + 0.5 - wh / 2
    return np.concatenate([left_top, np.where(np.isnan(left_top), np.nan, wh)], axis=1)


def is_labelled(video: VideoRows) -> bool:
    """Whether all rows are labels: they are written as ground truth, others as results."""
    return all((track.provenance == Provenance.LABELLED.value).all() for track in video.tracks.values())


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


def write_lasot(video: VideoRows) -> dict[str, bytes]:
    """``x,y,w,h`` per frame, px from 0: NAME.txt, or NAME/groundtruth.txt of labels with its flags of absence."""
    lines = _box_lines(video, origin=0)
    if not is_labelled(video):
        return {f"{video.name}.txt": lines}
    (track,) = video.tracks.values()
    flags = ",".join(str(int(not present)) for present in track.present) + "\n"
    name = video.name
    return {
        f"{name}/groundtruth.txt": lines, f"{name}/out_of_view.txt": flags.encode(),
        f"{name}/full_occlusion.txt": flags.replace("1", "0").encode(),
    }  # fmt: skip


def write_latot(video: VideoRows) -> dict[str, bytes]:
    """``x,y,w,h`` per frame, px from 0, nan where absent: NAME.txt, or NAME/NAME.txt of labels."""
    name = f"{video.name}/{video.name}.txt" if is_labelled(video) else f"{video.name}.txt"
    return {name: _box_lines(video, origin=0)}


def _box_lines(video: VideoRows, *, origin: int) -> bytes:
    ((number, track),) = video.tracks.items()
    every_frame(video, track)
    boxes = corners(video, number) + np.array([origin, origin, 0, 0])
    return "".join(",".join("nan" if np.isnan(v) else f"{v:.4f}" for v in box) + "\n" for box in boxes).encode()


def every_frame(video: VideoRows, track: Trajectory) -> None:
    """ConfigError unless there is a row for every frame from 0."""
    if not (track.frame == np.arange(len(track))).all():
        raise ConfigError(
            "this format has no frame numbers, so it needs rows for all frames from 0", f"{len(track)} rows", video.uri,
            "export the rows of whole videos",
        )  # fmt: skip
