"""Every output of every window counted apart: how TrackNetV2 and V4 print their tables.

A window of ``frames_in`` frames begins at each frame s = 0, 1, ... N - frames_in of a video. Each heatmap that it draws
is decoded alone, by the network's published decoding at 0.5: no ensemble over windows, no choice by the flight, no
repair. So a frame counts once for every window that draws it (three times in the middle of a video for 3-in-3-out, once
for 3-in-1-out), and a video of N frames gives frames_out x (N - frames_in + 1) counts, less those without a label.
Rows that already exist can be counted so if they say their window: a column ``window`` holds its first frame.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specktrack.config import Config
from specktrack.datasets import DatasetVideo
from specktrack.errors import ConfigError
from specktrack.evaluate.joined import join_windows
from specktrack.frames import split_by_video
from specktrack.metrics.points import PointCounts
from specktrack.metrics.protocols import Protocol


class WindowCounts(Config):
    """An evaluation that counts every output of every window."""

    outputs: int
    """Heatmaps, or rows, that were counted."""
    frames: int
    """Labelled frames that at least one of them is about."""
    at: dict[str, dict[str, float]]
    """Counts and ratios by tolerance."""


def count_windows(
    protocol: Protocol,
    labels: Mapping[str, pa.Table],
    windows: Mapping[str, pa.Table],
    videos: Mapping[str, DatasetVideo],
) -> WindowCounts:
    """Count rows ``windows`` (columns window, frame, x, y, score) of each labelled video; ConfigError without any."""
    joined = [join_windows(uri, labels[uri], rows, videos[uri]) for uri, rows in windows.items() if uri in labels]
    if not sum(len(video.frame) for video in joined):
        raise ConfigError("no window has a labelled frame", [*windows][:1])
    at = {}
    for tolerance in protocol.tolerances:
        total = sum((PointCounts.of(video.outcomes(tolerance)) for video in joined), PointCounts())
        at[tolerance.name] = total.as_dict()
    return WindowCounts(
        outputs=sum(len(video.frame) for video in joined),
        frames=sum(len(np.unique(video.frame)) for video in joined),
        at=at,
    )


def one_row_per_frame(windows: pa.Table) -> pa.Table:
    """Of one video, the row of each frame from the window whose middle is nearest to it, the earlier of two."""
    frame, window = windows["frame"].to_numpy(), windows["window"].to_numpy()
    middle = (frame - window).max(initial=0) / 2
    order = np.lexsort((window, np.abs(frame - window - middle), frame))
    first = np.concatenate([[True], np.diff(frame[order]) > 0]) if len(order) else np.zeros(0, bool)
    return windows.take(order[first]).drop_columns("window")


def windows_by_video(windows: pa.Table, place: str) -> dict[str, pa.Table]:
    """Rows of object 0 by video; ConfigError if they cannot be of windows."""
    windows = windows.filter(pc.equal(windows["object"], 0))
    _check(windows, place)
    return split_by_video(windows)


def _check(windows: pa.Table, place: str) -> None:
    """ConfigError if a row is outside its window, or a window has two rows for a frame."""
    frame, window = windows["frame"].to_numpy(), windows["window"].to_numpy()
    if (outside := np.flatnonzero((window > frame) | (window < 0))).size:
        i = int(outside[0])
        raise ConfigError("a row lies before its window", f"frame {frame[i]}, window {window[i]}", f"{place}, row {i}")
    keys = windows.group_by(["video", "window", "frame"]).aggregate([([], "count_all")])
    twice = keys.filter(pc.greater(keys["count_all"], 1))
    if len(twice):
        row = twice.to_pylist()[0]
        raise ConfigError("a window has two rows for one frame", row["frame"], f"{place}, {row['video']}")


def windows_of_model(
    name: str, videos: list[DatasetVideo], *, input_wh: tuple[int, int] | None = None
) -> dict[str, pa.Table]:
    """Decoded outputs of all windows, by video URI. ConfigError for models that see no windows; MediaError."""
    from specktrack.annotating.progress import Meter  # loads torch, as the others, which comparing rows does not need
    from specktrack.evaluate.window_outputs import WindowRunner
    from specktrack.models.checkpoint import load_model

    runner, found = WindowRunner(load_model(name), input_wh=input_wh), {}
    with Meter(len(videos), sum(video.frames for video in videos)) as meter:
        for video in videos:
            found[video.ref.uri] = runner.run(video.ref)
            meter.add(video.frames)
    return found
