# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import checks

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://api"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_member(host, value, "api", containers, secrets)


def test_listens_on_the_hosts_own_address_only(host: Host, value: Value, containers: Containers) -> None:
    address = value("platform_address")
    bindings = [b for c in containers.values() for found in c["HostConfig"]["PortBindings"].values() for b in found]
    assert bindings and {b["HostIp"] for b in bindings} == {address}


def test_is_ready_with_all_dependencies(host: Host, value: Value) -> None:
    answer = checks.get(host, f"https://{value('platform_address')}:{value('__api_port')}/ready", ca(value))
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)


def test_errors_are_problems(host: Host, value: Value) -> None:
    answer = checks.get(host, f"https://{value('platform_address')}:{value('__api_port')}/api/v1/nowhere", ca(value))
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("application/problem+json")


def ca(value: Value) -> str:
    return f"{value('platform_root')}/api/live/tls/ca.crt"
