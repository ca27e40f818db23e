"""Frames keep their identity: every test video carries its frame number in its pixels."""

import os
import random
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import av
import boto3
import numpy as np
import pytest
from PIL import Image
from tests.videos import FRAMES, GOP, WH, audio_only, cut, emptied, encode, muxed, number_of, picture, retimed

from specktrack.annotating.plan import Plan
from specktrack.errors import ConfigError, MediaError, QuarantineReason, StorageError
from specktrack.frames import Viewport
from specktrack.schema import Clip, VideoRef
from specktrack.storage import stat
from specktrack.video import VideoInfo, container, index, write_video
from specktrack.video.container import check_size
from specktrack.video.index import frame_times
from specktrack.video.times import mended
from specktrack.video.unconfined import probe, read_clip


def read(
    path: Path | VideoRef, start: int = 0, stop: int | None = None, *, info: VideoInfo | None = None, **options: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame numbers, times and pictures of a clip at source size."""
    ref = path if isinstance(path, VideoRef) else stat(str(path))
    info = info or probe(ref)
    with read_clip(Clip(video=ref, start=start, stop=stop or info.frames), info=info, **options) as reader:
        batches = list(reader)
    parts = [np.concatenate([getattr(batch, name) for batch in batches]) for name in ("frame", "pts_s", "pixels")]
    return parts[0], parts[1], parts[2]


def read_until_error(path: Path) -> tuple[list[int], list[int], MediaError | None, int]:
    """Frame numbers as said and as seen, the error at the end, and the count of decoding errors."""
    said, seen, failure = [], [], None
    ref = stat(str(path))
    info = probe(ref)
    with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info, batch_frames=5) as reader:
        try:
            for batch in reader:
                said += batch.frame.tolist()
                seen += [number_of(pixels) for pixels in batch.pixels]
        except MediaError as error:
            failure = error
        return said, seen, failure, reader.decode_errors


def vfr_ms() -> list[int]:
    return np.cumsum(np.random.default_rng(1).integers(12, 90, FRAMES)).tolist()


OPEN_GOP = {"x264-params": f"open-gop=1:keyint={GOP}:min-keyint={GOP}:scenecut=0"}
QUIET = {"x265-params": f"log-level=none:keyint={GOP}"}
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}
VP8 = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4", "b": "2M"}
KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "b-frames": ("mp4", {}),
    "index first": ("mp4", {"container_options": {"movflags": "faststart"}}),
    "fragmented": ("mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "open gop": ("mp4", {"codec_options": OPEN_GOP}),
    "hevc, open gop, 10 bit": ("mp4", {"codec": "libx265", "codec_options": QUIET, "pixel_format": "yuv420p10le"}),
    "variable rate": ("mp4", {"pts_ms": vfr_ms()}),
    "odd size 4:4:4": ("mp4", {"wh": (161, 97), "pixel_format": "yuv444p"}),
    "matroska": ("mkv", {}),
    "vp9": ("webm", {"codec": "libvpx-vp9", "codec_options": FAST_VP9, "bframes": 0}),
    "vp8": ("webm", {"codec": "libvpx", "codec_options": VP8, "bframes": 0}),
    "transport stream": ("ts", {}),
    "transport stream, open gop": ("ts", {"codec_options": OPEN_GOP}),
    "mpeg-2 transport stream": ("ts", {"codec": "mpeg2video", "codec_options": {"b": "4M"}}),
    "mpeg-4 avi": ("avi", {"codec": "mpeg4", "codec_options": {"b": "4M"}}),
    "h.264 avi with b-frames": ("avi", {}),
    "raw h.264": ("h264", {}),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, (suffix, options) in KINDS.items():
        encode(folder / f"{name}.{suffix}", **options)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_clip_equals_the_same_frames_of_a_sequential_read(videos: Path, kind: str) -> None:
    ref = stat(str(videos / f"{kind}.{KINDS[kind][0]}"))
    info = probe(ref)
    frames, pts_s, pixels = read(ref, info=info)
    assert info.frames == FRAMES
    assert frames.tolist() == list(range(FRAMES))
    assert [number_of(each) for each in pixels] == list(range(FRAMES))
    for start in range(0, FRAMES, 1 if kind == "transport stream, open gop" else 5):
        stop = min(start + 4, FRAMES)
        clip_frames, clip_pts_s, clip_pixels = read(ref, start, stop, info=info)
        assert clip_frames.tolist() == list(range(start, stop))
        assert (clip_pts_s == pts_s[start:stop]).all()
        assert (clip_pixels == pixels[start:stop]).all()


def test_what_a_probe_finds(videos: Path) -> None:
    info = probe(stat(str(videos / "b-frames.mp4")))
    assert (info.container, info.codec, info.size_wh_px, info.fps, info.variable_rate) == (
        "mov",
        "h264",
        WH,
        30.0,
        False,
    )
    assert info.keyframes[:4] == (0, GOP, 2 * GOP, 3 * GOP)
    assert info.duration_s == pytest.approx(FRAMES / 30)
    varied = probe(stat(str(videos / "variable rate.mp4")))
    assert varied.variable_rate
    assert probe(stat(str(videos / "hevc, open gop, 10 bit.mp4"))).bit_depth == 10
    assert probe(stat(str(videos / "raw h.264.h264"))).counted
    assert probe(stat(str(videos / "open gop.mp4"))).open_gop
    _, pts_s, _ = read(videos / "variable rate.mp4")
    assert pts_s * 1000 == pytest.approx(np.array(vfr_ms()), abs=1e-6)


def test_an_mp4_is_indexed_without_fetching_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(
        tmp_path / "long.mp4", frames=600, codec_options={"crf": "1"}, container_options={"movflags": "faststart"}
    )
    fetched = []
    opened = container.open_binary

    def counting(ref: VideoRef) -> object:
        file = opened(ref)
        plain = file.read

        class Counting:
            seek, close = file.seek, file.close

            def read(self, n: int) -> bytes:
                fetched.append(n)
                return plain(n)

        return Counting()

    monkeypatch.setattr(container, "open_binary", counting)
    assert probe(stat(str(path))).frames == 600
    assert sum(fetched) < 0.35 * path.stat().st_size


def test_lead_in_and_lead_out_are_read_and_end_with_the_video(videos: Path) -> None:
    ref = stat(str(videos / "b-frames.mp4"))
    clip = Clip(video=ref, start=30, stop=FRAMES - 2, lead_in=3, lead_out=9)
    with read_clip(clip, batch_frames=7) as reader:
        batches = list(reader)
    assert [frame for batch in batches for frame in batch.frame.tolist()] == list(range(27, FRAMES))
    assert [len(batch) for batch in batches] == [7] * 6 + [3]


def test_pictures_are_area_averages_at_network_size(videos: Path) -> None:
    ref = stat(str(videos / "odd size 4:4:4.mp4"))
    viewport = Viewport((161, 97), (23, 16))
    with read_clip(Clip(video=ref, start=0, stop=1), viewport=viewport) as reader:
        small = next(reader)
    _, _, full = read(ref, 0, 1)
    exact = Image.fromarray(full[0]).resize((23, 16), Image.Resampling.BOX)
    assert small.viewport == viewport
    assert np.abs(small.pixels[0].astype(float) - np.asarray(exact)).mean() < 4


@pytest.mark.parametrize(("turn", "mirror"), [(90, False), (180, False), (270, False), (0, True), (90, True)])
def test_rotation_metadata_makes_pictures_upright(tmp_path: Path, turn: int, mirror: bool) -> None:
    stored = read(encode(tmp_path / "plain.mp4", frames=2))[2][1]
    turned = encode(tmp_path / "turned.mp4", frames=2, turn=(turn, mirror))
    upright = np.rot90(stored, turn // 90)  # counterclockwise
    upright = upright[:, ::-1] if mirror else upright
    assert probe(stat(str(turned))).size_wh_px == upright.shape[1::-1]
    assert (read(turned)[2][1] == upright).all()


def test_an_edit_list_hides_pictures_and_the_rest_is_numbered_from_nought(videos: Path, tmp_path: Path) -> None:
    path = cut(videos / "b-frames.mp4", tmp_path / "cut.mp4", from_s=25 / 30)
    info = probe(stat(str(path)))
    frames, _, pixels = read(path)
    assert (info.edited, info.frames) == (True, FRAMES - 25)
    assert frames.tolist() == list(range(FRAMES - 25))
    assert [number_of(each) for each in pixels] == list(range(25, FRAMES))
    _, _, clip = read(path, 20, 24, info=info)
    assert (clip == pixels[20:24]).all()


@pytest.mark.real
def test_the_real_cut_clip_has_the_frames_that_players_show(real_data: Path) -> None:
    path = real_data / "unlabelled/tennis_amateur_grass.mp4"
    info = probe(stat(str(path)))
    assert (info.frames, info.edited, info.variable_rate) == (164, True, False)  # the container promises 296


def test_a_clock_that_starts_again_is_read_by_counting(videos: Path, tmp_path: Path) -> None:
    once = (videos / "transport stream.ts").read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(once + once)
    info = probe(stat(str(path)))
    _, _, pixels = read(path, 60, 80, info=info)
    assert info.counted
    assert info.frames == 2 * FRAMES
    assert [number_of(each) for each in pixels] == [*range(60, FRAMES), *range(8)]


def test_a_stream_joined_in_the_middle_starts_at_its_first_keyframe(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "joined late.ts"
    whole = (videos / "transport stream.ts").read_bytes()
    path.write_bytes(whole[len(whole) // 3 // 188 * 188 :])
    _, _, pixels = read(path)
    numbers = [number_of(each) for each in pixels]
    assert numbers == list(range(numbers[0], FRAMES))
    assert numbers[0] % GOP == 0


# --- which stream -----------------------------------------------------------------------------------------------


FILM, STILL, SMALL = {"frames": 20}, {"frames": 1, "codec": "mjpeg", "pixel_format": "yuvj420p", "bframes": 0}, (80, 48)
STREAMS: dict[str, tuple[list[dict[str, object]], dict[str, int], int]] = {
    "a still first": ([STILL, FILM], {"default": 1}, 1),
    "a still that is large and default": ([{**STILL, "wh": (320, 192)}, FILM], {"default": 0}, 1),
    "a small one first": ([{**FILM, "wh": SMALL}, FILM], {"default": 1}, 1),
    "the default one is small": ([FILM, {**FILM, "wh": SMALL}], {"default": 1}, 1),
    "two alike": ([FILM, FILM], {}, 0),
    "none is default": ([{**FILM, "wh": SMALL}, FILM], {}, 1),
    "a still among equals": ([{"frames": 1}, FILM], {}, 1),
}
CONTAINERS = {"none is default": ("mkv", "ts"), "a still among equals": ("mkv", "ts")}
"""An MP4 always has a default stream, and a transport stream never."""


@pytest.mark.parametrize(
    ("case", "suffix"), [(case, each) for case in STREAMS for each in CONTAINERS.get(case, ("mp4", "mov", "mkv"))]
)
def test_of_several_streams_the_one_that_ffmpeg_takes_is_read_and_another_on_request(
    tmp_path: Path, case: str, suffix: str
) -> None:
    kinds, disposition, best = STREAMS[case]
    sources = [encode(tmp_path / f"{number}.mov", **kind) for number, kind in enumerate(kinds)]
    ref = stat(str(muxed(tmp_path / f"video.{suffix}", *sources, **disposition)))
    info = probe(ref)
    assert (info.stream, info.frames, info.size_wh_px) == (best, 20, kinds[best].get("wh", WH))
    assert f"{1 - best}: {kinds[1 - best].get('codec', 'h264')}" in info.others
    frames, _, pixels = read(ref, info=info)
    assert [number_of(each) for each in pixels] == frames.tolist() == list(range(20))
    other = ref.model_copy(update={"stream": 1 - best})
    assert (probe(other).stream, probe(other).frames) == (1 - best, kinds[1 - best]["frames"])
    assert len(read(other)[0]) == kinds[1 - best]["frames"]
    assert other.key != ref.key


def test_an_attached_picture_is_no_video(tmp_path: Path) -> None:
    cover, film = encode(tmp_path / "cover.mov", **STILL), encode(tmp_path / "film.mov", **FILM)
    info = probe(stat(str(muxed(tmp_path / "video.mp4", cover, film, attached=0))))
    assert (info.codec, info.frames, info.others) == ("h264", 20, "")
    with pytest.raises(MediaError, match="no video stream"):
        probe(stat(str(muxed(tmp_path / "song.mp4", cover, attached=0))))


def test_a_stream_that_is_not_there_is_refused_with_those_that_are(videos: Path, folder: Path) -> None:
    ref = stat(str(videos / "b-frames.mp4")).model_copy(update={"stream": 3})
    with pytest.raises(MediaError, match="no video stream of this number, but 0: h264 160x96, 72 frames, default: 3"):
        probe(ref)
    with pytest.raises(MediaError, match="a folder of images has one stream"):
        probe(stat(f"{folder}/").model_copy(update={"stream": 1}))


# --- times ------------------------------------------------------------------------------------------------------


def test_doubled_times_are_mended_and_all_others_kept(tmp_path: Path) -> None:
    own_ms = vfr_ms()
    plain = encode(tmp_path / "plain.mkv", pts_ms=own_ms, bframes=0)
    doubled_ms = [own_ms[n - 1] if n in (33, 45) else own_ms[n] for n in range(FRAMES)]
    path = retimed(plain, tmp_path / "doubled.mkv", lambda number, _: doubled_ms[number])
    info = probe(stat(str(path)))
    frames, pts_s, pixels = read(path, info=info)
    assert [number_of(each) for each in pixels] == frames.tolist() == list(range(FRAMES))
    others = [n for n in range(FRAMES) if n not in (33, 45)]
    assert pts_s[others] * 1000 == pytest.approx(np.array(own_ms)[others], abs=1e-6)
    assert (np.diff(pts_s) > 0).all()
    assert info.variable_rate and info.fps == pytest.approx((FRAMES - 1) / (pts_s[-1] - pts_s[0]))
    assert (read(path, 40, 50, info=info)[1] == pts_s[40:50]).all()


def test_pictures_keep_their_times_where_some_packets_show_none(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.webm", codec="libvpx", codec_options=VP8, bframes=0, pts_ms=vfr_ms())
    info = probe(stat(str(path)))
    assert info.counted and info.variable_rate
    assert read(path)[1] * 1000 == pytest.approx(np.array(vfr_ms()), abs=1e-6)
    assert info.duration_s == pytest.approx((vfr_ms()[-1] - vfr_ms()[0]) / 1000, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_times_of_all_frames_are_those_of_a_read(videos: Path, kind: str) -> None:
    ref = stat(str(videos / f"{kind}.{KINDS[kind][0]}"))
    info = probe(ref)
    assert (frame_times(ref, info) == read(ref, info=info)[1]).all()
    assert info.variable_rate == (kind == "variable rate")


def test_milliseconds_make_no_variable_rate(tmp_path: Path) -> None:
    """120 frames/s in Matroska: 8 ms and 9 ms take turns."""
    path = encode(tmp_path / "fast.mkv", frames=40, pts_ms=[round(number / 0.12) for number in range(40)], bframes=0)
    info = probe(stat(str(path)))
    assert not info.variable_rate and info.fps == pytest.approx(120, rel=0.01)


NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.0, 1, 2, 5], [0.0, 1, 2, 5]),
        ([0.0, 1, 1, 2, 3], [0.0, 1, 1.5, 2, 3]),
        ([0.0, 0, 1, 2], [0.0, 0.5, 1, 2]),
        ([0.0, 1, 2, 2], [0.0, 1, 2, 3]),
        ([0.0, 1, 1, 1, 1, 2], [0.0, 1, 1.25, 1.5, 1.75, 2]),
        ([0.0, 1, 900, 3, 4], [0.0, 1, 2, 3, 4]),
        ([0.0, 1, -900, 3, 4], [0.0, 1, 2, 3, 4]),
        ([NAN, 1, NAN, 3, NAN], [0.0, 1, 2, 3, 4]),
        ([NAN, NAN], [0.0, 0.5]),
        ([7.0], [7.0]),
        ([], []),
        ([*range(20), *range(20)], [*range(40)]),
        ([*range(20), *(n // 2 for n in range(20))], [*range(20), *(20 + n / 2 for n in range(19)), 30]),
    ],
)  # fmt: skip
def test_times_are_mended_where_they_do_not_rise(given: list[float], expected: list[float]) -> None:
    times_s = mended(np.array(given, float), step_s=0.5)
    assert (np.diff(times_s) > 0).all()
    assert times_s == pytest.approx(np.array(expected))


def test_a_clock_that_starts_again_goes_on(videos: Path, tmp_path: Path) -> None:
    once = (videos / "transport stream.ts").read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(once + once)
    info = probe(stat(str(path)))
    assert read(path)[1] == pytest.approx(read(videos / "transport stream.ts")[1][0] + np.arange(2 * FRAMES) / 30)
    assert (info.fps, info.variable_rate) == (30.0, False)


# --- empty packets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["mjpeg", "libx264"])
def test_samples_without_bytes_are_no_frames(tmp_path: Path, codec: str) -> None:
    whole = encode(
        tmp_path / "v.mov", codec=codec, bframes=0,
        pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p", codec_options={"x264-params": "keyint=1"},
    )  # fmt: skip
    dropped = (3, 20, 21, 60)
    path = emptied(whole, dropped)
    shown = [number for number in range(FRAMES) if number not in dropped]
    info = probe(stat(str(path)))
    said, seen, failure, errors = read_until_error(path)
    assert (info.frames, info.counted, failure, errors) == (len(shown), False, None, 0)
    assert (said, seen) == (list(range(len(shown))), shown)
    assert read(path)[1] == pytest.approx(np.array(shown) / 30)
    for start in range(0, len(shown), 7):
        assert [number_of(each) for each in read(path, start, start + 1, info=info)[2]] == [shown[start]]


def test_chunks_without_bytes_in_avi_are_no_frames(tmp_path: Path) -> None:
    """An AVI has an entry for every tick of its rate, and none of the bytes of what a camera dropped."""
    kept = [number for number in range(FRAMES) if number % 7 < 5]
    path = encode(tmp_path / "v.avi", frames=len(kept), codec="mjpeg", pixel_format="yuvj420p", bframes=0, ticks=kept)
    info = probe(stat(str(path)))
    frames, pts_s, pixels = read(path, info=info)
    assert [number_of(each) for each in pixels] == frames.tolist() == list(range(len(kept)))
    assert pts_s == pytest.approx(np.array(kept) / 30)
    assert info.variable_rate


# --- damage -----------------------------------------------------------------------------------------------------


def test_a_truncated_video_gives_its_frames_and_then_says_so(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "index first.mp4").read_bytes()
    for share in (0.3, 0.6, 0.9):
        path = tmp_path / f"{share}.mp4"
        path.write_bytes(whole[: int(share * len(whole))])
        said, seen, failure, _ = read_until_error(path)
        assert said == list(range(len(said)))
        assert seen[:-1] == said[:-1]  # the last packet is cut in two
        assert 0.2 * share * FRAMES < len(said) < FRAMES
        assert failure is not None
        assert failure.reason is QuarantineReason.TRUNCATED
        assert f"ends after {len(said)} of the clip's {FRAMES} frames" in str(failure)


def test_a_clip_beyond_the_bytes_is_truncated(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "index first.mp4").read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    ref = stat(str(path))
    with (
        read_clip(Clip(video=ref, start=60, stop=70)) as reader,
        pytest.raises(MediaError, match="ends after 0 of the clip's 10 frames") as caught,
    ):
        list(reader)
    assert caught.value.reason is QuarantineReason.TRUNCATED


def damaged(path: Path, *, frame: int, count: int) -> bytes:
    """The bytes of an MP4 with the second half of some packets, in stored order, turned to noise."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for entry in list(stream.index_entries)[frame : frame + count]:
            half = entry.size // 2
            data[entry.pos + half : entry.pos + entry.size] = random.Random(0).randbytes(entry.size - half)
    return bytes(data)


def zeroed(path: Path, *, frame: int, count: int) -> bytes:
    """The bytes of an MP4 with some packets, in stored order, turned to nought: they give no picture."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for entry in list(container.streams.video[0].index_entries)[frame : frame + count]:
            data[entry.pos : entry.pos + entry.size] = bytes(entry.size)
    return bytes(data)


def test_lost_pictures_are_repeated_and_later_frames_keep_their_number(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    path.write_bytes(zeroed(videos / "b-frames.mp4", frame=30, count=3))
    said, seen, failure, errors = read_until_error(path)
    assert failure is None
    assert said == list(range(FRAMES))
    assert seen[:GOP] == said[:GOP]
    assert seen[2 * GOP :] == said[2 * GOP :]
    assert errors > 0
    _, _, clip = read(path, 40, 50)
    assert [number_of(each) for each in clip] == list(range(40, 50))


def test_a_damaged_keyframe_is_approached_from_the_one_before(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "keyframe.mp4"
    path.write_bytes(damaged(videos / "b-frames.mp4", frame=2 * GOP, count=1))
    ref = stat(str(path))
    info = probe(ref)
    _, _, whole = read(ref, info=info)
    _, _, clip = read(ref, 2 * GOP, 2 * GOP + 6, info=info)
    assert (clip == whole[2 * GOP : 2 * GOP + 6]).all()


def test_errors_are_counted_for_the_clip_that_has_them(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged(videos / "b-frames.mp4", frame=30, count=2))
    ref = stat(str(path))
    counts = []
    for start in (0, GOP, 2 * GOP):
        with read_clip(Clip(video=ref, start=start, stop=start + GOP)) as reader:
            list(reader)
            counts.append(reader.decode_errors)
    assert [count > 0 for count in counts] == [False, True, False]


def test_an_error_is_counted_again_when_its_clip_is_read_again(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", codec="mpeg4", codec_options={"b": "4M"})
    path.write_bytes(damaged(path, frame=30, count=1))
    assert [read_until_error(path)[3] for _ in range(3)] == [1, 1, 1]


READ_TWICE = """
import logging, sys
logging.basicConfig()
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.video.unconfined import probe, read_clip
for decoder in ("pyav", sys.argv[2]):
    ref = stat(sys.argv[1])
    info = probe(ref)
    with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info, decoder=decoder) as reader:
        print(sum(len(batch) for batch in reader), reader.decode_errors > 0)
"""


@pytest.mark.parametrize(("spoilt", "decoder"), [(False, "decord"), (True, "pyav")])
def test_ffmpeg_prints_nothing(tmp_path: Path, *, spoilt: bool, decoder: str) -> None:
    """Also where the root logger has a handler, as in Ray's workers; errors are counted all the same."""
    if decoder == "decord":
        pytest.importorskip("decord")
    path = encode(tmp_path / "v.mp4", codec_options={"crf": "4"})  # longer than what is read in one go
    if spoilt:
        path.write_bytes(damaged(path, frame=30, count=2))
    done = subprocess.run(
        [sys.executable, "-c", READ_TWICE, str(path), decoder],
        env={**os.environ, "PYTHONPATH": "platform"}, cwd=Path(__file__).parents[1],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == f"{FRAMES} {spoilt}\n" * 2


def test_a_clip_that_lost_many_pictures_is_damaged(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "zeros.mp4"
    path.write_bytes(zeroed(videos / "b-frames.mp4", frame=20, count=40))
    said, _, failure, errors = read_until_error(path)
    assert said == list(range(FRAMES))
    assert failure is not None
    assert failure.reason is QuarantineReason.DAMAGED
    assert errors >= 30


# --- refusals ---------------------------------------------------------------------------------------------------


BAD: dict[str, tuple[bytes, QuarantineReason, str]] = {
    "empty": (b"", QuarantineReason.EMPTY, "has no bytes"),
    "text": (b"hello world\n" * 200, QuarantineReason.NOT_A_VIDEO, "no video format"),
    "noise": (random.Random(3).randbytes(60_000), QuarantineReason.NOT_A_VIDEO, "no video format"),
    "playlist": (b"#EXTM3U\n#EXTINF:5,\n%s\n#EXT-X-ENDLIST\n", QuarantineReason.NOT_A_VIDEO, "no video format"),
    "concat": (b"ffconcat version 1.0\nfile '%s'\n", QuarantineReason.NOT_A_VIDEO, "no video format"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_a_video_is_refused_with_its_reason(videos: Path, tmp_path: Path, name: str) -> None:
    content, reason, message = BAD[name]
    path = tmp_path / "match.mp4"
    path.write_bytes(content.replace(b"%s", str(videos / "transport stream.ts").encode()))
    with pytest.raises(MediaError, match=message) as caught:
        probe(stat(str(path)))
    assert caught.value.reason is reason
    assert "match.mp4" in str(caught.value)


def test_a_playlist_makes_no_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = []

        def listen() -> None:
            connection, caller = server.accept()
            connection.close()
            calls.append(caller)

        listener = threading.Thread(target=listen)
        listener.start()
        path = tmp_path / "match.mp4"
        path.write_text(f"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:{server.getsockname()[1]}/a.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(MediaError):
            probe(stat(str(path)))
        with socket.create_connection(server.getsockname()) as ours:  # the first to call
            listener.join()
            assert calls == [ours.getsockname()]


def test_an_mp4_without_its_index_is_truncated(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes((videos / "b-frames.mp4").read_bytes()[:5000])
    with pytest.raises(MediaError, match="index is missing") as caught:
        probe(stat(str(path)))
    assert caught.value.reason is QuarantineReason.TRUNCATED


def test_audio_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no video stream") as caught:
        probe(stat(str(audio_only(tmp_path / "song.mp4"))))
    assert caught.value.reason is QuarantineReason.NO_VIDEO_STREAM


def test_a_stream_without_a_picture_is_refused(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "zeros.mp4"
    path.write_bytes(zeroed(videos / "b-frames.mp4", frame=0, count=FRAMES))
    with pytest.raises(MediaError, match="no picture can be decoded") as caught:
        probe(stat(str(path)))
    assert caught.value.reason is QuarantineReason.NO_FRAMES


def test_pictures_beyond_the_ceiling_are_refused_before_decoding(tmp_path: Path) -> None:
    path = encode(tmp_path / "wide.mkv", codec="mjpeg", pixel_format="yuvj420p", wh=(8208, 16), frames=1, bframes=0)
    with pytest.raises(MediaError, match="more than 8,192 pixels a side: 8208") as caught:
        probe(stat(str(path)))
    assert caught.value.reason is QuarantineReason.TOO_LARGE


def test_a_video_longer_than_the_ceiling_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mkv", frames=3, pts_ms=[0, 1000, 7 * 3_600_000], bframes=0)
    with pytest.raises(MediaError, match="more than 21,600 seconds") as caught:
        probe(stat(str(path)))
    assert caught.value.reason is QuarantineReason.TOO_LARGE


def test_more_frames_a_second_or_pixels_in_all_than_the_ceilings_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "fast.mp4", frames=40, pts_ms=list(range(40)), bframes=0)
    assert probe(stat(str(path))).fps == pytest.approx(1000), "high-speed cameras are let in"
    monkeypatch.setattr(index, "MAX_FPS", 999)
    with pytest.raises(MediaError, match=r"more than 999 frames/s: 1000\.0") as caught:
        probe(stat(str(path)))
    assert caught.value.reason is QuarantineReason.TOO_LARGE
    monkeypatch.undo()
    monkeypatch.setattr(index, "MAX_DECODED_PIXELS", 40 * 160 * 96 - 1)
    with pytest.raises(MediaError, match="more than 614,399 pixels in all: 614400") as caught:
        probe(stat(str(path)))
    assert caught.value.reason is QuarantineReason.TOO_LARGE


@pytest.mark.parametrize(("wh", "message"), [((320, 192), None), ((160, 160), "size changes within")])
def test_a_size_that_changes_is_scaled_and_a_shape_that_changes_is_refused(
    tmp_path: Path, wh: tuple[int, int], message: str | None
) -> None:
    path = tmp_path / "changes.h264"
    first = encode(tmp_path / "a.h264", frames=20).read_bytes()
    path.write_bytes(first + encode(tmp_path / "b.h264", frames=20, wh=wh).read_bytes())
    if message:
        with pytest.raises(MediaError, match=message) as caught:
            read(path)
        assert caught.value.reason is QuarantineReason.SIZE_CHANGED
    else:
        _, _, pixels = read(path)
        assert [number_of(each) for each in pixels] == [*range(20), *range(20)]


def test_an_error_of_the_storage_stays_an_error_of_the_storage(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = stat(str(videos / "matroska.mkv"))

    class Failing:
        def seek(self, offset: int, whence: int = 0) -> int:
            return offset

        def read(self, n: int) -> bytes:
            raise StorageError("S3 answered 503", place="s3://bucket/x")

        def close(self) -> None:
            pass

    monkeypatch.setattr(container, "open_binary", lambda ref: Failing())
    with pytest.raises(StorageError, match="S3 answered 503"):
        probe(ref)


def test_a_video_in_s3_is_read_by_ranges(videos: Path, s3: str) -> None:
    path = videos / "b-frames.mp4"
    boto3.client("s3").put_object(Bucket=s3, Key="a/b frames.mp4", Body=path.read_bytes())
    ref = stat(f"s3://{s3}/a/b frames.mp4")
    assert probe(ref) == probe(stat(str(path)))
    frames, _, pixels = read(ref, 40, 50)
    assert [number_of(each) for each in pixels] == frames.tolist() == list(range(40, 50))


# --- the other decoders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["b-frames", "variable rate", "matroska"])
def test_decord_gives_the_same_frames_where_it_is_right(videos: Path, kind: str) -> None:
    pytest.importorskip("decord")
    ref = stat(str(videos / f"{kind}.{KINDS[kind][0]}"))
    frames, pts_s, pixels = read(ref, 17, 41)
    other_frames, other_pts_s, other_pixels = read(ref, 17, 41, decoder="decord")
    assert (frames == other_frames).all()
    assert (pts_s == other_pts_s).all()
    assert np.abs(pixels.astype(int) - other_pixels).mean() < 1
    viewport = Viewport(WH, (80, 48))
    _, _, small = read(ref, 17, 41, viewport=viewport)
    _, _, other_small = read(ref, 17, 41, viewport=viewport, decoder="decord")
    assert np.abs(small.astype(int) - other_small).mean() < 4


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("transport stream", "the container is mpegts"), ("open gop", "groups of pictures are open")],
)
def test_decord_is_refused_where_it_would_be_wrong(videos: Path, kind: str, reason: str) -> None:
    ref = stat(str(videos / f"{kind}.{KINDS[kind][0]}"))
    with pytest.raises(ConfigError, match=f"{reason}.*decoder=pyav"):
        read_clip(Clip(video=ref, start=0, stop=1), decoder="decord")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        Image.fromarray(picture(number)).save(tmp_path / f"frame_{number + 1}.png")
    return tmp_path


def test_a_folder_of_images_is_a_video(folder: Path) -> None:
    ref = stat(f"{folder}/")
    info = probe(ref)
    frames, pts_s, pixels = read(ref, 3, 12)
    assert (info.frames, info.size_wh_px, info.fps, info.decoder) == (12, WH, 30.0, "frames")
    assert [number_of(each) for each in pixels] == frames.tolist() == list(range(3, 12))  # by number, not by name
    assert pts_s == pytest.approx(np.arange(3, 12) / 30)
    assert probe(ref, folder_fps=25.0).fps == 25.0


def test_an_unreadable_image_repeats_the_one_before(folder: Path) -> None:
    (folder / "frame_6.png").write_bytes(b"not an image")
    ref = stat(f"{folder}/")
    with read_clip(Clip(video=ref, start=0, stop=12)) as reader:
        numbers = [number_of(each) for batch in reader for each in batch.pixels]
        assert reader.decode_errors == 1
    assert numbers == [0, 1, 2, 3, 4, 4, 6, 7, 8, 9, 10, 11]


def test_an_image_of_another_size_is_refused(folder: Path) -> None:
    Image.new("RGB", (50, 50)).save(folder / "frame_6.png")
    with pytest.raises(MediaError, match=r"frame_6\.png") as caught:
        read(stat(f"{folder}/"))
    assert caught.value.reason is QuarantineReason.SIZE_CHANGED


# --- writing ----------------------------------------------------------------------------------------------------


def test_what_is_written_plays_in_a_browser_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write_video(path, (picture(number, (161, 97)) for number in range(30)), fps=29.97, wh=(161, 97))
    info = probe(stat(str(path)))
    _, _, pixels = read(path)
    assert (info.codec, info.pixel_format, info.size_wh_px, info.frames) == ("h264", "yuv420p", (162, 98), 30)
    assert info.fps == pytest.approx(29.97, abs=1e-3)
    assert [number_of(each) for each in pixels] == list(range(30))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_of_another_size_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size differs"):
        write_video(tmp_path / "out.mp4", [picture(0), picture(1, (64, 64))], fps=30, wh=WH)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wh_px", "fits"),
    [((8192, 4394), True), ((8193, 1), False), ((1, 8193), False), ((6000, 6000), True), ((6000, 6001), False)],
)
def test_the_ceilings_of_a_picture_are_exact(wh_px: tuple[int, int], fits: bool) -> None:
    with nullcontext() if fits else pytest.raises(MediaError) as caught:
        check_size(*wh_px)
    assert fits or caught.value.reason is QuarantineReason.TOO_LARGE


def test_a_plan_leaves_out_what_has_a_record() -> None:
    clip = {"video": "", "clip": "", "info": "", "frames": 1, "reason": "", "detail": ""}
    plan = Plan(clips={key: {"key": key, **clip} for key in "abc"}, unreadable={}, set_aside=("d",))  # type: ignore[typeddict-item]
    assert [each["key"] for each in plan.to_do({"b"})] == ["a", "c"] and plan.keys == ["a", "b", "c", "d"]
