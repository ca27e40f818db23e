"""What a followed object is: luma at source size, words in rows, and a network that learns to tell."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tests.annotating import make_video, tiny_model

from specktrack.annotating import AnnotateConfig, annotate, annotate_here
from specktrack.config import Config
from specktrack.datasets import load_dataset, make_dataset, save_dataset
from specktrack.datasets.dataset import DatasetVideo, all_of
from specktrack.datasets.rows import read_rows
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.ledger import read_annotations
from specktrack.models.checkpoint import Calibration, Model, ModelCard, load_model, save_model
from specktrack.models.zoo import build, network_config
from specktrack.schema import LATER, ROWS, Clip
from specktrack.storage import open_store, stat
from specktrack.tracking.kinds import KindClassifier, KindTracker, cut
from specktrack.training import TrainConfig
from specktrack.training.course import course_of
from specktrack.training.shards import shards_of
from specktrack.training.worker import Learner, learn
from specktrack.video import write_video
from specktrack.video.pictures import decode_at
from specktrack.video.process import DecoderProcess

CPU = torch.device("cpu")
SMALL = {"name": "kindnet", "kinds": ["bird", "drone"], "input_wh": [32, 32], "frames_in": 6, "widths": [4, 8, 8],
         "features": 8}  # fmt: skip
SOURCE, N = (96, 64), 40


def tiny_kinds(**calibration: float) -> Model:
    torch.manual_seed(0)
    config = network_config(SMALL)
    card = ModelCard(name="kinds", network=config, calibration=Calibration(**calibration))
    return Model(build(config).eval(), card)


# --- luma at source size --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video, and its frames as a folder of images."""
    folder = tmp_path_factory.mktemp("kinds")
    make_video(folder / "v.mp4", 40)
    draw = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(3):
        Image.fromarray(draw.integers(0, 255, (64, 96, 3), np.uint8)).save(folder / "images" / f"{i:04}.png")
    return folder


@pytest.mark.parametrize("name", ["v.mp4", "images/"])
def test_luma_comes_at_source_size_beside_the_same_pixels(folder: Path, name: str) -> None:
    with DecoderProcess() as decoder:
        ref = stat(f"{folder}/{name}")
        info = decoder.probe(ref)
        clip, small = Clip(video=ref, start=1, stop=3), (48, 32)
        (plain,) = decoder.read_clip(clip, info=info, viewport=Viewport(info.size_wh_px, small))
        (both,) = decoder.read_clip(clip, info=info, viewport=Viewport(info.size_wh_px, small, luma=True))
        (whole,) = decoder.read_clip(clip, info=info, viewport=Viewport(info.size_wh_px, info.size_wh_px))
    assert plain.luma is None and both.luma is not None
    np.testing.assert_array_equal(both.pixels, plain.pixels)
    grey = whole.pixels @ np.array([0.299, 0.587, 0.114])
    assert both.luma.shape == grey.shape and np.abs(both.luma - grey).mean() < 3
    assert both[:1].luma is not None and len(both[:1].luma) == 1


def test_a_picture_of_a_stream_is_decoded_once_for_both(folder: Path) -> None:
    data = (folder / "images" / "0000.png").read_bytes()
    size, pixels, luma = decode_at(data, Viewport(SOURCE, (48, 32), luma=True))
    plain_size, plain, none = decode_at(data, Viewport(SOURCE, (48, 32)))
    assert size == plain_size == SOURCE and none is None and luma is not None and luma.shape == (64, 96)
    np.testing.assert_array_equal(pixels, plain)


def test_what_is_cut_is_resampled_by_nothing_and_goes_on_outside() -> None:
    luma = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96)
    np.testing.assert_array_equal(cut(luma, np.array([40.4, 29.6]), 16), luma[22:38, 32:48])
    corner = cut(luma, np.array([0.0, 0.0]), 16)
    np.testing.assert_array_equal(corner[8:, 8:], luma[:8, :8])
    assert (corner[:8, :8] == luma[0, 0]).all()


# --- rows say kinds -------------------------------------------------------------------------------------------------


class _Known:
    """A tracker that knows where things are: rows come three frames late."""

    config, stride, lead, step_s, wants_background = Config(), 2, 3, None, False

    def __init__(self, rows: Trajectory) -> None:
        self.rows = rows

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        return Viewport(source_wh_px, (48, 32))

    def open(self, prompt: object = None) -> "_KnownSession":
        return _KnownSession(self.rows)


class _KnownSession:
    def __init__(self, rows: Trajectory) -> None:
        self.rows, self.given, self.end = rows, 0, 0

    def push(self, batch: FrameBatch) -> Trajectory:
        self.end = int(batch.frame[-1]) + 1
        return self._take(max(self.given, self.end - 3))

    def finish(self) -> Trajectory:
        return self._take(self.end)

    def provisional(self) -> Trajectory:
        return self.rows.between(self.given, self.end)

    def _take(self, stop: int) -> Trajectory:
        rows, self.given = self.rows.between(self.given, stop), stop
        return rows


def flown(n: int = N) -> tuple[np.ndarray, Trajectory]:
    """Luma [n, H, W] and rows: two objects, one of which is lost in frames 10 to 12 and jumps at frame 20."""
    draw = np.random.default_rng(1)
    luma = draw.integers(0, 255, (n, SOURCE[1], SOURCE[0]), dtype=np.uint8)
    frame = np.repeat(np.arange(n), 2)
    xy = np.stack([20 + frame, np.full(2 * n, 20.0)], axis=1).astype(np.float32)
    xy[1::2, 1] = 40
    xy[(frame >= 20) & (np.arange(2 * n) % 2 == 0)] -= 18
    xy[20:26:2] = np.nan
    gap = np.zeros(2 * n, np.int32)
    gap[11] = 1
    score = np.full(2 * n, 0.5, np.float32)
    return luma, Trajectory(frame, frame / 30, xy, score, gap=gap, object=np.tile([0, 1], n).astype(np.int32))


def followed(tracker: KindTracker, luma: np.ndarray, batch_frames: int) -> Trajectory:
    session, parts = tracker.open(), []
    view = tracker.viewport(SOURCE)
    for start in range(0, len(luma), batch_frames):
        frame = np.arange(start, min(start + batch_frames, len(luma)))
        pixels = np.zeros((len(frame), 32, 48, 3), np.uint8)
        parts.append(session.push(FrameBatch(pixels, frame, frame / 30, view, luma=luma[frame])))
    return concat([*parts, session.finish()])


def test_rows_say_kinds_and_nothing_else_changes_however_frames_come() -> None:
    luma, known = flown()
    tracker = KindTracker(_Known(known), KindClassifier(tiny_kinds(slope=0.5), CPU))
    assert tracker.viewport(SOURCE) == Viewport(SOURCE, (48, 32), luma=True) and tracker.lead == 10
    rows, other = followed(tracker, luma, 7), followed(tracker, luma, 1)
    told = rows.present & (rows.gap == 0)
    assert [kind is not None for kind in rows.kind] == told.tolist() == (~np.isnan(rows.kind_score)).tolist()
    assert set(rows.kind[told]) <= {"bird", "drone"} and (rows.kind_score[told] >= 0.5).all()
    for name in ("frame", "xy_px", "score", "gap", "object"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(known, name))
    np.testing.assert_array_equal(rows.kind_score, other.kind_score)
    np.testing.assert_array_equal(rows.kind, other.kind)


def test_a_kind_is_that_of_the_newest_frames_of_one_track() -> None:
    luma, known = flown()
    model = tiny_kinds()
    classifier = KindClassifier(model, CPU)
    rows = followed(KindTracker(_Known(known), classifier), luma, 5).of(0)

    def alone(first: int, last: int) -> float:
        pictures = [cut(luma[n], known.of(0).xy_px[n], 32) for n in range(first, last + 1) if not 10 <= n < 13]
        return classifier.classify(classifier.features(pictures))[1]

    for row, first in {0: 0, 5: 0, 8: 3, 14: 9, 20: 20, 23: 20, 35: 30}.items():  # six frames, and none before the jump
        assert rows.kind_score[row] == pytest.approx(alone(first, row), abs=1e-6), row
    session = KindTracker(_Known(known), classifier).open()
    view, frame = Viewport(SOURCE, (48, 32), luma=True), np.arange(9)
    batch = FrameBatch(np.zeros((9, 32, 48, 3), np.uint8), frame, frame / 30, view, luma=luma[:9])
    session.push(batch)
    waiting = session.provisional().of(0)
    np.testing.assert_array_equal(waiting.kind_score, rows.kind_score[6:9])
    with pytest.raises(ConfigError, match="a kind network needs luma at source size"):
        session.push(FrameBatch(batch.pixels, frame + 9, frame / 30, view))


def claiming(path: str) -> str:
    """A model of random weights that finds something."""
    model = load_model(path)
    with torch.no_grad():
        model.network.head.bias += 4
    save_model(path, model.network, model.card)
    return path


def test_annotated_rows_are_the_same_but_for_their_kinds(folder: Path, tmp_path: Path) -> None:
    """Here, and by a run that cuts the video into clips."""
    model, kinds = tiny_model(tmp_path / "tiny.safetensors"), tiny_kinds()
    save_model(tmp_path / "kinds.safetensors", kinds.network, kinds.card)
    named = str(tmp_path / "kinds.safetensors")
    reading = {"model": claiming(model)}
    plain, told = (annotate_here(folder / "v.mp4", **reading, **more) for more in ({}, {"kinds": named}))
    assert told.drop_columns(LATER).equals(plain.drop_columns(LATER))
    assert plain["kind"].null_count == plain["kind_score"].null_count == len(plain)
    assert told["kind"].null_count == told["x"].null_count < len(told)
    output = str(tmp_path / "out")
    settings = {"sources": (str(folder / "v.mp4"),), "output": output, "clip_s": 0.5, **reading}
    annotate(AnnotateConfig(**settings, kinds=named), inside=True)
    cut_up = read_annotations(output)
    assert cut_up["kind_score"].to_pylist() == told["kind_score"].to_pylist()
    with pytest.raises(ConfigError, match=r"made by another model or configuration"):
        annotate(AnnotateConfig(**settings), inside=True)
    with pytest.raises(ConfigError, match=r"a windowed network does not classify objects: 'tiny'"):
        annotate_here(folder / "v.mp4", model=model, kinds=model)


def test_rows_of_older_versions_have_no_kinds(tmp_path: Path) -> None:
    rows = flown()[1].to_rows("file:///v.mp4")
    old = rows.drop_columns(LATER)
    pq.write_table(old, tmp_path / "old.parquet")
    pa.csv.write_csv(old.set_column(8, "visibility", old["visibility"].cast(pa.string())).set_column(
        10, "provenance", old["provenance"].cast(pa.string())), tmp_path / "old.csv")  # fmt: skip
    for name in ("old.parquet", "old.csv"):
        found = read_rows(str(tmp_path / name))
        assert found.schema == ROWS and found["kind"].null_count == found["kind_score"].null_count == len(rows)


# --- learning -------------------------------------------------------------------------------------------------------


def drawn(kind: str, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of a dark thing on bright sky, and its places: a drone is a disk, a bird a line that beats."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: SOURCE[1], : SOURCE[0]]
    pictures, places = [], []
    for i in range(24):
        at = np.array([20 + 2 * i, 30 + 5 * np.sin(i / 4 + seed)])
        off_x, off_y = np.abs(x - at[0]), np.abs(y - at[1])
        shape = np.hypot(off_x, off_y) < 4 if kind == "drone" else (off_x < 8) & (off_y < 1 + i % 3)
        sky = 180 + draw.normal(0, 4, shape.shape)
        pictures.append(np.repeat(np.where(shape, 60, sky)[..., None], 3, axis=2).astype(np.uint8))
        places.append(at)
    return pictures, np.array(places, np.float32)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two birds and two drones."""
    folder = tmp_path_factory.mktemp("labelled")
    videos, tables = [], []
    for seed, kind in enumerate(("bird", "drone", "bird", "drone")):
        pictures, places = drawn(kind, seed)
        write_video(folder / f"{seed}.mp4", iter(pictures), fps=30, wh=SOURCE)
        ref, frame = stat(f"{folder}/{seed}.mp4"), np.arange(len(places))
        label = Trajectory(frame, frame / 30, places, np.full(len(frame), np.nan, np.float32))
        videos.append(DatasetVideo(ref=ref, width_px=96, height_px=64, fps=30, frames=len(frame)))
        made = make_dataset(label.to_rows(ref.uri), (videos[-1],), name="t", layout="rows", source="here")
        tables.append(all_of(kind, made).rows)
    rows = pa.concat_tables(tables).unify_dictionaries()
    save_dataset(make_dataset(rows, tuple(videos), name="t", layout="rows", source="here"), open_store(str(folder)))
    return folder


def training(data: Path, **more: object) -> TrainConfig:
    settings = {"data": [str(data)], "output": "o", "network": SMALL, "batch_size": 8, "warmup_steps": 0}
    return TrainConfig.parse({**settings, **more}, environment={})


def test_a_network_learns_to_tell_what_it_is_shown(labelled: Path) -> None:
    course = course_of(training(labelled, steps=60, learning_rate=0.01, validation=[str(labelled)]), CPU)
    state = course.state(course.network())
    learner = Learner(course, state)
    for step in range(60):
        learn(learner, state, tuple(map(course.samples, shards_of(step, batch_size=8, parts=1))))
    assert course.measure(state.network.eval())["accuracy"] > 0.9
    classifier = KindClassifier(Model(state.network.eval(), ModelCard(name="t", network=state.network.config)), CPU)
    for kind in ("bird", "drone"):
        pictures, places = drawn(kind, seed=7)
        luma = np.stack(pictures)[..., 0]
        frame = np.arange(len(places))
        known = Trajectory(frame, frame / 30, places, np.full(len(frame), 0.9, np.float32))
        assert (followed(KindTracker(_Known(known), classifier), luma, 8).kind == kind).mean() > 0.8


def test_samples_are_drawn_by_their_numbers(labelled: Path) -> None:
    course = course_of(training(labelled), CPU)
    whole, half = course.read(range(4)), course.read(range(2, 4))
    assert all(torch.equal(half[name], whole[name][2:]) for name in whole)
    assert whole["luma_BTSS"].shape == (4, 4, 32, 32)
    assert 0.4 < course.read(range(64))["kind_B"].float().mean() < 0.6


def test_labels_without_kinds_are_refused(labelled: Path, tmp_path: Path) -> None:
    known = load_dataset(str(labelled))
    only = make_dataset(all_of("bird", known).rows, known.card.videos, name="t", layout="rows", source="here")
    save_dataset(only, open_store(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"no label is of this kind: 'drone'.*import labels with --kind"):
        course_of(training(tmp_path), CPU)
    with pytest.raises(ConfigError, match=r"no label has one of the network's kinds.*one of cat, dog"):
        course_of(training(labelled, network={**SMALL, "kinds": ["cat", "dog"]}), CPU)


@pytest.mark.parametrize(("field", "value"), [("input_wh", [40, 32]), ("kinds", ["bird", "bird"])])
def test_a_network_that_cannot_be_is_refused(field: str, value: list[object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        network_config({**SMALL, field: value})


def test_the_model_of_a_server_is_none_of_kinds(tmp_path: Path) -> None:
    from specktrack.serving.application import build as application

    kinds = tiny_kinds()
    save_model(tmp_path / "kinds.safetensors", kinds.network, kinds.card)
    with pytest.raises(ConfigError, match="a kind network cannot be served"):
        application({"models": [str(tmp_path / "kinds.safetensors")]})
