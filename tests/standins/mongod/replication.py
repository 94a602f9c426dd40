# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a member gets the data of the others: following an oplog, the first copy, taking divergent entries back."""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import TYPE_CHECKING, Any

from bson import Int64

from .common import NULL, Doc, MongoError, OpTime, PeerError, log, monotonic, unpack, utcnow
from .election import State
from .storage import CopyNeeded

if TYPE_CHECKING:
    from .node import Node

MAX_ATTEMPTS = 10  # numInitialSyncAttempts
CLONE_BATCH = 500


class Restart(Exception):
    """The sync source has changed, or what was being done is over."""


class TooStale(Exception):
    """The source no longer has the entries that come next."""


class Puller:
    """One task: choose a source, then copy, follow or roll back."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.source: str | None = None
        self.following = False  # the source has our last entry: what it says is committed holds for us
        self.too_stale = False
        self.sync: Doc = {}  # initialSyncStatus
        self.failed_attempts = 0
        self._avoid: dict[str, float] = {}
        self._stale: set[str] = set()
        self._generation = 0  # grows when whatever is under way must end

    def stop_pulling(self) -> None:
        self._generation += 1
        self.source = None
        self.following = False
        self.node.progress.notify()

    def trusts(self, host: str) -> bool:
        """Whether this is the source, and known to have our last entry."""
        return self.following and self.source == host

    # Which source

    def _candidates(self) -> list[str]:
        """Members that this one may copy from, the best first: the primary, then who is furthest."""
        node, topology = self.node, self.node.topology
        config, me = topology.config, topology.me
        if config is None or me is None:
            return []
        found = []
        for member in config.members:
            view = topology.views.get(member.id)
            if view is None or view.health != 1 or view.state not in (State.PRIMARY, State.SECONDARY) or not member.data:
                continue
            if view.applied < node.storage.applied or view.applied == NULL or member.delay > me.delay or member.hidden and not me.hidden:
                continue
            if self._avoid.get(member.host, 0) > monotonic():
                continue
            primary = view.state == State.PRIMARY and view.term >= topology.term
            if not primary and not config.settings["chainingAllowed"]:
                continue
            # Two that follow each other would both stand still.
            if not primary and view.sync_source == node.host and view.applied == node.storage.applied:
                continue
            found.append((not primary, -view.applied.t, -view.applied.ts, member.host))
        return [host for *_, host in sorted(found)]

    async def run(self) -> None:
        node = self.node
        while True:
            state = node.topology.state
            if state in (State.STARTUP, State.REMOVED, State.ARBITER) or state == State.PRIMARY and node.writable:
                self.source = None
                await node.progress.wait(1)
                continue
            if state == State.RECOVERING and self._ready_alone():
                node.set_state(State.SECONDARY)
            candidates = self._candidates()
            if not candidates:
                self.source = None
                await node.progress.wait(0.1)
                continue
            generation = self._generation
            host = self.source = candidates[0]
            try:
                if node.storage.empty or node.storage.meta.get("initialSync"):
                    await self._initial_sync(host, generation)
                else:
                    await self._follow(host, generation)
            except Restart:
                self.source = None
            except TooStale:
                self._stale.add(host)
                self._set_too_stale(candidates)
                self._avoid[host] = monotonic() + 1
            except PeerError as error:
                log("REPL", "Sync source failed", host=host, error=str(error))
                self.source = None
                # One that cannot be reached is left alone for as long as the server does (SyncSourceResolver); another may be up.
                self._avoid[host] = monotonic() + (0.5 if error.code else 10)
            finally:
                self.following = False
            if self._generation == generation:
                await asyncio.sleep(0.02)

    def _ready_alone(self) -> bool:
        """After a restart: SECONDARY again once nobody known is ahead, and the data are consistent as they are."""
        return not self.too_stale and not self.node.storage.meta.get("initialSync") and not self.node.storage.empty

    def _set_too_stale(self, candidates: list[str]) -> None:
        if not self.too_stale and all(host in self._stale for host in candidates):
            log("REPL", "We are too stale to use any sync source", "E", candidates=candidates)
            self.too_stale = True
            self.node.set_state(State.RECOVERING)

    def _check(self, generation: int) -> None:
        if generation != self._generation or self.node.topology.state == State.PRIMARY and self.node.writable:
            raise Restart

    async def _ask(self, host: str, database: str, body: Doc, timeout: float = 10) -> Doc:
        return await self.node.link(host, "fetch").command(database, {**body, "$readPreference": {"mode": "secondaryPreferred"}}, timeout)

    async def _one(self, host: str, direction: int) -> Doc:
        """The source's first or last entry's place."""
        body = {"find": "oplog.rs", "sort": {"$natural": direction}, "limit": 1, "projection": {"ts": 1, "t": 1, "_id": 0}}
        batch = (await self._ask(host, "local", body))["cursor"]["firstBatch"]
        if not batch:
            raise PeerError(f"{host} has no oplog")
        place: Doc = batch[0]
        return place

    # Following

    async def _follow(self, host: str, generation: int) -> None:
        """Apply what the source has, as it comes, until something changes."""
        node = self.node
        config = node.topology.config
        assert config is not None
        wait = min(5.0, config.election_timeout / 2)
        last = node.storage.applied
        find = {"find": "oplog.rs", "filter": {"ts": {"$gte": unpack(last.ts)}}, "tailable": True, "awaitData": True, "batchSize": 1000}
        cursor = (await self._ask(host, "local", find))["cursor"]
        batch: list[Doc] = cursor["firstBatch"]
        if not batch or OpTime.of(batch[0]) != last:
            await self._diverged(host, last, generation)
            return
        self._stale.discard(host)
        self.too_stale, self.following = False, True
        batch = batch[1:]
        while True:
            await self._apply(batch, generation)
            self._check(generation)
            if node.topology.state == State.RECOVERING and self._caught_up(host):
                node.set_state(State.SECONDARY)
            if (best := self._candidates()) and best[0] != host and self._better(best[0], host):
                raise Restart
            more = {
                "getMore": Int64(cursor["id"]),
                "collection": "oplog.rs",
                "batchSize": 1000,
                "maxTimeMS": int(wait * 1000),
                "term": Int64(node.topology.term),
                "lastKnownCommittedOpTime": node.storage.committed.doc(),
            }
            answer = await self._ask(host, "local", more, wait + config.heartbeat_timeout)
            batch = answer["cursor"]["nextBatch"]
            self._metadata(answer, host)

    def _better(self, other: str, host: str) -> bool:
        """Worth a change: the primary, when the present source is none."""
        views, config = self.node.topology.views, self.node.topology.config
        assert config is not None
        index, now = config.index(other), config.index(host)
        if now < 0:
            return True
        there, here = views.get(config.members[index].id), views.get(config.members[now].id)
        return bool(there and here and there.state == State.PRIMARY and here.state != State.PRIMARY)

    def _metadata(self, answer: Doc, host: str) -> None:
        data = answer.get("$replData")
        if data:
            self.node.see_term(int(data.get("term", -1)))
            self.node.learn_commit(OpTime.of(data.get("lastOpCommitted")), from_source=True)
        config = self.node.topology.config
        if config and (index := config.index(host)) >= 0:
            self.node.topology.heard(config.members[index].id, monotonic())
            primary = self.node.topology.primary_index()
            if primary == index:
                self.node.topology.postpone_election(monotonic())

    def _caught_up(self, host: str) -> bool:
        config = self.node.topology.config
        index = config.index(host) if config else -1
        if config is None or index < 0:
            return False
        view = self.node.topology.views.get(config.members[index].id)
        return view is not None and self.node.storage.applied >= view.applied

    async def _apply(self, batch: list[Doc], generation: int) -> None:
        node = self.node
        while batch:
            delay = max(node.topology.me.delay if node.topology.me else 0, node.faults.lag)
            if delay:
                await self._due(batch[0], generation)
            # Last thing before the write: what came meanwhile may not fit what is there now.
            self._check(generation)
            part, batch = batch[:200], batch[200:]
            if delay:
                part, batch = part[:1], part[1:] + batch
            node.appended(part)
            await asyncio.sleep(0)

    async def _due(self, entry: Doc, generation: int) -> None:
        """Wait until an entry is old enough."""
        wall: datetime.datetime = entry["wall"]
        while True:
            delay = max(self.node.topology.me.delay if self.node.topology.me else 0, self.node.faults.lag)
            left = delay - (utcnow() - wall).total_seconds()
            if left <= 0:
                return
            self._check(generation)
            await asyncio.sleep(min(left, 0.1))

    # Divergence

    async def _diverged(self, host: str, last: OpTime, generation: int) -> None:
        """The source lacks our last entry: it has forgotten it, or it never had it."""
        first, newest = await self._one(host, 1), await self._one(host, -1)
        if OpTime.of(first) > last:
            raise TooStale
        if OpTime.of(newest) <= last:
            raise PeerError(f"{host} is not ahead of us")
        self._check(generation)
        await self._roll_back(host, generation)

    async def _roll_back(self, host: str, generation: int) -> None:
        node = self.node
        node.set_state(State.ROLLBACK)
        log("ROLLBACK", "Rollback: starting", source=host)
        try:
            common = await self._common_point(host)
            self._check(generation)
            before = node.storage.applied
            try:
                count = node.storage.rollback_to(common)
            except CopyNeeded:
                log("ROLLBACK", "The common point is older than this member's copy, copying again", "W")
                node.storage.start_initial_sync()
                node.topology.applied = node.topology.durable = NULL
                return
            node.topology.applied, node.topology.durable = node.storage.applied, node.storage.durable
            if node.forged:
                node.forged, node.topology.frozen_until = None, -1e9
            node.rbid += 1
            node.storage.set_meta(rbid=node.rbid)
            log("ROLLBACK", "Rollback complete", entries=count, common=list(common), before=list(before))
        finally:
            if node.topology.state == State.ROLLBACK:
                node.set_state(State.RECOVERING)

    async def _common_point(self, host: str) -> OpTime:
        """The newest entry that both oplogs have. Raises TooStale when there is none."""
        body = {"find": "oplog.rs", "sort": {"$natural": -1}, "projection": {"ts": 1, "t": 1, "_id": 0}, "batchSize": 1000}
        cursor = (await self._ask(host, "local", body))["cursor"]
        batch = cursor["firstBatch"]
        while batch:
            for entry in batch:
                if self.node.storage.oplog.has(OpTime.of(entry)):
                    return OpTime.of(entry)
            if not cursor["id"]:
                break
            cursor = (await self._ask(host, "local", {"getMore": Int64(cursor["id"]), "collection": "oplog.rs", "batchSize": 1000}))["cursor"]
            batch = cursor["nextBatch"]
        raise TooStale

    # The first copy

    async def _initial_sync(self, host: str, generation: int) -> None:
        node = self.node
        node.set_state(State.STARTUP2)
        begin = time.time()
        attempts = self.sync.get("initialSyncAttempts", [])
        self.sync = {
            "failedInitialSyncAttempts": self.failed_attempts,
            "maxFailedInitialSyncAttempts": MAX_ATTEMPTS,
            "initialSyncStart": utcnow(),
            "initialSyncAttempts": attempts,
            "appliedOps": 0,
            "syncSource": host,
            "begin": begin,
        }
        log("INITSYNC", "Starting initial sync attempt", source=host, attempt=self.failed_attempts + 1)
        try:
            if node.faults.fail_initial_sync:
                await asyncio.sleep(0.1)
                raise PeerError("initial sync fails on request")
            await self._copy(host, generation)
        except PeerError as error:
            self.failed_attempts += 1
            attempts.append({"durationMillis": int((time.time() - begin) * 1000), "status": str(error), "syncSource": host, "rollBackId": 1})
            self.sync["failedInitialSyncAttempts"] = self.failed_attempts
            log("INITSYNC", "Initial sync attempt failed", "E", error=str(error), attempts=self.failed_attempts)
            if self.failed_attempts >= MAX_ATTEMPTS:
                log("INITSYNC", "Initial sync failed, the maximum number of attempts was reached", "F")
                raise SystemExit(1) from None
            raise
        except TooStale:
            raise PeerError("the source's oplog has moved on during the copy") from None
        self.sync, self.failed_attempts = {}, 0
        node.set_state(State.SECONDARY)
        log("INITSYNC", "Initial sync done", durationMillis=int((time.time() - begin) * 1000))

    async def _copy(self, host: str, generation: int) -> None:
        node, storage = self.node, self.node.storage
        storage.start_initial_sync()
        node.topology.applied = node.topology.durable = NULL
        begin = await self._one(host, -1)
        await self._clone(host, generation)
        stop = OpTime.of(await self._one(host, -1))
        self.sync["initialSyncOplogEnd"] = unpack(stop.ts)
        self.sync["initialSyncOplogStart"] = begin["ts"]
        # Every entry since the copy began, again: entries hold whole documents, so that does no harm.
        find = {"find": "oplog.rs", "filter": {"ts": {"$gte": begin["ts"]}}, "batchSize": 1000, "tailable": True, "awaitData": True}
        cursor = (await self._ask(host, "local", find))["cursor"]
        batch = cursor["firstBatch"]
        if not batch or OpTime.of(batch[0]) != OpTime.of(begin):
            raise TooStale
        committed = NULL
        while True:
            self._check(generation)
            node.appended(batch)
            self.sync["appliedOps"] += len(batch)
            if storage.applied >= stop:
                break
            more = {"getMore": Int64(cursor["id"]), "collection": "oplog.rs", "maxTimeMS": 500, "lastKnownCommittedOpTime": committed.doc()}
            answer = await self._ask(host, "local", more)
            batch = answer["cursor"]["nextBatch"]
            committed = max(committed, OpTime.of(answer.get("$replData", {}).get("lastOpCommitted")))
        await storage.sync()
        storage.finish_initial_sync(committed)
        node.topology.applied, node.topology.durable = storage.applied, storage.durable

    async def _clone(self, host: str, generation: int) -> None:
        databases = (await self._ask(host, "admin", {"listDatabases": 1}))["databases"]
        total = int(sum(d["sizeOnDisk"] for d in databases if d["name"] != "local"))
        self.sync["approxTotalDataSize"] = Int64(total)
        self.sync["approxTotalBytesCopied"] = Int64(0)
        status: Doc = {"databasesToClone": len(databases) - 1, "databasesCloned": 0}
        self.sync["databases"] = status
        for database in (d["name"] for d in databases if d["name"] != "local"):
            collections = (await self._ask(host, database, {"listCollections": 1}))["cursor"]["firstBatch"]
            facts: Doc = {"collections": len(collections), "clonedCollections": 0, "start": utcnow()}
            status[database] = facts
            for info in collections:
                facts[f"{database}.{info['name']}"] = await self._clone_collection(host, database, info, generation)
                facts["clonedCollections"] += 1
            facts["end"] = utcnow()
            status["databasesCloned"] += 1
            status["databasesToClone"] -= 1

    async def _clone_collection(self, host: str, database: str, info: Doc, generation: int) -> Doc:
        import bson

        name = info["name"]
        collection = self.node.storage.catalog.create(f"{database}.{name}", info["info"]["uuid"], info["options"])
        facts: Doc = {"documentsToCopy": 0, "documentsCopied": 0, "indexes": 1, "start": utcnow()}
        answer = await self._ask(host, database, {"find": name, "batchSize": CLONE_BATCH})
        batch: list[Any] = answer["cursor"]["firstBatch"]
        while True:
            for doc in batch:
                collection.put(doc)
                self.sync["approxTotalBytesCopied"] = Int64(self.sync["approxTotalBytesCopied"] + len(bson.encode(doc)))
            facts["documentsCopied"] += len(batch)
            self._check(generation)
            if self.node.faults.fail_initial_sync:
                raise PeerError("initial sync fails on request")
            if not answer["cursor"]["id"]:
                break
            answer = await self._ask(host, database, {"getMore": Int64(answer["cursor"]["id"]), "collection": name, "batchSize": CLONE_BATCH})
            batch = answer["cursor"]["nextBatch"]
        # Indexes last. One that documents break, because it is newer than they are, costs an attempt.
        listed = (await self._ask(host, database, {"listIndexes": name}))["cursor"]["firstBatch"]
        for spec in listed:
            if spec["name"] != "_id_":
                try:
                    collection.add_index(spec)
                except MongoError as error:
                    raise PeerError(f"index {spec['name']} of {database}.{name}: {error}") from None
        facts["indexes"], facts["end"] = len(listed), utcnow()
        return facts
