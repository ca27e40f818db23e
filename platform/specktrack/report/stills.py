"""Pieces of frames for pages: what was in the picture where rows are wrong or unsure."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

import numpy as np
from PIL import Image, ImageDraw

from specktrack import telemetry
from specktrack.errors import SpecktrackError
from specktrack.frames import Viewport
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.video.process import DecoderProcess

SIDE_PX = 208
"""Side of a piece as it is shown."""
SHARE = 0.22
"""Part of the picture's height that a piece shows."""


def stills(wanted: Mapping[str, Iterable[int]]) -> dict[tuple[str, int], np.ndarray]:
    """Frames, uint8 [H, W, 3], by video and number; what cannot be read is left out and logged."""
    found: dict[tuple[str, int], np.ndarray] = {}
    with DecoderProcess() as decoder:
        for uri, frames in wanted.items():
            try:
                ref = stat(uri)
                info = decoder.probe(ref)
                for frame in sorted({frame for frame in frames if frame < info.frames}):
                    one, size = Clip(video=ref, start=frame, stop=frame + 1), Viewport(info.size_wh_px, info.size_wh_px)
                    with closing(decoder.read_clip(one, info=info, viewport=size)) as batches:
                        found[uri, frame] = next(iter(batches)).pixels[0]
            except (SpecktrackError, ValueError) as error:  # ValueError: the name is no address of a video
                telemetry.get_logger().warning("no pictures of this video", video=uri, reason=str(error))
    return found


def piece(pixels: np.ndarray, middle_px: np.ndarray, rings: Sequence[tuple[np.ndarray, str]]) -> np.ndarray:
    """The square around a point, uint8 [SIDE_PX, SIDE_PX, 3], with a ring in a colour at each of the given points."""
    side = max(48, round(SHARE * pixels.shape[0]))
    left, top = (int(v) for v in np.round(middle_px) - side // 2)
    image = Image.fromarray(pixels).crop((left, top, left + side, top + side)).resize((SIDE_PX, SIDE_PX))
    draw, zoom = ImageDraw.Draw(image), SIDE_PX / side
    for at_px, colour in rings:
        x, y = (at_px - (left, top) + 0.5) * zoom
        draw.ellipse((x - 11, y - 11, x + 11, y + 11), outline=colour, width=2)
    return np.asarray(image)
