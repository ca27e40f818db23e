"""Search regions against reference crops and by hand."""

import numpy as np
import pytest
import torch

from specktrack.schema import Box
from specktrack.tracking.region import Region


@pytest.mark.real
@pytest.mark.parametrize("border", ["replicate", "inside", "inside_major"])
def test_regions_and_pixels_agree_with_the_published_crops(real_data, border):
    z = np.load(real_data / "tracking" / "reference" / "sample_patch.npz")
    image = z["image"]
    for i, (y, x, scale) in enumerate(z["pos_scale"]):
        region = Region.around((x, y), 96 * scale, (360, 240), 96, border=border, most_shrink=1.5)
        y0, x0, y1, x1 = z[f"{border}_{i}_floor_coord"][0]
        assert (region.x0_px, region.y0_px) == (x0, y0)
        assert (region.x0_px + region.side_px, region.y0_px + region.side_px) == (x1, y1)
        if f"{border}_{i}_floor_patch" in z:
            np.testing.assert_allclose(region.cut(image), z[f"{border}_{i}_floor_patch"].astype(np.float32), atol=0.13)


def test_a_region_of_twice_the_network_size_averages_pixels():
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[::2] = 100
    region = Region.around((19, 19), 40, (40, 40), 19, border="replicate", most_shrink=1.0)
    assert region.step == 2
    assert torch.allclose(region.cut(frame), torch.tensor(50.0))


def test_beyond_the_frame_its_edge_is_repeated():
    frame = np.tile(np.arange(20, dtype=np.uint8)[None, :, None], (20, 1, 3))
    region = Region.around((0, 0), 8, (20, 20), 8, border="replicate", most_shrink=1.0)
    assert (region.x0_px, region.y0_px) == (-3, -3)
    assert region.cut(frame)[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]


def test_boxes_go_to_the_region_and_back():
    region = Region.around((50, 40), 60, (200, 100), 180, border="replicate", most_shrink=1.0)
    box = Box(cx_px=51.25, cy_px=38.5, w_px=7, h_px=4)
    assert region.box_net(box) == pytest.approx(((51.25 + 0.5 - 3.5 - 21) * 3, (38.5 + 0.5 - 2 - 11) * 3, 21, 12))
    back = region.box_px(*region.box_net(box))
    assert [back.cx_px, back.cy_px, back.w_px, back.h_px] == pytest.approx([51.25, 38.5, 7, 4])


def test_a_bright_pixel_lies_where_its_box_says():
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[33, 41] = 255
    region = Region.around((37, 30), 24, (80, 60), 96, border="inside_major", most_shrink=1.5)
    x, y, w, h = region.box_net(Box(cx_px=41, cy_px=33, w_px=1, h_px=1))
    patch = region.cut(frame)[0]
    ys, xs = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    centroid = (float((patch * xs).sum() / patch.sum()), float((patch * ys).sum() / patch.sum()))
    assert centroid == pytest.approx((x + w / 2, y + h / 2), abs=0.01)
