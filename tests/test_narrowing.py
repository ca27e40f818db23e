import pytest
import torch

from specktrack.errors import ConfigError
from specktrack.models.checkpoint import ModelCard, load_weights, save_model
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.heatmap.specknet import SpeckNet
from specktrack.models.zoo import build, network_config
from specktrack.training import TrainConfig, recipe_path
from specktrack.training.start import first_network
from specktrack.training.windowed.narrowing import _STREAMS, narrowed

WIDE = SpeckNetConfig(widths=(12, 10, 14, 16), frames_in=2)
NARROW = SpeckNetConfig(widths=(8, 7, 9, 16), frames_in=2)


@torch.no_grad()
def with_dead_channels():
    """A wide network in which as many channels as NARROW has are alive, at random places."""
    torch.manual_seed(0)
    network = build(WIDE).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.uniform_(0.5, 1.5)
    weights = network.state_dict()
    for stream in _STREAMS:
        width = WIDE.widths[stream.stage]
        dead = torch.randperm(width)[: width - NARROW.widths[stream.stage]]
        for name in stream.written_by:
            weights[f"{name}.1.weight"][dead] = 0
            weights[f"{name}.1.bias"][dead] = 0
    return network


def test_without_its_dead_channels_a_network_draws_the_same():
    wide, narrow = with_dead_channels(), build(NARROW).eval()
    narrow.load_state_dict(narrowed(wide.state_dict(), WIDE, NARROW))
    pictures = torch.rand(1, 2, 3, 32, 48)
    with torch.inference_mode():
        drawn = wide(pictures)
        assert drawn.std() > 0.01  # not a constant that anything would reproduce
        torch.testing.assert_close(narrow(pictures), drawn)


def test_a_stage_cannot_become_wider():
    weights = build(NARROW).state_dict()
    with pytest.raises(ConfigError, match=r"init has widths \(8, 7, 9, 16\), which cannot become wider: .*12, 10"):
        narrowed(weights, NARROW, WIDE)


def test_weights_of_other_networks_and_of_equal_widths_stay():
    weights = {"any": torch.ones(1)}
    assert narrowed(weights, WIDE, WIDE) is weights
    assert narrowed(weights, network_config("tracknet-v2"), network_config("tracknet-v4")) is weights
    assert narrowed(weights, network_config("tracknet-v2"), WIDE) is weights


def test_a_run_starts_from_a_part_of_a_wider_model(tmp_path):
    wide = with_dead_channels()
    save_model(tmp_path / "wide.safetensors", wide, ModelCard(name="wide", network=WIDE))
    settings = {"data": ["d"], "output": "o", "init": str(tmp_path / "wide.safetensors")}
    config = TrainConfig.parse({**settings, "network": NARROW.model_dump()}, environment={})
    started = first_network(config, SpeckNet, cut=narrowed).state_dict()
    for name, tensor in narrowed(wide.state_dict(), WIDE, NARROW).items():
        assert torch.equal(started[name], tensor)


def test_the_shipped_student_starts_from_its_shipped_teacher():
    given = {"data": ["d"], "output": "o"}
    config = TrainConfig.parse(given, yaml_file=recipe_path("specknet-distilled"), environment={})
    teacher, weights = load_weights(config.distill.teacher)
    student, _ = load_weights("specknet")
    assert config.init == config.distill.teacher and config.network == student.network
    assert teacher.network.widths > student.network.widths and teacher.network.input_wh == student.network.input_wh
    head = first_network(config, SpeckNet, cut=narrowed).state_dict()["head.weight"]
    of = weights["head.weight"]
    assert all(any(torch.equal(column, theirs) for theirs in of.unbind(1)) for column in head.unbind(1))
