"""A decoder's output in one array, and which frames are missing."""

from collections.abc import Iterable

import numpy as np

from specktrack.video import ClipReader
from specktrack.video.process import ProcessReader


def fill(reader: ProcessReader | ClipReader, pixels: np.ndarray, missing: np.ndarray, *, first: int = 0) -> None:
    """Fill ``pixels`` uint8 [N, H, W, 3] and take from ``missing`` bool [N] what was read; frame ``first`` comes first.

    Raises MediaError where reading ends early.
    """
    lost = 0
    for batch in reader:
        start, stop = int(batch.frame[0]) - first, int(batch.frame[-1]) + 1 - first
        pixels[start:stop] = batch.pixels
        missing[start:stop] = False
        if reader.lost_frames > lost:  # lost frames repeat the one before
            after = max(start, 1)
            missing[after:stop] = (pixels[after:stop] == pixels[after - 1 : stop - 1]).all(axis=(1, 2, 3))
            lost = reader.lost_frames


def runs(numbers: Iterable[int]) -> list[range]:
    """Consecutive numbers, which rise, as ranges."""
    found: list[range] = []
    for number in numbers:
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return found
