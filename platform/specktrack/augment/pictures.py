"""One random draw per window, applied equally to all its frames: light, colour, noise, blur, mixing."""

# B batch, T frames in window, C channel, H W network px

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from specktrack.augment import AugmentConfig


@dataclass(frozen=True)
class Blend:
    """Blended frames and what each is a blend of."""

    frames_BTCHW: torch.Tensor
    xy_net: torch.Tensor
    """[B, T, 2]: where the object is in the stronger part."""
    other_xy_net: torch.Tensor
    """[B, T, 2]: where it is in the weaker part."""
    share: torch.Tensor
    """[B, T]: weight of the stronger part, at least one half."""


def mix(frames_BTCHW: torch.Tensor, xy_net: torch.Tensor, config: AugmentConfig, seed: int) -> Blend:
    """Blend frames as TrackNetV3 (MMAsia 2023) does; heatmaps are to be blended with the same shares.

    ``samples``: every window with another of the batch, a background picture before the frames included. ``frames``:
    blends are laid between neighbouring frames and T of these 2 T - 1 frames taken in order. The share is
    max(s, 1 - s) with s drawn from Beta(alpha, alpha).
    """
    batch, frames = xy_net.shape[:2]
    draw = np.random.default_rng(seed)
    share = draw.beta(config.mix_alpha, config.mix_alpha, size=(batch, 1))
    share = np.maximum(share, 1 - share).repeat(frames, axis=1)

    def on_device(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(frames_BTCHW.device)

    if config.mix == "samples":
        others, weight = on_device(draw.permutation(batch)), on_device(share.astype(np.float32))
        blended = torch.lerp(frames_BTCHW[others], frames_BTCHW, weight[:, :1, None, None, None])
        return Blend(blended, xy_net, xy_net[others], weight)
    taken = np.sort(draw.random((batch, 2 * frames - 1)).argsort(axis=1)[:, :frames], axis=1)  # odd ones are blends
    weight = on_device(np.where(taken % 2 == 1, share, 1).astype(np.float32))
    window = on_device(np.arange(batch)[:, None])
    one, other = on_device(taken // 2), on_device((taken + 1) // 2)
    background, moving = frames_BTCHW[:, :-frames], frames_BTCHW[:, -frames:]
    blended = torch.lerp(moving[window, other], moving[window, one], weight[..., None, None, None])
    return Blend(torch.cat([background, blended], dim=1), xy_net[window, one], xy_net[window, other], weight)


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
