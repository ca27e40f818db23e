"""Speed of annotation on this machine, and where the time goes."""

import os
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from specktrack import telemetry
from specktrack.config import Config, VerbConfig
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.frames import FrameBatch
from specktrack.schema import Clip, VideoRef
from specktrack.storage import expand_sources
from specktrack.storage.places import SourcePlace
from specktrack.tracking.following import Following, Reading
from specktrack.video import VideoInfo, probe
from specktrack.video.unconfined import read_clip

if TYPE_CHECKING:
    from specktrack.tracking.tracker import Tracker

TRACKED_FRAMES = 256

log = telemetry.get_logger()


class BenchConfig(VerbConfig, Following):
    """Measure the speed of annotation on this machine, with a model that follows without a prompt."""

    verb: ClassVar[str] = "bench"

    sources: tuple[SourcePlace, ...] = ()
    """Videos, folders, globs, s3://bucket/prefix or @list.txt; by default, rendered 1280x720 video."""
    address: str = "local"
    """Ray cluster: auto, local or an address."""


class BenchReport(Config):
    """Frames per second of one run; ratios hold better than absolute figures."""

    model: str
    reading: Reading
    """How heatmaps became positions: overlap, decoding and the like decide the rate."""
    cores: int
    device: str
    videos: int
    frames: int
    decode: float
    """Decoding and resizing alone, one thread."""
    track_one_thread: float
    """Network, candidates and choice alone, one thread (or the GPU)."""
    track_all_threads: float
    """The same with as many threads as cores."""
    annotate_here: float
    """Videos to rows in this process."""
    annotate_on_ray: float
    """Videos to rows on disk on Ray, start of its actors included."""


def bench(config: BenchConfig) -> BenchReport:
    """Measure; raises what annotating raises, ConfigError for a model that needs a prompt."""
    import torch  # which `bench --help` need not wait for

    from specktrack.annotating import AnnotateConfig, annotate
    from specktrack.annotating.clips import annotate_with
    from specktrack.cluster import connected
    from specktrack.tracking.tracker import make_tracker

    tracker, threads = make_tracker(config), torch.get_num_threads()
    tracker.open()  # refuses models that need a prompt before anything is rendered
    with tempfile.TemporaryDirectory(prefix="specktrack-bench-") as folder:
        sources = list(config.sources) or [_rendered(folder)]
        videos = [(ref, probe(ref)) for ref in expand_sources(sources)]
        frames = sum(info.frames for _, info in videos)
        rates = {"decode": _rate("decode", frames, lambda: _decode(videos, tracker))}
        for name, used in (("track_one_thread", 1), ("track_all_threads", os.cpu_count() or 1)):
            torch.set_num_threads(used)
            rates[name] = _rate(name, TRACKED_FRAMES, lambda: _track(videos[0][1], tracker))
        torch.set_num_threads(threads)
        rates["annotate_here"] = _rate("annotate here", frames, lambda: annotate_with(tracker, sources))
        with connected(config.address):
            following = Following.of(config.model, config).model_dump()
            run = AnnotateConfig(sources=tuple(sources), output=f"{folder}/rows", **following)
            rates["annotate_on_ray"] = annotate(run).frames_per_s
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    reading = Reading(**{name: getattr(config, name) for name in Reading.model_fields})
    return BenchReport(
        model=config.model, reading=reading, cores=os.cpu_count() or 1, device=device, videos=len(videos),
        frames=frames, **rates,
    )  # fmt: skip


def _rate(name: str, frames: int, action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    rate = round(frames / (time.perf_counter() - started), 1)
    log.info("measured", what=name, frames_per_s=rate)
    return rate


def _decode(videos: list[tuple[VideoRef, VideoInfo]], tracker: "Tracker") -> None:
    for ref, info in videos:
        clip, viewport = Clip(video=ref, start=0, stop=info.frames), tracker.viewport(info.size_wh_px)
        with read_clip(clip, info=info, viewport=viewport) as reader:
            for _ in reader:
                pass


def _track(info: VideoInfo, tracker: "Tracker") -> None:
    """Noise, at the size in which the tracker sees the video."""
    viewport, noise = tracker.viewport(info.size_wh_px), np.random.default_rng(0)
    (width, height), (source_w, source_h) = viewport.network_wh_px, viewport.source_wh_px
    pixels = noise.integers(0, 255, (32, height, width, 3), dtype=np.uint8)
    luma = noise.integers(0, 255, (32, source_h, source_w), dtype=np.uint8) if viewport.luma else None
    session = tracker.open()
    for first in range(0, TRACKED_FRAMES, len(pixels)):
        frame = np.arange(first, first + len(pixels))
        session.push(FrameBatch(pixels, frame, frame / 30, viewport, luma=luma))
    session.finish()


def _rendered(folder: str) -> str:
    write_archive(SynthConfig(videos=4, frames=300, width_px=1280, height_px=720, workers=2), f"{folder}/archive")
    return f"{folder}/archive"
