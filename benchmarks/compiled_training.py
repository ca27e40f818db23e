"""What ``compile=true`` is worth in training: steps of the same network, eager and compiled, in alternating rounds.

    python benchmarks/compiled_training.py [NETWORK ...] [--rounds 10]

A step is that of ``specktrack train``: eight windows, forward, loss, backward and update, on one core. Printed are the
seconds until the first compiled step is done, CPU time of a step either way (medians), and after how many steps
compiling has paid for itself.
"""

import argparse
import copy
import statistics
import time

import numpy as np
import torch

from specktrack.models.heatmap.network import HeatmapNetwork
from specktrack.models.zoo import build, network_config
from specktrack.training.precision import autocast
from specktrack.training.state import TrainState
from specktrack.training.windowed.batches import Batch
from specktrack.training.windowed.config import WindowedTrainConfig
from specktrack.training.windowed.learning import judged, varied

BATCH, CROP_WH = 8, (160, 128)
NETWORKS = ("specknet", "wasb", "monotrack", "tracknet-v2")


def main() -> None:
    """One line per network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        eager, compiled = _runs(name)
        first_s = compiled.step()[1] - eager.step()[1]
        times = [(eager.step()[0], compiled.step()[0]) for _ in range(options.rounds + 1)][1:]
        eager_s, compiled_s = (statistics.median(taken) for taken in zip(*times, strict=True))
        pays = f"pays after {first_s / (eager_s - compiled_s):,.0f} steps" if compiled_s < eager_s else "never pays"
        print(
            f"{name}: compiling {first_s:.0f} s; a step {eager_s:.3f} s eager, {compiled_s:.3f} s compiled"
            f" ({eager_s / compiled_s:.2f}x), {pays}",
            flush=True,
        )


class _Run:
    def __init__(self, network: HeatmapNetwork) -> None:
        self.config = WindowedTrainConfig(data=("none",), output="none", network=network.config, steps=10_000)
        self.state = TrainState(network, self.config, torch.device("cpu"))
        width, height = CROP_WH
        entry, seeds = network.config, np.random.default_rng(0)
        xy = seeds.uniform((8, 8), (width - 8, height - 8), (BATCH, entry.frames_in, 2)).astype(np.float32)
        self.batch = Batch(
            torch.from_numpy(seeds.random((BATCH, entry.pictures_in, 3, height, width), dtype=np.float32)),
            torch.from_numpy(xy),
            torch.Generator(),
            torch.zeros(BATCH, entry.frames_in, dtype=torch.bool),
        )

    def step(self) -> tuple[float, float]:
        """CPU and wall seconds of one."""
        wall, cpu = time.perf_counter(), time.process_time()
        blend = varied(self.batch, self.config.augment)
        with autocast(self.config, torch.device("cpu")):
            results = judged(self.state.network, blend)
        self.state.update(results["loss"])
        return time.process_time() - cpu, time.perf_counter() - wall


def _runs(name: str) -> tuple[_Run, _Run]:
    """Eager and compiled, from the same weights."""
    torch.manual_seed(0)
    network = build(network_config(name))
    assert isinstance(network, HeatmapNetwork)
    eager, compiled = _Run(copy.deepcopy(network)), _Run(network)
    compiled.state.network.compile()
    return eager, compiled


if __name__ == "__main__":
    main()
