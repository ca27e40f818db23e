"""One random draw per window, applied alike to all its frames: light, colour, noise, blur, mixing."""

# B batch, T frames in window, C channel, H W network px

import torch
import torch.nn.functional as F

from specktrack.config import Config


class AugmentConfig(Config):
    """How strongly pictures vary; every figure is the largest deviation."""

    brightness: float = 0.25
    """Added to all pixels."""
    contrast: float = 0.3
    """Gain around the mean, less one."""
    gamma: float = 0.3
    """Logarithm of the exponent."""
    tint: float = 0.25
    """Per-channel gain: courts of other colours."""
    saturation: float = 0.6
    """Distance from grey, less one."""
    permute_channels: float = 0.1
    """Share of windows whose colour channels change places."""
    noise: float = 0.04
    """Standard deviation of noise drawn for each pixel."""
    blur: float = 0.2
    """Share of windows that are softened."""


def photometric(frames_BTCHW: torch.Tensor, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Vary frames in [0, 1] with one draw per window; returns a new tensor in [0, 1]."""
    batch, device = frames_BTCHW.shape[0], frames_BTCHW.device

    def draw(largest: float, channels: int = 1) -> torch.Tensor:
        values = (torch.rand(batch, 1, channels, 1, 1, generator=generator) * 2 - 1) * largest
        return values.to(device)

    def chosen(share: float) -> torch.Tensor:
        return (torch.rand(batch, generator=generator) < share).nonzero().flatten().to(device)

    frames = (
        frames_BTCHW.clone()
    )  # the only copy of the batch: on a CPU each further one costs as much as a convolution
    order = torch.randperm(3, generator=generator).to(device)
    permuted = chosen(config.permute_channels)
    frames[permuted] = frames[permuted][:, :, order]
    grey = frames.mean(dim=2, keepdim=True)
    frames.sub_(grey).mul_((1 + draw(config.saturation)).clamp(min=0)).add_(grey)
    frames.mul_(1 + draw(config.tint, 3))
    mean = frames.mean(dim=(1, 2, 3, 4), keepdim=True)
    frames.sub_(mean).mul_(1 + draw(config.contrast)).add_(mean + draw(config.brightness))
    frames.clamp_(1e-4, 1).pow_(torch.exp(draw(config.gamma)))
    softened = chosen(config.blur)
    frames[softened] = _soften(frames[softened])
    strength = draw(config.noise).abs()
    seed = int(torch.randint(2**31, (1,), generator=generator))
    noise = torch.randn(frames.shape, device=device, generator=torch.Generator(device).manual_seed(seed))
    return frames.add_(noise.mul_(strength)).clamp_(0, 1)


def _soften(frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """A 3x3 binomial blur."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=frames_BTCHW.device) / 4
    weight = (kernel[:, None] * kernel[None, :])[None, None]
    flat = F.pad(frames_BTCHW.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(flat, weight.to(flat.dtype)).view(frames_BTCHW.shape)
