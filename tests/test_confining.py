"""What a process gives up when it confines itself, tried in a fork of this one, which sees every change of the code."""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import doors

from specktrack.video import landlock, sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is given up is Linux's")
WALLED = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")


def in_a_fork(act: Callable[[], Any]) -> Any:
    """What ``act`` returns in a child of a process that has a session of its own, as decoders are."""
    reader, writer = os.pipe()
    if between := os.fork():
        os.close(writer)
        with os.fdopen(reader) as answer:
            said = answer.read()
        os.waitpid(between, 0)
        return json.loads(said)
    try:
        os.setsid()
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            os.write(writer, json.dumps(act()).encode())
    finally:
        os._exit(0)


def room() -> int:
    """Bytes of address space that leave a process of this size 1 GiB to grow."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize() + 2**30


def limits() -> list[tuple[int, int]]:
    names = (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
    return [resource.getrlimit(name) for name in names]


@pytest.mark.parametrize("walled", [pytest.param(True, marks=WALLED), False], ids=["landlock", "no landlock"])
def test_all_doors_are_shut(walled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_text("x")
    owner, memory = os.getpid(), room()
    if not walled:
        monkeypatch.setattr(landlock, "version", lambda: 0)

    def act() -> list[Any]:
        return [sandbox.confine(memory_bytes=memory), doors.open_doors(str(tmp_path), owner)]

    assert in_a_fork(act) == [True, []]


def test_limits_are_set_for_good_and_never_raised() -> None:
    memory, before = room(), limits()

    def act(cpu_s: int | None, files: int) -> list[Any]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        return [sandbox.confine(memory_bytes=memory, cpu_s=cpu_s), resource.getrlimit(resource.RLIMIT_AS), limits()]

    assert in_a_fork(lambda: act(7, 200)) == [True, [memory] * 2, [[7, 7], [0, 0], [64, 64], [0, 0]]]
    _, _, (cpu, *_, files, _) = in_a_fork(lambda: act(None, 50))
    assert files == [50, 50] and cpu == [before[0][1]] * 2


def test_a_machine_whose_calls_are_not_known_gets_limits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "riscv64")
    memory = room()
    assert in_a_fork(lambda: sandbox.confine(memory_bytes=memory)) is False


@WALLED
@pytest.mark.parametrize("version", range(1, landlock.version() + 1))
def test_files_below_some_folders_are_read_and_no_others_by_every_landlock(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("x")
    monkeypatch.setattr(landlock, "version", lambda: version)

    def allowed(attempt: Callable[[], object]) -> bool:
        try:
            attempt()
        except PermissionError:
            return False
        return True

    def act() -> list[bool]:
        files = len(os.listdir("/proc/self/fd"))
        sandbox.ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
        landlock.read_only_below([tmp_path / "in", tmp_path / "in"])
        return [
            allowed((tmp_path / "in" / "a").read_text),
            allowed(lambda: os.listdir(tmp_path / "in")),
            allowed((tmp_path / "out" / "a").read_text),
            allowed(lambda: os.listdir(tmp_path / "out")),
            allowed(lambda: (tmp_path / "in" / "b").write_text("x")),
            allowed((tmp_path / "in" / "a").unlink),
            files > 0,
        ]

    assert in_a_fork(act) == [True, True, False, False, False, False, True]


@WALLED
def test_a_wall_that_cannot_be_put_up_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Landlock: "):
        landlock._done(landlock._call(landlock._RESTRICT_SELF, -1, 0))
    assert landlock._done(0) == 0 and landlock._done(7) == 7


def test_a_kernel_without_landlock_is_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_call", lambda *_: -1)
    assert landlock.version() == 0
    monkeypatch.setattr(landlock.sys, "platform", "darwin")
    monkeypatch.setattr(landlock, "_call", lambda *_: 5)
    assert landlock.version() == 0


def test_a_process_ends_with_its_parent() -> None:
    def act() -> list[Any]:
        ready, gone = os.pipe()
        if not os.fork():  # the parent, which dies
            if not os.fork():
                sandbox.end_with(os.getppid())
                os.write(gone, b"x")
                sandbox.signal.pause()
            os.read(ready, 1)
            os._exit(0)
        os.close(gone)
        os.wait()
        return [os.read(ready, 1).decode()]  # "" once nobody holds the other end

    assert in_a_fork(act) == [""]
    assert in_a_fork(lambda: sandbox.end_with(os.getppid()) or "alive") == "alive"


def test_code_is_read_from_python_its_packages_and_libraries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.code_folders.cache_clear()
    folders = sandbox.code_folders()
    sandbox.code_folders.cache_clear()
    assert {Path(os.__file__).parent, Path(pytest.__file__).parent, Path("/usr/lib")} <= folders
    assert Path.cwd() not in folders and Path.home() not in folders and Path("/") not in folders
    assert all(folder.is_dir() for folder in folders)
