"""Shared by all heatmap networks: their target, their loss and the metrics that move from step 1."""

# B batch, T frames in window, C channel, H W network px

import torch
from torch import nn

from specktrack import heatmap
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.network import Network

ABSENT = -4.0
"""Logit of a fresh network: a heatmap is nearly all background."""


def heatmap_head(width: int, heatmaps: int) -> nn.Conv2d:
    """The last 1x1 convolution, to logits; it starts near "absent"."""
    head = nn.Conv2d(width, heatmaps, 1)
    assert head.bias is not None
    nn.init.constant_(head.bias, ABSENT)
    return head


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class HeatmapNetwork(Network):
    """A network from pictures [B, pictures_in, 3, H, W] (RGB in [0, 1]) to heatmaps of frames_out frames.

    Its ``forward`` returns heatmap logits [B, frames_out, H/stride, W/stride], or what ``probabilities`` makes heatmaps
    of.
    """

    config: WindowedConfig

    def __init__(self, config: WindowedConfig) -> None:
        super().__init__(config)

    def scaled(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """RGB in [0, 1] as the values that ``config.pixels`` asks for."""
        match self.config.pixels:
            case "unit":
                return frames_BTCHW
            case "bytes":
                return frames_BTCHW * 255
            case "imagenet":
                mean, deviation = frames_BTCHW.new_tensor([_IMAGENET_MEAN, _IMAGENET_DEVIATION])[..., None, None]
                return (frames_BTCHW - mean) / deviation

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """float32 heatmaps in [0, 1], [B, frames_out, H/stride, W/stride], of what ``forward`` returned."""
        return torch.sigmoid(output.float())

    def loss(self, frames_BTCHW: torch.Tensor, xy_net: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss`` to minimise, and detached metrics, for centres ``xy_net`` [B, T, 2] (network px, NaN where absent).

        ``frames_BTCHW`` holds ``pictures_in`` pictures, ``xy_net`` the centres in the ``frames_in`` frames.

        ``peak``: mean value of the heatmap at visible objects; ``recall``: share of them found within 4 network px;
        ``error_px``: mean distance of those found; ``false``: share of absent frames with a peak above one half.
        """
        size_hw = (frames_BTCHW.shape[-2], frames_BTCHW.shape[-1])
        return self.judge(self(frames_BTCHW), self.wanted(xy_net, size_hw), xy_net)

    def wanted(self, xy_net: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        """Label heatmaps [B, frames_out, H/stride, W/stride] for centres [B, T, 2] in pictures of ``size_hw``."""
        target = self.config.target
        return heatmap.encode(
            self._drawn(xy_net), size_hw, kind=target.kind, radius_px=target.radius_px, stride=target.stride
        )

    def wanted_where_hard(self, xy_net: torch.Tensor, size_hw: tuple[int, int], *, smallest: float) -> torch.Tensor:
        """The same for samples that were mined as hard: WASB's real-valued labels, see ``heatmap.real_valued``."""
        target = self.config.target
        return heatmap.real_valued(
            self._drawn(xy_net), size_hw, radius_px=target.radius_px, smallest=smallest, stride=target.stride
        )

    def judge(self, output: torch.Tensor, wanted: torch.Tensor, xy_net: torch.Tensor) -> dict[str, torch.Tensor]:
        """The result of ``loss`` for an output of ``forward`` and the heatmaps it should be."""
        loss = heatmap.LOSSES[self.config.loss](output, wanted)
        return {"loss": loss, **self._metrics(output.detach(), self._drawn(xy_net))}

    def _drawn(self, xy_net: torch.Tensor) -> torch.Tensor:
        """Of centres [B, T, 2] those in the frames that are drawn: a MISO network draws the last one only."""
        return xy_net[:, -self.config.frames_out :]

    @torch.no_grad()
    def _metrics(self, output: torch.Tensor, xy_net: torch.Tensor) -> dict[str, torch.Tensor]:
        xy, score = heatmap.decode(self.probabilities(output), stride=self.config.target.stride)
        visible = ~torch.isnan(xy_net).any(dim=-1)
        error = (xy[..., 0, :] - xy_net).norm(dim=-1)
        found = visible & (score[..., 0] > 0.5) & (error <= 4)

        def mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
            return torch.where(where, values.float(), 0).sum() / where.sum().clamp(min=1)

        return {
            "peak": mean(score[..., 0], visible & (error <= 4)) * mean(error <= 4, visible),
            "recall": mean(found, visible),
            "error_px": mean(error, found),
            "false": mean(score[..., 0] > 0.5, ~visible),
        }
