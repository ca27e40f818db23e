"""Processes that write checkpoints until they are killed: ``python -m tests.faults.checkpoint_writers FOLDER COUNT``.

They are forked from this one, which has loaded torch for all of them. Each leaves ``FOLDER/NUMBER`` with checkpoints
and ``FOLDER/NUMBER.last``, the last one that it finished.
"""

import os
import random
import shutil
import signal
import sys
import time
from itertools import count
from pathlib import Path

import torch

from specktrack.models.zoo import build, network_config
from specktrack.training.config import TrainConfig
from specktrack.training.state import TrainState


def fresh_state(network: object) -> TrainState:
    torch.manual_seed(0)
    run = TrainConfig.parse({"data": ["d"], "output": "o"}, environment={})
    return TrainState(build(network_config(network)).train(), run, torch.device("cpu"))


def write(folder: Path, state: TrainState, done: int) -> None:
    """Save and copy, as a worker and Ray do, for ever; name every checkpoint that is complete."""
    for state.step in count(1):
        state.save(folder / "local")
        shutil.copytree(folder / "local", folder / f"checkpoint_{state.step:06d}")
        os.write(done, state.step.to_bytes(4, "little"))
        shutil.rmtree(folder / f"checkpoint_{state.step - 2:06d}", ignore_errors=True)


def main(folder: Path, writers: int) -> None:
    draw, state = random.Random(5), fresh_state("specknet")
    for number in range(writers):
        home, (heard, told) = folder / str(number), os.pipe()
        home.mkdir()
        if not (pid := os.fork()):
            write(home, state, told)
        os.close(told)
        said = os.read(heard, 4)
        time.sleep(draw.uniform(0, 0.2))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(heard, 4):
            said = more
        os.close(heard)
        (folder / f"{number}.last").write_text(str(int.from_bytes(said, "little")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
