"""How fast video becomes rows, from open to rows on disk, and where the time goes.

    python benchmarks/annotate.py [VIDEO ...]          default: rendered 1280x720 video

Every line is measured in this run, on this machine; quote ratios.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from specktrack.annotate import AnnotateConfig, annotate, annotate_here
from specktrack.cluster import connected
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.frames import FrameBatch, Viewport
from specktrack.models import DEFAULT_MODEL
from specktrack.models.checkpoint import load_model
from specktrack.schema import Clip
from specktrack.storage import expand_sources
from specktrack.tracking import make_tracker
from specktrack.video import VideoInfo, probe, read_clip


def main() -> None:
    """Print one table."""
    with tempfile.TemporaryDirectory() as folder:
        sources = sys.argv[1:] or [_rendered(Path(folder))]
        videos = [(ref, probe(ref)) for ref in expand_sources(sources)]
        frames = sum(info.frames for _, info in videos)
        print(f"{os.cpu_count()} cores, torch {torch.__version__}, {len(videos)} videos, {frames} frames")

        def decode() -> None:
            for ref, info in videos:
                with read_clip(
                    Clip(video=ref, start=0, stop=info.frames), info=info, viewport=_viewport(info)
                ) as reader:
                    for _ in reader:
                        pass

        _line("decode and resize, 1 thread", frames, decode)
        for threads in sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            _line(f"network, candidates and choice, {threads} threads", 256, lambda: _track(256))
        _line("annotate in this process", frames, lambda: annotate_here(sources))
        with connected("local"):
            report = annotate(AnnotateConfig(sources=tuple(sources), output=f"{folder}/rows"))
            print(f"{'annotate on Ray, started actors included':44}{report.frames_per_s:8.1f} frames/s")
            print("  seconds per stage, all actors:", dict(report.seconds))


def _viewport(info: VideoInfo) -> Viewport:
    return make_tracker(load_model(DEFAULT_MODEL)).viewport((info.width_px, info.height_px))


def _track(frames: int) -> None:
    tracker = make_tracker(load_model(DEFAULT_MODEL))
    viewport = tracker.viewport((1280, 720))
    pixels = np.random.default_rng(0).integers(0, 255, (32, 288, 512, 3), dtype=np.uint8)
    session = tracker.open()
    for first in range(0, frames, 32):
        frame = np.arange(first, first + 32)
        session.push(FrameBatch(pixels, frame, frame / 30, viewport))
    session.finish()


def _line(name: str, frames: int, action: Callable[[], object]) -> None:
    started = time.perf_counter()
    action()
    print(f"{name:44}{frames / (time.perf_counter() - started):8.1f} frames/s", flush=True)


def _rendered(folder: Path) -> str:
    write_archive(SynthConfig(videos=4, frames=300, width_px=1280, height_px=720, workers=2), str(folder / "archive"))
    return str(folder / "archive")


if __name__ == "__main__":
    main()
