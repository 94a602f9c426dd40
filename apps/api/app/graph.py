# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads of the graph, from any member that answers and is not too far behind.

Community members know nothing of each other; an applier keeps each equal to the outbox (applier.py). A read asks one after the other, beginning with the
next each time; one that fails is asked last for PAUSE seconds. Slow is not dead (a server that just started plans its first queries): where nobody answered in
READ_TIMEOUT, those that were slow are asked once more with SLOW_TIMEOUT before the read is refused. With enterprise there is one
"member", the cluster, and the driver's routing and retries find a server in it.

A read and the number that the member has reached come from one transaction. Lag is the distance from the newest number known; while MongoDB is away that
is the last one seen, and nothing newer can have been accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import typing as t

import neo4j

from . import metrics
from .neo4j_client import DATABASE, FAILURES, ROUTED_TIMEOUT, drivers
from .outbox import Outbox
from .problems import Unavailable
from .settings import GraphSettings

log = logging.getLogger("app.graph")

READ_TIMEOUT = 2.0  # seconds a Community member has for one read, before the next is asked
SLOW_TIMEOUT = 5.0  # seconds for the second time; with two members all of it is less than the edge waits for an answer (15)
PAUSE = 5.0  # seconds for which a member that failed is asked last
FRESH = 1.0  # seconds for which the newest number is believed
MAX_LINKS = 5000
POSITION = "position"

T = t.TypeVar("T")


@dataclasses.dataclass
class Member:
    name: str
    driver: neo4j.AsyncDriver
    down_until: float = 0.0


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a member is: number and name of the last change in it, and whether it left the outbox's course (applier.py)."""

    number: int
    change_id: str | None
    diverged: bool


@dataclasses.dataclass(frozen=True)
class Reading:
    """Where an answer comes from. `lag` in changes; None while the newest number is not known."""

    position: int
    lag: int | None


async def position(tx: neo4j.AsyncManagedTransaction) -> Position:
    """Where the member is; 0 for an empty one."""
    result = await tx.run("MATCH (p:Outbox {id: $id}) RETURN p.number AS number, p.change_id AS change_id, p.diverged AS diverged", id=POSITION)
    record = await result.single()
    return Position(record["number"], record["change_id"], bool(record["diverged"])) if record else Position(0, None, False)


Work = t.Callable[[neo4j.AsyncManagedTransaction], t.Awaitable[T]]


class Graph:
    def __init__(self, settings: GraphSettings, box: Outbox) -> None:
        self.max_lag = settings.max_lag
        self.timeout = READ_TIMEOUT if settings.edition == "community" else ROUTED_TIMEOUT
        self.members = [Member(name, driver) for name, driver in drivers(settings)]
        self.outbox = box
        self._turn = 0
        self._asked = 0.0
        self._known = False

    async def read(self, work: Work[T]) -> tuple[T, Reading]:
        """What `work` reads in one transaction of one member. Raises Unavailable."""
        newest = await self._newest()
        reasons, members = [], [(member, self.timeout) for member in self._order()]
        for member, timeout in members:  # grows while it is gone through
            try:
                reading, result = await self._ask(member, work, newest, timeout)
            except Behind as exc:
                metrics.GRAPH_READS.labels(member.name, "behind").inc()
                reasons.append(str(exc))
            except FAILURES as exc:
                metrics.GRAPH_READS.labels(member.name, "failed").inc()
                reasons.append(type(exc).__name__)
                if time.monotonic() >= member.down_until:
                    log.warning("graph member %s does not answer: %s", member.name, type(exc).__name__)
                member.down_until = time.monotonic() + PAUSE
                if isinstance(exc, TimeoutError) and timeout < SLOW_TIMEOUT:
                    members.append((member, SLOW_TIMEOUT))
            else:
                metrics.GRAPH_READS.labels(member.name, "good").inc()
                member.down_until = 0.0
                return result, reading
        raise Unavailable("neo4j", f"No graph member can serve the request: {'; '.join(reasons)}.")

    def _order(self) -> list[Member]:
        start, self._turn = self._turn % len(self.members), self._turn + 1
        now = time.monotonic()
        # sorted() keeps the rotated order within those that are up and those that are down
        return sorted(self.members[start:] + self.members[:start], key=lambda member: member.down_until > now)

    async def _ask(self, member: Member, work: Work[T], newest: int | None, timeout: float) -> tuple[Reading, T]:
        @neo4j.unit_of_work(timeout=timeout)
        async def transaction(tx: neo4j.AsyncManagedTransaction) -> tuple[Reading, T]:
            reached = await position(tx)
            lag = None if newest is None else max(0, newest - reached.number)
            if lag is not None:
                metrics.GRAPH_LAG.labels(member.name).set(lag)
            if reached.diverged or (lag is not None and lag > self.max_lag):
                raise Behind("diverged from the outbox" if reached.diverged else f"{lag} changes behind, at most {self.max_lag} accepted")
            return Reading(reached.number, lag), await work(tx)

        async with asyncio.timeout(timeout), member.driver.session(database=DATABASE) as session:
            return await session.execute_read(transaction)

    async def _newest(self) -> int | None:
        now = time.monotonic()
        if now - self._asked >= FRESH:
            self._asked = now  # one request asks, the others use what is known
            with contextlib.suppress(Unavailable):
                await self.outbox.newest(0.5)
                self._known = True
        return self.outbox.newest_seen if self._known else None

    async def status(self) -> tuple[int, int, int | None]:
        """How many members can be read, of how many, and the greatest lag among those."""
        newest = await self._newest()

        async def nothing(_tx: neo4j.AsyncManagedTransaction) -> None:
            return None

        async def one(member: Member) -> int | None:
            reading, _nothing = await self._ask(member, nothing, newest, 1.5)
            return reading.lag

        found = await asyncio.gather(*(one(member) for member in self.members), return_exceptions=True)
        good = [lag for lag in found if not isinstance(lag, BaseException)]
        return len(good), len(found), max((lag for lag in good if lag is not None), default=None)

    async def close(self) -> None:
        for member in self.members:
            with contextlib.suppress(*FAILURES):
                await member.driver.close()


class Behind(Exception):
    """The member answers and must not be read."""


async def neighbours(tx: neo4j.AsyncManagedTransaction, start: str, depth: int, limit: int) -> dict[str, t.Any] | None:
    """At most `limit` insights within `depth` links of `start`, in either direction, nearest first, and the links among them; None: not in the graph.

    Level by level, so that the work is bounded by the limit and not by the number of ways through the graph.
    """
    first = await (await tx.run("MATCH (n:Insight {id: $id}) RETURN n.title AS title, n.table AS table", id=start)).single()
    if first is None:
        return None
    nodes = [{"id": start, "title": first["title"], "table": first["table"], "depth": 0}]
    edge, truncated = [start], False
    for level in range(1, depth + 1):
        seen, room = [node["id"] for node in nodes], limit + 1 - len(nodes)
        result = await tx.run(
            "MATCH (a:Insight)-[:LINK]-(b:Insight) WHERE a.id IN $edge AND NOT b.id IN $seen"
            " WITH DISTINCT b ORDER BY b.id LIMIT $more RETURN b.id AS id, b.title AS title, b.table AS table",
            edge=edge, seen=seen, more=room + 1,
        )  # fmt: skip
        found = await result.data()
        truncated = len(found) > room
        nodes += [{**node, "depth": level} for node in found[:room]]
        edge = [node["id"] for node in found]
        if truncated or not found:
            break
    result = await tx.run(
        "MATCH (a:Insight)-[r:LINK]->(b:Insight) WHERE a.id IN $ids AND b.id IN $ids"
        " RETURN a.id AS source, b.id AS target, r.kind AS kind ORDER BY source, target, kind LIMIT $more",
        ids=[node["id"] for node in nodes], more=MAX_LINKS + 1,
    )  # fmt: skip
    links = await result.data()
    return {"nodes": nodes[1:], "links": links[:MAX_LINKS], "truncated": truncated or len(links) > MAX_LINKS}
