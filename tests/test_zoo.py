"""What every heatmap network of the zoo promises to the code around it."""

import csv

import numpy as np
import pytest
import torch

from specktrack.frames import FrameBatch, Viewport, concat
from specktrack.models import zoo
from specktrack.models.checkpoint import Model, ModelCard, load_model, save_model
from specktrack.models.zoo import build, network_config
from specktrack.schema import Clip
from specktrack.storage import expand_sources
from specktrack.tracking.windowed.session import WindowedTracker, Windowing
from specktrack.training.config import TrainConfig
from specktrack.training.state import TrainState
from specktrack.video.unconfined import read_clip

HEATMAP_NETWORKS = [name for name, entry in zoo.ZOO.items() if entry.family == "windowed"]
VIEWPORT = Viewport((64, 32), (64, 32))
PIXELS = np.random.default_rng(0).integers(0, 255, (13, 32, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=HEATMAP_NETWORKS)
def model(request):
    """Random weights, and batch norms that have seen pictures: otherwise signals die out and heatmaps are equal."""
    torch.manual_seed(0)
    config = network_config(request.param)
    network = build(config).train()
    if config.name == "tracknet-v1":
        torch.nn.init.zeros_(network.head[-1].bias)  # or every pixel is black
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.rand(2, config.pictures_in, 3, 32, 64))
    return Model(network.eval(), ModelCard(name="random", network=config))


def test_rows_do_not_depend_on_batches(model):
    tracker = WindowedTracker(model, device=torch.device("cpu"), config=Windowing(overlap=1))
    frame = np.arange(len(PIXELS))
    whole = FrameBatch(PIXELS, frame, frame / 30, VIEWPORT, PIXELS[0])

    def rows(batch_frames):
        session = tracker.open()
        parts = [session.push(whole[i : i + batch_frames]) for i in range(0, len(frame), batch_frames)]
        return concat([*parts, session.finish()])

    one, other = rows(len(frame)), rows(3)
    assert ((one.frame == frame).all() and len(np.unique(one.score)) > 1) or model.config.name == "tracknet-v1"
    np.testing.assert_array_equal(one.score, other.score)


def test_a_checkpoint_gives_back_network_and_weights(model, tmp_path):
    card = save_model(tmp_path / "m.safetensors", model.network, model.card)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card == card and loaded.config == model.config
    theirs = loaded.network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.network.state_dict().items())


@pytest.fixture(scope="module")
def rally(real_data):
    """16 consecutive frames of a real rally at 512x288 after 31 before them, and the positions in all of them."""
    path = real_data / "badminton" / "test" / "00003.mp4"
    with path.with_suffix(".csv").open() as lines:
        labels = [(int(row["Ball"]), float(row["x"]), float(row["y"])) for row in csv.DictReader(lines)]
    seen = np.array([ball for ball, _, _ in labels], bool)
    first = next(n for n in range(31, len(seen) - 16) if seen[n - 31 : n + 16].all()) - 31
    xy = np.array([(x, y) for _, x, y in labels[first : first + 47]]) * (512, 288) - 0.5  # shares of the picture
    clip = Clip(video=expand_sources([str(path)])[0], start=first, stop=first + 47)
    with read_clip(clip, viewport=Viewport((1280, 720), (512, 288))) as reader:
        pixels = np.concatenate([batch.pixels for batch in reader])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, torch.from_numpy(xy).float()


def crops(rally, config):
    """Windows whose outputs are the last 16 frames, cut around their positions; pictures and positions."""
    frames, xy = rally
    step = config.frames_out
    wh = (160, 96) if config.frames_in > 5 else (96, 64)  # as far as a shuttle flies in a window
    pictures, positions = [], []
    for stop in range(len(frames), len(frames) - 16, -step):
        window, at = frames[stop - config.frames_in : stop], xy[stop - config.frames_in : stop]
        left, top = ((at.amin(0) + at.amax(0)) / 2 - torch.tensor(wh) / 2).round().int().tolist()
        left, top = min(max(left, 0), 512 - wh[0]), min(max(top, 0), 288 - wh[1])
        window = window[..., top : top + wh[1], left : left + wh[0]]
        still = frames.median(dim=0).values[None, :, top : top + wh[1], left : left + wh[0]]
        at = at - torch.tensor([left, top])
        outside = ((at < 0) | (at > torch.tensor(wh) - 1)).any(dim=1)
        pictures.append(torch.cat([still, window]) if config.wants_background else window)
        positions.append(torch.where(outside[:, None], torch.nan, at))
    return torch.stack(pictures), torch.stack(positions)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", HEATMAP_NETWORKS)
def test_every_network_overfits_16_real_frames_to_under_one_px(name, rally):
    torch.manual_seed(0)
    config = network_config(name)
    frames, xy = crops(rally, config)
    settings = TrainConfig.parse({"data": ["d"], "output": "o", "steps": 300, "warmup_steps": 5}, environment={})
    state = TrainState(build(config).train(), settings, torch.device("cpu"))
    for _ in range(150):
        results = state.network.loss(frames, xy)
        state.update(results["loss"])
        if results["recall"] == 1 and results["error_px"] < 0.9:
            break
    assert results["recall"] == 1 and results["error_px"] < 1


@pytest.mark.real
def test_inpaintnet_overfits_16_real_frames_to_under_one_px(rally):
    """One window of a rally, of which every second run of three frames is hidden."""
    torch.manual_seed(0)
    config = network_config("inpaintnet")
    truth = (rally[1][-config.frames_in :] / torch.tensor(config.input_wh))[None]
    hidden = (torch.arange(config.frames_in)[None] // 3 % 2).bool()
    settings = TrainConfig.parse(
        {"data": ["d"], "output": "o", "network": "inpaintnet", "steps": 800, "warmup_steps": 5, "weight_decay": 0},
        environment={},
    )  # fmt: skip
    state = TrainState(build(config).train(), settings, torch.device("cpu"))
    for _ in range(400):
        results = state.network.loss(truth, truth, hidden)
        state.update(results["loss"])
        if results["error_px"] < 0.9:
            break
    assert results["error_px"] < 1
