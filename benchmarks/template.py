"""Speed of the template trackers: frames per CPU-second and the time of each stage; no trained weights are needed.

    python benchmarks/template.py [--frames 60] [NAME ...]          default: every template network of the zoo

One thread; everything is CPU time, stages by their share of the wall time, so other load matters little; then once more
on all cores, in wall time: that column wants a quiet machine. A 10-px target over 1280x720 frames; networks are random,
which changes what they follow but not how long a found frame takes: the target counts as found in every frame, so each
runs all stages and learning keeps its schedule. The last column is the time of a frame in the last tenth of the
sequence, relative to the first: memory and learning are bounded.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch

from specktrack.frames import FrameBatch, Viewport
from specktrack.models.template.dimp import Dimp
from specktrack.models.zoo import VARIANTS, ZOO, build, network_config
from specktrack.schema import Box, Prompt
from specktrack.tracking.template.session import TemplateSession

STAGES = ("cut", "features", "scores", "box", "learn")


def main() -> None:
    """Print one row per network."""
    names = [name for name in (*ZOO, *VARIANTS) if network_config(name).family == "template"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names)
    parser.add_argument("--frames", type=int, default=60)
    given = parser.parse_args()
    print(
        "| network | prompt s | frames/s | all cores | "
        + " | ".join(f"{stage} ms" for stage in STAGES)
        + " | last / first tenth |"
    )
    print("|---|--:|--:|--:|" + "--:|" * (len(STAGES) + 1))
    for name in given.names:
        print(measured(name, given.frames), flush=True)


def measured(name: str, frames: int) -> str:
    """The row of one network."""
    session, taken = followed(name, frames, threads=1, clock=time.process_time)
    tenth = max(1, frames // 10)
    first, last = np.mean(taken[1 : 1 + tenth]), np.mean(taken[-tenth:])
    cpu_share = sum(taken[1:]) / sum(session.seconds[stage] for stage in STAGES)
    stages = " | ".join(f"{session.seconds[stage] * cpu_share / frames * 1000:.1f}" for stage in STAGES)
    _, together = followed(name, frames, threads=os.cpu_count() or 1, clock=time.perf_counter)
    per_s = " | ".join(f"{frames / sum(seconds[1:]):.1f}" for seconds in (taken, together))
    return f"| {name} | {taken[0]:.1f} | {per_s} | {stages} | {last / first:.2f} |"


def followed(
    name: str, frames: int, *, threads: int, clock: Callable[[], float]
) -> tuple[TemplateSession, list[float]]:
    """A session that has seen so many frames after its prompt, and the time of each of them."""
    torch.set_num_threads(threads)
    config = network_config(name)
    online = config.online.model_copy(update={"lost_below": -1e9, "competing_above": 1e9, "distracting_above": 1e9})
    network = build(config.model_copy(update={"online": online})).eval().requires_grad_(requires_grad=False)
    assert isinstance(network, Dimp)
    session = TemplateSession(
        network, Prompt(frame=0, box=Box(cx_px=640, cy_px=360, w_px=10, h_px=10)), device=torch.device("cpu")
    )
    pixels = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    taken = []
    for frame in range(frames + 1):
        shifted = np.roll(pixels, frame, axis=1)[None]
        started = clock()
        session.push(FrameBatch(shifted, np.array([frame]), np.array([frame / 30]), Viewport((1280, 720), (1280, 720))))
        taken.append(clock() - started)
    return session, taken


if __name__ == "__main__":
    main()
