"""Rendered truth: the label is where the ball is, the same bits every time, and the mix is useful."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from specktrack.datasets import load_dataset
from specktrack.datasets.flight import SPORTS, STEP_S, fly, play
from specktrack.datasets.synthetic import (
    RenderedFrame,
    SynthConfig,
    footprint,
    generator,
    render_clip,
    trajectory,
    write_archive,
)
from specktrack.errors import ConfigError
from specktrack.schema import EVENTS, Clip, Visibility
from specktrack.video.unconfined import probe, read_clip

SMALL = SynthConfig(videos=2, frames=10, width_px=160, height_px=96, seed=3)


def centroid(weights: np.ndarray) -> np.ndarray:
    y, x = np.indices(weights.shape)
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("radius_px", [1.0, 2.3, 8.0])
@pytest.mark.parametrize("streak_px", [0.0, 3.0, 31.0])
def test_footprint_lies_on_its_path_and_keeps_its_area(radius_px: float, streak_px: float) -> None:
    random = generator(0, "test", int(10 * radius_px + streak_px))
    for _ in range(5):
        middle, angle = random.uniform(20, 60, 2), random.uniform(0, 6.3)
        path = middle + np.linspace(-0.5, 0.5, 9)[:, None] * streak_px * np.array([np.cos(angle), np.sin(angle)])
        alpha, corner = footprint(path, radius_px, soft=0.2)
        assert np.abs(centroid(alpha) + corner - middle).max() < 0.05
        assert alpha.sum() == pytest.approx(np.pi * radius_px**2, rel=0.05)
        assert alpha.max() <= 1 and alpha[0].max() == alpha[-1].max() == 0


def test_rendered_ball_is_where_its_label_says() -> None:
    errors = []
    for index in range(6):
        config = SynthConfig(frames=30, width_px=320, height_px=192, noise=0, seed=1)
        pairs = zip(render_clip(config, index), render_clip(config, index, with_ball=False), strict=True)
        for with_ball, without in pairs:
            change = np.abs(with_ball.pixels.astype(float) - without.pixels).sum(axis=-1)
            if with_ball.visibility is Visibility.ABSENT:
                assert not change.any(), "an absent ball leaves no trace"
                continue
            behind = without.pixels[change > 0]
            if len(behind) > 8 and behind.std(axis=0).max() < 5:  # elsewhere the change also depends on what is behind
                errors.append(np.abs(centroid(change) - with_ball.xy_px).max())
    assert len(errors) > 30
    assert np.median(errors) < 0.1 and np.percentile(errors, 95) < 0.25


def test_a_video_is_the_same_bits_whatever_is_rendered_beside_it() -> None:
    def frames(seed: int, index: int) -> list[RenderedFrame]:
        return list(render_clip(SMALL.model_copy(update={"seed": seed}), index))

    first, other, again = frames(3, 1), frames(3, 0), frames(3, 1)
    assert all((a.pixels == b.pixels).all() for a, b in zip(first, again, strict=True))
    assert trajectory(SMALL, first).to_rows("file:///v").equals(trajectory(SMALL, again).to_rows("file:///v"))
    assert not (first[0].pixels == other[0].pixels).all()
    assert not (first[0].pixels == frames(4, 1)[0].pixels).all()


def test_generators_differ_by_purpose_and_index() -> None:
    draws = {generator(seed, name, i).random() for seed in (0, 1) for name in ("a", "b") for i in (0, 1)}
    assert len(draws) == 8


def test_the_mix_is_that_of_broadcast_sport() -> None:
    config = SynthConfig(frames=60, width_px=320, height_px=192, seed=2, noise=0)
    clips = [list(render_clip(config, index)) for index in range(24)]
    words = [frame.visibility for clip in clips for frame in clip]
    share = {word: words.count(word) / len(words) for word in Visibility}
    assert 0.05 < share[Visibility.ABSENT] < 0.4
    assert share[Visibility.OCCLUDED] > 0.003
    assert 0.02 < share[Visibility.BLURRED] < 0.4
    sizes = np.array([frame.diameter_px for clip in clips for frame in clip])
    assert np.nanmin(sizes) >= 2 and np.nanmax(sizes) <= 20
    tracks = [trajectory(config, clip) for clip in clips]
    steps = np.concatenate([np.linalg.norm(np.diff(track.xy_px, axis=0), axis=1) for track in tracks])
    assert 1.0 < np.nanmedian(steps) < 6.0 and np.nanpercentile(steps, 99) > 8
    inside = np.concatenate([track.xy_px[track.present] for track in tracks])
    assert (inside >= -0.5).all() and (inside <= [319.5, 191.5]).all()


def test_cuts_change_the_whole_picture_and_can_be_left_out() -> None:
    def jumps(cuts_per_minute: float) -> int:
        config = SynthConfig(frames=60, width_px=240, height_px=136, fps=10, noise=0, cuts_per_minute=cuts_per_minute)
        pixels = np.array([frame.pixels for frame in render_clip(config, 0)], np.int16)
        return int((np.abs(np.diff(pixels, axis=0)).mean(axis=(1, 2, 3)) > 20).sum())

    assert jumps(0) == 0
    assert jumps(60) >= 2


def test_flight_obeys_gravity_drag_and_restitution() -> None:
    tennis, badminton = SPORTS[1], SPORTS[0]
    start, still = np.array([[0.0, 0.0, 50.0]]), np.zeros((1, 3))
    fall = fly(start, still, badminton, steps=360)
    assert (fall[-2, 0, 2] - fall[-1, 0, 2]) / STEP_S == pytest.approx((9.81 / 0.21) ** 0.5, rel=0.01)
    drop = fly(np.array([[0.0, 0.0, 1.0]]), still, tennis, steps=240)[:, 0, 2]
    ground = int(drop.argmin())
    assert ground * STEP_S == pytest.approx((2 / 9.81) ** 0.5, rel=0.05)
    assert drop[ground:].max() == pytest.approx(tennis.restitution**2, rel=0.15)


@pytest.mark.parametrize("sport", SPORTS, ids=lambda sport: sport.name)
def test_play_goes_over_the_net_and_stays_near_the_court(sport) -> None:
    rally = play(generator(0, sport.name, 0), sport, duration_s=40, doubles=True)
    ball = rally.ball(np.arange(0, 40, 1 / 60))
    seen = ball[~np.isnan(ball).any(axis=1)]
    assert 0.4 < len(seen) / len(ball) <= 1
    assert seen[:, 2].min() >= 0 and np.abs(seen[:, 1]).max() < 1.6 * sport.court_wl_m[1]
    crossing = np.flatnonzero(np.diff(np.sign(seen[:, 1])) != 0)
    assert len(crossing) >= 3
    assert np.median(seen[crossing, 2]) > 0.9 * sport.net_m


def test_archive_round_trip_survives_a_move(tmp_path: Path) -> None:
    card = write_archive(SMALL, str(tmp_path / "made"))
    shutil.copytree(tmp_path / "made", tmp_path / "moved dir")
    shutil.rmtree(tmp_path / "made")
    dataset = load_dataset(str(tmp_path / "moved dir"))
    assert dataset.card.label_sha256 == card.label_sha256
    assert dataset.rows.num_rows == card.rows == 20
    for index, video in enumerate(dataset.card.videos):
        assert "moved%20dir" in video.ref.uri
        info = probe(video.ref)
        assert (info.frames, info.size_wh_px, info.fps) == (10, (160, 96), 30)
        rendered = list(render_clip(SMALL, index))
        assert dataset.track(video).to_rows("").equals(trajectory(SMALL, rendered).to_rows(""))
        with read_clip(Clip(video=video.ref, start=0, stop=10)) as reader:
            decoded = np.concatenate([batch.pixels for batch in reader])
        assert np.abs(decoded[4].astype(int) - rendered[4].pixels).mean() < 8


def test_workers_render_the_same_labels(tmp_path: Path) -> None:
    tiny = SMALL.model_copy(update={"frames": 2})
    alone = write_archive(tiny, str(tmp_path / "alone"))
    together = write_archive(tiny.model_copy(update={"workers": 2}), str(tmp_path / "together"))
    assert alone.label_sha256 == together.label_sha256
    assert alone.source == together.source


def test_archive_lies_in_s3_as_in_a_folder(tmp_path: Path, s3: str) -> None:
    tiny = SMALL.model_copy(update={"videos": 1, "frames": 2})
    there = write_archive(tiny, f"s3://{s3}/sets/one")
    assert there.label_sha256 == write_archive(tiny, str(tmp_path)).label_sha256
    dataset = load_dataset(f"s3://{s3}/sets/one")
    assert dataset.card.videos[0].ref.uri == f"s3://{s3}/sets/one/videos/0000.mp4"
    assert probe(dataset.card.videos[0].ref).frames == 2


def test_options_are_parsed_like_those_of_any_verb() -> None:
    assert SynthConfig.parse({"videos": "3", "sport": "tennis"}, environment={}).videos == 3
    with pytest.raises(ConfigError, match=r"unknown key 'video'; did you mean 'videos'"):
        SynthConfig.parse({"video": 3}, environment={})


def test_an_archive_tells_what_happens_to_the_ball(tmp_path: Path) -> None:
    """A hit or bounce lies where the ball's label is in the nearest frame, up to the way of half a frame."""
    config = SMALL.model_copy(update={"frames": 45, "cuts_per_minute": 0})
    write_archive(config, str(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    dataset = load_dataset(str(tmp_path / "b"))
    assert dataset.events is not None and dataset.events.schema.equals(EVENTS)
    tracks = {video.ref.uri: dataset.track(video) for video in dataset.card.videos}
    seen = [row for row in dataset.events.to_pylist() if row["x"] is not None]
    assert {row["video"] for row in dataset.events.to_pylist()} <= set(tracks) and seen
    for row in seen:
        track = tracks[row["video"]]
        around = track.xy_px[max(0, row["frame"] - 1) : row["frame"] + 2]
        way = np.nanmax(np.abs(np.diff(around, axis=0)), initial=1.0)
        assert np.abs(track.xy_px[row["frame"]] - [row["x"], row["y"]]).max() <= way + 0.5
