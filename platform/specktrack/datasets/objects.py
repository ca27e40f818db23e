"""Which of the tracks in a label file is the ball, and which tracks are one object.

A file with players, rackets and a ball names its tracks. The ball is the one name of a ball (``ball``, ``Tennis Ball``,
``shuttlecock``), the only name that there is, or what the person says. Tracks of other names are left out.

Among the tracks of the ball a number in the name tells objects apart (``ball-2`` is object 2). Others are one object
as long as they do not contradict each other, because people split one ball into many tracks: in a frame that two
share they must lie together. The first is object 0. Where the file says which ball is in the game (WASB's soccer), the
others are objects from 1 on.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specktrack.datasets.lines import Line, Track
from specktrack.schema import Visibility

_BALL = re.compile(
    r"(ball|shuttle|shuttlecock|cock|birdie|puck|drone|uav|pelota|balle|ballon|bal[oó]n|bola|palla|volant|мяч|공|球|ボール)s?"
)
"""How the name of a ball ends; a ball boy is none."""
_WORDS = {
    **dict.fromkeys(("occluded", "occlusion", "hidden", "covered", "invisible"), Visibility.OCCLUDED),
    **dict.fromkeys(("blurred", "blurry", "blur"), Visibility.BLURRED),
    **dict.fromkeys(("visible", "clear", "point"), None),
}
"""Words of a label that say how the object is seen; ``point`` is ours, see label_studio."""
NEAR_SHARE = 0.01
"""Of the picture's width: within it two positions in one frame are of one ball, drawn twice."""


@dataclass(frozen=True)
class Name:
    """Text and attributes of a label."""

    text: str
    """Lower case, without number and visibility."""
    number: int | None
    """Of the object."""
    visibility: Visibility | None

    @property
    def is_ball(self) -> bool:
        """Whether it is known to name a ball."""
        return re.search(rf"{_BALL.pattern}$", self.text) is not None


@dataclass(frozen=True)
class Objects:
    """Lines whose tracks have become objects."""

    lines: list[Line]
    """``track`` is the number of the object; no object twice in a frame."""
    kept: list[int]
    """Which of the lines they were."""
    notes: list[str]
    problems: list[str]


def read_label(label: str) -> Name:
    """A label in its parts: ``Ball_occluded`` is an occluded ball, ``ball-2`` the ball that is object 2."""
    said = re.split(r"[\W_]+", label.casefold())
    words = [word for word in said if word and word not in _WORDS]
    if words and (joined := re.fullmatch(r"(.*[^\W\d_])(\d+)", words[-1])):  # ball2
        words[-1:] = joined.groups()
    number = int(words.pop()) if len(words) > 1 and re.fullmatch(r"[0-9]{1,5}", words[-1]) else None
    return Name(" ".join(words), number, next((_WORDS[word] for word in said if _WORDS.get(word)), None))


def choose_objects(
    lines: Sequence[Line],
    tracks: Mapping[int, Track],
    xy_px: np.ndarray,
    wh_px: np.ndarray,
    *,
    label: str | None,
    near_px: float,
) -> Objects:
    """The lines of the ball, with objects instead of their tracks; ``label`` is the name that the person gave it.

    ``near_px`` is the distance within which two positions in a frame are of one object.
    """
    if not tracks:
        return _numbered(lines)
    names = {number: read_label(track.label) for number, track in tracks.items()}
    chosen, notes, problems = _chosen(tracks, names, label)
    if problems:
        return Objects([], [], [], problems)
    members: dict[int, list[int]] = {number: [] for number in chosen}
    for i, line in enumerate(lines):
        if line.track in members:
            members[line.track].append(i)
    first = min((_number(tracks[number], names[number]) or 0 for number in chosen), default=0)
    taken: dict[int, dict[int | str, int]] = {}
    for number in sorted(chosen, key=lambda number: tracks[number].primary is False):
        track, name = tracks[number], names[number]
        fixed = _number(track, name)
        place = int(track.primary is False) if fixed is None else fixed - first
        mine = members[number]
        while (frame := _contradiction(mine, taken.get(place, {}), lines, xy_px, wh_px, near_px)) is not None:
            if fixed is not None:
                problems.append(f"has an object twice in one frame: {track.label or place} in frame {frame}")
                break
            if track.primary is None:
                what = f"two of {track.label!r}" if track.label else "two objects"
                notes.append(f"{what} are in frame {frame}; the one that comes first in the file is object {place}")
            place += 1
        held = taken.setdefault(place, {})
        for i in mine:
            other = held.get(lines[i].frame)
            if other is None or (lines[other].interpolated and not lines[i].interpolated):
                held[lines[i].frame] = i
    kept = sorted((i, number) for number, held in taken.items() for i in held.values())
    read = [_seen(replace(lines[i], track=number), names[lines[i].track]) for i, number in kept]
    return Objects(read, [i for i, _ in kept], list(dict.fromkeys(notes)), problems)


def _numbered(lines: Sequence[Line]) -> Objects:
    """Lines of a file that numbers its objects."""
    twice = [pair for pair, count in Counter((line.track, line.frame) for line in lines).items() if count > 1]
    problems = [f"has an object twice in one frame: {number} in frame {frame}" for number, frame in twice[:1]]
    return Objects(list(lines), list(range(len(lines))), [], problems)


def _number(track: Track, name: Name) -> int | None:
    return name.number if track.number is None else track.number


def _seen(line: Line, name: Name) -> Line:
    """The line with what its label says of visibility."""
    better = line.visibility is Visibility.CLEAR and name.visibility is not None
    return replace(line, visibility=name.visibility) if better and name.visibility else line


def _chosen(
    tracks: Mapping[int, Track], names: Mapping[int, Name], label: str | None
) -> tuple[list[int], list[str], list[str]]:
    """Numbers of the ball's tracks, and notes and problems about the choice."""
    listed = Counter(track.label for track in tracks.values() if track.label)
    shown = ", ".join(sorted(listed))
    if label is not None:
        wanted = read_label(label).text
        exact = [number for number, track in tracks.items() if track.label.casefold() == label.casefold()]
        mine = exact or [number for number, name in names.items() if name.text == wanted]
        if not mine:
            return [], [], [f"has no label {label!r}; it has {shown or 'none'}"]
    else:
        known = {name.text for name in names.values() if name.text}
        balls = {name.text for name in names.values() if name.text and name.is_ball}
        if len(known) > 1 and len(balls) != 1:
            which = "several labels known as a ball" if balls else "several labels, none of them known as a ball"
            return [], [], [f"has {which}: {shown}; --label names the one to take"]
        wanted = next(iter(balls or known), "")
        mine = [number for number, name in names.items() if name.text in (wanted, "")]
    others = Counter(track.label for number, track in tracks.items() if number not in set(mine))
    if not others:
        strange = label is None and re.search(r"[^\W\d]", wanted) and not read_label(wanted).is_ball
        return mine, [f"the ball is taken to be {shown!r}, the only label"] if strange else [], []
    taken = ", ".join(sorted({tracks[number].label for number in mine if tracks[number].label}))
    left = ", ".join(f"{name} ({count})" for name, count in sorted(others.items()))
    return mine, [f"the ball is {taken!r}; tracks of other labels are left out: {left}"], []


def _contradiction(
    members: Sequence[int],
    held: Mapping[int | str, int],
    lines: Sequence[Line],
    xy_px: np.ndarray,
    wh_px: np.ndarray,
    near_px: float,
) -> int | str | None:
    """The first frame in which the lines lie apart from those that the object has; None if there is none."""
    for i in members:
        j = held.get(lines[i].frame)
        if j is None or not np.isfinite(xy_px[[i, j]]).all():
            continue
        size = np.nanmax(np.concatenate([[near_px], wh_px[i], wh_px[j]]))
        if np.linalg.norm(xy_px[i] - xy_px[j]) > size:
            return lines[i].frame
    return None
