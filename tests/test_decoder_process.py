"""The decoder process: the same pictures, whatever kills it, and nothing to reach from inside it."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.videos import muxed, with_sound

from specktrack.annotating.clips import annotate_clip, annotate_here
from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import Viewport
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.zoo import build
from specktrack.schema import Clip
from specktrack.storage import open_store, stat
from specktrack.storage.files import FileStore
from specktrack.tracking.tracker import Tracker, tracker_of
from specktrack.video import channel, forking, pictures, process, write_video
from specktrack.video.channel import Channel, ClosedError
from specktrack.video.process import DecodeLimits, DecoderProcess, ProcessReader
from specktrack.video.sound import read_sound
from specktrack.video.unconfined import probe, read_clip

WH = (96, 64)
FRAMES = 90


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    noise = (np.random.default_rng(i).integers(0, 255, (*WH[::-1], 3), np.uint8) for i in range(FRAMES))
    write_video(path, noise, fps=30, wh=WH)
    return path


@pytest.fixture(scope="module")
def decoder():
    with DecoderProcess() as process:
        yield process


def whole(path: Path | str) -> tuple[Clip, Viewport]:
    ref = stat(str(path))
    return Clip(video=ref, start=0, stop=FRAMES), Viewport(WH, (80, 48))


def pid_of(decoder: DecoderProcess) -> int:
    assert decoder.pid is not None
    return decoder.pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    with suppress(FileNotFoundError):
        while "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            assert time.monotonic() < deadline, "the decoder process outlived its owner"
            time.sleep(0.05)


def test_it_gives_what_the_decoder_in_this_process_gives(decoder, video):
    clip, viewport = whole(video)
    info = decoder.probe(clip.video)
    assert info == probe(clip.video)
    ours, theirs = list(read_clip(clip, viewport=viewport)), list(decoder.read_clip(clip, info=info, viewport=viewport))
    assert [len(batch) for batch in theirs] == [32, 32, 26]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.pixels == other.pixels).all() and (one.frame == other.frame).all()
        assert (one.pts_s == other.pts_s).all() and one.viewport == other.viewport


def test_times_are_those_of_the_frames(decoder, video, folder):
    for ref in (stat(str(video)), stat(f"{folder}/")):
        info = decoder.probe(ref)
        clip, viewport = Clip(video=ref, start=0, stop=info.frames), Viewport(info.size_wh_px, (16, 16))
        read = [batch.pts_s for batch in decoder.read_clip(clip, info=info, viewport=viewport)]
        assert (decoder.frame_times(ref, info) == np.concatenate(read)).all()


def test_sound_is_what_it_is_in_this_process(decoder, video, tmp_path):
    assert list(decoder.read_sound(stat(str(video)))) == []
    ref = stat(str(with_sound(video, tmp_path / "loud.mkv", seconds=2.0, start_s=0.5)))
    ours, theirs = list(read_sound(ref)), list(decoder.read_sound(ref))
    assert [piece.start_s for piece in theirs] == [piece.start_s for piece in ours] and ours[0].start_s == 0.5
    assert all((one.samples == other.samples).all() for one, other in zip(ours, theirs, strict=True))
    assert sum(len(piece.samples) for piece in theirs) == 2 * theirs[0].rate_hz


def test_the_choice_among_several_streams_is_told(decoder, video, tmp_path, capsys):
    decoder.probe(stat(str(video)))
    assert "several" not in capsys.readouterr().err
    decoder.probe(stat(str(muxed(tmp_path / "both.mp4", video, video, default=1))))
    told = capsys.readouterr().err
    assert "the file has several video streams; choose with --stream" in told and "both.mp4" in told
    assert "0: h264 96x64, 90 frames" in told


def test_a_video_in_s3_is_read_by_its_owner(decoder, video, s3):
    open_store(f"s3://{s3}/in").put("noise.mp4", video.read_bytes())
    ref = stat(f"s3://{s3}/in/noise.mp4")
    assert decoder.probe(ref) == probe(ref)
    clip = Clip(video=ref, start=40, stop=60)
    batches = list(decoder.read_clip(clip, info=probe(ref), viewport=Viewport(WH, WH)))
    assert batches[0].frame.tolist() == list(range(40, 60))


def test_errors_keep_their_reason_and_the_process_goes_on(decoder, video, tmp_path):
    decoder.probe(stat(str(video)))
    before = pid_of(decoder)
    (tmp_path / "text.mp4").write_text("not a video at all")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name, reason in (("text.mp4", QuarantineReason.NOT_A_VIDEO), ("empty.mp4", QuarantineReason.EMPTY)):
        with pytest.raises(MediaError) as caught:
            decoder.probe(stat(str(tmp_path / name)))
        assert caught.value.reason is reason
    assert pid_of(decoder) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_death_is_a_reason_and_the_next_request_gets_a_new_process(decoder, video, how):
    clip, viewport = whole(video)
    info = decoder.probe(clip.video)
    reader = decoder.read_clip(clip, info=info, viewport=viewport)
    next(reader)
    os.kill(pid_of(decoder), how)
    with pytest.raises(MediaError, match=f"the decoder died: '{how.name}'") as caught:
        list(reader)
    assert caught.value.reason is QuarantineReason.CRASHED
    assert decoder.probe(clip.video) == info


def test_a_reader_that_is_left_early_leaves_a_usable_process(decoder, video):
    clip, viewport = whole(video)
    info = decoder.probe(clip.video)
    reader = decoder.read_clip(clip, info=info, viewport=viewport)
    next(reader)
    reader.close()
    assert sum(len(batch) for batch in decoder.read_clip(clip, info=info, viewport=viewport)) == FRAMES


def test_bytes_that_change_under_the_reader_are_noticed(video, tmp_path):
    path = tmp_path / "changing.mp4"
    path.write_bytes(video.read_bytes())
    clip, viewport = whole(path)
    with DecoderProcess() as decoder:
        info = decoder.probe(clip.video)
        path.write_bytes(video.read_bytes() + b"more")
        with pytest.raises(MediaError) as caught:
            list(decoder.read_clip(clip, info=info, viewport=viewport))
    assert caught.value.reason is QuarantineReason.CHANGED


def test_a_video_written_over_while_it_is_read_gives_no_rows(video, tmp_path, monkeypatch):
    path = tmp_path / "changing.mp4"
    path.write_bytes(video.read_bytes())
    os.utime(path, (1, 1))  # long ago: a clock of files ticks every few milliseconds
    clip, viewport = whole(path)
    with DecoderProcess() as decoder:
        info = decoder.probe(clip.video)
        reader = decoder.read_clip(clip, info=info, viewport=viewport)
        next(reader)
        path.write_bytes(bytes(len(video.read_bytes())))  # in place: the open file has the new bytes
        with pytest.raises(MediaError) as caught:
            list(reader)
        assert caught.value.reason is QuarantineReason.CHANGED
        path.write_bytes(video.read_bytes())
        clip, _ = whole(path)
        following = ProcessReader.__next__

        def touching(reader):
            batch = following(reader)
            os.utime(path, (0, 0))
            return batch

        monkeypatch.setattr(ProcessReader, "__next__", touching)
        result = annotate_clip(tracker(), clip, info, decoder)
    assert result.error.reason is QuarantineReason.CHANGED and len(result.trajectory) == 0


def tracker() -> Tracker:
    network = build(SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=4, input_wh=(80, 48)))
    return tracker_of(Model(network.eval(), ModelCard(name="random", network=network.config)), device="cpu")


def test_a_decoder_that_hangs_is_killed_within_its_time(video):
    clip, _ = whole(video)
    with DecoderProcess() as decoder:
        info = decoder.probe(clip.video)
        os.kill(pid_of(decoder), signal.SIGSTOP)
        decoder.limits = DecodeLimits(stall_s=0.1)
        result = annotate_clip(tracker(), clip, info, decoder)
        decoder.limits = DecodeLimits()
        assert result.error is not None and result.error.reason is QuarantineReason.TIMEOUT
        assert len(annotate_clip(tracker(), clip, info, decoder).trajectory) == FRAMES


def test_the_rows_before_a_death_are_kept(video):
    class Dying(DecoderProcess):
        def read_clip(self, clip, *, info, viewport):
            return _Dying(self, clip, info, viewport)

    class _Dying(ProcessReader):
        def __next__(self):
            batch = super().__next__()
            if batch.frame[0]:
                os.kill(pid_of(decoder), signal.SIGSEGV)
            return batch

    clip, _ = whole(video)
    with Dying() as decoder:
        result = annotate_clip(tracker(), clip, decoder.probe(clip.video), decoder)
    assert result.error is not None and result.error.reason is QuarantineReason.CRASHED
    assert result.trajectory.frame.tolist() == list(range(64))


def test_the_process_ends_with_its_owner(video):
    code = (
        "import sys, time\nfrom specktrack.storage import stat\n"
        "from specktrack.video.process import DecoderProcess\n"
        "d = DecoderProcess(); d.probe(stat(sys.argv[1])); print(d.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": "platform"}
    owner = subprocess.Popen([sys.executable, "-c", code, str(video)], stdout=subprocess.PIPE, env=environment)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    wait_for_end(pid)


def test_it_imports_nothing_from_the_current_folder(video, tmp_path):
    for name in ("calendar", "av", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    code = (
        "import sys; here = sys.path.pop(0)\nfrom specktrack.storage import stat\n"
        "from specktrack.video.process import DecoderProcess\n"
        "sys.path.insert(0, here)\nprint(DecoderProcess().probe(stat(sys.argv[1])).frames)"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.abspath("platform")}
    for flag in ("-c", "/dev/stdin"):
        done = subprocess.run(
            [sys.executable, flag, *([code] if flag == "-c" else []), str(video)],
            input=code, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout == f"{FRAMES}\n", done.stderr
    assert not (tmp_path / "ran").exists()


def test_its_environment_holds_no_credentials(video, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-2718281828")
    with DecoderProcess() as decoder:
        decoder.probe(stat(str(video)))
        parent = parent_of(pid_of(decoder))  # its own environment, which it shares, is hidden from all but root
        assert b"canary" not in Path(f"/proc/{parent}/environ").read_bytes()


def test_the_forking_parent_may_die_as_well(decoder, video):
    clip, viewport = whole(video)
    info = decoder.probe(clip.video)
    reader = decoder.read_clip(clip, info=info, viewport=viewport)
    next(reader)
    child, parent = pid_of(decoder), parent_of(pid_of(decoder))
    os.kill(child, signal.SIGSTOP)  # else it may have answered all before it is told to die, too
    os.kill(parent, signal.SIGKILL)
    with pytest.raises(MediaError) as caught:
        list(reader)
    assert caught.value.reason is QuarantineReason.CRASHED
    assert decoder.probe(clip.video) == info
    assert parent_of(pid_of(decoder)) != parent
    wait_for_end(child)


def test_processes_of_one_owner_have_one_parent_and_work_side_by_side(video):
    ref = stat(str(video))
    decoders = [DecoderProcess() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        infos = list(pool.map(lambda each: [each.probe(ref) for _ in range(3)], decoders))
    assert infos == [[probe(ref)] * 3] * 4
    assert len(set(map(pid_of, decoders))) == 4 and len({parent_of(pid_of(each)) for each in decoders}) == 1


def test_a_probe_that_hangs_is_ended(video):
    with DecoderProcess() as decoder:
        decoder.probe(stat(str(video)))
        os.kill(pid_of(decoder), signal.SIGSTOP)
        decoder.limits = DecodeLimits(stall_s=0.1)
        with pytest.raises(MediaError, match=r"did not move on within 0\.1 s") as caught:
            decoder.probe(stat(str(video)))
        assert caught.value.reason is QuarantineReason.TIMEOUT and decoder.pid is None


class Slow(DecoderProcess):
    """Each answer costs 50 s of patience, in no time; where none is left, the next comes from one that stands still."""

    def _answer(self, child, *request, **beside):
        child.channel.patience_s -= 50
        if child.channel.patience_s <= 0:
            os.kill(child.pid, signal.SIGSTOP)
        return super()._answer(child, *request, **beside)


def test_a_video_that_moves_on_and_is_too_slow_over_all_is_given_up(video, monkeypatch):
    clip, viewport = whole(video)
    read = 0
    with Slow(DecodeLimits(stall_s=120)) as decoder:
        info = decoder.probe(clip.video)
        monkeypatch.setattr(process, "SLOWEST_FRAMES_PER_S", 0.5)
        assert sum(map(len, decoder.read_clip(clip, info=info, viewport=viewport))) == FRAMES, "50 s for 32 frames"
        monkeypatch.setattr(process, "SLOWEST_FRAMES_PER_S", 10_000)
        monkeypatch.setattr(process, "SLOWEST_PIXELS_PER_S", 10**9)
        with pytest.raises(MediaError, match="too slow") as caught:
            for batch in decoder.read_clip(clip, info=info, viewport=viewport):
                read += len(batch)
    assert caught.value.reason is QuarantineReason.TIMEOUT and read == 64


def test_waiting_uses_up_a_channel_s_patience(monkeypatch):
    looked = iter([3.0, 10.0])
    monkeypatch.setattr(channel, "time", SimpleNamespace(monotonic=lambda: next(looked)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiting = Channel(ours)
        waiting.patience_s = 0.01
        with pytest.raises(TimeoutError):
            waiting.receive_head()
    assert waiting.patience_s == 0.01 - 7


def test_closing_from_another_thread_ends_what_waits_for_good(video, monkeypatch):
    waits, wait = threading.Event(), Channel._wait
    decoder = DecoderProcess()
    decoder.probe(stat(str(video)))
    os.kill(pid_of(decoder), signal.SIGSTOP)
    monkeypatch.setattr(Channel, "_wait", lambda self, when: waits.set() or wait(self, when))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decoder.probe, stat(str(video)))
        assert waits.wait(60)
        decoder.close()
        with pytest.raises(MediaError, match="died"):
            waiting.result(60)
    with pytest.raises(MediaError, match="was closed"):
        decoder.probe(stat(str(video)))


GOOD = {"pictures": 1, "frame": 0, "pts_s": [0.0]}
BATCH = 48 * 80 * 3


@pytest.mark.parametrize(
    ("head", "body_bytes"),
    [
        ({"whatever": 1}, 0),
        (GOOD, BATCH - 1),
        ({**GOOD, "frame": 1}, BATCH),
        ({**GOOD, "pts_s": [0.0, 1.0]}, BATCH),
        ({**GOOD, "pts_s": [float("nan")]}, BATCH),
        ({**GOOD, "pictures": 33, "pts_s": [0.0] * 33}, 33 * BATCH),
        ({**GOOD, "pictures": 10**12}, 10**12 * BATCH),
        ({"frame": 0}, 0),
        ({"channels": 3, "rate_hz": 48000}, 6),
        ({"channels": 2, "rate_hz": 48000}, 6),
        ({"channels": 1, "rate_hz": 48000}, 2 * 48000 * 11),
        ({**GOOD, "channels": 1, "rate_hz": 48000}, BATCH),
        ({"decode_errors": -1}, 0),
        ({"bytes": [-1, 10]}, 0),
        ({"bytes": [0, 0]}, 0),
        ({"error": {"reason": "no such reason", "what": ""}}, 0),
        ({"error": {"reason": "damaged", "what": "x", "value": 10**4000}}, 0),
        ({"error": {"reason": "damaged", "what": "x", "place": "s3://another"}}, 0),
        ({"said": "x" * 10_001}, 0),
    ],
)
def test_a_process_that_was_taken_over_is_not_believed(video, monkeypatch, head, body_bytes):
    clip, viewport = whole(video)
    with taken_over(monkeypatch, head, body_bytes) as decoder:
        with pytest.raises(MediaError, match="an impossible answer") as caught:
            next(decoder.read_clip(clip, info=probe(clip.video), viewport=viewport))
        assert caught.value.reason is QuarantineReason.CRASHED and decoder.pid is None


@contextmanager
def taken_over(monkeypatch, head, body_bytes=0) -> Iterator[DecoderProcess]:
    """A decoder whose process answers any request with this, whatever that leads to."""
    data, its_data = socket.socketpair()
    lifeline, its_lifeline = socket.socketpair()
    monkeypatch.setattr(process, "fork", lambda **rights: forking.Child(data, lifeline))
    with its_data, its_lifeline, DecoderProcess() as decoder:
        text = json.dumps(head).encode()
        its_data.sendall(struct.pack(">IQ", len(text), body_bytes) + text + bytes(min(body_bytes, BATCH)))
        its_lifeline.shutdown(socket.SHUT_WR)
        yield decoder


LOUD = "\x1b[2J\r\n\u202e<b>" + "x" * 50_000
QUIET = " [2J   <b>" + "x" * 290


def test_what_it_says_of_a_fault_is_short_and_plain_and_the_place_is_the_owner_s(video, monkeypatch):
    ref = stat(str(video))
    fault = {"reason": "damaged", "what": LOUD, "value": LOUD, "remedy": LOUD}
    with taken_over(monkeypatch, {"error": fault}) as decoder, pytest.raises(MediaError) as caught:
        decoder.probe(ref)
    assert str(caught.value) == f"{QUIET}: {QUIET!r} ({ref.uri}); {QUIET}"
    words = {"container": LOUD, "codec": LOUD, "pixel_format": LOUD}
    with taken_over(monkeypatch, {"info": probe(ref).model_dump(mode="json") | words}) as decoder:
        info = decoder.probe(ref)
    assert (info.container, info.codec, info.pixel_format) == (QUIET, QUIET, QUIET)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "closed"),
        (b"short", "closed"),
        (struct.pack(">IQ", 64 * 2**20, 0), "closed"),
        (struct.pack(">IQ", 64 * 2**20 + 1, 0), "a head of 67108865 bytes"),
        (struct.pack(">IQ", 3, 0) + b"nul", "not JSON"),
        (struct.pack(">IQ", 4, 0) + b"null", "no object"),
    ],
)
def test_a_channel_refuses_what_is_no_message(sent, why):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ClosedError, match=why):
            Channel(ours).receive_head()


def test_annotating_here_decodes_there(video):
    rows = annotate_here(str(video), model=Model(tracker().model.network, tracker().model.card))
    assert rows.num_rows == FRAMES


# --- folders of images ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        grey = np.full((*WH[::-1], 3), 20 * number, np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.webp", lossless=True)
    (tmp_path / "6.webp").write_bytes(b"RIFF")
    return tmp_path


def images_of(folder: Path) -> tuple[Clip, Viewport]:
    return Clip(video=stat(f"{folder}/"), start=0, stop=12), Viewport(WH, (48, 32))


def test_images_are_decoded_in_the_process(decoder, folder, monkeypatch):
    clip, viewport = images_of(folder)
    here, expected = list(read_clip(clip, viewport=viewport)), probe(clip.video)
    monkeypatch.setattr(pictures.Image, "open", None)  # from now on nothing can be decoded in this process
    info = decoder.probe(clip.video)
    reader = decoder.read_clip(clip, info=info, viewport=viewport)
    there = list(reader)
    assert info == expected and reader.decode_errors == reader.lost_frames == 1
    assert [len(batch) for batch in there] == [12]
    np.testing.assert_array_equal(there[0].pixels, here[0].pixels)


@pytest.mark.parametrize("fate", ["replaced", "removed", "of another size"])
def test_images_that_change_after_listing_are_noticed(decoder, folder, fate, monkeypatch):
    clip, viewport = images_of(folder)
    info, get = decoder.probe(clip.video), FileStore.get

    def change() -> None:
        if fate == "removed":
            (folder / "3.webp").unlink()
        else:
            Image.new("RGB", WH if fate == "replaced" else (9, 9)).save(folder / "3.webp")

    def changing(store, key):
        if key == "2.webp":
            change()
        return get(store, key)

    with monkeypatch.context() as patch, pytest.raises(MediaError) as under_the_reader:
        patch.setattr(FileStore, "get", changing)
        list(decoder.read_clip(clip, info=info, viewport=viewport))
    with pytest.raises(MediaError) as before:
        list(decoder.read_clip(clip, info=info, viewport=viewport))
    assert under_the_reader.value.reason is before.value.reason is QuarantineReason.CHANGED


def test_a_death_over_an_image_names_it(decoder, folder, monkeypatch):
    clip, viewport = images_of(folder)
    info, get = decoder.probe(clip.video), FileStore.get

    def deadly(store, key):
        if key == "3.webp":
            os.kill(pid_of(decoder), signal.SIGKILL)
        return get(store, key)

    with monkeypatch.context() as patch, pytest.raises(MediaError, match=r"3\.webp") as fault:
        patch.setattr(FileStore, "get", deadly)
        list(decoder.read_clip(clip, info=info, viewport=viewport))
    assert fault.value.reason is QuarantineReason.CRASHED
    assert sum(map(len, decoder.read_clip(clip, info=info, viewport=viewport))) == 12


def test_an_image_beyond_the_ceiling_is_refused(folder):
    with DecoderProcess(DecodeLimits(pixels=WH[0] * WH[1] - 1)) as decoder, pytest.raises(MediaError) as fault:
        decoder.probe(stat(f"{folder}/"))
    assert fault.value.reason is QuarantineReason.TOO_LARGE
