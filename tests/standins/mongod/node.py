# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One server: its data, its place in the replica set, and the tasks that keep both going."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bson import Int64, ObjectId

from .common import NULL, Doc, MongoError, OpTime, PeerError, log, monotonic, unpack, utcnow
from .config import Config, version_as
from .election import State, Topology, View
from .faults import Faults
from .peer import Link
from .replication import Puller
from .rsconfig import SetConfig
from .storage import Storage
from .tls import Tls

NOOP_INTERVAL = 10  # seconds between entries of an idle primary (periodicNoopIntervalSecs)
SESSION_LIFE = 1800  # seconds that results of retryable writes are kept


class Signal:
    """Something has changed: whoever waits looks again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout: float | None = None) -> None:
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the event (python/cpython#86296).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()

    async def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for a condition that changes only with the signal; False when it took too long (seconds)."""
        deadline = None if timeout is None else monotonic() + timeout
        while not condition():
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            await self.wait(left)
        return True


@dataclasses.dataclass
class Seen:
    """Figures of a heartbeat that only people look at."""

    last: datetime.datetime | None = None
    received: datetime.datetime | None = None
    ping: float = 0  # milliseconds
    message: str = ""


class Node:
    """Everything that the commands work on."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.version = version_as()
        self.series = ".".join(self.version.split(".")[:2])
        self.tls = Tls(config) if config.tls else None
        self.faults = Faults()
        self.host = f"{socket.gethostname()}:{config.port}"
        self.started = monotonic()
        self.process_id = ObjectId()
        self.hello_counter = 0
        cap = int(config.get("replication.oplogSizeMB", 990)) * 1024 * 1024
        self.storage = Storage(config.dbpath, cap)
        self.topology = Topology()
        self.progress = Signal()  # entries, positions, commit point, state
        self.hello_changed = Signal()
        self._dirty = asyncio.Event()
        self.writable = False
        self.election_time = 0  # packed timestamp
        self.election_doc: Doc = {}
        self.maintenance = 0
        self.rbid = int(self.storage.meta.get("rbid", 1))
        self.quiesce_until: float | None = None
        self.closing = asyncio.Event()
        self.reconfiguring = False
        self.forged: tuple[OpTime, OpTime] | None = None  # what was applied and durable before entries were invented
        self.seen: dict[int, Seen] = collections.defaultdict(Seen)
        self.counters: dict[str, int] = collections.defaultdict(int)
        self.election_counts: dict[str, int] = collections.defaultdict(int)
        self.parameters: Doc = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._heartbeats: dict[str, asyncio.Task[None]] = {}
        self._kick = Signal()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.puller = Puller(self)
        self._check_version()

    # Life

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """A task that is not forgotten, and whose failure is logged."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(finished: asyncio.Task[Any]) -> None:
            self._tasks.discard(finished)
            if not finished.cancelled() and (error := finished.exception()):
                log("CONTROL", "Task failed", "E", error=repr(error))
                if not isinstance(error, PeerError | MongoError):
                    # As a failed assertion ends mongod: what is acknowledged is on disk.
                    self.closing.set()
                    raise SystemExit(14) from error

        task.add_done_callback(done)
        return task

    def _check_version(self) -> None:
        """A binary opens data of its own and of the previous feature compatibility version."""
        fcv = self.fcv().get("version")
        series = ["6.0", "7.0", "8.0", "8.2"]
        if fcv and self.series in series and fcv in series and series.index(fcv) not in (series.index(self.series), series.index(self.series) - 1):
            raise RuntimeError(
                f"UPGRADE PROBLEM: Found an invalid featureCompatibilityVersion document (ERROR: Location4926900: Invalid feature compatibility version"
                f" value '{fcv}' for {self.version})"
            )

    def fcv(self) -> Doc:
        collection = self.storage.catalog.get("admin.system.version")
        return (collection.docs.get("featureCompatibilityVersion") if collection else None) or {}

    def fcv_entry(self) -> Doc:
        return {"op": "i", "ns": "admin.system.version", "o": {"_id": "featureCompatibilityVersion", "version": self.series}}

    async def start(self) -> None:
        topology, storage = self.topology, self.storage
        topology.applied, topology.durable = storage.applied, storage.durable
        topology.term = max(int(storage.meta.get("term", 0)), storage.applied.t, 0)
        topology.voted = int(storage.meta.get("voted", -1))
        if storage.unclean:
            log("STORAGE", "Detected unclean shutdown - Lock file is not empty", "W")
        for loop in (self._flusher(), self._ticker(), self._idle_writer()):
            self.spawn(loop)
        if self.config.set_name is None:
            if storage.meta.get("config"):
                log("REPL", "This node was started without replSet, but has a replica set configuration", "W")
            topology.state, self.writable = State.PRIMARY, True
            if not self.fcv():
                self.write([self.fcv_entry()])
            return
        if saved := storage.meta.get("config"):
            config = SetConfig.parse(saved)
            if config.name != self.config.set_name:
                log("REPL", "Cannot load local config: set name differs", "E", config=config.name, given=self.config.set_name)
                raise RuntimeError(f"replica set name {config.name} in the data is not {self.config.set_name}")
            await self.install(config, save=False)
        self.spawn(self.puller.run())
        self.spawn(self._reporter())

    # State

    @property
    def state(self) -> State:
        if self.maintenance and self.topology.state == State.SECONDARY:
            return State.RECOVERING
        return self.topology.state

    @property
    def replicated(self) -> bool:
        return self.config.set_name is not None

    def set_state(self, state: State) -> None:
        if state != self.topology.state:
            log("REPL", "Transition to state", old=self.topology.state.name, new=state.name)
            self.topology.state = state
            if state == State.SECONDARY:
                self.topology.postpone_election(monotonic())
        self.hello_news()

    def hello_news(self) -> None:
        """Drivers that await a hello get the new one."""
        self.hello_counter += 1
        self.hello_changed.notify()
        self.progress.notify()

    def primary_host(self) -> str | None:
        index = self.topology.primary_index()
        config = self.topology.config
        return config.members[index].host if config and index >= 0 else None

    def link(self, host: str, purpose: str) -> Link:
        """A connection for one purpose, so that a slow answer to one does not hold up another."""
        key = host, purpose
        if key not in self._links:
            self._links[key] = Link(self, host)
        return self._links[key]

    # Writing

    def check_writable(self) -> None:
        if not self.writable:
            if self.quiesce_until is not None:
                raise MongoError("ShutdownInProgress", "The server is in quiesce mode and will shut down")
            raise MongoError("NotWritablePrimary", "not primary")

    def next_ts(self) -> int:
        return max(int(time.time()) << 32 | 1, self.storage.applied.ts + 1)

    def write(self, entries: list[Doc]) -> OpTime:
        """Give entries their place in history and apply them. Not durable yet. Raises MongoError on a secondary."""
        if not entries:
            return self.storage.applied
        self.check_writable()
        return self._append(entries, self.topology.term)

    def _append(self, entries: list[Doc], term: int) -> OpTime:
        ts, wall, placed = self.next_ts(), utcnow(), []
        for i, entry in enumerate(entries):
            placed.append({"ts": unpack(ts + i), "t": Int64(term), "v": Int64(2), "wall": wall, **entry})
        self.appended(placed)
        return self.storage.applied

    def appended(self, placed: list[Doc]) -> None:
        """Entries that already have their place: own ones, or those of a sync source."""
        self.storage.append(placed)
        self.topology.applied = self.storage.applied
        self._dirty.set()
        self.progress.notify()

    async def _flusher(self) -> None:
        """Sync what has been written; all who wait meanwhile share the next sync."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.storage.sync()
            self.topology.durable = self.storage.durable
            self.advance_commit()
            self.progress.notify()

    def advance_commit(self) -> None:
        """A primary's own reckoning of what the majority has."""
        if not self.replicated:
            point = self.storage.durable
        elif self.topology.state == State.PRIMARY:
            point = self.topology.commit_point()
        else:
            return
        if point != NULL and self.storage.commit(min(point, self.storage.applied)):
            self.progress.notify()
            # Others learn it without waiting for their next question.

    def learn_commit(self, point: OpTime, from_source: bool) -> None:
        """What another member says is committed. Only a sync source's word counts for another term's entries."""
        applied = self.storage.applied
        if self.topology.state == State.PRIMARY or self.forged or not (from_source or point.t == applied.t):
            return
        if self.storage.commit(min(point, applied)):
            self.progress.notify()

    # The configuration

    async def install(self, config: SetConfig, save: bool = True) -> None:
        """Take a configuration for ours."""
        index = await self._self_index(config)
        current = self.topology.config
        if current and not config.newer_than(*current.order):
            return  # A newer one came meanwhile.
        if save:
            self.storage.set_meta(config=config.doc())
        topology = self.topology
        if index >= 0:
            self.host = config.members[index].host
        topology.install(config, index, monotonic())
        log("REPL", "New replica set config in use", version=config.version, term=config.term, members=[m.host for m in config.members])
        hosts = {member.host: member.id for i, member in enumerate(config.members) if i != index} if index >= 0 else {}
        for host in [host for host in self._heartbeats if host not in hosts]:
            self._heartbeats.pop(host).cancel()
        for host, ident in hosts.items():
            if host not in self._heartbeats:
                self._heartbeats[host] = self.spawn(self._heartbeat(host, ident))
        if index < 0:
            if topology.state == State.PRIMARY:
                self.step_down("removed from the replica set")
            self.set_state(State.REMOVED)
        elif topology.me and topology.me.arbiter:
            self.set_state(State.ARBITER)
        elif topology.state in (State.STARTUP, State.REMOVED, State.ARBITER):
            self.set_state(State.STARTUP2 if self.storage.empty or self.storage.meta.get("initialSync") else State.RECOVERING)
        else:
            if topology.state == State.PRIMARY and topology.me and not topology.me.electable:
                self.step_down("no longer electable")
            self.hello_news()
        self._kick.notify()
        self.advance_commit()
        self.progress.notify()

    async def _self_index(self, config: SetConfig) -> int:
        """Which member this server is: its port, on an address of this machine."""
        loop = asyncio.get_running_loop()
        for i, member in enumerate(config.members):
            name, _, port = member.host.rpartition(":")
            if int(port) != self.config.port:
                continue
            with contextlib.suppress(OSError):
                for family, kind, protocol, _, address in await loop.getaddrinfo(name.strip("[]"), 0, type=socket.SOCK_STREAM):
                    with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                        probe.bind(address)
                        return i
        return -1

    async def learn_config(self, doc: Doc) -> None:
        """A configuration that another member sent: taken when it is newer."""
        try:
            config = SetConfig.parse(doc)
        except MongoError as error:
            log("REPL", "Got an invalid configuration by heartbeat", "W", error=str(error))
            return
        current = self.topology.config
        if config.name != self.config.set_name or current and not config.newer_than(*current.order):
            return
        await self.install(config)

    # Heartbeats

    @property
    def reported(self) -> tuple[OpTime, OpTime]:
        """Applied and durable, as others hear it. Invented entries must not count as copies of real ones."""
        if self.storage.meta.get("initialSync"):
            return NULL, NULL  # Half a copy is none.
        return self.forged or (self.storage.applied, self.storage.durable)

    def heartbeat_request(self) -> Doc:
        config, me = self.topology.config, self.topology.me
        return {
            "replSetHeartbeat": self.config.set_name,
            "configVersion": config.version if config else -2,
            "configTerm": config.term if config else -1,
            "hbv": 1,
            "from": self.host,
            "fromId": me.id if me else -1,
            "term": Int64(self.topology.term),
        }

    def heartbeat_answer(self) -> Doc:
        topology, storage = self.topology, self.storage
        config = topology.config
        return {
            "ok": 1.0,
            "set": self.config.set_name,
            "state": int(self.state),
            "v": config.version if config else -2,
            "configTerm": Int64(config.term if config else -1),
            "term": Int64(topology.term),
            "opTime": self.reported[0].doc(),
            "durableOpTime": self.reported[1].doc(),
            "lastOpCommitted": storage.committed.doc(),
            "syncingTo": self.puller.source or "",
            "electable": topology.unelectable(monotonic()) is None,
            "electionTimePacked": Int64(self.election_time) if topology.state == State.PRIMARY else 0,
            "primaryId": config.members[topology.primary_index()].id if config and topology.primary_index() >= 0 else -1,
            "empty": storage.empty,
        }

    async def heartbeat_received(self, request: Doc) -> Doc:
        """Raises MongoError for a member of another set."""
        if request["replSetHeartbeat"] != self.config.set_name:
            raise MongoError("InvalidReplicaSetConfig" if self.replicated else "NoReplicationEnabled", "replica set names do not match")
        topology, config = self.topology, self.topology.config
        sender = int(request.get("fromId", -1))
        topology.heard(sender, monotonic())
        self.seen[sender].received = utcnow()
        self.see_term(int(request.get("term", -1)))
        answer = self.heartbeat_answer()
        theirs = int(request.get("configTerm", -1)), int(request.get("configVersion", -1))
        if config and config.newer_than(*theirs):
            answer["config"] = config.doc()
        elif (config is None or theirs != config.order) and theirs[1] > 0 and request.get("from"):
            # They know something newer: ask.
            self.spawn(self._ask_config(str(request["from"])))
        return answer

    async def _ask_config(self, host: str) -> None:
        with contextlib.suppress(PeerError):
            answer = await self.link(host, "config").command("admin", self.heartbeat_request(), 5)
            if "config" in answer:
                await self.learn_config(answer["config"])

    async def _heartbeat(self, host: str, ident: int) -> None:
        """Ask one member, again and again."""
        failures = 0
        while True:
            topology, config = self.topology, self.topology.config
            assert config is not None
            seen, begin = self.seen[ident], monotonic()
            try:
                answer = await self.link(host, "heartbeat").command("admin", self.heartbeat_request(), config.heartbeat_timeout)
                failures = 0
                seen.last, seen.message = utcnow(), ""
                seen.ping = (monotonic() - begin) * 1000
                await self._heartbeat_answered(ident, answer)
            except PeerError as error:
                failures += 1
                if seen.message != str(error):
                    log("REPL_HB", "Heartbeat failed", host=host, error=str(error))
                seen.message = str(error)
                if (failures > 1 or error.code) and topology.failed(ident, error.code in (13, 18), monotonic()):
                    self.hello_news()
            # A first failure is retried soon: it may have been an old connection.
            await self._kick.wait(0.1 if failures == 1 else config.heartbeat_interval)

    async def _heartbeat_answered(self, ident: int, answer: Doc) -> None:
        topology = self.topology
        if topology.answered(ident, answer, monotonic()):
            self.hello_news()
        self.see_term(int(answer.get("term", -1)))
        if "config" in answer:
            await self.learn_config(answer["config"])
        if answer.get("set") == self.config.set_name:
            self.learn_commit(OpTime.of(answer.get("lastOpCommitted")), from_source=False)
        self.advance_commit()
        self.progress.notify()

    # Elections

    def see_term(self, term: int) -> None:
        if self.topology.see_term(term):
            self.step_down(f"a later term has begun ({term})")

    def step_down(self, reason: str) -> None:
        """A primary becomes a secondary at once."""
        log("REPL", "Stepping down from primary", reason=reason)
        self.writable = False
        self.election_doc = {}
        self.set_state(State.SECONDARY)

    async def _ticker(self) -> None:
        while True:
            config = self.topology.config
            await asyncio.sleep(min(0.1, config.election_timeout / 10) if config else 0.1)
            now = monotonic()
            if self.quiesce_until is not None:
                continue
            if self.topology.must_step_down(now):
                self.election_counts["numStepDownsCausedByMajorityUnreachable"] += 1
                self.step_down("can't see a majority of the set")
            if not self.maintenance and not self.faults.freeze and (reason := self.topology.campaign(now)):
                await self.elect(reason)

    async def elect(self, reason: str, dry_run: bool = True) -> bool:
        """Stand for election. True when won."""
        topology, config = self.topology, self.topology.config
        if config is None or topology.campaigning:
            return False
        topology.campaigning = True
        self.election_counts[f"{reason}.called"] += 1
        log("ELECTION", "Starting an election", reason=reason, term=topology.term)
        try:
            if dry_run and not await self._gather_votes(config, dry=True):
                log("ELECTION", "Not running for primary, the dry run found no majority")
                return False
            if topology.state != State.SECONDARY or topology.config is not config:
                return False
            topology.term += 1
            term = topology.term
            # Our own vote, before anybody can count it.
            topology.voted = term
            self.storage.set_meta(term=term, voted=term, votedFor=topology.self_index)
            votes = await self._gather_votes(config, dry=False)
            if not votes or topology.term != term or topology.state != State.SECONDARY:
                log("ELECTION", "Not becoming primary, we did not get enough votes", term=term)
                return False
            self.election_counts[f"{reason}.successful"] += 1
            self._won(reason, votes)
            return True
        finally:
            topology.campaigning = False
            topology.postpone_election(monotonic())

    async def _gather_votes(self, config: SetConfig, dry: bool) -> int:
        """The number of votes when they are a majority, otherwise 0."""
        topology, me = self.topology, self.topology.me
        assert me is not None
        request = {
            "replSetRequestVotes": 1,
            "setName": config.name,
            "dryRun": dry,
            "term": Int64(topology.term),
            "candidateIndex": topology.self_index,
            "configVersion": config.version,
            "configTerm": Int64(config.term),
            "lastAppliedOpTime": self.storage.applied.doc(),
        }
        votes = me.votes
        others = [member.host for member in config.voters if member.id != me.id]
        pending = {asyncio.ensure_future(self.link(host, "vote").command("admin", request, config.election_timeout)) for host in others}
        try:
            while pending and votes < config.majority:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is not None:
                        continue  # No answer is no vote.
                    answer = task.result()
                    if int(answer.get("term", -1)) > topology.term:
                        topology.term = int(answer["term"])
                        return 0
                    if answer.get("voteGranted"):
                        votes += 1
                    else:
                        log("ELECTION", "Vote denied", dryRun=dry, reason=answer.get("reason"))
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return votes if votes >= config.majority else 0

    def vote_requested(self, request: Doc) -> Doc:
        if not request.get("dryRun"):
            self.see_term(int(request["term"]))
        granted, reason = self.topology.vote(request)
        if granted and not request.get("dryRun"):
            self.topology.voted = int(request["term"])
            self.storage.set_meta(term=self.topology.term, voted=self.topology.voted, votedFor=int(request["candidateIndex"]))
            self.topology.postpone_election(monotonic())
        return {"term": Int64(self.topology.term), "voteGranted": granted, "reason": reason, "ok": 1.0}

    def _won(self, reason: str, votes: int) -> None:
        now = utcnow()
        log("ELECTION", "Election succeeded, assuming primary role", term=self.topology.term)
        self.election_time = int(time.time()) << 32 | 1
        config = self.topology.config
        assert config is not None
        self.election_doc = {
            "lastElectionReason": {"electionTimeout": "electionTimeout", "priorityTakeover": "priorityTakeover"}.get(reason, reason),
            "lastElectionDate": now,
            "electionTerm": Int64(self.topology.term),
            "lastCommittedOpTimeAtElection": self.storage.committed.doc(),
            "lastSeenOpTimeAtElection": self.storage.applied.doc(),
            "numVotesNeeded": config.majority,
            "priorityAtElection": self.topology.me.priority if self.topology.me else 0,
            "electionTimeoutMillis": Int64(int(config.election_timeout * 1000)),
            "numCatchUpOps": Int64(0),
            "newTermStartDate": now,
        }
        self.topology.heard(-1, monotonic())
        for view in self.topology.views.values():
            # Everybody gets the whole election timeout to be heard of.
            view.contact = max(view.contact, monotonic() - config.election_timeout / 2) if view.health == 1 else view.contact
        self.set_state(State.PRIMARY)
        self._kick.notify()
        self.spawn(self._become_writable(self.topology.term))

    def _ahead(self) -> list[View]:
        return [view for view in self.topology.views.values() if view.health == 1 and view.applied > self.storage.applied]

    async def _become_writable(self, term: int) -> None:
        """Catch up with what others have, then open the new term."""
        config = self.topology.config
        assert config is not None
        limit = float(config.settings["catchUpTimeoutMillis"]) / 1000
        deadline = monotonic() + (limit if limit >= 0 else 60)
        while self._ahead() and monotonic() < deadline and self.topology.term == term and self.topology.state == State.PRIMARY:
            await self.progress.wait(0.1)
        if self.topology.term != term or self.topology.state != State.PRIMARY:
            return
        self.puller.stop_pulling()
        # The configuration belongs to the term of the primary that vouches for it. Before the first write: a reconfiguration waits for it.
        assert self.topology.config is not None
        await self.install(dataclasses.replace(self.topology.config, term=term))
        if self.topology.term != term or self.topology.state != State.PRIMARY:
            return
        self.writable = True
        entries: list[Doc] = [{"op": "n", "ns": "", "o": {"msg": "new primary"}}]
        if not self.fcv():
            entries.append(self.fcv_entry())
        self.write(entries)
        log("REPL", "Transition to primary complete; database writes are now permitted", term=term)
        self.hello_news()

    async def hand_over(self) -> None:
        """Ask the best caught-up member to stand for election now, instead of after its timeout."""
        config, candidates = self.topology.config, self.topology.caught_up()
        if config and candidates:
            host = config.members[candidates[0]].host
            with contextlib.suppress(PeerError):
                await self.link(host, "vote").command("admin", {"replSetStepUp": 1, "skipDryRun": True}, 5)

    async def step_down_safely(self, wait: float, force: bool, until: float) -> None:
        """replSetStepDown: wait for a successor (seconds), then be no candidate for `until` seconds. Raises MongoError."""
        if self.topology.state != State.PRIMARY or not self.writable:
            raise MongoError("NotWritablePrimary", "not primary so can't step down")
        if self.faults.refuse_step_down:
            await asyncio.sleep(min(wait, 1))
            raise MongoError("ExceededTimeLimit", "No electable secondaries caught up (refused on request)")
        term = self.topology.term
        # No writes meanwhile, or nobody might ever catch up.
        self.writable = False
        self.hello_news()
        ready = proceed = False
        try:
            ready = await self.progress.until(lambda: self.topology.safe_to_step_down() or self.topology.term != term, wait)
            proceed = ready or force
        finally:
            # Also when the client has gone meanwhile.
            if not proceed and self.topology.term == term and self.topology.state == State.PRIMARY:
                self.writable = True
                self.hello_news()
        if self.topology.term != term or self.topology.state != State.PRIMARY:
            raise MongoError(
                "PrimarySteppedDown", "While waiting for secondaries to catch up before stepping down, this node decided to step down for other reasons"
            )
        if not ready and not force:
            raise MongoError(
                "ExceededTimeLimit",
                f"No electable secondaries caught up as of {utcnow().isoformat()}. Please use the replSetStepDown command with the argument"
                " {force: true} to force node to step down.",
            )
        self.topology.frozen_until = monotonic() + until
        self.step_down("replSetStepDown")
        await self.hand_over()

    # What secondaries tell

    async def _reporter(self) -> None:
        """Tell the sync source how far this member and those behind it are."""
        sent: Any = None
        while True:
            source, config, me = self.puller.source, self.topology.config, self.topology.me
            if source is None or config is None or me is None or not self.puller.following:
                await self.progress.wait(1)
                continue
            applied, durable = self.reported
            positions = [{"memberId": me.id, "appliedOpTime": applied.doc(), "durableOpTime": durable.doc()}]
            for ident, view in self.topology.views.items():
                if view.sync_source == self.host and view.health == 1:
                    positions.append({"memberId": ident, "appliedOpTime": view.applied.doc(), "durableOpTime": view.durable.doc()})
            if (source, positions) == sent:
                await self.progress.wait(config.election_timeout / 2)
                if (source, positions) == sent:
                    sent = None
                continue
            try:
                request = {"replSetUpdatePosition": 1, "optimes": positions}
                answer = await self.link(source, "position").command("admin", request, config.heartbeat_timeout)
                sent = source, positions
                # The source may have changed while it was asked.
                if self.puller.trusts(source):
                    self.learn_commit(OpTime.of(answer.get("lastOpCommitted")), from_source=True)
            except PeerError:
                await asyncio.sleep(0.2)

    def positions_received(self, request: Doc) -> None:
        news = False
        for item in request["optimes"]:
            ident = int(item["memberId"])
            self.topology.heard(ident, monotonic())
            news |= self.topology.position(ident, OpTime.of(item["appliedOpTime"]), OpTime.of(item["durableOpTime"]), monotonic())
        if news:
            self.advance_commit()
            self.progress.notify()

    # A primary's housekeeping

    async def _idle_writer(self) -> None:
        """An entry now and then moves the commit point of an idle set; documents whose time is up go."""
        last, rounds = self.storage.applied, 0
        while True:
            await asyncio.sleep(float(self.parameters.get("periodicNoopIntervalSecs", NOOP_INTERVAL)))
            rounds += 1
            if not self.writable:
                last = self.storage.applied
                continue
            gone: list[Doc] = [
                {"op": "d", "ns": ns, "o": {"_id": ident}, "ui": self.storage.catalog.collections[ns].uuid} for ns, ident, _ in self.storage.catalog.expired()
            ]
            if rounds % 30 == 0 and (sessions := self.storage.catalog.get("config.transactions")):
                old = utcnow() - datetime.timedelta(seconds=SESSION_LIFE)
                gone.extend({"op": "d", "ns": "config.transactions", "o": {"_id": d["_id"]}} for d in sessions.docs.values() if d["lastWriteDate"] < old)
            if not gone and self.replicated and self.storage.applied == last:
                gone = [{"op": "n", "ns": "", "o": {"msg": "periodic noop"}}]
            if gone:
                self.write(gone)
            last = self.storage.applied

    # The end

    async def shutdown(self, timeout: float, force: bool = False) -> None:
        """Hand over, let drivers go, stop. timeout in seconds for both together. Raises MongoError when refused."""
        deadline = monotonic() + timeout
        if self.replicated and self.topology.state == State.PRIMARY and self.writable:
            try:
                alone = not any(view.electable for view in self.topology.views.values())
                await self.step_down_safely(0 if alone else min(10.0, timeout) if timeout else 10.0, False, 60)
            except MongoError:
                if not force:
                    raise
                if self.topology.state == State.PRIMARY:
                    self.step_down("shutdown")
        if self.replicated and self.topology.state == State.SECONDARY:
            self.quiesce_until = deadline
            log("REPL", "Entering quiesce mode", remainingMillis=int(max(0, deadline - monotonic()) * 1000))
            self.hello_news()
            await asyncio.sleep(max(0, deadline - monotonic()))
        self.closing.set()

    async def stop(self) -> None:
        """Called once, at the end of the process."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self.storage.sync()
        self.storage.close(clean=True)
        log("CONTROL", "mongod shutdown complete", exitCode=0)

    # The control port

    def fault_state(self) -> Doc:
        faults = {field.name: getattr(self.faults, field.name) for field in dataclasses.fields(self.faults)}
        return {
            "host": self.host,
            "pid": os.getpid(),
            "state": self.state.name,
            "term": self.topology.term,
            "applied": list(self.storage.applied),
            "committed": list(self.storage.committed),
            "faults": faults,
        }

    async def act(self, what: str, request: Doc) -> None:
        """Raises ValueError for what cannot be done now."""
        if what == "initial_sync":
            if self.topology.state not in (State.SECONDARY, State.RECOVERING):
                raise ValueError(f"not in state {self.state.name}")
            self.puller.stop_pulling()
            self.storage.start_initial_sync()
            self.topology.applied = self.topology.durable = NULL
            self.set_state(State.STARTUP2)
        elif what == "rollback":
            if self.topology.state != State.SECONDARY:
                raise ValueError(f"not in state {self.state.name}")
            self.puller.stop_pulling()
            # Entries that nobody else has, in a term that others share: this member must neither lead nor be counted.
            self.forged = self.storage.applied, self.storage.durable
            self.topology.frozen_until = monotonic() + 60
            extra = [{"op": "i", "ns": "standin.rollback", "o": {"_id": ObjectId(), "n": n}} for n in range(int(request.get("count", 1)))]
            self._append(extra, self.storage.applied.t)
        else:
            raise ValueError(f"unknown action {what}")
