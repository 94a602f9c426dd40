# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the members of a MongoDB replica set, each by a direct connection, all at the same time.

What a healthy, idle member is asked: replSetGetStatus at every look. Its hello is pushed by the server when it changes (streaming monitor of PyMongo),
and comes without a password, so that arbiters and members in initial sync are heard too. What changes seldom is asked at the first look, after
every restart of the server, and else every FACTS_AGE seconds.

Private to this collection.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import datetime
import functools
import sys
import threading
import time
import traceback
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import AFTER, PASS, UNKNOWN, WAIT, Earlier, Question, apply_policy
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.mongodb import (
    EXPELLED,
    REFUSED,
    UNINITIATED,
    UNREACHED,
    Facts,
    Hello,
    InitialSync,
    Limits,
    Member,
    Optime,
    Probe,
    Scene,
    Seat,
    Snapshot,
    Status,
    View,
    evaluate,
    needs_probe,
)
from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb_server import ARBITER, PRIMARY, SECONDARY, brief
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

try:
    import bson
    from pymongo import MongoClient, WriteConcern
    from pymongo.errors import OperationFailure, PyMongoError, WTimeoutError
    from pymongo.monitoring import ServerHeartbeatListener

    PYMONGO_ERROR: str | None = None
except ImportError:
    PYMONGO_ERROR = traceback.format_exc()
    ServerHeartbeatListener = object  # type: ignore[assignment,misc,unused-ignore]

CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 5.0
# Below READ_TIMEOUT, so that the server answers before the client gives up.
WRITE_TIMEOUT = 4.0
FACTS_AGE = 30.0
# The loop looks this often only at what is not well yet.
EAGER = 1.0

Document = t.Mapping[str, t.Any]

# Error codes of the server: https://www.mongodb.com/docs/manual/reference/error-codes/
KINDS = {13: REFUSED, 18: REFUSED, 93: EXPELLED, 94: UNINITIATED}
# Sections of serverStatus that cost something and say nothing here.
UNUSED_SECTIONS = ("metrics", "locks", "wiredTiger", "tcmalloc", "transactions", "opLatencies", "network")
# As the manual's page of currentOp shows how index builds are found.
INDEX_BUILDS = {"$or": [{"op": "command", "command.createIndexes": {"$exists": True}}, {"op": "none", "msg": {"$regex": "^Index Build"}}]}


def seconds(date: datetime.datetime) -> float:
    """Seconds since the epoch of a date as PyMongo gives it, UTC without saying so."""
    return date.replace(tzinfo=datetime.timezone.utc).timestamp()


def optime(document: t.Any) -> Optime:
    """An optime from ``{ts, t}``; members that have applied nothing yet have an empty one."""
    ts = document.get("ts") if isinstance(document, dict) else None
    return (int(document.get("t", -1)), ts.time, ts.inc) if ts is not None else (-1, 0, 0)


def read_hello(document: Document) -> Hello:
    return Hello(
        set_name=document.get("setName", ""),
        address=document.get("me", ""),
        # Servers before 5.0 answer ismaster.
        writable=bool(document.get("isWritablePrimary", document.get("ismaster", False))),
        arbiter=bool(document.get("arbiterOnly", False)),
        primary=document.get("primary", ""),
    )


def read_status(document: Document, sent: float = 0.0, received: float = 0.0) -> Status:
    """What a member says of itself and of the others. ``sent`` and ``received`` are the gate's clock around the request, in seconds since the epoch."""
    own: Document = next((member for member in document["members"] if member.get("self")), {})
    now = seconds(document["date"])
    sync = document.get("initialSyncStatus")
    elected = own.get("electionDate")
    return Status(
        set_name=document["set"],
        address=own.get("name", ""),
        state=document["myState"],
        term=int(document["term"]),
        config=(int(own.get("configTerm", -1)), int(own.get("configVersion", -1))),
        applied=optime(document.get("optimes", {}).get("appliedOpTime")),
        views=tuple(View(member["name"], member["state"], bool(member.get("health", 0)), float(member.get("uptime", 0))) for member in document["members"]),
        sync_source=document.get("syncSourceHost", ""),
        # Since SERVER-29803.
        too_stale=bool(document.get("tooStale", False)),
        initial_sync=InitialSync(
            int(sync.get("failedInitialSyncAttempts", 0)), int(sync.get("approxTotalDataSize", 0)), int(sync.get("approxTotalBytesCopied", 0))
        )
        if sync
        else None,
        elected_for=now - seconds(elected) if elected else None,
        heartbeat=float(document.get("heartbeatIntervalMillis", 2000)) / 1000,
        clock=now - (sent + received) / 2,
        clock_error=(received - sent) / 2,
    )


def read_seats(config: Document) -> tuple[Seat, ...]:
    """The members in the answer to replSetGetConfig."""
    return tuple(
        Seat(
            address=member["host"],
            votes=int(member.get("votes", 1)),
            priority=float(member.get("priority", 1)),
            hidden=bool(member.get("hidden", False)),
            arbiter=bool(member.get("arbiterOnly", False)),
            # slaveDelay before 5.0.
            delay=float(member.get("secondaryDelaySecs", member.get("slaveDelay", 0))),
        )
        for member in config["config"]["members"]
    )


def builds_index(operation: Document) -> bool:
    """Whether an operation in the answer to currentOp builds an index."""
    return "createIndexes" in operation.get("command", {}) or str(operation.get("msg", "")).startswith("Index Build")


def read_oplog(first: Document | None, last: int, stats: Document) -> float | None:
    """Seconds that the oplog spans; while it is not full yet, what it will span at the present rate of writes."""
    size, limit = stats.get("size"), stats.get("maxSize")
    if first is None or size is None or not limit:
        return None
    span = float(max(0, last - first["ts"].time))
    return span * max(1.0, limit / size) if size > 0 else float("inf")


def leave_at_once() -> None:
    """Do not wait for PyMongo's monitors at the end of the process: they sleep for half a second between two looks, and are daemon threads."""
    for name in ("pymongo.monitor", "pymongo.synchronous.monitor"):
        shutdown = getattr(sys.modules.get(name), "_shutdown_resources", None)
        if shutdown is not None:
            atexit.unregister(shutdown)


class Heartbeat(ServerHeartbeatListener):
    """The last hello of one member, or why there is none."""

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.document: Document = {}
        self.error: Exception | None = None

    def started(self, event: t.Any) -> None:
        pass

    def succeeded(self, event: t.Any) -> None:
        self.document, self.error = event.reply.document, None
        self.heard.set()

    def failed(self, event: t.Any) -> None:
        self.error = event.reply
        self.heard.set()


class Line:
    """The connection to one member. A broken one is made anew at the next look, which finds a member that is back sooner than waiting for the driver."""

    def __init__(self, name: str, address: str, options: t.Mapping[str, t.Any], login: t.Mapping[str, t.Any], full: bool) -> None:
        self.name, self.address, self.options, self.login, self.full = name, address, options, login, full
        self.client: t.Any = None
        self.heartbeat = Heartbeat()
        self.arbiter = False
        self.facts = Facts()
        self.facts_key: t.Any = None
        self.facts_time = 0.0
        self.facts_error = ""
        self.settled = False

    def look(self, eager: bool) -> Member:
        """Never raises for what the member does or does not."""
        try:
            if self.client is None:
                self.connect()
            if self.heartbeat.error:
                raise self.heartbeat.error
            member = self.ask(eager)
        except OperationFailure as exc:
            hello = read_hello(self.heartbeat.document) if self.heartbeat.document else None
            return Member(self.name, self.address, hello=hello, error=brief(exc), kind=KINDS.get(exc.code or 0, REFUSED))
        # The driver raises what the system's TLS and sockets raise, too; a certificate that is refused is an answer for the user.
        except (PyMongoError, OSError) as exc:
            self.close()
            return Member(self.name, self.address, error=brief(exc), kind=UNREACHED)
        return member

    def connect(self) -> None:
        self.heartbeat = Heartbeat()
        # No user can log in to an arbiter: it holds no users.
        login = {} if self.arbiter else self.login
        leave_at_once()
        self.client = MongoClient(self.address, event_listeners=[self.heartbeat], **self.options, **login)
        if not self.heartbeat.heard.wait(2 * CONNECT_TIMEOUT + READ_TIMEOUT):
            raise OSError("gave no answer to the connection.")
        if self.heartbeat.document.get("arbiterOnly") and not self.arbiter and self.login:
            self.arbiter = True
            self.close()
            self.connect()

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        self.client = None

    def ask(self, eager: bool) -> Member:
        admin = self.client.admin
        status = None
        if self.heartbeat.document.get("arbiterOnly"):
            hello = read_hello(admin.command("hello"))
        else:
            sent = time.time()
            status = read_status(admin.command("replSetGetStatus"), sent, time.time())
            hello = read_hello(self.heartbeat.document)
        process = self.heartbeat.document.get("topologyVersion", {}).get("processId")
        # While it is a member that is awaited, what takes longer to tell is not asked again at each look; only where all are back and it still waits.
        settled = status is not None and all(view.healthy and view.state in (PRIMARY, SECONDARY, ARBITER) for view in status.views)
        awaited = eager and settled and self.settled
        self.settled = settled
        if awaited or self.facts_key != (process,) or time.monotonic() - self.facts_time >= FACTS_AGE:
            self.facts = self.ask_facts(status)
            self.facts_key, self.facts_time = (process,), time.monotonic()
        return Member(self.name, self.address, hello, status, self.facts, self.facts_error)

    def ask_facts(self, status: Status | None) -> Facts:
        self.facts_error = ""
        admin, local = self.client.admin, self.client.local
        if status is None:
            return Facts(version=self.fact(lambda: admin.command("buildInfo")).get("version"))
        server = self.fact(lambda: admin.command("serverStatus", **dict.fromkeys(UNUSED_SECTIONS, 0)))
        facts: dict[str, t.Any] = {
            "version": server.get("version"),
            "started": time.time() - server["uptimeMillis"] / 1000 if "uptimeMillis" in server else None,
            "rollbacks": server.get("repl", {}).get("rbid"),
        }
        if self.full and status.state in (1, 2):
            fcv = self.fact(lambda: admin.command("getParameter", featureCompatibilityVersion=1)).get("featureCompatibilityVersion", {})
            first = self.fact(lambda: local["oplog.rs"].find_one({}, {"ts": 1}, sort=[("$natural", 1)]))
            stats = self.fact(lambda: local.command("collStats", "oplog.rs"))
            disk = self.fact(lambda: admin.command("dbStats"))
            operations = self.fact(lambda: admin.command("currentOp", **INDEX_BUILDS)).get("inprog")
            facts.update(
                fcv=fcv.get("version"),
                fcv_changing="targetVersion" in fcv or "previousVersion" in fcv,
                oplog=read_oplog(first or None, status.applied[1], stats),
                disk_free=1 - disk["fsUsedSize"] / disk["fsTotalSize"] if disk.get("fsTotalSize") else None,
                index_builds=None if operations is None else sum(map(builds_index, operations)),
            )
        return Facts(**facts)

    def fact(self, ask: t.Callable[[], t.Any]) -> t.Any:
        """An answer, empty where the server refuses it; the first refusal is remembered."""
        try:
            return ask() or {}
        except OperationFailure as exc:
            self.facts_error = self.facts_error or brief(exc)
            return {}


class Fetcher:
    """The connections to all members.

    ``members`` are pairs of name and address. ``login`` is PyMongo's username, password and authSource, or empty. ``ca_file`` and ``certificate_file``
    are paths; without a CA file the system's authorities are used. ``full`` asks for what only phases preflight and before need.
    """

    def __init__(
        self,
        members: t.Sequence[tuple[str, str]],
        login: t.Mapping[str, t.Any],
        ca_file: str | None,
        certificate_file: str | None,
        full: bool,
    ) -> None:
        options: dict[str, t.Any] = {
            "directConnection": True,
            "tls": True,
            "connectTimeoutMS": int(CONNECT_TIMEOUT * 1000),
            "socketTimeoutMS": int(READ_TIMEOUT * 1000),
            "serverSelectionTimeoutMS": int(CONNECT_TIMEOUT * 1000),
            "retryReads": False,
            "retryWrites": False,
            "appname": "novacorrente.platform.mongodb_gate",
        }
        if ca_file:
            options["tlsCAFile"] = ca_file
        if certificate_file:
            options["tlsCertificateKeyFile"] = certificate_file
        self.lines = [Line(name, address, options, login, full) for name, address in members]
        self.seats: tuple[Seat, ...] | None = None
        self.config: tuple[int, int] | None = None
        self.looked = 0.0
        self.probed: Probe | None = None

    def look(self) -> Snapshot:
        """One look at all members. Never raises for what it finds."""
        eager = time.monotonic() - self.looked < EAGER
        self.looked = time.monotonic()
        members = tuple(together({line: functools.partial(line.look, eager) for line in self.lines}).values())
        self.read_config(members)
        return Snapshot(time.time(), members, self.seats)

    def look_and_probe(self, question: Question, limits: Limits, database: str) -> Snapshot:
        """One look, and where a probe is wanted and all else holds, the write. It is made once, and again only after something did not hold."""
        snapshot = self.look()
        if not needs_probe(question, limits):
            return snapshot
        well = dataclasses.replace(snapshot, probe=Probe(PASS))
        if apply_policy(evaluate(well, question, Earlier(), limits), question).verdict != PASS:
            self.probed = None
            return snapshot
        if self.probed is None or self.probed.verdict != PASS:
            self.probed = self.probe(Scene(snapshot, limits), database, question.target, question.phase == AFTER)
        return dataclasses.replace(snapshot, probe=self.probed)

    def read_config(self, members: t.Sequence[Member]) -> None:
        """The newest configuration that any member has; asked only where it is not the one that was read before."""
        heard = [(member.status.config, line) for member, line in zip(members, self.lines) if member.status]
        newest = max((config for config, _line in heard), default=None)
        if newest is None or newest == self.config:
            return
        self.seats = self.config = None
        for config, line in heard:
            if config == newest:
                try:
                    self.seats, self.config = read_seats(line.client.admin.command("replSetGetConfig")), newest
                    return
                except (PyMongoError, OSError, KeyError):
                    continue

    def probe(self, scene: Scene, database: str, target: str, everyone: bool) -> Probe:
        """Writes one document on the primary and takes it away again. With ``everyone`` all data-bearing voters must have it in WRITE_TIMEOUT and it is
        read back from the target itself; else a majority must have it in its journal.
        """
        lines = {line.name: line for line in self.lines}
        primary = lines.get(scene.primary.name) if scene.primary else None
        if primary is None or primary.client is None:
            return Probe(WAIT, "there is no primary to write to.")
        voters = sum(seat.data_voter and not seat.delay for seat in scene.seats)
        concern = WriteConcern(w=max(1, voters) if everyone else "majority", j=True, wtimeout=int(WRITE_TIMEOUT * 1000))
        key, token = f"gate {target}", bson.ObjectId()
        collection = primary.client[database]["gate"]
        try:
            collection.with_options(write_concern=concern).replace_one({"_id": key}, {"_id": key, "token": token}, upsert=True)
            post = scene.post(target)
            reader = lines.get(target)
            if not everyone or reader is primary or post is None or post.seat.arbiter or post.seat.delay:
                return Probe(PASS)
            return self.read_back(reader, database, key, token)
        except WTimeoutError:
            return Probe(WAIT, f"a write did not reach the {voters if everyone else 'majority of'} data-bearing voters within {WRITE_TIMEOUT:g} s.")
        except OperationFailure as exc:
            return Probe(UNKNOWN if exc.code in KINDS else WAIT, f"a write was refused: {brief(exc)}")
        except (PyMongoError, OSError) as exc:
            return Probe(WAIT, f"a write failed: {brief(exc)}")
        finally:
            with contextlib.suppress(PyMongoError, OSError):
                collection.delete_one({"_id": key})

    def read_back(self, line: Line | None, database: str, key: str, token: t.Any) -> Probe:
        """Reads the document from one member. The write concern counts members without a vote too, so the target may be a moment behind."""
        deadline = time.monotonic() + WRITE_TIMEOUT
        while line is not None and line.client is not None:
            found = line.client[database]["gate"].find_one({"_id": key})
            if found and found["token"] == token:
                return Probe(PASS)
            if time.monotonic() >= deadline:
                return Probe(WAIT, f"a write that all members took is not to be read there within {WRITE_TIMEOUT:g} s.")
            time.sleep(0.05)
        return Probe(WAIT, "the member is not connected.")

    def close(self) -> None:
        for line in self.lines:
            line.close()
