# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Community members under load: one is killed, loses its data, is rebuilt. No read and no write fails, and in the end both are equal."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import typing as t
import uuid

import load
import pytest
import support

COMPOSE = "docker compose --project-name neo4j"
BASE = "/srv/platform/neo4j"


@pytest.fixture(scope="module")
def members() -> list[str]:
    found = support.group("neo4j") if "neo4j" in support.inventory() else []
    if len(found) < 2:
        pytest.skip("the lab has no two members of Neo4j")
    return found


@pytest.fixture(scope="module")
def token() -> str:
    return load.token()


def applier(host: str, question: str) -> dict[str, t.Any]:
    return dict(json.loads(support.ssh(host, f"{COMPOSE} exec -T applier python3 -m app.applier --{question}")))


def equal(hosts: t.Sequence[str]) -> bool:
    """All members at the newest number, with one digest."""
    if any(applier(host, "lag")["lag"] for host in hosts):
        return False
    digests = [applier(host, "checksum") for host in hosts]
    return all(digest == digests[0] for digest in digests) and digests[0]["nodes"] > 0


def converge(log: str) -> None:
    run = support.playbook(log, "-e", "tier=neo4j", playbook="playbooks/tier.yml")
    assert run.code == 0, run.text[-3000:]


def check(traffic: load.Load) -> None:
    assert traffic.failures == [], traffic.failures[:5]
    assert traffic.written > 3 and traffic.reads > 3
    print(f"{traffic.written} insights written, {traffic.reads} reads, none failed")
    code, answer = load.ask(traffic.token, "GET", f"/api/v1/insights/{traffic.name(traffic.written - 1)}")
    assert (code, answer["id"]) == (200, traffic.name(traffic.written - 1))


def test_no_read_and_no_write_fails_while_a_member_is_killed_and_comes_back(members: list[str], token: str) -> None:
    with load.Load(token) as traffic:
        support.ssh(members[0], "docker kill neo4j-neo4j-1 neo4j-applier-1")
        time.sleep(10)
        converge("neo4j-killed")
        time.sleep(3)
    check(traffic)
    support.wait_for("equal members", lambda: equal(members), 120, 2)


def test_a_member_that_lost_its_data_builds_itself(members: list[str], token: str) -> None:
    with load.Load(token) as traffic:
        support.ssh(members[0], f"{COMPOSE} kill; rm -rf {BASE}/data/*")
        converge("neo4j-lost")
        took = support.wait_for("a member that follows", lambda: applier(members[0], "lag")["lag"] <= 100, 300, 1)
    check(traffic)
    print(f"following {took:.0f} s after the converge")
    support.wait_for("equal members", lambda: equal(members), 120, 2)


def test_a_second_converge_changes_nothing(members: list[str]) -> None:
    run = support.playbook("neo4j-again", "-e", "tier=neo4j", playbook="playbooks/tier.yml")
    assert (run.code, run.changed()) == (0, {}), run.text[-3000:]


def test_a_member_is_rebuilt_from_the_outbox(members: list[str], token: str) -> None:
    with load.Load(token) as traffic:
        run = support.playbook("neo4j-rebuild", "-e", f"neo4j_rebuild_member={members[0]}", playbook="playbooks/neo4j_rebuild.yml")
        traffic.stop.set()
    assert run.code == 0, run.text[-3000:]
    check(traffic)
    assert support.ssh(members[0], f"ls -d {BASE}/data.aside 2>/dev/null || true") == ""
    support.wait_for("equal members", lambda: equal(members), 120, 2)


def test_a_member_is_rebuilt_from_a_dump(members: list[str], token: str) -> None:
    target, giver = members[:2]
    asked = ("-e", f"neo4j_rebuild_member={target}", "-e", f"neo4j_rebuild_from={giver}")
    if len(members) == 2:
        refused = support.playbook("neo4j-dump-refused", *asked, playbook="playbooks/neo4j_rebuild.yml")
        assert refused.code != 0 and "Nothing was changed" in refused.text and not refused.changed()
    before = applier(giver, "lag")["applied"]
    run = support.playbook("neo4j-dump", *asked, "-e", "neo4j_rebuild_outage=true", playbook="playbooks/neo4j_rebuild.yml")
    assert run.code == 0, run.text[-3000:]
    for host in (target, giver):
        assert support.ssh(host, f"ls -d {BASE}/dump {BASE}/data.aside 2>/dev/null || true") == ""
        assert applier(host, "lag")["applied"] >= before
    support.wait_for("equal members", lambda: equal(members), 120, 2)
    code, _answer = load.ask(token, "PUT", f"/api/v1/insights/e2e-{uuid.uuid4().hex[:8]}", {"title": "after the dump"})
    assert code == 201


def test_a_planned_restart_of_one_member_takes_less_than_15_seconds(members: list[str]) -> None:
    """What validation announces for a single member (NEO4J_SINGLE)."""
    host = members[0]

    def answers() -> bool:
        context = ssl.create_default_context(cafile=support.ca_file())
        with socket.create_connection((support.address(host), 7687), 1) as stream, context.wrap_socket(stream, server_hostname=support.address(host)):
            return True

    restart = threading.Thread(target=support.ssh, args=(host, "docker restart neo4j-neo4j-1"), kwargs={"timeout": 180})
    restart.start()
    try:
        support.wait_for("the stop", lambda: not _good(answers), 60, 0.05)
        took = support.wait_for("an answer over Bolt", answers, 120, 0.1)
    finally:
        restart.join(180)
    print(f"no Bolt for {took:.1f} s")
    support.wait_for("a healthy member", lambda: support.all_healthy(host), 120)
    assert took < 15


def _good(condition: t.Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:
        return False
