# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: members
short_description: Members of a cluster as the gates want them
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Turns a list of inventory host names into a list of dictionaries with C(name) and C(address), the latter as C(host:port).
positional: hostvars, port
options:
  _input:
    description: Inventory host names, usually a group.
    type: list
    elements: str
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
    required: true
  port:
    description: The port that the members listen on.
    type: int
    required: true
seealso:
  - plugin: novacorrente.platform.addresses
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at the API
  novacorrente.platform.http_gate:
    members: "{{ groups['api'] | novacorrente.platform.members(hostvars, 8001) }}"
    wait: false
"""

RETURN = r"""
_value:
  description: The members, in the order of the host names.
  type: list
  elements: dict
  sample: [{name: app1, address: "192.0.2.21:8001"}]
"""

import typing as t

from ansible_collections.novacorrente.platform.plugins.filter.addresses import addresses
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.addresses import join


def members(hosts: t.Any, hostvars: t.Any, port: int) -> list[dict[str, str]]:
    found = addresses(hosts, hostvars)
    return [{"name": str(host), "address": join(address, port)} for host, address in zip(hosts, found, strict=True)]


class FilterModule:
    """See DOCUMENTATION."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"members": members}
