"""The parts of the template trackers against reference numbers and hand-computed cases."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from specktrack.models.template import box_regression
from specktrack.models.template.backbone import ResNet
from specktrack.models.template.conjugate_gradient import TwoLayers, _activated, _principal, gauss_newton
from specktrack.models.template.entries import RESNET18, RESNET50, TargetModelConfig
from specktrack.models.template.iou_net import IoUNet
from specktrack.models.template.roi import precise_roi_pool
from specktrack.models.template.target_model import (
    FilterInitializer,
    GaussNewton,
    InstanceL2Norm,
    Newton,
    apply_filter,
    distance_bins,
    filter_gradient,
    gaussian_label,
    hinge_loss,
    score_kl_loss,
)
from specktrack.models.zoo import network_config


@pytest.fixture(scope="module")
def reference(real_data):
    return real_data / "tracking" / "reference"


def tensor(array):
    return torch.from_numpy(np.asarray(array))


class TestRoiPooling:
    @pytest.mark.real
    def test_output_and_both_gradients_agree_with_the_published_operator(self, reference):
        folder = reference / "prroi_pool"
        features, rois = (tensor(np.load(folder / f"{name}.npy")).requires_grad_() for name in ("features", "rois"))
        images = rois[:, 0].long()
        pooled = torch.cat([
            precise_roi_pool(features[i : i + 1], roi[None, None, 1:], bins=2, scale=0.5)[:, 0]
            for i, roi in zip(images.tolist(), rois, strict=True)
        ])  # fmt: skip
        pooled.sum().backward()
        np.testing.assert_allclose(pooled.detach(), np.load(folder / "real_outputs.npy"), atol=1e-5)
        np.testing.assert_allclose(features.grad, np.load(folder / "gradients0.npy"), atol=1e-5)
        np.testing.assert_allclose(rois.grad, np.load(folder / "gradients1.npy"), atol=1e-5)

    def test_a_box_over_whole_cells_is_average_pooling(self):
        features = torch.rand(2, 3, 16, 14)
        pooled = precise_roi_pool(features, torch.tensor([[[0.0, 0, 14, 14]]] * 2), bins=7, scale=0.5)
        expected = torch.nn.functional.avg_pool2d(features[:, :, :8, :8], 2, 1)
        torch.testing.assert_close(pooled[:, 0], expected, rtol=0, atol=1e-6)

    def test_nothing_lies_outside_and_an_empty_box_gives_zero(self):
        ones = torch.ones(1, 1, 4, 4)
        boxes = torch.tensor([[[-20.0, -20, -10, -10], [1, 1, 1, 3], [1, 1, 2, 2], [2.5, 1, 4.5, 2]]])
        pooled = precise_roi_pool(ones, boxes, bins=1, scale=1.0)[0, :, 0, 0, 0]
        # the last box leaves the map at 3: up to there 1 (from 2.5), then the falling half of one hat (area 1/2)
        torch.testing.assert_close(pooled, torch.tensor([0.0, 0.0, 1.0, (0.5 + 0.5) / 2]))

    def test_gradients_in_features_and_boxes_are_exact(self):
        torch.manual_seed(0)
        features = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
        box = torch.tensor([[[1.3, 0.7, 8.1, 7.2], [0.2, 3.4, 6.6, 9.9]]], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda f, b: precise_roi_pool(f, b, bins=2, scale=0.5), (features, box))


class TestTargetModel:
    def test_the_filter_is_a_convolution_with_padding_and_its_gradient_the_transpose(self):
        torch.manual_seed(0)
        features, w = torch.randn(3, 2, 5, 7, 6, dtype=torch.float64), torch.randn(2, 5, 4, 4, dtype=torch.float64)
        scores = apply_filter(features, w)
        for s in range(2):
            direct = torch.nn.functional.conv2d(features[:, s], w[s : s + 1], padding=2)[:, 0]
            torch.testing.assert_close(scores[:, s], direct)
        r = torch.randn_like(scores)
        torch.testing.assert_close((filter_gradient(features, r, 4) * w).sum(), (scores * r).sum())

    def test_the_norm_is_independent_of_scale_and_size(self):
        norm = InstanceL2Norm(0.25)
        for shape in [(2, 8, 5, 5), (2, 3, 9, 4)]:
            assert norm(7 * torch.randn(shape)).square().mean(dim=(1, 2, 3)).tolist() == pytest.approx(
                [0.0625] * 2, rel=1e-4
            )

    def test_the_norm_of_nothing_is_nothing(self):
        faint = torch.full((1, 2, 2, 2), 1e-3)  # its energy is 8e-6
        assert InstanceL2Norm(0.25)(faint).max().item() == pytest.approx(1e-3 * 0.25 * (8 / 1.8e-5) ** 0.5, rel=1e-4)

    def test_initial_label_and_mask_are_the_published_ones(self):
        optimizer = GaussNewton(TargetModelConfig(), stride=16, sigma_cells=0.25 / 6 * 22)
        label = optimizer.label_map_predictor.weight.detach().flatten()
        assert label[:3].tolist() == pytest.approx([1, 0.994067, 0.976479], abs=1e-6)
        logits = optimizer.target_mask_predictor[0].weight.detach().flatten()
        assert [float(logits[b]) for b in (0, 20, 99)] == pytest.approx([2.892083, 0, -3], abs=1e-5)
        assert sum(p.numel() for p in optimizer.parameters()) == 302

    def test_distances_interpolate_between_bins_and_saturate(self):
        code = distance_bins(torch.tensor([[0.0, 0.0]]), (1, 4), bins=5, bin_cells=0.8)[0, :, 0]
        # distances 0, 1.25, 2.5, 3.75 bins: the last bin is number 4
        torch.testing.assert_close(
            code.T, torch.tensor([[1, 0, 0, 0, 0], [0, 0.75, 0.25, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0.25, 0.75]])
        )

    @pytest.mark.real
    @pytest.mark.parametrize("case", ["plain", "sw_iter10", "learned"])
    def test_gauss_newton_iterates_and_losses_agree_with_the_published_code(self, reference, case):
        z = np.load(reference / "gn_optimizer.npz")
        optimizer = GaussNewton(TargetModelConfig(), stride=16, sigma_cells=0.25 / 6 * 22)
        if case == "learned":
            optimizer.load_state_dict({k.removeprefix("learned."): tensor(z[k]) for k in z if k.startswith("learned.")})
        weighted = case == "sw_iter10"
        with torch.no_grad():
            filters, losses = optimizer(
                tensor(z["w0"]), tensor(z["feat"]), tensor(z["bb"]),
                sample_weight_nS=tensor(z["sample_weight"]) if weighted else None, iterations=10 if weighted else 5,
            )  # fmt: skip
        np.testing.assert_allclose(losses, z[f"loss_{case}"], rtol=1e-4)
        np.testing.assert_allclose(torch.stack(filters), z[f"iter_{case}"], atol=1e-4)

    @pytest.mark.real
    def test_distances_agree_with_the_published_code(self, reference):
        z = np.load(reference / "gn_optimizer.npz")
        centre = tensor(z["center_yx"]).flip(-1)
        code = distance_bins(centre[:1], (23, 23), bins=100, bin_cells=0.1)[0]
        np.testing.assert_allclose(code, z["distance_map0"], atol=1e-4)
        optimizer = GaussNewton(TargetModelConfig(), stride=16, sigma_cells=0.25 / 6 * 22)
        codes = distance_bins(centre, (23, 23), bins=100, bin_cells=0.1)
        with torch.no_grad():
            label, mask = optimizer.label_map_predictor(codes)[:, 0], optimizer.target_mask_predictor(codes)[:, 0]
        np.testing.assert_allclose(label, z["label_map"], atol=1e-4)
        np.testing.assert_allclose(mask, z["target_mask"], atol=1e-4)

    @pytest.mark.real
    def test_labels_and_losses_agree_with_the_published_code(self, reference):
        z = {name: tensor(array) for name, array in np.load(reference / "labels_losses.npz").items()}
        boxes = z["target_bb"]
        centre = (boxes[:, :2] + boxes[:, 2:] / 2) / 16
        label = gaussian_label(centre, (23, 23), 0.25 / 6 * 22)
        torch.testing.assert_close(label, z["label"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            torch.stack([hinge_loss(s, y) for s, y in zip(z["scores"], z["label"], strict=True)]), z["lbhinge"]
        )
        torch.testing.assert_close(hinge_loss(z["scores"], z["label"]), z["lbhinge_all"])
        torch.testing.assert_close(score_kl_loss(z["scores"], z["label_density"]), z["klgrid"])

    @pytest.mark.parametrize("kind", [GaussNewton, Newton])
    def test_each_step_lowers_the_loss_against_the_true_gradient(self, kind):
        torch.manual_seed(0)
        config = TargetModelConfig(features=6, step_damping=0.0)
        optimizer = kind(config, stride=16, sigma_cells=1.0).double()
        features = torch.randn(4, 2, 6, 9, 9, dtype=torch.float64)
        boxes = torch.tensor([[[60.0, 60, 30, 24], [70, 50, 20, 20]]] * 4, dtype=torch.float64)
        start = 0.01 * torch.randn(2, 6, 4, 4, dtype=torch.float64)
        with torch.no_grad():
            filters, losses = optimizer(start, features, boxes, iterations=6)
        assert (losses[1:] < losses[:-1]).all()
        w = start.clone().requires_grad_()
        loss = optimizer(w, features, boxes, iterations=0)[1].sum()
        gradient = torch.autograd.grad(loss, w)[0]
        for s in range(2):  # each sequence takes a step of its own length along its own gradient
            cosine = torch.cosine_similarity((start - filters[1])[s].flatten(), gradient[s].flatten(), dim=0)
            assert cosine == pytest.approx(1.0, abs=1e-9)

    @pytest.mark.parametrize("damping", [0.0, 0.05])
    def test_newton_takes_the_exact_minimum_of_its_quadratic_model_but_for_its_damping(self, damping):
        torch.manual_seed(0)
        config = TargetModelConfig(first_step=1.0, step_damping=damping)
        optimizer = Newton(config, stride=16, sigma_cells=1.0).double()
        features, w = torch.randn(2, 1, 3, 5, 5, dtype=torch.float64), torch.zeros(1, 3, 4, 4, dtype=torch.float64)
        boxes = torch.tensor([[[30.0, 30, 20, 20]]] * 2, dtype=torch.float64)

        def loss(vector):
            return optimizer(vector.view_as(w), features, boxes, iterations=0)[1].sum()

        g = torch.autograd.functional.jacobian(loss, w.flatten())
        hessian = torch.autograd.functional.hessian(loss, w.flatten())
        step = g @ g / (g @ hessian @ g + damping * g @ g)
        with torch.no_grad():
            filters, _ = optimizer(w, features, boxes, iterations=1)
        torch.testing.assert_close(filters[1].flatten(), -step * g)

    def test_newtons_regularisation_has_a_floor(self):
        config, losses = TargetModelConfig(least_regularisation=0.05), []
        w = torch.ones(1, 3, 4, 4)
        for learned in (0.0, 0.05):
            optimizer = Newton(config, stride=16, sigma_cells=1.0)
            torch.nn.init.constant_(optimizer.filter_reg, learned)
            losses.append(optimizer(w, torch.zeros(1, 1, 3, 5, 5), torch.full((1, 1, 4), 20.0), iterations=0)[1])
        torch.testing.assert_close(*losses)
        assert losses[0].item() == pytest.approx(math.log(36) + 0.05**2 * 48 / 2)

    def test_the_first_filter_is_the_mean_of_what_lies_in_the_boxes(self):
        torch.manual_seed(0)
        first = FilterInitializer(3, 4, 16)
        torch.nn.init.normal_(first.filter_conv.weight)
        torch.nn.init.normal_(first.filter_conv.bias)
        features, boxes = torch.randn(2, 1, 3, 9, 9), torch.tensor([[[32.0, 16, 64, 64]], [[48, 32, 32, 48]]])
        w = first.filter_conv
        seen = F.conv2d(features[:, 0], w.weight, w.bias, padding=1)
        pooled = [
            precise_roi_pool(seen[i : i + 1], torch.tensor([[corners]]), bins=4, scale=1 / 16)[0, 0]
            for i, corners in enumerate([[32.0, 16, 96, 80], [48.0, 32, 80, 80]])
        ]
        torch.testing.assert_close(first(features, boxes), torch.stack(pooled).mean(dim=0)[None])


def test_box_scores_are_those_of_the_published_layers():
    """The overlap network by its public keys alone; features are weighed after pooling here, which is the same."""
    torch.manual_seed(0)
    head = IoUNet((6, 10), strides=(8, 16), prediction=(5, 7), hidden=(8, 4)).eval()
    w = head.state_dict()
    for name, tensor in w.items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_()
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)

    def norm_relu(x, name):
        values = (w[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, *values))

    def conv(x, name, padding):
        return norm_relu(F.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding=padding), f"{name}.1")

    def pooled(x, box, bins, stride):
        x0, y0, width, height = box.tolist()
        corners = torch.tensor([[[x0, y0, x0 + width, y0 + height]]])
        return precise_roi_pool(x, corners, bins=bins, scale=1 / stride)[:, 0]

    def linear(x, name):
        y = F.linear(x.flatten(1), w[f"{name}.linear.weight"], w[f"{name}.linear.bias"])
        return norm_relu(y[..., None, None], f"{name}.bn").flatten(1)

    template, search = ((torch.randn(1, 6, 16, 16), torch.randn(1, 10, 8, 8)) for _ in range(2))
    box, boxes = torch.tensor([40.0, 30, 50, 60]), torch.tensor([[20.0, 10, 70, 40], [50, 60, 33, 21]])
    fine = conv(pooled(conv(template[0], "conv3_1r", 1), box, 3, 8), "fc3_1r", 0)
    both = torch.cat([fine, pooled(conv(template[1], "conv4_1r", 1), box, 1, 16)], dim=1)
    gains = conv(both, "fc34_3r", 0), conv(both, "fc34_4r", 0)
    levels = [conv(conv(x, f"conv{n}_1t", 1), f"conv{n}_2t", 1) for x, n in zip(search, (3, 4), strict=True)]
    wanted = []
    for each in boxes:
        units = [
            linear(pooled(level, each, bins, stride) * gain, name)
            for level, gain, bins, stride, name in zip(
                levels, gains, (5, 3), (8, 16), ("fc3_rt", "fc4_rt"), strict=True
            )
        ]
        wanted.append(F.linear(torch.cat(units, dim=1), w["iou_predictor.weight"], w["iou_predictor.bias"])[0, 0])
    with torch.no_grad():
        found = head(head.search_features(search), head.modulation(template, box[None]), boxes[None])[0]
    torch.testing.assert_close(found, torch.stack(wanted))
    assert (found[0] - found[1]).abs() > 1e-3


class TestConjugateGradient:
    def test_as_many_inner_steps_as_unknowns_solve_a_linear_problem(self):
        torch.manual_seed(0)
        a, b = torch.randn(9, 5, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
        start = (torch.randn(2, dtype=torch.float64), torch.randn(3, dtype=torch.float64))

        def residual(one, other):
            return a @ torch.cat([one, other]) - b

        wanted = torch.linalg.lstsq(a, b[:, None]).solution[:, 0]
        torch.testing.assert_close(torch.cat(gauss_newton(residual, start, outer=1, inner=5)), wanted)
        few = [residual(*gauss_newton(residual, start, outer=1, inner=n)).square().sum() for n in range(6)]
        assert all(later < earlier for earlier, later in itertools.pairwise(few))

    def test_linearising_again_follows_a_curve(self):
        def residual(x):  # zero at (1, 1) alone
            return torch.stack([3 * (x[1] - x[0] ** 2), 1 - x[0]])

        start = (torch.tensor([-0.5, 1.0], dtype=torch.float64),)
        once, often = (gauss_newton(residual, start, outer=n, inner=2)[0] for n in (1, 3))
        assert (once - 1).abs().max() > 0.1
        torch.testing.assert_close(often, torch.ones(2, dtype=torch.float64))

    def test_atoms_scores_saturate_below_zero(self):
        found = _activated(torch.tensor([-10.0, -0.01, 2.0])).tolist()
        assert found == pytest.approx([-0.05, 0.05 * (math.exp(-0.2) - 1), 2.0])

    def test_the_projection_starts_with_the_leading_directions(self):
        draw = torch.Generator().manual_seed(0)
        features = torch.randn(2, 4, 9, 9, generator=draw) * torch.tensor([0.1, 3.0, 0.2, 1.0])[:, None, None]
        first, second = _principal(features, 2).abs()
        assert first.argmax() == 1 and second.argmax() == 3

    def test_what_counts_for_nothing_is_forgotten(self):
        """Of a sample without weight only the filter's own size is left to lower."""
        config = network_config("atom").model_copy(update={"input_wh": (64, 64)})
        target = config.target_model.model_copy(update={"features": 3})
        layers = TwoLayers(config.model_copy(update={"target_model": target}))
        features = torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(0))
        box = torch.tensor([[24.0, 24, 16, 16]])
        layers.learn(features, box, torch.ones(1), iterations=60)
        assert layers.score(features[0]).max() > 0.3
        layers.learn(features, box, torch.zeros(1), iterations=5)
        assert layers.score(features[0]).abs().max() < 1e-4


class TestBoxRegression:
    def test_an_overlap_network_speaks_from_minus_one_to_one(self):
        boxes = torch.tensor([[[0.0, 0, 4, 4], [2, 0, 4, 4], [9, 9, 1, 1]]])
        scores = torch.tensor([[1.0, 2 * 8 / 24 - 1, -1]])
        label = torch.tensor([[0.0, 0, 4, 4]])
        assert box_regression.overlap_loss(scores, boxes, label).item() == pytest.approx(0, abs=1e-9)
        assert box_regression.overlap_loss(scores + 0.5, boxes, label).item() == pytest.approx(0.25)

    def test_relative_boxes_go_back(self):
        boxes = torch.tensor([[3.0, -2, 10, 4], [0, 0, 1, 30]])
        norm = torch.tensor([5.0, 7])
        relative = box_regression.to_relative(boxes, norm)
        torch.testing.assert_close(relative[0], torch.tensor([8 / 5, 0.0, math.log(10), math.log(4)]))
        torch.testing.assert_close(box_regression.from_relative(relative, norm), boxes)

    @pytest.mark.real
    def test_densities_and_losses_agree_with_the_published_code(self, reference):
        z = {name: tensor(array) for name, array in np.load(reference / "labels_losses.npz").items()}
        proposals, box = z["proposals"], z["target_bb"][0]
        relative = box_regression.to_relative(proposals, box[2:])
        torch.testing.assert_close(relative, z["rel"])
        torch.testing.assert_close(
            box_regression.from_relative(relative, box[2:]), z["rect_back"], rtol=1e-4, atol=1e-3
        )
        offset = relative - box_regression.to_relative(box, box[2:])
        torch.testing.assert_close(box_regression.mixture_density(offset), z["proposal_density"], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(box_regression.normal_density(offset, 0.05), z["gt_density"], rtol=1e-3, atol=1e-6)
        q, p = z["proposal_density"][None], z["gt_density"][None]
        torch.testing.assert_close(box_regression.box_kl_loss(z["bb_scores"], q, p).mean(), z["klreg"])
        torch.testing.assert_close(box_regression.box_kl_loss(torch.zeros(1, 128), q, p).mean(), z["klreg_zero"])

    def test_proposals_are_centred_on_the_label_and_a_perfect_score_has_a_low_loss(self):
        box = torch.tensor([[40.0, 30, 20, 10]])
        proposals, q, p = box_regression.draw_proposals(box, 20000, torch.Generator().manual_seed(0))
        relative = box_regression.to_relative(proposals, box[:, None, 2:]) - box_regression.to_relative(box, box[:, 2:])
        std = math.sqrt((0.05**2 + 0.5**2) / 2)
        assert relative.mean(dim=1).abs().max() < 0.02 and relative.std(dim=1) == pytest.approx(
            torch.full((1, 4), std), rel=0.05
        )
        assert box_regression.box_kl_loss(p.clamp(min=1e-30).log(), q, p).item() == pytest.approx(-5.93, abs=0.4)
        assert (p / q).mean().item() == pytest.approx(1, abs=0.1)

    def test_overlap_by_hand(self):
        a, b = torch.tensor([0.0, 0, 4, 4]), torch.tensor([[2.0, 0, 4, 4], [4, 4, 1, 1], [1, 1, 2, 2]])
        assert box_regression.overlap(a, b).tolist() == pytest.approx([8 / 24, 0, 0.25])


@pytest.mark.parametrize(("config", "parameters"), [(RESNET18, 11_689_512), (RESNET50, 25_557_032)])
def test_resnets_have_the_public_checkpoints_parameters(config, parameters):
    with torch.device("meta"):
        network = ResNet(config)
        assert sum(p.numel() for p in network.parameters()) == parameters
        keys = set(network.state_dict())
        assert {
            "conv1.weight",
            "bn1.running_mean",
            "layer2.0.downsample.1.weight",
            "layer4.1.bn2.bias",
            "fc.weight",
        } <= keys
        fine, coarse = network(torch.empty(1, 3, 96, 128))
    assert fine.shape == (1, config.channels(2), 12, 16) and coarse.shape == (1, config.channels(3), 6, 8)
