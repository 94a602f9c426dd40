# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import checks
import pytest

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

Value = t.Callable[[str], t.Any]


@pytest.fixture(scope="module")
def is_container(host: Host) -> bool:
    return bool(host.run("systemd-detect-virt --container --quiet").rc == 0)


@pytest.fixture(scope="module")
def table(host: Host) -> list[dict[str, t.Any]]:
    return list(json.loads(host.check_output("nft --json list table inet platform"))["nftables"])


@pytest.fixture(scope="module")
def sshd(host: Host) -> dict[str, str]:
    """The effective settings of the SSH server."""
    return dict(line.split(" ", 1) for line in host.check_output("sshd -T").splitlines() if " " in line)


@pytest.mark.parametrize("hook", ["input", "forward"])
def test_firewall_drops_by_default(table: list[dict[str, t.Any]], hook: str) -> None:
    chains = [item["chain"] for item in table if "chain" in item and item["chain"].get("hook") == hook]
    assert [chain["policy"] for chain in chains] == ["drop"]


def test_firewall_starts_at_boot(host: Host) -> None:
    service = host.service("platform-firewall")
    assert service.is_running
    assert service.is_enabled


def test_firewall_says_who_may_open_a_port(host: Host, table: list[dict[str, t.Any]]) -> None:
    """Every service rule but the public ones of the edge names its sources."""
    rules = [item["rule"]["expr"] for item in table if "rule" in item and item["rule"]["chain"] == "services"]
    for rule in rules:
        matches = [part["match"] for part in rule if "match" in part]
        ports = [m["right"] for m in matches if m["left"].get("ct", {}).get("key") == "proto-dst"]
        sourced = any(m["left"].get("payload", {}).get("field") == "saddr" for m in matches)
        public = ports in ([{"set": [80, 443]}], [80], [443])
        assert sourced or public, f"{checks.name(host)}: {rule}"


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("permitrootlogin", "no"),
        ("passwordauthentication", "no"),
        ("kbdinteractiveauthentication", "no"),
        ("permitemptypasswords", "no"),
        ("x11forwarding", "no"),
        ("allowagentforwarding", "no"),
        ("authenticationmethods", "publickey"),
    ],
)
def test_ssh_server_accepts_keys_only(sshd: dict[str, str], setting: str, wanted: str) -> None:
    assert sshd[setting] == wanted


def test_ssh_server_has_no_weak_algorithm(sshd: dict[str, str]) -> None:
    offered = " ".join(sshd[name] for name in ("kexalgorithms", "ciphers", "macs"))
    for weak in ("sha1", "md5", "cbc", "arcfour", "3des", "diffie-hellman-group1"):
        assert weak not in offered


def test_security_upgrades_leave_the_engine_alone(host: Host) -> None:
    settings = host.check_output("apt-config dump APT::Periodic::Unattended-Upgrade Unattended-Upgrade")
    assert 'APT::Periodic::Unattended-Upgrade "1"' in settings
    assert 'Automatic-Reboot "true"' not in settings
    for package in ("docker", "containerd", "runc"):
        assert any("Package-Blacklist" in line and package in line for line in settings.splitlines()), package


def test_clock_is_kept_in_step(host: Host, is_container: bool) -> None:
    if is_container:
        pytest.skip("a container has its machine's clock")
    assert host.service("chrony").is_running
    assert host.service("chrony").is_enabled


def test_kernel_settings_are_in_force(host: Host) -> None:
    """What the role wrote is what the kernel says; in a container the optional ones that it can't set are left out."""
    lines = [line.partition(" = ") for line in host.file("/etc/sysctl.d/60-platform.conf").content_string.splitlines() if " = " in line]
    wanted = {key: value.split() for key, _equals, value in lines if not key.startswith("#")}
    # Keys that this kernel does not have are not printed.
    out = host.run(f"sysctl --ignore {' '.join(key.lstrip('-') for key in wanted)}").stdout
    real = {key: value.split() for key, _equals, value in (line.partition(" = ") for line in out.splitlines())}
    for key, setting in wanted.items():
        if key.startswith("-") and key.lstrip("-") not in real:
            continue
        assert real.get(key.lstrip("-")) == setting, key


def test_journal_is_limited(host: Host, value: Value) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert f"SystemMaxUse={value('host_journal_max_use')}" in settings


def test_no_unit_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --state=failed --plain --no-legend") == ""
