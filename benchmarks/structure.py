"""The shape of the code base in numbers: files per folder, modules at the top, lines, and where each fact is stated.

python benchmarks/structure.py [COMMIT ...]          default: the working tree; commits are read from git
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import PurePosixPath

PACKAGE = "platform/specktrack"
FACTS = {
    "where a relative path becomes absolute": r"^def _?absolute\w*\(",
    "hand-kept lists of settings that are places": r"^PLACES\b",
    "ways to import a name late": r"import_module\(",
    "comparisons of a family's name": r"family (?:==|!=|in|not in) [\"(]",
    "calls that make a tracker": r"\bmake_tracker\(",
    "functions called conv_norm_relu": r"^def conv_norm_relu\(",
}


def texts(commit: str | None) -> dict[str, str]:
    """Python files of the package by their path in it."""
    git = ["git", "ls-tree", "-r", "--name-only", commit] if commit else ["git", "ls-files"]
    names = subprocess.run([*git, PACKAGE] if not commit else [*git, "--", PACKAGE], capture_output=True, text=True,
                           check=True).stdout.split()  # fmt: skip
    found = {}
    for name in (name for name in names if name.endswith(".py")):
        shown = ["git", "show", f"{commit}:{name}"] if commit else ["cat", name]
        found[name.removeprefix(f"{PACKAGE}/")] = subprocess.run(
            shown, capture_output=True, text=True, check=True
        ).stdout
    return found


def main() -> None:
    """Print one block per commit."""
    for commit in sys.argv[1:] or [None]:
        files = texts(commit)
        folders = Counter(str(PurePosixPath(name).parent) for name in files)
        print(f"{commit or 'working tree'}: {len(files)} files, {sum(t.count(chr(10)) for t in files.values())} lines")
        print(f"  modules at the top: {folders['.']}")
        print("  files per folder:", ", ".join(f"{name} {count}" for name, count in folders.most_common(8)))
        for fact, pattern in FACTS.items():
            print(f"  {fact}: {sum(len(re.findall(pattern, text, re.M)) for text in files.values())}")


if __name__ == "__main__":
    main()
