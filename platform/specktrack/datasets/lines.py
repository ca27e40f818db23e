"""Types shared by importers and exporters of all formats: a label, the labels of one video, and warnings."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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
    track: int = 0
    """Which of the sheet's tracks it belongs to; the object's number where the sheet has none."""
    w: float = float("nan")
    """Of a box, in the same unit; NaN for a point."""
    h: float = float("nan")
    interpolated: bool = False
    """The annotating tool put it between two positions that a person gave."""
    lasts: bool = False
    """The annotating tool shows it from here to the end of the video."""
    kind: str | None = None
    """The word for what the object is, where the file says it beside the label."""


@dataclass(frozen=True)
class Track:
    """Properties of labels that a file groups as one object; which object is the ball is chosen later."""

    label: str = ""
    number: int | None = None
    """The object's number where the file tells it apart from others of its label."""
    primary: bool | None = None
    """Whether it is the ball in the game, where the file says so."""


@dataclass(frozen=True)
class Sheet:
    """The contents of a label file for one video."""

    lines: list[Line]
    video: str = ""
    """URI or file name of the video where the file gives it; empty where the file's place tells."""
    looked_at: Collection[int | str] | None = None
    """Frames that were looked at, by number or image: those without a line are absent. None: those with a line."""
    whole: bool = False
    """All frames of the video should be among them: one that is not is missing."""
    frames: int | None = None
    """How many frames the annotating tool counted in the video."""
    tracks: Mapping[int, Track] = field(default_factory=dict)
    """Of the lines, by number; empty where the file itself numbers the objects."""
    wh_px: tuple[int, int] | None = None
    """Size of the pictures on which the labels were made, where the file says it."""
    notes: tuple[str, ...] = ()
    """Values that were not read as written, and how they were read."""


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
    box_px: float = 10.0
    """Side of the square that represents a point in box formats."""
    pictures: Sequence[str] = ()
    """Names of the pictures by frame, where the video is a folder of them."""

    @property
    def frames(self) -> int:
        """One past the last frame that has a row."""
        return max((int(track.frame[-1]) + 1 for track in self.tracks.values() if len(track)), default=0)

    @property
    def listed(self) -> list[int]:
        """Frames that have a row, in order."""
        return sorted({int(frame) for track in self.tracks.values() for frame in track.frame})

    @property
    def fps(self) -> float:
        """From the rows' times; 30 where they tell none."""
        track = self.tracks[min(self.tracks)]
        steps = np.diff(track.pts_s)[np.diff(track.frame) == 1]
        step = float(np.median(steps)) if len(steps) else 0.0
        return 1 / step if step > 0 else 30.0

    def picture(self, frame: int, *, digits: int = 6) -> str:
        """The name of a frame's picture: its own, or what ``ffmpeg -start_number 0`` names those of a video file."""
        return self.pictures[frame] if self.pictures else f"{frame:0{digits}d}.jpg"


def refuse(problems: Sequence[str], *, remedy: str = "correct the files and import again") -> None:
    """Raise LabelError with all ``problems`` if there are any."""
    if problems:
        shown = list(problems[:PROBLEMS_SHOWN])
        more = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise LabelError("; ".join(shown + more), remedy=remedy)
