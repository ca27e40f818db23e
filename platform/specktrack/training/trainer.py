"""Starting a training run on Ray Train, and what it leaves behind."""

import json
import time

import ray
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from specktrack import storage
from specktrack.cluster import connected
from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.training.config import TrainConfig, TrainReport
from specktrack.training.journal import MODEL
from specktrack.training.loop import train_loop


def train(config: TrainConfig) -> TrainReport:
    """Train to the end, resuming the unfinished run in ``config.output`` if there is one.

    Raises ConfigError if the output holds a run of another configuration, with the keys that differ.
    """
    started = time.monotonic()
    for uri in (*config.data, *config.validation):
        load_dataset(uri)  # refuse here, in one sentence, what every worker would fail on
    store = storage.open_store(config.output)
    _claim(store, config)
    with connected(config.address):
        result = TorchTrainer(
            train_loop,
            train_loop_config=config.model_dump(mode="json"),
            scaling_config=ScalingConfig(num_workers=config.workers, use_gpu=_use_gpu(config)),
            run_config=RunConfig(
                name="run",
                storage_path=store.uri.removeprefix("file://"),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                failure_config=FailureConfig(max_failures=3),
            ),
        ).fit()
    metrics = result.metrics or {}
    return TrainReport(
        model=store.uri_of(MODEL),
        steps=config.steps,
        wall_s=round(time.monotonic() - started, 1),
        validation={k.removeprefix("validation/"): v for k, v in metrics.items() if k.startswith("validation/")},
    )


def _claim(store: storage.Store, config: TrainConfig) -> None:
    """Note the configuration in the output, or check that it is the one noted there."""
    values = config.model_dump(mode="json", exclude={"address", "cache", "output"})
    if not store.exists("config.json"):
        store.put("config.json", json.dumps(values, indent=1).encode())
        return
    earlier = json.loads(store.get("config.json"))
    changed = sorted(key for key in values | earlier if values.get(key) != earlier.get(key))
    if changed:
        differences = ", ".join(f"{key}: {earlier.get(key)!r} -> {values.get(key)!r}" for key in changed)
        raise ConfigError(
            "the output holds a run of another configuration", differences, store.uri, "use another output"
        )


def _use_gpu(config: TrainConfig) -> bool:
    """Whether workers get a GPU each: as asked, else where the cluster has enough of them."""
    return config.gpu if config.gpu is not None else ray.cluster_resources().get("GPU", 0) >= config.workers
