# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds on every host once the whole platform is converged. The scenario also runs the tests of all roles."""

from __future__ import annotations

import typing as t

import checks

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

Value = t.Callable[[str], t.Any]
TIERS = ("minio", "redis", "mongodb", "neo4j", "edge", "api", "worker", "scheduler")


def test_each_tier_runs_where_the_inventory_says_and_nowhere_else(host: Host, value: Value) -> None:
    running = {tier for tier in TIERS if checks.containers(host, tier)}
    assert running == set(TIERS) & set(value("group_names"))


def test_all_containers_run_and_none_is_unhealthy(host: Host) -> None:
    # Filters of one kind add up, those of different kinds must all hold: hence two questions.
    assert host.check_output("docker ps --all --filter health=unhealthy --quiet") == ""
    assert host.check_output("docker ps --all --filter status=created --filter status=restarting --filter status=exited --filter status=dead --quiet") == ""


def test_no_unit_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --state=failed --plain --no-legend") == ""


def test_no_reaction_is_owed(host: Host) -> None:
    """A run that was killed remembers here what it still has to reload."""
    assert host.run("ls -A /var/lib/novacorrente/pending").stdout == ""


def test_no_process_shows_a_secret(host: Host, secrets: dict[str, str]) -> None:
    out = host.check_output("ps -eo args ww")
    assert [name for name, secret in secrets.items() if secret in out] == []
