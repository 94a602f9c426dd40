# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: observers
short_description: Choose the host from which each cluster is looked at
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Gives each tier to one of the hosts that run it and answered, spread so that the clusters can be asked at the same time.
options:
  _input:
    description: The result of M(novacorrente.platform.status) by host. A host that did not answer has none.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show who looks at what
  ansible.builtin.debug:
    msg: "{{ {'data1': {'redis': {}, 'minio': {}}, 'data2': {'redis': {}}} | novacorrente.platform.observers }}"
"""

RETURN = r"""
_value:
  description: Tiers by host.
  type: dict
  sample: {data1: [minio], data2: [redis]}
"""

import typing as t


def observers(hosts: t.Mapping[str, t.Mapping[str, t.Any] | None]) -> dict[str, list[str]]:
    """The tier with the fewest hosts chooses first; of its hosts it takes the one with the least to do."""
    members: dict[str, list[str]] = {}
    for host, tiers in hosts.items():
        for tier in tiers or {}:
            members.setdefault(tier, []).append(host)
    found: dict[str, list[str]] = {}
    for tier in sorted(members, key=lambda name: (len(members[name]), name)):
        host = min(members[tier], key=lambda name: len(found.get(name, ())))
        found.setdefault(host, []).append(tier)
    return found


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"observers": observers}
