"""What each engine does with a network on this machine: windows and frames per second, and how far it is from the rest.

    python benchmarks/engines.py [MODEL] [--threads 1] [--rounds 9] [--engines NAME ...] [--output FILE]

Engines run the same window in turn, round after round, so that whatever else is at work disturbs all of them alike;
the file holds the minimum, median and maximum of each. ``ONEDNN_MAX_CPU_ISA`` caps torch's instructions.
"""

import argparse
import json
import os
import statistics
import time
from datetime import date
from pathlib import Path

import torch

from specktrack.models.checkpoint import load_model
from specktrack.models.heatmap.engines import ENGINES, missing
from specktrack.models.heatmap.engines.choosing import make
from specktrack.models.heatmap.entries import WindowedConfig
from specktrack.models.machine import versions
from specktrack.models.zoo import DEFAULT_MODEL

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "engines.json"
OVERLAP = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--engines", nargs="+", choices=ENGINES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = options.engines or [n for n, k in ENGINES.items() if device.type in k.devices and not missing(n)]
    model = load_model(options.model)
    config = model.config
    assert isinstance(config, WindowedConfig)
    width, height = config.input_wh
    window = torch.randint(0, 256, (1, config.pictures_in, height, width, 3), dtype=torch.uint8)
    engines, started_s, heatmaps = {}, {}, {}
    for name in names:
        started = time.perf_counter()
        engines[name] = make(name, model, config.input_wh, device)
        heatmaps[name] = engines[name](window).cpu()
        started_s[name] = time.perf_counter() - started
        print(f"{name}: ready after {started_s[name]:.1f} s", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine(window).cpu()
            seconds[name].append(time.perf_counter() - started)
    frames = config.frames_in // OVERLAP
    table = {
        name: {
            "start_s": round(started_s[name], 2),
            "frames_per_s": {
                "min": round(frames / max(taken), 2),
                "median": round(frames / statistics.median(taken), 2),
                "max": round(frames / min(taken), 2),
            },
            "largest_difference": float((heatmaps[name] - heatmaps[names[0]]).abs().max()),
        }
        for name, taken in seconds.items()
    }
    circumstances = {
        "model": model.card.name, "sha256": model.sha256, "size": f"{width}x{height}", "windows_per_frame": OVERLAP,
        "threads": options.threads, "cores": os.cpu_count(), "instructions": torch.backends.cpu.get_cpu_capability(),
        "capped": os.environ.get("ONEDNN_MAX_CPU_ISA", ""), "versions": versions(), "date": date.today().isoformat(),
    }  # fmt: skip
    options.output.write_text(
        json.dumps({**circumstances, "compared_with": names[0], "engines": table}, indent=1) + "\n"
    )
    for name, row in table.items():
        print(f"{name:16} {row['frames_per_s']}  largest difference {row['largest_difference']:.1e}")


if __name__ == "__main__":
    main()
