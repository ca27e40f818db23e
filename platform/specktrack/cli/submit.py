"""Run a verb as a job on a Ray cluster, follow its log, and exit with its exit code."""

import asyncio
import json
import logging
import os
import shlex
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from specktrack import telemetry
from specktrack.cli.options import parse
from specktrack.cli.table import find_verb
from specktrack.config import Config, VerbConfig
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.storage.places import placed

_CHATTY = ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk")
"""Ray's loggers that tell how the source is packed and sent."""
NO_AGENT = "no available agent"
AGENT_S = 30.0
"""How long the agent of a head that was just started is waited for: it needs 5 s, on a machine at work 20."""
STOPPED = 130
"""Exit code of a job that someone stopped."""


class SubmitConfig(VerbConfig):
    """Run another verb on a Ray cluster."""

    verb: ClassVar[str] = "submit"

    command: tuple[str, ...] = Field(min_length=1)
    """The verb and its arguments, as without 'submit'; options of submit come first."""
    address: str | None = None
    """The cluster: its dashboard (http://HEAD:8265) or ray://HEAD:10001; by default RAY_ADDRESS, or one on this
    machine."""
    submission_id: str | None = None
    """Name of the job; a name that was already used is refused, so nothing runs twice."""
    follow: bool = True
    """Stream the job's log and wait until it ends."""


class SubmitReport(Config):
    """Outcome of a job."""

    submission_id: str
    status: str
    exit_code: int
    """The exit code of the verb itself."""
    result: Any = None
    """The verb's own report, if it printed one."""


def submit(config: SubmitConfig) -> SubmitReport:
    """Submit the verb, stream its log to stderr, and end as it ended.

    The verb's settings are read here: a mistake is found before anything is sent, and a ``--config`` file and
    ``SPECKTRACK_...`` variables of this machine count. Ray's client reads RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH.
    """
    entrypoint = _entrypoint(config.command)
    client = _client(config.address)
    name = _submitted(client, entrypoint, config.submission_id)
    telemetry.get_logger().info("job submitted", submission_id=name, stop=f"ray job stop {name}")
    if not config.follow:
        return SubmitReport(submission_id=name, status=client.get_job_status(name).value, exit_code=0)
    try:
        asyncio.run(_stream(client, name))
    except KeyboardInterrupt:
        telemetry.get_logger().warning("the job continues", log=f"ray job logs -f {name}", stop=f"ray job stop {name}")
        raise
    info = client.get_job_info(name)
    status = info.status.value
    failed = info.driver_exit_code or SpecktrackError.exit_code
    code = {"SUCCEEDED": 0, "STOPPED": STOPPED}.get(status, failed)
    return SubmitReport(submission_id=name, status=status, exit_code=code, result=_last_json(client.get_job_logs(name)))


def _submitted(client: Any, entrypoint: str, submission_id: str | None) -> str:
    """The job's name; a cluster that was just started has no agent yet, which is waited for."""
    deadline = time.monotonic() + AGENT_S
    while True:
        try:
            name = client.submit_job(entrypoint=entrypoint, submission_id=submission_id, runtime_env=_runtime_env())
        except RuntimeError as error:
            if NO_AGENT not in str(error).lower() or time.monotonic() > deadline:
                raise ConfigError("the cluster refused the job", _last_line(error)) from None
            time.sleep(1)
        else:
            return str(name)


def _entrypoint(command: tuple[str, ...]) -> str:
    """The command line of the job: the verb with all settings that were given, as ``key=value``."""
    verb, arguments = find_verb(list(command))
    if verb == "submit":
        raise ConfigError("a job cannot submit a job", "submit", remedy="name another verb")
    settings = placed(told := parse(verb, arguments)[0])
    if settings != told:
        telemetry.get_logger().info("paths of this machine, read by the cluster's", verb=verb, folder=str(Path.cwd()))
    given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
    job = shlex.join(["-m", "specktrack.cli", *verb.split(), "--json", *words])
    # A Ray that was started from a virtual environment does not put its Python on the job's PATH. On this machine, or
    # one that is laid out alike, this interpreter is the right one; elsewhere it is `python`, as Ray's images have it.
    here = shlex.quote(sys.executable)
    return f"p={here}; $p -c 'import ray' 2>/dev/null || p=python; exec $p {job}"


def _runtime_env() -> dict[str, Any]:
    """From a checkout, send the package's source root alone: it is small, whatever else lies in the checkout.

    As the job's working_dir it is on the path of the driver and of every worker. An installed package is expected to
    be installed on the cluster too.
    """
    source_root = Path(__file__).resolve().parents[2]
    if not (source_root.parent / "pyproject.toml").exists():
        return {}
    return {"working_dir": str(source_root), "excludes": ["**/__pycache__"]}


def _client(address: str | None) -> Any:
    if find_spec("aiohttp") is None:
        raise ConfigError("submitting needs Ray's job client", remedy="pip install 'specktrack[jobs]'")
    from ray.exceptions import (
        AuthenticationError,
        RayError,
    )  # only now: the client needs aiohttp, from the extra 'jobs'
    from ray.job_submission import JobSubmissionClient

    if address:
        # Ray lets RAY_ADDRESS win over the argument; this variable wins over both.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        client = JobSubmissionClient(address)
    except AuthenticationError as error:
        what, remedy = (
            _last_line(error).partition(". ")[0],
            "set RAY_AUTH_TOKEN_PATH to the file with the cluster's token",
        )
        raise ConfigError("the cluster refused the connection", address, what, remedy) from None
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        remedy = "give --address http://HEAD:8265, or forward the dashboard with `ray dashboard cluster.yaml`"
        raise ConfigError("no Ray cluster answers", address, _last_line(error), remedy) from None
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    return client


async def _stream(client: Any, name: str) -> None:
    """Copy the job's log to stderr; stdout belongs to the report."""
    async for lines in client.tail_job_logs(name):
        sys.stderr.write(lines)
        sys.stderr.flush()


def _last_json(log: str) -> Any:
    """The last line that is a JSON value, or None."""
    for line in reversed(log.splitlines()):
        if line.startswith(("{", "[")):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def _last_line(error: Exception) -> str:
    """An error's message, without the server's traceback above it."""
    return next((line for line in reversed(str(error).splitlines()) if len(line) > 3), type(error).__name__)[:300]
