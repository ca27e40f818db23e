"""The motion prompt layer of TrackNetV4 and V5: where the picture changed, as attention with two learnable numbers.

Power normalisation (Chen et al., "Motion meets attention: video motion prompts", ACML 2024, with TrackNetV4's absolute
differences): PN(d) = 1 / (1 + exp(-slope (d - shift))), slope = 5 / (0.45 |tanh a| + eps), shift = 0.6 tanh b.
"""

# B batch, T frames in window, C channel, H W network px

import torch
from torch import nn


class MotionPrompt(nn.Module):
    """Attention in [0, 1] from differences of brightness."""

    def __init__(self, *, a: float, b: float, eps: float) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))
        self._eps = eps

    def forward(self, difference: torch.Tensor) -> torch.Tensor:
        """PN of differences that are not negative, of any shape."""
        slope = 5 / (0.45 * torch.tanh(self.a).abs() + self._eps)
        return torch.sigmoid(slope * (difference - 0.6 * torch.tanh(self.b)))


def brightness_steps(frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """Change of luminance [B, T-1, H, W] from each RGB frame to the next."""
    weights = frames_BTCHW.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (frames_BTCHW * weights).sum(dim=2).diff(dim=1)
