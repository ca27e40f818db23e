"""The labelling loop's parts: which clips are taken, and what is told of corrections."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from specktrack.correcting.differences import KINDS, DataDiffConfig, data_diff
from specktrack.correcting.picking import GUESSED, doubts, farthest_first
from specktrack.datasets import export_rows
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.schema import Provenance

NOWHERE = (float("nan"), float("nan"))


def track(places: list[tuple[float, float]], score: list[float] | None = None, **columns: np.ndarray) -> Trajectory:
    n = len(places)
    found = np.array(score if score is not None else [np.nan] * n, np.float32)
    return Trajectory(np.arange(n), np.arange(n) / 30, np.array(places, np.float32).reshape(n, 2), found, **columns)


# --- which clips ----------------------------------------------------------------------------------------------------


def test_doubt_is_the_probability_of_being_wrong() -> None:
    """Present: that nothing is there; absent: that something is; filled in or without score: a guess."""
    provenance = np.array(["detected"] * 2 + ["interpolated", "detected"], object)
    wrong = doubts(track([(1, 1), NOWHERE, (3, 3), (4, 4)], [0.9, 0.3, 0.8, np.nan], provenance=provenance), 1280)
    assert wrong == pytest.approx([0.1, 0.3, GUESSED, GUESSED])


def test_a_row_off_its_flight_is_doubted_however_sure_the_model_is() -> None:
    places = [(20.0 * i, 100.0) for i in range(9)]
    places[4] = (80.0, 180.0)
    wrong = doubts(track(places, [0.99] * 9), 1280)
    assert wrong[4] == GUESSED and wrong[0] == pytest.approx(0.01)


def test_the_most_doubtful_comes_first_and_its_twin_last() -> None:
    looks = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.3]])
    assert farthest_first(np.array([0.9, 0.8, 0.2, 0.5]), looks, 4) == [0, 2, 3, 1]
    assert farthest_first(np.array([0.2, 0.9]), looks[:2], 5) == [1, 0]


# --- what was corrected ---------------------------------------------------------------------------------------------


@pytest.fixture
def old_and_new(tmp_path: Path) -> tuple[str, str]:
    """One frame of each kind, in the order of KINDS, of a video that has another place in the new rows."""
    sized = np.array([[8, 8]] * 8, np.float32)
    old = track([(5, 5), (5, 5), NOWHERE, (5, 5), (5, 5), (5, 5), (5, 5), (5, 5)], wh_px=sized)
    new = track([(5.2, 5), (9, 8), (5, 5), NOWHERE, (5, 5), (5, 5), (5, 5), (5, 5)], wh_px=sized.copy())
    new.wh_px[4] = 20
    new.visibility[5] = "blurred"
    new.provenance[:] = Provenance.LABELLED.value
    export_rows(old[np.arange(8) != 6].to_rows("file:///there/a.mp4"), "csv", str(tmp_path / "old.csv"))
    both = [new[np.arange(8) != 7].to_rows("file:///here/a.mp4"), new.to_rows("file:///here/b.mp4")]
    export_rows(pa.concat_tables(both).unify_dictionaries(), "csv", str(tmp_path / "new.csv"))
    return str(tmp_path / "old.csv"), str(tmp_path / "new.csv")


def test_every_kind_of_correction_is_counted_and_listed(old_and_new: tuple[str, str], tmp_path: Path) -> None:
    old, new = old_and_new
    report = data_diff(DataDiffConfig(old=old, new=new, output=str(tmp_path / "changed.csv")))
    assert set(report.changes.model_dump().values()) == {1} and report.frames == len(KINDS) == 8
    assert report.moved_px == {"p50": 5.0, "p90": 5.0, "p100": 5.0}
    assert report.corrected == 0.875 and report.only_new == ("file:///here/b.mp4",) and not report.only_old
    listed = pyarrow.csv.read_csv(tmp_path / "changed.csv", pyarrow.csv.ReadOptions(use_threads=False))
    assert listed["kind"].to_pylist() == [kind for kind in KINDS if kind != "unchanged"]
    assert listed["x_new"][0].as_py() == 9.0


def test_what_rounds_is_no_correction(old_and_new: tuple[str, str]) -> None:
    old, new = old_and_new
    assert data_diff(DataDiffConfig(old=old, new=new, tolerance_px=6)).changes.moved == 0
    same = data_diff(DataDiffConfig(old=old, new=old, tolerance_px=0))
    assert same.changes.unchanged == same.frames == 7 and same.corrected == 0 and not same.moved_px


def test_rows_of_other_videos_cannot_be_compared(old_and_new: tuple[str, str], tmp_path: Path) -> None:
    export_rows(track([(1, 1)]).to_rows("file:///z.mp4"), "csv", str(tmp_path / "z.csv"))
    with pytest.raises(ConfigError, match="no video in common"):
        data_diff(DataDiffConfig(old=old_and_new[0], new=str(tmp_path / "z.csv")))
    with pytest.raises(ConfigError, match=r"must end in \.csv"):
        data_diff(DataDiffConfig(old=old_and_new[0], new=old_and_new[0], output=str(tmp_path / "z.txt")))
