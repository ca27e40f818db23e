"""The shape of the code base: what may not be shadowed, who may import whom, and what the world may rely on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import specktrack
from specktrack.cli.options import flag_of, options_of
from specktrack.cli.table import VERBS
from specktrack.cli.usage import usage
from specktrack.lazy import load

ROOT = Path(__file__).parents[1]


def python(code: str, *, cwd: Path = ROOT) -> str:
    """Run code in a fresh interpreter that finds the package; its stdout."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'platform')!r})\n{code}"],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_platform_is_a_source_root_and_no_package() -> None:
    """A platform/__init__.py would be imported in place of the standard library's platform."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert [path.name for path in (ROOT / "platform").iterdir() if path.suffix == ".py"] == []
    assert python("import platform, uuid; print(platform.system())").strip()


@pytest.mark.parametrize("folder", ["jobs", "benchmarks", "docs", "tests"])
def test_no_script_is_named_like_a_module_that_it_imports(folder: str) -> None:
    """``python jobs/x.py`` puts jobs/ first on the path."""
    taken = sys.stdlib_module_names | {"ray", "torch", "numpy", "pyarrow", "av", "pydantic", "specktrack", "yaml"}
    assert [path.name for path in (ROOT / folder).glob("*.py") if path.stem in taken] == []


def test_imports_only_point_down() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT, env={"PYTHONPATH": "platform", "PATH": ""}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_every_module_has_a_place_in_the_layers() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    layers = text.split("layers = [")[1].split("]")[0].translate(str.maketrans('"|,()', "     ")).split()
    modules = {path.stem for path in (ROOT / "platform/specktrack").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules - {"__init__", "__pycache__"} <= set(layers)


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ("--help", 120),
        ("models list --json", 450),
        ("annotate --help", 450),
        ("export --help", 700),
    ],
)
def test_what_a_command_loads_before_it_works(arguments: str, most: int) -> None:
    """Each module costs a fraction of a millisecond, at every call: a new one is let in by raising its number here."""
    code = f"from specktrack.cli.main import main; main({arguments.split()!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(ROOT / 'platform'), *sys.path]!r}\n{code}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    loaded = set(done.stderr.split())
    assert not {"torch", "ray", "boto3"} & loaded
    assert len(loaded) <= most


@pytest.mark.parametrize("module", ["specktrack", "specktrack.cli.main"])
def test_the_command_line_starts_without_torch_and_ray(module: str) -> None:
    heavy = "{'torch', 'ray', 'pyarrow', 'av', 'boto3', 'numpy'}"
    loaded = python(f"import {module}; print(sorted({heavy} & set(sys.modules)))")
    assert loaded.strip() == "[]"


def test_torch_is_loaded_only_where_networks_are() -> None:
    light = "storage ledger video overlay datasets metrics.protocols models.zoo verbs.data verbs.models cli.display"
    code = "; ".join(f"import specktrack.{name}" for name in light.split())
    code += "; print(sorted({'torch', 'ray'} & set(sys.modules)))"
    assert python(code).strip() == "[]"


def test_no_help_loads_torch_or_ray() -> None:
    code = "from specktrack.cli.main import main; main(['train', '--help'])"
    assert python(f"{code}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))").splitlines()[-1] == "[]"


def test_the_public_names_are_these() -> None:
    names = [
        "__version__",
        "annotate",
        "events",
        "follow",
        "load_model",
        "open_session",
        "read_annotations",
        "scan_annotations",
    ]
    assert specktrack.__all__ == names
    assert dir(specktrack) == names
    assert all(callable(getattr(specktrack, name)) for name in names[1:])
    with pytest.raises(AttributeError, match="module 'specktrack' has no attribute 'annotat'"):
        specktrack.annotat  # noqa: B018


def test_the_version_is_the_one_of_the_project() -> None:
    assert f'version = "{specktrack.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself_and_lists_its_settings(name: str) -> None:
    verb = VERBS[name]
    config_class = load(verb.config)
    text = " ".join(usage(name).split())
    assert verb.summary in text
    assert config_class.__doc__
    assert callable(load(verb.run))
    assert callable(load(verb.show))
    for key, field in options_of(config_class):
        assert (key.upper() if key in verb.positional else flag_of(key)) in text
        assert field.description, f"{config_class.__name__}.{key} has no docstring below it"


def test_no_two_verbs_read_the_same_environment() -> None:
    names = [load(verb.config).verb for verb in VERBS.values()]
    assert len(set(names)) == len(names)
    assert not [(a, b) for a in names for b in names if a != b and b.startswith(f"{a}_")]


def test_the_json_schema_of_every_verb_can_be_written() -> None:
    for verb in VERBS.values():
        schema = json.loads(json.dumps(load(verb.config).model_json_schema()))
        assert schema["additionalProperties"] is False
