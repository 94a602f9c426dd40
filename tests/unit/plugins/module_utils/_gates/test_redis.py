# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Situations of a Redis replication with Sentinels, and what the gate says to them.

The base is a master, two replicas and three Sentinels, as redis 7.0 described itself; the named changes are what it said in such situations, or what
its documentation says. Recorded answers are at the end.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("redis")

from redis.exceptions import NoPermissionError, ResponseError

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, redis, redis_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import Earlier, Question
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.redis import Follower, Known, Limits, Probe, Sentinel, Server, Snapshot

NOW = 1_800_000_000.0
NEW, OLD = "7.4.2", "7.2.7"
PREFLIGHT, FINAL = Question("preflight"), Question("final", expect_version=NEW)
# data1 is the master.
REPLICA_GOES, MASTER_GOES = Question("before", "data2"), Question("before", "data1")
AFTER = Question("after", "data2", expect_version=NEW, not_before=NOW)
DOWN, HUNG, LOADING, SYNCING, CUT = "down", "hung", "loading", "syncing", "cut"


def cluster(members: int = 3, states: t.Mapping[str, str] | None = None, sentinels: t.Mapping[str, str] | None = None, **settings: t.Any) -> Snapshot:
    """A replication as its servers and Sentinels would describe it. ``states`` says which servers are not well, ``sentinels`` which Sentinels."""
    states, sentinels = states or {}, sentinels or {}
    names = [f"data{index + 1}" for index in range(members)]

    def server(name: str) -> Server:
        state = states.get(name)
        if state in (DOWN, HUNG):
            return Server(name, answered=False, refused=state == DOWN, error="Connection refused" if state == DOWN else "Timeout reading from socket")
        common = {"version": NEW, "started": NOW + 5, "offset": 5_000_000, "backlog": 16 << 20, "persistent": True, "loading": state == LOADING, **settings}
        if name == "data1":
            followers = {other: Follower("online", 5_000_000, 0) for other in names[1:] if states.get(other) is None}
            return Server(name, role="master", followers=followers, **common)
        return Server(name, role="slave", master="data1", link_up=state is None and states.get("data1") is None, syncing=state == SYNCING, **common)

    def sentinel(name: str) -> Sentinel:
        state = sentinels.get(name)
        if state in (DOWN, HUNG):
            return Sentinel(name, answered=False, refused=state == DOWN, error="Connection refused" if state == DOWN else "Timeout reading from socket")
        replicas = {
            other: Known(("slave", "s_down", "disconnected") if states.get(other) in (DOWN, HUNG) else ("slave",), states.get(other) is None)
            for other in names[1:]
        }
        flags = ("s_down", "o_down", "master") if states.get("data1") in (DOWN, HUNG) else ("master",)
        return Sentinel(name, master="data1", epoch=3, flags=flags, quorum=members // 2 + 1, others=members - 1, replicas=replicas)

    return Snapshot(tuple(map(server, names)), tuple(map(sentinel, names)))


def server(snapshot: Snapshot, name: str, **changes: t.Any) -> Snapshot:
    return dataclasses.replace(snapshot, servers=tuple(dataclasses.replace(s, **changes) if s.name == name else s for s in snapshot.servers))


def sentinel(snapshot: Snapshot, name: str, **changes: t.Any) -> Snapshot:
    return dataclasses.replace(snapshot, sentinels=tuple(dataclasses.replace(s, **changes) if s.name == name else s for s in snapshot.sentinels))


def sentinels(snapshot: Snapshot, **changes: t.Any) -> Snapshot:
    return dataclasses.replace(snapshot, sentinels=tuple(dataclasses.replace(s, **changes) for s in snapshot.sentinels))


def plain(snapshot: Snapshot) -> Snapshot:
    return dataclasses.replace(snapshot, sentinels=())


def probed(acknowledged: int = 2, **changes: t.Any) -> Snapshot:
    return dataclasses.replace(GOOD, probe=Probe(2, acknowledged, **changes))


def ask(snapshot: Snapshot, question: Question, last: Snapshot | None = None, **options: t.Any) -> contract.Evaluation:
    return redis.evaluate(snapshot, question, Earlier(last, last), Limits(), **options)


GOOD = cluster()
FLAGS = {"data2": Known(("slave", "s_down", "disconnected"), False), "data3": Known()}
UNFIT = {"data2": Known(priority=0), "data3": Known(("slave", "disconnected"))}
FAILED_OVER = server(GOOD, "data1", role="slave", master="data2", link_up=True, followers={})
FAILED_OVER = server(FAILED_OVER, "data2", role="master", master="", followers={"data1": Follower("online", 5_000_000, 0), "data3": Follower("online", 0, 1)})
FAILED_OVER = server(FAILED_OVER, "data3", master="data2")
FAILED_OVER = sentinels(FAILED_OVER, master="data2", epoch=4, replicas={"data1": Known(), "data3": Known()})
BACK = Question("after", "data1", expect_version=NEW, not_before=NOW)
CACHE, GIVES = {"persistent": False}, {"hand_over": True}
EVERYBODY = [f"REDIS_MASTER_DOWN data{index}" for index in (1, 2, 3)]
# name, snapshot, question, options, verdict, codes with subjects, margin
SITUATIONS: list[tuple[str, Snapshot, Question, dict[str, t.Any], str, list[str], int | None]] = [
    ("healthy, preflight", GOOD, PREFLIGHT, {}, "pass", [], 1),
    ("healthy, a replica goes", GOOD, REPLICA_GOES, {}, "pass", [], 0),
    ("healthy, after", GOOD, AFTER, {}, "pass", [], 1),
    ("healthy, final", GOOD, FINAL, {}, "pass", [], 1),
    ("plain replicas, preflight", plain(GOOD), PREFLIGHT, {}, "pass", [], 2),
    ("plain replicas, a replica goes", plain(GOOD), REPLICA_GOES, {}, "pass", [], 1),
    ("the master goes", GOOD, MASTER_GOES, {}, "fail", ["REDIS_MASTER data1"], 0),
    ("the master hands over first", GOOD, MASTER_GOES, GIVES, "pass", [], 0),
    ("a cache's master goes", cluster(persistent=False), MASTER_GOES, CACHE, "fail", ["REDIS_MASTER data1"], 0),
    ("a cache's replica goes", cluster(persistent=False), REPLICA_GOES, CACHE, "pass", [], 0),
    ("the queue keeps nothing on disk", server(GOOD, "data1", persistent=False), PREFLIGHT, {}, "fail", ["REDIS_PERSISTENCE data1"], 1),
    ("whether it is kept can't be seen", server(GOOD, "data1", persistent=None), REPLICA_GOES, {}, "unknown", ["REDIS_PERSISTENCE data1"], 0),
    ("for a cache it is all the same", server(GOOD, "data1", persistent=None), PREFLIGHT, CACHE, "pass", [], 1),
    ("NOGOODSLAVE", sentinels(GOOD, replicas=UNFIT), MASTER_GOES, GIVES, "fail", ["REDIS_NO_GOOD_REPLICA data1"], 0),
    ("only one good replica for the hand-over", cluster(states={"data3": CUT}), MASTER_GOES, GIVES, "wait", ["REDIS_LAST_REPLICA data1"], 0),
    ("the other replica is down", cluster(states={"data3": DOWN}), REPLICA_GOES, {}, "fail", ["REDIS_LAST_REPLICA data2"], 0),
    ("the other replica copies, a replica goes", cluster(states={"data3": SYNCING}), REPLICA_GOES, {}, "wait", ["REDIS_LAST_REPLICA data2"], 0),
    ("the only replica goes", cluster(2), REPLICA_GOES, {}, "fail", ["REDIS_LAST_REPLICA data2", "REDIS_SENTINEL_MAJORITY data2"], -1),
    ("a single server goes", plain(cluster(1)), MASTER_GOES, GIVES, "fail", ["REDIS_LAST data1"], -1),
    ("the master would take no writes", cluster(min_replicas=2), REPLICA_GOES, {}, "fail", ["REDIS_MIN_REPLICAS data2"], -1),
    ("a replica goes and min-replicas is kept", cluster(min_replicas=1), REPLICA_GOES, {}, "pass", [], 0),
    ("one of five is down, a replica goes", cluster(5, {"data5": DOWN}, {"data5": DOWN}), REPLICA_GOES, {}, "fail", ["REDIS_MARGIN data2"], 0),
    ("one of seven is down, a replica goes", cluster(7, {"data5": DOWN}, {"data5": DOWN}), REPLICA_GOES, {}, "pass", [], 1),
    ("the target is down already", cluster(states={"data2": DOWN}), REPLICA_GOES, {}, "fail", ["REDIS_DOWN data2"], 0),
    ("a replica is down, preflight", cluster(states={"data2": DOWN}), PREFLIGHT, {}, "fail", ["REDIS_DOWN data2"], 1),
    ("a replica is not back yet",
     cluster(states={"data2": DOWN}),
     AFTER, {}, "wait", ["REDIS_DOWN data2", "REDIS_SENTINEL_SEES data2", "REDIS_SENTINEL_SEES data2", "REDIS_SENTINEL_SEES data2"], 1),
    ("a replica hangs, the Sentinels know", cluster(states={"data2": HUNG}), PREFLIGHT, {}, "fail", ["REDIS_DOWN data2"], 1),
    ("a replica can't be asked, the Sentinels see it",
     server(GOOD, "data2", answered=False, error="timeout"), PREFLIGHT, {}, "unknown", ["REDIS_UNSEEN data2"], 1),
    ("the password is wrong",
     server(GOOD, "data3", answered=False, error="WRONGPASS"), REPLICA_GOES, {}, "unknown", ["REDIS_LAST_REPLICA data2", "REDIS_UNSEEN data3"], 0),
    ("a replica loads", cluster(states={"data2": LOADING}), AFTER, {}, "wait", ["REDIS_LINK data2", "REDIS_LOADING data2"], 1),
    ("a replica copies", cluster(states={"data2": SYNCING}), AFTER, {}, "wait", ["REDIS_SYNC data2"], 1),
    ("a replica has no link", cluster(states={"data2": CUT}), PREFLIGHT, {}, "wait", ["REDIS_LINK data2"], 1),
    ("a replica hears nothing", server(GOOD, "data2", silence=25), PREFLIGHT, {}, "wait", ["REDIS_LINK data2"], 1),
    ("2 MiB behind, the backlog allows 1.6", server(GOOD, "data2", offset=5_000_000 - (2 << 20)), AFTER, {}, "wait", ["REDIS_LAG data2"], 1),
    ("1.5 MiB behind, the backlog allows 1.6", server(GOOD, "data2", offset=5_000_000 - (3 << 19)), AFTER, {}, "pass", [], 1),
    ("its acknowledgements are old",
     server(GOOD, "data1", followers={"data2": Follower("online", 0, 9), "data3": Follower("online", 0, 1)}), AFTER, {}, "wait", ["REDIS_LAG data2"], 1),
    ("its master does not have it online",
     server(GOOD, "data1", followers={"data2": Follower("wait_bgsave", 0, 0), "data3": Follower("online", 0, 1)}),
     AFTER, {}, "wait", ["REDIS_NOT_LISTED data2"], 1),
    ("its master does not know it", server(GOOD, "data1", followers={"data3": Follower("online", 0, 1)}), AFTER, {}, "wait", ["REDIS_NOT_LISTED data2"], 1),
    ("it follows another replica",
     server(server(GOOD, "data1", followers={"data3": Follower("online", 0, 1)}), "data2", master="data3"),
     AFTER, {}, "wait", ["REDIS_FOLLOWS data2", "REDIS_NOT_LISTED data2"], 1),
    ("a Sentinel has it as disconnected", sentinel(GOOD, "data3", replicas=FLAGS), AFTER, {}, "wait", ["REDIS_SENTINEL_SEES data2"], 1),
    ("a Sentinel has not found it yet", sentinel(GOOD, "data3", replicas={"data3": Known()}), AFTER, {}, "wait", ["REDIS_SENTINEL_REPLICAS data3"], 1),
    ("a Sentinel remembers a replica that is gone",
     sentinel(GOOD, "data3", replicas={"data2": Known(), "data3": Known(), "192.0.2.9:6380": Known()}),
     PREFLIGHT, {}, "fail", ["REDIS_SENTINEL_REPLICAS data3"], 1),
    ("still the old process", server(GOOD, "data2", version=OLD, started=NOW - 99), AFTER, {}, "wait", ["REDIS_NOT_RESTARTED data2", "REDIS_VERSION data2"], 1),
    ("restarted with the old version", server(GOOD, "data2", version=OLD), AFTER, {}, "fail", ["REDIS_VERSION data2"], 1),
    ("others have the old version, after", server(GOOD, "data3", version=OLD), AFTER, {}, "pass", [], 1),
    ("one was forgotten, final", server(GOOD, "data3", version=OLD), FINAL, {}, "fail", ["REDIS_VERSION data3"], 1),
    ("a stale Sentinel",
     sentinel(FAILED_OVER, "data3", master="data1", epoch=3, replicas={"data2": Known(), "data3": Known()}),
     PREFLIGHT, {}, "wait", ["REDIS_SENTINEL_STALE data3"], 0),
    ("a stale Sentinel, a replica goes",
     sentinel(FAILED_OVER, "data3", master="data1", epoch=3), MASTER_GOES, {}, "wait", ["REDIS_SENTINEL_MAJORITY data1", "REDIS_SENTINEL_STALE data3"], -1),
    ("Sentinels of one epoch disagree",
     sentinel(GOOD, "data3", master="data2", replicas={"data1": Known(), "data3": Known()}), PREFLIGHT, {}, "unknown", ["REDIS_SENTINELS_DISAGREE"], 1),
    ("a failover ends, its leader still names the former master", sentinel(FAILED_OVER, "data1", master="data1", flags=("master", "failover_in_progress")),
     PREFLIGHT, {}, "wait", ["REDIS_FAILOVER data1", "REDIS_SENTINEL_REPLICAS data1"], 1),
    ("failed over, the former master is back", FAILED_OVER, BACK, {}, "pass", [], 1),
    ("failed over, the former master still thinks it is one",
     server(FAILED_OVER, "data1", role="master", master="", link_up=False), BACK, {}, "wait", ["REDIS_TWO_MASTERS"], 0),
    ("two masters, preflight", server(GOOD, "data3", role="master"), PREFLIGHT, {}, "fail", ["REDIS_TWO_MASTERS"], 0),
    ("the master is down, one replica would be left",
     cluster(states={"data1": DOWN}), REPLICA_GOES, {}, "fail", ["REDIS_LAST data2", *EVERYBODY, "REDIS_NO_MASTER"], -1),
    ("no master and no Sentinel", plain(cluster(states={"data1": DOWN})), REPLICA_GOES, {}, "fail", ["REDIS_LAST data2", "REDIS_NO_MASTER"], -1),
    ("a failover is under way",
     sentinels(GOOD, flags=("master", "failover_in_progress")),
     REPLICA_GOES, {}, "wait", ["REDIS_FAILOVER data1", "REDIS_FAILOVER data2", "REDIS_FAILOVER data3"], 0),
    ("the Sentinels name one that is no master yet",
     sentinels(GOOD, master="data2", replicas={"data1": Known(), "data3": Known()}), PREFLIGHT, {}, "wait", ["REDIS_WRONG_MASTER"], 1),
    ("a Sentinel lost its configuration", sentinel(GOOD, "data2", missing=True), PREFLIGHT, {}, "fail", ["REDIS_SENTINEL_MISSING data2"], 0),
    ("a Sentinel can't be asked", sentinel(GOOD, "data2", answered=False, error="timeout"), REPLICA_GOES, {}, "unknown", ["REDIS_SENTINEL_UNSEEN data2"], 0),
    ("another Sentinel is down, a replica goes", cluster(sentinels={"data3": DOWN}), REPLICA_GOES, {}, "fail", ["REDIS_SENTINEL_MAJORITY data2"], -1),
    ("a Sentinel is down, preflight", cluster(sentinels={"data3": DOWN}), PREFLIGHT, {}, "fail", ["REDIS_SENTINEL_DOWN data3"], 0),
    ("NOQUORUM", sentinel(GOOD, "data2", quorum_error="NOQUORUM 1 usable Sentinels"), PREFLIGHT, {}, "fail", ["REDIS_SENTINEL_QUORUM data2"], 1),
    ("a Sentinel has not found the others yet",
     sentinel(GOOD, "data2", quorum_error="NOQUORUM 1 usable Sentinels", others=0),
     AFTER, {}, "wait", ["REDIS_SENTINEL_COUNT data2", "REDIS_SENTINEL_QUORUM data2"], 1),
    ("a Sentinel remembers one that is gone", sentinel(GOOD, "data2", others=3), PREFLIGHT, {}, "fail", ["REDIS_SENTINEL_COUNT data2"], 1),
    ("the quorum is all of them", sentinels(GOOD, quorum=3), REPLICA_GOES, {}, "fail", ["REDIS_SENTINEL_MAJORITY data2"], -1),
    ("it is writing to disk, preflight", server(GOOD, "data1", saving=True), PREFLIGHT, {}, "wait", ["REDIS_SAVING data1"], 1),
    ("the target is writing to disk", server(GOOD, "data2", saving=True), REPLICA_GOES, {}, "wait", ["REDIS_SAVING data2"], 0),
    ("another is writing to disk", server(GOOD, "data3", saving=True), REPLICA_GOES, {}, "pass", [], 0),
    ("the disk is full", server(GOOD, "data2", save_failed=True), AFTER, {}, "fail", ["REDIS_SAVE_FAILED data2"], 1),
    ("a stranger follows", server(GOOD, "data1", strangers=1), PREFLIGHT, {}, "fail", ["REDIS_MEMBERS data1"], 1),
    ("the target is no member", GOOD, Question("before", "data9"), {}, "fail", ["REDIS_MEMBERS data9"], None),
    ("the write is acknowledged", probed(), AFTER, {}, "pass", [], 1),
    ("the write is not acknowledged by all", probed(1), AFTER, {}, "wait", ["REDIS_PROBE"], 1),
    ("the write is refused", probed(error="NOREPLICAS Not enough good replicas to write"), AFTER, {}, "wait", ["REDIS_PROBE"], 1),
    ("the user may not write", probed(error="NOPERM", seen=False), FINAL, {}, "unknown", ["REDIS_PROBE"], 1),
]  # fmt: skip


@pytest.mark.parametrize(("snapshot", "question", "options", "verdict", "codes", "margin"), [s[1:] for s in SITUATIONS], ids=[s[0] for s in SITUATIONS])
def test_situation(snapshot: Snapshot, question: Question, options: dict[str, t.Any], verdict: str, codes: list[str], margin: int | None):
    seen = ask(snapshot, question, **options)
    assert (sorted(reason.key() for reason in seen.reasons), seen.verdict, seen.margin) == (sorted(codes), verdict, margin)


def test_a_replica_that_is_behind_has_to_move():
    behind = server(GOOD, "data2", offset=4_999_000)
    assert [reason.key() for reason in ask(behind, AFTER, last=behind).reasons] == ["REDIS_STUCK data2"]
    assert ask(behind, AFTER, last=server(GOOD, "data2", offset=4_998_000)).verdict == "pass"
    assert ask(behind, AFTER).verdict == "pass"
    # Nothing was written, so there is nothing to move by.
    assert ask(GOOD, AFTER, last=GOOD).verdict == "pass"


def test_progress_grows_on_the_way_back():
    way = [
        cluster(states={"data2": DOWN}),
        cluster(states={"data2": LOADING}),
        cluster(states={"data2": CUT}),
        server(cluster(states={"data2": SYNCING}), "data2", sync_bytes=1 << 20),
        server(cluster(states={"data2": SYNCING}), "data2", sync_bytes=2 << 20),
        server(GOOD, "data2", offset=4_000_000),
        server(GOOD, "data2", offset=4_999_000),
        GOOD,
    ]
    values = [ask(step, AFTER).progress or 0 for step in way]
    assert values == sorted(values) and len(set(values)) == len(values)


def test_members_are_told_with_version_role_and_lag():
    members = ask(server(cluster(states={"data3": HUNG}), "data2", offset=4_999_900), PREFLIGHT).observed["members"]
    assert members["data1"] == {"version": NEW, "role": "master", "offset": 5_000_000, "trouble": []}
    assert members["data2"] == {"version": NEW, "role": "replica", "lag": "100 bytes", "offset": 4_999_900, "trouble": []}
    assert members["data3"] == {"error": "Timeout reading from socket"}


def test_a_replica_of_another_has_no_lag():
    found = ask(server(GOOD, "data2", master="data3"), PREFLIGHT).observed["members"]["data2"]
    assert (found["role"], found.get("lag"), found["trouble"]) == ("replica", None, ["REDIS_FOLLOWS"])


def test_the_result_is_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(FAILED_OVER)))
    assert json.loads(json.dumps(dict(ask(GOOD, PREFLIGHT).observed)))


MEMBERS = ["data1", "data2", "data3", "data4", "data5"]
STATES = st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from([DOWN, HUNG, LOADING, SYNCING, CUT]), max_size=4)
SENTINELS = st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from([DOWN, HUNG]), max_size=4)
QUESTIONS = st.sampled_from([PREFLIGHT, REPLICA_GOES, MASTER_GOES, AFTER, FINAL])


@given(
    members=st.integers(1, 5), states=STATES, away=SENTINELS, target=st.sampled_from(MEMBERS), minimum=st.integers(0, 3), options=st.sampled_from([{}, GIVES])
)
def test_a_member_never_goes_when_too_few_remain(members: int, states: t.Any, away: t.Any, target: str, minimum: int, options: t.Any):
    names = MEMBERS[:members]
    left = [name for name in names if name != target]
    servers = sum(states.get(name) is None and (name == "data1" or "data1" not in states) for name in left)
    sentinels = sum(name not in away for name in left)
    if servers < 2 or servers - 1 < minimum or sentinels < members // 2 + 1:
        assert ask(cluster(members, states, away, min_replicas=minimum), Question("before", target), **options).verdict != "pass"


UNSEEING: list[t.Callable[[Snapshot, str], Snapshot]] = [
    lambda snapshot, name: server(snapshot, name, answered=False, refused=False, error="timeout"),
    lambda snapshot, name: server(snapshot, name, persistent=None),
    lambda snapshot, name: server(snapshot, name, followers={}),
    lambda snapshot, name: sentinel(snapshot, name, answered=False, refused=False, error="timeout"),
    lambda snapshot, name: sentinels(snapshot, answered=False, refused=False, error="timeout"),
    lambda snapshot, name: sentinel(snapshot, name, replicas={}),
]


@given(
    states=STATES, away=SENTINELS, question=QUESTIONS, unsee=st.sampled_from(UNSEEING), name=st.sampled_from(MEMBERS), old=st.booleans(), probe=st.booleans()
)
def test_what_is_not_seen_never_makes_a_pass(states: t.Any, away: t.Any, question: Question, unsee: t.Any, name: str, old: bool, probe: bool):
    snapshot = cluster(5, states, away)
    if old:
        snapshot = server(snapshot, "data2", version=OLD)
    if probe:
        snapshot = dataclasses.replace(snapshot, probe=Probe(4, 3))
    if ask(snapshot, question, **GIVES).verdict != "pass":
        assert ask(unsee(snapshot, name), question, **GIVES).verdict != "pass"


@given(states=STATES, away=SENTINELS, question=QUESTIONS, better=st.sampled_from(MEMBERS))
def test_a_healthier_member_never_makes_it_worse(states: t.Any, away: t.Any, question: Question, better: str):
    def rank(states: t.Any, away: t.Any) -> int:
        return contract.SEVERITY.index(ask(cluster(5, states, away), question, **GIVES).verdict)

    def without(each: t.Any) -> t.Any:
        return {key: value for key, value in each.items() if key != better}

    # What was unknown may turn out to be bad: the member that is back helps to tell.
    assume(rank(states, away) != contract.SEVERITY.index("unknown"))
    assert rank(without(states), without(away)) <= rank(states, away)


# What redis 7.0.15 and its Sentinel answered, fields that are not read left out.
ADDRESSES = {"192.0.2.31:6380": "data1", "192.0.2.32:6380": "data2"}
MASTER_INFO: dict[str, t.Any] = {
    "role": "master", "redis_version": "7.0.15", "uptime_in_seconds": 18, "loading": 0, "async_loading": 0, "rdb_bgsave_in_progress": 0,
    "aof_rewrite_in_progress": 0, "rdb_last_bgsave_status": "ok", "aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok", "aof_enabled": 0,
    "master_repl_offset": 692, "repl_backlog_size": 1048576, "connected_slaves": 1,
    "slave0": {"ip": "192.0.2.32", "port": 6380, "state": "online", "offset": 692, "lag": 1},
}  # fmt: skip
REPLICA_INFO = {
    **{key: value for key, value in MASTER_INFO.items() if key != "slave0"}, "role": "slave", "master_host": "192.0.2.31", "master_port": 6380,
    "master_link_status": "up", "master_sync_in_progress": 0, "master_last_io_seconds_ago": 2, "slave_repl_offset": 690,
}  # fmt: skip
MASTER_SAID = ["name", "queue", "ip", "192.0.2.31", "port", "6380", "flags", "master", "config-epoch", "0", "num-other-sentinels", "0", "quorum", "2"]
REPLICA_SAID = ["name", "192.0.2.32:6380", "ip", "192.0.2.32", "port", "6380", "flags", "slave", "master-link-status", "ok", "slave-priority", "100"]
NOPERM = NoPermissionError("this user has no permissions to run the 'config|get' command")


def read_server(info: dict[str, t.Any], save: t.Any = None, minimum: t.Any = None) -> Server:
    return redis_fetch.read_server("data1", info, save or {"save": ""}, minimum or {"min-replicas-to-write": "0"}, ADDRESSES, NOW)


def test_what_a_master_says_is_understood():
    seen = read_server(MASTER_INFO)
    assert (seen.role, seen.version, seen.started, seen.offset, seen.backlog) == ("master", "7.0.15", NOW - 18, 692, 1 << 20)
    assert (seen.persistent, seen.master, seen.followers, seen.strangers) == (False, "", {"data2": Follower("online", 692, 1)}, 0)
    assert read_server({**MASTER_INFO, "slave1": {"ip": "192.0.2.9", "port": 6380, "state": "online", "offset": 1, "lag": 0}}).strangers == 1
    assert read_server({**MASTER_INFO, "valkey_version": "8.1.1"}).version == "8.1.1"


def test_what_a_replica_says_is_understood():
    seen = read_server(REPLICA_INFO)
    assert (seen.role, seen.master, seen.link_up, seen.syncing, seen.silence, seen.offset) == ("slave", "data1", True, False, 2, 690)
    assert read_server({**REPLICA_INFO, "master_host": "192.0.2.77"}).master == "192.0.2.77:6380"
    seen = read_server({**REPLICA_INFO, "master_link_status": "down", "master_sync_in_progress": 1, "master_sync_read_bytes": 77, "async_loading": 1})
    assert (seen.link_up, seen.syncing, seen.sync_bytes, seen.loading) == (False, True, 77, True)


@pytest.mark.parametrize(
    ("aof", "save", "persistent"),
    [(1, NOPERM, True), (0, {"save": "3600 1"}, True), (0, {"save": ""}, False), (0, NOPERM, None)],
)
def test_persistence_is_seen(aof: int, save: t.Any, persistent: bool | None):
    assert read_server({**MASTER_INFO, "aof_enabled": aof}, save=save).persistent is persistent


def test_the_least_number_of_replicas_is_seen():
    assert read_server(MASTER_INFO, minimum={"min-replicas-to-write": "2"}).min_replicas == 2
    assert read_server({**MASTER_INFO, "min_slaves_good_slaves": 2}, minimum=NOPERM).min_replicas == 1
    assert read_server(MASTER_INFO, minimum=NOPERM).min_replicas == 0


def test_what_a_sentinel_says_is_understood():
    quorum = ResponseError("NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master")
    seen = redis_fetch.read_sentinel("data1", MASTER_SAID, ["192.0.2.31", "6380"], [REPLICA_SAID], quorum, ADDRESSES)
    assert (seen.master, seen.epoch, seen.flags, seen.quorum, seen.others) == ("data1", 0, ("master",), 2, 0)
    assert seen.quorum_error.startswith("NOQUORUM 1 usable") and seen.replicas == {"data2": Known(("slave",), True, 100)}
    unknown = ResponseError("No such master with that name")
    assert redis_fetch.read_sentinel("data1", unknown, None, unknown, unknown, ADDRESSES).missing
    for answers in ((NOPERM, NOPERM, NOPERM, NOPERM), (MASTER_SAID, ["192.0.2.31", "6380"], [REPLICA_SAID], NOPERM)):
        assert not redis_fetch.read_sentinel("data1", *answers, ADDRESSES).answered
