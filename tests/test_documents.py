"""What the documents tell people to type is understood."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from specktrack.cli.options import parse
from specktrack.cli.table import VERBS, find_verb
from specktrack.errors import ConfigError
from specktrack.lazy import load
from specktrack.training.config import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def commands() -> Iterator[object]:
    """Lines of fenced blocks that begin with the program's name."""
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("specktrack "):
                    yield pytest.param(line, id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_of_the_documents_is_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where serve_config.yaml lies
    verb, rest = find_verb(shlex.split(line, comments=True)[1:])
    config, _ = parse(verb, rest)
    assert isinstance(config, load(VERBS[verb].config))


def test_a_command_that_nobody_understands_is_not_passed_over() -> None:
    with pytest.raises(ConfigError, match="--recipy"):
        parse(*find_verb(["train", "--recipy", "fast", "--data", "labels", "--output", "run"]))


def test_every_recipe_has_a_line_in_the_page_on_training() -> None:
    table = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("## Recipes")[2].partition("\n##")[0]
    named = {
        name
        for line in table.splitlines()
        for name in re.findall(r"`([\w-]+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named == {path.stem for path in RECIPES.glob("*.yaml")}
