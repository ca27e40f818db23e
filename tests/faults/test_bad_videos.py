"""Every bad video ends as rows or as a quarantine with its reason, quickly and in bounded memory."""

import os
import time
from pathlib import Path

import boto3
import pytest
from tests.faults.corpus import CORPUS, Bad, make
from tests.videos import FRAMES, encode

from specktrack.annotating.clips import ClipResult, annotate_clip
from specktrack.errors import MediaError
from specktrack.frames import Trajectory
from specktrack.ledger import Ledger, read_annotations
from specktrack.models.checkpoint import Model, ModelCard
from specktrack.models.heatmap.entries import SpeckNetConfig
from specktrack.models.zoo import build
from specktrack.schema import Clip
from specktrack.storage import open_store, stat
from specktrack.tracking.tracker import Tracker, tracker_of
from specktrack.video.process import DecoderProcess

MOST_RSS_KB = 512 * 1024
MOST_CPU_S = 2.0
"""Of the decoder's, for a refusal; on a machine under load its wall time says nothing."""
MOST_S = 30.0


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    network = build(SpeckNetConfig(widths=(8, 8, 16, 16), frames_in=4, input_wh=(80, 48)))
    return tracker_of(Model(network.eval(), ModelCard(name="random", network=network.config)), device="cpu")


@pytest.fixture
def decoder():
    with DecoderProcess() as process:
        yield process


def peak_kb(decoder: DecoderProcess) -> int:
    status = Path(f"/proc/{decoder.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def cpu_s(decoder: DecoderProcess) -> float:
    fields = Path(f"/proc/{decoder.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def annotated(uri: str, tracker: Tracker, decoder: DecoderProcess) -> ClipResult:
    """What annotating the whole video as one clip ends with."""
    try:
        ref = stat(uri)
        info = decoder.probe(ref)
        return annotate_clip(tracker, Clip(video=ref, start=0, stop=info.frames), info, decoder)
    except MediaError as refusal:
        return ClipResult(Trajectory.empty(), 0, refusal)


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name[:24])
def test_it_ends_as_rows_or_with_its_reason(bad: Bad, tracker: Tracker, decoder: DecoderProcess, tmp_path: Path):
    path = make(tmp_path, bad)
    started = time.monotonic()
    result = annotated(str(path), tracker, decoder)
    assert time.monotonic() - started < MOST_S
    assert (result.error and result.error.reason) == bad.reason, str(result.error)
    assert len(result.trajectory) >= bad.rows
    assert result.trajectory.frame.tolist() == list(range(len(result.trajectory)))
    assert (result.decode_errors > 0) == bad.damaged
    assert peak_kb(decoder) < MOST_RSS_KB
    assert cpu_s(decoder) < MOST_CPU_S or bad.reason is None


def test_a_key_as_long_as_s3_allows(tracker: Tracker, decoder: DecoderProcess, tmp_path: Path, s3: str):
    key = "/".join(["観" * 80, "n" * 240, "o" * 240, "p" * 240, "q" * 56]) + ".mp4"
    assert len(key.encode()) == 1024
    boto3.client("s3").put_object(Bucket=s3, Key=key, Body=encode(tmp_path / "a.mp4").read_bytes())
    uri = f"s3://{s3}/{key}"
    result = annotated(uri, tracker, decoder)
    assert result.error is None and len(result.trajectory) == FRAMES
    ledger = Ledger(open_store(f"s3://{s3}/out"), "model", "config")
    ledger.commit(Clip(video=stat(uri), start=0, stop=FRAMES), result.trajectory.to_rows(uri))
    assert read_annotations(f"s3://{s3}/out").num_rows == FRAMES
