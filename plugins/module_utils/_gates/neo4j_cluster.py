# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gate of a Neo4j Enterprise cluster. Leaders and majorities are those of each database, so everything is asked by database.

A primary may be stopped where a majority of the database's primaries are others that are healthy, have caught up, and have heard from the leader.
Sources: https://neo4j.com/docs/operations-manual/current/clustering/monitoring/endpoints and .../status-check
Private to this collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, neo4j
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.availability import too_few
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import FAIL, UNKNOWN, WAIT, Evaluation, Question, Reason
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.neo4j import Database, Fault, Limits

# What a member can be in a status check and still take part in replication, so that it counts for fault tolerance.
TAKES_PART = ("APPLYING", "REPLICATING")


@dataclasses.dataclass(frozen=True)
class Raft:
    """What a member's HTTP status says of one database. ``silence`` is seconds since the leader's last message; None and empty: not told."""

    core: bool
    member_id: str
    voters: frozenset[str]
    applied: int
    healthy: bool | None = None
    participating: bool = False
    leader: str = ""
    silence: float | None = None


@dataclasses.dataclass(frozen=True)
class Server:
    """A row of SHOW SERVERS."""

    id: str
    name: str
    address: str
    state: str
    health: str
    hosting: frozenset[str] = frozenset()
    requested: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Check:
    """A row of dbms.cluster.statusCheck."""

    database: str
    server: str
    successful: bool
    status: str
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Member:
    """What a member says: over Bolt its version and its view of all servers, over HTTP the state of its databases. None: not seen, see the fault.

    ``addresses`` are those by which SHOW SERVERS may call it. ``discovery`` is the setting dbms.cluster.discovery.version.
    """

    addresses: tuple[str, ...] = ()
    bolt_fault: Fault | None = None
    http_fault: Fault | None = None
    version: str = ""
    started: float | None = None
    discovery: str = ""
    servers: tuple[Server, ...] | None = None
    raft: t.Mapping[str, Raft] | None = None


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """``observer`` is the member that was asked for the databases and the status check, in phases before and after never the target."""

    members: t.Mapping[str, Member]
    observer: str = ""
    databases: tuple[Database, ...] | None = None
    checks: tuple[Check, ...] | None = None
    fault: str = ""


def evaluate(snapshot: Snapshot, question: Question, earlier: contract.Earlier[Snapshot], limits: Limits) -> Evaluation:
    """Pure: what the members of a cluster say, for the question."""
    target, members = question.target, snapshot.members
    if target and target not in members:
        return Evaluation((neo4j.no_such_member(target, members),))
    names = sorted({database for member in members.values() for database, raft in (member.raft or {}).items() if raft.core})
    away = target if question.phase == contract.BEFORE else ""
    quorums = {database: quorum(database, away, snapshot, limits) for database in names}
    margins = [sum(not found for found in faults.values()) - needed for needed, faults in quorums.values()]

    reasons: list[Reason] = []
    if not names:
        reasons.append(Reason("NEO_STATUS", UNKNOWN, "no member tells the state of a database"))
    if snapshot.checks is None or snapshot.databases is None:
        reasons.append(Reason("NEO_STATUS_CHECK", UNKNOWN, snapshot.fault or "no member could be asked for databases and status check"))
    if question.phase == contract.BEFORE:
        reasons += before_reasons(target, quorums, snapshot)
    else:
        for name, member in sorted(members.items()):
            if question.phase != contract.AFTER or name == target:
                reasons += member_reasons(name, member, question)
                reasons += server_reasons(name, snapshot, question)
            elif member.http_fault:
                reasons.append(member.http_fault.reason(name))
        for database in names:
            reasons += raft_reasons(database, snapshot, limits)
            reasons += check_reasons(database, snapshot, question)
            if question.phase == contract.PREFLIGHT and size_of(database, snapshot) < 3:
                text = f"has {size_of(database, snapshot)} primaries; with less than 3 every restart of its server is an outage"
                reasons.append(Reason("NEO_FEW_PRIMARIES", FAIL, text, database, forceable=True))
        if question.phase == contract.FINAL:
            reasons += neo4j.mixed_versions({name: member.version for name, member in members.items()})
    progress = progress_of(target, snapshot) if question.phase == contract.AFTER else None
    return Evaluation(tuple(dict.fromkeys(reasons)), observed_of(snapshot, names, limits.database), min(margins, default=None), progress)


def quorum(database: str, away: str, snapshot: Snapshot, limits: Limits) -> tuple[int, dict[str, list[Reason]]]:
    """The majority of a database's primaries, and what keeps each member but ``away`` from counting towards it."""
    faults: dict[str, list[Reason]] = {}
    for name, member in snapshot.members.items():
        if name == away:
            continue
        if member.raft is None:
            faults[name] = [member.http_fault.reason(name) if member.http_fault else Reason("NEO_STATUS", UNKNOWN, "does not tell its state", name)]
        elif database in member.raft and member.raft[database].core:
            faults[name] = primary_reasons(name, database, snapshot, limits) + status_reasons(name, database, snapshot, TAKES_PART)
    return size_of(database, snapshot) // 2 + 1, faults


def size_of(database: str, snapshot: Snapshot) -> int:
    """The number of a database's primaries, those that are down counted too: the leader leaves a member it does not hear out of the voting set."""
    voters = {voter for raft in primaries(database, snapshot).values() for voter in raft.voters}
    rows = [row for row in snapshot.databases or () if row.name == database]
    requested = max((row.primaries or 0 for row in rows), default=0)
    # The system database has no such number; of a server that is down nobody knows the role.
    listed = requested or sum(row.role != "secondary" for row in rows)
    return max(len(voters), listed)


def primaries(database: str, snapshot: Snapshot) -> dict[str, Raft]:
    """The state of a database at each member that is a primary of it and was seen."""
    found = {name: (member.raft or {}).get(database) for name, member in snapshot.members.items()}
    return {name: raft for name, raft in sorted(found.items()) if raft is not None and raft.core}


def primary_reasons(name: str, database: str, snapshot: Snapshot, limits: Limits) -> list[Reason]:
    """Why one primary cannot be relied on."""
    everywhere = primaries(database, snapshot)
    raft, subject = everywhere[name], f"{name}/{database}"
    reasons = []
    if raft.healthy is None:
        reasons.append(Reason("NEO_STATUS", UNKNOWN, "does not tell whether it is healthy", subject))
    elif not raft.healthy:
        reasons.append(Reason("NEO_UNHEALTHY", FAIL, "has met an error that keeps it from writing", subject))
    if not raft.participating:
        reasons.append(Reason("NEO_NOT_PARTICIPATING", WAIT, "does not take part in its Raft group yet", subject))
    if any(raft.member_id not in other.voters for other in everywhere.values()):
        reasons.append(Reason("NEO_NOT_VOTING", WAIT, "is not in the voting set of every primary", subject))
    if not raft.leader:
        reasons.append(Reason("NEO_NO_LEADER", WAIT, "knows no leader", subject))
    elif raft.leader != raft.member_id:
        if raft.silence is None:
            reasons.append(Reason("NEO_STATUS", UNKNOWN, "does not tell when it heard from the leader", subject))
        elif raft.silence > limits.max_silence:
            text = f"heard from the leader {raft.silence:.1f} s ago; {limits.max_silence:g} s are allowed"
            reasons.append(Reason("NEO_LEADER_SILENT", WAIT, text, subject))
    lag = max(other.applied for other in everywhere.values()) - raft.applied
    if lag >= limits.max_lag:
        reasons.append(Reason("NEO_LAG", WAIT, f"is {lag} Raft entries behind; less than {limits.max_lag} are allowed", subject))
    return reasons


def raft_reasons(database: str, snapshot: Snapshot, limits: Limits) -> list[Reason]:
    """The vendor's five checks of a database, at all of its primaries."""
    everywhere = primaries(database, snapshot)
    reasons = [reason for name in everywhere for reason in primary_reasons(name, database, snapshot, limits)]
    reasons += leader_reasons(database, everywhere)
    if len({raft.voters for raft in everywhere.values()}) > 1:
        reasons.append(Reason("NEO_VOTING_SETS", WAIT, "its primaries do not agree on who votes", database))
    return reasons


def leader_reasons(database: str, everywhere: t.Mapping[str, Raft]) -> list[Reason]:
    """Observers that disagree see a partition, or an election at a bad moment."""
    leaders = {raft.leader for raft in everywhere.values() if raft.leader}
    if len(leaders) < 2:
        return []
    ids = {raft.member_id: name for name, raft in everywhere.items()}
    shown = "; ".join(f"{name} says {ids.get(raft.leader, raft.leader)}" for name, raft in everywhere.items() if raft.leader)
    return [Reason("NEO_LEADERS_DIFFER", UNKNOWN, f"its primaries do not agree on the leader: {shown}", database)]


def before_reasons(target: str, quorums: t.Mapping[str, tuple[int, dict[str, list[Reason]]]], snapshot: Snapshot) -> list[Reason]:
    """Whether each database of the target keeps a majority of its primaries without it."""
    reasons: list[Reason] = []
    for database, (needed, faults) in quorums.items():
        if database not in hosted_by(target, snapshot, quorums):
            continue
        size = size_of(database, snapshot)
        # With two primaries or one no majority is left whatever their health: an outage that a person may want.
        reasons += too_few("NEO_NO_MAJORITY", sorted(faults), faults, needed, database, forceable=size < 3)
        reasons += leader_reasons(database, {name: raft for name, raft in primaries(database, snapshot).items() if name != target})
        reasons += replication_reasons(database, snapshot)
    return reasons


def hosted_by(target: str, snapshot: Snapshot, names: t.Iterable[str]) -> set[str]:
    """Databases that the target is, or may be, a primary of. Where it cannot be asked, another's list is used; without one, all of them."""
    raft = snapshot.members[target].raft
    if raft is not None:
        return {database for database, state in raft.items() if state.core}
    server = server_of(target, snapshot)
    if snapshot.databases is None or server is None:
        return set(names)
    return {row.name for row in snapshot.databases if row.role != "secondary" and row.server in (server.id, server.name)}


def server_of(name: str, snapshot: Snapshot, observer: str = "") -> Server | None:
    """The row of SHOW SERVERS about a member, as ``observer`` or anyone gives it."""
    addresses = {name, *snapshot.members[name].addresses}
    observers = [observer] if observer else sorted(snapshot.members)
    for other in observers:
        for server in snapshot.members[other].servers or ():
            if server.name == name or server.address in addresses:
                return server
    return None


def member_reasons(name: str, member: Member, question: Question) -> list[Reason]:
    """Whether a member answers on both ports, with the right version, and may go to the next."""
    reasons = [fault.reason(name) for fault in (member.bolt_fault, member.http_fault) if fault]
    if question.phase != contract.PREFLIGHT:
        return reasons + neo4j.version_reasons(name, member.version, member.started, member.bolt_fault is None, question)
    reasons += neo4j.path_reasons(name, member.version, question)
    old, new = neo4j.release_of(member.version), neo4j.release_of(question.expect_version)
    if old and new and new[0] >= 2025 > old[0] and member.discovery != "V2_ONLY":
        verdict = FAIL if member.discovery else UNKNOWN
        text = f"uses discovery {member.discovery or 'not told'!r}; {question.expect_version} needs V2_ONLY (dbms.cluster.discovery.version)"
        reasons.append(Reason("NEO_DISCOVERY", verdict, text, name))
    return reasons


def server_reasons(name: str, snapshot: Snapshot, question: Question) -> list[Reason]:
    """A server and its databases as the others see them."""
    observers = [other for other, member in sorted(snapshot.members.items()) if other != name and member.servers is not None]
    if not observers:
        # Alone in the inventory it has no others, and then it has no majority either.
        return [Reason("NEO_NOT_SEEN_BY_OTHERS", UNKNOWN, "no other member could be asked about it", name)]
    reasons: list[Reason] = []
    composite = {row.name for row in snapshot.databases or () if row.kind == "composite"}
    for observer in observers:
        server = server_of(name, snapshot, observer)
        if server is None:
            reasons.append(Reason("NEO_NOT_LISTED", WAIT, f"is not among the servers that {observer} sees", name))
            continue
        if server.state != "Enabled":
            reasons.append(Reason("NEO_SERVER_STATE", FAIL, f"is {server.state!r}, not 'Enabled'", name, forceable=True))
        if server.health != "Available":
            reasons.append(Reason("NEO_SERVER_UNAVAILABLE", WAIT, f"is {server.health!r} to {observer}", name))
        # Up to 5.9 composite databases are not among the requested ones.
        if server.hosting - composite != server.requested - composite:
            text = f"hosts {', '.join(sorted(server.hosting)) or 'nothing'}; requested is {', '.join(sorted(server.requested)) or 'nothing'}"
            reasons.append(Reason("NEO_HOSTING", WAIT, text, name))
    server = server_of(name, snapshot)
    for row in snapshot.databases or ():
        if server and row.kind != "composite" and (row.server in (server.id, server.name) or row.address == server.address):
            reasons += neo4j.database_reasons(name, row)
    return reasons


def check_reasons(database: str, snapshot: Snapshot, question: Question) -> list[Reason]:
    """The status check of a database: it replicates, and each primary takes part; a target that is back applies as well."""
    if snapshot.checks is None:
        return []
    reasons = replication_reasons(database, snapshot)
    for name in primaries(database, snapshot):
        applying = question.phase == contract.AFTER and name == question.target
        reasons += status_reasons(name, database, snapshot, ("APPLYING",) if applying else TAKES_PART)
    return reasons


def replication_reasons(database: str, snapshot: Snapshot) -> list[Reason]:
    rows = [check for check in snapshot.checks or () if check.database == database]
    errors = sorted({check.error for check in rows if check.error})
    if errors:
        return [Reason("NEO_STATUS_CHECK", UNKNOWN, f"the status check has an error: {'; '.join(errors)}", database)]
    if any(not check.successful for check in rows):
        return [Reason("NEO_NOT_REPLICATING", WAIT, f"{snapshot.observer} cannot replicate an entry to a majority", database)]
    return []


def status_reasons(name: str, database: str, snapshot: Snapshot, accepted: t.Sequence[str]) -> list[Reason]:
    """What the status check says of one primary."""
    if snapshot.checks is None:
        return [Reason("NEO_STATUS_CHECK", UNKNOWN, "there is no status check", f"{name}/{database}")]
    server = server_of(name, snapshot)
    states = [check.status for check in snapshot.checks if check.database == database and server and check.server == server.id]
    if not states:
        return [Reason("NEO_STATUS_CHECK", UNKNOWN, "the status check does not name it", f"{name}/{database}")]
    if states[0] not in accepted:
        return [Reason("NEO_MEMBER_STATUS", WAIT, f"is {states[0]!r} in the status check; accepted is {' or '.join(accepted)}", f"{name}/{database}")]
    return []


def progress_of(target: str, snapshot: Snapshot) -> float | None:
    """Databases of the target that are online, and the entries it has applied."""
    raft = snapshot.members[target].raft
    server = server_of(target, snapshot)
    online = sum(row.current == "online" for row in snapshot.databases or () if server and row.server in (server.id, server.name))
    return None if raft is None and not online else online + float(sum(state.applied for state in (raft or {}).values() if state.applied > 0))


def observed_of(snapshot: Snapshot, names: t.Sequence[str], main: str) -> dict[str, t.Any]:
    """The facts, and who leads which database: the order of a rollout follows from that. Roles and lags of members are those in the database ``main``."""
    databases = {}
    for database in names:
        everywhere = primaries(database, snapshot)
        ids = {raft.member_id: name for name, raft in everywhere.items()}
        databases[database] = {
            "leader": sorted({ids.get(raft.leader, raft.leader) for raft in everywhere.values() if raft.leader}),
            "primaries": size_of(database, snapshot),
            "applied": {name: raft.applied for name, raft in everywhere.items()},
            "status": {
                name: [check.status for check in snapshot.checks or () if check.database == database and is_of(check, name, snapshot)] for name in everywhere
            },
        }
    members = {}
    everywhere = primaries(main, snapshot)
    newest = max((raft.applied for raft in everywhere.values()), default=0)
    for name, member in snapshot.members.items():
        raft = everywhere.get(name)
        leads = raft is not None and raft.leader == raft.member_id
        members[name] = contract.member_facts(
            member.version,
            "" if raft is None or not raft.leader else "leader" if leads else "follower",
            None if raft is None or leads else newest - raft.applied,
            "entries",
            started=member.started,
            error="; ".join(fault.text for fault in (member.bolt_fault, member.http_fault) if fault),
        )
    return {"members": members, "databases": databases, "observer": snapshot.observer}


def is_of(check: Check, name: str, snapshot: Snapshot) -> bool:
    server = server_of(name, snapshot)
    return server is not None and check.server == server.id
