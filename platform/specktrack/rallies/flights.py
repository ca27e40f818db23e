"""Flights in metres: the start and the velocity in space under which gravity and drag lead the ball where it was seen.

One camera does not see depth, but how a ball falls does tell it: six numbers per flight are fitted to its positions by
Levenberg and Marquardt's method, all flights of a video at once. Where a flight meets the ground its height is known.
"""

# F flights, M observations, P = 6 parameters (start m, velocity m/s)

from dataclasses import dataclass

import numpy as np

from specktrack.datasets.flight import GRAVITY_MPS2, STEP_S, Sport, fly

LONGEST_S = 3.0
"""Of a longer flight the rest is not fitted."""
LEAST_ROWS = 5
_ROUNDS = 15
_START_M, _SPEED_MPS = (6.0, 12.0, 1.5), 30.0
"""How far starts lie from the court's middle (and from a height of 1 m), and how fast balls are: weak beliefs that keep
short flights sane."""
_GROUND_M = 0.03
"""How exactly a bounce is on the ground."""
_DOUBTED = 3.0
"""Residuals of so many standard deviations begin to count less."""
_NUDGE = np.array([1e-3] * 3 + [1e-2] * 3)


@dataclass(frozen=True)
class Observed:
    """Where flights were seen."""

    flight: np.ndarray
    """int [M], rising: 0 .. F - 1."""
    time_s: np.ndarray
    """float64 [M], since the flight's start."""
    xy_px: np.ndarray
    """float64 [M, 2], straightened."""
    sigma_px: float
    cameras: np.ndarray
    """float64 [M, 3, 4]."""
    lands_s: np.ndarray
    """float64 [F]: when the flight ends on the ground; NaN where it does not."""
    rises: np.ndarray
    """bool [F]: it begins on the ground."""

    @property
    def flights(self) -> int:
        """F."""
        return len(self.lands_s)


@dataclass(frozen=True)
class Fitted:
    """Flights in space."""

    parameters: np.ndarray
    """float64 [F, 6]."""
    covariance: np.ndarray
    """float64 [F, 6, 6]."""
    error_px: np.ndarray
    """float64 [F]: median distance between where the ball was seen and where the flight shows it."""
    sport: Sport

    def at(self, flight: np.ndarray, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of flights [M] at times [M] since their starts: places [M, 3] m, velocities [M, 3] m/s, and the standard
        deviation [M] of the speed."""
        places, velocities = _states(_nudged(self.parameters), self.sport, flight, time_s)
        speeds = np.linalg.norm(velocities, axis=2)
        slopes = (speeds[:, 1:] - speeds[:, :1]) / _NUDGE
        sigma = np.sqrt(np.maximum(np.einsum("mi,mij,mj->m", slopes, self.covariance[flight], slopes), 0))
        return places[:, 0], velocities[:, 0], sigma


def fit(seen: Observed, sport: Sport) -> Fitted:
    """The flights that agree best with what was seen."""
    parameters = _straight_guess(seen)
    damping = np.full(seen.flights, 1e-2)
    cost, normal, pull = _linearised(parameters, seen, sport)
    for _ in range(_ROUNDS):
        damped = normal + damping[:, None, None] * normal * np.eye(6)
        step = np.linalg.solve(damped, pull[:, :, None])[:, :, 0]
        tried = _linearised(parameters + step, seen, sport)
        better = tried[0] < cost
        parameters = np.where(better[:, None], parameters + step, parameters)
        cost = np.where(better, tried[0], cost)
        normal = np.where(better[:, None, None], tried[1], normal)
        pull = np.where(better[:, None], tried[2], pull)
        damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-6, 1e6)
    places, _ = _states(parameters[:, None], sport, seen.flight, seen.time_s)
    off = np.linalg.norm(_projected(places, seen.cameras)[:, 0] - seen.xy_px, axis=1)
    error_px = np.array([np.median(off[seen.flight == f]) for f in range(seen.flights)])
    return Fitted(parameters, np.linalg.inv(normal), error_px, sport)


def _straight_guess(seen: Observed) -> np.ndarray:
    """Without drag the camera's equations are linear in start and velocity: least squares, [F, 6]."""
    t = seen.time_s
    guess = np.zeros((seen.flights, 6))
    drop = np.stack([0 * t, 0 * t, -GRAVITY_MPS2 * t * t / 2, np.ones_like(t)], axis=1)
    blocks, rights = [], []
    for axis in (0, 1):
        row = seen.cameras[:, axis] - seen.xy_px[:, axis, None] * seen.cameras[:, 2]
        scale = np.linalg.norm(row[:, :3], axis=1, keepdims=True)
        blocks.append(np.concatenate([row[:, :3], row[:, :3] * t[:, None]], axis=1) / scale)
        rights.append(-(row * drop).sum(axis=1) / scale[:, 0])
    prior = np.diag(1e-2 / np.array([*_START_M, *[_SPEED_MPS] * 3]) ** 2)
    for f in range(seen.flights):
        mine = seen.flight == f
        a, b = np.concatenate([block[mine] for block in blocks]), np.concatenate([right[mine] for right in rights])
        guess[f] = np.linalg.solve(a.T @ a + prior, a.T @ b)
    speed = np.linalg.norm(guess[:, 3:], axis=1, keepdims=True)
    guess[:, 3:] *= np.minimum(1, 2 * _SPEED_MPS / np.maximum(speed, 1e-6))
    return guess


def _linearised(parameters: np.ndarray, seen: Observed, sport: Sport) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost [F], normal matrices [F, 6, 6] and gradients [F, 6] downhill."""
    places, _ = _states(_nudged(parameters), sport, seen.flight, seen.time_s)
    shown = _projected(places, seen.cameras)
    off = (seen.xy_px - shown[:, 0]) / seen.sigma_px
    slopes = (shown[:, 1:] - shown[:, :1]) / _NUDGE[:, None] / seen.sigma_px  # [M, 6, 2]
    surprise = (off * off).sum(axis=1) / _DOUBTED**2
    weight = 1 / (1 + surprise)
    cost, normal, pull = np.zeros(seen.flights), np.zeros((seen.flights, 6, 6)), np.zeros((seen.flights, 6))
    np.add.at(cost, seen.flight, _DOUBTED**2 * np.log1p(surprise))
    np.add.at(normal, seen.flight, np.einsum("m,mia,mja->mij", weight, slopes, slopes))
    np.add.at(pull, seen.flight, np.einsum("m,mia,ma->mi", weight, slopes, off))
    for each_cost, each_normal, each_pull in (_beliefs(parameters), _ground(parameters, seen, sport)):
        cost, normal, pull = cost + each_cost, normal + each_normal, pull + each_pull
    return cost, normal, pull


def _beliefs(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The results for all flights."""
    strength = 1 / np.array([*_START_M, *[_SPEED_MPS] * 3]) ** 2
    off = np.array([0, 0, 1.0, 0, 0, 0]) - parameters
    return (strength * off**2).sum(axis=1), np.broadcast_to(np.diag(strength), (len(off), 6, 6)), strength * off


def _ground(parameters: np.ndarray, seen: Observed, sport: Sport) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where flights begin or end on the ground, their height there is the ball's radius."""
    cost, normal, pull = np.zeros(len(parameters)), np.zeros((len(parameters), 6, 6)), np.zeros((len(parameters), 6))
    ends = (seen.rises, np.zeros(seen.flights)), (~np.isnan(seen.lands_s), seen.lands_s)
    for where, at_s in ends:
        which = np.flatnonzero(where)
        if not len(which):
            continue
        height = _states(_nudged(parameters), sport, which, at_s[which])[0][:, :, 2]
        off = (sport.ball_m / 2 - height[:, 0]) / _GROUND_M
        slopes = (height[:, 1:] - height[:, :1]) / _NUDGE / _GROUND_M
        cost[which] += off**2
        normal[which] += slopes[:, :, None] * slopes[:, None, :]
        pull[which] += slopes * off[:, None]
    return cost, normal, pull


def _nudged(parameters: np.ndarray) -> np.ndarray:
    """[F, 7, 6]: the parameters, and with each of them a little larger."""
    return parameters[:, None] + np.concatenate([np.zeros((1, 6)), np.diag(_NUDGE)])


def _states(
    parameters: np.ndarray, sport: Sport, flight: np.ndarray, time_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and velocities [M, V, 3] of V variants [F, V, 6] of flights [M] at times [M] since their starts."""
    flights, variants, _ = parameters.shape
    steps = int(np.ceil(min(LONGEST_S, float(time_s.max(initial=0))) / STEP_S)) + 2
    flat = parameters.reshape(-1, 6)
    path = fly(flat[:, :3], flat[:, 3:], sport, steps=steps, floor=False).reshape(steps, flights, variants, 3)
    exact = np.clip(time_s / STEP_S, 0, steps - 1.001)
    low = exact.astype(int)
    before, after = path[low, flight], path[low + 1, flight]
    return before + (after - before) * (exact - low)[:, None, None], (after - before) / STEP_S


def _projected(places_m: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """World points [M, V, 3] in the pictures of cameras [M, 3, 4], [M, V, 2] px."""
    seen = np.einsum("mij,mvj->mvi", cameras[:, :, :3], places_m) + cameras[:, None, :, 3]
    return seen[..., :2] / np.maximum(seen[..., 2:], 0.05)
