# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a cluster of stand-ins (three processes) and against a real Community server (NEO4J_JARS names its jars), over TLS.

The stand-in is tried with the official driver here as well: routing, a write after a change of leader, refusals.
"""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ports import free_ports

neo4j = pytest.importorskip("neo4j")
from neo4j.exceptions import AuthError, ClientError, WriteServiceUnavailable  # noqa: E402 - after the skip

pytestmark = pytest.mark.servers

STANDIN = pathlib.Path(__file__).parents[3] / "standins" / "neo4j"
JARS, JAVA = os.environ.get("NEO4J_JARS", ""), shutil.which("java")
PASSWORD = "correct-horse"
NAMES = ("data1", "data2", "data3")


def until(condition, seconds: float = 60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def codes(result) -> list[str]:
    return [reason["key"] for reason in result["reasons"]]


class Cluster:
    """Three stand-ins. ``fault`` speaks to a member's control port."""

    def __init__(self, authority, directory):
        leaf = authority.leaf("127.0.0.1")
        ports = free_ports(9)
        self.authority, self.directory, self.processes = authority, directory, {}
        self.members = [{"name": name, "bolt": f"127.0.0.1:{ports[i]}", "http": f"127.0.0.1:{ports[i + 3]}"} for i, name in enumerate(NAMES)]
        self.controls = dict(zip(NAMES, ports[6:], strict=True))
        for name in NAMES:
            tls = {"certificate": str(leaf.certificate), "key": str(leaf.key), "ca": str(authority.file)}
            config = {"name": name, "members": self.members, "control": f"127.0.0.1:{self.controls[name]}", "tls": tls, "databases": {"neo4j": 3, "system": 3}}
            (directory / f"{name}.json").write_text(json.dumps({**config, "username": "neo4j", "password": PASSWORD}))
            self.start(name)

    def start(self, name):
        self.processes[name] = subprocess.Popen([sys.executable, str(STANDIN), str(self.directory / f"{name}.json")], stdout=subprocess.DEVNULL)

    def stop(self, name, by=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(by)
        process.wait(10)

    def control(self, name, method="GET", document=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.controls[name], timeout=10)
        try:
            connection.request(method, "/", None if document is None else json.dumps(document))
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    def fault(self, name, **fault):
        assert self.control(name, "PUT", fault) == fault

    def leaders(self, name, database):
        state = self.control(name)
        return state and state["groups"][database]["leader"]

    def settled(self):
        """Whether all that run agree on one leader of each database, that runs."""
        found = {database: {self.leaders(name, database) for name in self.processes} for database in ("neo4j", "system")}
        return all(len(leaders) == 1 and leaders <= set(self.processes) for leaders in found.values())

    def driver(self, scheme="neo4j", name="data1", **options):
        address = next(member["bolt"] for member in self.members if member["name"] == name)
        trust = neo4j.TrustCustomCAs(str(self.authority.file))
        options = {"auth": ("neo4j", PASSWORD), "encrypted": True, "trusted_certificates": trust, "connection_timeout": 5, **options}
        return neo4j.GraphDatabase.driver(f"{scheme}://{address}", **options)


@pytest.fixture(scope="module")
def three(authority, tmp_path_factory):
    cluster = Cluster(authority, tmp_path_factory.mktemp("cluster"))
    try:
        until(cluster.settled)
        yield cluster
    finally:
        for name in list(cluster.processes):
            cluster.stop(name)


@pytest.fixture
def healed(three):
    """The cluster, whole before each test."""
    for name in NAMES:
        if name not in three.processes:
            three.start(name)
    for name in NAMES:
        until(lambda name=name: three.control(name, "PUT", {}) == {})
    until(three.settled)
    time.sleep(1)
    return three


@pytest.fixture
def ask(run_module, authority):
    def run(asked, **params):
        defaults = {
            "members": asked,
            "password": PASSWORD,
            "ca_file": str(authority.file),
            "timeout": 5,
            "successes": 1,
            "failures": 1,
            "min_healthy_time": 0,
            "healthy_deadline": 60,
            "required": False,
        }
        result = run_module("neo4j_gate", **{**defaults, **params})
        assert PASSWORD not in json.dumps(result)
        return result

    return run


@pytest.fixture
def ask_cluster(healed, ask):
    members = [{"name": member["name"], "address": member["bolt"], "http_address": member["http"]} for member in healed.members]
    return lambda **params: ask(members, edition="enterprise", **params)


def test_a_whole_cluster(healed, ask_cluster):
    result = ask_cluster(expect_version="2025.01.0", successes=2, interval=0.2)
    assert (result["verdict"], result["margin"], codes(result)) == ("pass", 1, [])
    leaders = {database: found["leader"] for database, found in result["observed"]["databases"].items()}
    assert leaders == {database: [healed.leaders("data3", database)] for database in ("neo4j", "system")}
    before = ask_cluster(phase="before", target="data1")
    assert (before["verdict"], before["margin"]) == ("pass", 0)


def test_a_member_that_is_restarted(healed, ask_cluster):
    begin = time.time()
    healed.stop("data1")
    assert {"NEO_REFUSED data1"} <= set(codes(ask_cluster(wait=False)))
    until(lambda: "NEO_NO_MAJORITY neo4j" in codes(ask_cluster(phase="before", target="data2", wait=False)))
    healed.start("data1")
    result = ask_cluster(phase="after", target="data1", expect_version="5.26.30", not_before=begin)
    assert (result["verdict"], codes(result)) == ("pass", [])
    assert result["progress"] > 0
    assert "NEO_NOT_RESTARTED data1" in codes(ask_cluster(phase="after", target="data1", not_before=time.time() + 5))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"unhealthy": ["neo4j"]}, "NEO_UNHEALTHY data3/neo4j"),
        ({"not_participating": ["neo4j"]}, "NEO_NOT_PARTICIPATING data3/neo4j"),
        ({"lag": {"neo4j": 500}}, "NEO_MEMBER_STATUS data3/neo4j"),
        ({"databases": {"neo4j": {"current": "quarantined", "message": "by an administrator"}}}, "NEO_DATABASE_FAILED data3/neo4j"),
        ({"databases": {"neo4j": {"current": "store copying"}}}, "NEO_DATABASE_STARTING data3/neo4j"),
        ({"cordoned": True}, "NEO_SERVER_STATE data3"),
    ],
)
def test_faults(healed, ask_cluster, fault, code):
    healed.fault("data3", **fault)
    until(lambda: code in codes(ask_cluster(wait=False)))


def test_a_partition_seen_from_both_sides(healed, ask_cluster):
    healed.fault("data3", partition=["data1", "data2"])
    until(lambda: healed.leaders("data3", "neo4j") == "")
    found = codes(until(lambda: (result := ask_cluster(wait=False)) and "NEO_NO_LEADER data3/neo4j" in codes(result) and result))
    assert {"NEO_VOTING_SETS neo4j", "NEO_SERVER_UNAVAILABLE data3"} <= set(found)
    assert "NEO_NO_MAJORITY neo4j" in codes(ask_cluster(phase="before", target="data1", wait=False))


def test_a_member_that_hangs(healed, ask_cluster):
    healed.fault("data3", freeze=True)
    result = ask_cluster(phase="before", target="data1", wait=False, timeout=1)
    assert "NEO_NO_MAJORITY neo4j" in codes(result)


def test_wrong_password_and_strange_authority(ask_cluster, stranger):
    result = ask_cluster(password="wrong-horse", wait=False)
    assert result["verdict"] == "unknown" and "NEO_AUTH data1" in codes(result) and "wrong-horse" not in json.dumps(result)
    result = ask_cluster(ca_file=str(stranger.file), wait=False)
    assert result["verdict"] == "fail" and "NEO_TLS data1" in codes(result)


def test_the_driver_follows_the_leader(healed):
    with healed.driver() as driver:
        driver.verify_connectivity()
        driver.execute_query("CREATE (n:Probe)", database_="neo4j")
        leader = healed.leaders("data2", "neo4j")
        healed.stop(leader)
        until(lambda: healed.leaders("data2", "neo4j") not in ("", leader))
        driver.execute_query("CREATE (n:Probe)", database_="neo4j")
        records, _summary, _keys = driver.execute_query("RETURN 1 AS one", database_="neo4j", routing_=neo4j.RoutingControl.READ)
        assert [record["one"] for record in records] == [1]


def test_the_standin_refuses_as_a_server_does(healed):
    with healed.driver("bolt", auth=("neo4j", "wrong-horse")) as driver, pytest.raises(AuthError):
        driver.verify_connectivity()
    follower = next(name for name in NAMES if name != healed.leaders("data1", "neo4j"))
    with healed.driver("bolt", follower) as driver, driver.session(database="neo4j") as session:
        # what the driver makes of Neo.ClientError.Cluster.NotALeader where it does not route
        with pytest.raises(WriteServiceUnavailable):
            session.run("CREATE (n:Probe)").consume()
        with pytest.raises(ClientError):
            session.run("MATCH (n) RETURN n").consume()
        # a connection serves on after a refusal
        assert session.run("RETURN 1").single()[0] == 1


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"members": [{"name": "data1", "address": "192.0.2.31"}], "plain": True}, "http is accepted on the loopback only"),
        ({"members": [{"name": "data1", "address": "192.0.2.31:x"}]}, "accepted is HOST:PORT"),
        ({"newest": 1, "outbox": {"uri": "mongodb://127.0.0.1", "database": "x"}}, "mutually exclusive"),
        ({"outbox": {"uri": "ftp://mongodb", "database": "x"}}, "outbox.uri cannot be used"),
        ({"ca_file": "/nowhere"}, "ca_file is"),
    ],
)
def test_options_that_cannot_be_used(ask, params, text):
    assert text in ask([{"name": "data1", "address": "127.0.0.1:1"}], **params)["msg"]


# Community, real


@pytest.fixture(scope="module")
def community(authority, tmp_path_factory):
    """The address of a server that has just been started."""
    if not (JARS and JAVA):
        pytest.skip("needs java, and the jars of Neo4j Community in the directory NEO4J_JARS")
    home, leaf, (bolt,) = tmp_path_factory.mktemp("neo4j"), authority.leaf("127.0.0.1"), free_ports(1)
    (home / "conf").mkdir()
    (home / "ssl").mkdir()
    shutil.copy(leaf.certificate, home / "ssl" / "public.crt")
    shutil.copy(leaf.key, home / "ssl" / "private.key")
    settings = {
        "server.bolt.listen_address": f"127.0.0.1:{bolt}",
        "server.bolt.advertised_address": f"127.0.0.1:{bolt}",
        "server.bolt.tls_level": "REQUIRED",
        "server.http.enabled": "false",
        "dbms.ssl.policy.bolt.enabled": "true",
        "dbms.ssl.policy.bolt.base_directory": str(home / "ssl"),
        "dbms.ssl.policy.bolt.private_key": "private.key",
        "dbms.ssl.policy.bolt.public_certificate": "public.crt",
        "dbms.ssl.policy.bolt.client_auth": "NONE",
        "db.tx_log.preallocate": "false",
        "db.tx_log.rotation.size": "16m",
        "server.memory.pagecache.size": "32m",
        "internal.dbms.bolt.netty_server_shutdown_quiet_period": "0",
        "dbms.usage_report.enabled": "false",
    }
    (home / "conf" / "neo4j.conf").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = [JAVA, "-Xmx160m", "-XX:+UseSerialGC", "-cp", f"{JARS}/*"]
    environment = {**os.environ, "NEO4J_HOME": str(home), "NEO4J_CONF": str(home / "conf")}
    subprocess.run([*java, "org.neo4j.cli.AdminTool", "dbms", "set-initial-password", PASSWORD], env=environment, check=True, capture_output=True, timeout=300)
    opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.nio", "java.io", "sun.nio.ch")]
    entry = ["org.neo4j.server.CommunityEntryPoint", f"--home-dir={home}", f"--config-dir={home / 'conf'}", "--console-mode"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([*java[:1], *opens, *java[1:], *entry], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or b"Started." in (home / "log").read_bytes(), 300)
        assert process.poll() is None, (home / "log").read_text()
        yield f"127.0.0.1:{bolt}"
    finally:
        process.terminate()
        process.wait(60)


def test_a_community_server(community, ask, authority, stranger):
    members = [{"name": "data1", "address": community}]
    began = time.time() - 3600
    result = ask(members, phase="after", target="data1", expect_version="5.26.30", not_before=began, newest=0, healthy_deadline=300)
    assert (result["verdict"], codes(result)) == ("pass", [])
    assert result["observed"]["members"]["data1"]["databases"] == {"neo4j": "online", "system": "online"}

    # a new member catches up with the outbox
    assert codes(ask(members, newest=500, wait=False)) == ["NEO_LAG data1"]
    trust = neo4j.TrustCustomCAs(str(authority.file))
    with neo4j.GraphDatabase.driver(f"bolt://{community}", auth=("neo4j", PASSWORD), encrypted=True, trusted_certificates=trust) as driver:
        driver.execute_query("MERGE (o:Outbox {id: 'position'}) SET o.number = 450", database_="neo4j")
        result = ask(members, phase="after", target="data1", newest=500)
        assert (result["verdict"], result["progress"]) == ("pass", 450)
        driver.execute_query("MERGE (o:Outbox {id: 'position'}) SET o.number = 'x'", database_="neo4j")
        assert codes(ask(members, newest=500, wait=False)) == ["NEO_POSITION_UNKNOWN data1"]

    assert codes(ask(members, phase="before", target="data1", wait=False)) == ["NEO_SINGLE data1"]
    assert "NEO_NOT_RESTARTED data1" in codes(ask(members, phase="after", target="data1", not_before=time.time() + 1, wait=False))
    assert codes(ask(members, database="shop", wait=False)) == ["NEO_DATABASE_UNAVAILABLE data1"]
    assert codes(ask(members, password="wrong-horse", wait=False)) == ["NEO_AUTH data1"]
    assert codes(ask(members, ca_file=str(stranger.file), wait=False)) == ["NEO_TLS data1"]
    nobody = ask(members, outbox={"uri": "mongodb://127.0.0.1:1/", "database": "platform"}, timeout=1, wait=False)
    assert (nobody["verdict"], codes(nobody)) == ("unknown", ["NEO_OUTBOX_UNKNOWN"])
