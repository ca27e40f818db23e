"""Workers that train a few steps together, without Ray: ``python -m tests.training_workers FOLDER``.

For every ``NAME.json`` in FOLDER, a configuration with two shards, they are one and then two processes, forked from
this one, which has loaded torch for all of them. They leave ``NAME-1`` and ``NAME-2``: the losses of every step as
``losses.json``, and a checkpoint.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.fsdp  # which DistributedDataParallel loads when it is first made
from torch.nn.parallel import DistributedDataParallel

from specktrack.training.config import TrainConfig
from specktrack.training.course import course_of
from specktrack.training.shards import mean_over_workers, shards_of
from specktrack.training.worker import Learner, learn


def work(config: TrainConfig, folder: Path, *, rank: int, workers: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=workers)
    course = course_of(config, torch.device("cpu"))
    state = course.state(course.network())
    alone, losses = Learner(course, state), []
    learner = DistributedDataParallel(alone, **alone.parallel)
    for step in range(config.steps):
        mine = shards_of(step, batch_size=config.batch_size, parts=config.parts, rank=rank, workers=workers)
        figures = learn(learner, state, tuple(map(course.samples, mine)))
        mean_over_workers(list(figures.values()))
        losses.append({name: float(value) for name, value in figures.items()})
    if rank == 0:
        state.save(folder)
        (folder / "losses.json").write_text(json.dumps(losses))


def main(folder: Path) -> None:
    for file in sorted(folder.glob("*.json")):
        config = TrainConfig.read(json.loads(file.read_text()))
        for workers in (1, 2):
            place = folder / f"{file.stem}-{workers}"
            place.mkdir()
            children = []
            for rank in range(workers):
                if not (child := os.fork()):
                    work(config, place, rank=rank, workers=workers)
                    os._exit(0)
                children.append(child)
            assert not any(os.waitpid(child, 0)[1] for child in children), file.stem


if __name__ == "__main__":
    main(Path(sys.argv[1]))
