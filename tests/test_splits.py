"""Splits: the papers' lists, and honest draws that never cut a match in two."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from specktrack.cli.main import main
from specktrack.datasets import load_dataset
from specktrack.datasets.dataset import Dataset, DatasetVideo, make_dataset, save_dataset
from specktrack.datasets.splits import (
    SPLITS,
    TENNIS_TEST_CLIPS,
    WASB_TEST,
    match_of,
    split_dataset,
    split_videos,
    tennis_place,
)
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import VideoRef
from specktrack.storage import open_store

TENNIS_CLIPS = {1: 13, 2: 8, 3: 9, 4: 7, 5: 15, 6: 4, 7: 9, 8: 9, 9: 9, 10: 12}
"""Clips of each of the ten games."""


def tennis(frames: int = 100) -> dict[str, int]:
    return {f"s3://b/game{game}/Clip{clip}/": frames for game, n in TENNIS_CLIPS.items() for clip in range(1, n + 1)}


def labelled(frames: Mapping[str, int]) -> Dataset:
    import pyarrow as pa

    videos, tables = [], []
    for uri, n in frames.items():
        ref = VideoRef(uri=uri, etag="", size_bytes=0)
        videos.append(DatasetVideo(ref=ref, width_px=64, height_px=48, fps=30, frames=n, labels_only=True))
        xy = np.full((n, 2), 5, np.float32)
        tables.append(Trajectory(np.arange(n), np.arange(n) / 30, xy, np.full(n, np.nan, np.float32)).to_rows(uri))
    return make_dataset(pa.concat_tables(tables), tuple(videos), name="all", layout="rows", source="test", notes=("n",))


def test_tennis_by_game() -> None:
    parts = split_videos("tennis-game", tennis())
    assert {tennis_place(uri)[0] for uri in parts["train"]} == {2, 3, 5, 6, 7, 8, 10}
    assert {tennis_place(uri)[0] for uri in parts["test"]} == {1, 4, 9}
    assert sum(map(len, parts.values())) == 95


def test_tennis_by_clip_is_the_published_list() -> None:
    parts = split_videos("tennis-clip", tennis())
    assert {tennis_place(uri) for uri in parts["test"]} == TENNIS_TEST_CLIPS
    assert (len(parts["train"]), len(parts["test"])) == (68, 27)


def test_tennis_by_clip_of_another_selection_goes_by_cumulative_frames() -> None:
    frames = {f"s3://b/game{game}/Clip1/": n for game, n in ((1, 50), (2, 30), (10, 10), (3, 10))}
    parts = split_videos("tennis-clip", frames)
    assert parts["test"] == {"s3://b/game3/Clip1/", "s3://b/game10/Clip1/"}, "70 of 100 frames lie before game 3"


def test_shuttlecock_validates_on_the_last_rally_of_each_match() -> None:
    names = ["train/match1/video/1_01_00", "train/match1/video/1_02_00", "Professional/match2/video/1_01_00"]
    names += ["Amateur/match1/video/a", "Amateur/match1/video/b", "Test/match1/video/1_05_02"]
    parts = split_videos("shuttlecock", {f"file:///d/{name}.mp4": 10 for name in names})
    short = {part: sorted(uri.split("/d/")[1].removesuffix(".mp4") for uri in uris) for part, uris in parts.items()}
    assert short["train"] == ["Amateur/match1/video/a", "train/match1/video/1_01_00"]
    assert short["val"] == [
        "Amateur/match1/video/b", "Professional/match2/video/1_01_00", "train/match1/video/1_02_00",
    ]  # fmt: skip
    assert short["test"] == ["Test/match1/video/1_05_02"]


def test_the_badminton_set_of_2020_leaves_out_the_matches_that_came_later() -> None:
    names = ["train/match15", "train/match16", "train/match23", "train/match24", "train/match26", "test/match1"]
    names += ["Professional/match1", "Professional/match16", "Amateur/match3"]
    parts = split_videos("shuttlecock-2020", {f"file:///d/{name}/video/1_01_00.mp4": 10 for name in names})
    short = {part: {uri.split("/d/")[1].split("/video")[0] for uri in uris} for part, uris in parts.items()}
    assert short == {
        "train": {"train/match15", "train/match24", "train/match26", "Professional/match1", "Amateur/match3"},
        "test": {"test/match1"},
    }


@pytest.mark.parametrize(
    ("by", "train", "test"),
    [
        ("wasb-soccer", "frames/ID-4/", "frames/ID-6/"),
        ("wasb-soccer", "videos/ID-1.avi", "videos/ID-5.avi"),
        ("wasb-tennis", "game7/Clip1/", "game10/Clip1/"),
        ("wasb-badminton", "match3/frame/1_01_00/", "test_match1/frame/1_01_00/"),
        ("wasb-volleyball", "videos/3/3596/", "videos/47/3596/"),
        ("wasb-basketball", "videos/21800900/12/", "videos/21801229/12/"),
    ],
)
def test_wasb_lists(by: str, train: str, test: str) -> None:
    if by == "wasb-badminton":
        train = f"train/{train}"
    parts = split_videos(by, {f"s3://b/{train}": 1, f"s3://b/{test}": 1})
    assert parts == {"train": {f"s3://b/{train}"}, "test": {f"s3://b/{test}"}}


def test_wasb_has_the_published_numbers_of_test_games() -> None:
    assert {sport: len(games) for sport, games in WASB_TEST.items()} == {
        "soccer": 2, "tennis": 3, "volleyball": 16, "basketball": 30,
    }  # fmt: skip


def test_matches_stay_whole_and_the_draw_follows_the_seed() -> None:
    frames = {f"s3://b/match{m}/video/{r}.mp4": 10 for m in range(10) for r in range(5)}
    parts = split_videos("match", frames, seed=3)
    assert {part: len(uris) for part, uris in parts.items()} == {"train": 35, "test": 10, "val": 5}
    matches = [{match_of(uri) for uri in uris} for uris in parts.values()]
    assert sum(map(len, matches)) == len(set.union(*matches)) == 10
    assert parts == split_videos("match", dict(reversed(frames.items())), seed=3)
    assert parts != split_videos("match", frames, seed=4)
    assert set(split_videos("video", frames, val_share=0)) == {"train", "test"}


def test_a_share_that_cannot_be_had_is_refused() -> None:
    flat = {f"file:///clips/{n}.mp4": 10 for n in range(5)}
    with pytest.raises(ConfigError, match=r"1 groups of videos cannot be divided among train, test, val.*'video'"):
        split_videos("match", flat)
    parts = split_videos("video", flat)
    assert sorted(map(len, parts.values())) == [1, 1, 3]
    with pytest.raises(ConfigError, match=r"no such split: 'window'; one of tennis-game"):
        split_videos("window", flat)
    assert "window" not in SPLITS
    with pytest.raises(ConfigError, match=r"its name does not belong to the shuttlecock split: 'file:///clips/0.mp4'"):
        split_videos("shuttlecock", flat)
    with pytest.raises(ConfigError, match=r"no video belongs to the part 'train': 'tennis-game'"):
        split_videos("tennis-game", {"s3://b/game1/Clip1/": 5})


def test_parts_are_datasets_of_the_same_videos(tmp_path: Path) -> None:
    dataset = labelled({f"file:///v/match{m}/video/{r}.mp4": 4 + r for m in range(4) for r in range(2)})
    reports = split_dataset(dataset, str(tmp_path / "parts"), "match", val_share=0.0)
    parts = [load_dataset(report.uri) for report in reports]
    assert [(part.card.split, part.card.name, part.card.notes) for part in parts] == [
        ("match/train", "all-train", ("n",)), ("match/test", "all-test", ("n",)),
    ]  # fmt: skip
    assert {video for part in parts for video in part.card.videos} == set(dataset.card.videos)
    assert sum(part.rows.num_rows for part in parts) == dataset.rows.num_rows
    assert [report.labelled_frames for report in reports] == [part.rows.num_rows for part in parts]


def test_the_command_writes_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = labelled({f"file:///d/game{game}/Clip1/": 3 for game in range(1, 11)})
    save_dataset(dataset, open_store(str(tmp_path / "all")))
    assert main(["data", "split", str(tmp_path / "all"), str(tmp_path / "parts"), "--by", "tennis-game", "--json"]) == 0
    assert '"part": "test"' in capsys.readouterr().out
    assert load_dataset(str(tmp_path / "parts" / "test")).rows.num_rows == 9
