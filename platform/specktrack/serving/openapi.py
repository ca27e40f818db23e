"""What OpenAPI says of bodies and answers that FastAPI cannot see."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from specktrack.serving import formats, problems, uploads
from specktrack.serving.problems import Problem

FILE = {"type": "string", "format": "binary"}
FPS = {"type": "number", "exclusiveMinimum": 0, "maximum": 1000}


def multipart(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A route's multipart body."""
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {uploads.MULTIPART: {"schema": schema}}}}


def ref(kind: type[BaseModel]) -> dict[str, str]:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


class Api(FastAPI):
    """Its OpenAPI document has Problem in place of FastAPI's own error schemas."""

    def openapi(self) -> dict[str, Any]:
        """The document."""
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for route in self.routes:
            if isinstance(route, APIRoute) and route.path in document["paths"]:
                for operation in document["paths"][route.path].values():
                    answer = operation["responses"].get("422")
                    if answer and formats.JSON in answer.get("content", {}):
                        operation["responses"].update({"422": problems.responses(422)[422]})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return document
