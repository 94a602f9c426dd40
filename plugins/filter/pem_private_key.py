# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pem_private_key
short_description: The private key of a PEM text, decrypted
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Finds the first private key in a PEM text that may hold certificates too, decrypts it and returns it as unencrypted PKCS#8.
  - Keys stay encrypted on the controller's disk this way and are opened only in memory, when a template asks for one.
options:
  _input:
    description: The PEM text.
    type: str
    required: true
  passphrase:
    description: Passphrase of the key. Not used where the key is not encrypted.
    type: str
"""

EXAMPLES = r"""
- name: Put a key on a host
  ansible.builtin.copy:
    content: "{{ lookup('ansible.builtin.file', 'pki/hosts/edge1/edge.pem') | novacorrente.platform.pem_private_key(passphrase) }}"
    dest: /etc/ssl/private/edge.key
    mode: "0400"
  no_log: true
"""

RETURN = r"""
_value:
  description: The key as PEM.
  type: str
"""

import re
import typing as t

from ansible.errors import AnsibleFilterError

try:
    from cryptography.hazmat.primitives import serialization
except ImportError:
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----\n?", re.DOTALL)


def pem_private_key(text: str, passphrase: str | None = None) -> str:
    if not HAS_CRYPTOGRAPHY:
        raise AnsibleFilterError("pem_private_key needs the Python package cryptography on the controller.")
    found = KEY.search(str(text))
    if not found:
        raise AnsibleFilterError("pem_private_key: the text holds no private key in PEM form.")
    encrypted = "ENCRYPTED" in found.group(0)
    if encrypted and not passphrase:
        raise AnsibleFilterError("pem_private_key: the private key is encrypted and no passphrase is given.")
    secret = str(passphrase).encode() if encrypted else None
    try:
        key = serialization.load_pem_private_key(found.group(0).encode(), secret)
    except (ValueError, TypeError) as exc:
        # The library's own message is left out: it may quote what it was given.
        raise AnsibleFilterError("pem_private_key: the private key cannot be read; is the passphrase (platform_ca_passphrase) right?") from exc
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode("ascii")


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pem_private_key": pem_private_key}
