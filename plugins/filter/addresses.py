# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the addresses of inventory hosts."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: addresses
short_description: Addresses of inventory hosts
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Turns a list of inventory host names into the list of their addresses, in the same order.
  - The address of a host is its inventory variable C(platform_address), else C(ansible_host), else its name.
  - Needed because the defaults of a role are not visible in another host's C(hostvars).
positional: hostvars
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
"""

EXAMPLES = r"""
- name: Show the addresses of the Redis members
  ansible.builtin.debug:
    msg: "{{ groups['redis'] | novacorrente.platform.addresses(hostvars) }}"
"""

RETURN = r"""
_value:
  description: The addresses, in the order of the host names.
  type: list
  elements: str
"""


def addresses(hosts: t.Any, hostvars: t.Any) -> list[str]:
    """Return the address of each host, in order."""
    if isinstance(hosts, str) or not hasattr(hosts, "__iter__"):
        raise AnsibleFilterError(f"addresses expects a list of inventory host names, got {hosts!r}")
    result = []
    for host in hosts:
        try:
            variables = hostvars[host]
        except KeyError:
            raise AnsibleFilterError(f"addresses: {host!r} is not a host of this inventory") from None
        for name in ("platform_address", "ansible_host"):
            if name in variables:
                result.append(str(variables[name]))
                break
        else:
            result.append(str(host))
    return result


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"addresses": addresses}
