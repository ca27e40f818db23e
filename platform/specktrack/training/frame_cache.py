"""Training videos at network size with their labels."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from specktrack import telemetry
from specktrack.datasets import Dataset, DatasetVideo, load_dataset
from specktrack.errors import MediaError
from specktrack.frames import Trajectory, Viewport
from specktrack.preparing.prepared import Prepared
from specktrack.sampling import LabelledVideo
from specktrack.schema import VideoRef, Visibility
from specktrack.training import omitted
from specktrack.training.footage import Pixels, Reading, prepared_at
from specktrack.training.omitted import Omitted, usable

log = telemetry.get_logger()


@dataclass(frozen=True)
class CachedVideo:
    """One labelled video."""

    ref: VideoRef
    viewport: Viewport
    pixels: Pixels
    """uint8 [N, H, W, 3] at network size: a memory map that all ranks of a node share, or on the GPU, or in packs."""
    label: Trajectory
    """In source px; frames without a row are not in it."""
    sampling: LabelledVideo
    background: torch.Tensor | None = None
    """uint8 [H, W, 3]: the median picture, for networks that want one."""
    hard: np.ndarray | None = None
    """bool [N]: frames with softer labels, where they were mined."""

    def to(self, device: torch.device) -> "CachedVideo":
        """With the pixels on ``device``; a GPU holds hours of training video at network size."""
        if device.type != "cuda" or not isinstance(self.pixels, torch.Tensor):
            return self
        background = None if self.background is None else self.background.to(device)
        return replace(self, pixels=self.pixels.to(device), background=background)


def load_videos(
    uris: tuple[str, ...],
    *,
    input_wh: tuple[int, int],
    reading: Reading,
    background: bool = False,
    draw_occluded: bool = False,
) -> list[CachedVideo]:
    """All videos of the datasets at ``uris``, joined with their labels.

    Objects labelled as occluded count as absent in ``sampling`` unless they are to be drawn.
    Labelled frames that cannot be used are left out and counted; ConfigError if they are many.
    """
    reading.folder.mkdir(parents=True, exist_ok=True)
    datasets = [load_dataset(uri) for uri in uris]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loading = [
            pool.submit(_load, video, dataset, prepared_at(uri), number, input_wh, reading, background, draw_occluded)
            for number, (uri, dataset) in enumerate(zip(uris, datasets, strict=True))
            for video in dataset.card.videos
            if not video.labels_only
        ]
        loaded = [video.result() for video in loading]
    omitted.check((left_out for _, left_out in loaded), uris)
    return [video for video, _ in loaded if video is not None]


def _load(
    video: DatasetVideo,
    dataset: Dataset,
    prepared: Prepared | None,
    number: int,
    input_wh: tuple[int, int],
    reading: Reading,
    background: bool,
    draw_occluded: bool,
) -> tuple[CachedVideo | None, Omitted]:
    ref, label = video.ref, dataset.track(video)
    viewport = Viewport.fit((video.width_px, video.height_px), input_wh)
    try:
        found = reading.footage(video, prepared, input_wh=input_wh, background=background)
    except MediaError as error:
        log.warning("video skipped", video=ref.name, reason=str(error))
        found = None
    if found is None:
        return None, Omitted(len(label), missing=len(label))
    frames = len(found.pixels)
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
        motion=found.motion,
        wh_net=viewport.network_wh_px,
        size_net=size_net,
        dataset=number,
    )
    return CachedVideo(ref, viewport, found.pixels, label, sampling, found.background), left_out
