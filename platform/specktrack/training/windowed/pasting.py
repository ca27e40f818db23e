"""Copy-paste of real objects: cut from one window and pasted into a window that shows none.

Simple copy-paste (Ghiasi et al., CVPR 2021), adapted to tiny objects in video: the cutout is the difference to the
scene behind the object, so it needs no mask, and it keeps the blur and the path of the object's motion.
"""

# T frames in window, S side of a patch

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from specktrack.sampling import Sample, WindowSampler
from specktrack.training.frame_cache import CachedVideo

RADIUS_PX = 20
"""Half a patch's side, network px: room for a streak of 40 px."""
AROUND = np.arange(-40, 41, 8)
"""Frames before and after, of which the scene behind an object is the median."""
FAINT, CLEAR = 12.0, 36.0
"""Grey levels beside the scene at which a pixel begins to belong to the object, and at which it is all object."""
POOL = 256
"""Windows of a dataset that objects are cut out of, drawn once: reading many frames for each would take longer than a
step does."""
TRIES = 4
"""Windows that are looked at for one that can be cut out; many objects fly before something that moves."""
AT_REST = 0.2
"""Share of cutouts that stay where they are: one picture of the object in all frames."""


@dataclass(frozen=True)
class Cutout:
    """One object as it is seen in the frames of a window."""

    light: np.ndarray
    """float16 [T, S, S, 3]: what the object adds to a pixel, without the part of the scene that shines through."""
    alpha: np.ndarray
    """float16 [T, S, S, 1] in [0, 1]: how much of a pixel is the object."""
    corner: np.ndarray
    """int64 [T, 2]: left and top of each patch, px of the video that it is from."""
    xy_net: np.ndarray
    """float32 [T, 2]: the object's positions there."""


class Pasting:
    """Lays objects into windows that show none; what it draws is a function of the sample's number."""

    def __init__(self, videos: list[CachedVideo], sampler: WindowSampler) -> None:
        self._videos, self._sampler = videos, sampler
        dataset = np.array([video.sampling.dataset for video in videos])[sampler.windows[:, 0]]
        draw = np.random.default_rng([sampler.seed, 5])
        self._pools = {number: draw.permutation(np.flatnonzero(dataset == number))[:POOL] for number in set(dataset)}
        self._cutouts: dict[tuple[int, bool], Cutout | None] = {}

    def onto(self, cut: torch.Tensor, sample: Sample, corner: tuple[int, int]) -> tuple[torch.Tensor, np.ndarray]:
        """``cut`` uint8 [T, h, w, 3] at ``corner`` of its video with an object in it, and its positions [T, 2] there.

        As it was, and NaN, if this sample gets none or none could be cut out.
        """
        draw = np.random.default_rng([self._sampler.seed, 4, sample.number])
        as_it_was = cut, np.full((len(cut), 2), np.nan, np.float32)
        if draw.random() >= self._sampler.config.paste:
            return as_it_was
        pool = self._pools[self._videos[sample.video].sampling.dataset]
        for window in draw.choice(pool, TRIES):
            if (cutout := self._cutout(int(window), at_rest=bool(draw.random() < AT_REST))) is not None:
                return _laid(cut, cutout, sample, corner, draw)
        return as_it_was

    def _cutout(self, window: int, *, at_rest: bool) -> Cutout | None:
        """The object of a window, from memory if it was cut out before."""
        key = window, at_rest
        if key not in self._cutouts:
            video, start = self._sampler.windows[window]
            frames = start + np.arange(self._sampler.frames_in) * (not at_rest)
            self._cutouts[key] = cut_out(self._videos[video], frames)
        return self._cutouts[key]


def cut_out(video: CachedVideo, frames: np.ndarray) -> Cutout | None:
    """The object in ``frames`` of ``video``; None where it is not seen in all of them, or not alone."""
    xy_net = video.sampling.xy_net[frames]
    height, width = video.pixels.shape[1:3]
    if np.isnan(xy_net).any():
        return None
    corner = np.rint(xy_net).astype(int) - RADIUS_PX
    side = 2 * RADIUS_PX + 1
    if corner.min() < 0 or (corner + side > (width, height)).any():
        return None
    lights, alphas = [], []
    for frame, (left, top) in zip(frames.tolist(), corner.tolist(), strict=True):
        place = slice(top, top + side), slice(left, left + side)
        around = torch.from_numpy(frame + AROUND)
        around = around[(around >= 0) & (around < len(video.pixels))]
        scene = np.median(video.pixels[around, *place].cpu().numpy(), axis=0)
        patch = video.pixels[frame][place].cpu().numpy().astype(np.float32)
        alpha = _alpha(np.abs(patch - scene).max(axis=-1))
        if alpha is None:
            return None
        lights.append(np.where(alpha > 0, patch - (1 - alpha) * scene, 0))
        alphas.append(alpha)
    return Cutout(np.stack(lights).astype(np.float16), np.stack(alphas).astype(np.float16), corner, xy_net)


def _alpha(difference: np.ndarray) -> np.ndarray | None:
    """How much of each pixel is the object in the middle, [S, S, 1]; None if there is none, or it meets the border."""
    alpha = np.clip((difference - FAINT) / (CLEAR - FAINT), 0, 1)
    regions, _ = ndimage.label(ndimage.binary_dilation(alpha > 0.2))
    middle = regions[RADIUS_PX - 3 : RADIUS_PX + 4, RADIUS_PX - 3 : RADIUS_PX + 4]
    if not middle.any():
        return None
    object_ = regions == np.bincount(middle[middle > 0]).argmax()
    inside = np.zeros_like(object_)
    inside[1:-1, 1:-1] = True
    if (object_ & ~inside).any() or (alpha * object_).sum() < 3:
        return None
    return ndimage.uniform_filter((alpha * object_).astype(np.float32), 3)[..., None]


def _laid(
    cut: torch.Tensor, cutout: Cutout, sample: Sample, corner: tuple[int, int], draw: np.random.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """``cut`` with the cutout somewhere in the sample's crop, and its positions in px of the sample's video."""
    x0, y0, width, height = sample.crop
    middle = cutout.xy_net[len(cutout.xy_net) // 2]
    shift = np.rint(draw.uniform((x0, y0), (x0 + width, y0 + height)) - middle).astype(int)
    gain = draw.uniform(0.8, 1.2)
    pixels = cut.cpu().numpy().copy()
    size_hw = np.array(pixels.shape[1:3])
    side = cutout.alpha.shape[1]
    for picture, light, alpha, place in zip(pixels, cutout.light, cutout.alpha, cutout.corner, strict=True):
        top, left = (place + shift - corner)[::-1]
        first = np.maximum((0, 0), (-top, -left))
        last = np.minimum(side, size_hw - (top, left))
        if (last <= first).any():
            continue
        inner = slice(first[0], last[0]), slice(first[1], last[1])
        target = picture[top + first[0] : top + last[0], left + first[1] : left + last[1]]
        target[...] = np.rint(np.clip(light[inner] * gain + (1 - alpha[inner]) * target, 0, 255))
    return torch.from_numpy(pixels).to(cut.device), cutout.xy_net + shift
