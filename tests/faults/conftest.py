"""One archive of 200 clips for all fault tests, and its rows as one undisturbed pass gives them."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from tests.annotating import make_video, tiny_model

from specktrack.annotating import AnnotateConfig, annotate_here

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
    """A process whose output is kept in memory: a pipe that nobody reads fills up, and stops what writes to it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._texts = [os.memfd_create(name) for name in ("out", "err")]
        super().__init__(command, env=environment, stdout=self._texts[0], stderr=self._texts[1])

    def __del__(self) -> None:
        super().__del__()
        for text in self._texts:
            os.close(text)

    def output(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed to its two streams when it ends."""
        self.wait(timeout)
        out, err = (os.pread(text, os.fstat(text).st_size, 0).decode(errors="replace") for text in self._texts)
        return out, err


def driver(config: AnnotateConfig, **environment: str) -> Driver:
    """The run as a process of its own, on a Ray of its own unless the configuration names one."""
    script = (
        "import sys; from specktrack.annotating import *\n"
        "print(annotate(AnnotateConfig.model_validate_json(sys.argv[1])).model_dump_json())"
    )
    inherited = {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}
    return Driver(
        [sys.executable, "-c", script, config.model_dump_json(exclude={"exit_code"})],
        inherited | {"PYTHONPATH": os.pathsep.join(["platform", "."]), "OMP_NUM_THREADS": "1"} | environment,
    )
