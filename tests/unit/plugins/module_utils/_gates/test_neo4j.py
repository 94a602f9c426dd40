# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Neo4j Community members, and the members of an Enterprise cluster, say. A healthy state of each, and named changes to it.

The rows of Community are as 5.26.30 gave them, those of a cluster as the operations manual prints them.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, https, neo4j, neo4j_cluster, neo4j_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import Earlier, Question
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.neo4j import Database, Fault, Limits, Member, Snapshot
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.neo4j_cluster import Check, Raft, Server

ASKED = {"expect_version": "5.26.30", "not_before": 1000.0}


def but(thing, **change):
    return dataclasses.replace(thing, **change)


def ask(evaluate, snapshot, phase, limits, **question):
    target = "data1" if phase in ("before", "after") else ""
    return evaluate(snapshot, Question(**{"phase": phase, "target": target, **question}), Earlier(), limits)


def outcome(seen):
    json.dumps(seen.observed)
    return seen.verdict, [reason.key() for reason in seen.reasons]


# Community

ONLINE = (Database("neo4j", "online", "online"), Database("system", "online", "online", kind="system"))
GOOD = Member(version="5.26.30", edition="community", started=2000.0, databases=ONLINE, position=500)
NEWEST = {"newest": 500, "newest_after": True}
OUTBOX = Limits()


def state(current: str, message: str = "") -> Member:
    return but(GOOD, databases=(but(ONLINE[0], current=current, message=message), ONLINE[1]))


def down(kind: str) -> Member:
    return Member(fault=Fault(kind, kind))


def pair(data1: Member = GOOD, data2: Member = GOOD, **change) -> Snapshot:
    return Snapshot({"data1": data1, "data2": data2}, **{**NEWEST, **change})


ONE = Snapshot({"data1": GOOD})
NO_OUTBOX = Limits(outbox=False)
COMMUNITY = {
    "both are well": (pair(), "preflight", {}, "pass", []),
    "one lags a little": (pair(data2=but(GOOD, position=400)), "preflight", {}, "pass", []),
    "one lags": (pair(data2=but(GOOD, position=399)), "preflight", {}, "wait", ["NEO_LAG data2"]),
    "one is new and empty": (pair(data2=but(GOOD, position=0)), "preflight", {}, "wait", ["NEO_LAG data2"]),
    "one is ahead of the outbox": (pair(data2=but(GOOD, position=501)), "preflight", {}, "wait", ["NEO_AHEAD data2"]),
    "ahead of a number that the caller read before": (pair(data2=but(GOOD, position=501), newest_after=False), "preflight", {}, "pass", []),
    "the outbox is not seen": (pair(newest=None), "preflight", {}, "unknown", ["NEO_OUTBOX_UNKNOWN"]),
    "a position that is no number": (pair(data2=but(GOOD, position=None)), "preflight", {}, "unknown", ["NEO_POSITION_UNKNOWN data2"]),
    "one starts": (pair(data2=down("refused")), "preflight", {}, "wait", ["NEO_REFUSED data2"]),
    "one hangs": (pair(data2=down("no_answer")), "preflight", {}, "wait", ["NEO_NO_ANSWER data2"]),
    "one host is gone": (pair(data2=down("unreachable")), "preflight", {}, "unknown", ["NEO_UNREACHABLE data2"]),
    "a wrong password": (pair(data2=down("auth")), "preflight", {}, "unknown", ["NEO_AUTH data2"]),
    "a bad certificate": (pair(data2=down("tls")), "preflight", {}, "fail", ["NEO_TLS data2"]),
    "a quarantined database": (pair(data2=state("quarantined", "by admin")), "preflight", {}, "fail", ["NEO_DATABASE_FAILED data2/neo4j"]),
    "a dirty database": (pair(data2=state("dirty", "no space")), "preflight", {}, "fail", ["NEO_DATABASE_FAILED data2/neo4j"]),
    "a database that recovers": (pair(data2=state("starting")), "preflight", {}, "wait", ["NEO_DATABASE_STARTING data2/neo4j"]),
    "online with a message": (pair(data2=state("online", "disk is failing")), "preflight", {}, "fail", ["NEO_DATABASE_FAILED data2/neo4j"]),
    "another database": (pair(data2=but(GOOD, databases=ONLINE[1:])), "preflight", {}, "fail", ["NEO_NO_DATABASE data2/neo4j"]),
    "Enterprise, asked as Community": (pair(data2=but(GOOD, edition="enterprise")), "preflight", {}, "fail", ["NEO_EDITION data2"]),
    "an upgrade that is planned": (pair(), "preflight", {"expect_version": "2025.01.0"}, "pass", []),
    "a downgrade": (pair(), "preflight", {"expect_version": "5.26.0"}, "fail", ["NEO_VERSION_PATH data1", "NEO_VERSION_PATH data2"]),
    "one of two may go": (pair(), "before", {}, "pass", []),
    "a sick one may go": (pair(data1=down("refused")), "before", {}, "pass", []),
    "the other one lags": (pair(data2=but(GOOD, position=1)), "before", {}, "wait", ["NEO_TOO_FEW"]),
    "the other one is not seen": (pair(data2=down("unreachable")), "before", {}, "unknown", ["NEO_TOO_FEW"]),
    "the other one is quarantined": (pair(data2=state("quarantined")), "before", {}, "fail", ["NEO_TOO_FEW"]),
    "nobody may go while the outbox is not seen": (pair(newest=None), "before", {}, "unknown", ["NEO_OUTBOX_UNKNOWN", "NEO_TOO_FEW"]),
    "the only one": (ONE, "before", {"limits": NO_OUTBOX}, "fail", ["NEO_SINGLE data1"]),
    "the only one, its outage announced": (ONE, "before", {"limits": Limits(outbox=False, min_available=0)}, "pass", []),
    "the only one is back": (ONE, "after", {"limits": NO_OUTBOX, **ASKED}, "pass", []),
    "back and caught up": (pair(), "after", ASKED, "pass", []),
    "back and catching up": (pair(data1=but(GOOD, position=100)), "after", ASKED, "wait", ["NEO_LAG data1"]),
    "the old version": (pair(data1=but(GOOD, version="5.26.29")), "after", ASKED, "fail", ["NEO_VERSION data1"]),
    "not restarted": (pair(data1=but(GOOD, started=900.0)), "after", ASKED, "fail", ["NEO_NOT_RESTARTED data1"]),
    "start is not told": (pair(data1=but(GOOD, started=None)), "after", ASKED, "unknown", ["NEO_START_UNKNOWN data1"]),
    "version is not told": (pair(data1=but(GOOD, version="")), "after", ASKED, "unknown", ["NEO_VERSION_UNKNOWN data1"]),
    "no such target": (pair(), "after", {"target": "data9"}, "fail", ["NEO_NO_SUCH_MEMBER data9"]),
    "all done": (pair(), "final", ASKED, "pass", []),
    "one was left out": (pair(data2=but(GOOD, version="5.26.29")), "final", {}, "fail", ["NEO_VERSIONS_DIFFER"]),
}


@pytest.mark.parametrize("situation", COMMUNITY)
def test_community(situation):
    snapshot, phase, options, verdict, keys = COMMUNITY[situation]
    options = {"limits": OUTBOX, **options}
    assert outcome(ask(neo4j.evaluate, snapshot, phase, options.pop("limits"), **options)) == (verdict, keys)


def test_members_of_community_are_told_with_their_lag():
    def lags(snapshot):
        members = ask(neo4j.evaluate, snapshot, "preflight", OUTBOX).observed["members"]
        return [members[name].get("lag", members[name].get("error")) for name in ("data1", "data2")]

    assert lags(pair(data2=but(GOOD, position=480))) == ["0 records", "20 records"]
    assert lags(pair(data1=but(GOOD, position=510), data2=but(GOOD, position=480), newest=None)) == ["0 records", "30 records"]
    assert lags(pair(data1=but(GOOD, position=None), data2=down("refused"), newest=None)) == [None, "refused"]


def test_margin_and_progress_of_community():
    assert [ask(neo4j.evaluate, pair(), phase, OUTBOX).margin for phase in ("preflight", "before")] == [1, 0]
    assert ask(neo4j.evaluate, pair(data1=but(GOOD, position=7)), "after", OUTBOX).progress == 7


MEMBERS = st.builds(
    but,
    st.just(GOOD),
    version=st.sampled_from(["5.26.30", "5.26.29", ""]),
    started=st.sampled_from([2000.0, 900.0, None]),
    position=st.sampled_from([500, 500, 450, 10, 0, 600, None]),
    databases=st.sampled_from([ONLINE, ONLINE, None, state("starting").databases, state("dirty").databases]),
) | st.sampled_from([down(kind) for kind in neo4j.FAULTS])
PAIRS = st.builds(lambda one, two, newest: pair(one, two, newest=newest), MEMBERS, MEMBERS, st.sampled_from([500, 500, None]))
PHASES = st.sampled_from(contract.PHASES)


@given(snapshot=PAIRS)
def test_community_never_lets_the_last_one_go(snapshot):
    if ask(neo4j.evaluate, snapshot, "before", OUTBOX).verdict == "pass":
        other = snapshot.members["data2"]
        assert other.fault is None and 0 <= snapshot.newest - other.position <= 100 and other.databases == ONLINE


@given(
    snapshot=PAIRS,
    phase=PHASES,
    name=st.sampled_from(["data1", "data2"]),
    what=st.sampled_from(["position", "databases", "version", "started", "newest", "all"]),
)
def test_community_in_the_dark_never_passes(snapshot, phase, name, what):
    member = snapshot.members[name]
    dark = {"all": down("unreachable"), "version": but(member, version=""), "newest": member}.get(what) or but(member, **{what: None})
    darker = but(snapshot, members={**snapshot.members, name: dark}, newest=None if what == "newest" else snapshot.newest)
    if ask(neo4j.evaluate, snapshot, phase, OUTBOX, **(ASKED if phase != "preflight" else {})).verdict != "pass":
        assert ask(neo4j.evaluate, darker, phase, OUTBOX, **(ASKED if phase != "preflight" else {})).verdict != "pass"


@given(snapshot=PAIRS, phase=st.sampled_from(["preflight", "before", "after"]), name=st.sampled_from(["data1", "data2"]))
def test_community_a_healthier_member_never_makes_it_worse(snapshot, phase, name):
    better = but(snapshot, members={**snapshot.members, name: GOOD})
    order = contract.SEVERITY.index
    verdicts = [ask(neo4j.evaluate, found, phase, OUTBOX).verdict for found in (better, snapshot)]
    assert order(verdicts[0]) <= order(verdicts[1])


# Cluster

NAMES = ("data1", "data2", "data3")
IDS = {name: f"id-{name}" for name in NAMES}
BOTH = ("neo4j", "system")
LEADS = {"neo4j": "data1", "system": "data2"}


def raft(name: str, database: str = "neo4j", **change) -> Raft:
    ids, leader = frozenset(IDS.values()), IDS[LEADS[database]]
    healthy = Raft(True, IDS[name], ids, 1000, True, True, leader, 0.0 if leader == IDS[name] else 0.2)
    return but(healthy, **change)


def server(name: str, **change) -> Server:
    hosting = frozenset(BOTH)
    return but(Server("s-" + name, name, f"{name}:7687", "Enabled", "Available", hosting, hosting), **change)


def member(name: str, **change) -> neo4j_cluster.Member:
    healthy = neo4j_cluster.Member(
        addresses=(f"{name}:7687",),
        version="5.26.30",
        started=2000.0,
        discovery="V2_ONLY",
        servers=tuple(server(other) for other in NAMES),
        raft={database: raft(name, database) for database in BOTH},
    )
    return but(healthy, **change)


def row(name: str, database: str, **change) -> Database:
    healthy = Database(database, "online", "online", server="s-" + name, address=f"{name}:7687", primaries=3 if database == "neo4j" else None)
    return but(healthy, **change)


HEALTHY = neo4j_cluster.Snapshot(
    members={name: member(name) for name in NAMES},
    observer="data2",
    databases=tuple(row(name, database) for database in BOTH for name in NAMES),
    checks=tuple(Check(database, "s-" + name, True, "APPLYING") for database in BOTH for name in NAMES),
)


def cluster(**members) -> neo4j_cluster.Snapshot:
    return but(HEALTHY, members={**HEALTHY.members, **members})


def with_raft(name: str, **change) -> neo4j_cluster.Snapshot:
    return cluster(**{name: member(name, raft={"neo4j": raft(name, **change), "system": raft(name, "system")})})


def with_server(name: str, **change) -> neo4j_cluster.Snapshot:
    rows = tuple(server(other, **(change if other == name else {})) for other in NAMES)
    return but(HEALTHY, members={other: member(other, servers=rows) for other in NAMES})


def with_row(name: str, **change) -> neo4j_cluster.Snapshot:
    return but(HEALTHY, databases=tuple(but(found, **change) if (found.server, found.name) == ("s-" + name, "neo4j") else found for found in HEALTHY.databases))


def with_check(name: str, **change) -> neo4j_cluster.Snapshot:
    return but(HEALTHY, checks=tuple(but(found, **change) if (found.server, found.database) == ("s-" + name, "neo4j") else found for found in HEALTHY.checks))


def gone(name: str, kind: str = "refused", snapshot: neo4j_cluster.Snapshot = HEALTHY) -> neo4j_cluster.Snapshot:
    """A member that is down, as the vendor's pages tell it: not in the voting sets, not available, its rows without an address."""
    left = frozenset(IDS.values()) - {IDS[name]}
    members: dict = {name: neo4j_cluster.Member(addresses=(f"{name}:7687",), bolt_fault=Fault(kind, kind), http_fault=Fault(kind, kind))}
    for other in NAMES:
        if other != name:
            rows = tuple(server(found, **({"health": "Unavailable"} if found == name else {})) for found in NAMES)
            states = {database: raft(other, database, voters=left) for database in BOTH}
            members[other] = member(other, servers=rows, raft=states)
    unknown = {"current": "unknown", "message": "Server is unavailable", "role": "unknown", "address": ""}
    databases = tuple(but(found, **unknown) if found.server == "s-" + name else found for found in snapshot.databases)
    checks = tuple(but(found, status="UNAVAILABLE") if found.server == "s-" + name else found for found in snapshot.checks)
    return but(snapshot, members=members, databases=databases, checks=checks)


DARK = but(HEALTHY, databases=None, checks=None, fault="data2 nothing listens there")
SPLIT = cluster(data3=member("data3", raft={"neo4j": raft("data3", leader=IDS["data3"]), "system": raft("data3", "system")}))
TWO = but(
    HEALTHY,
    members={name: member(name, raft={"neo4j": raft(name, voters=frozenset((IDS["data1"], IDS["data2"])))}) for name in ("data1", "data2")},
    databases=tuple(but(found, primaries=2) for found in HEALTHY.databases if found.server != "s-data3" and found.name == "neo4j"),
)
OLD = but(HEALTHY, members={name: member(name, discovery="V1_ONLY") for name in NAMES})
OLDER = but(HEALTHY, members={name: member(name, version="5.20.0") for name in NAMES})
CLUSTER = {
    "all is well": (HEALTHY, "preflight", {}, "pass", []),
    "a member met an error": (with_raft("data3", healthy=False), "preflight", {}, "fail", ["NEO_UNHEALTHY data3/neo4j"]),
    "a member does not tell its health": (with_raft("data3", healthy=None), "preflight", {}, "unknown", ["NEO_STATUS data3/neo4j"]),
    "a member does not take part": (with_raft("data3", participating=False), "preflight", {}, "wait", ["NEO_NOT_PARTICIPATING data3/neo4j"]),
    "no leader": (with_raft("data3", leader=""), "preflight", {}, "wait", ["NEO_NO_LEADER data3/neo4j"]),
    "two leaders": (SPLIT, "preflight", {}, "unknown", ["NEO_LEADERS_DIFFER neo4j"]),
    "a silent leader": (with_raft("data3", silence=10.5), "preflight", {}, "wait", ["NEO_LEADER_SILENT data3/neo4j"]),
    "a leader's silence is not told": (with_raft("data3", silence=None), "preflight", {}, "unknown", ["NEO_STATUS data3/neo4j"]),
    "one lags": (with_raft("data3", applied=900), "preflight", {}, "wait", ["NEO_LAG data3/neo4j"]),
    "one lags a little": (with_raft("data3", applied=901), "preflight", {}, "pass", []),
    "voting sets differ": (
        with_raft("data2", voters=frozenset((IDS["data1"], IDS["data2"]))),
        "preflight",
        {},
        "wait",
        ["NEO_NOT_VOTING data3/neo4j", "NEO_VOTING_SETS neo4j"],
    ),
    "a cordoned server": (with_server("data3", state="Cordoned"), "preflight", {}, "fail", ["NEO_SERVER_STATE data3"]),
    "an unavailable server": (with_server("data3", health="Unavailable"), "preflight", {}, "wait", ["NEO_SERVER_UNAVAILABLE data3"] * 2),
    "a server without one of its databases": (with_server("data3", hosting=frozenset(("system",))), "preflight", {}, "wait", ["NEO_HOSTING data3"]),
    "a store that is copied": (with_row("data3", current="store copying"), "preflight", {}, "wait", ["NEO_DATABASE_STARTING data3/neo4j"]),
    "a quarantined database": (with_row("data3", current="quarantined", message="x"), "preflight", {}, "fail", ["NEO_DATABASE_FAILED data3/neo4j"]),
    "a dirty database": (with_row("data3", current="dirty", role="unknown"), "preflight", {}, "fail", ["NEO_DATABASE_FAILED data3/neo4j"]),
    "an offline database that is to be so": (with_row("data3", current="offline", requested="offline"), "preflight", {}, "pass", []),
    "nothing is replicated": (with_check("data3", successful=False), "preflight", {}, "wait", ["NEO_NOT_REPLICATING neo4j"]),
    "one is unavailable in the check": (with_check("data3", status="UNAVAILABLE"), "preflight", {}, "wait", ["NEO_MEMBER_STATUS data3/neo4j"]),
    "one replicates and does not apply": (with_check("data3", status="REPLICATING"), "preflight", {}, "pass", []),
    "the check has an error": (with_check("data3", error="no such database"), "preflight", {}, "unknown", ["NEO_STATUS_CHECK neo4j"]),
    "no check": (DARK, "preflight", {}, "unknown", ["NEO_STATUS_CHECK"]),
    "Community, asked as a cluster": (
        cluster(data3=member("data3", raft=None, http_fault=Fault("no_cluster", "404"))),
        "preflight",
        {},
        "fail",
        ["NEO_NO_CLUSTER data3"],
    ),
    "two primaries": (TWO, "preflight", {}, "fail", ["NEO_FEW_PRIMARIES neo4j"]),
    "to 2025 with the old discovery": (OLD, "preflight", {"expect_version": "2025.01.0"}, "fail", [f"NEO_DISCOVERY {name}" for name in NAMES]),
    "to 2025 from before 5.26": (OLDER, "preflight", {"expect_version": "2025.01.0"}, "fail", [f"NEO_VERSION_PATH {name}" for name in NAMES]),
    "to 2025": (HEALTHY, "preflight", {"expect_version": "2025.01.0"}, "pass", []),
    "one of three may go": (HEALTHY, "before", {}, "pass", []),
    "a dead one may go": (gone("data1"), "before", {}, "pass", []),
    "another is dead": (gone("data3"), "before", {}, "wait", ["NEO_NO_MAJORITY neo4j", "NEO_NO_MAJORITY system"]),
    "another is not seen": (gone("data3", "unreachable"), "before", {}, "unknown", ["NEO_NO_MAJORITY neo4j", "NEO_NO_MAJORITY system"]),
    "another lags": (with_raft("data3", applied=0), "before", {}, "wait", ["NEO_NO_MAJORITY neo4j"]),
    "another is unhealthy": (with_raft("data3", healthy=False), "before", {}, "fail", ["NEO_NO_MAJORITY neo4j"]),
    "another is unavailable in the check": (with_check("data3", status="UNAVAILABLE"), "before", {}, "wait", ["NEO_NO_MAJORITY neo4j"]),
    "the target's own troubles do not hold it": (with_raft("data1", healthy=False), "before", {}, "pass", []),
    "the others do not agree on the leader": (SPLIT, "before", {}, "unknown", ["NEO_LEADERS_DIFFER neo4j"]),
    "the others cannot replicate": (with_check("data2", successful=False), "before", {}, "wait", ["NEO_NOT_REPLICATING neo4j"]),
    "no check, nobody goes": (DARK, "before", {}, "unknown", ["NEO_STATUS_CHECK", "NEO_NO_MAJORITY neo4j", "NEO_NO_MAJORITY system"]),
    "one of two never may": (TWO, "before", {}, "fail", ["NEO_NO_MAJORITY neo4j"]),
    "back": (HEALTHY, "after", ASKED, "pass", []),
    "back, not yet applying": (with_check("data1", status="REPLICATING"), "after", ASKED, "wait", ["NEO_MEMBER_STATUS data1/neo4j"]),
    "back, not seen by the others": (with_server("data1", health="Unavailable"), "after", ASKED, "wait", ["NEO_SERVER_UNAVAILABLE data1"] * 2),
    "back, nobody to ask": (
        but(HEALTHY, members={name: member(name, servers=None if name != "data1" else ()) for name in NAMES}),
        "after",
        ASKED,
        "unknown",
        ["NEO_NOT_SEEN_BY_OTHERS data1", *(f"NEO_STATUS_CHECK {name}/{database}" for database in BOTH for name in NAMES)],
    ),
    "back, copying a store": (with_row("data1", current="store copying"), "after", ASKED, "wait", ["NEO_DATABASE_STARTING data1/neo4j"]),
    "back with the old version": (cluster(data1=member("data1", version="5.26.29")), "after", ASKED, "fail", ["NEO_VERSION data1"]),
    "not restarted": (cluster(data1=member("data1", started=10.0)), "after", ASKED, "fail", ["NEO_NOT_RESTARTED data1"]),
    "all done": (HEALTHY, "final", {"expect_version": "5.26.30"}, "pass", []),
    "one was left out": (cluster(data3=member("data3", version="5.26.29")), "final", {}, "fail", ["NEO_VERSIONS_DIFFER"]),
}


@pytest.mark.parametrize("situation", CLUSTER)
def test_cluster(situation):
    snapshot, phase, question, verdict, keys = CLUSTER[situation]
    assert outcome(ask(neo4j_cluster.evaluate, snapshot, phase, Limits(), **question)) == (verdict, keys)


def test_a_dead_member_is_waited_for_with_all_that_is_known_of_it():
    verdict, keys = outcome(ask(neo4j_cluster.evaluate, gone("data3"), "preflight", Limits()))
    assert verdict == "wait"
    assert {"NEO_REFUSED data3", "NEO_SERVER_UNAVAILABLE data3", "NEO_DATABASE_STARTING data3/neo4j"} <= set(keys)


def test_margin_leaders_and_progress_of_a_cluster():
    assert [ask(neo4j_cluster.evaluate, found, "before", Limits()).margin for found in (HEALTHY, gone("data3"))] == [0, -1]
    seen = ask(neo4j_cluster.evaluate, HEALTHY, "preflight", Limits())
    assert seen.margin == 1
    assert {name: found["leader"] for name, found in seen.observed["databases"].items()} == {"neo4j": ["data1"], "system": ["data2"]}
    assert ask(neo4j_cluster.evaluate, HEALTHY, "after", Limits()).progress == 2002


def test_members_of_a_cluster_are_told_with_role_and_lag():
    def told(snapshot):
        members = ask(neo4j_cluster.evaluate, snapshot, "preflight", Limits()).observed["members"]
        return [(members[name].get("role"), members[name].get("lag")) for name in NAMES]

    assert told(with_raft("data3", applied=990)) == [("leader", None), ("follower", "0 entries"), ("follower", "10 entries")]
    assert told(gone("data3"))[2] == (None, None)


def test_only_a_small_topology_may_be_forced():
    question = Question("before", "data1", policy="forced", forced_because="announced")
    assert contract.apply_policy(ask(neo4j_cluster.evaluate, TWO, "before", Limits()), question).verdict == "pass"
    assert contract.apply_policy(ask(neo4j_cluster.evaluate, gone("data3"), "before", Limits()), question).verdict == "wait"


RAFTS = st.fixed_dictionaries(
    {},
    optional={
        "healthy": st.sampled_from([False, None]),
        "participating": st.just(False),
        "applied": st.sampled_from([0, 950]),
        "silence": st.sampled_from([None, 60.0]),
        "leader": st.sampled_from(["", IDS["data2"], IDS["data3"]]),
    },
)
STATUSES = st.sampled_from(["APPLYING", "APPLYING", "REPLICATING", "UNAVAILABLE"])
FAULTS = st.sampled_from([None, None, None, "refused", "unreachable", "auth", "tls"])


@st.composite
def clusters(draw):
    members = {}
    for name in NAMES:
        fault = draw(FAULTS)
        state = {database: raft(name, database, **draw(RAFTS)) for database in BOTH}
        members[name] = member(name, raft=None if fault else state, http_fault=Fault(fault, fault) if fault else None)
    checks = tuple(but(found, status=draw(STATUSES)) for found in HEALTHY.checks)
    return but(HEALTHY, members=members, checks=checks)


@given(snapshot=clusters())
def test_before_never_passes_without_a_majority(snapshot):
    if ask(neo4j_cluster.evaluate, snapshot, "before", Limits()).verdict == "pass":
        for database in BOTH:
            for name in ("data2", "data3"):
                state = snapshot.members[name].raft[database]
                assert state.healthy and state.participating and state.leader
                assert all(found.status != "UNAVAILABLE" for found in snapshot.checks if (found.server, found.database) == ("s-" + name, database))


@given(snapshot=clusters(), phase=PHASES, name=st.sampled_from(NAMES), what=st.sampled_from(["raft", "servers", "checks", "databases", "version", "started"]))
def test_a_cluster_in_the_dark_never_passes(snapshot, phase, name, what):
    if what in ("checks", "databases"):
        darker = but(snapshot, **{what: None})
    else:
        change = {"raft": {"raft": None, "http_fault": Fault("unreachable", "x")}, "version": {"version": ""}}.get(what, {what: None})
        darker = but(snapshot, members={**snapshot.members, name: but(snapshot.members[name], **change)})
    asked = ASKED if phase in ("after", "final") else {}
    if ask(neo4j_cluster.evaluate, snapshot, phase, Limits(), **asked).verdict != "pass":
        assert ask(neo4j_cluster.evaluate, darker, phase, Limits(), **asked).verdict != "pass"


@given(name=st.sampled_from(NAMES), database=st.sampled_from(BOTH), worse=RAFTS, status=STATUSES, phase=PHASES)
def test_a_healthier_member_of_a_cluster_never_makes_it_worse(name, database, worse, status, phase):
    states = {other: raft(name, other, **(worse if other == database else {})) for other in BOTH}
    snapshot = but(with_check(name, status=status), members={**HEALTHY.members, name: member(name, raft=states)})
    order = contract.SEVERITY.index
    assert order(ask(neo4j_cluster.evaluate, HEALTHY, phase, Limits()).verdict) <= order(ask(neo4j_cluster.evaluate, snapshot, phase, Limits()).verdict)


# Answers

# As the operations manual prints it.
STATUS = """[{"databaseName": "neo4j", "databaseUuid": "f4dacc01-f88a-4512-b3bf-68f7539c941e", "databaseStatus": {"lastAppliedRaftIndex": -1,
"votingMembers": ["0cff51ad", "90ff5df1", "99ca7cd0"], "memberId": "90ff5df1", "leader": "90ff5df1", "millisSinceLastLeaderMessage": 250,
"raftCommandsPerSecond": 0.0, "core": true, "participatingInRaftGroup": true, "healthy": true}}]"""


def test_the_status_of_a_cluster_is_read():
    found, fault = neo4j_fetch.raft_of(https.Answer(200, {}, STATUS.encode()))
    assert fault is None
    assert found == {"neo4j": Raft(True, "90ff5df1", frozenset(("0cff51ad", "90ff5df1", "99ca7cd0")), -1, True, True, "90ff5df1", 0.25)}
    renamed, _fault = neo4j_fetch.raft_of(https.Answer(200, {}, STATUS.replace('"healthy": true', '"isHealthy": false').replace('"leader"', '"x"').encode()))
    assert (renamed["neo4j"].healthy, renamed["neo4j"].leader) == (False, "")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (https.Answer(404), "no_cluster"),
        (https.Answer(401), "auth"),
        (https.Answer(503), "no_answer"),
        (https.Answer(200, {}, b"true"), "query"),
        (https.Answer(200, {}, b'[{"databaseName": "neo4j"}]'), "query"),
        (https.Answer(problem=https.NAME), "unreachable"),
        (https.Answer(problem=https.REFUSED), "refused"),
    ],
)
def test_a_status_that_is_none(answer, kind):
    found, fault = neo4j_fetch.raft_of(answer)
    assert found is None and fault.kind == kind


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("5.26.1", "5.26.30", ""),
        ("5.20.0", "5.26.30", ""),
        ("5.26.30", "2025.01.0", ""),
        ("2025.01.0", "2025.10.1", ""),
        ("5.26.30", "5.26.30", ""),
        ("5.25.1", "2025.01.0", "5.26 must come between"),
        ("2025.01.0", "5.26.30", "a downgrade"),
        ("5.26.30", "5.26.29", "a downgrade"),
        ("4.4.40", "5.26.30", "a migration"),
        ("5.26.30", "latest", "not a version"),
    ],
)
def test_ways_from_version_to_version(old, new, text):
    problem = neo4j.path_problem(old, new)
    assert text in problem and bool(problem) == bool(text)
