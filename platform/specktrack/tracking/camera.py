"""Camera motion: how the picture as a whole moves from one frame to the next.

Phase correlation (Kuglin, Hines 1975) of the two pictures, reduced to about WIDE px: the shift that explains most of
them. What moves by itself is small beside the background, and does not count.
"""

# H W px of the reduced picture

import numpy as np

from specktrack.tracking.candidates import Picture

WIDE = 160
"""Px of a reduced picture along its longer side, about."""
EXPLAINED = 0.8
"""A shift is believed that brings the difference of the pictures down to this share: before a plain sky nothing
but the object has moved, and the camera has not."""


class Camera:
    """Live state: the last picture, reduced, and its spectrum."""

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def shift_px(self, picture: Picture) -> np.ndarray:
        """By how many source px [2] what rests in the scene has moved since the last picture; zeros if unknown."""
        block = max(1, round(max(picture.pixels.shape[:2]) / WIDE))
        grey = _reduced(picture.pixels, block)
        window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
        spectrum = np.fft.rfft2((grey - grey.mean()) * window)
        last, self._last = self._last, (grey, spectrum)
        if last is None:
            return np.zeros(2)
        before, earlier = last
        cross = spectrum * earlier.conj()
        correlation = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=grey.shape)
        row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
        moved = np.array([_between(correlation[row], int(column)), _between(correlation[:, column], int(row))])
        if _unlike(grey, before, np.round(moved)) > EXPLAINED * _unlike(grey, before, np.zeros(2)):
            return np.zeros(2)
        return moved * block / picture.viewport.scale


def _reduced(pixels_HWC: np.ndarray, block: int) -> np.ndarray:
    """Green, one px of each block: correlation by phase needs no mean over it, which would cost ten times more."""
    return pixels_HWC[block // 2 :: block, block // 2 :: block, 1].astype(np.float32)


def _unlike(now: np.ndarray, before: np.ndarray, shift_xy: np.ndarray) -> float:
    """Mean difference of two pictures [H, W] where they overlap after a shift of whole px; endless if they do not.

    Differences beyond 32 count as that: what moves by itself says little.
    """
    (x, y), (height, width) = shift_xy.astype(int).tolist(), now.shape
    if abs(x) >= width // 2 or abs(y) >= height // 2:
        return np.inf
    rows, columns = slice(max(0, y), height + min(0, y)), slice(max(0, x), width + min(0, x))
    back = slice(max(0, -y), height + min(0, -y)), slice(max(0, -x), width + min(0, -x))
    return float(np.minimum(np.abs(now[rows, columns] - before[back]), 32).mean())


def _between(line: np.ndarray, peak: int) -> float:
    """Place of a peak of a cyclic line, between cells, as a shift of either sign."""
    n = len(line)
    before, here, after = line[peak - 1], line[peak], line[(peak + 1) % n]
    bend = before - 2 * here + after
    place = peak + (0.5 * (before - after) / bend if bend < 0 else 0.0)
    return float(place - n if place > n / 2 else place)
