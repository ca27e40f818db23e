"""Which clips of annotated videos a person should correct: those with the most doubtful rows, and different ones.

A row's score is the probability that it is right, so the doubt of a clip is the share of its rows that is likely to be
wrong. Clips are taken one after the other, each time the one whose doubt, weighed by how far it is from those taken
before, is largest (a weighted farthest-first walk): neither the hundredth serve nor an empty court. Each becomes a
short video of its own with its rows, which is what labelling tools work well on; what comes back belongs to it.
"""

# C clips, N frames, F features

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt
from pydantic_core import to_jsonable_python

from specktrack import telemetry
from specktrack.config import Config, VerbConfig
from specktrack.datasets.exports import PLAIN
from specktrack.datasets.row_files import check_frames
from specktrack.datasets.rows import read_rows
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport, trajectories
from specktrack.schema import Clip, Provenance, VideoRef
from specktrack.storage import open_store, stat
from specktrack.storage.places import Place
from specktrack.tracking.confirming import off_flight
from specktrack.video import VideoInfo
from specktrack.video.process import DecoderProcess
from specktrack.video.writer import write_copy

LOOKED_AT = 8
"""For every clip that is taken, so many of the most doubtful have their picture compared."""
GUESSED = 0.5
"""Doubt of a row that was filled in, lies off the flight around it, or has no score."""
OFF_FLIGHT_SHARE = 0.012
"""Of the picture's width: beyond it from its neighbours' cubic, and beyond a share of its way, a row is off flight."""
THUMB_WH = (16, 9)

log = telemetry.get_logger()


class DataPickConfig(VerbConfig):
    """Pick the clips most worth correcting, as separate videos with their rows."""

    verb: ClassVar[str] = "data_pick"

    annotations: Place
    """An output of annotate, or a .parquet, .csv or .jsonl file of rows."""
    output: Place
    """The folder or s3:// prefix for the clips, their rows (rows.parquet) and picked.json, which records where they
    were cut from."""
    clips: int = Field(default=20, ge=1)
    """Number of clips."""
    clip_s: float = Field(default=2.0, gt=0)
    """Seconds per clip; 20 clips of 2 s are about 1,000 frames."""
    stream: NonNegativeInt | None = None
    """Number of the video stream of the rows, if a file has several; by default the best."""


class Picked(Config):
    """One clip that was taken."""

    name: str
    """Its video below the output."""
    video: str
    """URI of the video that it was cut from."""
    start: int
    """Its first frame there."""
    stop: int
    doubt: float
    """Share of its rows that is likely to be wrong."""


class PickReport(Config):
    """The clips picked for a person to correct."""

    rows: str
    """The clips' rows, to export for a labelling tool."""
    frames: int
    doubt: float
    """Share of the rows of the taken clips that is likely to be wrong, ..."""
    doubt_of_all: float
    """... and of all rows."""
    clips: tuple[Picked, ...]


@dataclass(frozen=True)
class _Candidate:
    """A clip that could be taken."""

    clip: Clip
    info: VideoInfo
    doubt: float
    motion: np.ndarray
    """float [F]: place, speed and presence of the object, as shares."""


def data_pick(config: DataPickConfig) -> PickReport:
    """Take clips; ConfigError where the rows belong to other videos, MediaError for one that cannot be read."""
    found = trajectories(read_rows(config.annotations))
    if not found:
        raise ConfigError("no rows to pick clips from", config.annotations)
    with DecoderProcess() as decoder:
        candidates = [
            candidate
            for uri, tracks in found.items()
            for candidate in _candidates(stat(uri, stream=config.stream), tracks, config, decoder)
        ]
        taken = _taken(candidates, config.clips, decoder)
        clips, rows = _written(taken, found, config.output, decoder)
    store = open_store(config.output)
    store.put("rows.parquet", PLAIN["parquet"](rows))
    lengths = np.array([each.clip.stop - each.clip.start for each in candidates])
    report = PickReport(
        rows=store.uri_of("rows.parquet"),
        frames=sum(each.stop - each.start for each in clips),
        doubt=round(float(np.mean([each.doubt for each in clips])), 4),
        doubt_of_all=round(float(np.average([each.doubt for each in candidates], weights=lengths)), 4),
        clips=tuple(clips),
    )
    store.put("picked.json", json.dumps(to_jsonable_python(report), indent=1).encode())
    return report


def doubts(rows: Trajectory, width_px: int) -> np.ndarray:
    """The probability [N] that each row is wrong."""
    wrong = np.where(rows.present, 1 - rows.score, np.nan_to_num(rows.score))
    with np.errstate(invalid="ignore"):
        step = np.linalg.norm(np.diff(rows.xy_px, axis=0, prepend=np.nan), axis=1)
        off = off_flight(rows.xy_px) > np.maximum(OFF_FLIGHT_SHARE * width_px, 0.2 * step)
    filled = np.isin(rows.provenance, (Provenance.INTERPOLATED.value, Provenance.INPAINTED.value))
    return np.where(filled | off | np.isnan(wrong), np.fmax(wrong, GUESSED), wrong)


def _candidates(
    ref: VideoRef, tracks: dict[int, Trajectory], config: DataPickConfig, decoder: DecoderProcess
) -> Iterator[_Candidate]:
    """Clips of equal length, end to end, wherever object 0 has a row for each frame."""
    info = decoder.probe(ref)
    rows = tracks[min(tracks)]
    check_frames(rows.to_rows(ref.uri), info.frames, config.annotations)
    length = max(2, round(config.clip_s * info.fps))
    wrong = doubts(rows, info.width_px)
    breaks = np.flatnonzero(np.diff(rows.frame) != 1) + 1
    for run in np.split(np.arange(len(rows)), breaks):
        for part in np.array_split(run, max(1, round(len(run) / length))):
            if len(part):
                start, stop = int(rows.frame[part[0]]), int(rows.frame[part[-1]]) + 1
                clip = Clip(video=ref, start=start, stop=stop)
                yield _Candidate(clip, info, float(wrong[part].mean()), _motion(rows[part], info))


def _motion(rows: Trajectory, info: VideoInfo) -> np.ndarray:
    shares = rows.xy_px[rows.present] / np.array(info.size_wh_px)
    if not len(shares):
        return np.zeros(4)
    steps = np.linalg.norm(np.diff(shares, axis=0), axis=1)
    speed = min(1.0, 10 * float(np.median(steps))) if len(steps) else 0.0
    return np.array([*shares.mean(axis=0), speed, rows.present.mean()])


def _taken(candidates: Sequence[_Candidate], count: int, decoder: DecoderProcess) -> list[_Candidate]:
    """The clips to take, first the one of most doubt."""
    worst = sorted(candidates, key=lambda each: -each.doubt)[: LOOKED_AT * count]
    looks = np.stack([np.concatenate([each.motion, _thumb(each, decoder)]) for each in worst])
    doubt = np.array([each.doubt for each in worst])
    return [worst[i] for i in farthest_first(doubt, looks, count)]


def farthest_first(doubt: np.ndarray, looks_CF: np.ndarray, count: int) -> list[int]:
    """Indices of ``count`` clips: each time the largest of doubt [C] times distance to the nearest taken before."""
    near = np.full(len(doubt), np.inf)
    taken: list[int] = []
    for _ in range(min(count, len(doubt))):
        worth = doubt * np.minimum(near, 1e6) + 1e-12 * doubt  # alike clips by their doubt
        worth[taken] = -1.0
        taken.append(int(worth.argmax()))
        near = np.minimum(near, np.linalg.norm(looks_CF - looks_CF[taken[-1]], axis=1))
    return taken


def _thumb(candidate: _Candidate, decoder: DecoderProcess) -> np.ndarray:
    """The picture in the middle of a clip, tiny, float [F]; two of them are at most 1 apart."""
    middle = (candidate.clip.start + candidate.clip.stop) // 2
    clip = Clip(video=candidate.clip.video, start=middle, stop=middle + 1)
    view = Viewport(candidate.info.size_wh_px, THUMB_WH)
    with closing(decoder.read_clip(clip, info=candidate.info, viewport=view)) as batches:
        pixels = next(iter(batches)).pixels[0]
    return pixels.ravel() / 255 / pixels.size**0.5


def _written(
    taken: Sequence[_Candidate], found: dict[str, dict[int, Trajectory]], output: str, decoder: DecoderProcess
) -> tuple[list[Picked], pa.Table]:
    """Write each clip as a video of its own; what they are, and their rows on them."""
    store, clips, tables = open_store(output), [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, each in enumerate(taken, 1):
            clip = each.clip
            name = f"{number:03d}-{clip.video.name}-{clip.start:06d}.mp4"
            begin_s = _cut(clip, each.info, Path(folder, name), decoder)
            store.put_file(name, Path(folder, name))
            Path(folder, name).unlink()
            for number_of, track in found[clip.video.uri].items():
                rows = _shifted(track.between(clip.start, clip.stop), clip.start, begin_s)
                tables.append(rows.to_rows(store.uri_of(name), object_id=number_of))
            doubt = round(each.doubt, 4)
            clips.append(Picked(name=name, video=clip.video.uri, start=clip.start, stop=clip.stop, doubt=doubt))
            log.info("clip taken", clip=name, doubt=doubt)
    return clips, pa.concat_tables(tables).unify_dictionaries()


def _cut(clip: Clip, info: VideoInfo, path: Path, decoder: DecoderProcess) -> float:
    """Write the clip's pictures as a video that begins at 0; when it began in its own video."""
    begins: list[float] = []

    def pictures(batches: Iterator[FrameBatch]) -> Iterator[tuple[float, np.ndarray]]:
        for batch in batches:
            for pts_s, pixels in zip(batch.pts_s.tolist(), batch.pixels, strict=True):
                begins.append(pts_s)
                yield pts_s - begins[0], pixels

    whole = Viewport(info.size_wh_px, info.size_wh_px)
    lasting = info.model_copy(update={"duration_s": (clip.stop - clip.start) / info.fps})
    with closing(decoder.read_clip(clip, info=info, viewport=whole)) as batches:
        write_copy(path, pictures(batches), lasting, iter(()))
    return begins[0]


def _shifted(rows: Trajectory, start: int, begin_s: float) -> Trajectory:
    """Rows of a part of a video, on that part alone."""
    return Trajectory(
        rows.frame - start, rows.pts_s - begin_s, rows.xy_px, rows.score, rows.visibility, rows.provenance, rows.wh_px,
        rows.gap,
    )  # fmt: skip
