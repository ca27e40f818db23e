"""One clip: another process decodes ahead, the session follows, and the rows of [start, stop) are kept."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from specktrack.annotating.background import Backgrounds
from specktrack.annotating.prompts import prompts_of
from specktrack.errors import MediaError, QuarantineReason
from specktrack.frames import FrameBatch, Trajectory, concat
from specktrack.models.checkpoint import Model
from specktrack.models.zoo import DEFAULT_MODEL
from specktrack.schema import ROWS, Clip
from specktrack.storage import expand_sources
from specktrack.tracking.both_ways import Mirror, goes_back, joined
from specktrack.tracking.prompts import check_prompt
from specktrack.tracking.tracker import Tracker, tracker_of
from specktrack.tracking.windowed.interleaved import at_rate
from specktrack.video import VideoInfo
from specktrack.video.process import DecoderProcess

FRAMES_BACK = 32
"""Read at once where a video is followed backwards."""
BATCHES_AHEAD = 2
"""Decoded and waiting: 2 x 32 frames at 512x288 are 28 MB."""


@dataclass
class ClipResult:
    """Result for one clip: all its rows, or the rows before ``error``."""

    trajectory: Trajectory
    decode_errors: int
    error: MediaError | None
    seconds: dict[str, float] = field(default_factory=dict)
    """Work time: ``decode`` (beside the rest, in a process of its own), ``track``; ``starve`` is waiting for frames."""


def annotate_clip(
    tracker: Tracker,
    clip: Clip,
    info: VideoInfo,
    decoder: DecoderProcess,
    *,
    backgrounds: Backgrounds | None = None,
) -> ClipResult:
    """Follow the objects through one clip, from prompts in both directions; a fault of the media ends up in the result,
    with the rows before it.

    ``backgrounds`` remembers a video's background from clip to clip, for trackers that want one.
    """
    tracker = at_rate(tracker, info.fps)
    viewport = tracker.viewport(info.size_wh_px)
    session, parts, error = tracker.open(clip.prompts), [], None
    backwards = Trajectory.empty()
    seconds = {"decode": 0.0, "track": 0.0, "starve": 0.0}
    reader = background = None

    def read(clip: Clip, info: VideoInfo) -> Iterator[FrameBatch]:
        with closing(decoder.read_clip(clip, info=info, viewport=viewport)) as whole:
            yield from _ahead(whole, decoder, seconds)

    try:
        if tracker.wants_background:
            still = backgrounds or Backgrounds()
            background = still.of(clip.video, viewport.network_wh_px, probe=decoder.probe, read=read)
        reader = decoder.read_clip(clip, info=info, viewport=viewport)
        for batch in _ahead(reader, decoder, seconds):
            started = time.perf_counter()
            parts.append(session.push(replace(batch, background=background)))
            seconds["track"] += time.perf_counter() - started
        if goes_back(clip.prompts, clip.start):
            backwards = _followed_back(tracker, clip, info, read)
    except MediaError as fault:
        error = fault
    finally:
        if reader is not None:
            reader.close()
    started = time.perf_counter()
    parts.append(session.finish())
    seconds["track"] += time.perf_counter() - started
    trajectory = concat(parts).between(clip.start, clip.stop)
    if len(backwards):
        trajectory = joined(trajectory, backwards, clip.prompts)
    if error is not None and error.reason is QuarantineReason.CHANGED:
        trajectory = Trajectory.empty()  # nobody knows of which version its rows are
    if error is None and trajectory.frames != clip.stop - clip.start:
        what = f"{trajectory.frames} of {clip.stop - clip.start} frames came"
        error = MediaError(QuarantineReason.TRUNCATED, what, place=clip.video.uri)
    return ClipResult(trajectory, reader.decode_errors if reader else 0, error, seconds)


def _followed_back(
    tracker: Tracker, clip: Clip, info: VideoInfo, read: Callable[[Clip, VideoInfo], Iterator[FrameBatch]]
) -> Trajectory:
    """The rows from a clip's last prompt back to its start, from pictures that are read and shown last first."""
    last = max(prompt.frame for prompt in clip.prompts)
    mirror, session, parts = None, None, []
    for stop in range(last + 1, clip.start, -FRAMES_BACK):
        part = Clip(video=clip.video, start=max(clip.start, stop - FRAMES_BACK), stop=stop)
        for batch in reversed(list(read(part, info))):
            if mirror is None or session is None:
                mirror = Mirror(last, float(batch.pts_s[-1]))
                session = tracker.open(mirror.prompts(clip.prompts))
            parts.append(session.push(mirror.batch(batch)))
    assert mirror is not None and session is not None
    return mirror.rows(concat([*parts, session.finish()]))


def annotate_here(
    sources: str | Path | Sequence[str | Path],
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    prompt: str | Sequence[str] | None = None,
    stream: int | None = None,
    device: str | None = None,
    **settings: Any,
) -> pa.Table:
    """The rows of one or more videos, annotated in this process without a cluster; the row schema, ordered by video.

    ``sources``, ``prompt``, ``stream`` and the ``settings`` (overlap, repair and the other fields of ``Following``) are
    those of ``specktrack annotate``. Raises ConfigError for a setting that there is not or that the model cannot use,
    MediaError for a video that cannot be read to its end.
    """
    named = [sources] if isinstance(sources, str | Path) else sources
    tracker = tracker_of(model, device=device, prompted=bool(prompt), **settings)
    return annotate_with(tracker, [str(source) for source in named], prompt=prompt, stream=stream)


def annotate_with(
    tracker: Tracker, sources: Sequence[str], *, prompt: str | Sequence[str] | None = None, stream: int | None = None
) -> pa.Table:
    """The rows of ``annotate_here``, by a tracker that is there already."""
    tables = [ROWS.empty_table()]
    refs = expand_sources(sources, stream=stream)
    prompts = prompts_of([prompt] if isinstance(prompt, str) else prompt or (), refs)
    with _one_core_for_decoding(), DecoderProcess() as decoder:
        for ref in refs:
            info = decoder.probe(ref)
            for told in prompts.get(ref.uri, ()):
                check_prompt(told, info.frames, info.size_wh_px, ref.uri)
            clip = Clip(video=ref, start=0, stop=info.frames, prompts=prompts.get(ref.uri, ()))
            result = annotate_clip(tracker, clip, info, decoder)
            if result.error is not None:
                raise result.error
            tables.append(result.trajectory.to_rows(ref.uri))
    return pa.concat_tables(tables).unify_dictionaries()


@contextmanager
def _one_core_for_decoding() -> Iterator[None]:
    """torch's threads wait by spinning: one more than there are cores, and everything runs ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _ahead(reader: Iterator[FrameBatch], decoder: DecoderProcess, seconds: dict[str, float]) -> Iterator[FrameBatch]:
    """The reader's batches, fetched in a thread at most BATCHES_AHEAD ahead."""

    def fetch() -> FrameBatch | None:
        started = time.perf_counter()
        batch = next(reader, None)
        seconds["decode"] += time.perf_counter() - started
        return batch

    with ThreadPoolExecutor(1, "decode") as pool:
        waiting = deque(pool.submit(fetch) for _ in range(BATCHES_AHEAD))
        try:
            while True:
                started = time.perf_counter()
                batch = waiting.popleft().result()
                seconds["starve"] += time.perf_counter() - started
                if batch is None:
                    return
                waiting.append(pool.submit(fetch))
                yield batch
        except MediaError:
            raise
        except BaseException:
            decoder.stop()  # or the thread would be waited for while the process decodes for nobody
            raise
        finally:
            pool.shutdown(cancel_futures=True)
