"""All that changes while training, and how it is written down and read back: no pickle."""

import copy
import json
import math
from pathlib import Path

import torch
from torch import nn

from specktrack.models.checkpoint import load_tensors, save_tensors
from specktrack.models.heatmap_network import HeatmapNetwork
from specktrack.models.inference import channels_last
from specktrack.training.config import TrainConfig

_FILE = "state.safetensors"


class TrainState:
    """Network, its moving average, optimiser and the number of the next step."""

    def __init__(self, network: HeatmapNetwork, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.network = channels_last(network.to(device))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.step = 0

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to 1 % over the run."""
        config = self.config
        if self.step < config.warmup_steps:
            return config.learning_rate * (self.step + 1) / config.warmup_steps
        progress = (self.step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def update(self, loss: torch.Tensor) -> None:
        """One optimiser step and one of the moving average."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._move_average()

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
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        progress = json.dumps({"step": self.step, "config_sha": self.config.sha()})
        save_tensors(Path(folder) / _FILE, tensors, {"progress": progress})

    def restore(self, folder: str | Path) -> None:
        """Read back what ``save`` wrote; CheckpointError if it is damaged."""
        tensors, metadata = load_tensors(Path(folder) / _FILE)

        def under(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.network.load_state_dict(under("network/"))
        self.average.load_state_dict(under("average/"))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in under("optimizer/").items():
            index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step = json.loads(metadata["progress"])["step"]
