"""Augmentation of training pictures: the settings, which load no torch; ``pictures`` applies them."""

from typing import Literal

from pydantic import Field

from specktrack.config import Config


class AugmentConfig(Config):
    """How strongly pictures vary; every figure is the largest deviation."""

    brightness: float = 0.25
    """Added to all pixels."""
    contrast: float = 0.3
    """Gain around the mean, minus one."""
    gamma: float = 0.3
    """Logarithm of the exponent."""
    tint: float = 0.25
    """Per-channel gain: courts of other colours."""
    saturation: float = 0.6
    """Distance from grey, minus one."""
    permute_channels: float = 0.1
    """Share of windows whose colour channels are permuted."""
    noise: float = 0.04
    """Standard deviation of the noise of each pixel."""
    blur: float = 0.2
    """Share of windows that are blurred."""
    mix: Literal["none", "samples", "frames"] = "none"
    """TrackNetV3's mixup: two windows of a batch blended, or neighbouring frames of one window."""
    mix_alpha: float = Field(default=0.5, gt=0)
    """Both parameters of the Beta distribution of the blend."""
