"""Rows of a model for the labelled videos: in this process, or on a cluster."""

import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack

import pyarrow as pa

from specktrack.datasets import DatasetVideo
from specktrack.errors import MediaError
from specktrack.evaluate.config import EvaluateConfig
from specktrack.evaluate.joined import by_video
from specktrack.ledger import read_annotations


def rows_of_model(config: EvaluateConfig, videos: list[DatasetVideo]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Rows by video URI, and the videos that could not be read with the reason."""
    if config.address is not None:
        return _annotate_on_ray(config, videos)
    return _annotate_in_threads(config, videos)


def _annotate_in_threads(
    config: EvaluateConfig, videos: list[DatasetVideo]
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """One video per core at a time: torch leaves the interpreter to the others while it computes."""
    import torch  # which comparing rows does not need

    from specktrack.annotating.clips import annotate_with
    from specktrack.annotating.progress import Meter
    from specktrack.tracking.tracker import make_tracker

    tracker, threads = make_tracker(config.following), torch.get_num_threads()
    rows: dict[str, pa.Table] = {}
    unread: dict[str, str] = {}
    workers = min(threads, len(videos))
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        work = {
            pool.submit(annotate_with, tracker, [video.ref.uri], stream=video.ref.stream): video for video in videos
        }
        with Meter(len(videos), sum(video.frames for video in videos)) as meter:
            for done in as_completed(work):
                video = work[done]
                try:
                    rows[video.ref.uri] = done.result()
                except MediaError as error:
                    unread[video.ref.uri] = str(error)
                meter.add(video.frames)
    finally:
        pool.shutdown(
            wait=len(rows) + len(unread) == len(videos), cancel_futures=True
        )  # not on the way out of an error
        torch.set_num_threads(threads)
    return rows, unread


def _annotate_on_ray(config: EvaluateConfig, videos: list[DatasetVideo]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Annotate on a cluster; the rows stay below the output, so that a second evaluation finds them done."""
    from specktrack.annotating import AnnotateConfig, annotate  # loads torch and ray

    with ExitStack() as stack:
        root = config.output or stack.enter_context(tempfile.TemporaryDirectory())
        following = config.following.model_dump()
        rows: dict[str, pa.Table] = {}
        for stream in {video.ref.stream for video in videos}:
            place = f"{root.rstrip('/')}/annotations" + ("" if stream is None else f"-stream-{stream}")
            sources = tuple(video.ref.uri for video in videos if video.ref.stream == stream)
            annotate(AnnotateConfig(sources=sources, output=place, stream=stream, address=config.address, **following))
            rows |= by_video(read_annotations(place), place)
    return rows, {video.ref.uri: "quarantined" for video in videos if video.ref.uri not in rows}
