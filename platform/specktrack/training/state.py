"""All state that changes during training, and how it is saved and loaded, without pickle."""

import copy
import hashlib
import json
import math
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn

from specktrack import telemetry
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.checkpoint import load_tensors, save_tensors, tensors_sha256
from specktrack.models.inference import AnyNetwork, channels_last
from specktrack.training.best import Best
from specktrack.training.config import OneRateConfig, TrainConfig
from specktrack.training.optimiser import make_optimiser
from specktrack.training.shards import StepBuffers

log = telemetry.get_logger()

_FILE = "state.safetensors"


class TrainState(Generic[AnyNetwork]):
    """Network, its moving average, optimisers and the number of the next step."""

    def __init__(
        self,
        network: AnyNetwork,
        config: TrainConfig,
        device: torch.device,
        *,
        extra: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Without an ``optimizer``, that of a configuration with one rate, over all parameters."""
        self.config = config
        self.network = channels_last(network.to(device))
        if config.norm_momentum is not None:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = config.norm_momentum
        self.extra = (extra or nn.Module()).to(device)
        """Trained with the network, but no part of the model: what distillation lays between student and teacher."""
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.best = Best(self.average, by=config.best_by) if config.best_by else None
        if optimizer is None:
            assert isinstance(config, OneRateConfig)
            optimizer = make_optimiser(config, self._parameters())
        self.optimizer = optimizer
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.trained: dict[str, nn.Module] = {"network": self.network, "extra": self.extra}
        self.optimizers = {"optimizer": self.optimizer}
        self.buffers = StepBuffers(self.network)
        self.step = 0
        self.skipped = 0
        """Steps left out because their gradient was not finite."""

    def train_beside(self, name: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Train ``module`` in the same steps by an optimiser of its own, whose rate stays as it is."""
        self.trained[name], self.optimizers[f"{name}_optimizer"] = module, optimizer

    @property
    def parts(self) -> dict[str, nn.Module]:
        """All that is written down, by the beginning of its names."""
        best = {"best": self.best.network} if self.best else {}
        return {**self.trained, "average": self.average, **best}

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.extra.parameters()]

    def learning_rate(self) -> float:
        """The learning rate of the next step; the highest, if there are several."""
        return max(self._peaks) * self.config.factor(self.step)

    def figures(self) -> dict[str, float]:
        """Figures that the journal notes beside the metrics of a step."""
        return {"learning_rate": self.learning_rate(), "skipped": float(self.skipped)}

    def update(self, loss: torch.Tensor) -> None:
        """One step on the gradient of ``loss``."""
        loss.backward()
        self.apply()

    def apply(self) -> None:
        """One step of every optimiser on the gradients that are there, and one of the moving average.

        A step whose gradient is not finite changes nothing but the count; every worker sees the same gradient and so
        decides alike. Raises ConfigError when more than one step in a hundred was such.
        """
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.config.factor(self.step)
        norm = nn.utils.clip_grad_norm_(self._parameters(), self.config.clip_norm or math.inf)
        self.step += 1
        if torch.isfinite(norm):
            for optimizer in self.optimizers.values():
                optimizer.step()
            self.buffers.end()
            self._move_average()
        else:
            self.buffers.restore()
            self._skip()
        self.buffers.begin()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def _skip(self) -> None:
        self.skipped += 1
        log.warning("step skipped: its gradient is not finite", step=self.step, skipped=self.skipped)
        if self.skipped > max(1, self.config.steps // 100):
            raise ConfigError(
                "the gradient was not finite in too many steps", self.skipped, f"step {self.step}",
                "lower learning_rate or clip_norm, or look at the data with 'specktrack data check'",
            )  # fmt: skip

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))  # short runs average over less
        pairs = list(zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True))
        floats = [(mean, now) for mean, now in pairs if mean.is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [now for _, now in floats], 1 - decay)
        for mean, now in pairs:
            if not mean.is_floating_point():
                mean.copy_(now)

    def save(self, folder: str | Path) -> None:
        """Write everything needed to go on exactly from here."""
        tensors = {
            f"{part}/{name}": t for part, module in self.parts.items() for name, t in module.state_dict().items()
        }
        for part, optimizer in self.optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"{part}/{index}/{name}": value for name, value in values.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        best = self.best.figures if self.best else {}
        progress = json.dumps({"step": self.step, "skipped": self.skipped, "best": best})
        save_tensors(Path(folder) / _FILE, tensors, {"progress": progress, "sha256": _sha256(tensors, progress)})

    def restore(self, folder: str | Path) -> None:
        """Read back what ``save`` wrote; CheckpointError if it is damaged, and then nothing is changed."""
        tensors, progress = read_state(folder)

        def under(part: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(f"{part}/"): t for k, t in tensors.items() if k.startswith(f"{part}/")}

        for part, module in self.parts.items():
            module.load_state_dict(under(part))
        for part, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for name, tensor in under(part).items():
                index, moment = name.split("/")
                moments.setdefault(int(index), {})[moment] = tensor
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step, self.skipped = progress["step"], progress["skipped"]
        if self.best:
            self.best.figures = progress["best"]
        self.buffers.begin()


def read_state(folder: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load what ``TrainState.save`` wrote: tensors and progress; CheckpointError if it is damaged."""
    tensors, metadata = load_tensors(Path(folder) / _FILE)
    if _sha256(tensors, metadata.get("progress", "")) != metadata.get("sha256"):
        raise CheckpointError("the checkpoint does not match its hash", str(folder))
    return tensors, json.loads(metadata["progress"])


def _sha256(tensors: dict[str, torch.Tensor], progress: str) -> str:
    return hashlib.sha256(f"{progress}{tensors_sha256(tensors)}".encode()).hexdigest()
