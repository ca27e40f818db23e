import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from specktrack.datasets import make_dataset, save_dataset
from specktrack.datasets.dataset import DatasetVideo
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory
from specktrack.models.checkpoint import load_model
from specktrack.schema import VideoRef, Visibility
from specktrack.storage import open_store
from specktrack.training import train
from specktrack.training.config import TrainConfig, recipe_path
from specktrack.training.repair_config import HidingConfig
from specktrack.training.trajectories import TrajectoryWindows, load_tracks

T = 16
CPU = torch.device("cpu")


def track(frames: int = 40, seed: int = 0) -> np.ndarray:
    t = np.arange(frames)[:, None]
    draw = np.random.default_rng(seed)
    return (0.4 + 0.002 * t * draw.normal(0, 1, 2) + 1e-5 * t**2).astype(np.float32) % 1


def windows(*tracks: np.ndarray, seed: int = 0, **hiding: float) -> TrajectoryWindows:
    return TrajectoryWindows(list(tracks), frames_in=T, seed=seed, hiding=HidingConfig(**hiding))


def test_samples_are_functions_of_seed_and_number_and_an_epoch_has_every_window_once() -> None:
    one, other = windows(track(), track(30, 1)), windows(track(), track(30, 1))
    assert len(one) == 25 + 15
    for number in (0, 7, 41):
        for mine, theirs in zip(one.sample(number), other.sample(number), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    lasts = {tuple(one.sample(number)[0][-1].tolist()) for number in range(40)}
    assert len(lasts) == 40


def test_windows_do_not_cross_frames_without_a_label() -> None:
    xy = track()
    xy[20] = np.inf
    assert len(windows(xy)) == (20 - T + 1) + (19 - T + 1)
    with pytest.raises(ConfigError, match="no video has enough labelled frames in a row: 16"):
        windows(xy[15:30])


def test_frames_are_hidden_one_by_one_or_in_runs() -> None:
    single = np.stack([windows(track(200)).sample(n)[1] for n in range(185)])
    assert single.mean() == pytest.approx(0.3, abs=0.03)
    runs = np.stack([windows(track(200), runs=1.0).sample(n)[1] for n in range(185)])
    assert (np.abs(np.diff(runs.astype(int), axis=1)).sum(axis=1) <= 2).all() and runs.sum(axis=1).max() == T - 2


def test_ranks_share_a_step() -> None:
    mine = windows(track())
    xy, hidden = mine.batch(range(8), CPU)
    halves = [mine.batch(range(rank, 8, 2), CPU) for rank in (0, 1)]
    torch.testing.assert_close(torch.stack([h[0] for h in halves], dim=1).flatten(0, 1), xy)
    assert torch.equal(torch.stack([h[1] for h in halves], dim=1).flatten(0, 1), hidden)


def dataset(folder: Path) -> str:
    """Labels alone: two flights and an absent frame; no video is there."""
    tables, videos = [], []
    for seed in range(2):
        uri = f"file:///elsewhere/{seed}.mp4"
        xy = track(60, seed) * (1280, 720)
        xy[5] = np.nan
        words = np.where(np.isnan(xy[:, 0]), Visibility.ABSENT.value, Visibility.CLEAR.value).astype(object)
        frame = np.arange(60)
        label = Trajectory(frame, frame / 30, xy.astype(np.float32), np.full(60, np.nan, np.float32), words)
        tables.append(label.to_rows(uri))
        ref = VideoRef(uri=uri, etag="", size_bytes=0)
        videos.append(DatasetVideo(ref=ref, width_px=1280, height_px=720, fps=30, frames=60, labels_only=True))
    rows = pa.concat_tables(tables).unify_dictionaries()
    save_dataset(
        make_dataset(rows, tuple(videos), name="t", layout="badminton", source="here"), open_store(str(folder))
    )
    return str(folder)


def test_tracks_are_shares_of_the_picture(tmp_path: Path) -> None:
    tracks = load_tracks([dataset(tmp_path)])
    np.testing.assert_allclose(tracks[0][[0, 59]], track(60)[[0, 59]], rtol=1e-5)
    assert np.isnan(tracks[0][5]).all() and len(tracks) == 2


@pytest.mark.parametrize("recipe", ["inpaintnet", "inpaintnet-fast"])
def test_a_repair_network_is_trained_by_the_same_command(tmp_path: Path, recipe: str) -> None:
    data = dataset(tmp_path / "data")
    options = {"data": [data], "validation": [data], "output": str(tmp_path / "run"), "workers": 0, "batch_size": 8}
    options |= {"steps": 40, "epochs": 0, "learning_rate": 3e-3, "warmup_steps": 2, "log_every": 1, "gpu": False}
    config = TrainConfig.parse(options, yaml_file=recipe_path(recipe), environment={})
    report = train(config)
    assert report.steps == 40 and set(report.validation) == {"loss", "error_px"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    errors = [line["error_px"] for line in lines if line["kind"] == "train"]
    assert np.mean(errors[-5:]) < np.mean(errors[:5])
    assert load_model(tmp_path / "run").card.name == "inpaintnet"
