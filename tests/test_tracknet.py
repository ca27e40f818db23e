"""What parts of the TrackNet line compute, against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from specktrack.errors import ConfigError
from specktrack.models.heatmap.motion_prompt import MotionPrompt, brightness_steps
from specktrack.models.heatmap.tracknet_v3 import with_background
from specktrack.models.heatmap.tracknet_v4 import attention_per_frame
from specktrack.models.zoo import VARIANTS, build, network_config

V5_ROWS = [name for name, values in VARIANTS.items() if {"motion", "refinement"} & set(values)]


@pytest.mark.parametrize(("name", "parameters"), [
    ("tracknet-v1", 10_708_032),
    ("tracknet-v2", 11_334_147),
    ("tracknet-v2-3in1out", 11_334_147 - 2 * 65),
    ("tracknet-v2-by-v3", 11_330_307),
    ("tracknet-v3", 11_341_000),
    ("tracknet-v3-no-background", 11_339_272),
    ("tracknet-v4", 11_334_147 + 2),
    ("tracknet-v4-on-v3", 11_341_000 + 2),
    ("tracknet-v5", 14_771_458),
    ("tracknet-v2-by-v5", 11_330_307 - 3),  # V3's V2, without the last layer's bias
    ("tracknet-v4-by-v5", 11_330_304 + 2),
    ("tracknet-v5-no-refinement", 11_330_304 + 2 + 4 * 64 * 9),  # four channels more in the first layer
    ("tracknet-v5-no-motion", 14_771_458 - 2 - 4 * 64 * 9),
])  # fmt: skip
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        network = build(network_config(name))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("settings", "eps", "momentum"), [
    ({"name": "tracknet-v1"}, 1e-3, 0.01), ({"name": "tracknet-v2"}, 1e-3, 0.01), ({"name": "tracknet-v4"}, 1e-3, 0.01),
    ({"name": "tracknet-v2", "norm": "column"}, 1e-3, 0.01),
    ({"name": "tracknet-v3"}, 1e-5, 0.1), ({"name": "tracknet-v5"}, 1e-5, 0.1),
])  # fmt: skip
def test_batch_norms_are_those_of_the_keras_or_of_the_torch_code(settings, eps, momentum):
    norms = [m for m in build(network_config(settings)).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(eps, momentum)}


def test_motion_prompt_by_hand():
    """a = 0.1, b = 0: slope 5 / (0.45 tanh 0.1 + 0.1) = 34.516, no shift; a still pixel gets one half."""
    attention = MotionPrompt(a=0.1, b=0.0, eps=0.1)(torch.tensor([0.0, 0.02, 0.5]))
    np.testing.assert_allclose(attention.detach(), [0.5, 1 / (1 + np.exp(-34.516 * 0.02)), 1], rtol=1e-4)
    slope, shift = 5 / (0.45 * np.tanh(0.2) + 1e-6), 0.6 * np.tanh(0.15)
    attention = MotionPrompt(a=-0.2, b=0.15, eps=1e-6)(torch.tensor([0.0, 0.1]))
    np.testing.assert_allclose(attention.detach(), 1 / (1 + np.exp(-slope * (np.array([0, 0.1]) - shift))), rtol=1e-4)
    assert round(slope, 1) == 56.3 and round(shift, 3) == 0.089


def test_brightness_steps_are_of_luminance_from_frame_to_frame():
    frames = torch.zeros(1, 3, 3, 1, 2)
    frames[0, 1, 0, 0, 0] = 1.0  # red appears, then goes
    frames[0, 2, 2, 0, 1] = 0.5  # blue appears
    np.testing.assert_allclose(brightness_steps(frames)[0, :, 0], [[0.299, 0], [-0.299, 0.057]], atol=1e-6)


@pytest.mark.parametrize(("fusion", "factors"), [
    ("1", [1, 0.2, 0.6]), ("2", [0.2, 0.4, 0.6]), ("2-text", [0.4])
])  # fmt: skip
def test_fusion_versions(fusion, factors):
    attention = torch.tensor([0.2, 0.6])[None, :, None, None]
    np.testing.assert_allclose(attention_per_frame(attention, fusion)[0, :, 0, 0], factors, rtol=1e-6)


def test_fusion_of_the_public_code_averages_inner_frames_of_longer_windows():
    attention = torch.tensor([0.2, 0.6, 1.0])[None, :, None, None]
    np.testing.assert_allclose(attention_per_frame(attention, "2")[0, :, 0, 0], [0.2, 0.4, 0.8, 1.0], rtol=1e-6)


def test_background_channels_by_hand():
    pictures = torch.tensor([[0.5, 0.5, 0.5], [0.6, 0.4, 0.5], [1.0, 0.0, 1.0]])[None, :, :, None, None]
    seen = {mode: with_background(pictures, mode).flatten() for mode in ("concat", "subtract", "subtract-concat")}
    np.testing.assert_allclose(seen["concat"], [0.5, 0.5, 0.5, 0.6, 0.4, 0.5, 1, 0, 1])
    np.testing.assert_allclose(seen["subtract"], [0.2, 1], atol=1e-6)  # 0.1 + 0.1; 1.5 is cut to 1
    np.testing.assert_allclose(seen["subtract-concat"], [0.6, 0.4, 0.5, 0.2, 1, 0, 1, 1], atol=1e-6)


def test_v1_sees_the_newest_frame_first_as_bgr_bytes():
    network = build(network_config("tracknet-v1")).eval()
    seen = []
    network.down1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames = torch.rand(1, 3, 3, 8, 8)
    with torch.inference_mode():
        network(frames)
    torch.testing.assert_close(seen[0][0, 0], frames[0, 2, 2] * 255)  # blue of the newest
    torch.testing.assert_close(seen[0][0, 8], frames[0, 0, 0] * 255)  # red of the oldest


def test_v1_draws_the_likeliest_grey_level():
    network = build(network_config("tracknet-v1"))
    output = torch.zeros(1, 256, 1, 2)
    output[0, 200, 0, 0] = output[0, 0, 0, 1] = 1
    np.testing.assert_allclose(network.probabilities(output), [[[[200 / 255, 0]]]], rtol=1e-6)


def test_v4_starts_from_its_bases_weights_and_weighs_their_logits():
    torch.manual_seed(0)
    base, fused = (build(network_config(name)).eval() for name in ("tracknet-v2", "tracknet-v4"))
    kept = fused.load_state_dict(base.state_dict(), strict=False)
    assert kept.missing_keys == ["prompt.a", "prompt.b"] and not kept.unexpected_keys
    still = torch.rand(1, 1, 3, 16, 16).expand(1, 3, 3, 16, 16)
    with torch.inference_mode():
        plain, weighed = base(still), fused(still)
    torch.testing.assert_close(weighed, plain * torch.tensor([1, 0.5, 0.5])[:, None, None])


def test_denormalising_shrinks_differences_only():
    torch.manual_seed(0)
    quirky = build(network_config("tracknet-v4-denormalised")).eval()
    torch.manual_seed(0)
    plain = build(network_config("tracknet-v4")).eval()
    frames = torch.rand(1, 3, 3, 16, 16)
    with torch.inference_mode():
        ratio = quirky(frames)[0, 1] / plain(frames)[0, 1]
        steps = brightness_steps(frames).abs()[0, 0]
        expected = quirky.prompt(steps * 0.225) / plain.prompt(steps)
    torch.testing.assert_close(ratio, expected)


def test_v5_sees_what_became_brighter_and_what_became_darker():
    torch.manual_seed(0)
    network = build(network_config("tracknet-v5")).eval()
    seen = []
    network.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames = torch.zeros(1, 3, 3, 16, 16)
    frames[0, 1] = 0.5
    with torch.inference_mode():
        network(frames)
    still = float(network.prompt(torch.tensor(0.0)).detach())
    assert still < 0.01  # unlike V4's, a still pixel gets next to nothing
    brighter12, darker12, brighter23, darker23 = (float(seen[0][0, channel, 0, 0]) for channel in (3, 4, 8, 9))
    np.testing.assert_allclose([brighter12, darker12, brighter23, darker23], [1, still, still, 1], atol=1e-4)
    torch.testing.assert_close(seen[0][0, 5:8], frames[0, 1])


@pytest.mark.parametrize("name", V5_ROWS)
def test_the_rows_of_v5s_paper_weigh_what_moved_and_nothing_else(name):
    """Where nothing moves, attention leaves of a draft nothing (signed) or half of it (absolute)."""
    torch.manual_seed(0)
    config = network_config(name)
    network = build(config).eval()
    drafts = []
    network.draft.register_forward_hook(lambda _, _inputs, output: drafts.append(output))
    with torch.inference_mode():
        logits = network(torch.rand(1, 1, 3, 32, 48).expand(1, 3, 3, 32, 48))
    draft = drafts[0]
    assert logits.shape == draft.shape == (1, 3, 32, 48)
    kept = {"none": 1.0, "absolute": 0.5, "signed": float(torch.sigmoid(torch.tensor(-56.3 * 0.0893)))}[config.motion]
    weighed = torch.cat([draft[:, :1], draft[:, 1:] * kept], dim=1)
    assert torch.allclose(logits, weighed, atol=1e-4) == (not config.refinement)


def test_v5_refines_at_other_sizes_than_it_learned():
    network = build(network_config("tracknet-v5")).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 3, 288, 512)).shape == (1, 3, 288, 512)
        assert network(torch.rand(1, 3, 3, 32, 48)).shape == (1, 3, 32, 48)


def test_a_background_needs_the_base_that_has_one():
    with pytest.raises(ConfigError, match="background 'concat' belongs to base 'tracknet-v3'"):
        network_config({"name": "tracknet-v4", "background": "concat"})


@pytest.mark.parametrize("name", ["tracknet-v1", "tracknet-v2", "tracknet-v3", "tracknet-v4", "tracknet-v5", *V5_ROWS])
def test_every_parameter_gets_a_gradient(name):
    """Distributed training waits for all of them."""
    torch.manual_seed(0)
    config = network_config(name)
    network = build(config)
    xy = torch.full((2, config.frames_in, 2), 10.0)
    network.loss(torch.rand(2, config.pictures_in, 3, 32, 32), xy)["loss"].backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []
    if getattr(network, "prompt", None) is not None:
        assert network.prompt.a.grad != 0 and network.prompt.b.grad != 0
