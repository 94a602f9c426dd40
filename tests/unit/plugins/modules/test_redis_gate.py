# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate beside three real Redis servers and three Sentinels on the loopback address, with TLS and with a user who may do what is documented."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import subprocess
import time
import typing as t

import pytest
from ports import free_ports

redis = pytest.importorskip("redis")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not (shutil.which("redis-server") and shutil.which("redis-sentinel")), reason="redis-server and redis-sentinel are not installed"),
]

SECRET, GATE_SECRET = "admin-of-the-tests", "gate-of-the-tests"
NAMES = ("data1", "data2", "data3")
RIGHTS = "resetkeys ~platform:gate resetchannels -@all +ping +info +config|get +set +wait +del"
SENTINEL_RIGHTS = "resetkeys resetchannels -@all +ping +sentinel|master +sentinel|get-master-addr-by-name +sentinel|replicas +sentinel|ckquorum"


class Replication:
    """data1 begins as the master. A Sentinel finds a server down after three seconds."""

    def __init__(self, root: pathlib.Path, authority: t.Any) -> None:
        self.root, self.authority = root, authority
        self.leaf = authority.leaf("127.0.0.1")
        ports = free_ports(6)
        self.ports = dict(zip(NAMES, ports[:3], strict=True))
        self.sentinel_ports = dict(zip(NAMES, ports[3:], strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in NAMES:
            first = [] if name == "data1" else [f"replicaof 127.0.0.1 {self.ports['data1']}"]
            self.write(
                name, self.ports[name], f"user gate on >{GATE_SECRET} {RIGHTS}", f"masterauth {SECRET}", "masteruser admin", "appendonly yes",
                "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", *first,
            )  # fmt: skip
            self.write(
                f"{name}-sentinel", self.sentinel_ports[name], f"user gate on >{GATE_SECRET} {SENTINEL_RIGHTS}",
                f"sentinel monitor queue 127.0.0.1 {self.ports['data1']} 2", "sentinel auth-user queue admin", f"sentinel auth-pass queue {SECRET}",
                "sentinel down-after-milliseconds queue 3000", "sentinel failover-timeout queue 6000",
                "sentinel sentinel-user admin", f"sentinel sentinel-pass {SECRET}",
            )  # fmt: skip

    def write(self, name: str, port: int, *lines: str) -> None:
        directory = self.root / name
        directory.mkdir()
        common = [
            "bind 127.0.0.1", "port 0", f"tls-port {port}", f"tls-cert-file {self.leaf.certificate}", f"tls-key-file {self.leaf.key}",
            f"tls-ca-cert-file {self.authority.file}", "tls-auth-clients no", "tls-replication yes", f"dir {directory}",
            "user default off", f"user admin on >{SECRET} ~* &* +@all",
        ]  # fmt: skip
        (directory / "redis.conf").write_text("\n".join([*common, *lines]) + "\n", encoding="utf-8")

    def start(self, name: str) -> None:
        binary = "redis-sentinel" if name.endswith("sentinel") else "redis-server"
        with (self.root / name / "redis.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([binary, str(self.root / name / "redis.conf")], stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def close(self) -> None:
        for name in list(self.processes):
            self.stop(name)

    def admin(self, port: int) -> t.Any:
        return redis.Redis(
            host="127.0.0.1", port=port, username="admin", password=SECRET, ssl=True, ssl_ca_certs=str(self.authority.file), decode_responses=True
        )

    def parameters(self, **changes: t.Any) -> dict[str, t.Any]:
        return {
            "members": [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in self.ports.items()],
            "sentinels": [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in self.sentinel_ports.items()],
            "master_name": "queue", "ca_file": str(self.authority.file), "username": "gate", "password": GATE_SECRET,
            "successes": 1, "min_healthy_time": 0, "interval": 0.5, "healthy_deadline": 180, "progress_deadline": 180, "hard_deadline": 180, **changes,
        }  # fmt: skip


@pytest.fixture(scope="module")
def replication(tmp_path_factory: pytest.TempPathFactory, authority: t.Any) -> t.Iterator[Replication]:
    with contextlib.closing(Replication(tmp_path_factory.mktemp("redis"), authority)) as replication:
        for name in NAMES:
            replication.start(name)
            replication.start(f"{name}-sentinel")
        yield replication


def codes(result: dict[str, t.Any]) -> set[str]:
    text = json.dumps({key: value for key, value in result.items() if key != "invocation"})
    assert SECRET not in text and GATE_SECRET not in text
    return {reason["key"] for reason in result["reasons"]}


# The tests build on each other: starting six processes for each would take minutes.


def test_a_replication_that_starts_becomes_healthy(replication: Replication, run_module: t.Any):
    result = run_module("redis_gate", **replication.parameters(phase="final"))
    assert (result["verdict"], result["margin"], result["rc"]) == ("pass", 1, 0), result["msg"]
    assert (result["observed"]["master"], result["observed"]["probed"]) == ("data1", True)
    assert replication.admin(replication.ports["data1"]).keys() == []
    result = run_module("redis_gate", **replication.parameters(phase="preflight"))
    assert result["verdict"] == "pass", result["msg"]


def test_in_check_mode_nothing_is_written(replication: Replication, run_module: t.Any):
    result = run_module("redis_gate", **replication.parameters(phase="final", wait=False, _ansible_check_mode=True))
    assert (result["verdict"], result["observed"]["probed"]) == ("pass", False), result["msg"]


@pytest.mark.parametrize(
    ("target", "hand_over", "verdict", "found"),
    [("data2", False, "pass", set()), ("data1", False, "fail", {"REDIS_MASTER data1"}), ("data1", True, "pass", set())],
)
def test_who_may_go(replication: Replication, run_module: t.Any, target: str, hand_over: bool, verdict: str, found: set[str]):
    result = run_module("redis_gate", **replication.parameters(phase="before", target=target, hand_over=hand_over))
    assert (result["verdict"], codes(result)) == (verdict, found), result["msg"]


def test_plain_replicas_need_no_sentinel(replication: Replication, run_module: t.Any):
    result = run_module("redis_gate", **replication.parameters(phase="before", target="data2", sentinels=[], master_name=""))
    assert (result["verdict"], result["margin"]) == ("pass", 1), result["msg"]


def test_a_wrong_password_and_a_wrong_authority_are_unknown(replication: Replication, run_module: t.Any, stranger: t.Any):
    for change, text in (({"password": "another"}, "invalid username-password"), ({"ca_file": str(stranger.file)}, "certificate verify failed")):
        result = run_module("redis_gate", **replication.parameters(phase="preflight", wait=False, **change))
        assert result["verdict"] == "unknown", result["msg"]
        assert {f"REDIS_UNSEEN {name}" for name in NAMES} | {f"REDIS_SENTINEL_UNSEEN {name}" for name in NAMES} <= codes(result)
        assert text in result["msg"]


def test_a_user_who_may_not_write_is_told(replication: Replication, run_module: t.Any):
    result = run_module("redis_gate", **replication.parameters(phase="final", wait=False, probe_key="somebody:else"))
    assert (result["verdict"], codes(result)) == ("unknown", {"REDIS_PROBE"}), result["msg"]


def test_a_sentinel_that_does_not_watch_this_master(replication: Replication, run_module: t.Any):
    result = run_module("redis_gate", **replication.parameters(phase="preflight", wait=False, master_name="cache"))
    assert (result["verdict"], codes(result)) == ("fail", {f"REDIS_SENTINEL_MISSING {name}" for name in NAMES}), result["msg"]


def test_a_replica_goes_and_comes_back(replication: Replication, run_module: t.Any):
    replication.stop("data2")
    replication.stop("data2-sentinel")
    result = run_module("redis_gate", **replication.parameters(phase="before", target="data3"))
    assert (result["verdict"], codes(result)) == ("fail", {"REDIS_LAST_REPLICA data3", "REDIS_SENTINEL_MAJORITY data3"}), result["msg"]
    asked = replication.parameters(phase="after", target="data2", not_before=time.time() - 1)
    result = run_module("redis_gate", **asked, wait=False)
    assert result["verdict"] == "wait" and {"REDIS_DOWN data2", "REDIS_SENTINEL_DOWN data2"} <= codes(result), result["msg"]
    replication.start("data2")
    replication.start("data2-sentinel")
    result = run_module("redis_gate", **asked)
    assert (result["verdict"], result["margin"]) == ("pass", 1), result["msg"]
    result = run_module("redis_gate", **{**asked, "not_before": time.time() + 60}, wait=False)
    assert (result["verdict"], codes(result)) == ("wait", {"REDIS_NOT_RESTARTED data2"}), result["msg"]


def test_a_hand_over_is_waited_for(replication: Replication, run_module: t.Any):
    replication.admin(replication.sentinel_ports["data1"]).execute_command("SENTINEL", "FAILOVER", "queue")
    result = run_module("redis_gate", **replication.parameters(phase="final"))
    assert result["verdict"] == "pass", result["msg"]
    deadline = time.monotonic() + 30
    while result["observed"]["master"] == "data1" and time.monotonic() < deadline:
        result = run_module("redis_gate", **replication.parameters(phase="final"))
    assert result["observed"]["master"] in ("data2", "data3"), result["msg"]
    result = run_module("redis_gate", **replication.parameters(phase="before", target="data1"))
    assert result["verdict"] == "pass", result["msg"]


def test_the_master_is_lost_and_comes_back_as_a_replica(replication: Replication, run_module: t.Any):
    master = run_module("redis_gate", **replication.parameters(phase="preflight"))["observed"]["master"]
    replication.stop(master)
    asked = replication.parameters(phase="after", target=master, not_before=time.time() - 1)
    result = run_module("redis_gate", **asked, wait=False)
    assert result["verdict"] != "pass" and f"REDIS_DOWN {master}" in codes(result), result["msg"]
    replication.start(master)
    result = run_module("redis_gate", **asked)
    assert result["verdict"] == "pass", result["msg"]
    result = run_module("redis_gate", **replication.parameters(phase="final"))
    assert (result["verdict"], result["margin"]) == ("pass", 1), result["msg"]
