"""From pixels to metres: where the camera stands, from the four corners of a court in its picture.

    {"size_wh_px": [1280, 720], "corners_px": [[x, y], [x, y], [x, y], [x, y]]}

The near left corner first, then around the court: near right, far right, far left; of the doubles court, outer edges of
the lines. A camera that pans or zooms has corners of some frames, between which they move evenly:
``"corners_px": {"0": [...], "90": [...]}``. Of a lens that bends lines, OpenCV's calibration may be given:
``"lens": {"focal_px": [fx, fy], "centre_px": [cx, cy], "distortion": [k1, k2, p1, p2, k3]}``.

A plane seen by a camera with square pixels, whose optical axis meets the picture's middle, gives its focal length and
place (Zhang, 2000). World axes are those of datasets/flight.py.
"""

# N frames

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import from_json

from specktrack.config import Config, validated
from specktrack.datasets.flight import SPORTS, Sport
from specktrack.datasets.row_files import store_of
from specktrack.errors import ConfigError
from specktrack.storage import to_uri

Corners = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]

_BADMINTON, _TENNIS, _VOLLEYBALL, _PICKLEBALL = SPORTS
COURTS: Mapping[str, Sport] = {
    "badminton": _BADMINTON,
    "tennis": _TENNIS,
    "volleyball": replace(_VOLLEYBALL, name="volleyball", court_wl_m=(9.0, 18.0), net_m=2.43),
    "beach-volleyball": replace(_VOLLEYBALL, name="beach-volleyball", net_m=2.43),
    "pickleball": _PICKLEBALL,
    "padel": replace(_TENNIS, name="padel", court_wl_m=(10.0, 20.0), net_m=0.88),
    "table-tennis": replace(
        _TENNIS, name="table-tennis", court_wl_m=(1.525, 2.74), net_m=0.1525, ball_m=0.04, drag_per_m=0.14,
        restitution=0.9, speed_mps=(3, 30),
    ),
}  # fmt: skip
"""Outer lines of each court (of table tennis: the table, whose top is the ground)."""


class Lens(Config):
    """The results of OpenCV's ``calibrateCamera``."""

    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, float, float, float, float] = (0, 0, 0, 0, 0)
    """k1, k2, p1, p2, k3."""

    def straightened(self, xy_px: np.ndarray) -> np.ndarray:
        """Where a straight lens would show points [N, 2]: OpenCV's model, inverted by iteration."""
        k1, k2, p1, p2, k3 = self.distortion
        bent = (xy_px - self.centre_px) / self.focal_px
        x, y = bent.T
        for _ in range(12):
            r2 = x * x + y * y
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            x, y = (
                (bent[:, 0] - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / radial,
                (bent[:, 1] - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / radial,
            )
        return np.stack([x, y], axis=1) * self.focal_px + self.centre_px


class CourtView(Config):
    """A file of corners."""

    size_wh_px: tuple[int, int]
    """Width and height of the picture in which the corners were marked."""
    corners_px: Corners | dict[int, Corners] = Field(union_mode="left_to_right")
    """Of all frames, or by frame."""
    lens: Lens | None = None

    @model_validator(mode="after")
    def _some_frame(self) -> Self:
        if not self.corners_px:
            raise ValueError("corners_px has no frames")
        return self

    @classmethod
    def read(cls, place: str) -> Self:
        """Read a file. ConfigError if it says something else."""
        store, key = store_of(to_uri(place))
        try:
            content = from_json(store.get(key))
        except ValueError as error:
            raise ConfigError(f"not JSON: {error}", place=place) from None
        return validated(cls, content, place)

    def straightened(self, xy_px: np.ndarray) -> np.ndarray:
        """Positions [N, 2] as a lens without distortion would show them."""
        return xy_px if self.lens is None else self.lens.straightened(xy_px)

    def corners(self, frame: np.ndarray) -> np.ndarray:
        """Corners [N, 4, 2] px in frames [N], straightened."""
        keyed = self.corners_px if isinstance(self.corners_px, dict) else {0: self.corners_px}
        frames = sorted(keyed)
        straight = np.stack([self.straightened(np.array(keyed[each], float)) for each in frames]).reshape(-1, 8)
        moved = np.stack([np.interp(frame, frames, column) for column in straight.T], axis=1)
        return moved.reshape(-1, 4, 2)


@dataclass(frozen=True)
class Court:
    """One sport's court, and how a camera sees it."""

    sport: Sport
    view: CourtView | None = None
    """Without one there are no metres, but the sport's rules hold."""

    def cameras(self, frame: np.ndarray) -> np.ndarray:
        """Projections [N, 3, 4] from the world to straightened px in frames [N].

        ConfigError if no camera sees the court's corners there.
        """
        assert self.view is not None
        different, which = np.unique(self.view.corners(frame), axis=0, return_inverse=True)
        return np.stack([_camera(self.sport, self.view, corners) for corners in different])[which.reshape(-1)]


def _camera(sport: Sport, view: CourtView, corners_px: np.ndarray) -> np.ndarray:
    """The projection [3, 4] of a camera that sees the corners at [4, 2]."""
    width, length = sport.court_wl_m
    ground_m = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, length / 2]
    lens = view.lens
    centre = np.array(lens.centre_px if lens else (np.array(view.size_wh_px) - 1) / 2)
    plane = homography(ground_m, corners_px - centre)
    focal = np.array(lens.focal_px) if lens else np.full(2, _focal_px(plane, corners_px))
    columns = plane / np.array([*focal, 1.0])[:, None]
    columns /= np.sqrt(np.linalg.norm(columns[:, 0]) * np.linalg.norm(columns[:, 1]))
    if columns[2, 2] < 0:  # the court is before the camera
        columns = -columns
    u, _, v = np.linalg.svd(columns[:, :2], full_matrices=False)
    turned = u @ v
    pose = np.column_stack([turned, np.cross(turned[:, 0], turned[:, 1]), columns[:, 2]])
    inner = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    return inner @ pose


def homography(plane: np.ndarray, xy_px: np.ndarray) -> np.ndarray:
    """The map [3, 3] that takes points of a plane [4, 2] to the picture [4, 2]. ConfigError if three lie on a line."""
    rows = []
    for (x, y), (u, v) in zip(plane, xy_px, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    _, strength, v = np.linalg.svd(np.array(rows))
    if strength[-1] < 1e-9 * strength[0]:
        raise _no_court(xy_px)
    return v[-1].reshape(3, 3)


def _focal_px(plane: np.ndarray, corners_px: np.ndarray) -> float:
    """The focal length under which the court's sides are at right angles and its metres equal."""
    (a, b), (c, d), (e, f) = plane[0, :2], plane[1, :2], plane[2, :2]
    left = np.array([a * b + c * d, a * a + c * c - b * b - d * d])
    right = -np.array([e * f, e * e - f * f])
    inverse_square = float(left @ right) / max(float(left @ left), 1e-30)
    if inverse_square <= 1e-12:
        raise _no_court(corners_px)
    return float(inverse_square**-0.5)


def _no_court(corners_px: np.ndarray) -> ConfigError:
    return ConfigError(
        "these corners cannot be those of a court", np.round(corners_px, 1).tolist(),
        remedy="near left, near right, far right, far left, in px of the picture; a court seen from directly above "
        "needs the lens as well",
    )  # fmt: skip


def on_ground(cameras: np.ndarray, xy_px: np.ndarray, height_m: float) -> np.ndarray:
    """Where on the plane at ``height_m`` points [N, 2] are, [N, 2] m, seen by cameras [N, 3, 4]."""
    plane = np.stack([cameras[:, :, 0], cameras[:, :, 1], cameras[:, :, 2] * height_m + cameras[:, :, 3]], axis=2)
    rays = np.concatenate([xy_px, np.ones((len(xy_px), 1))], axis=1)
    found = np.linalg.solve(plane, rays[:, :, None])[:, :, 0]
    return found[:, :2] / found[:, 2:]
