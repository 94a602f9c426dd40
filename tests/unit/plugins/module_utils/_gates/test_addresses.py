# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of members, taken apart and put together."""

from __future__ import annotations

import pytest

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import addresses


@pytest.mark.parametrize(("address", "host", "port"), [("data1:6379", "data1", 6379), ("192.0.2.31:1", "192.0.2.31", 1), ("[2001:db8::1]:7", "2001:db8::1", 7)])
def test_an_address_is_taken_apart_and_put_together(address: str, host: str, port: int):
    assert addresses.split(address) == addresses.split(address, 9) == (host, port)
    assert addresses.join(host, port) == address


@pytest.mark.parametrize("address", ["data1", "[2001:db8::1]"])
def test_a_port_may_be_left_out_only_where_there_is_a_usual_one(address: str):
    assert addresses.split(address, 7687) == (address.strip("[]"), 7687)
    with pytest.raises(addresses.AddressError, match="accepted is HOST:PORT"):
        addresses.split(address)


@pytest.mark.parametrize("address", ["", ":1", "::1:6379", "data1:port", "data1:99999", "user@data1:1", "data1:1/path", "data1:1?query", "[::1:1"])
def test_what_is_no_address_is_refused(address: str):
    with pytest.raises(addresses.AddressError, match="accepted is HOST:PORT"):
        addresses.split(address, 7687)


def test_members_are_known_by_their_numbers_too():
    names = addresses.names_of({"data1": "localhost:6379", "data2": "no address"})
    assert names["localhost:6379"] == names["127.0.0.1:6379"] == "data1"
    assert names["no address"] == "data2"
