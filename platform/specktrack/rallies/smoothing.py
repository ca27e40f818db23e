"""Smoothing of positions by a model of motion: velocity changes slowly between turns, and at once at a turn.

A Kalman filter and the smoother of Rauch, Tung and Striebel (1965) over position, velocity and acceleration in source
px. What gravity and drag do to the picture depends on where the camera stands, which rows do not tell; but it is an
acceleration that wanders slowly, and so it is a state of its own. At hits and bounces velocity and acceleration are
forgotten and only the position goes on. How noisy the rows are is measured from them; how fast accelerations wander is
what makes them most likely. x and y share their gains, since neither depends on the positions.
"""

# N frames; state: position, velocity, acceleration

from dataclasses import dataclass

import numpy as np

GAP_S = 0.5
"""No estimates within longer gaps; smoothing starts again after them."""
UNSURE = 0.5
"""A velocity whose standard deviation is more than this share of the usual speed is not known: single rows at ends."""
LEAST_SIGMA_PX = 0.2
"""Nobody measures a ball's centre better."""
_WANDER = (1.0, 10.0, 100.0, 1000.0)
"""Tried for how fast accelerations wander: (px/s^3)^2 s over the square of the usual speed."""
_TRIED_ON = 600
"""Rows that the choice is made on."""
_SURPRISE = 9.0
"""Squared distances in standard deviations beyond which a row is believed less and less."""


@dataclass(frozen=True)
class Smooth:
    """Where one object was; NaN where nothing is known."""

    xy_px: np.ndarray
    """float64 [N, 2]."""
    sigma_px: np.ndarray
    """float64 [N]: standard deviation of x and of y."""
    velocity_px_s: np.ndarray
    """float64 [N, 2]; also NaN where it is not known."""

    @property
    def speed_px_s(self) -> np.ndarray:
        """float64 [N]."""
        return np.hypot(*self.velocity_px_s.T)


def smooth(time_s: np.ndarray, xy_px: np.ndarray, turns_s: np.ndarray) -> Smooth:
    """Smooth positions [N, 2] (NaN where absent) at rising times [N]; flights begin and end at ``turns_s``."""
    n = len(time_s)
    result = Smooth(np.full((n, 2), np.nan), np.full(n, np.nan), np.full((n, 2), np.nan))
    pieces = _pieces(time_s, np.isfinite(xy_px[:, 0]))
    if not pieces:
        return result
    noise_px, usual_px_s = noise_of(time_s, xy_px), _usual_speed(time_s, xy_px)
    longest = max(pieces, key=lambda piece: piece.stop - piece.start)
    tried = slice(longest.start, min(longest.stop, longest.start + _TRIED_ON))

    def run(piece: slice, wander: float) -> "_Run":
        return _Run(time_s[piece], xy_px[piece], turns_s, noise_px, wander * usual_px_s**2, usual_px_s)

    best = max(_WANDER, key=lambda wander: run(tried, wander).likelihood)
    for piece in pieces:
        state, variance = run(piece, best).smoothed()
        sigma_px, sigma_px_s = np.sqrt(np.maximum(variance, 0)).T
        result.xy_px[piece], result.sigma_px[piece] = state[:, 0], sigma_px
        sure = sigma_px_s < UNSURE * usual_px_s
        result.velocity_px_s[piece] = np.where(sure[:, None], state[:, 1], np.nan)
    return result


def noise_of(time_s: np.ndarray, xy_px: np.ndarray) -> float:
    """Standard deviation of the rows' x and y, px, from third differences: flights hardly have any."""
    third = np.diff(xy_px, n=3, axis=0)
    even = np.ptp(np.lib.stride_tricks.sliding_window_view(np.diff(time_s), 3), axis=1) < 2e-3 if len(third) else []
    third = third[even]
    third = third[np.isfinite(third[:, 0])]
    if len(third) < 5:
        return 1.0
    return max(LEAST_SIGMA_PX, float(np.median(np.abs(third))) / 0.6745 / np.sqrt(20))


def _usual_speed(time_s: np.ndarray, xy_px: np.ndarray) -> float:
    steps = np.hypot(*np.diff(xy_px, axis=0).T) / np.diff(time_s)
    return max(1.0, float(np.percentile(steps[np.isfinite(steps)], 80))) if np.isfinite(steps).any() else 1.0


def _pieces(time_s: np.ndarray, known: np.ndarray) -> list[slice]:
    """Runs of rows that begin and end with a position and have no gap longer than GAP_S."""
    at = np.flatnonzero(known)
    cuts = np.flatnonzero(np.diff(time_s[at]) > GAP_S) + 1
    return [slice(int(part[0]), int(part[-1]) + 1) for part in np.split(at, cuts) if len(part)]


class _Run:
    """The filter's way through one piece, and back."""

    def __init__(
        self, time_s: np.ndarray, xy_px: np.ndarray, turns_s: np.ndarray, sigma_px: float, wander: float, usual: float
    ) -> None:
        n = len(time_s)
        self._means, self._covariances = np.zeros((n, 3, 2)), np.zeros((n, 3, 3))
        self._steps = list(_transitions(time_s, turns_s, wander, usual))
        self.likelihood = 0.0
        mean = np.zeros((3, 2))
        mean[0] = xy_px[0]
        covariance = np.diag([sigma_px**2, *_forgotten(usual)])
        noise = sigma_px**2
        for i in range(n):
            if i:
                move, spread = self._steps[i - 1]
                mean, covariance = move @ mean, move @ covariance @ move.T + spread
                if np.isfinite(xy_px[i, 0]):
                    off = xy_px[i] - mean[0]
                    expected = covariance[0, 0] + noise
                    surprise = float(off @ off) / expected / 2
                    if surprise > _SURPRISE:
                        expected = covariance[0, 0] + noise * surprise / _SURPRISE
                    self.likelihood -= float(off @ off) / expected / 2 + np.log(expected)
                    gain = covariance[:, 0] / expected
                    mean = mean + gain[:, None] * off
                    covariance = covariance - np.outer(gain, covariance[0])
            self._means[i], self._covariances[i] = mean, covariance

    def smoothed(self) -> tuple[np.ndarray, np.ndarray]:
        """States [N, 3, 2] and the variances of position and velocity [N, 2], from all rows before and after."""
        means, covariances = self._means.copy(), self._covariances.copy()
        for i in range(len(means) - 2, -1, -1):
            move, spread = self._steps[i]
            ahead = move @ self._covariances[i] @ move.T + spread
            gain = np.linalg.solve(ahead, move @ self._covariances[i]).T
            means[i] += gain @ (means[i + 1] - move @ self._means[i])
            covariances[i] += gain @ (covariances[i + 1] - ahead) @ gain.T
        return means, covariances[:, [0, 1], [0, 1]]


def _forgotten(usual: float) -> tuple[float, float]:
    """Variances of velocity and acceleration of which nothing is known."""
    return (4 * usual) ** 2, (20 * usual) ** 2


def _transitions(time_s: np.ndarray, turns_s: np.ndarray, wander: float, usual: float) -> list[tuple[np.ndarray, ...]]:
    """From each row to the next: the move [3, 3] of the state and what uncertainty [3, 3] comes with it."""
    places = np.searchsorted(time_s, turns_s, "right") - 1
    inside = {int(i): float(at) for i, at in zip(places, turns_s, strict=True) if 0 <= i < len(time_s) - 1}
    steps: list[tuple[np.ndarray, ...]] = []
    for i, (start, stop) in enumerate(zip(time_s[:-1].tolist(), time_s[1:].tolist(), strict=True)):
        if i not in inside:
            steps.append(_flight(stop - start, wander))
            continue
        turn = min(max(inside[i], start), stop)
        (first, before), (second, after) = _flight(turn - start, wander), _flight(stop - turn, wander)
        keep = np.diag([1.0, 0.0, 0.0])
        first, before = keep @ first, keep @ before @ keep + np.diag([0.0, *_forgotten(usual)])
        steps.append((second @ first, second @ before @ second.T + after))
    return steps


def _flight(dt: float, wander: float) -> tuple[np.ndarray, np.ndarray]:
    """The move and the spread of ``dt`` seconds under an acceleration that wanders."""
    move = np.array([[1, dt, dt * dt / 2], [0, 1, dt], [0, 0, 1.0]])
    spread = np.array([
        [dt**5 / 20, dt**4 / 8, dt**3 / 6],
        [dt**4 / 8, dt**3 / 3, dt**2 / 2],
        [dt**3 / 6, dt**2 / 2, dt],
    ])  # fmt: skip
    return move, wander * spread
