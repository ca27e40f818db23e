from typing import get_args

import numpy as np
import pytest
import torch

from specktrack import heatmap
from specktrack.heatmap import losses
from specktrack.models.heatmap.entries import Decoding, Loss


@pytest.mark.parametrize(("kind", "radius_px", "stride", "worst_px"), [
    ("gaussian", 2.0, 1, 0.05),
    ("gaussian", 2.0, 2, 0.15),
    ("disk", 2.5, 1, 0.71),  # a disk is drawn around a whole pixel: half a pixel in x and in y is lost
    ("levels", 10**0.5 / 2, 1, 0.4),  # the same at twice the size
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


def test_levels_are_the_grey_values_that_averaging_the_drawn_picture_gives():
    """Centre (21, 41) of the 128x64 picture; 255 exp(-d^2 / 20) cut to whole numbers, then means of 2x2."""
    xy = torch.tensor([[10.3, 20.2], [torch.nan, 3.0]])  # (10.3 + 0.5) * 2 - 0.5 = 21.1
    drawn, nothing = heatmap.encode(xy, (32, 64), kind="levels", radius_px=10**0.5 / 2)
    at = {d2: int(255 * np.exp(-d2 / 20)) for d2 in (0, 1, 2, 4, 5, 8)}
    assert drawn[20, 10] * 255 == round((at[0] + 2 * at[1] + at[2]) / 4)
    assert drawn[20, 11] * 255 == np.floor((at[1] + at[4] + at[2] + at[5]) / 4 + 0.5)
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


def drawn(*rows):
    """A heatmap from digits: tenths."""
    return np.array([[int(digit) / 10 for digit in row] for row in rows], np.float32)


TWO = drawn(
    "0000000000",
    "0666660000",  # an L: box 5x3, four-connected area 7, outline encloses nothing
    "0600000000",
    "0600000000",
    "0000009990",  # a block: box 3x3, outline 2x2
    "0000008880",
    "0000006660",
    "0000000005",  # not above one half
)


@pytest.mark.parametrize(("name", "xy", "score"), [
    ("largest-box", [3, 2], 0.6),  # x 1..5 -> 1 + 5 // 2, y 1..3 -> 1 + 3 // 2
    ("largest-contour", [7, 5], 0.9),
])  # fmt: skip
def test_published_decodings_of_two_regions(name, xy, score):
    found, value = heatmap.decode_published(name, torch.from_numpy(TWO)[None], candidates=2)
    np.testing.assert_allclose(found[0, 0], xy)
    np.testing.assert_allclose(value[0], [score, 0], rtol=1e-6)
    assert torch.isnan(found[0, 1]).all()


def test_components_are_weighted_centres_by_rank_of_their_sums():
    found, score = heatmap.decode_published("components", torch.from_numpy(TWO)[None], candidates=3)
    np.testing.assert_allclose(found[0, 0], [7, (4 * 0.9 + 5 * 0.8 + 6 * 0.6) / 2.3], rtol=1e-6)
    np.testing.assert_allclose(found[0, 1], [(1 + 2 + 3 + 4 + 5 + 1 + 1) / 7, (5 * 1 + 2 + 3) / 7], rtol=1e-6)
    np.testing.assert_allclose(score[0], [6.9 / 7.9, 4.2 / 5.2, 0], rtol=1e-6)


def test_the_outline_s_centroid_counts_area_and_not_pixels():
    """A 3x3 block with a tail of three pixels: the tail encloses nothing, so it does not pull."""
    tailed = drawn("00000000", "09990000", "09999990", "09990000")
    assert heatmap.decode_published("largest-contour", torch.from_numpy(tailed)[None])[0].tolist() == [[[2, 2]]]
    ring = drawn("00000", "09990", "09090", "09990", "00000")  # a hole belongs to the inside
    assert heatmap.decode_published("largest-contour", torch.from_numpy(ring)[None])[0].tolist() == [[[2, 2]]]


def test_corners_connect_and_the_heatmap_s_grid_is_undone():
    diagonal = drawn("9000", "0900", "0090", "0000")
    found, _ = heatmap.decode_published("largest-box", torch.from_numpy(diagonal)[None], stride=4)
    assert found.tolist() == [[[(1 + 0.5) * 4 - 0.5] * 2]]


def test_hough_finds_the_one_circle_and_refuses_two():
    xy = torch.tensor([[[40.0, 30.0], [torch.nan, torch.nan]], [[40.0, 30.0], [90.0, 60.0]]])
    balls = heatmap.encode(xy, (96, 128), kind="levels", radius_px=10**0.5 / 2).amax(dim=1)
    found, score = heatmap.decode_published("hough", torch.cat([balls, torch.zeros(1, 96, 128)]))
    assert (found[0, 0] - xy[0, 0]).norm() < 0.8 and score[0] > 0.9
    assert torch.isnan(found[1:]).all() and not score[1:].any()


def test_hough_finds_balls_wherever_they_are():
    xy = torch.rand(100, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([120.0, 88.0]) + 4
    balls = heatmap.encode(xy, (96, 128), kind="levels", radius_px=10**0.5 / 2)
    found, _ = heatmap.decode_published("hough", balls)
    error = (found[:, 0] - xy).norm(dim=-1)
    assert not torch.isnan(error).any() and error.max() < 1


@pytest.mark.parametrize("name", heatmap.PUBLISHED)
def test_an_empty_heatmap_has_no_object(name):
    found, score = heatmap.decode_published(name, torch.zeros(2, 20, 30))
    assert torch.isnan(found).all() and not score.any()


def test_every_named_decoding_and_loss_exists():
    assert set(get_args(Decoding)) == {"peaks", *heatmap.PUBLISHED}
    assert set(get_args(Loss)) == set(heatmap.LOSSES)


LOGITS = torch.tensor([[[[0.3, -1.2], [2.0, -0.4]]]])
TARGET = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
P = torch.sigmoid(LOGITS)


def test_focal_loss_is_tracknets_weighted_bce_on_a_binary_target():
    paper = -((1 - P) ** 2 * TARGET * P.log() + P**2 * (1 - TARGET) * (1 - P).log()).sum()
    torch.testing.assert_close(losses.focal(LOGITS, TARGET), paper)
    torch.testing.assert_close(losses.weighted_bce(LOGITS, TARGET), paper / 4)
    torch.testing.assert_close(losses.quality_focal(LOGITS, TARGET), paper / 4)


def test_soft_targets_part_weighted_bce_from_quality_focal():
    y = torch.full((1, 1, 1, 1), 0.25)
    logit = torch.zeros(1, 1, 1, 1)  # p = 1/2
    torch.testing.assert_close(losses.weighted_bce(logit, y), torch.tensor(0.25 * np.log(2), dtype=torch.float32))
    torch.testing.assert_close(losses.quality_focal(logit, y), torch.tensor(0.0625 * np.log(2), dtype=torch.float32))


def test_a_hopeless_pixel_s_logarithm_is_clamped():
    loss = losses.weighted_bce(torch.tensor([-200.0]), torch.tensor([1.0]))
    torch.testing.assert_close(loss, torch.tensor(-np.log(1e-7), dtype=torch.float32))


def test_bce_dice_by_hand():
    bce = -(TARGET * P.log() + (1 - TARGET) * (1 - P).log()).mean()
    dice = -2 * (P[TARGET == 1].sum() + 1e-4) / (P.sum() + 2 + 1e-4)
    torch.testing.assert_close(losses.bce_dice(LOGITS, TARGET), 0.9 * bce + 0.1 * dice)


def test_cross_entropy_takes_the_label_s_grey_level():
    output = torch.zeros(1, 256, 1, 2)
    output[0, 242, 0, 0] = 3.0
    target = torch.tensor([[[[242 / 255, 0.0]]]])
    rest = np.log(255 + np.exp(3)), np.log(256)
    torch.testing.assert_close(losses.cross_entropy(output, target), torch.tensor((rest[0] - 3 + rest[1]) / 2).float())
