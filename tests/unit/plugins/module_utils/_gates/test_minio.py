# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Situations of a MinIO cluster and what the gate says to them.

The base is four nodes with two drives each in one erasure set with parity 4, so with write quorum 5, as the server of 2026-02-12 described it. The
named changes are what it answered after the like was done to it (a node stopped, halted, restarted, a drive emptied), or what its source says.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, minio, minio_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import Earlier, Question
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.minio import Details, Drive, Limits, Node, Probe, Server, Snapshot

NOW = 1_800_000_000.0
OLD, NEW = "2025-09-07T16:13:09Z", "2026-02-12T20:18:48Z"
PREFLIGHT, FINAL = Question("preflight"), Question("final", expect_version=NEW)
BEFORE, AFTER = Question("before", "data1"), Question("after", "data1", expect_version="RELEASE.2026-02-12T20-18-48Z", not_before=NOW)
DOWN, HUNG, STARTING = "down", "hung", "starting"


def cluster(
    nodes: int = 4,
    drives: int = 2,
    parity: int = 4,
    states: t.Mapping[str, str] | None = None,
    bad: t.Mapping[str, str] | None = None,
    target: str = "data1",
) -> Snapshot:
    """A cluster as it would describe itself. ``states`` says which nodes are not up, ``bad`` the states of drives ("data2/1") that are not ok."""
    states, bad = states or {}, bad or {}
    names = [f"data{index + 1}" for index in range(nodes)]
    quorum = minio.write_quorum(nodes * drives, parity)

    def drive(name: str, index: int) -> Drive:
        state = bad.get(f"{name}/{index}", "ok") if name not in states else "offline"
        return Drive(f"{name}/{index}", name, 0, 0, "ok" if state == "healing" else state, state == "healing", 7 if state == "healing" else 0, 80.0)

    all_drives = tuple(drive(name, index) for name in names for index in range(drives))
    online = {name: sum(each.state == "ok" for each in all_drives if each.member == name) for name in names}
    healing = {name: sum(each.healing for each in all_drives if each.member == name) for name in names}
    total = sum(online.values())

    def node(name: str) -> Node:
        if states.get(name) == DOWN:
            return Node(name, answered=False, refused=True, error="Connection refused")
        if states.get(name) == HUNG:
            return Node(name, answered=False, error="no answer within 5 s")
        if states.get(name) == STARTING:
            return Node(name, status="offline", ready=False, skew=0.0)
        elsewhere = sum(healing.values()) - healing[name]
        return Node(name, ready=total >= quorum, spare=total - online[name] >= quorum and not elsewhere, healing=elsewhere, skew=0.0)

    answers = tuple(node(name) for name in names)
    initialised = [each for each in answers if each.answered and not each.status]
    observers = [each.name for each in initialised if each.name != target] or [each.name for each in initialised]
    if not observers:
        return Snapshot(answers)
    servers = {name: Server(False) if name in states else Server(True, NEW, NOW + 5, tuple(states)) for name in names}
    probes = {each.name: Probe() for each in answers if each.ready}
    return Snapshot(answers, Details(observers[0], servers, all_drives, (quorum,)), probes=probes)


def ask(snapshot: Snapshot, question: Question) -> contract.Evaluation:
    return minio.evaluate(snapshot, question, Earlier(), Limits())


def node(snapshot: Snapshot, name: str, **changes: t.Any) -> Snapshot:
    return dataclasses.replace(snapshot, nodes=tuple(dataclasses.replace(each, **changes) if each.name == name else each for each in snapshot.nodes))


def server(snapshot: Snapshot, name: str, **changes: t.Any) -> Snapshot:
    if snapshot.details is None:
        return snapshot
    servers = {**snapshot.details.servers, name: dataclasses.replace(snapshot.details.servers[name], **changes)}
    return dataclasses.replace(snapshot, details=dataclasses.replace(snapshot.details, servers=servers))


def all_servers(snapshot: Snapshot, **changes: t.Any) -> Snapshot:
    assert snapshot.details
    for name in snapshot.details.servers:
        snapshot = server(snapshot, name, **changes)
    return snapshot


def details(snapshot: Snapshot, **changes: t.Any) -> Snapshot:
    if snapshot.details is None:
        return snapshot
    return dataclasses.replace(snapshot, details=dataclasses.replace(snapshot.details, **changes))


def all_drives(snapshot: Snapshot) -> tuple[Drive, ...]:
    return snapshot.details.drives if snapshot.details else ()


def probed(name: str, error: str, seen: bool = True) -> Snapshot:
    base = cluster()
    return dataclasses.replace(base, probes={**(base.probes or {}), name: Probe(error, seen)})


def blind(why: str = "refused with AccessDenied") -> Snapshot:
    return dataclasses.replace(cluster(), details=None, details_error=why)


GOOD = cluster()
LOST = cluster(states={"data2": DOWN, "data3": DOWN})
RESTARTING = Question("after", "data1", expect_version=NEW)
# name, snapshot, question, verdict, codes with subjects, margin
SITUATIONS: list[tuple[str, Snapshot, Question, str, list[str], int | None]] = [
    ("healthy, preflight", GOOD, PREFLIGHT, "pass", [], 1),
    ("healthy, before", GOOD, BEFORE, "pass", [], 0),
    ("healthy, after", GOOD, AFTER, "pass", [], 1),
    ("healthy, final", GOOD, FINAL, "pass", [], 1),
    ("six nodes can lose one more", cluster(6), BEFORE, "pass", [], 1),
    ("a node is down, preflight", cluster(states={"data3": DOWN}), PREFLIGHT, "fail", ["MINIO_OFFLINE data3"], 0),
    ("another node is down, before", cluster(states={"data3": DOWN}), BEFORE, "fail", ["MINIO_NEEDED data1"], -1),
    ("another of six is down, before", cluster(6, states={"data3": DOWN}), BEFORE, "fail", ["MINIO_MARGIN data1"], 0),
    ("another of eight is down, before", cluster(8, states={"data3": DOWN}), BEFORE, "fail", ["MINIO_MARGIN data1"], 0),
    ("another of eight is down and small parity", cluster(8, 1, 3, {"data3": DOWN}), BEFORE, "pass", [], 1),
    ("the target is down already, before", cluster(states={"data1": DOWN}), BEFORE, "fail", ["MINIO_OFFLINE data1"], 0),
    ("the target hangs and the others know, before", cluster(states={"data1": HUNG}), BEFORE, "fail", ["MINIO_OFFLINE data1"], 0),
    (
        "the target can't be asked, the others see it",
        node(GOOD, "data1", answered=False, ready=None, spare=None, healing=None, error="no answer"),
        BEFORE,
        "unknown",
        ["MINIO_UNSEEN data1"],
        0,
    ),
    (
        "another node can't be asked, the others see it",
        node(GOOD, "data2", answered=False, ready=None, spare=None, healing=None, error="certificate verify failed"),
        BEFORE,
        "unknown",
        ["MINIO_UNSEEN data2"],
        0,
    ),
    ("quorum is lost", LOST, PREFLIGHT, "fail", ["MINIO_OFFLINE data2", "MINIO_OFFLINE data3", "MINIO_QUORUM data1", "MINIO_QUORUM data4"], -1),
    ("quorum is lost, before", LOST, BEFORE, "fail", ["MINIO_NEEDED data1", "MINIO_QUORUM data1", "MINIO_QUORUM data4"], -1),
    ("quorum is lost, after", LOST, AFTER, "wait", ["MINIO_OFFLINE data2", "MINIO_OFFLINE data3", "MINIO_QUORUM data1", "MINIO_QUORUM data4"], -1),
    ("412: drives of two other nodes are gone", cluster(bad={"data2/0": "faulty", "data3/0": "faulty"}), BEFORE, "fail", ["MINIO_NEEDED data1"], -1),
    ("412: they may come back", cluster(bad={"data2/0": "offline", "data3/0": "faulty"}), BEFORE, "wait", ["MINIO_NEEDED data1"], -1),
    ("the target refuses, the observer sees enough", node(GOOD, "data1", spare=False), BEFORE, "wait", ["MINIO_NEEDED data1"], 0),
    ("a drive of another node is offline, before", cluster(bad={"data2/0": "offline"}), BEFORE, "pass", [], 0),
    ("a drive is offline, preflight", cluster(bad={"data2/0": "offline"}), PREFLIGHT, "fail", ["MINIO_DRIVES data2"], 1),
    ("two nodes can never spare one", cluster(2, 2, 2), BEFORE, "fail", ["MINIO_NEEDED data1"], -1),
    ("two nodes, preflight", cluster(2, 2, 2), PREFLIGHT, "pass", [], 0),
    ("four nodes with one drive", cluster(4, 1, 2), BEFORE, "pass", [], 0),
    ("another node heals, before", cluster(bad={"data3/0": "healing"}), BEFORE, "wait", ["MINIO_HEALING", "MINIO_HEALING data3"], 0),
    ("the target's own drive heals, before", cluster(bad={"data1/0": "healing"}), BEFORE, "wait", ["MINIO_HEALING", "MINIO_HEALING data1"], 0),
    ("a drive heals, preflight", cluster(bad={"data3/0": "healing"}), PREFLIGHT, "wait", ["MINIO_HEALING", "MINIO_HEALING data3"], 1),
    ("the target heals, after", cluster(bad={"data1/0": "healing"}), AFTER, "wait", ["MINIO_HEALING", "MINIO_HEALING data1"], 1),
    ("only the health endpoints know of the healing", node(GOOD, "data2", healing=1, spare=False), AFTER, "wait", ["MINIO_HEALING"], 1),
    ("the target is not started yet", cluster(states={"data1": DOWN}), AFTER, "wait", ["MINIO_OFFLINE data1"], 0),
    ("200 with the header offline: not initialised", cluster(states={"data1": STARTING}), AFTER, "wait", ["MINIO_STARTING data1"], 0),
    ("another node is starting, before", cluster(states={"data3": STARTING}), BEFORE, "wait", ["MINIO_NEEDED data1"], -1),
    ("an emptied drive was not taken yet, all endpoints say 200", cluster(bad={"data1/0": "offline"}), AFTER, "wait", ["MINIO_DRIVES data1"], 1),
    ("a drive of the target is broken", cluster(bad={"data1/0": "corrupt"}), AFTER, "fail", ["MINIO_DRIVES data1"], 1),
    ("ready by itself, the observer does not know yet", server(GOOD, "data1", online=False), AFTER, "wait", ["MINIO_CUT_OFF data1"], 1),
    ("ready, one of the others can't reach it", server(GOOD, "data3", cut_off_from=("data1",)), AFTER, "wait", ["MINIO_CUT_OFF data1"], 1),
    ("partition, before", server(GOOD, "data3", cut_off_from=("data4",)), BEFORE, "wait", ["MINIO_CUT_OFF data4"], 0),
    ("still the old process", server(GOOD, "data1", started=NOW - 900, version=OLD), AFTER, "wait", ["MINIO_NOT_RESTARTED data1", "MINIO_VERSION data1"], 1),
    ("restarted with the old version", server(GOOD, "data1", version=OLD), AFTER, "fail", ["MINIO_VERSION data1"], 1),
    ("old version, no time of a restart is known", server(GOOD, "data1", version=OLD), RESTARTING, "wait", ["MINIO_VERSION data1"], 1),
    ("others still have the old version, after", server(all_servers(GOOD, version=OLD), "data1", version=NEW), AFTER, "pass", [], 1),
    ("the target's version is not told", server(GOOD, "data1", version=""), AFTER, "unknown", ["MINIO_DETAILS_UNSEEN data1"], 1),
    ("versions are mixed, preflight", server(GOOD, "data4", version=OLD), PREFLIGHT, "fail", ["MINIO_VERSIONS_MIXED"], 1),
    ("one was forgotten, final", server(GOOD, "data4", version=OLD), FINAL, "fail", ["MINIO_VERSIONS_MIXED", "MINIO_VERSION data4"], 1),
    ("the key may not ask for details", blind(), PREFLIGHT, "unknown", ["MINIO_DETAILS_UNSEEN"], None),
    ("the key may not ask for details, before", blind(), BEFORE, "unknown", ["MINIO_DETAILS_UNSEEN"], None),
    ("the probe object fails", probed("data1", "no answer within 5 s"), AFTER, "wait", ["MINIO_PROBE data1"], 1),
    ("the probe object is not allowed", probed("data1", "AccessDenied for bucket bronze", seen=False), AFTER, "unknown", ["MINIO_PROBE data1"], 1),
    ("the probe object fails through another node, after", probed("data2", "no answer"), AFTER, "pass", [], 1),
    ("the probe object fails through another node, final", probed("data2", "no answer"), FINAL, "wait", ["MINIO_PROBE data2"], 1),
    ("the probe was not tried", dataclasses.replace(GOOD, probes={}), AFTER, "unknown", ["MINIO_PROBE data1"], 1),
    ("no probe is wanted", dataclasses.replace(GOOD, probes=None), AFTER, "pass", [], 1),
    ("a clock is wrong", node(GOOD, "data2", skew=2.5), PREFLIGHT, "fail", ["MINIO_CLOCK data2"], 1),
    ("a clock is not seen", node(GOOD, "data2", skew=None), PREFLIGHT, "unknown", ["MINIO_UNSEEN data2"], 1),
    ("a wrong clock does not keep a node from going", node(GOOD, "data2", skew=2.5), BEFORE, "pass", [], 1 - 1),
    ("a stranger is in the cluster", details(GOOD, strangers=("192.0.2.99:9000",)), BEFORE, "fail", ["MINIO_MEMBERS"], 0),
    ("the target is not in the list", GOOD, Question("after", "data9"), "fail", ["MINIO_MEMBERS data9"], None),
    ("several pools", details(GOOD, quorums=(5, 5)), PREFLIGHT, "fail", ["MINIO_POOLS"], 1),
]  # fmt: skip


@pytest.mark.parametrize(("snapshot", "question", "verdict", "codes", "margin"), [each[1:] for each in SITUATIONS], ids=[each[0] for each in SITUATIONS])
def test_situation(snapshot: Snapshot, question: Question, verdict: str, codes: list[str], margin: int | None):
    seen = ask(snapshot, question)
    assert (sorted(reason.key() for reason in seen.reasons), seen.verdict) == (sorted(codes), verdict)
    assert seen.margin == margin


def test_a_full_drive_is_named():
    assert GOOD.details
    drives = tuple(dataclasses.replace(each, free_percent=3.0) if each.name == "data2/1" else each for each in GOOD.details.drives)
    seen = ask(details(GOOD, drives=drives), PREFLIGHT)
    assert [reason.key() for reason in seen.reasons] == ["MINIO_SPACE data2"]
    assert "data2/1 has 3.0 % free" in seen.reasons[0].text


def test_a_layout_that_can_never_spare_a_node_says_so():
    seen = ask(cluster(2, 2, 2), BEFORE)
    assert "No healthy state of this layout" in seen.reasons[0].text
    assert ask(cluster(2, 2, 2), PREFLIGHT).observed["can_spare_a_node_when_healthy"] is False
    assert ask(GOOD, PREFLIGHT).observed["can_spare_a_node_when_healthy"] is True


def test_progress_grows_while_drives_come_back_and_heal():
    steps = [cluster(states={"data1": DOWN}), cluster(bad={"data1/0": "offline"}), cluster(bad={"data1/0": "healing"})]
    values = [ask(step, AFTER).progress for step in steps]
    assert values == sorted(values) and len(set(values)) == 3


def test_members_are_told_with_their_version_and_state():
    members = ask(cluster(states={"data2": STARTING, "data3": HUNG}), PREFLIGHT).observed["members"]
    assert members == {
        "data1": {"version": NEW, "state": "no write quorum", "can_be_spared": False},
        "data2": {"state": "not initialised (offline)"},
        "data3": {"error": "no answer within 5 s"},
        "data4": {"version": NEW, "state": "no write quorum", "can_be_spared": False},
    }
    assert ask(GOOD, PREFLIGHT).observed["members"]["data1"] == {"version": NEW, "state": "ready", "can_be_spared": True}


def test_the_result_is_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(GOOD)))
    assert json.loads(json.dumps(dict(ask(GOOD, PREFLIGHT).observed)))


@pytest.mark.parametrize(("drives", "parity", "quorum"), [(4, 2, 3), (8, 4, 5), (8, 3, 5), (16, 4, 12), (4, 0, 4)])
def test_write_quorum(drives: int, parity: int, quorum: int):
    assert minio.write_quorum(drives, parity) == quorum


STATES = st.dictionaries(st.sampled_from(["data1", "data2", "data3", "data4", "data5"]), st.sampled_from([DOWN, HUNG, STARTING]), max_size=3)
BAD = st.dictionaries(st.sampled_from([f"data{n}/{d}" for n in range(1, 6) for d in (0, 1)]), st.sampled_from(["offline", "corrupt", "healing"]), max_size=4)
QUESTIONS = st.sampled_from([PREFLIGHT, BEFORE, AFTER, FINAL])


@given(nodes=st.integers(1, 6), drives=st.integers(1, 2), parity=st.integers(0, 6), states=STATES, bad=BAD, vouches=st.booleans())
def test_a_member_never_goes_when_what_remains_is_below_the_quorum(nodes: int, drives: int, parity: int, states: t.Any, bad: t.Any, vouches: bool):
    parity = min(parity, nodes * drives // 2)
    snapshot = cluster(nodes, drives, parity, states, bad)
    if vouches:  # Even where the target says that it can be spared.
        snapshot = node(snapshot, "data1", spare=True)
    alive = [each for each in range(1, nodes + 1) if f"data{each}" not in states and each != 1]
    left = sum(bad.get(f"data{n}/{d}") in (None, "healing") for n in alive for d in range(drives))
    if left < minio.write_quorum(nodes * drives, parity):
        assert ask(snapshot, BEFORE).verdict != "pass"


UNSEEING: list[t.Callable[[Snapshot, str], Snapshot]] = [
    lambda snapshot, name: node(snapshot, name, answered=False, refused=False, status="", ready=None, spare=None, healing=None, skew=None),
    lambda snapshot, name: node(snapshot, name, ready=None),
    lambda snapshot, name: node(snapshot, name, spare=None),
    lambda snapshot, name: node(snapshot, name, healing=None),
    lambda snapshot, name: node(snapshot, name, skew=None),
    lambda snapshot, name: dataclasses.replace(snapshot, details=None),
    lambda snapshot, name: server(snapshot, name, version=""),
    lambda snapshot, name: server(snapshot, name, started=None),
    lambda snapshot, name: details(snapshot, drives=tuple(d for d in all_drives(snapshot) if d.member != name)),
    lambda snapshot, name: details(snapshot, drives=tuple(dataclasses.replace(d, free_percent=None) for d in all_drives(snapshot))),
    lambda snapshot, name: dataclasses.replace(snapshot, probes={}),
]  # fmt: skip


@given(
    states=STATES,
    bad=BAD,
    question=QUESTIONS,
    unsee=st.sampled_from(UNSEEING),
    name=st.sampled_from(["data1", "data2"]),
    old=st.booleans(),
    wrong=st.booleans(),
)
def test_what_is_not_seen_never_makes_a_pass(states: t.Any, bad: t.Any, question: Question, unsee: t.Any, name: str, old: bool, wrong: bool):
    snapshot = cluster(5, states=states, bad=bad)
    if old:
        snapshot = server(snapshot, "data1", version=OLD, started=NOW - 9)
    if wrong:
        snapshot = dataclasses.replace(snapshot, probes={each.name: Probe("it failed") for each in snapshot.nodes})
    if ask(snapshot, question).verdict != "pass":
        assert ask(unsee(snapshot, name), question).verdict != "pass"


@given(states=STATES, bad=BAD, question=QUESTIONS, better=st.integers(1, 5))
def test_a_healthier_member_never_makes_it_worse(states: t.Any, bad: t.Any, question: Question, better: int):
    def rank(states: t.Any, bad: t.Any) -> int:
        return contract.SEVERITY.index(ask(cluster(5, states=states, bad=bad), question).verdict)

    # Where nobody can describe the cluster, a member that comes back brings bad news that were there before.
    assume(cluster(5, states=states, bad=bad).details)
    name = f"data{better}"
    healed = {key: value for key, value in bad.items() if not key.startswith(name)}
    assert rank({key: value for key, value in states.items() if key != name}, healed) <= rank(states, bad)


def test_what_the_server_says_is_understood():
    """Recorded from a cluster of two drives a node while data2 was down and an emptied drive of data1 was healing; shortened."""
    path = "https://192.0.2.31:9000/data1"
    info = {
        "mode": "online",
        "backend": {"backendType": "Erasure", "onlineDisks": 2, "offlineDisks": 2, "standardSCParity": 2, "totalSets": [1], "totalDrivesPerSet": [4]},
        "servers": [
            {
                "state": "online", "endpoint": "192.0.2.31:9000", "uptime": 36, "version": NEW,
                "network": {"192.0.2.31:9000": "online", "192.0.2.32:9000": "offline"},
                "drives": [
                    {"endpoint": path, "state": "ok", "healing": True, "totalspace": 400, "availspace": 100, "pool_index": 0, "set_index": 0,
                     "heal_info": {"items_healed": 4, "finished": False}},
                    {"endpoint": "https://192.0.2.31:9000/data2", "state": "ok", "totalspace": 400, "availspace": 300, "pool_index": 0, "set_index": 0,
                     "heal_info": {"items_healed": 9, "finished": True}},
                ],
            },
            {
                "state": "offline", "endpoint": "192.0.2.32:9000",
                "drives": [{"endpoint": "https://192.0.2.32:9000/data1", "state": "offline", "pool_index": 0, "set_index": 0}],
            },
        ],
    }  # fmt: skip
    seen = minio_fetch.read_details("data1", info, {"192.0.2.31:9000": "data1"}, NOW)
    assert seen.quorums == (3,)
    assert seen.strangers == ("192.0.2.32:9000",)
    assert seen.servers["data1"] == Server(True, NEW, NOW - 36, ("192.0.2.32:9000",))
    assert seen.servers["192.0.2.32:9000"] == Server(False)
    assert [(each.state, each.healing, each.healed, each.free_percent) for each in seen.drives] == [
        ("ok", True, 4, 25),
        ("ok", False, 0, 75),
        ("offline", False, 0, None),
    ]


@pytest.mark.parametrize("info", [{"mode": "initializing"}, {}, {"mode": "online", "servers": None}])
def test_an_answer_that_describes_nothing_is_refused(info: t.Any):
    with pytest.raises((KeyError, TypeError, ValueError)):
        minio_fetch.read_details("data1", info, {}, NOW)


@pytest.mark.parametrize(
    ("begin", "end", "skew"),
    [(100.2, 100.4, 0), (99.9, 101.2, 0), (97.0, 97.5, 2.5), (103.0, 103.1, 2.0)],
    ids=["right", "within a second", "fast", "slow"],
)
def test_least_skew(begin: float, end: float, skew: float):
    assert minio_fetch.least_skew("Thu, 01 Jan 1970 00:01:40 GMT", begin, end) == pytest.approx(skew)
    assert minio_fetch.least_skew("", begin, end) is None
