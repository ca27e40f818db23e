import numpy as np
import pytest
import torch

from specktrack import heatmap


@pytest.mark.parametrize(("kind", "radius_px", "stride", "worst_px"), [
    ("gaussian", 2.0, 1, 0.05),
    ("gaussian", 2.0, 2, 0.15),
    ("disk", 2.5, 1, 0.71),  # a disk is drawn around a whole pixel: half a pixel in x and in y is lost
])  # fmt: skip
def test_decode_inverts_encode(kind, radius_px, stride, worst_px):
    xy = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([490.0, 270.0]) + 8
    drawn = heatmap.encode(xy, (288, 512), kind=kind, radius_px=radius_px, stride=stride)
    found, score = heatmap.decode(drawn, stride=stride)
    assert drawn.shape == (200, 288 // stride, 512 // stride)
    assert (found[:, 0] - xy).norm(dim=-1).max() <= worst_px
    assert score.min() > 0.75


def test_tracknet_disk_has_21_pixels_and_none_where_absent():
    xy = torch.tensor([[10.2, 20.4], [torch.nan, torch.nan]])
    disk, nothing = heatmap.encode(xy, (32, 64), kind="disk", radius_px=2.5)
    assert disk.sum() == 21 and disk[20, 10] == 1 and disk[20, 12] == 1 and disk[20, 13] == 0
    assert nothing.sum() == 0


def test_candidates_come_best_first_and_missing_ones_are_nan():
    picture = torch.zeros(40, 60)
    picture[10, 20], picture[30, 50] = 0.6, 0.9
    xy, score = heatmap.decode(picture, candidates=3)
    np.testing.assert_allclose(xy[:2], [[50, 30], [20, 10]])
    np.testing.assert_allclose(score, [0.9, 0.6, 0], rtol=1e-6)
    assert torch.isnan(xy[2]).all()


def test_peak_at_the_border_is_not_pulled_inwards():
    xy, _ = heatmap.decode(heatmap.encode(torch.tensor([0.0, 5.0]), (16, 16), kind="gaussian", radius_px=1.0))
    assert abs(float(xy[0, 1]) - 5) < 0.05 and float(xy[0, 0]) < 0.7


def test_focal_loss_is_tracknets_weighted_bce_on_a_binary_target():
    logits = torch.tensor([[[0.3, -1.2], [2.0, -0.4]]])
    target = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    p = torch.sigmoid(logits)
    paper = -((1 - p) ** 2 * target * p.log() + p**2 * (1 - target) * (1 - p).log()).sum()
    torch.testing.assert_close(heatmap.focal_loss(logits, target), paper)
