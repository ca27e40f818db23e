"""Refining a box: several variations of it climb the box head's score, and the best make the result."""

# N boxes, x y w h in network px of one search region

import torch

from specktrack.models.template.box_regression import from_relative, to_relative
from specktrack.models.template.entries import OnlineConfig
from specktrack.models.template.iou_net import Features, IoUNet


def refine_box(
    head: IoUNet, search: Features, modulation: Features, box_4: torch.Tensor, config: OnlineConfig,
    generator: torch.Generator,
) -> torch.Tensor | None:  # fmt: skip
    """The refined box [4]; None where all boxes grew too long to be believed."""
    boxes = _climb(head, search, modulation, _variations(box_4, config, generator), config)
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:].clamp(min=1)], dim=1)
    aspect = boxes[:, 2] / boxes[:, 3]
    boxes = boxes[(aspect < config.most_aspect) & (aspect > 1 / config.most_aspect)]
    if not len(boxes):
        return None
    with torch.no_grad():
        scores = head(search, modulation, boxes[None])[0]
    return boxes[scores.topk(min(config.boxes_averaged, len(boxes))).indices].mean(dim=0)


def _variations(box_4: torch.Tensor, config: OnlineConfig, generator: torch.Generator) -> torch.Tensor:
    """The box itself and random ones around it, [N, 4]."""
    centre, size = box_4[:2] + box_4[2:] / 2, box_4[2:]
    side = size.prod().sqrt()
    draw = (torch.rand(config.boxes - 1, 4, generator=generator) - 0.5).to(box_4.device) * side
    sizes = torch.maximum(size + draw[:, 2:] * config.size_jitter, size.min() / 3)
    centres = centre + draw[:, :2] * config.position_jitter
    return torch.cat([box_4[None], torch.cat([centres - sizes / 2, sizes], dim=1)])


def _climb(
    head: IoUNet, search: Features, modulation: Features, boxes_N4: torch.Tensor, config: OnlineConfig
) -> torch.Tensor:
    """Boxes after gradient ascent, in relative or in pixel coordinates."""
    normaliser = boxes_N4[:1, 2:]
    relative = config.box_space == "relative"
    place = to_relative(boxes_N4, normaliser) if relative else boxes_N4
    for _ in range(config.box_steps):
        place = place.detach().requires_grad_()
        with torch.enable_grad():
            boxes = from_relative(place, normaliser) if relative else place
            score = head(search, modulation, boxes[None]).sum()
        (gradient,) = torch.autograd.grad(score, place)
        step = config.box_step * gradient
        place = place.detach() + (step if relative else step * place.detach()[:, 2:].repeat(1, 2))
    return from_relative(place, normaliser) if relative else place
