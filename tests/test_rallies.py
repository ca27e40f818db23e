"""Events: hits, bounces and rallies are found when they happen, and smoothing and metres are as sure as they say."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import specktrack
from specktrack.cli.main import main
from specktrack.datasets import scenery
from specktrack.datasets.flight import SPORTS, Rally, fly, play
from specktrack.datasets.synthetic import generator
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.metrics.events import EventCounts, count_events
from specktrack.rallies import COURTS, Court, CourtView, analyse
from specktrack.rallies.court import Lens, on_ground
from specktrack.rallies.rallying import find_rallies, ruled
from specktrack.rallies.smoothing import noise_of, smooth
from specktrack.rallies.turns import Turn
from specktrack.schema import EVENTS, FLIGHTS, Event, Provenance

WH = (1280, 720)
FPS = 30
RIGHT = np.array([20, 0])
BADMINTON, TENNIS = SPORTS[0], SPORTS[1]


def camera_of(number: int, sport) -> scenery.Camera:
    return scenery.broadcast_camera(generator(5, "camera", number), sport, WH)


def corners_of(camera: scenery.Camera, sport) -> np.ndarray:
    width, length = sport.court_wl_m
    return camera.project(np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [width / 2, length / 2, 0])[0]


def court_of(camera: scenery.Camera, sport) -> Court:
    return Court(sport, CourtView(size_wh_px=WH, corners_px=corners_of(camera, sport).tolist()))


def track_of(xy_px: np.ndarray, **more) -> Trajectory:
    n = np.arange(len(xy_px))
    return Trajectory(n, n / FPS, xy_px.astype(np.float32), np.ones(len(n), np.float32), **more)


def filmed(number: int, sport, duration_s: float = 12, sigma_px: float = 0.5) -> tuple[Rally, scenery.Camera, pa.Table]:
    """A play, the camera that filmed it, and rows with a little noise."""
    rally = play(generator(5, "play", number), sport, duration_s=duration_s, doubles=False)
    camera = camera_of(number, sport)
    time_s = np.arange(int(duration_s * FPS)) / FPS
    xy_px = camera.project(rally.ball(time_s))[0] + generator(5, "noise", number).normal(0, sigma_px, (len(time_s), 2))
    xy_px[((xy_px < 0) | (xy_px >= WH)).any(axis=1)] = np.nan
    return rally, camera, track_of(xy_px).to_rows("file:///v.mp4")


@pytest.fixture(scope="module")
def plays() -> list[tuple[Rally, scenery.Camera, pa.Table]]:
    return [filmed(number, SPORTS[number % 4]) for number in range(12)]


def moments(table: pa.Table, *kinds: Event) -> np.ndarray:
    words = pa.array([kind.value for kind in kinds])
    return table.filter(pc.is_in(table["event"].cast(pa.string()), words))["time_s"].to_numpy()


def true_moments(rally: Rally, *kinds: Event) -> np.ndarray:
    return np.array([each.time_s for each in rally.happenings if each.event in kinds])


def test_hits_and_bounces_are_found_within_a_frame(plays) -> None:
    for kinds, least in (((Event.HIT, Event.SERVE), 0.85), ((Event.BOUNCE,), 0.8)):
        counts = EventCounts()
        for rally, _, rows in plays:
            counts += count_events(
                moments(specktrack.events(rows), *kinds), true_moments(rally, *kinds), tolerance=1.01 / FPS
            )
        assert counts.true > 10
        assert counts.precision > least and counts.recall > least, (kinds, counts)


def test_rallies_begin_end_and_do_not_overlap(plays) -> None:
    """A play may begin amid a rally, which then begins with the first hit that is seen."""
    begun, ended = EventCounts(), EventCounts()
    for rally, _, rows in plays:
        table = specktrack.events(rows)
        starts, stops = moments(table, Event.RALLY_START), moments(table, Event.RALLY_END)
        assert (stops >= starts).all() and (starts[1:] >= stops[:-1]).all()
        begun += count_events(starts, true_moments(rally, Event.RALLY_START), tolerance=0.1)
        ended += count_events(stops, true_moments(rally, Event.RALLY_END), tolerance=0.1)
    assert begun.recall > 0.9 and begun.found - begun.found_right <= len(plays), begun
    assert ended.recall > 0.7, ended


def test_a_bounce_that_no_hit_answers_ends_a_rally() -> None:
    turns = [Turn(Event.SERVE, 1.0, 0.9), Turn(Event.BOUNCE, 1.5, 0.9), Turn(Event.HIT, 1.9, 0.9)]
    turns += [Turn(Event.BOUNCE, 2.5, 0.9), Turn(Event.BOUNCE, 2.9, 0.9), Turn(Event.HIT, 3.5, 0.9)]
    first, second = find_rallies(turns, np.arange(0, 4, 0.03))
    assert (first.start_s, first.stop_s, len(first.turns)) == (1.0, 2.5, 4)
    assert second.start_s == 3.5 and second.stop_s == pytest.approx(3.99)
    assert [rally.start_s for rally in find_rallies(turns, np.zeros(0), bounces=0)] == [1.0, 1.9, 3.5]


def test_where_a_bounce_ends_the_rally_one_that_is_struck_at_once_was_none() -> None:
    turns = [Turn(Event.SERVE, 1.0, 0.9), Turn(Event.BOUNCE, 2.0, 0.9), Turn(Event.HIT, 3.0, 0.9)]
    turns += [Turn(Event.BOUNCE, 4.0, 0.9), Turn(Event.HIT, 7.0, 0.9)]
    assert [turn.event.value for turn in ruled(turns)] == ["serve", "hit", "hit", "bounce", "hit"]
    assert [rally.start_s for rally in find_rallies(ruled(turns), np.zeros(0), bounces=0)] == [1.0, 7.0]


def test_a_smoothed_row_is_as_uncertain_as_it_says_and_nearer_to_the_truth() -> None:
    sigma_px, off, told, raw = 1.5, [], [], []
    for number in range(8):
        rally, camera, _ = filmed(number, SPORTS[number % 4])
        time_s = np.arange(240) / FPS
        true_px = camera.project(rally.ball(time_s))[0]
        seen_px = true_px + generator(6, "noise", number).normal(0, sigma_px, true_px.shape)
        turns_s = true_moments(rally, Event.HIT, Event.SERVE, Event.BOUNCE)
        result = smooth(time_s, seen_px, turns_s)
        known = np.isfinite(result.xy_px[:, 0]) & np.isfinite(true_px[:, 0])
        assert noise_of(time_s, seen_px) == pytest.approx(sigma_px, rel=0.4)
        off.append((result.xy_px - true_px)[known].ravel())
        raw.append((seen_px - true_px)[known].ravel())
        told.append(np.repeat(result.sigma_px[known], 2))
    off, told, raw = map(np.concatenate, (off, told, raw))
    assert np.median(np.abs(off)) < 0.9 * np.median(np.abs(raw))
    assert 0.55 < (np.abs(off) < told).mean() < 0.85, "about two thirds lie within one standard deviation"


def test_a_gap_is_bridged_with_growing_doubt_and_a_long_one_is_not() -> None:
    time_s = np.arange(90) / FPS
    xy_px = np.stack([300 * time_s, 400 - 500 * time_s + 300 * time_s**2], axis=1)
    seen = xy_px.copy()
    seen[20:26] = seen[40:70] = np.nan
    result = smooth(time_s, seen, np.zeros(0))
    assert np.abs(result.xy_px[20:26] - xy_px[20:26]).max() < 1
    assert result.sigma_px[22] > 2 * result.sigma_px[10]
    assert np.isnan(result.xy_px[40:70]).all() and np.isfinite(result.xy_px[70:]).all()
    assert result.speed_px_s[10] == pytest.approx(np.hypot(300, -500 + 600 * time_s[10]), rel=0.02)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([None, 0.0, 5.0, 1e6]), max_size=9), st.sampled_from([1, 7]))
def test_few_rows_do_no_harm(places: list[float | None], step: int) -> None:
    xy_px = np.array([[np.nan if x is None else x] * 2 for x in places], np.float32).reshape(-1, 2)
    n = np.arange(len(places)) * step
    found = analyse(Trajectory(n, n / FPS, xy_px, np.ones(len(n), np.float32)).to_rows("file:///v.mp4"))
    assert found.flights.num_rows == len(places)
    assert found.flights.schema.equals(FLIGHTS) and found.events.schema.equals(EVENTS)


def test_filled_rows_are_no_observations(plays) -> None:
    _, _, rows = plays[0]
    track = Trajectory.from_rows(rows)
    filled = np.full(len(track), Provenance.INTERPOLATED.value, object)
    table = Trajectory(track.frame, track.pts_s, track.xy_px, track.score, provenance=filled).to_rows("file:///v.mp4")
    found = analyse(table)
    assert not found.events.num_rows and found.flights["x"].null_count == len(track)


def test_rows_without_times_need_a_rate(plays) -> None:
    _, _, rows = plays[0]
    timeless = rows.set_column(2, rows.schema.field("pts_s"), pa.array(np.zeros(len(rows))))
    with pytest.raises(ConfigError, match=r"do not increase.*--fps 30"):
        specktrack.events(timeless)
    assert specktrack.events(timeless, fps=FPS)["frame"].equals(specktrack.events(rows)["frame"])


# --- metres ---------------------------------------------------------------------------------------------------------


def test_a_camera_follows_from_the_corners() -> None:
    for number, sport in enumerate(SPORTS):
        camera = camera_of(number, sport)
        world = generator(0, "world", number).uniform(-3, 3, (20, 3)) + np.array([0, 0, 3])
        (projection,) = court_of(camera, sport).cameras(np.zeros(1))
        seen = np.column_stack([world, np.ones(20)]) @ projection.T
        assert seen[:, :2] / seen[:, 2:] == pytest.approx(camera.project(world)[0], abs=0.05)
        ground = world * [1, 1, 0]
        found = on_ground(np.repeat(projection[None], 20, axis=0), camera.project(ground)[0], 0.0)
        assert found == pytest.approx(ground[:, :2], abs=1e-3)


def test_corners_that_move_and_a_lens_that_bends() -> None:
    camera = camera_of(0, TENNIS)
    corners = corners_of(camera, TENNIS)
    moving = CourtView(size_wh_px=WH, corners_px={0: corners.tolist(), 10: (corners + RIGHT).tolist()})
    assert moving.corners(np.array([5, 99])) == pytest.approx(np.stack([corners + RIGHT / 2, corners + RIGHT]))
    lens = Lens(focal_px=(1000, 1000), centre_px=(640, 360), distortion=(-0.2, 0.05, 0.001, -0.001, 0.0))
    straight = generator(0, "lens", 0).uniform(0.15, 0.85, (50, 2)) * WH
    x, y = ((straight - lens.centre_px) / lens.focal_px).T
    k1, k2, p1, p2, k3 = lens.distortion
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    bent = np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )
    assert lens.straightened(bent * 1000 + [640, 360]) == pytest.approx(straight, abs=0.01)


@pytest.mark.parametrize("corners", [[[0, 0], [1, 0], [2, 0], [3, 0]], [[0, 9], [9, 9], [9, 0], [0, 0]]])
def test_what_is_no_court_is_refused(corners: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="cannot be those of a court"):
        Court(TENNIS, CourtView(size_wh_px=WH, corners_px=corners)).cameras(np.zeros(1))


def test_speeds_and_places_in_metres_are_as_sure_as_they_say(plays) -> None:
    shares, near, told = [], [], 0
    for rally, camera, rows in plays:
        found = analyse(rows, court=court_of(camera, rally.sport)).flights
        columns = {name: found[name].to_numpy(zero_copy_only=False) for name in FLIGHTS.names[2:]}
        time_s = columns["pts_s"].astype(float)
        step = 1 / 240
        speed = np.linalg.norm(rally.ball(time_s + step) - rally.ball(time_s - step), axis=1) / (2 * step)
        off = np.abs(columns["speed_mps"] - speed) / np.maximum(speed, 3)
        known = np.isfinite(off)
        shares.append(off[known])
        near.append(np.linalg.norm(np.stack([columns[f"{a}_m"] for a in "xyz"], 1) - rally.ball(time_s), axis=1)[known])
        told += int(known.sum())
    assert told > 1500
    assert np.median(np.concatenate(shares)) < 0.08, "of the speed"
    assert np.median(np.concatenate(near)) < 0.6, "m"


def test_the_ball_crosses_the_net_between_strokes(plays) -> None:
    counts = EventCounts()
    for rally, camera, rows in plays:
        found = specktrack.events(rows, court=court_of(camera, rally.sport))
        counts += count_events(moments(found, Event.NET), true_moments(rally, Event.NET), tolerance=0.1)
    assert counts.true > 20 and counts.precision > 0.85 and counts.recall > 0.7, counts


def test_a_flight_is_what_gravity_and_drag_make_of_it() -> None:
    start, velocity = np.array([[0.0, -5.0, 1.5]]), np.array([[1.0, 22.0, 9.0]])
    path = fly(start, velocity, BADMINTON, steps=130)[:, 0]
    camera = camera_of(1, BADMINTON)
    time_s = np.arange(30) / FPS
    still = np.repeat(camera.project(start)[0], 30, axis=0)
    xy_px = np.concatenate([still, camera.project(path[(time_s * 120).astype(int)])[0]])
    found = analyse(track_of(xy_px).to_rows("file:///v.mp4"), court=court_of(camera, BADMINTON))
    assert found.events["event"].to_pylist()[:3] == ["rally_start", "serve", "net"]
    serve = found.events.to_pylist()[1]
    assert serve["time_s"] == pytest.approx(1.0, abs=0.04)
    assert serve["speed_after_mps"] == pytest.approx(np.linalg.norm(velocity), rel=0.1)
    assert [serve["x_m"], serve["y_m"], serve["z_m"]] == pytest.approx([0, -5, 1.5], abs=0.8)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_both_tables(tmp_path: Path, plays, capsys: pytest.CaptureFixture[str]) -> None:
    rally, camera, rows = plays[1]
    pq.write_table(rows, tmp_path / "rows.parquet")
    view = court_of(camera, rally.sport).view
    (tmp_path / "corners.json").write_text(view.model_dump_json())
    command = ["events", str(tmp_path / "rows.parquet"), "--court", "tennis", str(tmp_path / "corners.json")]
    assert main([*command, "--output", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    table = pq.read_table(tmp_path / "out" / "events.parquet")
    assert table.schema.equals(EVENTS) and pq.read_schema(tmp_path / "out" / "flights.parquet").equals(FLIGHTS)
    assert report["rallies"] == table["event"].to_pylist().count("rally_start") > 0
    assert report["rows"] == len(rows) and sum(report["events"].values()) == len(table)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["corners.json"], "corners need a court"),
        (["--court", "golf", "corners.json"], "there are: badminton, tennis"),
        (["--court", "tennis", "corners.json"], "corners_px.*is required"),
    ],
)
def test_refusals(tmp_path: Path, plays, arguments, said, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(plays[0][2], "rows.parquet")
    Path("corners.json").write_text('{"size_wh_px": [1280, 720]}')
    assert main(["events", "rows.parquet", *arguments, "--output", "out"]) == 2
    assert re.search(said, capsys.readouterr().err) and not Path("out").exists()


def test_moments_are_matched_one_to_one() -> None:
    counts = count_events(np.array([10, 11, 50, 70]), np.array([10, 30, 51]), tolerance=1, unseen=np.array([70]))
    assert counts == EventCounts(found_right=2, found=3, true=3)
    assert (counts.precision, counts.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (EventCounts().precision, EventCounts().recall) == (0.0, 0.0)


def test_every_court_can_be_named() -> None:
    assert {"badminton", "tennis", "volleyball", "pickleball", "padel", "table-tennis"} <= set(COURTS)
    assert all(name == sport.name for name, sport in COURTS.items() if name != "volleyball")
