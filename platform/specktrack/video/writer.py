"""Writing video that every browser plays."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from specktrack.errors import ConfigError

ENCODERS = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {"b": "6M"}),
    ("h264_nvenc", {"cq": "23"}),
)
"""H.264 encoders, best first; PyAV's wheels bundle libx264."""
MOST_FPS = 240
TIME_BASE_HZ = 90_000


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float, wh: tuple[int, int]) -> None:
    """Write RGB pictures uint8 [H, W, 3] as H.264 in MP4: 4:2:0, index first, so that a browser plays it at once.

    4:2:0 needs even sides: an odd one is padded by repeating its last row or column. The file appears under its name
    when it is complete.
    """
    width, height = wh
    path = Path(path)
    partial = path.with_name(f".{path.name}.part")
    rate = Fraction(min(max(fps, 1), MOST_FPS)).limit_denominator(1001)
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            name, options = next(((n, o) for n, o in ENCODERS if n in av.codecs_available), ("", {}))
            if not name:
                raise ConfigError("this PyAV has no H.264 encoder", remedy="install the wheel of the 'av' package")
            stream = cast(VideoStream, container.add_stream(name, rate=rate, options=options))
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            for number, pixels in enumerate(frames):
                if pixels.shape != (height, width, 3):
                    raise ConfigError("a picture has another size than the video", pixels.shape, str(path))
                even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
                frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
