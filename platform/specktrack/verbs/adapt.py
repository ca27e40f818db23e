"""``specktrack adapt``: adapt the model to an archive, without labels.

Every video is followed twice, as it is and with each picture's mirror image. Where both passes agree and the place
fits the flight around it, the row becomes a label; where both see nothing, so does the absence; the rest is left
out. A short training from the model's own weights follows, on all but a held-out part. The new weights are kept only
if, on that part, they still find what the old ones were sure of and are sure of at least as many frames themselves.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from specktrack.annotating import AnnotateConfig, annotate
from specktrack.config import Config, VerbConfig
from specktrack.datasets import DatasetVideo, make_dataset, save_dataset
from specktrack.errors import ConfigError
from specktrack.frames import Trajectory, trajectories
from specktrack.ledger import read_annotations
from specktrack.metrics.points import PointCounts, count_points
from specktrack.models.checkpoint import load_weights
from specktrack.models.zoo import DEFAULT_MODEL, ModelPlace
from specktrack.schema import ROWS
from specktrack.storage import open_store, stat
from specktrack.storage.places import Place, SourcePlace
from specktrack.tracking.confirming import Confirming, confirmed
from specktrack.training import TrainConfig, recipe_path, train
from specktrack.video import probe

HELD_OUT = 5
"""Every so many videos one is held out; of fewer videos the last part of each."""
STILL_FOUND = 0.97
"""Recall and precision that the new weights must have on what the old ones were sure of."""


class AdaptConfig(VerbConfig):
    """Adapt a model to videos without labels."""

    verb: ClassVar[str] = "adapt"

    sources: tuple[SourcePlace, ...] = Field(min_length=1)
    """Videos, folders, globs, s3://bucket/prefix or @list.txt."""
    output: Place
    """Folder or s3:// prefix for passes, labels, training, the model and rows. If it has an interrupted run, that run
    is resumed."""
    model: ModelPlace = DEFAULT_MODEL
    """Heatmap model to adapt: a name or a path."""
    recipe: str = "specknet-finetune"
    """Training recipe; its network is the model's."""
    steps: int = Field(default=400, ge=1)
    """Optimiser steps: four minutes per hundred on a CPU core, seconds on a GPU."""
    confirming: Confirming = Confirming()
    """Which rows are sure enough to be labels."""
    address: str = "auto"
    """Ray cluster: auto, local or an address."""


class Check(Config):
    """A model's figures on the held-out part."""

    sure: float
    """Share of frames that its own two passes confirm."""
    still_found: dict[str, float]
    """F1, precision and recall (4 px at 512x288) on what the old weights were sure of."""


class AdaptReport(Config):
    """Changes made by adapting, and whether they help."""

    model: str
    """The weights to use from now on: the adapted ones, or those before."""
    rows: str
    """Output of annotate with those weights."""
    adopted: bool
    frames: int
    labels: int
    """Frames of the training part that became labels."""
    before: Check
    after: Check
    changed: dict[str, int]
    """Frames whose row moved by more than 4 px at 512x288, appeared, or vanished."""


def adapt(config: AdaptConfig) -> AdaptReport:
    """Adapt the model to the videos; the report is also in ``adapted.json``. ConfigError if nothing is sure."""
    run = _Run(config)
    first, sure = run.passes("first", config.model)
    held_out = {uri: _held_out(index, len(first), rows) for index, (uri, rows) in enumerate(sorted(first.items()))}
    learned = {uri: rows[~np.isin(rows.frame, held_out[uri])] for uri, rows in sure.items()}
    trained = run.train(learned)
    second, own = run.passes("second", trained)
    before, after = (
        Check(sure=_share(rows, held_out), still_found=_still_found(found, sure, held_out, run.videos))
        for rows, found in ((sure, first), (own, second))
    )
    adopted = after.sure >= before.sure and min(after.still_found.values()) >= STILL_FOUND
    report = AdaptReport(
        model=trained if adopted else config.model,
        rows=run.place("second" if adopted else "first"),
        adopted=adopted,
        frames=sum(map(len, first.values())),
        labels=sum(map(len, learned.values())),
        before=before,
        after=after,
        changed=_changed(first, second, run.videos),
    )
    run.store.put("adapted.json", report.model_dump_json(indent=1).encode())
    return report


class _Run:
    """The folder of a run, and what is done in it; every step resumes where it stopped."""

    def __init__(self, config: AdaptConfig) -> None:
        self.config, self.store = config, open_store(config.output)
        self.videos: dict[str, DatasetVideo] = {}

    def place(self, name: str) -> str:
        """URI of a part of the output."""
        return self.store.uri_of(name)

    def passes(self, name: str, model: str) -> tuple[dict[str, Trajectory], dict[str, Trajectory]]:
        """Rows of every video that could be read to its end, and those of them that are sure, as labels; by URI."""
        plain, mirrored = self._follow(name, model, flip=False), self._follow(f"{name}-mirrored", model, flip=True)
        rows = {uri: plain[uri] for uri in plain if uri in mirrored}
        wh_px = {uri: (self.videos[uri].width_px, self.videos[uri].height_px) for uri in rows}
        settings = self.config.confirming
        return rows, {uri: confirmed(rows[uri], mirrored[uri], wh_px[uri], settings) for uri in rows}

    def _follow(self, name: str, model: str, *, flip: bool) -> dict[str, Trajectory]:
        settings = {"sources": self.config.sources, "address": self.config.address, "flip": flip}
        annotate(AnnotateConfig(output=self.place(name), model=model, **settings))
        found = {uri: objects[0] for uri, objects in trajectories(read_annotations(self.place(name))).items()}
        for uri in found.keys() - self.videos.keys():
            self.videos[uri] = _video(uri)
        return {uri: rows for uri, rows in found.items() if len(rows) == self.videos[uri].frames}

    def train(self, labels: dict[str, Trajectory]) -> str:
        """The adapted weights. ConfigError if nothing is sure."""
        if not sum(rows.present.sum() for rows in labels.values()):
            raise ConfigError(
                "the model is not confident about anything in these videos", self.config.model, self.config.output,
                "use other videos, or label some frames and train with --recipe specknet-finetune",
            )  # fmt: skip
        rows = pa.concat_tables([ROWS.empty_table(), *(of.to_rows(uri) for uri, of in labels.items())])
        videos = tuple(self.videos[uri] for uri in labels)
        dataset = make_dataset(
            rows.unify_dictionaries(), videos, name="confirmed", layout="rows", source=self.place("first")
        )
        save_dataset(dataset, open_store(self.place("labels")))
        card, _ = load_weights(self.config.model)
        settings = {
            "data": [self.place("labels")], "output": self.place("training"), "init": self.config.model,
            "network": card.network.model_dump(mode="json"), "steps": self.config.steps,
            "address": self.config.address, "name": f"{card.name}-adapted",
        }  # fmt: skip
        recipe = recipe_path(self.config.recipe)
        return train(TrainConfig.parse(settings, yaml_file=recipe, environment={})).model


def _video(uri: str) -> DatasetVideo:
    ref = stat(uri)
    info = probe(ref)
    width_px, height_px = info.size_wh_px
    return DatasetVideo(ref=ref, width_px=width_px, height_px=height_px, fps=info.fps, frames=info.frames)


def _held_out(index: int, videos: int, rows: Trajectory) -> np.ndarray:
    """Frames of a video that are not learned from."""
    if videos >= HELD_OUT:
        return rows.frame if index % HELD_OUT == HELD_OUT - 1 else rows.frame[:0]
    return rows.frame[len(rows) - len(rows) // HELD_OUT :]


def _share(sure: dict[str, Trajectory], held_out: dict[str, np.ndarray]) -> float:
    """Share of the held-out frames that are among the sure ones."""
    frames = sum(map(len, held_out.values()))
    return sum(int(np.isin(sure[uri].frame, held_out[uri]).sum()) for uri in sure) / max(1, frames)


def _still_found(
    found: dict[str, Trajectory],
    sure: dict[str, Trajectory],
    held_out: dict[str, np.ndarray],
    videos: dict[str, DatasetVideo],
) -> dict[str, float]:
    """How rows agree with what the old weights were sure of, in the held-out frames."""
    counts = PointCounts()
    for uri, rows in sure.items():
        judged = rows[np.isin(rows.frame, held_out[uri])]
        counts += count_points(_at(found[uri], judged.frame), judged.xy_px, tolerance=4.0, scale=_scale(videos[uri]))
    return {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall}


def _changed(
    first: dict[str, Trajectory], second: dict[str, Trajectory], videos: dict[str, DatasetVideo]
) -> dict[str, int]:
    """How many rows are another after the second pass."""
    totals = {"moved": 0, "appeared": 0, "vanished": 0}
    for uri, before in first.items():
        after = second[uri]
        with np.errstate(invalid="ignore"):
            way = np.linalg.norm((after.xy_px - before.xy_px) * _scale(videos[uri]), axis=1)
            totals["moved"] += int((way > 4.0).sum())
        totals["appeared"] += int((after.present & ~before.present).sum())
        totals["vanished"] += int((before.present & ~after.present).sum())
    return totals


def _at(rows: Trajectory, frames: np.ndarray) -> np.ndarray:
    """Positions [N, 2] in ``frames``, all of which have a row."""
    return rows.xy_px[np.searchsorted(rows.frame, frames)]


def _scale(video: DatasetVideo) -> tuple[float, float]:
    """From source px to 512x288."""
    return 512 / video.width_px, 288 / video.height_px
