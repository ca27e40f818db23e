import json

import numpy as np
import pytest
import torch

from specktrack.cli.main import main
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models import exporting, zoo
from specktrack.models.checkpoint import Model, ModelCard, load_model, save_model
from specktrack.models.convolutions import conv_norm_relu
from specktrack.models.exporting import export_model
from specktrack.models.heatmap.network import HeatmapNetwork, heatmap_head
from specktrack.models.zoo import build, network_config

pytestmark = pytest.mark.engines

FILES = {"torch-export": "m.pt2", "onnx": "m.onnx", "openvino": "m.xml"}
TINY = network_config({"name": "monotrack", "frames_in": 2, "input_wh": [96, 64]})


def needs_extra(kind):
    for package in exporting.NEEDS[kind]:
        pytest.importorskip(package, reason="pip install 'specktrack[export]'")


class Tiny(HeatmapNetwork):
    """Two layers, because tracing takes its time by the layer; it claims to see something in every frame."""

    def __init__(self):
        super().__init__(TINY)
        self.body, self.head = conv_norm_relu(6, 4), heatmap_head(4, 2)

    def forward(self, frames_BTCHW):
        return self.head(self.body(self.scaled(frames_BTCHW).flatten(1, 2)))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = Tiny()
    network.train()(torch.rand(4, 2, 3, 64, 96))  # batch statistics that folding has to respect
    with torch.no_grad():
        network.head.bias.fill_(2.0)
    return Model(network.eval(), ModelCard(name="tiny", network=TINY, licence="Apache-2.0"))


@pytest.fixture(scope="module", params=FILES)
def exported(request, tiny, tmp_path_factory):
    needs_extra(request.param)
    path = tmp_path_factory.mktemp("exported") / FILES[request.param]
    return request.param, *export_model(tiny, path, request.param)


def run(kind, path, frames):
    """What somebody without this package does with the file; (heatmaps, card)."""
    if kind == "torch-export":
        card = {"specktrack.card": ""}
        return torch.export.load(path, extra_files=card).module()(frames).detach().numpy(), card["specktrack.card"]
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        card = session.get_modelmeta().custom_metadata_map["specktrack.card"]
        return session.run(["heatmaps"], {"frames": frames.numpy()})[0], card
    import openvino

    network = openvino.Core().read_model(path)
    compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled({"frames": frames.numpy()})["heatmaps"]), network.get_rt_info("specktrack.card").value


def test_an_exported_file_gives_the_same_heatmaps_and_positions(exported):
    _, written, parity = exported
    assert all(file.stat().st_size for file in written)
    assert parity.positions == 4 and parity.largest_distance_px < 1e-2 and parity.largest_difference < 1e-4


def test_an_exported_file_takes_any_batch_and_carries_its_card(exported, tiny):
    kind, written, _ = exported
    frames = torch.rand(5, 2, 3, 64, 96)
    heatmaps, card = run(kind, written[0], frames)
    with torch.inference_mode():
        np.testing.assert_allclose(heatmaps, torch.sigmoid(tiny.network(frames)).numpy(), atol=1e-4)
    assert json.loads(card)["licence"] == "Apache-2.0"


def test_the_example_pictures_are_not_in_the_file(exported):
    assert sum(file.stat().st_size for file in exported[1]) < 2 * 2 * 3 * 64 * 96 * 4


def test_a_file_that_gives_other_results_is_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(CheckpointError, match="the exported network gives other results"):
        export_model(tiny, tmp_path / "m.pt2", "torch-export")
    assert not (tmp_path / "m.pt2").exists()


def test_a_wrong_suffix_a_missing_package_and_a_missing_model_are_told(tiny, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"export to onnx must end in \.onnx: '.*m.pt'"):
        export_model(tiny, tmp_path / "m.pt", "onnx")
    monkeypatch.setitem(exporting.NEEDS, "onnx", ("no_such_package",))
    with pytest.raises(ConfigError, match=r"not installed.*no_such_package.*specktrack\[export\]"):
        export_model(tiny, tmp_path / "m.onnx", "onnx")
    with pytest.raises(CheckpointError, match="no shipped weights; train it"):
        load_model("wasb")


@pytest.mark.parametrize("kind", FILES)
def test_the_verb_exports_inpaintnet_and_prints_the_parity(kind, tmp_path, capsys):
    needs_extra(kind)
    torch.manual_seed(0)
    config = network_config("inpaintnet")
    save_model(tmp_path / "m.safetensors", build(config), ModelCard(name="inpaintnet", network=config))
    arguments = ["models", "export", str(tmp_path / "m.safetensors"), str(tmp_path / FILES[kind])]
    assert main([*arguments, "--format", kind, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["positions"] == 32 and report["largest_distance_px"] < 1e-2 and report["bytes"] > 0


def test_a_value_that_is_no_number_differs(tiny):
    task = exporting._task(tiny, TINY.input_wh)
    parity = exporting._parity(task, lambda inputs: torch.full_like(task.module(*inputs), torch.nan))
    assert parity.differing == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in zoo.ZOO.items() if entry.family == "windowed"])
@pytest.mark.parametrize("kind", FILES)
def test_every_heatmap_network_can_be_exported(tmp_path, name, kind):
    needs_extra(kind)
    config = network_config({"name": name, "input_wh": [128, 64]})
    model = Model(build(config).eval(), ModelCard(name=name, network=config))
    assert export_model(model, tmp_path / FILES[kind], kind)[1].largest_difference < 1e-4
