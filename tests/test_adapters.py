"""Rows and labelled video in other libraries' types, and models that go to a registry and come from there."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from specktrack.adapters.in_torch import LabelledWindows
from specktrack.annotating import AnnotateConfig, annotate
from specktrack.datasets import load_dataset
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.errors import CheckpointError, ConfigError
from specktrack.frames import Trajectory
from specktrack.ledger import read_annotations
from specktrack.models.registry import parse_registered
from specktrack.training import TrainConfig, train

NETWORK = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16], "input_wh": [128, 80]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("archive"))
    write_archive(SynthConfig(videos=1, frames=9, width_px=128, height_px=80), place)
    return place


# --- supervision ----------------------------------------------------------------------------------------------------


def test_rows_become_detections_and_come_back() -> None:
    sv = pytest.importorskip("supervision", reason="the extra supervision is not installed")
    from specktrack.adapters.in_supervision import detections, rows_of

    video = "file:///videos/a.mp4"
    xy = np.array([[10, 20], [np.nan, np.nan], [30.5, 5.25]], np.float32)
    wh = np.array([[np.nan, np.nan], [np.nan, np.nan], [8, 6]], np.float32)
    score = np.array([0.75, 0.125, 0.5], np.float32)
    one = Trajectory(np.arange(3), np.arange(3) / 30, xy, score, wh_px=wh).to_rows(video)
    two = Trajectory(np.arange(3), np.arange(3) / 30, xy[::-1].copy(), score[::-1].copy()).to_rows(video, object_id=4)
    rows = pa.concat_tables([one, two]).unify_dictionaries()
    found = list(detections(rows, box_px=4))
    assert [frame for frame, _ in found] == [0, 1, 2] and len(found[1][1]) == 0
    np.testing.assert_allclose(found[0][1].xyxy, [[8.5, 18.5, 12.5, 22.5], [29, 3.75, 33, 7.75]])
    np.testing.assert_allclose(found[2][1].get_anchors_coordinates(sv.Position.CENTER)[0], [31, 5.75])
    assert found[2][1].tracker_id.tolist() == [0, 4] and found[2][1].data["point"].tolist() == [False, True]
    back = rows_of(found, video, fps=30)
    for name in ("video", "frame", "object", "x", "y", "w", "h", "pts_s"):
        assert back[name].to_pylist() == pytest.approx(rows[name].to_pylist(), nan_ok=True), name
    anonymous = sv.Detections(xyxy=np.array([[0, 0, 2, 2], [4, 4, 6, 6]], float), confidence=np.array([0.2, 0.9]))
    assert rows_of([(0, anonymous)], video, fps=30)["x"].to_pylist() == [4.5, 0.5]  # the surest is object 0
    renamed = one.set_column(0, one.schema.field("video"), pa.array(["file:///b.mp4"] * 3))
    with pytest.raises(ConfigError, match="rows of several videos"):
        list(detections(pa.concat_tables([one, renamed])))


# --- PyTorch --------------------------------------------------------------------------------------------------------


def test_windows_load_in_worker_processes(archive: str) -> None:
    data = LabelledWindows(archive, frames=3, size_wh=(64, 40))
    assert len(data) == 7
    alone = data[2]  # and after this process has had a decoder, as its forked workers then have too
    (batch,) = DataLoader(data, batch_size=7, num_workers=2)
    torch.testing.assert_close(batch["frames"][2], alone["frames"])
    assert batch["frames"].shape == (7, 3, 3, 40, 64) and batch["frames"].dtype == torch.uint8
    track = load_dataset(archive).track(load_dataset(archive).card.videos[0])
    wanted = (track.xy_px[2:5] + 0.5) / 2 - 0.5
    torch.testing.assert_close(batch["xy"][2], torch.from_numpy(wanted), equal_nan=True)
    assert batch["frame"][2].tolist() == [2, 3, 4]
    with pytest.raises(ConfigError, match="enough consecutive labelled frames"):
        LabelledWindows(archive, frames=10)


# --- MLflow ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # MLflow makes its tables one by one
@pytest.mark.filterwarnings("ignore")
def test_a_run_is_kept_and_its_model_read_by_its_alias(
    archive: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pandas = pytest.importorskip("pandas", reason="the extra mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow's store in a file needs it")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_registry_uri(f"sqlite:///{tmp_path}/mlflow.db")
    settings = {
        "data": [archive], "output": str(tmp_path / "run"), "network": NETWORK, "steps": 2, "workers": 0, "gpu": False,
        "batch_size": 1, "sampling.crop_wh": [64, 48], "cache": str(tmp_path / "frames"), "log_every": 1,
        "mlflow": "balls", "register_as": "tiny@newest",
    }  # fmt: skip
    config = TrainConfig.parse(settings, environment={})
    trained = train(config)
    (run,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("balls").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["network.name"] == "specknet"
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train.loss")
    assert [point.step for point in history] == [1, 2]
    rows = []
    for name in ("mlflow:tiny@newest", "mlflow:tiny/1", trained.model.removeprefix("file://")):
        out = str(tmp_path / name.replace("/", "-"))
        annotate(AnnotateConfig(sources=(f"{archive}/*",), output=out, model=name), inside=True)
        rows.append(read_annotations(out))
    assert rows[0].equals(rows[1]) and rows[0].equals(rows[2])
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert loaded.metadata.signature.inputs.input_names() == ["video"]
    video = rows[0]["video"][0].as_py()
    table = loaded.predict(pandas.DataFrame({"video": [video]}))
    assert table["frame"].tolist() == list(range(9)) and set(table["video"]) == {video}
    with pytest.raises(CheckpointError, match="registry refused"):
        annotate(AnnotateConfig(sources=(archive,), output=str(tmp_path / "o"), model="mlflow:tiny@oldest"))


@pytest.mark.parametrize("text", ["mlflow:tiny", "mlflow:tiny@", "mlflow:@a", "mlflow:a/b"])
def test_a_name_that_no_registry_has(text: str) -> None:
    with pytest.raises(ConfigError, match="write mlflow:NAME@ALIAS"):
        parse_registered(text)


def test_a_registered_model_needs_an_experiment() -> None:
    settings = {"data": ["d"], "output": "o", "network": NETWORK, "register_as": "x"}
    with pytest.raises(ConfigError, match="needs mlflow"):
        TrainConfig.parse(settings, environment={})
