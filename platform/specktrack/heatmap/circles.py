"""TrackNetV1's decoding: the one circle that a Hough transform finds in the thresholded heatmap.

The gradient Hough transform (Yuen, Princen, Illingworth, Kittler 1990): every edge pixel votes for centres along its
gradient, at distances from the smallest to the largest radius. With TrackNetV1's numbers: 1280x720, radii 2 to 7, more
than two votes, circles at least 10 px apart.
"""

# H W heatmap px; E edge pixels

import numpy as np
from scipy import ndimage

RADII_PX = (2, 7)
APART_PX = 10
MOST_VOTES_IGNORED = 2
LEVEL = 127
"""Grey levels above it are ball."""
SCALE = 2
"""TrackNetV1 looks for circles at 1280x720, twice its network's size."""


def only_circle(heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The circle's centre and the heatmap's maximum if there is exactly one circle; nothing where more or none."""
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    grey = np.round(heatmap * 255)
    if grey.max() <= LEVEL:
        return nothing
    ys, xs = np.nonzero(grey > LEVEL)
    margin = RADII_PX[1]  # nothing votes further away
    top, left = max(0, int(ys.min()) - margin), max(0, int(xs.min()) - margin)
    near = grey[top : int(ys.max()) + margin + 1, left : int(xs.max()) + margin + 1]
    circles = _circles(_enlarged(near) > LEVEL)
    if len(circles) != 1:
        return nothing
    xy = (circles + 0.5) / SCALE - 0.5 + (left, top)
    return xy.astype(np.float32), np.array([heatmap.max()], np.float32)


def _enlarged(grey: np.ndarray) -> np.ndarray:
    """SCALE times as large, bilinear, pixel areas in place, in whole grey levels."""
    return np.round(ndimage.zoom(grey, SCALE, order=1, mode="nearest", grid_mode=True))


def _circles(ball: np.ndarray) -> np.ndarray:
    """Centres [M, 2] of circles in a binary picture, those with most votes first."""
    dx, dy = (ndimage.sobel(ball.astype(float), axis=axis, mode="nearest") for axis in (1, 0))
    edge = _thin(dx, dy)
    votes = _votes(edge, dx, dy)
    padded = np.pad(votes, 1)
    centre = (
        (votes > MOST_VOTES_IGNORED)
        & (votes > padded[1:-1, :-2])
        & (votes >= padded[1:-1, 2:])
        & (votes > padded[:-2, 1:-1])
        & (votes >= padded[2:, 1:-1])
    )
    ys, xs = np.nonzero(centre)
    best_first = np.argsort(-votes[ys, xs], kind="stable")
    kept: list[np.ndarray] = []
    for place in np.stack([xs, ys], axis=1)[best_first]:
        if all(np.linalg.norm(place - other) >= APART_PX for other in kept) and _has_radius(place, edge):
            kept.append(place)
    return np.array(kept, float).reshape(-1, 2)


def _thin(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Edge pixels: the largest gradient (|dx| + |dy|) across the edge, in one of four directions (Canny 1986)."""
    strength = np.abs(dx) + np.abs(dy)
    padded = np.pad(strength, 1)
    height, width = strength.shape

    def beside(x: int, y: int) -> np.ndarray:
        return padded[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    flat, steep = np.abs(dy) < np.tan(np.pi / 8) * np.abs(dx), np.abs(dy) > np.tan(3 * np.pi / 8) * np.abs(dx)
    along_x = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    along_y = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(1, -1)) & (strength > beside(-1, 1))
    across = np.select([flat, steep, dx * dy > 0], [along_x, along_y, falling], rising)
    return across & (strength > 0)


def _votes(edge: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """How many edge pixels point at each pixel as a centre, forwards or backwards, at a radius within RADII_PX."""
    ys, xs = np.nonzero(edge)
    way = np.stack([dx[ys, xs], dy[ys, xs]], axis=1)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    radii = np.arange(RADII_PX[0], RADII_PX[1] + 1)
    steps = np.concatenate([radii, -radii])
    places = np.stack([xs, ys], axis=1)[:, None] + way[:, None] * steps[:, None]  # [E, steps, 2]
    x, y = np.floor(places + 0.5).astype(int).reshape(-1, 2).T
    inside = (x >= 0) & (y >= 0) & (x < edge.shape[1]) & (y < edge.shape[0])
    votes = np.zeros(edge.shape, int)
    np.add.at(votes, (y[inside], x[inside]), 1)
    return votes


def _has_radius(place: np.ndarray, edge: np.ndarray) -> bool:
    """Whether more than MOST_VOTES_IGNORED edge pixels lie on one circle (of one px width) around ``place``."""
    ys, xs = np.nonzero(edge)
    distance = np.hypot(xs - place[0], ys - place[1])
    near = distance[(distance >= RADII_PX[0]) & (distance <= RADII_PX[1])]
    return len(near) > 0 and int(np.bincount(np.floor(near + 0.5).astype(int)).max()) > MOST_VOTES_IGNORED
