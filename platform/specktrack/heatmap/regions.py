"""Decodings by connected regions of a thresholded heatmap: TrackNetV2 and V3, TrackNetV5, WASB."""

# H W heatmap px, M regions

import numpy as np
from scipy import ndimage

THRESHOLD = 0.5
"""Of all these papers; a pixel belongs to a region where its heatmap is above it."""

_EIGHT = np.ones((3, 3), bool)
"""Pixels that touch at a corner are connected."""

_NOTHING = np.zeros((0, 2), np.float32), np.zeros(0, np.float32)


def largest_box(heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TrackNetV2 and V3: the whole-pixel centre of the largest bounding box; its score is the heatmap's maximum in it.

    Of equal boxes the one that begins lowest is taken, the order in which their contour finder lists regions.
    """
    boxes = ndimage.find_objects(ndimage.label(heatmap > THRESHOLD, _EIGHT)[0])
    if not boxes:
        return _NOTHING
    ys, xs = max(boxes, key=lambda box: ((box[0].stop - box[0].start) * (box[1].stop - box[1].start), box[0].start))
    centre = [(xs.start + xs.stop) // 2, (ys.start + ys.stop) // 2]
    return np.array([centre], np.float32), np.array([heatmap[ys, xs].max()], np.float32)


def largest_contour(heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TrackNetV5: the centroid, cut to whole pixels, of the region whose outline encloses the largest area.

    The outline runs through the border pixels' centres, so one pixel or a line of pixels encloses nothing; where all
    do, the mean of one region's pixels is taken. Of equal areas the one that begins lowest counts, as above.
    """
    regions, count = ndimage.label(heatmap > THRESHOLD, _EIGHT)
    if not count:
        return _NOTHING
    best, centre, score = (-1.0, 0), (0.0, 0.0), 0.0
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        filled = ndimage.binary_fill_holes(regions[box] == number)
        area, (x, y) = _outline(filled)
        if (area, box[0].start) > best:
            best = area, box[0].start
            centre, score = (x + box[1].start, y + box[0].start), float(heatmap[box][filled].max())
    return np.floor(np.array([centre], np.float32)), np.array([score], np.float32)


def _outline(filled: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Area and centroid (x, y) of the polygon through the border pixels' centres of a region without holes.

    Of each square between four neighbouring pixel centres it holds all, the triangle of three pixels, or nothing.
    """
    corners = np.stack([filled[:-1, :-1], filled[:-1, 1:], filled[1:, :-1], filled[1:, 1:]])
    number = corners.sum(axis=0)
    area = np.select([number == 4, number == 3], [1.0, 0.5], 0.0)
    if not area.any():
        ys, xs = np.nonzero(filled)
        return 0.0, (float(xs.mean()), float(ys.mean()))
    rows, columns = np.indices(area.shape)
    x = columns + (corners[1] + corners[3].astype(float)) / np.maximum(number, 1)  # of a square's or triangle's corners
    y = rows + (corners[2] + corners[3].astype(float)) / np.maximum(number, 1)
    return float(area.sum()), (float((area * x).sum() / area.sum()), float((area * y).sum() / area.sum()))


def components(heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """WASB: the heatmap-weighted centre of every region, best first.

    WASB scores a region by the sum s of its heatmap; s / (1 + s) keeps that order within [0, 1].
    """
    regions, count = ndimage.label(heatmap > THRESHOLD, _EIGHT)
    if not count:
        return _NOTHING
    numbers = np.arange(1, count + 1)
    total = ndimage.sum_labels(heatmap.astype(np.float64), regions, numbers)
    centres = np.array(ndimage.center_of_mass(heatmap, regions, numbers))[:, ::-1]
    best = np.argsort(-total, kind="stable")
    return centres[best].astype(np.float32), (total / (1 + total))[best].astype(np.float32)
