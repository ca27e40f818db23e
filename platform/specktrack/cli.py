"""The command line: ``specktrack VERB ...``.

``import specktrack.cli`` loads neither torch nor ray: a verb's module is imported when the verb is used.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from specktrack import __version__, telemetry
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.options import VERBS, find_verb, load, parse, usage

INTERRUPTED = 130
STORAGE_FAILED = 4
PIPE_CLOSED = 141
"""128 + SIGPIPE: what a shell reports for a writer whose reader went away."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; bad input ends in one sentence on stderr."""
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SpecktrackError as error:
        # An error that crossed a Ray worker is an instance of its class too, but its text is the worker's traceback.
        cause = getattr(error, "cause", None)
        return _fail(cause if isinstance(cause, SpecktrackError) else error, error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command again goes on from here", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at exit
        return PIPE_CLOSED
    except OSError as error:
        return _fail(error, STORAGE_FAILED)
    return code


def as_json(report: Any) -> Any:
    """A report as plain lists and mappings; NaN becomes None, which JSON can say."""
    return to_jsonable_python(report, inf_nan_mode="null")


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else ConfigError.exit_code
    if arguments[0] == "--version":
        print(f"specktrack {__version__}")
        return 0
    verb_name, rest = find_verb(arguments)
    # What follows in `submit annotate --help` belongs to the inner verb.
    if any(word in ("-h", "--help") for word in (rest[:1] if verb_name == "submit" else rest)):
        print(usage(verb_name))
        return 0
    config, given = parse(verb_name, rest)
    telemetry.configure(verbose=given.verbose)
    report = load(VERBS[verb_name].run)(config)
    if given.json:
        print(json.dumps(as_json(report)))
    else:
        load(VERBS[verb_name].show)(report)
    return int(getattr(report, "exit_code", 0))


def _help() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [f"  {name:<{width}}{verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: specktrack VERB ... [--config FILE] [--json] [--verbose] [key=value ...]",
            "",
            "Follow tiny, fast objects (shuttlecocks, balls, drones) through video archives, on Ray.",
            "",
            *lines,
            "",
            "'specktrack VERB --help' lists a verb's options. Exit codes: 0 done, 2 usage or configuration, 3 model or",
            "checkpoint, 4 storage, 5 finished with quarantined videos, 130 interrupted.",
        ]
    )


def _fail(error: object, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
