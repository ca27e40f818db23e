"""Which videos train and which test: the papers' splits, and an honest one for any dataset.

A split gives whole videos to a part, never frames or windows: neighbouring windows share their frames, so a split by
window measures memory (TrackNetV5 was printed with one).

    tennis-game      TrackNetV4 i:  games 1, 4, 9 test
    tennis-clip      TrackNetV4 ii: whole clips, 70 % of all frames train; the published list where its clips are there
    shuttlecock      TrackNetV3: train (or Professional and Amateur) and Test; the last rally of each match validates
    shuttlecock-2020 TrackNetV2 and V4: Professional matches 1 to 15 and Amateur train; those added later are left out
    wasb-SPORT       WASB: soccer, tennis, badminton, volleyball, basketball
    video, match     any dataset: videos or matches drawn by seed until each part has its share of the frames
"""

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from specktrack.config import Config
from specktrack.datasets.dataset import Dataset, make_dataset, save_dataset
from specktrack.errors import ConfigError
from specktrack.storage import open_store

Parts = dict[str, set[str]]
"""URIs of the videos of each part: train, val, test."""

TENNIS_TEST_GAMES = frozenset({1, 4, 9})
TENNIS_TRAIN_SHARE = 0.7
TENNIS_TEST_CLIPS = frozenset(
    (game, clip)
    for game, clips in {
        1: (8, 10, 12), 2: (1, 6, 7, 8), 3: (6, 7, 9), 4: (2, 4), 5: (1, 2, 6, 15), 7: (7,), 8: (1, 2, 4, 6),
        9: (3, 6), 10: (2, 5, 7, 12),
    }.items()
    for clip in clips
)  # fmt: skip
"""TrackNetV4's clip-level test set as its authors published it: clips drawn at random by cumulative frames."""

SHUTTLECOCK_2020_MATCHES = 15
"""Professional matches of TrackNetV2's paper, 55,563 frames with the amateur ones; today's download has 23."""
SHUTTLECOCK_AMATEUR = frozenset({24, 25, 26})
"""Their numbers where TrackNetV3 keeps all training matches in one folder."""

WASB_TEST: Mapping[str, frozenset[str]] = {
    "soccer": frozenset({"ID-5", "ID-6"}),
    "tennis": frozenset({"8", "9", "10"}),
    "volleyball": frozenset(str(game) for game in (4, 5, 9, 11, 14, 20, 21, 25, 29, 34, 35, 37, 43, 44, 45, 47)),
    "basketball": frozenset(
        f"2180{number:04d}"
        for number in (
            965, 970, 974, 977, 978, 988, 1007, 1038, 1049, 1050, 1063, 1070, 1071, 1076, 1077, 1078, 1079, 1096, 1105,
            1120, 1123, 1129, 1152, 1153, 1159, 1162, 1165, 1188, 1204, 1229,
        )
    ),
}  # fmt: skip
"""WASB (BMVC 2023): the test games of each sport; all others train."""


def tennis_place(video_uri: str) -> tuple[int, int]:
    """(game, clip) of a video of the tennis dataset, from ``.../game3/Clip2/``; ConfigError if it is not one."""
    found = re.search(r"game[_ ]?(\d+)/clip[_ ]?(\d+)", unquote(video_uri), re.IGNORECASE)
    if not found:
        raise ConfigError("not a clip of the tennis dataset", video_uri, remedy="its folders look like game3/Clip2")
    return int(found[1]), int(found[2])


def _tennis_game(uri: str) -> str:
    return "test" if tennis_place(uri)[0] in TENNIS_TEST_GAMES else "train"


def _wasb_tennis(uri: str) -> str | None:
    found = re.search(r"game[_ ]?(\d+)/clip", unquote(uri), re.IGNORECASE)
    return None if found is None else "test" if found[1] in WASB_TEST["tennis"] else "train"


def _shuttlecock(uri: str) -> str | None:
    """From ``train/match3/``, ``Professional/match3/``, ``Test/match1/`` or ``test_match1/``."""
    place = _shuttlecock_place(uri)
    return None if place is None else "test" if place[0] == "test" else "train"


def _shuttlecock_2020(uri: str) -> str | None:
    """The same; matches that came after the papers are of the part ``later``."""
    place = _shuttlecock_place(uri)
    if place is None:
        return None
    folder, match = place
    if folder == "test":
        return "test"
    amateur = folder == "amateur" or (folder == "train" and match in SHUTTLECOCK_AMATEUR)
    return "train" if amateur or match <= SHUTTLECOCK_2020_MATCHES else "later"


def _shuttlecock_place(uri: str) -> tuple[str, int] | None:
    """The folder in small letters, and the match."""
    found = re.search(r"(?:^|[/_])(train|professional|amateur|test)[/_]match_?(\d+)/", unquote(uri), re.IGNORECASE)
    return None if found is None else (found[1].lower(), int(found[2]))


def _soccer(uri: str) -> str | None:
    found = re.search(r"/(ID-\d+)(?:\.\w+)?/?$", unquote(uri))
    return None if found is None else "test" if found[1] in WASB_TEST["soccer"] else "train"


def _of_game(sport: str) -> Callable[[str], str | None]:
    """The game is the folder that holds the clip."""

    def part(uri: str) -> str | None:
        game = PurePosixPath(unquote(uri).rstrip("/")).parent.name
        return None if not game.isdigit() else "test" if game in WASB_TEST[sport] else "train"

    return part


BY_NAME: Mapping[str, Callable[[str], str | None]] = {
    "tennis-game": _tennis_game,
    "shuttlecock": _shuttlecock,
    "shuttlecock-2020": _shuttlecock_2020,
    "wasb-soccer": _soccer,
    "wasb-tennis": _wasb_tennis,
    "wasb-badminton": _shuttlecock,
    "wasb-volleyball": _of_game("volleyball"),
    "wasb-basketball": _of_game("basketball"),
}
"""Splits in which a video's name says its part, or that it is of none (any other word); None where it says nothing."""

PUBLISHED = (*BY_NAME, "tennis-clip")
DRAWN = ("match", "video")
SPLITS = (*PUBLISHED, *DRAWN)


def tennis_clip(frames: Mapping[str, int]) -> Parts:
    """The published list where all its clips are there; else in order of game and clip until 70 % of frames train."""
    places = {uri: tennis_place(uri) for uri in frames}
    if set(places.values()) >= TENNIS_TEST_CLIPS:
        test = {uri for uri, place in places.items() if place in TENNIS_TEST_CLIPS}
    else:
        order = sorted(frames, key=places.__getitem__)
        before = np.cumsum([0, *(frames[uri] for uri in order[:-1])])
        test = {uri for uri, n in zip(order, before, strict=True) if n >= TENNIS_TRAIN_SHARE * sum(frames.values())}
    return {"train": set(frames) - test, "test": test}


def match_of(uri: str) -> str:
    """The group of videos that share court and players: the path up to its match or game, or else its folder."""
    path = unquote(uri).rstrip("/")
    found = re.match(r".*/[^/]*(?:match|game)[_ -]?\d+(?=/)", path, re.IGNORECASE)
    parent = re.sub(r"/(videos?|frames?|images)$", "", path.rpartition("/")[0], flags=re.IGNORECASE)
    return found[0] if found else parent


def _drawn(frames: Mapping[str, int], group_of: Callable[[str], str], shares: Mapping[str, float], seed: int) -> Parts:
    """Groups in an order drawn by ``seed`` go to a part until it has its share of the frames; the rest trains."""
    groups: dict[str, list[str]] = {}
    for uri in sorted(frames):
        groups.setdefault(group_of(uri), []).append(uri)
    waiting = [list(groups)[i] for i in np.random.default_rng([seed, len(groups)]).permutation(len(groups))]
    wanted = {part: share for part, share in shares.items() if share}
    if len(waiting) <= len(wanted):
        raise ConfigError(
            f"{len(waiting)} groups of videos cannot be divided among train, {', '.join(wanted)}", sorted(groups),
            remedy="split by 'video', or set a share to 0",
        )  # fmt: skip
    parts: Parts = {}
    for number, (part, share) in enumerate(wanted.items()):
        chosen: set[str] = set()
        keep = len(wanted) - number  # one group at least for every part to come
        while len(waiting) > keep and (
            not chosen or sum(map(frames.__getitem__, chosen)) < share * sum(frames.values())
        ):
            chosen.update(groups[waiting.pop()])
        parts[part] = chosen
    return {"train": {uri for group in waiting for uri in groups[group]}, **parts}


def split_videos(
    by: str, frames: Mapping[str, int], *, test_share: float = 0.2, val_share: float = 0.1, seed: int = 0
) -> Parts:
    """Parts of the videos in ``frames`` (labelled frames by URI); ConfigError if a part would be empty."""
    if by not in SPLITS:
        raise ConfigError("no such split", by, remedy=f"one of {', '.join(SPLITS)}")
    if by in ("video", "match"):
        group_of: Callable[[str], str] = match_of if by == "match" else str
        return _drawn(frames, group_of, {"test": test_share, "val": val_share}, seed)
    if by == "tennis-clip":
        parts = tennis_clip(frames)
    else:
        named = {uri: BY_NAME[by](uri) for uri in frames}
        if strangers := [uri for uri, part in named.items() if part is None]:
            raise ConfigError(f"its name does not belong to the {by} split", strangers[0], remedy="split by 'video'")
        parts = {name: {uri for uri in frames if named[uri] == name} for name in ("train", "test")}
    if by == "shuttlecock":
        last = {match_of(uri): uri for uri in sorted(parts["train"])}  # TrackNetV3: the last rally of each match
        parts = {"train": parts["train"] - set(last.values()), "val": set(last.values()), "test": parts["test"]}
    if empty := [name for name, uris in parts.items() if not uris]:
        raise ConfigError(f"no video belongs to the part {empty[0]!r}", by, remedy="split by 'video'")
    return parts


class SplitReport(Config):
    """One part of a split, as it was written."""

    part: str
    uri: str
    videos: int
    labelled_frames: int


def split_dataset(
    dataset: Dataset, destination: str, by: str, *, test_share: float = 0.2, val_share: float = 0.1, seed: int = 0
) -> list[SplitReport]:
    """Write each part of a dataset as a dataset of its own below ``destination``; all refer to the same videos.

    The keywords are those of ``split_videos``. The card tells the split and the part.
    """
    primary = dataset.rows.filter(pc.equal(dataset.rows["object"], 0))
    counts = dict(zip(*(column.to_pylist() for column in primary["video"].value_counts().flatten()), strict=True))
    frames = {video.ref.uri: counts.get(video.ref.uri, 0) for video in dataset.card.videos}
    reports = []
    parts = split_videos(by, frames, test_share=test_share, val_share=val_share, seed=seed)
    for part, uris in parts.items():
        rows = dataset.rows.filter(pc.is_in(dataset.rows["video"], pa.array(sorted(uris), pa.string())))
        piece = make_dataset(
            rows,
            tuple(video for video in dataset.card.videos if video.ref.uri in uris),
            name=f"{dataset.card.name}-{part}",
            layout=dataset.card.format,
            source=dataset.card.source,
            notes=dataset.card.notes,
            split=f"{by}/{part}",
        )
        store = open_store(f"{destination.rstrip('/')}/{part}")
        save_dataset(piece, store)
        labelled = sum(frames[uri] for uri in uris)
        reports.append(SplitReport(part=part, uri=store.uri, videos=len(uris), labelled_frames=labelled))
    return reports
