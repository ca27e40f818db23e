"""Files generated with the public programs' keys and shapes; the keys are listed here, not taken from the importer."""

import json
import os
import resource
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from specktrack.cli.main import main
from specktrack.errors import CheckpointError, ConfigError
from specktrack.models.checkpoint import load_model, load_weights
from specktrack.models.importing import import_model, inert_pickle, keras_files
from specktrack.models.zoo import IMPORTABLE, build, network_config
from specktrack.training.start import start_from

VGG = [(64, 2), (128, 2), (256, 3), (512, 3), (256, 3), (128, 2), (64, 2)]
"""Channels and convolutions of the TrackNet line's blocks."""


def line(first_inputs, *, skips=True):
    """(number from 1, block, place in block from 0, inputs, outputs) of its 17 convolutions."""
    number, inputs = 0, first_inputs
    for block, (outputs, count) in enumerate(VGG):
        if skips and block >= 4:
            inputs += (256, 128, 64)[block - 4]
        for place in range(count):
            number += 1
            yield number, block, place, inputs, outputs
            inputs = outputs


def norm(prefix, width):
    shapes = {f"{prefix}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{prefix}.num_batches_tracked": ()}


def conv(prefix, inputs, outputs, side=3, *, bias=True, turned=False):
    shape = (inputs, outputs, side, side) if turned else (outputs, inputs, side, side)
    return {f"{prefix}.weight": shape} | ({f"{prefix}.bias": (outputs,)} if bias else {})


def tracknet_v3(frames=8, inputs=27):
    names = ["down_block_1", "down_block_2", "down_block_3", "bottleneck", "up_block_1", "up_block_2", "up_block_3"]
    shapes = {}
    for _, block, place, i, o in line(inputs):
        prefix = f"{names[block]}.conv_{place + 1}"
        shapes |= conv(f"{prefix}.conv", i, o, bias=False) | norm(f"{prefix}.bn", o)
    return shapes | conv("predictor", 64, frames, 1)


def inpaintnet():
    widths = {"down_1": (3, 32), "down_2": (32, 64), "down_3": (64, 128), "buttleneck.conv_1": (128, 256),
              "buttleneck.conv_2": (256, 256), "up_1": (384, 128), "up_2": (192, 64), "up_3": (96, 32)}  # fmt: skip
    shapes = {f"{name}.conv.{leaf}": s for name, (i, o) in widths.items() for leaf, s in
              (("weight", (o, i, 3)), ("bias", (o,)))}  # fmt: skip
    return shapes | {"predictor.weight": (2, 32, 3), "predictor.bias": (2,)}


def wasb_tracknet_v2():
    names = ["inc", "down1.maxpool_conv.1", "down2.maxpool_conv.1", "down3.maxpool_conv.1",
             "up1.conv", "up2.conv", "up3.conv"]  # fmt: skip
    shapes = {}
    for _, block, place, i, o in line(9):
        prefix = f"{names[block]}.{'double' if VGG[block][1] == 2 else 'triple'}_conv"
        shapes |= conv(f"{prefix}.{3 * place}", i, o) | norm(f"{prefix}.{3 * place + 2}", o)
    return shapes | conv("outc.conv", 64, 3, 1)


def numbered_tracknet_v2():
    shapes = {}
    for number, _, _, i, o in line(9):
        shapes |= conv(f"conv2d_{number}.conv", i, o) | norm(f"conv2d_{number}.bn", o)
    return shapes | conv("conv2d_18", 64, 3, 1)


def tracknet_v1():
    shapes = {}
    for number, i, o in [*((n, i, o) for n, _, _, i, o in line(9, skips=False)), (18, 64, 256)]:
        shapes |= conv(f"conv{number}.block.0", i, o) | norm(f"conv{number}.block.2", o)
    return shapes


def wasb():
    widths = (16, 32, 64, 128)

    def pair(prefix, i, o, side=3, c="0", b="1"):
        return conv(f"{prefix}{c}", i, o, side, bias=False) | norm(f"{prefix}{b}", o)

    shapes = pair("", 9, 64, c="conv1", b="bn1") | pair("", 64, 64, c="conv2", b="bn2")
    for n, (i, o, side) in enumerate([(64, 32, 1), (32, 32, 3), (32, 128, 1)], start=1):
        shapes |= pair("layer1.0.", i, o, side, f"conv{n}", f"bn{n}")
    shapes |= pair("layer1.0.downsample.", 64, 128, 1) | pair("transition1.0.", 128, 16)
    shapes |= pair("transition1.1.0.", 128, 32) | pair("transition2.2.0.", 32, 64) | pair("transition3.3.0.", 64, 128)
    for stage in (2, 3, 4):
        for b in range(stage):
            for k in (0, 1):
                for n in (1, 2):
                    shapes |= pair(f"stage{stage}.0.branches.{b}.{k}.", widths[b], widths[b], 3, f"conv{n}", f"bn{n}")
            for j in range(stage):
                fuse = f"stage{stage}.0.fuse_layers.{b}.{j}."
                if j > b:
                    shapes |= pair(fuse, widths[j], widths[b], 1)
                for step in range(b - j):
                    shapes |= pair(f"{fuse}{step}.", widths[j], widths[b] if step == b - j - 1 else widths[j])
    return shapes | conv("final_layers.0", 16, 3, 1)


def neck(o):
    return conv("inc.conv1.0", 9, o) | norm("inc.conv1.1", o) | conv("inc.conv2.0", o, o) | norm("inc.conv2.1", o)


def monotrack():
    def block(prefix, count, i, o):
        shapes = conv(f"{prefix}.conv0", i, o, 1)
        for n in range(count):
            shapes |= conv(f"{prefix}.convs.conv{n}", o if n else i, o) | norm(f"{prefix}.convs.bn{n}", o)
        return shapes

    shapes = neck(32)
    for n, count, i, o in [(1, 2, 32, 64), (2, 3, 64, 128), (3, 3, 128, 256)]:
        shapes |= block(f"down{n}.maxpool_conv.1", count, i, o)
    for n, count, i, o in [(1, 3, 256, 128), (2, 2, 128, 64), (3, 2, 64, 32)]:
        shapes |= conv(f"up{n}.up", i, i // 2, 2, turned=True) | block(f"up{n}.conv", count, i // 2 + o, o)
    return shapes | conv("outc.conv", 32, 3, 1)


def restracknet_v2():
    def block(prefix, i, o, *, up=False):
        shapes = norm(f"{prefix}.conv1.0", i) | conv(f"{prefix}.conv1.2", i, o, 1) | norm(f"{prefix}.conv1.3", o)
        shapes |= conv(f"{prefix}.conv1.5", o, o, 2 if up else 3, turned=up) | norm(f"{prefix}.conv1.6", o)
        shapes |= conv(f"{prefix}.conv1.8", o, o, 1)
        return shapes | (conv(f"{prefix}.conv0.1", i, o, 1) | norm(f"{prefix}.conv0.2", o) if up or i != o else {})

    shapes = neck(64)
    for n, count, i, o in [(1, 3, 64, 16), (2, 3, 16, 32), (3, 4, 32, 64), (4, 3, 64, 128)]:
        for k in range(count):
            shapes |= block(f"down{n}.convs.block{k}", o if k else i, o)
    for n, count, i, o in [(1, 3, 128, 64), (2, 2, 64, 32), (3, 2, 32, 16)]:
        shapes |= block(f"up{n}.conv0", i, i, up=True)
        for k in range(count):
            shapes |= block(f"up{n}.convs.block{k}", o if k else i + o, o)
    shapes |= block("up4", 16, 16, up=True)
    shapes |= conv("outc.convs.0", 16, 64) | norm("outc.convs.1", 64) | conv("outc.convs.3", 64, 64)
    return shapes | norm("outc.convs.4", 64) | conv("outc.convs.6", 64, 3, 1)


RESNETS = {18: ((2, 2, 2, 2), 1), 50: ((3, 4, 6, 3), 4)}
"""Depths, and how much wider a block's output is than its inside."""


def block(prefix, i, width, *, wider, projected):
    """One residual block of torchvision."""
    sides = (
        [(i, width, 3), (width, width, 3)] if wider == 1 else [(i, width, 1), (width, width, 3), (width, 4 * width, 1)]
    )
    shapes = {}
    for n, (before, after, side) in enumerate(sides, start=1):
        shapes |= conv(f"{prefix}.conv{n}", before, after, side, bias=False) | norm(f"{prefix}.bn{n}", after)
    if projected:
        shapes |= conv(f"{prefix}.downsample.0", i, wider * width, 1, bias=False)
        shapes |= norm(f"{prefix}.downsample.1", wider * width)
    return shapes


def resnet(layers, prefix=""):
    depths, wider = RESNETS[layers]
    shapes, i = conv(f"{prefix}conv1", 3, 64, 7, bias=False) | norm(f"{prefix}bn1", 64), 64
    for stage, depth in enumerate(depths, start=1):
        width = 32 << stage
        for n in range(depth):
            shapes |= block(f"{prefix}layer{stage}.{n}", i, width, wider=wider, projected=n == 0 and i != wider * width)
            i = wider * width
    return shapes | {f"{prefix}fc.weight": (1000, i), f"{prefix}fc.bias": (1000,)}


def pytracking(layers, *, features=512, newton=False, trained_filter=True):
    """``net`` of ATOM (no trained filter), DiMP18 or DiMP50, PrDiMP50 (Newton), Super-DiMP."""
    wider = RESNETS[layers][1]
    shapes, fine, coarse = resnet(layers, "feature_extractor."), 128 * wider, 256 * wider

    def layer(name, i, o, side=3):
        return conv(f"bb_regressor.{name}.0", i, o, side) | norm(f"bb_regressor.{name}.1", o)

    for name, i, o, side in [
        ("conv3_1r", fine, 128, 3), ("conv3_1t", fine, 256, 3), ("conv3_2t", 256, 256, 3), ("fc3_1r", 128, 256, 3),
        ("conv4_1r", coarse, 256, 3), ("conv4_1t", coarse, 256, 3), ("conv4_2t", 256, 256, 3),
        ("fc34_3r", 512, 256, 1), ("fc34_4r", 512, 256, 1),
    ]:  # fmt: skip
        shapes |= layer(name, i, o, side)
    for name, bins in (("fc3_rt", 25), ("fc4_rt", 9)):
        shapes |= {f"bb_regressor.{name}.linear.weight": (256, 256 * bins), f"bb_regressor.{name}.linear.bias": (256,)}
        shapes |= norm(f"bb_regressor.{name}.bn", 256)
    shapes |= {"bb_regressor.iou_predictor.weight": (1, 512), "bb_regressor.iou_predictor.bias": (1,)}
    if not trained_filter:
        return shapes
    learner = "classifier.filter_optimizer."
    shapes |= {f"{learner}log_step_length": (1,), f"{learner}filter_reg": (1,)}
    if not newton:
        shapes |= conv("classifier.filter_initializer.filter_conv", features, features)
        for name in ("label_map_predictor", "target_mask_predictor.0", "spatial_weight_predictor"):
            shapes[f"{learner}{name}.weight"] = (1, 100, 1, 1)
    if layers == 18:
        shapes |= block("classifier.feature_extractor.0", 256, 256, wider=1, projected=False)
    return shapes | conv(f"classifier.feature_extractor.{int(layers == 18)}", coarse, features, bias=False)


def mkdnet():
    """The student under pytracking's keys, its teacher under the same with ``_t``, and two discriminators."""
    student = pytracking(50)
    teacher = {key.replace(".", "_t.", 1): shape for key, shape in student.items()}
    judges = {}
    for name, inputs in (("feat_D1", 256 * 25), ("feat_D2", 256 * 9)):
        for place, (i, o) in enumerate([(inputs, 256), (256, 256), (256, 1)]):
            judges |= {f"{name}.model.{2 * place}.weight": (o, i), f"{name}.model.{2 * place}.bias": (o,)}
    return teacher | student | judges


def thin(shapes):
    """Tensors of these shapes that take no room: one number each, a different one for every key."""
    numbered = enumerate(shapes.items(), start=1)
    return {key: torch.tensor(float(n) if shape else n).expand(shape) for n, (key, shape) in numbered}


def random(shapes):
    """Tensors that keep activations in bounds, with batch statistics that matter."""
    torch.manual_seed(0)
    tensors = {}
    for key, shape in shapes.items():
        if key.endswith("running_var"):
            tensors[key] = torch.rand(shape) * 0.01  # small enough for a wrong epsilon to be seen
        elif len(shape) == 4:
            tensors[key] = torch.randn(shape) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        else:
            tensors[key] = torch.randn(shape) * 0.1 if shape else torch.tensor(7)
    return tensors


PUBLIC = [
    (tracknet_v3(), "tracknet-v3", {"frames_in": 8, "background": "concat"}),
    (tracknet_v3(frames=3, inputs=9), "tracknet-v3", {"frames_in": 3, "background": "none"}),
    (inpaintnet(), "inpaintnet", {"frames_in": 16}),
    (wasb_tracknet_v2(), "tracknet-v2", {"pixels": "imagenet", "outputs": "all"}),
    (numbered_tracknet_v2(), "tracknet-v2", {"pixels": "unit"}),
    (tracknet_v1(), "tracknet-v1", {"pixels": "unit"}),
    (wasb(), "wasb", {"frames_in": 3, "pixels": "imagenet"}),
    (monotrack(), "monotrack", {"pixels": "imagenet"}),
    (restracknet_v2(), "restracknet-v2", {"frames_in": 3}),
    (pytracking(18, trained_filter=False), "atom", {}),
    (pytracking(18, features=256), "dimp50", dict(network_config("dimp18"))),
    (pytracking(50, newton=True), "prdimp50", {}),
    (pytracking(50), "super-dimp", {}),
]  # fmt: skip
"""Keys and shapes, and the network that they are, with what says so."""


@pytest.mark.parametrize(("shapes", "network", "fields"), PUBLIC)
def test_public_layouts_are_recognised_and_every_tensor_finds_its_place(shapes, network, fields, tmp_path):
    public = thin(shapes)
    torch.save(public, tmp_path / "public.pt")
    card = import_model(tmp_path / "public.pt", tmp_path / "ours.safetensors")
    assert card.network.name == network
    assert {name: getattr(card.network, name) for name in fields} == fields
    ours = load_model(tmp_path / "ours.safetensors").network.state_dict()
    numbers = sorted(round(float(t.flatten()[0])) for t in ours.values())
    assert numbers == sorted(round(float(t.flatten()[0])) for t in public.values()), "each tensor once"


def test_the_hint_to_import_is_given_for_every_network_that_can_be():
    variants = {"dimp18", "mkdnet-released"}
    assert {network for _, network, _ in PUBLIC} | {"mkdnet", "tracknet-v4"} == IMPORTABLE - variants


def test_of_mkdnets_release_the_student_is_taken(tmp_path):
    public = thin(mkdnet())
    torch.save({"net": OrderedDict(public), "net_type": "DiMPnet"}, tmp_path / "p.pth.tar")
    card = import_model(tmp_path / "p.pth.tar", tmp_path / "m.safetensors", network="mkdnet-released")
    assert card.network.name == "mkdnet" and card.network.online.first_iterations == 25
    _, weights = load_weights(tmp_path / "m.safetensors")
    assert set(weights) == set(pytracking(50))
    assert all(torch.equal(tensor, public[name]) for name, tensor in weights.items())
    public["feature_extractor_s.conv1.weight"] = torch.zeros(1)
    torch.save(public, tmp_path / "p.pth.tar")
    with pytest.raises(CheckpointError, match=r"mkdnet does not have: 'feature_extractor_s"):
        import_model(tmp_path / "p.pth.tar", tmp_path / "m.safetensors")


def reference(public, frames, *, key, upsampled_first=True, norm_last=True, skipping=True):
    """TrackNetV1's or V2's forward by the public tensors alone; ``key`` is (block, place) -> (convolution, norm)."""
    x, skips = frames.flatten(1, 2), []
    for block, (_, count) in enumerate(VGG):
        if 0 < block < 4:
            skips.append(x)
            x = F.max_pool2d(x, 2)
        elif block >= 4:
            x = F.interpolate(x, scale_factor=2.0)
            if skipping:
                x = torch.cat([x, skips.pop()] if upsampled_first else [skips.pop(), x], dim=1)
        for place in range(count):
            c, n = key(block, place)
            x = F.conv2d(x, public[f"{c}.weight"], public.get(f"{c}.bias"), padding=1)
            x = F.relu(x) if norm_last else x
            x = F.batch_norm(x, public[f"{n}.running_mean"], public[f"{n}.running_var"], public[f"{n}.weight"],
                             public[f"{n}.bias"])  # fmt: skip
            x = x if norm_last else F.relu(x)
    return x


def test_wasbs_tracknet_v2_keeps_its_order_of_skips_and_its_epsilon(tmp_path):
    names = ["inc", "down1.maxpool_conv.1", "down2.maxpool_conv.1", "down3.maxpool_conv.1",
             "up1.conv", "up2.conv", "up3.conv"]  # fmt: skip

    def key(block, place):
        prefix = f"{names[block]}.{'double' if VGG[block][1] == 2 else 'triple'}_conv"
        return f"{prefix}.{3 * place}", f"{prefix}.{3 * place + 2}"

    public = random(wasb_tracknet_v2())
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in public.items()}, "epoch": 30}, tmp_path / "p.pth.tar")
    import_model(tmp_path / "p.pth.tar", tmp_path / "m.safetensors")
    network = load_model(tmp_path / "m.safetensors").network
    frames = torch.rand(1, 3, 3, 16, 24)
    with torch.inference_mode():
        features = reference(public, network.scaled(frames), key=key, upsampled_first=False, norm_last=True)
        wanted = F.conv2d(features, public["outc.conv.weight"], public["outc.conv.bias"])
        torch.testing.assert_close(network(frames), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_tracknet_v3_computes_what_its_tensors_say(tmp_path):
    names = ["down_block_1", "down_block_2", "down_block_3", "bottleneck", "up_block_1", "up_block_2", "up_block_3"]
    public = random(tracknet_v3(frames=3, inputs=12))
    settings = {"bg_mode": "concat", "seq_len": 3, "learning_rate": 1e-3}
    torch.save({"model": public, "param_dict": settings, "optimizer": {"state": {}}, "epoch": 1}, tmp_path / "p.pt")
    import_model(tmp_path / "p.pt", tmp_path / "m.safetensors")
    network = load_model(tmp_path / "m.safetensors").network
    assert network.config.background == "concat"  # twelve channels could also be 'subtract-concat'
    pictures = torch.rand(1, 4, 3, 16, 24)
    with torch.inference_mode():
        features = reference(public, pictures, key=lambda b, p: tuple(f"{names[b]}.conv_{p + 1}.{x}" for x in
                             ("conv", "bn")), upsampled_first=True, norm_last=False)  # fmt: skip
        wanted = F.conv2d(features, public["predictor.weight"], public["predictor.bias"])
        torch.testing.assert_close(network(pictures), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


NUMBERS = {(block, place): number for number, block, place, _, _ in line(9)}
"""Of the convolutions, from 1, by block and place."""


def imported(public, tmp_path):
    torch.save(public, tmp_path / "p.pt")
    import_model(tmp_path / "p.pt", tmp_path / "m.safetensors")
    return load_model(tmp_path / "m.safetensors").network


def equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


def test_the_other_ports_of_tracknet_compute_what_their_tensors_say(tmp_path):
    frames = torch.rand(1, 3, 3, 16, 24)
    with torch.inference_mode():
        public = random(numbered_tracknet_v2())
        features = reference(public, frames, key=lambda b, p: [f"conv2d_{NUMBERS[b, p]}.{x}" for x in ("conv", "bn")])
        wanted = F.conv2d(features, public["conv2d_18.weight"], public["conv2d_18.bias"])
        equal(imported(public, tmp_path)(frames), wanted)
        public = random(tracknet_v1())
        newest_first = frames.flip(1)
        features = reference(
            public,
            newest_first.flip(2),
            skipping=False,
            key=lambda b, p: [f"conv{NUMBERS[b, p]}.block.{x}" for x in "02"],
        )
        x = F.relu(F.conv2d(features, public["conv18.block.0.weight"], public["conv18.block.0.bias"], padding=1))
        leaves = ("running_mean", "running_var", "weight", "bias")
        wanted = F.batch_norm(x, *(public[f"conv18.block.2.{leaf}"] for leaf in leaves))
        equal(imported(public, tmp_path)(frames), wanted)


def test_inpaintnet_computes_what_its_tensors_say(tmp_path):
    torch.manual_seed(0)
    public = {key: torch.randn(shape) * 0.1 for key, shape in inpaintnet().items()}

    def step(name, x):
        return F.leaky_relu(F.conv1d(x, public[f"{name}.conv.weight"], public[f"{name}.conv.bias"], padding=1), 0.01)

    xy, fill = torch.rand(2, 16, 2), (torch.rand(2, 16) < 0.3).float()
    with torch.inference_mode():
        one = step("down_1", torch.cat([xy, fill[..., None]], dim=2).transpose(1, 2))
        two = step("down_2", one)
        three = step("down_3", two)
        x = step("buttleneck.conv_2", step("buttleneck.conv_1", three))
        for name, skip in (("up_1", three), ("up_2", two), ("up_3", one)):
            x = step(name, torch.cat([x, skip], dim=1))
        x = torch.sigmoid(F.conv1d(x, public["predictor.weight"], public["predictor.bias"], padding=1))
        equal(imported(public, tmp_path)(xy, fill), x.transpose(1, 2))


def test_the_first_wrong_tensor_is_named(tmp_path):
    def refused(change, match):
        public = thin(tracknet_v3())
        change(public)
        torch.save(public, tmp_path / "p.pt")
        with pytest.raises(CheckpointError, match=match):
            import_model(tmp_path / "p.pt", tmp_path / "m.safetensors")
        assert not (tmp_path / "m.safetensors").exists()

    refused(
        lambda p: p.pop("up_block_1.conv_2.bn.weight"), r"of tracknet-v3 is missing: 'up_block_1\.conv_2\.bn\.weight'"
    )
    refused(lambda p: p.update(extra=torch.zeros(1)), r"a tensor that tracknet-v3 does not have: 'extra'")
    refused(lambda p: p.update({"bottleneck.conv_1.bn.bias": torch.zeros(3)}),
            r"'bottleneck\.conv_1\.bn\.bias' is \(3,\), and tracknet-v3 has \(512,\)")  # fmt: skip
    refused(
        lambda p: p.pop("down_block_1.conv_1.conv.weight"),
        r"unknown layout of weights.*known are: TrackNetV3 \(qaz812345",
    )


@pytest.mark.parametrize("layers", [18, 50])
def test_imagenets_networks_are_a_backbone_to_train_the_rest_of(layers, tmp_path):
    public = thin(resnet(layers))
    torch.save({k: v for k, v in public.items() if "num_batches" not in k}, tmp_path / "p.pth")  # older than counting
    card = import_model(tmp_path / "p.pth", tmp_path / "b.safetensors")
    assert (card.network.name, card.part) == ({18: "atom", 50: "super-dimp"}[layers], "feature_extractor.")
    with pytest.raises(CheckpointError, match=r"only the part 'feature_extractor' of .*use it as init in `train`"):
        load_model(tmp_path / "b.safetensors")
    network = build(network_config({18: "dimp18", 50: "prdimp50"}[layers]))  # any tracker on this backbone
    fresh = {name: tensor.clone() for name, tensor in network.bb_regressor.state_dict().items()}
    _, weights = load_weights(tmp_path / "b.safetensors")
    start_from(network, weights, name=card.name)
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in network.bb_regressor.state_dict().items())
    for name, tensor in network.feature_extractor.state_dict().items():
        assert "num_batches" in name or torch.equal(tensor, public[name]), name


def residual(public, prefix, x, *, convolutions, stride):
    """One block by the public tensors; the stride is in its first 3x3 convolution."""

    def step(x, conv_name, norm_name, stride=1):
        weight = public[f"{prefix}.{conv_name}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        n = f"{prefix}.{norm_name}"
        return F.batch_norm(x, public[f"{n}.running_mean"], public[f"{n}.running_var"], public[f"{n}.weight"],
                            public[f"{n}.bias"])  # fmt: skip

    y = x
    for n in range(1, convolutions + 1):
        y = step(y, f"conv{n}", f"bn{n}", stride if n == convolutions - 1 else 1)
        y = y if n == convolutions else F.relu(y)
    return F.relu(
        y + (step(x, "downsample.0", "downsample.1", stride) if f"{prefix}.downsample.0.weight" in public else x)
    )


@pytest.mark.parametrize("layers", [18, 50])
def test_an_imported_backbone_computes_what_its_tensors_say(layers, tmp_path):
    public = random(resnet(layers)) | {"fc.weight": torch.zeros(1000, 512 * RESNETS[layers][1])}
    torch.save(public, tmp_path / "p.pth")
    import_model(tmp_path / "p.pth", tmp_path / "b.safetensors")
    card, weights = load_weights(tmp_path / "b.safetensors")
    network = build(card.network).eval()
    start_from(network, weights, name=card.name)
    picture, wanted = torch.rand(1, 3, 64, 48), []
    with torch.inference_mode():
        found = network.features(picture)
        scaled = (picture - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
            :, None, None
        ]
        x = F.conv2d(scaled, public["conv1.weight"], stride=2, padding=3)
        x = F.batch_norm(x, *(public[f"bn1.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")))
        x = F.max_pool2d(F.relu(x), 3, 2, padding=1)
        for stage, depth in enumerate(RESNETS[layers][0][:3], start=1):
            for n in range(depth):
                x = residual(public, f"layer{stage}.{n}", x, convolutions=2 if layers == 18 else 3,
                             stride=2 if stage > 1 and n == 0 else 1)  # fmt: skip
            wanted.append(x)
    for ours, theirs in zip(found, wanted[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


class Settings:
    """As pytracking keeps beside the weights."""

    def __init__(self):
        self.items, self.named = [1], {"a": 2}


class Statistics(OrderedDict):
    pass


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Patcher:
    """Writes attributes of what the loader itself calls."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (), (None, {"__defaults__": (1, 2, 3)})


@pytest.mark.parametrize("zipped", [True, False])
def test_foreign_objects_beside_the_weights_are_dropped_and_never_run(zipped, tmp_path):
    public = thin(pytracking(18, trained_filter=False))
    content = {
        "epoch": 40, "net_type": "ATOMnet", "net": OrderedDict(public), "optimizer": {"state": {}},
        "settings": Settings(), "stats": Statistics(train=[Settings()]), "constructor": Hostile(tmp_path / "ran"),
    }  # fmt: skip
    torch.save(content, tmp_path / "p.pth.tar", _use_new_zipfile_serialization=zipped)
    card = import_model(tmp_path / "p.pth.tar", tmp_path / "m.safetensors")
    assert card.network.name == "atom" and not (tmp_path / "ran").exists()
    _, weights = load_weights(tmp_path / "m.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in public.items()) and len(weights) == len(public)
    before = torch._utils._rebuild_tensor_v2.__defaults__
    for bad in (Hostile(tmp_path / "ran"), Patcher()):
        torch.save(bad, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"not a state dict|not a readable PyTorch file"):
            import_model(tmp_path / "bad.pt", tmp_path / "n.safetensors")
    assert not (tmp_path / "ran").exists() and torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_files_without_tensors_are_refused(tmp_path):
    torch.save({"model": tmp_path}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match=r"no tensors in the file"):
        import_model(tmp_path / "code.pt", tmp_path / "m.safetensors")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    for bad, match in [("cut.pt", "not a readable PyTorch file"), ("none.pt", "no such file")]:
        with pytest.raises(CheckpointError, match=match):
            import_model(tmp_path / bad, tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match=r"must end in \.safetensors"):
        import_model(tmp_path / "cut.pt", tmp_path / "m.pt")


def test_the_verb_writes_a_checkpoint_that_a_tracker_takes(tmp_path, capsys):
    torch.save(thin(monotrack()), tmp_path / "p.pt")
    arguments = ["models", "import", str(tmp_path / "p.pt"), str(tmp_path / "m.safetensors"), "--licence", "MIT"]
    assert main([*arguments, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["network"]["name"] == "monotrack" and card["licence"] == "MIT"
    assert card["description"].startswith("Imported from a file of MonoTrack (nttcom/WASB-SBDT)")


# Keras


def keras_file(path, *, style, version, width, inputs=9, draw=None):
    """Weights of TrackNetV1, V2 or V4 as Keras 2 (``legacy``), a whole Keras 2 model or Keras 3 writes them.

    Each tensor holds one number, or what ``draw(name, shape)`` gives.
    """
    h5py = pytest.importorskip("h5py", reason="pip install 'specktrack[keras]'")
    convs = [(i, o, width >> [0, 1, 2, 3, 2, 1, 0][block], 3) for _, block, _, i, o in line(inputs, skips=version != 1)]
    convs.append((64, 256, width, 3) if version == 1 else (64, 3, None, 1))
    with h5py.File(path, "w") as file:

        def write(kind, number, names, shapes):
            layer = f"{kind}_{number}" if number else kind
            for n, (name, shape) in enumerate(zip(names, shapes, strict=True)):
                key = {"legacy": f"{layer}/{layer}/{name}:0", "model": f"model_weights/{layer}/{layer}/{name}:0",
                       "keras3": f"layers/{layer}/vars/{n}"}[style]  # fmt: skip
                if draw is None:
                    file.create_dataset(key, shape, "f4", fillvalue=number + (n + 1) / 10)
                else:
                    file.create_dataset(key, data=draw(f"{kind}{number}/{name}", shape))

        if version == 4:
            write("motion_prompt_layer", 0, ["a", "b"], [(), ()])
        for n, (i, o, columns, side) in enumerate(convs):
            write("conv2d", n, ["kernel", "bias"], [(side, side, i, o), (o,)])
            if columns:
                names = ["gamma", "beta", "moving_mean", "moving_variance"]
                write("batch_normalization", n, names, [(columns,)] * 4)
        file.create_dataset("optimizer_weights/Adadelta/conv2d/kernel:0", (3,), "f4")


@pytest.mark.parametrize(("version", "style", "width", "name"), [
    (1, "legacy", 640, "tracknet-v1"), (2, "model", 512, "tracknet-v2"), (4, "keras3", 512, "tracknet-v4"),
])  # fmt: skip
def test_keras_weights_find_their_places_and_normalise_columns(version, style, width, name, tmp_path):
    keras_file(tmp_path / "w.h5", style=style, version=version, width=width)
    card = import_model(tmp_path / "w.h5", tmp_path / "m.safetensors")
    assert (card.network.name, card.network.norm) == (name, "column")
    ours = load_model(tmp_path / "m.safetensors").network.state_dict()
    body = "" if version == 1 else "unet."
    assert ours[f"{body}down1.0.weight"].flatten()[0] == pytest.approx(0.1)
    assert ours[f"{body}down1.3.bias"][0] == pytest.approx(1.2)
    assert ours[f"{body}bottom.8.norm.running_mean"].tolist() == pytest.approx([9.3] * (width // 8))
    assert ours[f"{body}up1.5.norm.running_var"].tolist() == pytest.approx([16.4] * width)
    assert ours["head.0.bias" if version == 1 else "head.bias"][0] == pytest.approx(17.2)
    assert version != 4 or (ours["prompt.a"].item(), ours["prompt.b"].item()) == pytest.approx((0.1, 0.2))


@pytest.mark.parametrize("version", [2, 4])
def test_keras_weights_compute_what_their_tensors_say(version, tmp_path):
    """In the layout of Keras: kernels [height, width, in, out], and norms over the columns of [B, C, H, W]."""
    draws, public = np.random.default_rng(0), {}

    def draw(name, shape):
        scale = (2 / np.prod(shape[:3])) ** 0.5 if len(shape) == 4 else 0.1
        drawn = draws.normal(0, scale, shape) if "variance" not in name else draws.uniform(0.5, 1, shape)
        public[name] = torch.from_numpy(np.asarray(drawn, np.float32))
        return public[name].numpy()

    def conv2d(number, x, padding="same"):
        kernel = public[f"conv2d{number}/kernel"].permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, public[f"conv2d{number}/bias"], padding=padding)

    def norm_columns(number, x):
        gamma, beta, mean, variance = (
            public[f"batch_normalization{number}/{leaf}"]
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / (variance + 1e-3).sqrt() * gamma + beta

    keras_file(tmp_path / "w.h5", style="legacy", version=version, width=128, draw=draw)
    import_model(tmp_path / "w.h5", tmp_path / "m.safetensors")
    frames = torch.rand(1, 3, 3, 16, 128)
    with torch.inference_mode():
        x, skips, number = frames.flatten(1, 2), [], 0
        for block, (_, count) in enumerate(VGG):
            if 0 < block < 4:
                skips.append(x)
                x = F.max_pool2d(x, 2)
            elif block >= 4:
                x = torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], dim=1)
            for _ in range(count):
                x = norm_columns(number, F.relu(conv2d(number, x)))
                number += 1
        x = conv2d(number, x)
        if version == 4:
            grey = (frames * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=2)
            steps = grey.diff(dim=1).abs() * 0.225  # the "de-normalisation" of pixels that were not normalised
            a, b = (public[f"motion_prompt_layer0/{name}"] for name in "ab")
            attention = torch.sigmoid(5 / (0.45 * a.tanh().abs() + 0.1) * (steps - 0.6 * b.tanh()))
            x = torch.cat([x[:, :1], attention * x[:, 1:]], dim=1)
        equal(load_model(tmp_path / "m.safetensors").network(frames), x)


def test_a_variant_can_be_named_where_shapes_cannot_tell(tmp_path):
    keras_file(tmp_path / "w.h5", style="keras3", version=4, width=512)
    card = import_model(tmp_path / "w.h5", tmp_path / "m.safetensors", network="tracknet-v4-fusion-2")
    assert (card.network.fusion, card.network.denormalise, card.name) == ("2", True, "tracknet-v4-fusion-2")
    with pytest.raises(CheckpointError, match="not a readable Keras file"):
        (tmp_path / "bad.h5").write_bytes(b"no")
        import_model(tmp_path / "bad.h5", tmp_path / "m.safetensors")


def test_weights_that_unfold_to_gigabytes_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("h5py", reason="pip install 'specktrack[keras]'")
    monkeypatch.setattr(keras_files, "MOST_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**6 + 1))
    with pytest.raises(CheckpointError, match="expand to too much"):
        keras_files.read_keras(tmp_path / "w.keras")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda h5py, file: file.create_dataset("a", shape=(10**12,), dtype="f4", chunks=(1000,)), "more than"),
        (lambda h5py, file: file.create_dataset("a", (1,), "f4", chunks=(10**9,), maxshape=(None,)), "more than"),
        (lambda h5py, file: [file.create_dataset(f"{i}", (10**8,), "f8") for i in range(3)], "more than"),
        (lambda h5py, file: file.update(a=h5py.SoftLink("/b")), "a link"),
        (lambda h5py, file: file.update(a=h5py.ExternalLink("other.h5", "/a")), "a link"),
        (lambda h5py, file: file.create_group("a").update(b=file["a"]), "a link"),
        (lambda h5py, file: file.create_dataset("a", (9,), "u1", external=[("secret", 0, 9)]), "another file"),
        (lambda h5py, file: file.create_virtual_dataset("a", virtual(h5py)), "another file"),
    ],
)
def test_keras_files_that_lead_elsewhere_or_unfold_to_too_much_are_refused(make, what, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py", reason="pip install 'specktrack[keras]'")
    monkeypatch.chdir(tmp_path)
    Path("secret").write_bytes(b"123456789")
    with h5py.File("w.h5", "w") as file:
        make(h5py, file)
    with pytest.raises(CheckpointError, match=what):
        keras_files.read_keras(tmp_path / "w.h5")


def virtual(h5py):
    layout = h5py.VirtualLayout((9,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "a", (9,))
    return layout


def test_column_norm_is_keras_batch_norm_over_the_last_axis():
    from specktrack.models.heatmap.column_norm import ColumnNorm

    torch.manual_seed(0)
    layer = ColumnNorm(6, eps=1e-3).eval()
    norm = layer.norm
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data = torch.rand(6)
    x = torch.rand(2, 3, 4, 6)
    wanted = (x - norm.running_mean) / (norm.running_var + 1e-3).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(layer(x), wanted)
    with pytest.raises(ConfigError, match="only work for one width: 8"):
        layer(torch.rand(1, 3, 4, 8))


@pytest.mark.parametrize(
    ("claim", "is_read"),
    [(b"\x80\x02}r\xff\xff\xff\x7f.", True), (b"\x80\x05\x96" + (2**34).to_bytes(8, "little") + b".", False)],
    ids=["a number in the memo", "a length"],
)
def test_what_a_pickle_claims_takes_no_memory(claim: bytes, is_read: bool) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if is_read:
        assert inert_pickle.load(BytesIO(claim)) == {}
    else:
        with pytest.raises(LookupError):
            inert_pickle.load(BytesIO(claim))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 2**19
