"""Typed, frozen configuration: one class per verb, read from defaults < YAML < environment < options.

The same class parses the command line, a YAML file, a Ray job and the ``args:`` of a Serve application, so an unknown
key is refused everywhere with the list of allowed ones.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from specktrack.errors import ConfigError

AnyModel = TypeVar("AnyModel", bound=BaseModel)

MOST_YAML_DEPTH, MOST_YAML_NODES = 64, 100_000
"""Of a YAML text as its aliases unfold it: a few lines can name 10^9 values, or nest deeper than Python's stack."""


class Config(BaseModel):
    """Base of every configuration and value class: frozen, and no key it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, values: Any) -> Any:
        """``1280x720`` and ``1280,720`` for fields that take a pair, as command lines and queries write a size."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            key: _pair(value) if key in fields and wants_two(fields[key]) else value for key, value in values.items()
        }

    def sha(self) -> str:
        """SHA-256 over the canonical JSON of all fields: equal settings, equal hash."""
        return sha_of(self.model_dump(mode="json"))


class VerbConfig(Config):
    """Configuration of one command-line verb; its fields are the verb's options."""

    verb: ClassVar[str]
    scope: ClassVar[str] = ""
    """Words that an error adds after the verb's name, where several classes share the verb."""

    @classmethod
    def parse(
        cls,
        options: Mapping[str, Any] | None = None,
        *,
        yaml_file: str | Path | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Merge defaults < ``yaml_file`` < ``SPECKTRACK_<VERB>_<FIELD>`` < ``options`` and validate.

        Option keys may be dotted (``network.width``). Raises ConfigError naming key, value and the allowed keys.
        """
        merged: dict[str, Any] = {}
        if yaml_file is not None:
            _merge(merged, cls.settings_in(read_yaml(yaml_file), str(yaml_file)))
        prefix = f"SPECKTRACK_{cls.verb.upper()}_"
        for name, text in sorted(environment.items()):
            if name.startswith(prefix):
                _set(merged, name.removeprefix(prefix).lower().replace("__", "."), text)
        for key, given in (options or {}).items():
            _set(merged, key, given)
        kind = cls.kind_of(merged)
        try:
            return kind.model_validate(merged)
        except ValidationError as error:
            name = cls.verb.replace("_", " ")
            place, remedy = f"configuration of '{name}'{kind.scope}", f"see 'specktrack {name} --help'"
            raise ConfigError(explain(error, kind), place=place, remedy=remedy) from None

    @classmethod
    def kind_of(cls, settings: Mapping[str, Any]) -> type[Self]:
        """The class that validates ``settings``: this one, or one of ``classes``."""
        return cls

    @classmethod
    def classes(cls) -> Mapping[str, type[Self]]:
        """The classes that share the verb, by the word for what each is about; none where this is the only one."""
        return {}

    @classmethod
    def settings_in(cls, content: dict[str, Any], place: str) -> dict[str, Any]:
        """The settings that a file at ``place`` holds; overridden where the file is another tool's as well."""
        return content


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; ConfigError if it is missing, is not YAML or not a mapping."""
    try:
        content = load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file: {error.strerror}", str(path)) from None
    except UnicodeDecodeError:
        raise ConfigError("a configuration file must be UTF-8 text", str(path)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"not valid YAML, {error.problem}", str(path), place) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}", str(path)) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError("a configuration file needs 'key: value' lines", type(content).__name__, str(path))
    return content


def load_yaml(text: str) -> Any:
    """Parse YAML text; yaml.YAMLError if it is not YAML, or too deep or too large once expanded."""
    nodes = depth = 0
    begun: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in begun}:
                raise yaml.YAMLError(f"{event.anchor!r} contains itself")
            nodes += sizes.get(event.anchor, 0)  # one that is not there is named by what follows
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, nodes))
            nodes += 1
            depth = max(depth, len(begun))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes[event.anchor] = 1
        if depth > MOST_YAML_DEPTH:
            raise yaml.YAMLError(f"nested more than {MOST_YAML_DEPTH} deep")
        if nodes > MOST_YAML_NODES:
            raise yaml.YAMLError(f"more than {MOST_YAML_NODES} values once aliases are expanded")
    try:
        return yaml.safe_load(text)
    except ValueError as error:  # the 30th of February, a number of 5,000 digits
        raise yaml.YAMLError(str(error)) from None


def validated(cls: type[AnyModel], values: Any, place: str) -> AnyModel:
    """``cls`` of ``values``; ConfigError with a sentence per problem."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, cls), place=place) from None


def explain(error: ValidationError, cls: type[BaseModel]) -> str:
    """One sentence per problem of a pydantic ValidationError, with the allowed keys where a key is unknown."""
    sentences = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            allowed = sorted(_fields_at(cls, problem["loc"][:-1]))
            close = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            sentences.append(f"unknown key {key!r}; {hint}allowed: {', '.join(allowed)}")
        elif problem["type"] == "missing":
            sentences.append(f"{key!r} is required")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            message = f"{message[0].lower()}{message[1:]}"
            sentences.append(f"{key}={problem['input']!r}: {message}" if key else message)
    return "; ".join(sentences)


def sha_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value`` (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def types_in(annotation: Any) -> list[Any]:
    """The members of a union, or the one type."""
    return list(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else [annotation]


def wants_two(field: FieldInfo) -> bool:
    """Whether a field takes a pair of numbers, as a size does."""
    tuples = [get_args(t) for t in types_in(field.annotation) if get_origin(t) is tuple]
    return any(len(parts) == 2 and Ellipsis not in parts for parts in tuples)


def _pair(value: Any) -> Any:
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    return re.split("[x,]", text) if isinstance(text, str) else value


def _fields_at(cls: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the model found by walking ``location`` from ``cls``."""
    for part in location:
        field = cls.model_fields.get(str(part))
        nested = field.annotation if field else None
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            cls = nested
    return list(cls.model_fields)


def _set(target: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key; text that begins like a list or mapping is read as YAML, other text is left to pydantic."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = load_yaml(value)
        except yaml.YAMLError:
            raise ConfigError("not a valid list or mapping", value, f"option {dotted!r}") from None
    *parents, leaf = dotted.split(".")
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigError("the parent of a dotted key must be a mapping", dotted)
    target[leaf] = value


def _merge(target: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value
