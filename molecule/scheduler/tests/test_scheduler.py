# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import checks

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://scheduler"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]


def test_containers_are_confined(containers: Containers) -> None:
    checks.assert_confined(containers)


def test_containers_run_the_current_release(host: Host, value: Value, containers: Containers) -> None:
    checks.assert_current_release(host, value("platform_root"), "scheduler", containers)


def test_secrets_are_files_of_the_tiers_user(host: Host, value: Value) -> None:
    checks.assert_secret_files(host, value("platform_root"), "scheduler", value("scheduler_uid"))


def test_docker_inspect_shows_no_secret(containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_no_secret(containers, secrets)


def test_listens_on_nothing(containers: Containers) -> None:
    assert [(service, c["HostConfig"]["PortBindings"]) for service, c in containers.items() if c["HostConfig"]["PortBindings"]] == []


def test_finds_what_it_needs(host: Host, containers: Containers) -> None:
    """The health command of the application asks its neighbours over TLS."""
    identity = containers["scheduler"]["Id"]
    assert host.run("docker exec %s python3 -m pipeline health", identity).rc == 0
