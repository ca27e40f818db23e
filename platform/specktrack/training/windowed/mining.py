"""Mining hard samples as WASB does (BMVC 2023): frames that a model just misses are learned with softer labels.

Which frames these are is a function of the model, the videos and their labels, found once per node before training
starts and kept beside the decoded frames, so that a run that is resumed goes on with the same ones.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from specktrack import telemetry
from specktrack.config import sha_of
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.tracking.tracker import open_session
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.validation import followed, frames_of

TOLERANCE_PX = 4.0
"""Source px, as WASB counts."""
NEAR_NET_PX = 10.0
"""Network px: a position further away is no near miss, and softer labels would not bring it closer. The public program
means the same but compares the squared distance in source px, which leaves only those of 4 to 5 px."""

log = telemetry.get_logger()


def with_hard_frames(videos: list[CachedVideo], model: Model, device: torch.device, folder: Path) -> list[CachedVideo]:
    """The videos with the frames marked that ``model`` just misses; what it found is kept in ``folder``."""
    marked = []
    for video in videos:
        path = folder / f"{video.ref.key}-{_decisive(video, model)}.hard.npy"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, hard_frames(video, model, device))
            partial.replace(path)
        marked.append(replace(video, hard=np.load(path)))
    counts = {"hard": sum(int(video.hard.sum()) for video in marked if video.hard is not None)}
    log.info("hard frames mined", model=model.card.name, **counts, frames=sum(len(video.pixels) for video in videos))
    return marked


def _decisive(video: CachedVideo, model: Model) -> str:
    """Hash of everything beside the video's bytes that its hard frames depend on."""
    labels = hashlib.sha256(video.label.frame.tobytes() + video.label.xy_px.tobytes()).hexdigest()
    config = model.config.model_dump(mode="json")  # of the model, beside its weights
    return sha_of([model.sha256, config, labels, video.viewport.network_wh_px, TOLERANCE_PX, NEAR_NET_PX])[:16]


def hard_frames(video: CachedVideo, model: Model, device: torch.device) -> np.ndarray:
    """bool [N]: the model sees the object near its label, and yet too far from it. Read as its paper reads it."""
    if not isinstance(model.config, WindowedConfig):
        raise ConfigError(f"a {model.config.family} network sees no windows to mine", model.card.name)
    session = open_session(model, device=str(device), overlap=1, decoding=model.config.published_decoding)
    rows = followed(session, frames_of(video))
    off_px = rows[video.label.frame].xy_px - video.label.xy_px  # NaN where one is absent
    off_net = off_px * np.array(video.viewport.network_wh_px) / video.viewport.source_wh_px
    missed = (np.linalg.norm(off_px, axis=1) > TOLERANCE_PX) & (np.linalg.norm(off_net, axis=1) < NEAR_NET_PX)
    hard = np.zeros(len(video.pixels), bool)
    hard[video.label.frame[missed]] = True
    return hard
