# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: htpasswd_entry
short_description: A line of an htpasswd file, hashed with bcrypt
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Hashes a password with bcrypt and returns C(user:hash).
  - The salt is derived from user and password, so that the same input always gives the same line and a run that changes nothing
    reports nothing.
  - Uses the Python package C(bcrypt) where the controller has it, else the C library's C(crypt). It needs no C(passlib), which
    P(ansible.builtin.password_hash#filter) of ansible-core 2.19 does.
options:
  _input:
    description: The password, at most 72 bytes.
    type: str
    required: true
  user:
    description: The user's name.
    type: str
    required: true
  rounds:
    description: Cost of the hash as a power of two, from 4 to 31.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Write the password file
  ansible.builtin.copy:
    content: "{{ registry_password | novacorrente.platform.htpasswd_entry('platform') }}\n"
    dest: /etc/docker/registry/htpasswd
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The line, without a line break.
  type: str
"""

import ctypes
import ctypes.util
import hashlib
import hmac
import typing as t

from ansible.errors import AnsibleFilterError

BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _salt(user: str, password: str) -> str:
    """22 characters of bcrypt's alphabet. The last one carries two bits only, so it is one of four."""
    digest = hmac.new(password.encode(), b"htpasswd\0" + user.encode(), hashlib.sha256).digest()
    return "".join(BCRYPT_ALPHABET[byte % 64] for byte in digest[:21]) + ".Oeu"[digest[21] % 4]


def _bcrypt(password: bytes, setting: bytes) -> str:
    try:
        import bcrypt
    except ImportError:
        return _libcrypt(password, setting)
    return str(bcrypt.hashpw(password, setting), "ascii")


def _libcrypt(password: bytes, setting: bytes) -> str:
    library = ctypes.util.find_library("crypt") or "libcrypt.so.1"
    try:
        crypt = ctypes.CDLL(library).crypt
    except (OSError, AttributeError) as exc:
        raise AnsibleFilterError("htpasswd_entry: the controller has neither the Python package bcrypt nor a crypt library; install bcrypt.") from exc
    crypt.restype = ctypes.c_char_p
    hashed = crypt(ctypes.c_char_p(password), ctypes.c_char_p(setting))
    if not hashed or not hashed.startswith(setting[:4]):
        raise AnsibleFilterError("htpasswd_entry: the controller's crypt library knows no bcrypt; install the Python package bcrypt.")
    return t.cast(bytes, hashed).decode("ascii")


def htpasswd_entry(password: str, user: str, rounds: int = 10) -> str:
    if not user or ":" in user:
        raise AnsibleFilterError(f"htpasswd_entry: user is {user!r}; expected a name without a colon.")
    if not 4 <= rounds <= 31:
        raise AnsibleFilterError(f"htpasswd_entry: rounds is {rounds}; expected 4 to 31.")
    encoded = str(password).encode()
    if not encoded or len(encoded) > 72 or b"\0" in encoded:
        raise AnsibleFilterError("htpasswd_entry: the password must have 1 to 72 bytes, none of them zero; bcrypt takes no more.")
    setting = f"$2b${rounds:02d}${_salt(str(user), str(password))}"
    return f"{user}:{_bcrypt(encoded, setting.encode('ascii'))}"


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"htpasswd_entry": htpasswd_entry}
