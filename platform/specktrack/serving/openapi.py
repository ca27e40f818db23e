"""OpenAPI descriptions of bodies and answers that FastAPI cannot see."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from specktrack.serving import formats, problems, uploads
from specktrack.serving.answers import (
    AnnotateUri,
    Annotation,
    Batch,
    BatchAsked,
    BatchRequest,
    ClipAsked,
    Event,
    LiveRow,
    StreamAsked,
)
from specktrack.serving.problems import Problem

FILE = {"type": "string", "format": "binary"}
FPS = {"type": "number", "exclusiveMinimum": 0, "maximum": 1000, "default": 30, "description": "Frames per second."}
TAGS = [
    {"name": "clips", "description": "A clip in, its rows out."},
    {"name": "sessions", "description": "What a box in the first picture holds is followed picture by picture."},
    {"name": "batches", "description": "Many videos in the background."},
    {"name": "server", "description": "Health, models and metrics."},
]
NAMED = (
    AnnotateUri, Annotation, Batch, BatchAsked, BatchRequest, ClipAsked, Event, LiveRow, Problem, StreamAsked,
)  # fmt: skip
"""Schemas of bodies and answers that routes name by ``ref`` and ``form_of``, and those of the WebSocket's messages."""
_AT = "#/components/schemas/{model}"


def multipart(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A route's multipart body."""
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {uploads.MULTIPART: {"schema": schema}}}}


def form_of(kind: type[BaseModel], files: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The schema of a form with files and the fields of ``kind``."""
    fields = kind.model_json_schema(ref_template=_AT)["properties"]
    return {"type": "object", "required": required, "properties": {**files, **fields}}


def ref(kind: type[BaseModel]) -> dict[str, str]:
    """A schema by its name."""
    return {"$ref": _AT.format(model=kind.__name__)}


class Api(FastAPI):
    """Its OpenAPI document has Problem instead of FastAPI's own error schemas, and every schema once, by its name."""

    def openapi(self) -> dict[str, Any]:
        """The document."""
        if self.openapi_schema is None:
            self.openapi_schema = self._completed(super().openapi())
        return self.openapi_schema

    def _completed(self, document: dict[str, Any]) -> dict[str, Any]:
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, named = models_json_schema([(kind, "validation") for kind in NAMED], ref_template=_AT)
        schemas.update({name: schema for name, schema in named["$defs"].items() if name not in schemas})
        for operation in (each for path in document["paths"].values() for each in path.values()):
            if formats.JSON in operation["responses"].get("422", {}).get("content", {}):
                operation["responses"]["422"] = problems.responses(422)[422]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document
