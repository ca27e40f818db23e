"""ATOM's overlap network (Danelljan et al., CVPR 2019), which PrDiMP reads as an unnormalised log density over boxes.

The template's features, pooled in its box, become two vectors that modulate the search features channel by channel;
then each proposed box is pooled and scored. The names of the modules are those of the published checkpoints.
"""

# B batch, N boxes per picture, C channel, h w cells

import torch
from torch import nn

from specktrack.models.template.roi import precise_roi_pool

Features = tuple[torch.Tensor, torch.Tensor]
"""Of the finer and the coarser level."""


def _conv(inputs: int, outputs: int, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.BatchNorm2d(outputs), nn.ReLU())


class _LinearBlock(nn.Module):
    """A fully connected layer over pooled features, with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, bins: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs * bins * bins, outputs)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.linear(pooled.flatten(1))[..., None, None]))[..., 0, 0]


class IoUNet(nn.Module):
    """Scores of boxes on a search picture, given a template's box."""

    def __init__(
        self,
        channels: tuple[int, int],
        *,
        strides: tuple[int, int],
        prediction: tuple[int, int],
        hidden: tuple[int, int],
    ) -> None:
        super().__init__()
        self.strides = strides
        half, quarter = hidden[0] // 2, hidden[0]
        self.conv3_1r = _conv(channels[0], half)
        self.conv3_1t = _conv(channels[0], prediction[0])
        self.conv3_2t = _conv(prediction[0], prediction[0])
        self.fc3_1r = _conv(half, quarter, 3, 0)
        self.conv4_1r = _conv(channels[1], quarter)
        self.conv4_1t = _conv(channels[1], prediction[1])
        self.conv4_2t = _conv(prediction[1], prediction[1])
        self.fc34_3r = _conv(2 * quarter, prediction[0], 1, 0)
        self.fc34_4r = _conv(2 * quarter, prediction[1], 1, 0)
        self.fc3_rt = _LinearBlock(prediction[0], hidden[0], 5)
        self.fc4_rt = _LinearBlock(prediction[1], hidden[1], 3)
        self.iou_predictor = nn.Linear(hidden[0] + hidden[1], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight)

    def modulation(self, features: Features, boxes_B4: torch.Tensor) -> Features:
        """Vectors [B, C, 1, 1] for both levels, from the template's backbone features and box (x, y, w, h)."""
        corners = _corners(boxes_B4)[:, None]
        fine = precise_roi_pool(self.conv3_1r(features[0]), corners, bins=3, scale=1 / self.strides[0])[:, 0]
        coarse = precise_roi_pool(self.conv4_1r(features[1]), corners, bins=1, scale=1 / self.strides[1])[:, 0]
        both = torch.cat([self.fc3_1r(fine), coarse], dim=1)
        return self.fc34_3r(both), self.fc34_4r(both)

    def search_features(self, features: Features) -> Features:
        """Feature maps that boxes are pooled on, from the search picture's backbone features."""
        return self.conv3_2t(self.conv3_1t(features[0])), self.conv4_2t(self.conv4_1t(features[1]))

    def pooled(self, search: Features, modulation: Features, boxes_BN4: torch.Tensor) -> Features:
        """Modulated features of every box, [B, N, C, 5, 5] and [B, N, C, 3, 3]; boxes are x, y, w, h in network px."""
        corners = _corners(boxes_BN4)
        return (
            precise_roi_pool(search[0] * modulation[0], corners, bins=5, scale=1 / self.strides[0]),
            precise_roi_pool(search[1] * modulation[1], corners, bins=3, scale=1 / self.strides[1]),
        )

    def score(self, pooled: Features) -> torch.Tensor:
        """Scores [B, N] of pooled boxes."""
        shape = pooled[0].shape[:2]
        fine, coarse = self.fc3_rt(pooled[0].flatten(0, 1)), self.fc4_rt(pooled[1].flatten(0, 1))
        return self.iou_predictor(torch.cat([fine, coarse], dim=1)).view(shape)

    def forward(self, search: Features, modulation: Features, boxes_BN4: torch.Tensor) -> torch.Tensor:
        """Scores [B, N] of boxes."""
        return self.score(self.pooled(search, modulation, boxes_BN4))


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)
