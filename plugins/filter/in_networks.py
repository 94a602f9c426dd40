# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: in_networks
short_description: Whether an address lies in one of some networks
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Answers whether an IPv4 or IPv6 address is part of at least one of the given networks.
options:
  _input:
    description: The address. A zone index, as in C(fe80::1%eth0), is ignored.
    type: str
    required: true
  networks:
    description: Networks in CIDR notation, or single addresses.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Make sure that the firewall lets this connection in
  ansible.builtin.assert:
    that:
      - "'192.0.2.10' | novacorrente.platform.in_networks(['192.0.2.0/24'])"
"""

RETURN = r"""
_value:
  description: Whether the address is in one of the networks.
  type: bool
"""

import ipaddress
import typing as t

from ansible.errors import AnsibleFilterError


def in_networks(address: str, networks: t.Sequence[str]) -> bool:
    try:
        wanted = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError as exc:
        raise AnsibleFilterError(f"in_networks: {address!r} is not an IP address.") from exc
    for text in networks:
        try:
            network = ipaddress.ip_network(str(text), strict=False)
        except ValueError as exc:
            raise AnsibleFilterError(f"in_networks: {text!r} is not a network; expected one such as '192.0.2.0/24'.") from exc
        if wanted.version == network.version and wanted in network:
            return True
    return False


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"in_networks": in_networks}
