"""Run a verb as a job, from an installed package or from a checkout that was never installed."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path


def run(verb: str) -> int:
    """Run ``specktrack VERB --json`` with this process's arguments; the exit code."""
    find()
    from specktrack.cli.main import entry  # only now can it be found

    return entry([*verb.split(), "--json", *sys.argv[1:]])


def find() -> None:
    """See that ``specktrack`` can be imported, here and in the workers of a Ray that this process starts."""
    if find_spec("specktrack") is None:
        source = str(Path(__file__).resolve().parents[1] / "platform")
        sys.path.insert(0, source)
        # A running cluster takes it from the job's runtime_env.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
