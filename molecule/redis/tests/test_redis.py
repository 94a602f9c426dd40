# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import checks

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://redis"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_member(host, value, "redis", containers, secrets)


PLAIN = """
import socket, sys
with socket.create_connection((sys.argv[1], 6379), 5) as stream:
    try:
        stream.sendall(b"PING\\r\\n")
        print(stream.recv(64))
    except ConnectionError:
        print("reset")
"""


def ask(host: Host, containers: Containers, service: str, port: int, *words: str) -> list[str]:
    """A command to this member's server as the administrator, with the role's own shell function."""
    script = f'. /etc/platform/lib.sh; cli admin "$SELF" {port} {" ".join(words)}'
    return str(host.check_output("docker exec %s sh -c %s", containers[service]["Id"], script)).splitlines()


def test_listens_with_tls_only_on_the_hosts_own_address(host: Host, value: Value) -> None:
    mine = {(address, port) for address, port in checks.listeners(host) if port in (6379, 6380, 26379)}
    assert mine == {(value("platform_address"), port) for port in (6379, 6380, 26379)}


def test_refuses_plain_text(host: Host, value: Value) -> None:
    out = host.check_output("python3 -c %s %s", PLAIN, value("platform_address"))
    assert out in ("b''", "reset")


def test_refuses_clients_without_a_user(host: Host, value: Value, containers: Containers) -> None:
    out = host.check_output("docker exec %s redis-cli --tls --cacert /live/tls/ca.crt -h %s -p 6379 ping", containers["cache"]["Id"], value("platform_address"))
    assert "NOAUTH" in out


def test_sentinels_agree_on_the_masters(host: Host, value: Value, containers: Containers) -> None:
    """Every Sentinel sees all others, and its master is what a majority can name."""
    members = value("redis_members")
    for service in ("cache", "queue"):
        lines = ask(host, containers, "sentinel", 26379, "SENTINEL", "MASTER", service)
        state = dict(zip(lines[::2], lines[1::2], strict=True))
        assert state["ip"] in members
        assert state["flags"] == "master"
        assert int(state["num-other-sentinels"]) == len(members) - 1
        assert int(state["num-slaves"]) == len(members) - 1
        assert ask(host, containers, "sentinel", 26379, "SENTINEL", "CKQUORUM", service)[0].startswith("OK")


def test_follows_the_master_that_the_sentinels_name(host: Host, value: Value, containers: Containers) -> None:
    for service, port in (("cache", 6379), ("queue", 6380)):
        named = ask(host, containers, "sentinel", 26379, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)[0]
        role = ask(host, containers, service, port, "ROLE")
        if named == value("platform_address"):
            assert role[0] == "master"
        else:
            assert role[:2] == ["slave", named]
            assert role[3] == "connected"


def test_queue_survives_a_restart(host: Host, containers: Containers) -> None:
    for setting, wanted in (("appendonly", "yes"), ("maxmemory-policy", "noeviction")):
        assert ask(host, containers, "queue", 6380, "CONFIG", "GET", setting) == [setting, wanted]
