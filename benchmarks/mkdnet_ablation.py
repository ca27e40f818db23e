"""Ablation of MKDNet's levels: features (FD), scores (SD), boxes (IoUD), all of them, and none.

    python benchmarks/mkdnet_ablation.py WORK [--steps 40] [--seeds 3] [--sequences 12] [--output FILE.json]

Every arm starts from the teacher's weights and takes the same steps on the same pictures, degraded to tiny targets;
what differs is only what the teacher says. ``teacher`` has taken no such step. Boxes are refined, in five steps, as two
of the three levels teach the box head. Judged on sequences of tiny targets that no arm saw, rendered as those of
training (painted scenes: no data is needed). WORK keeps the sequences and every finished arm, so an interrupted run
goes on. One core; the mean of the seeds and their standard deviation are printed.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from specktrack.datasets.patches import PatchesConfig, load_scenes, render_patches, write_patches
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.metrics.boxes import BOX_PROTOCOLS, score_sequence
from specktrack.models.checkpoint import Model, load_model
from specktrack.models.zoo import build
from specktrack.schema import Box, Prompt
from specktrack.tracking.template.session import TemplateTracker
from specktrack.training.shards import shards_of
from specktrack.training.template.config import MkdNetDistillConfig, TemplateTrainConfig
from specktrack.training.template.course import TemplateCourse
from specktrack.training.worker import Learner, learn

CPU = torch.device("cpu")
ARMS = {
    "none": (False, False, False),
    "FD": (True, False, False),
    "SD": (False, True, False),
    "IoUD": (False, False, True),
    "all": (True, True, True),
}
MEASURES = ("success_auc", "precision_5px", "normalised_precision_auc", "lost")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--teacher", default="speckdimp")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=12, help="held out, 24 frames each")
    parser.add_argument("--output", type=Path, help="JSON of all numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    teacher = load_model(given.teacher)
    tests = list(held_out(given.sequences))
    arms = [("teacher", 0)] + [(arm, seed) for seed in range(given.seeds) for arm in ARMS]
    runs = []
    for arm, seed in arms:
        kept = given.work / f"{arm}-{seed}-{given.steps}-{given.sequences}-{teacher.card.weights_sha256[:8]}.json"
        if not kept.is_file():
            started = time.monotonic()
            student, gates = (teacher, {}) if arm == "teacher" else trained(teacher, arm, seed, given)
            wall_s = round(time.monotonic() - started)
            run = {"arm": arm, "seed": seed, **judged(student, tests), **gates, "wall_s": wall_s}
            kept.write_text(json.dumps(run))
        runs.append(json.loads(kept.read_text()))
        print(json.dumps(runs[-1]), flush=True)
    print(table(runs))
    if given.output:
        note = {
            "command": f"benchmarks/mkdnet_ablation.py WORK --teacher {given.teacher} --steps {given.steps} "
            f"--seeds {given.seeds} --sequences {given.sequences}",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"one thread of {platform.processor() or platform.machine()}",
            "teacher_weights_sha256": teacher.card.weights_sha256,
            "runs": runs,
        }
        given.output.write_text(json.dumps(note, indent=1) + "\n")


def trained(teacher: Model, arm: str, seed: int, given: argparse.Namespace) -> tuple[Model, dict[str, float]]:
    """The teacher's weights after some steps on degraded pictures, and how often the distillation's gates were open."""
    data = given.work / "patches"
    if not (data / "dataset.json").is_file():
        write_patches(PatchesConfig(sequences=160, frames=13, seed=1, size_px=(6, 64)), str(data))
    features, scores, boxes = ARMS[arm]
    tiny_px = 16 / 352 * teacher.config.input_wh[0]  # the paper's share of the picture
    config = TemplateTrainConfig(
        data=(str(data),), output=str(given.work), cache=str(given.work / "frames"), network=teacher.config,
        init=given.teacher, steps=given.steps, seed=seed,
        learning_rates={"": 2e-4, "classifier.filter_optimizer": 0.0}, warmup_steps=10, average=0.95,
        distill=MkdNetDistillConfig(
            teacher=given.teacher, features=features, scores=scores, boxes=boxes, tiny_px=tiny_px
        ),
    )  # fmt: skip
    course = TemplateCourse(config, CPU)
    state = course.state(course.network())
    learner, open_gates = Learner(course, state), {"gate_boxes": 0, "gate_scores": 0}
    for step in range(config.steps):
        [numbers] = shards_of(step, batch_size=config.batch_size, parts=1)
        results = learn(learner, state, (course.samples(numbers),))
        for gate in open_gates:
            open_gates[gate] += int(results[gate] > 0)
    return Model(state.average, teacher.card), {gate: n / config.steps for gate, n in open_gates.items()}


def held_out(sequences: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames [N, H, W, 3] and boxes x, y, w, h [N, 4] of tiny targets; scenes and things of another seed."""
    config = PatchesConfig(sequences=sequences, frames=24, seed=1001, size_px=(4, 10))
    scenes = load_scenes(config)
    for index in range(sequences):
        frames, label = render_patches(config, index, scenes)
        yield np.stack(frames), _xywh(label)


def judged(model: Model, tests: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means over the sequences, by LaTOT's rules."""
    online = model.config.online.model_copy(update={"box_steps": 5, "boxes": 10, "size_gain": None})
    network = build(model.config.model_copy(update={"online": online})).eval()
    network.load_state_dict(model.network.state_dict())
    tracker = TemplateTracker(Model(network, model.card), device=CPU)
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for frames, label in tests:
        count, height, width = frames.shape[:3]
        x, y, w, h = label[0].tolist()
        session = tracker.open(Prompt(frame=0, box=Box(cx_px=x + (w - 1) / 2, cy_px=y + (h - 1) / 2, w_px=w, h_px=h)))
        index, size = np.arange(count), (width, height)
        followed = session.push(FrameBatch(frames, index, index / 30, Viewport(size, size)))
        scores = score_sequence(_xywh(followed), label, BOX_PROTOCOLS["latot-all"])
        found["success_auc"].append(float(scores.success.mean()))
        found["precision_5px"].append(float(scores.precision[5]))
        found["normalised_precision_auc"].append(float(scores.normalised.mean()))
        found["lost"].append(scores.lost)
    return {name: round(statistics.fmean(values), 4) for name, values in found.items()}


def _xywh(rows: Trajectory) -> np.ndarray:
    return np.hstack([rows.xy_px - (rows.wh_px - 1) / 2, rows.wh_px]).astype(float)


def table(runs: list[dict[str, object]]) -> str:
    """Markdown: the mean over seeds and the standard deviation of one seed."""
    lines = ["| arm | " + " | ".join(MEASURES) + " |", "|---|" + "--:|" * len(MEASURES)]
    for arm in ("teacher", *ARMS):
        cells = []
        for name in MEASURES:
            values = [float(str(run[name])) for run in runs if run["arm"] == arm]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.3f}{spread}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
