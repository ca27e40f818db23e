"""Whatever is killed, whenever: no row is lost, none is there twice, nothing complete is done again.

The names B-1 ... B-15 are those of docs/reliability.md.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pytest
from ray.cluster_utils import Cluster
from tests.annotating import make_video, run
from tests.conftest import S3_ENVIRONMENT
from tests.faults.conftest import CLIPS, FRAMES, Driver, driver
from tests.faults.flaky_s3 import flaky_s3

from specktrack.annotating import AnnotateConfig, AnnotateReport
from specktrack.errors import StorageError
from specktrack.frames import Trajectory
from specktrack.ledger import Ledger, collect_garbage, read_annotations, read_records
from specktrack.schema import Clip, VideoRef
from specktrack.storage import open_store

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

WORKER = "ray::MapWorker(FlatMap(Annotator"
DECODER = "specktrack.video.child"
"""Decoder processes, and the process that forks them."""


@contextmanager
def meanwhile(every_s: float, act: object) -> Iterator[None]:
    """Call ``act`` every so often in a thread."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(every_s):
            act()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def finished(process: Driver) -> AnnotateReport:
    out, err = process.output(timeout=800)
    assert process.returncode == 0, err[-3000:]
    return AnnotateReport.model_validate_json(out.splitlines()[-1], extra="ignore")


def children_of(root: int) -> set[int]:
    """All processes below one."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = set(), {root}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in found} - found
    return found - {root}


def kill_one(title: str, below: int, draw: random.Random, killed: list[int], sign: int = signal.SIGKILL) -> None:
    """Kill one process of the run with this in its title."""
    own = children_of(below)
    candidates = [pid for pid in sorted(own) if title in _title(pid) and pid not in killed]
    if candidates:
        killed.append(draw.choice(candidates))
        try:
            os.kill(killed[-1], sign)
        except ProcessLookupError:
            killed.pop()


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def records(output: str | Path) -> int:
    return len(list(Path(output).glob("records/*/*.json")))


def after_every(clips: int, config: AnnotateConfig, process: Driver) -> Iterator[int]:
    """1, 2, ... each time that the run has committed so many clips more, until it ends."""
    done = count = 0
    while process.poll() is None:
        if records(config.output) >= done + clips:
            done, count = records(config.output), count + 1
            yield count
        time.sleep(0.05)


@pytest.fixture(scope="module")
def calm_s(archive: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long an undisturbed run takes now, on this machine."""
    report = finished(driver(run(model, tmp_path_factory.mktemp("calm") / "out", archive, address="local")))
    assert report.committed == CLIPS and report.repeated == 0
    return report.wall_s


@pytest.mark.parametrize("victim", [WORKER, DECODER], ids=["workers", "decoders"])
def test_b1_workers_and_decoders_killed_at_random(victim, archive, model, undisturbed, calm_s, tmp_path):
    config = run(model, tmp_path / "out", archive, address="local")
    process, killed, draw = driver(config), [], random.Random(1)
    for _ in after_every(8, config, process):
        kill_one(victim, process.pid, draw, killed)
    report = finished(process)
    print(
        f"{len(killed)} killed, {report.repeated} clips begun again, {report.committed} in {report.wall_s:.0f} s, "
        f"{report.wall_s / calm_s:.2f} times an undisturbed run"
    )
    assert len(killed) >= 20 and report.committed == CLIPS and not report.quarantined
    assert report.repeated <= (2 * len(killed) if victim == WORKER else 0)  # a worker holds one clip, and is given one
    assert read_annotations(config.output).equals(undisturbed)


@pytest.fixture
def cluster(monkeypatch) -> Iterator[Cluster]:
    """Ray's processes of several nodes on this machine; a dead node is noticed within seconds."""
    environment = {
        "PYTHONPATH": os.pathsep.join(["platform", "."]),
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_initial_delay_ms": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "4",
    }
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    cluster = Cluster()
    yield cluster
    cluster.shutdown()


NODE = {"object_store_memory": 100 * 2**20, "include_dashboard": False}


def test_b2_nodes_killed_at_random(cluster, archive, model, undisturbed, tmp_path):
    cluster.add_node(num_cpus=1, **NODE)  # the head, where the driver is; it stays
    nodes = [cluster.add_node(num_cpus=1, **NODE) for _ in range(2)]
    config = run(model, tmp_path / "out", archive, address=cluster.address, workers=3)
    process, killed, draw = driver(config), [], random.Random(2)
    for _ in after_every(25, config, process):
        killed.append(nodes.pop(draw.randrange(len(nodes))))
        cluster.remove_node(killed[-1], allow_graceful=False)
        nodes.append(cluster.add_node(num_cpus=1, **NODE))
    report = finished(process)
    print(f"{len(killed)} nodes killed, {report.repeated} clips begun again, run in {report.wall_s:.0f} s")
    assert len(killed) >= 5 and report.committed == CLIPS and not report.quarantined
    assert report.repeated <= 3 * len(killed)  # and where results lay on the node, the clips that they were of
    assert read_annotations(config.output).equals(undisturbed)


def test_b3_the_driver_killed_early_halfway_and_late(archive, model, undisturbed, tmp_path):
    config = run(model, tmp_path / "out", archive, address="local")
    standing: dict[str, object] = {}
    for share in (0.1, 0.5, 0.9):
        process = driver(config)
        while records(config.output) < share * CLIPS:
            assert process.poll() is None, process.output()[1][-3000:]
            time.sleep(0.01)
        process.kill()
        process.output()
        now = {record.key: record for record in read_records(config.output)}
        assert all(now[key] == record for key, record in standing.items())
        standing = now
    report = finished(driver(config))
    rows = {path.name for path in (tmp_path / "out/data").rglob("*.parquet")}
    print(f"{report.resumed} clips stood, {report.repeated} repeated; {len(rows) - CLIPS} were under way at a kill")
    assert report.resumed >= len(standing) and report.resumed + report.committed == CLIPS and report.repeated == 0
    assert report.frames <= sum(r.rows for r in read_records(config.output) if r.key not in standing)
    assert {r.key: r for r in read_records(config.output)}.items() >= standing.items()
    assert len(rows) <= CLIPS + 3 * config.workers  # a clip that is done again leaves its first rows behind
    assert read_annotations(config.output).equals(undisturbed)


def test_b5_two_drivers_on_one_output(archive, model, undisturbed, tmp_path):
    videos = sorted(archive.glob("*.mp4"))[:10]
    config = run(model, tmp_path / "out", *videos, address="local")
    reports = [finished(process) for process in [driver(config), driver(config)]]
    found_open = [report.committed for report in reports]
    print(f"of {5 * len(videos)} clips, each found so many without a record: {found_open}")
    assert all(found_open) and not any(report.quarantined for report in reports)
    assert len(list((tmp_path / "out/data").rglob("*.parquet"))) == records(config.output) == 5 * len(videos)
    assert read_annotations(config.output).equals(undisturbed.slice(0, FRAMES * len(videos)))


def test_b6_a_store_that_slows_down_resets_cuts_short_and_goes_away(
    archive, model, undisturbed, s3_server, tmp_path, monkeypatch
):
    for name, text in {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, text)
    bucket = f"faults-{os.getpid()}-{time.monotonic_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    for path in sorted(archive.glob("*.mp4"))[:20]:
        open_store(f"s3://{bucket}/in").put(path.name, path.read_bytes())
    config = run(model, f"s3://{bucket}/out", f"s3://{bucket}/in", address="local")
    with flaky_s3(s3_server, slow_down=0.05, reset=0.01, short=0.02) as (url, seen, handler):
        process = driver(config, AWS_ENDPOINT_URL=url)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() < begun + 12:
            time.sleep(0.1)
        handler.outage = (time.monotonic(), time.monotonic() + 30)
        report = finished(process)
    tries = max(handler.tries.values())
    print(f"{dict(seen)}, at most {tries} tries of one request, {report.committed} clips in {report.wall_s:.0f} s")
    assert min(seen["slow_down"], seen["reset"], seen["short"], seen["outage"]) > 0 and tries <= 8
    assert report.committed == CLIPS // 2 and not report.quarantined
    rows = read_annotations(config.output)
    expected = undisturbed.slice(0, len(undisturbed) // 2)
    assert rows.drop_columns(["video"]).equals(expected.drop_columns(["video"]))


def test_b6_a_byte_changed_on_the_way_is_noticed_every_time(s3_server, tmp_path, monkeypatch):
    """By the hash in the record: the client's own checksum is off, as with servers that have none."""
    settings = {"AWS_ENDPOINT_URL": s3_server, "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}
    for name, text in {**S3_ENVIRONMENT, **settings}.items():
        monkeypatch.setenv(name, text)
    bucket = f"faults-{os.getpid()}-{time.monotonic_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    ledger = Ledger(open_store(f"s3://{bucket}/out"), "model", "config")
    ref = VideoRef(uri="file:///in/a.mp4", etag="1", size_bytes=1)
    for start in range(0, 600, 3):
        ledger.commit(Clip(video=ref, start=start, stop=start + 3), _drawn(start).to_rows(ref.uri))
    records = read_records(ledger.store.uri)
    with flaky_s3(s3_server, corrupt="/data/") as (url, seen, handler):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        for record in records:
            with pytest.raises(StorageError, match=f"differ from its recorded SHA-256.*{record.data_uri}"):
                ledger.store.get(record.data_uri, sha256=record.sha256)
        with pytest.raises(StorageError, match="differ from its recorded SHA-256"):
            read_annotations(ledger.store.uri)
        noticed = seen["corrupt"]
        handler.corrupt = ""
        assert read_annotations(ledger.store.uri).num_rows == 600
    print(f"{noticed} bodies changed, none read")
    assert noticed > len(records) == 200


def _drawn(start: int) -> Trajectory:
    frame = np.arange(start, start + 3)
    return Trajectory(frame, frame / 30, np.full((3, 2), start, np.float32), np.full(3, 0.5, np.float32))


def test_b7_an_interrupted_upload_leaves_nothing_once_collected(s3_server, tmp_path, monkeypatch):
    for name, text in {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, text)
    bucket = f"faults-{os.getpid()}-{time.monotonic_ns()}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    (tmp_path / "overlay.mp4").write_bytes(os.urandom(40 * 2**20))
    code = (
        "import sys; from pathlib import Path; from specktrack.storage import open_store\n"
        f"open_store('s3://{bucket}/out').put_file('overlays/a.mp4', Path(sys.argv[1]))"
    )
    with flaky_s3(s3_server, body_bytes_per_s=8 * 2**20) as (url, _, _):
        environment = {**os.environ, "AWS_ENDPOINT_URL": url, "PYTHONPATH": "platform"}
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "overlay.mp4")], env=environment)
        while not client.list_multipart_uploads(Bucket=bucket).get("Uploads"):
            assert writer.poll() is None
            time.sleep(0.02)
        writer.kill()
        writer.wait()
    assert client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert collect_garbage(f"s3://{bucket}/out", older_than_s=-60) == 1
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system of 200 kB cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_b8_a_full_disk_ends_the_run_and_the_same_command_goes_on(archive, model, undisturbed, small_disk):
    config = run(model, small_disk / "out", archive, address="local")
    process = driver(config)
    _, err = process.output(timeout=600)
    assert process.returncode != 0 and "No space left on device" in err
    before = {record.key: record for record in read_records(config.output)}
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    report = finished(driver(config))
    assert report.resumed == len(before) > 0
    assert read_annotations(config.output).equals(undisturbed)


KILLED_OVER_POISON = """
import os, signal, sys
def hook(event, said):
    if event == "open" and str(said[0]).endswith("/poison.mp4"):
        if b"FlatMap(Annotator" in open("/proc/self/cmdline", "rb").read():
            with open(os.environ["DEATHS"], "a") as deaths:
                deaths.write("killed\\n")
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


def test_b8_a_clip_over_which_every_worker_is_killed_is_set_aside(archive, model, undisturbed, tmp_path):
    """As the kernel does where memory is full; the killing is done by what each of the run's processes loads first."""
    (tmp_path / "sitecustomize.py").write_text(KILLED_OVER_POISON)
    poison, deaths = make_video(tmp_path / "in" / "poison.mp4", 40), tmp_path / "deaths"
    config = run(model, tmp_path / "out", poison, *sorted(archive.glob("*.mp4"))[:6], address="local")
    paths = os.pathsep.join([str(tmp_path), "platform", "."])
    report = finished(driver(config, PYTHONPATH=paths, DEATHS=str(deaths)))
    (bad,) = [record for record in read_records(config.output) if record.reason is not None]
    print(f"{len(deaths.read_text().splitlines())} workers killed, {report.committed} clips committed: {bad.detail}")
    assert deaths.read_text().count("killed") == 3 and bad.video.uri == poison.as_uri()
    assert report.quarantined == {"crashed": 1} and report.committed == 30 and report.exit_code == 5
    assert read_annotations(config.output).equals(undisturbed.slice(0, 6 * FRAMES))


def test_b10_a_video_that_kills_every_decoder_is_the_only_one_set_aside(archive, model, undisturbed, tmp_path):
    config = run(model, tmp_path / "out", archive, address="local")
    process, killed = driver(config), []

    def poison() -> None:
        """Kill the decoders of annotators that have the video open: what a crash in the decoder looks like.

        It is the first, so that a run whose first clips all crash is seen to go on.
        """
        own = children_of(process.pid)
        for pid in own:
            owner = _parent(_parent(pid))  # it is a fork of a fork
            if DECODER in _title(pid) and WORKER in _title(owner) and "/00.mp4" in _open_files(owner):
                killed.append(pid)
                try:
                    os.kill(pid, signal.SIGSEGV)
                except ProcessLookupError:
                    killed.pop()

    with meanwhile(0.005, poison):
        out, err = process.output(timeout=800)
    assert process.returncode == 0, err[-3000:]
    report = AnnotateReport.model_validate_json(out.splitlines()[-1], extra="ignore")
    bad = {record.video.uri for record in read_records(config.output) if record.reason is not None}
    print(f"{len(killed)} decoders died, {report.committed} clips committed, set aside: {report.quarantined}")
    assert bad == {(archive / "00.mp4").as_uri()}
    assert report.quarantined == {"crashed": 5} and report.committed == CLIPS - 5 and report.exit_code == 5
    rows = read_annotations(config.output)
    assert _without(rows, "/00.mp4").equals(_without(undisturbed, "/00.mp4"))


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _open_files(pid: int) -> str:
    try:
        return " ".join(os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return ""


def _without(rows: pa.Table, name: str) -> pa.Table:
    return rows.filter(pa.array([not video.endswith(name) for video in rows["video"].to_pylist()]))


def test_b14_thousands_of_tiny_videos(model, tmp_path):
    first = make_video(tmp_path / "in" / "0000.mp4", 8)
    for number in range(1, 2000):
        os.link(first, tmp_path / "in" / f"{number:04d}.mp4")
    process = driver(run(model, tmp_path / "out", tmp_path / "in", address="local"))
    peak_kb = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak_kb = max(peak_kb, int((status.split("VmHWM:")[1:] or ["0 kB"])[0].split()[0]))
        time.sleep(0.2)
    report = finished(process)
    print(f"plan {report.seconds['plan']:.0f} s, whole run {report.wall_s:.0f} s, driver {peak_kb // 1024} MB")
    assert report.committed == 2000 and report.rows == 16_000
    assert peak_kb < 2**20


def test_b15_the_number_of_workers_and_the_order_of_videos_change_no_row(
    cluster, archive, model, undisturbed, tmp_path
):
    cluster.add_node(num_cpus=8, **NODE)
    videos = sorted(archive.glob("*.mp4"))
    for workers in (1, 2, 8):
        random.Random(workers).shuffle(videos)
        config = run(model, tmp_path / f"out{workers}", *videos, address=cluster.address, workers=workers)
        finished(driver(config))
        assert read_annotations(config.output).equals(undisturbed)


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """The path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="x6-") as folder:
        yield Path(folder)


def test_x6_credentials_appear_nowhere(archive, model, s3_server, short_tmp, monkeypatch):
    canary = "canary-3141592653589793"
    for name, text in {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server, "AWS_SECRET_ACCESS_KEY": canary}.items():
        monkeypatch.setenv(name, text)
    bucket = f"faults-{os.getpid()}-{time.monotonic_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    for path in sorted(archive.glob("*.mp4"))[:4]:
        open_store(f"s3://{bucket}/in").put(path.name, path.read_bytes())
    open_store(f"s3://{bucket}/in").put("bad.mp4", b"text")
    config = run(model, f"s3://{bucket}/out", f"s3://{bucket}/in", address="local")
    store = open_store(config.output)
    with flaky_s3(s3_server) as (url, _, handler):
        failing = driver(config, RAY_TMPDIR=str(short_tmp), AWS_ENDPOINT_URL=url, AWS_MAX_ATTEMPTS="1")
        while failing.poll() is None and not list(store.list("data/")):
            time.sleep(0.01)
        handler.slow_down = 1.0
        failed = failing.output(timeout=600)
    assert failing.returncode != 0 and "Traceback" in failed[1] and "S3 answered 503" in failed[1]
    process = driver(config, RAY_TMPDIR=str(short_tmp))
    out, err = process.output(timeout=600)
    assert process.returncode == 0, err[-3000:]
    written = b"".join(store.get(info.key) for info in store.list())
    logs = b"".join(path.read_bytes() for path in short_tmp.rglob("*") if path.is_file() and not path.is_symlink())
    assert logs, "Ray's logs were not found"
    for text in ("".join(failed).encode(), out.encode(), err.encode(), written, logs):
        assert canary.encode() not in text
