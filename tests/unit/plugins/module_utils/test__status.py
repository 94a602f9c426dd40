# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module status makes of the engine's and openssl's answers."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.novacorrente.platform.plugins.module_utils import _status

NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def inspected(tier="redis", service="cache", status="running", health="healthy", release="r1", oneoff="False", **more):
    labels = {"novacorrente.tier": tier, "novacorrente.release": release, "com.docker.compose.service": service, "com.docker.compose.oneoff": oneoff}
    state = {"Status": status, "StartedAt": "2026-11-22T10:00:00Z", "OOMKilled": more.get("oom", False)}
    if health:
        state["Health"] = {"Status": health}
    return {"Name": f"/{tier}-{service}-1", "RestartCount": 2, "Config": {"Labels": labels, "Image": "registry/redis@sha256:0"}, "State": state}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([], ["nothing of it runs"]),
        ([inspected()], []),
        ([inspected(health="")], []),
        ([inspected(health="starting")], ["cache is starting"]),
        ([inspected(status="exited", health="unhealthy")], ["cache is exited"]),
        ([inspected(oom=True)], ["cache was killed for want of memory"]),
        ([inspected(release="r0")], ["cache runs release r0, not r1"]),
    ],
)
def test_faults_of_a_member(containers, expected):
    services = _status.services_by_tier(containers).get("redis", [])
    assert _status.faults(services, "r1") == expected


def test_containers_are_sorted_by_tier_and_one_off_ones_left_out():
    foreign = {"Name": "/other", "Config": {"Labels": None}, "State": {}}
    found = _status.services_by_tier([inspected(service="queue"), inspected(), inspected(tier="api", service="api"), inspected(oneoff="True"), foreign])
    assert {tier: [service.service for service in services] for tier, services in found.items()} == {"redis": ["cache", "queue"], "api": ["api"]}
    assert found["redis"][0].restarts == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("notAfter=Nov 23 13:00:00 2026 GMT\n", 1),
        ("notAfter=Nov  9 12:00:00 2026 GMT\n", -13),
        ("Could not open file", None),
        ("", None),
    ],
)
def test_days_until_a_certificate_expires(answer, expected):
    assert _status.days_left(answer, NOW) == expected
