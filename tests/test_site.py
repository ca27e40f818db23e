"""The documentation as a site, and what editors and citations read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from specktrack import __version__
from specktrack.cli.schema import SchemaConfig, schema
from specktrack.cli.table import VERBS
from specktrack.errors import ConfigError
from specktrack.training.config import RECIPES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_on_the_site_and_fetches_nothing(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages == {path.relative_to(site) for path in site.rglob("*.html")} - {Path("404.html")}
    assert not list(site.rglob("*.py"))
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"?(https?:[^\s\">]+)", text)
        fetched += re.findall(r"<link(?![^>]*rel=\"?canonical)[^>]*href=\"?(https?:[^\s\">]+)", text)
        assert not fetched, page


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_schema(verb: str) -> None:
    made = schema(SchemaConfig(of=verb))
    Draft202012Validator.check_schema(made)
    assert Draft202012Validator(made).is_valid({})
    assert not Draft202012Validator(made).is_valid({"no_such_setting": 1})


def test_the_recipes_fit_their_schema_and_a_slip_does_not() -> None:
    check = Draft202012Validator(schema(SchemaConfig(of="train")))
    for path in RECIPES.glob("*.yaml"):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert check.is_valid(recipe), path.stem
        assert not check.is_valid(recipe | {"stesp": 3}), path.stem
    assert check.is_valid({"network": "tracknet-v5"}) and not check.is_valid({"steps": "many"})
    with pytest.raises(ConfigError, match="there are: annotate"):
        SchemaConfig.parse({"of": "trian"}, environment={})


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"], citation["type"]) == (__version__, "Apache-2.0", "software")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
