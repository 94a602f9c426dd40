# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m app.applier: keep one graph member equal to the outbox. One process a Community member; one in all for an enterprise cluster.

Records are read from MongoDB in order (outbox.py) and merged in batches. The number reached is stored in the member itself, in the node
(:Outbox {id: "position"}), in the same transaction as what it brought: a crash at any moment repeats a batch that left nothing, or goes on after one that is
there. A second applier of the same member (a rollout) waits for that node's lock, finds the number moved on, and looks again.

An empty member begins at 0, one restored from a dump at the number in the dump. Beside the number stands the change_id of its record. If MongoDB holds
another record there, or none, the member has changes that MongoDB lost (it was restored to an earlier time): it has `diverged`, is marked so that
nobody reads it, and waits to be rebuilt: emptied, or restored from a dump older than that. If the next record is missing (a compacted outbox)
there is a `gap`, and it waits for a newer dump.

SIGTERM ends it between two batches. Metrics are served on APPLIER_METRICS_PORT. Commands ask the servers themselves and print JSON, with status 1 where one
does not answer: `--lag` {"applied", "newest", "lag", "diverged"}, `--checksum` {"applied", "nodes", "links", "sha256"}, the same on equal members.
Members under load are seldom at the same number. `--hold SECONDS` keeps a member where it is, for so long at most, and prints {"applied"};
`--checksum --at NUMBER`, with the highest of these, lets each go on to that number, prints its checksum there, and ends the hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import random
import signal
import sys
import time
import typing as t

import neo4j
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from pymongo.errors import PyMongoError

from . import graph, logs, outbox, schema
from .environment import Reader
from .mongo import Document, Mongo
from .neo4j_client import DATABASE, FAILURES, drivers
from .outbox import Outbox
from .problems import Problem
from .settings import GraphSettings, MongoSettings, SettingsError, load_stores

log = logging.getLogger("app.applier")

BATCH = 500
IDLE = 1.0  # seconds between two looks when nothing is new
BUSY = 0.05  # seconds until the first look after something was
TRANSACTION = 30.0  # seconds
ANSWER = 5.0  # seconds for a small question
AHEAD = 20.0  # seconds for which MongoDB must lack the member's last record before that is believed

FOLLOWING, DIVERGED, GAP, UNKNOWN_OP = "following", "diverged", "gap", "unknown operation"

REGISTRY = CollectorRegistry()
APPLIED = Gauge("applier_applied", "Number of the last change in the member.", registry=REGISTRY)
NEWEST = Gauge("applier_newest", "Number of the newest change seen in the outbox.", registry=REGISTRY)
LAG = Gauge("applier_lag_changes", "Changes that the member is behind.", registry=REGISTRY)
UP = Gauge("applier_up", "1 while the last look or batch succeeded.", registry=REGISTRY)
STATE = Gauge("applier_following", "1 while the member is on the outbox's course; 0: it must be rebuilt.", registry=REGISTRY)
RECORDS = Counter("applier_records", "Changes applied.", registry=REGISTRY)
FAILED = Counter("applier_failures", "Looks and batches that failed and are repeated.", registry=REGISTRY)

# Rows are the records' data. Each statement may run twice with the same result.
STATEMENTS: dict[str, t.LiteralString] = {
    outbox.PUT_INSIGHT: "UNWIND $rows AS row MERGE (n:Insight {id: row.id}) SET n = row",
    outbox.REMOVE_INSIGHT: "UNWIND $rows AS row MATCH (n:Insight {id: row.id}) DETACH DELETE n",
    outbox.PUT_LINK: "UNWIND $rows AS row MATCH (a:Insight {id: row.source}) MATCH (b:Insight {id: row.target}) MERGE (a)-[:LINK {kind: row.kind}]->(b)",
    outbox.REMOVE_LINK: "UNWIND $rows AS row MATCH (:Insight {id: row.source})-[r:LINK {kind: row.kind}]->(:Insight {id: row.target}) DELETE r",
}
# SET takes the node's lock, so that of two appliers one waits; `touched` has no other use.
_TAKE: t.LiteralString = (
    "MERGE (p:Outbox {id: $id}) ON CREATE SET p.number = 0 SET p.touched = timestamp() "
    "RETURN p.number AS number, CASE WHEN p.held_until > timestamp() THEN p.held_at END AS held"
)
_HOLD: t.LiteralString = (
    "MATCH (p:Outbox {id: $id}) SET p.touched = timestamp() SET p.held_at = p.number, p.held_until = timestamp() + $milliseconds RETURN p.number AS number"
)
_LET_GO_ON: t.LiteralString = (
    "MATCH (p:Outbox {id: $id}) SET p.touched = timestamp() "
    "WITH p WHERE p.held_until > timestamp() AND p.held_at <= $number SET p.held_at = $number RETURN p.number AS number"
)
_RELEASE: t.LiteralString = "MATCH (p:Outbox {id: $id}) REMOVE p.held_at, p.held_until"
_EVERYTHING: tuple[t.LiteralString, ...] = (
    "MATCH (n:Insight) RETURN properties(n) AS item ORDER BY n.id",
    "MATCH (a:Insight)-[r]->(b:Insight) RETURN [a.id, type(r), r.kind, b.id] AS item ORDER BY a.id, type(r), r.kind, b.id",
)
_STORE = "MATCH (p:Outbox {id: $id}) SET p.number = $number, p.change_id = $change_id"


class Moved(Exception):
    """Another applier was here in between."""


class Stuck(Exception):
    """This member cannot go on by itself; `state` says why."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.state = state


class HoldEnded(Exception):
    """The member is not held, or not before the number that was asked for."""


class Ahead(Exception):
    """MongoDB shows less than the member has: for a moment after a failover, or for good after a restore."""


def check(number: int, change_id: str | None, records: t.Sequence[Document]) -> list[Document]:
    """What is to be applied after `number`, of records that begin with that number itself. Raises Stuck or Ahead."""
    rest = list(records)
    if number:
        if not rest:
            raise Ahead
        if rest[0]["_id"] == number:
            if rest[0]["change_id"] != change_id:
                raise Stuck(DIVERGED, f"change {number} in MongoDB is another one than in the member")
            del rest[0]
    for expected, record in enumerate(rest, number + 1):
        if record["_id"] != expected:
            raise Stuck(GAP, f"change {expected} is not in MongoDB; the next there is {record['_id']}")
        if record["op"] not in STATEMENTS:
            raise Stuck(UNKNOWN_OP, f"change {expected} is of a kind that this version does not know: {record['op']!r}")
    return rest


def runs(records: t.Iterable[Document]) -> list[tuple[str, list[Document]]]:
    """Neighbours of one kind together, in order: one statement each. Within a run only the last change of the same thing counts."""
    found = []
    for op, group in itertools.groupby(records, key=lambda record: str(record["op"])):
        last = {json.dumps([record["data"].get(name) for name in ("id", "source", "target", "kind")]): record["data"] for record in group}
        found.append((op, list(last.values())))
    return found


async def apply(driver: neo4j.AsyncDriver, number: int, records: t.Sequence[Document]) -> t.Sequence[Document]:
    """Merge records number+1.. and store the last number, in one transaction; those that were, fewer where the member is held.

    Raises Moved, and what the driver raises.
    """

    @neo4j.unit_of_work(timeout=TRANSACTION)
    async def transaction(tx: neo4j.AsyncManagedTransaction) -> t.Sequence[Document]:
        taken = await (await tx.run(_TAKE, id=graph.POSITION)).single(strict=True)
        part = [record for record in records if taken["held"] is None or record["_id"] <= taken["held"]]
        if part and taken["number"] == part[-1]["_id"] and number < taken["number"]:
            return part  # the driver repeats a commit whose answer was lost
        if taken["number"] != number:
            raise Moved
        for op, rows in runs(part):
            await (await tx.run(STATEMENTS[op], rows=rows)).consume()
        if part:
            await (await tx.run(_STORE, id=graph.POSITION, number=part[-1]["_id"], change_id=part[-1]["change_id"])).consume()
        return part

    async with asyncio.timeout(TRANSACTION + 5), driver.session(database=DATABASE) as session:
        return await session.execute_write(transaction)


async def reached(driver: neo4j.AsyncDriver) -> graph.Position:
    # as a write, which a cluster sends to its leader: what a follower says may be old
    async with asyncio.timeout(ANSWER), driver.session(database=DATABASE) as session:
        return await session.execute_write(graph.position)


async def mark(driver: neo4j.AsyncDriver, diverged: bool) -> None:
    async with asyncio.timeout(ANSWER):
        await driver.execute_query("MATCH (p:Outbox {id: $id}) SET p.diverged = $diverged", id=graph.POSITION, diverged=diverged, database_=DATABASE)


async def checksum(driver: neo4j.AsyncDriver) -> dict[str, t.Any]:
    """Count and ordered digest of all nodes and links, with the number that they belong to."""

    async def transaction(tx: neo4j.AsyncManagedTransaction) -> dict[str, t.Any]:
        sha, counts = hashlib.sha256(), []
        for statement in _EVERYTHING:
            count = 0
            async for record in await tx.run(statement):
                sha.update(json.dumps(record["item"], sort_keys=True).encode() + b"\n")
                count += 1
            counts.append(count)
        return {"applied": (await graph.position(tx)).number, "nodes": counts[0], "links": counts[1], "sha256": sha.hexdigest()}

    async with driver.session(database=DATABASE) as session:
        return await session.execute_read(transaction)


async def hold(driver: neo4j.AsyncDriver, seconds: int) -> dict[str, t.Any]:
    async with asyncio.timeout(ANSWER):
        found = await driver.execute_query(_HOLD, id=graph.POSITION, milliseconds=seconds * 1000, database_=DATABASE)
    return {"applied": found.records[0]["number"] if found.records else 0}


async def checksum_at(driver: neo4j.AsyncDriver, number: int) -> dict[str, t.Any]:
    """The checksum at a number that the held member has not passed; the hold ends. Raises HoldEnded."""
    try:
        while True:
            async with asyncio.timeout(ANSWER):
                found = await driver.execute_query(_LET_GO_ON, id=graph.POSITION, number=number, database_=DATABASE)
            if not found.records or found.records[0]["number"] > number:
                raise HoldEnded
            if found.records[0]["number"] == number:
                break
            await asyncio.sleep(0.1)
        answer = await checksum(driver)
        if answer["applied"] != number:
            raise HoldEnded
        return answer
    finally:
        async with asyncio.timeout(ANSWER):
            await driver.execute_query(_RELEASE, id=graph.POSITION, database_=DATABASE)


class Applier:
    def __init__(self, box: Outbox, driver: neo4j.AsyncDriver) -> None:
        self.outbox = box
        self.driver = driver
        self.stop = asyncio.Event()
        self.state = FOLLOWING
        self.position: graph.Position | None = None
        self._constrained = False
        self._ahead_since: float | None = None

    async def step(self) -> int:
        """Look once, apply what is there; how many records that were. Raises Stuck, Moved, and what clients raise."""
        if not self._constrained:
            await schema.ensure_neo4j(self.driver)  # MERGE is only safe with them
            self._constrained = True
        here = self.position = self.position or await reached(self.driver)
        found = await self.outbox.since(here.number, BATCH + 1, 5.0)
        try:
            records = check(here.number, here.change_id, found)
        except Ahead:
            now = time.monotonic()
            self._ahead_since = self._ahead_since or now
            if now - self._ahead_since < AHEAD:
                return 0
            raise Stuck(DIVERGED, f"the member has change {here.number}, MongoDB has none from there on") from None
        self._ahead_since = None
        if here.diverged:
            await mark(self.driver, False)
        if records:
            records = list(await apply(self.driver, here.number, records))
            RECORDS.inc(len(records))
        if records:
            here = graph.Position(records[-1]["_id"], records[-1]["change_id"], False)
        self.position = dataclasses.replace(here, diverged=False)
        self._show(FOLLOWING, here.number if len(found) <= BATCH else await self.outbox.newest(5.0))
        return len(records)

    def _show(self, state: str, newest: int | None = None) -> None:
        self.state = state
        STATE.set(state == FOLLOWING)
        if self.position is not None:
            APPLIED.set(self.position.number)
            if newest is not None:
                NEWEST.set(newest)
                LAG.set(newest - self.position.number)

    async def run(self) -> None:
        """Until `stop` is set; between batches, never within one."""
        delay = BUSY
        while not self.stop.is_set():
            try:
                count = await self.step()
                UP.set(1)
                delay = BUSY if count else min(delay * 2, IDLE)
                if count >= BATCH:
                    continue
            except Moved:
                self.position = None
                continue
            except Stuck as exc:
                if self.state != exc.state:
                    log.error("cannot go on: %s", exc)
                self._show(exc.state)
                if exc.state == DIVERGED:
                    with contextlib.suppress(*FAILURES):
                        await mark(self.driver, True)
                # the member may be rebuilt, or MongoDB's records come back: look anew
                self.position, delay = None, IDLE
            except (Problem, PyMongoError, *FAILURES) as exc:
                FAILED.inc()
                UP.set(0)
                log.warning("not applied, trying again: %s", exc if isinstance(exc, Problem) else type(exc).__name__)
                # a member that comes back may have come back empty or from a dump
                self.position, delay = None, min(max(delay, 0.2) * 2, 5.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.9, 1.1)):  # noqa: S311 - jitter
                    await self.stop.wait()


@dataclasses.dataclass(frozen=True)
class ApplierSettings:
    mongodb: MongoSettings
    neo4j: GraphSettings
    host: str
    port: int
    log_level: str

    @classmethod
    def load(cls, environ: t.Mapping[str, str]) -> ApplierSettings:
        env = Reader(environ)
        mongodb, graph_settings = load_stores(env)
        for name, found in (("MONGODB_URI", mongodb), ("NEO4J_URIS", graph_settings)):
            if found is None and not any(finding.startswith(name) for finding in env.findings):
                env.findings.append(f"{name} is not set")
        if graph_settings and graph_settings.edition == "community" and len(graph_settings.uris) != 1:
            env.findings.append("NEO4J_URIS: an applier serves one Community member")
        host = env.text("APPLIER_METRICS_HOST", "0.0.0.0")  # noqa: S104 - inside the container's own network
        port = env.integer("APPLIER_METRICS_PORT", 9102, 0, 65535)
        level = env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error"))
        if env.findings or mongodb is None or graph_settings is None:
            raise SettingsError(env.findings)
        return cls(mongodb, graph_settings, host, port, level)


async def serve(settings: ApplierSettings) -> None:
    mongo = Mongo(settings.mongodb)
    ((name, driver),) = drivers(settings.neo4j)
    applier = Applier(Outbox(mongo), driver)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, applier.stop.set)
    if settings.port:
        start_http_server(settings.port, settings.host, REGISTRY)
    log.info("applying to %s", name)
    try:
        await applier.run()
    finally:
        await driver.close()
        await mongo.close()
    log.info("stopped after change %s", applier.position.number if applier.position else "unknown")


async def lag(settings: ApplierSettings) -> dict[str, t.Any]:
    mongo = Mongo(settings.mongodb)
    ((_name, driver),) = drivers(settings.neo4j)
    answer: dict[str, t.Any] = {"applied": None, "newest": None, "lag": None, "diverged": None}
    errors = {}
    try:
        try:
            here = await reached(driver)
            answer.update(applied=here.number, diverged=here.diverged)
        except FAILURES as exc:
            errors["neo4j"] = type(exc).__name__
        try:
            answer["newest"] = await Outbox(mongo).newest(4.0)
        except (Problem, PyMongoError) as exc:
            errors["mongodb"] = exc.detail if isinstance(exc, Problem) else type(exc).__name__
    finally:
        await driver.close()
        await mongo.close()
    if not errors:
        answer["lag"] = answer["newest"] - answer["applied"]
    return {**answer, "errors": errors} if errors else answer


async def ask_member(settings: ApplierSettings, question: t.Callable[[neo4j.AsyncDriver], t.Awaitable[dict[str, t.Any]]]) -> dict[str, t.Any]:
    ((_name, driver),) = drivers(settings.neo4j)
    try:
        return await question(driver)
    except (HoldEnded, *FAILURES) as exc:
        return {"errors": {"neo4j": type(exc).__name__}}
    finally:
        await driver.close()


def main(arguments: t.Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m app.applier", description="Keep one graph member equal to the outbox.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--lag", action="store_true", help="print how far the member is behind, as JSON")
    what.add_argument("--checksum", action="store_true", help="print count and digest of the member's content, as JSON")
    what.add_argument("--hold", type=int, metavar="SECONDS", help="keep the member at its number for so long, and print it, as JSON")
    parser.add_argument("--at", type=int, metavar="NUMBER", help="with --checksum: of a held member, at this number")
    options = parser.parse_args(arguments)
    if options.at is not None and not options.checksum:
        parser.error("--at belongs to --checksum")
    try:
        settings = ApplierSettings.load(os.environ)
    except SettingsError as exc:
        for finding in exc.findings:
            print(f"applier: {finding}", file=sys.stderr)
        return 2
    if options.lag or options.checksum or options.hold is not None:
        if options.lag:
            answer = asyncio.run(lag(settings))
        elif options.hold is not None:
            answer = asyncio.run(ask_member(settings, functools.partial(hold, seconds=options.hold)))
        else:
            answer = asyncio.run(ask_member(settings, checksum if options.at is None else functools.partial(checksum_at, number=options.at)))
        print(json.dumps(answer))
        return 1 if "errors" in answer or answer.get("diverged") else 0
    logs.configure(settings.log_level)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
