"""`specktrack bench` measures every stage and refuses what it cannot measure."""

import pytest
from tests.annotating import make_video, tiny_model

from specktrack.errors import ConfigError
from specktrack.verbs.bench import BenchConfig, bench


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_every_stage_has_a_rate(tmp_path):
    video = make_video(tmp_path / "in" / "a.mp4", 60)
    report = bench(BenchConfig(sources=(str(video),), model=tiny_model(tmp_path / "tiny.safetensors"), address="auto"))
    assert (report.videos, report.frames) == (1, 60)
    assert min(report.decode, report.track_one_thread, report.track_all_threads) > 0
    assert report.annotate_here > 0 and report.annotate_on_ray > 0


def test_a_model_that_needs_a_prompt_is_refused():
    with pytest.raises(ConfigError, match="prompt"):
        bench(BenchConfig(model="speckdimp"))
