"""ATOM's target model (Danelljan et al., CVPR 2019): two convolutions learned on the prompt, without offline training.

A 1x1 convolution reduces the backbone's features and a filter scores them. Both are found by Gauss-Newton with
conjugate gradients on the squared error to a Gaussian; later only the filter moves.
"""

# n samples, C channel, D reduced channels, h w cells

from collections.abc import Callable

import torch
import torch.nn.functional as F

from specktrack.models.template.entries import TemplateConfig
from specktrack.models.template.target_model import apply_filter, centres_in_cells, gaussian_label

PROJECTION_REG, FILTER_REG = 1e-4, 1e-1
LEAST_SCORE = 0.05
"""Scores saturate at minus this: background need not be negative (the paper's activation)."""
FIRST_OUTER_STEPS = 6
"""Gauss-Newton steps on the prompt; the conjugate gradient steps are spread over them."""

Parameters = tuple[torch.Tensor, ...]


class TwoLayers:
    """Projection [D, C] and filter [1, D, k, k]."""

    def __init__(self, config: TemplateConfig) -> None:
        self._config = config
        self._projection: torch.Tensor | None = None
        self._filter: torch.Tensor | None = None

    @torch.no_grad()
    def learn(
        self, features_nChw: torch.Tensor, boxes_n4: torch.Tensor, weight_n: torch.Tensor, *, iterations: int
    ) -> None:
        """Learn from samples; the first call begins with the features' principal directions and an empty filter."""
        target, features = self._config.target_model, _normalised(features_nChw)
        k, size_hw = target.filter_size, (features.shape[2] + 1, features.shape[3] + 1)
        centre = centres_in_cells(boxes_n4, stride=self._config.stride, k=k)
        label, weight = gaussian_label(centre, size_hw, self._config.sigma_cells), weight_n.sqrt()[:, None, None]

        def data_residual(projection: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return (weight * (_activated(_scores(features, projection, w)) - label)).flatten()

        if self._projection is None or self._filter is None:
            projection = _principal(features, target.features)
            w = features.new_zeros(1, target.features, k, k)

            def both(p: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                reg = (PROJECTION_REG**0.5 * p.flatten(), FILTER_REG**0.5 * w.flatten())
                return torch.cat([data_residual(p, w), *reg])

            steps = max(1, iterations // FIRST_OUTER_STEPS)
            self._projection, self._filter = gauss_newton(both, (projection, w), outer=FIRST_OUTER_STEPS, inner=steps)
            return
        projection = self._projection

        def filter_only(w: torch.Tensor) -> torch.Tensor:
            return torch.cat([data_residual(projection, w), FILTER_REG**0.5 * w.flatten()])

        (self._filter,) = gauss_newton(filter_only, (self._filter,), outer=1, inner=iterations)

    @torch.no_grad()
    def score(self, features_Chw: torch.Tensor) -> torch.Tensor:
        """Scores [h + 1, w + 1] of one search region."""
        assert self._projection is not None and self._filter is not None, "learn first"
        return _activated(_scores(_normalised(features_Chw[None]), self._projection, self._filter))[0]


def gauss_newton(
    residual: Callable[..., torch.Tensor], parameters: Parameters, *, outer: int, inner: int
) -> Parameters:
    """Minimise |residual|^2: ``outer`` linearisations, each solved by ``inner`` steps of conjugate gradients."""
    for _ in range(outer):
        push, pull, value = _linearised(residual, parameters)
        descent = tuple(-g for g in pull(value))
        change = tuple(torch.zeros_like(p) for p in parameters)
        direction, size = descent, _dot(descent, descent)
        for _ in range(inner):
            if size <= 1e-20:
                break
            curved = pull(push(direction))
            length = size / _dot(direction, curved).clamp(min=1e-20)
            change = tuple(c + length * d for c, d in zip(change, direction, strict=True))
            descent = tuple(r - length * q for r, q in zip(descent, curved, strict=True))
            before, size = size, _dot(descent, descent)
            direction = tuple(r + size / before * d for r, d in zip(descent, direction, strict=True))
        parameters = tuple(p + c for p, c in zip(parameters, change, strict=True))
    return parameters


def _linearised(
    residual: Callable[..., torch.Tensor], parameters: Parameters
) -> tuple[Callable[[Parameters], torch.Tensor], Callable[[torch.Tensor], Parameters], torch.Tensor]:
    """Products with the Jacobian and with its transpose, and the residual's value.

    The transpose's product is linear in its argument, so its own gradient is the Jacobian's product.
    """
    with torch.enable_grad():
        at = tuple(p.detach().requires_grad_() for p in parameters)
        value = residual(*at)
        dummy = torch.zeros_like(value, requires_grad=True)
        transposed = torch.autograd.grad(value, at, dummy, create_graph=True)

    def push(direction: Parameters) -> torch.Tensor:
        return torch.autograd.grad(transposed, dummy, direction, retain_graph=True)[0]

    def pull(weight: torch.Tensor) -> Parameters:
        return torch.autograd.grad(value, at, weight, retain_graph=True)

    return push, pull, value.detach()


def _dot(one: Parameters, other: Parameters) -> torch.Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def _scores(features_nChw: torch.Tensor, projection_DC: torch.Tensor, w_1Dkk: torch.Tensor) -> torch.Tensor:
    reduced = F.conv2d(features_nChw, projection_DC[..., None, None])
    return apply_filter(reduced[:, None], w_1Dkk)[:, 0]


def _activated(score: torch.Tensor) -> torch.Tensor:
    return torch.where(score > 0, score, LEAST_SCORE * torch.expm1(score.clamp(max=0) / LEAST_SCORE))


def _normalised(features_nChw: torch.Tensor) -> torch.Tensor:
    """Of mean square one in each sample."""
    return features_nChw / features_nChw.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def _principal(features_nChw: torch.Tensor, directions: int) -> torch.Tensor:
    """The leading principal directions of the samples' features, [directions, C]."""
    cells = features_nChw.transpose(0, 1).flatten(1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    _, vectors = torch.linalg.eigh(cells @ cells.T / cells.shape[1])
    return vectors.flip(1)[:, :directions].T.contiguous()
