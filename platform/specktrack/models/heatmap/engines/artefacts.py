"""Exported networks that engines load, made once for each set of weights and size of pictures."""

import os
import shutil
import tempfile
from pathlib import Path

from specktrack import telemetry
from specktrack.config import sha_of
from specktrack.models.checkpoint import Model, tensors_sha256
from specktrack.models.formats import SUFFIX, Format
from specktrack.models.machine import alone, folder, versions

KEPT = 24
"""Exported networks; the ones used longest ago are removed."""

log = telemetry.get_logger()


def place_of(model: Model, wh_px: tuple[int, int], kind: Format) -> Path:
    """Where the exported file is, or would be."""
    weights = model.card.weights_sha256 or tensors_sha256(model.network.state_dict())
    identity = sha_of([model.config.model_dump(mode="json"), weights, wh_px, kind, versions()])
    return folder() / "networks" / identity[:32] / f"network{SUFFIX[kind]}"


def exported(model: Model, wh_px: tuple[int, int], kind: Format) -> Path:
    """The file of ``kind``; CheckpointError if what was exported gives other results than the network."""
    place = place_of(model, wh_px, kind)
    if not place.exists():
        with alone(place.parent.name):
            if not place.exists():
                _export(model, wh_px, kind, place)
    os.utime(place.parent)
    return place


def _export(model: Model, wh_px: tuple[int, int], kind: Format, place: Path) -> None:
    from specktrack.models.exporting import export_model  # seconds, which a file that is there need not wait for

    log.info("exporting the network for its engine", model=model.card.name, format=kind, size="x".join(map(str, wh_px)))
    place.parent.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder()) as making:
        export_model(model, Path(making, place.parent.name, place.name), kind, input_wh=wh_px)
        shutil.rmtree(place.parent, ignore_errors=True)
        Path(making, place.parent.name).replace(place.parent)
    newest = sorted(place.parent.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
