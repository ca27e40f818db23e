"""Box tracks to count, and files to read them from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def path_of_boxes(n: int = 40, *, side: float = 10, step: float = 3) -> np.ndarray:
    """A target of ``side`` px that moves right, away from every edge."""
    at = np.arange(n)
    return np.stack([20 + step * at, 30 + 0 * at, 0 * at + side, 0 * at + side], axis=1).astype(float)


def shifted(boxes: np.ndarray, dx: float) -> np.ndarray:
    return boxes + np.array([dx, 0, 0, 0])


def lines(boxes: np.ndarray, separator: str = ",") -> str:
    return "".join(separator.join(f"{value:g}" for value in box) + "\n" for box in boxes)


def write(folder: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)
