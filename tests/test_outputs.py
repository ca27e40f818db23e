"""By what an output is known to be made: what an older version began goes on, or is refused with the reason."""

import json
from pathlib import Path

import pytest
from tests.annotating import run, tiny_model

from specktrack.annotating import outputs
from specktrack.config import sha_of
from specktrack.errors import ConfigError
from specktrack.ledger import Ledger
from specktrack.storage import open_store
from specktrack.tracking.tracker import load_parts, make_tracker

FLIGHT = {"kind": "flight", "frames": 8, "threshold": 0.3, "floor": 0.05, "step": 0.034, "change": 2.0}
READING = {"input_wh": None, "overlap": 2, "ensemble": "middle", "decoding": "peaks"}
OF_0_1 = {"clip_s": 1.5, "tracking": {**READING, "candidates": 4, "choice": FLIGHT}}
"""Settings as version 0.1 noted them."""


def test_an_output_of_an_older_version_goes_on_or_is_refused_with_the_reason(tmp_path: Path) -> None:
    model, store = tiny_model(tmp_path / "tiny.safetensors"), open_store(str(tmp_path / "out"))
    as_then, as_now = (run(model, tmp_path / "out", "v.mp4", **more) for more in ({"time_step": 0}, {}))
    parts = load_parts(as_then)
    then, now = (
        outputs.settings_of(config, make_tracker(config, device="cpu", parts=parts), {}, None)
        for config in (as_then, as_now)
    )
    assert then == OF_0_1
    note = {"made_by": {"model": "tiny", "model_sha256": parts.model.sha256, **OF_0_1}}
    store.put("run.json", json.dumps(note).encode())
    outputs.claim(store, as_then, parts.model, then)
    assert Ledger(store, parts.model.sha256, sha_of(then)).completed() == {}
    with pytest.raises(ConfigError, match=r"made by another model or configuration: 'step_s None -> 0\.033"):
        outputs.claim(store, as_now, parts.model, now)


def test_a_later_setting_is_part_of_what_an_output_is_known_by(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.safetensors")
    config = run(model, tmp_path / "out", "v.mp4", time_step=0, flip=True)
    settings = outputs.settings_of(config, make_tracker(config, device="cpu"), {}, None)
    assert settings["tracking"] == OF_0_1["tracking"] | {"flip": True}
