"""``run.json`` records how an output was made, so that a later run can refuse to mix in anything else."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from specktrack import __version__
from specktrack.annotating.config import AnnotateConfig, AnnotateReport
from specktrack.config import sha_of
from specktrack.errors import ConfigError, Conflict, StorageError
from specktrack.ledger import clear
from specktrack.models.checkpoint import Model
from specktrack.schema import Prompt
from specktrack.storage import MissingError, Store, check_exclusive
from specktrack.tracking.tracker import Tracker

RUN = "run.json"
LIBRARIES = ("ray", "torch", "pyarrow", "av", "numpy", "pydantic")


def settings_of(
    config: AnnotateConfig, tracker: Tracker, prompts: Mapping[str, tuple[Prompt, ...]], finder: Model | None
) -> dict[str, Any]:
    """Everything but the model that decides rows and clips; where two outputs agree in it, their rows agree."""
    settings: dict[str, Any] = {"clip_s": config.clip_s, "tracking": tracker.config.model_dump(mode="json")}
    if tracker.step_s is not None:
        settings["step_s"] = (
            tracker.step_s
        )  # outputs of versions before 0.2 have none: frames as they follow one another
    if prompts:
        told = {uri: [prompt.model_dump() for prompt in mine] for uri, mine in prompts.items()}
        settings["prompts_sha256"] = sha_of({uri: mine[0] if len(mine) == 1 else mine for uri, mine in told.items()})
    if config.stream is not None:
        settings["stream"] = config.stream
    if finder is not None:
        settings["finder_sha256"] = finder.sha256
    if config.engine == "openvino-int8":  # all other engines give the same rows
        settings["engine"] = config.engine
    return settings


def claim(store: Store, config: AnnotateConfig, model: Model, settings: dict[str, Any]) -> None:
    """``begin`` of an annotate run."""
    made_by = {"model": model.card.name, "model_sha256": model.sha256, **settings}
    note = _circumstances(config, model)
    begin(store, made_by, note, resume=config.resume, dry_run=config.dry_run)


def begin(
    store: Store, made_by: dict[str, Any], circumstances: dict[str, Any], *, resume: bool = True, dry_run: bool = False
) -> None:
    """Note in the output by what it is made; ConfigError with the differences if it is made by something else.

    StorageError if the store cannot keep two writers apart.
    """
    if not dry_run and not store.single_writer:
        check_exclusive(store)
    if not resume and not dry_run:
        clear(store)
        store.delete(RUN)
    if resume or not dry_run:
        _check_same(store, made_by)
    if not dry_run and not store.exists(RUN):
        note = {"status": "running", "made_by": made_by, **circumstances}
        try:
            store.put_if_absent(RUN, json.dumps(note, indent=1).encode())
        except Conflict:
            _check_same(store, made_by)


def describe(
    store: Store, config: AnnotateConfig, model: Model, settings: dict[str, Any], report: AnnotateReport
) -> None:
    """Write ``run.json`` of a finished run: settings, model card, versions, counts, seconds per stage."""
    made_by = {"model": model.card.name, "model_sha256": model.sha256, **settings}
    note = {"status": "finished", "made_by": made_by, **_circumstances(config, model)}
    store.put(RUN, json.dumps({**note, "report": report.model_dump(mode="json")}, indent=1).encode())


def _circumstances(config: AnnotateConfig, model: Model) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "model_card": model.card.model_dump(mode="json"),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of everything that a run's results may depend on."""
    ours = {"specktrack": __version__, "python": platform.python_version()}
    return ours | {library: version(library) for library in LIBRARIES}


def _check_same(store: Store, made_by: dict[str, Any]) -> None:
    try:
        earlier = _flat(json.loads(store.get(RUN))["made_by"])
    except MissingError:
        return
    except (ValueError, LookupError, TypeError, AttributeError):
        raise StorageError(
            "not the file of settings that a run writes to its output",
            place=store.uri_of(RUN),
            remedy="remove it: the records themselves name their model and configuration",
        ) from None
    now = _flat(made_by)
    changed = [key for key in sorted(now | earlier) if now.get(key) != earlier.get(key)]
    if changed:
        raise ConfigError(
            "the output was made by another model or configuration",
            ", ".join(f"{key} {earlier.get(key)!r} -> {now.get(key)!r}" for key in changed),
            store.uri,
            "choose another --output, or start over with --fresh",
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
