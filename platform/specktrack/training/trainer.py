"""Start a training run on Ray Train, and collect its results."""

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import ray
import torch
from pydantic import ValidationError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback, WorkerGroupError
from ray.train.torch import TorchTrainer

from specktrack import storage
from specktrack.cluster import connected
from specktrack.config import explain
from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError, Conflict, SpecktrackError, StorageError
from specktrack.models.checkpoint import model_path
from specktrack.models.registry import require_mlflow
from specktrack.training.config import TrainConfig, TrainReport
from specktrack.training.feeding import settled
from specktrack.training.journal import MODEL
from specktrack.training.lease import sole_run
from specktrack.training.streaming import datasets_of, in_order
from specktrack.training.worker import train_worker


def train(config: TrainConfig, *, callbacks: Sequence[UserCallback] = ()) -> TrainReport:
    """Train to the end, resuming the unfinished run in ``config.output`` if there is one.

    Raises ConfigError if the output has an active run, or a run with a different configuration (with the keys that
    differ).
    """
    started = time.monotonic()
    for uri in config.datasets:
        load_dataset(uri)  # refuse here, in one sentence, what every worker would fail on
    for name in config.models:
        model_path(name)
    if config.mlflow is not None:
        require_mlflow()
    store = storage.open_store(config.output, single_writer=config.single_writer)
    if not config.single_writer:
        storage.check_exclusive(store)
    claim(store, config)
    config = settled(config)
    with sole_run(store), connected(config.address) if config.workers else nullcontext():
        metrics = fit(config, store.uri.removeprefix("file://"), callbacks)
    figures = {
        kind: {name.removeprefix(f"{kind}/"): v for name, v in metrics.items() if name.startswith(f"{kind}/")}
        for kind in ("train", "validation")
    }
    return TrainReport(
        model=store.uri_of(MODEL),
        steps=metrics["step"],
        wall_s=round(time.monotonic() - started, 1),
        training=figures["train"],
        validation=figures["validation"],
    )


def fit(config: TrainConfig, storage_path: str, callbacks: Sequence[UserCallback] = ()) -> dict[str, Any]:
    """Run the loop on Ray Train; the metrics of the last step. Raises a worker's own error if it is for people."""
    streamed = config.stream == "always" and config.workers > 0  # a run without workers reads in threads of its own
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=config.model_dump(mode="json"),
        datasets=datasets_of(config, f"{storage_path}/{RUN}") if streamed else None,
        dataset_config=in_order() if streamed else None,
        scaling_config=ScalingConfig(
            num_workers=(config.min_workers, config.workers) if config.min_workers else config.workers,
            use_gpu=_use_gpu(config),
        ),
        run_config=RunConfig(
            name=RUN,
            storage_path=storage_path,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=config.max_failures),
            callbacks=list(callbacks),
        ),
    )
    try:
        return trainer.fit().metrics or {}
    except WorkerGroupError as failure:
        for error in failure.worker_failures.values():
            if isinstance(error, SpecktrackError):
                raise error from failure
        raise


RUN = "run"
"""Ray Train's folder in a run's output."""

FREE = {
    "address", "cache", "output", "workers", "gpu", "single_writer", "log_every", "validate_every", "checkpoint_every",
    "max_failures", "min_workers", "sweep", "cache_gb", "stream", "mlflow", "register_as",
}  # fmt: skip
"""Settings that may change when a run goes on: they do not decide the weights."""


def claim(store: storage.Store, config: TrainConfig) -> None:
    """Note what decides the weights in the output, or check that it is noted there.

    A run of an older version goes on: a setting that it did not have counts as the default, which does what it did.
    """
    values = _deciding(config)
    try:
        store.put_if_absent("config.json", json.dumps(values, indent=1).encode())
    except Conflict:
        _check_same(store, config, values)


def _check_same(store: storage.Store, config: TrainConfig, values: dict[str, Any]) -> None:
    try:
        noted = dict(json.loads(store.get("config.json")))
    except (ValueError, TypeError):
        place, remedy = store.uri_of("config.json"), "restore it, or use another output"
        raise StorageError("not the settings that a run saves in its output", place=place, remedy=remedy) from None
    try:
        earlier = _deciding(TrainConfig.read(config.model_dump(mode="json", include=FREE) | noted))
    except ValidationError as error:
        what = f"the output has a run whose settings this version does not accept: {explain(error, type(config))}"
        raise ConfigError(what, place=store.uri, remedy="use another output") from None
    changed = sorted(key for key in values | earlier if values.get(key) != earlier.get(key))
    if changed:
        differences = ", ".join(f"{key}: {earlier.get(key)!r} -> {values.get(key)!r}" for key in changed)
        raise ConfigError(
            "the output has a run with a different configuration", differences, store.uri, "use another output"
        )


def _deciding(config: TrainConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude=FREE) | config.decisive


def _use_gpu(config: TrainConfig) -> bool:
    """Whether workers get a GPU each: as asked, else where the cluster has enough of them."""
    if config.gpu is not None:
        return config.gpu
    if config.workers == 0:
        return torch.cuda.is_available()
    return ray.cluster_resources().get("GPU", 0) >= (config.min_workers or config.workers)
