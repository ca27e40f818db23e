"""Mining hard samples as WASB does (BMVC 2023): frames that a model gets wrong are learned with softer labels.

Which frames these are is a function of the model and the videos, found once per node before training starts and kept
beside the decoded frames, so that a run that is resumed goes on with the same ones.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from specktrack import telemetry
from specktrack.frames import concat
from specktrack.models.checkpoint import Model
from specktrack.tracking import make_tracker
from specktrack.training.frame_cache import CachedVideo
from specktrack.training.validation import frames_of

TOLERANCE_PX = 4.0
"""Source px, as WASB counts."""

log = telemetry.get_logger()


def with_hard_frames(videos: list[CachedVideo], model: Model, device: torch.device, folder: Path) -> list[CachedVideo]:
    """The videos with the frames marked that ``model`` gets wrong; what it found is kept in ``folder``."""
    marked = []
    for video in videos:
        path = folder / f"{video.ref.key}-{model.sha256[:16]}.hard.npy"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, hard_frames(video, model, device))
            partial.replace(path)
        marked.append(replace(video, hard=np.load(path)))
    counts = {"hard": sum(int(video.hard.sum()) for video in marked if video.hard is not None)}
    log.info("hard frames mined", model=model.card.name, **counts, frames=sum(len(video.pixels) for video in videos))
    return marked


def hard_frames(video: CachedVideo, model: Model, device: torch.device) -> np.ndarray:
    """bool [N]: the model sees the object, and not where its label is."""
    session = make_tracker(model, device=str(device)).open()
    rows = concat([*(session.push(batch) for batch in frames_of(video)), session.finish()])
    distance = np.linalg.norm(rows[video.label.frame].xy_px - video.label.xy_px, axis=1)  # NaN where one is absent
    hard = np.zeros(len(video.pixels), bool)
    hard[video.label.frame[distance > TOLERANCE_PX]] = True
    return hard
