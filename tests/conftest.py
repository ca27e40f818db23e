"""Fixtures that several test files share: a real S3 server on loopback, and the real labelled videos."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from xdist.scheduler import LoadFileScheduling

# torch's threads wait by spinning: beside a decoding thread or another test they make everything ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
STARTS_RAY = ("tests/ray/", "tests/test_demo.py", "tests/test_submit.py")
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class TwoSides(LoadFileScheduling):
    """Tests by file, as their fixtures want it, and all that start Ray in one process, one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "ray" if file.startswith(STARTS_RAY) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoSides:
    """With ``-n 2`` whatever is not Ray's runs beside it."""
    return TwoSides(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test draws the same numbers whichever tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a moto server in its own process; sets nothing in the environment."""
    with started("tests.s3_server", {**os.environ, **S3_ENVIRONMENT}) as url:
        yield url


@contextmanager
def started(module: str, environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """URL of a server in its own process, a module that prints the port it was given."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a fresh bucket; the AWS variables point at the test server."""
    for name, text in {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, text)
    bucket = f"bucket-{os.getpid()}-{time.monotonic_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real labelled videos beside the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real labelled videos (../shared/data) are not here")
    return folder
