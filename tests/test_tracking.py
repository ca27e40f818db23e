from functools import partial

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from specktrack.annotating import annotate_here
from specktrack.datasets import load_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.heatmap.decoding import decode_published
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.heatmap.tracknet_entries import TrackNetV2Config
from specktrack.models.zoo import build, network_config
from specktrack.tracking.following import Reading
from specktrack.tracking.motion import Choice, choose
from specktrack.tracking.tracker import tracker_of
from specktrack.tracking.windowed.ensemble import Overlapping, joined
from specktrack.tracking.windowed.session import WindowedTracker, Windowing

VIEWPORT = Viewport((320, 160), (64, 32))
FRAMES = 61


@pytest.fixture(scope="module", params=["specknet", "specknet-ensemble", "specknet-low-delay", "tracknet-miso"])
def tracker(request):
    torch.manual_seed(0)
    if request.param == "tracknet-miso":
        config = TrackNetV2Config(outputs="last")
    else:
        config = SpeckNetConfig(widths=(8, 8, 16, 16))
    network = build(config)
    with torch.no_grad():  # an untrained network that claims much: logits of pure noise spread over both sides of zero
        logits = network.eval()(torch.rand(1, config.frames_in, 3, 32, 64))
        network.head.weight /= logits.std()
        network.head.bias.copy_(-(logits.mean() + 4) / logits.std() - 2.0)
    overlap = 8 if request.param == "specknet-ensemble" else 2
    reading = Reading(overlap=overlap, delay="low" if request.param == "specknet-low-delay" else "full")
    model = Model(network, ModelCard(name="random", network=config))
    return WindowedTracker(model, device=torch.device("cpu"), config=Windowing.of(reading))


PIXELS = np.random.default_rng(0).integers(0, 255, (FRAMES, 32, 64, 3), dtype=np.uint8)


def rows(tracker, start, stop, batch_frames):
    session = tracker.open()
    parts = []
    for i in range(start, stop, batch_frames):
        frame = np.arange(i, min(stop, i + batch_frames))
        parts.append(session.push(FrameBatch(PIXELS[frame], frame, frame / 30, VIEWPORT)))
    return concat([*parts, session.finish()])


def assert_same(one, other):
    np.testing.assert_array_equal(one.frame, other.frame)
    np.testing.assert_array_equal(one.xy_px, other.xy_px)
    np.testing.assert_array_equal(one.score, other.score)


def test_rows_do_not_depend_on_batches(tracker):
    whole = rows(tracker, 0, FRAMES, FRAMES)
    assert (whole.frame == np.arange(FRAMES)).all() and whole.present.any() and len(np.unique(whole.score)) > 10
    for batch_frames in (1, 7, 32):
        assert_same(rows(tracker, 0, FRAMES, batch_frames), whole)


def test_provisional_rows_come_with_the_window_and_change_nothing(tracker):
    whole, session, parts, delays = rows(tracker, 0, FRAMES, FRAMES), tracker.open(), [], []
    for frame in range(48):
        parts.append(
            session.push(FrameBatch(PIXELS[frame : frame + 1], np.array([frame]), np.array([frame / 30]), VIEWPORT))
        )
        final, waiting = concat(parts), session.provisional()
        assert concat([final, waiting]).frame.tolist() == list(range(len(final) + len(waiting)))
        delays.append((frame + 1 - len(final) - len(waiting), frame + 1 - len(final)))
    assert_same(concat(parts), whole[: len(final)])
    assert max(waits for waits, _ in delays[8:]) < tracker.stride, "a window later they are there"
    assert_same(session.provisional(), session.finish()), "as if no frame came any more"


def test_rows_of_low_delay_wait_for_two_frames_and_those_of_a_network_that_draws_the_last_for_no_window():
    torch.manual_seed(0)
    for config, reading, waits in (
        (
            SpeckNetConfig(widths=(8, 8, 16, 16)),
            Reading(),
            4 + 8 + 3,
        ),  # what a window of stride 4 leaves open, 8 neighbours
        (SpeckNetConfig(widths=(8, 8, 16, 16)), Reading(delay="low"), 2),
        (TrackNetV2Config(outputs="last"), Reading(), 8),
    ):
        model = Model(build(config).eval(), ModelCard(name="random", network=config))
        session, final, most = tracker_of(model, device="cpu", **reading.model_dump(exclude_unset=True)).open(), 0, 0
        for frame in range(40):
            one = FrameBatch(PIXELS[frame : frame + 1], np.array([frame]), np.array([frame / 30]), VIEWPORT)
            final += len(session.push(one))
            most = max(most, frame + 1 - final)
        assert most == waits, config.name


def test_rows_of_cut_video_equal_those_of_one_pass(tracker):
    whole = rows(tracker, 0, FRAMES, FRAMES)
    lead = tracker.lead
    assert lead % tracker.stride == 0
    for start, stop in [(0, 24), (24, 48), (48, FRAMES), (32, 40)]:
        clip = rows(tracker, max(0, start - lead), min(FRAMES, stop + lead), 9).between(start, stop)
        assert_same(clip, whole.between(start, stop))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 3), (5, 17), (3, 60)])
def test_every_frame_gets_one_row_also_in_short_and_unaligned_video(tracker, start, stop):
    assert (rows(tracker, start, stop, 4).frame == np.arange(start, stop)).all()


def test_a_gap_between_batches_is_refused(tracker):
    session = tracker.open()
    session.push(FrameBatch(PIXELS[:2], np.arange(2), np.zeros(2), VIEWPORT))
    with pytest.raises(ValueError, match="expected frame 2, got 5"):
        session.push(FrameBatch(PIXELS[:1], np.array([5]), np.zeros(1), VIEWPORT))


def test_another_viewport_in_the_same_session_is_refused(tracker):
    session = tracker.open()
    session.push(FrameBatch(PIXELS[:2], np.arange(2), np.zeros(2), VIEWPORT))
    other = Viewport((640, 320), VIEWPORT.network_wh_px)
    with pytest.raises(ValueError, match="a session keeps its viewport"):
        session.push(FrameBatch(PIXELS[:1], np.array([2]), np.zeros(1), other))


def test_an_empty_session_has_no_rows(tracker):
    assert len(tracker.open().finish()) == 0


def flight(frames=12, speed=6.0):
    """Two candidates per frame: a ball that flies, and nothing."""
    xy = np.full((frames, 2, 2), np.nan, np.float32)
    xy[:, 0] = np.stack([10 + speed * np.arange(frames), 50 + 0.5 * np.arange(frames)], axis=1)
    score = np.tile(np.array([0.9, 0.0], np.float32), (frames, 1))
    return xy, score


def test_a_lone_jump_loses_against_the_continued_flight():
    xy, score = flight()
    xy[6, 1], score[6] = (300, 200), (0.6, 0.75)  # a brighter spot far away, once
    chosen, _ = choose(xy, score, Choice(), wh_px=(512, 288))
    np.testing.assert_allclose(chosen, xy[:, 0])
    alone, _ = choose(xy, score, Choice(frames=0), wh_px=(512, 288))
    np.testing.assert_allclose(alone[6], (300, 200))


def test_a_weak_candidate_on_the_flight_is_kept_and_one_off_it_is_not():
    xy, score = flight()
    score[5, 0] = 0.06
    chosen, _ = choose(xy, score, Choice(), wh_px=(512, 288))
    np.testing.assert_allclose(chosen[5], xy[5, 0])
    xy[5, 0] = (300, 200)
    chosen, _ = choose(xy, score, Choice(), wh_px=(512, 288))
    assert np.isnan(chosen[5]).all()


def test_a_weak_object_that_stays_is_kept_and_one_that_flashes_is_not():
    xy, score = flight(20, speed=0.0)
    score[:, 0] = 0.0
    score[8, 0] = 0.4
    assert np.isnan(choose(xy, score, Choice(), wh_px=(512, 288))[0]).all()
    score[4:16, 0] = 0.4
    np.testing.assert_array_equal(~np.isnan(choose(xy, score, Choice(), wh_px=(512, 288))[0][:, 0]), score[:, 0] > 0)


def test_the_choice_by_hand():
    xy = np.array([[(0, 0), (390, 0)], [(10, 0), (np.nan, np.nan)]], np.float32)
    score = np.array([[0.5, 0.6], [0.9, 0.0]], np.float32)
    # frame 0, in units: the near one 0 + log 9 - 10/20 = 1.70, the far one log 1.5 + log 9 - 2 = 0.60, none log 9 - 1
    near, _ = choose(xy, score, Choice(frames=1, threshold=0.5, step=0.04, change=1), wh_px=(400, 300))
    np.testing.assert_allclose(near[0], (0, 0))
    # a far step of 380/2000 of a unit: 2.19 and log 1.5 + log 9 - 0.19 = 2.41
    far, _ = choose(xy, score, Choice(frames=1, threshold=0.5, step=4, change=1), wh_px=(400, 300))
    np.testing.assert_allclose(far[0], (390, 0))


def test_the_same_course_in_a_larger_picture_is_chosen_alike():
    xy, score = flight()
    xy[6, 1], score[6] = (40, 60), (0.3, 0.6)
    small = choose(xy, score, Choice(), wh_px=(512, 288))[0]
    large = choose(xy * 3, score, Choice(), wh_px=(1536, 864))[0]
    np.testing.assert_allclose(large, small * 3)
    assert not np.allclose(choose(xy * 3, score, Choice(), wh_px=(512, 288))[0], large), "a step counts by its share"


def test_nothing_below_the_floor_is_taken():
    xy, score = flight()
    score[:, 0] = 0.04
    chosen, kept = choose(xy, score, Choice(), wh_px=(512, 288))
    assert np.isnan(chosen).all() and np.allclose(kept, 0.04)


def means(kind, frames=6, outputs=3, stride=1):
    """Window s draws s, s + 1/10, s + 2/10 for its three frames; the last windows end with the video."""
    overlapping = Overlapping(kind, lambda heatmaps: (heatmaps, heatmaps), outputs=outputs, stride=stride)
    for start in range(0, frames - outputs + 1, stride):
        overlapping.add(start, torch.tensor([start + i / 10 for i in range(outputs)])[:, None, None])
    frame, mean, _ = overlapping.take(0, frames)
    assert frame == list(range(frames))
    return mean[:, 0, 0]


@pytest.mark.parametrize(("kind", "rows"), [
    ("middle", [0.0, (2 * 0.1 + 1) / 3, (0.2 + 2 * 1.1 + 2) / 4]),
    ("average", [0.0, (0.1 + 1) / 2, (0.2 + 1.1 + 2) / 3]),
    ("triangular", [0.0, (0.1 + 1) / 2, (0.2 + 2 * 1.1 + 2) / 4]),  # plain where fewer than three windows see a frame
])  # fmt: skip
def test_temporal_ensembles_by_hand(kind, rows):
    np.testing.assert_allclose(means(kind)[:3], rows, rtol=1e-6)


def test_triangular_weights_of_eight_windows_are_tracknetv3s():
    ones = Overlapping("triangular", lambda heatmaps: (heatmaps, heatmaps), outputs=8, stride=1)
    for start in range(8):
        ones.add(start, torch.tensor([float(start == 3)] * 8)[:, None, None])
    _, mean, _ = ones.take(7, 8)
    assert float(mean) == pytest.approx(4 / 20)  # frame 7 is the fifth frame of window 3: 1 2 3 4 4 3 2 1 of 20


@pytest.mark.parametrize("kind", ["middle", "average", "triangular"])
def test_without_overlap_every_ensemble_is_the_one_window(kind):
    np.testing.assert_allclose(means(kind, stride=3), [0, 0.1, 0.2, 3, 3.1, 3.2], rtol=1e-6)


def test_a_pool_keeps_what_one_window_alone_sees():
    """WASB's step 1: of three windows of three frames one draws a region in frame 2; their mean is below one half."""
    heatmaps = torch.zeros(3, 3, 12, 20)
    heatmaps[0, 2, 4:6, 7:9] = 0.9  # the window from frame 0 on
    heatmaps[2, 0, 9, 15] = 0.6  # the window from frame 2 on
    decode = partial(decode_published, "components", candidates=2)
    pooled, mean = (joined(kind, decode, outputs=3, stride=1) for kind in ("pooled", "average"))
    for start, window in enumerate(heatmaps):
        pooled.add(start, window)
        mean.add(start, window)
    frames, xy, score = pooled.take(0, 3)
    assert frames == [0, 1, 2] and xy.shape == (3, 6, 2) and torch.isnan(xy[:2]).all()
    np.testing.assert_allclose(xy[2, :2], [[7.5, 4.5], [15, 9]], atol=1e-6)  # best first, whichever window it is from
    np.testing.assert_allclose(score[2], [3.6 / 4.6, 0.6 / 1.6, 0, 0, 0, 0], rtol=1e-6)
    assert torch.isnan(mean.take(0, 3)[1]).all()
    assert pooled.take(0, 3)[0] == [] and pooled.take(3, 4)[0] == [3]


def test_a_pool_is_of_regions():
    with pytest.raises(ValidationError, match="ensemble=pooled needs decoding=components"):
        Reading(ensemble="pooled")


def random_tracker(windowing):
    torch.manual_seed(0)
    config = SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=3)
    network = build(config).eval()
    with torch.no_grad():  # as above
        logits = network(torch.rand(1, 3, 3, 32, 64))
        network.head.weight /= logits.std()
        network.head.bias.copy_(-(logits.mean() + 4) / logits.std() - 2.5)
    model = Model(network, ModelCard(name="random", network=config))
    return WindowedTracker(model, device=torch.device("cpu"), config=windowing)


def test_wasbs_step_1_and_step_3():
    step_1 = random_tracker(Windowing.of(Reading(overlap=3, ensemble="pooled", decoding="components")))
    whole = rows(step_1, 0, FRAMES, FRAMES)
    assert (whole.frame == np.arange(FRAMES)).all() and whole.present.any()
    assert_same(rows(step_1, 0, FRAMES, 7), whole)
    clip = rows(step_1, 30 - step_1.lead, 34 + step_1.lead, 9).between(30, 34)
    assert_same(clip, whole.between(30, 34))
    step_3 = [
        random_tracker(Windowing.of(Reading(overlap=1, ensemble=kind, decoding="components")))
        for kind in ("pooled", "average")
    ]
    alone, mean = (rows(tracker, 0, FRAMES, FRAMES) for tracker in step_3)
    assert_same(alone, mean)
    assert not np.array_equal(alone.xy_px, whole.xy_px, equal_nan=True)


@pytest.mark.parametrize("kind", ["average", "triangular"])
def test_rows_of_cut_video_equal_those_of_one_pass_in_every_ensemble(kind):
    torch.manual_seed(0)
    config = SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=4)
    model = Model(build(config).eval(), ModelCard(name="random", network=config))
    tracker = WindowedTracker(model, device=torch.device("cpu"), config=Windowing(overlap=4, ensemble=kind))
    whole = rows(tracker, 0, FRAMES, FRAMES)
    clip = rows(tracker, 24 - tracker.lead, 48 + tracker.lead, 9).between(24, 48)
    assert_same(clip, whole.between(24, 48))


def test_a_published_decoding_brings_its_paper_s_choice():
    assert Windowing.of(Reading()) == Windowing()
    assert Windowing.of(Reading(decoding="largest-box", overlap=8)).choice == Choice(frames=0)
    gated = Windowing.of(Reading(decoding="components", ensemble="triangular"))
    assert gated.choice.kind == "gated" and gated.ensemble == "triangular" and gated.decoding == "components"


def test_heatmap_settings_are_refused_where_there_is_no_heatmap():
    config = network_config("inpaintnet")
    repairer = Model(build(config), ModelCard(name="inpaint", network=config))
    with pytest.raises(ConfigError, match="a repair network takes no overlap: 'inpaint'"):
        tracker_of(repairer, overlap=1)


@pytest.mark.parametrize("decoding", ["largest-box", "largest-contour", "hough", "components"])
def test_published_decodings_give_rows_too(tracker, decoding):
    config = tracker.config.model_copy(update={"decoding": decoding})
    published = WindowedTracker(tracker.model, device=torch.device("cpu"), config=config)
    assert len(rows(published, 0, 17, 9)) == 17


def test_a_video_seen_at_another_size_has_its_rows_in_the_same_pixels(tmp_path):
    own, larger = (random_tracker(Windowing(input_wh=wh)) for wh in (None, (768, 432)))
    assert own.viewport((1280, 720)).network_wh_px == own.model.config.input_wh
    assert larger.viewport((1280, 720)).network_wh_px == (768, 432)
    width, height = larger.viewport((720, 1280)).network_wh_px
    assert width < height and width * height == pytest.approx(768 * 432, rel=0.05)
    write_archive(SynthConfig(videos=1, frames=24, seed=2, sport="badminton"), str(tmp_path))
    truth = load_dataset(str(tmp_path))
    track = truth.track(truth.card.videos[0])
    for wh in (512, 288), (768, 432):
        table = annotate_here(truth.card.videos[0].ref.uri, input_wh=wh, device="cpu")
        off_px = np.linalg.norm(Trajectory.from_rows(table).xy_px - track.xy_px, axis=1)
        assert np.nanmedian(off_px) < 2


def test_an_input_size_that_no_network_can_halve_four_times_is_refused():
    with pytest.raises(ValidationError, match="both sides must be multiples of 16: use 640,368"):
        Reading(input_wh=(640, 361))
