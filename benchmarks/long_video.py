"""Memory, open files and processes while a long video is annotated: none may grow with the video's length.

    python benchmarks/long_video.py [MINUTES]          default 5; 60 is a figure in docs/results.md
    python benchmarks/long_video.py 600 --small        ten hours at 256x144 with a small network, minutes to run

The video is a rendered rally repeated without re-encoding, so that any length costs seconds to make.
"""

import argparse
import math
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import torch

from specktrack.annotating import AnnotateConfig, annotate
from specktrack.cluster import connected
from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.models import zoo
from specktrack.models.checkpoint import ModelCard, save_model

LIMIT_BYTES = 2 * 10**9
MOST_MINUTES = 300
"""Of one video: specktrack refuses more than six hours, so ten are two videos."""
DECODER = b"specktrack.video.child"
SMALL = {"name": "specknet", "frames_in": 8, "input_wh": (128, 64), "widths": (8, 8, 16, 16)}
Sample = tuple[int, int, int, int, int]
"""Bytes of the largest worker, of the largest decoder and of the driver; open files and processes of the whole run."""


def main() -> None:
    """Print what was in use in each tenth of the run; exit code 1 above 2 GB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=5.0)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts, model = math.ceil(asked.minutes / MOST_MINUTES), zoo.DEFAULT_MODEL
        videos = [Path(folder, f"{part}.mp4") for part in range(parts)]
        frames = parts * _write_long(videos[0], asked.minutes / parts, (256, 144) if asked.small else (1280, 720))
        for video in videos[1:]:
            video.hardlink_to(videos[0])
        if asked.small:
            model = f"{folder}/small.safetensors"
            network = zoo.network_config(SMALL)
            torch.manual_seed(0)
            save_model(Path(model), zoo.build(network).eval(), ModelCard(name="small", network=network))
        samples: list[Sample] = []
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(samples, stop))
        with connected("local"):
            watcher.start()
            report = annotate(AnnotateConfig(sources=tuple(map(str, videos)), output=f"{folder}/rows", model=model))
            stop.set()
        watcher.join()
    print(f"{asked.minutes:g} minutes: {frames} frames, {report.clips} clips, {report.rows} rows")
    print(f"{report.frames_per_s} frames/s; the most in each tenth of the run:")
    names = ("largest worker, MB", "largest decoder, MB", "driver, MB", "open files", "processes")
    for name, column in zip(names, zip(*samples, strict=True), strict=True):
        tenths = [max(column[i * len(column) // 10 : (i + 1) * len(column) // 10] or [0]) for i in range(10)]
        print(f"  {name}: {[round(most / 1e6) if name.endswith('MB') else most for most in tenths]}")
    sys.exit(max(max(sample[:3]) for sample in samples) > LIMIT_BYTES)


def _write_long(path: Path, minutes: float, wh: tuple[int, int]) -> int:
    """Repeat the packets of a rendered rally; the number of frames written."""
    archive = path.parent / "rally"
    write_archive(SynthConfig(videos=1, frames=300, width_px=wh[0], height_px=wh[1]), str(archive))
    source = next(archive.rglob("*.mp4"))
    frames = 0
    with av.open(str(path), "w") as out:
        stream = None
        offset = Fraction(0)
        while offset < minutes * 60:
            with av.open(str(source)) as rally:
                video = rally.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                length = Fraction(video.frames) / video.average_rate
                shift = int(offset / video.time_base)
                for packet in rally.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    out.mux(packet)
                    frames += 1
                offset += length
    return frames


def _watch(samples: list[Sample], stop: threading.Event) -> None:
    """Sample this process and all below it, five times a second."""
    while not stop.wait(0.2):
        worker = decoder = files = count = 0
        for pid in (os.getpid(), *_below(os.getpid())):
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
                files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                count += 1
                if b"Annotator" in title:
                    worker = max(worker, _private_bytes(pid))
                elif DECODER in title:
                    decoder = max(decoder, _private_bytes(pid))
            except OSError:  # it ended meanwhile
                continue
        samples.append((worker, decoder, _private_bytes(os.getpid()), files, count))


def _below(root: int) -> Iterator[int]:
    """All descendants of a process."""
    for thread in Path(f"/proc/{root}/task").glob("*"):
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _below(child)


def _private_bytes(pid: int) -> int:
    """Resident memory without pages shared with the object store or mapped from files: those are counted once."""
    resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
