"""InpaintNet (TrackNetV3, MMAsia 2023, section 3.3): a 1-D U-Net without pooling that fills gaps of a trajectory.

Layers as in the official code: convolutions of 3 frames with bias, leaky ReLU (0.01), no normalisation, and frames
keep their number throughout; 520,610 parameters.
"""

# B batch, T frames in window

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.network import Network
from specktrack.models.repair.entries import InpaintNetConfig

FOUND_PX = 4.0
"""Of the published evaluation, at ``input_wh``."""


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.01))


class InpaintNet(Network):
    """From positions and a mask of the frames to fill, to positions for every frame."""

    config: InpaintNetConfig

    def __init__(self, config: InpaintNetConfig) -> None:
        super().__init__(config)
        self.down1, self.down2, self.down3 = _conv(3, 32), _conv(32, 64), _conv(64, 128)
        self.bottom = nn.Sequential(_conv(128, 256), _conv(256, 256))
        self.up3, self.up2, self.up1 = _conv(256 + 128, 128), _conv(128 + 64, 64), _conv(64 + 32, 32)
        self.head = nn.Conv1d(32, 2, 3, padding=1)

    def forward(self, xy_BT2: torch.Tensor, fill_BT: torch.Tensor) -> torch.Tensor:
        """Positions [B, T, 2] in shares of the picture, from positions of which those to fill and absent ones are 0."""
        skip1 = self.down1(torch.cat([xy_BT2, fill_BT[..., None]], dim=-1).transpose(1, 2))
        skip2 = self.down2(skip1)
        skip3 = self.down3(skip2)
        x = self.up3(torch.cat([self.bottom(skip3), skip3], dim=1))
        x = self.up2(torch.cat([x, skip2], dim=1))
        x = self.up1(torch.cat([x, skip1], dim=1))
        return torch.sigmoid(self.head(x)).transpose(1, 2)

    def loss(self, seen_BT2: torch.Tensor, truth_BT2: torch.Tensor, hidden_BT: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss`` to minimise, and of the frames hidden from the network the detached mean error (px at ``input_wh``)
        and the share found within 4 px (``accuracy``).

        ``seen_BT2`` and ``truth_BT2`` are shares of the picture, NaN where absent; ``hidden_BT`` is True where a known
        position is taken away and asked for. As published, the mean runs over all elements, hidden or not.
        """
        hidden_BT = hidden_BT & ~torch.isnan(truth_BT2).any(dim=-1)
        fill = hidden_BT.to(seen_BT2.dtype)
        guess = self(torch.nan_to_num(seen_BT2, nan=0.0) * (1 - fill[..., None]), fill)
        off = (guess - torch.nan_to_num(truth_BT2, nan=0.0)) * fill[..., None]
        error_px = (off.detach() * off.new_tensor(self.config.input_wh)).norm(dim=-1)
        asked = fill.sum().clamp(min=1)
        return {
            "loss": F.mse_loss(off, torch.zeros_like(off)),
            "error_px": error_px.sum() / asked,
            "accuracy": ((error_px <= FOUND_PX) & hidden_BT).sum() / asked,
        }
