"""Search regions against reference crops and by hand."""

import numpy as np
import pytest
import torch

from specktrack.errors import ConfigError
from specktrack.schema import Box
from specktrack.tracking.prompts import check_box
from specktrack.tracking.template.region import Region


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


def test_a_region_far_larger_than_its_frame_reads_little_more_than_the_frame():
    frame = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    region = Region.around((12, 20), 700, (40, 30), 64, border="replicate", most_shrink=1.0)
    ys, xs = (np.arange(start, start + region.side_px) for start in (region.y0_px, region.x0_px))
    whole = torch.from_numpy(frame[ys.clip(0, 29)[:, None], xs.clip(0, 39)]).permute(2, 0, 1)[None].float()
    averaged = torch.nn.functional.avg_pool2d(whole, region.step)
    expected = torch.nn.functional.interpolate(averaged, (64, 64), mode="bilinear", align_corners=False)[0]
    assert torch.equal(region.cut(frame), expected)
    read = [len(region._reached(*axis)[0]) for axis in ((region.x0_px, 40), (region.y0_px, 30))]
    assert region.step == 10 and max(read) <= 40 + 4 * region.step
    for corner in ((-2000, 5), (5, 3000), (3000, -3000)):  # beyond the frame: its edge alone
        assert Region(*corner, region.side_px, 64, region.step).cut(frame).shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((20, 20, 1e200, 1e200), "larger than the frame"),
        ((320, 180, 8000, 8000), "larger than the frame"),
        ((20, 20, 10, 361), "larger than the frame"),
        ((20, 20, 1e-300, 30), "side below 0.1 px"),
        ((1e300, 20, 10, 10), "outside the frame"),
        ((20, -6, 10, 10), "outside the frame"),
    ],
)
def test_a_prompt_s_box_fits_into_its_frame(box, said):
    with pytest.raises(ConfigError, match=rf"{said}.*640x360 px.*source px"):
        check_box(Box(cx_px=box[0], cy_px=box[1], w_px=box[2], h_px=box[3]), (640, 360), 7)
    check_box(Box(cx_px=320, cy_px=180, w_px=640, h_px=360), (640, 360), 0)
