# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is in no allow list finds 80 and 443 on the VIP, and SSH; nothing else."""

from __future__ import annotations

import json
import subprocess

import pytest
import support

# Runs on the outsider: tries ports of addresses, at most 400 at a time, and prints those that accept a connection.
SCANNER = """
import asyncio, json, sys
wanted = json.load(sys.stdin)
limit = asyncio.Semaphore(400)
async def probe(address, port):
    async with limit:
        try:
            _reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 1.0)
        except (OSError, asyncio.TimeoutError):
            return None
        writer.close()
        return [address, port]
async def main():
    found = await asyncio.gather(*(probe(a, p) for a, ports in wanted.items() for p in ports))
    print(json.dumps(sorted(row for row in found if row)))
asyncio.run(main())
"""
WELL_KNOWN = [
    21,
    22,
    23,
    25,
    53,
    80,
    111,
    123,
    443,
    2375,
    2376,
    2379,
    3000,
    3306,
    4194,
    5000,
    5432,
    6443,
    8000,
    8001,
    8002,
    8080,
    8404,
    8443,
    9000,
    9001,
    9090,
    9093,
    9100,
    9102,
    10250,
    11211,
    15672,
    26379,
    27017,
    7474,
    7687,
    6379,
    6380,
]


@pytest.fixture(scope="module")
def outsider():
    """A container on the lab's network whose address no inventory knows."""
    made = subprocess.run(
        [*DOCKER, "run", "--detach", "--rm", "--network", "novacorrente-lab", "--entrypoint", "sleep", host_image(), "300"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    yield made
    subprocess.run([*DOCKER, "rm", "--force", made], capture_output=True, check=True)


DOCKER = ["docker"]


def host_image() -> str:
    return subprocess.run(
        [*DOCKER, "inspect", "--format", "{{.Config.Image}}", "novacorrente-lab-ops1"], capture_output=True, text=True, check=True
    ).stdout.strip()


def scan(outsider: str, wanted: dict[str, list[int]]) -> set[tuple[str, int]]:
    out = subprocess.run(
        [*DOCKER, "exec", "--interactive", outsider, "python3", "-c", SCANNER],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout
    return {(address, port) for address, port in json.loads(out)}


def listening(host: str) -> set[int]:
    """Ports on which anything on the host listens, published container ports included."""
    out = support.ssh(host, "ss -Hltn | awk '{print $4}' | sed 's/.*://'; docker ps --format '{{.Ports}}' | grep -o ':[0-9]*->' | tr -dc '0-9\\n'")
    return {int(line) for line in out.split()}


def test_an_outsider_finds_only_the_public_ports(outsider):
    ports = {host: sorted(listening(host) | set(WELL_KNOWN) | set(range(1, 1025))) for host in support.hosts()}
    everything = sorted({port for row in ports.values() for port in row})
    wanted = {support.address(host): row for host, row in ports.items()} | {support.vip(): everything}
    found = scan(outsider, wanted)
    allowed = {(support.vip(), 80), (support.vip(), 443)} | {(support.address(host), 22) for host in support.hosts()} | {(support.vip(), 22)}
    assert found <= allowed, sorted(found - allowed)
    assert {(support.vip(), 80), (support.vip(), 443), (support.address("data1"), 22)} <= found


def test_the_rules_hold_after_the_engine_restarted(outsider):
    host = support.group("api")[0]
    support.ssh(host, "systemctl restart docker")
    assert scan(outsider, {support.address(host): sorted(listening(host) - {22})}) == set()


def test_a_host_in_the_list_reaches_what_it_needs():
    minio, app, data = support.address("data2"), "app1", "data1"
    assert "open" in support.ssh(data, f"timeout 3 bash -c '</dev/tcp/{minio}/9000' && echo open")
    assert "open" not in support.ssh(app, f"timeout 2 bash -c '</dev/tcp/{minio}/9001' && echo open || true")


def test_rules_that_were_flushed_by_hand_come_back():
    support.ssh("data1", "nft delete table inet platform")
    run = support.playbook("firewall-flushed", "--limit", "data1", playbook="playbooks/host.yml")
    assert (run.code, list(run.changed())) == (0, ["data1"]), run.text[-3000:]
    assert "policy drop" in support.ssh("data1", "nft list table inet platform")
    assert support.playbook("firewall-flushed-again", "--limit", "data1", playbook="playbooks/host.yml").changed() == {}
