# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one member of the stand-in knows: itself, its peers as it last heard them, and for each database a term, a leader and an index.

No vote is counted. Each member asks its peers for their state a few times a second. The highest term that it hears wins; where a database's leader was not
heard for a while, the first member in the database's own order that hears a majority takes the next term. What a client sees is as with Raft: one
leader for each database while a majority hears each other, none in a minority, and a new term after each change.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t
import uuid

BEAT = 0.2  # seconds between two questions to a peer
SILENT_AFTER = 1.5  # seconds after which a peer that does not answer is unavailable
LAGGING = 100  # entries after which a member is too far behind to take part


@dataclasses.dataclass
class Group:
    """A database here. ``silent_since`` is when its leader was last heard (monotonic seconds)."""

    term: int = 0
    leader: str = ""
    applied: int = 0
    silent_since: float = 0.0


@dataclasses.dataclass
class Peer:
    name: str
    bolt: str
    http: str
    id: str
    heard: float = -1e9
    state: dict[str, t.Any] = dataclasses.field(default_factory=dict)


class NotLeader(Exception):
    """Writes go to another member."""


class Cluster:
    """``members`` are in order, this one among them; ``databases`` says how many of the first are primaries of each, the others being secondaries."""

    def __init__(self, name: str, version: str, members: t.Sequence[t.Mapping[str, str]], databases: t.Mapping[str, int]) -> None:
        self.name, self.version, self.databases = name, version, dict(databases)
        self.members = {item["name"]: Peer(item["name"], item["bolt"], item["http"], str(uuid.uuid5(uuid.NAMESPACE_DNS, item["name"]))) for item in members}
        self.order = list(self.members)
        self.groups = {database: Group() for database in databases}
        self.started = time.time()
        self.fault: dict[str, t.Any] = {}
        self.lock = threading.RLock()

    # Hearing each other

    def state(self) -> dict[str, t.Any]:
        """What peers are told."""
        with self.lock:
            return {
                "groups": {name: {"term": group.term, "leader": group.leader, "applied": self.applied(name)} for name, group in self.groups.items()},
                "fault": self.fault,
                "version": self.version,
            }

    def heard(self, name: str, state: dict[str, t.Any]) -> None:
        with self.lock:
            peer = self.members[name]
            peer.state, peer.heard = state, time.monotonic()

    def live(self, name: str) -> bool:
        """Whether a member is here, or was heard lately."""
        return name == self.name or time.monotonic() - self.members[name].heard < SILENT_AFTER

    def primaries(self, database: str) -> list[str]:
        return self.order[: self.databases[database]]

    def has_majority(self, database: str) -> bool:
        return sum(self.live(name) for name in self.primaries(database)) > len(self.primaries(database)) // 2

    def tick(self) -> None:
        """Takes over terms, indexes and, where it is this member's turn, the lead."""
        with self.lock:
            for place, (database, group) in enumerate(sorted(self.groups.items())):
                self._follow(database, group)
                # Each database has an order of its own, so that leaders spread.
                candidates = self.primaries(database)
                candidates = candidates[place % len(candidates) :] + candidates[: place % len(candidates)]
                live = [name for name in candidates if self.live(name)]
                silent = not group.leader or not self.live(group.leader)
                if self.has_majority(database) and silent and live[:1] == [self.name]:
                    group.term, group.leader = group.term + 1, self.name
                elif silent or not self.has_majority(database):
                    group.leader = ""

    def _follow(self, database: str, group: Group) -> None:
        for name in self.order:
            told = self.members[name].state.get("groups", {}).get(database)
            if name == self.name or not told or not self.live(name):
                continue
            # Two that took the same term, not hearing each other, end with the first in order; who lost sight of a leader finds it again.
            if told["leader"] and self.live(told["leader"]) and self._rank(told["term"], told["leader"]) > self._rank(group.term, group.leader):
                group.term, group.leader = told["term"], told["leader"]
            # An entry that a majority has is on its way to all; a leader keeps count of its own.
            if name == group.leader or group.leader != self.name:
                group.applied = max(group.applied, told["applied"])
        if group.leader == self.name or (group.leader and self.live(group.leader)):
            group.silent_since = time.monotonic() if group.leader == self.name else self.members[group.leader].heard

    def _rank(self, term: int, leader: str) -> tuple[int, int]:
        return term, -self.order.index(leader) if leader else -len(self.order)

    def write(self, database: str) -> None:
        """One entry. Raises NotLeader."""
        with self.lock:
            group = self.groups[database]
            if group.leader != self.name or not self.has_majority(database):
                raise NotLeader
            group.applied += 1

    # What clients ask

    def applied(self, database: str) -> int:
        return max(0, self.groups[database].applied - int(self.fault.get("lag", {}).get(database, 0)))

    def fault_of(self, name: str) -> dict[str, t.Any]:
        return self.fault if name == self.name else self.members[name].state.get("fault", {})

    def status(self, database: str) -> dict[str, t.Any]:
        """The answer of /db/<database>/cluster/status, with the name of the flag that the combined answer has."""
        with self.lock:
            group, core = self.groups[database], self.name in self.primaries(database)
            status: dict[str, t.Any] = {
                "lastAppliedRaftIndex": self.applied(database),
                "votingMembers": [self.members[name].id for name in self.primaries(database) if self.live(name)],
                "memberId": self.members[self.name].id,
                "leader": self.members[group.leader].id if group.leader else None,
                "core": core,
                "participatingInRaftGroup": core and bool(group.leader) and database not in self.fault.get("not_participating", ()),
                "healthy": database not in self.fault.get("unhealthy", ()),
                "raftCommandsPerSecond": 0.0,
            }
            if core:
                status["millisSinceLastLeaderMessage"] = int((time.monotonic() - group.silent_since) * 1000) if group.leader != self.name else 0
            return status

    def servers(self) -> list[dict[str, t.Any]]:
        with self.lock:
            return [self._server(peer) for peer in self.members.values()]

    def _server(self, peer: Peer) -> dict[str, t.Any]:
        hosting = [] if not self.live(peer.name) else [name for name in self.databases if self._current(peer.name, name)[0] == "online"]
        return {
            "serverId": peer.id,
            "name": peer.name,
            "address": peer.bolt,
            "httpAddress": None,
            "httpsAddress": peer.http,
            "state": "Cordoned" if self.fault_of(peer.name).get("cordoned") else "Enabled",
            "health": "Available" if self.live(peer.name) else "Unavailable",
            "hosting": hosting,
            "requestedHosting": list(self.databases),
            "tags": [],
            "allowedDatabases": [],
            "deniedDatabases": [],
            "modeConstraint": "NONE",
            "version": self.version if peer.name == self.name else peer.state.get("version"),
        }

    def _current(self, member: str, database: str) -> tuple[str, str]:
        if not self.live(member):
            return "unknown", "Server is unavailable"
        told = self.fault_of(member).get("databases", {}).get(database, {})
        return told.get("current", "online"), told.get("message", "")

    def rows(self) -> list[dict[str, t.Any]]:
        """SHOW DATABASES YIELD *, a row for each database and server."""
        with self.lock:
            return [self._row(database, peer) for database in self.databases for peer in self.members.values()]

    def _row(self, database: str, peer: Peer) -> dict[str, t.Any]:
        current, message = self._current(peer.name, database)
        primary, online = peer.name in self.primaries(database), current == "online"
        return {
            "name": database,
            "type": "system" if database == "system" else "standard",
            "aliases": [],
            "access": "read-write",
            "serverID": peer.id,
            "address": peer.bolt if self.live(peer.name) else None,
            "role": ("primary" if primary else "secondary") if online else "unknown",
            "writer": online and self.groups[database].leader == peer.name,
            "requestedStatus": "online",
            "currentStatus": current,
            "statusMessage": message,
            "default": database == "neo4j",
            "home": database == "neo4j",
            "requestedPrimariesCount": None if database == "system" else len(self.primaries(database)),
            "requestedSecondariesCount": None if database == "system" else len(self.order) - len(self.primaries(database)),
            "constituents": [],
        }

    def check(self, databases: t.Sequence[str]) -> list[dict[str, t.Any]]:
        """dbms.cluster.statusCheck: an entry is replicated, and each primary says how it took it."""
        with self.lock:
            found = []
            for database in databases or [name for name in self.databases if len(self.primaries(name)) > 1]:
                group = self.groups[database]
                good = bool(group.leader) and self.has_majority(database)
                for name in self.primaries(database):
                    lag = int(self.fault_of(name).get("lag", {}).get(database, 0))
                    current = self._current(name, database)[0]
                    status = "UNAVAILABLE" if not self.live(name) or lag > LAGGING else "APPLYING" if current == "online" else "REPLICATING"
                    found.append(
                        {
                            "database": database,
                            "serverId": self.members[name].id,
                            "serverName": name,
                            "address": self.members[name].bolt,
                            "replicationSuccessful": good,
                            "memberStatus": status,
                            "recognisedLeader": self.members[group.leader].id if group.leader else None,
                            "recognisedLeaderTerm": group.term,
                            "requester": name == self.name,
                            "error": None,
                        }
                    )
            return found

    def routing(self, database: str) -> dict[str, t.Any]:
        """The routing table of ROUTE and of dbms.routing.getRoutingTable."""
        with self.lock:
            leader = self.groups[database].leader
            live = [name for name in self.order if self.live(name)]
            roles = {"WRITE": [leader] if leader else [], "READ": [name for name in live if name != leader] or live, "ROUTE": live}
            return {
                "ttl": 5,
                "db": database,
                "servers": [{"addresses": [self.members[name].bolt for name in names], "role": role} for role, names in roles.items()],
            }
