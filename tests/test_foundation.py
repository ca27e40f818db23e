"""The types that every part shares: errors, the nouns and the row schema, frames and trajectories."""

import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specktrack.errors import (
    CheckpointError,
    ConfigError,
    Conflict,
    LabelError,
    MediaError,
    QuarantineReason,
    SpecktrackError,
    StorageError,
)
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.schema import ROWS, Box, Clip, ClipRecord, ClipStatus, Prompt, VideoRef, check_rows

VIDEO = VideoRef(uri="file:///videos/match%201.mp4", etag="abc", size_bytes=10)
sides = st.integers(1, 4000)


def trajectory(n: int = 4, *, absent: tuple[int, ...] = (1,)) -> Trajectory:
    frame = np.arange(n, dtype=np.int64)
    xy_px = np.stack([frame + 0.25, 2.0 * frame], axis=1).astype(np.float32)
    xy_px[list(absent)] = np.nan
    return Trajectory(frame, frame / 25, xy_px, np.linspace(0, 1, n, dtype=np.float32))


# errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigError, 2), (LabelError, 2), (CheckpointError, 3), (StorageError, 4), (Conflict, 1), (SpecktrackError, 1)],
)
def test_errors_survive_pickling_and_decide_the_exit_code(kind: type[SpecktrackError], code: int) -> None:
    error = kind("cannot read", 7, "row 3", "write a number")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "cannot read: 7 (row 3); write a number"
    assert again.exit_code == code


def test_a_media_error_carries_its_reason_through_pickling() -> None:
    error = pickle.loads(pickle.dumps(MediaError(QuarantineReason.TRUNCATED, "ends early", 12, "a.mp4")))
    assert (error.reason, str(error), error.exit_code) == (QuarantineReason.TRUNCATED, "ends early: 12 (a.mp4)", 5)
    assert copy.copy(error).reason is QuarantineReason.TRUNCATED


def test_a_message_without_details_is_the_sentence_alone() -> None:
    assert str(ConfigError("no such verb")) == "no such verb"


# nouns


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": 5, "stop": 5}, r"a clip needs start < stop, got \[5, 5\)"),
        ({"start": 2, "stop": 5, "lead_in": 3}, "lead_in 3 reaches before frame 0 from start 2"),
        ({"start": -1, "stop": 5}, "greater than or equal to 0"),
    ],
)
def test_a_clip_that_cannot_be_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Clip(video=VIDEO, **fields)


def test_a_prompt_lies_inside_its_clip() -> None:
    prompt = Prompt(frame=9, box=Box(cx_px=1, cy_px=1, w_px=2, h_px=2))
    with pytest.raises(ValidationError, match=r"the prompt's frame 9 lies outside \[0, 9\)"):
        Clip(video=VIDEO, start=0, stop=9, prompts=(prompt,))


def test_a_video_is_a_file_or_an_s3_object() -> None:
    with pytest.raises(ValidationError, match=r"a video URI starts with file:// or s3://, not 'http://x/a.mp4'"):
        VideoRef(uri="http://x/a.mp4", etag="", size_bytes=0)


def test_a_video_key_is_readable_and_changes_with_the_bytes() -> None:
    assert VIDEO.name == "match_1"
    assert VIDEO.key.startswith("match_1-")
    assert VIDEO.key != VIDEO.model_copy(update={"etag": "abd"}).key
    assert VideoRef(uri="s3://b/...", etag="", size_bytes=0).name == "video"


def test_clip_keys_sort_by_start() -> None:
    starts = (0, 9, 10, 999, 1000)
    keys = [Clip(video=VIDEO, start=start, stop=2000).key for start in starts]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": ClipStatus.QUARANTINED}, "a quarantined clip needs a reason"),
        ({"status": ClipStatus.COMMITTED, "reason": QuarantineReason.EMPTY}, "a quarantined clip needs a reason"),
        ({"status": ClipStatus.COMMITTED, "rows": 3}, "rows, data_uri and sha256 must be given together"),
        ({"status": ClipStatus.COMMITTED, "data_uri": "data/a"}, "rows, data_uri and sha256 must be given together"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClipRecord(video=VIDEO, start=0, stop=5, model_sha="m", config_sha="c", **fields)  # type: ignore[arg-type]


def test_check_rows_names_the_columns_that_are_wrong() -> None:
    rows = trajectory().to_rows(VIDEO.uri)
    with pytest.raises(ConfigError, match=r"missing \['gap'\], unknown \['extra'\] \(here\)"):
        check_rows(rows.drop_columns("gap").append_column("extra", pa.array([0] * 4)), "here")
    with pytest.raises(ConfigError, match="not the row schema"):
        check_rows(rows.set_column(1, "frame", pa.array(["a"] * 4)), "here")
    plain = rows.set_column(8, "visibility", rows["visibility"].cast(pa.string()))
    assert check_rows(plain, "here").schema == ROWS


# frames


@given(sides, sides, sides, sides, st.floats(-10, 5000), st.floats(-10, 5000))
def test_source_and_network_px_are_inverses(w: int, h: int, net_w: int, net_h: int, x: float, y: float) -> None:
    viewport = Viewport((w, h), (net_w, net_h))
    there_and_back = viewport.to_source(viewport.to_network(np.array([x, y])))
    assert np.abs(there_and_back - (x, y)).max() <= 1e-3


def test_a_pixel_centre_stays_in_the_middle_of_the_picture() -> None:
    viewport = Viewport((1280, 720), (512, 288))
    assert viewport.to_network(np.array([639.5, 359.5])) == pytest.approx([255.5, 143.5])


@given(st.integers(16, 8000), st.integers(16, 8000))
def test_fit_keeps_the_area_and_the_multiple(w: int, h: int) -> None:
    viewport = Viewport.fit((w, h), (512, 288))
    net_w, net_h = viewport.network_wh_px
    assert net_w % 16 == net_h % 16 == 0
    assert 0.8 < net_w * net_h / (512 * 288) < 1.2


def test_fit_gives_the_papers_size_for_16_to_9() -> None:
    assert Viewport.fit((1920, 1080), (512, 288)).network_wh_px == (512, 288)
    with pytest.raises(ValueError, match="positive sizes"):
        Viewport((0, 5), (1, 1))


@pytest.mark.parametrize(
    ("source", "network"), [((1000, 1000), (384, 384)), ((1000, 900), (400, 368)), ((900, 1000), (368, 400))]
)
def test_fit_rounds_to_the_nearest_multiple(source: tuple[int, int], network: tuple[int, int]) -> None:
    assert Viewport.fit(source, (512, 288)).network_wh_px == network


def test_a_frame_batch_checks_its_shapes() -> None:
    viewport = Viewport((8, 4), (8, 4))
    pixels, count = np.zeros((3, 4, 8, 3), np.uint8), np.arange(3)
    batch = FrameBatch(pixels, count, count / 25, viewport)
    assert (len(batch), len(batch[1:])) == (3, 2)
    assert repr(batch) == "FrameBatch(frames 0..2, pixels (3, 4, 8, 3))"
    with pytest.raises(ValueError, match="pixels must be uint8"):
        FrameBatch(pixels.astype(np.float32), count, count / 25, viewport)
    with pytest.raises(ValueError, match="frame must increase by one"):
        FrameBatch(pixels, count * 2, count / 25, viewport)


def test_a_trajectory_survives_the_row_schema() -> None:
    before = trajectory()
    rows = before.to_rows(VIDEO.uri)
    assert rows.schema == ROWS
    assert rows["x"].to_pylist() == [0.25, None, 2.25, 3.25]
    assert rows["visibility"].to_pylist() == ["clear", "absent", "clear", "clear"]
    after = Trajectory.from_rows(rows.take([3, 1, 0, 2]))
    for name in ("frame", "pts_s", "xy_px", "score", "visibility", "provenance", "wh_px", "gap"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_a_position_is_absent_exactly_where_it_is_nan() -> None:
    one = trajectory(2, absent=())
    with pytest.raises(ValueError, match="NaN exactly where visibility is 'absent'"):
        Trajectory(one.frame, one.pts_s, one.xy_px, one.score, np.array(["clear", "absent"], object))
    with pytest.raises(ValueError, match="2 frames needs 2 entries"):
        Trajectory(one.frame, one.pts_s[:1], one.xy_px, one.score)


def test_trajectories_are_cut_and_joined() -> None:
    whole = trajectory(6)
    parts = [whole.between(0, 2), whole.between(2, 5), whole.between(5, 6)]
    assert [len(part) for part in parts] == [2, 3, 1]
    np.testing.assert_array_equal(concat(parts).xy_px, whole.xy_px)
    assert len(concat([])) == len(Trajectory.empty()) == 0
    assert whole.present.tolist() == [True, False, True, True, True, True]
