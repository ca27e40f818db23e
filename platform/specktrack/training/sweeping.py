"""Many runs of one recipe on Ray Tune: every combination of some settings; poor ones stop early."""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

import ray
import ray.tune
from pydantic import Field, ValidationError, model_validator
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from specktrack import storage
from specktrack.cluster import connected
from specktrack.config import Config, explain, read_yaml, validated
from specktrack.errors import ConfigError
from specktrack.training.config import TrainConfig, TrainReport
from specktrack.training.trainer import train

REPORT = "sweep.json"
FIRST_LOOK = 8
"""Runs are compared for the first time after this part of their steps."""
DRIVER_CPUS = 0.01
"""A run's driver waits for its workers, who do the work; Tune wants to set something aside for it."""


class SweepConfig(Config):
    """Content of a sweep's file."""

    vary: dict[str, tuple[Any, ...]] = Field(min_length=1)
    """Values of each setting, by its dotted name: every combination is one run."""
    by: str
    """Figure of the validation by which runs are compared; the higher, the better."""
    stop_early: bool = True
    """End runs in the worse half of those at the same step: at an eighth of their steps, a quarter and so on."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if empty := [key for key, values in self.vary.items() if not values]:
            raise ValueError(f"vary.{empty[0]} has no value")
        return self


class Trial(Config):
    """Report of one run of a sweep."""

    settings: dict[str, Any]
    output: str
    steps: int
    """Fewer than all where it was ended early."""
    figure: float | None
    """The last that was measured."""
    error: str = ""


class SweepReport(Config):
    """Report of a sweep."""

    by: str
    best: str
    """Output of the run with the highest figure."""
    trials: tuple[Trial, ...]
    """The best first."""
    exit_code: int = 0


def run(config: TrainConfig) -> TrainReport | SweepReport:
    """Train, or sweep where a file says what to vary."""
    return sweep(config) if config.sweep else train(config)


def sweep(config: TrainConfig) -> SweepReport:
    """Train every combination; the same call resumes where an earlier one stopped. The table is in ``sweep.json``, too.

    ConfigError if the file is wrong, or a combination is no valid configuration.
    """
    plan = validated(SweepConfig, read_yaml(config.sweep), config.sweep)
    if plan.by not in config.measured_by or not config.measures:
        raise ConfigError(
            "runs can only be compared by a metric of the validation data", plan.by, config.sweep,
            f"give {config.measured_on}, and one of {', '.join(config.measured_by)}",
        )  # fmt: skip
    trials = {trial.output: (settings, trial) for settings, trial in combinations(config, plan)}
    with connected(config.address):
        found = _tuner(config, plan, [trial for _, trial in trials.values()]).fit()
        rows = [_row(result, plan.by, trials) for result in found]
    rows.sort(key=lambda row: -float("inf") if row.figure is None else row.figure, reverse=True)
    report = SweepReport(
        by=plan.by, best=rows[0].output, trials=tuple(rows), exit_code=int(any(row.error for row in rows))
    )
    storage.open_store(config.output).put(REPORT, report.model_dump_json(indent=1).encode())
    return report


def combinations(config: TrainConfig, plan: SweepConfig) -> list[tuple[dict[str, Any], TrainConfig]]:
    """Every run's own settings, and its configuration, whose output lies below the sweep's."""
    base, found = config.model_dump(mode="json") | {"sweep": ""}, []
    for values in itertools.product(*plan.vary.values()):
        settings = dict(zip(plan.vary, values, strict=True))
        name = ",".join(f"{key}={value}" for key, value in settings.items()).replace("/", "-").replace(" ", "")
        changed = json.loads(json.dumps(base)) | {"output": f"{config.output.rstrip('/')}/{name}"}
        for key, value in settings.items():
            _set(changed, key, value, config.sweep)
        try:
            found.append((settings, TrainConfig.read(changed)))
        except ValidationError as error:
            raise ConfigError(explain(error, type(config)), name, config.sweep) from None
    return found


def _set(values: dict[str, Any], dotted: str, value: Any, place: str) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        values = values[parent] if isinstance(values.get(parent), dict) else {}
    if leaf not in values:
        raise ConfigError("no such setting", f"vary.{dotted}", place, "see 'specktrack train --help'")
    values[leaf] = value


def _tuner(config: TrainConfig, plan: SweepConfig, trials: list[TrainConfig]) -> ray.tune.Tuner:
    """Tune's own state lies in the sweep's output, from where it goes on."""
    path = storage.open_store(config.output).uri.removeprefix("file://")
    trainable = ray.tune.with_resources(_trial, {"CPU": DRIVER_CPUS})
    if ray.tune.Tuner.can_restore(f"{path}/tune"):
        return ray.tune.Tuner.restore(f"{path}/tune", trainable, resume_unfinished=True, restart_errored=True)
    halving: Callable[..., Any] = ASHAScheduler if plan.stop_early else FIFOScheduler
    compared = {
        "time_attr": "step", "metric": f"validation/{plan.by}", "mode": "max", "max_t": config.steps,
        "grace_period": max(1, config.steps // FIRST_LOOK), "reduction_factor": 2,
    }  # fmt: skip
    cpus, gpus = (ray.cluster_resources().get(kind, 0) for kind in ("CPU", "GPU"))
    room = int((gpus or cpus - 0.5) // max(1, config.workers))  # half a CPU is for all drivers
    return ray.tune.Tuner(
        trainable,
        param_space={"trial": ray.tune.grid_search([trial.model_dump_json() for trial in trials])},
        tune_config=ray.tune.TuneConfig(
            scheduler=halving(**compared) if plan.stop_early else halving(), max_concurrent_trials=max(1, room)
        ),
        run_config=ray.tune.RunConfig(name="tune", storage_path=path),
    )


def _trial(parameters: Mapping[str, str]) -> None:
    """One run, in a process of Tune's."""
    train(TrainConfig.read(json.loads(parameters["trial"])), callbacks=[TuneReportCallback()])


def _row(result: ray.tune.Result, by: str, trials: Mapping[str, tuple[dict[str, Any], TrainConfig]]) -> Trial:
    output = json.loads(result.config["trial"])["output"]
    figures = result.metrics or {}
    return Trial(
        settings=trials[output][0], output=output, steps=figures.get("step", 0),
        figure=figures.get(f"validation/{by}"), error=str(result.error or ""),
    )  # fmt: skip
