"""One archive of 200 clips for all fault tests, and its rows as one undisturbed pass gives them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from tests.annotating import make_video, tiny_model

from specktrack.annotate import AnnotateConfig, annotate_here

VIDEOS, FRAMES = 40, 220
CLIPS = 5 * VIDEOS


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 videos of 220 frames: 200 clips of 1.5 s."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(VIDEOS):
        make_video(folder / f"{number:02d}.mp4", FRAMES, seed=number)
    return folder


@pytest.fixture(scope="session")
def undisturbed(archive: Path, model: str) -> pa.Table:
    return annotate_here(archive, model=model, device="cpu")


class Driver(subprocess.Popen[str]):
    """Its output goes to files: a pipe that nobody reads while things are killed fills up, and stops the run."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._texts = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 -- closed with this object
        super().__init__(command, env=environment, stdout=self._texts[0], stderr=self._texts[1], text=True)

    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002
        self.wait(timeout)
        for text in self._texts:
            text.seek(0)
        return self._texts[0].read(), self._texts[1].read()


def driver(config: AnnotateConfig, **environment: str) -> Driver:
    """The run as a process of its own, on a Ray of its own unless the configuration names one."""
    script = (
        "import sys; from specktrack.annotate import *\n"
        "print(annotate(AnnotateConfig.model_validate_json(sys.argv[1])).model_dump_json())"
    )
    inherited = {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}
    return Driver(
        [sys.executable, "-c", script, config.model_dump_json(exclude={"exit_code"})],
        inherited | {"PYTHONPATH": os.pathsep.join(["platform", "."]), "OMP_NUM_THREADS": "1"} | environment,
    )
