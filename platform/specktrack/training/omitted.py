"""Labels that training leaves out because nothing can be learned from them, counted, and when there are too many."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from specktrack import telemetry
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory

MOST = 0.01
"""Share of the labelled frames that may be left out; more is a mistake in the data that someone should look at."""

log = telemetry.get_logger()


@dataclass(frozen=True)
class Omitted:
    """Of ``labels`` labelled frames, those that are left out."""

    labels: int = 0
    missing: int = 0
    """Their picture is not there."""
    bad: int = 0
    """Their label lies outside the picture."""

    def __add__(self, other: Self) -> "Omitted":
        return Omitted(self.labels + other.labels, self.missing + other.missing, self.bad + other.bad)


def usable(label: Trajectory, missing: np.ndarray, wh_px: tuple[int, int]) -> tuple[Trajectory, Omitted]:
    """The rows to learn from; ``missing`` is bool [N] over the video's frames, ``wh_px`` the size of its pictures."""
    known = label.frame < len(missing)
    there = known.copy()
    there[known] = ~missing[label.frame[known]]
    half_px = np.array(wh_px) / 2
    reach_px = half_px + np.nan_to_num(label.wh_px) / 2  # the centre of an object that is cut off may lie outside
    bad = there & (np.abs(label.xy_px + 0.5 - half_px) > reach_px).any(axis=1)
    return label[there & ~bad], Omitted(len(label), int((~there).sum()), int(bad.sum()))


def check(parts: Iterable[Omitted], place: Iterable[str]) -> None:
    """Say what is left out of the data at ``place``; ConfigError if it is more than MOST of it, and more than one."""
    all_of_it = sum(parts, Omitted())
    count = all_of_it.missing + all_of_it.bad
    if not count:
        return
    what = (
        f"{count} of {all_of_it.labels}: {all_of_it.missing} without a picture, {all_of_it.bad} with a label outside it"
    )
    log.warning("labelled frames skipped", frames=what)
    if count > max(1, int(all_of_it.labels * MOST)):
        raise ConfigError(
            "too many labelled frames cannot be used", what, ", ".join(place),
            "look at them with 'specktrack data check', copy the videos again, or import the labels again",
        )  # fmt: skip
