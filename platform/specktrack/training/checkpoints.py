"""Checkpoints of a run on Ray Train, and resuming from them."""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode

from specktrack import telemetry
from specktrack.errors import CheckpointError
from specktrack.training.journal import Journal
from specktrack.training.state import TrainState, read_state

log = telemetry.get_logger()


def restore(state: TrainState[Any]) -> None:
    """Go on from this run's newest checkpoint that is whole, if there is one; CheckpointError if none of them is."""
    if ray.train.get_checkpoint() is not None:
        restore_newest(state, [reported.checkpoint for reported in ray.train.get_all_reported_checkpoints()])


def restore_newest(state: TrainState[Any], checkpoints: Sequence[Checkpoint]) -> None:
    """From the last of ``checkpoints`` that is whole; CheckpointError if none of them is."""
    damaged: CheckpointError | None = None
    for candidate in reversed(checkpoints):
        try:
            with candidate.as_directory() as folder:
                state.restore(folder)
                return
        except CheckpointError as error:
            log.warning("checkpoint skipped", reason=str(error))
            damaged = error
    assert damaged is not None
    raise damaged


def newest_step(checkpoints: Sequence[Checkpoint]) -> int:
    """The step that ``restore_newest`` resumes from; 0 without checkpoints, or where none of them is whole."""
    for candidate in reversed(checkpoints):
        with suppress(CheckpointError), candidate.as_directory() as folder:
            return read_state(folder)[1]["step"]
    return 0


def checkpoint(state: TrainState[Any], journal: Journal, rank: int, *, kept: bool = True) -> None:
    """Every rank reports; rank 0 brings the checkpoint, which is uploaded while training goes on.

    With ``kept`` false, as where no cluster would keep it, there is only the report.
    """
    if rank != 0 or not kept:
        ray.train.report({"step": state.step, **journal.latest})
        return
    folder = tempfile.mkdtemp(prefix="specktrack-checkpoint-")
    state.save(folder)
    ray.train.report(
        {"step": state.step, **journal.latest},
        checkpoint=Checkpoint.from_directory(folder),
        checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=True,
    )
