# SPDX-License-Identifier: GPL-3.0-or-later
"""A release that never gets healthy is taken back: by the run that brought it, and by the next one where that run was killed."""

from __future__ import annotations

import json
import os

import pytest
import support

pytestmark = pytest.mark.long

TIER = "scheduler"
# The process is killed for want of memory as soon as it starts.
BAD = {"scheduler_memory_mib": 6}


def converge(name: str, **variables: object) -> support.Run:
    return support.playbook(f"taken-back-{name}", "-e", json.dumps({"tier": TIER, **variables}), playbook="playbooks/tier.yml")


def state() -> dict[str, tuple[str, str]]:
    """By host, the release that is current and what its container says of itself."""
    found = {}
    for host in support.group(TIER):
        current = os.path.basename(support.ssh(host, f"readlink /srv/platform/{TIER}/current").strip())
        health = support.ssh(host, f"docker ps --filter label=novacorrente.tier={TIER} --format '{{{{.Label \"novacorrente.release\"}}}} {{{{.Status}}}}'")
        found[host] = (current, "healthy" if current in health and "(healthy)" in health else health.strip())
    return found


def switching(host: str) -> bool:
    return support.ssh(host, f"test -e /srv/platform/{TIER}/switching && echo yes", check=False) != ""


@pytest.fixture(autouse=True)
def good():
    yield
    assert converge("good").code == 0


def test_a_release_that_never_gets_healthy_is_taken_back():
    before = state()
    run = converge("bad", **BAD)
    assert run.code != 0
    assert "was taken back to release" in run.text
    assert state() == before


def test_a_run_killed_in_the_middle_of_a_bad_switch_is_taken_back_by_the_next():
    before = state()
    process = support.start_playbook("taken-back-killed", "-e", json.dumps({"tier": TIER, **BAD}), playbook="playbooks/tier.yml")
    support.wait_for("the switch", lambda: any(switching(host) for host in support.group(TIER)), 90, 0.2)
    support.kill(process)
    run = converge("killed-again", **BAD)
    assert run.code != 0
    assert "was taken back to release" in run.text
    assert state() == before
