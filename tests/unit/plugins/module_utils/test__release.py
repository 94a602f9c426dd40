# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member runs against what it should run."""

from __future__ import annotations

import json

import pytest

from ansible_collections.novacorrente.platform.plugins.module_utils._release import (
    Container,
    Seen,
    Wanted,
    judge,
    parse_containers,
    releases_to_remove,
)

WANTED = Wanted("r2", ["cache", "queue"])


def container(service, state="running", release="r2", unhealthy=False):
    return Container(f"redis-{service}-1", service, state, release, unhealthy)


BOTH = [container("cache"), container("queue")]


@pytest.mark.parametrize(
    ("seen", "state", "reason"),
    [
        (Seen(None, []), "new", "nothing of this tier is running"),
        (Seen("r2", []), "new", "nothing of this tier is running"),
        (Seen("r2", [container("cache", "exited"), container("queue", "exited")]), "new", "nothing of this tier"),
        (Seen("r1", [container("cache", "restarting", "r1")]), "new", "nothing of this tier"),
        (Seen("r2", BOTH), "current", None),
        (Seen("r1", [container("cache", release="r1"), container("queue", release="r1")]), "changed", "release r1 -> r2"),
        (Seen("r1", BOTH), "changed", "release r1 -> r2"),
        (Seen(None, BOTH), "changed", "release unknown -> r2"),
        (Seen("r2", [container("cache")]), "drifted", "queue: no container"),
        (Seen("r2", [container("cache"), container("queue", "exited")]), "drifted", "queue: container is exited"),
        (Seen("r2", [container("cache"), container("queue", "paused")]), "drifted", "queue: container is paused"),
        (Seen("r2", [container("cache"), container("queue", release="r1")]), "drifted", "queue: container runs release r1"),
        (Seen("r2", [container("cache"), container("queue", release="")]), "drifted", "queue: container runs release unknown"),
        (Seen("r2", [container("cache"), container("queue", unhealthy=True)]), "drifted", "queue: container is unhealthy"),
        (Seen("r2", [*BOTH, container("old")]), "drifted", "old: container belongs to no service"),
        (Seen("r2", BOTH, switched_from="r1"), "changed", "did not finish its switch from release r1"),
        (Seen("r2", BOTH, switched_from=""), "changed", "did not finish its switch from release none"),
        (Seen("r2", [container("cache", "restarting")], switched_from="r1"), "new", "nothing of this tier"),
        (Seen("r2", BOTH, live_differs=True), "reload", "live files differ"),
        (Seen("r2", BOTH, reload_pending=True), "reload", "did not finish its reload"),
        (Seen("r1", [container("cache", release="r1")], live_differs=True), "changed", "release r1 -> r2"),
        (Seen("r2", [container("cache")], live_differs=True), "drifted", "queue: no container"),
    ],
)
def test_the_state_of_a_member(seen, state, reason):
    found, reasons = judge(WANTED, seen)
    assert found == state
    if reason is None:
        assert reasons == []
    else:
        assert any(reason in line for line in reasons)


def row(**changes):
    base = {
        "Names": "redis-cache-1",
        "State": "running",
        "Status": "Up 2 hours (healthy)",
        "Labels": "com.docker.compose.service=cache,novacorrente.release=r2,com.docker.compose.oneoff=False,com.docker.compose.depends_on=",
    }
    return json.dumps({**base, **changes})


def test_containers_are_read_from_the_engines_answer():
    assert parse_containers(row() + "\n") == [Container("redis-cache-1", "cache", "running", "r2", False)]
    assert parse_containers(row(Status="Up 3 minutes (unhealthy)"))[0].unhealthy
    assert not parse_containers(row(Status="Up 3 seconds (health: starting)"))[0].unhealthy
    assert parse_containers(row(Labels="com.docker.compose.oneoff=True,com.docker.compose.service=cache")) == []
    assert parse_containers("\n") == []
    assert parse_containers(row(Labels=""))[0].release == ""


def test_old_releases_go_but_never_those_in_use():
    releases = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0}
    assert releases_to_remove(releases, {"a", "e"}, 1) == ["c", "b"]
    assert releases_to_remove(releases, {"a", "e"}, 0) == ["d", "c", "b"]
    assert releases_to_remove(releases, set(releases), 0) == []
