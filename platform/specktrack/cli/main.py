"""The command line: ``specktrack VERB ...``.

``import specktrack.cli.main`` loads only the table of verbs; a verb's dependencies are imported when it is used.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from specktrack import __version__
from specktrack.cli.overview import group_usage, overview
from specktrack.cli.table import VERBS, find_verb, verbs_of
from specktrack.errors import ConfigError, SpecktrackError
from specktrack.lazy import load

_HELP = ("-h", "--help")
INTERRUPTED = 130
STORAGE_FAILED = 4
PIPE_CLOSED = 141
"""128 + SIGPIPE: what a shell reports for a writer whose reader went away."""


def entry(argv: Sequence[str] | None = None) -> int:
    """``main`` for a process of its own: one that was interrupted ends at once, not when its threads have finished."""
    code = main(argv)
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


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
        return _fail("interrupted; what was written stays, the same command can be run again", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes at exit
        return PIPE_CLOSED
    except OSError as error:
        return _fail(error, STORAGE_FAILED)
    return code


def as_json(report: Any) -> Any:
    """A report as plain lists and mappings; NaN becomes None, which JSON can say."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(report, inf_nan_mode="null")


def plain_lines(value: Any, key: str = "") -> Iterator[str]:
    """A report for scripts: ``key<TAB>value``, keys dotted; a list of records as a line each, below their names."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from plain_lines(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        names = list(dict.fromkeys(name for each in value for name in each))
        for fields in (names, *([each.get(name) for name in names] for each in value)):
            yield "\t".join([*([key] if key else []), *map(_field, fields)])
    else:
        yield f"{key}\t{_field(value)}" if key else _field(value)


def _field(value: Any) -> str:
    """A field without tabs and line ends; nothing for None, lists and mappings as JSON."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return " ".join(text.split())


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:  # `help annotate` is `annotate --help`
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in _HELP:
        print(overview())
        return 0 if arguments else ConfigError.exit_code
    if arguments[0] == "--version":
        print(f"specktrack {__version__}")
        return 0
    if verbs_of(arguments[0]) and arguments[1:2] and arguments[1] in _HELP:
        print(group_usage(verbs_of(arguments[0])))
        return 0
    verb_name, rest = find_verb(arguments)
    if verb_name == "submit" and rest and rest[0] not in _HELP and any(word in _HELP for word in rest):
        verb_name, rest = find_verb(rest)  # `submit annotate --help` asks about annotate
    if any(word in _HELP for word in rest):
        print(load("specktrack.cli.usage:usage")(verb_name))
        return 0
    from specktrack import telemetry
    from specktrack.cli.options import parse

    config, given = parse(verb_name, rest)
    telemetry.configure(verbose=given.verbose, quiet=given.quiet, plain=given.plain)
    report = load(VERBS[verb_name].run)(config)
    if given.json:
        print(json.dumps(as_json(report)))
    elif given.plain:
        print("\n".join(plain_lines(as_json(report))))
    elif not given.quiet:
        load(VERBS[verb_name].show)(report)
    return int(getattr(report, "exit_code", 0))


def _fail(error: object, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
