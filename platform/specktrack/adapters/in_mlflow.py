"""A training run in MLflow: parameters, metrics as they come, and the model with its signature, also in the registry.

MLFLOW_TRACKING_URI names the server. A resumed run continues in the same MLflow run. ``mlflow.pyfunc`` can load the
model: it takes a table with a column ``video`` and returns rows.
"""

import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from specktrack import __version__
from specktrack.annotating import annotate_here
from specktrack.config import Config
from specktrack.models.checkpoint import load_model
from specktrack.models.registry import WEIGHTS_NAME
from specktrack.schema import ROWS
from specktrack.storage import MissingError, Store

NOTE = "mlflow.json"
_MOST_PARAM = 6000
"""Characters of a value that every MLflow server takes."""


class RunNote(Config):
    """Where a run is, kept in its output."""

    run_id: str


class MlflowRun:
    """One run of an experiment, new or resumed."""

    def __init__(self, experiment: str, store: Store, settings: Mapping[str, Any]) -> None:
        self._client = MlflowClient()
        try:
            self._run_id = RunNote.model_validate_json(store.get(NOTE)).run_id
            self._client.update_run(self._run_id, "RUNNING")
        except MissingError:
            found = self._client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self._client.create_experiment(experiment)
            self._run_id = self._client.create_run(number, tags={"specktrack": __version__}).info.run_id
            store.put(NOTE, RunNote(run_id=self._run_id).model_dump_json().encode())
            params = [Param(name, str(value)[:_MOST_PARAM]) for name, value in _flat(settings).items()]
            for first in range(0, len(params), 100):
                self._client.log_batch(self._run_id, params=params[first : first + 100])

    def write(self, step: int, kind: str, numbers: Mapping[str, float], time_ms: int) -> None:
        """Metrics of a step, named ``train.loss`` and the like."""
        metrics = [Metric(f"{kind}.{name}", number, time_ms, step) for name, number in numbers.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def save_model(self, weights: Path, register: str | None) -> None:
        """The finished model; ``register`` names it in the registry, as ``NAME`` or ``NAME@ALIAS``."""
        with tempfile.TemporaryDirectory() as folder:
            _write_model(Path(folder), weights, self._run_id)
            self._client.log_artifacts(self._run_id, folder, "model")
        if register is None:
            return
        name, _, alias = register.partition("@")
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        source = f"{self._client.get_run(self._run_id).info.artifact_uri}/model"
        version = self._client.create_model_version(name, source, self._run_id).version
        if alias:
            self._client.set_registered_model_alias(name, alias, version)

    def end(self, *, failed: bool) -> None:
        """No more comes in this process."""
        self._client.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")


def _write_model(folder: Path, weights: Path, run_id: str) -> None:
    """A folder in MLflow's format: the weights, and an MLmodel with the signature."""
    (folder / WEIGHTS_NAME).write_bytes(weights.read_bytes())
    columns = [ColSpec(_kind(field.type), field.name, required=not field.nullable) for field in ROWS]
    signature = ModelSignature(Schema([ColSpec("string", "video")]), Schema(columns))
    model = Model(artifact_path="model", run_id=run_id, signature=signature)
    model.add_flavor("specktrack", weights=WEIGHTS_NAME, version=__version__)
    python = platform.python_version()
    model.add_flavor("python_function", loader_module=__name__, data=WEIGHTS_NAME, python_version=python)
    model.save(str(folder / "MLmodel"))


def _kind(kind: pa.DataType) -> str:
    names = {pa.int64(): "long", pa.int32(): "integer", pa.float32(): "float", pa.float64(): "double"}
    return names.get(kind, "string")


class _Follower:
    """The model that ``mlflow.pyfunc.load_model`` returns."""

    def __init__(self, weights: str) -> None:
        self._model = load_model(weights)

    def predict(self, given: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rows of the videos in the column ``video``; ``params`` are settings of ``specktrack annotate``."""
        rows = annotate_here(given["video"].tolist(), model=self._model, **(params or {}))
        return rows.to_pandas().astype({"visibility": str, "provenance": str, "kind": object})


def _load_pyfunc(path: str) -> _Follower:
    """MLflow's hook, by this name."""
    return _Follower(path)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
