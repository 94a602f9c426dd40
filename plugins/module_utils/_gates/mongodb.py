# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold of a MongoDB replica set before a member may go, after it came back, and at the end. Pure: snapshot in, verdict out.

Sources, unless a line names another: the manual's pages of replSetGetStatus, replSetGetConfig, hello, replSetStepDown, setFeatureCompatibilityVersion
and "Replica Set Member States" (https://www.mongodb.com/docs/manual/reference/replica-states/). mongodb_fetch.py makes the snapshots.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import (
    AFTER,
    BEFORE,
    FAIL,
    FINAL,
    PASS,
    PREFLIGHT,
    SEVERITY,
    UNKNOWN,
    WAIT,
    Earlier,
    Evaluation,
    Question,
    Reason,
    member_facts,
)
from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb_server import (
    ARBITER,
    PRIMARY,
    RECOVERING,
    ROLLBACK,
    SECONDARY,
    STARTUP,
    STARTUP2,
    state_name,
)

# States out of which a member comes by itself.
TRANSIENT = (STARTUP, RECOVERING, STARTUP2, ROLLBACK)

# Why a member's status was not seen.
UNREACHED = "unreached"
REFUSED = "refused"
UNINITIATED = "uninitiated"
EXPELLED = "expelled"

Optime = t.Tuple[int, int, int]
"""Term, seconds since the epoch, number within the second; they compare in this order."""


@dataclasses.dataclass(frozen=True)
class View:
    """What one member thinks of another, from heartbeats that may be some seconds old."""

    address: str
    state: int
    healthy: bool
    uptime: float = 0.0


@dataclasses.dataclass(frozen=True)
class InitialSync:
    failed_attempts: int
    bytes_total: int
    bytes_copied: int


@dataclasses.dataclass(frozen=True)
class Status:
    """A member's own answer to replSetGetStatus. Times are seconds.

    ``config`` is the configuration's term and version, ``elected_for`` how long a primary has been one, ``clock`` how far the member's clock is
    ahead of the gate's, give or take ``clock_error``.
    """

    set_name: str
    address: str
    state: int
    term: int
    config: tuple[int, int]
    applied: Optime
    views: tuple[View, ...]
    sync_source: str = ""
    too_stale: bool = False
    initial_sync: InitialSync | None = None
    elected_for: float | None = None
    heartbeat: float = 2.0
    clock: float = 0.0
    clock_error: float = 0.0


@dataclasses.dataclass(frozen=True)
class Hello:
    """A member's answer to hello, which it gives without a password."""

    set_name: str = ""
    address: str = ""
    writable: bool = False
    arbiter: bool = False
    primary: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What changes seldom; None where it was not seen.

    ``started`` is in seconds since the epoch, by the gate's clock; ``oplog`` the time that the oplog spans, or will span once it is full;
    ``disk_free`` a share of 1.
    """

    version: str | None = None
    started: float | None = None
    rollbacks: int | None = None
    fcv: str | None = None
    fcv_changing: bool = False
    oplog: float | None = None
    disk_free: float | None = None
    index_builds: int | None = None


@dataclasses.dataclass(frozen=True)
class Member:
    """A member that was asked: name in the inventory, address as in the set's configuration, what it answered, or why it did not."""

    name: str
    address: str
    hello: Hello | None = None
    status: Status | None = None
    facts: Facts = dataclasses.field(default_factory=Facts)
    error: str = ""
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Seat:
    """One line of the set's configuration; ``delay`` in seconds."""

    address: str
    votes: int = 1
    priority: float = 1.0
    hidden: bool = False
    arbiter: bool = False
    delay: float = 0.0

    @property
    def data_voter(self) -> bool:
        return self.votes > 0 and not self.arbiter

    @property
    def electable(self) -> bool:
        """Whether it should become primary. The server forbids a priority to hidden and delayed members."""
        return self.votes > 0 and self.priority > 0 and not (self.arbiter or self.hidden or self.delay)


@dataclasses.dataclass(frozen=True)
class Probe:
    """A write that was to reach the members: whether it did, and if not why."""

    verdict: str
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One look at all members. ``time`` is in seconds since the epoch. ``probe`` is None where none was made."""

    time: float
    members: tuple[Member, ...]
    seats: tuple[Seat, ...] | None = None
    probe: Probe | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is still good. All times in seconds.

    ``expected_downtime``: what one member's restart is expected to take at most; the oplog must span ``oplog_factor`` times as much.
    ``initial_sync_expected``: whether the target comes back empty, as a new or a replaced member does.
    ``handed_over``: whether phase before is asked after the target was told to step down.
    ``probe``: whether phase after (and before with ``handed_over``) needs a write that is seen.
    """

    max_lag: float = 10.0
    min_oplog: float = 3600.0
    oplog_factor: float = 5.0
    expected_downtime: float = 600.0
    max_clock_skew: float = 1.0
    min_disk_free: float = 0.1
    max_rollback: float = 60.0
    initial_sync_expected: bool = False
    handed_over: bool = False
    probe: bool = False


@dataclasses.dataclass(frozen=True)
class Post:
    """A configured member and what was seen of it."""

    seat: Seat
    member: Member | None
    views: tuple[View, ...]

    @property
    def name(self) -> str:
        return self.member.name if self.member else self.seat.address

    @property
    def status(self) -> Status | None:
        return self.member.status if self.member else None

    @property
    def state(self) -> int | None:
        """The state that it says it is in, None where it was not heard."""
        if self.status:
            return self.status.state
        hello = self.member.hello if self.member else None
        return ARBITER if self.seat.arbiter and hello and hello.arbiter else None

    def known_down(self, voters: int) -> bool:
        """Whether a majority of the voters says that it does not answer them either. One that only the gate cannot reach is not known to be down."""
        return self.state is None and sum(not view.healthy for view in self.views) > voters // 2


class Scene:
    """A snapshot with the seats, the members and the primary found."""

    def __init__(self, snapshot: Snapshot, limits: Limits) -> None:
        self.snapshot, self.limits = snapshot, limits
        self.seats = snapshot.seats or ()
        by_address = {address_of(member): member for member in snapshot.members}
        voting = {seat.address for seat in self.seats if seat.votes > 0}
        views: dict[str, list[View]] = {}
        for member in snapshot.members:
            if member.status and member.status.address in voting:
                for view in member.status.views:
                    views.setdefault(view.address, []).append(view)
        self.posts = [Post(seat, by_address.get(seat.address), tuple(views.get(seat.address, ()))) for seat in self.seats]
        self.voters = sum(seat.votes > 0 for seat in self.seats)
        # The number of votes that elect, and of members that make a write durable. As the server counts them: replSetGetStatus.writeMajorityCount.
        self.majority = self.voters // 2 + 1
        self.write_majority = min(self.majority, sum(seat.data_voter for seat in self.seats))
        # hello says that writes are taken, status that it is primary; while a primary comes or goes only one of them does.
        self.primaries = [post for post in self.posts if post.state == PRIMARY and post.member and post.member.hello and post.member.hello.writable]
        self.primary = self.primaries[0] if len(self.primaries) == 1 else None

    def post(self, name: str) -> Post | None:
        return next((post for post in self.posts if post.name == name), None)

    def lag(self, post: Post) -> float | None:
        """Seconds that the member's data are behind the primary's, beyond its wanted delay. None where it cannot be known."""
        if not (self.primary and self.primary.status and post.status):
            return None
        newest, own = self.primary.status.applied, post.status.applied
        return 0.0 if own >= newest else max(0.0, newest[1] - own[1] - post.seat.delay)

    def grade(self, post: Post, data: bool) -> str:
        """Whether the member counts: its vote, or with ``data`` as one that makes writes durable in good time."""
        if data and post.seat.delay:
            return FAIL  # For good: it is never in time.
        if post.state is None:
            return FAIL if post.known_down(self.voters) else UNKNOWN
        if post.state in (PRIMARY, SECONDARY, ARBITER):
            if post.status and post.status.too_stale:
                return FAIL
            if self.primary is not None and post is not self.primary and not self.heard_by_primary(post):
                return WAIT
            if not data:
                return PASS
            lag = self.lag(post)
            return WAIT if lag is None or lag > self.limits.max_lag else PASS
        return WAIT if post.state in TRANSIENT and not (post.status and post.status.too_stale) else FAIL

    def heard_by_primary(self, post: Post) -> bool:
        status = self.primary.status if self.primary else None
        return any(view.address == post.seat.address and view.healthy for view in (status.views if status else ()))

    def successors(self, without: Post | None) -> list[Post]:
        """Who could be primary, the likeliest first: caught up, by priority, then by index (SERVER-35623)."""
        fit = [post for post in self.posts if post is not without and post.seat.electable and self.grade(post, True) == PASS]
        return sorted(fit, key=lambda post: -post.seat.priority)


def address_of(member: Member) -> str:
    """The member's address as the set's configuration has it, as far as it said so itself."""
    if member.status:
        return member.status.address
    return (member.hello.address if member.hello else "") or member.address


def shortage(grades: t.Sequence[str], needed: int) -> str:
    """What it means that ``needed`` of the graded members must be good: pass, wait, unknown, or fail where even the unseen do not suffice."""
    good, later, unseen = (grades.count(grade) for grade in (PASS, WAIT, UNKNOWN))
    if good >= needed:
        return PASS
    if good + later >= needed:
        return WAIT
    return UNKNOWN if good + later + unseen >= needed else FAIL


def evaluate(snapshot: Snapshot, question: Question, earlier: Earlier[Snapshot], limits: Limits) -> Evaluation:
    """What one snapshot says to the question. Pure."""
    scene = Scene(snapshot, limits)
    if snapshot.seats is None:
        return Evaluation(tuple(no_configuration(snapshot, question)), observed(scene, None))
    target = scene.post(question.target)
    reasons = list(membership(scene, question))
    if question.phase in (BEFORE, AFTER) and target is None and not any(r.subject == question.target for r in reasons):
        reasons.append(Reason("MDB_TARGET", FAIL, "is no member of the set, or is not in the list of members.", question.target))
    reasons += leadership(scene, target if question.phase == BEFORE else None)
    if question.phase in (PREFLIGHT, FINAL):
        reasons += states(scene, question, None)
    if question.phase in (PREFLIGHT, BEFORE):
        reasons += readiness(scene, question, target)
    if question.phase == BEFORE:
        reasons += states(scene, question, target)
        reasons += departure(scene, question, target)
    if question.phase == AFTER and target is not None:
        # What is wrong with another member is waited for; it is no failure of the target.
        reasons += [dataclasses.replace(r, verdict=WAIT) if r.verdict == FAIL else r for r in states(scene, question, target)]
        reasons += votes(scene, None)
        reasons += back(scene, question, target, earlier)
    if question.phase == FINAL:
        reasons += ending(scene, question)
    if needs_probe(question, limits):
        reasons += probed(snapshot, question)
    without = target if question.phase == BEFORE else None
    return Evaluation(once(reasons), observed(scene, target), margin(scene, without), progress(scene, target))


def once(reasons: t.Iterable[Reason]) -> tuple[Reason, ...]:
    """Each finding once, at its worst."""
    worst: dict[str, Reason] = {}
    for reason in reasons:
        held = worst.get(reason.key())
        if held is None or SEVERITY.index(reason.verdict) > SEVERITY.index(held.verdict):
            worst[reason.key()] = reason
    return tuple(worst.values())


def needs_probe(question: Question, limits: Limits) -> bool:
    """Whether the question is answered by a write: is replication back, or does the new primary take writes."""
    return limits.probe and (question.phase == AFTER or (question.phase == BEFORE and limits.handed_over))


def probed(snapshot: Snapshot, question: Question) -> t.Iterator[Reason]:
    if snapshot.probe is None:
        yield Reason("MDB_PROBE", WAIT, "a write that all members must take was not made yet; it is made once all else holds.", question.target)
    elif snapshot.probe.verdict != PASS:
        yield Reason("MDB_PROBE", snapshot.probe.verdict, snapshot.probe.text, question.target)


def no_configuration(snapshot: Snapshot, question: Question) -> t.Iterator[Reason]:
    """Nobody told the set's configuration."""
    for member in snapshot.members:
        yield unseen(member)
    if snapshot.members and all(member.kind == UNINITIATED for member in snapshot.members):
        yield Reason("MDB_UNINITIATED", FAIL, "no member belongs to a set; initiate it once, on one member.")
    else:
        yield Reason("MDB_CONFIG_UNSEEN", UNKNOWN, "no member told the set's configuration.")


def unseen(member: Member) -> Reason:
    """Why a member's own status is missing."""
    text = member.error or "gave no status."
    if member.kind == REFUSED:
        return Reason("MDB_REFUSED", UNKNOWN, f"answers, but refuses: {text}", member.name)
    if member.kind == UNINITIATED:
        return Reason("MDB_UNINITIATED", WAIT, "has no configuration yet; it gets one from the set, if the set knows it.", member.name)
    if member.kind == EXPELLED:
        return Reason("MDB_REMOVED", FAIL, "says that it is no member of the set; add it, or stop it.", member.name)
    return Reason("MDB_UNREACHABLE", UNKNOWN, text, member.name)


def membership(scene: Scene, question: Question) -> t.Iterator[Reason]:
    """Members asked and members configured are the same, in one set, with one configuration."""
    posts = {id(post.member) for post in scene.posts if post.member}
    for member in scene.snapshot.members:
        if id(member) not in posts:
            # One that cannot be seen may sit in the set under another address; one that was heard does not.
            if member.status:
                yield Reason("MDB_REMOVED", FAIL, "is not in the set's configuration; add it, or stop it.", member.name)
            else:
                yield unseen(member)
    for post in scene.posts:
        if post.member is None:
            yield Reason("MDB_NOT_ASKED", UNKNOWN, "is configured, but not among the members that the gate was given (compare the addresses).", post.name)
    about = [post for post in scene.posts if not (question.phase == BEFORE and post.name == question.target)]
    names = {post.status.set_name for post in about if post.status}
    names |= {post.member.hello.set_name for post in about if post.member and post.member.hello and post.member.hello.set_name}
    if len(names) > 1:
        yield Reason("MDB_SET_NAME", FAIL, f"members belong to different sets: {', '.join(sorted(names))}.")
    configs = {post.status.config for post in about if post.status}
    if len(configs) > 1:
        yield Reason("MDB_CONFIG", WAIT, f"members have different configurations (term, version): {sorted(configs)}; a reconfiguration is under way.")


def leadership(scene: Scene, going: Post | None) -> t.Iterator[Reason]:
    """One primary, the same for all, in one term, not elected a moment ago. What ``going`` says of it does not matter, unless it is the primary."""
    if len(scene.primaries) > 1:
        listed = ", ".join(f"{post.name} (term {post.status.term})" for post in scene.primaries if post.status)
        same = len({post.status.term for post in scene.primaries if post.status}) < len(scene.primaries)
        yield Reason("MDB_TWO_PRIMARIES", FAIL if same else WAIT, f"primaries: {listed}; the one of the older term has to step down.")
        return
    if scene.primary is None or scene.primary.status is None:
        yield Reason("MDB_NO_PRIMARY", WAIT, "no member takes writes; an election is under way, or too few votes are left.")
        return
    others = [post for post in scene.posts if post is not going or post is scene.primary]
    address = scene.primary.seat.address
    for post in others:
        if post.status:
            named = [view.address for view in post.status.views if view.state == PRIMARY]
        else:
            named = [post.member.hello.primary] if post.member and post.member.hello else [address]
        if named != [address]:
            text = f"holds {', '.join(filter(None, named)) or 'no member'} for primary, not {scene.primary.name}."
            yield Reason("MDB_PRIMARY_DISPUTED", WAIT, text, post.name)
    terms = {post.status.term for post in others if post.status}
    if len(terms) > 1:
        yield Reason("MDB_TERM", WAIT, f"members are in different terms: {sorted(terms)}.")
    elected = scene.primary.status.elected_for
    steady = 2 * scene.primary.status.heartbeat
    if elected is None:
        yield Reason("MDB_ELECTION", UNKNOWN, "does not say when it was elected.", scene.primary.name)
    elif elected < steady:
        yield Reason("MDB_ELECTION", WAIT, f"was elected {elected:.1f} s ago; two heartbeats ({steady:g} s) must have passed.", scene.primary.name)


def states(scene: Scene, question: Question, going: Post | None) -> t.Iterator[Reason]:
    """Every member but the one that is to go is seen, in a good state, and caught up."""
    early = question.phase == PREFLIGHT
    for post in scene.posts:
        if post is going or post.member is None:
            continue
        if post.known_down(scene.voters):
            yield Reason("MDB_DOWN", FAIL, "does not answer, neither here nor to a majority of the voters.", post.name, forceable=True)
        elif post.state is None:
            yield unseen(post.member)
        else:
            yield from state(scene, post, early)


def state(scene: Scene, post: Post, early: bool) -> t.Iterator[Reason]:
    """What is wrong with a member that was heard. Before a rollout a member that is busy recovering is a fail: none is begun with it."""
    if post.status and post.status.too_stale:
        yield Reason("MDB_TOO_STALE", FAIL, "is too far behind to catch up: the oplogs of the others begin later. Resync it.", post.name, forceable=True)
        return
    wanted = (ARBITER,) if post.seat.arbiter else (PRIMARY, SECONDARY)
    if post.state not in wanted:
        name = "not seen" if post.state is None else state_name(post.state)
        verdict = WAIT if post.state in TRANSIENT and not early else FAIL
        yield Reason("MDB_STATE", verdict, f"is {name}.", post.name, forceable=True)
        return
    if post is not scene.primary and scene.primary is not None and not scene.heard_by_primary(post):
        yield Reason("MDB_PEERS", WAIT, f"answers here, but {scene.primary.name} does not hear it.", post.name)
    if post.seat.data_voter or post.seat.electable:
        yield from lagging(scene, post)


def lagging(scene: Scene, post: Post) -> t.Iterator[Reason]:
    lag = scene.lag(post)
    if lag is not None and lag > scene.limits.max_lag:
        yield Reason("MDB_LAG", WAIT, f"is {lag:.0f} s behind the primary; {scene.limits.max_lag:g} s are allowed.", post.name, forceable=True)


def readiness(scene: Scene, question: Question, going: Post | None) -> t.Iterator[Reason]:
    """Nothing is under way that a restart would break, and a member that is away for a while will find its place in the oplogs of the others."""
    limits = scene.limits
    needed = max(limits.min_oplog, limits.oplog_factor * limits.expected_downtime)
    heard = [post for post in scene.posts if post.member and post.status and post.state in (PRIMARY, SECONDARY) and post is not going]
    for post in heard:
        facts = t.cast(Member, post.member).facts
        if facts.oplog is None:
            yield Reason("MDB_OPLOG", UNKNOWN, "does not tell how much time its oplog spans.", post.name)
        elif facts.oplog < needed:
            text = f"has an oplog of {facts.oplog / 3600:.1f} h; {needed / 3600:.1f} h are needed. Enlarge it (replSetResizeOplog)."
            yield Reason("MDB_OPLOG", FAIL, text, post.name, forceable=True)
        if facts.index_builds is None:
            yield Reason("MDB_INDEX_BUILD", UNKNOWN, "does not tell whether it builds indexes.", post.name)
        elif facts.index_builds:
            yield Reason("MDB_INDEX_BUILD", WAIT, f"builds {facts.index_builds} indexes; a shutdown would be refused or take them back.", post.name)
    everyone = [*heard, going] if going and going.status and going.state in (PRIMARY, SECONDARY) else heard
    yield from compatibility(everyone, question)
    if question.phase == PREFLIGHT:
        for post in heard:
            free = t.cast(Member, post.member).facts.disk_free
            if limits.min_disk_free > 0 and (free is None or free < limits.min_disk_free):
                text = "does not tell how full its disk is." if free is None else f"has {free:.0%} of its disk free; {limits.min_disk_free:.0%} are needed."
                yield Reason("MDB_DISK", UNKNOWN if free is None else FAIL, text, post.name, forceable=True)
        yield from clocks(heard, limits)
    yield from takeover(scene, going)


def clocks(posts: t.Sequence[Post], limits: Limits) -> t.Iterator[Reason]:
    known = [(post.status.clock, post.status.clock_error, post.name) for post in posts if post.status]
    if known:
        (low, low_error, low_name), (high, high_error, high_name) = min(known), max(known)
        apart = high - low - low_error - high_error
        if apart > limits.max_clock_skew:
            text = f"is at least {apart:.1f} s ahead of {low_name}; {limits.max_clock_skew:g} s are allowed."
            yield Reason("MDB_CLOCK", FAIL, text, high_name, forceable=True)


def takeover(scene: Scene, going: Post | None) -> t.Iterator[Reason]:
    """A member of higher priority takes over from the primary once it has caught up, unless it is the one that is about to go."""
    if scene.primary is None:
        return
    for post in scene.posts:
        if post is not going and post.seat.electable and post.seat.priority > scene.primary.seat.priority and post.state in (SECONDARY, *TRANSIENT):
            text = f"has priority {post.seat.priority:g}, the primary {scene.primary.seat.priority:g}: it is about to take over."
            yield Reason("MDB_TAKEOVER", WAIT, text, post.name)


def series(version: str) -> tuple[int, int] | None:
    """(7, 0) of ``7.0.14``; None of what is no version."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else None


def runs_with(version: str, fcv: str) -> bool:
    """Whether a server of this version opens data of this featureCompatibilityVersion: its own major series or the one before, never a later one."""
    binary, data = series(version), series(fcv)
    if binary is None or data is None:
        return False
    return data <= binary and binary[0] - data[0] <= 1


def compatibility(posts: t.Sequence[Post], question: Question) -> t.Iterator[Reason]:
    """One featureCompatibilityVersion, not in change, that today's servers and the coming ones can run with."""
    levels = set()
    for post in posts:
        facts = t.cast(Member, post.member).facts
        if facts.fcv is None or facts.version is None:
            yield Reason("MDB_FCV", UNKNOWN, "does not tell its version or featureCompatibilityVersion.", post.name)
            continue
        levels.add(facts.fcv)
        if facts.fcv_changing:
            yield Reason("MDB_FCV", WAIT, "is between two featureCompatibilityVersions; run setFeatureCompatibilityVersion again if it stays so.", post.name)
        elif not runs_with(facts.version, facts.fcv):
            yield Reason("MDB_FCV", FAIL, f"has version {facts.version} with featureCompatibilityVersion {facts.fcv}.", post.name)
        elif question.expect_version and not runs_with(question.expect_version, facts.fcv):
            text = f"version {question.expect_version} cannot start on featureCompatibilityVersion {facts.fcv}: one major series at a time, never back."
            yield Reason("MDB_UPGRADE_PATH", FAIL, text, post.name)
    if len(levels) > 1:
        yield Reason("MDB_FCV", WAIT, f"members have different featureCompatibilityVersions: {', '.join(sorted(levels))}.")


def remaining(scene: Scene, without: Post | None) -> tuple[list[str], list[str]]:
    """Grades of the votes and of the data-bearing votes that are left without one member."""
    left = [post for post in scene.posts if post is not without and post.seat.votes > 0]
    return [scene.grade(post, False) for post in left], [scene.grade(post, True) for post in left if post.seat.data_voter]


def votes(scene: Scene, without: Post | None) -> t.Iterator[Reason]:
    """Enough votes for a primary, and enough data-bearing ones for writes that a majority must acknowledge."""
    elect, write = remaining(scene, without)
    gone = f" without {without.name}" if without else ""
    quorum, verdict = shortage(elect, scene.majority), shortage(write, scene.write_majority)
    if quorum != PASS:
        text = f"{elect.count(PASS)} of {scene.voters} votes are good{gone}; {scene.majority} are needed to have a primary."
        yield Reason("MDB_QUORUM", quorum, text)
    # Without enough votes there are not enough writers either: told only where it is worse.
    if SEVERITY.index(verdict) > SEVERITY.index(quorum):
        text = f"{write.count(PASS)} data-bearing members are good{gone}; {scene.write_majority} are needed for writes with majority."
        arbiter = any(seat.arbiter for seat in scene.seats)
        yield Reason(
            "MDB_ARBITER" if arbiter else "MDB_WRITE_MAJORITY", verdict, text + (" An arbiter votes but holds no data." if arbiter else ""), forceable=True
        )


def margin(scene: Scene, without: Post | None) -> int | None:
    """How many more members may be lost until there is no primary or no majority of writes. None where nobody told the configuration."""
    elect, write = remaining(scene, without)
    return min(elect.count(PASS) - scene.majority, write.count(PASS) - scene.write_majority)


def departure(scene: Scene, question: Question, target: Post | None) -> t.Iterator[Reason]:
    """The set without the target: still a primary, still durable, and where the set is large enough still able to lose one more."""
    lacking = list(votes(scene, target))
    yield from lacking
    voters = [post for post in scene.posts if post is not target and post.seat.votes > 0]
    # A delayed member never makes a write durable in good time, however well it is.
    data = [post for post in voters if post.seat.data_voter and not post.seat.delay]
    best = min(len(voters) - scene.majority, len(data) - scene.write_majority)
    spare = min(1, best)
    if spare > 0 and not lacking:
        elect, write = remaining(scene, target)
        worst = max((shortage(elect, scene.majority + spare), shortage(write, scene.write_majority + spare)), key=SEVERITY.index)
        if worst != PASS:
            text = f"without {question.target} no further member may be lost; the set could bear {best} if all were well."
            yield Reason("MDB_MARGIN", worst, text, forceable=True)
    if target is None or target.seat.votes == 0:
        return
    successors = scene.successors(target)
    candidates = [post for post in scene.posts if post is not target and post.seat.electable]
    verdict = shortage([scene.grade(post, True) for post in candidates], 1)
    if verdict != PASS:
        yield Reason("MDB_SUCCESSOR", verdict, "no other member that may become primary is caught up.", target.name, forceable=True)
    if target.state == PRIMARY:
        if scene.limits.handed_over:
            yield Reason("MDB_STILL_PRIMARY", WAIT, "has not handed over yet (replSetStepDown, without force).", target.name)
        elif successors and question.expect_version:
            heir = t.cast(Member, successors[0].member)
            if heir.facts.version is None:
                yield Reason("MDB_SUCCESSOR_VERSION", UNKNOWN, f"would be followed by {heir.name}, which does not tell its version.", target.name)
            elif heir.facts.version != question.expect_version:
                text = f"would be followed by {heir.name}, which has version {heir.facts.version}, not {question.expect_version}: update that one first."
                yield Reason("MDB_SUCCESSOR_VERSION", FAIL, text, target.name, forceable=True)


def back(scene: Scene, question: Question, target: Post, earlier: Earlier[Snapshot]) -> t.Iterator[Reason]:
    """The target runs anew, with the right version, is seen by the others, and is caught up."""
    member = target.member
    if member is None:
        return
    primary_view = next((v for v in (scene.primary.status.views if scene.primary and scene.primary.status else ()) if v.address == target.seat.address), None)
    if target.state is None:
        # Until its users have arrived, a member in initial sync knows no password; the primary tells its state then.
        if member.kind == REFUSED and primary_view and primary_view.healthy and primary_view.state == STARTUP2:
            yield from syncing(scene, target, "knows no users yet")
        elif member.kind == REFUSED and primary_view and primary_view.healthy and primary_view.state in TRANSIENT:
            yield from arriving(scene, target, primary_view.state, None)
        elif member.kind == UNREACHED and target.known_down(scene.voters):
            yield Reason("MDB_DOWN", WAIT, f"does not answer yet: {member.error}", target.name)
        else:
            yield unseen(member)
        return
    restarted = yield from renewed(scene, question, target, member, primary_view)
    if restarted and question.expect_version:
        if member.facts.version is None:
            yield Reason("MDB_VERSION", UNKNOWN, "does not tell its version.", target.name)
        elif member.facts.version != question.expect_version:
            yield Reason("MDB_VERSION", FAIL, f"runs {member.facts.version}, not {question.expect_version}.", target.name)
    if target.status is None or target.status.state == ARBITER:
        yield from watched(scene, target, ARBITER)
        return
    yield from rolled_back(scene, target, earlier)
    if target.status.state not in (PRIMARY, SECONDARY) or target.status.too_stale:
        yield from arriving(scene, target, target.status.state, target.status)
        return
    yield from watched(scene, target, target.status.state)
    lag = scene.lag(target)
    if lag is not None and lag > scene.limits.max_lag:
        yield Reason("MDB_LAG", WAIT, f"is {lag:.0f} s behind the primary; {scene.limits.max_lag:g} s are allowed.", target.name)
    if target.status.state == SECONDARY and not target.status.sync_source:
        yield Reason("MDB_SYNC_SOURCE", WAIT, "follows nobody yet.", target.name)


def renewed(scene: Scene, question: Question, target: Post, member: Member, view: View | None) -> t.Generator[Reason, None, bool]:
    """Whether the target was started after ``not_before``. An arbiter tells nobody; the primary knows since when it answers."""
    if question.not_before is None:
        return True
    started = member.facts.started
    if started is None and target.seat.arbiter and view is not None:
        started = scene.snapshot.time - view.uptime
    if started is None:
        yield Reason("MDB_RESTART", UNKNOWN, "does not tell how long it has been running.", target.name)
        return False
    # The server tells its uptime, an arbiter's is known in whole seconds only.
    early = question.not_before - started
    if early > 1.0:
        yield Reason("MDB_RESTART", WAIT, f"was started {early:.0f} s before it was to be restarted: that is the old process.", target.name)
        return False
    return True


def rolled_back(scene: Scene, target: Post, earlier: Earlier[Snapshot]) -> t.Iterator[Reason]:
    """A rollback throws writes away into files; somebody has to look at them."""
    member = t.cast(Member, target.member)
    first = earlier.first
    before = next((m for m in first.members if m.name == member.name), None) if first else None
    if member.facts.rollbacks is None:
        yield Reason("MDB_ROLLBACK", UNKNOWN, "does not tell whether it rolled back.", target.name)
    elif before and before.facts.rollbacks is not None and member.facts.rollbacks > before.facts.rollbacks and not scene.limits.initial_sync_expected:
        yield Reason("MDB_ROLLBACK", FAIL, "rolled back: look at the files under rollback/ in its data directory.", target.name, forceable=True)
    elif first and before and before.status and before.status.state == ROLLBACK == t.cast(Status, target.status).state:
        lasted = scene.snapshot.time - first.time
        if lasted > scene.limits.max_rollback:
            yield Reason("MDB_ROLLBACK", FAIL, f"has been in ROLLBACK for {lasted:.0f} s.", target.name)


def arriving(scene: Scene, target: Post, number: int, status: Status | None) -> t.Iterator[Reason]:
    """The target is on its way to SECONDARY, or will never get there."""
    if status and status.too_stale:
        yield Reason("MDB_TOO_STALE", FAIL, "is too far behind to catch up: the oplogs of the others begin later. Resync it.", target.name)
        return
    if status and status.initial_sync:
        sync = status.initial_sync
        if sync.failed_attempts:
            yield Reason("MDB_INITIAL_SYNC_FAILED", FAIL, f"failed {sync.failed_attempts} times at its initial sync; see its log.", target.name)
        else:
            yield from syncing(scene, target, f"has copied {sync.bytes_copied} of about {sync.bytes_total} bytes")
        return
    verdict = WAIT if number in TRANSIENT else FAIL
    yield Reason("MDB_STATE", verdict, f"is {state_name(number)}.", target.name)


def syncing(scene: Scene, target: Post, text: str) -> t.Iterator[Reason]:
    if scene.limits.initial_sync_expected:
        yield Reason("MDB_INITIAL_SYNC", WAIT, f"copies all data anew: {text}.", target.name)
    else:
        text = f"copies all data anew ({text}), which was not planned: was its data directory lost?"
        yield Reason("MDB_INITIAL_SYNC", FAIL, text, target.name, forceable=True)


def watched(scene: Scene, target: Post, number: int) -> t.Iterator[Reason]:
    """The primary and a majority of the voters see the target as it sees itself."""
    seen = sum(view.healthy and view.state == number for view in target.views)
    # Its own view of itself is no proof, but its vote counts in the majority. Arbiters have a view, but tell it to nobody who must log in.
    telling = sum(seat.votes > 0 and not seat.arbiter for seat in scene.seats)
    needed = min(scene.majority, telling)
    by_primary = target is scene.primary or scene.heard_by_primary(target)
    if seen < needed or not by_primary:
        text = f"is seen as {state_name(number)} by {seen} voters{'' if by_primary else ', not by the primary'}; {needed} and the primary are needed."
        yield Reason("MDB_PEERS", WAIT, text, target.name)


def ending(scene: Scene, question: Question) -> t.Iterator[Reason]:
    """One version everywhere, the expected one. Arbiters are asked as well."""
    versions: dict[str, str] = {}
    for post in scene.posts:
        if post.member is None or post.state is None:
            continue
        version = post.member.facts.version
        if version is None:
            yield Reason("MDB_VERSION", UNKNOWN, "does not tell its version.", post.name)
        elif question.expect_version and version != question.expect_version:
            yield Reason("MDB_VERSION", FAIL, f"runs {version}, not {question.expect_version}.", post.name)
        else:
            versions[post.name] = version
    if len(set(versions.values())) > 1:
        yield Reason("MDB_VERSIONS", FAIL, "members run different versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    yield from votes(scene, None)
    yield from takeover(scene, None)


def progress(scene: Scene, target: Post | None) -> float | None:
    """Grows while the target comes back: bytes still to copy (negative) in an initial sync, then the time of the last applied operation."""
    status = target.status if target else None
    if status is None:
        return None
    if status.initial_sync:
        return float(min(0, status.initial_sync.bytes_copied - status.initial_sync.bytes_total))
    return status.applied[1] + status.applied[2] / 1e9 if status.applied[1] else None


def observed(scene: Scene, target: Post | None) -> dict[str, t.Any]:
    """The facts for a person and for the journal."""
    if not scene.posts:
        return {"members": {member.name: {"address": member.address, "error": member.error} for member in scene.snapshot.members}}
    primary = scene.primary
    rivals = [post.seat.priority for post in scene.posts if post.seat.electable and post is not primary]
    members = {}
    for post in scene.posts:
        facts = post.member.facts if post.member else Facts()
        name = "not seen" if post.state is None else state_name(post.state)
        has_role = post.state in (PRIMARY, SECONDARY, ARBITER)
        members[post.name] = member_facts(
            facts.version or "",
            name.lower() if has_role else "",
            None if post is primary or post.seat.arbiter else scene.lag(post),
            "s",
            address=post.seat.address,
            state=None if has_role else name,
            votes=post.seat.votes,
            priority=post.seat.priority,
            sync_source=post.status.sync_source if post.status else None,
            oplog_hours=None if facts.oplog is None else round(facts.oplog / 3600, 1),
            disk_free=None if facts.disk_free is None else round(facts.disk_free, 2),
            fcv=facts.fcv,
            error=post.member.error if post.member else "not asked",
        )
    successors = scene.successors(target or primary)
    return {
        "primary": primary.name if primary else None,
        "term": primary.status.term if primary and primary.status else None,
        "successor": successors[0].name if successors else None,
        # A primary that comes back with the highest priority takes over once more.
        "expected_elections": 2 if primary and rivals and primary.seat.priority > max(rivals) else 1,
        "majority": scene.majority,
        "write_majority": scene.write_majority,
        "probe": scene.snapshot.probe.verdict if scene.snapshot.probe else "not made",
        "members": members,
    }
