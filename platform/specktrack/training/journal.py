"""Files that a run writes for people: metrics as JSON lines and TensorBoard, and the finished model with its card."""

import json
import math
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch.utils.tensorboard import SummaryWriter

from specktrack import storage, telemetry
from specktrack.models.checkpoint import ModelCard, save_model
from specktrack.models.network import Network
from specktrack.training import gauges
from specktrack.training.config import TrainConfig

if TYPE_CHECKING:
    from specktrack.adapters.in_mlflow import MlflowRun

log = telemetry.get_logger()

MODEL, LINES = "model.safetensors", "metrics.jsonl"
NOT_OF_THE_RECIPE = {"address", "cache", "output", "name", "description", "licence", "mlflow", "register_as"}


class Journal:
    """Rank 0's record of a run; on other ranks it does nothing."""

    def __init__(self, config: TrainConfig, *, enabled: bool, first_step: int) -> None:
        self._config, self._enabled, self._first_step = config, enabled, first_step
        self._started = time.monotonic()
        self._store = storage.open_store(config.output)
        local = storage.local_path(storage.to_uri(config.output))
        self._remote = local is None
        self._staging = tempfile.TemporaryDirectory(prefix="specktrack-journal-")
        self._folder = local or Path(self._staging.name)
        self.latest: dict[str, float] = {}
        """The newest value of every metric; those of the validation are of the weights that would be saved."""

    def __enter__(self) -> Self:
        if self._enabled:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._remote:
                with suppress(storage.MissingError):
                    (self._folder / LINES).write_bytes(self._store.get(LINES))
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._first_step)
            self._lines = (self._folder / LINES).open("a", encoding="utf-8")
            self._tracked = self._tracking()
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._enabled:
            self._board.close()
            self._lines.close()
            if self._tracked is not None:
                self._tracked.end(failed=_type is not None)
            self.publish()
        self._staging.cleanup()

    def publish(self) -> None:
        """Bring all that is written so far to the output: with every checkpoint, as a run resumes from there."""
        if self._enabled and self._remote:
            self._board.flush()
            for path in self._folder.rglob("*"):
                if path.is_file():
                    self._store.put_file(path.relative_to(self._folder).as_posix(), path)

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """Note metrics of a step; ``kind`` is train or validation."""
        if not self._enabled:
            return
        numbers = {name: float(value) for name, value in values.items()}
        self.note(kind, numbers)
        elapsed_s = time.monotonic() - self._started
        rate = (step - self._first_step) / max(elapsed_s, 1e-9)
        left_s = (self._config.steps - step) / max(rate, 1e-9)
        line = {"step": step, "kind": kind, **{name: float(f"{number:.9g}") for name, number in numbers.items()}}
        self._lines.write(json.dumps({**line, "elapsed_s": round(elapsed_s, 1)}) + "\n")
        self._lines.flush()
        for name, number in numbers.items():
            self._board.add_scalar(f"{kind}/{name}", number, step)
        gauges.show(kind, numbers, step=step, run=self._store.uri)
        if self._tracked is not None:
            self._tracked.write(step, kind, numbers, round(time.time() * 1000))
        log.info(kind, **line, steps_per_s=round(rate, 2), left_s=round(left_s))

    def note(self, kind: str, numbers: dict[str, float]) -> None:
        """Make ``numbers`` the newest values of their metrics."""
        self.latest |= {f"{kind}/{name}": number for name, number in numbers.items() if math.isfinite(number)}

    def save_model(self, network: Network) -> None:
        """Write the finished weights with their card."""
        config = self._config
        card = ModelCard(
            name=config.name or config.network.name,
            network=config.network,
            description=config.description or config.network.about(),
            data=config.data,
            recipe=config.model_dump(mode="json", exclude=NOT_OF_THE_RECIPE),
            metrics={name.removeprefix("validation/"): v for name, v in self.latest.items() if "validation/" in name},
            licence=config.licence,
        )
        path = self._folder / MODEL
        save_model(path, network, card)
        if self._tracked is not None:
            self._tracked.save_model(path, config.register_as)
        log.info("model saved", uri=self._store.uri_of(MODEL))

    def _tracking(self) -> "MlflowRun | None":
        """The run in MLflow, if one was asked for."""
        if self._config.mlflow is None:
            return None
        from specktrack.adapters.in_mlflow import MlflowRun  # an extra

        return MlflowRun(self._config.mlflow, self._store, self._config.model_dump(mode="json", exclude_none=True))
