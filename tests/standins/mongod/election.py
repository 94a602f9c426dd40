# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who is primary: terms, votes, heartbeats and priorities as a state machine without I/O.

Time is handed in (`now`, seconds of a monotonic clock); what comes out is what to do. The rules follow
https://www.mongodb.com/docs/manual/core/replica-set-elections/ and Raft with MongoDB's additions (dry run, priority
takeover, arbiters that protect a primary they see, stepping down without a majority).
"""

from __future__ import annotations

import dataclasses
import enum
import random

from .common import NULL, Doc, OpTime
from .rsconfig import Member, SetConfig

TAKEOVER_FRESHNESS = 2  # seconds that a member may be behind to take over (priorityTakeoverFreshnessWindowSeconds)
ELECTION_JITTER = 0.15  # of the election timeout


class State(enum.IntEnum):
    """https://www.mongodb.com/docs/manual/reference/replica-states/"""

    STARTUP = 0
    PRIMARY = 1
    SECONDARY = 2
    RECOVERING = 3
    STARTUP2 = 5
    UNKNOWN = 6
    ARBITER = 7
    DOWN = 8
    ROLLBACK = 9
    REMOVED = 10


@dataclasses.dataclass
class View:
    """What is known of another member."""

    health: int = -1  # -1 before the first answer, 0 down, 1 up
    state: State = State.UNKNOWN
    term: int = -1
    applied: OpTime = NULL
    durable: OpTime = NULL
    config: tuple[int, int] = (-1, -1)  # term, version
    electable: bool = True
    election_time: int = 0  # packed timestamp, of a primary
    sync_source: str = ""
    contact: float = -1e9  # when it was last heard of, in whatever way
    up_since: float = 0
    auth_issue: bool = False


class Topology:
    """What this member knows of its set, and what follows from it."""

    def __init__(self, seed: int | None = None) -> None:
        self.random = random.Random(seed)
        self.config: SetConfig | None = None
        self.self_index = -1
        self.views: dict[int, View] = {}  # by member id
        self.state = State.STARTUP
        self.term = 0
        self.voted = -1  # the last term in which this member voted
        self.applied = NULL
        self.durable = NULL
        self.frozen_until = -1e9  # replSetFreeze, replSetStepDown
        self.election_at = float("inf")
        self.takeover_at = float("inf")
        self.campaigning = False

    # The configuration

    def install(self, config: SetConfig, self_index: int, now: float) -> None:
        self.config, self.self_index = config, self_index
        kept = {member.id: self.views.get(member.id, View()) for i, member in enumerate(config.members) if i != self_index}
        self.views = kept
        self.takeover_at = float("inf")
        self.postpone_election(now)

    @property
    def me(self) -> Member | None:
        return self.config.members[self.self_index] if self.config and self.self_index >= 0 else None

    def postpone_election(self, now: float) -> None:
        """A live primary was seen, or this member has just become electable."""
        if self.config:
            timeout = self.config.election_timeout
            self.election_at = now + timeout * (1 + ELECTION_JITTER * self.random.random())

    # What is heard

    def heard(self, ident: int, now: float) -> None:
        if view := self.views.get(ident):
            view.contact = now

    def answered(self, ident: int, answer: Doc, now: float) -> bool:
        """A heartbeat's answer. True when it changed what clients see (state, health)."""
        view = self.views.get(ident)
        if view is None:
            return False
        before = view.health, view.state
        if view.health != 1:
            view.up_since = now
        view.health, view.contact, view.auth_issue = 1, now, False
        view.state = State(int(answer.get("state", State.UNKNOWN)))
        view.term = int(answer.get("term", -1))
        view.applied, view.durable = OpTime.of(answer.get("opTime")), OpTime.of(answer.get("durableOpTime"))
        view.config = int(answer.get("configTerm", -1)), int(answer.get("v", -1))
        view.electable = bool(answer.get("electable", True))
        view.sync_source = str(answer.get("syncingTo", ""))
        view.election_time = int(answer.get("electionTimePacked", 0))
        if view.state == State.PRIMARY and view.term >= self.term:
            self.postpone_election(now)
        return before != (view.health, view.state)

    def failed(self, ident: int, auth: bool, now: float) -> bool:
        """A heartbeat without an answer. True when it changed what clients see."""
        view = self.views.get(ident)
        if view is None:
            return False
        before = view.health
        view.health, view.state, view.auth_issue = 0, State.DOWN, auth
        return before != 0

    def position(self, ident: int, applied: OpTime, durable: OpTime, now: float) -> bool:
        """How far a member is, as it or another says. True when that is news."""
        view = self.views.get(ident)
        if view is None or (applied <= view.applied and durable <= view.durable):
            return False
        view.applied, view.durable, view.contact = max(view.applied, applied), max(view.durable, durable), now
        return True

    def see_term(self, term: int) -> bool:
        """True when a primary must step down, because a later term has begun."""
        if term <= self.term:
            return False
        self.term = term
        return self.state == State.PRIMARY

    # What follows

    def primary_index(self) -> int:
        """The member that is primary, -1 when none is known. The latest term wins."""
        if self.config is None:
            return -1
        if self.state == State.PRIMARY:
            return self.self_index
        best, found = self.term - 1, -1
        for i, member in enumerate(self.config.members):
            view = self.views.get(member.id)
            if view and view.health == 1 and view.state == State.PRIMARY and view.term > best:
                best, found = view.term, i
        return found

    def _alive(self, member: Member, now: float) -> bool:
        if self.config is None or self.me is None:
            return False
        return member.id == self.me.id or now - self.views[member.id].contact <= self.config.election_timeout

    def majority_alive(self, now: float) -> bool:
        """A majority of the voters was heard of within the election timeout."""
        if self.config is None:
            return False
        return sum(1 for member in self.config.voters if self._alive(member, now)) >= self.config.majority

    def majority_up(self) -> bool:
        if self.config is None or self.me is None:
            return False
        mine = self.me.id
        return sum(1 for member in self.config.voters if member.id == mine or self.views[member.id].health == 1) >= self.config.majority

    def unelectable(self, now: float) -> str | None:
        """Why this member may not be elected, None when it may."""
        if self.config is None or self.me is None:
            return "I am not a member of a replica set"
        if self.state != State.SECONDARY:
            return f"I am in state {self.state.name}"
        if not self.me.electable:
            return "my priority is 0"
        if now < self.frozen_until:
            return "I am frozen or have stepped down"
        if not self.majority_up():
            return "I cannot see a majority"
        return None

    def campaign(self, now: float) -> str | None:
        """The reason to stand for election now, None when there is none."""
        if self.config is None or self.campaigning or self.unelectable(now):
            return None
        me = self.me
        assert me is not None
        if len(self.config.voters) == 1 and me.votes:
            return "singleNode"
        leader = self.primary_index()
        if leader < 0:
            self.takeover_at = float("inf")
            return "electionTimeout" if now >= self.election_at else None
        if self.config.members[leader].priority >= me.priority:
            self.takeover_at = float("inf")
            return "electionTimeout" if now >= self.election_at else None
        # A primary of lower priority: take over once caught up, the one with the highest priority first.
        ahead = sum(1 for member in self.config.members if member.priority > me.priority)
        if self.takeover_at == float("inf"):
            self.takeover_at = now + self.config.election_timeout * (ahead + 1)
        view = self.views[self.config.members[leader].id]
        fresh = (view.applied.ts >> 32) - (self.applied.ts >> 32) <= TAKEOVER_FRESHNESS and self.applied.t == view.applied.t
        if now >= self.takeover_at and fresh:
            self.takeover_at = float("inf")
            return "priorityTakeover"
        return None

    def must_step_down(self, now: float) -> bool:
        return self.config is not None and self.state == State.PRIMARY and not self.majority_alive(now)

    def vote(self, request: Doc) -> tuple[bool, str]:
        """Whether to vote for a candidate, and why not. The caller makes the vote durable before it answers."""
        if self.config is None or self.me is None:
            return False, "I am not a member of the replica set"
        term, dry, candidate = int(request["term"]), bool(request.get("dryRun")), int(request["candidateIndex"])
        if request.get("setName") != self.config.name:
            return False, "candidate's set name differs from mine"
        if term < self.term:
            return False, f"candidate's term ({term}) is lower than mine ({self.term})"
        config = int(request.get("configTerm", -1)), int(request.get("configVersion", -1))
        if self.config.newer_than(*config):
            return False, f"candidate's config {config} is older than mine {self.config.order}"
        if not 0 <= candidate < len(self.config.members):
            return False, "candidate is not in my configuration"
        last = OpTime.of(request.get("lastAppliedOpTime"))
        if last < self.applied and not self.me.arbiter:
            return False, f"candidate's data is staler than mine: {tuple(last)} < {tuple(self.applied)}"
        if not dry and self.voted >= term:
            return False, f"already voted in term {term}"
        leader, members = self.primary_index(), self.config.members
        if self.me.arbiter and leader not in (-1, candidate) and members[leader].priority >= members[candidate].priority:
            return False, "can see a healthy primary of equal or greater priority"
        return True, ""

    # A primary's view of replication

    def _positions(self, durable: bool) -> dict[int, OpTime]:
        """How far each member with data is, by id."""
        assert self.config is not None and self.me is not None
        mine = self.durable if durable else self.applied
        found = {}
        for member in self.config.members:
            if not member.data:
                continue
            view = self.views.get(member.id)
            found[member.id] = mine if view is None else view.durable if durable else view.applied
        return found

    def commit_point(self) -> OpTime:
        """What the majority of voters has on disk; NULL before the majority has something of this term."""
        if self.config is None or self.me is None:
            return NULL
        positions = self._positions(durable=self.config.journal_default)
        votes = sorted((positions[member.id] for member in self.config.voters if member.data), reverse=True)
        point = votes[self.config.write_majority - 1]
        return point if point.t == self.term else NULL

    def count(self, optime: OpTime, durable: bool) -> int:
        """How many members with data have an entry."""
        if self.config is None or self.me is None:
            return 0
        return sum(1 for position in self._positions(durable).values() if position >= optime)

    def caught_up(self) -> list[int]:
        """Members (indexes) other than this one that could be primary now, the best first."""
        if self.config is None:
            return []
        found = []
        for i, member in enumerate(self.config.members):
            view = self.views.get(member.id)
            if view and view.health == 1 and view.state == State.SECONDARY and member.electable and view.electable and view.applied >= self.applied:
                found.append((-member.priority, i))
        return [i for _, i in sorted(found)]

    def safe_to_step_down(self) -> bool:
        """A majority has everything, and one of it can be elected."""
        if self.config is None:
            return False
        have = sum(1 for member in self.config.voters if member.data and self._positions(False)[member.id] >= self.applied)
        return have >= self.config.write_majority and bool(self.caught_up())
