# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading and writing documents, and the cursors between."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import bson
import mongomock
from bson import Int64, ObjectId
from bson.raw_bson import RawBSONDocument
from mongomock import filtering
from sentinels import NOTHING  # type: ignore[import-untyped]

from .catalog import Catalog, Collection, duplicate, freeze
from .common import CODEC, Doc, MongoError, OpTime, pack, split
from .registry import Request, _translated, command

MAX_DOCUMENT = 16 * 1024 * 1024
MAX_REPLY = 16 * 1024 * 1024
FIRST_BATCH = 101
OPLOG = "local.oplog.rs"


def _raw(doc: Doc) -> RawBSONDocument:
    """Encoded once: for its size, and for the reply."""
    return RawBSONDocument(bson.encode(doc, codec_options=CODEC))


# Cursors


class ListCursor:
    """Documents that were found at once, as of then."""

    tailable = False

    def __init__(self, docs: list[Doc]) -> None:
        self._docs, self._at = docs, 0

    def take(self, limit: int | None) -> list[RawBSONDocument]:
        batch: list[RawBSONDocument] = []
        size = 0
        while self._at < len(self._docs) and (limit is None or len(batch) < limit):
            raw = _raw(self._docs[self._at])
            size += len(raw.raw)
            if batch and size > MAX_REPLY:
                break
            batch.append(raw)
            self._at += 1
        return batch

    @property
    def done(self) -> bool:
        return self._at >= len(self._docs)


class OplogCursor:
    """The oplog, read from disk as it is asked for; a tailable one never ends."""

    def __init__(self, request: Request) -> None:
        body, self._storage = request.body, request.node.storage
        self.tailable = bool(body.get("tailable"))
        self._filter: Doc = body.get("filter") or {}
        self._projection = body.get("projection")
        self._backward = (body.get("sort") or {}).get("$natural", 1) < 0
        self._left = int(body.get("limit", 0)) or None
        self._skip = int(body.get("skip", 0))
        self._catalog = request.node.storage.catalog
        self._epoch = self._storage.epoch
        filtering.filter_applies(self._filter, {})
        oplog = self._storage.oplog
        self._at = oplog.end - 1 if self._backward else oplog.find(_lower_bound(self._filter))
        self._simple = not (set(self._filter) - {"ts"})

    @property
    def done(self) -> bool:
        if self._left == 0:
            return True
        oplog = self._storage.oplog
        return not self.tailable and (self._at < oplog.head if self._backward else self._at >= oplog.end)

    @property
    def ready(self) -> bool:
        return self._at < self._storage.oplog.end

    def take(self, limit: int | None) -> list[RawBSONDocument]:
        oplog = self._storage.oplog
        if self._epoch != self._storage.epoch:
            raise MongoError("CursorNotFound", "the oplog was rolled back under this cursor")
        if not self._backward and self._at < oplog.head:
            raise MongoError("CursorNotFound", "CappedPositionLost: CollectionScan died due to position in capped collection being deleted")
        batch: list[RawBSONDocument] = []
        size = 0
        while size < MAX_REPLY // 4 and (limit is None or len(batch) < limit) and self._left != 0:
            if self._at < oplog.head or self._at >= oplog.end:
                break
            entry = oplog.read(self._at)
            self._at += -1 if self._backward else 1
            if self._filter and not filtering.filter_applies(self._filter, entry):
                continue
            if self._skip:
                self._skip -= 1
                continue
            if self._projection:
                entry = self._catalog.client["local"]["projection"]._copy_only_fields(entry, dict(self._projection), dict)
            batch.append(_raw(entry))
            size += len(batch[-1].raw)
            if self._left is not None:
                self._left -= 1
        return batch


def _lower_bound(query: Doc) -> int:
    """The timestamp from which entries can match; a scan from the start would be slow on a long oplog."""
    wanted = query.get("ts")
    if isinstance(wanted, bson.Timestamp):
        return pack(wanted)
    if isinstance(wanted, dict):
        return max((pack(wanted[op]) for op in ("$gte", "$gt", "$eq") if isinstance(wanted.get(op), bson.Timestamp)), default=0)
    return 0


@dataclasses.dataclass
class Open:
    """A cursor that a client may ask for more."""

    id: int
    ns: str
    cursor: ListCursor | OplogCursor
    users: list[tuple[str, str]]
    await_data: bool = False


class Cursors:
    """The open ones of a server, by id. The oldest go when there are too many."""

    def __init__(self) -> None:
        self._open: dict[int, Open] = {}

    def add(self, request: Request, ns: str, cursor: ListCursor | OplogCursor) -> Open:
        ident = random.getrandbits(62) + 1
        opened = self._open[ident] = Open(ident, ns, cursor, list(request.connection.users), bool(request.body.get("awaitData")))
        while len(self._open) > 1000:
            del self._open[next(iter(self._open))]
        return opened

    def get(self, ident: int) -> Open:
        if ident not in self._open:
            raise MongoError("CursorNotFound", f"cursor id {ident} not found")
        return self._open[ident]

    def drop(self, ident: int) -> bool:
        return self._open.pop(ident, None) is not None

    def __len__(self) -> int:
        return len(self._open)


def _cursor_reply(request: Request, ns: str, cursor: ListCursor | OplogCursor, batch_size: int | None, single: bool = False) -> Doc:
    batch = cursor.take(FIRST_BATCH if batch_size is None else batch_size)
    ident = 0
    if not single and not (cursor.done and not cursor.tailable):
        ident = request.server.cursors.add(request, ns, cursor).id
    return {"cursor": {"firstBatch": batch, "id": Int64(ident), "ns": ns}}


def list_reply(request: Request, ns: str, docs: list[Doc]) -> Doc:
    size = (request.body.get("cursor") or {}).get("batchSize")
    return _cursor_reply(request, ns, ListCursor(docs), None if size is None else int(size))


def reading(request: Request, read: Callable[[Catalog], Any]) -> Any:
    """Run a read on what is applied, or on what the majority has."""
    storage = request.node.storage
    if (request.body.get("readConcern") or {}).get("level") in ("majority", "snapshot"):
        with storage.at_commit_point() as catalog:
            return read(catalog)
    return read(storage.catalog)


def _refuse(body: Doc, *names: str) -> None:
    for name in names:
        if body.get(name):
            raise MongoError("NotImplemented", f"{name} is not supported by this stand-in")


@command("find", "find", "collection", "data")
def find(request: Request) -> Doc:
    body = request.body
    if isinstance(request.value, bson.Binary):
        raise MongoError("NotImplemented", "find by UUID is not supported by this stand-in")
    _refuse(body, "collation", "let", "min", "max", "returnKey", "showRecordId")
    batch = body.get("batchSize")
    if request.ns == OPLOG:
        if not request.node.replicated:
            return _cursor_reply(request, OPLOG, ListCursor([]), None)
        return _cursor_reply(request, OPLOG, OplogCursor(request), batch, bool(body.get("singleBatch")))
    if body.get("tailable"):
        raise MongoError("BadValue", "error processing query: tailable cursor requested on non capped collection")
    if request.db == "local":
        found = _local(request)
    else:
        limit = abs(int(body.get("limit", 0)))
        found = reading(
            request,
            lambda catalog: catalog.find(request.ns, body.get("filter") or {}, body.get("sort"), int(body.get("skip", 0)), limit, body.get("projection")),
        )
    return _cursor_reply(request, request.ns, ListCursor(found), None if batch is None else int(batch), bool(body.get("singleBatch")))


def _local(request: Request) -> list[Doc]:
    """What this server keeps for itself."""
    config = request.node.topology.config
    if request.value == "system.replset" and config:
        return [config.doc()]
    return []


@command("getMore", "", "login", "any")
async def get_more(request: Request) -> Doc:
    body, node = request.body, request.node
    opened = request.server.cursors.get(int(body["getMore"]))
    if opened.ns != f"{request.db}.{body['collection']}":
        raise MongoError("Unauthorized", f"Requested getMore on namespace '{request.db}.{body['collection']}', but cursor belongs to {opened.ns}")
    if opened.users != request.connection.users:
        raise MongoError("Unauthorized", "cursor was not created by the same user")
    cursor = opened.cursor
    if isinstance(cursor, OplogCursor) and opened.await_data and not cursor.ready:
        known = OpTime.of(body.get("lastKnownCommittedOpTime"))
        asked = "lastKnownCommittedOpTime" in body
        term = node.topology.term

        def news() -> bool:
            return cursor.ready or asked and node.storage.committed > known or node.topology.term != term or request.killed

        await node.progress.until(news, request.max_time or 1.0)
    size = body.get("batchSize")
    batch = cursor.take(int(size) if size else None)
    if cursor.done and not cursor.tailable:
        request.server.cursors.drop(opened.id)
        return {"cursor": {"nextBatch": batch, "id": Int64(0), "ns": opened.ns}}
    return {"cursor": {"nextBatch": batch, "id": Int64(opened.id), "ns": opened.ns}}


@command("killCursors", "", "login", "any")
def kill_cursors(request: Request) -> Doc:
    gone: list[int] = []
    unknown: list[int] = []
    for ident in request.body["cursors"]:
        (gone if request.server.cursors.drop(int(ident)) else unknown).append(ident)
    return {"cursorsKilled": gone, "cursorsNotFound": unknown, "cursorsAlive": [], "cursorsUnknown": []}


@command("count", "find", "collection", "data")
def count(request: Request) -> Doc:
    body = request.body
    found = len(
        reading(request, lambda catalog: catalog.find(request.ns, body.get("query") or {}, None, int(body.get("skip", 0)), abs(int(body.get("limit", 0)))))
    )
    return {"n": found}


@command("distinct", "find", "collection", "data")
def distinct(request: Request) -> Doc:
    values: dict[Any, Any] = {}
    for doc in reading(request, lambda catalog: catalog.find(request.ns, request.body.get("query") or {})):
        for candidate in filtering.iter_key_candidates(request.body["key"], doc):
            for value in candidate if isinstance(candidate, list | tuple) else [candidate]:
                if value is not NOTHING:
                    values.setdefault(freeze(value), value)
    return {"values": list(values.values())}


@command("aggregate", "", "login", "data")
def aggregate(request: Request) -> Doc:
    body, node = request.body, request.node
    pipeline: list[Doc] = body["pipeline"]
    first = next(iter(pipeline[0]), "") if pipeline else ""
    if first == "$currentOp":
        request.demand("inprog", None)
        docs = request.server.operations()
        return list_reply(request, f"{request.db}.$cmd.aggregate", node.storage.catalog.aggregate("admin.x", docs, pipeline[1:]))
    if not isinstance(request.value, str):
        raise MongoError("NotImplemented", f"aggregation over a database ({first}) is not supported by this stand-in")
    if first == "$collStats":
        request.demand("collStats", request.db, request.value)
        docs = [_coll_stats_stage(request, pipeline[0]["$collStats"])]
        return list_reply(request, request.ns, node.storage.catalog.aggregate(request.ns, docs, pipeline[1:]))
    if first == "$indexStats":
        request.demand("collStats", request.db, request.value)
        collection = existing(request)
        docs = [{"name": name, "key": spec["key"], "accesses": {"ops": Int64(0)}, "spec": spec} for name, spec in collection.indexes.items()]
        return list_reply(request, request.ns, node.storage.catalog.aggregate(request.ns, docs, pipeline[1:]))
    request.demand("find", request.db, request.value)
    for stage in pipeline:
        name = next(iter(stage), "")
        if name in ("$out", "$merge", "$changeStream"):
            raise MongoError("NotImplemented", f"{name} is not supported by this stand-in")
        if name in ("$lookup", "$graphLookup"):
            request.demand("find", request.db, stage[name]["from"])
    _refuse(body, "collation", "let")
    if request.ns == OPLOG:
        entries = [node.storage.oplog.read(number) for number in range(node.storage.oplog.head, node.storage.oplog.end)]
        return list_reply(request, OPLOG, node.storage.catalog.aggregate(request.ns, entries, pipeline))

    def read(catalog: Catalog) -> list[Doc]:
        # A leading filter by _id must not copy the collection.
        head = pipeline[0]["$match"] if first == "$match" else {}
        return catalog.aggregate(request.ns, catalog.find(request.ns, head), pipeline[1:] if first == "$match" else pipeline)

    return list_reply(request, request.ns, reading(request, read))


def _coll_stats_stage(request: Request, spec: Doc) -> Doc:
    collection = request.node.storage.catalog.get(request.ns)
    docs = len(collection.docs) if collection else 0
    stage: Doc = {"ns": request.ns, "host": request.node.host}
    if "count" in spec:
        stage["count"] = docs
    if "storageStats" in spec:
        size = collection.size() if collection else 0
        stage["storageStats"] = {"size": size, "count": docs, "storageSize": size, "capped": False}
    return stage


@command("explain", "", "login", "data")
def explain(request: Request) -> Doc:
    inner = dict(request.value)
    name = next(iter(inner))
    request.demand("find", request.db, str(inner[name]))
    query = inner.get("filter") or inner.get("query") or {}
    stage = "IDHACK" if "_id" in query and not isinstance(query["_id"], dict) else "COLLSCAN"
    plan: Doc = {"namespace": f"{request.db}.{inner[name]}", "parsedQuery": query, "winningPlan": {"stage": stage}, "rejectedPlans": []}
    return {"explainVersion": "1", "queryPlanner": plan, "command": inner, "serverInfo": {"host": request.node.host, "version": request.node.version}}


# Writes


def existing(request: Request) -> Collection:
    collection = request.node.storage.catalog.get(request.ns)
    if collection is None:
        raise MongoError("NamespaceNotFound", f"ns does not exist: {request.ns}")
    return collection


def create_entry(ns: str, options: Doc | None = None) -> Doc:
    from .catalog import new_uuid

    database, name = split(ns)
    return {"op": "c", "ns": f"{database}.$cmd", "o": {"create": name, "options": options or {}}, "ui": new_uuid()}


def ensure(request: Request, ns: str) -> Collection:
    """The collection; writing to one that does not exist makes it."""
    database, name = split(ns)
    if not name or "$" in ns or len(ns) > 255 or any(c in database for c in '/\\. "'):
        raise MongoError("InvalidNamespace", f"Invalid namespace specified '{ns}'")
    catalog = request.node.storage.catalog
    if ns not in catalog.collections:
        request.node.write([create_entry(ns)])
    return catalog.collections[ns]


def guard_system(request: Request) -> None:
    """Users and roles are changed by their own commands."""
    guarded = ("admin.system.users", "admin.system.roles", "admin.system.version")
    if request.ns in guarded and not request.connection.internal:
        raise MongoError("Unauthorized", f"not authorized on {request.db} to write to {request.value}")


def _write_error(index: int, error: MongoError) -> Doc:
    return {"index": index, "code": error.code, "errmsg": error.message, **error.extra}


def _size(doc: Doc) -> None:
    if len(bson.encode(doc, codec_options=CODEC)) > MAX_DOCUMENT:
        raise MongoError("BadValue", "object to insert too large")


class Batch:
    """The statements of one write command: each alone, stopped by the first error when ordered."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.n = self.modified = 0
        self.errors: list[Doc] = []
        self.upserted: list[Doc] = []
        self.retried: list[int] = []

    def each(self, statements: list[Doc], work: Callable[[Doc, int], Doc]) -> Doc:
        if not statements:
            raise MongoError("InvalidOptions", "Write batch sizes must be between 1 and 100000. Got 0 operations.")
        for index, statement in enumerate(statements):
            try:
                ident = self.request.statement(index)
                result = self.request.replayed(ident)
                if result is None:
                    result = work(statement, ident)
                else:
                    self.retried.append(ident)
                self.n += result.get("n", 0)
                self.modified += result.get("nModified", 0)
                if "upserted" in result:
                    self.upserted.append({"index": index, "_id": result["upserted"]})
            except MongoError as error:
                if error.name in ("NotWritablePrimary", "ShutdownInProgress", "Unauthorized", "TransactionTooOld", "IllegalOperation"):
                    raise
                self.errors.append(_write_error(index, error))
            except (mongomock.OperationFailure, NotImplementedError) as error:
                self.errors.append(_write_error(index, _translated(error)))
            if self.errors and self.request.body.get("ordered", True):
                break
        self.request.wrote = self.request.node.storage.applied
        reply: Doc = {"n": self.n}
        if self.errors:
            reply["writeErrors"] = self.errors
        if self.retried:
            reply["retriedStmtIds"] = self.retried
        return self._identify(reply)

    def _identify(self, reply: Doc) -> Doc:
        """Drivers compare primaries by these."""
        node = self.request.node
        if node.replicated:
            reply["electionId"] = election_id(node.topology.term)
            reply["opTime"] = node.storage.applied.doc()
        return reply


def election_id(term: int) -> ObjectId:
    return ObjectId(f"7fffffff{term & 0xFFFFFFFFFFFFFFFF:016x}")


@command("insert", "insert", "collection", "primary")
def insert(request: Request) -> Doc:
    guard_system(request)
    node, batch = request.node, Batch(request)

    def work(doc: Doc, ident: int) -> Doc:
        collection = ensure(request, request.ns)
        stored = doc if next(iter(doc), None) == "_id" else {"_id": doc.get("_id", None) if "_id" in doc else ObjectId(), **doc}
        _size(stored)
        if isinstance(stored["_id"], list | bson.Regex):
            raise MongoError("InvalidOptions", "The '_id' value cannot be of type array or regex")
        if freeze(stored["_id"]) in collection.docs:
            raise duplicate(request.ns, collection.indexes["_id_"], {"_id": stored["_id"]})
        if conflict := collection.conflict(stored):
            raise duplicate(request.ns, *conflict)
        result = {"n": 1}
        node.write([{"op": "i", "ns": request.ns, "ui": collection.uuid, "o": stored, "o2": {"_id": stored["_id"]}, **request.stamp(ident, result)}])
        return result

    return batch.each(request.body["documents"], work)


def _store_update(request: Request, ns: str, collection: Collection, new: Doc, stamp: Doc) -> None:
    _size(new)
    if conflict := collection.conflict(new):
        raise duplicate(ns, *conflict)
    request.node.write([{"op": "u", "ns": ns, "ui": collection.uuid, "o": new, "o2": {"_id": new["_id"]}, **stamp}])


def _upsert(request: Request, query: Doc, update: Any, stamp: Callable[[Doc], Doc]) -> Doc:
    collection = ensure(request, request.ns)
    new = request.node.storage.catalog.upserted(query, update)
    _size(new)
    if freeze(new["_id"]) in collection.docs:
        raise duplicate(request.ns, collection.indexes["_id_"], {"_id": new["_id"]})
    if conflict := collection.conflict(new):
        raise duplicate(request.ns, *conflict)
    request.node.write([{"op": "i", "ns": request.ns, "ui": collection.uuid, "o": new, "o2": {"_id": new["_id"]}, **stamp(new)}])
    return new


@command("update", "update", "collection", "primary")
def update(request: Request) -> Doc:
    guard_system(request)
    catalog, batch = request.node.storage.catalog, Batch(request)

    def work(statement: Doc, ident: int) -> Doc:
        _refuse(statement, "arrayFilters", "collation")
        query, change, multi = statement["q"], statement["u"], bool(statement.get("multi"))
        if multi and request.retryable:
            raise MongoError("InvalidOptions", "Cannot use retryable writes with multi=true")
        found = list(catalog.match(request.ns, query) if multi else itertools.islice(catalog.match(request.ns, query), 1))
        if not found and statement.get("upsert"):
            upserted = _upsert(request, query, change, lambda new: request.stamp(ident, {"n": 1, "nModified": 0, "upserted": new["_id"]}))
            return {"n": 1, "upserted": upserted["_id"]}
        modified = 0
        for doc in found:
            new = catalog.updated(doc, query, change)
            # Compared as bytes: 1 and 1.0 differ, and so does the order of fields.
            if bson.encode(new, codec_options=CODEC) != bson.encode(doc, codec_options=CODEC):
                _store_update(request, request.ns, catalog.collections[request.ns], new, request.stamp(ident, {"n": 1, "nModified": 1}))
                modified += 1
        return {"n": len(found), "nModified": modified}

    reply = batch.each(request.body["updates"], work)
    reply["nModified"] = batch.modified
    if batch.upserted:
        reply["upserted"] = batch.upserted
    return reply


@command("delete", "remove", "collection", "primary")
def delete(request: Request) -> Doc:
    guard_system(request)
    node, catalog, batch = request.node, request.node.storage.catalog, Batch(request)

    def work(statement: Doc, ident: int) -> Doc:
        _refuse(statement, "collation")
        limit = int(statement.get("limit", 0))
        if request.retryable and not limit:
            raise MongoError("InvalidOptions", "Cannot use retryable writes with limit=0")
        found = catalog.find(request.ns, statement["q"], limit=limit)
        if found:
            ui = catalog.collections[request.ns].uuid
            node.write([{"op": "d", "ns": request.ns, "ui": ui, "o": {"_id": doc["_id"]}, **request.stamp(ident, {"n": 1})} for doc in found])
        return {"n": len(found)}

    return batch.each(request.body["deletes"], work)


@command("findAndModify", "update", "collection", "primary", alias="findandmodify")
def find_and_modify(request: Request) -> Doc:
    guard_system(request)
    body, node, catalog = request.body, request.node, request.node.storage.catalog
    _refuse(body, "arrayFilters", "collation", "let")
    request.demand("find", request.db, request.value)
    request.wrote = node.storage.applied
    statement = request.statement(0)
    if (known := request.replayed(statement)) is not None:
        return {**known, "retriedStmtId": statement}
    query, remove, new = body.get("query") or {}, bool(body.get("remove")), bool(body.get("new"))
    if remove and ("update" in body or new):
        raise MongoError("FailedToParse", "Cannot specify both an update or new=true and remove=true")
    if not remove and "update" not in body:
        raise MongoError("FailedToParse", "Either an update or remove=true must be specified")
    found = catalog.find(request.ns, query, body.get("sort"), limit=1)

    def shown(doc: Doc | None) -> Doc | None:
        if doc is None or not body.get("fields"):
            return doc
        projected: Doc = catalog.client["local"]["projection"]._copy_only_fields(doc, dict(body["fields"]), dict)
        return projected

    reply: Doc
    if remove:
        reply = {"lastErrorObject": {"n": len(found)}, "value": shown(found[0] if found else None)}
        if found:
            entry = {"op": "d", "ns": request.ns, "ui": catalog.collections[request.ns].uuid, "o": {"_id": found[0]["_id"]}}
            node.write([{**entry, **request.stamp(statement, reply)}])
    elif found:
        doc = catalog.updated(found[0], query, body["update"])
        reply = {"lastErrorObject": {"n": 1, "updatedExisting": True}, "value": shown(doc if new else found[0])}
        _store_update(request, request.ns, catalog.collections[request.ns], doc, request.stamp(statement, reply))
    elif body.get("upsert"):
        made: list[Doc] = []

        def answer(doc: Doc) -> Doc:
            last = {"n": 1, "updatedExisting": False, "upserted": doc["_id"]}
            made.append({"lastErrorObject": last, "value": shown(doc) if new else None})
            return request.stamp(statement, made[0])

        _upsert(request, query, body["update"], answer)
        reply = made[0]
    else:
        reply = {"lastErrorObject": {"n": 0, "updatedExisting": False}, "value": None}
    request.wrote = node.storage.applied
    return reply
