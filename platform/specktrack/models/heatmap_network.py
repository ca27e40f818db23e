"""What all heatmap networks share: their target, their loss and the metrics that move from step 1."""

# B batch, T frames in window, C channel, H W network px

import torch
from torch import nn

from specktrack import heatmap
from specktrack.models.network import Network
from specktrack.models.windowed_entries import WindowedConfig


def heatmap_head(width: int, heatmaps: int) -> nn.Conv2d:
    """The last 1x1 convolution, to logits; it starts near "absent", since a heatmap is nearly all background."""
    head = nn.Conv2d(width, heatmaps, 1)
    assert head.bias is not None
    nn.init.constant_(head.bias, -4.0)
    return head


class HeatmapNetwork(Network):
    """A network from frames [B, T, 3, H, W] (RGB in [0, 1]) to heatmap logits [B, frames_out, H/stride, W/stride]."""

    config: WindowedConfig

    def __init__(self, config: WindowedConfig) -> None:
        super().__init__(config)

    def loss(self, frames_BTCHW: torch.Tensor, xy_net: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss`` to minimise, and detached metrics, for centres ``xy_net`` [B, T, 2] (network px, NaN where absent).

        ``peak``: mean value of the heatmap at visible objects; ``recall``: share of them found within 4 network px;
        ``error_px``: mean distance of those found; ``false``: share of absent frames with a peak above one half.
        """
        logits = self(frames_BTCHW)
        xy_net = xy_net[:, -logits.shape[1] :]  # a MISO network draws the last frame only
        target = self.config.target
        size_hw = (frames_BTCHW.shape[-2], frames_BTCHW.shape[-1])
        wanted = heatmap.encode(xy_net, size_hw, kind=target.kind, radius_px=target.radius_px, stride=target.stride)
        return {"loss": heatmap.focal_loss(logits, wanted), **self._metrics(logits.detach(), xy_net)}

    @torch.no_grad()
    def _metrics(self, logits: torch.Tensor, xy_net: torch.Tensor) -> dict[str, torch.Tensor]:
        xy, score = heatmap.decode(torch.sigmoid(logits.float()), stride=self.config.target.stride)
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
