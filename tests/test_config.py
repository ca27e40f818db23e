"""Configuration: where a setting comes from, and what is said about one that is wrong."""

from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field, ValidationError

from specktrack.config import Config, VerbConfig, load_yaml, read_yaml, sha_of
from specktrack.errors import ConfigError


class Engine(Config):
    """A part."""

    power: int = Field(default=1, ge=1)
    name: str = "plain"


class RunConfig(VerbConfig):
    """A verb."""

    verb: ClassVar[str] = "run"

    speed: float = 1.0
    sources: tuple[str, ...] = ()
    mode: Literal["fast", "safe"] = "fast"
    quiet: bool = False
    engine: Engine = Engine()


def parse(options: dict[str, object] | None = None, **rest: object) -> RunConfig:
    return RunConfig.parse(options, **{"environment": {}, **rest})  # type: ignore[arg-type]


def test_options_win_over_environment_over_yaml_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("speed: 2\nmode: safe\nengine:\n  power: 3\n  name: big\n")
    environment = {"SPECKTRACK_RUN_MODE": "fast", "SPECKTRACK_RUN_ENGINE__POWER": "4", "SPECKTRACK_OTHER_SPEED": "9"}
    config = RunConfig.parse({"engine.power": "5"}, yaml_file=file, environment=environment)
    assert config == RunConfig(speed=2, mode="fast", engine=Engine(power=5, name="big"))
    assert RunConfig.parse(yaml_file=file, environment=environment).engine.power == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sped": 1}, r"unknown key 'sped'; did you mean 'speed'\? allowed: engine, mode, quiet, sources, speed"),
        ({"engine.pwer": 1}, r"unknown key 'engine.pwer'; did you mean 'power'\? allowed: name, power"),
        ({"speed": "quick"}, r"speed='quick': input should be a valid number"),
        ({"engine.power": 0}, r"engine.power=0: input should be greater than or equal to 1"),
        ({"mode": "slow"}, r"mode='slow': input should be 'fast' or 'safe'"),
        ({"speed": "nan"}, r"speed=.*finite number"),
        ({"sources": "[a, b"}, r"not a valid list or mapping: '\[a, b' \(option 'sources'\)"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(options)


def test_the_place_of_a_mistake_is_named() -> None:
    with pytest.raises(ConfigError, match=r"configuration of 'run'"):
        parse({"nothing": 1})


def test_a_dotted_key_needs_a_mapping_above_it() -> None:
    with pytest.raises(ConfigError, match=r"the parent of a dotted key must be a mapping: 'speed.unit'"):
        parse({"speed": "1", "speed.unit": "px"})


def test_lists_are_read_from_text() -> None:
    assert parse({"sources": "[a.mp4, 'b c.mp4']"}).sources == ("a.mp4", "b c.mp4")


BOMB = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))])
"""Ten lines that name 9^9 values."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed: [1", r"not valid YAML, expected ',' or '\]'.*run\.yaml' \(line 1, column 10\)"),
        ("speed: !!python/object/apply:os.system [id]", r"not valid YAML, could not determine a constructor"),
        ("day: 2026-02-30", "not valid YAML: day is out of range for month"),
        ("a: " + "[" * 5000, "nested more than 64 deep"),
        (BOMB, "more than 100000 values once aliases are expanded"),
        ("a: &a [*a]", "'a' contains itself"),
        ("a: *b", "not valid YAML, found undefined alias 'b'"),
        ("- 1\n- 2\n", r"a configuration file needs 'key: value' lines: 'list'"),
        (None, "cannot read the configuration file"),
    ],
)
def test_a_bad_yaml_file_is_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "run.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        parse(yaml_file=file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 5000, f"{{{', '.join(BOMB.splitlines())}}}"])
def test_an_option_unfolds_no_further_than_a_file(text: str) -> None:
    with pytest.raises(ConfigError, match="not a valid list or mapping"):
        parse({"sources": text})


def test_aliases_are_taken_as_far_as_people_use_them() -> None:
    assert load_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}],
    }  # fmt: skip


def test_bytes_that_are_no_text_are_no_yaml(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="a configuration file must be UTF-8 text"):
        read_yaml(file)


def test_an_empty_yaml_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# nothing\n")
    assert parse(yaml_file=tmp_path / "run.yaml") == RunConfig()


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().speed = 2.0  # type: ignore[misc]


def test_equal_settings_have_equal_hashes() -> None:
    assert parse({"speed": "2"}).sha() == RunConfig(speed=2.0).sha()
    assert RunConfig(speed=2.5).sha() != RunConfig().sha()
    assert sha_of({"b": 1, "a": 2}) == sha_of({"a": 2, "b": 1})
