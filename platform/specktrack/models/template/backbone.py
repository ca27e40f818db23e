"""Residual networks (He et al., CVPR 2016) whose state has the keys of the public ImageNet checkpoints."""

# B batch, C channel, H W network px (h w cells)

import torch
from torch import nn

from specktrack.models.template.entries import BackboneConfig

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB in [0, 1]: what public weights expect."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, inputs, h, w] to the block's own channels, at half the size where the stride is 2."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around which the input is added; the stride is in the 3x3."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _projection(inputs, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, inputs, h, w] to the block's own channels, at half the size where the stride is 2."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Pictures to the features of the second and third stage."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        block = BasicBlock if config.block == "basic" else Bottleneck
        inputs = config.widths[0]
        self.conv1 = nn.Conv2d(3, inputs, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if config.stem_pool else nn.Identity()
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            blocks = []
            for i in range(depth):
                blocks.append(block(inputs, width, 2 if stage > 1 and i == 0 else 1))
                inputs = config.channels(stage)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, config.classes) if config.classes else None
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of stages 2 and 3, [B, C2, h2, w2] and [B, C3, h3, w3], of RGB pictures in [0, 1]."""
        x = (pictures_BCHW - self.mean) / self.std
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        layer2 = self.get_submodule("layer2")(self.get_submodule("layer1")(x))
        return layer2, self.get_submodule("layer3")(layer2)

    def frozen(self) -> list[nn.Module]:
        """The modules that keep their first weights in training."""
        if not self.config.frozen_stages:
            return []
        stages = [self.get_submodule(f"layer{stage}") for stage in range(1, self.config.frozen_stages + 1)]
        return [self.conv1, self.bn1, *stages]
