"""Training template trackers: pairs, synthetic sequences, MKDNet's distillation, and going on after a stop."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.test_template_networks import pairs
from tests.test_template_tracking import tiny

from specktrack.datasets import import_dataset, load_dataset
from specktrack.datasets.patches import PatchesConfig, load_scenes, render_patches, write_patches
from specktrack.errors import ConfigError
from specktrack.frames import FrameBatch, Trajectory, Viewport
from specktrack.models.checkpoint import load_model, save_model
from specktrack.models.template.dimp import Dimp, Outputs, Pairs, Proposals
from specktrack.models.zoo import build, network_config
from specktrack.training import train, validation
from specktrack.training.footage import Reading
from specktrack.training.template import course as template_course
from specktrack.training.template.config import MkdNetDistillConfig, PairConfig, TemplateTrainConfig
from specktrack.training.template.course import TemplateBatch, TemplateCourse, load_teacher
from specktrack.training.template.mkdnet import Discriminator, degrade, distillation, own_loss, teach
from specktrack.training.template.pairs import BoxTrack, PairBatches, PairSampler, cut_sample
from specktrack.training.template.tracks import load_tracks
from specktrack.training.worker import Learner, learn

CPU = torch.device("cpu")
NETWORK = tiny().config
STILL = PairConfig(template_jitter=(0, 0), search_jitter=(0, 0), grey=0, mirrored=0, brightness=0)


def track(frames=40, absent=()):
    boxes = np.tile([30.0, 24.0, 8.0, 6.0], (frames, 1))
    boxes[:, 0] += np.arange(frames) * 0.5
    boxes[list(absent)] = np.nan
    pictures = np.zeros((frames, 64, 96, 3), np.uint8)
    for t, (cx, cy, w, h) in enumerate(np.nan_to_num(boxes)):
        pictures[t, int(cy - h / 2) + 1 : int(cy + h / 2) + 1, int(cx - w / 2) + 1 : int(cx + w / 2) + 1] = 255
    return BoxTrack("t", pictures, boxes)


class TestPairs:
    def test_templates_lie_before_the_searches_within_the_gap_and_where_the_target_is(self):
        sampler = PairSampler([track(absent=[9, 10, 30])], seed=1, config=PairConfig(max_gap=6))
        for number in range(60):
            sample = sampler.sample(number)
            base = sample.templates[0]
            assert max(sample.templates) == base < min(sample.searches)
            assert max(sample.searches) - base <= 6 + 10 and base - min(sample.templates) <= 6 + 10
            assert not {9, 10, 30} & {*sample.templates, *sample.searches}
            assert len(set(sample.templates)) == len(set(sample.searches)) == 3
        assert sampler.sample(7) == PairSampler(
            [track(absent=[9, 10, 30])], seed=1, config=PairConfig(max_gap=6)
        ).sample(7)

    def test_a_picture_shows_the_target_in_its_box(self):
        sampler = PairSampler([track()], seed=0, config=PairConfig(grey=0, brightness=0))
        for number in range(8):
            pictures, boxes = cut_sample(
                track(), sampler.sample(number), NETWORK, sampler.config, sampler.generator(number)
            )
            for picture, (x, y, w, h) in zip(pictures, boxes.tolist(), strict=True):
                if x < 0 or y < 0 or x + w > 64 or y + h > 64:
                    continue
                inside = picture[0, round(y + 1) : round(y + h - 1), round(x + 1) : round(x + w - 1)]
                assert inside.mean() > 0.75 * picture.max() > 0.5
                assert picture[0].sum() == pytest.approx(w * h, rel=0.5)

    def test_ranks_share_one_list_of_samples(self):
        tracks, sampler = [track()], PairSampler([track()], seed=0, config=STILL)

        batches = PairBatches(tracks, sampler, NETWORK, most_skipped=0)
        whole = batches.batch(range(4, 8)).search_boxes_nS4
        for rank in range(2):
            torch.testing.assert_close(batches.batch(range(4 + rank, 8, 2)).search_boxes_nS4, whole[:, rank::2])

    def test_sequences_too_short_for_a_sample_are_refused(self):
        with pytest.raises(ConfigError, match="no sequence has more than 12 frames with a box"):
            PairSampler([track(frames=12)], seed=0, config=PairConfig())
        assert PairSampler([track(frames=12), track(frames=13)], seed=0, config=PairConfig()).sample(0).track == 1

    def test_a_small_dataset_is_drawn_from_as_often_as_a_large_one(self):
        tracks = [replace(track(), dataset=name) for name in "aaaaaaaab"]
        sampler = PairSampler(tracks, seed=0, config=PairConfig())
        drawn = [sampler.sample(number).track for number in range(400)]
        assert 160 < drawn.count(8) < 240 and {*drawn} == {*range(9)}

    @pytest.mark.parametrize(("name", "centre"), [("super-dimp", 5.5), ("dimp50", 4.5), ("speckdimp", 3.5)])
    def test_search_regions_hold_the_targets_centre_and_reach_nearly_to_their_edge(self, name, centre):
        config, network = PairConfig(grey=0, brightness=0, templates=1, searches=8), network_config(name)
        network = network.model_copy(update={"input_wh": (60, 60)})
        boxes = np.tile([400.0, 300.0, 8.0, 8.0], (30, 1))  # far from every edge
        still = BoxTrack("t", np.zeros((30, 600, 800, 3), np.uint8), boxes)
        sampler, offsets = PairSampler([still], seed=0, config=config), []
        for number in range(12):
            _, found = cut_sample(still, sampler.sample(number), network, config, sampler.generator(number))
            offsets += ((found[1:, :2] + found[1:, 2:] / 2 - 30).abs() / 60 * network.search_area).flatten().tolist()
        assert 0.4 * centre < max(offsets) < 0.5 * centre + 0.2  # regions are of whole px
        assert max(offsets) < network.search_area / 2

    def test_some_search_regions_show_no_target_if_told_to(self):
        network = network_config("speckdimp")
        track = BoxTrack("still", [np.zeros((400, 600, 3), np.uint8)] * 20, np.tile([100.0, 100, 10, 10], (20, 1)))
        config = PairConfig(templates=1, searches=1, distractors=0.5)
        sampler = PairSampler([track], seed=0, config=config)
        drawn = [cut_sample(track, sampler.sample(i), network, config, sampler.generator(i))[1] for i in range(60)]
        absent = [bool(boxes[1].isnan().all()) for boxes in drawn]
        assert 15 < sum(absent) < 45 and not any(boxes[0].isnan().any() for boxes in drawn)

    def test_sizes_and_light_vary_as_much_as_they_are_told_to(self):
        config = STILL.model_copy(update={"template_jitter": (0, 0.25), "search_jitter": (0, 0.5), "brightness": 0.2})
        network = NETWORK.model_copy(update={"input_wh": (16, 16)})
        even = BoxTrack("t", np.full((30, 300, 300, 3), 150, np.uint8), np.tile([150.0, 150.0, 20.0, 20.0], (30, 1)))
        sampler, sizes, light = PairSampler([even], seed=0, config=config), [], []
        for number in range(120):
            pictures, boxes = cut_sample(even, sampler.sample(number), network, config, sampler.generator(number))
            sizes.append(boxes[:, 2].log().view(2, 3))
            light.append(pictures.amax(dim=(1, 2, 3)) * 255 / 150)
        templates, searches = torch.stack(sizes, dim=1).flatten(1).std(dim=1).tolist()
        # Of a side; of the region, whose side is the root of the area, a factor of the root of two less.
        assert (templates, searches) == pytest.approx((0.25 / 2**0.5, 0.5 / 2**0.5), rel=0.15)
        assert 0.8 <= float(torch.cat(light).min()) < 0.83 and 1.17 < float(torch.cat(light).max()) <= 1.2001


class TestPatches:
    def test_the_box_is_where_the_thing_was_drawn(self):
        config = PatchesConfig(frames=6, distractors=0, size_px=(12, 20), width_px=128, height_px=96)
        scenes = [np.zeros((1, 200, 260, 3), np.uint8)]  # black things on black: paint the target white
        bright = [np.full((1, 200, 260, 3), 250, np.uint8)]
        from specktrack.datasets import patches

        draw = patches.generator(0, "test", 0)
        thing = patches._Thing.draw(draw, config, bright)
        picture = np.zeros((96, 128, 3), np.float32)
        x0, y0, x1, y1 = thing.paint(picture, 0)
        rows, columns = np.flatnonzero(picture[..., 0].max(1) > 60), np.flatnonzero(picture[..., 0].max(0) > 60)
        assert (columns[0], columns[-1] + 1) == pytest.approx((max(x0, 0), min(x1, 128)), abs=1.3)
        assert (rows[0], rows[-1] + 1) == pytest.approx((max(y0, 0), min(y1, 96)), abs=1.3)
        frames, label = render_patches(config, 0, scenes)
        assert len(frames) == len(label) == 6 and (label.wh_px > 2).all()

    def test_a_sequence_depends_on_its_number_alone(self):
        config = PatchesConfig(frames=3, width_px=96, height_px=64)
        scenes = load_scenes(config)
        one, other = (render_patches(config, 4, scenes) for _ in range(2))
        assert all((a == b).all() for a, b in zip(one[0], other[0], strict=True))

    def test_a_rendered_dataset_is_what_training_reads(self, tmp_path):
        write_patches(PatchesConfig(sequences=2, frames=8, width_px=96, height_px=64), str(tmp_path / "d"))
        dataset = load_dataset(str(tmp_path / "d"))
        assert dataset.rows.num_rows == 16 and dataset.rows["w"].null_count == 0
        tracks = load_tracks((str(tmp_path / "d"),), reading=Reading(tmp_path / "cache"))
        assert len(tracks) == 2 and tracks[0].pictures[3].shape == (64, 96, 3) and tracks[0].boxes.shape == (8, 4)


BOXES = "".join(f"{10 + 3 * i},20,12,9\n" for i in range(8))
NO = {"out_of_view.txt": ",".join("0" * 8), "full_occlusion.txt": ",".join("0" * 8)}
BENCHMARKS = {
    "got10k": ("train/GOT_1/groundtruth.txt", "train/GOT_1", {"absence.label": "0\n" * 8}),
    "lasot": ("drone/drone-1/groundtruth.txt", "drone/drone-1/img", NO),
    "trackingnet": ("TRAIN_0/anno/x_0.txt", "TRAIN_0/frames/x_0", {}),
    "latot": ("TOT/boat2/boat2.txt", "TOT/boat2/img", {}),
}
"""The labels' file, the pictures' folder, and files beside the labels."""


@pytest.mark.parametrize("layout", BENCHMARKS)
def test_benchmarks_of_tracking_are_training_data(layout, tmp_path):
    labels, pictures, beside = BENCHMARKS[layout]
    for name, text in {labels: BOXES, **{str(Path(labels).with_name(n)): text for n, text in beside.items()}}.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(text)
    (tmp_path / "in" / pictures).mkdir(parents=True, exist_ok=True)
    for i in range(8):
        pixels = np.zeros((64, 96, 3), np.uint8)
        pixels[20:29, 10 + 3 * i : 22 + 3 * i] = 255
        Image.fromarray(pixels).save(tmp_path / "in" / pictures / f"{i + 1:08d}.jpg", quality=100)
    import_dataset(layout, str(tmp_path / "in"), str(tmp_path / "out"))
    tracks = load_tracks((str(tmp_path / "out"),), reading=Reading(tmp_path / "cache"))
    assert [track.boxes.shape for track in tracks] == [(8, 4)]
    sampler = PairSampler(tracks, seed=0, config=STILL.model_copy(update={"templates": 1, "searches": 2}))
    batch = PairBatches(tracks, sampler, NETWORK, most_skipped=0).batch(range(4))
    for picture, box in zip(batch.search_nSCHW.flatten(0, 1), batch.search_boxes_nS4.flatten(0, 1), strict=True):
        x, y, w, h = box.tolist()
        inside = picture[:, round(y) + 1 : round(y + h) - 1, round(x) + 1 : round(x + w) - 1]
        assert inside.mean() > 0.75 * picture.max() > 0.5


class TestMkdNet:
    @pytest.mark.parametrize("seed", [0, 1])  # the first coin shows the nearest, the second bilinear
    def test_degrading_leaves_as_many_px_as_a_tiny_target_has(self, seed):
        clean = pairs()  # targets of 14 px in pictures of 64
        mode = "nearest" if torch.rand((), generator=torch.Generator().manual_seed(seed)) < 0.5 else "bilinear"
        assert mode == ["nearest", "bilinear"][seed]
        found = degrade(clean, tiny_px=7.0, swapped=False, generator=torch.Generator().manual_seed(seed))
        for before, after in ((clean.template_nSCHW, found.template_nSCHW), (clean.search_nSCHW, found.search_nSCHW)):
            small = F.interpolate(before.flatten(0, 1), (32, 32), mode="bicubic")
            wanted = F.interpolate(small, (64, 64), mode=mode).clamp(0, 1)
            torch.testing.assert_close(after.flatten(0, 1), wanted)
        same = degrade(clean, tiny_px=20.0, swapped=False, generator=torch.Generator())
        torch.testing.assert_close(same.search_nSCHW, clean.search_nSCHW, atol=1e-5, rtol=0)  # nothing is enlarged

    @pytest.mark.parametrize("swapped", [False, True])
    def test_the_released_code_squeezes_rows_by_the_width(self, swapped):
        stripes = torch.zeros(1, 1, 3, 64, 64)
        stripes[..., ::2, :] = 1.0  # that only rows can lose
        clean = Pairs(stripes, torch.tensor([[[0.0, 0, 28, 14]]]), stripes, torch.tensor([[[0.0, 0, 28, 14]]]))
        found = degrade(clean, tiny_px=14.0, swapped=swapped, generator=torch.Generator().manual_seed(0)).search_nSCHW
        assert (found.std() < 0.1) == swapped

    def both(self, preset="paper", **levels):
        """Losses of a student and a teacher on the same pictures, and the distillation between them."""
        torch.manual_seed(3)
        student, teacher = tiny().network.train(), build(NETWORK).eval()
        clean = pairs()
        proposals = Proposals.draw(clean.search_boxes_nS4, 16, torch.Generator().manual_seed(0))
        config = MkdNetDistillConfig(teacher="t", preset=preset, **levels)
        judge = Discriminator((8, 8), preset=preset)
        taught = teach(teacher, student, clean, proposals, config, dtype=torch.float32)
        outputs = student.outputs(clean, proposals)
        ours, theirs = student.losses(outputs, clean, proposals), teacher.losses(taught, clean, proposals)
        return student, ours, theirs, outputs, taught, judge, config

    def test_the_gate_closes_where_the_teacher_is_worse(self):
        _, ours, theirs, outputs, taught, judge, config = self.both()
        worse = {**theirs, "boxes": ours["boxes"] + 1, "scores_mean": ours["scores_mean"] + 1}
        assert distillation(ours, worse, outputs, taught, judge, config)["distilled"] == 0
        better = {**theirs, "boxes": ours["boxes"] - 0.5, "scores_mean": ours["scores_mean"] - 0.25}
        result = distillation(ours, better, outputs, taught, judge, config)
        assert (float(result["gate_boxes"]), float(result["gate_scores"])) == pytest.approx((0.5, 0.25))

    def test_each_level_adds_its_own_term_and_they_add_up(self):
        def distilled(**levels):
            _, ours, theirs, outputs, taught, judge, config = self.both(**levels)
            better = {**theirs, "boxes": ours["boxes"] - 0.5, "scores_mean": ours["scores_mean"] - 0.25}
            torch.manual_seed(0)
            return float(distillation(ours, better, outputs, taught, judge, config)["distilled"].detach())

        off = {"features": False, "scores": False, "boxes": False}
        alone = [distilled(**{**off, level: True}) for level in off]
        assert distilled(**off) == 0 and all(term > 0 for term in alone)
        assert distilled() == pytest.approx(sum(alone), rel=1e-5)

    def test_by_hand(self):
        """One gate of 0.5 on box scores that differ by 2 everywhere: 0.5 x 0.1 x 2."""
        _, ours, theirs, outputs, taught, _, config = self.both(features=False, scores=False)
        moved = type(taught)(taught.scores, taught.pooled, outputs.box_score_BN.detach() + 2)
        better = {**theirs, "boxes": ours["boxes"] - 0.5}
        assert float(distillation(ours, better, outputs, moved, None, config)["distilled"].detach()) == pytest.approx(
            0.1
        )

    @pytest.mark.parametrize(("preset", "total"), [
        # gates of boxes and scores 0.5 and 0.25; the judges have no opinion: ln 2 each
        ("paper", 0.5 * (math.log(2) + 5 * (1 + 2) + 0.1 * 3) + 0.25 * 2 * 32),
        ("released", 0.5 * (2 * math.log(2) + 5 * (1 + 2) + 0.05 * 3) + 0.25 * 4 * (1 + 2)),
    ])  # fmt: skip
    def test_all_terms_by_hand(self, preset, total):
        maps = [torch.full((1, 1, 3, 3), 2.0**i) for i in range(6)]
        pooled = torch.ones(1, 2, 8, 5, 5), torch.full((1, 2, 8, 3, 3), 2.0)
        taught = Outputs(maps, pooled, torch.full((1, 2), 3.0))
        none = Outputs([m * 0 for m in maps], (pooled[0] * 0, pooled[1] * 0), torch.zeros(1, 2))
        judge = Discriminator((8, 8), preset=preset)
        for parameter in judge.parameters():
            torch.nn.init.zeros_(parameter)
        ours, name = {"boxes": torch.tensor(2.0)}, {"paper": "scores_mean", "released": "scores"}[preset]
        ours[name] = torch.tensor(1.0)
        theirs = {"boxes": torch.tensor(1.5), name: torch.tensor(0.75)}
        config = MkdNetDistillConfig(teacher="t", preset=preset)
        result = distillation(ours, theirs, none, taught, judge, config)["distilled"]
        assert float(result.detach()) == pytest.approx(total)

    @pytest.mark.parametrize("preset", ["paper", "released"])
    def test_no_gradient_passes_the_papers_gate(self, preset):
        _, ours, theirs, outputs, taught, judge, config = self.both(preset)
        boxes = (theirs["boxes"] + 1).detach().requires_grad_()
        distillation({**ours, "boxes": boxes}, theirs, outputs, taught, judge, config)["distilled"].backward()
        assert (boxes.grad is None) == (preset == "paper")

    @pytest.mark.parametrize(("preset", "judges"), [("paper", 1), ("released", 2)])
    def test_the_student_wants_to_be_taken_for_the_teacher(self, preset, judges):
        judge, pooled = Discriminator((8, 8), preset=preset), (torch.ones(1, 2, 8, 5, 5), torch.ones(1, 2, 8, 3, 3))
        for opinion, wanted in ((20.0, 0.0), (-20.0, 20.0 * judges)):
            for one in judge.judges:
                torch.nn.init.zeros_(one[-1].weight)
                torch.nn.init.constant_(one[-1].bias, opinion)
            assert float(judge.deception(pooled).detach()) == pytest.approx(wanted, abs=1e-6)

    def test_the_paper_weighs_the_mean_over_filters_and_the_released_code_each(self):
        _, ours, *_, config = self.both()
        student = tiny().network
        each = [student._score_loss(score, pairs().search_boxes_nS4) for score in self.both()[3].scores]
        assert len(each) == 6
        boxes = ours["loss"] - 100 * (each[0] + each[-1] + sum(each[1:-1]))
        torch.testing.assert_close(own_loss(ours, NETWORK, config), 100 * sum(each) / 5 + boxes)
        released = config.model_copy(update={"preset": "released"})
        assert own_loss(ours, NETWORK, released) is ours["loss"]

    def test_between_one_step_there_is_no_filter(self):
        target = NETWORK.target_model.model_copy(update={"iterations": 1})
        network = build(NETWORK.model_copy(update={"target_model": target}))
        batch = pairs()
        proposals = Proposals.draw(batch.search_boxes_nS4, 4, torch.Generator().manual_seed(0))
        outputs = network.outputs(batch, proposals)
        first, last = (network._score_loss(score, batch.search_boxes_nS4) for score in outputs.scores)
        torch.testing.assert_close(network.losses(outputs, batch, proposals)["scores"], 100 * (first + last))

    @pytest.mark.parametrize("preset", ["paper", "released"])
    def test_the_released_teachers_norms_see_the_batch(self, preset):
        teacher, clean = build(NETWORK).eval(), pairs()
        proposals = Proposals.draw(clean.search_boxes_nS4, 4, torch.Generator().manual_seed(0))
        before = teacher.feature_extractor.bn1.running_mean.clone()
        config = MkdNetDistillConfig(teacher="t", preset=preset)
        teach(teacher, tiny().network, clean, proposals, config, dtype=torch.float32)
        assert torch.equal(teacher.feature_extractor.bn1.running_mean, before) == (preset == "paper")

    @pytest.mark.parametrize(("preset", "judges"), [("paper", 1), ("released", 2)])
    def test_the_discriminator_learns_to_tell_and_never_moves_the_student(self, preset, judges):
        student, _, _, outputs, taught, judge, _ = self.both(preset)
        assert len(judge.judges) == judges
        optimizer, losses = torch.optim.Adam(judge.parameters(), 1e-3), []
        for _ in range(30):
            loss = judge.loss(outputs.pooled, taught.pooled)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 < losses[0] and all(p.grad is None for p in student.parameters())


class Training:
    """A course on two rendered sequences, and its state; ``teacher.safetensors`` is there to be distilled."""

    def __init__(self, folder, *, seed=0, **options):
        if not (folder / "data").exists():
            write_patches(PatchesConfig(sequences=2, frames=6, width_px=96, height_px=64), str(folder / "data"))
            save_model(folder / "teacher.safetensors", tiny().network, tiny().card)
        settings = {
            "data": [str(folder / "data")], "output": "o", "cache": str(folder / "cache"), "network": NETWORK,
            "steps": 6, "batch_size": 2, "warmup_steps": 2, "pairs": {"templates": 1, "searches": 1}, **options,
        }  # fmt: skip
        self.course = TemplateCourse(TemplateTrainConfig.model_validate(settings), CPU)
        torch.manual_seed(seed)
        self.state = self.course.state(build(NETWORK))
        self.learner = Learner(self.course, self.state)

    def learn(self, shown=None):
        shown = shown or pairs()
        return learn(self.learner, self.state, (TemplateBatch(shown, seed=self.state.step),))


def distil(folder, **more):
    return {"distill": MkdNetDistillConfig(teacher=str(folder / "teacher.safetensors"), tiny_px=7, **more)}


@pytest.mark.parametrize("distill", [False, True])
def test_a_restored_state_goes_on_exactly(tmp_path, distill):
    options = distil(tmp_path) if distill else {}
    whole, first = Training(tmp_path, **options), Training(tmp_path, **options)
    losses = [float(whole.learn()["loss"]) for _ in range(4)]
    for _ in range(2):
        first.learn()
    first.state.save(tmp_path)
    second = Training(tmp_path, seed=9, **options)
    second.state.restore(tmp_path)
    assert [float(second.learn()["loss"]) for _ in range(2)] == losses[2:]
    for part, module in whole.state.trained.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, second.state.trained[part].state_dict()[name]), name


def test_a_shard_of_a_step_is_drawn_alike_whoever_asks(tmp_path):
    course = Training(tmp_path, batch_size=4).course
    one, again, other = (course.samples(numbers) for numbers in (range(9, 12, 2), range(9, 12, 2), range(8, 12, 2)))
    assert one.seed == again.seed != other.seed
    assert torch.equal(one.pairs.search_nSCHW, again.pairs.search_nSCHW)
    assert not torch.equal(one.pairs.search_nSCHW, other.pairs.search_nSCHW)


def test_the_student_goes_down_the_sum_of_its_own_loss_and_what_is_distilled(tmp_path, monkeypatch):
    """A distillation that takes the student's own loss away leaves nothing to learn."""
    lessons = Training(tmp_path, **distil(tmp_path))
    monkeypatch.setattr(template_course, "distillation", lambda results, *_: {"distilled": -results["loss"]})
    before = {name: tensor.clone() for name, tensor in lessons.state.network.named_parameters()}
    lessons.learn()
    assert lessons.state.step == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in lessons.state.network.named_parameters())


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_discriminator_learns_from_its_own_loss_alone(preset, tmp_path, monkeypatch):
    """The student's wish to deceive it, in the same backward pass, does not reach it; nor its loss the student."""
    lessons, told = Training(tmp_path, **distil(tmp_path, preset=preset)), []
    discriminator = lessons.state.trained["discriminator"]
    own = Discriminator.loss
    monkeypatch.setattr(Discriminator, "loss", lambda *given: told.append(given[1:]) or own(*given))
    loss, _ = lessons.learner(TemplateBatch(pairs(), seed=0))
    loss.backward()
    together = [parameter.grad.clone() for parameter in discriminator.parameters()]
    alone = torch.autograd.grad(own(discriminator, *told[0]), list(discriminator.parameters()))
    for ours, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, wanted)
    before = [parameter.detach().clone() for parameter in discriminator.parameters()]
    lessons.state.apply()
    moved = [not torch.equal(now, then) for now, then in zip(discriminator.parameters(), before, strict=True)]
    assert any(moved) and all(parameter.grad is None for parameter in discriminator.parameters())


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_teacher_sees_clean_pictures_and_its_weights_stay(preset, tmp_path, monkeypatch):
    lessons = Training(tmp_path, **distil(tmp_path, preset=preset))
    seen, outputs, teacher = {}, Dimp.outputs, lessons.course._teacher

    def noted(network, shown, proposals, **options):
        seen["student" if network is lessons.state.network else "teacher"] = shown
        return outputs(network, shown, proposals, **options)

    monkeypatch.setattr(Dimp, "outputs", noted)
    before = {name: tensor.clone() for name, tensor in teacher.named_parameters()}
    clean = pairs()
    for _ in range(2):
        lessons.learn(clean)
    assert torch.equal(seen["teacher"].search_nSCHW, clean.search_nSCHW)
    assert not torch.equal(seen["student"].search_nSCHW, clean.search_nSCHW)
    assert not torch.equal(seen["student"].template_nSCHW, clean.template_nSCHW)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.named_parameters())


@pytest.mark.parametrize("distill", [False, True])
def test_a_step_that_is_not_finite_changes_nothing_but_the_count(tmp_path, distill):
    lessons = Training(tmp_path, **(distil(tmp_path) if distill else {}))
    lessons.learn()
    trained = lessons.state.trained.values()
    before = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in trained]
    clean = pairs()
    dazzling = replace(clean, template_nSCHW=clean.template_nSCHW * torch.inf)
    lessons.learn(dazzling)
    assert (lessons.state.step, lessons.state.skipped) == (2, 1)
    for part, then in zip(trained, before, strict=True):
        now = part.state_dict()
        assert all(torch.equal(now[name], tensor) for name, tensor in then.items() if tensor.is_floating_point())


def test_learning_rates_go_by_the_longest_name_and_others_stay_as_they_are(tmp_path):
    lessons = Training(tmp_path, learning_rates={"bb_regressor": 1e-3, "bb_regressor.conv3": 1e-4})
    state = lessons.state
    before = {name: tensor.clone() for name, tensor in state.network.named_parameters()}
    assert sorted(group["lr"] for group in state.optimizer.param_groups) == [1e-4, 1e-3]
    lessons.learn()
    moved = {name for name, tensor in state.network.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved and all(name.startswith("bb_regressor") for name in moved)


def test_the_weights_that_follow_held_out_sequences_best_are_kept(tmp_path):
    """In shards and in bf16, as networks of any family."""
    for name, seed in (("data", 0), ("held-out", 1)):
        write_patches(PatchesConfig(sequences=2, frames=6, seed=seed, width_px=96, height_px=64), str(tmp_path / name))
    settings = {
        "data": [str(tmp_path / "data")], "validation": [str(tmp_path / "held-out")], "output": str(tmp_path / "run"),
        "cache": str(tmp_path / "cache"), "network": NETWORK, "steps": 3, "batch_size": 4, "shards": 2,
        "precision": "bf16", "pairs": {"templates": 1, "searches": 1}, "workers": 0, "gpu": False,
        "validate_every": 1, "keep": "success_auc", "learning_rates": {"": 0.05}, "warmup_steps": 0,
    }  # fmt: skip
    config = TemplateTrainConfig.model_validate(settings)
    report = train(config)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = [line["success_auc"] for line in lines if line["kind"] == "validation"]
    assert len(measured) == 3 and set(report.validation) == {"success_auc", "pointing"}
    assert report.validation["success_auc"] == pytest.approx(max(measured))
    again = TemplateCourse(config, CPU).measure(load_model(tmp_path / "run").network)
    assert again == pytest.approx(report.validation)


class Telling:
    """A tracker that says the boxes it was given, and session of itself."""

    def __init__(self, boxes):
        self.boxes, self.prompt = np.array(boxes, np.float32), None

    def open(self, prompt):
        self.prompt = prompt
        return self

    def push(self, batch):
        told = self.boxes[batch.frame]
        return Trajectory(batch.frame, batch.pts_s, told[:, :2], np.ones(len(told), np.float32), wh_px=told[:, 2:])

    def finish(self):
        return Trajectory.empty()


def test_a_sequence_is_followed_from_its_first_box_and_counted_where_it_has_one(monkeypatch):
    nowhere, size = [np.nan] * 4, (96, 64)
    label = np.array([nowhere, [20, 20, 10, 10], [30, 20, 10, 10], nowhere, [50, 20, 10, 10]])
    # In the box of frame 2 by half its width: an overlap of a third. Far from that of frame 4.
    telling = Telling([[0, 0, 5, 5], [0, 0, 5, 5], [35, 20, 10, 10], [0, 0, 5, 5], [80, 50, 10, 10]])
    monkeypatch.setattr(validation, "_tracker", lambda *_: telling)
    pixels = np.zeros((5, 64, 96, 3), np.uint8)
    frames = [FrameBatch(pixels, np.arange(5), np.arange(5) / 30, Viewport(size, size))]
    found = validation.validate_boxes(build(NETWORK), [(label, frames)], CPU)
    assert telling.prompt.frame == 1 and telling.prompt.box.cx_px == 20
    assert found["pointing"] == 0.5
    assert found["success_auc"] == pytest.approx((20 / 21 + 7 / 21) / 3)  # the prompt's own frame counts, as in OTB


@pytest.mark.parametrize(("options", "message"), [
    ({"keep": "f1", "validation": ["v"]}, "keep=f1 is not measured for such networks: use success_auc or pointing"),
    ({"keep": "pointing"}, "keep=pointing chooses by validation: give validation"),
    ({"validate_every": 0}, "validate_every"),
    ({"shards": 4, "batch_size": 4}, "two sequences in every shard"),
    ({"batch_size": 7, "workers": 2}, "batch_size 7 must be a multiple of workers 2"),
    ({"batch_size": 2, "workers": 2}, "batch_size 2: the box head's norms need two sequences in every shard"),
    ({"network": "specknet"}, "network"),
    ({"network": "atom", "init": "i", "distill": {"teacher": "t"}}, "ATOM's target model is not trained"),
    ({"network": "super-dimp"}, "first stages are frozen and would stay random: give initial weights"),
    ({"pairs": {"template": 2}}, "unknown key 'pairs.template'; did you mean 'templates'"),
])  # fmt: skip
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TemplateTrainConfig.parse({"data": ["d"], "output": "o", **options}, environment={})


@pytest.mark.parametrize(("teacher", "student", "message"), [
    ("specknet", "speckdimp", r"only a template network can teach a template network: 'specknet'"),
    ("speckdimp", "mkdnet", r"the teacher's input_wh is not the student's, \(352, 352\): '\(144, 144\)'"),
    ("speckdimp", {"name": "speckdimp", "target_model": {"features": 96, "iterations": 3}}, "teacher's target_model"),
])  # fmt: skip
def test_a_teacher_that_cannot_teach_is_refused(teacher, student, message):
    with pytest.raises(ConfigError, match=message):
        load_teacher(teacher, network_config(student))
    assert load_teacher("speckdimp", network_config("speckdimp")).config.name == "speckdimp"


def test_pairs_go_to_a_device():
    assert isinstance(pairs().to(CPU), Pairs)
