"""Following from one box, beside what users would pick instead: the same frames, the same first box, one table.

    python benchmarks/one_box.py DATA [--trackers speckdimp nanotrack csrt] [--only drones ...] [--output FILE.json]

DATA holds the folders drone, drone_ir, badminton, tracking/otb and peers/nanotrack_v2. Clips are those that no weights
were trained on (``generalisation.LEFT_OUT``), OTB's sequences at several sizes, and rallies of the test split, from a
box of BALL_PX around the first label. A tracker is ``nanotrack``, ``csrt``, or a model with what finds its target
again: ``speckdimp``, ``speckdimp+specknet``, ``specknet``. The peers need opencv-contrib-python-headless.

``AUC`` is under the success curve and ``5 px`` the precision there, means over sequences, as OTB counts (frame 0 is
given, a frame without a box keeps the last one), frames without a label left out. ``lost`` is the share of frames
without overlap; ``absent`` precision and recall of rows that say that the target is not there. Frames/s are of one
core, without decoding.
"""

import argparse
import json
import os
import platform as machine
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from generalisation import LEFT_OUT
from specktrack.datasets.benchmarks import read_benchmark
from specktrack.evaluate.trackers import boxes_of
from specktrack.frames import FrameBatch, Viewport
from specktrack.metrics.boxes import BoxProtocol, score_sequence
from specktrack.schema import Box, Clip, Prompt
from specktrack.storage import frame_names, stat
from specktrack.tracking.tracker import tracker_of
from specktrack.video.unconfined import probe, read_clip

RESULT = Path(__file__).parents[1] / "docs" / "results" / "one_box.json"
RULE = BoxProtocol(precision_px=5, centre_unlabelled="dropped", normalised_unlabelled="dropped")
BALL_PX = 14.0
"""Side of the first box around a shuttlecock, which its labels do not say."""
SHRINKS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Sequence:
    """One target's frames and labels from its first box on."""

    name: str
    frames: np.ndarray
    """uint8 [N, H, W, 3], RGB."""
    label_xywh: np.ndarray
    """float64 [N, 4], NaN where the target is not there."""
    fps: float = 30.0
    has_boxes: bool = True


class Following(Protocol):
    """One tracker on one sequence."""

    def __call__(self, sequence: Sequence) -> np.ndarray:
        """Boxes x, y, w, h [N, 4]; NaN where the tracker says that the target is absent."""
        ...


def ours(text: str) -> Following:
    """A model of the project by ``model+finder``."""
    model, _, finder = text.partition("+")
    tracker = tracker_of(model, device="cpu", finder=finder or None, prompted=True)

    def follow(sequence: Sequence) -> np.ndarray:
        n, size = len(sequence.frames), (sequence.frames.shape[2], sequence.frames.shape[1])
        x, y, w, h = sequence.label_xywh[0].tolist()
        session = tracker.open(Prompt(frame=0, box=Box(cx_px=x + (w - 1) / 2, cy_px=y + (h - 1) / 2, w_px=w, h_px=h)))
        viewport, index = tracker.viewport(size), np.arange(n)
        parts = []
        for at in range(0, n, 32):
            pixels = sequence.frames[at : at + 32]
            if viewport.network_wh_px != size:
                kernel = Image.Resampling.BOX
                pixels = np.stack(
                    [np.asarray(Image.fromarray(p).resize(viewport.network_wh_px, kernel)) for p in pixels]
                )
            now = index[at : at + 32]
            parts.append(session.push(FrameBatch(pixels, now, now / sequence.fps, viewport)))
        return boxes_of([*parts, session.finish()], n)

    return follow


def of_opencv(name: str, data: Path) -> Following:
    """NanoTrack V2 or CSRT as OpenCV runs them; they say a box in every frame, or that they failed."""
    import cv2

    cv2.setNumThreads(1)

    def created() -> "cv2.Tracker":
        if name == "csrt":
            return cv2.TrackerCSRT_create()
        weights = data / "peers" / "nanotrack_v2"
        params = cv2.TrackerNano_Params()
        params.backbone = str(weights / "nanotrack_backbone_sim.onnx")
        params.neckhead = str(weights / "nanotrack_head_sim.onnx")
        return cv2.TrackerNano_create(params)

    def follow(sequence: Sequence) -> np.ndarray:
        boxes, tracker = np.full((len(sequence.frames), 4), np.nan), created()
        boxes[0] = sequence.label_xywh[0]
        tracker.init(np.ascontiguousarray(sequence.frames[0][..., ::-1]), np.round(boxes[0]).astype(int).tolist())
        for n, frame in enumerate(sequence.frames[1:], start=1):
            found, box = tracker.update(np.ascontiguousarray(frame[..., ::-1]))
            if found:
                boxes[n] = box
        return boxes

    return follow


def sequences(data: Path, group: str, most: int | None) -> Iterator[Sequence]:
    """The sequences of a group, one at a time."""
    if group == "OTB":
        yield from _of_otb(data / "tracking" / "otb")
        return
    domain = LEFT_OUT["badminton, known courts" if group == "shuttlecocks" else group]
    videos = [path for path in sorted((data / domain.folder).glob("*.mp4")) if path.stem in domain.clips]
    for video in videos[:most]:
        yield _of_ball(video) if group == "shuttlecocks" else _of_boxes(video)


GROUPS = ("OTB", "shuttlecocks", *(name for name, domain in LEFT_OUT.items() if domain.boxes))


def _of_boxes(video: Path) -> Sequence:
    values = np.genfromtxt(video.with_name(f"{video.stem}_boxes.csv"), delimiter=",", names=True)
    label = np.full((int(values["frame"].max()) + 1, 4), np.nan)
    label[values["frame"].astype(int)] = np.stack([values[name] for name in "xywh"], axis=1)
    return _from_first(video, label)


def _of_ball(video: Path) -> Sequence:
    values = np.genfromtxt(video.with_suffix(".csv"), delimiter=",", names=True)
    label = np.full((len(values), 4), BALL_PX)
    label[:, :2] = np.stack([values["x"], values["y"]], axis=1) * (1280, 720) - (BALL_PX - 1) / 2
    label[values["Ball"] == 0] = np.nan
    return _from_first(video, label, has_boxes=False)


def _from_first(video: Path, label: np.ndarray, *, has_boxes: bool = True) -> Sequence:
    """The sequence from its first box on."""
    ref = stat(str(video))
    info = probe(ref)
    first = int(np.isfinite(label).all(axis=1).argmax())
    clip = Clip(video=ref, start=first, stop=min(info.frames, len(label)))
    viewport = Viewport(info.size_wh_px, info.size_wh_px)
    with read_clip(clip, info=info, viewport=viewport) as reader:
        frames = np.concatenate([batch.pixels for batch in reader])
    return Sequence(video.stem, frames, label[first : first + len(frames)], info.fps, has_boxes)


def _of_otb(folder: Path) -> Iterator[Sequence]:
    for sequence in read_benchmark(str(folder)).sequences:
        names = frame_names(sequence.frames_uri)[: len(sequence.label_xywh)]
        place = Path(sequence.frames_uri.removeprefix("file://"))
        pictures = [Image.open(place / name).convert("RGB") for name in names]
        for shrink in SHRINKS:
            label = (sequence.label_xywh - [sequence.origin_px, sequence.origin_px, 0, 0]) / shrink
            yield Sequence(f"{sequence.name} / {shrink}", np.stack([p.reduce(shrink) for p in pictures]), label)


@dataclass(frozen=True)
class Score:
    """One tracker on one sequence; counts of frames for what is pooled."""

    tracker: str
    group: str
    sequence: str
    side_px: float
    """Median of the label's root of area."""
    auc: float | None
    """None where the labels are points."""
    within_5_px: float
    lost: float
    lost_from: int | None
    """Frame after which no box is within five sides of the target again."""
    absent_said: int
    absent_right: int
    absent_true: int
    frames: int
    frames_per_s: float


def scored(name: str, group: str, follow: Following, sequence: Sequence) -> Score:
    """Follow a sequence and count."""
    started = time.process_time()
    found = follow(sequence)
    taken = time.process_time() - started
    label = sequence.label_xywh
    scores = score_sequence(found, label, RULE)
    there, said = np.isfinite(label).all(axis=1), np.isnan(found).any(axis=1)
    side = np.sqrt(label[:, 2] * label[:, 3])
    off = np.linalg.norm(found[:, :2] + found[:, 2:] / 2 - label[:, :2] - label[:, 2:] / 2, axis=1)
    on = np.flatnonzero(there & (off < 5 * side))
    last = int(on[-1]) if len(on) else 0
    return Score(
        tracker=name, group=group, sequence=sequence.name, side_px=float(np.nanmedian(side)),
        auc=float(scores.success.mean()) if sequence.has_boxes else None, within_5_px=float(scores.precision[5]),
        lost=scores.lost, lost_from=last + 1 if last < np.flatnonzero(there)[-1] - 5 else None,
        absent_said=int(said.sum()), absent_right=int((said & ~there).sum()), absent_true=int((~there).sum()),
        frames=len(label), frames_per_s=len(label) / taken,
    )  # fmt: skip


def row(tracker: str, group: str, scores: list[Score]) -> str:
    """One line of the table: means over sequences, absent frames pooled."""
    aucs = [score.auc for score in scores if score.auc is not None]
    said, right, true = (sum(getattr(s, f"absent_{kind}") for s in scores) for kind in ("said", "right", "true"))
    cells = [
        f"{np.mean(aucs):.3f}" if aucs else "",
        f"{np.mean([score.within_5_px for score in scores]):.3f}",
        f"{np.mean([score.lost for score in scores]):.3f}",
        f"{sum(score.lost_from is not None for score in scores)} of {len(scores)}",
        f"{right / said:.2f} / {right / true:.2f}" if said and true else f"{said} said, {true} true",
        f"{sum(s.frames for s in scores) / sum(s.frames / s.frames_per_s for s in scores):.0f}",
    ]
    return f"| {group} | {tracker} | {' | '.join(cells)} |"


def main() -> None:
    """Print one line per group and tracker; keep every sequence's scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--trackers", nargs="+", default=["speckdimp", "speckdimp+specknet", "nanotrack", "csrt"])
    parser.add_argument("--only", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--most", type=int, help="clips of each group, for a first look")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    trackers = {
        name: of_opencv(name, given.data) if name in ("nanotrack", "csrt") else ours(name) for name in given.trackers
    }
    print("| group | tracker | AUC | 5 px | lost | lost for good | absent: precision / recall | frames/s |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    kept: list[Score] = []
    for group in given.only:
        found = [
            scored(name, group, follow, sequence)
            for sequence in sequences(given.data, group, given.most)
            for name, follow in trackers.items()
        ]
        for name in trackers:
            print(row(name, group, [score for score in found if score.tracker == name]), flush=True)
        kept += found
    where = f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}"
    values = {"scores": [asdict(score) for score in kept], "machine": where, "date": time.strftime("%Y-%m-%d")}
    given.output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
