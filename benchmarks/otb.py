"""A template model on OTB sequences at full size and shrunk to tiny targets: does it follow to the last frame?

    python benchmarks/otb.py OTB [--model speckdimp] [--shrinks 1 2 3 4] [--sequences Crossing Couple]

OTB is a folder of OTB sequences. Shrinking averages blocks of pixels; boxes are divided. ``lost`` is the share of
frames without any overlap, ``centred`` of those whose centre is less than half a target (the root of its area) off;
frames without a box keep the last one, as OTB's rules want. ``followed``: the last frame's box overlaps the target.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from specktrack.datasets.benchmarks import BoxSequence, read_benchmark
from specktrack.evaluate.trackers import boxes_of
from specktrack.frames import FrameBatch, Viewport
from specktrack.metrics.boxes import BOX_PROTOCOLS, box_iou, centres, score_sequence
from specktrack.schema import Box, Prompt
from specktrack.storage import frame_names
from specktrack.tracking.tracker import Tracker, tracker_of


def main() -> None:
    """Print one row per sequence and shrink."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("otb", type=Path)
    parser.add_argument("--model", default="speckdimp")
    parser.add_argument("--shrinks", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--sequences", nargs="+", help="default: all that have their pictures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tracker = tracker_of(given.model, device="cpu")
    print("| sequence | success AUC | within 5 px | centred | lost | without a box | followed | frames/s |")
    print("|---|--:|--:|--:|--:|--:|---|--:|")
    for sequence in read_benchmark(str(given.otb)).sequences:
        if given.sequences is None or sequence.name in given.sequences:
            for shrink in given.shrinks:
                print(measured(tracker, sequence, shrink), flush=True)


def measured(tracker: Tracker, sequence: BoxSequence, shrink: int) -> str:
    """The row of one sequence."""
    folder = Path(sequence.frames_uri.removeprefix("file://"))
    names = frame_names(sequence.frames_uri)[: len(sequence.label_xywh)]
    pictures = [Image.open(folder / name).convert("RGB").reduce(shrink) for name in names]
    label = sequence.label_xywh / shrink
    label[:, :2] = (sequence.label_xywh[:, :2] - sequence.origin_px) / shrink
    x, y, w, h = label[0]
    session = tracker.open(Prompt(frame=0, box=Box(cx_px=x + (w - 1) / 2, cy_px=y + (h - 1) / 2, w_px=w, h_px=h)))
    index, size = np.arange(len(pictures)), pictures[0].size
    started = time.monotonic()
    rows = session.push(FrameBatch(np.stack(pictures), index, index / 30, Viewport(size, size)))
    taken = time.monotonic() - started
    found = boxes_of([rows, session.finish()], len(pictures))
    scores = score_sequence(found, label, BOX_PROTOCOLS["otb"])
    held = found.copy()
    for i in range(1, len(held)):
        held[i] = held[i - 1] if np.isnan(held[i]).any() else held[i]
    off = np.linalg.norm(centres(held) - centres(label), axis=1) / np.sqrt(label[:, 2:].prod(axis=1))
    numbers = [scores.success.mean(), scores.precision[5], (off < 0.5).mean(), scores.lost]
    cells = [f"{value:.3f}" for value in [*numbers, np.isnan(found).any(axis=1).mean()]]
    followed = "yes" if box_iou(found[-1:], label[-1:])[0] > 0 else "no"
    name = f"{sequence.name} / {shrink} ({w:.0f}x{h:.0f} px)"
    return f"| {name} | {' | '.join(cells)} | {followed} | {len(pictures) / taken:.0f} |"


if __name__ == "__main__":
    main()
