# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at Neo4j members over Bolt with the official driver, at a cluster's HTTP status, and at the outbox in MongoDB.

Everything that cannot be seen is in the snapshot as not seen. Private to this collection.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import threading
import traceback
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import https
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import neo4j as community
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import neo4j_cluster as cluster
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.addresses import AddressError
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.neo4j import Database, Fault
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

try:
    import neo4j
    from neo4j.exceptions import DriverError, Neo4jError

    NEO4J_ERROR: str | None = None
except ImportError:
    NEO4J_ERROR = traceback.format_exc()
try:
    import pymongo
    from pymongo.errors import PyMongoError
    from pymongo.read_concern import ReadConcern

    PYMONGO_ERROR: str | None = None
except ImportError:
    PYMONGO_ERROR = traceback.format_exc()

Rows = t.List[t.Dict[str, t.Any]]  # noqa: UP006 - evaluated on Python 3.8

# The time of start is the JVM's own; both columns come with any edition.
WHO_AND_WHERE = """
CALL dbms.components() YIELD versions, edition
CALL dbms.queryJmx('java.lang:type=Runtime') YIELD attributes
OPTIONAL MATCH (o:Outbox {id: 'position'})
RETURN versions[0] AS version, edition, attributes.StartTime.value AS started, o.number AS position
"""
DATABASES = "SHOW DATABASES YIELD name, type, address, serverID, role, requestedStatus, currentStatus, statusMessage, requestedPrimariesCount"
SERVERS = "SHOW SERVERS YIELD serverId, name, address, state, health, hosting, requestedHosting"
STARTED = "CALL dbms.queryJmx('java.lang:type=Runtime') YIELD attributes RETURN attributes.StartTime.value AS started"
DISCOVERY = "SHOW SETTINGS YIELD name, value WHERE name = 'dbms.cluster.discovery.version'"
# Seconds after which the server gives a query up.
PATIENCE = 60
STATUS_CHECK = "CALL dbms.cluster.statusCheck([], $timeout)"


class BoltError(Exception):
    """A query that brought no rows, with its fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


class Bolt:
    """One member over Bolt, TLS verified. Not for several threads at a time.

    The driver waits for an answer as long as the server is silent, and a server that is still cold takes its time to plan a first query. So a query runs
    in a thread of its own: after ``timeout`` seconds it counts as not answered, goes on all the same, and the next one waits for it.
    """

    def __init__(self, place: https.Place, ca_file: str | None, username: str, password: str, timeout: float) -> None:
        self.timeout = timeout
        self.thread: threading.Thread | None = None
        # What the loopback has without TLS stays there; everything else is verified.
        trust = neo4j.TrustCustomCAs(ca_file) if ca_file else neo4j.TrustSystemCAs()
        security: dict[str, t.Any] = {"encrypted": True, "trusted_certificates": trust} if place.secure else {"encrypted": False}
        self.driver = neo4j.GraphDatabase.driver(
            f"bolt://{place.authority}",
            auth=(username, password),
            connection_timeout=timeout,
            connection_acquisition_timeout=timeout,
            max_connection_pool_size=2,
            max_transaction_retry_time=0,
            notifications_min_severity="OFF",
            user_agent="novacorrente-gate",
            **security,
        )

    def query(self, database: str, text: str, **parameters: t.Any) -> tuple[Rows, str]:
        """The rows, and the server's version. Raises BoltError."""
        answers: list[tuple[Rows, str] | BoltError] = []

        def ask() -> None:
            try:
                answers.append(self._query(database, text, parameters))
            except (Neo4jError, DriverError, OSError, ValueError) as exc:
                answers.append(BoltError(fault_of(exc, self.timeout)))

        if self.thread is not None:
            self.thread.join(self.timeout)
        if self.thread is None or not self.thread.is_alive():
            # A daemon: what never answers does not keep the module from ending.
            self.thread = threading.Thread(target=ask, daemon=True)
            self.thread.start()
            self.thread.join(self.timeout)
        if not answers:
            raise BoltError(Fault("no_answer", f"no answer within {self.timeout:g} s"))
        if isinstance(answers[0], BoltError):
            raise answers[0]
        return answers[0]

    def _query(self, database: str, text: str, parameters: dict[str, t.Any]) -> tuple[Rows, str]:
        with self.driver.session(database=database, default_access_mode="READ") as session:
            result = session.run(neo4j.Query(text, timeout=PATIENCE), parameters)
            rows = [dict(record) for record in result]
            agent = result.consume().server.agent
        return rows, agent.partition("/")[2]


def fault_of(exc: BaseException, timeout: float) -> Fault:
    """What an error of the driver means; the text of the server's message only where it holds no data."""
    code = getattr(exc, "code", None) or ""
    if code.startswith("Neo.ClientError.Security."):
        return Fault("auth", f"refuses the user ({code})")
    if code == "Neo.TransientError.General.DatabaseUnavailable" or code.startswith("Neo.ClientError.Database."):
        return Fault("unavailable", f"cannot serve the database ({code})")
    if "TransactionTimedOut" in code:
        return Fault("no_answer", f"no answer within {PATIENCE} s ({code})")
    if code:
        return Fault("query", f"cannot answer the query ({code})")
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError):
            problem, error = https.explain(cause, False, timeout)
            return Fault("unreachable" if problem == https.NAME else problem, error)
        cause = cause.__cause__ or cause.__context__
    return Fault("no_answer", f"the connection broke: {type(exc).__name__}")


class Outbox:
    """The newest number of the outbox, read from the primary as a majority has it. Raises AddressError where the URI cannot be used."""

    def __init__(self, uri: str, database: str, collection: str, ca_file: str | None, username: str, password: str, timeout: float) -> None:
        milliseconds = int(timeout * 1000)
        options: dict[str, t.Any] = {
            "appname": "novacorrente-gate",
            "serverSelectionTimeoutMS": milliseconds,
            "connectTimeoutMS": milliseconds,
            "socketTimeoutMS": milliseconds,
        }
        if username:
            options.update(username=username, password=password)
        if ca_file:
            options.update(tls=True, tlsCAFile=ca_file)
        try:
            client: pymongo.MongoClient[dict[str, t.Any]] = pymongo.MongoClient(uri, **options)
        except (PyMongoError, ValueError) as exc:
            raise AddressError(f"outbox.uri cannot be used: {type(exc).__name__}.") from exc
        self.records = client[database].get_collection(collection, read_concern=ReadConcern("majority"))

    def newest(self) -> tuple[int | None, str]:
        """The number, 0 for an empty outbox, or None and why not."""
        try:
            record = self.records.find_one({}, {"_id": 1}, sort=[("_id", -1)])
        except PyMongoError as exc:
            return None, f"the outbox in MongoDB cannot be read: {type(exc).__name__}"
        number = record["_id"] if record else 0
        return (number, "") if isinstance(number, int) else (None, "the outbox in MongoDB is not numbered")


class CommunityFetcher:
    """Looks at independent Community members. ``newest`` is a number, or where to read it, or None where there is no outbox."""

    def __init__(self, bolts: t.Mapping[str, Bolt], database: str, newest: int | Outbox | None) -> None:
        self.bolts, self.database, self.newest = bolts, database, newest

    def fetch(self) -> community.Snapshot:
        members = together({name: functools.partial(self.look, bolt) for name, bolt in self.bolts.items()})
        if isinstance(self.newest, int) or self.newest is None:
            return community.Snapshot(members, self.newest)
        # After the members: what they have reached was in the outbox before.
        number, error = self.newest.newest()
        return community.Snapshot(members, number, True, error)

    def look(self, bolt: Bolt) -> community.Member:
        try:
            rows, version = bolt.query("system", DATABASES)
        except BoltError as exc:
            return community.Member(fault=exc.fault)
        databases = tuple(database_of(row) for row in rows)
        try:
            (row,), version = bolt.query(self.database, WHO_AND_WHERE)
        except BoltError as exc:
            # Where the database is not as requested, its state says more than the query's failure.
            told = any(community.database_reasons("", found) for found in databases if found.name == self.database)
            fault = None if told and exc.fault.kind == "unavailable" else exc.fault
            return community.Member(fault=fault, version=version, edition="community", databases=databases)
        position = row["position"]
        return community.Member(
            version=row["version"],
            edition=row["edition"],
            started=seconds(row["started"]),
            databases=databases,
            position=0 if position is None else position if isinstance(position, int) else None,
        )


class ClusterFetcher:
    """Looks at the members of a cluster. The members take turns in being asked for what any of them can tell, but never the target."""

    def __init__(
        self,
        bolts: t.Mapping[str, Bolt],
        clients: t.Mapping[str, https.Client],
        addresses: t.Mapping[str, tuple[str, ...]],
        target: str,
        timeout: float,
    ) -> None:
        self.bolts, self.clients, self.addresses, self.target, self.timeout = bolts, clients, addresses, target, timeout
        self.turn = 0
        self.discovery: dict[str, str] = {}

    def fetch(self) -> cluster.Snapshot:
        over_bolt = {"bolt " + name: functools.partial(self.look_over_bolt, name) for name in self.bolts}
        over_http = {"http " + name: functools.partial(self.look_over_http, name) for name in self.clients}
        found: dict[str, t.Any] = together({**over_bolt, **over_http})
        members = {}
        for name in self.bolts:
            raft, http_fault = found["http " + name]
            members[name] = dataclasses.replace(found["bolt " + name], raft=raft, http_fault=http_fault, addresses=self.addresses[name])
        return self.observe(members)

    def look_over_bolt(self, name: str) -> cluster.Member:
        bolt = self.bolts[name]
        try:
            rows, version = bolt.query("system", SERVERS)
            if name not in self.discovery:
                settings, version = bolt.query("system", DISCOVERY)
                self.discovery[name] = str(settings[0]["value"]) if settings else ""
            started = bolt.query("system", STARTED)[0] if name == self.target else []
        except BoltError as exc:
            return cluster.Member(bolt_fault=exc.fault)
        return cluster.Member(
            version=version,
            started=seconds(started[0]["started"]) if started else None,
            discovery=self.discovery[name],
            servers=tuple(server_of(row) for row in rows),
        )

    def look_over_http(self, name: str) -> tuple[dict[str, cluster.Raft] | None, Fault | None]:
        return raft_of(self.clients[name].get("/dbms/cluster/status"))

    def observe(self, members: t.Mapping[str, cluster.Member]) -> cluster.Snapshot:
        able = [name for name in sorted(members) if name != self.target and members[name].bolt_fault is None]
        if not able:
            return cluster.Snapshot(members, fault="no member but the target answers over Bolt")
        self.turn += 1
        observer = able[self.turn % len(able)]
        bolt = self.bolts[observer]
        try:
            databases = tuple(database_of(row) for row in bolt.query("system", DATABASES)[0])
            # The check's own limit (milliseconds) is half of ours, so that its answer is seen.
            checks = tuple(check_of(row) for row in bolt.query("system", STATUS_CHECK, timeout=int(self.timeout * 500))[0])
        except BoltError as exc:
            return cluster.Snapshot(members, observer, fault=f"{observer} {exc.fault.text}")
        return cluster.Snapshot(members, observer, databases, checks)


def seconds(milliseconds: t.Any) -> float | None:
    """Seconds since the epoch, None for what is no number."""
    return milliseconds / 1000 if isinstance(milliseconds, (int, float)) and math.isfinite(milliseconds) else None


def database_of(row: t.Mapping[str, t.Any]) -> Database:
    return Database(
        name=row["name"],
        requested=row["requestedStatus"],
        current=row["currentStatus"],
        message=row["statusMessage"] or "",
        kind=row["type"],
        role=row["role"] or "unknown",
        server=row["serverID"] or "",
        address=row["address"] or "",
        primaries=row["requestedPrimariesCount"],
    )


def server_of(row: t.Mapping[str, t.Any]) -> cluster.Server:
    return cluster.Server(
        id=row["serverId"],
        name=row["name"],
        address=row["address"] or "",
        state=row["state"],
        health=row["health"],
        hosting=frozenset(row["hosting"] or ()),
        requested=frozenset(row["requestedHosting"] or ()),
    )


def check_of(row: t.Mapping[str, t.Any]) -> cluster.Check:
    return cluster.Check(
        database=row["database"],
        server=row["serverId"],
        successful=bool(row["replicationSuccessful"]),
        status=row["memberStatus"] or "",
        error=row["error"] or "",
    )


def raft_of(answer: https.Answer) -> tuple[dict[str, cluster.Raft] | None, Fault | None]:
    """The state of each database in the answer of /dbms/cluster/status, or why there is none. Pure.

    The combined answer names the flag ``healthy``, the one of a single database ``isHealthy``.
    Source: https://neo4j.com/docs/operations-manual/current/clustering/monitoring/endpoints
    """
    if answer.problem:
        return None, Fault("unreachable" if answer.problem == https.NAME else answer.problem, f"HTTP: {answer.error}")
    if answer.status in (401, 403):
        return None, Fault("auth", f"HTTP: refuses the user ({answer.status})")
    if answer.status == 404:
        return None, Fault("no_cluster", "HTTP: has no cluster status: it is Community edition, or not part of a cluster")
    if answer.status != 200:
        return None, Fault("no_answer", f"HTTP: answers {answer.status}")
    try:
        found = {}
        for entry in json.loads(answer.body):
            state = entry["databaseStatus"]
            silence = state.get("millisSinceLastLeaderMessage")
            found[str(entry["databaseName"])] = cluster.Raft(
                core=bool(state["core"]),
                member_id=str(state["memberId"]),
                voters=frozenset(state["votingMembers"]),
                applied=int(state["lastAppliedRaftIndex"]),
                healthy=state.get("isHealthy", state.get("healthy")),
                participating=bool(state["participatingInRaftGroup"]),
                leader=state.get("leader") or "",
                silence=None if silence is None else silence / 1000,
            )
        return found, None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, Fault("query", "HTTP: its cluster status cannot be read")
