"""``specktrack schema VERB``: the JSON schema of a verb's ``--config`` file, for completion and checks in editors.

# yaml-language-server: $schema=train.schema.json
"""

import json
import sys
from typing import Any, ClassVar

from pydantic import TypeAdapter, field_validator

from specktrack.cli.table import VERBS
from specktrack.config import VerbConfig
from specktrack.lazy import load


class SchemaConfig(VerbConfig):
    """Print the JSON schema of a verb's --config file, for editors."""

    verb: ClassVar[str] = "schema"

    of: str
    """The verb, such as train or 'data import'."""

    @field_validator("of")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in VERBS:
            raise ValueError(f"there are: {', '.join(VERBS)}")
        return value


def schema(config: SchemaConfig) -> dict[str, Any]:
    """The schema; nothing is required, since options may give what a file leaves out."""
    config_class: type[VerbConfig] = load(VERBS[config.of].config)
    classes = tuple(config_class.classes().values()) or (config_class,)
    made: dict[str, Any] = TypeAdapter(_union(classes)).json_schema()
    for part in (made, *made.get("$defs", {}).values()):
        part.pop("required", None)
        if VERBS[config.of].recipes and part.get("title") in {each.__name__ for each in classes}:
            part["properties"]["needs"] = {"type": "object", "description": "What a recipe asks for, and why."}
    _names_stand_for_networks(made)
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"specktrack {config.of}"}
    return {**made, **title}


def show(report: dict[str, Any]) -> None:
    """As it is: a table would not do."""
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def _union(classes: tuple[type[VerbConfig], ...]) -> Any:
    union: Any = classes[0]
    for other in classes[1:]:
        union = union | other
    return union


def _names_stand_for_networks(part: Any) -> None:
    """A network may be given by its name alone, or by its name and some of its fields: say so where one is wanted."""
    if isinstance(part, dict):
        network = part.get("properties", {}).get("network")
        if network is not None:
            told = network.get("description", "")
            named = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
            part["properties"]["network"] = {"description": told, "anyOf": [{"type": "string"}, named]}
        for inner in part.values():
            _names_stand_for_networks(inner)
    elif isinstance(part, list):
        for inner in part:
            _names_stand_for_networks(inner)
