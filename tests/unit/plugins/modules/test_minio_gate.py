# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate beside a real MinIO cluster of four nodes on the loopback address, with TLS. Set MINIO_BINARY or put ``minio`` into PATH."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

import pytest
from ports import free_ports

minio = pytest.importorskip("minio")
urllib3 = pytest.importorskip("urllib3")

BINARY = os.environ.get("MINIO_BINARY") or shutil.which("minio")
pytestmark = [pytest.mark.servers, pytest.mark.skipif(not BINARY, reason="no MinIO: set MINIO_BINARY or put `minio` into PATH")]

ACCESS, SECRET = "gate-tests", "a-secret-of-the-tests"
# In a container MinIO does not take a loopback address for a node. Without the file that tells it, it does not know that it is in one.
NO_CONTAINER = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", 'mount --rbind /proc "$1/proc" && exec chroot "$@"', "sh"]


class Cluster:
    """Four nodes with one drive each: parity 2, so three drives are needed for writing."""

    def __init__(self, root: pathlib.Path, authority: t.Any) -> None:
        self.root, self.authority = root, authority
        leaf = authority.leaf("127.0.0.1")
        (root / "certs" / "CAs").mkdir(parents=True)
        for source, name in ((leaf.certificate, "public.crt"), (leaf.key, "private.key"), (authority.file, "CAs/ca.crt")):
            shutil.copy(source, root / "certs" / name)
        self.ports = dict(zip(("data1", "data2", "data3", "data4"), free_ports(4), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.boxed = pathlib.Path("/.dockerenv").exists()
        self.base = pathlib.Path("/") if self.boxed else root
        if self.boxed:
            (root / "proc").mkdir()
            (root / "tmp").mkdir()
            try:
                os.link(str(BINARY), root / "minio")
            except OSError:
                shutil.copy(str(BINARY), root / "minio")

    def start(self, name: str) -> None:
        binary = "/minio" if self.boxed else str(BINARY)
        drives = [f"https://127.0.0.1:{port}{self.base / member}" for member, port in self.ports.items()]
        command = [binary, "server", f"--certs-dir={self.base / 'certs'}", f"--address=127.0.0.1:{self.ports[name]}", *drives]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.base), "MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET}
        # Drives may lie on the disk of the system.
        environment.update(MINIO_CI_CD="on", MINIO_BROWSER="off", MINIO_UPDATE="off")
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*NO_CONTAINER, str(self.root), *command] if self.boxed else command, env=environment, stdout=log, stderr=log
            )

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(30)

    def close(self) -> None:
        for name in list(self.processes):
            self.stop(name, signal.SIGKILL)

    def parameters(self, **changes: t.Any) -> dict[str, t.Any]:
        members = [{"name": name, "address": f"127.0.0.1:{port}"} for name, port in self.ports.items()]
        dials = {"successes": 1, "min_healthy_time": 0, "interval": 0.5, "healthy_deadline": 120, "progress_deadline": 120, "hard_deadline": 120}
        return {"members": members, "ca_file": str(self.authority.file), "access_key": ACCESS, "secret_key": SECRET, **dials, **changes}

    def client(self) -> t.Any:
        pool = urllib3.PoolManager(ca_certs=str(self.authority.file))
        return minio.Minio(endpoint=f"127.0.0.1:{self.ports['data1']}", access_key=ACCESS, secret_key=SECRET, region="us-east-1", http_client=pool)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, authority: t.Any) -> t.Iterator[Cluster]:
    with contextlib.closing(Cluster(tmp_path_factory.mktemp("minio"), authority)) as cluster:
        for name in cluster.ports:
            cluster.start(name)
        yield cluster


def codes(result: dict[str, t.Any]) -> list[str]:
    assert SECRET not in json.dumps(result)
    return sorted(reason["key"] for reason in result["reasons"])


# The tests build on each other: starting and healing a cluster for each would take minutes.


def test_a_cluster_that_starts_becomes_healthy(cluster: Cluster, run_module: t.Any):
    result = run_module("minio_gate", **cluster.parameters(phase="after", target="data1"))
    assert (result["verdict"], result["margin"], result["rc"]) == ("pass", 1, 0), result["msg"]
    result = run_module("minio_gate", **cluster.parameters(phase="preflight", min_free_percent=0.1))
    assert (result["verdict"], result["margin"], result["rc"]) == ("pass", 1, 0), result["msg"]
    assert result["observed"]["drives_online"] == 4


def test_a_node_of_a_healthy_cluster_may_go(cluster: Cluster, run_module: t.Any):
    result = run_module("minio_gate", **cluster.parameters(phase="before", target="data4", wait=False))
    assert (result["verdict"], result["margin"]) == ("pass", 0), result["msg"]


def test_the_probe_object_leaves_nothing_behind(cluster: Cluster, run_module: t.Any):
    client = cluster.client()
    client.make_bucket(bucket_name="probes")
    client.set_bucket_versioning(bucket_name="probes", config=minio.versioningconfig.VersioningConfig("Enabled"))
    client.put_object(bucket_name="probes", object_name="mine", data=io.BytesIO(b"x"), length=1)
    result = run_module("minio_gate", **cluster.parameters(phase="after", target="data4", probe_bucket="probes"))
    assert (result["verdict"], result["observed"]["probed"]) == ("pass", ["data4"]), result["msg"]
    assert [each.object_name for each in client.list_objects(bucket_name="probes", recursive=True, include_version=True)] == ["mine"]
    dry = run_module("minio_gate", **cluster.parameters(phase="after", target="data4", probe_bucket="probes", _ansible_check_mode=True))
    assert (dry["verdict"], dry["observed"]["probed"]) == ("pass", [])


def test_what_is_wrong_with_the_probe_is_unknown(cluster: Cluster, run_module: t.Any):
    result = run_module("minio_gate", **cluster.parameters(phase="after", target="data4", probe_bucket="missing", wait=False))
    assert (result["verdict"], codes(result), result["rc"]) == ("unknown", ["MINIO_PROBE data4"], 1)


def test_a_wrong_key_and_a_wrong_authority_are_unknown(cluster: Cluster, run_module: t.Any, stranger: t.Any):
    result = run_module("minio_gate", **cluster.parameters(phase="before", target="data4", wait=False, secret_key="another-secret"))
    assert (result["verdict"], codes(result)) == ("unknown", ["MINIO_DETAILS_UNSEEN"])
    assert "refused with SignatureDoesNotMatch" in result["msg"] and "another-secret" not in json.dumps(result)
    result = run_module("minio_gate", **cluster.parameters(phase="before", target="data4", wait=False, ca_file=str(stranger.file)))
    assert (result["verdict"], codes(result)) == ("unknown", [f"MINIO_UNSEEN {name}" for name in cluster.ports])
    assert "certificate verify failed" in result["msg"]


def test_a_name_that_is_no_member_is_refused(cluster: Cluster, run_module: t.Any):
    some = cluster.parameters()["members"][:3]
    result = run_module("minio_gate", **cluster.parameters(phase="before", target="data1", members=some, wait=False))
    assert "MINIO_MEMBERS" in codes(result) and result["verdict"] == "fail"


def test_without_one_node_no_other_may_go_and_it_is_seen_to_come_back_empty(cluster: Cluster, run_module: t.Any):
    cluster.stop("data4")
    result = run_module("minio_gate", **cluster.parameters(phase="before", target="data1"))
    assert (result["verdict"], codes(result)) == ("fail", ["MINIO_NEEDED data1"]), result["msg"]
    result = run_module("minio_gate", **cluster.parameters(phase="preflight", min_free_percent=0.1))
    assert (result["verdict"], codes(result)) == ("fail", ["MINIO_OFFLINE data4"]), result["msg"]

    asked = cluster.parameters(phase="after", target="data4", probe_bucket="probes", not_before=time.time())
    result = run_module("minio_gate", **asked, wait=False)
    assert (result["verdict"], codes(result)) == ("wait", ["MINIO_OFFLINE data4"])
    shutil.rmtree(cluster.root / "data4")
    cluster.start("data4")
    result = run_module("minio_gate", **asked)
    assert result["verdict"] == "pass", result["msg"]
    # The emptied drive has its share of the data again.
    assert list((cluster.root / "data4").glob("probes/mine*"))


def test_a_node_that_hangs_is_not_taken_for_healthy(cluster: Cluster, run_module: t.Any):
    process = cluster.processes["data4"].pid
    os.kill(process, signal.SIGSTOP)
    try:
        result = run_module("minio_gate", **cluster.parameters(phase="before", target="data1", wait=False))
        assert result["verdict"] in ("unknown", "fail"), result["msg"]
    finally:
        os.kill(process, signal.SIGCONT)


def test_the_same_process_is_not_a_restarted_one(cluster: Cluster, run_module: t.Any):
    asked = cluster.parameters(phase="after", target="data1", not_before=time.time() + 60, wait=False)
    deadline = time.monotonic() + 60
    while codes(result := run_module("minio_gate", **asked)) != ["MINIO_NOT_RESTARTED data1"] and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (result["verdict"], codes(result)) == ("wait", ["MINIO_NOT_RESTARTED data1"]), result["msg"]
