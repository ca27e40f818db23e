"""The text of ``specktrack --help``, printed without loading a verb or pydantic."""

import shutil
import textwrap
from collections.abc import Mapping

from specktrack.cli.table import VERBS

_INDENT, _LEFT_COLUMN, _WIDEST = 2, 30, 120


def overview() -> str:
    """The verbs with a line each, and the exit codes."""
    return "\n".join(
        [
            "usage: specktrack VERB ... [--config FILE] [--json | --plain] [--quiet | --verbose] [key=value ...]",
            "",
            "Track tiny, fast objects (shuttlecocks, balls, drones) in video archives, on Ray.",
            "",
            columns({name: verb.summary for name, verb in VERBS.items()}),
            "",
            "'specktrack VERB --help' lists a verb's options. Exit codes: 0 done, 2 usage or configuration, 3 model or",
            "checkpoint, 4 storage, 5 finished with quarantined videos, 130 interrupted.",
        ]
    )


def group_usage(names: list[str]) -> str:
    """The verbs that share a first word, with a line each."""
    return "\n".join(
        ["usage: specktrack " + names[0].split()[0] + " VERB ...", "", columns({n: VERBS[n].summary for n in names})]
    )


def columns(rows: Mapping[str, str]) -> str:
    """Names on the left, wrapped texts on the right; a name that is too long has its text on the next line."""
    width = min(shutil.get_terminal_size((100, 24)).columns, _WIDEST)
    left = min(max(map(len, rows), default=0) + 2, _LEFT_COLUMN)
    lines = []
    for name, text in rows.items():
        wrapped = textwrap.wrap(text, max(width - left - _INDENT, 30), break_on_hyphens=False) or [""]
        if len(name) + 2 > left:
            wrapped = ["", *wrapped]
        lines.append(" " * _INDENT + f"{name:<{left}}{wrapped[0]}".rstrip())
        lines += [" " * (_INDENT + left) + more for more in wrapped[1:]]
    return "\n".join(lines)
