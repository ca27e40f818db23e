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
from specktrack.models.zoo import build, network_config
from specktrack.schema import VideoRef, Visibility
from specktrack.storage import open_store
from specktrack.training import train
from specktrack.training.config import TrainConfig, recipe_path
from specktrack.training.repair.config import HidingConfig
from specktrack.training.repair.course import RepairCourse
from specktrack.training.repair.trajectories import Track, TrajectoryWindows, load_tracks

T = 16
CPU = torch.device("cpu")


def track(frames: int = 40, seed: int = 0) -> np.ndarray:
    t = np.arange(frames)[:, None]
    draw = np.random.default_rng(seed)
    return (0.4 + 0.002 * t * draw.normal(0, 1, 2) + 1e-5 * t**2).astype(np.float32) % 1


def windows(*tracks: np.ndarray, seed: int = 0, **hiding: float) -> TrajectoryWindows:
    return TrajectoryWindows([Track(xy, xy) for xy in tracks], frames_in=T, seed=seed, hiding=HidingConfig(**hiding))


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
    with pytest.raises(ConfigError, match="no video has enough consecutive labelled frames: 16"):
        windows(xy[15:30])


def test_frames_are_hidden_one_by_one_or_in_runs() -> None:
    single = np.stack([windows(track(200)).sample(n)[2] for n in range(185)])
    assert single.mean() == pytest.approx(0.3, abs=0.03)
    runs = np.stack([windows(track(200), runs=1.0).sample(n)[2] for n in range(185)])
    assert (np.abs(np.diff(runs.astype(int), axis=1)).sum(axis=1) <= 2).all() and runs.sum(axis=1).max() == T - 2


def test_ranks_share_a_step() -> None:
    mine = windows(track())
    halves = [mine.batch(range(rank, 8, 2)) for rank in (0, 1)]
    for whole, *parts in zip(mine.batch(range(8)), *halves, strict=True):
        assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def test_the_gradient_is_the_same_on_another_number_of_workers() -> None:
    """So a repair run goes on alike: samples have numbers, no layer has batch statistics, workers average gradients."""
    torch.manual_seed(0)
    network, mine = build(network_config("inpaintnet")), windows(track(), runs=0.5, mirror=0.5)

    def gradient(workers: int) -> torch.Tensor:
        network.zero_grad()
        for rank in range(workers):
            (network.loss(*mine.batch(range(rank, 8, workers)))["loss"] / workers).backward()
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    torch.testing.assert_close(gradient(1), gradient(2), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(gradient(1), gradient(4), rtol=1e-4, atol=1e-8)


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
    tracks = [both.truth for both in load_tracks([dataset(tmp_path)])]
    assert all(both.seen is both.truth for both in load_tracks([str(tmp_path)]))
    np.testing.assert_allclose(tracks[0][[0, 59]], track(60)[[0, 59]], rtol=1e-5)
    assert np.isnan(tracks[0][5]).all() and len(tracks) == 2


def rows_file(path: Path, videos: int = 2) -> str:
    """What a tracker saw, 10 px right of the labels of ``dataset``, in shuffled lines: nothing in frames 7 and 9."""
    lines = []
    for seed in range(videos):
        for frame, (x, y) in enumerate(track(60, seed) * (1280, 720)):
            if frame != 7:
                lines.append(f"/moved/{seed}.mp4,{frame}," + ("," if frame == 9 else f"{x + 10},{y}"))
    np.random.default_rng(0).shuffle(lines)
    path.write_text("\n".join(["video,frame,x,y", *lines]) + "\n")
    return str(path)


def test_a_trackers_rows_are_seen_and_the_labels_of_the_same_video_and_frame_are_asked_for(tmp_path: Path) -> None:
    tracks = load_tracks([dataset(tmp_path / "data")], rows_file(tmp_path / "rows.csv"))
    for seed, both in enumerate(tracks):
        there = np.setdiff1d(np.arange(60), [5, 7, 9])
        np.testing.assert_allclose(both.truth[there], track(60, seed)[there], rtol=1e-5)
        np.testing.assert_allclose((both.seen - both.truth)[there] * (1280, 720), [[10, 0]] * 57, atol=1e-2)
        assert np.isnan(both.seen[[7, 9]]).all() and np.isnan(both.truth[5]).all() and not np.isnan(both.seen[5]).any()
    batches = TrajectoryWindows(tracks, frames_in=T, seed=0, hiding=HidingConfig(mirror=0.5))
    seen, truth, _ = batches.batch(range(64))
    off = (seen - truth) * torch.tensor([1280.0, 720.0])
    right, left = ((off[..., 0] - side).abs() < 0.1 for side in (10, -10))  # mirrored as the labels are
    assert (right | left | off.isnan().any(dim=-1)).all() and 20 < right.any(dim=1).sum() < 44
    with pytest.raises(ConfigError, match=r"no rows of a labelled video: 'file:///elsewhere/1.mp4'"):
        load_tracks([str(tmp_path / "data")], rows_file(tmp_path / "rows.csv", videos=1))


def test_a_repair_network_learns_from_a_trackers_rows(tmp_path: Path) -> None:
    data, rows = dataset(tmp_path / "data"), rows_file(tmp_path / "rows.csv")
    given = {"data": [data], "network": "inpaintnet", "workers": 0, "batch_size": 4, "steps": 2, "gpu": False}
    losses = {}
    for name, more in (("labels", {}), ("rows", {"rows": rows})):
        report = train(TrainConfig.parse({**given, **more, "output": str(tmp_path / name)}, environment={}))
        losses[name] = report.training["loss"]
    assert 0 < abs(losses["rows"] - losses["labels"]) < 0.1


@pytest.mark.parametrize("recipe", ["inpaintnet", "inpaintnet-fast"])
def test_a_repair_network_is_trained_by_the_same_command(tmp_path: Path, recipe: str) -> None:
    data = dataset(tmp_path / "data")
    options = {"data": [data], "validation": [data], "output": str(tmp_path / "run"), "workers": 0, "batch_size": 8}
    options |= {"rows": rows_file(tmp_path / "rows.csv")} if recipe == "inpaintnet" else {}
    options |= {"steps": 40, "epochs": 0, "learning_rate": 3e-3, "warmup_steps": 2, "log_every": 1, "gpu": False}
    config = TrainConfig.parse(options, yaml_file=recipe_path(recipe), environment={})
    report = train(config)
    assert report.steps == 40 and set(report.validation) == {"loss", "error_px", "accuracy"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    errors = [line["error_px"] for line in lines if line["kind"] == "train"]
    assert np.mean(errors[-5:]) < np.mean(errors[:5])
    assert load_model(tmp_path / "run").card.name == "inpaintnet"


def test_the_weights_that_find_most_hidden_frames_are_kept(tmp_path: Path) -> None:
    """Trained at a rate that ruins them after a while, so the last weights are not the best."""
    data = dataset(tmp_path / "data")
    given = {"data": [data], "validation": [data], "network": "inpaintnet", "workers": 0, "batch_size": 16,
             "gpu": False, "steps": 60, "optimiser": "adam", "learning_rate": 0.02, "warmup_steps": 30,
             "schedule": "constant", "average": 0, "validate_every": 5, "log_every": 1}  # fmt: skip
    found = {}
    for keep in ("accuracy", "last"):
        output = tmp_path / keep
        config = TrainConfig.parse({**given, "keep": keep, "output": str(output)}, environment={})
        report = train(config)
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        measured = [line["accuracy"] for line in lines if line["kind"] == "validation"]
        found[keep] = RepairCourse(config, CPU).measure(load_model(output).network)["accuracy"]
        assert report.validation["accuracy"] == pytest.approx(found[keep])
    assert found["accuracy"] == pytest.approx(max(measured)) and found["accuracy"] > found["last"]


def test_repair_counts_a_hidden_frame_as_found_within_4_px() -> None:
    network = build(network_config("inpaintnet"))
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.zero_()  # it says the middle of the picture, whatever it sees
    truth = torch.full((1, 4, 2), 0.5)
    truth[0, :, 0] += torch.tensor([0, 3.9, 4.1, 0]) / 512
    truth[0, 3] = torch.nan  # hidden, but nobody knows its place
    hidden = torch.tensor([[True, True, True, True]])
    assert network.loss(truth, truth, hidden)["accuracy"] == pytest.approx(2 / 3)


def test_choosing_without_anything_to_measure_on_is_refused() -> None:
    given = {"data": ["d"], "output": "o", "network": "inpaintnet", "keep": "accuracy"}
    with pytest.raises(ConfigError, match="keep=accuracy chooses by validation: give validation"):
        TrainConfig.parse(given, environment={})
    with pytest.raises(ConfigError, match="keep"):
        TrainConfig.parse(given | {"validation": ["v"], "keep": "f1"}, environment={})
    with pytest.raises(ConfigError, match=r"this recipe needs rows \(the output of `annotate` .* and validation"):
        TrainConfig.parse({"data": ["d"], "output": "o"}, yaml_file=recipe_path("inpaintnet"), environment={})
