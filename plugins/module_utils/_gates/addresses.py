# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for the addresses by which members know each other.

Private to this collection.
"""

from __future__ import annotations

import socket
import typing as t
import urllib.parse


class AddressError(ValueError):
    """An address or URL that cannot be used; the text is for the user and begins with what is wrong."""


def split(address: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``, or with a default port of ``host`` too. Raises AddressError where it is something else."""
    try:
        parts = urllib.parse.urlsplit("//" + address)
        host, port = parts.hostname, default_port if parts.port is None else parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.path or parts.query or parts.username or parts.password:
        raise AddressError(f"address is {address!r}; accepted is HOST:PORT.")
    return host, port


def join(host: str, port: t.Any) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def names_of(members: t.Mapping[str, str]) -> dict[str, str]:
    """Addresses as members may know each other -> name: as given, and with the host's numbers."""
    names = {}
    for name, address in members.items():
        names[address] = name
        try:
            host, port = split(address)
            names.update({join(str(found[4][0]), port): name for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        except (OSError, ValueError):
            # An address that is no good shows when it is asked.
            pass
    return names
