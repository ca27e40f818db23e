"""Overlays: what is drawn is where the row of the same frame says."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.overlay import FILLED, SEEN, draw_positions, render
from specktrack.schema import Clip, Provenance
from specktrack.storage import stat
from specktrack.video import probe, read_clip, write_video

WH = (640, 480)
RING_PX = 0.016 * WH[1]
GREY = 90


def way(frames: int) -> np.ndarray:
    """Positions of a dot on a curve, float32 [N, 2]."""
    t = np.arange(frames)
    return np.stack([60 + 9.3 * t, 200 + 75 * np.sin(t / 4)], axis=1).astype(np.float32)


def dotted(xy_px: np.ndarray) -> np.ndarray:
    """A grey picture with a black dot."""
    y, x = np.mgrid[: WH[1], : WH[0]]
    pixels = np.full((WH[1], WH[0], 3), GREY, np.uint8)
    pixels[np.hypot(x - xy_px[0], y - xy_px[1]) <= 2.5] = 0
    return pixels


def track(xy_px: np.ndarray, **columns: np.ndarray) -> Trajectory:
    n = len(xy_px)
    return Trajectory(np.arange(n), np.arange(n) / 30, xy_px, np.full(n, 0.9, np.float32), **columns)


def blank() -> np.ndarray:
    return np.full((WH[1], WH[0], 3), GREY, np.uint8)


def coloured(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 70) -> np.ndarray:
    """bool [H, W]: pixels close to a colour."""
    return (np.abs(pixels.astype(int) - colour) <= tolerance).all(axis=-1)


def ring_centre(pixels: np.ndarray, near_px: np.ndarray) -> np.ndarray:
    """Centre (x, y) of the circle that fits the bright pixels no further than a ring from a point (least squares).

    By brightness, because colour is stored at half the resolution.
    """
    brightness = np.clip(pixels.astype(float).mean(axis=-1) - GREY - 15, 0, None)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    near = (np.hypot(x - near_px[0], y - near_px[1]) < RING_PX + 2) & (brightness > 0)
    x, y, weight = x[near], y[near], brightness[near]
    a = np.stack([x, y, np.ones_like(x)], axis=1) * weight[:, None]
    return np.linalg.lstsq(a, (x**2 + y**2) * weight, rcond=None)[0][:2] / 2


def test_a_rendered_ring_lies_on_the_dot_of_the_same_frame(tmp_path: Path) -> None:
    xy_px = way(24)
    write_video(tmp_path / "in.mp4", (dotted(each) for each in xy_px), fps=30, wh=WH)
    ref = stat(str(tmp_path / "in.mp4"))
    render(ref, track(xy_px).to_rows(ref.uri), tmp_path / "out.mp4")
    drawn = stat(str(tmp_path / "out.mp4"))
    assert probe(drawn).frames == 24
    with read_clip(Clip(video=drawn, start=0, stop=24)) as reader:
        frames = np.concatenate([batch.pixels for batch in reader])
    for pixels, xy in zip(frames, xy_px, strict=True):
        assert ring_centre(pixels, xy) == pytest.approx(xy, abs=0.8)
        x, y = np.round(xy).astype(int)
        assert pixels[y, x].max() < 50  # the dot stays visible inside the ring


def test_the_ring_is_placed_below_a_pixel() -> None:
    for x in (100.0, 100.25, 100.5, 100.75):
        xy = np.array([[x, 80.3]], np.float32)
        pixels = draw_positions(blank(), [track(xy)], frame=0, pts_s=0.0)
        assert ring_centre(pixels, xy[0]) == pytest.approx(xy[0], abs=0.2)


def test_filled_positions_have_their_own_colour() -> None:
    provenance = np.array([Provenance.DETECTED.value] * 3 + [Provenance.INTERPOLATED.value], object)
    pixels = draw_positions(blank(), [track(way(4), provenance=provenance)], frame=3, pts_s=0.1)
    assert coloured(pixels, FILLED).sum() > 20
    seen = draw_positions(blank(), [track(way(4))], frame=3, pts_s=0.1)
    assert not coloured(seen, FILLED).any()


def test_the_way_is_broken_where_the_ball_is_absent_or_jumps() -> None:
    there = np.array([[40, 60], [80, 60], [120, 60], [160, 60]], np.float32)
    gone = there.copy()
    gone[1] = np.nan
    jumped = np.array([[40, 60], [80, 60], [80, 260], [120, 260]], np.float32)
    between = (slice(58, 63), slice(92, 108))
    assert (draw_positions(blank(), [track(there)], frame=3, pts_s=0.1)[between] != GREY).any()
    assert (draw_positions(blank(), [track(gone)], frame=3, pts_s=0.1)[between] == GREY).all()
    drawn = draw_positions(blank(), [track(jumped)], frame=3, pts_s=0.1)
    assert (drawn[90:170, 70:90] == GREY).all()


def test_an_absent_ball_has_no_ring_and_says_so() -> None:
    pixels = draw_positions(blank(), [track(np.full((1, 2), np.nan, np.float32))], frame=0, pts_s=0.0)
    assert not coloured(pixels, SEEN).any()
    assert (pixels[-30:, :100] > 200).any()  # the caption


def test_a_box_is_drawn_around_its_object() -> None:
    wh_px = np.array([[60, 30]], np.float32)
    pixels = draw_positions(blank(), [track(np.array([[160, 100]], np.float32), wh_px=wh_px)], frame=0, pts_s=0.0)
    y, x = np.nonzero(coloured(pixels, SEEN))
    assert x.max() - x.min() == pytest.approx(60, abs=6)
    assert y.max() - y.min() == pytest.approx(30, abs=6)
    assert (pixels[90:110, 140:180] == GREY).all()


def test_positions_outside_the_picture_do_no_harm() -> None:
    xy_px = np.array([[-500, -500], [638, 478], [900, 100]], np.float32)
    for n in range(1, 4):
        assert draw_positions(blank(), [track(xy_px[:n])], frame=n - 1, pts_s=0.0).shape == (WH[1], WH[0], 3)


def test_a_truncated_video_is_drawn_as_far_as_it_goes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, WH[1], WH[0], 3), np.uint8)
    write_video(tmp_path / "whole.mp4", noise, fps=30, wh=WH)
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    ref = stat(str(tmp_path / "half.mp4"))
    render(ref, track(way(20)).to_rows(ref.uri), tmp_path / "out.mp4")
    assert 5 < probe(stat(str(tmp_path / "out.mp4"))).frames < 20


def test_rows_of_another_video_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", [blank()], fps=30, wh=WH)
    rows = [track(way(1)).to_rows(f"file:///{name}.mp4") for name in "ab"]
    with pytest.raises(ConfigError, match=r"no rows of this video.*in\.mp4.*2 other videos"):
        render(str(tmp_path / "in.mp4"), pa.concat_tables(rows), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
