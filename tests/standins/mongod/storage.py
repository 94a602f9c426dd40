# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is on disk: the oplog in segments, a snapshot of the documents, and a small file of facts.

    mongod.lock       locked while a server runs
    meta.bson         term, vote, configuration, flags: replaced as a whole
    data.bson         the documents as of a majority committed entry, replaced as a whole
    oplog/NNNNNNNN    frames of length, CRC and an oplog entry, appended; also the journal: what is newer than
                      data.bson is applied again at the start

A write is acknowledged as journaled when its segment has been synced.
"""

from __future__ import annotations

import array
import asyncio
import bisect
import collections
import contextlib
import fcntl
import os
import pathlib
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator

import bson

from .catalog import Catalog, Undo, removed_file
from .common import CODEC, NULL, Doc, OpTime, log, pack

_FRAME = struct.Struct("<II")
_SNAPSHOT_EVERY = 16 * 1024 * 1024
_COUNTER_BITS = 40


def _sync_folder(folder: pathlib.Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: pathlib.Path, parts: Iterable[bytes]) -> None:
    """Replace a file so that a power cut leaves the old or the new one."""
    new = path.with_suffix(".new")
    with open(new, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    _sync_folder(path.parent)


class Oplog:
    """Entries in the order of their timestamps, capped at a size in bytes. Entries are numbered from `head` on."""

    def __init__(self, folder: pathlib.Path, cap: int) -> None:
        self.folder, self.cap = folder, cap
        self.segment_size = max(256 * 1024, min(8 * 1024 * 1024, cap // 4))
        folder.mkdir(parents=True, exist_ok=True)
        self._ts = array.array("Q")
        self._term = array.array("q")
        self._where = array.array("Q")
        self._size = array.array("L")
        self._fds: dict[int, int] = {}
        self._end = 0  # bytes in the last segment
        self.base = 0  # number of the first entry in the arrays
        self.head = 0  # number of the first entry that clients see
        self.bytes = 0  # of the entries from head on
        self._load()

    def _load(self) -> None:
        for path in sorted(self.folder.iterdir()):
            self._fds[int(path.name)] = os.open(path, os.O_RDWR)
        numbers = sorted(self._fds)
        for number in numbers:
            data = os.pread(self._fds[number], os.fstat(self._fds[number]).st_size, 0)
            at = 0
            while at + 8 <= len(data):
                size, crc = _FRAME.unpack_from(data, at)
                payload = data[at + 8 : at + 8 + size]
                if len(payload) < size or zlib.crc32(payload) != crc:
                    break
                self._note(bson.decode(payload, CODEC), number, at, size)
                at += 8 + size
            self._end = at
            if at < len(data):
                # Torn by a kill in the middle of a write: never acknowledged.
                os.ftruncate(self._fds[number], at)
                for later in numbers[numbers.index(number) + 1 :]:
                    self._drop_segment(later)
                break
        if not self._fds:
            self._new_segment(0)

    def _note(self, entry: Doc, segment: int, at: int, size: int) -> None:
        self._ts.append(pack(entry["ts"]))
        self._term.append(int(entry["t"]))
        self._where.append(segment << _COUNTER_BITS | at)
        self._size.append(size)
        self.bytes += size

    def _new_segment(self, number: int) -> None:
        if number - 1 in self._fds:
            os.fsync(self._fds[number - 1])
        self._fds[number] = os.open(self.folder / f"{number:08}", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._end = 0
        _sync_folder(self.folder)

    def _drop_segment(self, number: int) -> None:
        os.close(self._fds.pop(number))
        (self.folder / f"{number:08}").unlink()

    # Entries

    @property
    def end(self) -> int:
        """The number after the last entry's."""
        return self.base + len(self._ts)

    def optime(self, number: int) -> OpTime:
        return OpTime(self._term[number - self.base], self._ts[number - self.base])

    @property
    def last(self) -> OpTime:
        return self.optime(self.end - 1) if self._ts else NULL

    @property
    def first(self) -> OpTime:
        return self.optime(self.head) if self.head < self.end else NULL

    def find(self, ts: int) -> int:
        """The number of the first entry at or after a timestamp."""
        return max(self.head, self.base + bisect.bisect_left(self._ts, ts))

    def after(self, ts: int) -> int:
        """The number of the first entry after a timestamp, also of those that clients no longer see."""
        return self.base + bisect.bisect_right(self._ts, ts)

    def has(self, optime: OpTime) -> bool:
        number = self.find(optime.ts)
        return number < self.end and self.optime(number) == optime

    def read(self, number: int) -> Doc:
        where, size = self._where[number - self.base], self._size[number - self.base]
        segment, at = where >> _COUNTER_BITS, where & ((1 << _COUNTER_BITS) - 1)
        entry: Doc = bson.decode(os.pread(self._fds[segment], size, at + 8), CODEC)
        return entry

    def append(self, entries: list[Doc]) -> None:
        """One write for all; `sync` makes it durable."""
        if self._end > self.segment_size:
            self._new_segment(max(self._fds) + 1)
        segment, at, frames = max(self._fds), self._end, []
        for entry in entries:
            payload = bson.encode(entry, codec_options=CODEC)
            frames.append(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
            self._note(entry, segment, at, len(payload))
            at += len(frames[-1])
        data = memoryview(b"".join(frames))
        at = self._end
        while data:
            written = os.pwrite(self._fds[segment], data, at)
            data, at = data[written:], at + written
        self._end = at

    def sync_handle(self) -> int:
        """A descriptor to sync and close, good even when the segment goes meanwhile."""
        return os.dup(self._fds[max(self._fds)])

    def cap_to(self, keep_from: int, durable_from: int) -> None:
        """Hide what is over the cap, but nothing after the entries from ts `keep_from` on; delete segments whose
        entries the snapshot (to ts `durable_from`) holds."""
        while self.bytes > self.cap and self.head < self.end - 1 and self._ts[self.head - self.base] < keep_from:
            self.bytes -= self._size[self.head - self.base]
            self.head += 1
        segment = self._where[self.head - self.base] >> _COUNTER_BITS if self.head < self.end else max(self._fds)
        cut = 0
        for old in sorted(self._fds):
            until = bisect.bisect_left(self._where, (old + 1) << _COUNTER_BITS)
            if old >= segment or until and self._ts[until - 1] > durable_from:
                break
            self._drop_segment(old)
            cut = until
        if cut:
            for column in (self._ts, self._term, self._where, self._size):
                del column[:cut]
            self.base += cut

    def truncate_after(self, ts: int) -> None:
        """Forget what is newer, durably."""
        number = self.after(ts)
        if number >= self.end:
            return
        where = self._where[number - self.base]
        segment, at = where >> _COUNTER_BITS, where & ((1 << _COUNTER_BITS) - 1)
        for later in sorted(self._fds):
            if later > segment:
                self._drop_segment(later)
        os.ftruncate(self._fds[segment], at)
        os.fsync(self._fds[segment])
        _sync_folder(self.folder)
        self._end = at
        self.bytes -= sum(self._size[max(number, self.head) - self.base :])
        for column in (self._ts, self._term, self._where, self._size):
            del column[number - self.base :]
        self.head = min(self.head, self.end)

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()


class CopyNeeded(Exception):
    """History cannot be taken back far enough: only a new copy helps."""


class Storage:
    """The oplog and the documents that follow from it."""

    def __init__(self, dbpath: pathlib.Path, cap: int) -> None:
        self.dbpath, self.cap = dbpath, cap
        dbpath.mkdir(parents=True, exist_ok=True)
        self._lock = open(dbpath / "mongod.lock", "a+")  # noqa: SIM115 (locked as long as the process)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError("DBPathInUse: Unable to lock the lock file: Another mongod instance is already running") from None
        self.unclean = self._lock.seek(0, os.SEEK_END) > 0
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        self.meta: Doc = {}
        self.catalog = Catalog()
        self.applied = NULL
        self.durable = NULL
        self.committed = NULL
        self.floor = NULL  # nothing up to here can be taken back: it came as a copy or with a snapshot
        self.epoch = 0  # grows when history is taken back
        self._undo: collections.deque[tuple[OpTime, str, Undo]] = collections.deque()
        self._snapshot_at = NULL
        self._since_snapshot = 0
        if (dbpath / "meta.bson").exists():
            self.meta = bson.decode((dbpath / "meta.bson").read_bytes(), CODEC)
        if self.meta.get("initialSync"):
            # Half a copy is no data: start again.
            log("INITSYNC", "Initial sync was interrupted, starting again")
            self._clear()
        self.oplog = Oplog(dbpath / "oplog", cap)
        self._load()

    def _load(self) -> None:
        path = self.dbpath / "data.bson"
        if path.exists():
            with open(path, "rb") as file:
                docs = bson.decode_file_iter(file, CODEC)
                head = next(docs)
                self.applied, self.committed = OpTime.of(head["applied"]), OpTime.of(head["committed"])
                self.catalog.load(docs)
        self._snapshot_at = self.floor = self.applied
        for number in range(self.oplog.after(self.applied.ts), self.oplog.end):
            entry = self.oplog.read(number)
            self._undo.append((self.oplog.optime(number), entry["ns"], self.catalog.apply(entry)))
            self.applied = self.oplog.optime(number)
        self.durable = self.applied
        self.oplog.cap_to(self.committed.ts, self._snapshot_at.ts)

    def _clear(self) -> None:
        for name in ("data.bson",):
            (self.dbpath / name).unlink(missing_ok=True)
        shutil.rmtree(self.dbpath / "oplog", ignore_errors=True)
        _sync_folder(self.dbpath)

    @property
    def empty(self) -> bool:
        return self.applied == NULL

    def set_meta(self, **facts: object) -> None:
        """Durable when this returns."""
        self.meta.update(facts)
        replace_file(self.dbpath / "meta.bson", [bson.encode(self.meta, codec_options=CODEC)])

    def append(self, entries: list[Doc]) -> None:
        """Write entries to the oplog and apply them."""
        before = self.oplog.bytes
        try:
            self.oplog.append(entries)
        except OSError as error:
            # As mongod does: a server that cannot write its journal ends, what is acknowledged is on disk.
            log("STORAGE", "Cannot write the oplog", "F", error=str(error))
            os._exit(14)
        self._since_snapshot += self.oplog.bytes - before
        for entry in entries:
            optime = OpTime(int(entry["t"]), pack(entry["ts"]))
            self._undo.append((optime, entry["ns"], self.catalog.apply(entry)))
            self.applied = optime
        self.oplog.cap_to(self.committed.ts, self._snapshot_at.ts)

    def commit(self, optime: OpTime) -> bool:
        """The majority has everything up to here. True when that is news."""
        if optime <= self.committed:
            return False
        self.committed = optime
        while self._undo and self._undo[0][0] <= optime:
            self._undo.popleft()
        if self._since_snapshot > _SNAPSHOT_EVERY:
            self.snapshot()
        return True

    async def sync(self) -> None:
        """Make durable what has been appended before the call."""
        target, epoch, handle = self.applied, self.epoch, self.oplog.sync_handle()
        try:
            await asyncio.get_running_loop().run_in_executor(None, os.fsync, handle)
        finally:
            os.close(handle)
        if epoch == self.epoch:
            self.durable = max(self.durable, target)

    @contextlib.contextmanager
    def at_commit_point(self) -> Iterator[Catalog]:
        """The documents as the majority has them. Nothing else may run meanwhile: no await inside."""
        if not self._undo:
            yield self.catalog
            return
        for _, _, undo in reversed(self._undo):
            undo()
        try:
            yield self.catalog
        finally:
            redone: collections.deque[tuple[OpTime, str, Undo]] = collections.deque()
            for optime, ns, _ in self._undo:
                redone.append((optime, ns, self.catalog.apply(self.oplog.read(self.oplog.after(optime.ts) - 1))))
            self._undo = redone

    def snapshot(self) -> None:
        """Write the documents as of the commit point; older entries are no longer needed to start."""
        point = max(self.committed, self.floor)
        with self.at_commit_point() as catalog:
            head = bson.encode({"applied": point.doc(), "committed": self.committed.doc()}, codec_options=CODEC)
            replace_file(self.dbpath / "data.bson", (part for parts in ([head], catalog.dump()) for part in parts))
        self._snapshot_at, self._since_snapshot = point, 0
        self.oplog.cap_to(self.committed.ts, self._snapshot_at.ts)

    def rollback_to(self, common: OpTime) -> int:
        """Take back everything after `common`; what documents held is left in rollback files. The number of entries.

        Raises CopyNeeded when the common point is older than the copy with which this member began.
        """
        if common < self.committed:
            raise RuntimeError(f"UnrecoverableRollbackError: common point {common} is before the commit point {self.committed}")
        if common < self.floor:
            raise CopyNeeded
        lost: dict[str, dict[object, Doc]] = {}
        for number in range(self.oplog.after(common.ts), self.oplog.end):
            entry = self.oplog.read(number)
            if entry["op"] in ("i", "u"):
                lost.setdefault(entry["ns"], {})[repr(entry["o"]["_id"])] = entry["o"]
        for ns, docs in lost.items():
            if collection := self.catalog.get(ns):
                removed_file(self.dbpath, ns, collection.uuid, list(docs.values()))
        count = 0
        while self._undo and self._undo[-1][0] > common:
            self._undo.pop()[2]()
            count += 1
        self.oplog.truncate_after(common.ts)
        self.epoch += 1
        self.applied = common
        self.durable = min(self.durable, common)
        return count

    def start_initial_sync(self) -> None:
        """Throw away all data, and remember that what follows is not complete."""
        self.set_meta(initialSync=True)
        self.oplog.close()
        self._clear()
        self.catalog = Catalog()
        self.oplog = Oplog(self.dbpath / "oplog", self.cap)
        self._undo.clear()
        self.applied = self.durable = self.committed = self.floor = self._snapshot_at = NULL
        self.epoch += 1

    def finish_initial_sync(self, committed: OpTime) -> None:
        """The copy is complete. It cannot be taken back, not even what the majority does not have yet."""
        self._undo.clear()
        self.floor = self.applied
        self.commit(min(committed, self.applied))
        self.snapshot()
        self.durable = self.applied
        self.set_meta(initialSync=False)

    def close(self, clean: bool) -> None:
        if clean:
            self.snapshot()
            os.ftruncate(self._lock.fileno(), 0)
        self.oplog.close()
        self._lock.close()
