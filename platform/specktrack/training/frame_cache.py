"""Training videos at network size with their labels, in memory that all ranks of a node share."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from specktrack import telemetry
from specktrack.datasets import Dataset, DatasetVideo, load_dataset
from specktrack.errors import MediaError
from specktrack.frames import Trajectory, Viewport
from specktrack.sampling import LabelledVideo, motion_cells
from specktrack.schema import VideoRef, Visibility
from specktrack.tracking.windowed.background import median_picture, stepped
from specktrack.training import omitted
from specktrack.training.decoded import decoded
from specktrack.training.omitted import Omitted, usable

log = telemetry.get_logger()


@dataclass(frozen=True)
class CachedVideo:
    """One labelled video in memory."""

    ref: VideoRef
    viewport: Viewport
    pixels: torch.Tensor
    """uint8 [N, H, W, 3] at network size, backed by a memory map (or on the GPU)."""
    label: Trajectory
    """In source px; frames without a row are not in it."""
    sampling: LabelledVideo
    background: torch.Tensor | None = None
    """uint8 [H, W, 3]: the median picture, for networks that want one."""
    hard: np.ndarray | None = None
    """bool [N]: frames with softer labels, where they were mined."""

    def to(self, device: torch.device) -> "CachedVideo":
        """With the pixels on ``device``; a GPU holds hours of training video at network size."""
        if device.type != "cuda":
            return self
        background = None if self.background is None else self.background.to(device)
        return replace(self, pixels=self.pixels.to(device), background=background)


def load_videos(
    uris: tuple[str, ...],
    *,
    input_wh: tuple[int, int],
    folder: Path,
    background: bool = False,
    draw_occluded: bool = False,
) -> list[CachedVideo]:
    """Decode (or find decoded in ``folder``) all videos of the datasets at ``uris``, joined with their labels.

    Objects labelled as occluded count as absent in ``sampling`` unless they are to be drawn.
    Labelled frames that cannot be used are left out and counted; ConfigError if they are many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    datasets = [load_dataset(uri) for uri in uris]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loading = [
            pool.submit(_load, video, dataset, number, input_wh, folder, background, draw_occluded)
            for number, dataset in enumerate(datasets)
            for video in dataset.card.videos
            if not video.labels_only
        ]
        loaded = [video.result() for video in loading]
    omitted.check((left_out for _, left_out in loaded), uris)
    return [video for video, _ in loaded if video is not None]


def _load(
    video: DatasetVideo,
    dataset: Dataset,
    number: int,
    input_wh: tuple[int, int],
    folder: Path,
    background: bool,
    draw_occluded: bool,
) -> tuple[CachedVideo | None, Omitted]:
    ref, label = video.ref, dataset.track(video)
    viewport = Viewport.fit((video.width_px, video.height_px), input_wh)
    try:
        found = decoded(ref, folder, viewport=viewport)
    except MediaError as error:
        log.warning("video left out", video=ref.name, reason=str(error))
        return None, Omitted(len(label), missing=len(label))
    pixels, frames = found.pixels, len(found.pixels)
    label, left_out = usable(label, found.missing, viewport.source_wh_px)
    xy_px = np.full((frames, 2), np.nan, np.float32)
    seen = draw_occluded | (label.visibility != Visibility.OCCLUDED.value)  # else there is nothing to see, or to learn
    xy_px[label.frame[seen]] = label.xy_px[seen]
    size_net = np.full(frames, np.nan, np.float32)
    size_net[label.frame] = np.sqrt(label.wh_px.prod(axis=1)) * (viewport.network_wh_px[0] / viewport.source_wh_px[0])
    labelled = np.zeros(frames, bool)
    labelled[label.frame] = True
    sampling = LabelledVideo(
        xy_net=viewport.to_network(xy_px).astype(np.float32),
        labelled=labelled,
        motion=motion_cells(pixels),
        wh_net=viewport.network_wh_px,
        size_net=size_net,
        dataset=number,
    )
    still = torch.from_numpy(median_picture(pixels[:: stepped(frames).step])) if background else None
    return CachedVideo(ref, viewport, torch.from_numpy(pixels), label, sampling, still), left_out
