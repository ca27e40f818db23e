"""PyAV against decord: speed and memory of what read_clip does, and how far their pixels differ.

    PYTHONPATH=platform python benchmarks/decoders.py [VIDEO ...]

Without arguments it makes its own clips: noise, texture and motion, 1080p and 720p, H.264, HEVC and VP9. Every rate is
frames per CPU-second of one process with one decode thread, the best of two; ratios hold on any machine. ``index`` is
what finding a video's frames, times and seek points takes, which both decoders need.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from specktrack.frames import Viewport
from specktrack.schema import Clip
from specktrack.storage import stat, to_uri
from specktrack.video.decord import objection
from specktrack.video.unconfined import probe, read_clip

NETWORK_WH_PX = (512, 288)
WINDOW, WINDOWS = 3, 8
REPEATS = 2
INDEXED = 5
"""Times that a video is indexed in one measurement: once takes milliseconds."""
CLIPS = {
    "1080p-h264-gop60.mp4": ((1920, 1080), "libx264", {"g": "60", "preset": "medium"}),
    "1080p-h264-gop250.mp4": ((1920, 1080), "libx264", {"g": "250", "preset": "medium"}),
    "720p-h264-gop60.mp4": ((1280, 720), "libx264", {"g": "60", "preset": "medium"}),
    "1080p-hevc.mp4": ((1920, 1080), "libx265", {"preset": "ultrafast", "x265-params": "open-gop=0:log-level=none"}),
    "1080p-vp9.mkv": ((1920, 1080), "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "5M"}),
}
FRAMES = 120


def make(folder: str) -> list[Path]:
    """Encode the benchmark's clips."""
    for name, ((width, height), codec, options) in CLIPS.items():
        rng = np.random.default_rng(0)
        grain = rng.normal(0, 6, (height + 64, width + 64, 1)).astype(np.float32)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        with av.open(str(Path(folder, name)), "w") as container:
            stream = container.add_stream(codec, rate=30, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(FRAMES):
                waves = [
                    np.sin((x * a + y * b) / 40 + number * c) for a, b, c in ((1, 2, 0.1), (2, 1, 0.2), (3, 1, 0.05))
                ]
                dx, dy = rng.integers(0, 64, 2)
                pixels = 128 + 80 * np.stack(waves, axis=-1) + grain[dy : dy + height, dx : dx + width]
                frame = av.VideoFrame.from_ndarray(np.clip(pixels, 0, 255).astype(np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return [Path(folder, name) for name in CLIPS]


def best(work: Callable[[], int]) -> float:
    """Frames per CPU-second, the best of REPEATS."""
    rates = []
    for _ in range(REPEATS):
        begun = time.process_time()
        frames = work()
        rates.append(frames / (time.process_time() - begun))
    return max(rates)


def measure(path: str, decoder: str) -> dict[str, float]:
    """Rates of one decoder on one file, in a process of its own so that its memory can be told."""
    ref = stat(to_uri(path))
    info = probe(ref)
    viewport = Viewport(info.size_wh_px, NETWORK_WH_PX)

    def read(start: int, stop: int, view: Viewport | None) -> int:
        with read_clip(Clip(video=ref, start=start, stop=stop), info=info, viewport=view, decoder=decoder) as reader:
            return sum(len(batch) for batch in reader)

    def index() -> int:
        return sum(probe(ref).frames for _ in range(INDEXED))

    starts = np.random.default_rng(0).integers(0, info.frames - WINDOW, WINDOWS).tolist()
    rates = {
        "index": best(index),
        "network": best(lambda: read(0, info.frames, viewport)),
        "windows": best(lambda: sum(read(start, start + WINDOW, viewport) for start in starts)) / WINDOW,
    }
    rates["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rates["source"] = best(lambda: read(0, info.frames, None))
    return rates


def raw_decord(path: str) -> float:
    """decord alone, scaling bilinearly while it decodes: no oversampling, no index."""
    import decord

    def work() -> int:
        reader = decord.VideoReader(path, width=NETWORK_WH_PX[0], height=NETWORK_WH_PX[1], num_threads=1)
        return sum(reader.next().shape[0] > 0 for _ in range(len(reader)))

    return best(work)


def luma_difference(path: str) -> tuple[float, float, float]:
    """Of 32 frames at network size: mean and 99th percentile between the decoders, and the p99 of decord alone."""
    import decord

    ref = stat(to_uri(path))
    info = probe(ref)
    viewport = Viewport(info.size_wh_px, NETWORK_WH_PX)
    clip, weights = Clip(video=ref, start=0, stop=min(32, info.frames)), np.array([0.299, 0.587, 0.114])
    lumas = []
    for decoder in ("pyav", "decord"):
        with read_clip(clip, info=info, viewport=viewport, decoder=decoder) as reader:
            lumas.append(np.concatenate([batch.pixels for batch in reader]) @ weights)
    reader = decord.VideoReader(path, width=NETWORK_WH_PX[0], height=NETWORK_WH_PX[1], num_threads=1)
    plain = np.abs(reader.get_batch(list(range(clip.stop))).asnumpy() @ weights - lumas[0])
    difference = np.abs(lumas[0] - lumas[1])
    return float(difference.mean()), float(np.percentile(difference, 99)), float(np.percentile(plain, 99))


def apart(work: Callable[..., Any], *arguments: str) -> Any:
    """Run in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main(paths: Sequence[str]) -> None:
    columns = ("index", "network", "source", "windows", "peak_mb")
    print(
        f"{'video':32} {'decoder':8}"
        + "".join(f"{name:>10}" for name in columns)
        + "   (frames, windows per CPU-second)"
    )
    for path in paths:
        rows = {"pyav": apart(measure, path, "pyav")}
        reason = objection(stat(to_uri(path)), probe(stat(to_uri(path))))
        if reason is None:
            rows["decord"] = apart(measure, path, "decord")
        for decoder, rates in rows.items():
            print(f"{Path(path).name:32} {decoder:8}" + "".join(f"{rates[name]:10.1f}" for name in columns), flush=True)
        if reason is None:
            ratios = "".join(f"{rows['pyav'][name] / rows['decord'][name]:9.2f}x" for name in columns)
            print(f"{'':32} {'ratio':8}{ratios}")
            mean, p99, plain_p99 = apart(luma_difference, path)
            print(f"{'':41}luma differs by mean {mean:.2f}, p99 {p99:.1f}")
            print(f"{'':41}decord without oversampling: {apart(raw_decord, path):.1f} frames/s, p99 {plain_p99:.1f}")
        else:
            print(f"{'':41}decord would be wrong: {reason}")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1:])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main([str(path) for path in apart(make, folder)])
