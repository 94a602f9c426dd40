# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters in_networks, htpasswd_entry and pem_private_key."""

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleFilterError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.novacorrente.platform.plugins.filter.htpasswd_entry import _libcrypt, htpasswd_entry
from ansible_collections.novacorrente.platform.plugins.filter.in_networks import in_networks
from ansible_collections.novacorrente.platform.plugins.filter.pem_private_key import pem_private_key


@pytest.mark.parametrize(
    ("address", "networks", "expected"),
    [
        ("192.0.2.10", ["192.0.2.0/24"], True),
        ("192.0.3.10", ["192.0.2.0/24"], False),
        ("192.0.2.10", ["192.0.2.10"], True),
        ("fe80::1%eth0", ["::/0"], True),
        ("192.0.2.10", ["::/0"], False),
        ("192.0.2.10", [], False),
    ],
)
def test_in_networks(address: str, networks: list[str], expected: bool):
    assert in_networks(address, networks) is expected


@pytest.mark.parametrize(("address", "networks"), [("data1", ["192.0.2.0/24"]), ("192.0.2.1", ["everywhere"])])
def test_in_networks_names_what_is_wrong(address: str, networks: list[str]):
    with pytest.raises(AnsibleFilterError, match="in_networks: '(data1|everywhere)'"):
        in_networks(address, networks)


def test_htpasswd_entry_is_bcrypt_and_always_the_same():
    line = htpasswd_entry("correct horse battery", "platform", rounds=4)
    assert re.fullmatch(r"platform:\$2b\$04\$[./A-Za-z0-9]{53}", line)
    assert line == htpasswd_entry("correct horse battery", "platform", rounds=4)
    assert line != htpasswd_entry("correct horse batterz", "platform", rounds=4)


def test_the_c_library_hashes_as_published():
    # From the test vectors that come with bcrypt's reference implementation.
    assert _libcrypt(b"U*U", b"$2b$05$CCCCCCCCCCCCCCCCCCCCC.") == "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


@pytest.mark.parametrize(("password", "user", "rounds"), [("", "u", 4), ("x" * 73, "u", 4), ("x", "", 4), ("x", "a:b", 4), ("x", "u", 3)])
def test_htpasswd_entry_refuses_what_bcrypt_cannot_hold(password: str, user: str, rounds: int):
    with pytest.raises(AnsibleFilterError, match="htpasswd_entry"):
        htpasswd_entry(password, user, rounds)


def test_pem_private_key_opens_an_encrypted_key_among_certificates():
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")).decode()
    text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + pem
    opened = pem_private_key(text, "secret")
    assert opened.startswith("-----BEGIN PRIVATE KEY-----")
    assert serialization.load_pem_private_key(opened.encode(), None).public_key() == key.public_key()
    assert pem_private_key(opened) == opened
    for passphrase in ("wrong", None):
        with pytest.raises(AnsibleFilterError, match="encrypted|cannot be read"):
            pem_private_key(text, passphrase)
    with pytest.raises(AnsibleFilterError, match="no private key"):
        pem_private_key("-----BEGIN CERTIFICATE-----")
