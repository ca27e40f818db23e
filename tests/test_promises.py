"""docs/reliability.md names a test for every promise, the test is there, and `make faults` runs it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[^`]+\.py::[^`]+)`", DOCUMENT)))
ROWS = [line for line in DOCUMENT.splitlines() if re.match(r"\| [BTX]-\d", line)]


@pytest.mark.parametrize(("letter", "last"), [("B", 20), ("T", 10), ("X", 15)])
def test_every_promise_has_its_row(letter: str, last: int) -> None:
    there = {int(number) for row in ROWS for number in re.findall(rf"{letter}-(\d+)", row.split("|")[1])}
    assert there == set(range(1, last + 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_what_shows_it(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 5 and all(cells)
    assert re.search(r"`tests/[^`]+\.py::[^`]+`|`benchmarks/[a-z_]+\.py`", cells[-1])


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_is_there(name: str) -> None:
    file, *parts = name.split("::")
    text = (ROOT / file).read_text()
    assert all(re.search(rf"^ *(def|class) {part}\b", text, re.MULTILINE) for part in parts)


def test_make_faults_runs_all_of_them() -> None:
    done = subprocess.run(["make", "-n", "faults"], cwd=ROOT, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert "tests/faults" in words
    assert {name for name in NAMED if not name.startswith("tests/faults/")} <= set(words)
