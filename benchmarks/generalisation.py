"""How well a model holds on footage that nobody trained on: counts by place, sport and kind of object.

    python benchmarks/generalisation.py DATA [--model specknet] [--only drone ...]

DATA holds the folders badminton, tennis_frames, volleyball_frames, drone and drone_ir of labelled video. Only clips of
LEFT_OUT are followed: of places or sports that ``specknet-anywhere`` does not train on, and test rallies of known
courts beside them. Leaves its numbers in docs/results/generalisation.json and, with ``--into FILE``, those of places
left out in the card of the weights in FILE.
"""

import argparse
import json
import os
import platform as machine
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

import specktrack
from specktrack.evaluate.conditions import at_rest
from specktrack.metrics.calibration import fitted, reliability
from specktrack.metrics.points import PointCounts, classify_points
from specktrack.models.cards import CARD, UNSEEN
from specktrack.models.checkpoint import load_weights, save_tensors
from specktrack.storage import stat
from specktrack.video.unconfined import probe

RESULT = Path(__file__).parents[1] / "docs" / "results" / "generalisation.json"
PAPER_WH = np.array([512, 288])
TOLERANCE_PX = 4.0


@dataclass(frozen=True)
class Domain:
    """Clips of one kind, counted together."""

    folder: str
    clips: tuple[str, ...]
    boxes: bool = False
    """Found is what lies within the label's box, as objects of 20 px have no exact centre; else within 4 px."""


def _numbered(beginning: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{beginning}_{number:03}" for number in numbers)


KNOWN = "badminton, known courts"
LEFT_OUT = {
    KNOWN: Domain("badminton/test", ("00003", "00004", "00009", "00012", "00013")),
    "tennis": Domain("tennis_frames", ("run0070", "run0496", "run0607", "run0789")),
    "beach volleyball": Domain("volleyball_frames", ()),
    "drones": Domain("drone", _numbered("V_DRONE", 46, 47, 48, 49, 50, 51, 53), boxes=True),
    "birds": Domain("drone", _numbered("V_BIRD", 10, 12, 25, 26), boxes=True),
    "airplanes": Domain("drone", _numbered("V_AIRPLANE", 14, 22, 27), boxes=True),
    "helicopters": Domain("drone", _numbered("V_HELICOPTER", 16, 18), boxes=True),
    "thermal drones": Domain("drone_ir", _numbered("IR_DRONE", 40, 115, 118), boxes=True),
    "thermal birds": Domain("drone_ir", _numbered("IR_BIRD", 15, 30, 40), boxes=True),
    "thermal airplanes": Domain("drone_ir", _numbered("IR_AIRPLANE", 35, 45), boxes=True),
    "thermal helicopters": Domain("drone_ir", _numbered("IR_HELICOPTER", 1, 37, 45), boxes=True),
}
"""Places are left out, not clips: clips of one day look alike. Drones 046 to 053 are all clips of one field."""


@dataclass(frozen=True)
class Followed:
    """A clip's labels with a model's rows for the labelled frames, N of them."""

    frame: np.ndarray
    label_px: np.ndarray
    """[N, 2] source px, NaN where absent."""
    found_px: np.ndarray
    score: np.ndarray
    wh_px: np.ndarray
    """[N, 2], the label's box; NaN where there is none."""
    source_wh: np.ndarray
    fps: float

    def outcomes(self, *, boxes: bool) -> np.ndarray:
        """Names of the five counts, str [N]."""
        if not boxes:
            return classify_points(
                self.found_px, self.label_px, tolerance=TOLERANCE_PX, scale=tuple(PAPER_WH / self.source_wh)
            )
        in_half_boxes = np.abs(self.found_px - self.label_px) / (self.wh_px / 2)
        nearest = np.zeros_like(in_half_boxes)
        nearest[:, 0] = in_half_boxes.max(axis=1)
        present = np.where(np.isnan(self.label_px), np.nan, 0.0)
        found = np.where(np.isnan(self.found_px), np.nan, nearest)
        return classify_points(found, present, tolerance=1.0)

    def at_rest(self) -> np.ndarray:
        """bool [N]."""
        return at_rest(self.label_px * PAPER_WH / self.source_wh, self.frame, self.fps)


def followed(data: Path, domain: Domain, model: str, most: int | None) -> Iterator[Followed]:
    """The clips of a domain, annotated and joined with their labels."""
    files = [csv for csv in sorted((data / domain.folder).rglob("*.csv")) if not csv.stem.endswith("_boxes")]
    for csv in [csv for csv in files if not domain.clips or csv.stem in domain.clips][:most]:
        info = probe(stat(_video(csv)))
        source_wh = np.array(info.size_wh_px)
        frame, label_px = _labels(csv, source_wh)
        rows = specktrack.annotate(_video(csv), model=model)
        x, y, score = (rows[name].to_numpy()[frame] for name in ("x", "y", "score"))
        wh_px = (
            _boxes(csv.with_name(f"{csv.stem}_boxes.csv"), frame) if domain.boxes else np.full((len(frame), 2), np.nan)
        )
        yield Followed(frame, label_px, np.stack([x, y], axis=1), score, wh_px, source_wh, info.fps)


def _video(csv: Path) -> str:
    """The clip beside its labels: a file, or a folder of frames."""
    places = csv.with_suffix(".mp4"), csv.with_suffix(""), csv.parents[1] / "images" / csv.stem
    return str(next(place for place in places if place.exists()))


def _labels(csv: Path, source_wh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames [N] and positions [N, 2] in source px, NaN where absent; files give shares of the picture."""
    values = np.genfromtxt(csv, delimiter=",", names=True)
    frame, *_ = (values[name] for name in ("Frame", "frame_num") if name in values.dtype.names)
    xy = np.stack([values["x"], values["y"]], axis=1)
    xy[(xy < 0).any(axis=1)] = np.nan
    return frame.astype(int), xy * source_wh


def _boxes(path: Path, frame: np.ndarray) -> np.ndarray:
    """Width and height [N, 2] of the boxes ``frame,x,y,w,h`` in ``path``; NaN where a frame has none."""
    values = np.genfromtxt(path, delimiter=",", names=True)
    wh_px = np.full((int(max(frame.max(), values["frame"].max())) + 1, 2), np.nan)
    wh_px[values["frame"].astype(int)] = np.stack([values["w"], values["h"]], axis=1)
    return wh_px[frame]


def detections(clips: list[Followed], *, boxes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all positions that were found, and whether each is right."""
    score = np.concatenate([clip.score for clip in clips])
    outcome = np.concatenate([clip.outcomes(boxes=boxes) for clip in clips])
    found = np.isin(outcome, ("tp", "fp1", "fp2"))
    return score[found], outcome[found] == "tp"


def counted(clips: list[Followed], *, boxes: bool) -> dict[str, object]:
    """Counts over all frames, and apart where the object rests and where it does not."""
    outcomes = [clip.outcomes(boxes=boxes) for clip in clips]
    rest = [clip.at_rest() for clip in clips]
    absent_s = sum(np.isnan(clip.label_px[:, 0]).sum() / clip.fps for clip in clips)
    everything = PointCounts.of(np.concatenate(outcomes))
    resting = PointCounts.of(np.concatenate([o[r] for o, r in zip(outcomes, rest, strict=True)]))
    moving = PointCounts.of(np.concatenate([o[~r] for o, r in zip(outcomes, rest, strict=True)]))
    return {
        "clips": len(clips),
        **everything.as_dict(),
        "f1_in_play": moving.f1,
        "recall_at_rest": resting.recall if resting.total else None,
        "frames_at_rest": resting.total,
        "false_rows_per_minute_absent": everything.fp2 / absent_s * 60 if absent_s else None,
        "calibration_error": found.error if (found := reliability(*detections(clips, boxes=boxes))) else None,
    }


def note(weights: Path, values: dict[str, Any]) -> None:
    """Write the counts over all domains but the known one into the card of ``weights``."""
    unseen = [counts for name, counts in values["domains"].items() if name != KNOWN]
    total = sum((PointCounts(**{f.name: at[f.name] for f in fields(PointCounts)}) for at in unseen), PointCounts())
    clips = sum(at["clips"] for at in unseen)
    where = f"{len(unseen)} kinds of object, {clips} clips, those in the sky within their box, {values['date']}"
    card, tensors = load_weights(weights)
    metrics = card.metrics | {UNSEEN: {"measured_on": where, **total.as_dict()}}
    save_tensors(weights, tensors, {CARD: card.model_copy(update={"metrics": metrics}).model_dump_json()})


def main() -> None:
    """Follow what was left out, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="specknet")
    parser.add_argument("--only", nargs="*", default=list(LEFT_OUT), choices=list(LEFT_OUT))
    parser.add_argument("--most-clips", type=int, help="of each domain, for a first look")
    parser.add_argument("--into", type=Path, help="weights whose card is to say what was found")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    domains, found = {}, []
    for name in options.only:
        domain = LEFT_OUT[name]
        clips = list(followed(options.data, domain, options.model, options.most_clips))
        domains[name] = counted(clips, boxes=domain.boxes)
        found.append(detections(clips, boxes=domain.boxes))
        print(name, {k: round(v, 3) if isinstance(v, float) else v for k, v in domains[name].items()}, flush=True)
    slope, offset = fitted(*(np.concatenate(part) for part in zip(*found, strict=True)))
    print(f"scores would be probabilities with slope {slope:.3f} and offset {offset:.3f} on the logit")
    where = f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}"
    values = {
        "model": Path(options.model).stem,
        "most_clips": options.most_clips,
        "domains": domains,
        "machine": where,
        "date": time.strftime("%Y-%m-%d"),
    }
    options.output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    if options.into:
        note(options.into, values)


if __name__ == "__main__":
    main()
