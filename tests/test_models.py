import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.annotating import tiny_model

from specktrack.errors import CheckpointError, ConfigError
from specktrack.models import zoo
from specktrack.models.checkpoint import Model, ModelCard, load_model, load_tensors, save_model, save_tensors
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.inference import fold_batch_norm
from specktrack.models.repair.entries import InpaintNetConfig
from specktrack.models.zoo import build, network_config, without_weights

HEATMAP_NETWORKS = [name for name, entry in zoo.ZOO.items() if entry.family == "windowed"]
V5_ROWS = ["tracknet-v2-by-v5", "tracknet-v4-by-v5", "tracknet-v5-no-refinement", "tracknet-v5-no-motion"]
TINY = SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=4)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    network = build(TINY).eval()
    for module in network.modules():  # batch statistics that folding has to respect
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return Model(network, ModelCard(name="tiny", network=TINY, licence="Apache-2.0"))


@pytest.mark.parametrize(("config", "parameters"), [
    (SpeckNetConfig(), 2_113_032),
    (network_config("specknet-wide"), 3_633_736),
    (InpaintNetConfig(), 520_610),
])  # fmt: skip
def test_parameter_counts(config, parameters):
    assert sum(p.numel() for p in build(config).parameters()) == parameters


@pytest.mark.parametrize("name", HEATMAP_NETWORKS)
def test_every_network_draws_one_heatmap_per_output_frame_at_any_size(name):
    config = network_config(name)
    network = build(config).eval()
    with torch.inference_mode():
        heatmaps = network.probabilities(network(torch.rand(1, config.pictures_in, 3, 48, 80)))
    stride = config.target.stride
    assert heatmaps.shape == (1, config.frames_out, 48 // stride, 80 // stride)
    assert heatmaps.mean() < 0.2, "a fresh network starts near 'absent'"


@pytest.mark.parametrize("name", [*HEATMAP_NETWORKS, *V5_ROWS])
def test_golden_first_loss(name):
    torch.manual_seed(0)
    config = network_config(name)
    xy = torch.full((1, config.frames_in, 2), 20.0)
    xy[:, 0] = torch.nan
    results = build(config).loss(torch.rand(1, config.pictures_in, 3, 48, 80), xy)
    assert set(results) == {"loss", "peak", "recall", "error_px", "false"}
    loss = float(results["loss"].detach())
    assert name in GOLDEN, f'a new network: add to GOLDEN "{name}": {loss:.6g},'
    assert loss == pytest.approx(GOLDEN[name], rel=2e-3)


def test_golden_first_loss_of_inpaintnet():
    torch.manual_seed(0)
    network = build(network_config("inpaintnet"))
    truth = torch.linspace(0.2, 0.8, 16)[None, :, None].expand(1, 16, 2).clone()
    truth[:, 9] = torch.nan
    hidden = torch.arange(16)[None] % 3 == 0
    results = network.loss(truth + 0.01, truth, hidden)
    assert set(results) == {"loss", "error_px", "accuracy"}
    assert float(results["loss"].detach()) == pytest.approx(GOLDEN["inpaintnet"], rel=2e-3)


GOLDEN = {
    "inpaintnet": 0.0154309,
    "tracknet-v1": 0.427611,
    "tracknet-v2": 0.0137965,
    "tracknet-v3": 0.0181464,
    "tracknet-v4": 0.0128639,
    "tracknet-v5": 0.0143239,
    "tracknet-v2-by-v5": 0.234217,
    "tracknet-v4-by-v5": 0.233236,
    "tracknet-v5-no-refinement": 0.204633,
    "tracknet-v5-no-motion": 0.0129173,
    "wasb": 0.0141785,
    "monotrack": 0.0304915,
    "restracknet-v2": 0.0134744,
    "cmu-net": 35.0054,
    "tsm-net": 11.2432,
    "specknet": 10.8399,
}
"""First loss of each network; a refactoring may not change it."""


@pytest.mark.parametrize("name", zoo.VARIANTS)
def test_every_variant_is_a_network_of_the_zoo(name):
    assert network_config(name) != network_config(network_config(name).name)


def test_folding_batch_norm_changes_nothing(tiny):
    frames = torch.rand(2, 4, 3, 32, 48)
    folded = fold_batch_norm(tiny.network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(frames), tiny.network(frames), rtol=1e-4, atol=1e-4)


def test_checkpoint_round_trip_keeps_card_and_weights(tiny, tmp_path):
    card = save_model(tmp_path / "m.safetensors", tiny.network, tiny.card)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card == card and loaded.config == TINY and card.weights_sha256
    for name, tensor in tiny.network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name]), name


def test_flipped_bit_in_weights_is_seen(tiny, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, tiny.network, tiny.card)
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="do not match the hash"):
        load_model(path)


def test_truncated_or_foreign_files_are_refused(tiny, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, tiny.network, tiny.card)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_model(tmp_path / "cut.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_model(tmp_path / "pickle.pt")


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(CheckpointError, match=r"no such model: 'nosuch'.*specknet"):
        load_model("nosuch")
    with pytest.raises(ConfigError, match=r"no such network: 'nosuch'; the zoo has: tracknet-v1, "):
        network_config("nosuch")
    with pytest.raises(ConfigError, match=r"unknown key 'width'; did you mean 'widths'"):
        network_config({"name": "specknet", "width": 3})


def test_a_zoo_entry_without_weights_says_so():
    with pytest.raises(
        CheckpointError, match="it is in the zoo, but has no shipped weights; train it: specktrack train"
    ):
        load_model("cmu-net")
    for name in ("super-dimp", "mkdnet-released", "dimp18", "tracknet-v2"):
        with pytest.raises(
            CheckpointError, match=rf"models import FILE {name}\.safetensors --network {name}; then give"
        ):
            load_model(name)
    assert "import" not in without_weights("cmu-net")  # nobody published any


@pytest.mark.parametrize(
    "changed", [{"widths": [10**6] * 4}, {"widths": [10**30, 1, 1, 1]}, {"widths": [-1, 2, 3, 4]}, {"frames_in": 10**9},
                {"input_wh": [10**6, 10**6]}, {"input_wh": [-5, 5]}],
)  # fmt: skip
def test_a_card_of_absurd_sizes_is_refused_before_anything_is_built(tmp_path: Path, changed: dict[str, Any]) -> None:
    tensors, metadata = load_tensors(tiny_model(tmp_path / "tiny.safetensors"))
    card = json.loads(metadata["specktrack.card"])
    card["network"] |= changed
    save_tensors(tmp_path / "absurd.safetensors", tensors, {"specktrack.card": json.dumps(card)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        CheckpointError, match=r"weights do not fit the network|network cannot be built|must be between 1 and"
    ):
        load_model(tmp_path / "absurd.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "KiB"


def test_every_network_can_be_built_of_shapes_alone() -> None:
    for name in zoo.ZOO:
        with torch.device("meta"):
            assert all(tensor.is_meta for tensor in build(network_config(name)).state_dict().values()), name
