"""How a windowed network learns from a batch: augmented pictures, matching labels, and a teacher."""

# B batch, T frames in window, C channel, H W network px

import torch

from specktrack.augment import AugmentConfig
from specktrack.augment.pictures import Blend, mix, photometric
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.training.windowed.batches import Batch
from specktrack.training.windowed.config import MiningConfig
from specktrack.training.windowed.distill import Distillation

_WHOLE = torch.ones(())


def varied(batch: Batch, config: AugmentConfig) -> Blend:
    """The batch with light, colour and noise varied and windows or frames mixed as ``config`` says."""
    frames = photometric(batch.frames_BTCHW, config, batch.generator)
    if config.mix == "none":
        return Blend(frames, batch.xy_net, batch.xy_net, _WHOLE.expand(batch.xy_net.shape[:2]))
    seed = int(torch.randint(2**31, (1,), generator=batch.generator))
    return mix(frames, batch.xy_net, config, seed)


def judged(
    network: HeatmapNetwork,
    blend: Blend,
    *,
    hard: torch.Tensor | None = None,
    mining: MiningConfig | None = None,
    distillation: Distillation | None = None,
) -> dict[str, torch.Tensor]:
    """``loss`` with its gradient, and detached metrics; ``hard`` as in ``Batch``."""
    size_hw = (blend.frames_BTCHW.shape[-2], blend.frames_BTCHW.shape[-1])
    wanted = network.wanted(blend.xy_net, size_hw)
    if (blend.share < 1).any():
        share = blend.share[:, -wanted.shape[1] :, None, None]
        wanted = torch.lerp(network.wanted(blend.other_xy_net, size_hw), wanted, share)
    if mining and hard is not None:
        softer = network.wanted_where_hard(blend.xy_net, size_hw, smallest=mining.smallest)
        wanted = torch.where(hard[:, -wanted.shape[1] :, None, None], softer, wanted)
    output = network(_seen_by(network, blend.frames_BTCHW))
    results = network.judge(output, wanted, blend.xy_net)
    if distillation is not None:
        term, figures = distillation(blend.frames_BTCHW, output, network.probabilities(output), wanted)
        results |= {"loss": results["loss"] + term, **figures}
    return results


def _seen_by(network: HeatmapNetwork, pictures: torch.Tensor) -> torch.Tensor:
    """The part of a background and a window that ``network`` takes: its teacher may see more of both."""
    entry = network.config
    still = pictures[:, : entry.pictures_in - entry.frames_in]
    return (
        pictures if pictures.shape[1] == entry.pictures_in else torch.cat([still, pictures[:, -entry.frames_in :]], 1)
    )
