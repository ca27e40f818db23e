"""The background of a video: what it is made of, that clips agree on it, and what a session does without one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from specktrack.annotating.background import READ_WHOLE_UP_TO, Backgrounds
from specktrack.annotating.clips import annotate_clip
from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Viewport, concat
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.zoo import build, network_config
from specktrack.schema import Clip
from specktrack.storage import expand_sources
from specktrack.tracking.windowed.background import MOST_FRAMES, RunningMedian, median_picture, stepped
from specktrack.tracking.windowed.session import WindowedTracker, Windowing
from specktrack.video import write_video
from specktrack.video.process import DecoderProcess
from specktrack.video.unconfined import probe, read_clip

VIEWPORT = Viewport((64, 32), (64, 32))


def test_frames_are_stepped_evenly_and_never_too_many():
    assert list(stepped(5)) == [0, 1, 2, 3, 4]
    assert len(stepped(MOST_FRAMES)) == MOST_FRAMES and stepped(MOST_FRAMES + 1).step == 2
    assert all(MOST_FRAMES / 2 < len(stepped(frames)) <= MOST_FRAMES for frames in range(MOST_FRAMES, 3000))


def test_the_median_is_cut_to_whole_levels_for_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 37, 5, 3), dtype=np.uint8)
    ordered = np.sort(pixels.astype(int), axis=0)
    np.testing.assert_array_equal(median_picture(pixels), (ordered[1] + ordered[2]) // 2)


def test_a_running_median_moves_one_level_per_frame_and_takes_each_frame_once():
    running = RunningMedian()
    first, bright = np.full((1, 1, 3), 10, np.uint8), np.full((1, 1, 3), 200, np.uint8)
    assert running.after(first, 7)[0, 0, 0] == 10
    assert running.after(bright, 8)[0, 0, 0] == 11
    assert running.after(bright, 8)[0, 0, 0] == 11
    assert running.after(first, 9)[0, 0, 0] == 10


@pytest.fixture(scope="module")
def rally(tmp_path_factory):
    """A video of a grey scene over which a bright bar passes; and its pixels as they were written."""
    path = tmp_path_factory.mktemp("rally") / "rally.mp4"
    frames = np.full((40, 32, 64, 3), 90, np.uint8)
    for n, frame in enumerate(frames):
        frame[:, n : n + 8] = 250
    write_video(path, frames, fps=30, wh=(64, 32))
    return expand_sources([str(path)])[0]


def reading(clip, info):
    with read_clip(clip, info=info, viewport=VIEWPORT) as reader:
        yield from reader


def test_the_background_of_a_video_is_the_scene_without_what_passes(rally):
    picture = Backgrounds().of(rally, (64, 32), probe=probe, read=reading)
    assert picture.shape == (32, 64, 3) and np.abs(picture[:, 4:40].astype(int) - 90).max() <= 12


def test_a_long_video_s_frames_are_sought_and_are_the_same(rally):
    frames, asked = READ_WHOLE_UP_TO + 1, []

    def long(ref):
        return probe(ref).model_copy(update={"frames": frames, "keyframes": tuple(range(0, frames, 15))})

    def spied(clip, _):
        asked.append(clip)
        yield FrameBatch(
            np.full((1, 32, 64, 3), clip.start % 7, np.uint8), np.array([clip.start]), np.zeros(1), VIEWPORT
        )

    Backgrounds().of(rally, (64, 32), probe=long, read=spied)
    assert [clip.start for clip in asked] == list(stepped(frames))
    assert all(clip.stop == clip.start + 1 for clip in asked)


def test_a_background_is_read_once_per_video_and_size(rally):
    read = []

    def counted(clip, info):
        read.append(clip)
        return reading(clip, info)

    backgrounds = Backgrounds()
    one = backgrounds.of(rally, (64, 32), probe=probe, read=counted)
    assert backgrounds.of(rally, (64, 32), probe=probe, read=counted) is one and len(read) == 1


@pytest.mark.parametrize(("reason", "kept"), [(QuarantineReason.TRUNCATED, True), (QuarantineReason.TIMEOUT, False)])
def test_of_a_damaged_video_the_readable_frames_count_but_a_decoder_that_hangs_ends_it(rally, reason, kept):
    def broken(clip, info):
        yield from (batch[:8] for batch in reading(Clip(video=clip.video, start=0, stop=8), info))
        raise MediaError(reason, "ends early")

    if kept:
        assert Backgrounds().of(rally, (64, 32), probe=probe, read=broken).shape == (32, 64, 3)
    else:
        with pytest.raises(MediaError, match="ends early"):
            Backgrounds().of(rally, (64, 32), probe=probe, read=broken)


@pytest.fixture(scope="module", params=["tracknet-v3", "tracknet-v4-on-v3"])
def tracker(request):
    torch.manual_seed(0)
    config = network_config(request.param).model_copy(update={"input_wh": (64, 32)})
    model = Model(build(config).eval(), ModelCard(name="random", network=config))
    return WindowedTracker(model, device=torch.device("cpu"), config=Windowing(overlap=2))


PIXELS = np.random.default_rng(0).integers(0, 255, (20, 32, 64, 3), dtype=np.uint8)


def scores(tracker, batch_frames, background=None):
    frame = np.arange(len(PIXELS))
    whole = FrameBatch(PIXELS, frame, frame / 30, VIEWPORT, background)
    session = tracker.open()
    parts = [session.push(whole[i : i + batch_frames]) for i in range(0, len(frame), batch_frames)]
    return concat([*parts, session.finish()]).score


def test_rows_depend_on_the_background_and_not_on_batches(tracker):
    given = scores(tracker, 20, PIXELS[3])
    np.testing.assert_array_equal(scores(tracker, 3, PIXELS[3]), given)
    assert (scores(tracker, 20, PIXELS[4]) != given).any()


def test_a_stream_without_a_background_gets_a_running_one_however_frames_arrive(tracker):
    whole = scores(tracker, 20)
    for batch_frames in (1, 7):
        np.testing.assert_array_equal(scores(tracker, batch_frames), whole)


def test_a_batch_keeps_its_background_when_it_is_cut():
    frame = np.arange(2)
    batch = FrameBatch(PIXELS[:2], frame, frame / 30, VIEWPORT)
    assert (replace(batch, background=PIXELS[0])[1:].background == PIXELS[0]).all() and batch[1:].background is None


def test_a_cut_clip_of_a_video_sees_the_whole_video_s_background(tracker, rally):
    info = probe(rally)
    with DecoderProcess() as decoder:
        lead = tracker.lead
        cut = Clip(video=rally, start=16, stop=24, lead_in=min(16, lead), lead_out=min(16, lead))
        whole, part = (
            annotate_clip(tracker, clip, info, decoder).trajectory
            for clip in (Clip(video=rally, start=0, stop=info.frames), cut)
        )
    assert len(part) == 8 and len(whole) == info.frames
    np.testing.assert_array_equal(part.score, whole.between(16, 24).score)
