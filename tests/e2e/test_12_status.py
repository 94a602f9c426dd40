# SPDX-License-Identifier: GPL-3.0-or-later
"""How the platform is, as one table and as JSON, with an exit code for monitoring."""

from __future__ import annotations

import json
import pathlib

import support


def status(tmp_path: pathlib.Path) -> tuple[support.Run, dict]:
    file = tmp_path / "status.json"
    run = support.playbook("status", "-e", f"status_file={file}", playbook="playbooks/status.yml")
    return run, json.loads(file.read_text())


def test_a_healthy_platform_is_well_and_told(tmp_path):
    run, report = status(tmp_path)
    assert (run.code, report["ok"]) == (0, True), report["text"]
    assert run.changed() == {}
    members = {(member["tier"], member["host"]) for member in report["members"]}
    assert members == {(tier, host) for tier in report["tiers"] for host in support.group(tier)}
    assert {"edge", "api", "worker", "scheduler", "minio", "redis", "mongodb", "neo4j"} == set(report["tiers"])
    assert all(member["release"] for member in report["members"])
    assert all(member["certificate_days"] > 0 for member in report["members"] if member["tier"] not in ("worker", "scheduler"))
    # Every member's version, and the role of those that have one.
    assert all(member["version"] for member in report["members"])
    roles = {tier: sorted(member["role"] for member in report["members"] if member["tier"] == tier) for tier in ("mongodb", "redis")}
    assert roles["mongodb"] == ["primary", "secondary", "secondary"]
    assert all("master" in role or "replica" in role for role in roles["redis"])
    assert all(gate["margin"] is not None and gate["margin"] >= 1 for tier in ("minio", "mongodb", "redis") for gate in report["tiers"][tier].values())
    assert sorted(report["tiers"]["redis"]) == ["cache", "queue"]
    assert "All is well." in run.text
    print(f"{run.seconds:.1f} s\n{report['text']}")


def test_a_member_that_is_down_is_named(tmp_path):
    host = support.group("worker")[0]
    support.ssh(host, "docker stop -t 1 worker-worker-1")
    try:
        run, report = status(tmp_path)
    finally:
        support.ssh(host, "docker start worker-worker-1")
    assert run.code != 0
    assert not report["ok"]
    assert f"worker {host}: worker is exited" in report["text"]
    support.wait_for("all is well again", lambda: status(tmp_path)[0].code == 0, 240)
