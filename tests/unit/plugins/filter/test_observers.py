# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who looks at which cluster."""

from __future__ import annotations

from ansible_collections.novacorrente.platform.plugins.filter.observers import observers


def test_clusters_are_spread_over_the_hosts_that_answered():
    hosts = {
        "data1": {"minio": {}, "redis": {}, "mongodb": {}},
        "data2": {"minio": {}, "redis": {}, "mongodb": {}},
        "data3": {"minio": {}, "redis": {}},
        "data4": None,
    }
    found = observers(hosts)
    assert sorted(tier for tiers in found.values() for tier in tiers) == ["minio", "mongodb", "redis"]
    assert all(len(tiers) == 1 for tiers in found.values())
    assert all(tier in hosts[host] for host, tiers in found.items() for tier in tiers)


def test_a_tier_of_one_host_is_asked_there():
    assert observers({"app1": {"api": {}, "worker": {}}, "app2": {"api": {}}}) == {"app1": ["worker"], "app2": ["api"]}


def test_nobody_answered():
    assert observers({"data1": None}) == {}
