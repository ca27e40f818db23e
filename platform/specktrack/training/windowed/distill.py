"""Distillation: a frozen teacher in addition to the labels, wherever it is better than the student.

Three terms, each with a weight: the teacher's heatmap as a label, its features through 1x1 adapters used only in
training, and its position by soft-argmax. Teacher and student can be any models: the gate compares losses, the adapters
connect any two feature maps, and windows, sizes and strides are reconciled here.
"""

# B batch, n frames of the training window, W windows of the teacher, K heatmaps of the student, C channel, H W px

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from specktrack import heatmap
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.training.windowed.config import DistillConfig

SIDE = 16
"""Networks take pictures whose sides are multiples of it."""


def reliability_gate(teacher_loss: torch.Tensor, student_loss: torch.Tensor) -> torch.Tensor:
    """Where to listen: false where the teacher's loss is larger than the student's own, or NaN."""
    return teacher_loss <= student_loss


def heatmap_losses(probability: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How wrong each heatmap [..., H, W] is: |p - y|^2 * BCE, summed over its pixels; one measure for everyone."""
    p = probability.float().clamp(1e-6, 1 - 1e-6)
    cross_entropy = -wanted * p.log() - (1 - wanted) * (1 - p).log()
    return ((p - wanted).square() * cross_entropy).sum(dim=(-2, -1))


def soft_argmax(probability: torch.Tensor, stride: int) -> torch.Tensor:
    """Expected position [..., 2] in network px of heatmaps [..., H, W], weighted by their odds p / (1 - p)."""
    p = probability.float().clamp(1e-6, 1 - 1e-6)
    weight = p / (1 - p)
    weight = weight / weight.sum(dim=(-2, -1), keepdim=True)
    height, width = p.shape[-2:]
    xs = (torch.arange(width, device=p.device) + 0.5) * stride - 0.5
    ys = (torch.arange(height, device=p.device) + 0.5) * stride - 0.5
    return torch.stack([(weight.sum(dim=-2) * xs).sum(dim=-1), (weight.sum(dim=-1) * ys).sum(dim=-1)], dim=-1)


def feature_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between maps [B, C, H, W], mean over pixels, [B]; at the student's size."""
    if teacher.shape[-2:] != student.shape[-2:]:
        teacher = F.interpolate(teacher.float(), size=student.shape[-2:], mode="bilinear", antialias=True)
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=1).mean(dim=(-2, -1))


class Taps:
    """The outputs of named modules of a network in its latest forward pass."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self.maps: dict[str, torch.Tensor] = {}
        modules = dict(network.named_modules())
        for name in names:
            if name not in modules or not name:
                stages = ", ".join(module for module in modules if module and "." not in module)
                raise ConfigError("no such stage", name, "distill.stages", f"some stages are: {stages}")
            modules[name].register_forward_hook(self._keeper(name))

    def _keeper(self, name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            self.maps[name] = output

        return keep


class Distillation(nn.Module):
    """The terms that a frozen teacher adds to a student's loss; its parameters are the adapters."""

    def __init__(self, student: HeatmapNetwork, teacher: Model, config: DistillConfig, device: torch.device) -> None:
        super().__init__()
        if not isinstance(teacher.network, HeatmapNetwork):
            raise ConfigError("only a heatmap network can teach a heatmap network", teacher.card.name)
        self.config, self._student = config, student.config
        # In a list, so that it is neither trained nor saved nor sent to other workers.
        self._teacher = [teacher.network.to(device).eval().requires_grad_(False)]
        self._taps = Taps(student, [ours for ours, _ in config.stages])
        self._teacher_taps = Taps(teacher.network, [theirs for _, theirs in config.stages])
        self.adapters = self._made_adapters(student, device)

    @torch.no_grad()
    def _made_adapters(self, student: HeatmapNetwork, device: torch.device) -> nn.ModuleList:
        """One 1x1 convolution per pair of stages; a pass over a small picture tells their channels."""
        if not self.config.stages:
            return nn.ModuleList()
        training, teacher = student.training, self._teacher[0]
        for network in (student.eval(), teacher):
            network(torch.zeros(1, network.config.pictures_in, 3, 4 * SIDE, 4 * SIDE, device=device))
        student.train(training)
        maps = [(self._taps.maps[ours], self._teacher_taps.maps[theirs]) for ours, theirs in self.config.stages]
        return nn.ModuleList(nn.Conv2d(ours.shape[1], theirs.shape[1], 1) for ours, theirs in maps).to(device)

    def forward(
        self, pictures_BnCHW: torch.Tensor, output: torch.Tensor, probability: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum of the terms, and detached figures, for the student's ``output`` and the heatmaps
        [B, K, H, W] that it stands for, beside the labels ``wanted``. ``pictures`` are background and window.

        ``trusted`` is the share of heatmaps in which the gate is open.
        """
        config = self.config
        taught = self.taught(pictures_BnCHW, wanted.shape)
        gate = reliability_gate(heatmap_losses(taught, wanted), heatmap_losses(probability.detach(), wanted))
        figures = {"trusted": gate.float().mean()}
        total = output.new_zeros((), dtype=torch.float32)
        if config.heatmap:
            # Where the gate is shut the label stands in, so that any of the student's losses serves as the term.
            label = torch.where(gate[..., None, None], taught.nan_to_num(), wanted)
            figures["taught_heatmap"] = heatmap.LOSSES[self._student.loss](output, label)
            total = total + config.heatmap * figures["taught_heatmap"]
        if config.position:
            figures["taught_position"] = self._position_term(probability, taught, gate)
            total = total + config.position * figures["taught_position"]
        if config.feature:
            figures["taught_feature"] = self._feature_term(gate)
            total = total + config.feature * figures["taught_feature"]
        return total, {name: value.detach() for name, value in figures.items()}

    def _position_term(self, probability: torch.Tensor, taught: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Smooth L1 distance in network px to the teacher's positions, where it is trusted and sees the object."""
        seen = gate & (taught.amax(dim=(-2, -1)) > 0.5)
        stride = self._student.target.stride
        distance = F.smooth_l1_loss(
            soft_argmax(probability, stride), soft_argmax(taught.nan_to_num(), stride), reduction="none"
        ).sum(dim=-1)
        return torch.where(seen, distance, 0).sum() / seen.sum().clamp(min=1)

    def _feature_term(self, gate: torch.Tensor) -> torch.Tensor:
        """Distance of adapted features, weighted by the share of each window's heatmaps that are trusted."""
        trusted = gate.float().mean(dim=1)
        terms = []
        for adapter, (ours, theirs) in zip(self.adapters, self.config.stages, strict=True):
            maps = self._teacher_taps.maps[theirs]
            mean_over_windows = maps.unflatten(0, (-1, len(gate))).mean(dim=0)  # windows first, see taught()
            terms.append(feature_distance(adapter(self._taps.maps[ours]), mean_over_windows))
        return (torch.stack(terms).mean(dim=0) * trusted).mean()

    @torch.no_grad()
    def taught(self, pictures_BnCHW: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The teacher's heatmaps of the student's frames on the student's grid ``shape``; NaN where it has none."""
        teacher = self._teacher[0]
        entry = teacher.config
        frames = window_frames(self._student, entry)
        starts = window_starts(entry, frames)
        moving = _scaled(pictures_BnCHW, entry.input_wh[0] / self._student.input_wh[0])
        still, moving = moving[:, :-frames], moving[:, -frames:]
        windows = [moving[:, start : start + entry.frames_in] for start in starts]
        if entry.pictures_in > entry.frames_in:
            windows = [torch.cat([still, window], dim=1) for window in windows]
        drawn = teacher.probabilities(teacher(torch.cat(windows))).unflatten(0, (len(starts), -1))
        sums = drawn.new_zeros(shape[0], frames, *drawn.shape[-2:])
        counts = drawn.new_zeros(frames)
        for start, heatmaps in zip(starts, drawn, strict=True):
            stop = start + entry.frames_in
            sums[:, stop - entry.frames_out : stop] += heatmaps
            counts[stop - entry.frames_out : stop] += 1
        mean = (sums / counts[:, None, None])[:, -shape[1] :]  # 0 / 0 = NaN where no window draws
        if mean.shape == shape:
            return mean
        return F.interpolate(mean, size=shape[-2:], mode="bilinear", antialias=True)


def window_frames(student: WindowedConfig, teacher: WindowedConfig) -> int:
    """Frames of a training window: as many as the longer-sighted of the two sees; the student has the last of them."""
    return max(student.frames_in, teacher.frames_in)


def window_starts(teacher: WindowedConfig, frames: int) -> list[int]:
    """First frames of the teacher's windows: end to end from the last frame on, all that it can draw of ``frames``."""
    last, step = frames - teacher.frames_in, teacher.frames_out
    return sorted({*range(last, -1, -step), *([0] if teacher.frames_out == teacher.frames_in else [])})


def _scaled(pictures_BTCHW: torch.Tensor, scale: float) -> torch.Tensor:
    """Pictures at the teacher's scale, to whole multiples of SIDE."""
    height, width = pictures_BTCHW.shape[-2:]
    size = [max(SIDE, round(side * scale / SIDE) * SIDE) for side in (height, width)]
    if size == [height, width]:
        return pictures_BTCHW
    flat = F.interpolate(pictures_BTCHW.flatten(0, 1), size=size, mode="bilinear", antialias=True)
    return flat.unflatten(0, pictures_BTCHW.shape[:2])
