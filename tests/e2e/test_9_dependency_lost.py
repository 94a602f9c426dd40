# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API's users notice of lost databases. The host of MongoDB's primary loses its power: no request fails, and every acknowledged write is there.
The whole graph is away: its own endpoints say so with 503, and no other does."""

from __future__ import annotations

import json
import time

import load
import pytest
import replica_set
import support

# A member is missed after 10 s, and elected in some more; the API waits for the next primary (apps/api/app/mongo.py).
WATCHED = 30


def listed(token: str, prefix: str, count: int) -> set[str]:
    """The insights with this prefix that the API finds, of ``count`` that were written."""
    names = (f"{prefix}-{number}" for number in range(count))
    return {name for name in names if load.ask(token, "GET", f"/api/v1/insights/{name}")[0] == 200}


@pytest.mark.long
def test_a_dead_primary_fails_no_request_and_loses_no_write():
    members = support.group("mongodb")
    token = load.token()
    support.wait_for("a healthy set", lambda: replica_set.healthy(members), 60)
    leader = replica_set.primary(members[0])
    others = [host for host in members if host != leader]
    with load.Load(token, read_path="/api/v1/insights/{middle}") as traffic:
        time.sleep(3)
        before = traffic.written
        support.cut_power(leader)
        try:
            support.wait_for("another primary", lambda: replica_set.primary(others[0]) in others, WATCHED)
            reached = traffic.written
            support.wait_for("writes after the election", lambda: traffic.written > reached + 3, WATCHED)
            time.sleep(3)
        finally:
            support.switch_on(leader)
        support.wait_for("the old primary is back", lambda: replica_set.healthy(members, others[0]), 180)
    print(f"{traffic.written} insights written ({before} before the power cut) and {traffic.reads} reads; the slowest request took {traffic.slowest:.1f} s")
    assert traffic.failures == [], traffic.failures[:5]
    assert listed(token, traffic.prefix, traffic.written) == {traffic.name(number) for number in range(traffic.written)}
    assert replica_set.primary(others[0]) in members


def ready(host: str) -> dict:
    """What the API's member on a host says of its dependencies. It listens on one of two ports."""
    address = support.address(host)
    return json.loads(support.ssh(host, f"curl --silent --insecure https://{address}:8001/ready || curl --silent --insecure https://{address}:8002/ready"))


def test_a_graph_that_is_down_fails_its_own_endpoints_only():
    members = support.group("neo4j")
    token = load.token()
    name = f"/api/v1/insights/e2e-{time.time_ns():x}"
    assert load.ask(token, "PUT", name, {"title": "before"})[0] == 201
    host = support.group("api")[0]
    try:
        for member in members:
            support.ssh(member, "docker kill neo4j-neo4j-1")
        headers = {"Authorization": f"Bearer {token}"}
        code, answered, body = support.fetch(f"{name}/neighbours?depth=1", headers)
        waits = {name.lower(): value for name, value in answered.items()}.get("retry-after", "0")
        assert (code, int(waits) > 0) == (503, True), body
        assert load.ask(token, "PUT", f"{name}-2", {"title": "meanwhile"})[0] == 201
        assert load.ask(token, "GET", name)[0] == 200
        # A link is a write to MongoDB; the graph gets it later.
        assert load.ask(token, "PUT", f"{name}/links/next/{name.rpartition('/')[2]}-2")[0] == 200
        support.wait_for("readiness that names the graph", lambda: ready(host)["status"] == "degraded", 30)
        assert [name for name, state in ready(host)["dependencies"].items() if state["status"] != "up"] == ["neo4j"]
    finally:
        for member in members:
            support.ssh(member, "docker start neo4j-neo4j-1")
    support.wait_for("the link in the graph", lambda: f"{name.rpartition('/')[2]}-2" in str(load.ask(token, "GET", f"{name}/neighbours?depth=1")[1]), 240)
    support.wait_for("healthy members", lambda: all(support.all_healthy(member) for member in members), 240, 1)
    support.wait_for("readiness", lambda: ready(host)["status"] == "ready", 30)
