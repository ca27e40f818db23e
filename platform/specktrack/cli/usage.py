"""The text of ``specktrack VERB --help``, printed from the fields that the options are made of."""

import json
from collections.abc import Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from specktrack.cli.options import flag_of, is_list, literals, off_flag_of, sections_of
from specktrack.cli.overview import columns
from specktrack.cli.table import VERBS
from specktrack.config import types_in, wants_two
from specktrack.lazy import load

_SHARED = {
    "--config FILE": "YAML file with any of these settings; options override it",
    "--recipe NAME": "a configuration shipped with the package, instead of --config",
    "--json": "print the report as one JSON value, last on stdout",
    "--plain": "print the report as lines of tab-separated fields, without colours or bars",
    "--quiet": "log only warnings, and print no report without --json or --plain",
    "--verbose": "log more",
    "-h, --help": "show this",
}


def usage(verb_name: str) -> str:
    """One verb: its words, its options (the required ones first) and those that all verbs share."""
    verb = VERBS[verb_name]
    sections = sections_of(load(verb.config))
    fields = {key: field for _, section in sections for key, field in section.items()}
    words = {word_of(key, fields[key]): meaning_of(fields[key]) for key in verb.positional}
    options = {
        title_of(kinds): {_spelled(key, field): field for key, field in section.items() if key not in verb.positional}
        for kinds, section in sections
    }
    needed = [name for named in options.values() for name, field in named.items() if field.is_required()]
    rest = ["[options]", *words] if verb.takes_the_rest else [*words, *needed, "[options] [key=value ...]"]
    parts = [
        " ".join(["usage: specktrack", verb_name, *rest]),
        verb.summary,
        columns(words),
        *(_titled(f"{title}:", _meanings(named)) for title, named in options.items()),
        _titled("for every verb:", {k: text for k, text in _SHARED.items() if verb.recipes or "recipe" not in k}),
    ]
    return "\n\n".join(filter(None, parts))


def title_of(kinds: tuple[str, ...]) -> str:
    """The heading of the options that some kinds share; none are named where all do."""
    named = " and ".join(filter(None, [", ".join(kinds[:-1]), *kinds[-1:]]))
    return f"options for {named} networks" if named else "options"


def word_of(key: str, field: FieldInfo) -> str:
    """How a positional field is written in a usage line."""
    name = key.upper()
    return f"{name}..." if is_list(field) else name if field.is_required() else f"[{name}]"


def meaning_of(field: FieldInfo) -> str:
    """The field's docstring, whether it is required or repeatable, and its default."""
    text = " ".join((field.description or "").split()).replace("``", "'")
    notes = ["required"] if field.is_required() else []
    notes += ["may be repeated"] if is_list(field) and not wants_two(field) else []
    default = "" if field.is_required() else default_of(field)
    return text + (f" ({', '.join(notes)})" if notes else "") + (f" [{default}]" if default else "")


def default_of(field: FieldInfo) -> str:
    """The default as it would be typed; empty if there is none or it says nothing."""
    default = field.get_default(call_default_factory=True)
    if default is None or isinstance(default, bool):
        return "on" if default else ""
    if isinstance(default, BaseModel):
        return str(getattr(default, "name", "")) or default.model_dump_json()
    if isinstance(default, list | tuple):
        return ("x" if all(isinstance(part, int) for part in default) else ",").join(map(str, default))
    return default if isinstance(default, str) else json.dumps(default)


def _spelled(key: str, field: FieldInfo) -> str:
    """An option with what it takes: ``--flag VALUE``, or both flags of a boolean."""
    if bool in types_in(field.annotation):
        return f"{flag_of(key)}, {off_flag_of(key)}"
    if wants_two(field):
        return f"{flag_of(key)} A,B"
    if choices := literals(field):
        return f"{flag_of(key)} {{{','.join(choices)}}}"
    number = {int, float} & set(types_in(field.annotation))
    return f"{flag_of(key)} {'N' if number else key.rpartition('.')[2].upper()}"


def _meanings(named: Mapping[str, FieldInfo]) -> dict[str, str]:
    """The options' descriptions, the required ones first."""
    return {name: meaning_of(named[name]) for name in sorted(named, key=lambda name: not named[name].is_required())}


def _titled(title: str, rows: Mapping[str, str]) -> str:
    return f"{title}\n{columns(rows)}" if rows else ""
