"""The table of verbs, and a verb's configuration from its arguments: options are the configuration's fields."""

import argparse
import difflib
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, SerializeAsAny
from pydantic.fields import FieldInfo

from specktrack.config import VerbConfig
from specktrack.errors import ConfigError

_OVERRIDE = re.compile(r"[a-z][a-z0-9_.]*=")


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
    show: str = "specktrack.display:show"
    """``module:function`` that prints the report for people."""
    recipes: str | None = None
    """``module:function`` from the name of a shipped configuration to its file; gives the verb ``--recipe``."""


VERBS: Mapping[str, Verb] = {
    "annotate": Verb(
        "Follow the object through videos and write one row per frame.",
        "specktrack.annotate:AnnotateConfig",
        "specktrack.annotate:annotate",
        ("sources",),
    ),
    "train": Verb(
        "Train a network on a labelled dataset.",
        "specktrack.training:TrainConfig",
        "specktrack.training:train",
        recipes="specktrack.training:recipe_path",
    ),
    "evaluate": Verb(
        "Compare a model, or rows that exist, with labels.",
        "specktrack.evaluate:EvaluateConfig",
        "specktrack.evaluate:evaluate",
        show="specktrack.display:show_evaluation",
    ),
    "data import": Verb(
        "Bring labels of a public format into the row schema.",
        "specktrack.verbs:DataImportConfig",
        "specktrack.verbs:data_import",
        ("format", "source", "destination"),
    ),
    "data check": Verb(
        "Look for labels that cannot be right.",
        "specktrack.verbs:DataCheckConfig",
        "specktrack.verbs:data_check",
        ("data",),
    ),
    "data synth": Verb(
        "Render videos with an object whose position is known.",
        "specktrack.verbs:DataSynthConfig",
        "specktrack.verbs:data_synth",
        ("destination",),
    ),
    "data stats": Verb(
        "Count what a dataset holds.", "specktrack.verbs:DataStatsConfig", "specktrack.verbs:data_stats", ("data",)
    ),
    "models list": Verb(
        "The models that can be named.",
        "specktrack.verbs:ModelsListConfig",
        "specktrack.verbs:models_list",
    ),
    "models show": Verb(
        "One model's configuration and card.",
        "specktrack.verbs:ModelsShowConfig",
        "specktrack.verbs:models_show",
        ("name",),
    ),
    "export": Verb(
        "Write rows in another tool's format.",
        "specktrack.verbs:ExportConfig",
        "specktrack.verbs:export",
        ("annotations", "destination"),
    ),
    "render": Verb(
        "Draw rows onto their video.",
        "specktrack.verbs:RenderConfig",
        "specktrack.verbs:render_video",
        ("video", "annotations", "output"),
    ),
    "submit": Verb(
        "Run another verb as a job on a Ray cluster and follow its log.",
        "specktrack.submit:SubmitConfig",
        "specktrack.submit:submit",
        ("command",),
    ),
    "doctor": Verb(
        "Check that this machine has what specktrack needs.",
        "specktrack.doctor:DoctorConfig",
        "specktrack.doctor:doctor",
        show="specktrack.display:show_checks",
    ),
    "demo": Verb(
        "Make a small archive, annotate it, and show what comes out.",
        "specktrack.demo:DemoConfig",
        "specktrack.demo:demo",
        ("video",),
    ),
}


def find_verb(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb's name (one word, or two as in ``data check``) and the arguments after it."""
    for count in (2, 1):
        name = " ".join(arguments[:count])
        if name in VERBS:
            return name, arguments[count:]
    group = [name for name in VERBS if name.startswith(f"{arguments[0]} ")]
    if group and arguments[1:2] in (["-h"], ["--help"]):
        raise ConfigError("choose one", remedy=f"specktrack {', specktrack '.join(group)}")
    typed = " ".join(arguments[:2]) if group else arguments[0]
    close = difflib.get_close_matches(typed, VERBS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError("no such verb", typed, remedy=f"{hint}there are: {', '.join(group or VERBS)}")


def usage(verb_name: str) -> str:
    """What ``specktrack VERB --help`` prints."""
    verb = VERBS[verb_name]
    return _parser(verb_name, verb, load(verb.config)).format_help().rstrip()


def parse(verb_name: str, arguments: Sequence[str]) -> tuple[VerbConfig, argparse.Namespace]:
    """The verb's configuration from its arguments, and the flags that all verbs share: json and verbose."""
    verb = VERBS[verb_name]
    config_class = load(verb.config)
    parser = _parser(verb_name, verb, config_class)
    if verb_name == "submit":
        # What follows the inner verb belongs to it, options included.
        given, extra = parser.parse_known_args(arguments)
    else:
        given, extra = parser.parse_known_intermixed_args(arguments)
    if extra:
        raise _unknown_option(extra[0], config_class)
    options: dict[str, Any] = {}
    words: list[str] = []
    for word in given.words:
        if verb_name != "submit" and _OVERRIDE.match(word) and not Path(word).exists():
            key, _, value = word.partition("=")
            options[key] = value
        else:
            words.append(word)
    options |= _fill(verb_name, words, config_class)
    options |= {key[1:]: _plain(value) for key, value in vars(given).items() if key.startswith(":")}
    return config_class.parse(options, yaml_file=_yaml_file(given, verb)), given


def options_of(config_class: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every leaf of a configuration class, in order."""
    for name, field in config_class.model_fields.items():
        nested = [t for t in _types_in(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
        chosen_by_name = any(type(item) is SerializeAsAny for item in field.metadata)
        if len(nested) == 1 and not chosen_by_name:
            yield from options_of(nested[0], f"{prefix}{name}.")
        else:
            yield prefix + name, field


def load(path: str) -> Any:
    """The object that ``module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as a ConfigError, like every other bad setting."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, remedy=f"see '{self.prog} --help'")


def _parser(name: str, verb: Verb, config_class: type[VerbConfig]) -> argparse.ArgumentParser:
    """The options of a verb: one for each field of its configuration that is not positional, and the shared ones."""
    parser = _Parser(
        prog=f"specktrack {name}", description=verb.summary, allow_abbrev=False, add_help=False, usage=argparse.SUPPRESS
    )
    fields = dict(options_of(config_class))
    words = " ".join(_metavar_of_word(fields[key], key) for key in verb.positional)
    parser.usage = f"%(prog)s {words} [options] [key=value ...]".replace("  ", " ")
    about = " ".join(f"{key.upper()}: {fields[key].description}" for key in verb.positional)
    everything = argparse.REMAINDER if name == "submit" else "*"
    parser.add_argument("words", nargs=everything, metavar=words or "key=value", help=_escaped(about))
    for key, field in fields.items():
        if key not in verb.positional:
            _add_option(parser, key, field)
    shared = parser.add_argument_group("for every verb")
    shared.add_argument("--config", metavar="FILE", help="YAML file with any of these settings; options win over it")
    if verb.recipes:
        shared.add_argument("--recipe", metavar="NAME", help="a configuration that comes with the package")
    shared.add_argument("--json", action="store_true", help="print the report as one JSON value, last on stdout")
    shared.add_argument("--verbose", action="store_true", help="log more")
    shared.add_argument("-h", "--help", action="store_true", help="show this")
    return parser


def _add_option(parser: argparse.ArgumentParser, key: str, field: FieldInfo) -> None:
    """``--key VALUE``; ``--key/--no-key`` for a boolean; a list's option may be repeated. pydantic does the reading."""
    flag = _flag(key)
    types = _types_in(field.annotation)
    help_text = _help_of(field)
    if bool in types:
        group = parser.add_mutually_exclusive_group()
        group.add_argument(flag, dest=f":{key}", action="store_true", default=argparse.SUPPRESS, help=help_text)
        negative = "--fresh" if key == "resume" else "--no-" + flag.removeprefix("--")
        group.add_argument(negative, dest=f":{key}", action="store_false", default=argparse.SUPPRESS)
        return
    literals = [value for t in types if get_origin(t) is Literal for value in get_args(t)]
    metavar = "{" + ",".join(map(str, literals)) + "}" if literals else key.rpartition(".")[2].upper()
    action = "append" if _is_list(field) else "store"
    parser.add_argument(flag, dest=f":{key}", action=action, metavar=metavar, default=argparse.SUPPRESS, help=help_text)


def _yaml_file(given: argparse.Namespace, verb: Verb) -> Path | str | None:
    recipe = getattr(given, "recipe", None)
    if recipe is None or verb.recipes is None:
        return given.config
    if given.config is not None:
        raise ConfigError("--recipe and --config both name a configuration file", remedy="give one of them")
    return load(verb.recipes)(recipe)


def _fill(verb_name: str, words: list[str], config_class: type[VerbConfig]) -> dict[str, Any]:
    """Give the positional fields their words, in order; ConfigError if words are left over."""
    fields = dict(options_of(config_class))
    options: dict[str, Any] = {}
    left = list(words)
    for key in VERBS[verb_name].positional:
        if not left:
            break
        options[key], left = (left, []) if _is_list(fields[key]) else (left[0], left[1:])
    if left:
        raise ConfigError("one argument too many", left[0], remedy=f"see 'specktrack {verb_name} --help'")
    return options


def _unknown_option(word: str, config_class: type[VerbConfig]) -> ConfigError:
    flags = [_flag(key) for key, _ in options_of(config_class)] + ["--config", "--json", "--verbose"]
    close = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigError("unknown option", word, remedy=f"{hint}allowed: {', '.join(flags)}")


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _plain(value: Any) -> Any:
    """A repeated option as a list; a single ``[...]`` is left as text for the configuration to read."""
    return value[0] if isinstance(value, list) and len(value) == 1 and value[0][:1] == "[" else value


def _types_in(annotation: Any) -> list[Any]:
    """The members of a union, or the one type."""
    return list(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else [annotation]


def _is_list(field: FieldInfo) -> bool:
    return any(get_origin(t) in (list, tuple) for t in _types_in(field.annotation))


def _metavar_of_word(field: FieldInfo, key: str) -> str:
    name = key.upper()
    return f"{name}..." if _is_list(field) else name if field.is_required() else f"[{name}]"


def _help_of(field: FieldInfo) -> str:
    text = _escaped(field.description or "")
    if field.is_required() or field.default in (None, ""):
        return text
    return f"{text} [{_escaped(str(field.get_default(call_default_factory=True)))}]"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("%", "%%").replace("``", "'")
