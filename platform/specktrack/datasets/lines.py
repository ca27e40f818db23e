"""What importers and exporters of all formats share: a label, the labels of one video, and how doubts are told."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specktrack.errors import LabelError
from specktrack.frames import Trajectory
from specktrack.schema import Visibility

PROBLEMS_SHOWN = 12
"""A message that lists more problems than this is not read."""
ALL_FRAMES = range(2**62)


@dataclass(frozen=True)
class Line:
    """One object in one frame, as a label file has it."""

    frame: int | str
    """Frame number, or the name of an image."""
    x: float
    """As in the file: px or a share of the width; NaN where absent."""
    y: float
    visibility: Visibility
    object: int = 0
    w: float = float("nan")
    """Of a box, in the same unit; NaN for a point."""
    h: float = float("nan")
    interpolated: bool = False
    """The annotating tool put it between two positions that a person gave."""


@dataclass(frozen=True)
class Sheet:
    """What a label file says about one video."""

    lines: list[Line]
    video: str = ""
    """URI or file name of the video where the file gives it; empty where the file's place tells."""
    looked_at: range | None = None
    """Frames that were looked at: those without a line are absent. None: the lines have all frames of the video."""
    frames: int | None = None
    """How many frames the annotating tool counted in the video."""


@dataclass(frozen=True)
class VideoRows:
    """The rows of one video, for an exporter."""

    uri: str
    name: str
    """File name for what is written: safe, and distinct among the videos of an export."""
    tracks: dict[int, Trajectory]
    """By object, each ordered by frame."""
    wh_px: tuple[int, int] | None = None
    """None where the format does not need it."""
    box_px: float | None = None
    """Side of the square that stands for a point in formats of boxes."""

    @property
    def frames(self) -> int:
        """One past the last frame that has a row."""
        return max((int(track.frame[-1]) + 1 for track in self.tracks.values() if len(track)), default=0)

    @property
    def fps(self) -> float:
        """From the rows' times; 30 where they tell none."""
        track = self.tracks[min(self.tracks)]
        steps = np.diff(track.pts_s)[np.diff(track.frame) == 1]
        step = float(np.median(steps)) if len(steps) else 0.0
        return 1 / step if step > 0 else 30.0


def refuse(problems: Sequence[str], *, remedy: str = "correct the files and import again") -> None:
    """Raise LabelError with all ``problems`` if there are any."""
    if problems:
        shown = list(problems[:PROBLEMS_SHOWN])
        more = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise LabelError("; ".join(shown + more), remedy=remedy)
