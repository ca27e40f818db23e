"""One step: vary the pictures of every shard, run the network, say what to minimise, and update."""

# B batch, T frames in window, C channel, H W network px

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from specktrack.augment import AugmentConfig
from specktrack.augment.pictures import Blend, mix, photometric
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.inference import fast_dtype
from specktrack.training.batches import Batch
from specktrack.training.distill import Distillation
from specktrack.training.state import TrainState
from specktrack.training.windowed_config import MiningConfig, WindowedTrainConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_WHOLE = torch.ones(())


class Learner(nn.Module):
    """What DistributedDataParallel wraps: its forward gives the loss, so that gradients meet."""

    def __init__(
        self, network: HeatmapNetwork, distillation: Distillation | None = None, mining: MiningConfig | None = None
    ) -> None:
        super().__init__()
        self.network, self.distillation, self.mining = network, distillation, mining

    def forward(
        self,
        frames_BTCHW: torch.Tensor,
        xy_net: torch.Tensor,
        other_xy_net: torch.Tensor,
        share: torch.Tensor,
        hard: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """``loss`` with its gradient, and detached metrics; arguments as in ``Blend`` and ``Batch.hard``."""
        network = self.network
        size_hw = (frames_BTCHW.shape[-2], frames_BTCHW.shape[-1])
        wanted = network.wanted(xy_net, size_hw)
        if (share < 1).any():
            share = share[:, -wanted.shape[1] :, None, None]
            wanted = torch.lerp(network.wanted(other_xy_net, size_hw), wanted, share)
        if self.mining and hard is not None:
            softer = network.wanted_where_hard(xy_net, size_hw, smallest=self.mining.smallest)
            wanted = torch.where(hard[:, -wanted.shape[1] :, None, None], softer, wanted)
        output = network(_seen_by(network, frames_BTCHW))
        results = network.judge(output, wanted, xy_net)
        if self.distillation is not None:
            term, figures = self.distillation(frames_BTCHW, output, network.probabilities(output), wanted)
            results |= {"loss": results["loss"] + term, **figures}
        return results


def _seen_by(network: HeatmapNetwork, pictures: torch.Tensor) -> torch.Tensor:
    """What ``network`` takes of a background and a window: its teacher may see more of both."""
    entry = network.config
    still = pictures[:, : entry.pictures_in - entry.frames_in]
    return (
        pictures if pictures.shape[1] == entry.pictures_in else torch.cat([still, pictures[:, -entry.frames_in :]], 1)
    )


def varied(batch: Batch, config: AugmentConfig) -> Blend:
    """The batch with light, colour and noise varied and windows or frames mixed as ``config`` says."""
    frames = photometric(batch.frames_BTCHW, config, batch.generator)
    if config.mix == "none":
        return Blend(frames, batch.xy_net, batch.xy_net, _WHOLE.expand(batch.xy_net.shape[:2]))
    seed = int(torch.randint(2**31, (1,), generator=batch.generator))
    return mix(frames, batch.xy_net, config, seed)


def learn(
    learner: nn.Module, state: TrainState[HeatmapNetwork], shards: tuple[Batch, ...], config: WindowedTrainConfig
) -> dict[str, torch.Tensor]:
    """Augment, forward and backward for every shard, then update; returns the metrics of the step."""
    device = shards[0].frames_BTCHW.device
    dtype = fast_dtype(device) if config.precision == "auto" else DTYPES[config.precision]
    sums: dict[str, torch.Tensor] = {}
    for number, shard in enumerate(shards, 1):
        blend = varied(shard, config.augment)
        # For dropout, which takes no generator: the same after a restart, on whichever worker.
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=shard.generator)))
        parallel = learner if isinstance(learner, DistributedDataParallel) else None
        # Workers exchange gradients once per step.
        with parallel.no_sync() if parallel and number < len(shards) else nullcontext():
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                results = learner(blend.frames_BTCHW, blend.xy_net, blend.other_xy_net, blend.share, shard.hard)
            (results["loss"] / len(shards)).backward()
        sums = {name: sums.get(name, 0) + value.detach() / len(shards) for name, value in results.items()}
        if number < len(shards):
            state.buffers.next_shard()
    state.apply()
    return sums
