"""How pictures of a pack can be kept: size, and the CPU's time to write and to read them, beside exact pixels.

    PYTHONPATH=platform python benchmarks/picture_formats.py [VIDEO ...]

Without arguments it renders a rally. Everything is per frame at 768x432, in one thread: kB, ms of one core, and how far
a grey level is off in the mean. A group of pictures is encoded and decoded as a whole; the last column is what reading
the 8 frames of one window in its middle costs.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from PIL import Image

from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.frames import Viewport
from specktrack.preparing.packs import ENCODERS
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.video.pictures import decode_picture
from specktrack.video.unconfined import probe, read_clip

WH, FRAMES, WINDOW = (768, 432), 24, 8
Encoder = Callable[[np.ndarray], bytes]


def pillow(kind: str, **options: object) -> Encoder:
    def encode(pixels: np.ndarray) -> bytes:
        sink = BytesIO()
        Image.fromarray(pixels).save(sink, kind, **options)
        return sink.getvalue()

    return encode


STILLS: dict[str, Encoder] = {
    **ENCODERS,
    "png, level 1": pillow("PNG", compress_level=1),
    "webp lossless, effort 2": pillow("WEBP", lossless=True, quality=30, method=2),
    "jpeg 90": pillow("JPEG", quality=90, subsampling=0),
    "jpeg 95, half the colour": pillow("JPEG", quality=95, subsampling=2),
    "webp 90": pillow("WEBP", quality=90, method=2),
}
GROUPS = {
    "h264 rgb lossless, gop 8": ("libx264rgb", "rgb24", {"qp": "0", "preset": "ultrafast", "g": "8", "bf": "0"}),
    "h264 4:4:4 crf 12, gop 8": ("libx264", "yuv444p", {"crf": "12", "preset": "veryfast", "g": "8", "bf": "0"}),
}


def frames_of(path: str) -> np.ndarray:
    ref = stat(path)
    info = probe(ref)
    clip = Clip(video=ref, start=0, stop=min(FRAMES, info.frames))
    reader = read_clip(clip, info=info, viewport=Viewport(info.size_wh_px, WH))
    return np.concatenate([batch.pixels for batch in reader])[:FRAMES]


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    best, result = float("inf"), None
    for _ in range(2):
        started = time.process_time()
        result = work()
        best = min(best, time.process_time() - started)
    return best, result


def line(name: str, pixels: np.ndarray, size: int, took: tuple[float, float, float], back: np.ndarray) -> None:
    off = np.abs(back.astype(int) - pixels).mean()
    encode, decode, window = (1e3 * part for part in took)
    n = len(pixels)
    print(
        f"| {name} | {size / n / 1e3:.0f} | {encode / n:.1f} | {decode / n:.1f} | {off:.2f} | {window:.0f} |",
        flush=True,
    )


def still(name: str, encode: Encoder, pixels: np.ndarray) -> None:
    encode_s, data = seconds(lambda: [encode(picture) for picture in pixels])
    decode_s, back = seconds(lambda: np.stack([decode_picture(picture)[1] for picture in data]))
    middle = data[len(data) // 2 :][:WINDOW]
    window_s, _ = seconds(lambda: [decode_picture(picture) for picture in middle])
    line(name, pixels, sum(map(len, data)), (encode_s, decode_s, window_s), back)


def group(name: str, codec: str, pixel_format: str, options: dict[str, str], pixels: np.ndarray, folder: Path) -> None:
    path = folder / "group.mkv"

    def write() -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=30, options=options)
            stream.width, stream.height, stream.pix_fmt, stream.thread_count = *WH, pixel_format, 1
            for picture in pixels:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())

    def read(first: int = 0, count: int = FRAMES) -> np.ndarray:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, found = "NONE", []
            container.seek(int(first / 30 / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.pts * stream.time_base >= (first - 0.5) / 30:
                    found.append(frame.to_ndarray(format="rgb24"))
                if len(found) == count:
                    break
        return np.stack(found)

    encode_s, _ = seconds(write)
    decode_s, back = seconds(read)
    window_s, _ = seconds(lambda: read(len(pixels) // 2, WINDOW))
    line(name, pixels, path.stat().st_size, (encode_s, decode_s, window_s), back)


def main(videos: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not videos:
            write_archive(SynthConfig(videos=1, frames=FRAMES, width_px=1280, height_px=720), name)
            videos = [str(path) for path in folder.glob("*.mp4")]
        for video in videos:
            pixels = frames_of(video)
            print(f"\n{Path(video).name}: {pixels[0].nbytes / 1e3:.0f} kB uncompressed")
            print("| format | kB | write ms | read ms | off | window ms |\n|---|--:|--:|--:|--:|--:|")
            for kind, encode in STILLS.items():
                still(kind, encode, pixels)
            for kind, (codec, pixel_format, options) in GROUPS.items():
                group(kind, codec, pixel_format, options, pixels, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
