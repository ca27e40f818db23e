"""Overlays: what is drawn is where the row of the same frame says."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from tests.videos import FRAMES, TONE_HZ, encode, number_of, with_sound
from tests.videos import WH as VIDEO_WH

from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.overlay import THEMES, OverlayStyle, draw_positions, render, told_by
from specktrack.rallies import analyse
from specktrack.schema import EVENTS, Clip, Provenance
from specktrack.storage import stat
from specktrack.video import write_video
from specktrack.video.unconfined import probe, read_clip

SEEN, FILLED = THEMES["bright"].seen, THEMES["bright"].filled
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


def test_a_cross_marks_where_the_ball_was_lost() -> None:
    xy_px = np.array([[100, 100], [120, 100], [np.nan, np.nan], [np.nan, np.nan]], np.float32)
    pixels = draw_positions(blank(), [track(xy_px)], frame=3, pts_s=0.1)
    y, x = np.nonzero((pixels != GREY).any(axis=-1)[:200, 121:])
    assert 122 <= x.max() + 121 <= 128 and y.mean() == pytest.approx(100, abs=1)


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_has_its_own_colours(theme: str) -> None:
    pixels = draw_positions(blank(), [track(way(1))], frame=0, pts_s=0.0, style=OverlayStyle(theme=theme))
    assert coloured(pixels, THEMES[theme].seen, tolerance=40).sum() > 20


def test_an_inset_shows_what_is_around_the_ball_enlarged() -> None:
    xy_px = np.array([[500, 300]], np.float32)
    drawn = draw_positions(dotted(xy_px[0]), [track(xy_px)], frame=0, pts_s=0.0, style=OverlayStyle(inset=True))
    y, x = np.nonzero(drawn[:150, :150].max(axis=-1) < 40)
    assert len(x) > 100, "the dot of 5 px is 20 px wide there"
    assert np.hypot(x.mean() - 74, y.mean() - 74) < 6, "in the inset's middle, in the corner far from the ball"
    for corner in ((0, 0), (639, 479)):
        at = np.array([corner], np.float32)
        draw_positions(blank(), [track(at)], frame=0, pts_s=0.0, style=OverlayStyle(inset=True))


def test_speeds_and_events_are_shown_for_a_while() -> None:
    xy_px = way(24)
    rows = track(xy_px).to_rows("file:///v.mp4")
    found = analyse(rows)
    events = pa.Table.from_pylist(
        [{**dict.fromkeys(EVENTS.names), "video": "v", "object": 0, "event": "hit", "frame": 3, "time_s": 0.1,
          "x": 300.0, "y": 60.0}], schema=EVENTS,
    )  # fmt: skip
    (told,) = told_by(events, found.flights).values()
    assert told.speed[10].endswith(" px/s") and 200 < float(told.speed[10].split()[0]) < 900
    plain = draw_positions(blank(), [track(xy_px[:11])], frame=10, pts_s=0.33)
    shown = draw_positions(blank(), [track(xy_px[:11])], frame=10, pts_s=0.33, told=[told])
    later = draw_positions(blank(), [track(xy_px[:11])], frame=10, pts_s=0.9, told=[told])
    near = (slice(30, 100), slice(260, 400))
    assert (shown[near] != plain[near]).any() and (later[near] == plain[near]).all()
    assert (shown[-40:] != plain[-40:]).any(), "the caption tells the speed"


def test_lines_are_as_thick_as_the_picture_is_large() -> None:
    small, large = (
        draw_positions(np.full((h, 2 * h, 3), GREY, np.uint8), [track(np.full((1, 2), h / 2, np.float32))], frame=0,
                       pts_s=0.0) for h in (380, 1520)
    )  # fmt: skip
    wide = [int(coloured(pixels, SEEN)[pixels.shape[0] // 2].sum()) for pixels in (small, large)]
    assert wide[1] > 2.5 * wide[0] > 0


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


# --- the source's twin ------------------------------------------------------------------------------------------


def shown(path: Path) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Numbers, times and pictures of a video."""
    ref = stat(str(path))
    with read_clip(Clip(video=ref, start=0, stop=probe(ref).frames)) as reader:
        batches = list(reader)
    pixels = np.concatenate([batch.pixels for batch in batches])
    return [number_of(each) for each in pixels], np.concatenate([batch.pts_s for batch in batches]), pixels


def overlaid(path: Path, xy_px: np.ndarray | None = None) -> Path:
    """A video's overlay, with rows at these positions or of an absent object."""
    numbers, pts_s, _ = shown(path)
    n = len(numbers)
    there = xy_px if xy_px is not None else np.full((n, 2), np.nan, np.float32)
    rows = Trajectory(np.arange(n), pts_s, there, np.full(n, 0.9, np.float32)).to_rows(stat(str(path)).uri)
    out = path.with_name(f"{path.stem} overlay.mp4")
    render(str(path), rows, out)
    return out


def heard(path: Path) -> tuple[np.ndarray, int, float] | None:
    """Samples of the first channel, their rate and the time of the first; None where there is no sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        frames = list(container.decode(audio=0))
        samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        return samples, frames[0].sample_rate, frames[0].time


def vfr_ms(start_ms: int = 0) -> list[int]:
    return (start_ms + np.cumsum(np.random.default_rng(1).integers(12, 90, FRAMES))).tolist()


TIMED: dict[str, tuple[str, dict[str, object], float]] = {
    "constant rate": ("mp4", {}, 0.0),
    "variable rate": ("mp4", {"pts_ms": vfr_ms()}, 0.0),
    "a screen": ("mkv", {"ticks": [n for n in range(400) if n % 17 < 3], "frames": 60, "bframes": 0}, 0.0),
    "begins at 1.4 s": ("ts", {}, 0.0),
    "begins hours later": ("mkv", {"pts_ms": vfr_ms(7_200_000), "bframes": 0}, -7200.0 - vfr_ms()[0] / 1000),
    "some packets show nothing": (
        "webm",
        {
            "codec": "libvpx",
            "codec_options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "2M"},
            "bframes": 0,
            "pts_ms": vfr_ms(),
        },
        0.0,
    ),
}


@pytest.mark.parametrize("kind", TIMED)
def test_every_picture_is_there_at_its_own_time(tmp_path: Path, kind: str) -> None:
    suffix, options, shift_s = TIMED[kind]
    source = encode(tmp_path / f"v.{suffix}", **options)
    numbers, pts_s, _ = shown(source)
    drawn = overlaid(source)
    drawn_numbers, drawn_pts_s, _ = shown(drawn)
    assert drawn_numbers == numbers == list(range(options.get("frames", FRAMES)))
    assert drawn_pts_s == pytest.approx(pts_s + shift_s, abs=1e-4)
    assert probe(stat(str(drawn))).duration_s == pytest.approx(probe(stat(str(source))).duration_s, abs=2e-3)
    assert heard(drawn) is None


@pytest.mark.parametrize(("turn", "aspect"), [(0, (4, 3)), (90, (3, 4))])
def test_pixels_keep_their_aspect_and_a_ring_is_round_where_it_is_shown(
    tmp_path: Path, turn: int, aspect: tuple[int, int]
) -> None:
    source = encode(
        tmp_path / "v.mp4", frames=3, wh=WH, pixel_aspect=(4, 3), turn=(turn, False), picture_of=lambda *_: blank()
    )
    info = probe(stat(str(source)))
    assert info.pixel_aspect == aspect
    centre = np.array([200.25, 150.5], np.float32)
    drawn = overlaid(source, np.tile(centre, (3, 1)))
    assert (probe(stat(str(drawn))).pixel_aspect, probe(stat(str(drawn))).size_wh_px) == (aspect, info.size_wh_px)
    with av.open(str(drawn)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(*aspect)
    bright = shown(drawn)[2][1].astype(int).min(axis=2) < GREY - 40  # yellow has no blue
    bright[:, : 200 - 40] = bright[: 150 - 40] = bright[150 + 40 :] = False
    y, x = np.nonzero(bright)
    middle = np.array([x.max() + x.min(), y.max() + y.min()]) / 2
    assert middle == pytest.approx(centre, abs=1)
    wide, high = (x.max() - x.min()) * aspect[0] / aspect[1], y.max() - y.min()
    assert wide == pytest.approx(high, rel=0.15)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_all_the_sound_is_there_and_begins_when_it_did(tmp_path: Path, suffix: str) -> None:
    video = encode(tmp_path / "v.mp4")
    source = with_sound(video, tmp_path / f"loud.{suffix}", seconds=5.0)
    drawn = overlaid(source)
    (samples, rate_hz, start_s), begun_s = heard(drawn), shown(drawn)[1][0]
    assert rate_hz == 44100
    assert start_s - begun_s == pytest.approx(heard(source)[2] - shown(source)[1][0], abs=0.025)
    assert len(samples) / rate_hz == pytest.approx(
        5.0, abs=0.08
    )  # a transport stream also has what the encoder put around it
    crossings = np.count_nonzero(np.diff(np.sign(samples[rate_hz : 4 * rate_hz])))
    assert crossings / 6 == pytest.approx(TONE_HZ, rel=0.01)
    assert np.abs(samples[rate_hz : 4 * rate_hz]).max() == pytest.approx(10_000 / 32768, rel=0.1)


def test_sound_that_begins_later_and_at_an_odd_rate_stays_where_it_was(tmp_path: Path) -> None:
    video = encode(tmp_path / "v.mp4")
    drawn = overlaid(with_sound(video, tmp_path / "late.mkv", seconds=1.0, rate_hz=22000, start_s=0.8))
    samples, rate_hz, start_s = heard(drawn)
    loud_s = start_s + np.flatnonzero(np.abs(samples) > 0.05)[[0, -1]] / rate_hz
    assert rate_hz == 48000
    assert loud_s == pytest.approx([0.8, 1.8], abs=0.03)


def test_sound_that_cannot_be_decoded_costs_no_picture(tmp_path: Path) -> None:
    source = with_sound(encode(tmp_path / "v.mp4"), tmp_path / "loud.mp4", seconds=1.0)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    source.write_bytes(data)
    assert shown(overlaid(source))[0] == list(range(FRAMES))


def soft(number: int, wh: tuple[int, int]) -> np.ndarray:
    """Colours that no conversion has to clip."""
    y, x = np.mgrid[: wh[1], : wh[0]]
    return np.stack([90 + 80 * x / wh[0], 110 + 60 * y / wh[1], 150 - 70 * x / wh[0]], -1).astype(np.uint8)


COLOURS_OF = {
    "unspecified": ((2, 2, 2), {}),
    "HD": ((1, 1, 1), {}),
    "SD": ((6, 6, 6), {}),
    "HDR10": (
        (9, 9, 16),
        {"pixel_format": "yuv420p10le", "codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    ),
    "HLG": ((9, 9, 18), {"pixel_format": "yuv420p10le"}),
}


@pytest.mark.parametrize("kind", COLOURS_OF)
def test_colours_are_stored_as_in_the_source_and_mean_the_same(tmp_path: Path, kind: str) -> None:
    colour, options = COLOURS_OF[kind]
    source = encode(tmp_path / "v.mp4", frames=3, colour=colour, picture_of=soft, **options)
    drawn = overlaid(source)
    assert probe(stat(str(source))).colour == probe(stat(str(drawn))).colour == colour
    planes = []
    for path in (source, drawn):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            planes.append(frame.reformat(format="yuv420p").to_ndarray()[: VIDEO_WH[1] // 2].astype(int))
    assert np.abs(planes[0] - planes[1]).mean() < 2.5


def test_rows_of_another_video_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", [blank()], fps=30, wh=WH)
    rows = [track(way(1)).to_rows(f"file:///{name}.mp4") for name in "ab"]
    with pytest.raises(ConfigError, match=r"no rows of this video.*in\.mp4.*2 other videos"):
        render(str(tmp_path / "in.mp4"), pa.concat_tables(rows), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
