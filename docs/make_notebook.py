"""Run the cells of docs/tour.py and write docs/tour.ipynb with what they gave out.

Without Jupyter: a cell's output is what it prints and its last expression, as text, and as a picture where it is one.
"""

import ast
import base64
import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

CELLS, NOTEBOOK = Path(__file__).with_name("tour.py"), Path(__file__).with_name("tour.ipynb")
ABOUT = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "version": ".".join(map(str, sys.version_info[:2]))},
}


def cells() -> list[tuple[str, str]]:
    """(kind, text) of every cell, in order."""
    parts = re.split(r"^# %%( \[markdown\])?\n", CELLS.read_text(encoding="utf-8"), flags=re.M)[1:]
    found = []
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        text = text.strip("\n")
        found.append(("markdown", re.sub(r"^# ?", "", text, flags=re.M)) if mark else ("code", text))
    return found


def run(text: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """A code cell's outputs, in the format of notebooks."""
    tree, said, value = ast.parse(text), io.StringIO(), None
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, "tour", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "tour", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if said.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": said.getvalue()})
    if value is not None:
        data = {"text/plain": repr(value)}
        for kind, method in (("text/html", "_repr_html_"), ("image/png", "_repr_png_")):
            if made := getattr(value, method, lambda: None)():
                data[kind] = base64.b64encode(made).decode() if isinstance(made, bytes) else made
        outputs.append({"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data})
    return outputs


def notebook() -> dict[str, Any]:
    """All cells with their outputs."""
    names: dict[str, Any] = {"__name__": "tour"}
    made: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(cells()):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text}
        if kind == "code":
            cell |= {"execution_count": number, "outputs": run(text, names)}
        made.append(cell)
    return {"cells": made, "metadata": ABOUT, "nbformat": 4, "nbformat_minor": 5}


if __name__ == "__main__":
    NOTEBOOK.write_text(json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
