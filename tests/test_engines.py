"""Engines: each gives the reference's heatmaps, files are made once per weights, and auto takes what was measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Viewport
from specktrack.models import machine
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.engines import ENGINES, artefacts, choosing, missing
from specktrack.models.heatmap.engines.choosing import engines_for, make
from specktrack.models.inference import fast_dtype
from specktrack.models.zoo import build, network_config
from specktrack.tracking.windowed.session import WindowedTracker

pytestmark = pytest.mark.engines

CPU, WH = torch.device("cpu"), (96, 64)
ON_CPU = [name for name, kind in ENGINES.items() if "cpu" in kind.devices]
TOLERANCE = {"eager-bf16": 0.05, "openvino-bf16": 0.05, "openvino-int8": 0.2}
"""Between values in [0, 1]; the others are fp32."""


def network(seed: int) -> Model:
    """A small SpeckNet that claims much, with batch statistics that folding has to respect."""
    config = network_config({"name": "specknet", "widths": [8, 8, 16, 16], "frames_in": 4, "input_wh": WH})
    torch.manual_seed(seed)
    built = build(config)
    built.train()(torch.rand(4, 4, 3, WH[1], WH[0]))
    with torch.no_grad():
        built.head.bias.fill_(0.0)
        built.head.weight *= 3
    return Model(built.eval(), ModelCard(name="small", network=config))


@pytest.fixture(scope="module")
def model() -> Model:
    return network(0)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A machine on which nothing was measured."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        machine.folder.cache_clear()
        yield folder / "specktrack" / "engines"
    machine.folder.cache_clear()


def windows(seed: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 4, WH[1], WH[0], 3), dtype=torch.uint8, generator=generator)


def reference(model: Model, given: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.sigmoid(model.network(given.permute(0, 1, 4, 2, 3).float() / 255))


def installed(name):
    if absent := missing(name):
        pytest.skip(f"not installed: {absent}; pip install 'specktrack[{ENGINES[name].extra}]'")


@pytest.mark.parametrize("name", [name for name in ON_CPU if name != "compiled"])
def test_every_engine_gives_the_heatmaps_of_the_reference(model, name):
    installed(name)
    engine = make(name, model, WH, CPU)
    given = [windows(1), windows(2), windows(3, count=2)]
    heatmaps = [engine(each) for each in given]
    assert engine.name == name
    for each, heatmap in zip(given, heatmaps, strict=True):  # compared after all passes: none is a view of the last
        wanted = reference(model, each)
        assert heatmap.dtype == torch.float32 and heatmap.shape == wanted.shape
        assert float((heatmap - wanted).abs().max()) < TOLERANCE.get(name, 1e-4)


@pytest.mark.slow
def test_a_compiled_network_gives_them_too(model):
    heatmap = make("compiled", model, WH, CPU)(windows(1))
    assert float((heatmap - reference(model, windows(1))).abs().max()) < 0.05


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["eager-bf16", "cuda-graphs"])
def test_engines_of_a_gpu_give_them_too(model, name):
    engine = make(name, model, WH, torch.device("cuda"))
    given = [windows(1), windows(2), windows(3, count=2)]
    heatmaps = [engine(each).cpu() for each in given]
    for each, heatmap in zip(given, heatmaps, strict=True):
        assert float((heatmap - reference(model, each)).abs().max()) < 0.05


def test_rows_of_an_engine_are_those_of_the_reference(model):
    installed("openvino")
    pixels = np.random.default_rng(0).integers(0, 255, (40, WH[1], WH[0], 3), dtype=np.uint8)

    def rows(engine):
        engines = engines_for(model, device=CPU, engine=engine)
        session = WindowedTracker(model, device=CPU, engines=engines).open()
        frame = np.arange(40)
        first = session.push(FrameBatch(pixels, frame, frame / 30, Viewport((960, 640), WH)))
        return np.concatenate([first.xy_px, session.finish().xy_px])

    np.testing.assert_allclose(rows("openvino"), rows("eager"), atol=0.1)


def test_a_network_is_exported_once_for_its_weights_and_size(model):
    installed("openvino")
    path = artefacts.exported(model, WH, "openvino")
    made = path.stat().st_mtime_ns
    assert artefacts.exported(model, WH, "openvino") == path and path.stat().st_mtime_ns == made
    others = [artefacts.place_of(network(1), WH, "openvino"), artefacts.place_of(model, (128, 64), "openvino")]
    assert len({path, *others}) == 3 and not any(other.exists() for other in others)


def test_the_networks_used_longest_ago_are_removed(model, place, monkeypatch):
    installed("openvino")
    monkeypatch.setattr(artefacts, "KEPT", 1)
    old = artefacts.exported(model, WH, "openvino")
    os.utime(old.parent, (1, 1))
    new = artefacts.exported(network(2), WH, "openvino")
    assert new.exists() and not old.exists()


def test_auto_measures_where_there_is_much_to_do_and_remembers(model, monkeypatch, place):
    installed("openvino")
    assert engines_for(model, device=CPU)(WH).name == "eager"  # nothing is known: what starts at once
    monkeypatch.setattr(choosing, "candidates", lambda device: ["eager", "openvino"])
    monkeypatch.setattr(choosing, "_measured", lambda *_: {"eager": 1.0, "openvino": 2.0})
    assert engines_for(model, device=CPU, settle=True)(WH).name == "openvino"
    monkeypatch.undo()
    assert engines_for(model, device=CPU)(WH).name == "openvino"
    assert engines_for(model, device=CPU, engine="eager")(WH).name == "eager"


def test_new_weights_are_exported_only_where_there_is_much_to_do(model, monkeypatch):
    installed("openvino")
    monkeypatch.setattr(choosing, "recalled", lambda *_: {"windows_per_s": {"eager": 1.0, "openvino": 2.0}})
    assert engines_for(network(3), device=CPU)(WH).name == "eager"


def test_an_engine_that_is_hardly_faster_is_not_taken(model, monkeypatch):
    monkeypatch.setattr(choosing, "recalled", lambda *_: {"windows_per_s": {"eager": 1.0, "onnx": 1.05}})
    assert engines_for(model, device=CPU)(WH).name == "eager"


def test_every_candidate_is_measured_in_turns(model):
    rates = choosing._measured(model, WH, CPU)
    assert set(rates) == set(choosing.candidates(CPU)) and min(rates.values()) > 0
    assert "openvino-int8" not in rates  # its rows are others: only where it is asked for


def test_an_engine_that_does_not_work_is_replaced_with_a_word(model, monkeypatch, capsys):
    installed("openvino")
    rates = {"windows_per_s": {"eager": 1.0, "openvino": 2.0}}
    monkeypatch.setattr(choosing, "recalled", lambda *_: rates)
    path = artefacts.exported(model, WH, "openvino")
    kept = path.read_bytes()
    path.write_text("no network")
    try:
        assert engines_for(model, device=CPU)(WH).name == "eager"
    finally:
        path.write_bytes(kept)
    assert "an engine does not work here" in capsys.readouterr().err


def test_an_engine_that_is_asked_for_and_cannot_be_is_an_error(model, monkeypatch):
    with pytest.raises(ConfigError, match=r"engine=cuda-graphs only runs on cuda: 'cpu'; use engine=auto"):
        make("cuda-graphs", model, WH, CPU)
    monkeypatch.setattr(choosing, "missing", lambda _: ["openvino"])
    with pytest.raises(
        ConfigError, match=r"engine=openvino needs packages.*openvino.*pip install 'specktrack\[fast\]'"
    ):
        make("openvino", model, WH, CPU)


def test_what_is_remembered_is_of_this_machine_and_its_packages(monkeypatch):
    asked = []

    def find_out():
        asked.append(1)
        return {"n": len(asked)}

    assert machine.remembered(find_out, "x") == machine.remembered(find_out, "x") == {"n": 1}
    assert machine.remembered(find_out, "y") == {"n": 2}
    monkeypatch.setattr(machine, "_machine", lambda: {"versions": {"torch": "another"}})
    assert machine.remembered(find_out, "x") == {"n": 3}


def test_precision_follows_from_a_measurement(monkeypatch):
    monkeypatch.setattr("specktrack.models.inference.has_bf16", lambda _: True)
    for seconds, wanted in (
        ({"float32": 1, "bfloat16": 2}, torch.float32),
        ({"float32": 2, "bfloat16": 1}, torch.bfloat16),
    ):
        monkeypatch.setattr("specktrack.models.inference.remembered", lambda *_, told=seconds: told)
        fast_dtype.cache_clear()
        assert fast_dtype(CPU) == wanted
    fast_dtype.cache_clear()


def test_engines_work_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "specktrack").write_text("a file where a folder should be")
    code = (
        "from specktrack.models import machine; place = machine.folder();"
        "print(machine.remembered(lambda: {'n': 1}, 'x'), place)"
    )
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1] / "platform")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{'n': 1} /") and not Path(done.stdout.split()[-1]).exists()
    assert json.loads(done.stderr.splitlines()[0])["event"] == "engines are prepared again in every process"
