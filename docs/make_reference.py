"""Print docs/reference from the classes: ``make docs``. With ``--check``, say which page is stale and exit 1."""

import sys
from pathlib import Path

import pyarrow as pa

from specktrack.cli.options import flag_of, sections_of
from specktrack.cli.table import VERBS
from specktrack.cli.usage import default_of, title_of
from specktrack.errors import QuarantineReason
from specktrack.lazy import load
from specktrack.models.checkpoint import load_weights
from specktrack.models.zoo import PARAMETERS, WEIGHTS, without_weights
from specktrack.schema import MEANINGS, ROWS, Provenance, Visibility
from specktrack.verbs.models import ModelsListConfig, ZooEntry, models_list

FOLDER = Path(__file__).parent / "reference"

EXIT_CODES = {
    0: "done",
    2: "bad usage or configuration",
    3: "model or checkpoint",
    4: "storage",
    5: "finished, but with quarantined videos; all others are complete",
    130: "interrupted; the output stays, and the same command resumes the run",
}


def pages() -> dict[str, str]:
    """Text of every page by file name."""
    return {"cli.md": cli_page(), "models.md": models_page(), "cards.md": cards_page(), "rows.md": rows_page()}


def cli_page() -> str:
    """Every verb with its settings, and the exit codes."""
    parts = [
        "# Command line",
        "Give a setting as an option (`--field-name value`), a word (`field.name=value`), a key of the `--config` file,"
        "\nor an environment variable (`SPECKTRACK_VERB_FIELD`, nested with `__`). Options override the"
        "\nenvironment, which overrides the file. `--json` prints one JSON value, last on stdout; logs go to stderr.",
        table("exit code|meaning", [f"{code}|{meaning}" for code, meaning in EXIT_CODES.items()]),
        "Reasons for quarantine: " + ", ".join(f"`{reason.value}`" for reason in QuarantineReason) + ".",
    ]
    for name, verb in VERBS.items():
        words = " ".join(key.upper() for key in verb.positional)
        parts += [f"## specktrack {name} {words}".rstrip(), verb.summary]
        for kinds, fields in sections_of(load(verb.config)):
            rows = []
            for key, field in fields.items():
                flag = key.upper() if key in verb.positional else flag_of(key)
                default = "required" if field.is_required() else default_of(field)
                rows.append(f"`{flag}`|{cell(default)}|{cell(field.description or '')}")
            heading = f"{title_of(kinds).capitalize()}:" if kinds else ""
            parts += [heading, table("setting|default|meaning", rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


MODELS = "name|family|parameters|frames|input|GFLOP per frame|weights|F1, known places|F1, unseen places"


def _known(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3g}"


def models_page() -> str:
    """The zoo."""
    rows = [
        f"{entry.name}|{entry.family}|{entry.parameters or 0:,}|{entry.frames_in} in, {entry.frames_out} out|"
        f"{entry.input_wh[0]}x{entry.input_wh[1]}|{_known(entry.gflop_per_frame)}|{_weights(entry)}|"
        f"{_known(entry.f1_known)}|{_known(entry.f1_unseen)}"
        for entry in models_list(ModelsListConfig())
    ]
    return "# Models\n\n" + table(MODELS, rows) + "\n"


def cards_page() -> str:
    """The card of every model that comes inside the package."""
    parts = [
        "# Model cards",
        "Cards of the weights that ship with the package, as printed by `specktrack models show NAME`.",
    ]
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        card, _ = load_weights(path.stem)
        facts = {
            "network": card.network.name,
            "parameters": f"{PARAMETERS[path.stem]:,}" if path.stem in PARAMETERS else "",
            "frames in, out": f"{card.network.frames_in}, {card.network.frames_out}",
            "input size": "x".join(map(str, card.network.input_wh)),
            "time step in training": f"{card.step_s:.4g} s",
            "trained on": ", ".join(card.data),
            "licence": card.licence,
            "weights": f"sha256 `{card.weights_sha256[:16]}...`",
        }
        rows = [f"{name}|{cell(text)}" for name, text in facts.items() if text]
        parts += [f"## {path.stem}", card.description, table("|", rows).replace("|  |  |", "| | |", 1)]
        if measured := [f"{name}|{_figure(value)}" for name, value in card.metrics.items()]:
            parts += ["Measured:", table("figure|value", measured)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else cell(str(value))


def _weights(entry: ZooEntry) -> str:
    if entry.weights:
        return "in the package"
    return "import or train" if "models import" in without_weights(entry.name) else "train it"


def rows_page() -> str:
    """The row schema."""
    words = {"visibility": Visibility, "provenance": Provenance}
    rows = [
        f"`{field.name}`|{'one of ' + ', '.join(words[field.name]) if field.name in words else _type(field)}|"
        f"{'yes' if field.nullable else 'no'}|{cell(MEANINGS[field.name])}"
        for field in ROWS
    ]
    return (
        "# Rows\n\nOne row per frame and object, including frames without the object; labels and predictions have"
        " the same schema.\n\n" + table("column|type|may be null|meaning", rows) + "\n"
    )


def _type(field: pa.Field) -> str:
    """The type as readers see it: words are kept as a dictionary of them."""
    return "string" if pa.types.is_dictionary(field.type) else str(field.type)


def table(head: str, rows: list[str]) -> str:
    """A Markdown table; cells are separated by bars."""
    if not rows:
        return ""
    return "\n".join(f"| {line.replace('|', ' | ')} |" for line in [head, "|".join("-" * head.count("|") + "-"), *rows])


def cell(text: str) -> str:
    """One line without bars, for a table."""
    return " ".join(text.split()).replace("|", "or").replace("``", "`")


def main() -> int:
    """Write the pages, or compare them."""
    stale = []
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'stale, run make docs' if '--check' in sys.argv[1:] else 'written'}: {', '.join(stale)}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
