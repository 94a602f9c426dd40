# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documents in memory: mongomock's query engine over collections whose changes come only from oplog entries.

Each entry holds whole documents (post images), so that applying it again changes nothing, and each application returns
how to take it back: that is what rollback, majority reads and snapshots at the commit point stand on.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import bson
import mongomock
from bson import Binary, Decimal128, Timestamp
from mongomock import aggregate, filtering, helpers

from .common import CODEC, Doc, MongoError, split, utcnow

Undo = Callable[[], None]
Key = Any

_compare_type = filtering._get_compare_type


def _with_more_types(value: Any) -> int:
    """mongomock cannot order timestamps and decimals; the numbers are BSON's order of types."""
    if isinstance(value, Timestamp):
        return 47
    if isinstance(value, Decimal128):
        return 11
    return int(_compare_type(value))


filtering._get_compare_type = _with_more_types
for _name in ("__lt__", "__le__", "__gt__", "__ge__"):
    if _name not in Decimal128.__dict__:
        setattr(Decimal128, _name, lambda a, b, name=_name: getattr(a.to_decimal(), name)(b.to_decimal()))


def freeze(value: Any) -> Key:
    """A value as a key of a dictionary: equal when MongoDB's index takes them for equal."""
    if isinstance(value, dict):
        return ("d", *((name, freeze(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return ("l", *(freeze(item) for item in value))
    if isinstance(value, bool):
        return ("b", value)
    if isinstance(value, bytes):
        # Binary of subtype 0 is plain bytes once it has been decoded.
        return ("x", getattr(value, "subtype", 0), bytes(value))
    return value


def new_uuid() -> Binary:
    return Binary(uuid.uuid4().bytes, 4)


class Collection:
    """Documents by _id, with the unique indexes that guard them."""

    def __init__(self, mock: Any, ident: Binary, options: Doc) -> None:
        self.mock = mock
        self.uuid = ident
        self.options = options
        self.docs: dict[Key, Doc] = mock._store._documents
        self.indexes: dict[str, Doc] = {"_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"}}
        self.unique: dict[str, dict[Key, Key]] = {}

    def put(self, doc: Doc) -> None:
        key = freeze(doc["_id"])
        old = self.docs.get(key)
        for name, taken in self.unique.items():
            if old is not None:
                for value in index_keys(self.indexes[name], old):
                    if taken.get(value) == key:
                        del taken[value]
            for value in index_keys(self.indexes[name], doc):
                taken[value] = key
        self.docs[key] = doc

    def remove(self, key: Key) -> Doc | None:
        old = self.docs.pop(key, None)
        if old is not None:
            for name, taken in self.unique.items():
                for value in index_keys(self.indexes[name], old):
                    if taken.get(value) == key:
                        del taken[value]
        return old

    def conflict(self, doc: Doc) -> tuple[Doc, Doc] | None:
        """The unique index (spec, values) that the document would break."""
        key = freeze(doc["_id"])
        for name, taken in self.unique.items():
            spec = self.indexes[name]
            for value in index_keys(spec, doc):
                if taken.get(value, key) != key:
                    return spec, {field: _dotted(doc, field) for field in spec["key"]}
        return None

    def add_index(self, spec: Doc) -> None:
        """Raises MongoError when the documents break it."""
        self.indexes[spec["name"]] = spec
        if not spec.get("unique"):
            return
        taken: dict[Key, Key] = {}
        for key, doc in self.docs.items():
            for value in index_keys(spec, doc):
                if taken.setdefault(value, key) != key:
                    del self.indexes[spec["name"]]
                    raise duplicate(self.mock.full_name, spec, {field: _dotted(doc, field) for field in spec["key"]})
        self.unique[spec["name"]] = taken

    def drop_index(self, name: str) -> None:
        self.indexes.pop(name, None)
        self.unique.pop(name, None)

    def size(self) -> int:
        return sum(len(bson.encode(doc, codec_options=CODEC)) for doc in self.docs.values())


def duplicate(ns: str, spec: Doc, values: Doc) -> MongoError:
    shown = ", ".join(f"{name}: {value!r}" for name, value in values.items())
    return MongoError(
        "DuplicateKey",
        f"E11000 duplicate key error collection: {ns} index: {spec['name']} dup key: {{ {shown} }}",
        keyPattern=spec["key"],
        keyValue=values,
    )


def _dotted(doc: Doc, field: str) -> Any:
    try:
        return helpers.get_value_by_dot(doc, field)
    except KeyError:
        return None


def index_keys(spec: Doc, doc: Doc) -> set[Key]:
    """What a unique index stores for a document: one key, or one for each element of an array."""
    if (partial := spec.get("partialFilterExpression")) and not filtering.filter_applies(partial, doc):
        return set()
    if spec.get("sparse") and all(_missing(doc, field) for field in spec["key"]):
        return set()
    values = [_dotted(doc, field) for field in spec["key"]]
    choices = [[freeze(item) for item in value] or [None] if isinstance(value, list) else [freeze(value)] for value in values]
    return set(itertools.product(*choices))


def _missing(doc: Doc, field: str) -> bool:
    try:
        helpers.get_value_by_dot(doc, field)
    except KeyError:
        return True
    return False


class Catalog:
    """All collections of a server, by namespace."""

    def __init__(self) -> None:
        self.client: Any = mongomock.MongoClient()
        self.collections: dict[str, Collection] = {}

    def get(self, ns: str) -> Collection | None:
        return self.collections.get(ns)

    def create(self, ns: str, ident: Binary | None = None, options: Doc | None = None) -> Collection:
        database, name = split(ns)
        mock = self.client[database][name]
        mock._store.drop()
        collection = self.collections[ns] = Collection(mock, ident or new_uuid(), options or {})
        return collection

    def databases(self) -> list[str]:
        return sorted({split(ns)[0] for ns in self.collections})

    def of(self, database: str) -> list[str]:
        return sorted(ns for ns in self.collections if split(ns)[0] == database)

    # Reads

    def match(self, ns: str, query: Doc) -> Iterator[Doc]:
        """The documents that a filter takes, by _id without a scan where it can be."""
        collection = self.collections.get(ns)
        if collection is None:
            _check_filter(query)
            return iter(())
        wanted = query.get("_id", _check_filter)
        candidates: Iterable[Doc]
        if wanted is not _check_filter and not isinstance(wanted, dict | list | bson.Regex):
            doc = collection.docs.get(freeze(wanted))
            candidates = [doc] if doc is not None else []
        else:
            candidates = list(collection.docs.values())
        if not candidates:
            _check_filter(query)
        return (doc for doc in candidates if filtering.filter_applies(query, doc))

    def find(self, ns: str, query: Doc, sort: Doc | None = None, skip: int = 0, limit: int = 0, projection: Doc | None = None) -> list[Doc]:
        docs: Iterable[Doc] = self.match(ns, query)
        for field, direction in reversed(list((sort or {}).items())):
            if field == "$natural":
                docs = list(docs)[:: 1 if direction > 0 else -1]
            else:
                docs = sorted(docs, key=functools.partial(filtering.resolve_sort_key, field), reverse=direction < 0)
        if skip or limit:
            docs = itertools.islice(docs, skip, skip + limit if limit else None)
        if projection:
            mock = self.client["local"]["projection"]
            return [mock._copy_only_fields(doc, dict(projection), dict) for doc in docs]
        return list(docs)

    def aggregate(self, ns: str, docs: list[Doc], pipeline: list[Doc]) -> list[Doc]:
        # Copies: stages change documents in place.
        copies = [bson.decode(bson.encode(doc, codec_options=CODEC), CODEC) for doc in docs]
        return list(aggregate.process_pipeline(copies, self.client[split(ns)[0]], pipeline, None))

    # Changes: what an update makes of a document, without storing it

    def updated(self, doc: Doc, query: Doc, update: Doc | list[Doc], inserting: bool = False) -> Doc:
        """The document after an update (operators, pipeline or replacement)."""
        if isinstance(update, list):
            (new,) = aggregate.process_pipeline([copy.deepcopy(doc)], self.client["local"], update, None)
            new = dict(new)
        elif update and next(iter(update)).startswith("$"):
            new = copy.deepcopy(doc)
            self.client["local"]["update"]._apply_update_document(new, query, copy.deepcopy(update), inserting)
        else:
            new = {"_id": doc["_id"], **update} if "_id" in doc else dict(update)
        if "_id" in doc and freeze(new.get("_id")) != freeze(doc["_id"]):
            raise MongoError("ImmutableField", "Performing an update on the path '_id' would modify the immutable field '_id'")
        return bson.decode(bson.encode(new, codec_options=CODEC), CODEC)

    def upserted(self, query: Doc, update: Doc | list[Doc]) -> Doc:
        """The document that an upsert inserts."""
        mock = self.client["local"]["update"]
        base = mock._discard_operators(mock._expand_dots(copy.deepcopy(_equalities(query))))[0]
        replacing = isinstance(update, dict) and not (update and next(iter(update)).startswith("$"))
        if replacing:
            base = {"_id": base["_id"]} if "_id" in base else {}
        new = self.updated(base, query, update, inserting=True)
        return new if "_id" in new else {"_id": bson.ObjectId(), **new}

    # Applying

    def apply(self, entry: Doc) -> Undo:
        """Apply an oplog entry; the answer takes it back. Idempotent."""
        undo = self._apply(entry)
        if "lsid" not in entry:
            return undo
        remembered = self._remember(entry)

        def both() -> None:
            remembered()
            undo()

        return both

    def _apply(self, entry: Doc) -> Undo:
        op, ns, o = entry["op"], entry["ns"], entry["o"]
        if op == "n":
            return lambda: None
        if op == "c":
            return self._command(split(ns)[0], o, entry)
        collection = self.collections.get(ns)
        if collection is None:
            if op == "d":
                return lambda: None
            # Initial sync: a collection that is dropped later in the oplog.
            collection = self.create(ns, entry.get("ui"))
        key = freeze(o["_id"])
        old = collection.docs.get(key)
        if op == "d":
            collection.remove(key)
        else:
            collection.put(o)

        def undo() -> None:
            # Looked up again: taking back a later drop or rename has made another object of the collection.
            target = self.collections[ns]
            if old is None:
                target.remove(key)
            else:
                target.put(old)

        return undo

    def _command(self, database: str, o: Doc, entry: Doc) -> Undo:
        name = next(iter(o))
        ns = f"{database}.{o[name]}"
        if name == "create":
            if ns in self.collections:
                return lambda: None
            self.create(ns, entry.get("ui"), o.get("options", {}))
            return lambda: self._forget(ns)
        if name == "drop":
            return self._drop([ns])
        if name == "dropDatabase":
            return self._drop(self.of(database))
        if name == "renameCollection":
            return self._rename(o["renameCollection"], o["to"])
        collection = self.collections.get(ns)
        if collection is None:
            return lambda: None
        if name == "createIndexes":
            spec = dict(o["spec"])
            if spec["name"] in collection.indexes:
                return lambda: None
            try:
                collection.add_index(spec)
            except MongoError:
                # Only in initial sync, where documents may be newer than the entry: a later entry drops or mends it.
                return lambda: None
            return lambda: self.collections[ns].drop_index(spec["name"])
        if name == "dropIndexes":
            old = collection.indexes.get(o["index"])
            collection.drop_index(o["index"])
            return (lambda: self.collections[ns].add_index(old)) if old else lambda: None
        raise MongoError("NotImplemented", f"oplog command {name}")

    def _forget(self, ns: str) -> None:
        collection = self.collections.pop(ns, None)
        if collection:
            collection.mock._store.drop()

    def _drop(self, namespaces: list[str]) -> Undo:
        gone = [(ns, self.collections[ns], dict(self.collections[ns].docs)) for ns in namespaces if ns in self.collections]
        for ns, _, _ in gone:
            self._forget(ns)

        def undo() -> None:
            for ns, old, docs in gone:
                self._restore(ns, old, docs)

        return undo

    def _restore(self, ns: str, old: Collection, docs: dict[Key, Doc]) -> None:
        new = self.create(ns, old.uuid, old.options)
        new.docs.update(docs)
        for spec in old.indexes.values():
            if spec["name"] != "_id_":
                new.add_index(spec)

    def _rename(self, source: str, target: str) -> Undo:
        old = self.collections.get(source)
        if old is None:
            return lambda: None
        undo = self._drop([target])
        docs = dict(old.docs)
        self._forget(source)
        self._restore(target, old, docs)

        def back() -> None:
            self._forget(target)
            self._restore(source, old, docs)
            undo()

        return back

    def _remember(self, entry: Doc) -> Undo:
        """Keep the result of a retryable write, so that a repetition gets it again from any primary."""
        collection = self.collections.get("config.transactions") or self.create("config.transactions")
        key = freeze(entry["lsid"])
        old = collection.docs.get(key)
        result = [entry.get("stmtId", 0), entry.get("result", {})]
        if old is not None and old["txnNum"] == entry["txnNumber"]:
            if any(known[0] == result[0] for known in old["results"]):
                return lambda: None
            # In place: a batch of a thousand writes would otherwise copy the list a thousand times.
            previous = old["lastWriteDate"], old["lastWriteOpTime"]
            old["results"].append(result)
            old["lastWriteDate"], old["lastWriteOpTime"] = entry["wall"], {"ts": entry["ts"], "t": entry["t"]}
            same = old

            def take_back() -> None:
                same["results"].remove(result)
                same["lastWriteDate"], same["lastWriteOpTime"] = previous

            return take_back
        collection.docs[key] = {
            "_id": entry["lsid"],
            "txnNum": entry["txnNumber"],
            "lastWriteOpTime": {"ts": entry["ts"], "t": entry["t"]},
            "lastWriteDate": entry["wall"],
            "results": [result],
        }
        target = collection

        def undo() -> None:
            if old is None:
                target.docs.pop(key, None)
            else:
                target.docs[key] = old

        return undo

    def expired(self) -> Iterator[tuple[str, Key, Doc]]:
        """Documents that a TTL index says are due: namespace, _id, document."""
        now = utcnow()
        for ns, collection in list(self.collections.items()):
            for spec in collection.indexes.values():
                seconds = spec.get("expireAfterSeconds")
                if seconds is None or len(spec["key"]) != 1:
                    continue
                (field,) = spec["key"]
                for doc in list(collection.docs.values()):
                    value = _dotted(doc, field)
                    if hasattr(value, "year") and (now - value).total_seconds() >= seconds:
                        yield ns, doc["_id"], doc

    # Whole

    def dump(self) -> Iterator[bytes]:
        """BSON documents from which `load` makes the same catalog again."""
        for ns, collection in sorted(self.collections.items()):
            indexes = [spec for name, spec in collection.indexes.items() if name != "_id_"]
            # Options and indexes come before the documents.
            yield bson.encode({"c": ns, "uuid": collection.uuid, "options": collection.options, "indexes": indexes}, codec_options=CODEC)
            for doc in collection.docs.values():
                yield bson.encode({"d": doc}, codec_options=CODEC)

    def load(self, docs: Iterable[Doc]) -> None:
        collection: Collection | None = None
        specs: list[Doc] = []

        def finish() -> None:
            for spec in specs:
                assert collection is not None
                collection.add_index(spec)

        for doc in docs:
            if "c" in doc:
                finish()
                collection, specs = self.create(doc["c"], doc["uuid"], doc["options"]), doc["indexes"]
            else:
                assert collection is not None
                collection.docs[freeze(doc["d"]["_id"])] = doc["d"]
        finish()

    def digest(self, ns: str) -> str:
        """Equal on all members that hold equal documents."""
        collection = self.collections[ns]
        encoded = sorted(bson.encode(doc, codec_options=CODEC) for doc in collection.docs.values())
        total = hashlib.md5(usedforsecurity=False)
        for data in encoded:
            total.update(data)
        return total.hexdigest()


def _equalities(query: Doc) -> Doc:
    """The fields that a filter fixes to a value: what an upsert starts from."""
    fields: Doc = {}
    for name, value in query.items():
        if name == "$and":
            for part in value:
                fields.update(_equalities(part))
        elif name.startswith("$"):
            continue
        elif isinstance(value, dict) and any(key.startswith("$") for key in value):
            if "$eq" in value:
                fields[name] = value["$eq"]
        else:
            fields[name] = value
    return fields


def _check_filter(query: Doc) -> None:
    """A wrong filter is an error even when there are no documents."""
    filtering.filter_applies(query, {})


def removed_file(folder: Any, ns: str, ident: Binary, docs: list[Doc]) -> None:
    """What a rollback took away, as mongod leaves it: <dbPath>/rollback/<uuid>/removed.<time>.bson."""
    target = folder / "rollback" / str(uuid.UUID(bytes=bytes(ident)))
    target.mkdir(parents=True, exist_ok=True)
    stamp = utcnow().strftime("%Y-%m-%dT%H-%M-%S.%f")
    with open(target / f"removed.{stamp}.bson", "wb") as file:
        for doc in docs:
            file.write(bson.encode(doc, codec_options=CODEC))
        file.flush()
        os.fsync(file.fileno())
