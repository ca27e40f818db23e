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
        "Track the object in videos and write one row per frame.",
        "specktrack.annotating:AnnotateConfig",
        "specktrack.annotating:annotate",
        ("sources",),
    ),
    "train": Verb(
        "Train a network on a labelled dataset, with a recipe.",
        "specktrack.training:TrainConfig",
        "specktrack.training:run",
        recipes="specktrack.training:recipe_path",
    ),
    "adapt": Verb(
        "Adapt a model to videos without labels, using its own confident predictions.",
        "specktrack.verbs.adapt:AdaptConfig",
        "specktrack.verbs.adapt:adapt",
        ("sources",),
    ),
    "evaluate": Verb(
        "Compare a model, or existing rows, with labels.",
        "specktrack.evaluate:EvaluateConfig",
        "specktrack.evaluate:evaluate",
        show="specktrack.cli.display:show_evaluation",
    ),
    "data import": Verb(
        "Convert labels of a public format to a dataset.",
        "specktrack.verbs.data:DataImportConfig",
        "specktrack.verbs.data:data_import",
        ("format", "source", "destination"),
    ),
    "data check": Verb(
        "Find labels that cannot be right.",
        "specktrack.verbs.data:DataCheckConfig",
        "specktrack.verbs.data:data_check",
        ("data",),
    ),
    "data synth": Verb(
        "Render videos of an object with exact labels.",
        "specktrack.verbs.data:DataSynthConfig",
        "specktrack.verbs.data:data_synth",
        ("destination",),
    ),
    "data patches": Verb(
        "Render moving objects with box labels, for template trackers.",
        "specktrack.verbs.data:DataPatchesConfig",
        "specktrack.verbs.data:data_patches",
        ("destination",),
    ),
    "data prepare": Verb(
        "Cut labelled videos into packs of pictures for streaming to training.",
        "specktrack.preparing:PrepareConfig",
        "specktrack.preparing:prepare",
        ("data", "destination"),
    ),
    "data stats": Verb(
        "Count the contents of a dataset.",
        "specktrack.verbs.data:DataStatsConfig",
        "specktrack.verbs.data:data_stats",
        ("data",),
    ),
    "data split": Verb(
        "Split a dataset into training and test videos.",
        "specktrack.verbs.data:DataSplitConfig",
        "specktrack.verbs.data:data_split",
        ("data", "destination"),
    ),
    "data pick": Verb(
        "Pick the clips most worth correcting.",
        "specktrack.correcting.picking:DataPickConfig",
        "specktrack.correcting.picking:data_pick",
        ("annotations",),
    ),
    "data diff": Verb(
        "Report corrections in rows or labels, by kind.",
        "specktrack.correcting.differences:DataDiffConfig",
        "specktrack.correcting.differences:data_diff",
        ("old", "new"),
    ),
    "models list": Verb(
        "List the models of the zoo.",
        "specktrack.verbs.models:ModelsListConfig",
        "specktrack.verbs.models:models_list",
    ),
    "models show": Verb(
        "Show a model's configuration and card.",
        "specktrack.verbs.models:ModelsShowConfig",
        "specktrack.verbs.models:models_show",
        ("name",),
    ),
    "models import": Verb(
        "Import published weights of a network in the zoo.",
        "specktrack.verbs.models:ModelsImportConfig",
        "specktrack.verbs.models:models_import",
        ("source", "destination"),
    ),
    "models export": Verb(
        "Export a trained model to ONNX, torch.export or OpenVINO and report how far it differs.",
        "specktrack.verbs.models:ModelsExportConfig",
        "specktrack.verbs.models:models_export",
        ("name", "destination"),
    ),
    "reproduce": Verb(
        "Make a paper's table on its data set: split, train, evaluate, beside the published figures.",
        "specktrack.verbs.reproduce:ReproduceConfig",
        "specktrack.verbs.reproduce:reproduce",
        ("paper",),
        show="specktrack.cli.display:show_reproduction",
    ),
    "events": Verb(
        "Find hits, bounces, net crossings, rallies and ball speeds in rows.",
        "specktrack.verbs.events:EventsConfig",
        "specktrack.verbs.events:events",
        ("annotations", "corners"),
    ),
    "export": Verb(
        "Export rows in the format of another tool.",
        "specktrack.verbs.rows:ExportConfig",
        "specktrack.verbs.rows:export",
        ("annotations", "destination"),
    ),
    "render": Verb(
        "Draw rows on their video.",
        "specktrack.verbs.render:RenderConfig",
        "specktrack.verbs.render:render_video",
        ("video", "annotations", "output", "corners"),
    ),
    "serve": Verb(
        "Start the HTTP server: clips, live streams, sessions and batches.",
        "specktrack.serving:ServerConfig",
        "specktrack.serving:serve",
    ),
    "report": Verb(
        "Write an HTML report about rows or an evaluation.",
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
        "Measure the speed of annotation on this machine.",
        "specktrack.verbs.bench:BenchConfig",
        "specktrack.verbs.bench:bench",
        ("sources",),
    ),
    "completion": Verb(
        "Print a shell completion script.",
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
        "Check that this machine can run specktrack.",
        "specktrack.verbs.doctor:DoctorConfig",
        "specktrack.verbs.doctor:doctor",
        show="specktrack.cli.display:show_checks",
    ),
    "demo": Verb(
        "Render a small archive, annotate it and show the results.",
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
