"""The table of verbs: what each is for, its configuration, and the function that does it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from specktrack.errors import ConfigError


@dataclass(frozen=True)
class Verb:
    """One line of ``specktrack --help``: what it is for, its configuration class and the function that does it."""

    summary: str
    config: str
    """``module:class`` of a VerbConfig."""
    run: str
    """``module:function``; takes the configuration, returns a report."""
    positional: tuple[str, ...] = ()
    """Fields that may be given without their option's name, in order; a list field takes all that follow."""
    show: str = "specktrack.cli.display:show"
    """``module:function`` that prints the report for people."""
    takes_the_rest: bool = False
    """Everything after the first word belongs to that word, options included."""
    recipes: str | None = None
    """``module:function`` from the name of a shipped configuration to its file; gives the verb ``--recipe``."""


VERBS: Mapping[str, Verb] = {
    "annotate": Verb(
        "Follow the object through videos and write one row per frame.",
        "specktrack.annotating:AnnotateConfig",
        "specktrack.annotating:annotate",
        ("sources",),
    ),
    "train": Verb(
        "Train a network on a labelled dataset, by a recipe.",
        "specktrack.training:TrainConfig",
        "specktrack.training:run",
        recipes="specktrack.training:recipe_path",
    ),
    "adapt": Verb(
        "Let a model learn from what it is sure of in videos without labels.",
        "specktrack.verbs.adapt:AdaptConfig",
        "specktrack.verbs.adapt:adapt",
        ("sources",),
    ),
    "evaluate": Verb(
        "Compare a model, or rows that exist, with labels.",
        "specktrack.evaluate:EvaluateConfig",
        "specktrack.evaluate:evaluate",
        show="specktrack.cli.display:show_evaluation",
    ),
    "data import": Verb(
        "Bring labels of a public format into the row schema.",
        "specktrack.verbs.data:DataImportConfig",
        "specktrack.verbs.data:data_import",
        ("format", "source", "destination"),
    ),
    "data check": Verb(
        "Look for labels that cannot be right.",
        "specktrack.verbs.data:DataCheckConfig",
        "specktrack.verbs.data:data_check",
        ("data",),
    ),
    "data synth": Verb(
        "Render videos with an object whose position is known.",
        "specktrack.verbs.data:DataSynthConfig",
        "specktrack.verbs.data:data_synth",
        ("destination",),
    ),
    "data patches": Verb(
        "Render moving things with their boxes, for template trackers.",
        "specktrack.verbs.data:DataPatchesConfig",
        "specktrack.verbs.data:data_patches",
        ("destination",),
    ),
    "data prepare": Verb(
        "Cut labelled videos into packs of pictures, from which training streams.",
        "specktrack.preparing:PrepareConfig",
        "specktrack.preparing:prepare",
        ("data", "destination"),
    ),
    "data stats": Verb(
        "Count what a dataset holds.",
        "specktrack.verbs.data:DataStatsConfig",
        "specktrack.verbs.data:data_stats",
        ("data",),
    ),
    "data split": Verb(
        "Divide a dataset into training and test videos.",
        "specktrack.verbs.data:DataSplitConfig",
        "specktrack.verbs.data:data_split",
        ("data", "destination"),
    ),
    "data pick": Verb(
        "Take the clips that are most worth a person's correction.",
        "specktrack.correcting.picking:DataPickConfig",
        "specktrack.correcting.picking:data_pick",
        ("annotations",),
    ),
    "data diff": Verb(
        "Say what was corrected in rows or labels, by kind.",
        "specktrack.correcting.differences:DataDiffConfig",
        "specktrack.correcting.differences:data_diff",
        ("old", "new"),
    ),
    "models list": Verb(
        "The models that can be named.",
        "specktrack.verbs.models:ModelsListConfig",
        "specktrack.verbs.models:models_list",
    ),
    "models show": Verb(
        "One model's configuration and card.",
        "specktrack.verbs.models:ModelsShowConfig",
        "specktrack.verbs.models:models_show",
        ("name",),
    ),
    "models import": Verb(
        "Read weights that were published for a network of the zoo.",
        "specktrack.verbs.models:ModelsImportConfig",
        "specktrack.verbs.models:models_import",
        ("source", "destination"),
    ),
    "models export": Verb(
        "Write a trained model as ONNX, torch.export or OpenVINO and say how far it is from the original.",
        "specktrack.verbs.models:ModelsExportConfig",
        "specktrack.verbs.models:models_export",
        ("name", "destination"),
    ),
    "events": Verb(
        "Find hits, bounces, net crossings and rallies in rows, and how fast the ball flies.",
        "specktrack.verbs.events:EventsConfig",
        "specktrack.verbs.events:events",
        ("annotations", "corners"),
    ),
    "export": Verb(
        "Write rows in another tool's format.",
        "specktrack.verbs.rows:ExportConfig",
        "specktrack.verbs.rows:export",
        ("annotations", "destination"),
    ),
    "render": Verb(
        "Draw rows onto their video.",
        "specktrack.verbs.render:RenderConfig",
        "specktrack.verbs.render:render_video",
        ("video", "annotations", "output", "corners"),
    ),
    "serve": Verb(
        "Answer over HTTP: clips, live streams, sessions and batches.",
        "specktrack.serving:ServerConfig",
        "specktrack.serving:serve",
    ),
    "report": Verb(
        "Write one HTML page about rows or about an evaluation.",
        "specktrack.report:ReportConfig",
        "specktrack.report:report",
        ("source", "output"),
    ),
    "submit": Verb(
        "Run another verb as a job on a Ray cluster and follow its log.",
        "specktrack.cli.submit:SubmitConfig",
        "specktrack.cli.submit:submit",
        ("command",),
        show="specktrack.cli.display:show_job",
        takes_the_rest=True,
    ),
    "bench": Verb(
        "Measure how fast video becomes rows on this machine.",
        "specktrack.verbs.bench:BenchConfig",
        "specktrack.verbs.bench:bench",
        ("sources",),
    ),
    "completion": Verb(
        "Print what a shell needs to complete commands.",
        "specktrack.cli.completion:CompletionConfig",
        "specktrack.cli.completion:completion",
        ("shell",),
        show="specktrack.cli.completion:show",
    ),
    "schema": Verb(
        "Print the JSON schema of a verb's --config file, for editors.",
        "specktrack.cli.schema:SchemaConfig",
        "specktrack.cli.schema:schema",
        ("of",),
        show="specktrack.cli.schema:show",
    ),
    "doctor": Verb(
        "Check that this machine has what specktrack needs.",
        "specktrack.verbs.doctor:DoctorConfig",
        "specktrack.verbs.doctor:doctor",
        show="specktrack.cli.display:show_checks",
    ),
    "demo": Verb(
        "Make a small archive, annotate it, and show what comes out.",
        "specktrack.verbs.demo:DemoConfig",
        "specktrack.verbs.demo:demo",
        ("video",),
    ),
}


def find_verb(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb's name (one word, or two as in ``data check``) and the arguments after it."""
    for count in (2, 1):
        name = " ".join(arguments[:count])
        if name in VERBS:
            return name, arguments[count:]
    group = verbs_of(arguments[0])
    typed = " ".join(arguments[:2]) if group else arguments[0]
    close = difflib.get_close_matches(typed, VERBS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError("no such verb", typed, remedy=f"{hint}there are: {', '.join(group or VERBS)}")


def verbs_of(group: str) -> list[str]:
    """The verbs of two words that begin with ``group``."""
    return [name for name in VERBS if name.startswith(f"{group} ")]
