"""Crops of labelled objects for kind networks, cut once at source size and held in memory."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from specktrack import telemetry
from specktrack.datasets import DatasetVideo, load_dataset
from specktrack.errors import ConfigError, MediaError
from specktrack.frames import Trajectory, Viewport, trajectories
from specktrack.models.kinds.entries import KindNetConfig
from specktrack.schema import Clip
from specktrack.tracking.kinds import cut
from specktrack.training import omitted
from specktrack.training.kinds.samples import MARGIN, ObjectCrops
from specktrack.training.omitted import Omitted, usable
from specktrack.video.process import DecoderProcess

UNSEEN_WH = (16, 16)
"""Only luma is wanted of the frames."""
AT_ONCE = 2
"""Videos that are decoded side by side."""

log = telemetry.get_logger()


def load_crops(uris: Sequence[str], network: KindNetConfig) -> list[ObjectCrops]:
    """Crops of every object that is labelled with one of the network's kinds; ConfigError if there is none."""
    datasets = [load_dataset(uri) for uri in uris]
    videos = [
        (number, video, tracks)
        for number, dataset in enumerate(datasets)
        for video, tracks in _labelled(dataset.card.videos, trajectories(dataset.rows), network.kinds)
    ]
    if not videos:
        remedy = f"import labels with --kind, which is one of {', '.join(network.kinds)}"
        raise ConfigError("no label has one of the network's kinds", place=", ".join(uris), remedy=remedy)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        loaded = list(pool.map(lambda each: _crops_of(network, *each), videos))
    omitted.check((left_out for _, left_out in loaded), uris)
    return [crop for crops, _ in loaded for crop in crops]


def _labelled(
    videos: Sequence[DatasetVideo], rows: dict[str, dict[int, Trajectory]], kinds: tuple[str, ...]
) -> Iterator[tuple[DatasetVideo, list[Trajectory]]]:
    """Videos, each with the parts of its tracks that are labelled with one of the kinds."""
    for video in videos:
        tracks = [track[np.isin(track.kind, kinds) & track.present] for track in rows.get(video.ref.uri, {}).values()]
        if not video.labels_only and (tracks := [track for track in tracks if len(track)]):
            yield video, tracks


def _crops_of(
    network: KindNetConfig, dataset: int, video: DatasetVideo, tracks: list[Trajectory]
) -> tuple[list[ObjectCrops], Omitted]:
    """What one video shows: the objects, each with the kind that most of its labels name."""
    size, labels = (video.width_px, video.height_px), sum(map(len, tracks))
    side = round(network.input_wh[0] * (1 + 2 * MARGIN))
    pictures: list[list[np.ndarray]] = [[] for _ in tracks]
    parts = [usable(track, np.zeros(video.frames, bool), size) for track in tracks]
    tracks, left_out = [track for track, _ in parts], sum((part for _, part in parts), Omitted())
    clip = Clip(video=video.ref, start=0, stop=video.frames)
    try:
        with DecoderProcess() as decoder:
            info = decoder.probe(video.ref)
            with closing(decoder.read_clip(clip, info=info, viewport=Viewport(size, UNSEEN_WH, luma=True))) as batches:
                for batch in batches:
                    assert batch.luma is not None
                    for track, mine in zip(tracks, pictures, strict=True):
                        now = track.between(int(batch.frame[0]), int(batch.frame[-1]) + 1)
                        mine += [
                            cut(batch.luma[frame - batch.frame[0]], xy_px, side)
                            for frame, xy_px in zip(now.frame, now.xy_px, strict=True)
                        ]
    except MediaError as error:
        log.warning("video left out", video=video.ref.name, reason=str(error))
        return [], Omitted(labels, missing=labels)
    return [
        ObjectCrops(network.kinds.index(_commonest(track.kind)), dataset, np.stack(mine))
        for track, mine in zip(tracks, pictures, strict=True)
        if mine
    ], left_out


def _commonest(words: np.ndarray) -> str:
    found, counts = np.unique(words.astype(str), return_counts=True)
    return str(found[counts.argmax()])
