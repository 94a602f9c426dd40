# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import json
import typing as t

import checks
import pytest

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

Value = t.Callable[[str], t.Any]


@pytest.fixture(scope="module")
def info(host: Host) -> dict[str, t.Any]:
    return dict(json.loads(host.check_output("docker info --format '{{json .}}'")))


@pytest.fixture(scope="module")
def daemon(host: Host) -> dict[str, t.Any]:
    return dict(json.loads(host.file("/etc/docker/daemon.json").content_string))


def test_engine_runs_and_starts_at_boot(host: Host) -> None:
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled


def test_engine_runs_with_its_settings(host: Host, info: dict[str, t.Any], value: Value) -> None:
    """What the running engine says, not what is written: a pending restart would show here."""
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "local"
    pools = [ipaddress.ip_network(pool["Base"]) for pool in info["DefaultAddressPools"]]
    assert pools == [ipaddress.ip_network(value("platform_container_networks"))]
    assert not host.file("/run/platform-docker-restart-pending").exists


def test_settings_confine_containers(daemon: dict[str, t.Any]) -> None:
    assert daemon["no-new-privileges"] is True
    assert daemon["userland-proxy"] is False
    assert daemon["icc"] is False


def test_logs_are_limited(daemon: dict[str, t.Any]) -> None:
    assert set(daemon["log-opts"]) >= {"max-size", "max-file"}


def test_engine_is_not_on_the_network(host: Host) -> None:
    assert "tcp://" not in host.check_output("ps -C dockerd -o args=")
    assert "hosts" not in json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert not {port for _address, port in checks.listeners(host)} & {2375, 2376}


def test_compose_is_version_2(host: Host) -> None:
    assert int(host.check_output("docker compose version --short").lstrip("v").split(".")[0]) >= 2


def test_apt_does_not_upgrade_the_engine(host: Host) -> None:
    """The candidate is what is installed: unattended upgrades leave it alone."""
    policy = host.check_output("apt-cache policy docker.io").splitlines()
    versions = {line.split(":")[0].strip(): line.split(": ", 1)[1] for line in policy if line.strip().startswith(("Installed", "Candidate"))}
    assert versions["Installed"] == versions["Candidate"]


def test_registry_login_can_be_read_by_root_only(host: Host, value: Value) -> None:
    if not value("platform_registry"):
        pytest.skip("no registry")
    login = host.file("/root/.docker/config.json")
    assert (login.user, login.mode) == ("root", 0o600)


def test_registry_is_trusted_by_the_platforms_ca_alone(host: Host, value: Value) -> None:
    if not value("platform_registry"):
        pytest.skip("no registry")
    assert host.file(f"/etc/docker/certs.d/{value('platform_registry')}/ca.crt").exists
    assert "insecure-registries" not in host.file("/etc/docker/daemon.json").content_string
