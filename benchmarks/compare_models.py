"""Every heatmap network under the same conditions: same data, same number of samples, same recipe, same evaluation.

    python benchmarks/compare_models.py [TRAIN TEST] [--networks NAME ...] [--steps 240] [--runs FOLDER] [--seed 0]
    python benchmarks/compare_models.py TEST --model NAME
    python benchmarks/compare_models.py --costs

The first form trains each network with the recipe ``fast`` as ``specktrack train workers=0`` does, one after the other,
follows TEST with windows end to end, and leaves its numbers in docs/results/rallies-STEPS/NAME.json; networks that have
one are left out. Without TRAIN and TEST it renders both, and the folder is rendered-STEPS. The second evaluates a
trained model as it comes (docs/results/NAME.trained.json). The third measures passes of all networks in one run, round
after round (docs/results/costs.json). ``docs/make_results.py`` makes tables of it, one of each folder.
"""

import argparse
import copy
import json
import os
import platform as machine
import statistics
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.flop_counter import FlopCounterMode

from specktrack.datasets.synthetic import SynthConfig, write_archive
from specktrack.evaluate import EvaluateConfig, EvaluationReport, evaluate
from specktrack.frames import concat
from specktrack.models.checkpoint import load_model
from specktrack.models.heatmap.detector import Detector
from specktrack.models.network import Network
from specktrack.models.zoo import VARIANTS, ZOO, build, network_config
from specktrack.tracking.tracker import tracker_of
from specktrack.training import TrainConfig, recipe_path
from specktrack.training import train as train_network
from specktrack.training.footage import Reading
from specktrack.training.frame_cache import load_videos
from specktrack.training.validation import frames_of

RESULTS = Path(__file__).parents[1] / "docs" / "results"
END_TO_END = {"overlap": 1}
"""Each frame is seen once: stride-1 ensembles cost up to eight times as much, which is another comparison."""
CACHE = Path("~/.cache/specktrack/frames").expanduser()
KEPT = (
    "frames", "counts", "f1", "precision", "recall", "accuracy", "at", "average_precision", "error_px",
    "error_512x288_px", "conditions",
)  # fmt: skip
"""Of an evaluation: numbers only, no paths."""
TRAINED_VARIANTS = ("specknet-court", "specknet-wide")
"""Weights of these are in the package too."""
STILL = ("brightness", "contrast", "gamma", "tint", "saturation", "permute_channels", "noise", "blur")
BUDGET = {
    "average": 0.98, "warmup_steps": 15, "learning_rate": 2e-3, "validate_every": 1_000_000, "log_every": 20,
    "sampling.zoom": [1, 1], "sampling.skip_frames": 0, **{f"augment.{name}": 0 for name in STILL},
}  # fmt: skip
"""What so short a run needs beside the recipe."""
RENDERED = {
    "train": SynthConfig(videos=24, frames=60, width_px=256, height_px=144, seed=1),
    "test": SynthConfig(videos=6, frames=60, width_px=256, height_px=144, seed=2),
}
"""At network size, where a ball has 4 to 8 px: so short a run learns nothing of one of 2 px."""


def main() -> None:
    """Compare, or measure speed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="*")
    parser.add_argument("--networks", nargs="+", default=[n for n, e in ZOO.items() if e.family == "windowed"])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--input", type=_size, default=[256, 144], help="network px of every network")
    parser.add_argument("--crop", type=_size, default=[96, 64])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--model", help="evaluate this model on TEST instead of training")
    parser.add_argument("--costs", action="store_true")
    options = parser.parse_args()
    if options.costs:
        _save("costs", _costs([*options.networks, *TRAINED_VARIANTS]))
        return
    if options.model:
        _save(f"{Path(options.model).stem}.trained", _trained(options.model, *options.data))
        return
    footage = "rallies" if options.data else "rendered"
    for name in options.networks:
        result = f"{footage}-{options.steps}/{name}" + (f".seed{options.seed}" if options.seed else "")
        if not (RESULTS / f"{result}.json").exists():
            _save(result, _result(name, options, *(options.data or _rendered(options.runs))))


def _size(text: str) -> list[int]:
    return [int(side) for side in text.split("x")]


def _save(name: str, values: dict[str, Any]) -> None:
    values |= {"machine": f"{os.cpu_count()} cores, {machine.machine()}, torch {torch.__version__}",
               "date": time.strftime("%Y-%m-%d")}  # fmt: skip
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(name, {key: values[key] for key in ("f1", "accuracy", "frames_per_s") if key in values}, flush=True)


def _rendered(runs: Path) -> list[str]:
    """The archives to train on and to test with; rendered unless they are there."""
    for name, config in RENDERED.items():
        if not (runs / name / "dataset.json").exists():
            write_archive(config, str(runs / name))
    return [str(runs / name) for name in RENDERED]


def _result(name: str, options: argparse.Namespace, train: str, test: str) -> dict[str, Any]:
    """Train and evaluate one network."""
    output = options.runs / f"{name}-{options.steps}-{options.seed}"
    settings = VARIANTS.get(name, {"name": name}) | {"input_wh": options.input}
    config = TrainConfig.parse(
        {
            "data": [train], "output": str(output), "network": settings, "steps": options.steps, "seed": options.seed,
            "sampling.crop_wh": options.crop, "workers": 0, **BUDGET,
        },
        yaml_file=recipe_path("fast"), environment={},
    )  # fmt: skip
    report = train_network(config)
    evaluation = evaluate(EvaluateConfig(data=test, predictions=_rows(output, test)))
    recipe = load_model(output).card.recipe
    samples, network = recipe["steps"] * recipe["batch_size"], recipe["network"]
    budget = {name: recipe[name] for name in ("steps", "batch_size", "learning_rate", "seed")} | {
        "samples": samples, "frames": samples * network["frames_in"], "crop_wh": recipe["sampling"]["crop_wh"],
        "wall_s": report.wall_s,
    }  # fmt: skip
    numbers = _numbers(evaluation) | {"videos": len(evaluation.per_video)}
    return {"model": name, "budget": budget, "network": network, **numbers}


def _trained(model: str, test: str) -> dict[str, Any]:
    """Evaluate a model as it comes, in the windows that it is annotated with."""
    card = load_model(model).card
    evaluation = evaluate(EvaluateConfig(data=test, model=model))
    return {"model": card.name, "weights_sha256": card.weights_sha256, "network": card.network.model_dump(mode="json"),
            **_numbers(evaluation)}  # fmt: skip


def _numbers(evaluation: EvaluationReport) -> dict[str, Any]:
    values = evaluation.model_dump(mode="json")
    return {key: values[key] for key in KEPT}


def _rows(model: Path, test: str) -> str:
    """Rows of the test videos by windows end to end, as a Parquet file."""
    loaded = load_model(model)
    tracker = tracker_of(loaded, device="cpu", **END_TO_END)
    wants_background = loaded.config.pictures_in > loaded.config.frames_in
    tables = []
    for video in load_videos(
        (test,), input_wh=loaded.config.input_wh, reading=Reading(CACHE), background=wants_background
    ):
        session = tracker.open()
        rows = concat([*(session.push(batch) for batch in frames_of(video)), session.finish()])
        tables.append(rows.to_rows(video.ref.uri))
    path = model / "rows.parquet"
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table.cast(tables[0].schema))
    return str(path)


def _costs(names: list[str], rounds: int = 5) -> dict[str, Any]:
    """Parameters, FLOPs and frames/s of one window at 512x288; CPU time, medians over alternating rounds."""
    torch.set_num_threads(1)
    detectors, models = {}, {}
    for name in names:
        network = build(network_config(name).model_copy(update={"input_wh": (512, 288)})).eval()
        models[name] = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "gflop_per_frame": round(_gflop(network, (512, 288)) / network.config.frames_out, 2),
            **_at_own_size(name),
        }
        detectors[name] = Detector(network, device=torch.device("cpu"))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):  # the first one warms up
        for name, detector in detectors.items():
            window = torch.randint(0, 255, (1, detector.config.pictures_in, 288, 512, 3), dtype=torch.uint8)
            started = time.process_time()
            detector.heatmaps(window)
            seconds[name].append((time.process_time() - started) / detector.config.frames_out)
    for name, taken in seconds.items():
        models[name]["frames_per_s"] = round(1 / statistics.median(taken[1:]), 2)
    return {"models": models}


def _at_own_size(name: str) -> dict[str, Any]:
    config = network_config(name)
    return {
        "own_wh": config.input_wh,
        "own_gflop_per_frame": round(_gflop(build(config).eval(), config.input_wh) / config.frames_out, 2),
    }


def _gflop(network: Network, wh: tuple[int, int]) -> float:
    """Of one forward pass on pictures of a size, counted on the meta device, which computes nothing."""
    pictures, (width, height) = network.config.pictures_in, wh
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        copy.deepcopy(network).to("meta")(torch.empty(1, pictures, 3, height, width, device="meta"))
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    main()
