"""Training data through Ray Data: tasks on any node read samples, workers take them in the order of the plan.

The plan is the sampler's, a function of seed and number. Its unit is a shard of a step, one row of the dataset: the
number of its first sample, and what was read for it. Rows are kept in order and dealt out in turn, so each worker gets
the shards that are its own. Ray Train makes the dataset again whenever it starts workers, on whichever number of them:
it begins at the step of the newest checkpoint that is whole, which is where the workers restore, too.
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import ray.data
import ray.train
import safetensors.torch
import torch
from ray.exceptions import RayTaskError
from ray.train import Checkpoint, DataConfig

from specktrack import telemetry
from specktrack.errors import SpecktrackError
from specktrack.storage import open_store
from specktrack.training.checkpoints import newest_step
from specktrack.training.config import TrainConfig
from specktrack.training.course import Course, Tensors, course_of
from specktrack.training.shards import shards_of

SAMPLES = "samples"
"""The dataset's name among those of a run."""
MOST_TASKS = 10_000
"""Tasks of a run: more shards than that share one, which gives them out one after the other."""
FETCHED = 2
"""Steps whose shards are brought to a worker's node ahead of it."""

_ROW = pa.schema({"number": pa.int64(), "tensors": pa.large_binary()})

log = telemetry.get_logger()


def datasets_of(config: TrainConfig, run: str) -> dict[str, Callable[[], ray.data.Dataset]]:
    """The datasets for the trainer of a streamed run; ``run`` is the folder of its checkpoints."""
    return {SAMPLES: partial(_dataset, config.model_dump_json(), run)}


def in_order() -> DataConfig:
    """How a trainer deals out the dataset: as it is ordered, wherever its blocks are."""
    options = ray.data.ExecutionOptions(preserve_order=True)
    return DataConfig(execution_options=options, enable_shard_locality=False)


def _dataset(settings: str, run: str) -> ray.data.Dataset:
    """The shards from the newest checkpoint on."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.target_max_block_size = 1  # bytes: a block of its own for every row, which is what is dealt out
    config = _course(settings).config
    first, parts = newest_step(_kept(run)), config.parts
    units = max(0, config.steps - first) * parts
    log.info("data is streamed", first_step=first, shards=units)
    rows = ray.data.range(units, override_num_blocks=max(1, min(units, MOST_TASKS)))
    return rows.map_batches(
        read_units, batch_size=1, num_cpus=1, fn_kwargs={"settings": settings, "first": first * parts}
    )


def _kept(run: str) -> list[Checkpoint]:
    """The checkpoints of a run, oldest first."""
    if not open_store(run).exists("checkpoint_manager_snapshot.json"):
        return []
    kept = ray.train.Result.from_path(run).best_checkpoints or []
    return [found for found, figures in sorted(kept, key=lambda pair: int(pair[1]["step"]))]


def read_units(rows: dict[str, np.ndarray], *, settings: str, first: int) -> Iterator[pa.Table]:
    """A task's work: for the places of shards in the plan from ``first`` on, what is read for each."""
    course = _course(settings)
    config = course.config
    for place in rows["id"].tolist():
        step, shard = divmod(first + place, config.parts)
        numbers = shards_of(step, batch_size=config.batch_size, parts=config.parts)[shard]
        tensors = {name: tensor.contiguous() for name, tensor in course.read(numbers).items()}
        yield pa.table([[numbers.start], [safetensors.torch.save(tensors)]], schema=_ROW)


@lru_cache(maxsize=1)
def _course(settings: str) -> Course:
    """The run's course as far as reading needs it, made once by each process."""
    torch.set_num_threads(1)  # there is such a process for every core
    config = TrainConfig.read(json.loads(settings))
    return course_of(config.model_copy(update={"validation": (), "keep": "last"}), torch.device("cpu"))


def streamed(mine: Callable[[int], list[range]]) -> Callable[[int], list[Tensors]]:
    """A function that gives a worker its shards of a step, ``mine(step)``, as they were read; call it in order, once
    for each step."""
    shard = ray.train.get_dataset_shard(SAMPLES)
    most = FETCHED * len(mine(0))
    rows = iter(shard.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=most))

    def read(step: int) -> list[Tensors]:
        tensors = []
        for numbers in mine(step):
            try:
                row = next(rows)
            except RayTaskError as error:  # one of ours has a reader's traceback around it
                cause = getattr(error, "cause", None)
                raise (cause if isinstance(cause, SpecktrackError) else error) from None
            assert row["number"][0].as_py() == numbers.start, "another shard's turn"
            tensors.append(safetensors.torch.load(row["tensors"][0].as_py()))
        return tensors

    return read
