"""Heatmaps: labels drawn from centres, losses against them, and candidates decoded from them.

Encoding and decoding are inverses. A heatmap may be coarser than the network's input by an integer ``stride``;
positions outside this package are always in network px, so the half-pixel rule of that change of grid is written here
and nowhere else.
"""

from specktrack.heatmap.decoding import PUBLISHED, decode_published
from specktrack.heatmap.labels import encode, real_valued
from specktrack.heatmap.losses import LOSSES
from specktrack.heatmap.peaks import decode

__all__ = ["LOSSES", "PUBLISHED", "decode", "decode_published", "encode", "real_valued"]
