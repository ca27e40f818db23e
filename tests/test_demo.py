"""The demo: from nothing, or from a person's video, to rows, overlays, a CSV file, a picture and a report."""

import json
from pathlib import Path

import pyarrow.csv
import pytest
from PIL import Image

from specktrack.cli import main as cli
from specktrack.ledger import read_annotations


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_runs_on_an_archive_and_on_a_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice into the same folder: a demo starts over, whatever lies there."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "platform"))  # for Ray's workers
    output = tmp_path / "demo"
    assert cli.main(["demo", "--json", "--address", "local", "--output", str(output)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["videos"], report["frames"]) == (3, 270)
    assert report["found"] > 0
    assert 0 < report["accuracy"] <= 1
    assert len(report["overlays"]) == 3
    assert read_annotations(report["rows"]).num_rows == 270
    assert pyarrow.csv.read_csv(report["csv"]).num_rows == 270
    assert Image.open(report["picture"]).size == (1920, 810)

    video = str(next((output / "archive").rglob("*.mp4")))
    assert cli.main(["demo", video, "--json", "--address", "local", "--output", str(output)]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["videos"], report["frames"], report["accuracy"]) == (1, 90, None)
    assert len(report["overlays"]) == 1
