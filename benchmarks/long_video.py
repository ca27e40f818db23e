"""Memory of the workers while a long video is annotated: it must not grow with the video's length.

    python benchmarks/long_video.py [MINUTES]          default 5; 60 is the figure in docs/results.md

The video is a rendered rally repeated without re-encoding, so that any length costs seconds to make.
"""

import os
import sys
import tempfile
import threading
from fractions import Fraction
from pathlib import Path

import av

from specktrack.annotate import AnnotateConfig, annotate
from specktrack.cluster import connected
from specktrack.datasets.synthetic import SynthConfig, write_archive

LIMIT_BYTES = 2 * 10**9


def main() -> None:
    """Print peak memory per tenth of the run and end with exit code 1 above 2 GB."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "long.mp4")
        frames = _write_long(video, minutes)
        samples: list[int] = []
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(samples, stop))
        with connected("local"):
            watcher.start()
            report = annotate(AnnotateConfig(sources=(str(video),), output=f"{folder}/rows"))
            stop.set()
        watcher.join()
    tenths = [max(samples[i * len(samples) // 10 : (i + 1) * len(samples) // 10] or [0]) for i in range(10)]
    print(f"{minutes:g} minutes: {frames} frames, {report.clips} clips, {report.rows} rows")
    print(f"{report.frames_per_s} frames/s")
    print("largest worker, MB, per tenth of the run:", [round(peak / 1e6) for peak in tenths])
    sys.exit(max(tenths) > LIMIT_BYTES)


def _write_long(path: Path, minutes: float) -> int:
    """Repeat the packets of a rendered 720p rally; the number of frames written."""
    archive = path.parent / "rally"
    write_archive(SynthConfig(videos=1, frames=300, width_px=1280, height_px=720), str(archive))
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


def _watch(samples: list[int], stop: threading.Event) -> None:
    """Note the resident memory of the largest annotating worker, in bytes, ten times a second.

    Without pages shared with the object store or mapped from files: those are counted once for the whole machine.
    """
    while not stop.wait(0.1):
        largest = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"Annotator" in (process / "cmdline").read_bytes():
                    resident, shared = (process / "statm").read_text().split()[1:3]
                    largest = max(largest, (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE"))
            except (FileNotFoundError, ProcessLookupError):
                continue
        samples.append(largest)


if __name__ == "__main__":
    main()
