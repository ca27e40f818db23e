"""Sharing passes of the network, noticing that it stands still, and when replicas come and go."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext
from tests.annotating import WH, tiny_model
from tests.clock import Clock

from specktrack.models.checkpoint import load_model
from specktrack.models.heatmap.detector import Detector
from specktrack.serving import passes
from specktrack.serving.passes import Watchdog, Window, forward
from specktrack.serving.scaling import keep_sessions


def scaling(requests: float, sessions: list[int], resting: list[int], replicas: int) -> float:
    """What the policy wants at a target of four."""
    reported = {"sessions": dict(enumerate(sessions)), "resting": dict(enumerate(resting))}
    context = AutoscalingContext(
        deployment_id=DeploymentID("Template"), deployment_name="Template", app_name="specktrack",
        current_num_replicas=replicas, target_num_replicas=replicas, running_replicas=[], total_num_requests=requests,
        total_queued_requests=0.0, aggregated_metrics=reported, raw_metrics=None, capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8, policy_state={}, last_scale_up_time=None, last_scale_down_time=None,
        current_time=None, config=AutoscalingConfig(min_replicas=1, max_replicas=8, target_ongoing_requests=4),
    )  # fmt: skip
    return keep_sessions(context)[0]


class TestPulse:
    def test_a_thread_that_stands_still_or_is_gone_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(passes, "time", clock := Clock())
        release = threading.Event()
        with ThreadPoolExecutor(1) as network:
            pulse = Watchdog(network, most_s=10)
            network.submit(int).result()  # whose turn comes after the pulse's own
            clock.now_s += 100
            pulse.check()
            network.submit(int).result()
            network.submit(release.wait, 60)
            pulse.check()
            clock.now_s += 9
            pulse.check()
            clock.now_s += 2
            with pytest.raises(RuntimeError, match="has been busy with one pass for 11 s"):
                pulse.check()
            release.set()
        with pytest.raises(RuntimeError):
            pulse.check()


class TestPasses:
    @pytest.mark.parametrize(("most", "expected"), [(8, [4]), (3, [3, 1]), (1, [1, 1, 1, 1])])
    def test_windows_of_two_clips_share_a_pass_and_get_their_own_heatmaps(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, expected: list[int]
    ) -> None:
        network = load_model(tiny_model(tmp_path / "tiny.safetensors")).network
        detector = Detector(network, device=torch.device("cpu"))
        shape = (4, detector.config.frames_in, WH[1], WH[0], 3)
        pixels = torch.randint(0, 255, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        alone = [detector.heatmaps(frames[None])[0] for frames in pixels]
        counted: list[tuple[str, int]] = []
        monkeypatch.setattr("specktrack.serving.passes.windows_per_pass", lambda _: most)
        heatmaps = forward([Window(detector, "tiny", each) for each in pixels], lambda *seen: counted.append(seen))
        assert counted == [("tiny", count) for count in expected]
        assert all(torch.allclose(one, two, atol=1e-3) for one, two in zip(heatmaps, alone, strict=True))
        assert not torch.allclose(alone[0], alone[1], atol=1e-3)


class TestScaling:
    def test_sessions_are_work_and_no_replica_goes_as_long_as_one_lives(self) -> None:
        assert scaling(8, [], [], 1) == 2 and scaling(1, [0, 0], [0, 0], 2) == 0.25  # Serve's own rule
        assert scaling(2, [6, 4], [4, 4], 2) == 2.5
        assert scaling(0, [1, 0, 0], [1, 0, 0], 3) == 3
        assert scaling(1, [1, 0], [0, 0], 2) == 2
