"""The template networks: backbone, target model and box head, and their training loss.

State has the keys of the published checkpoints: ``feature_extractor``, ``classifier`` and ``bb_regressor``. Template
and search region are both square crops of ``input_wh``; boxes in them are x, y, w, h in network px.
"""

# n pictures, S sequences, C channel, h w cells, N proposals

import math
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import nn

from specktrack.models.network import Network
from specktrack.models.template import box_regression
from specktrack.models.template.backbone import BasicBlock, Bottleneck, ResNet
from specktrack.models.template.conjugate_gradient import TwoLayers
from specktrack.models.template.entries import TemplateConfig
from specktrack.models.template.iou_net import Features, IoUNet
from specktrack.models.template.target_model import (
    FilterInitializer,
    GaussNewton,
    InstanceL2Norm,
    Newton,
    ZeroInitializer,
    apply_filter,
    centres_in_cells,
    gaussian_label,
    hinge_loss,
    score_kl_loss,
)

LOSS_WEIGHTS = {"gauss-newton": (100.0, 0.01), "newton": (0.25, 0.0025), "conjugate-gradient": (0.0, 1.0)}
"""Of the scores (first filter, last filter, and four times that over the mean of those between) and of the boxes, by
optimizer: DiMP's and PrDiMP's published ones; ATOM learns its target model online only."""

ANYWHERE_PX = 16.0


@dataclass(frozen=True)
class Pairs:
    """Templates and search regions of S sequences."""

    template_nSCHW: torch.Tensor
    """float32 [n, S, 3, H, W] in [0, 1]."""
    template_boxes_nS4: torch.Tensor
    search_nSCHW: torch.Tensor
    search_boxes_nS4: torch.Tensor
    """NaN where a search region shows no target (a distractor frame)."""

    def to(self, device: torch.device) -> "Pairs":
        """On ``device``."""
        return Pairs(
            self.template_nSCHW.to(device), self.template_boxes_nS4.to(device),
            self.search_nSCHW.to(device), self.search_boxes_nS4.to(device),
        )  # fmt: skip


@dataclass(frozen=True)
class Proposals:
    """Boxes around the labels of the search regions, each picture of each sequence in turn (B = n S)."""

    boxes_BN4: torch.Tensor
    density_BN: torch.Tensor
    """At which the boxes were drawn."""
    wanted_BN: torch.Tensor
    """Density that the box head shall have there."""

    @classmethod
    def draw(cls, boxes_nS4: torch.Tensor, n: int, generator: torch.Generator) -> Self:
        """``n`` boxes per picture; those of a picture without a target stand anywhere, and no loss looks at them."""
        boxes = torch.nan_to_num(boxes_nS4.flatten(0, 1), nan=ANYWHERE_PX)
        return cls(*box_regression.draw_proposals(boxes, n, generator))


@dataclass(frozen=True)
class Outputs:
    """All that the losses and a distillation look at."""

    scores: list[torch.Tensor]
    """Score maps [n, S, h + 1, w + 1] of the search regions after each step of the target model's learning."""
    pooled: Features
    """Modulated features of the proposals, [B, N, C, 5, 5] and [B, N, C, 3, 3]."""
    box_score_BN: torch.Tensor


class Classifier(nn.Module):
    """Features for the target model, its first filter, and its learning."""

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__()
        target, inputs = config.target_model, config.backbone.channels(3)
        block = BasicBlock if config.backbone.block == "basic" else Bottleneck
        width = config.backbone.widths[2]
        conv = nn.Conv2d(inputs, target.features, 3, padding=1, bias=False)
        nn.init.normal_(conv.weight, 0, math.sqrt(2 / (9 * target.features)))
        scale = math.sqrt(1 / (target.features * target.filter_size**2))
        blocks = [block(inputs, width) for _ in range(target.feature_blocks)]
        self.feature_extractor = nn.Sequential(*blocks, conv, InstanceL2Norm(scale))
        learner = GaussNewton if target.optimizer == "gauss-newton" else Newton
        self.filter_optimizer = learner(target, stride=config.stride, sigma_cells=config.sigma_cells)
        self.filter_initializer = (
            FilterInitializer(target.features, target.filter_size, config.stride)
            if target.optimizer == "gauss-newton"
            else ZeroInitializer(target.features, target.filter_size)
        )


class Dimp(Network):
    """ATOM, DiMP, PrDiMP, Super-DiMP and MKDNet's student: they differ in their configuration."""

    config: TemplateConfig

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__(config)
        backbone, head = config.backbone, config.box_head
        self.feature_extractor = ResNet(backbone)
        self.classifier = None if config.target_model.optimizer == "conjugate-gradient" else Classifier(config)
        self.bb_regressor = IoUNet(
            (backbone.channels(2), backbone.channels(3)),
            strides=(backbone.stride(2), backbone.stride(3)),
            prediction=head.prediction,
            hidden=head.hidden,
        )
        for module in self.feature_extractor.frozen():
            module.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> Self:
        """As ever, but frozen stages keep their statistics."""
        super().train(mode)
        for module in self.feature_extractor.frozen():
            module.eval()
        return self

    def features(self, pictures_BCHW: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> Features:
        """Backbone features in float32 of RGB pictures in [0, 1]; computed in ``dtype``."""
        with torch.autocast(pictures_BCHW.device.type, dtype, enabled=dtype != torch.float32):
            fine, coarse = self.feature_extractor(pictures_BCHW)
        return fine.float(), coarse.float()

    def target_features(self, features: Features) -> torch.Tensor:
        """Input of the target model's filter, [B, C, h, w], from the backbone's features."""
        return features[1] if self.classifier is None else self.classifier.feature_extractor(features[1])

    def target_model(self) -> "TargetModel":
        """A target model that knows nothing yet."""
        return TwoLayers(self.config) if self.classifier is None else LearnedFilter(self.classifier)

    def outputs(self, pairs: Pairs, proposals: Proposals, *, dtype: torch.dtype = torch.float32) -> Outputs:
        """Learn each sequence's target model on its templates and look at its search regions."""
        pictures = torch.cat([pairs.template_nSCHW, pairs.search_nSCHW])
        features = self.features(pictures.flatten(0, 1), dtype=dtype)
        templates, sequences = pairs.template_nSCHW.shape[:2]
        template = (features[0][:sequences], features[1][:sequences])  # the box head looks at the first template only
        search = (features[0][templates * sequences :], features[1][templates * sequences :])
        searches = len(pairs.search_nSCHW)
        scores = []
        if self.classifier is not None:
            seen = self.target_features(features).unflatten(0, (-1, sequences))
            boxes = pairs.template_boxes_nS4
            first = self.classifier.filter_initializer(seen[:templates], boxes)
            filters, _ = self.classifier.filter_optimizer(first, seen[:templates], boxes)
            scores = [apply_filter(seen[templates:], w) for w in filters]
        modulation = self.bb_regressor.modulation(template, pairs.template_boxes_nS4[0])
        each = (modulation[0].repeat(searches, 1, 1, 1), modulation[1].repeat(searches, 1, 1, 1))
        pooled = self.bb_regressor.pooled(self.bb_regressor.search_features(search), each, proposals.boxes_BN4)
        return Outputs(scores, pooled, self.bb_regressor.score(pooled))

    def losses(self, outputs: Outputs, pairs: Pairs, proposals: Proposals) -> dict[str, torch.Tensor]:
        """``loss`` to minimise with its parts, of which ``scores`` is weighted.

        ``boxes`` is not, nor is ``scores_mean``, the sum over all filters by the steps between them (MKDNet (2)).
        Distractor frames, which show no target, count in the scores, as background all over, and not in the boxes.
        """
        weight_scores, weight_boxes = LOSS_WEIGHTS[self.config.target_model.optimizer]
        boxes = pairs.search_boxes_nS4.flatten(0, 1)
        if self.config.box_head.loss == "kl":
            of_boxes = box_regression.box_kl_loss(outputs.box_score_BN, proposals.density_BN, proposals.wanted_BN)
        else:
            known = torch.nan_to_num(boxes, nan=ANYWHERE_PX)
            of_boxes = box_regression.overlap_loss(outputs.box_score_BN, proposals.boxes_BN4, known)
            weight_boxes = 1.0
        weight_boxes *= self.config.box_head.emphasis
        shown = torch.isfinite(boxes).all(dim=-1)
        of_boxes = torch.where(shown, of_boxes, 0.0).sum() / shown.sum().clamp(min=1)
        results = {"boxes": of_boxes, "scores": outputs.box_score_BN.new_zeros(())}
        if outputs.scores:
            each = [self._score_loss(score, pairs.search_boxes_nS4) for score in outputs.scores]
            between = 4 * torch.stack(each[1:-1]).mean() if len(each) > 2 else 0
            results["scores"] = weight_scores * (each[0] + each[-1] + between)
            results["scores_mean"] = torch.stack(each).sum() / (len(each) - 1)
            results |= self._metrics(outputs.scores[-1].detach(), pairs.search_boxes_nS4)
        return {"loss": results["scores"] + weight_boxes * results["boxes"], **results}

    def _label(self, boxes_nS4: torch.Tensor, size_hw: tuple[int, ...]) -> torch.Tensor:
        centre = centres_in_cells(boxes_nS4, stride=self.config.stride, k=self.config.target_model.filter_size)
        return torch.nan_to_num(gaussian_label(centre, (size_hw[0], size_hw[1]), self.config.sigma_cells))

    def _score_loss(self, score_nSHW: torch.Tensor, boxes_nS4: torch.Tensor) -> torch.Tensor:
        label = self._label(boxes_nS4, score_nSHW.shape[-2:])
        if self.config.target_model.optimizer == "newton":
            return score_kl_loss(score_nSHW, label / label.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-8))
        return hinge_loss(score_nSHW, label)

    def _metrics(self, score_nSHW: torch.Tensor, boxes_nS4: torch.Tensor) -> dict[str, torch.Tensor]:
        """``found``: share of search regions with a target whose peak lies within half a target of its centre."""
        shown = torch.isfinite(boxes_nS4).all(dim=-1)
        width = score_nSHW.shape[-1]
        peak = score_nSHW.flatten(2).argmax(dim=2)
        peak_xy = torch.stack([peak % width, peak // width], dim=-1).float() * self.config.stride
        miss = (peak_xy - boxes_nS4[..., :2] - boxes_nS4[..., 2:] / 2).abs()
        return {"found": (miss <= boxes_nS4[..., 2:] / 2).all(dim=-1)[shown].float().mean()}

    def loss(
        self, pairs: Pairs, generator: torch.Generator, *, dtype: torch.dtype = torch.float32
    ) -> dict[str, torch.Tensor]:
        """``loss`` to minimise and its parts, for freshly drawn proposals."""
        proposals = Proposals.draw(pairs.search_boxes_nS4, self.config.box_head.proposals, generator)
        return self.losses(self.outputs(pairs, proposals, dtype=dtype), pairs, proposals)


class TargetModel(Protocol):
    """The target model, which a tracker learns online."""

    def learn(
        self, features_nChw: torch.Tensor, boxes_n4: torch.Tensor, weight_n: torch.Tensor, *, iterations: int
    ) -> None:
        """Learn from samples, starting with what is known; the first call begins."""
        ...

    def score(self, features_Chw: torch.Tensor) -> torch.Tensor:
        """Scores [h + 1, w + 1] of one search region."""
        ...


class LearnedFilter:
    """DiMP's and PrDiMP's filter."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._filter: torch.Tensor | None = None

    @torch.no_grad()
    def learn(
        self, features_nChw: torch.Tensor, boxes_n4: torch.Tensor, weight_n: torch.Tensor, *, iterations: int
    ) -> None:
        """Learn from samples; the first call also makes the first filter, from all of them."""
        features, boxes = features_nChw[:, None], boxes_n4[:, None]
        if self._filter is None:
            self._filter = self._classifier.filter_initializer(features, boxes)
        filters, _ = self._classifier.filter_optimizer(
            self._filter, features, boxes, sample_weight_nS=weight_n[:, None], iterations=iterations
        )
        self._filter = filters[-1]

    @torch.no_grad()
    def score(self, features_Chw: torch.Tensor) -> torch.Tensor:
        """Scores [h + 1, w + 1] of one search region."""
        assert self._filter is not None, "learn first"
        return apply_filter(features_Chw[None, None], self._filter)[0, 0]
