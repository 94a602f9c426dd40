# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold in a MinIO cluster. Pure; the looking is in minio_fetch.

Sources, MinIO's server as of 2026-02: cmd/healthcheck-handler.go and cmd/erasure-server-pool.go (Health) for what the health endpoints mean,
cmd/admin-handlers.go (getServerInfo) for the answer that is read here. Its Prometheus metrics are no source: nodes and drives in them are up to a
minute old, while a gate has to see what is true now.

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
    PREFLIGHT,
    UNKNOWN,
    WAIT,
    Earlier,
    Evaluation,
    Question,
    Reason,
    member_facts,
)

OK = "ok"
# States of a drive that the server mends by itself: it reconnects, and it formats and heals an empty drive.
MENDING = ("offline", "unformatted", "unknown")


@dataclasses.dataclass(frozen=True)
class Limits:
    """``min_free_percent`` of each drive must be free, ``max_clock_skew`` is in seconds. Both are asked before a rollout begins."""

    min_free_percent: float = 5.0
    max_clock_skew: float = 1.0


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node answers by itself.

    ``status`` is the header x-minio-server-status: not empty while the node is not initialised, whatever the code of the answer. ``ready`` says
    whether it sees write quorum, ``spare`` whether it would still be there without the node's own drives, ``healing`` how many drives of other
    nodes it knows to heal. None: not seen. ``refused`` says that its host answers and nothing listens. ``skew`` is the least number of seconds that
    its clock is wrong by.
    """

    name: str
    answered: bool = True
    refused: bool = False
    status: str = ""
    ready: bool | None = None
    spare: bool | None = None
    healing: int | None = None
    skew: float | None = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Server:
    """A node as the observer knows it. ``started`` is in seconds since the epoch, ``cut_off_from`` names the nodes that it can't reach."""

    online: bool
    version: str = ""
    started: float | None = None
    cut_off_from: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Drive:
    """``healed`` counts the items that a healing which is under way has done."""

    name: str
    member: str
    pool: int
    set: int
    state: str = OK
    healing: bool = False
    healed: int = 0
    free_percent: float | None = None


@dataclasses.dataclass(frozen=True)
class Details:
    """The cluster as ``observer`` describes it. ``quorums`` has the write quorum of each pool, ``strangers`` are nodes that nobody named."""

    observer: str
    servers: t.Mapping[str, Server]
    drives: tuple[Drive, ...]
    quorums: tuple[int, ...]
    strangers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Probe:
    """An object that was to be written, read and removed through a node. ``seen`` is false where that tells nothing about the node."""

    error: str = ""
    seen: bool = True


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """``probes`` is None where nothing was to be written, ``details`` where they could not be seen; ``details_error`` then says why."""

    nodes: tuple[Node, ...]
    details: Details | None = None
    details_error: str = ""
    probes: t.Mapping[str, Probe] | None = None


def write_quorum(drives: int, parity: int) -> int:
    """Drives of an erasure set that must be online for it to be written (MinIO's documentation of erasure coding)."""
    data = drives - parity
    return data + 1 if data == parity else data


def same_version(a: str, b: str) -> bool:
    """Whether a release tag or version means the same: RELEASE.2026-02-12T20-18-48Z is what servers call 2026-02-12T20:18:48Z."""

    def plain(version: str) -> str:
        return re.sub(r"T(\d\d)-(\d\d)-(\d\d)Z", r"T\1:\2:\3Z", re.sub(r"^RELEASE\.", "", version))

    return plain(a) == plain(b)


def sets_of(details: Details, counts: t.Callable[[Drive], bool], without: str = "") -> list[tuple[int, list[int]]]:
    """For each erasure set its write quorum, and how many drives each member has in it, of those that count; most first."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for drive in details.drives:
        if drive.set < 0:  # Not formatted yet, so in no set.
            continue
        members = found.setdefault((drive.pool, drive.set), {})
        if counts(drive) and drive.member != without:
            members[drive.member] = members.get(drive.member, 0) + 1
    return [(details.quorums[pool], sorted(members.values(), reverse=True)) for (pool, _set), members in sorted(found.items())]


def spare_drives(sets: t.Sequence[tuple[int, list[int]]]) -> int:
    """Drives above the write quorum in the worst set; negative where they do not reach it."""
    return min((sum(counts) - quorum for quorum, counts in sets), default=-1)


def spare_members(sets: t.Sequence[tuple[int, list[int]]]) -> int:
    """Members that each set can lose, those with the most drives in it first; negative where it has too few already."""

    def spare(quorum: int, counts: list[int]) -> int:
        left = sum(counts) - quorum
        if left < 0:
            return -1
        lost = 0
        for count in counts:
            left -= count
            if left < 0:
                break
            lost += 1
        return lost

    return min((spare(*each) for each in sets), default=-1)


def evaluate(snapshot: Snapshot, question: Question, earlier: Earlier[Snapshot], limits: Limits) -> Evaluation:
    """What one look at a MinIO cluster says. Each code is documented in the module minio_gate."""
    if question.target and question.target not in [node.name for node in snapshot.nodes]:
        return Evaluation((Reason("MINIO_MEMBERS", FAIL, "Is not in the list of members.", question.target),))
    found = list(of_nodes(snapshot, question))
    details = snapshot.details
    observed: dict[str, t.Any] = {"members": {node.name: node_summary(node, details) for node in snapshot.nodes}}
    margin = progress = None
    if details is None:
        # Where no node is ready there is nothing to ask for details, and the nodes' own states say all there is to say.
        if any(node.ready for node in snapshot.nodes) or not found:
            found.append(Reason("MINIO_DETAILS_UNSEEN", UNKNOWN, snapshot.details_error or "No node could be asked about drives and versions."))
    else:
        without = question.target if question.phase == BEFORE else ""
        margin = spare_members(sets_of(details, lambda drive: drive.state == OK and not drive.healing, without))
        best = spare_members(sets_of(details, lambda drive: True, without))
        found += of_drives(details, question)
        found += of_servers(snapshot, details, question)
        if question.phase == PREFLIGHT:
            found += of_cluster(snapshot, details, limits)
        elif question.phase == BEFORE:
            found += of_departure(snapshot, details, question, margin, best)
        progress = float(sum(drive.state == OK for drive in details.drives) + sum(drive.healed for drive in details.drives))
        observed.update(
            observer=details.observer,
            drives_online=sum(drive.state == OK for drive in details.drives),
            drives=len(details.drives),
            can_spare_a_node_when_healthy=all(spare_members(sets_of(details, lambda drive: True, node.name)) >= 0 for node in snapshot.nodes),
        )
    found += of_probes(snapshot, question)
    observed["probed"] = sorted(snapshot.probes or ())
    return Evaluation(tuple(found), observed, margin, progress)


def node_summary(node: Node, details: Details | None) -> dict[str, t.Any]:
    """All nodes are alike: none has a role, or a lag that can be measured."""
    server = details.servers.get(node.name) if details else None
    state = ""
    if node.answered:
        state = f"not initialised ({node.status})" if node.status else {True: "ready", False: "no write quorum", None: "unclear"}[node.ready]
    return member_facts(server.version if server else "", state=state, can_be_spared=node.spare, error=node.error)


def is_down(node: Node, snapshot: Snapshot) -> bool:
    """Whether a node that does not answer is known not to run: its host says so, or the observer does."""
    server = snapshot.details.servers.get(node.name) if snapshot.details else None
    return not node.answered and (node.refused or (server is not None and not server.online))


def of_nodes(snapshot: Snapshot, question: Question) -> t.Iterator[Reason]:
    # Before a member goes the others may be away: how many is what the margin is about.
    mending = WAIT if question.phase in (AFTER, FINAL) else FAIL
    for node in snapshot.nodes:
        counted_elsewhere = question.phase == BEFORE and node.name != question.target
        if is_down(node, snapshot):
            if not counted_elsewhere:
                yield Reason("MINIO_OFFLINE", mending, f"Does not run: {node.error}.", node.name, forceable=True)
        elif not node.answered:
            yield Reason("MINIO_UNSEEN", UNKNOWN, f"Does not answer: {node.error}.", node.name)
        elif node.status:
            if not counted_elsewhere:
                yield Reason("MINIO_STARTING", WAIT, f"Is not initialised yet, its status is {node.status}.", node.name)
        elif node.ready is None or node.healing is None:
            yield Reason("MINIO_UNSEEN", UNKNOWN, f"Does not say how it is: {node.error}.", node.name)
        elif not node.ready:
            yield Reason("MINIO_QUORUM", mending, "Sees too few drives for writing.", node.name)
    healing = max(snapshot.nodes, key=lambda node: node.healing or 0)
    if healing.healing:
        yield Reason("MINIO_HEALING", WAIT, f"{healing.healing} drives are healing, says {healing.name}.")


def of_drives(details: Details, question: Question) -> t.Iterator[Reason]:
    for member, server in sorted(details.servers.items()):
        drives = [drive for drive in details.drives if drive.member == member]
        healing = [drive.name for drive in drives if drive.healing]
        if healing:
            yield Reason("MINIO_HEALING", WAIT, f"Drives are healing: {', '.join(healing)}.", member)
        bad = [drive for drive in drives if drive.state != OK]
        # Drives of a node that is away are told by MINIO_OFFLINE; before another node goes, they are counted by the margin.
        if bad and server.online and question.phase != BEFORE:
            mends = question.phase in (AFTER, FINAL) and all(drive.state in MENDING for drive in bad)
            text = ", ".join(f"{drive.name} is {drive.state}" for drive in bad)
            yield Reason("MINIO_DRIVES", WAIT if mends else FAIL, f"{len(bad)} of {len(drives)} drives can't be used: {text}.", member, forceable=True)
    silent = sorted({name for name, server in details.servers.items() if server.online} - {drive.member for drive in details.drives})
    if silent:
        yield Reason("MINIO_DETAILS_UNSEEN", UNKNOWN, f"{details.observer} tells no drives of {', '.join(silent)}.")


def of_servers(snapshot: Snapshot, details: Details, question: Question) -> t.Iterator[Reason]:
    """What the nodes say about each other, and what runs there."""
    missing = [node.name for node in snapshot.nodes if node.name not in details.servers]
    if missing or details.strangers:
        text = "; ".join(
            [f"the cluster does not know {', '.join(missing)}"] * bool(missing)
            + [f"nobody named its nodes {', '.join(details.strangers)}"] * bool(details.strangers)
        )
        yield Reason("MINIO_MEMBERS", FAIL, f"The list of members is not the cluster's: {text}.")
    for node in snapshot.nodes:
        server = details.servers.get(node.name)
        if server is None or not node.ready:
            continue
        blind = sorted(name for name, other in details.servers.items() if other.online and node.name in other.cut_off_from)
        if not server.online:
            blind = sorted({*blind, details.observer})
        if blind:
            yield Reason("MINIO_CUT_OFF", WAIT, f"Is ready, but {', '.join(blind)} can't reach it.", node.name)
        asked = question.phase == FINAL or (question.phase == AFTER and node.name == question.target)
        if asked and server.online:
            old = question.phase == AFTER and question.not_before is not None and (server.started is None or server.started < question.not_before)
            if old:
                yield Reason("MINIO_NOT_RESTARTED", WAIT, "Has not been started again.", node.name)
            if question.expect_version and not server.version:
                yield Reason("MINIO_DETAILS_UNSEEN", UNKNOWN, "Its version is not told.", node.name)
            elif question.expect_version and not same_version(server.version, question.expect_version):
                # A node that is still to be restarted may well have the old version.
                verdict = WAIT if old or (question.phase == AFTER and question.not_before is None) else FAIL
                yield Reason("MINIO_VERSION", verdict, f"Runs {server.version}, not {question.expect_version}.", node.name)
    versions = sorted({server.version for server in details.servers.values() if server.online})
    if len(versions) > 1 and question.phase in (PREFLIGHT, FINAL):
        yield Reason("MINIO_VERSIONS_MIXED", FAIL, f"Nodes run different versions: {', '.join(versions)}.", forceable=True)


def of_cluster(snapshot: Snapshot, details: Details, limits: Limits) -> t.Iterator[Reason]:
    """What is asked once, before a rollout."""
    for drive in details.drives:
        if drive.free_percent is not None and drive.free_percent < limits.min_free_percent:
            text = f"{drive.name} has {drive.free_percent:.1f} % free; {limits.min_free_percent:g} % are needed."
            yield Reason("MINIO_SPACE", FAIL, text, drive.member, forceable=True)
        elif drive.free_percent is None and drive.state == OK:
            yield Reason("MINIO_DETAILS_UNSEEN", UNKNOWN, f"{drive.name} does not tell its free space.", drive.member)
    for node in snapshot.nodes:
        if node.skew is not None and node.skew > limits.max_clock_skew:
            text = f"Its clock is at least {node.skew:.1f} s off from this machine's; {limits.max_clock_skew:g} s are allowed."
            yield Reason("MINIO_CLOCK", FAIL, text, node.name, forceable=True)
        elif node.skew is None and node.answered:
            yield Reason("MINIO_UNSEEN", UNKNOWN, "Does not tell its time.", node.name)
    if len(details.quorums) > 1:
        text = f"Has {len(details.quorums)} pools. Whether data is moved between them, `mc admin decommission status` and `mc admin rebalance status` tell."
        yield Reason("MINIO_POOLS", FAIL, text, forceable=True)


def of_departure(snapshot: Snapshot, details: Details, question: Question, margin: int, best: int) -> t.Iterator[Reason]:
    """Whether the cluster can do without the target. What is short waits where drives would do that are on their way, and fails where they would not."""
    target = [node for node in snapshot.nodes if node.name == question.target][0]
    down = {node.name for node in snapshot.nodes if is_down(node, snapshot)}

    def hoped(drive: Drive) -> bool:
        return drive.state == OK or (drive.state in MENDING and drive.member not in down)

    mends = spare_members(sets_of(details, hoped, question.target)) >= max(0, min(1, best))
    spare = spare_drives(sets_of(details, lambda drive: drive.state == OK, question.target))
    healing = any(node.healing for node in snapshot.nodes) or any(drive.healing for drive in details.drives)
    if spare < 0 or (target.spare is False and not healing):
        text = f"Without its drives a set would lack {-spare} of its write quorum." if spare < 0 else "Its own answer is that it can't be spared."
        if best < 0:
            text += " No healthy state of this layout can spare it: stop all nodes at once, or announce an outage."
        yield Reason("MINIO_NEEDED", WAIT if mends else FAIL, text, question.target, forceable=True)
    elif target.spare is None and target.answered and not target.status:
        yield Reason("MINIO_UNSEEN", UNKNOWN, f"Does not say whether it can be spared: {target.error}.", question.target)
    elif margin <= 0 < best:
        text = "Without it no further node can be lost; one can when all others are healthy."
        yield Reason("MINIO_MARGIN", WAIT if mends else FAIL, text, question.target, forceable=True)


def of_probes(snapshot: Snapshot, question: Question) -> t.Iterator[Reason]:
    if snapshot.probes is None or question.phase not in (AFTER, FINAL):
        return
    for node in snapshot.nodes:
        if node.ready and (question.phase == FINAL or node.name == question.target):
            probe = snapshot.probes.get(node.name, Probe("it was not tried", seen=False))
            if probe.error:
                yield Reason("MINIO_PROBE", WAIT if probe.seen else UNKNOWN, f"The probe object failed: {probe.error}.", node.name)
