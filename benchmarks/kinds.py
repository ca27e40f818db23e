"""How well kinds (drone, bird, airplane, helicopter) are told on clips left out of training, by visible light and heat.

    python benchmarks/kinds.py DATA --datasets FOLDER                        what kindnet is trained on
    specktrack train --recipe kindnet --data FOLDER/visible,FOLDER/thermal --output RUN
    python benchmarks/kinds.py DATA --kinds RUN/model.safetensors --fit kindnet.safetensors      with its calibration
    python benchmarks/kinds.py DATA [--kinds kindnet]                        docs/results/kinds.json

DATA holds the folders drone and drone_ir of labelled clips, whose names say their kind. Kinds are told as ``annotate
--kinds`` tells them, at the labelled places moved by 1.5 px in either direction, about as far as a tracker is off;
``--followed`` tells them where the default model finds something, and counts rows within the label's box. A track's
kind is what most of its rows say.
"""

import argparse
import json
import os
import platform as machine
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from scipy.optimize import minimize_scalar

import specktrack
from generalisation import LEFT_OUT
from specktrack.config import Config
from specktrack.datasets import DatasetVideo, make_dataset, save_dataset
from specktrack.frames import FrameBatch, Trajectory, Viewport, concat
from specktrack.metrics.calibration import reliability
from specktrack.models.checkpoint import Calibration, Model, load_model, save_model
from specktrack.schema import Clip
from specktrack.storage import open_store, stat
from specktrack.tracking.kinds import KindClassifier, KindTracker, cut
from specktrack.video.process import DecoderProcess

RESULT = Path(__file__).parents[1] / "docs" / "results" / "kinds.json"
LIGHTS = {"visible": "drone", "thermal": "drone_ir"}
OFF_PX = 1.5
TESTED = {clip for domain in LEFT_OUT.values() if domain.folder in LIGHTS.values() for clip in domain.clips}
FITTED = {
    f"{light}_{kind}_{number:03}"
    for light, kind, numbers in (
        ("V", "DRONE", (4, 21, 38, 56, 70)), ("V", "BIRD", (3, 27, 35)), ("V", "AIRPLANE", (5, 30)),
        ("IR", "DRONE", (4, 46, 76, 103)), ("IR", "BIRD", (6, 54)), ("IR", "AIRPLANE", (7, 54)),
        ("IR", "HELICOPTER", (17,)),
    )
    for number in numbers
}  # fmt: skip
"""Clips by which the calibration is fitted, and that are not learned from either; there are too few helicopters in
visible light to leave one out."""


@dataclass(frozen=True)
class Sighting:
    """A clip, its labels, and the kind that its name says."""

    video: Path
    light: str

    @property
    def kind(self) -> str:
        return self.video.stem.split("_")[1].lower()

    def labels(self, wh_px: tuple[int, int]) -> Trajectory:
        values = np.genfromtxt(self.video.with_suffix(".csv"), delimiter=",", names=True)
        frame, xy_px = values["Frame"].astype(int), np.stack([values["x"], values["y"]], axis=1) * wh_px
        xy_px[values["Ball"] == 0] = np.nan
        return Trajectory(frame, frame / 30, xy_px.astype(np.float32), np.full(len(frame), np.nan, np.float32))

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        """Width and height [N, 2] of the labels' boxes, source px; NaN where a frame has none."""
        values = np.genfromtxt(self.video.with_name(f"{self.video.stem}_boxes.csv"), delimiter=",", names=True)
        wh_px = np.full((int(max(frame.max(), values["frame"].max())) + 1, 2), np.nan)
        wh_px[values["frame"].astype(int)] = np.stack([values["w"], values["h"]], axis=1)
        return wh_px[frame]


def sightings(data: Path, *, only: set[str] | None = None, without: Collection[str] = ()) -> Iterator[Sighting]:
    """The clips of both lights."""
    for light, folder in LIGHTS.items():
        for video in sorted((data / folder).glob("*.mp4")):
            if video.stem not in without and (only is None or video.stem in only):
                yield Sighting(video, light)


def write_datasets(data: Path, folder: Path) -> None:
    """A dataset for each light of what is learned from, whose rows say kinds."""
    for light in LIGHTS:
        videos, tables = [], []
        for sighting in (each for each in sightings(data, without=TESTED | FITTED) if each.light == light):
            ref = stat(str(sighting.video))
            with DecoderProcess() as decoder:
                info = decoder.probe(ref)
            label = sighting.labels(info.size_wh_px)
            label = label[label.frame < info.frames]
            kinds = np.where(label.present, sighting.kind, None)
            tables.append(Trajectory(label.frame, label.pts_s, label.xy_px, label.score, kind=kinds).to_rows(ref.uri))
            width, height = info.size_wh_px
            videos.append(DatasetVideo(ref=ref, width_px=width, height_px=height, fps=info.fps, frames=info.frames))
        rows = pa.concat_tables(tables).unify_dictionaries()
        dataset = make_dataset(rows, tuple(videos), name=light, layout="badminton", source=str(data / LIGHTS[light]))
        save_dataset(dataset, open_store(str(folder / light)))
        print(f"{light}: {len(videos)} clips, {rows.num_rows:,} rows in {folder / light}")


class _Labelled:
    """A tracker that finds what is labelled, a little off."""

    config, stride, lead, step_s, wants_background = Config(), 1, 0, None, False

    def __init__(self, label: Trajectory) -> None:
        off_px = np.random.default_rng(0).normal(0, OFF_PX, label.xy_px.shape).astype(np.float32)
        self._rows = Trajectory(label.frame, label.pts_s, label.xy_px + off_px, label.score)

    def viewport(self, source_wh_px: tuple[int, int]) -> Viewport:
        return Viewport(source_wh_px, (16, 16))

    def open(self, prompt: object = None) -> "_Labelled":
        return self

    def push(self, batch: FrameBatch) -> Trajectory:
        return self._rows.between(int(batch.frame[0]), int(batch.frame[-1]) + 1)

    def finish(self) -> Trajectory:
        return Trajectory.empty()

    def provisional(self) -> Trajectory:
        return Trajectory.empty()


def told(sighting: Sighting, classifier: KindClassifier) -> Trajectory:
    """Rows of a clip at its labelled places, with kinds."""
    ref = stat(str(sighting.video))
    with DecoderProcess() as decoder:
        info = decoder.probe(ref)
        tracker = KindTracker(_Labelled(sighting.labels(info.size_wh_px)), classifier)
        session, clip = tracker.open(), Clip(video=ref, start=0, stop=info.frames)
        with closing(decoder.read_clip(clip, info=info, viewport=tracker.viewport(info.size_wh_px))) as batches:
            rows = concat([*(session.push(batch) for batch in batches), session.finish()])
    return rows[rows.present]


def followed(sighting: Sighting, kinds: str) -> Trajectory:
    """Rows of the default model that lie within the label's box, with kinds."""
    rows = Trajectory.from_rows(specktrack.annotate(sighting.video, kinds=kinds))
    ref = stat(str(sighting.video))
    with DecoderProcess() as decoder:
        label = sighting.labels(decoder.probe(ref).size_wh_px)
    label = label[label.present & (label.frame < len(rows))]
    rows = rows[label.frame]
    near = (np.abs(rows.xy_px - label.xy_px) <= sighting.boxes(label.frame) / 2).all(axis=1)
    return rows[near & (rows.gap == 0)]


def counted(found: Sequence[tuple[Sighting, Trajectory]], kinds: tuple[str, ...]) -> dict[str, object]:
    """Confusion by frames and by tracks, true kinds down, and what follows from them."""
    frames, tracks = np.zeros((len(kinds),) * 2, int), np.zeros((len(kinds),) * 2, int)
    wrong = {}
    for sighting, rows in found:
        of = np.array([kinds.index(kind) for kind in rows.kind], int)
        votes = np.bincount(of, minlength=len(kinds))
        true = kinds.index(sighting.kind)
        frames[true] += votes
        tracks[true, votes.argmax()] += 1
        if votes.argmax() != true:
            wrong[sighting.video.stem] = kinds[votes.argmax()]
    score = np.concatenate([rows.kind_score for _, rows in found])
    right = np.concatenate([rows.kind == sighting.kind for sighting, rows in found])
    several = frames.sum(axis=1) > 0
    return {
        "clips": len(found),
        "rows": int(frames.sum()),
        "accuracy_by_row": float(np.trace(frames) / frames.sum()),
        "balanced_accuracy_by_row": float((np.diag(frames)[several] / frames.sum(axis=1)[several]).mean()),
        "accuracy_by_track": float(np.trace(tracks) / tracks.sum()),
        "rows_by_kind": frames.tolist(),
        "tracks_by_kind": tracks.tolist(),
        "wrong_tracks": wrong,
        "calibration_error": spread.error if (spread := reliability(score, right)) else None,
    }


def fitted(data: Path, model: Model) -> float:
    """What the logits are to be multiplied by, so that probabilities of the clips FITTED are right."""
    classifier = KindClassifier(model, torch.device("cpu"))
    network = classifier.model.network
    logits, true = [], []
    for sighting in sightings(data, only=FITTED):
        ref = stat(str(sighting.video))
        with DecoderProcess() as decoder, torch.inference_mode():
            info = decoder.probe(ref)
            rows = _Labelled(sighting.labels(info.size_wh_px))
            clip, view = Clip(video=ref, start=0, stop=info.frames), Viewport(info.size_wh_px, (16, 16), luma=True)
            with closing(decoder.read_clip(clip, info=info, viewport=view)) as batches:
                features = np.concatenate([
                    classifier.features([cut(batch.luma[n - batch.frame[0]], xy, classifier.side) for n, xy in zip(
                        now.frame, now.xy_px, strict=True)])
                    for batch in batches if len(now := rows.push(batch)) and (now := now[now.present])
                ])  # fmt: skip
            for stop in range(1, len(features) + 1, 8):
                newest = torch.from_numpy(features[max(0, stop - classifier.config.frames_in) : stop])
                logits.append(network.decide(newest[None])[0])
                true.append(classifier.config.kinds.index(sighting.kind))
    weight = 1 / np.bincount(true)[true]  # every kind counts alike
    all_logits, all_true = torch.stack(logits), torch.tensor(true)

    def surprise(slope: float) -> float:
        each = torch.nn.functional.cross_entropy(all_logits * slope, all_true, reduction="none").numpy()
        return float((each * weight).sum() / weight.sum())

    best = minimize_scalar(surprise, bounds=(0.05, 5), method="bounded")
    print(f"{len(true)} rows of {len(FITTED)} clips: slope {best.x:.3f}, {surprise(1):.3f} -> {best.fun:.3f} nats")
    return float(best.x)


def main() -> None:
    """Write datasets, fit a calibration, or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", default="kindnet", help="name or path of weights")
    parser.add_argument("--datasets", type=Path, help="write what is trained on here")
    parser.add_argument("--fit", type=Path, help="write the weights here, calibrated")
    parser.add_argument("--followed", action="store_true", help="where the default model finds something")
    parser.add_argument("--clips", nargs="*", help="only these of the clips left out")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.datasets:
        return write_datasets(options.data, options.datasets)
    if options.fit:
        model = load_model(options.kinds)
        calibration = Calibration(slope=fitted(options.data, model))
        save_model(options.fit, model.network, model.card.model_copy(update={"calibration": calibration}))
        return None
    classifier = KindClassifier(load_model(options.kinds), torch.device("cpu"))
    lights: dict[str, object] = {}
    for light in LIGHTS:
        clips = [
            each for each in sightings(options.data, only=set(options.clips or TESTED) & TESTED) if each.light == light
        ]
        found = [
            (each, followed(each, options.kinds) if options.followed else told(each, classifier)) for each in clips
        ]
        if found := [(each, rows) for each, rows in found if len(rows)]:
            lights[light] = counted(found, classifier.config.kinds)
            print(light, json.dumps(lights[light]), flush=True)
    where = f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}"
    content = {
        "model": classifier.model.card.name, "kinds": classifier.config.kinds, "followed": options.followed,
        "lights": lights, "machine": where, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
