"""The template networks: their size, their losses, and that they learn."""

import pytest
import torch
from tests.test_template_tracking import tiny

from specktrack.models.template.dimp import Outputs, Pairs, Proposals
from specktrack.models.template.iou_net import IoUNet
from specktrack.models.zoo import VARIANTS, build, network_config


@pytest.mark.parametrize(("name", "parameters"), [
    ("super-dimp", 43_097_303), ("mkdnet", 43_097_303), ("dimp50", 43_097_303), ("speckdimp", 1_270_655),
])  # fmt: skip
def test_parameter_counts(name, parameters):
    with torch.device("meta"):
        network = build(network_config(name))
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_super_dimps_parts_have_the_published_sizes_and_names():
    with torch.device("meta"):
        network = build(network_config("super-dimp"))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert counts["feature_extractor"] == 25_557_032 and counts["bb_regressor"] == 10_461_569
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.classifier.named_children()}
    assert counts == {"feature_extractor": 4_718_592, "filter_optimizer": 302, "filter_initializer": 2_359_808}
    assert {
        "classifier.filter_initializer.filter_conv.bias", "classifier.filter_optimizer.log_step_length",
        "classifier.filter_optimizer.filter_reg", "classifier.filter_optimizer.label_map_predictor.weight",
        "classifier.filter_optimizer.target_mask_predictor.0.weight", "classifier.feature_extractor.0.weight",
        "classifier.filter_optimizer.spatial_weight_predictor.weight", "bb_regressor.conv3_1r.0.weight",
        "bb_regressor.fc34_4r.1.running_mean", "bb_regressor.fc3_rt.linear.weight", "bb_regressor.iou_predictor.bias",
    } <= set(network.state_dict())  # fmt: skip


def test_published_geometry():
    config = network_config("super-dimp")
    assert (config.stride, config.cells) == (16, 22) and config.sigma_cells == pytest.approx(0.91667, abs=1e-5)
    assert network_config("prdimp50").cells == 18
    assert network_config("mkdnet").online == config.online  # the paper's text
    released = network_config("mkdnet-released").online
    assert (released.first_iterations, released.update_iterations, released.distractor_iterations) == (25, 3, 3)
    assert set(VARIANTS) >= {"dimp18", "mkdnet-released"}


def pairs(sequences=2, side=64, n=2):
    """Bright squares on noise."""
    draw = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, n, sequences, 3, side, side, generator=draw) * 0.3
    boxes = torch.zeros(2, n, sequences, 4)
    for index in range(2 * n * sequences):
        kind, i, s = index // (n * sequences), index // sequences % n, index % sequences
        x, y = torch.randint(16, 34, (2,), generator=draw).tolist()
        pictures[kind, i, s, s % 3, y : y + 14, x : x + 14] = 1.0
        boxes[kind, i, s] = torch.tensor([x, y, 14, 14])
    return Pairs(pictures[0], boxes[0], pictures[1], boxes[1])


@pytest.mark.parametrize("name", ["super-dimp", "prdimp50", "dimp50", "atom"])
def test_every_kind_of_network_learns(name):
    network = tiny(name).network.train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    batch, losses = pairs(), []
    for step in range(25):
        results = network.loss(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        results["loss"].backward()
        optimizer.step()
        losses.append({key: float(value.detach()) for key, value in results.items()})
    late = {key: sum(loss[key] for loss in losses[-5:]) for key in losses[0]}
    early = {key: sum(loss[key] for loss in losses[:5]) for key in losses[0]}
    assert late["boxes"] < early["boxes"] and (name == "atom" or late["scores"] < early["scores"])
    assert name == "atom" or losses[-1]["found"] > 0.7


@pytest.mark.parametrize(("name", "emphasis", "of_scores", "of_boxes"), [
    ("super-dimp", 1, 100, 0.01), ("super-dimp", 30, 100, 0.3), ("dimp50", 1, 100, 1), ("prdimp50", 1, 0.25, 0.0025),
    ("atom", 1, 0, 1),
])  # fmt: skip
def test_the_losses_have_their_published_weights(name, emphasis, of_scores, of_boxes):
    head = network_config(name).box_head.model_copy(update={"prediction": (8, 8), "hidden": (8, 8)})
    network = tiny(name, box_head=head.model_copy(update={"emphasis": emphasis}).model_dump()).network
    batch = pairs()
    proposals = Proposals.draw(batch.search_boxes_nS4, 8, torch.Generator().manual_seed(0))
    outputs = network.outputs(batch, proposals)
    found = network.losses(outputs, batch, proposals)
    each = [network._score_loss(score, batch.search_boxes_nS4) for score in outputs.scores] or [torch.zeros(())] * 3
    torch.testing.assert_close(found["scores"], of_scores * (each[0] + each[-1] + 4 * torch.stack(each[1:-1]).mean()))
    torch.testing.assert_close(found["loss"] - found["scores"], of_boxes * found["boxes"], rtol=1e-3, atol=1e-4)


def test_the_box_head_sees_the_first_template_of_each_sequence(monkeypatch):
    network, batch = tiny().network, pairs(n=3)
    told, modulation = [], IoUNet.modulation

    def noted(head, features, boxes):
        told.append((features, boxes))
        return modulation(head, features, boxes)

    monkeypatch.setattr(IoUNet, "modulation", noted)
    network.loss(batch, torch.Generator().manual_seed(0))
    (((fine, coarse), boxes),) = told
    assert torch.equal(boxes, batch.template_boxes_nS4[0])
    for found, wanted in zip((fine, coarse), network.features(batch.template_nSCHW[0]), strict=True):
        torch.testing.assert_close(found, wanted)


def test_frozen_stages_keep_weights_and_statistics():
    with torch.device("meta"):
        network = build(network_config("super-dimp")).train()
    extractor = network.feature_extractor
    assert not extractor.layer2.training and extractor.layer3.training
    assert not any(p.requires_grad for p in extractor.layer1.parameters())
    assert all(p.requires_grad for p in extractor.layer3.parameters())


@pytest.mark.parametrize("name", ["super-dimp", "dimp50"])
def test_distractor_frames_count_as_background_and_not_in_the_boxes(name):
    network, batch = tiny(name).network.eval(), pairs()
    some = Pairs(batch.template_nSCHW, batch.template_boxes_nS4, batch.search_nSCHW, batch.search_boxes_nS4.clone())
    some.search_boxes_nS4[0, 1] = torch.nan
    draw = torch.Generator().manual_seed(0)
    proposals = Proposals.draw(some.search_boxes_nS4, 8, draw)
    outputs = network.outputs(some, proposals)
    found = network.losses(outputs, some, proposals)
    assert all(torch.isfinite(value) for value in found.values())
    label = network._label(some.search_boxes_nS4, outputs.scores[-1].shape[-2:])
    assert not label[0, 1].any() and label[0, 0].max() > 0.5
    changed = outputs.box_score_BN.clone()
    changed[1] += 5
    moved = Outputs(outputs.scores, outputs.pooled, changed)
    torch.testing.assert_close(network.losses(moved, some, proposals)["boxes"], found["boxes"])
