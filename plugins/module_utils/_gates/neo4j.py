# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gate of Neo4j Community: one server, or several that are kept equal by an ordered outbox. What the gate of a cluster has in common with it is here too.

Community has no cluster. Each change of the graph is a numbered record of an outbox in MongoDB, and each member stores the number it has reached: its
lag is the distance to the newest number. Private to this collection.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.availability import required, too_few
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import FAIL, UNKNOWN, WAIT, Evaluation, Question, Reason

# What kept a member from being seen: the code and verdict of each. What says nothing about the member itself is unknown.
FAULTS = {
    "refused": ("NEO_REFUSED", WAIT),
    "no_answer": ("NEO_NO_ANSWER", WAIT),
    "unavailable": ("NEO_DATABASE_UNAVAILABLE", WAIT),
    "unreachable": ("NEO_UNREACHABLE", UNKNOWN),
    "auth": ("NEO_AUTH", UNKNOWN),
    "query": ("NEO_QUERY", UNKNOWN),
    "tls": ("NEO_TLS", FAIL),
    "no_cluster": ("NEO_NO_CLUSTER", FAIL),
}
# States in which a database is on its way. Source: https://neo4j.com/docs/operations-manual/current/database-administration/standard-databases/errors
UNDER_WAY = frozenset(("initial", "starting", "stopping", "store copying", "deallocating", "unknown"))
RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why something could not be seen: one of FAULTS, and a text without secrets."""

    kind: str
    text: str

    def reason(self, name: str) -> Reason:
        code, verdict = FAULTS[self.kind]
        return Reason(code, verdict, self.text, name)


@dataclasses.dataclass(frozen=True)
class Database:
    """A row of SHOW DATABASES. ``server`` and ``address`` are empty where the row has none, ``primaries`` is what was requested, None where not said."""

    name: str
    requested: str
    current: str
    message: str = ""
    kind: str = "standard"
    role: str = "primary"
    server: str = ""
    address: str = ""
    primaries: int | None = None


@dataclasses.dataclass(frozen=True)
class Member:
    """What a Community member says. ``started`` is epoch seconds, ``position`` the number of the last record applied, 0 for an empty graph.

    None stands for not seen; ``fault`` says why.
    """

    fault: Fault | None = None
    version: str = ""
    edition: str = ""
    started: float | None = None
    databases: tuple[Database, ...] | None = None
    position: int | None = None


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """``newest`` is the number of the outbox's newest record, None where it could not be seen (``newest_error``) or there is no outbox.

    ``newest_after`` says that it was read after the positions, so that none can be ahead of it.
    """

    members: t.Mapping[str, Member]
    newest: int | None = None
    newest_after: bool = False
    newest_error: str = ""


@dataclasses.dataclass(frozen=True)
class Limits:
    """``max_lag`` in records, of a cluster in Raft indexes. ``outbox`` says whether members are kept equal by one.

    ``min_available`` members must remain in phase before; None stands for all but one, and at least one. ``max_silence`` is in seconds since the
    leader's last message.
    """

    max_lag: int = 100
    outbox: bool = True
    database: str = "neo4j"
    min_available: int | None = None
    max_silence: float = 10.0


def evaluate(snapshot: Snapshot, question: Question, earlier: contract.Earlier[Snapshot], limits: Limits) -> Evaluation:
    """Pure: what the members of Community say, for the question."""
    target, members = question.target, snapshot.members
    observed = observed_of(snapshot, limits)
    if target and target not in members:
        return Evaluation((no_such_member(target, members),), observed)
    faults = {name: member_reasons(name, member, snapshot, limits) for name, member in members.items()}
    counted = [name for name in members if question.phase != contract.BEFORE or name != target]
    margin = sum(not faults[name] for name in counted) - (limits.min_available or 1)

    progress: float | None = None
    reasons = [outbox_unknown(snapshot)] if limits.outbox and snapshot.newest is None else []
    if question.phase == contract.BEFORE:
        if len(members) == 1 and limits.min_available is None:
            text = "is the only member: its restart is an outage. Announce it, take a backup, and force with a reason"
            reasons.append(Reason("NEO_SINGLE", FAIL, text, target, forceable=True))
        else:
            reasons += too_few("NEO_TOO_FEW", counted, faults, required(limits.min_available, len(members)))
    elif question.phase == contract.AFTER:
        member = members[target]
        reasons += faults[target] + version_reasons(target, member.version, member.started, member.fault is None, question)
        progress = None if member.position is None else float(member.position)
    else:
        for name, member in sorted(members.items()):
            reasons += faults[name]
            if question.phase == contract.PREFLIGHT:
                reasons += path_reasons(name, member.version, question)
            else:
                reasons += version_reasons(name, member.version, None, member.fault is None, question)
        if question.phase == contract.FINAL:
            reasons += mixed_versions({name: member.version for name, member in members.items()})
    # That nobody sees the outbox is found with each member.
    return Evaluation(tuple(dict.fromkeys(reasons)), observed, margin, progress)


def no_such_member(target: str, members: t.Iterable[str]) -> Reason:
    return Reason("NEO_NO_SUCH_MEMBER", FAIL, f"is not among the members: {', '.join(sorted(members)) or 'there are none'}", target)


def member_reasons(name: str, member: Member, snapshot: Snapshot, limits: Limits) -> list[Reason]:
    """Why a member cannot serve; empty where it can."""
    if member.fault:
        return [member.fault.reason(name)]
    reasons = []
    if member.edition != "community":
        reasons.append(Reason("NEO_EDITION", FAIL, f"is edition {member.edition or 'not told'!r}; the gate was asked for community", name))
    if member.databases is None:
        reasons.append(Reason("NEO_QUERY", UNKNOWN, "does not tell the state of its databases", name))
    else:
        reasons += [reason for row in member.databases for reason in database_reasons(name, row)]
        if limits.database not in [row.name for row in member.databases]:
            reasons.append(Reason("NEO_NO_DATABASE", FAIL, "has no such database", f"{name}/{limits.database}"))
    return reasons + (lag_reasons(name, member, snapshot, limits) if limits.outbox else [])


def outbox_unknown(snapshot: Snapshot) -> Reason:
    return Reason("NEO_OUTBOX_UNKNOWN", UNKNOWN, snapshot.newest_error or "the newest number of the outbox is not known")


def lag_reasons(name: str, member: Member, snapshot: Snapshot, limits: Limits) -> list[Reason]:
    if snapshot.newest is None:
        return [outbox_unknown(snapshot)]
    if member.position is None:
        return [Reason("NEO_POSITION_UNKNOWN", UNKNOWN, "does not tell the number of the record it has reached", name)]
    lag = snapshot.newest - member.position
    if lag > limits.max_lag:
        text = f"is {lag} records behind ({member.position} of {snapshot.newest}); {limits.max_lag} are allowed"
        return [Reason("NEO_LAG", WAIT, text, name)]
    if lag < 0 and snapshot.newest_after:
        # Right after a failover MongoDB's new primary may not know yet what a majority has, so it is given time.
        text = f"has reached {member.position}, the outbox ends at {snapshot.newest}: has the outbox lost records?"
        return [Reason("NEO_AHEAD", WAIT, text, name)]
    return []


def database_reasons(name: str, row: Database) -> list[Reason]:
    """Why a database of a member is not as requested. A message is an error that the server met; while it is on its way it only says how far it is."""
    subject = f"{name}/{row.name}"
    shown = f"is {row.current!r}, requested is {row.requested!r}" + (f": {row.message}" if row.message else "")
    if row.current == row.requested and not row.message:
        return []
    if row.current in UNDER_WAY:
        return [Reason("NEO_DATABASE_STARTING", WAIT, shown, subject)]
    return [Reason("NEO_DATABASE_FAILED", FAIL, shown, subject)]


def version_reasons(name: str, version: str, started: float | None, seen: bool, question: Question) -> list[Reason]:
    """Whether what was started is what runs. Asked of a member that answers only."""
    reasons: list[Reason] = []
    if not seen:
        return reasons
    if question.expect_version and not version:
        reasons.append(Reason("NEO_VERSION_UNKNOWN", UNKNOWN, f"does not tell its version; {question.expect_version!r} is expected", name))
    elif question.expect_version and version != question.expect_version:
        reasons.append(Reason("NEO_VERSION", FAIL, f"runs version {version!r}; {question.expect_version!r} is expected", name))
    if question.phase == contract.AFTER and question.not_before is not None:
        if started is None:
            reasons.append(Reason("NEO_START_UNKNOWN", UNKNOWN, "does not tell when it was started", name))
        elif started <= question.not_before:
            reasons.append(Reason("NEO_NOT_RESTARTED", FAIL, f"was started {question.not_before - started:.0f} s before the change", name))
    return reasons


def mixed_versions(versions: t.Mapping[str, str]) -> list[Reason]:
    told = sorted({version for version in versions.values() if version})
    if len(told) < 2:
        return []
    text = "; ".join(f"{version!r} on {', '.join(name for name in sorted(versions) if versions[name] == version)}" for version in told)
    return [Reason("NEO_VERSIONS_DIFFER", FAIL, f"the members run different versions: {text}", forceable=True)]


def path_reasons(name: str, version: str, question: Question) -> list[Reason]:
    """Whether a member may go from its version to the expected one in place."""
    if not question.expect_version or not version:
        return []
    problem = path_problem(version, question.expect_version)
    return [Reason("NEO_VERSION_PATH", FAIL, problem, name)] if problem else []


def path_problem(old: str, new: str) -> str:
    """Why a server cannot go from one version to another in place, empty where it can. Versions are 5.26.1 or, since 2025, 2025.01.0.

    Source: https://neo4j.com/docs/upgrade-migration-guide/current/version-2025-2026/
    """
    before, after = release_of(old), release_of(new)
    if before is None or after is None:
        return f"from {old!r} to {new!r}: not a version of Neo4j; accepted is such as 5.26.30 or 2025.01.0"
    if after < before:
        return f"from {old} back to {new}: a downgrade is not supported, restore a backup instead"
    if after[0] >= 2025 > before[0] and before[:2] != (5, 26):
        return f"from {old} to {new}: 5.26 must come between"
    if before[0] < 5 <= after[0]:
        return f"from {old} to {new}: this is a migration, not an upgrade in place"
    return ""


def release_of(version: str) -> tuple[int, int, int] | None:
    match = RELEASE.match(version)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def observed_of(snapshot: Snapshot, limits: Limits) -> dict[str, t.Any]:
    """The facts. Without an outbox a lag is told against the member that has come furthest."""
    observed: dict[str, t.Any] = {"members": {}}
    positions = [member.position for member in snapshot.members.values() if member.position is not None]
    newest = max(positions, default=None) if snapshot.newest is None else snapshot.newest
    for name, member in snapshot.members.items():
        observed["members"][name] = (
            contract.member_facts(error=member.fault.text)
            if member.fault
            else contract.member_facts(
                member.version,
                lag=None if newest is None or member.position is None else newest - member.position,
                unit="records",
                started=member.started,
                position=member.position,
                databases={row.name: row.current for row in member.databases or ()},
            )
        )
    if limits.outbox:
        observed["newest"] = snapshot.newest
    return observed
