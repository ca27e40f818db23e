"""Labelled sequences for training: datasets with boxes; videos are decoded once, folders of pictures read in place."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from specktrack import telemetry
from specktrack.datasets import Dataset, DatasetVideo, load_dataset
from specktrack.errors import ConfigError, MediaError
from specktrack.frames import FrameBatch, Viewport
from specktrack.preparing.prepared import Prepared
from specktrack.schema import VideoRef
from specktrack.storage import frame_names, open_store
from specktrack.training import omitted
from specktrack.training.decoded import decoded, unpacked
from specktrack.training.footage import Reading, prepared_at
from specktrack.training.omitted import Omitted, usable
from specktrack.training.template.pairs import BoxTrack, Pictures
from specktrack.training.validation import AT_ONCE
from specktrack.video.pictures import decode_picture

log = telemetry.get_logger()


def load_tracks(uris: tuple[str, ...], *, reading: Reading) -> list[BoxTrack]:
    """The sequences with boxes of all datasets at ``uris``; those of videos are decoded, unless they are prepared.

    ConfigError for a dataset without boxes.
    """
    reading.folder.mkdir(parents=True, exist_ok=True)
    tracks: list[BoxTrack] = []
    left_out = []
    for uri in uris:
        dataset = load_dataset(uri)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            loading = [
                pool.submit(_track, video, dataset, prepared_at(uri), reading)
                for video in dataset.card.videos
                if not video.labels_only
            ]
            loaded = [item.result() for item in loading]
        found = [replace(track, dataset=uri) for track, _ in loaded if track is not None]
        if not found:
            raise ConfigError("the dataset has no boxes", uri, remedy="template trackers need labels with w and h")
        tracks += found
        left_out += [part for _, part in loaded]
    omitted.check(left_out, uris)
    return tracks


def _track(
    video: DatasetVideo, dataset: Dataset, prepared: Prepared | None, reading: Reading
) -> tuple[BoxTrack | None, Omitted]:
    label = dataset.track(video)
    if not np.isfinite(label.wh_px).all(axis=1).any():
        return None, Omitted()
    try:
        found = _pictures(video, prepared, reading)
    except MediaError as error:
        log.warning("video skipped", video=video.ref.name, reason=str(error))
        found = None
    if found is None:
        return None, Omitted(len(label), missing=len(label))
    pictures, missing = found
    label, left_out = usable(label, missing, (video.width_px, video.height_px))
    boxes = np.full((len(missing), 4), np.nan)
    boxes[label.frame] = np.concatenate([label.xy_px, label.wh_px], axis=1)
    return BoxTrack(video.ref.name, pictures, boxes), left_out


def _pictures(video: DatasetVideo, prepared: Prepared | None, reading: Reading) -> tuple[Pictures, np.ndarray] | None:
    """The frames and which of them are missing; None where the video could not be prepared."""
    if prepared is not None:
        frames = reading.packed(video, prepared, input_wh=None)
        if frames is None or reading.streamed:
            return None if frames is None else (frames, frames.missing())
        found = unpacked(video.ref, frames, reading.folder, pictures=prepared.settings["pictures"])
        return found.pixels, found.missing
    if video.ref.uri.endswith("/"):
        folder = FolderPictures(video.ref)
        return folder, np.zeros(len(folder), bool)
    found = decoded(video.ref, reading.folder)
    return found.pixels, found.missing


def frames_of(track: BoxTrack) -> Iterator[FrameBatch]:
    """The whole sequence, a few frames at a time; presentation times do not matter here."""
    for start in range(0, len(track.boxes), AT_ONCE):
        frame = np.arange(start, min(start + AT_ONCE, len(track.boxes)))
        pixels = np.stack([track.pictures[i] for i in frame.tolist()])
        size = (pixels.shape[2], pixels.shape[1])
        yield FrameBatch(pixels, frame, frame / 30, Viewport(size, size))


class FolderPictures:
    """Numbered pictures, read when they are asked for; MediaError for one that cannot be read."""

    def __init__(self, ref: VideoRef) -> None:
        self._store, self._names = open_store(ref.uri), frame_names(ref.uri)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, frame: int) -> np.ndarray:
        name = self._names[frame]
        try:
            return decode_picture(self._store.get(name))[1]
        except MediaError as error:
            raise MediaError(error.reason, error.what, error.value, self._store.uri_of(name), error.remedy) from None
