"""Labelled sequences for training: datasets with boxes; videos are decoded once, folders of pictures read in place."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from specktrack import telemetry
from specktrack.datasets import Dataset, DatasetVideo, load_dataset
from specktrack.errors import ConfigError
from specktrack.schema import Clip, VideoRef
from specktrack.storage import frame_names, open_store
from specktrack.training.pairs import BoxTrack
from specktrack.video import probe, read_clip

log = telemetry.get_logger()


def load_tracks(uris: tuple[str, ...], *, folder: Path) -> list[BoxTrack]:
    """The sequences with boxes of all datasets at ``uris``; videos are decoded into ``folder`` unless they are there.

    ConfigError for a dataset without boxes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tracks: list[BoxTrack] = []
    for uri in uris:
        dataset = load_dataset(uri)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            loading = [
                pool.submit(_track, video, dataset, folder) for video in dataset.card.videos if not video.labels_only
            ]
            found = [track for item in loading if (track := item.result()) is not None]
        if not found:
            raise ConfigError(
                "the dataset has no boxes", uri, remedy="template trackers learn from labels with w and h"
            )
        tracks += found
    return tracks


def _track(video: DatasetVideo, dataset: Dataset, folder: Path) -> BoxTrack | None:
    label = dataset.track(video)
    boxes = np.full((video.frames, 4), np.nan)
    boxes[label.frame] = np.concatenate([label.xy_px, label.wh_px], axis=1)
    if not np.isfinite(boxes).all(axis=1).any():
        return None
    if video.ref.uri.endswith("/"):
        return BoxTrack(video.ref.name, FolderPictures(video.ref), boxes)
    return BoxTrack(video.ref.name, _decoded(video.ref, folder), boxes)


class FolderPictures:
    """Numbered pictures, read when they are asked for."""

    def __init__(self, ref: VideoRef) -> None:
        self._store, self._names = open_store(ref.uri), frame_names(ref.uri)

    def __getitem__(self, frame: int) -> np.ndarray:
        with Image.open(io.BytesIO(self._store.get(self._names[frame]))) as picture:
            return np.asarray(picture.convert("RGB"))


def _decoded(ref: VideoRef, folder: Path) -> np.ndarray:
    """All frames at source size, memory-mapped."""
    path = folder / f"{ref.key}-source.npy"
    if not path.is_file():
        info = probe(ref)
        width, height = info.size_wh_px
        partial = path.with_suffix(f".{os.getpid()}.partial")
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(info.frames, height, width, 3))
        with read_clip(Clip(video=ref, start=0, stop=info.frames), info=info) as reader:
            for batch in reader:
                pixels[batch.frame[0] : batch.frame[-1] + 1] = batch.pixels
        pixels.flush()
        partial.replace(path)
        log.info("video cached", video=ref.name, frames=info.frames)
    return np.load(path, mmap_mode="r")
