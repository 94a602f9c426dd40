# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a replica set of stand-in processes: PyMongo, TLS, passwords, elections and faults are real."""

from __future__ import annotations

import collections
import importlib.util
import pathlib
import sys
import time

import pytest

pytest.importorskip("pymongo")

import pymongo.monitoring

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import mongodb_fetch

STANDIN = pathlib.Path(__file__).resolve().parents[3] / "standins" / "mongod"
if not (STANDIN / "tests" / "replica.py").exists():
    pytest.skip("the stand-in for mongod is missing", allow_module_level=True)
pytestmark = pytest.mark.servers
# replica.py takes parts of the stand-in itself.
sys.path.append(str(STANDIN.parent))
specification = importlib.util.spec_from_file_location("mongod_replica", STANDIN / "tests" / "replica.py")
assert specification and specification.loader
replica = importlib.util.module_from_spec(specification)
specification.loader.exec_module(replica)

GATE_PASSWORD = "a-password-for-the-gate"
QUICK = {"successes": 2, "interval": 0.2, "healthy_deadline": 120.0, "progress_deadline": 120.0, "hard_deadline": 180.0, "min_disk_free": 0.0}


def name_of(cluster, member):
    return f"data{cluster.members.index(member) + 1}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    cluster = replica.Cluster(tmp_path_factory.mktemp("set"))
    try:
        cluster.start()
        cluster.initiate()
        roles = [{"role": "clusterMonitor", "db": "admin"}, {"role": "readWrite", "db": "platform_gate"}]
        cluster.primary.admin.command("createUser", "gate", pwd=GATE_PASSWORD, roles=roles, writeConcern={"w": 3})
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(shared):
    shared.heal()
    yield shared
    shared.heal()


@pytest.fixture
def ask(run_module, cluster):
    def run(phase="preflight", target="", **params):
        result = run_module(
            "mongodb_gate",
            **{
                "members": [{"name": name_of(cluster, member), "address": member.host} for member in cluster.members],
                "login_user": "gate",
                "login_password": GATE_PASSWORD,
                "ca_file": str(cluster.authority.file),
                "phase": phase,
                "target": target,
                "required": False,
                **QUICK,
                **params,
            },
        )
        assert GATE_PASSWORD not in str({name: value for name, value in result.items() if name != "invocation"})
        return result

    return run


def keys(result):
    return {reason["key"] for reason in result["reasons"]}


def test_a_healthy_set(ask, cluster):
    result = ask()
    assert (result["verdict"], result["margin"]) == ("pass", 1), result["msg"]
    assert result["observed"]["primary"] == name_of(cluster, cluster.primary)
    member = result["observed"]["members"]["data2"]
    assert member["version"] == cluster.members[1].version
    assert member["role"] == ("primary" if cluster.primary is cluster.members[1] else "secondary")
    assert member.get("lag", "0 s") in ("0 s", "1 s", "2 s")
    assert member["oplog_hours"] > 1
    assert member["fcv"] == "7.0"


def test_every_member_may_go(ask, cluster):
    for member in cluster.members:
        assert ask("before", name_of(cluster, member))["verdict"] == "pass"


def test_nobody_may_go_while_another_is_dead(ask, cluster):
    dead, target = cluster.secondaries
    dead.kill()
    replica.wait_for(lambda: cluster.primary.status()["members"][cluster.members.index(dead)]["health"] == 0, "the others notice")
    replica.wait_for(lambda: target.status()["members"][cluster.members.index(dead)]["health"] == 0, "the others notice")
    result = ask("before", name_of(cluster, target))
    assert (result["verdict"], result["margin"]) == ("fail", -1), result["msg"]
    assert keys(result) == {f"MDB_DOWN {name_of(cluster, dead)}", "MDB_QUORUM"}
    # The dead one itself takes nothing away.
    assert ask("before", name_of(cluster, dead))["verdict"] == "pass"


def test_one_that_only_we_cannot_reach_is_unknown(ask, cluster):
    members = [{"name": name_of(cluster, member), "address": member.host} for member in cluster.members]
    members[1]["address"] = f"127.0.0.1:{replica.free_ports(1)[0]}"
    result = ask(members=members, wait=False)
    assert result["verdict"] == "unknown"
    assert "MDB_UNREACHABLE data2" in keys(result)


def test_a_member_that_hangs_is_unknown(ask, cluster):
    secondary = cluster.secondaries[0]
    secondary.fault(set={"freeze": True})
    result = ask(wait=False)
    assert result["verdict"] in ("unknown", "fail")
    assert keys(result) & {f"MDB_UNREACHABLE {name_of(cluster, secondary)}", f"MDB_DOWN {name_of(cluster, secondary)}"}


def test_a_partition_between_the_members(ask, cluster):
    """The gate reaches all; the two others do not hear one."""
    alone = cluster.secondaries[0]
    others = [member for member in cluster.members if member is not alone]
    alone.fault(set={"partition": {"in": [m.host for m in others], "out": [m.host for m in others]}})
    for member in others:
        member.fault(set={"partition": {"in": [alone.host], "out": [alone.host]}})
    replica.wait_for(lambda: cluster.primary.status()["members"][cluster.members.index(alone)]["health"] == 0, "the others notice")
    target = next(member for member in others if member is not cluster.primary)
    result = ask("before", name_of(cluster, target), wait=False)
    assert result["verdict"] == "wait", result["msg"]
    assert f"MDB_PEERS {name_of(cluster, alone)}" in keys(result)


def test_a_wrong_password_is_unknown(ask):
    result = ask(login_password="another-password", wait=False)
    assert result["verdict"] == "unknown"
    assert {"MDB_REFUSED data1", "MDB_REFUSED data2", "MDB_REFUSED data3"} < keys(result) | {"MDB_CONFIG_UNSEEN"}
    assert "another-password" not in result["msg"]


def test_a_certificate_of_a_stranger_is_refused(ask, stranger):
    result = ask(ca_file=str(stranger.file), wait=False)
    assert result["verdict"] == "unknown"
    assert "certificate verify failed" in result["msg"]


def test_a_file_of_authorities_that_is_not_there(ask):
    result = ask(ca_file="/nowhere/ca.crt")
    assert result["failed"] and "ca_file" in result["msg"]


def test_a_restarted_member_is_back(ask, cluster):
    target = cluster.secondaries[0]
    restarted = time.time()
    assert target.terminate() == 0
    target.start()
    result = ask("after", name_of(cluster, target), expect_version=target.version, not_before=restarted, min_healthy_time=0.5)
    assert result["verdict"] == "pass", result["msg"]
    assert result["observed"]["probe"] == "pass"
    assert result["progress"] > 0
    # What was written is gone again.
    assert cluster.primary.admin.client["platform_gate"]["gate"].count_documents({}) == 0


def test_a_member_that_was_not_restarted_is_not_back(ask, cluster):
    target = name_of(cluster, cluster.secondaries[0])
    result = ask("after", target, not_before=time.time() + 5, wait=False)
    assert (result["verdict"], keys(result)) == ("wait", {f"MDB_RESTART {target}", f"MDB_PROBE {target}"})


def test_the_wrong_version_is_a_fail(ask, cluster):
    target = name_of(cluster, cluster.secondaries[0])
    result = ask("after", target, expect_version="8.0.4", min_healthy_time=0)
    assert (result["verdict"], result["polls"]) == ("fail", 2)
    assert f"MDB_VERSION {target}" in keys(result)


def test_check_mode_writes_nothing(ask, cluster):
    target = name_of(cluster, cluster.secondaries[0])
    result = ask("after", target, min_healthy_time=0, _ansible_check_mode=True)
    assert (result["verdict"], result["observed"]["probe"]) == ("pass", "left out in check mode")


def test_a_member_behind_is_waited_for(ask, cluster):
    target = cluster.secondaries[0]
    target.fault(set={"lag": 30})

    def behind():
        cluster.primary.admin.client["test"]["x"].insert_one({})
        return f"MDB_LAG {name_of(cluster, target)}" in keys(ask("after", name_of(cluster, target), wait=False, probe=False, max_lag=2.0))

    replica.wait_for(behind, "the gate sees the lag")
    target.fault(heal=True)
    assert ask("after", name_of(cluster, target), max_lag=2.0, min_healthy_time=0)["verdict"] == "pass"


def test_handing_over(ask, cluster):
    """Before the step-down the primary is ready to go, after it another one takes writes."""
    primary = cluster.primary
    target = name_of(cluster, primary)
    ready = ask("before", target)
    assert ready["verdict"] == "pass"
    assert keys(ask("before", target, handed_over=True, wait=False)) >= {f"MDB_STILL_PRIMARY {target}"}
    primary.admin.command("replSetStepDown", 60, secondaryCatchUpPeriodSecs=10)
    done = ask("before", target, handed_over=True)
    assert done["verdict"] == "pass", done["msg"]
    assert done["observed"]["probe"] == "pass"
    assert done["observed"]["primary"] != target
    # One term more, unless this machine was too busy for one election.
    assert done["observed"]["term"] > ready["observed"]["term"]
    primary.admin.command("replSetFreeze", 0)


def test_an_initial_sync(ask, cluster):
    """A member without data that finds nobody to copy from; the others see it in STARTUP2, and nobody can log in to it."""
    target = cluster.secondaries[0]
    name = name_of(cluster, target)
    target.fault(set={"partition": {"out": [member.host for member in cluster.members if member is not target]}})
    target.fault(do="initial_sync")
    replica.wait_for(lambda: cluster.primary.status()["members"][cluster.members.index(target)]["state"] == 5, "the primary sees it")
    unplanned = ask("after", name, probe=False)
    assert unplanned["verdict"] == "fail", unplanned["msg"]
    assert f"MDB_INITIAL_SYNC {name}" in keys(unplanned)
    planned = ask("after", name, probe=False, initial_sync_expected=True, wait=False)
    assert planned["verdict"] == "wait", planned["msg"]
    target.fault(heal=True)
    assert ask("after", name, initial_sync_expected=True, min_healthy_time=0)["verdict"] == "pass"


def test_a_healthy_member_is_asked_at_most_once_a_second(ask, cluster, monkeypatch):
    commands, hellos = collections.Counter(), collections.Counter()

    class Commands(pymongo.monitoring.CommandListener):
        def started(self, event):
            commands["{}:{}".format(*event.connection_id)] += 1

        def succeeded(self, event):
            pass

        failed = succeeded

    class Hellos(pymongo.monitoring.ServerHeartbeatListener):
        def started(self, event):
            hellos["{}:{}".format(*event.connection_id)] += 1

        def succeeded(self, event):
            pass

        failed = succeeded

    def counting(address, event_listeners, **options):
        return pymongo.MongoClient(address, event_listeners=[*event_listeners, Commands(), Hellos()], **options)

    monkeypatch.setattr(mongodb_fetch, "MongoClient", counting)
    ask(wait=False)
    first = commands.copy() + hellos
    commands.clear()
    hellos.clear()
    result = ask(interval=2.0, successes=6)
    assert result["verdict"] == "pass", result["msg"]
    for member in cluster.members:
        # The streaming monitor holds one hello open all the time, and measures the way's length with another every ten seconds.
        asked = commands[member.host] + hellos[member.host] + 1 - first[member.host]
        assert asked <= result["elapsed"]


def test_a_set_with_an_arbiter(run_module, tmp_path):
    """Nobody can log in to the arbiter; it is heard without a password, and its version is known."""
    cluster = replica.Cluster(tmp_path)
    try:
        cluster.start()
        seats = [{"_id": index, "host": member.host, "priority": 2 - index} for index, member in enumerate(cluster.members)]
        with cluster.members[0].client(user=None) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [*seats[:2], {**seats[2], "arbiterOnly": True}], "settings": replica.SETTINGS})
        # Who is elected first may hand over to the member of the higher priority at once.
        replica.wait_for(lambda: cluster.primary is cluster.members[0], "the primary of the highest priority")
        with cluster.members[0].client(user=None) as client:
            client.admin.command("createUser", "root", pwd=replica.ROOT_PASSWORD, roles=["root"])
        common = {
            "members": [{"name": name_of(cluster, member), "address": member.host} for member in cluster.members],
            "login_user": "root",
            "login_password": replica.ROOT_PASSWORD,
            "ca_file": str(cluster.authority.file),
            "required": False,
            **QUICK,
        }
        well = run_module("mongodb_gate", phase="final", expect_version=cluster.members[2].version, **common)
        assert well["verdict"] == "pass", well["msg"]
        assert well["observed"]["members"]["data3"]["role"] == "arbiter"
        assert run_module("mongodb_gate", phase="before", target="data3", **common)["verdict"] == "pass"
        secondary = run_module("mongodb_gate", phase="before", target=name_of(cluster, cluster.secondaries[0]), **common)
        assert (secondary["verdict"], keys(secondary)) == ("fail", {"MDB_ARBITER"})
        restarted = time.time()
        assert cluster.members[2].terminate() == 0
        cluster.members[2].start()
        back = run_module(
            "mongodb_gate", phase="after", target="data3", expect_version=cluster.members[2].version, not_before=restarted, min_healthy_time=0, **common
        )
        assert back["verdict"] == "pass", back["msg"]
    finally:
        cluster.close()
