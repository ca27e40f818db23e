import pytest
import torch

from specktrack.augment.pictures import Blend
from specktrack.errors import ConfigError
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.heatmap.tracknet_entries import TrackNetV2Config
from specktrack.models.zoo import build, network_config
from specktrack.training.windowed.config import DistillConfig
from specktrack.training.windowed.distill import (
    Distillation,
    feature_distance,
    heatmap_losses,
    reliability_gate,
    soft_argmax,
    window_frames,
    window_starts,
)
from specktrack.training.windowed.learning import judged

CPU = torch.device("cpu")
TINY = SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=4)


def model(config, seed=0):
    torch.manual_seed(seed)
    return Model(build(config).eval(), ModelCard(name="teacher", network=config))


def pair(student=TINY, teacher=TINY, **options):
    network = model(student, seed=1).network.train()
    taught = model(teacher)
    return network, Distillation(network, taught, DistillConfig(teacher="t", **options), CPU)


def test_the_gate_shuts_where_the_teacher_is_worse_or_silent():
    teacher = torch.tensor([[0.5, 2.0], [1.0, torch.nan]])
    student = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert reliability_gate(teacher, student).tolist() == [[True, False], [True, False]]


def test_heatmap_losses_by_hand():
    wanted = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    guessed = torch.tensor([[[0.5, 0.25]], [[0.0, 0.0]]])
    first = 0.25 * -torch.tensor(0.5).log() + 0.0625 * -torch.tensor(0.75).log()
    torch.testing.assert_close(heatmap_losses(guessed, wanted), torch.stack([first, torch.tensor(0.0)]))


@pytest.mark.parametrize("stride", [1, 2])
def test_soft_argmax_finds_a_lone_peak_in_network_px(stride):
    probability = torch.full((1, 12, 20), 1e-6)
    probability[0, 4, 7] = 0.999
    wanted = torch.tensor([[(7 + 0.5) * stride - 0.5, (4 + 0.5) * stride - 0.5]])
    torch.testing.assert_close(soft_argmax(probability, stride), wanted, atol=0.02, rtol=0)


def test_feature_distance_is_one_minus_cosine_at_the_students_size():
    ours = torch.zeros(2, 3, 4, 4)
    ours[0, 0], ours[1, 1] = 2.0, 1.0
    theirs = torch.zeros(2, 3, 8, 8)
    theirs[:, 0] = 5.0
    torch.testing.assert_close(feature_distance(ours, theirs), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize(("student", "teacher", "frames", "starts"), [
    (8, (3, "all"), 8, [0, 2, 5]),
    (8, (3, "last"), 8, [0, 1, 2, 3, 4, 5]),
    (2, (3, "all"), 3, [0]),
    (3, (3, "all"), 3, [0]),
    (4, (2, "all"), 4, [0, 2]),
])  # fmt: skip
def test_the_teachers_windows_cover_all_that_it_can_draw(student, teacher, frames, starts):
    entry = TrackNetV2Config(frames_in=teacher[0], outputs=teacher[1])
    assert window_frames(SpeckNetConfig(frames_in=student), entry) == frames
    assert window_starts(entry, frames) == starts


def test_the_teachers_heatmaps_are_its_own_on_the_same_grid():
    _, distillation = pair()
    frames, teacher = torch.rand(2, 4, 3, 32, 48), distillation._teacher[0]
    with torch.no_grad():
        wanted = teacher.probabilities(teacher(frames))
    torch.testing.assert_close(distillation.taught(frames, wanted.shape), wanted)


@pytest.mark.parametrize(("teacher", "stage"), [
    ({"name": "tracknet-v2"}, "unet.down2"),
    ({"name": "tracknet-v2", "outputs": "last", "frames_in": 2}, "unet.down2"),
    ({"name": "tracknet-v3", "frames_in": 4}, "unet.down2"),  # which wants a background
    ({"name": "specknet", "widths": [8, 8, 16, 16], "frames_in": 6, "input_wh": [640, 360]}, "enc4"),
])  # fmt: skip
def test_any_teacher_speaks_about_the_students_frames_on_its_grid(teacher, stage):
    entry = network_config(teacher)
    student, distillation = pair(teacher=entry, position=0.1, feature=0.1, stages=[["enc4", stage]])
    n = window_frames(TINY, entry)
    frames = torch.rand(2, n + entry.pictures_in - entry.frames_in, 3, 32, 48)
    taught = distillation.taught(frames, torch.Size([2, 4, 16, 24]))
    drawn = ~torch.isnan(taught).flatten(2).any(dim=2)
    assert taught.shape == (2, 4, 16, 24) and drawn[:, 1:].all()
    assert drawn[:, 0].all() == (entry.frames_out > 1)
    xy = torch.full((2, n, 2), 12.0)
    results = judged(student, Blend(frames, xy, xy, torch.ones(2, n)), distillation=distillation)
    results["loss"].backward()
    assert {"trusted", "taught_heatmap", "taught_position", "taught_feature"} <= set(results)
    assert all(torch.isfinite(value).all() for value in results.values())
    assert all(parameter.grad is not None for parameter in (*student.parameters(), *distillation.parameters()))
    assert all(parameter.grad is None for parameter in distillation._teacher[0].parameters())


def test_a_teacher_that_is_worse_everywhere_changes_nothing_but_the_labels_weight():
    student, distillation = pair()
    frames, xy = torch.rand(2, 4, 3, 32, 48), torch.full((2, 4, 2), 12.0)
    wanted = student.wanted(xy, (32, 48))
    distillation.taught = lambda *_: 1 - wanted
    with torch.no_grad():
        output = student(frames)
        term, figures = distillation(frames, output, student.probabilities(output), wanted)
        label_loss = student.judge(output, wanted, xy)["loss"]
    assert figures["trusted"] == 0 and term == pytest.approx(float(label_loss), rel=1e-5)


def test_a_perfect_teacher_is_trusted_everywhere():
    student, distillation = pair(heatmap=0.0, position=1.0)
    frames, xy = torch.rand(2, 4, 3, 32, 48), torch.full((2, 4, 2), 12.0)
    wanted = student.wanted(xy, (32, 48))
    distillation.taught = lambda *_: wanted
    output = student(frames)
    term, figures = distillation(frames, output, student.probabilities(output), wanted)
    assert figures["trusted"] == 1 and term > 0  # a fresh student does not know the position


def test_adapters_are_trained_but_the_teacher_is_no_part_of_the_state():
    _, distillation = pair(feature=1.0, stages=[["enc4", "enc8"], ["enc8", "enc16"]])
    assert {name: tuple(value.shape) for name, value in distillation.state_dict().items()} == {
        "adapters.0.weight": (16, 8, 1, 1), "adapters.0.bias": (16,),
        "adapters.1.weight": (16, 16, 1, 1), "adapters.1.bias": (16,),
    }  # fmt: skip


def test_an_unknown_stage_is_answered_with_the_stages():
    with pytest.raises(ConfigError, match=r"no such stage: 'enc5' \(distill.stages\); some stages are: .*enc4"):
        pair(feature=1.0, stages=[["enc5", "enc4"]])


@pytest.mark.parametrize("options", [{"feature": 1.0}, {"stages": [["a", "b"]]}, {"heatmap": 0}])
def test_impossible_terms_are_refused(options):
    with pytest.raises(ValueError, match=r"given together|all weights are 0"):
        DistillConfig(teacher="t", **options)
