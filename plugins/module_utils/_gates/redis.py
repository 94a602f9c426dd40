# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold in a Redis replication, with Sentinels or without. Pure; the looking is in redis_fetch.

Sources: redis.io, INFO, WAIT, ROLE, FAILOVER, SENTINEL and "High availability with Redis Sentinel" (a good replica as Sentinel chooses it, quorum and
majority), "Redis replication" (why a master without persistence must not be restarted in place).

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import (
    AFTER,
    BEFORE,
    FAIL,
    FINAL,
    PREFLIGHT,
    UNKNOWN,
    WAIT,
    Earlier,
    Evaluation,
    Question,
    Reason,
    member_facts,
)

MASTER, REPLICA = "master", "slave"
DOWN_FLAGS = ("s_down", "o_down", "disconnected", "master_down")


@dataclasses.dataclass(frozen=True)
class Limits:
    """``max_lag`` is in bytes of replication (or a tenth of the master's backlog, where that is more), the others in seconds."""

    max_lag: int = 1024 * 1024
    max_silence: int = 10
    max_ack: int = 1


@dataclasses.dataclass(frozen=True)
class Follower:
    """A replica as its master lists it. ``lag`` is the seconds since its last acknowledgement."""

    state: str
    offset: int
    lag: int


@dataclasses.dataclass(frozen=True)
class Server:
    """What a server says of itself. ``refused`` says that its host answers and nothing listens. Where ``answered`` is false the rest means nothing.

    ``master`` is the member that it replicates from, or an address where that is no member. ``offset`` is what it has of the replication stream.
    ``persistent`` is None where it could not be seen. ``started`` is in seconds since the epoch.
    """

    name: str
    answered: bool = True
    refused: bool = False
    error: str = ""
    role: str = ""
    version: str = ""
    started: float = 0.0
    loading: bool = False
    saving: bool = False
    save_failed: bool = False
    persistent: bool | None = None
    master: str = ""
    link_up: bool = False
    syncing: bool = False
    sync_bytes: int = 0
    silence: int = 0
    offset: int = 0
    backlog: int = 0
    min_replicas: int = 0
    followers: t.Mapping[str, Follower] = dataclasses.field(default_factory=dict)
    strangers: int = 0


@dataclasses.dataclass(frozen=True)
class Known:
    """A replica as a Sentinel knows it."""

    flags: tuple[str, ...] = ()
    link_ok: bool = True
    priority: int = 100


@dataclasses.dataclass(frozen=True)
class Sentinel:
    """What a Sentinel says of the master that is asked about. ``quorum_error`` is its answer to CKQUORUM where that is not OK.

    ``missing`` says that it does not know a master of that name, ``others`` is the number of other Sentinels that it knows.
    """

    name: str
    answered: bool = True
    refused: bool = False
    error: str = ""
    missing: bool = False
    master: str = ""
    epoch: int = 0
    flags: tuple[str, ...] = ()
    quorum: int = 0
    quorum_error: str = ""
    others: int = 0
    replicas: t.Mapping[str, Known] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Probe:
    """A write on the master: how many replicas acknowledged it, of how many. ``seen`` is false where an error tells nothing about the replication."""

    wanted: int = 0
    acknowledged: int = 0
    error: str = ""
    seen: bool = True


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """``sentinels`` is empty where there are none. ``probe`` is None where nothing was to be written or there is no master to write to."""

    servers: tuple[Server, ...]
    sentinels: tuple[Sentinel, ...] = ()
    probe: Probe | None = None


@dataclasses.dataclass(frozen=True)
class View:
    """What the servers and Sentinels together come to. ``named`` is the master by the Sentinels of the newest epoch, empty where they don't agree."""

    masters: tuple[Server, ...]
    named: str
    newest: int

    @property
    def master(self) -> Server | None:
        """The one master, if the Sentinels name no other."""
        if len(self.masters) != 1 or (self.named and self.named != self.masters[0].name):
            return None
        return self.masters[0]


def view_of(snapshot: Snapshot) -> View:
    masters = tuple(server for server in snapshot.servers if server.answered and server.role == MASTER)
    speaking = [sentinel for sentinel in snapshot.sentinels if sentinel.answered and not sentinel.missing]
    newest = max((sentinel.epoch for sentinel in speaking), default=0)
    names = {sentinel.master for sentinel in speaking if sentinel.epoch == newest}
    return View(masters, names.pop() if len(names) == 1 else "", newest)


def trouble(server: Server, view: View, limits: Limits) -> list[tuple[str, str]]:
    """What keeps a replica from being a good one, as codes and texts."""
    found = []
    master = view.master
    if server.loading:
        found.append(("REDIS_LOADING", "Is loading its data."))
    if server.role == MASTER or not server.answered:
        return found
    if master is not None and server.master != master.name:
        found.append(("REDIS_FOLLOWS", f"Replicates from {server.master}, not from the master {master.name}."))
    if server.syncing:
        found.append(("REDIS_SYNC", "Is copying all data from its master."))
    elif not server.link_up:
        found.append(("REDIS_LINK", "Has no connection to its master."))
    elif server.silence > limits.max_silence:
        found.append(("REDIS_LINK", f"Has heard nothing of its master for {server.silence} s; {limits.max_silence} s are allowed."))
    elif master is not None:
        behind = master.offset - server.offset
        allowed = max(limits.max_lag, master.backlog // 10)
        follower = master.followers.get(server.name)
        if behind > allowed:
            found.append(("REDIS_LAG", f"Is {behind} bytes behind; {allowed} are allowed."))
        if follower is None or follower.state != "online":
            found.append(("REDIS_NOT_LISTED", f"Its master has it as {follower.state if follower else 'no replica of its'}."))
        elif follower.lag > limits.max_ack:
            found.append(("REDIS_LAG", f"Its last acknowledgement is {follower.lag} s old; {limits.max_ack} s are allowed."))
    return found


def is_down(server: Server, snapshot: Snapshot) -> bool:
    """Whether a server that does not answer is known not to run: its host says so, or a majority of the Sentinels."""
    if server.answered:
        return False
    says = [s for s in snapshot.sentinels if s.answered and "s_down" in (s.flags if s.master == server.name else s.replicas.get(server.name, Known()).flags)]
    return server.refused or (bool(snapshot.sentinels) and 2 * len(says) > len(snapshot.sentinels))


def margin_of(good: int, sentinels: int, snapshot: Snapshot, min_replicas: int) -> int:
    """How many of ``good`` servers, each with a Sentinel of ``sentinels``, can be lost until nobody writes or nobody may elect a master."""
    margin = good - 1 - min_replicas
    if snapshot.sentinels:
        margin = min(margin, sentinels - needed_sentinels(snapshot))
    return margin


def needed_sentinels(snapshot: Snapshot) -> int:
    """Sentinels that must live: the quorum finds a master down, a majority of all elects who replaces it."""
    return max([len(snapshot.sentinels) // 2 + 1, *(sentinel.quorum for sentinel in snapshot.sentinels)])


def evaluate(
    snapshot: Snapshot, question: Question, earlier: Earlier[Snapshot], limits: Limits, persistent: bool = True, hand_over: bool = False
) -> Evaluation:
    """What one look says. Each code is documented in the module redis_gate.

    ``persistent`` says whether the data must survive a restart; a cache's need not. ``hand_over`` says that the caller makes another server the
    master before the target goes.
    """
    if question.target and question.target not in {*(server.name for server in snapshot.servers), *(sentinel.name for sentinel in snapshot.sentinels)}:
        return Evaluation((Reason("REDIS_MEMBERS", FAIL, "Is not in the list of members.", question.target),))
    view = view_of(snapshot)
    gone = question.target if question.phase == BEFORE else ""
    found = [*of_sentinels(snapshot, view, question), *of_master(snapshot, view, question), *of_servers(snapshot, view, question, earlier, limits, persistent)]
    good = [s.name for s in snapshot.servers if s.answered and (s.role == REPLICA or s == view.master) and not trouble(s, view, limits)]
    fit = [sentinel.name for sentinel in snapshot.sentinels if is_fit(sentinel, view)]
    min_replicas = max((server.min_replicas for server in snapshot.servers if server.answered), default=0)
    margin = margin_of(sum(name != gone for name in good), sum(name != gone for name in fit), snapshot, min_replicas)
    if gone:
        found += of_departure(snapshot, view, question, good, fit, min_replicas, persistent, hand_over)
    if snapshot.probe is not None and question.phase in (AFTER, FINAL):
        found += of_probe(snapshot.probe)
    return Evaluation(
        tuple(found),
        observed={
            "master": view.master.name if view.master else "",
            "members": {server.name: summary_of(server, view, limits) for server in snapshot.servers},
            "sentinels": {s.name: f"names {s.master or 'no master'}, epoch {s.epoch}" if s.answered else f"no answer: {s.error}" for s in snapshot.sentinels},
            "probed": snapshot.probe is not None,
        },
        margin=margin,
        progress=progress_of(snapshot, view, question),
    )


def summary_of(server: Server, view: View, limits: Limits) -> dict[str, t.Any]:
    if not server.answered:
        return member_facts(error=server.error)
    follows = server.role == REPLICA and view.master is not None and server.master == view.master.name
    return member_facts(
        server.version,
        "replica" if server.role == REPLICA else server.role,
        view.master.offset - server.offset if follows and view.master else None,
        "bytes",
        offset=server.offset,
        trouble=[code for code, _text in trouble(server, view, limits)],
    )


def progress_of(snapshot: Snapshot, view: View, question: Question) -> float | None:
    """How far the target, or all, are. Before a change there is nothing to measure.

    For each server: it answers (1), has loaded its data (2), copies its master's (up to 3), is connected (3), has nearly all of the stream (up to 4).
    """
    if question.phase not in (AFTER, FINAL):
        return None

    def steps(server: Server) -> float:
        if server.role == MASTER or server.link_up:
            behind = view.master.offset - server.offset if view.master else 0
            return 3 + 1 / (1 + max(0, behind))
        if server.syncing:
            return 2 + server.sync_bytes / (server.sync_bytes + 1e12)
        return 1.0 if server.loading else 2.0

    return sum(steps(server) for server in snapshot.servers if server.answered and question.target in ("", server.name))


def is_fit(sentinel: Sentinel, view: View) -> bool:
    """Whether a Sentinel can take part in the election of a master."""
    return sentinel.answered and not sentinel.missing and sentinel.epoch == view.newest


def of_sentinels(snapshot: Snapshot, view: View, question: Question) -> t.Iterator[Reason]:
    mending = WAIT if question.phase in (AFTER, FINAL) else FAIL
    for sentinel in snapshot.sentinels:
        # Before a member goes others may be away: how many is counted.
        counted_elsewhere = question.phase == BEFORE and sentinel.name != question.target
        if not sentinel.answered:
            if not sentinel.refused:
                yield Reason("REDIS_SENTINEL_UNSEEN", UNKNOWN, f"Its Sentinel does not answer: {sentinel.error}.", sentinel.name)
            elif not counted_elsewhere:
                yield Reason("REDIS_SENTINEL_DOWN", mending, f"Its Sentinel does not run: {sentinel.error}.", sentinel.name, forceable=True)
            continue
        if sentinel.missing:
            yield Reason("REDIS_SENTINEL_MISSING", FAIL, "Its Sentinel does not know a master of this name.", sentinel.name, forceable=True)
            continue
        if sentinel.epoch != view.newest:
            text = f"Its Sentinel names {sentinel.master} by epoch {sentinel.epoch}; the newest is {view.newest}."
            yield Reason("REDIS_SENTINEL_STALE", WAIT, text, sentinel.name)
            continue
        if sentinel.quorum_error:
            # Others that are away make it say so too, and a Sentinel that was just started has not found the others yet.
            yield Reason("REDIS_SENTINEL_QUORUM", mending, f"Its Sentinel says: {sentinel.quorum_error}.", sentinel.name, forceable=True)
        if "failover_in_progress" in sentinel.flags:
            yield Reason("REDIS_FAILOVER", WAIT, "Its Sentinel is replacing the master.", sentinel.name)
        elif {"s_down", "o_down"} & set(sentinel.flags):
            yield Reason("REDIS_MASTER_DOWN", WAIT, f"Its Sentinel finds the master {sentinel.master} down.", sentinel.name)
        if sentinel.others != len(snapshot.sentinels) - 1:
            more = sentinel.others > len(snapshot.sentinels) - 1
            text = f"Its Sentinel knows {sentinel.others} others; there are {len(snapshot.sentinels) - 1}."
            yield Reason("REDIS_SENTINEL_COUNT", FAIL if more else WAIT, text, sentinel.name, forceable=True)
        unknown = sorted({server.name for server in snapshot.servers} - {sentinel.master, *sentinel.replicas})
        strangers = sorted(set(sentinel.replicas) - {server.name for server in snapshot.servers})
        if unknown:
            yield Reason("REDIS_SENTINEL_REPLICAS", WAIT, f"Its Sentinel does not know {', '.join(unknown)}.", sentinel.name, forceable=True)
        if strangers:
            text = f"Its Sentinel has replicas that are no members: {', '.join(strangers)}."
            yield Reason("REDIS_SENTINEL_REPLICAS", FAIL, text, sentinel.name, forceable=True)
        known = sentinel.replicas.get(question.target)
        if question.phase == AFTER and known is not None and set(DOWN_FLAGS) & set(known.flags):
            yield Reason("REDIS_SENTINEL_SEES", WAIT, f"The Sentinel of {sentinel.name} has it as {','.join(known.flags)}.", question.target)
    speaking = [sentinel for sentinel in snapshot.sentinels if is_fit(sentinel, view)]
    if speaking and not view.named and not any("failover_in_progress" in sentinel.flags for sentinel in speaking):
        text = ", ".join(f"{sentinel.name} says {sentinel.master}" for sentinel in speaking)
        yield Reason("REDIS_SENTINELS_DISAGREE", UNKNOWN, f"Sentinels of one epoch name different masters: {text}.")
    elif view.named and view.named not in [server.name for server in snapshot.servers]:
        yield Reason("REDIS_MEMBERS", FAIL, f"The Sentinels' master {view.named} is not in the list of members.")


def of_master(snapshot: Snapshot, view: View, question: Question) -> t.Iterator[Reason]:
    mending = WAIT if question.phase in (AFTER, FINAL) else FAIL
    if len(view.masters) > 1:
        # A former master that comes back may be one until a Sentinel has told it.
        names = ", ".join(server.name for server in view.masters)
        yield Reason("REDIS_TWO_MASTERS", mending, f"Several servers are masters: {names}. Writes to one of them will be lost.")
    elif not view.masters:
        # Sentinels make one; without them a person has to, unless the master is just being restarted.
        yield Reason("REDIS_NO_MASTER", WAIT if snapshot.sentinels else mending, "No server that answers is a master.")
    elif view.named and view.named != view.masters[0].name:
        yield Reason("REDIS_WRONG_MASTER", WAIT, f"The Sentinels name {view.named}, but {view.masters[0].name} is the master.")
    elif view.masters[0].strangers:
        yield Reason("REDIS_MEMBERS", FAIL, f"{view.masters[0].strangers} replicas of the master are not in the list of members.", view.masters[0].name)


def of_servers(snapshot: Snapshot, view: View, question: Question, earlier: Earlier[Snapshot], limits: Limits, persistent: bool) -> t.Iterator[Reason]:
    mending = WAIT if question.phase in (AFTER, FINAL) else FAIL
    for server in snapshot.servers:
        is_target = server.name == question.target
        counted_elsewhere = question.phase == BEFORE and not is_target
        if not server.answered:
            if not is_down(server, snapshot):
                yield Reason("REDIS_UNSEEN", UNKNOWN, f"Does not answer: {server.error}.", server.name)
            elif not counted_elsewhere:
                yield Reason("REDIS_DOWN", mending, f"Does not run: {server.error}.", server.name, forceable=True)
            continue
        # Before a member goes, the others' trouble is what the margin is about, and its own does no harm.
        if question.phase != BEFORE:
            for code, text in trouble(server, view, limits):
                yield Reason(code, WAIT, text, server.name, forceable=True)
        if server.saving and (question.phase == PREFLIGHT or (question.phase == BEFORE and is_target)):
            yield Reason("REDIS_SAVING", WAIT, "Is writing its data to disk.", server.name, forceable=True)
        if persistent and question.phase != AFTER:
            if server.persistent is None:
                yield Reason("REDIS_PERSISTENCE", UNKNOWN, "Whether it keeps its data on disk can't be seen.", server.name)
            elif not server.persistent:
                yield Reason("REDIS_PERSISTENCE", FAIL, "Keeps nothing on disk, so a restart as master empties it and all replicas.", server.name)
        if persistent and server.save_failed and (is_target or question.phase in (PREFLIGHT, FINAL)):
            yield Reason("REDIS_SAVE_FAILED", FAIL, "Could not write its data to disk the last time.", server.name)
        if question.phase == FINAL or (question.phase == AFTER and is_target):
            yield from of_return(server, view, question, earlier)


def of_return(server: Server, view: View, question: Question, earlier: Earlier[Snapshot]) -> t.Iterator[Reason]:
    """Whether a server that answers is the new one, and moves."""
    old = question.phase == AFTER and question.not_before is not None and server.started < question.not_before
    if old:
        yield Reason("REDIS_NOT_RESTARTED", WAIT, "Has not been started again.", server.name)
    if question.expect_version and server.version != question.expect_version:
        # A server that is still to be restarted may well have the old version.
        verdict = WAIT if old or (question.phase == AFTER and question.not_before is None) else FAIL
        yield Reason("REDIS_VERSION", verdict, f"Runs {server.version or 'an unknown version'}, not {question.expect_version}.", server.name)
    before = next((each for each in earlier.last.servers if each.name == server.name), None) if earlier.last else None
    if view.master and server.role == REPLICA and server.offset < view.master.offset and before and before.answered and before.offset == server.offset:
        yield Reason("REDIS_STUCK", WAIT, f"Is behind and has stayed at {server.offset} since the last look.", server.name)


def of_departure(
    snapshot: Snapshot,
    view: View,
    question: Question,
    good: t.Sequence[str],
    fit: t.Sequence[str],
    min_replicas: int,
    persistent: bool,
    hand_over: bool,
) -> t.Iterator[Reason]:
    """Whether the others can do without the target. What is short waits where those would do that are on their way, and fails where they would not."""
    target = question.target
    leads = target in [server.name for server in view.masters] or view.named == target
    if leads and not hand_over:
        text = "Is the master. Make another server the master first" + ("." if persistent else ", or it comes back empty and its replicas become so.")
        yield Reason("REDIS_MASTER", FAIL, text, target, forceable=True)
    others = [name for name in good if name != target]
    if leads and others:
        for sentinel in snapshot.sentinels:
            if is_fit(sentinel, view) and not any(is_candidate(sentinel.replicas.get(name)) for name in others):
                yield Reason("REDIS_NO_GOOD_REPLICA", FAIL, f"The Sentinel of {sentinel.name} has no replica that it would make the master.", target)
                break

    servers, sentinels = len(others), sum(name != target for name in fit)
    best = margin_of(sum(s.name != target for s in snapshot.servers), sum(s.name != target for s in snapshot.sentinels), snapshot, min_replicas)
    hoped_servers = sum(server.name != target and not is_down(server, snapshot) for server in snapshot.servers)
    hoped = margin_of(
        hoped_servers,
        sum(sentinel.name != target and not sentinel.refused and not sentinel.missing for sentinel in snapshot.sentinels),
        snapshot,
        min_replicas,
    )
    verdict = WAIT if hoped_servers > 1 and hoped >= max(0, min(1, best)) else FAIL
    if servers == 0:
        yield Reason("REDIS_LAST", verdict, "No other server has the data, so its stop is an outage.", target, forceable=True)
    elif servers == 1:
        yield Reason("REDIS_LAST_REPLICA", verdict, f"Without it {others[0]} is alone, and its loss would lose data.", target, forceable=True)
    elif servers - 1 < min_replicas:
        text = f"Without it {servers - 1} replicas are good; the master takes writes from {min_replicas} on."
        yield Reason("REDIS_MIN_REPLICAS", verdict, text, target, forceable=True)
    if snapshot.sentinels and sentinels < needed_sentinels(snapshot):
        text = f"Without it {sentinels} Sentinels are fit; {needed_sentinels(snapshot)} are needed to replace a master."
        yield Reason("REDIS_SENTINEL_MAJORITY", verdict, text, target, forceable=True)
    elif servers > 1 and margin_of(servers, sentinels, snapshot, min_replicas) == 0 < best:
        text = "Without it no further member can be lost; one can when all others are healthy."
        yield Reason("REDIS_MARGIN", verdict, text, target, forceable=True)


def is_candidate(known: Known | None) -> bool:
    """Whether a Sentinel would make a replica the master (sentinelSelectSlave, as far as its answers show it)."""
    return known is not None and not set(DOWN_FLAGS) & set(known.flags) and known.link_ok and known.priority > 0


def of_probe(probe: Probe) -> t.Iterator[Reason]:
    if probe.error:
        yield Reason("REDIS_PROBE", WAIT if probe.seen else UNKNOWN, f"The probe key failed: {probe.error}.")
    elif probe.acknowledged < probe.wanted:
        yield Reason("REDIS_PROBE", WAIT, f"{probe.acknowledged} of {probe.wanted} replicas have acknowledged a write in time.")
