"""Clips: where a video is cut, and what a clip takes along."""

import itertools
import json
import subprocess
import sys

import pytest

from specktrack.annotating.plan import Cutting, _info_for, cut
from specktrack.annotating.progress import Meter
from specktrack.schema import VideoRef
from specktrack.video import VideoInfo

VIDEO = VideoRef(uri="file:///match.mp4", etag="1", size_bytes=1)
STRIDE, LEAD = 4, 12


def info(frames: int, *, gop: int = 250, fps: float = 30.0, counted: bool = False) -> VideoInfo:
    keyframes = tuple(range(0, frames, gop))
    return VideoInfo(
        container="mov", codec="h264", pixel_format="yuv420p", bit_depth=8, width_px=64, height_px=32, frames=frames,
        fps=fps, duration_s=frames / fps, keyframes=keyframes, keyframe_pts=tuple(k * 512 for k in keyframes),
        counted=counted,
    )  # fmt: skip


def cutting(clip_s: float = 20.0) -> Cutting:
    return Cutting(stride=STRIDE, lead=LEAD, clip_s=clip_s, attempts=None)


class TestCut:
    @pytest.mark.parametrize("frames", [1, 3, 599, 600, 899, 900, 901, 5000, 21_603])
    @pytest.mark.parametrize("gop", [1, 12, 33, 250, 100_000])
    @pytest.mark.parametrize("fps", [23.976, 30.0, 240.0])
    def test_clips_cover_every_frame_once_and_start_at_multiples_of_the_stride(
        self, frames: int, gop: int, fps: float
    ) -> None:
        clips = cut(VIDEO, info(frames, gop=gop, fps=fps), cutting())
        assert clips[0].start == 0 and clips[-1].stop == frames
        assert all(one.stop == other.start for one, other in itertools.pairwise(clips))
        assert all(clip.start % STRIDE == 0 for clip in clips)
        assert all(clip.lead_in == min(LEAD, clip.start) for clip in clips)
        assert all(clip.lead_out == min(LEAD, frames - clip.stop) for clip in clips)
        lengths = [clip.stop - clip.start for clip in clips]
        assert max(lengths) <= 20 * fps * 1.8 and (len(clips) == 1 or min(lengths) >= 20 * fps * 0.2)

    def test_clips_start_a_lead_in_after_a_seek_point_where_one_is_near(self) -> None:
        clips = cut(VIDEO, info(5000, gop=250), cutting())
        assert [clip.start for clip in clips[1:4]] == [512, 1012, 1512]  # 500 + 12, 1000 + 12, ...
        assert all((clip.start - clip.lead_in) % 250 == 0 for clip in clips)

    def test_without_a_seek_point_near_the_length_decides(self) -> None:
        assert [clip.start for clip in cut(VIDEO, info(5000, gop=100_000), cutting())][1:3] == [600, 1200]

    def test_a_video_that_is_read_from_its_start_stays_whole(self) -> None:
        assert len(cut(VIDEO, info(5000, counted=True), cutting())) == 1


class TestInfoOfAClip:
    def test_a_clip_takes_along_the_seek_points_near_it_and_the_first(self) -> None:
        whole = info(100_000, gop=10)
        clip = cut(VIDEO, whole, cutting())[50]
        part = _info_for(clip, whole)
        assert len(part.keyframes) < 100 and part.keyframes[0] == 0 and part.frames == whole.frames
        assert part.keyframes[1] < clip.start - clip.lead_in and part.keyframes[-1] + 10 > clip.stop + clip.lead_out
        assert part.keyframe_pts == tuple(keyframe * 512 for keyframe in part.keyframes)


def test_progress_is_a_log_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(2, 60) as meter:
        meter.add(30)
        meter.add(30)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["clips"], line["of"], line["left_s"]) for line in lines] == [("annotating", 2, 2, 0)]


@pytest.mark.parametrize("module", ["", ".plan", ".workers", ".overlays"])
def test_what_follows_nothing_needs_neither_torch_nor_ray(module: str) -> None:
    """The configuration, and the actors that measure, count and draw: each would start seconds later."""
    script = f"import sys, specktrack.annotating{module}; print({{'torch', 'ray'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": "platform"}
    )
    assert done.stdout.strip() == "set()", done.stderr
