# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.novacorrente.platform.plugins.filter.addresses import FilterModule
from ansible_collections.novacorrente.platform.plugins.filter.members import members

addresses = FilterModule().filters()["addresses"]
HOSTVARS = {"a": {"platform_address": "192.0.2.1", "ansible_host": "bastion"}, "b": {"ansible_host": "192.0.2.2"}, "c": {}}


def test_the_address_is_the_platform_address_else_the_ansible_host_else_the_name():
    assert addresses(["c", "a", "b"], HOSTVARS) == ["c", "192.0.2.1", "192.0.2.2"]
    assert addresses([], HOSTVARS) == []


@pytest.mark.parametrize("hosts", ["a", None, 3])
def test_only_a_list_of_names_is_accepted(hosts: object):
    with pytest.raises(AnsibleFilterError, match="expects a list of inventory host names"):
        addresses(hosts, HOSTVARS)


def test_an_unknown_host_is_named():
    with pytest.raises(AnsibleFilterError, match="'d' is not a host of this inventory"):
        addresses(["d"], HOSTVARS)


def test_members_have_names_and_addresses_with_a_port():
    hostvars = {"app1": {"ansible_host": "192.0.2.21"}, "app2": {"platform_address": "2001:db8::22"}}
    assert members(["app1", "app2"], hostvars, 8001) == [
        {"name": "app1", "address": "192.0.2.21:8001"},
        {"name": "app2", "address": "[2001:db8::22]:8001"},
    ]
