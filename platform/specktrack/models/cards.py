"""The cards of the weights inside the package, read without torch: a safetensors file begins with its metadata."""

import json
from pathlib import Path
from typing import Any

CARD = "specktrack.card"
"""Key of the card in a file's metadata."""
HEADLINE = "4 px at 512x288"
"""Of a card's ``metrics``, the counts of test video of places that the weights were trained on."""
UNSEEN = "unseen places"
"""The same of places and sports that they were not trained on; ``benchmarks/generalisation.py --into`` writes it."""


def read_card(path: Path) -> dict[str, Any]:
    """The model card in a safetensors file, as its fields in JSON."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    card: dict[str, Any] = json.loads(header["__metadata__"][CARD])
    return card
