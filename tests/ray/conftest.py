"""One Ray for all tests of this folder: starting one takes seconds."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from tests.conftest import S3_ENVIRONMENT

RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session")
def ray_local(s3_server: str) -> Iterator[None]:
    """A Ray on this machine whose workers know the S3 test server; its 4 CPUs are logical."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # unix socket paths are limited to 107 characters
    with pytest.MonkeyPatch.context() as patch:
        for name, text in {**RAY_ENVIRONMENT, **S3_ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server}.items():
            patch.setenv(name, text)
        patch.setenv("PYTHONPATH", os.pathsep.join(["platform", "."]))
        ray.init(
            num_cpus=4,
            object_store_memory=300 * 2**20,
            include_dashboard=False,
            _temp_dir=str(folder),
            log_to_driver=False,
            logging_level="error",
        )
        yield
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
