"""The still picture of a scene that TrackNetV3 wants beside its frames.

For a video it is the median of evenly stepped frames, the same for every clip of it, so that rows do not depend on how
the video is cut. Where nobody has seen the whole video (a live stream), it is a running median of the frames so far.
"""

# N frames, H W network px

import numpy as np

MOST_FRAMES = 128
"""Frames that a median is taken of. TrackNetV3's code takes up to 1800, at fourteen times the memory; on real rallies
that moves one value in 2000 by more than two grey levels (docs/log.md)."""
_ROWS_AT_ONCE = 16


def stepped(frames: int) -> range:
    """The frames of a video of ``frames`` frames that its background is made of."""
    return range(0, frames, max(1, -(-frames // MOST_FRAMES)))


def median_picture(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the median of uint8 [N, H, W, 3], cut to whole levels as TrackNetV3 does."""
    strips = range(0, pixels.shape[1], _ROWS_AT_ONCE)  # a median works on copies: small ones
    medians = [np.median(pixels[:, top : top + _ROWS_AT_ONCE], axis=0) for top in strips]
    return np.concatenate(medians).astype(np.uint8)


class RunningMedian:
    """A median that follows the frames: each moves every value by at most one grey level (McFarlane, Schofield 1995).

    It begins as the first frame. At 30 frames/s a change of light is followed at 30 levels/s, while a ball that passes
    over a pixel in three frames moves it by three.
    """

    def __init__(self) -> None:
        self._picture: np.ndarray | None = None
        self._next = 0

    def after(self, pixels: np.ndarray, frame: int) -> np.ndarray:
        """The median uint8 [H, W, 3] after ``frame``, whose uint8 ``pixels`` are taken in unless they already were."""
        if self._picture is None:
            self._picture = pixels.astype(np.int16)
        elif frame >= self._next:
            self._picture += np.sign(pixels - self._picture)
        self._next = max(self._next, frame + 1)
        return self._picture.astype(np.uint8)
