"""Rallies in metres and seconds: where the ball and the players are at any time of a rendered video.

World axes: X to the right, Y away from the camera, Z up; the net stands at Y = 0, the near side is Y < 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specktrack.schema import Event

STEP_S = 1 / 120
"""Step of the flight's integration; the ball moves in a straight line within a step (chord error 0.1 mm)."""
GRAVITY_MPS2 = 9.81
LEAST_BOUNCE_MPS = 0.8
"""Contacts with the floor that are slower are rolling."""


@dataclass(frozen=True)
class Sport:
    """Physical constants of one sport's ball and court."""

    name: str
    court_wl_m: tuple[float, float]
    net_m: float
    ball_m: float
    drag_per_m: float
    """k in a = -k |v| v: g / (terminal velocity)^2."""
    restitution: float
    speed_mps: tuple[float, float]
    """Range of speeds that leave the racket or hand."""
    elevation_deg: tuple[float, float]
    hit_after_bounce: bool
    feathered: bool = False


SPORTS = (
    Sport(
        "badminton", (6.1, 13.4), 1.55, 0.066, 0.21, 0.15, (7, 70), (-18, 65), hit_after_bounce=False, feathered=True
    ),
    Sport("tennis", (10.97, 23.77), 0.95, 0.067, 0.019, 0.74, (14, 46), (-6, 32), hit_after_bounce=True),
    Sport("volleyball", (8.0, 16.0), 2.4, 0.21, 0.033, 0.65, (6, 19), (-12, 70), hit_after_bounce=False),
    Sport("pickleball", (6.1, 13.4), 0.9, 0.074, 0.06, 0.62, (6, 22), (-6, 45), hit_after_bounce=True),
)


@dataclass(frozen=True)
class Player:
    """One player's way across the court and the moments of its strokes."""

    side: int
    """-1 near the camera, +1 far."""
    time_s: np.ndarray
    """float64 [K], rising: when the player is at xy_m."""
    xy_m: np.ndarray
    """float64 [K, 2]."""
    hit_s: np.ndarray
    """float64 [M]: moments of strokes."""
    height_m: float
    handed: int
    """-1 or +1: the side of the racket arm."""

    def at(self, time_s: float) -> np.ndarray:
        """Position on the floor, [2], m; eased so that nobody starts or stops at once."""
        i = int(np.clip(np.searchsorted(self.time_s, time_s) - 1, 0, len(self.time_s) - 2))
        share = np.clip((time_s - self.time_s[i]) / (self.time_s[i + 1] - self.time_s[i]), 0, 1)
        return self.xy_m[i] + (self.xy_m[i + 1] - self.xy_m[i]) * (share * share * (3 - 2 * share))


@dataclass(frozen=True)
class Happening:
    """One event of a simulated video."""

    event: Event
    time_s: float
    rally: int
    """Number of the rally that it belongs to, from 0."""


@dataclass(frozen=True)
class Rally:
    """A whole video's play: the ball on a grid of STEP_S, the players, and what happens."""

    sport: Sport
    xyz_m: np.ndarray
    """float64 [K, 3]; NaN if there is no ball."""
    players: tuple[Player, ...]
    happenings: tuple[Happening, ...]
    """In the order of time."""

    def ball(self, time_s: np.ndarray) -> np.ndarray:
        """Position at times [N], [N, 3] m; NaN where the ball is not in the scene at any neighbouring step."""
        steps = np.clip(np.asarray(time_s) / STEP_S, 0, len(self.xyz_m) - 1.001)
        low = steps.astype(int)
        share = (steps - low)[:, None]
        return self.xyz_m[low] * (1 - share) + self.xyz_m[low + 1] * share


def fly(start_m: np.ndarray, velocity_mps: np.ndarray, sport: Sport, *, steps: int, floor: bool = True) -> np.ndarray:
    """Integrate K flights with gravity, quadratic drag and bounces: positions [steps, K, 3], the start included.

    Without a ``floor`` nothing bounces.
    """
    position, velocity = np.array(start_m, float), np.array(velocity_mps, float)
    path = np.empty((steps, *position.shape))
    radius = sport.ball_m / 2 if floor else -np.inf
    for i in range(steps):
        path[i] = position
        velocity[:, 2] -= GRAVITY_MPS2 * STEP_S
        speed = np.sqrt((velocity * velocity).sum(axis=1, keepdims=True))
        velocity /= 1 + sport.drag_per_m * speed * STEP_S  # implicit in the drag: stable at a smash's 70 m/s
        position = position + velocity * STEP_S
        below = position[:, 2] < radius
        if below.any():
            position[below, 2] = radius
            velocity[below, 2] *= -sport.restitution
            velocity[below, :2] *= 0.72
            resting = below & (velocity[:, 2] < 0.4)
            velocity[resting, 2] = 0
            velocity[resting, :2] *= 0.9
    return path


def shoot(random: np.random.Generator, start_m: np.ndarray, sport: Sport, *, side: int) -> np.ndarray:
    """One stroke from ``start_m`` by the player of ``side``: the flight [steps, 3] that best finds a random target."""
    width, length = sport.court_wl_m
    target = np.array([random.uniform(-0.5, 0.5) * width, -side * random.uniform(0.12, 0.52) * length])
    candidates = 40
    low, high = sport.speed_mps
    speed = low * (high / low) ** random.random(candidates)
    elevation = np.radians(random.uniform(*sport.elevation_deg, candidates))
    heading = np.arctan2(target[1] - start_m[1], target[0] - start_m[0]) + random.normal(0, 0.03, candidates)
    velocity = speed[:, None] * np.stack(
        [np.cos(elevation) * np.cos(heading), np.cos(elevation) * np.sin(heading), np.sin(elevation)], axis=1
    )
    path = fly(np.repeat(start_m[None], candidates, axis=0), velocity, sport, steps=360)
    each = np.arange(candidates)
    landing = np.argmax(path[1:, :, 2] <= sport.ball_m / 2 + 1e-9, axis=0) + 1
    crossing = np.argmax(path[:, :, 1] * side < 0, axis=0)
    miss = np.hypot(*(path[landing, each, :2] - target).T)
    miss += 6.0 * (path[crossing, each, 2] < sport.net_m) + 20.0 * (crossing == 0)
    good = np.flatnonzero(miss < max(1.5, np.sort(miss)[2]))
    return path[:, int(random.choice(good))]


def play(random: np.random.Generator, sport: Sport, *, duration_s: float, doubles: bool) -> Rally:
    """Simulate rallies for ``duration_s``: serve, strokes, a dead ball, a pause without a ball, and again."""
    steps = int(duration_s / STEP_S) + 3
    pieces: list[np.ndarray] = []
    hits: list[tuple[int, int, np.ndarray]] = []  # (step, side, ball)
    struck: list[int] = []
    spans: list[tuple[int, int]] = []  # steps of the serve and of the dead ball
    total = -int(random.uniform(0, 1.5) / STEP_S)  # begin somewhere inside the first rally
    skip = -total
    side = int(random.choice([-1, 1]))
    while total < steps:
        width, length = sport.court_wl_m
        server = np.array([random.uniform(-0.3, 0.3) * width, side * random.uniform(0.2, 0.48) * length, 1.1])
        held = np.repeat(server[None], int(random.uniform(0.15, 0.9) / STEP_S), axis=0)
        pieces.append(held)
        total += len(held)
        flight, strokes, last, dead = _exchange(random, server, sport, side=side)
        spans.append((total, total + dead))
        struck += sorted({total + step for step in (*(step for step, *_ in strokes), last)})
        hits += [(total + step, by, ball) for step, by, ball in strokes]
        pieces.append(flight)
        total += len(flight)
        pieces.append(np.full((int(random.uniform(0.2, 1.4) / STEP_S), 3), np.nan))
        total += len(pieces[-1])
        side = int(random.choice([-1, 1]))
    xyz_m = np.concatenate(pieces)[skip : skip + steps]
    players = _players(random, sport, hits, duration_s=duration_s, doubles=doubles)
    return Rally(sport, xyz_m, players, _happenings(xyz_m, sport, struck, spans))


def _happenings(
    xyz_m: np.ndarray, sport: Sport, strokes: Sequence[int], spans: Sequence[tuple[int, int]]
) -> tuple[Happening, ...]:
    """Everything that happens within the video, from the steps of strokes and of each rally's serve and dead ball."""
    serves = [serve for serve, _ in spans]
    found = [(step, Event.SERVE if step in serves else Event.HIT) for step in strokes]
    found += [(step, Event.BOUNCE) for step in _bounces(xyz_m[:, 2], sport.ball_m / 2)]
    for serve, dead in spans:
        found += [(serve, Event.RALLY_START), (dead, Event.RALLY_END)]
        y = xyz_m[max(serve, 0) : max(dead, 0), 1]
        found += [(max(serve, 0) + int(i) + 1, Event.NET) for i in np.flatnonzero(y[1:] * y[:-1] < 0)]
    order = list(Event)
    found.sort(key=lambda each: (each[0], order.index(each[1])))
    return tuple(
        Happening(event, step * STEP_S, max(0, int(np.searchsorted(serves, step, "right")) - 1))
        for step, event in found
        if 0 <= step < len(xyz_m)
    )


def _bounces(z_m: np.ndarray, radius_m: float) -> list[int]:
    """Steps at which the ball meets the floor, from heights [K]."""
    low = z_m <= radius_m + 1e-9
    first = np.flatnonzero(low[2:] & ~low[1:-1]) + 2
    falling = (z_m[first - 2] - z_m[first - 1]) / STEP_S
    return [int(step) for step in first[falling >= LEAST_BOUNCE_MPS]]


def _exchange(
    random: np.random.Generator, server_m: np.ndarray, sport: Sport, *, side: int
) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]], int, int]:
    """Strokes to and fro until someone misses: the ball [K, 3]; (step, side, ball) of each stroke whose player is seen
    to swing; the steps of the last stroke and of the dead ball."""
    pieces: list[np.ndarray] = []
    strokes: list[tuple[int, int, np.ndarray]] = []
    ball, total = server_m, 0
    for _ in range(1 + int(random.geometric(0.12))):
        strokes.append((total, side, ball))
        path = shoot(random, ball, sport, side=side)
        meet = _intercept(random, path, sport, side=side)
        if meet is None:
            break
        pieces.append(path[:meet])
        total += meet
        ball, side = path[meet], -side
    else:
        path = shoot(random, ball, sport, side=side)
    grounded = int(np.argmax(path[:, 2] <= sport.ball_m / 2 + 1e-9))
    pieces.append(path[: min(len(path), grounded + int(random.uniform(0.1, 1.2) / STEP_S))])
    return np.concatenate(pieces), strokes, total, total + grounded


def _intercept(random: np.random.Generator, path: np.ndarray, sport: Sport, *, side: int) -> int | None:
    """Step at which the other side strikes the ball back, None if it cannot."""
    length = sport.court_wl_m[1]
    beyond = (-side * path[:, 1] > 0.05 * length) & (-side * path[:, 1] < 0.62 * length)
    grounded = int(np.argmax(path[:, 2] <= sport.ball_m / 2 + 1e-9)) or len(path)
    bounced = np.arange(len(path)) > grounded
    if sport.hit_after_bounce and random.random() < 0.85:
        again = grounded + 1 + int(np.argmax(path[grounded + 2 :, 2] <= sport.ball_m / 2 + 1e-9))
        ready = beyond & bounced & (np.arange(len(path)) < max(again, grounded + 12)) & (path[:, 2] > 0.35)
    else:
        ready = beyond & ~bounced & (path[:, 2] < 2.9) & (path[:, 2] > 0.3)
    choices = np.flatnonzero(ready)
    return int(random.choice(choices[len(choices) // 4 :])) if len(choices) else None


def _players(
    random: np.random.Generator,
    sport: Sport,
    hits: Sequence[tuple[int, int, np.ndarray]],
    *,
    duration_s: float,
    doubles: bool,
) -> tuple[Player, ...]:
    """Players who are at the ball when it is struck and go back to their base in between."""
    width, length = sport.court_wl_m
    players = []
    for side in (-1, 1):
        mine = [(step * STEP_S, ball) for step, by, ball in hits if by == side]
        bases = [0.0] if not doubles else [-0.25 * width, 0.25 * width]
        taken = random.integers(len(bases), size=len(mine))
        for slot, base_x in enumerate(bases):
            base = np.array([base_x, side * length * random.uniform(0.22, 0.36)])
            handed = int(random.choice([-1, 1], p=[0.15, 0.85]))
            strokes = [stroke for stroke, who in zip(mine, taken, strict=True) if who == slot]
            keys = [(-4.0, base + random.normal(0, 0.6, 2))]
            for time_s, ball in strokes:
                keys.append(
                    (
                        time_s,
                        ball[:2] - np.array([handed * random.uniform(-0.15, 0.5), -side * random.uniform(0.05, 0.5)]),
                    )
                )
                keys.append((time_s + random.uniform(0.6, 1.0), base + random.normal(0, 0.7, 2)))
            keys.append((duration_s + 4.0, base + random.normal(0, 0.7, 2)))
            keys.sort(key=lambda key: key[0])
            spaced = [keys[0]]
            for key in keys[1:]:
                if key[0] - spaced[-1][0] > 0.15:
                    spaced.append(key)
            players.append(
                Player(
                    side=side,
                    time_s=np.array([time_s for time_s, _ in spaced]),
                    xy_m=np.array([xy for _, xy in spaced]),
                    hit_s=np.array([time_s for time_s, _ in strokes]),
                    height_m=random.uniform(1.6, 2.0),
                    handed=handed,
                )
            )
    return tuple(players)
