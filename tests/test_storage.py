"""Stores keep their promises on a folder and on S3 alike; sources name the videos that a person means."""

import errno
import os
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import boto3
import numpy as np
import pytest
import torch
from botocore.exceptions import ClientError
from tests.conftest import S3_ENVIRONMENT, started

from specktrack import ledger as ledger_module
from specktrack.errors import ConfigError, Conflict, MediaError, QuarantineReason, StorageError
from specktrack.ledger import Ledger
from specktrack.models.checkpoint import save_tensors
from specktrack.schema import VideoRef, sha256_hex
from specktrack.storage import (
    FileStore,
    check_exclusive,
    expand_sources,
    frame_names,
    listed_frames,
    local_path,
    open_binary,
    open_store,
    ranged,
    sources,
    stat,
    to_uri,
)
from specktrack.storage import s3 as s3_module
from specktrack.storage.s3 import PAUSES_S, _errors
from specktrack.storage.store import RefusedError
from specktrack.video import write_video

ODD_NAMES = ["a b.mp4", "new\nline.mp4", "été 羽毛球.mp4", "100%.mp4", "%20.mp4", "q?x=1#f.mp4", "[1].mp4", "+&=;'.mp4"]


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URI of an empty place, on disk and on S3."""
    return (
        (tmp_path / "store").as_uri()
        if request.param == "file"
        else f"s3://{request.getfixturevalue('s3')}/some/prefix"
    )


def touch(root: str, *keys: str, data: bytes = b"x") -> None:
    for key in keys:
        open_store(root).put(key, data)


def keys_of(root: str, sources: list[str]) -> list[str]:
    """What the sources expand to, relative to ``root``."""
    refs = expand_sources(sources)
    return [unquote(ref.uri.removeprefix(f"{root}/")) for ref in refs]


class TestStore:
    def test_put_replaces_and_get_returns(self, root: str) -> None:
        store = open_store(root)
        store.put("a/b.bin", b"one")
        store.put("a/b.bin", b"two")
        assert store.get("a/b.bin", sha256=sha256_hex(b"two")) == b"two"
        assert store.exists("a/b.bin") and not store.exists("a") and not store.exists("a/c.bin")

    def test_a_missing_object_is_a_storage_error_with_its_place_and_a_remedy(self, root: str) -> None:
        with pytest.raises(StorageError, match=r"a/none\.json.*check the"):
            open_store(root).get("a/none.json")

    def test_bytes_that_differ_from_their_hash_are_not_returned(self, root: str) -> None:
        touch(root, "rows.parquet", data=b"damaged")
        with pytest.raises(StorageError, match="differ from its recorded SHA-256"):
            open_store(root).get("rows.parquet", sha256=sha256_hex(b"intact"))

    def test_put_if_absent_lets_exactly_one_of_many_writers_win(self, root: str) -> None:
        store, start, winners = open_store(root), threading.Barrier(6), []

        def write(name: bytes) -> None:
            start.wait()
            try:
                store.put_if_absent("records/clip.json", name)
                winners.append(name)
            except Conflict:
                pass

        threads = [threading.Thread(target=write, args=(b"writer %d" % i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.get("records/clip.json")] == winners
        with pytest.raises(Conflict, match=r"another writer was first.*clip\.json"):
            store.put_if_absent("records/clip.json", b"late")

    def test_list_is_ordered_recursive_and_filtered_by_prefix(self, root: str) -> None:
        touch(root, "b/2", "b/10", "a", "bc/1")
        assert [info.key for info in open_store(root).list()] == ["a", "b/10", "b/2", "bc/1"]
        assert [info.key for info in open_store(root).list("b/")] == ["b/10", "b/2"]
        assert [info.key for info in open_store(root).list("b")] == ["b/10", "b/2", "bc/1"]
        assert list(open_store(root).list("none/")) == []

    def test_the_etag_in_a_listing_is_the_one_of_stat(self, root: str) -> None:
        touch(root, "v.mp4", data=b"12345")
        (info,) = open_store(root).list()
        ref = stat(f"{root}/v.mp4")
        assert (ref.etag, ref.size_bytes) == (info.etag, info.size_bytes) and info.size_bytes == 5

    def test_delete_is_idempotent(self, root: str) -> None:
        touch(root, "a")
        open_store(root).delete("a")
        open_store(root).delete("a")
        assert not open_store(root).exists("a")

    def test_put_file_sends_a_file(self, root: str, tmp_path: Path) -> None:
        path = tmp_path / "overlay.mp4"
        path.write_bytes(os.urandom(ranged.BLOCK_BYTES + 5))
        open_store(root).put_file("overlays/o.mp4", path)
        assert open_store(root).get("overlays/o.mp4") == path.read_bytes()

    @pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "", "a//b", "./a", "a\0b"])
    def test_a_key_never_leaves_the_root(self, root: str, key: str) -> None:
        with pytest.raises(ConfigError, match="not a key below the store's root"):
            open_store(root).put(key, b"")

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names_round_trip_through_uris(self, root: str, name: str) -> None:
        if "\n" in name and root.startswith("s3://"):
            name = name.replace("\n", "\t")  # the test server has no route for a newline
        touch(root, f"in/{name}", data=name.encode())
        (ref,) = expand_sources([f"{root}/in"])
        assert ref == stat(ref.uri) and to_uri(ref.uri) == ref.uri
        with open_binary(ref) as file:
            assert file.read().decode() == name
        assert set(ref.key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_what_writers_left_unfinished_is_cleared_once_it_is_old(root: str) -> None:
    store = open_store(root)
    store.put("kept", b"x")
    if root.startswith("s3"):
        bucket, key = root.removeprefix("s3://").split("/", 1)
        boto3.client("s3").create_multipart_upload(Bucket=bucket, Key=f"{key}/overlays/a.mp4")
        boto3.client("s3").create_multipart_upload(Bucket=bucket, Key="another/owner")
        boto3.client("s3").create_multipart_upload(Bucket=bucket, Key=f"{key}/videos/match.mp4")
    else:
        Path(store.root, "overlays").mkdir()
        Path(store.root, f"overlays/.{32 * 'f'}.tmp").write_bytes(b"half")
    assert store.clear_unfinished(older_than_s=1e9) == 0  # the test server begins every upload in 2010
    assert store.clear_unfinished(older_than_s=-60, uploads_below="overlays/") == 1
    assert store.clear_unfinished(older_than_s=-60, uploads_below="overlays/") == 0
    assert [info.key for info in store.list()] == ["kept"]


class TestUnreadable:
    """What is wrong with one object sets that one aside."""

    def test_an_archived_object_is_a_reason_and_its_store_goes_on(self, s3: str) -> None:
        boto3.client("s3").put_object(Bucket=s3, Key="cold.mp4", Body=b"x", StorageClass="GLACIER")
        (ref,) = expand_sources([f"s3://{s3}"])
        with pytest.raises(MediaError, match="403 InvalidObjectState") as caught, open_binary(ref) as file:
            file.read(1)
        assert caught.value.reason is QuarantineReason.UNREADABLE
        with pytest.raises(StorageError, match="403 InvalidObjectState"):
            open_store(f"s3://{s3}").get("cold.mp4")

    def test_credentials_that_nobody_knows_are_no_fault_of_the_object(self) -> None:
        def answer(code: str) -> ClientError:
            return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "GetObject")

        for code, kind in (("AccessDenied", RefusedError), ("ExpiredToken", StorageError)):
            with pytest.raises(StorageError) as caught, _errors("s3://b/k"):
                raise answer(code)
            assert type(caught.value) is kind

    def test_a_file_that_fails_while_it_is_read_is_a_reason(self) -> None:
        with (
            pytest.raises(MediaError, match="Input/output error") as caught,
            open_binary(stat("/proc/self/mem")) as file,
        ):
            file.read(1)  # address 0
        assert caught.value.reason is QuarantineReason.UNREADABLE

    def test_a_pipe_is_no_video_and_is_not_waited_for(self, tmp_path: Path) -> None:
        touch(tmp_path.as_uri(), "a.mp4", "b.mp4")
        listed = {ref.name: ref for ref in expand_sources([str(tmp_path)])}
        (tmp_path / "a.mp4").unlink()
        os.mkfifo(tmp_path / "a.mp4")
        assert keys_of(tmp_path.as_uri(), [str(tmp_path)]) == ["b.mp4"]
        with pytest.raises(ConfigError, match=r"neither a file nor a folder.*a\.mp4"):
            expand_sources([str(tmp_path / "a.mp4")])
        with pytest.raises(MediaError) as caught:
            open_binary(listed["a"])
        assert caught.value.reason is QuarantineReason.CHANGED


class TestOddPaths:
    """One odd path ends no run."""

    @pytest.fixture
    def odd(self, tmp_path: Path) -> Path:
        folder = tmp_path / "archive"
        touch(folder.as_uri(), "a.mp4", "deep/b.mp4")
        touch((tmp_path / "elsewhere").as_uri(), "c.mp4", "more/d.mp4")
        (folder / "loop.mp4").symlink_to("loop.mp4")
        (folder / "gone.mp4").symlink_to("nowhere.mp4")
        (folder / "back").symlink_to(".")
        (folder / "above").symlink_to(tmp_path)
        (folder / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "round").symlink_to(folder)
        return folder

    def test_links_are_followed_once_and_what_is_left_out_is_said(
        self, odd: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert keys_of(odd.as_uri(), [str(odd)]) == ["a.mp4", "deep/b.mp4", "link/c.mp4", "link/more/d.mp4"]
        told = [line for line in capsys.readouterr().err.splitlines() if "path skipped" in line]
        assert len(told) == 5
        for name in ("loop.mp4", "gone.mp4", "back", "above", "link/round"):
            assert any(f'"path": "{odd}/{name}"' in line for line in told), name

    def test_a_folder_deeper_than_the_system_can_name_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        touch(tmp_path.as_uri(), "a.mp4")
        monkeypatch.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        os.chdir(tmp_path)
        assert keys_of(tmp_path.as_uri(), [str(tmp_path)]) == ["a.mp4"]
        assert "File name too long" in capsys.readouterr().err

    def test_a_folder_of_another_user_is_left_out_and_a_broken_disk_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path.as_uri(), "a.mp4", "locked/b.mp4")
        scan = os.scandir
        for number, left in ((errno.EACCES, ["a.mp4"]), (errno.EIO, None)):

            def refusing(path: str, number: int = number) -> object:
                if str(path).endswith("locked"):
                    raise OSError(number, os.strerror(number), path)
                return scan(path)

            with monkeypatch.context() as patch:
                patch.setattr(os, "scandir", refusing)
                if left is not None:
                    assert keys_of(tmp_path.as_uri(), [str(tmp_path)]) == left
                else:
                    with pytest.raises(StorageError, match="Input/output error"):
                        expand_sources([str(tmp_path)])

    @pytest.mark.parametrize("name", ["loop.mp4", "n" * 300 + ".mp4"])
    def test_one_that_is_named_and_cannot_be_looked_at_is_set_aside(self, odd: Path, name: str) -> None:
        (odd / "list.txt").write_text(f"a.mp4\n{name}\n")
        good, bad = expand_sources([f"@{odd}/list.txt"])
        assert good.uri.endswith("/a.mp4") and bad.uri == (odd / name).as_uri()
        with pytest.raises(MediaError) as caught, open_binary(bad):
            pass
        assert caught.value.reason is QuarantineReason.UNREADABLE

    def test_a_link_to_nothing_is_no_video(self, odd: Path) -> None:
        with pytest.raises(ConfigError, match=r"no video found.*gone\.mp4"):
            expand_sources([str(odd / "gone.mp4")])


class TestFileStore:
    def test_a_writer_that_was_killed_leaves_nothing_that_is_listed(self, tmp_path: Path) -> None:
        (tmp_path / f".{32 * '0'}.tmp").write_bytes(b"half")
        assert list(FileStore(tmp_path).list()) == []

    def test_a_failed_write_leaves_the_old_bytes_and_no_temporary_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = FileStore(tmp_path)
        store.put("a", b"old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
            store.put("a", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["a"] and store.get("a") == b"old"

    def test_a_path_through_a_file_is_a_storage_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match="file"):
            FileStore(tmp_path / "file").put("a/b", b"")


class TestUris:
    def test_a_path_becomes_absolute_and_keeps_its_trailing_slash(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert to_uri("x/../a b") == f"file://{tmp_path}/a%20b"
        assert to_uri("frames/") == f"file://{tmp_path}/frames/"
        assert to_uri(f"file://localhost{tmp_path}/a b") == f"file://{tmp_path}/a%20b"
        assert local_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
        assert local_path("s3://bucket/a") is None

    @pytest.mark.parametrize("uri", ["http://host/v.mp4", "s3:///key", "file://host/v.mp4", "s3a://b/k"])
    def test_other_schemes_are_refused(self, uri: str) -> None:
        with pytest.raises(ConfigError, match=r"cannot read from or write to this.*give a path or s3://bucket/prefix"):
            to_uri(uri)

    def test_the_signature_of_an_address_is_not_shown(self) -> None:
        with pytest.raises(ConfigError) as caught:
            to_uri("https://bucket.s3.amazonaws.com/clips/v.mp4?X-Amz-Signature=canary")
        assert "clips/v.mp4" in str(caught.value) and "canary" not in str(caught.value)


class TestOpenBinary:
    def test_reads_and_seeks_like_a_local_file(self, root: str) -> None:
        data = os.urandom(2 * ranged.BLOCK_BYTES + 1234)
        touch(root, "v.mp4", data=data)
        with open_binary(stat(f"{root}/v.mp4")) as file:
            assert file.read(10) == data[:10]
            assert file.seek(-20, os.SEEK_END) == len(data) - 20 and file.read() == data[-20:]
            file.seek(ranged.BLOCK_BYTES - 3)
            assert file.read(9) == data[ranged.BLOCK_BYTES - 3 : ranged.BLOCK_BYTES + 6]
            file.seek(len(data) + 5)
            assert file.read(1) == b""
            file.seek(0)
            assert file.read() == data

    def test_a_replaced_video_is_a_media_error(self, root: str) -> None:
        touch(root, "v.mp4", data=b"first")
        ref = stat(f"{root}/v.mp4")
        touch(root, "v.mp4", data=b"second version")
        with (
            pytest.raises(MediaError, match="replaced or removed after it was listed") as caught,
            open_binary(ref) as f,
        ):
            f.read()
        assert caught.value.reason is QuarantineReason.CHANGED

    def test_a_removed_video_is_a_media_error(self, root: str) -> None:
        touch(root, "v.mp4")
        ref = stat(f"{root}/v.mp4")
        open_store(root).delete("v.mp4")
        with pytest.raises(MediaError, match="replaced or removed"), open_binary(ref) as file:
            file.read()

    def test_s3_is_read_in_few_requests_and_little_memory(self, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ranged, "BLOCK_BYTES", 1000)
        data = os.urandom(10_500)
        touch(f"s3://{s3}", "v.mp4", data=data)
        ranges, get = [], ranged.get_object

        def counted(place: str, **request: str) -> bytes:
            ranges.append(request["Range"])
            return get(place, **request)

        monkeypatch.setattr(ranged, "get_object", counted)
        reader = ranged.RangedReader(stat(f"s3://{s3}/v.mp4"))
        read = b"".join(iter(lambda: reader.read(300), b""))
        assert read == data
        assert len(ranges) == 11 and ranges[-1] == "bytes=10000-10499"
        assert sum(map(len, reader._blocks.values())) <= ranged.BLOCKS_KEPT * 1000


class Faulty(BaseHTTPRequestHandler):
    """An S3 server that answers by a script of status codes; ``short`` breaks off in the middle of the body."""

    script: list[int | str]
    asked: int

    def do_GET(self) -> None:
        type(self).asked += 1
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        status = 200 if answer == "short" else int(answer)
        code = {403: "AccessDenied", 404: "NoSuchKey", 400: "RequestTimeout"}.get(status, "OfAnotherServer")
        body = b"0123456789" if status == 200 else f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:4] if answer == "short" else body)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    do_POST = do_PUT

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def faulty(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Faulty]]:
    handler = type("Handler", (Faulty,), {"asked": 0, "script": [200]})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield handler
        server.shutdown()
        thread.join()


def test_local_files_are_used_without_the_client_library_of_s3(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    code = f"""
import sys
from specktrack.storage import expand_sources, open_binary, open_store
assert [open_binary(ref).read() for ref in expand_sources([{str(tmp_path)!r}])] == [b"x"]
assert "boto3" not in sys.modules and "botocore" not in sys.modules
open_store("s3://bucket/prefix")
assert "boto3" in sys.modules
"""
    platform = Path(__file__).parents[1] / "platform"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(platform)}, check=True)


class TestS3Faults:
    @pytest.mark.parametrize("script", [[503, 200], ["short", "short", 200], [500, "short", 200]])
    def test_what_passes_is_asked_for_again(self, faulty: type[Faulty], script: list[int | str]) -> None:
        faulty.script = list(script)
        assert open_store("s3://bucket").get("a") == b"0123456789"
        assert faulty.asked == len(script)

    @pytest.mark.parametrize("status", [400, 429, 500, 502, 503, 504])
    def test_each_code_that_passes_is_known_by_itself(
        self, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        monkeypatch.setattr(s3_module, "PAUSES_S", (0.0,) * 7)
        faulty.script = [status, 200]
        assert open_store("s3://bucket").get("a") == b"0123456789"
        faulty.script, faulty.asked = [status], 0
        with pytest.raises(StorageError, match=f"S3 answered {status}"):
            open_store("s3://bucket").get("a")
        assert faulty.asked == 8

    @pytest.mark.parametrize("text", ["x", "", "0", "-1", "2.5", "1" * 5000])
    def test_a_number_of_tries_that_is_none_is_refused(
        self, s3: str, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", text)
        with pytest.raises(ConfigError, match=r"not a number of attempts.*AWS_MAX_ATTEMPTS"):
            open_store(f"s3://{s3}").get("a")

    @pytest.mark.parametrize("status", [403, 404])
    def test_what_does_not_pass_is_not(self, faulty: type[Faulty], status: int) -> None:
        faulty.script = [status]
        with pytest.raises(StorageError, match=rf"S3 answered {status}.*check the"):
            open_store("s3://bucket").get("a")
        assert faulty.asked == 1

    def test_bodies_that_always_break_off_end_in_an_error(
        self, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faulty.script = ["short"]
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        with pytest.raises(StorageError, match=r"S3 cannot be used.*s3://bucket/a"):
            open_store("s3://bucket").get("a")
        assert faulty.asked == 2

    @pytest.mark.parametrize("size_bytes", [10, s3_module.PART_BYTES + 1])
    @pytest.mark.parametrize("answer", ["short", 503])
    def test_a_file_is_sent_no_more_often_than_anything_else(
        self, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size_bytes: int, answer: int | str
    ) -> None:
        (tmp_path / "a").write_bytes(bytes(size_bytes))
        faulty.script = [answer]
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        monkeypatch.setattr(s3_module, "PAUSES_S", (0.0,) * 7)
        with pytest.raises(StorageError):
            open_store("s3://bucket").put_file("a", tmp_path / "a")
        assert faulty.asked == 2

    def test_a_file_in_parts_arrives_whole_and_a_failure_leaves_no_part(
        self, s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(s3_module, "PART_BYTES", 5 * 2**20)
        (tmp_path / "a").write_bytes(os.urandom(11 * 2**20))
        store, request = open_store(f"s3://{s3}"), s3_module._request
        store.put_file("a", tmp_path / "a")
        assert store.get("a") == (tmp_path / "a").read_bytes()

        def failing(place: str, operation: str, **more: object) -> dict[str, object]:
            if operation == "upload_part" and more["PartNumber"] == 3:
                raise StorageError("no more")
            return request(place, operation, **more)

        with monkeypatch.context() as patch, pytest.raises(StorageError, match="no more"):
            patch.setattr(s3_module, "_request", failing)
            store.put_file("b", tmp_path / "a")
        assert not store.exists("b") and store.clear_unfinished(older_than_s=-60) == 0

    def test_the_shortest_pauses_leave_three_tries_after_an_outage_of_30_s(self) -> None:
        assert 0.6 * sum(PAUSES_S[:-2]) > 30


@contextmanager
def careless(how: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a bucket on a server without conditional writes."""
    with started("tests.careless_s3", {**os.environ, **S3_ENVIRONMENT}, how) as url:
        for name, text in {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, text)
        boto3.client("s3").create_bucket(Bucket="careless")
        yield "s3://careless/out"


class TestWithoutConditions:
    """Servers that let every writer win, and a file system without hard links."""

    def test_they_are_refused_with_the_remedy_and_one_writer_may_use_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with careless("ignores", monkeypatch) as uri:
            with pytest.raises(StorageError, match=r"no conditional writes.*--single-writer"):
                check_exclusive(open_store(uri))
            store = open_store(uri, single_writer=True)
            assert list(store.list()) == [], "the probe is gone"
            store.put_if_absent("a", b"1")
            with pytest.raises(Conflict):
                store.put_if_absent("a", b"2")
            assert store.get("a") == b"1"

    def test_one_that_is_always_busy_ends_a_commit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger_module, "PAUSES_S", (0.0, 0.0))
        with careless("busy", monkeypatch) as uri:
            video = VideoRef(uri="file:///v.mp4", etag="1", size_bytes=1)
            with pytest.raises(StorageError, match=r"can be neither written nor read.*run the same command"):
                Ledger(open_store(uri), "m", "c").quarantine(video, 0, 0, reason=QuarantineReason.EMPTY, detail="")

    def test_a_server_with_them_passes(self, root: str) -> None:
        store = open_store(root)
        check_exclusive(store)
        assert list(store.list()) == []

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
    def test_without_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        def link(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(StorageError, match=r"hard links.*--single-writer"):
            check_exclusive(FileStore(tmp_path))
        store = FileStore(tmp_path, single_writer=True)
        store.put_if_absent("a", b"1")
        with pytest.raises(Conflict):
            store.put_if_absent("a", b"2")
        assert store.get("a") == b"1" and [info.key for info in store.list()] == ["a"]


class TestS3Errors:
    def test_a_missing_bucket_names_the_remedy(self, s3: str) -> None:
        with pytest.raises(StorageError, match=r"404 NoSuchBucket.*AWS_ENDPOINT_URL"):
            open_store("s3://no-such-bucket-here").put("a", b"")

    def test_missing_credentials_name_the_remedy(
        self, s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(StorageError, match=r"Unable to locate credentials.*check the AWS settings"):
            open_store(f"s3://{s3}").put("a", b"")

    def test_an_endpoint_that_is_down_does_not_show_its_password(
        self, s3: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:canary@127.0.0.1:9")
        with pytest.raises(StorageError, match=r"127\.0\.0\.1:9.*check the AWS settings") as caught:
            open_store(f"s3://{s3}").get("a")
        assert "canary" not in str(caught.value)


class TestExpandSources:
    def test_a_folder_is_searched_for_video_suffixes_at_any_depth(self, root: str) -> None:
        touch(root, "b.MP4", "a/deep/c.mkv", "notes.txt", "a/.hidden.mp4", ".trash/d.mp4", "a/z.mov")
        assert keys_of(root, [root]) == ["a/deep/c.mkv", "a/z.mov", "b.MP4"]

    def test_an_explicit_path_is_taken_whatever_its_suffix(self, root: str) -> None:
        touch(root, "take.bin", "b.mp4")
        assert keys_of(root, [f"{root}/take.bin"]) == ["take.bin"]

    def test_globs_filter_by_suffix_unless_they_name_one(self, root: str) -> None:
        touch(root, "1.mp4", "2.mp4", "3.bin", "more/4.mp4")
        plain = str(local_path(root) or root)
        assert keys_of(root, [f"{plain}/*.mp4"]) == ["1.mp4", "2.mp4"]
        assert keys_of(root, [f"{plain}/*.bin"]) == ["3.bin"]
        assert keys_of(root, [f"{plain}/[12].*"]) == ["1.mp4", "2.mp4"]

    def test_order_is_as_given_and_duplicates_are_dropped(self, root: str) -> None:
        touch(root, "1.mp4", "2.mp4", "3.mp4")
        assert keys_of(root, [f"{root}/3.mp4", root, f"{root}/1.mp4"]) == ["3.mp4", "1.mp4", "2.mp4"]

    def test_an_s3_prefix_need_not_end_at_a_slash(self, s3: str) -> None:
        root = f"s3://{s3}"
        touch(root, "match1/a.mp4", "match10/b.mp4", "other.mp4")
        assert keys_of(root, [f"{root}/match1"]) == ["match1/a.mp4"]
        assert keys_of(root, [f"{root}/mat"]) == ["match1/a.mp4", "match10/b.mp4"]

    def test_a_list_holds_any_sources_relative_to_its_folder(self, root: str) -> None:
        touch(root, "in/a.mp4", "in/b.mp4", "c.mov")
        touch(root, "list.txt", data=f"# comment\n\nin\nc.mov\n{root}/in/b.mp4\n@more.txt\n".encode())
        touch(root, "more.txt", data=b"d.bin\n")
        touch(root, "d.bin")
        at = f"@{local_path(root) or root}"
        assert keys_of(root, [f"{at}/list.txt"]) == ["in/a.mp4", "in/b.mp4", "c.mov", "d.bin"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_lists_are_read_as_editors_save_them(self, tmp_path: Path, encoding: str, end: str) -> None:
        root = tmp_path.as_uri()
        touch(root, "base.mp4", "~tilde.mp4", "été/a b.mp4", "in/[1] x/c.mp4")
        lines = ["base.mp4", "~tilde.mp4", '"été/a b.mp4"', "in\\[1] x\\c.mp4", ""]
        (tmp_path / "list.txt").write_bytes(end.join(lines).encode(encoding))
        expected = ["base.mp4", "~tilde.mp4", "été/a b.mp4", "in/[1] x/c.mp4"]
        assert keys_of(root, [f"@{tmp_path}/list.txt"]) == expected
        (tmp_path / "base.mp4").unlink()
        with pytest.raises(ConfigError, match=r"no video found: '[^'\ufeff]*/base\.mp4';"):
            expand_sources([f"@{tmp_path}/list.txt"])

    def test_lists_in_lists_end(self, tmp_path: Path) -> None:
        touch(tmp_path.as_uri(), "v.mp4")
        for number in range(30):
            (tmp_path / f"{number}.txt").write_text(f"v.mp4\n@{number + 1}.txt\n")
        (tmp_path / "twice.txt").write_text("@29.txt\n" * 1000)
        (tmp_path / "30.txt").write_text("v.mp4\n")
        assert keys_of(tmp_path.as_uri(), [f"@{tmp_path}/twice.txt"]) == ["v.mp4"]
        with pytest.raises(ConfigError, match="nested more than 8 deep"):
            expand_sources([f"@{tmp_path}/0.txt"])
        os.truncate(tmp_path / "v.mp4", sources.MOST_LIST_BYTES + 1)
        with pytest.raises(ConfigError, match="too large for a list of sources"):
            expand_sources([f"@{tmp_path}/v.mp4"])

    @pytest.mark.parametrize("name", ["~tilde.mp4", "./~tilde.mp4"])
    def test_a_tilde_is_a_letter_but_for_the_home_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        touch(tmp_path.as_uri(), "~tilde.mp4", "home/mine.mp4")
        assert keys_of(tmp_path.as_uri(), [name]) == ["~tilde.mp4"]
        assert keys_of(tmp_path.as_uri(), ["~/mine.mp4"]) == keys_of(tmp_path.as_uri(), ["~"]) == ["home/mine.mp4"]

    def test_globs_below_folders_with_brackets(self, root: str) -> None:
        touch(root, "[2024] final/a.mp4", "[2024] final/b[1].mp4", "2/c.mp4")
        plain = str(local_path(root) or root)
        assert keys_of(root, [f"{plain}/[2024] final/*.mp4"]) == ["[2024] final/a.mp4", "[2024] final/b[1].mp4"]
        assert keys_of(root, [f"{plain}/[2024] final/*[[]1].mp4"]) == ["[2024] final/b[1].mp4"]
        assert keys_of(root, [f"{plain}/[2024]/*.mp4"]) == ["2/c.mp4"]

    def test_a_name_may_be_meant_in_another_spelling(self, root: str) -> None:
        there = [unicodedata.normalize("NFD", "résumé/é.mp4"), unicodedata.normalize("NFC", "Ö/ü.mp4")]
        touch(root, *there, "a.mp4")
        plain = str(local_path(root) or root)
        for key in there:
            other = unicodedata.normalize("NFC" if key is there[0] else "NFD", key)
            assert other != key
            assert keys_of(root, [f"{plain}/{other}"]) == [key]

    def test_letters_large_and_small_are_one_on_disk_where_only_one_can_be_meant(self, tmp_path: Path) -> None:
        touch(tmp_path.as_uri(), "Match/One.MP4", "two.mp4", "TWO.MP4")
        assert keys_of(tmp_path.as_uri(), [f"{tmp_path}/match/one.mp4"]) == ["Match/One.MP4"]
        with pytest.raises(ConfigError, match="no video found"):
            expand_sources([f"{tmp_path}/Two.mp4"])

    def test_what_machines_leave_behind_is_no_video(self, root: str) -> None:
        touch(root, "a/r1.mp4", "a/._r1.mp4", "__MACOSX/a/r1.mp4", "@eaDir/r1.mp4", "b/1.jpg", "b/2.jpg", "b/._1.jpg")
        assert keys_of(root, [root]) == ["a/r1.mp4", "b/"]

    def test_files_that_nobody_read_are_said(self, root: str, capsys: pytest.CaptureFixture[str]) -> None:
        touch(root, "a.mp4", "notes.txt", "b.braw", "c.BRAW", "f/1.png", "f/2.png", "f/cover.jpg")
        assert keys_of(root, [root]) == ["a.mp4", "f/"]
        told = capsys.readouterr().err
        assert "files that are not videos" in told
        assert all(f'"{suffix}": {n}' in told for suffix, n in ((".txt", 1), (".braw", 2), (".jpg", 1)))

    def test_a_list_that_contains_itself_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "list.txt").write_text("@list.txt\n")
        with pytest.raises(ConfigError, match="the list contains itself"):
            expand_sources([f"@{tmp_path}/list.txt"])

    def test_a_source_without_videos_is_named(self, root: str) -> None:
        touch(root, "in/a.mp4", "empty/notes.txt")
        with pytest.raises(ConfigError, match=r"no video found: '.*empty'.*name a video"):
            expand_sources([f"{root}/in", f"{root}/empty"])
        with pytest.raises(ConfigError, match=r"no video found: '.*none\.mp4'"):
            expand_sources([f"{root}/none.mp4"])
        with pytest.raises(ConfigError, match="no source is given"):
            expand_sources([])

    @pytest.mark.parametrize("stray", ["cover.jpg", "preview_7.png", "0005.png", "thumb.webp"])
    def test_a_stray_picture_does_not_hide_a_folder_of_frames(self, root: str, stray: str) -> None:
        touch(root, "c/0000.JPG", "c/0001.jpg", "c/0002.jpeg", f"c/{stray}")
        assert keys_of(root, [root]) == ["c/"]
        assert frame_names(f"{root}/c/") == ["0000.JPG", "0001.jpg", "0002.jpeg"]

    def test_two_kinds_of_numbered_pictures_are_no_video(self, root: str) -> None:
        touch(root, "v.mp4", *(f"c/{kind}_{number}.png" for kind in ("rgb", "depth") for number in range(5)))
        touch(root, "d/1.png", "d/01.png", "d/2.png")
        assert keys_of(root, [root]) == ["v.mp4"]

    def test_a_folder_of_numbered_images_is_one_video(self, root: str) -> None:
        touch(
            root,
            "clips/1/10.png",
            "clips/1/9.png",
            "clips/1/labels.csv",
            "clips/2/img_0001.jpg",
            "clips/2/img_0002.jpg",
        )
        touch(root, "clips/photos/cat.jpg", "clips/photos/dog.jpg", "clips/mixed/1.png", "clips/mixed/2.jpg")
        assert keys_of(root, [f"{root}/clips"]) == ["clips/1/", "clips/2/"]
        (ref,) = expand_sources([f"{root}/clips/1"])
        assert ref == stat(f"{root}/clips/1") == stat(f"{root}/clips/1/") and ref.size_bytes == 2
        touch(root, "clips/1/.7.jpg")
        assert frame_names(ref.uri) == listed_frames(ref) == ["9.png", "10.png"]
        touch(root, "clips/1/9.png", data=b"yy")
        assert stat(ref.uri).etag != ref.etag
        with pytest.raises(MediaError) as caught:
            listed_frames(ref)
        assert caught.value.reason is QuarantineReason.CHANGED


def write_tensors(path: Path) -> None:
    save_tensors(path, {"a": torch.zeros(2)}, {})


def write_pictures(path: Path) -> None:
    write_video(path, [np.zeros((16, 16, 3), np.uint8)] * 2, fps=30, wh=(16, 16))


def write_object(path: Path) -> None:
    FileStore(path.parent).put(path.name, b"x")


@pytest.mark.parametrize("write", [write_tensors, write_pictures, write_object])
def test_a_file_is_on_disk_before_it_has_its_name_and_then_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None]
) -> None:
    done, sync, rename = [], os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def replace(old: Path, new: Path) -> None:
        done.append((Path(old), Path(new)))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(path := tmp_path / "a.mp4")
    ((partial, name),) = [each for each in done if isinstance(each, tuple)]
    assert done == [partial, (partial, name), tmp_path] and name == path
