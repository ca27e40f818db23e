"""Following what prompts show: motion, paths, what sources say together, objects that meet, both directions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.zoo import build, network_config
from specktrack.schema import Box, Prompt
from specktrack.tracking.both_ways import Mirror, joined
from specktrack.tracking.camera import Camera
from specktrack.tracking.candidates import AGAINST, Picture, Places, pooled
from specktrack.tracking.flight import Flight, Motion
from specktrack.tracking.follower import Choosing, FollowerTracker
from specktrack.tracking.paths import Paths, Weighing
from specktrack.tracking.rivals import DOUBT
from specktrack.tracking.tracker import open_session, tracker_of

WH = (320, 192)


def batch_of(pixels: np.ndarray, first: int = 0) -> FrameBatch:
    frame = np.arange(first, first + len(pixels))
    size = (pixels.shape[2], pixels.shape[1])
    return FrameBatch(pixels, frame, frame / 30, Viewport(size, size))


def scene(*ways: np.ndarray, colours: tuple = ((230, 30, 30),), hidden: tuple = ()) -> np.ndarray:
    """Squares of 7 px that go ``ways`` [N, 2] over noise, but in frames ``hidden``."""
    n = len(ways[0])
    pixels = np.full((n, WH[1], WH[0], 3), 110, np.uint8)
    pixels += np.random.default_rng(0).integers(0, 12, pixels.shape, dtype=np.uint8)
    for way, colour in zip(ways, colours * len(ways), strict=False):
        for frame, (x, y) in enumerate(np.round(way).astype(int)):
            if frame not in hidden:
                pixels[frame, y - 3 : y + 4, x - 3 : x + 4] = colour
    return pixels


def line(n: int, start: tuple[float, float], step: tuple[float, float]) -> np.ndarray:
    return np.array(start) + np.arange(n)[:, None] * np.array(step)


def prompt(way: np.ndarray, frame: int = 0, number: int = 0) -> Prompt:
    x, y = way[frame].tolist()
    return Prompt(frame=frame, box=Box(cx_px=x, cy_px=y, w_px=7, h_px=7), object=number)


# --- flight and paths -----------------------------------------------------------------------------------------------


def test_a_flight_learns_speed_and_gravity_in_px_and_seconds() -> None:
    t = np.arange(12) / 30
    thrown = np.stack([10 + 300 * t, 100 - 400 * t + 900 * t**2], axis=1)
    flight = Flight.begin(0.0, thrown[0], size_px=8, speed_px_s=400)
    for at, place in zip(t[1:-1], thrown[1:-1], strict=True):
        flight = flight.at(at, Motion(), size_px=8).seen(place[None], 0.5)
    ahead = flight.at(t[-1], Motion(), size_px=8)
    assert np.abs(ahead.xy_px[0] - thrown[-1]).max() < 2
    assert flight.mean[0, 1] == pytest.approx([300, -400 + 1800 * t[-2]], abs=40)
    later = flight.at(t[-1] + 0.5, Motion(), size_px=8)
    assert later.sigma_px[0] > 5 * ahead.sigma_px[0]


def follow(way: np.ndarray, others: dict[int, list], *, missing: tuple = (), worth: float = 2.0) -> list:
    """The place that paths take in each frame: "own" (the way's), "other", or None."""
    paths = Paths(Weighing(), 0, Flight.begin(0.0, way[0], size_px=8, speed_px_s=200))
    for frame in range(1, len(way)):
        own = [] if frame in missing else [way[frame]]
        places = np.array([*own, *others.get(frame, [])]).reshape(-1, 2)
        evidence = np.array([2.0] * len(own) + [worth] * (len(places) - len(own)))
        paths.extend(frame, frame / 30, places, evidence, size_px=8)
    course = paths.course(0)
    steps = [course.get(frame) for frame in range(1, len(way))]
    return [None if s is None else "own" if np.allclose(s.xy_px, way[s.frame]) else "other" for s in steps]


def test_a_path_keeps_its_flight_where_another_thing_crosses_it() -> None:
    way, crossing = line(20, (20, 50), (5, 0)), line(20, (70, 0), (0, 5))
    assert follow(way, {f: [crossing[f]] for f in range(20)}) == ["own"] * 19


def test_a_path_leaves_out_frames_and_returns_to_its_own() -> None:
    way, resting = line(24, (20, 50), (5, 0)), [np.array([75.0, 80])]
    found = follow(way, dict.fromkeys(range(24), resting), missing=tuple(range(10, 15)), worth=2 - DOUBT)
    assert found == ["own"] * 9 + [None] * 5 + ["own"] * 9


def test_a_hit_is_followed() -> None:
    way = np.concatenate([line(10, (20, 50), (8, 0)), line(10, (84, 62), (-8, 12))])
    assert follow(way, {}) == ["own"] * 19


def test_a_source_that_looked_and_saw_nothing_speaks_against_a_place() -> None:
    one = Places(np.array([[10.0, 10], [50, 50]]), np.array([2.0, 1.0]), np.array([0.9, 0.7]))
    near = Places(np.array([[11.0, 10]]), np.array([1.0]), np.array([0.6]), np.array([[0, 0, 20, 20]]))
    pool = pooled([one, near], np.array([1.0, 0.5]), within_px=4)
    assert pool.places.xy_px.tolist() == [[10, 10], [50, 50]]
    assert pool.places.evidence.tolist() == pytest.approx([2.5, 1.0])  # the second did not look at (50, 50)
    everywhere = replace(near, looked_at=one.looked_at)
    assert pooled([one, everywhere], np.ones(2), within_px=4).places.evidence[1] == pytest.approx(1 - AGAINST)
    assert np.isnan(pool.belief[1, 1]) and pool.belief[1, 0] > 0.5


def test_the_camera_s_shift_is_found() -> None:
    ground = np.random.default_rng(0).integers(0, 255, (50, 67, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    camera, viewport = Camera(), Viewport((320, 240), (320, 240))
    places = [(20, 20), (28, 23), (28, 23)]  # the window moves right and down: the scene left and up
    shifts = [
        camera.shift_px(Picture(i, i / 30, ground[y : y + 240, x : x + 320], viewport))
        for i, (x, y) in enumerate(places)
    ]
    assert np.abs(np.array(shifts) - [[0, 0], [-8, -3], [0, 0]]).max() < 1
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    assert camera.shift_px(Picture(3, 0.1, noise, viewport)).tolist() == [0, 0]  # another scene


def test_before_a_plain_sky_the_camera_does_not_move_with_the_object() -> None:
    camera, viewport = Camera(), Viewport(WH, WH)
    for frame, pixels in enumerate(scene(line(4, (60, 60), (12, 0)))):
        assert camera.shift_px(Picture(frame, frame / 30, pixels, viewport)).tolist() == [0, 0]


# --- sessions -------------------------------------------------------------------------------------------------------


class Spots:
    """A source that sees spots of a colour, wherever they are."""

    def begin(self, picture: Picture, box: Box) -> float:
        return 1.0

    def propose(self, picture: Picture, expected: object, hints_px: np.ndarray) -> Places:
        ys, xs = np.nonzero(picture.pixels[..., 0] > 200)
        centres = {(round(x / 8), round(y / 8)): (x, y) for x, y in zip(xs, ys, strict=True)}
        middles = [
            (xs[(abs(xs - x) < 8) & (abs(ys - y) < 8)].mean(), ys[(abs(xs - x) < 8) & (abs(ys - y) < 8)].mean())
            for x, y in centres.values()
        ]
        places = np.unique(np.round(np.array(middles).reshape(-1, 2), 1), axis=0)
        return Places.scored(places, np.full(len(places), 0.8), threshold=0.3)

    def confirm(self, picture: Picture, xy_px: np.ndarray) -> None:
        pass


def spotted(prompts: list[Prompt], pixels: np.ndarray, wait: int = 0, at_once: int = 7) -> Trajectory:
    session = FollowerTracker(Choosing(wait=wait), looking=lambda: [Spots()]).open(prompts)
    parts = [session.push(batch_of(pixels[i : i + at_once], i)) for i in range(0, len(pixels), at_once)]
    return concat([*parts, session.finish()])


def test_several_prompts_are_several_objects_in_one_pass_that_keep_their_identities() -> None:
    n = 30
    ways = line(n, (30, 60), (8, 0)), line(n, (280, 130), (-8, -2))
    rows = spotted([prompt(ways[0]), prompt(ways[1], number=4)], scene(*ways))
    assert sorted(set(rows.object.tolist())) == [0, 4] and rows.frames == n
    for number, way in zip((0, 4), ways, strict=True):
        mine = rows.of(number)
        assert mine.frame.tolist() == list(range(n))
        assert np.abs(mine.xy_px - way).max() < 3


def test_rows_do_not_depend_on_batches_and_wait_as_long_as_they_may_change() -> None:
    way = line(20, (30, 60), (6, 1))
    pixels = scene(way, hidden=(8, 9, 10))
    whole, parts = (spotted([prompt(way)], pixels, wait=3, at_once=n) for n in (20, 3))
    np.testing.assert_array_equal(whole.xy_px, parts.xy_px)
    assert whole.present.tolist() == [frame not in (8, 9, 10) for frame in range(20)]
    session = FollowerTracker(Choosing(wait=3), looking=lambda: [Spots()]).open(prompt(way))
    assert len(session.push(batch_of(pixels[:10]))) == 7 and len(session.finish()) == 3


def test_objects_that_cover_one_another_are_marked() -> None:
    n = 30
    ways = line(n, (30, 60), (8, 0)), line(n, (262, 60), (-8, 0))
    rows = spotted([prompt(ways[0]), prompt(ways[1], number=1)], scene(*ways))
    together = np.linalg.norm(ways[0] - ways[1], axis=1) < 3
    assert (rows.of(0).visibility[together & rows.of(0).present & rows.of(1).present] == "occluded").all()
    assert np.abs(rows.of(0).xy_px - ways[0])[-5:].max() < 3  # and each goes on as it came


def test_an_object_that_leaves_for_a_second_comes_back_among_lookalikes() -> None:
    n = 90
    way, resting = line(n, (30, 60), (2, 0)), line(n, (150, 150), (0, 0))
    pixels = scene(resting)
    own = scene(way, hidden=tuple(range(30, 60)))
    pixels = np.where((own[..., :1] > 200), own, pixels)
    rows = spotted([prompt(way)], pixels, wait=8)
    assert not rows.present[30:60].any()
    assert rows.present[:30].all() and rows.present[60:].all()
    assert np.abs(rows.xy_px - way)[rows.present].max() < 3


def test_bad_prompts_are_refused_with_frame_and_size_of_the_picture() -> None:
    way = line(4, (30, 60), (2, 0))
    pixels = scene(way)
    outside = Prompt(frame=1, box=Box(cx_px=900, cy_px=10, w_px=5, h_px=5))
    with pytest.raises(ConfigError, match=r"outside the frame: \(900.*frame 1 of 320x192 px"):
        spotted([outside], pixels)
    with pytest.raises(ConfigError, match=r"the video ends before the prompt's frame: 9.*4 frames"):
        spotted([prompt(way).model_copy(update={"frame": 9})], pixels)
    with pytest.raises(ConfigError, match=r"two prompts of object 0 in one frame"):
        spotted([prompt(way), prompt(way)], pixels)
    with pytest.raises(ConfigError, match=r"needs a prompt.*give a frame and a box"):
        spotted([], pixels)


# --- heatmap networks -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def windowed() -> Model:
    """A network that draws where red is, so that what follows is tested and not what it learned."""
    config = network_config({"name": "specknet", "widths": (4, 4, 4, 4), "input_wh": WH})
    network = build(config).eval()

    def red(frames_BTCHW: torch.Tensor) -> torch.Tensor:
        stride = config.target.stride
        seen = frames_BTCHW[:, -config.frames_out :, 0] - frames_BTCHW[:, -config.frames_out :, 1]
        return 10 * torch.nn.functional.avg_pool2d(seen, 7, stride, padding=3) - 4  # as wide as a square: one peak each

    network.forward = red
    return Model(network, ModelCard(name="red", network=config))


def test_a_prompt_says_which_ball_a_heatmap_network_follows(windowed: Model) -> None:
    n = 24
    ways = line(n, (30, 60), (6, 0)), line(n, (290, 140), (-6, 0))
    pixels = scene(*ways)
    for way in ways:
        session = open_session(windowed, prompt=prompt(way, 2), device="cpu", engine="eager")
        rows = concat([session.push(batch_of(pixels)), session.finish()])
        assert not rows.present[:2].any() and np.abs(rows.xy_px - way)[2:].max() < 2
        assert (rows.wh_px[2:] == 7).all() and (rows.provenance == "tracked").all()


def test_a_prompted_tracker_sees_the_network_s_size_and_needs_all_frames(windowed: Model) -> None:
    tracker = tracker_of(windowed, device="cpu", prompted=True, engine="eager")
    assert tracker.lead is None and tracker.viewport((1280, 768)).network_wh_px == WH
    with pytest.raises(ConfigError, match="needs a prompt"):
        tracker.open()
    with pytest.raises(ConfigError, match="made for following without a prompt: 'red'; make it with prompted=True"):
        tracker_of(windowed, device="cpu", engine="eager").open(prompt(line(1, (5, 5), (0, 0))))


def test_a_heatmap_network_is_a_template_tracker_s_finder(windowed: Model, tmp_path) -> None:
    """The object jumps out of every search region; the head alone loses it, with the finder it is followed."""
    from specktrack.models.checkpoint import load_model
    from specktrack.tracking.following import Following
    from specktrack.tracking.tracker import Parts, make_tracker

    way = np.concatenate([line(8, (40, 60), (3, 0)), line(14, (260, 150), (-3, 0))])
    pixels = scene(way)
    local = load_model("speckdimp")
    rows = {}
    for name, finder in (("alone", None), ("helped", windowed)):
        session = make_tracker(Following(), device="cpu", parts=Parts(local, finder=finder)).open(prompt(way))
        rows[name] = concat([session.push(batch_of(pixels)), session.finish()])
    right = {name: np.abs(found.xy_px - way).max(axis=1) < 3 for name, found in rows.items()}
    assert right["alone"][:8].all() and not right["alone"][8:12].any()
    assert right["helped"][:8].all() and right["helped"][12:].all()


# --- both directions ------------------------------------------------------------------------------------------------


def test_a_mirror_shows_a_video_backwards_and_turns_its_rows_round() -> None:
    way = line(12, (30, 60), (6, 1))
    batch = batch_of(scene(way))
    mirror = Mirror(9, float(batch.pts_s[9]))
    session = FollowerTracker(Choosing(), looking=lambda: [Spots()]).open(mirror.prompts([prompt(way, 9)]))
    rows = mirror.rows(session.push(mirror.batch(batch[:10])))
    assert rows.frame.tolist() == list(range(10)) and np.allclose(rows.pts_s, batch.pts_s[:10])
    assert np.abs(rows.xy_px - way[:10]).max() < 3


def track(way: np.ndarray, absent: tuple = ()) -> Trajectory:
    n = len(way)
    xy_px = way.astype(np.float32).copy()
    xy_px[list(absent)] = np.nan
    wh_px = np.where(np.isnan(xy_px), np.nan, 8).astype(np.float32)
    return Trajectory(np.arange(n), np.arange(n) / 30, xy_px, np.ones(n, np.float32), wh_px=wh_px)


def test_two_prompts_are_joined_where_both_passes_agree() -> None:
    way = line(21, (0, 50), (4, 0))
    at = np.arange(21)[:, None]
    drifts, late = way + [0, 40] * ((at > 12) & (at < 20)), way + [0, 40] * ((at > 0) & (at < 8))
    told = [prompt(way, 0), prompt(way, 20)]
    rows = joined(track(drifts), track(late), told)
    np.testing.assert_allclose(rows.xy_px, way, atol=1e-4)
    assert (rows.gap == 0).all() and rows.present.all()


def test_what_neither_pass_is_believed_in_is_interpolated_and_marked() -> None:
    way = line(21, (0, 50), (4, 0))
    between = (np.arange(21)[:, None] > 8) & (np.arange(21)[:, None] < 12)
    rows = joined(track(way + [0, 40] * between), track(way - [0, 40] * between), [prompt(way, 0), prompt(way, 20)])
    np.testing.assert_allclose(rows.xy_px, way, atol=1e-4)
    assert rows.gap.tolist() == [3 if 8 < frame < 12 else 0 for frame in range(21)]
    assert set(rows.provenance[9:12]) == {"interpolated"} and set(rows.visibility[9:12]) == {"occluded"}


def test_where_one_pass_has_lost_it_the_other_counts() -> None:
    way = line(21, (0, 50), (4, 0))
    rows = joined(track(way, absent=tuple(range(5, 20))), track(way), [prompt(way, 0), prompt(way, 20)])
    np.testing.assert_allclose(rows.xy_px, way, atol=1e-4)
