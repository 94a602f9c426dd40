# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a command is found, allowed, run and answered."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import mongomock
from bson import Binary, Int64

from . import auth
from .common import RETRYABLE, Doc, MongoError, OpTime, log, monotonic, pack, unpack
from .election import State
from .node import Node

Handler = Callable[["Request"], "Doc | Awaitable[Doc]"]


@dataclasses.dataclass
class Connection:
    """One client."""

    id: int
    address: str
    users: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    scram: auth.ScramServer | None = None
    scram_done: bool = False
    peer: str | None = None  # a member's host, for partitions

    @property
    def loopback(self) -> bool:
        return self.address.startswith("127.") or self.address in ("::1", "::ffff:127.0.0.1")

    @property
    def internal(self) -> bool:
        return auth.SYSTEM in self.users


@dataclasses.dataclass
class Command:
    """action: what the client must be allowed. on: "collection", "db", "cluster", "login" (any user) or "open".

    where: "primary" for writes, "data" for reads, "any".
    """

    name: str
    handler: Handler
    action: str
    on: str
    where: str


COMMANDS: dict[str, Command] = {}


def command(name: str, action: str = "", on: str = "login", where: str = "any", alias: str | None = None) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for spelling in (name, alias):
            if spelling:
                COMMANDS[spelling] = Command(name, handler, action, on, where)
        return handler

    return register


@dataclasses.dataclass
class Request:
    """One command of one client."""

    node: Node
    server: Any
    connection: Connection
    body: Doc
    name: str
    db: str
    legacy: bool = False
    exhaust: bool = False
    op_id: int = 0
    started: float = dataclasses.field(default_factory=monotonic)
    wrote: OpTime | None = None  # what the write concern must cover
    killed: bool = False

    @property
    def value(self) -> Any:
        """The command's own value, usually the collection."""
        return self.body[self.name]

    @property
    def ns(self) -> str:
        if not isinstance(self.value, str) or not self.value or "\0" in self.value:
            raise MongoError("InvalidNamespace", f"Invalid namespace specified '{self.db}.{self.value}'")
        return f"{self.db}.{self.value}"

    @property
    def max_time(self) -> float | None:
        """Seconds, None without a limit."""
        limit = self.body.get("maxTimeMS", 0)
        return float(limit) / 1000 if limit else None

    # Retryable writes

    @property
    def retryable(self) -> bool:
        return "txnNumber" in self.body and "lsid" in self.body

    def session(self) -> Doc:
        user = "@".join(self.connection.users[0]) if self.connection.users else ""
        return {"id": self.body["lsid"]["id"], "uid": Binary(hashlib.sha256(user.encode()).digest())}

    def replayed(self, statement: int) -> Doc | None:
        """What this statement did before, None when it is new. Raises MongoError for an old transaction number."""
        if not self.retryable:
            return None
        if not self.node.replicated:
            raise MongoError("IllegalOperation", "Transaction numbers are only allowed on a replica set member or mongos")
        collection = self.node.storage.catalog.get("config.transactions")
        from .catalog import freeze

        record = collection.docs.get(freeze(self.session())) if collection else None
        if record is None:
            return None
        if record["txnNum"] > self.body["txnNumber"]:
            raise MongoError("TransactionTooOld", f"Retryable write with txnNumber {self.body['txnNumber']} is prohibited, a newer one has started")
        if record["txnNum"] < self.body["txnNumber"]:
            return None
        for known, result in record["results"]:
            if known == statement:
                self.node.counters["retriedStatements"] += 1
                return dict(result)
        return None

    def stamp(self, statement: int, result: Doc) -> Doc:
        """The fields of an oplog entry that let this statement be repeated."""
        if not self.retryable:
            return {}
        return {"lsid": self.session(), "txnNumber": Int64(self.body["txnNumber"]), "stmtId": statement, "result": result}

    def statement(self, index: int) -> int:
        ids = self.body.get("stmtIds")
        return int(ids[index]) if ids else int(self.body.get("stmtId", 0)) + index

    # Privileges

    def privileges(self) -> list[auth.Privilege]:
        catalog = self.node.storage.catalog
        if self.connection.internal:
            return [("all", "", "", frozenset())]
        if not self.connection.users:
            users = catalog.get("admin.system.users")
            if self.connection.loopback and not (users and users.docs):
                arbiter = self.node.topology.me is not None and self.node.topology.me.arbiter
                return [*auth.LOCALHOST, *([auth.LOCALHOST_ARBITER] if arbiter else [])]
            return []
        found: list[auth.Privilege] = []
        for user, database in self.connection.users:
            if doc := auth.stored_user(catalog, user, database):
                found.extend(auth.expand(catalog, doc["roles"])[1])
        return found

    def may(self, action: str, database: str | None, collection: str = "") -> bool:
        return not self.node.config.authorization or auth.allows(self.privileges(), action, database, collection)

    def demand(self, action: str, database: str | None, collection: str = "") -> None:
        if not self.may(action, database, collection):
            where = "admin" if database is None else database
            raise MongoError("Unauthorized", f"not authorized on {where} to execute command {{ {self.name}: ... }}")


def _authorize(request: Request, known: Command) -> None:
    if known.on == "open" or not request.node.config.authorization:
        return
    privileges = request.privileges()
    if not request.connection.users and not privileges:
        raise MongoError("Unauthorized", f"Command {request.name} requires authentication")
    if known.on == "login":
        if not request.connection.users:
            raise MongoError("Unauthorized", f"Command {request.name} requires authentication")
        return
    if known.on == "cluster":
        request.demand(known.action, None)
    elif known.on == "db":
        request.demand(known.action, request.db)
    else:
        value = request.value
        request.demand(known.action, request.db, value if isinstance(value, str) else "")


def _check_place(request: Request, known: Command) -> None:
    """Whether this member may run the command in its present state."""
    node = request.node
    if known.where == "any":
        return
    if request.db == "local" and known.where == "data" and request.connection.internal:
        return
    if known.where == "primary":
        if request.db == "local":
            raise MongoError("IllegalOperation", "writes to the local database are not supported by this stand-in")
        node.check_writable()
        return
    if node.writable:
        return
    state = node.state
    if state == State.PRIMARY:
        return
    if state != State.SECONDARY:
        if request.db == "local" and state in (State.RECOVERING, State.ROLLBACK, State.STARTUP2):
            return
        raise MongoError("NotPrimaryOrSecondary", "node is not in primary or recovering state" if state != State.RECOVERING else "node is recovering")
    preference = request.body.get("$readPreference") or {}
    if preference.get("mode", "primary") == "primary" and not request.legacy:
        raise MongoError("NotPrimaryNoSecondaryOk", "not primary and secondaryOk=false")


async def _read_concern(request: Request) -> None:
    concern = request.body.get("readConcern") or {}
    node, level = request.node, concern.get("level", "local")
    if level not in ("local", "available", "majority", "linearizable", "snapshot"):
        raise MongoError("FailedToParse", f"unknown read concern level {level}")
    if after := concern.get("afterClusterTime"):
        wanted = pack(after)
        if wanted > node.next_ts() + (60 << 32):
            raise MongoError("InvalidOptions", "readConcern afterClusterTime must not be greater than the cluster time")
        if node.writable and wanted > node.storage.applied.ts:
            node.write([{"op": "n", "ns": "", "o": {"msg": "afterClusterTime"}}])
        # Majority reads see it only once it is committed.
        point = (lambda: node.storage.committed.ts) if level == "majority" else (lambda: node.storage.applied.ts)
        if not await node.progress.until(lambda: point() >= wanted, request.max_time):
            raise MongoError("MaxTimeMSExpired", "operation exceeded time limit")
    if level == "linearizable":
        node.check_writable()
        point_of_read = node.write([{"op": "n", "ns": "", "o": {"msg": "linearizable read"}}])
        await _committed(node, point_of_read, request.max_time)


async def _committed(node: Node, optime: OpTime, timeout: float | None) -> None:
    term = node.topology.term
    if not await node.progress.until(lambda: node.storage.committed >= optime or node.topology.term != term or not node.writable, timeout):
        raise MongoError("MaxTimeMSExpired", "operation exceeded time limit")
    if node.storage.committed < optime:
        raise MongoError("InterruptedDueToReplStateChange", "operation was interrupted")


def default_concern(node: Node) -> Doc:
    """The implicit default is majority, except where arbiters would make it hang.

    https://www.mongodb.com/docs/manual/reference/write-concern/#implicit-default-write-concern
    """
    settings = node.storage.catalog.get("config.settings")
    stored = settings.docs.get("ReadWriteConcernDefaults") if settings else None
    if stored and "defaultWriteConcern" in stored:
        return dict(stored["defaultWriteConcern"])
    config = node.topology.config
    if config and any(member.arbiter for member in config.members) and config.writable_voters <= config.majority:
        return {"w": 1, "wtimeout": 0}
    return {"w": "majority", "wtimeout": 0}


async def await_concern(request: Request, optime: OpTime) -> Doc | None:
    """Wait until enough members have a write. The writeConcernError, None when all is well."""
    node = request.node
    given = request.body.get("writeConcern") or {}
    concern = {**default_concern(node), **given} if "w" not in given else dict(given)
    w, journal, limit = concern.get("w", "majority"), concern.get("j"), float(concern.get("wtimeout", 0) or 0) / 1000
    if w == 0:
        return None
    if not node.replicated:
        if w == "majority" or journal:
            await node.progress.until(lambda: node.storage.durable >= optime)
        return None
    config = node.topology.config
    assert config is not None
    if isinstance(w, str) and w != "majority":
        return _concern_error("UnknownReplWriteConcern", 79, f"No write concern mode named '{w}' found in replica set configuration", concern)
    if isinstance(w, int) and w > sum(1 for member in config.members if member.data):
        return _concern_error("UnsatisfiableWriteConcern", 100, "Not enough data-bearing nodes", concern)
    topology, term = node.topology, optime.t

    def enough() -> bool:
        if w == "majority":
            return node.storage.committed >= optime
        if w == 1:
            return not journal or node.storage.durable >= optime
        return topology.count(optime, bool(journal)) >= int(w)

    def over() -> bool:
        return enough() or topology.state != State.PRIMARY or topology.term != term or request.killed or node.closing.is_set()

    if not await node.progress.until(over, limit or None):
        error = _concern_error("WriteConcernTimeout", 64, "waiting for replication timed out", concern)
        error["errInfo"]["wtimeout"] = True
        return error
    if enough():
        return None
    if node.quiesce_until is not None or node.closing.is_set():
        return _concern_error("ShutdownInProgress", 91, "The server is in quiesce mode and will shut down", concern)
    return _concern_error("PrimarySteppedDown", 189, "Primary stepped down while waiting for replication", concern)


def _concern_error(name: str, code: int, message: str, concern: Doc) -> Doc:
    return {"code": code, "codeName": name, "errmsg": message, "errInfo": {"writeConcern": concern}}


def _labels(request: Request, code: int | None) -> list[str]:
    return ["RetryableWriteError"] if code in RETRYABLE and request.retryable else []


def _decorate(request: Request, reply: Doc) -> Doc:
    node = request.node
    if node.replicated and node.topology.config and not request.legacy:
        now = unpack(node.storage.applied.ts)
        reply["$clusterTime"] = {"clusterTime": now, "signature": {"hash": Binary(bytes(20)), "keyId": Int64(0)}}
        reply["operationTime"] = now
        if request.connection.internal:
            reply["$replData"] = {"term": Int64(node.topology.term), "lastOpCommitted": node.storage.committed.doc()}
    return reply


def _translated(error: Exception) -> MongoError:
    """Errors of the query engine as a client of the real server would see them."""
    if isinstance(error, mongomock.DuplicateKeyError):
        return MongoError("DuplicateKey", str(error))
    if isinstance(error, NotImplementedError):
        return MongoError("NotImplemented", f"not supported by this stand-in: {error}")
    return MongoError("BadValue", str(error))


async def run(request: Request) -> Doc:
    """A command's reply, whatever happens."""
    known = COMMANDS.get(request.name)
    code: int | None = None
    try:
        if known is None:
            raise MongoError("CommandNotFound", f"no such command: '{request.name}'")
        _authorize(request, known)
        if "startTransaction" in request.body or "autocommit" in request.body:
            raise MongoError("IllegalOperation", "multi-document transactions are not supported by this stand-in")
        _check_place(request, known)
        if known.where == "data" and "readConcern" in request.body:
            await _read_concern(request)
        answer = known.handler(request)
        reply = dict(answer if isinstance(answer, dict) else await answer)
        reply.setdefault("ok", 1.0)
        if request.wrote is not None and (error := await await_concern(request, request.wrote)):
            reply["writeConcernError"] = error
            code = error["code"]
    except MongoError as failure:
        reply, code = failure.reply(), failure.code
        if failure.code in (91, 189, 11602, 10107, 13435, 13436) and request.node.replicated:
            reply["topologyVersion"] = topology_version(request.node)
    except asyncio.CancelledError:
        raise
    except (mongomock.OperationFailure, NotImplementedError) as failure:
        translated = _translated(failure)
        reply, code = translated.reply(), translated.code
    except Exception as failure:
        # A client sent what the command or the query engine cannot read.
        log("COMMAND", "Command failed", "W", command=request.name, error=repr(failure))
        reply, code = MongoError("FailedToParse", f"{request.name}: {failure!r}").reply(), 9
    if labels := _labels(request, code):
        reply["errorLabels"] = labels
    request.node.counters["command" if known is None or known.where == "any" else known.name] += 1
    return _decorate(request, reply)


def topology_version(node: Node) -> Doc:
    return {"processId": node.process_id, "counter": Int64(node.hello_counter)}
