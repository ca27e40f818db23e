import numpy as np
import pytest
import torch

from specktrack.frames import FrameBatch, Viewport, concat
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.zoo import build, network_config
from specktrack.tracking.windowed.gated import Gate, choose_gated, expected
from specktrack.tracking.windowed.session import WindowedTracker, Windowing


def candidates(*frames):
    """Candidates [N, 2, 2] and scores [N, 2] from up to two (x, y, score) per frame."""
    xy, score = np.full((len(frames), 2, 2), np.nan), np.zeros((len(frames), 2))
    for n, found in enumerate(frames):
        for k, (x, y, s) in enumerate(found):
            xy[n, k], score[n, k] = (x, y), s
    return xy, score


def x_of(frames, **settings):
    return choose_gated(*candidates(*frames), Gate(**settings))[0][:, 0].tolist()


def test_constant_acceleration_is_extrapolated_exactly():
    t = np.arange(4)
    path = np.stack([5 + 3 * t + 0.5 * 4 * t**2, 7 - 2 * t + 0.5 * 9.8 * t**2], axis=1)
    np.testing.assert_allclose(expected(path[[2, 1, 0], None]), path[3][None])


def test_the_last_place_is_expected_until_three_frames_are_known():
    unknown = np.full((1, 2), np.nan)
    np.testing.assert_array_equal(expected(np.stack([np.full((1, 2), 7.0), np.full((1, 2), 3.0), unknown])), [[7, 7]])


def test_the_brightest_candidate_beyond_the_gate_is_not_taken():
    frames = [[(0, 0, 0.9)], [(10, 0, 0.6), (400, 0, 0.9)]]
    assert x_of(frames) == [0, 10]
    assert x_of(frames, max_disp_px=500) == [0, 400]


def test_a_ball_faster_than_the_gate_is_kept_by_the_prediction():
    """The released code never calls its prediction: at 60 px per frame with a gate of 50 it would lose the ball."""
    frames = [[(5 * n**2, 0, 0.9), (900, 0, 0.95)][: 1 + (n == 8)] for n in range(9)]  # steps of 5, 15, ... 75 px
    assert x_of(frames, max_disp_px=50) == [5 * n**2 for n in range(9)]


def test_after_a_frame_without_the_object_it_may_be_anywhere():
    assert x_of([[(0, 0, 0.9)], [(999, 0, 0.9)], [(999, 0, 0.9)]])[2] == 999


def test_weak_candidates_are_never_taken():
    xy, score = choose_gated(*candidates([(0, 0, 0.4)]), Gate())
    assert np.isnan(xy).all() and score.tolist() == [pytest.approx(0.4)]


def unbounded(xy, score, gate):
    """The published loop, which remembers everything."""
    last, rows = [np.full(2, np.nan)] * 3, []
    for places, values in zip(xy, score, strict=True):
        near = np.linalg.norm(places - expected(np.stack(last)[:, None])[0], axis=1) < gate.max_disp_px
        good = (values >= gate.threshold) & (near | np.isnan(last[0]).any())
        rows.append(places[np.where(good, values, -1).argmax()] if good.any() else np.full(2, np.nan))
        last = [rows[-1], *last[:2]]
    return np.array(rows)


def test_rows_are_those_of_the_published_loop_where_it_forgot_within_memory():
    draw = np.random.default_rng(0)
    xy = np.cumsum(draw.normal(0, 20, (200, 1, 2)), axis=0) + draw.normal(0, 150, (200, 3, 2)) * [[0], [1], [1]]
    score = draw.uniform(0, 1, (200, 3))
    gate = Gate(max_disp_px=100, memory=24)
    rows, published = choose_gated(xy, score, gate)[0], unbounded(xy, score, gate)
    np.testing.assert_allclose(rows, published, atol=1e-3)
    assert 0.1 < np.isnan(published[:, 0]).mean() < 0.9


@pytest.mark.parametrize("memory", [3, 8])
def test_a_row_depends_on_memory_alone(memory):
    draw = np.random.default_rng(1)
    xy, score = draw.uniform(0, 300, (60, 3, 2)), draw.uniform(0.4, 1, (60, 3))
    gate = Gate(max_disp_px=60, memory=memory)
    whole = choose_gated(xy, score, gate)[0]
    for start in (1, 17, 40):
        part = choose_gated(xy[start:], score[start:], gate)[0]
        np.testing.assert_array_equal(part[memory:], whole[start + memory :])


def test_rows_of_a_gated_session_do_not_depend_on_batches_or_cuts():
    torch.manual_seed(0)
    config = network_config({"name": "tsm-net", "frames_in": 4, "widths": [8, 8, 8, 8]})
    network = build(config).eval()
    with torch.no_grad():  # an untrained network that claims much
        logits = network(torch.rand(1, 4, 3, 32, 64))
        network.head.weight /= logits.std()
        network.head.bias.copy_(-(logits.mean() + 4) / logits.std() + 0.5)
    windowing = Windowing(choice={"kind": "gated", "memory": 5, "max_disp_px": 60.0})
    model = Model(network, ModelCard(name="random", network=config))
    tracker = WindowedTracker(model, device=torch.device("cpu"), config=windowing)
    pixels = np.random.default_rng(0).integers(0, 255, (41, 32, 64, 3), dtype=np.uint8)
    viewport = Viewport((320, 160), (64, 32))

    def rows(start, stop, batch):
        session, parts = tracker.open(), []
        for i in range(start, stop, batch):
            frame = np.arange(i, min(stop, i + batch))
            parts.append(session.push(FrameBatch(pixels[frame], frame, frame / 30, viewport)))
        return concat([*parts, session.finish()])

    whole = rows(0, 41, 41)
    assert (whole.frame == np.arange(41)).all() and whole.present.sum() > 0
    np.testing.assert_array_equal(rows(0, 41, 3).xy_px, whole.xy_px)
    for start, stop in [(0, 16), (16, 32), (32, 41)]:
        clip = rows(max(0, start - tracker.lead), min(41, stop + tracker.lead), 7).between(start, stop)
        np.testing.assert_array_equal(clip.xy_px, whole.between(start, stop).xy_px)
