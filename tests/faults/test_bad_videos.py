"""Every bad video ends as rows or as a quarantine with its reason, quickly and in bounded memory."""

import time
from pathlib import Path

import pytest
from tests.faults.corpus import CORPUS, Bad, make

from specktrack.annotate.clips import annotate_clip
from specktrack.errors import MediaError
from specktrack.models import build
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.windowed_entries import SpeckNetConfig
from specktrack.schema import Clip
from specktrack.storage import stat
from specktrack.tracking import Tracker, make_tracker
from specktrack.video.process import DecoderProcess

MOST_RSS_KB = 1024 * 1024
MOST_S = 30.0
"""Refusals take milliseconds; a machine under load must not make this test fail."""


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    network = build(SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=4, input_wh=(80, 48)))
    return make_tracker(Model(network.eval(), ModelCard(name="random", network=network.config)), device="cpu")


@pytest.fixture(scope="module")
def decoder():
    with DecoderProcess() as process:
        yield process


def peak_kb(decoder: DecoderProcess) -> int:
    status = Path(f"/proc/{decoder.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name[:24])
def test_it_ends_as_rows_or_with_its_reason(bad: Bad, tracker: Tracker, decoder: DecoderProcess, tmp_path: Path):
    ref = stat(str(make(tmp_path, bad)))
    started, error, rows = time.monotonic(), None, 0
    try:
        info = decoder.probe(ref)
        result = annotate_clip(tracker, Clip(video=ref, start=0, stop=info.frames), info, decoder)
        error, rows = result.error, len(result.trajectory)
    except MediaError as refusal:
        error = refusal
    reason = None if error is None else error.reason
    assert time.monotonic() - started < MOST_S
    assert (reason in bad.reasons) if bad.reasons else (reason is None and rows > 0), f"{reason}: {error}"
    assert peak_kb(decoder) < MOST_RSS_KB
