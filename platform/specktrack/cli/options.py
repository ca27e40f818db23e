"""A verb's configuration from its arguments: options are the configuration's fields."""

import argparse
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel, SerializeAsAny
from pydantic.fields import FieldInfo

from specktrack.cli.table import VERBS, Verb
from specktrack.config import VerbConfig, types_in
from specktrack.errors import ConfigError
from specktrack.lazy import load

SHARED_FLAGS = ("--json", "--plain", "--quiet", "--verbose")
"""Options of every verb."""
_OVERRIDE = re.compile(r"[a-z][a-z0-9_.]*=")


def parse(verb_name: str, arguments: Sequence[str]) -> tuple[VerbConfig, argparse.Namespace]:
    """The verb's configuration from its arguments, and the flags that all verbs share: json, plain, quiet, verbose.

    What follows ``--`` are names, also those that look like options.
    """
    verb = VERBS[verb_name]
    config_class = load(verb.config)
    parser = _parser(verb_name, verb, config_class)
    if verb.takes_the_rest:
        given, extra = parser.parse_known_args(arguments)
        names: Sequence[str] = ()
    else:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        given, extra = parser.parse_known_intermixed_args(arguments[:end])
        names = arguments[end + 1 :]
    if extra:
        raise _unknown_option(extra[0], verb, config_class)
    fields = dict(options_of(config_class))
    options: dict[str, Any] = {}
    words: list[str] = []
    for word in given.words:
        if not verb.takes_the_rest and _OVERRIDE.match(word) and not Path(word).exists():
            key, _, value = word.partition("=")
            options[key] = value
        else:
            words.append(word)
    options |= _fill(verb_name, [*words, *names], config_class)
    options |= {key[1:]: _plain(value, fields[key[1:]]) for key, value in vars(given).items() if key.startswith(":")}
    return config_class.parse(options, yaml_file=_yaml_file(given, verb)), given


def options_of(config_class: type[VerbConfig]) -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every leaf of a configuration class, in order; of all its kinds, where it has some."""
    for _, fields in sections_of(config_class):
        yield from fields.items()


def sections_of(config_class: type[VerbConfig]) -> list[tuple[tuple[str, ...], dict[str, FieldInfo]]]:
    """The options of each set of kinds that share them; first those of all, under no name."""
    kinds = config_class.classes()
    if not kinds:
        return [((), dict(_leaves(config_class)))]
    holders: dict[str, dict[str, FieldInfo]] = {}
    for kind, of_kind in kinds.items():
        for key, field in _leaves(of_kind):
            holders.setdefault(key, {})[kind] = field
    sections: dict[tuple[str, ...], dict[str, FieldInfo]] = {(): {}}
    for key, fields in holders.items():
        held = () if len(fields) == len(kinds) else tuple(fields)
        sections.setdefault(held, {})[key] = _with_defaults(fields)
    return sorted(sections.items(), key=lambda section: -len(section[0] or kinds))


def _with_defaults(fields: Mapping[str, FieldInfo]) -> FieldInfo:
    """The first kind's field; its description names the defaults of the kinds that have another one."""
    first = next(iter(fields.values()))
    other: dict[str, list[str]] = {}
    for kind, field in fields.items():
        if field.default != first.default and not isinstance(field.default, BaseModel):
            other.setdefault(str(field.default), []).append(kind)
    if not other:
        return first
    told = copy(first)
    told.description = f"{first.description} Default for " + "; for ".join(
        f"{' and '.join(held)} networks: {default}" for default, held in other.items()
    )
    return told


def _leaves(config_class: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in config_class.model_fields.items():
        members = types_in(field.annotation)
        nested = [t for t in members if isinstance(t, type) and issubclass(t, BaseModel)]
        chosen_by_name = any(type(item) is SerializeAsAny for item in field.metadata)
        if len(nested) == 1 and not chosen_by_name:
            for key, leaf in _leaves(nested[0], f"{prefix}{name}."):
                yield key, _optional(leaf) if type(None) in members else leaf
        else:
            yield prefix + name, field


def _optional(field: FieldInfo) -> FieldInfo:
    """A field below one that may be left out: wanted only where something else of it is given."""
    if not field.is_required():
        return field
    optional = copy(field)
    optional.default = None
    return optional


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as a ConfigError, like every other bad setting."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, remedy=f"see '{self.prog} --help'")


def _parser(name: str, verb: Verb, config_class: type[VerbConfig]) -> argparse.ArgumentParser:
    """The options of a verb: one for each field of its configuration that is not positional, and the shared ones."""
    parser = _Parser(prog=f"specktrack {name}", allow_abbrev=False, add_help=False)
    parser.add_argument("words", nargs=argparse.REMAINDER if verb.takes_the_rest else "*")
    for key, field in options_of(config_class):
        if key not in verb.positional:
            _add_option(parser, key, field)
    parser.add_argument("--config")
    if verb.recipes:
        parser.add_argument("--recipe")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--plain", action="store_true")
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("--verbose", action="store_true")
    talk.add_argument("--quiet", action="store_true")
    return parser


def _add_option(parser: argparse.ArgumentParser, key: str, field: FieldInfo) -> None:
    """``--key VALUE``; ``--key/--no-key`` for a boolean; a list's option may be repeated. pydantic does the reading."""
    given: dict[str, Any] = {"dest": f":{key}", "default": argparse.SUPPRESS}
    if bool in types_in(field.annotation):
        group = parser.add_mutually_exclusive_group()
        group.add_argument(flag_of(key), action="store_true", **given)
        group.add_argument(off_flag_of(key), action="store_false", **given)
    else:
        parser.add_argument(flag_of(key), action="append" if is_list(field) else "store", **given)


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
        options[key], left = (left, []) if is_list(fields[key]) else (left[0], left[1:])
    if left:
        raise ConfigError("unexpected argument", left[0], remedy=f"see 'specktrack {verb_name} --help'")
    return options


def _unknown_option(word: str, verb: Verb, config_class: type[VerbConfig]) -> ConfigError:
    keys = [key for key, _ in options_of(config_class) if key not in verb.positional]
    flags = [*map(flag_of, keys), "--config", *(["--recipe"] if verb.recipes else []), *SHARED_FLAGS]
    close = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigError("unknown option", word, remedy=f"{hint}allowed: {', '.join(flags)}")


def flag_of(key: str) -> str:
    """The option of a field."""
    return "--" + key.replace("_", "-")


def off_flag_of(key: str) -> str:
    """The option that turns a boolean field off."""
    return "--fresh" if key == "resume" else "--no-" + flag_of(key).removeprefix("--")


def literals(field: FieldInfo) -> list[str]:
    """The words that a field allows, if it allows only some."""
    return [str(value) for t in types_in(field.annotation) if get_origin(t) is Literal for value in get_args(t)]


def is_list(field: FieldInfo) -> bool:
    """Whether a field takes several values."""
    return any(get_origin(t) in (list, tuple) for t in types_in(field.annotation))


def _plain(value: Any, field: FieldInfo) -> Any:
    """A repeated option as a list; a single ``[...]`` is left as text for the configuration to read."""
    if not isinstance(value, list) or len(value) > 1:
        return value
    return value[0] if value[0][:1] == "[" else value
