# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The replica set's own business: elections, configuration, divergence, copies."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import bson
import pymongo
import pytest
from pymongo.errors import OperationFailure
from replica import Cluster, Member, wait_for

Own = Callable[..., Cluster]


def reconfigure(cluster: Cluster, change: Callable[[dict[str, Any]], None], **options: Any) -> None:
    primary = cluster.primary
    config = primary.admin.command("replSetGetConfig")["config"]
    change(config)
    config["version"] += 1
    primary.admin.command("replSetReconfig", config, **options)


def partition(member: Member, *others: Member) -> None:
    """No packet between one member and the others, in either direction."""
    hosts = [other.host for other in others]
    member.fault(set={"partition": {"in": hosts, "out": hosts}})
    for other in others:
        other.fault(set={"partition": {"in": [member.host], "out": [member.host]}})


def test_status_has_every_field_that_the_gate_reads(trio: Cluster) -> None:
    status = trio.primary.status()
    assert {"majorityVoteCount", "writeMajorityCount", "votingMembersCount", "writableVotingMembersCount", "heartbeatIntervalMillis"} <= set(status)
    assert (status["majorityVoteCount"], status["writeMajorityCount"], status["votingMembersCount"]) == (2, 2, 3)
    assert "initialSyncStatus" not in status
    assert "tooStale" not in status
    wait_for(lambda: all(member.status()["syncSourceHost"] == trio.primary.host for member in trio.secondaries), "sync sources")
    for line in wait_for(
        lambda: all("lastHeartbeat" in m or "self" in m for m in trio.primary.status()["members"]) and trio.primary.status()["members"], "members"
    ):
        assert {"health", "state", "stateStr", "optime", "optimeDate", "uptime", "configVersion", "configTerm", "syncSourceHost"} <= set(line)
        assert isinstance(line["optime"]["ts"], bson.Timestamp)
        if not line.get("self"):
            assert {"lastHeartbeat", "lastHeartbeatRecv", "pingMs", "optimeDurable", "lastHeartbeatMessage"} <= set(line)
    window = [next(trio.primary.admin.client.local["oplog.rs"].find().sort("$natural", d).limit(1)) for d in (1, -1)]
    assert window[0]["ts"] < window[1]["ts"]
    assert trio.primary.admin.command("serverStatus")["repl"]["isWritablePrimary"]
    assert trio.primary.admin.command("getParameter", 1, featureCompatibilityVersion=1)["featureCompatibilityVersion"] == {"version": "7.0"}
    assert not [op for op in trio.primary.admin.command("currentOp")["inprog"] if "createIndexes" in op["command"]]


def test_hello_of_each_role(trio: Cluster) -> None:
    primary, secondary = trio.primary.hello(), trio.secondaries[0].hello()
    assert primary["isWritablePrimary"] and not primary["secondary"]
    assert "electionId" in primary and "electionId" not in secondary
    assert secondary["primary"] == trio.primary.host
    assert set(secondary["hosts"]) == {member.host for member in trio.members}
    assert primary["lastWrite"]["majorityOpTime"]["ts"] <= primary["lastWrite"]["opTime"]["ts"]


def test_priority_takeover(trio: Cluster) -> None:
    chosen = trio.secondaries[0]
    term = trio.primary.status()["term"]

    def prefer(config: dict[str, Any]) -> None:
        for line in config["members"]:
            line["priority"] = 5 if line["host"] == chosen.host else 1

    reconfigure(trio, prefer)
    wait_for(lambda: chosen.hello()["isWritablePrimary"], "the takeover")
    assert chosen.status()["term"] > term
    assert chosen.status()["electionCandidateMetrics"]["lastElectionReason"] == "priorityTakeover"

    def equal(config: dict[str, Any]) -> None:
        for line in config["members"]:
            line["priority"] = 1

    reconfigure(trio, equal)


def test_step_down_without_a_successor_is_refused_and_the_primary_stays(trio: Cluster) -> None:
    primary = trio.primary
    for member in trio.secondaries:
        member.fault(set={"lag": 30})
    primary.admin.client.refuse.docs.with_options(write_concern=pymongo.WriteConcern(1)).insert_one({})
    with pytest.raises(OperationFailure) as error:
        primary.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=1)
    assert error.value.code == 262
    with pytest.raises(OperationFailure) as error:
        primary.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=10)
    assert error.value.code == 2
    assert primary.hello()["isWritablePrimary"]


def test_lag_is_seen_by_everybody(trio: Cluster) -> None:
    late, primary = trio.secondaries[0], trio.primary
    late.fault(set={"lag": 3})
    primary.admin.client.lag.docs.insert_one({"_id": 1})
    time.sleep(1)

    def optimes(member: Member) -> dict[str, Any]:
        return {line["name"]: line["optime"]["ts"] for line in member.status()["members"]}

    assert optimes(primary)[late.host] < optimes(primary)[primary.host]
    assert optimes(late)[late.host] < optimes(primary)[primary.host]
    with pytest.raises(pymongo.errors.WTimeoutError):
        primary.admin.client.lag.docs.with_options(write_concern=pymongo.WriteConcern(3, wtimeout=200)).insert_one({"_id": 2})


def test_partition_is_seen_from_both_sides_and_the_minority_rolls_back(trio: Cluster) -> None:
    old, others = trio.primary, trio.secondaries
    client = old.admin.client
    client.split.docs.insert_one({"_id": "common"})
    # Once all have it: a copy that is behind could not vote for the other.
    client.split.docs.with_options(write_concern=pymongo.WriteConcern(3)).insert_one({"_id": "everywhere"})
    partition(old, *others)
    client.split.docs.with_options(write_concern=pymongo.WriteConcern(1)).insert_one({"_id": "lost"})
    new = wait_for(lambda: next((m for m in others if m.hello()["isWritablePrimary"]), None), "the majority's primary")
    wait_for(lambda: old.state() == "SECONDARY", "the minority steps down")

    def lost_by(member: Member) -> set[str]:
        return {line["name"] for line in member.status()["members"] if line["health"] == 0}

    wait_for(lambda: lost_by(old) == {member.host for member in others}, "the minority's view")
    wait_for(lambda: lost_by(new) == {old.host}, "the majority's view")
    new.admin.client.split.docs.insert_one({"_id": "kept"})
    rbid = old.rbid()
    trio.heal()
    wait_for(lambda: old.rbid() == rbid + 1 and trio.healthy(), "the rollback")
    found = old.admin.client.split.docs.find({}, {"_id": 1})
    assert {doc["_id"] for doc in found} == {"common", "everywhere", "kept"}
    files = list((old.folder / "db" / "rollback").glob("*/removed.*.bson"))
    assert {doc["_id"] for file in files for doc in bson.decode_all(file.read_bytes())} == {"lost"}
    digests = {member.admin.client.split.command("dbHash")["md5"] for member in trio.members}
    assert len(digests) == 1


def test_forced_rollback_by_the_control_port(trio: Cluster) -> None:
    member = trio.secondaries[0]
    rbid = member.rbid()
    member.fault(do="rollback", count=3)
    wait_for(lambda: member.rbid() > rbid, "the rollback")
    wait_for(lambda: member.state() == "SECONDARY", "healthy again")
    assert member.admin.client.standin.rollback.count_documents({}) == 0


def test_forced_initial_sync_shows_its_progress(trio: Cluster) -> None:
    member = trio.secondaries[0]
    trio.primary.admin.client.copy.docs.insert_many([{"_id": i} for i in range(100)])
    trio.primary.admin.client.copy.docs.create_index("x", unique=True, sparse=True)
    member.fault(set={"fail_initial_sync": True})
    member.fault(do="initial_sync")
    wait_for(lambda: member.state() == "STARTUP2", "STARTUP2")
    # No users there yet: ask one that has them.
    host = member.host
    line = wait_for(
        lambda: next((x for x in trio.primary.status()["members"] if x["name"] == host and x["state"] == 5), None), "STARTUP2 in the view of the primary"
    )
    assert line["stateStr"] == "STARTUP2"
    wait_for(lambda: "Initial sync attempt failed" in member.log(), "a failed attempt")
    member.fault(heal=True)
    wait_for(lambda: member.state() == "SECONDARY", "the copy is complete")
    assert "x_1" in wait_for(lambda: member.admin.client.copy.docs.index_information(), "login works again")
    wait_for(lambda: len({m.admin.client.copy.command("dbHash")["md5"] for m in trio.members}) == 1, "equal data")


def test_maintenance_and_freeze(trio: Cluster) -> None:
    member = trio.secondaries[0]
    member.admin.command("replSetMaintenance", 1)
    assert member.status()["myState"] == 3
    assert not member.hello()["secondary"]
    member.admin.command("replSetMaintenance", 0)
    assert member.status()["myState"] == 2
    with pytest.raises(OperationFailure) as error:
        trio.primary.admin.command("replSetFreeze", 10)
    assert error.value.code == 95


def test_freeze_fault_hangs_and_heals(trio: Cluster) -> None:
    old = trio.primary
    old.fault(set={"freeze": True})
    new = wait_for(lambda: next((m for m in trio.members if m is not old and m.hello()["isWritablePrimary"]), None), "a new primary")
    with old.client(user=None, serverSelectionTimeoutMS=500, connectTimeoutMS=500) as client, pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
        client.admin.command("ping")
    trio.heal()
    assert trio.primary is new


def test_wrong_keyfile_does_not_join(own: Own) -> None:
    cluster = own(3)
    stranger = cluster.members[2]
    stranger.write_key("another-key-altogether")
    cluster.start()
    first = cluster.members[0]
    with first.client(user=None) as client:
        lines = [{"_id": i, "host": member.host} for i, member in enumerate(cluster.members)]
        with pytest.raises(OperationFailure, match="quorum check failed") as error:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": lines})
        assert error.value.code == 74
    assert "Failed to authenticate" in stranger.log()
    assert stranger.state() == "STARTUP"
    # A list of keys lets both in, while the key is changed.
    stranger.kill()
    stranger.write_key("the-new-key-of-all", "the-key-of-this-set")
    stranger.start()
    wait_for(stranger.hello, "starts again")
    cluster.initiate()
    assert len(cluster.primary.status()["members"]) == 3


def test_too_stale_member_stays_recovering_until_it_copies_again(own: Own) -> None:
    cluster = own(3, oplog=1)
    cluster.start()
    cluster.initiate()
    member = cluster.secondaries[0]
    member.kill()
    with cluster.client(w=2) as client:
        for i in range(30):
            client.stale.docs.insert_many([{"_id": i * 10 + n, "text": "x" * 8000} for n in range(10)])
    member.start()
    wait_for(lambda: member.state() == "RECOVERING" and member.status().get("tooStale"), "too stale")
    assert not member.hello()["secondary"]
    member.fault(do="initial_sync")
    wait_for(lambda: member.state() == "SECONDARY", "copied again")
    wait_for(cluster.healthy, "a healthy set")


def test_grow_to_five_and_shrink_again_one_by_one(own: Own) -> None:
    cluster = own(3)
    cluster.start()
    cluster.initiate()
    with cluster.client() as client:
        client.grow.docs.insert_many([{"_id": i} for i in range(50)])
        for _ in range(2):
            member = cluster.add().start()
            wait_for(member.hello, "the new one starts")

            def join(config: dict[str, Any], member: Member = member) -> None:
                config["members"].append({"_id": max(line["_id"] for line in config["members"]) + 1, "host": member.host})

            reconfigure(cluster, join)
            copied = functools.partial(lambda one: one.state() == "SECONDARY", member)
            wait_for(copied, "the new one has copied")
        wait_for(cluster.healthy, "five members")
        assert cluster.primary.status()["majorityVoteCount"] == 3

        def two(config: dict[str, Any]) -> None:
            gone = [member.host for member in cluster.secondaries][:2]
            config["members"] = [line for line in config["members"] if line["host"] not in gone]

        with pytest.raises(OperationFailure, match="at most 1 voting member") as error:
            reconfigure(cluster, two)
        assert error.value.code == 103
        for _ in range(2):
            gone = cluster.secondaries[0]

            def leave(config: dict[str, Any], gone: Member = gone) -> None:
                config["members"] = [line for line in config["members"] if line["host"] != gone.host]

            reconfigure(cluster, leave)
            gone.kill()
            cluster.members.remove(gone)
        wait_for(cluster.healthy, "three members")
        assert cluster.primary.admin.command("replSetGetConfig", commitmentStatus=True)["commitmentStatus"]
        assert client.grow.docs.count_documents({}) == 50


def test_arbiter_hidden_and_delayed_members(own: Own) -> None:
    cluster = own(4)
    cluster.start()
    cluster.initiate({"priority": 2}, {}, {"arbiterOnly": True}, {"priority": 0, "hidden": True, "votes": 0, "secondaryDelaySecs": 2})
    first, _, arbiter, delayed = cluster.members
    assert arbiter.hello()["arbiterOnly"]
    assert delayed.hello()["hidden"] and delayed.host not in first.hello()["hosts"]
    assert first.status()["writeMajorityCount"] == 2 and first.status()["writableVotingMembersCount"] == 2
    first.admin.client.late.docs.insert_one({"_id": 1})
    assert delayed.admin.client.late.docs.count_documents({}) == 0
    wait_for(lambda: delayed.admin.client.late.docs.count_documents({}) == 1, "the delay is over")
    # An arbiter keeps the primary, but not the write majority.
    cluster.members[1].kill()
    time.sleep(3)
    assert first.hello()["isWritablePrimary"]
    with pytest.raises(pymongo.errors.WTimeoutError):
        first.admin.client.late.docs.with_options(write_concern=pymongo.WriteConcern("majority", wtimeout=300)).insert_one({"_id": 2})
