"""Video of a higher rate than a network was taught is followed as several of a lower one."""

import numpy as np
import pytest
import torch

from specktrack.annotating import annotate_here
from specktrack.annotating.plan import Cutting, cut
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.detector import Detector, MirroredDetector
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.zoo import build
from specktrack.schema import VideoRef
from specktrack.tracking.following import Reading
from specktrack.tracking.motion import Choice
from specktrack.tracking.tracker import tracker_of
from specktrack.tracking.windowed.interleaved import InterleavedSession, InterleavedTracker, at_rate, frames_apart
from specktrack.tracking.windowed.session import Windowing
from specktrack.video import VideoInfo

VIEWPORT = Viewport((320, 160), (64, 32))
FRAMES = 131
PIXELS = np.random.default_rng(0).integers(0, 255, (FRAMES, 32, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = SpeckNetConfig(widths=(8, 8, 16, 16))
    network = build(config)
    with torch.no_grad():  # untrained, and claims much
        logits = network.eval()(torch.rand(1, config.frames_in, 3, 32, 64))
        network.head.weight /= logits.std()
        network.head.bias.copy_(-(logits.mean() + 4) / logits.std() - 2.0)
    return Model(network, ModelCard(name="random", network=config))


def rows(tracker, frames, batch_frames=16, pixels=PIXELS):
    session, parts = tracker.open(), []
    for i in range(frames.start, frames.stop, batch_frames):
        frame = np.arange(i, min(frames.stop, i + batch_frames))
        parts.append(session.push(FrameBatch(pixels[frame], frame, frame / 120, VIEWPORT)))
    return concat([*parts, session.finish()])


def same(one, other):
    for name in ("frame", "pts_s", "xy_px", "score", "provenance", "gap"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize(
    ("fps", "apart"),
    [(24, 1), (25, 1), (29.97, 1), (30, 1), (50, 2), (59.94, 2), (60, 2), (90, 3), (120, 4), (240, 8), (5, 1)],
)
def test_frames_of_a_window_lie_as_far_apart_as_they_were_taught(fps, apart):
    assert frames_apart(fps, 1 / 30) == apart


def test_at_the_taught_rate_nothing_changes(model):
    tracker = tracker_of(model)
    assert at_rate(tracker, 30.0) is tracker
    assert at_rate(tracker_of(model, time_step=0), 240.0).stride == tracker.stride


def test_every_phase_has_the_rows_of_its_own_video(model):
    tracker = tracker_of(model)
    fast = rows(at_rate(tracker, 120.0), range(FRAMES))
    assert fast.frame.tolist() == list(range(FRAMES)) and fast.pts_s[7] == 7 / 120
    for phase in range(4):
        alone = rows(tracker, range(len(PIXELS[phase::4])), pixels=PIXELS[phase::4])
        np.testing.assert_array_equal(alone.xy_px, fast.xy_px[phase::4])
        np.testing.assert_array_equal(alone.score, fast.score[phase::4])


@pytest.mark.parametrize("repair", ["none", "ballistic"])
def test_rows_depend_neither_on_batches_nor_on_clips(model, repair):
    tracker = at_rate(tracker_of(model, repair=repair), 120.0)
    whole = rows(tracker, range(FRAMES))
    assert 0 < whole.present.sum() < FRAMES
    for batch_frames in (1, 7, FRAMES):
        same(rows(tracker, range(FRAMES), batch_frames), whole)
    middle = range(tracker.stride, 2 * tracker.stride)
    around = range(max(0, middle.start - tracker.lead), min(FRAMES, middle.stop + tracker.lead))
    same(rows(tracker, around).between(middle.start, middle.stop), whole.between(middle.start, middle.stop))


def test_rows_begin_with_any_first_frame_and_end_with_any_number(model):
    tracker = at_rate(tracker_of(model), 120.0)
    for frames in (range(1), range(3), range(5, 9), range(13, 57)):
        assert rows(tracker, frames).frame.tolist() == list(frames)
    assert len(tracker.open().finish()) == 0


def test_clips_of_fast_video_are_cut_where_its_phases_allow(model):
    tracker = tracker_of(model)
    info = VideoInfo(
        container="mov", codec="h264", pixel_format="yuv420p", bit_depth=8, width_px=320, height_px=160, frames=5000,
        fps=120.0, duration_s=5000 / 120, keyframes=(0,), keyframe_pts=(0,),
    )  # fmt: skip
    ref = VideoRef(uri="file:///v.mp4", etag="1", size_bytes=1)
    clips = cut(ref, info, Cutting(tracker.stride, tracker.lead, 5.0, None, step_s=tracker.step_s))
    fast = at_rate(tracker, 120.0)
    assert len(clips) > 3 and all(clip.start % fast.stride == 0 for clip in clips)
    assert {clip.lead_in for clip in clips[1:]} == {fast.lead}


class Filled:
    """A session whose rows all belong to gaps of two frames, and come one push late."""

    def __init__(self):
        self._late = Trajectory.empty()

    def push(self, batch):
        n = len(batch)
        rows = Trajectory(
            batch.frame, batch.pts_s, np.ones((n, 2), np.float32), np.ones(n, np.float32), gap=np.full(n, 2, np.int32)
        )
        self._late, ready = rows, self._late
        return ready

    def finish(self):
        return self._late


def test_a_gap_is_as_long_as_it_lasts_in_the_video():
    session = InterleavedSession([Filled(), Filled(), Filled()])
    frame = np.arange(20)
    parts = [session.push(FrameBatch(PIXELS[i], i, i / 90, VIEWPORT)) for i in np.array_split(frame, 5)]
    assert [len(part) for part in parts] == [0, 4, 4, 4, 4]
    rows = concat([*parts, session.finish()])
    assert rows.frame.tolist() == frame.tolist() and set(rows.gap.tolist()) == {6}


def test_annotate_follows_fast_video_at_the_taught_step(model, tmp_path):
    path = write_video(tmp_path / "fast.mp4", fps=120)
    own = annotate_here(path, model=model)
    as_they_follow = annotate_here(path, model=model, time_step=0)
    assert own["frame"].to_pylist() == as_they_follow["frame"].to_pylist() == list(range(40))
    assert own["score"].to_pylist() != as_they_follow["score"].to_pylist()


def write_video(path, *, fps):
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=fps, width=320, height=160)
        for pixels in np.random.default_rng(1).integers(0, 255, (40, 160, 320, 3), dtype=np.uint8):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_flip_is_the_mean_with_the_mirrored_picture(model):
    plain = Detector(model.network, device=torch.device("cpu"))
    window = torch.from_numpy(PIXELS[None, :8])
    mean = MirroredDetector(plain).heatmaps(window)
    torch.testing.assert_close(mean, (plain.heatmaps(window) + plain.heatmaps(window.flip(3)).flip(3)) / 2)
    mirrored = MirroredDetector(plain).heatmaps(window.flip(3)).flip(3)
    torch.testing.assert_close(mean, mirrored)
    flipped = rows(tracker_of(model, flip=True), range(32))
    assert not np.array_equal(flipped.score, rows(tracker_of(model), range(32)).score)


@pytest.mark.parametrize("decoding", ["peaks", "largest-box", "components"])
def test_a_threshold_takes_the_place_of_the_decoding_s_own(decoding):
    choice = Windowing.of(Reading(decoding=decoding, threshold=0.123)).choice
    assert choice.threshold == 0.123
    assert (
        choice.model_copy(update={"threshold": 0.3}) == Windowing.of(Reading(decoding=decoding, threshold=0.3)).choice
    )
    assert Windowing.of(Reading()).choice == Choice()


def test_only_trackers_of_windows_are_interleaved(model):
    assert isinstance(at_rate(tracker_of(model), 60.0), InterleavedTracker)
    assert at_rate(at_rate(tracker_of(model), 60.0), 60.0).step_s is None
