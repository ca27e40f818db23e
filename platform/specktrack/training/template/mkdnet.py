"""MKDNet (Zhu et al., "Tiny Object Tracking"): a student that sees degraded, tiny targets learns from a frozen teacher
that sees them clean, on the level of features, of scores and of boxes.

Equation numbers are the paper's. Where its text and its released code differ, ``preset`` decides.
"""

# n pictures, S sequences, B = n S, N proposals

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from specktrack.models.template.dimp import LOSS_WEIGHTS, Dimp, Outputs, Pairs, Proposals
from specktrack.models.template.entries import TemplateConfig
from specktrack.models.template.iou_net import Features
from specktrack.training.template.config import MkdNetDistillConfig


@dataclass(frozen=True)
class _Weights:
    consistency: float
    score: float
    box: float
    score_maps: slice
    """Which steps of the target model's learning are imitated."""


_WEIGHTS = {
    "paper": _Weights(consistency=5.0, score=2.0, box=0.1, score_maps=slice(-1, None)),
    "released": _Weights(consistency=5.0, score=4.0, box=0.05, score_maps=slice(0, 2)),
}


def degrade(pairs: Pairs, *, tiny_px: float, swapped: bool, generator: torch.Generator) -> Pairs:
    """The pairs as if the mean target had had ``tiny_px``: bicubic down, and up again by the nearest or bilinearly.

    The released code squeezes rows by the width's ratio and columns by the height's (``swapped``).
    """
    mode = "nearest" if torch.rand((), generator=generator) < 0.5 else "bilinear"

    def squeeze(pictures_nSCHW: torch.Tensor, boxes_nS4: torch.Tensor) -> torch.Tensor:
        side = pictures_nSCHW.shape[-1]
        shrink_w, shrink_h = (boxes_nS4[..., 2:].flatten(0, 1).nanmean(dim=0) / tiny_px).clamp(min=1).tolist()
        shrink_rows, shrink_columns = (shrink_w, shrink_h) if swapped else (shrink_h, shrink_w)
        small = (max(1, int(side / shrink_rows)), max(1, int(side / shrink_columns)))
        flat = F.interpolate(pictures_nSCHW.flatten(0, 1), small, mode="bicubic", align_corners=False)
        up = F.interpolate(flat, (side, side), mode=mode)
        return up.clamp(0, 1).view_as(pictures_nSCHW)

    return Pairs(
        squeeze(pairs.template_nSCHW, pairs.template_boxes_nS4), pairs.template_boxes_nS4,
        squeeze(pairs.search_nSCHW, pairs.search_boxes_nS4), pairs.search_boxes_nS4,
    )  # fmt: skip


class Discriminator(nn.Module):
    """Tells the teacher's pooled features from the student's: three fully connected layers.

    One for both levels together as in the paper, or one for each as in the released code.
    """

    def __init__(self, channels: tuple[int, int], *, preset: str) -> None:
        super().__init__()
        sizes = [channels[0] * 25, channels[1] * 9]
        inputs = sizes if preset == "released" else [sum(sizes)]
        self.judges = nn.ModuleList(
            nn.Sequential(
                nn.Linear(size, 256), nn.LeakyReLU(0.2), nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
            )
            for size in inputs
        )

    def forward(self, pooled: Features) -> list[torch.Tensor]:
        """Logits [B N, 1] of "these are the teacher's", one tensor per judge."""
        fine, coarse = (level.flatten(0, 1).flatten(1) for level in pooled)
        inputs = [fine, coarse] if len(self.judges) == 2 else [torch.cat([fine, coarse], dim=1)]
        return [judge(x) for judge, x in zip(self.judges, inputs, strict=True)]

    def loss(self, student: Features, teacher: Features) -> torch.Tensor:
        """L_dis (5), as a mean: what the discriminator minimises; no gradient reaches the features."""
        of_student = self((student[0].detach(), student[1].detach()))
        of_teacher = self((teacher[0].detach(), teacher[1].detach()))
        terms = [_bce(logits, 0.0) for logits in of_student] + [_bce(logits, 1.0) for logits in of_teacher]
        return torch.stack(terms).mean()

    def deception(self, student: Features) -> torch.Tensor:
        """L_gen (5): what the student minimises, of every judge; no gradient reaches the judges.

        A mean over proposals: the paper's sum would outweigh all else a thousandfold.
        """
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return torch.stack([_bce(logits, 1.0) for logits in functional_call(self, fixed, (student,))]).sum()


def _bce(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def teach(
    teacher: Dimp, student: Dimp, clean: Pairs, proposals: Proposals, config: MkdNetDistillConfig, *, dtype: torch.dtype
) -> Outputs:
    """The teacher's answer to clean pictures.

    In the released code it has the student's target model, and its norms see the batch.
    """
    teacher.train(mode=config.preset == "released")
    if config.preset == "paper":
        with torch.no_grad():
            return teacher.outputs(clean, proposals, dtype=dtype)
    own, teacher.classifier = teacher.classifier, student.classifier
    try:
        return teacher.outputs(clean, proposals, dtype=dtype)
    finally:
        teacher.classifier = own


def own_loss(results: dict[str, torch.Tensor], network: TemplateConfig, config: MkdNetDistillConfig) -> torch.Tensor:
    """The student's loss on its labels: in the paper alpha weighs the mean over all filters (2), a fifth of what
    Super-DiMP's weights, which the released code keeps, come to.
    """
    if config.preset == "released":
        return results["loss"]
    alpha = LOSS_WEIGHTS[network.target_model.optimizer][0]
    return results["loss"] - results["scores"] + alpha * results["scores_mean"]


def distillation(
    student: dict[str, torch.Tensor], teacher: dict[str, torch.Tensor], outputs: Outputs, taught: Outputs,
    discriminator: Discriminator | None, config: MkdNetDistillConfig,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The distillation's part of the loss (11), ``distilled``, with the gates that weigh it.

    The reliable distillation measure (9, 10) closes the gate where the teacher's loss is the greater one.
    """
    weights = _WEIGHTS[config.preset]
    name = "scores" if config.preset == "released" else "scores_mean"
    gate_boxes = (student["boxes"] - teacher["boxes"]).clamp(min=0)
    gate_scores = (student[name] - teacher[name]).clamp(min=0)
    if config.preset == "paper":
        gate_boxes, gate_scores = gate_boxes.detach(), gate_scores.detach()
    total = outputs.box_score_BN.new_zeros(())
    if config.features:
        consistency = [F.l1_loss(s, t) for s, t in zip(outputs.pooled, taught.pooled, strict=True)]
        total = total + gate_boxes * weights.consistency * torch.stack(consistency).sum()
        if discriminator is not None:
            total = total + gate_boxes * discriminator.deception(outputs.pooled)
    if config.scores:
        maps = zip(outputs.scores[weights.score_maps], taught.scores[weights.score_maps], strict=True)
        total = total + gate_scores * weights.score * torch.stack([F.l1_loss(s, t) for s, t in maps]).sum()
    if config.boxes:
        total = total + gate_boxes * weights.box * F.l1_loss(outputs.box_score_BN, taught.box_score_BN)
    return {"distilled": total, "gate_boxes": gate_boxes.detach(), "gate_scores": gate_scores.detach()}
