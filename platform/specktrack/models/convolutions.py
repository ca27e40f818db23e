"""The convolution that most networks of the zoo are made of."""

from torch import nn


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool = False) -> nn.Sequential:
    """A 'same' convolution and its batch norm side by side, so that the norm can be folded away for inference."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias), nn.BatchNorm2d(outputs)
    )


def conv_norm_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool = False) -> nn.Sequential:
    """The same with its ReLU."""
    return conv_norm(inputs, outputs, kernel, stride, bias=bias).append(nn.ReLU(inplace=True))
