"""Boxes as samples of a density: proposals, their densities, and the losses of the box head (PrDiMP, CVPR 2020).

Boxes are x, y, w, h in network px. Relative boxes are (cx / w0, cy / h0, log w, log h) for a normaliser (w0, h0).
"""

# B batch, N proposals, K components of the mixture

import math

import torch
import torch.nn.functional as F

PROPOSAL_STDS = (0.05, 0.5)
"""Standard deviations of the mixture's components, equally likely, in every relative coordinate."""
LABEL_STD = 0.05
"""Of the density that the box head shall have around the labelled box."""


def to_relative(boxes: torch.Tensor, normaliser_wh: torch.Tensor) -> torch.Tensor:
    """Boxes [..., 4] as relative boxes [..., 4]."""
    centre = boxes[..., :2] + boxes[..., 2:] / 2
    return torch.cat([centre / normaliser_wh, boxes[..., 2:].log()], dim=-1)


def from_relative(relative: torch.Tensor, normaliser_wh: torch.Tensor) -> torch.Tensor:
    """The inverse of ``to_relative``."""
    size = relative[..., 2:].exp()
    return torch.cat([relative[..., :2] * normaliser_wh - size / 2, size], dim=-1)


def draw_proposals(
    boxes_B4: torch.Tensor, n: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``n`` boxes around each labelled box, their density as proposals, and the density wanted there: [B, n, ...]."""
    stds = torch.tensor(PROPOSAL_STDS)
    component = torch.randint(len(stds), (len(boxes_B4), n), generator=generator)
    noise = torch.randn(len(boxes_B4), n, 4, generator=generator) * stds[component][..., None]
    noise = noise.to(boxes_B4.device)
    normaliser = boxes_B4[:, None, 2:]
    proposals = from_relative(to_relative(boxes_B4[:, None], normaliser) + noise, normaliser)
    return proposals, mixture_density(noise), normal_density(noise, LABEL_STD)


def normal_density(offset: torch.Tensor, std: float) -> torch.Tensor:
    """Density of independent normals at offsets [..., 4]."""
    return (-0.5 * (offset / std).square()).exp().prod(dim=-1) / (std * math.sqrt(2 * math.pi)) ** 4


def mixture_density(offset: torch.Tensor) -> torch.Tensor:
    """Density of the proposals' mixture at offsets [..., 4]."""
    return torch.stack([normal_density(offset, std) for std in PROPOSAL_STDS]).mean(dim=0)


def box_kl_loss(
    score_BN: torch.Tensor, proposal_density_BN: torch.Tensor, label_density_BN: torch.Tensor
) -> torch.Tensor:
    """KL divergence (but for a constant) of exp(score), normalised over all boxes, from the label's density; [B].

    Both integrals are estimated by importance sampling from the proposals.
    """
    log_q = proposal_density_BN.log()
    log_normaliser = (score_BN - log_q).logsumexp(dim=-1) - math.log(score_BN.shape[-1])
    return log_normaliser - (score_BN * label_density_BN / proposal_density_BN).mean(dim=-1)


def overlap(boxes: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes [..., 4]."""
    low = torch.maximum(boxes[..., :2], other[..., :2])
    high = torch.minimum(boxes[..., :2] + boxes[..., 2:], other[..., :2] + other[..., 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    return common / (boxes[..., 2:].prod(dim=-1) + other[..., 2:].prod(dim=-1) - common).clamp(min=1e-12)


def overlap_loss(score_BN: torch.Tensor, proposals_BN4: torch.Tensor, boxes_B4: torch.Tensor) -> torch.Tensor:
    """Squared error of scores that mean overlap, on a scale from -1 to 1 (ATOM, DiMP); [B]."""
    wanted = 2 * overlap(proposals_BN4, boxes_B4[:, None]) - 1
    return F.mse_loss(score_BN, wanted, reduction="none").mean(dim=-1)
