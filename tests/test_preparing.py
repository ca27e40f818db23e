"""Packs hold exactly what training saw before; what is complete is kept, what fails is set aside, caches stay small."""

import numpy as np
import pytest
from tests.videos import encode

from specktrack.datasets import load_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import ConfigError, StorageError
from specktrack.frames import Viewport
from specktrack.ledger import find_faults
from specktrack.preparing import PrepareConfig, prepare
from specktrack.preparing.blocks import BLOCK_BYTES, Blocks
from specktrack.preparing.frames import runs
from specktrack.preparing.prepared import open_prepared
from specktrack.sampling import motion_cells
from specktrack.storage import local_path, open_store
from specktrack.tracking.windowed.background import median_picture, stepped
from specktrack.training.decoded import decoded

WH = (96, 64)
FRAMES = 40


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    write_archive(SynthConfig(videos=2, frames=FRAMES, width_px=192, height_px=128), str(folder))
    return folder


def settings(archive, destination, **options):
    given = {"data": str(archive), "destination": str(destination), "input_wh": list(WH), "clip_s": 0.5, **options}
    return PrepareConfig.parse(given, environment={})


@pytest.fixture(scope="module")
def exact(archive, tmp_path_factory):
    destination = tmp_path_factory.mktemp("packs")
    return destination, prepare(settings(archive, destination))


def frames_in(destination, number=0, blocks=None):
    """A video of a prepared dataset, and its reference."""
    prepared, video = open_prepared(str(destination)), load_dataset(str(destination)).card.videos[number]
    viewport = prepared.viewport((video.width_px, video.height_px), WH)
    return prepared.frames(video.ref, viewport.network_wh_px, blocks or Blocks(prepared.store)), video.ref


def test_packs_hold_the_pixels_motion_and_background_that_decoding_gives(archive, exact, tmp_path):
    destination, report = exact
    assert (report.videos, report.frames, report.exit_code) == (2, 2 * FRAMES, 0) and report.clips >= 4
    assert report.size_bytes == sum(info.size_bytes for info in open_store(str(destination)).list("data/"))
    for number in (0, 1):
        packed, ref = frames_in(destination, number)
        pixels = decoded(ref, tmp_path, viewport=Viewport((192, 128), WH)).pixels
        order = np.random.default_rng(0).permutation(FRAMES)
        assert len(packed) == FRAMES and not packed.missing().any()
        np.testing.assert_array_equal(packed.take(order.tolist()), pixels[order])
        np.testing.assert_array_equal(packed.take([3, 30], slice(8, 40), slice(16, 20)), pixels[[3, 30], 8:40, 16:20])
        motion = motion_cells(pixels)
        assert motion.max() > 0
        for frame in range(FRAMES):
            np.testing.assert_array_equal(packed.motion(frame), motion[frame])
        still = open_prepared(str(destination)).background(ref)
        np.testing.assert_array_equal(still, median_picture(pixels[:: stepped(FRAMES).step]))


def test_jpeg_is_smaller_and_near(archive, exact, tmp_path):
    report = prepare(settings(archive, tmp_path, pictures="jpeg"))
    assert report.size_bytes < 0.8 * exact[1].size_bytes
    off = frames_in(tmp_path)[0].take(range(FRAMES)).astype(int) - frames_in(exact[0])[0].take(range(FRAMES))
    assert 0 < np.abs(off).mean() < 2


def test_a_run_goes_on_and_equal_settings_share_packs(archive, tmp_path):
    first = prepare(settings(archive, tmp_path))
    store = open_store(str(tmp_path))
    before = {info.key: info.etag for info in store.list("data/")}
    lost = next(store.list("records/")).key
    store.delete(lost)
    again = prepare(settings(archive, tmp_path))
    assert (again.committed, again.resumed) == (1, first.clips - 1)
    assert len(before.items() & {info.key: info.etag for info in store.list("data/")}.items()) == len(before)
    assert prepare(settings(archive, tmp_path)).committed == 0
    with pytest.raises(ConfigError, match=r"made by another model or configuration: \"pictures 'exact' -> 'jpeg'\""):
        prepare(settings(archive, tmp_path, pictures="jpeg"))
    assert prepare(settings(archive, tmp_path, pictures="jpeg", resume=False)).committed == first.clips


def test_what_cannot_be_read_is_missing_and_the_rest_is_packed(tmp_path):
    data = tmp_path / "data"
    write_archive(SynthConfig(videos=2, frames=FRAMES, width_px=192, height_px=128), str(data))
    path = local_path(load_dataset(str(data)).card.videos[1].ref.uri)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(len(whole) - middle))  # as long as the card says
    report = prepare(settings(data, tmp_path / "packs"))
    assert report.exit_code == 5 or report.frames < 2 * FRAMES
    packed, _ = frames_in(tmp_path / "packs", 1)
    if packed is not None:
        missing = packed.missing()
        assert missing.any() and not packed[int(np.flatnonzero(missing)[-1])].any()
    assert not frames_in(tmp_path / "packs", 0)[0].missing().any()


def test_an_index_says_at_which_size_and_of_which_videos_it_is(exact, tmp_path):
    prepared = open_prepared(str(exact[0]))
    with pytest.raises(ConfigError, match=r"prepared at 96x64, but the network needs 192x128.*again at that size"):
        prepared.viewport((192, 128), (192, 128))
    other = load_dataset(str(exact[0])).card.videos[0].ref.model_copy(update={"etag": "other"})
    with pytest.raises(ConfigError, match=r"not in the prepared data.*prepare again"):
        prepared.frames(other, WH, Blocks(prepared.store))
    assert open_prepared(str(tmp_path)) is None


def test_a_damaged_pack_is_noticed(archive, tmp_path):
    prepare(settings(archive, tmp_path))
    store = open_store(str(tmp_path))
    key = next(store.list("data/")).key
    data = store.get(key)
    store.put(key, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    packed = [frames_in(tmp_path, number)[0] for number in (0, 1)]
    with pytest.raises(StorageError, match=r"a pack of pictures is damaged .*prepare the data again"):
        [frames.take(range(FRAMES)) for frames in packed]
    assert len(find_faults(store)) == 1


def test_reading_from_s3_fetches_what_is_asked_for_and_keeps_a_bounded_part(s3, tmp_path):
    store, most_bytes = open_store(f"s3://{s3}/packs"), 8 * BLOCK_BYTES
    data = np.random.default_rng(0).integers(0, 256, 20 * BLOCK_BYTES + 7, np.uint8).tobytes()
    store.put("data/a.pack", data)
    blocks, asked = Blocks(store, tmp_path / "kept", most_bytes=most_bytes), []
    get_range = type(store).get_range

    class Counting(type(store)):
        def get_range(self, key, start, stop):
            asked.append(stop - start)
            return get_range(self, key, start, stop)

    store.__class__ = Counting
    for start, stop in ((0, 5), (5, BLOCK_BYTES + 3), (2, BLOCK_BYTES), (len(data) - 9, len(data) + 100)):
        assert blocks.read("data/a.pack", start, stop) == data[start:stop]
    assert asked == [BLOCK_BYTES, BLOCK_BYTES, 2 * BLOCK_BYTES]
    for start in np.random.default_rng(1).integers(0, len(data) - 10, 200).tolist():
        assert blocks.read("data/a.pack", start, start + 10) == data[start : start + 10]
        assert sum(path.stat().st_size for path in (tmp_path / "kept").iterdir()) <= most_bytes
    assert len(asked) < 203 + 3  # some were still there


def test_frames_that_follow_one_another_are_read_together():
    assert runs([1, 2, 3, 7, 9, 10]) == [range(1, 4), range(7, 8), range(9, 11)]


def test_a_video_that_is_no_video_keeps_its_place_and_nothing_else(tmp_path):
    data = tmp_path / "data"
    write_archive(SynthConfig(videos=2, frames=12, width_px=192, height_px=128), str(data))
    path = local_path(load_dataset(str(data)).card.videos[0].ref.uri)
    path.write_bytes(b"x" * path.stat().st_size)
    report = prepare(settings(data, tmp_path / "packs"))
    assert report.quarantined == {"not_a_video": 1} and report.exit_code == 5
    assert frames_in(tmp_path / "packs", 0)[0] is None and len(frames_in(tmp_path / "packs", 1)[0]) == 12


def test_frames_of_a_folder_are_packed_at_their_own_size(tmp_path):
    encode(tmp_path / "a.mp4", frames=9)
    (tmp_path / "a.csv").write_text("Frame,Visibility,X,Y\n" + "".join(f"{i},1,50,50\n" for i in range(9)))
    report = prepare(settings(tmp_path, tmp_path / "packs", own_size=True))
    assert report.frames == 9
    prepared, video = open_prepared(str(tmp_path / "packs")), load_dataset(str(tmp_path / "packs")).card.videos[0]
    assert prepared.viewport((160, 96), None).network_wh_px == (160, 96)
    assert prepared.frames(video.ref, (160, 96), Blocks(prepared.store))[4].shape == (96, 160, 3)
