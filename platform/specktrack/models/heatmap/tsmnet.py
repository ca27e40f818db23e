"""TSM-Net: a U-Net on single frames that learns motion by temporal shift (Lin et al., ICCV 2019).

Every frame takes the same weights; in each residual block a share of the channels comes from the frame before and as
large a share from the frame after, at no arithmetic cost. Shifts lie in the residual branch, so that the identity
keeps each frame's own picture. With k blocks in a row a frame hears of k frames on either side.
"""

# B batch, T frames in window, C channel, H W network px

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.convolutions import conv_norm, conv_norm_relu
from specktrack.models.heatmap.entries import TsmNetConfig
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head


def shift(x_BTCHW: torch.Tensor, channels: int) -> torch.Tensor:
    """The first ``channels`` channels from the frame before, the next ones from the frame after; zeros at the ends."""
    before = F.pad(x_BTCHW[:, :-1, :channels], (0, 0, 0, 0, 0, 0, 1, 0))
    after = F.pad(x_BTCHW[:, 1:, channels : 2 * channels], (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([before, after, x_BTCHW[:, :, 2 * channels :]], dim=2)


class _Shifted(nn.Module):
    """x + conv(relu(conv(shift(x)))), then ReLU, on frames that lie side by side in the batch."""

    def __init__(self, width: int, config: TsmNetConfig) -> None:
        super().__init__()
        self.frames, self.channels = config.frames_in, int(width * config.shifted)
        self.body = nn.Sequential(conv_norm_relu(width, width), conv_norm(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shifted = shift(x.unflatten(0, (-1, self.frames)), self.channels).flatten(0, 1)
        return F.relu(x + self.body(shifted))


class TsmNet(HeatmapNetwork):
    """Residual U-Net from 1/2 to 1/16 of the network size."""

    def __init__(self, config: TsmNetConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.stem = conv_norm_relu(3 * 4, widths[0])
        self.encoder = nn.ModuleList(_Shifted(width, config) for width in widths)
        self.down = nn.ModuleList(conv_norm_relu(widths[i], widths[i + 1], stride=2) for i in range(3))
        self.lift = nn.ModuleList(conv_norm(widths[i + 1], widths[i], 1) for i in range(3))
        self.decoder = nn.ModuleList(_Shifted(width, config) for width in widths[:3])
        self.head = heatmap_head(widths[0], 1)

    def forward(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """Heatmap logits [B, T, H/2, W/2] of frames [B, T, 3, H, W]; H and W are multiples of 16."""
        x = self.stem(F.pixel_unshuffle(self.scaled(frames_BTCHW).flatten(0, 1) - 0.5, 2))
        skips = [self.encoder[0](x)]
        for down, block in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(block(down(skips[-1])))
        x = skips.pop()
        for lift, block, skip in zip(reversed(self.lift), reversed(self.decoder), reversed(skips), strict=True):
            x = block(F.relu(skip + F.interpolate(lift(x), scale_factor=2.0)))
        return self.head(x)[:, 0].unflatten(0, (-1, frames_BTCHW.shape[1]))
