"""The clips that are complete: one record each, written once; rows are visible only through records.

    OUTPUT/data/<video key>/<attempt>.parquet     rows (or a pack of pictures); a name of its own for every attempt
    OUTPUT/records/<video key>/<clip key>.json    the receipt, put only if absent
    OUTPUT/_records.parquet                       the records in one object, which a finished run leaves
    OUTPUT/_SUCCESS                               counts and the hash over all records; written last

A commit writes the rows, then the record. Whoever dies in between leaves rows that no record names, which no reader
sees and which are removed once they are old. Two writers of one clip both write rows; one record wins, and the loser
takes its own rows back. There is no rename, and no listing of data is ever taken for the truth.

Reading many small objects is slow, so a finished run also leaves all records in ``_records.parquet``. A record whose
name and ETag have not changed since is taken from there. If that object is missing or damaged, every record is read.

Rows are checked against their record, a record against the checksum it ends with, and the records of a finished run
against ``_SUCCESS``. The output may lie in a folder that holds other things: only objects with names as above are read
or removed.
"""

import io
import json
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from specktrack import __version__
from specktrack.config import sha_of
from specktrack.errors import Conflict, QuarantineReason, StorageError
from specktrack.schema import ROWS, Clip, ClipRecord, ClipStatus, VideoRef, as_rows, sha256_hex
from specktrack.storage import MissingError, Store, open_store
from specktrack.storage.store import PROBE_NAME

SUCCESS = "_SUCCESS"
INDEX = "_records.parquet"
PAUSES_S = (0.0, 0.1, 0.5, 2.0, 4.0)
"""Before a record is put again that neither was taken nor has a winner."""
READERS = 16
"""Records are small: reading them is all waiting."""
ORPHAN_AGE_S = 24 * 3600.0
"""Rows without a record may belong to a writer that is about to commit; older ones belong to nobody."""


_VIDEO_KEY = r"[A-Za-z0-9._-]+-[0-9a-f]{12}"
_DATA_NAME = re.compile(rf"data/{_VIDEO_KEY}/[0-9a-f]{{32}}\.(parquet|pack)")
_RECORD_NAME = re.compile(rf"records/{_VIDEO_KEY}/[0-9]{{9,}}-[0-9]{{9,}}\.json")


class Content(NamedTuple):
    """The data written for a clip."""

    data: bytes
    rows: int
    suffix: str = "parquet"


class Ledger:
    """The records of one output, all made by one model under one configuration."""

    def __init__(self, store: Store, model_sha: str, config_sha: str) -> None:
        self.store, self.model_sha, self.config_sha = store, model_sha, config_sha

    def completed(self) -> dict[str, ClipRecord]:
        """All records by key; Conflict if one was made by another model or configuration."""
        return {record.key: self._ours(record) for _, record in _listed(self.store)}

    def record(self, key: str) -> ClipRecord | None:
        """The record of one clip, if it has one."""
        record = self._read(key)
        return None if record is None else self._ours(record)

    def commit(
        self,
        clip: Clip,
        table: pa.Table,
        *,
        frames: int | None = None,
        decode_errors: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> ClipRecord:
        """Write the clip's rows and its record. Returns the record that stands: ours, or that of a writer who won.

        ``frames`` is how many the whole video has, here and below.
        """
        record = self._committed(clip, decode_errors, frames)
        return self._write(record, _as_parquet(record, table, metadata))

    def commit_content(
        self, clip: Clip, content: Content, *, frames: int | None = None, decode_errors: int = 0
    ) -> ClipRecord:
        """The same for what is no rows."""
        return self._write(self._committed(clip, decode_errors, frames), content)

    def _committed(self, clip: Clip, decode_errors: int, frames: int | None) -> ClipRecord:
        return ClipRecord(
            video=clip.video,
            start=clip.start,
            stop=clip.stop,
            status=ClipStatus.COMMITTED,
            decode_errors=decode_errors,
            frames=frames,
            model_sha=self.model_sha,
            config_sha=self.config_sha,
        )

    def quarantine(
        self,
        video: VideoRef,
        start: int,
        stop: int,
        *,
        reason: QuarantineReason,
        detail: str,
        table: pa.Table | None = None,
        frames: int | None = None,
        decode_errors: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> ClipRecord:
        """Record why a clip, or a whole video (0, 0), is set aside, with the rows of the frames read before that."""
        record = ClipRecord(
            video=video,
            start=start,
            stop=stop,
            status=ClipStatus.QUARANTINED,
            decode_errors=decode_errors,
            reason=reason,
            detail=detail,
            frames=frames,
            model_sha=self.model_sha,
            config_sha=self.config_sha,
        )
        return self._write(
            record, _as_parquet(record, table, metadata) if table is not None and table.num_rows else None
        )

    def forget(self, key: str) -> None:
        """Remove a clip's record and its rows, so that the clip is done again."""
        record = self.record(key)
        if record is None:
            return
        self.store.delete(SUCCESS)  # which vouches for this record
        self.store.delete(_place(key))  # before its rows: it must never name what is gone
        if record.data_uri is not None:
            self.store.delete(record.data_uri)

    def discard(self, key: str) -> None:
        """Remove a record that names no whole rows, so that the clip is done again; ``gc`` takes what is left."""
        self.store.delete(SUCCESS)  # which vouches for it
        self.store.delete(_place(key))

    def is_sealed(self, records: Collection[ClipRecord]) -> bool:
        """Whether a finished run left these records and no others."""
        try:
            sealed = _sealed(self.store)
        except StorageError:  # a damaged seal is written again; if it is the store, that says so
            return False
        return sealed is not None and sealed == (len(records), _sha_of_all(records))

    def seal(self, planned: Collection[str]) -> dict:
        """Write ``_SUCCESS`` and return its content; StorageError if a planned key has no record."""
        listed = _listed(self.store)
        records = {record.key: self._ours(record) for _, record in listed}
        missing = sorted(set(planned) - set(records))
        if missing:
            raise StorageError(
                f"{len(missing)} clips have no record; the first is",
                missing[0],
                self.store.uri,
                "run the same command again",
            )
        _remove_orphans(self.store, ORPHAN_AGE_S)
        ordered = list(records.values())
        content = {
            "version": __version__,
            "model_sha": self.model_sha,
            "config_sha": self.config_sha,
            "clips": dict(sorted(Counter(str(record.status) for record in ordered).items())),
            "reasons": dict(sorted(Counter(str(record.reason) for record in ordered if record.reason).items())),
            "videos": len({record.video.key for record in ordered}),
            "rows": sum(record.rows for record in ordered),
            "records_sha256": _sha_of_all(ordered),
        }
        self.store.put(INDEX, _to_index(listed))
        self.store.put(SUCCESS, json.dumps(content, indent=2).encode())
        return content

    def _write(self, record: ClipRecord, content: Content | None) -> ClipRecord:
        if content is not None:
            name = f"data/{record.video.key}/{uuid.uuid4().hex}.{content.suffix}"
            self.store.put(name, content.data)
            named = {"data_uri": name, "rows": content.rows, "sha256": sha256_hex(content.data)}
            record = record.model_copy(update=named)
        standing = self._standing(record)
        if record.data_uri is not None and standing.data_uri != record.data_uri:  # equal: our own repeated PUT
            self.store.delete(record.data_uri)
        return self._ours(standing)

    def _standing(self, record: ClipRecord) -> ClipRecord:
        """The clip's record: ours, or the winner's. One forgotten before it could be read gives ours another chance."""
        for pause_s in (*PAUSES_S, 0.0):
            if (standing := self._put(record)) is not None:
                return standing
            time.sleep(pause_s * random.uniform(0.5, 1.0))
        what, remedy = "a record can be neither written nor read", "run the same command again"
        raise StorageError(what, record.key, self.store.uri, remedy)

    def _put(self, record: ClipRecord) -> ClipRecord | None:
        """Try to make it the clip's record; the one that stands, if it can be read."""
        try:
            self.store.put_if_absent(_place(record.key), _to_json(record))
        except Conflict:
            return self._read(record.key)
        return record

    def _read(self, key: str) -> ClipRecord | None:
        with suppress(MissingError):
            return _parse(self.store.get(_place(key)), _place(key))
        return None

    def _ours(self, record: ClipRecord) -> ClipRecord:
        if (record.model_sha, record.config_sha) != (self.model_sha, self.config_sha):
            raise Conflict(
                "the output holds clips of another model or configuration",
                f"{record.model_sha[:12]}/{record.config_sha[:12]}",
                f"{self.store.uri}, clip {record.key}",
                "choose another --output, or start over with --fresh",
            )
        return record


def collect_garbage(uri: str, *, older_than_s: float = ORPHAN_AGE_S) -> int:
    """Remove what an output's writers left behind when they died; how many objects there were.

    That is: rows that no record names, probes, temporary files and unfinished uploads. Younger ones may belong to a
    active writer.
    """
    store = open_store(uri)
    unfinished = store.clear_unfinished(older_than_s=older_than_s, uploads_below="overlays/")
    return _remove_orphans(store, older_than_s) + _remove_probes(store, older_than_s) + unfinished


def find_faults(store: Store) -> dict[str, str]:
    """Keys of the records that are damaged or whose rows are lost, changed or too few, and what is wrong with each."""

    def look(key: str) -> tuple[str, str]:
        try:
            record = _parse(store.get(_place(key)), _place(key))
            rows = _whole_rows(store, record) if record.data_uri is not None else 0
        except (StorageError, pa.ArrowException) as error:
            return key, str(error)
        return key, "" if rows == record.rows else f"{rows} of {record.rows} rows exist"

    places = [info.key for info in store.list("records/") if _RECORD_NAME.fullmatch(info.key)]
    keys = [place.removeprefix("records/").removesuffix(".json") for place in places]
    with ThreadPoolExecutor(READERS) as pool:
        return {key: what for key, what in pool.map(look, keys) if what}


def clear(store: Store) -> None:
    """Remove everything that was written here and nothing else; records first, for none may name rows that are gone."""
    records = [info.key for info in store.list("records/") if _RECORD_NAME.fullmatch(info.key)]
    videos = {place.split("/")[1] for place in records}
    own = {f"overlays/{name}.mp4" for video in videos for name in (video, video[: -len("-0123456789ab")])}
    own |= {f"backgrounds/{video}.png" for video in videos}
    pictures = [info.key for below in ("overlays/", "backgrounds/") for info in store.list(below) if info.key in own]
    rows = [info.key for info in store.list("data/") if _DATA_NAME.fullmatch(info.key)]
    for keys in ([SUCCESS, INDEX], pictures, records, rows):  # pictures are named by the records, so before them
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(store.delete, keys))


def _remove_orphans(store: Store, older_than_s: float) -> int:
    """Records are read after the listing of rows, so rows that are committed meanwhile are seen as named."""
    rows = [info for info in store.list("data/") if _DATA_NAME.fullmatch(info.key)]
    before_s = store.now_s() - older_than_s if rows else 0.0
    old = [info.key for info in rows if info.modified_s < before_s]
    named = {record.data_uri for _, record in _listed(store)} if old else set()
    orphans = [key for key in old if key not in named]
    for key in orphans:
        store.delete(key)
    return len(orphans)


def _remove_probes(store: Store, older_than_s: float) -> int:
    probes = [info for info in store.list("_probe-") if PROBE_NAME.fullmatch(info.key)]
    before_s = store.now_s() - older_than_s if probes else 0.0
    old = [info.key for info in probes if info.modified_s < before_s]
    for key in old:
        store.delete(key)
    return len(old)


def read_records(uri: str, *, video: VideoRef | None = None) -> list[ClipRecord]:
    """The records of an output, or of one video in it, ordered by video URI and start.

    StorageError if it has none, if one is damaged, and if those of a finished run are not all there.
    """
    store = open_store(uri)
    sealed = _sealed(store)
    records = [record for _, record in _listed(store, f"records/{video.key}/" if video else "records/")]
    if not records and sealed is None:
        raise StorageError("no annotations", store.uri, remedy="give the --output of an annotate run")
    if sealed is not None and video is None and not _vouches(sealed, records) and _sealed(store) == sealed:
        what = "records were lost or changed after their run finished"
        raise StorageError(what, len(records), store.uri, "run the same command again")
    return sorted(records, key=lambda record: (record.video.uri, record.start, record.key))


def overlay_places(videos: Sequence[VideoRef]) -> dict[VideoRef, str]:
    """The key of each video's overlay in an output of them all."""
    names = Counter(video.name for video in videos)
    return {video: f"overlays/{video.name if names[video.name] == 1 else video.key}.mp4" for video in videos}


def scan_annotations(uri: str, *, videos: Collection[str] | None = None) -> Iterator[pa.Table]:
    """The rows of one clip after the other, ordered by video URI and start, in constant memory.

    ``videos`` are the URIs of those that are wanted; the default wants all.
    """
    store = open_store(uri)
    wanted = (record for record in read_records(uri) if videos is None or record.video.uri in videos)
    return (_rows(store, record) for record in wanted if record.data_uri is not None)


def read_annotations(uri: str, *, video: VideoRef | None = None) -> pa.Table:
    """The rows of an output, or of one video in it, ordered by video, object and frame.

    Only rows that records name are read, and their bytes are checked against the recorded hash.
    """
    store = open_store(uri)
    records = [record for record in read_records(uri, video=video) if record.data_uri is not None]
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda record: _rows(store, record), records))
    rows = pa.concat_tables([ROWS.empty_table(), *tables]).unify_dictionaries()
    return rows.sort_by([("video", "ascending"), ("object", "ascending"), ("frame", "ascending")])


def _sha_of_all(records: Collection[ClipRecord]) -> str:
    ordered = sorted(records, key=lambda record: record.key)
    return sha_of([[r.key, r.status, r.rows, r.sha256, r.reason] for r in ordered])


class _Sealed(NamedTuple):
    """The contents of ``_SUCCESS``: a summary of the records."""

    records: int
    sha256: str


def _sealed(store: Store) -> _Sealed | None:
    try:
        content = json.loads(store.get(SUCCESS))
        return _Sealed(sum(content["clips"].values()), content["records_sha256"])
    except MissingError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError):
        place, remedy = store.uri_of(SUCCESS), "run the same command again"
        raise StorageError("not the summary of a finished run", place=place, remedy=remedy) from None


def _vouches(sealed: _Sealed, records: Collection[ClipRecord]) -> bool:
    """Whether they are the records of then; more of them are those of an active run."""
    return len(records) > sealed.records or (len(records), _sha_of_all(records)) == sealed


def _place(key: str) -> str:
    return f"records/{key}.json"


class _Known(NamedTuple):
    """Name and ETag of a record's object."""

    place: str
    etag: str


def _listed(store: Store, prefix: str = "records/") -> list[tuple[_Known, ClipRecord]]:
    """All records, or those below ``prefix``, in the order of their places."""
    index = _index(store) if prefix == "records/" else {}

    def read(known: _Known) -> ClipRecord | None:
        with suppress(MissingError):  # forgotten by a retry since it was listed
            return _parse(store.get(known.place), known.place)
        return None

    there = [_Known(info.key, info.etag) for info in store.list(prefix) if _RECORD_NAME.fullmatch(info.key)]
    unread = [known for known in there if known not in index]
    with ThreadPoolExecutor(READERS) as pool:
        records = index | dict(zip(unread, pool.map(read, unread), strict=True))
    return [(known, record) for known in there if (record := records[known]) is not None]


def _to_index(listed: Sequence[tuple[_Known, ClipRecord]]) -> bytes:
    sink = io.BytesIO()
    lines = [{**known._asdict(), "record": _to_json(record)} for known, record in listed]
    schema = pa.schema({"place": pa.string(), "etag": pa.string(), "record": pa.binary()})
    pq.write_table(pa.Table.from_pylist(lines, schema), sink, compression="zstd")
    return sink.getvalue()


def _index(store: Store) -> dict[_Known, ClipRecord | None]:
    """The records in ``_records.parquet``; empty if it is missing or damaged."""
    try:
        data = io.BytesIO(store.get(INDEX))
    except MissingError:
        return {}
    try:
        lines = pq.read_table(data).to_pylist()
        return {_Known(line["place"], line["etag"]): _parse(line["record"], line["place"]) for line in lines}
    except (pa.ArrowException, OSError, LookupError, AttributeError, StorageError):
        return {}


_CHECKSUM = b',\n "checksum": "'


def _to_json(record: ClipRecord) -> bytes:
    """The record, and last in it the SHA-256 of the text without that: every flipped bit is noticed."""
    text = record.model_dump_json(indent=1).encode()
    return text.removesuffix(b"\n}") + _CHECKSUM + sha256_hex(text).encode() + b'"\n}'


def _parse(data: bytes, place: str) -> ClipRecord:
    head, mark, checksum = data.rpartition(_CHECKSUM)  # the first records had none
    if mark:
        data = head + b"\n}"
        if checksum != sha256_hex(data).encode() + b'"\n}':
            raise StorageError("a damaged record", place=place, remedy="remove it to redo the clip")
    try:
        record = ClipRecord.model_validate_json(data)
    except ValidationError as error:
        raise StorageError(
            "not a record", place=place, remedy=f"remove it to redo the clip ({error.error_count()} problems)"
        ) from None
    if _place(record.key) != place:
        raise StorageError("a record is stored under the wrong key", record.key, place, "remove it to redo the clip")
    return record


def _own_rows(record: ClipRecord, table: pa.Table) -> pa.Table:
    """The rows in their order, checked: this video's, inside the clip, one per frame and object."""
    rows = table.cast(ROWS).sort_by([("object", "ascending"), ("frame", "ascending")])
    frames = rows["frame"]
    assert pc.all(pc.equal(rows["video"], record.video.uri)).as_py() is not False, "rows of another video"
    if rows.num_rows:
        last = record.stop if record.stop > record.start else pc.max(frames).as_py() + 1
        assert record.start <= pc.min(frames).as_py() and pc.max(frames).as_py() < last, "rows outside the clip"
    pairs = rows.group_by(["object", "frame"]).aggregate([]).num_rows
    assert pairs == rows.num_rows, "two rows for one frame and object"
    return rows


def _as_parquet(record: ClipRecord, table: pa.Table, metadata: Mapping[str, str] | None) -> Content:
    return Content(_to_parquet(_own_rows(record, table), metadata or {}), table.num_rows)


def _to_parquet(rows: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """Equal rows and metadata give equal bytes, however the table was put together."""
    columns = [
        rows[field.name].cast(pa.string()).combine_chunks().dictionary_encode()  # words in order of appearance
        if pa.types.is_dictionary(field.type)
        else rows[field.name].combine_chunks()
        for field in ROWS
    ]
    described = ROWS.with_metadata({"package_version": __version__, **dict(sorted(metadata.items()))})
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, schema=described), sink, compression="zstd")
    return sink.getvalue()


def _whole_rows(store: Store, record: ClipRecord) -> int:
    """How many there are in the data object, whose bytes are those of then; what a pack holds is in them alone."""
    assert record.data_uri is not None
    if record.data_uri.endswith(".parquet"):
        return _rows(store, record).num_rows
    store.get(record.data_uri, sha256=record.sha256)
    return record.rows


def _rows(store: Store, record: ClipRecord) -> pa.Table:
    assert record.data_uri is not None
    data = store.get(record.data_uri, sha256=record.sha256)
    return as_rows(pq.read_table(io.BytesIO(data)).replace_schema_metadata(None))
