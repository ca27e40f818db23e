"""How an object moves: place, velocity and acceleration in px and seconds, with their uncertainty.

A Kalman filter of Singer's model (1970): acceleration is steady and forgotten within ``memory_s``, so gravity and drag
are learned where they act, and a turn is not followed for long. Both axes share one covariance.
"""

# M states

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field

from specktrack.config import Config


class Motion(Config):
    """How freely an object moves."""

    memory_s: float = Field(default=0.5, gt=0)
    """Time in which an acceleration is forgotten."""
    pull_sizes: float = Field(default=20.0, gt=0)
    """Acceleration that is no surprise at rest, sizes of the object per s^2."""
    pull_speed: float = Field(default=6.0, ge=0)
    """Added per speed, in px/s^2 per px/s: fast things are hit, thrown and slowed down faster."""
    first_sizes: float = Field(default=20.0, gt=0)
    """Speed that is no surprise in a prompt's frame, sizes of the object per second, ..."""
    first_share: float = Field(default=0.3, ge=0)
    """... and as a share of the picture's diagonal per second; the lower of the two counts twice, the other once."""


@dataclass(frozen=True)
class Flight:
    """States of M hypotheses about one object."""

    t_s: np.ndarray
    """[M]."""
    mean: np.ndarray
    """[M, 3, 2]: place, velocity and acceleration, x and y."""
    covariance: np.ndarray
    """[M, 3, 3], of either axis."""

    @classmethod
    def begin(cls, t_s: float, xy_px: np.ndarray, *, size_px: float, speed_px_s: float) -> Self:
        """One state: at rest as far as anybody knows."""
        mean = np.zeros((1, 3, 2))
        mean[0, 0] = xy_px
        spread = np.array([0.1 * size_px, speed_px_s, 2 * speed_px_s])
        return cls(np.array([t_s]), mean, np.diag(spread**2)[None])

    @property
    def xy_px(self) -> np.ndarray:
        """Places [M, 2]."""
        return self.mean[:, 0]

    @property
    def sigma_px(self) -> np.ndarray:
        """Uncertainty of the places on either axis, [M]."""
        return np.sqrt(self.covariance[:, 0, 0])

    def __getitem__(self, rows: np.ndarray) -> "Flight":
        return Flight(self.t_s[rows], self.mean[rows], self.covariance[rows])

    def at(self, t_s: float, motion: Motion, *, size_px: float) -> "Flight":
        """The states as they are expected at a later time."""
        dt = t_s - self.t_s
        step = np.zeros((len(dt), 3, 3))
        kept = np.exp(-dt / motion.memory_s)
        step[:, 0, 0] = step[:, 1, 1] = 1
        step[:, 0, 1], step[:, 1, 2], step[:, 0, 2], step[:, 2, 2] = dt, dt, dt**2 / 2, kept
        speed = np.linalg.norm(self.mean[:, 1], axis=1)
        pull = motion.pull_sizes * size_px + motion.pull_speed * speed
        noise = np.stack([dt**2 / 2, dt, 1 - kept], axis=1) * pull[:, None]  # an unknown pull all along the step
        covariance = step @ self.covariance @ step.transpose(0, 2, 1) + noise[:, :, None] * noise[:, None, :]
        return Flight(np.full(len(dt), t_s), step @ self.mean, covariance)

    def seen(self, xy_px: np.ndarray, sigma_px: float) -> "Flight":
        """The states after their objects were seen at places [M, 2]."""
        gain = self.covariance[:, :, 0] / (self.covariance[:, 0, 0] + sigma_px**2)[:, None]
        mean = self.mean + gain[:, :, None] * (xy_px - self.xy_px)[:, None]
        return replace(self, mean=mean, covariance=self.covariance - gain[:, :, None] * self.covariance[:, None, 0])

    def moved(self, shift_px: np.ndarray) -> "Flight":
        """The states as a camera sees them that turned: all places [M, 2] are shifted alike, speeds stay."""
        mean = self.mean.copy()
        mean[:, 0] += shift_px
        return replace(self, mean=mean)


def first_speed(motion: Motion, *, size_px: float, wh_px: tuple[int, int]) -> float:
    """Speed in px/s that is no surprise in a prompt's frame."""
    by_size, by_picture = motion.first_sizes * size_px, motion.first_share * float(np.hypot(*wh_px))
    return (by_size + by_picture + min(by_size, by_picture)) / 3


def together(flights: list[Flight]) -> Flight:
    """The states of all, in order."""
    return Flight(*(np.concatenate([getattr(f, name) for f in flights]) for name in ("t_s", "mean", "covariance")))
