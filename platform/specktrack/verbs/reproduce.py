"""``specktrack reproduce``: a paper's table from its data set, by one command.

The data are split, its networks trained by their recipes and counted by its rule, and the result stands beside the
figures that it prints. Every step is a verb with settings (``plan``), so each can be done by hand as well.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from specktrack.annotating import AnnotateConfig, annotate
from specktrack.config import Config, VerbConfig, read_yaml
from specktrack.datasets import load_dataset
from specktrack.errors import ConfigError
from specktrack.evaluate import EvaluateConfig, evaluate
from specktrack.evaluate.points import EvaluationReport
from specktrack.storage import open_store
from specktrack.storage.places import Place
from specktrack.training import TrainConfig, recipe_path, train
from specktrack.training.trainer import FREE
from specktrack.verbs.data import DataSplitConfig, data_split
from specktrack.verbs.papers import PAPERS, Line, paper


class ReproduceConfig(VerbConfig):
    """Make a paper's table on its data set."""

    verb: ClassVar[str] = "reproduce"

    paper: str = Field(description=f"Whose table: {', '.join(PAPERS)}.", json_schema_extra={"enum": [*PAPERS]})
    data: Place
    """The paper's data set, as it was published or imported."""
    output: Place
    """Folder or s3:// prefix for parts, runs, evaluations and the table; an interrupted run goes on there."""
    settings: dict[str, dict[str, Any]] = {}
    """By recipe, settings of train in place of the published ones, as on its command line: for a first look
    ({tracknet-v3: {epochs: 1, sampling.mirror: 0.5}}), and for machines ({tracknet-v3: {workers: 8}})."""
    address: str | None = None
    """Ray cluster that trains and annotates: auto, local or an address; the default is that of each of these verbs."""
    dry_run: bool = False
    """Say what would be done, and do nothing."""


class Step(Config):
    """One verb on the way to the table."""

    verb: str
    recipe: str = ""
    settings: dict[str, Any]
    """As one would give them; annotate follows the videos of the datasets that are named as its sources."""


class TableRow(Config):
    """One line of the table, in per cent."""

    network: str
    where: str
    """Of the published figures."""
    published: dict[str, float]
    ours: dict[str, float] = {}
    """Nothing before it was counted."""
    counts: dict[str, int] = {}


class ReproduceReport(Config):
    """The paper's table beside ours."""

    paper: str
    tolerance: str
    rows: tuple[TableRow, ...]
    changed: dict[str, dict[str, Any]]
    """Settings that are not the published ones and decide the weights; with any, this is no reproduction."""
    steps: tuple[Step, ...]
    exit_code: int = 0
    """5 if a test video could not be read."""


_VERBS: Mapping[str, type[VerbConfig]] = {
    "data split": DataSplitConfig,
    "train": TrainConfig,
    "annotate": AnnotateConfig,
    "evaluate": EvaluateConfig,
}


def reproduce(config: ReproduceConfig) -> ReproduceReport:
    """Take every step; the report is also in ``reproduced.json``.

    Raises whatever one of them raises, and ConfigError for a wrong setting of any before the first is taken.
    """
    wanted, steps = paper(config.paper), plan(config)
    verbs = [_configured(step) for step in steps]
    lines = len(wanted.lines)
    found = [None] * lines if config.dry_run else [_done(verb) for verb in verbs][-lines:]  # evaluations come last
    deciding = {recipe: {key: value for key, value in given.items() if key not in FREE}
                for recipe, given in config.settings.items()}  # fmt: skip
    report = ReproduceReport(
        paper=config.paper,
        tolerance=wanted.tolerance,
        rows=tuple(_row(line, of, wanted.tolerance) for line, of in zip(wanted.lines, found, strict=True)),
        changed={recipe: given for recipe, given in deciding.items() if given},
        steps=steps,
        exit_code=max((of.exit_code for of in found if of is not None), default=0),
    )
    if not config.dry_run:
        open_store(config.output).put("reproduced.json", report.model_dump_json(indent=1).encode())
    return report


def plan(config: ReproduceConfig) -> tuple[Step, ...]:
    """The steps, in order. ConfigError for settings of a recipe that the paper does not use."""
    wanted = paper(config.paper)
    recipes = [name for name in (wanted.recipe, wanted.repair) if name]
    if strangers := sorted(config.settings.keys() - set(recipes)):
        raise ConfigError(f"{config.paper} does not train it", strangers[0], "settings", f"take {' or '.join(recipes)}")
    steps = [Step(verb="data split", settings={"data": config.data, "destination": _at(config, "parts"),
                                               "by": wanted.split})]  # fmt: skip
    steps.append(_training(config, wanted.recipe))
    if wanted.repair:
        rows = _at(config, "rows")
        parts = [_at(config, f"parts/{part}") for part in ("train", "val")]
        following = {"model": _at(config, wanted.recipe), **wanted.lines[0].reading}
        where = {"sources": parts, "output": rows, **_cluster(config)}
        steps += [Step(verb="annotate", settings=where | following), _training(config, wanted.repair, rows=rows)]
    for number, line in enumerate(wanted.lines):
        filled = {"repair": _at(config, wanted.repair), "repair_gap": 0} if line.repaired else {}
        settings = {"data": _at(config, "parts/test"), "model": _at(config, wanted.recipe), "protocol": wanted.protocol,
                    "output": _at(config, f"evaluations/{number}")}  # fmt: skip
        steps.append(Step(verb="evaluate", settings={**settings, **line.reading, **filled}))
    return tuple(steps)


def _training(config: ReproduceConfig, recipe: str, **more: Any) -> Step:
    settings = {"data": [_at(config, "parts/train")], "output": _at(config, recipe), **_cluster(config), **more}
    if "validation" in read_yaml(recipe_path(recipe)).get("needs", {}):
        settings["validation"] = [_at(config, "parts/val")]
    return Step(verb="train", recipe=recipe, settings=settings | config.settings.get(recipe, {}))


def _configured(step: Step) -> VerbConfig:
    recipe = recipe_path(step.recipe) if step.recipe else None
    return _VERBS[step.verb].parse(step.settings, yaml_file=recipe, environment={})


def _done(verb: VerbConfig) -> Any:
    """The report of a verb."""
    match verb:
        case DataSplitConfig():
            return data_split(verb)
        case AnnotateConfig():
            videos = [video.ref.uri for part in verb.sources for video in load_dataset(part).card.videos]
            return annotate(verb.model_copy(update={"sources": tuple(videos)}))
        case EvaluateConfig():
            return evaluate(verb)
        case TrainConfig():
            return train(verb)


def _row(line: Line, found: EvaluationReport | None, tolerance: str) -> TableRow:
    row = TableRow(network=line.network, where=line.where, published=line.figures)
    if found is None:
        return row
    at = (found.per_window or found).at[tolerance]
    return row.model_copy(update={
        "ours": {name: round(100 * at[name], 2) for name in ("accuracy", "precision", "recall", "f1")},
        "counts": {name: int(at[name]) for name in ("tp", "tn", "fp1", "fp2", "fn", "total")},
    })  # fmt: skip


def _at(config: ReproduceConfig, name: str) -> str:
    return f"{config.output.rstrip('/')}/{name}"


def _cluster(config: ReproduceConfig) -> dict[str, str]:
    return {} if config.address is None else {"address": config.address}
