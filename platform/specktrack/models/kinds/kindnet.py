"""KindNet, the project's own: classifies a small flying object from crops of its luma in several frames.

Each crop is encoded once; the mean and the mean absolute deviation of its features over the frames go to the
classifier. So motion such as wing beats counts, and frames may be missing. The centre is seen at source size, because a
drone of 10 px has no pixel to lose, and the whole crop at half that size, because an airplane of 90 px does not fit
into the centre. Crops are normalised by their own mean and contrast, so that visible and thermal video look alike.
"""

# B batch, T frames, S side of a picture (source px), D features, K kinds

import torch
import torch.nn.functional as F
from torch import nn

from specktrack.models.kinds.entries import KindNetConfig
from specktrack.models.network import Network

LEAST_CONTRAST = 4.0
"""Grey levels added to the contrast, so that the noise of an empty sky is not amplified."""


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class KindNet(Network):
    """From luma around an object in T frames to a logit for each kind."""

    config: KindNetConfig

    def __init__(self, config: KindNetConfig) -> None:
        super().__init__(config)
        first, half, quarter = config.widths
        self.layers = nn.Sequential(
            _conv(2, first, 2), _conv(first, half), _conv(half, half), _conv(half, quarter, 2), _conv(quarter, quarter)
        )
        self.project = nn.Linear(2 * quarter, config.features)
        self.head = nn.Linear(2 * config.features, len(config.kinds))

    def features(self, luma_BSS: torch.Tensor) -> torch.Tensor:
        """Float [B, D] of pictures uint8 [B, S, S]."""
        whole = luma_BSS[:, None].float()
        quarter = whole.shape[-1] // 4
        near = whole[..., quarter:-quarter, quarter:-quarter]
        level, contrast = near.mean(dim=(2, 3), keepdim=True), near.std(dim=(2, 3), keepdim=True)
        seen = (torch.cat([near, F.avg_pool2d(whole, 2)], dim=1) - level) / (contrast + LEAST_CONTRAST)
        x = self.layers(seen)
        return F.relu(self.project(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)))

    def decide(self, features_BTD: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] of features of T frames."""
        mean = features_BTD.mean(dim=1)
        spread = (features_BTD - mean[:, None]).abs().mean(dim=1)
        return self.head(torch.cat([mean, spread], dim=1))

    def forward(self, luma_BTSS: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] of pictures uint8 [B, T, S, S]."""
        features = self.features(luma_BTSS.flatten(0, 1))
        return self.decide(features.unflatten(0, luma_BTSS.shape[:2]))

    def loss(self, luma_BTSS: torch.Tensor, kind_B: torch.Tensor) -> dict[str, torch.Tensor]:
        """``loss`` to minimise, and the detached ``accuracy``, the share of samples classified correctly."""
        logits = self(luma_BTSS)
        accuracy = (logits.detach().argmax(dim=1) == kind_B).float().mean()
        return {"loss": F.cross_entropy(logits, kind_B, label_smoothing=0.05), "accuracy": accuracy}
