# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import checks

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://worker"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_member(host, value, "worker", containers, secrets)


def test_listens_on_nothing(containers: Containers) -> None:
    assert [(service, c["HostConfig"]["PortBindings"]) for service, c in containers.items() if c["HostConfig"]["PortBindings"]] == []


def test_finds_what_it_needs(host: Host, containers: Containers) -> None:
    """Its neighbours, over TLS."""
    identity = containers["worker"]["Id"]
    for question in (checks.ASK_QUEUE, checks.ASK_STORE):
        host.check_output("docker exec %s python3 -c %s", identity, question)
