"""What is particular to single networks of the zoo; tests/test_models.py holds what all of them promise."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from specktrack.models.heatmap.tsmnet import shift
from specktrack.models.zoo import GFLOP_PER_FRAME, PARAMETERS, VARIANTS, ZOO, build, network_config


def parameters(name):
    with torch.device("meta"):
        return sum(p.numel() for p in build(network_config(name)).parameters())


@pytest.mark.parametrize(("name", "published"), [
    ("wasb", 1_481_427), ("monotrack", 2_903_171), ("restracknet-v2", 1_210_451),  # counted in the WASB paper's code
])  # fmt: skip
def test_parameter_counts_are_the_published_ones(name, published):
    assert parameters(name) == published


@pytest.mark.parametrize("name", ["wasb", "monotrack", "restracknet-v2", "cmu-net", "tsm-net"])
def test_every_parameter_that_learns_gets_a_gradient(name):
    """Distributed training waits for all of them."""
    torch.manual_seed(0)
    config = network_config(name)
    network = build(config)
    xy = torch.full((2, config.frames_in, 2), 20.0)
    network.loss(torch.rand(2, config.frames_in, 3, 32, 64), xy)["loss"].backward()
    silent = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_wasb_counts_but_does_not_train_what_nothing_reads():
    still = [key for key, p in build(network_config("wasb")).named_parameters() if not p.requires_grad]
    assert still and {key[:18] for key in still} == {f"stages.2.fusions.{n}" for n in (1, 2, 3)}


@pytest.mark.parametrize("size_hw", [(134, 238), (54, 96), (32, 32)])
def test_cmunet_takes_pictures_of_any_even_size(size_hw):
    config = network_config({"name": "cmu-net", "widths": [8, 8, 8, 8, 8]})
    with torch.inference_mode():
        logits = build(config).eval()(torch.rand(1, 3, 3, *size_hw))
    assert logits.shape == (1, 1, size_hw[0] // 2, size_hw[1] // 2)


def test_cmunet_hears_of_the_whole_picture():
    network = build(network_config("cmu-net-siso")).eval()
    picture = torch.rand(1, 1, 3, 128, 256, requires_grad=True)
    network(picture)[0, 0, 10, 10].backward()
    assert picture.grad[0, 0, :, 120:, 248:].abs().max() > 0


def test_cmunet_makes_no_feature_map_at_full_resolution():
    """Which bounds its memory at 1920x1080: the largest tensor is one half-resolution stage."""
    largest = 0

    def watch(module, inputs, output):
        nonlocal largest
        largest = max(largest, output.numel() if isinstance(output, torch.Tensor) else 0)

    with torch.device("meta"):
        network = build(network_config("cmu-net")).eval()
        for module in network.modules():
            module.register_forward_hook(watch)
        assert network(torch.empty(1, 3, 3, 1080, 1920)).shape == (1, 1, 540, 960)
    assert largest <= 32 * 544 * 960


def test_shift_brings_channels_from_both_neighbours_and_zeros_at_the_ends():
    x = torch.arange(3.0)[None, :, None, None, None].expand(1, 3, 4, 1, 1) + 1  # frame t holds t + 1 in all channels
    shifted = shift(x, 1)[0, :, :, 0, 0]
    assert shifted[:, 0].tolist() == [0, 1, 2]
    assert shifted[:, 1].tolist() == [2, 3, 0]
    assert torch.equal(shifted[:, 2:], x[0, :, 2:, 0, 0])


@pytest.mark.parametrize(("shifted", "heard"), [(0.125, True), (0.0, False)])
def test_tsmnet_hears_of_other_frames_by_the_shift_alone(shifted, heard):
    torch.manual_seed(0)
    config = network_config({"name": "tsm-net", "frames_in": 4, "widths": [8, 8, 8, 8], "shifted": shifted})
    network = build(config).eval()
    frames = torch.rand(1, 4, 3, 32, 32)
    other = frames.clone()
    other[:, 1] = 0
    with torch.inference_mode():
        differs = (network(frames) - network(other)).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert differs[1] and bool(differs[0]) == bool(differs[2]) == heard


@pytest.mark.parametrize("name", [*ZOO, *VARIANTS])
def test_the_zoo_says_how_many_parameters_there_are(name):
    assert name in PARAMETERS, f'a new network: add to PARAMETERS "{name}": {parameters(name):_},'
    assert PARAMETERS[name] == parameters(name)


def gflop_per_frame(name):
    config = network_config(name)
    width, height = config.input_wh
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.inference_mode():
        build(config).eval()(torch.empty(1, config.pictures_in, 3, height, width))
    return counter.get_total_flops() / 1e9 / config.frames_out


@pytest.mark.parametrize("name", ["specknet", "specknet-court", "tracknet-v1", "tracknet-v2-3in1out", "tracknet-v3"])
def test_the_zoo_says_what_a_frame_costs(name):
    assert gflop_per_frame(name) == pytest.approx(GFLOP_PER_FRAME[name], abs=0.005)


def test_the_cost_of_every_heatmap_network_is_known():
    windowed = {name for name in (*ZOO, *VARIANTS) if network_config(name).family == "windowed"}
    if missing := windowed - GFLOP_PER_FRAME.keys():
        pytest.fail(f"add to GFLOP_PER_FRAME { ({name: round(gflop_per_frame(name), 2) for name in missing}) }")
    assert GFLOP_PER_FRAME.keys() == windowed


def test_parameters_are_those_of_networks_that_there_are():
    assert not PARAMETERS.keys() - {*ZOO, *VARIANTS}
