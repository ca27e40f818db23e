"""All that changes while a template tracker is trained, and how it is written down and read back: no pickle."""

import copy
import json
import math
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from specktrack.models.checkpoint import load_tensors, save_tensors
from specktrack.models.dimp import Dimp
from specktrack.training.mkdnet import Discriminator
from specktrack.training.template_config import TemplateTrainConfig

_FILE = "state.safetensors"


class TemplateState:
    """Network, its moving average, a discriminator where there is one, their optimisers, and the next step's number."""

    def __init__(self, network: Dimp, config: TemplateTrainConfig, device: torch.device) -> None:
        self.config, self.step = config, 0
        self.network = network.to(device).train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        self.optimizer = torch.optim.AdamW(_groups(self.network, config))
        self.discriminator: Discriminator | None = None
        if config.distill is not None and config.distill.features:
            prediction = config.network.box_head.prediction
            self.discriminator = Discriminator(prediction, preset=config.distill.preset).to(device)
            rate = config.distill.discriminator_learning_rate
            self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), rate)

    def factor(self) -> float:
        """Of the learning rates at this step."""
        config = self.config
        if self.step < config.warmup_steps:
            return (self.step + 1) / config.warmup_steps
        if config.schedule == "steps":
            return float(0.2 ** (self.step // config.drop_every))
        progress = (self.step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    def update(self, loss: torch.Tensor) -> None:
        """One step of the network's optimiser."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.factor()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.network)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._move_average()

    def update_discriminator(self, loss: torch.Tensor) -> None:
        """One step of the discriminator's optimiser."""
        assert self.discriminator is not None
        self.discriminator_optimizer.zero_grad(set_to_none=True)  # also of what the network's loss left here
        loss.backward()
        average_gradients(self.discriminator)
        self.discriminator_optimizer.step()

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))  # short runs average over less
        for mean, now in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"network": self.network, "average": self.average}
        return parts | ({"discriminator": self.discriminator} if self.discriminator is not None else {})

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": self.optimizer}
        return optimizers | (
            {"discriminator_optimizer": self.discriminator_optimizer} if self.discriminator is not None else {}
        )

    def save(self, folder: str | Path) -> None:
        """Write everything needed to go on exactly from here."""
        tensors = {f"{part}/{name}": t for part, m in self._parts().items() for name, t in m.state_dict().items()}
        for part, optimizer in self._optimizers().items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"{part}/{index}/{name}": value for name, value in values.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_tensors(Path(folder) / _FILE, tensors, {"progress": json.dumps({"step": self.step})})

    def restore(self, folder: str | Path) -> None:
        """Read back what ``save`` wrote; CheckpointError if it is damaged."""
        tensors, metadata = load_tensors(Path(folder) / _FILE)

        def under(part: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(f"{part}/"): t for k, t in tensors.items() if k.startswith(f"{part}/")}

        for part, module in self._parts().items():
            module.load_state_dict(under(part))
        for part, optimizer in self._optimizers().items():
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for name, tensor in under(part).items():
                index, moment = name.split("/")
                moments.setdefault(int(index), {})[moment] = tensor
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step = json.loads(metadata["progress"])["step"]


def average_gradients(module: nn.Module) -> None:
    """The mean gradient over all workers. By hand: two optimisers and unused ImageNet layers do not fit DDP's hooks."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _groups(network: Dimp, config: TemplateTrainConfig) -> list[dict[str, object]]:
    """One group per learning rate and decay; parameters that no name fits, or that are frozen, keep their values."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        fitting = [prefix for prefix in config.learning_rates if name.startswith(prefix)]
        if fitting and parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((config.learning_rates[max(fitting, key=len)], decay), []).append(parameter)
    return [
        {"params": params, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), params in groups.items()
    ]
