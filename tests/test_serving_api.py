"""The OpenAPI document: valid, complete, and enough to make a client from."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openapi_spec_validator import validate

from specktrack.schema import MEANINGS, ROWS
from specktrack.serving.config import ServeConfig
from specktrack.serving.ingress import create_app


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    gateway = SimpleNamespace(config=ServeConfig(), boxed=("boxes",), lifespan=None)
    return create_app(cast(Any, gateway)).openapi()


def test_it_is_valid_and_every_schema_has_one_home(document: dict[str, Any]) -> None:
    validate(document)
    text = json.dumps(document)
    assert "$defs" not in text and "HTTPValidationError" not in text


def test_operations_are_named_and_fields_are_described(document: dict[str, Any]) -> None:
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names) and {"annotate", "start_batch", "get_batch_rows"} <= set(names)
    for operation in operations:
        assert operation["description"], operation["operationId"]
        undescribed = [
            each["name"]
            for each in operation.get("parameters", ())
            if each["in"] == "query" and not each.get("description")
        ]
        assert not undescribed, operation["operationId"]
    row = document["components"]["schemas"]["Row"]["properties"]
    assert {name: field["description"] for name, field in row.items()} == {name: MEANINGS[name] for name in row}
    assert {*row, "video"} == set(ROWS.names) == set(MEANINGS)
    assert document["components"]["schemas"]["Provenance"]["enum"][:2] == ["labelled", "detected"]


@pytest.mark.slow
def test_a_client_is_made_from_it(document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    bin_folder = Path(sys.executable).parent
    command = [bin_folder / "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"]
    made = subprocess.run(
        [*command, "--output-path", "made"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},  # it formats with ruff
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(tmp_path)
    batch = importlib.import_module("made.models.batch").Batch
    said = {"id": "1", "sources": ["a.mp4"], "output": "o", "model": "m", "created_s": 1.0, "state": "done"}
    assert batch.from_dict(said).to_dict() == said
    assert importlib.import_module("made.api.clips.annotate").sync
