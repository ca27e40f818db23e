"""Fixtures that several test files share: a real S3 server on loopback, and the real labelled videos."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import hypothesis
import pytest

# torch's threads wait by spinning: beside a decoding thread or another test they make everything ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine takes longer for an example, which is no fault.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


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
