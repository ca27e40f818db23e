"""The mistakes of an earlier model on the training videos: frames that it just misses, and false positives (decoys).

Frames just missed are learned with softer labels, as in WASB (BMVC 2023); crops are placed more often on decoys. Both
are a function of the model, the videos and their labels. They are computed once per node before training starts and
kept with the decoded frames, so a resumed run uses the same ones.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specktrack import telemetry
from specktrack.config import sha_of
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.storage.files import settle
from specktrack.tracking.tracker import open_session
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.validation import followed, frames_of

TOLERANCE_PX = 4.0
"""Source px, as WASB counts."""
NEAR_NET_PX = 10.0
"""Network px: a position further away is no near miss, and softer labels would not bring it closer. The public program
means the same but compares the squared distance in source px, which leaves only those of 4 to 5 px."""
FAR_NET_PX = 20.0
"""Network px: a position further from the object than this is something else."""
GAP_FRAMES = 8
"""Frames without a label between labels in which the object is still taken to be there."""

log = telemetry.get_logger()


def with_hard_frames(videos: list[CachedVideo], model: Model, device: torch.device, folder: Path) -> list[CachedVideo]:
    """The videos with the frames marked that ``model`` just misses; what it found is kept in ``folder``."""
    marked = [replace(video, hard=_kept(hard_frames, video, model, device, folder)) for video in videos]
    counts = {"hard": sum(int(video.hard.sum()) for video in marked if video.hard is not None)}
    log.info("hard frames mined", model=model.card.name, **counts, frames=sum(len(video.pixels) for video in videos))
    return marked


def with_decoys(videos: list[CachedVideo], model: Model, device: torch.device, folder: Path) -> list[CachedVideo]:
    """The videos with what ``model`` takes for the object and is not; what it found is kept in ``folder``."""
    found = [_kept(decoys, video, model, device, folder) for video in videos]
    counts = {"decoys": sum(int(np.isfinite(decoy_net[:, 0]).sum()) for decoy_net in found)}
    log.info("decoys mined", model=model.card.name, **counts, frames=sum(len(video.pixels) for video in videos))
    return [
        replace(video, sampling=replace(video.sampling, decoy_net=decoy_net))
        for video, decoy_net in zip(videos, found, strict=True)
    ]


Find = Callable[[CachedVideo, Model, torch.device], np.ndarray]


def _kept(find: Find, video: CachedVideo, model: Model, device: torch.device, folder: Path) -> np.ndarray:
    """The result of ``find`` for the video, from ``folder`` if it was computed before."""
    path = folder / f"{video.ref.key}-{_decisive(video, model)}.{find.__name__}.npy"
    if not path.is_file():
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, find(video, model, device))
        settle(partial, path)
    return np.asarray(np.load(path))


def _decisive(video: CachedVideo, model: Model) -> str:
    """Hash of everything beside the video's bytes that is decisive for what is found."""
    labels = hashlib.sha256(video.label.frame.tobytes() + video.label.xy_px.tobytes()).hexdigest()
    config = model.config.model_dump(mode="json")  # of the model, beside its weights
    distances = (TOLERANCE_PX, NEAR_NET_PX, FAR_NET_PX, GAP_FRAMES)
    return sha_of([model.sha256, config, labels, video.viewport.network_wh_px, *distances])[:16]


def hard_frames(video: CachedVideo, model: Model, device: torch.device) -> np.ndarray:
    """bool [N]: the model sees the object near its label, and yet too far from it. Read as its paper reads it."""
    decoding = _windowed(model).published_decoding
    off_px = _seen(video, model, device, overlap=1, decoding=decoding) - video.label.xy_px  # NaN where one is absent
    off_net = off_px * np.array(video.viewport.network_wh_px) / video.viewport.source_wh_px
    missed = (np.linalg.norm(off_px, axis=1) > TOLERANCE_PX) & (np.linalg.norm(off_net, axis=1) < NEAR_NET_PX)
    hard = np.zeros(len(video.pixels), bool)
    hard[video.label.frame[missed]] = True
    return hard


def decoys(video: CachedVideo, model: Model, device: torch.device) -> np.ndarray:
    """float32 [N, 2], network px: what the model takes for the object far from where it is, NaN where nothing.

    In short gaps of the labels the object is where it flies on: its absence there is as often the label's fault.
    """
    _windowed(model)
    seen_net = video.viewport.to_network(_seen(video, model, device, overlap=1))
    there_net = across_gaps(video.sampling.xy_net[video.label.frame], video.label.frame)
    far = ~(np.linalg.norm(seen_net - there_net, axis=1) <= FAR_NET_PX) & np.isfinite(seen_net[:, 0])
    found = np.full((len(video.pixels), 2), np.nan, np.float32)
    found[video.label.frame[far]] = seen_net[far]
    return found


def across_gaps(xy: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """``xy`` [N, 2] of the frames [N] with gaps of up to ``GAP_FRAMES`` filled along a straight line."""
    known = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(known):
        return xy
    after = np.searchsorted(frame[known], frame).clip(0, len(known) - 1)
    gap = frame[known[after]] - frame[known[(after - 1).clip(0)]] - 1
    line = np.stack([np.interp(frame, frame[known], axis[known]) for axis in xy.T], axis=1)
    inside = (frame >= frame[known[0]]) & (frame <= frame[known[-1]]) & (gap <= GAP_FRAMES)
    return np.where(np.isfinite(xy), xy, np.where(inside[:, None], line, np.nan))


def _windowed(model: Model) -> WindowedConfig:
    if not isinstance(model.config, WindowedConfig):
        raise ConfigError(f"a {model.config.family} network has no windows to mine", model.card.name)
    return model.config


def _seen(video: CachedVideo, model: Model, device: torch.device, **reading: Any) -> np.ndarray:
    """float32 [labelled frames, 2], source px: where the model sees the object, NaN where it does not."""
    session = open_session(model, device=str(device), **reading)
    return followed(session, frames_of(video))[video.label.frame].xy_px
