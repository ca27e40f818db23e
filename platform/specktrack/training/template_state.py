"""What changes while a template tracker is trained, beside what every network has: rates by layer, a discriminator."""

import torch
from torch import nn

from specktrack.models.template.dimp import Dimp
from specktrack.training.mkdnet import Discriminator
from specktrack.training.shards import mean_over_workers
from specktrack.training.state import TrainState
from specktrack.training.template_config import TemplateTrainConfig


class TemplateState(TrainState[Dimp]):
    """Network and, where MKDNet's features are taught, the discriminator that is trained against it."""

    def __init__(self, network: Dimp, config: TemplateTrainConfig, device: torch.device) -> None:
        super().__init__(network, config, device, optimizer=torch.optim.AdamW(_groups(network, config)))
        self.discriminator: Discriminator | None = None
        if config.distill is not None and config.distill.features:
            prediction = config.network.box_head.prediction
            self.discriminator = Discriminator(prediction, preset=config.distill.preset).to(device)
            rate = config.distill.discriminator_learning_rate
            self.parts["discriminator"] = self.discriminator
            self.optimizers["discriminator_optimizer"] = torch.optim.Adam(self.discriminator.parameters(), rate)

    def update(self, loss: torch.Tensor) -> None:
        """One step on the gradient of ``loss``, averaged over the workers."""
        loss.backward()
        average_gradients(self.network)
        self.apply()

    def update_discriminator(self, loss: torch.Tensor) -> None:
        """One step of the discriminator's optimiser."""
        assert self.discriminator is not None
        optimizer = self.optimizers["discriminator_optimizer"]
        optimizer.zero_grad(set_to_none=True)  # also of what the network's loss left here
        loss.backward()
        average_gradients(self.discriminator)
        optimizer.step()


def average_gradients(module: nn.Module) -> None:
    """The mean gradient over all workers. By hand: two optimisers and unused ImageNet layers do not fit DDP's hooks."""
    mean_over_workers([p.grad for p in module.parameters() if p.grad is not None])


def _groups(network: Dimp, config: TemplateTrainConfig) -> list[dict[str, object]]:
    """One group per learning rate and decay; parameters that no name fits, or that are frozen, keep their values."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        fitting = [prefix for prefix in config.learning_rates if name.startswith(prefix)]
        if fitting and parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((config.learning_rates[max(fitting, key=len)], decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
