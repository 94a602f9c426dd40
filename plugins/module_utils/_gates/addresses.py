# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for the addresses by which members know each other.

Private to this collection.
"""

from __future__ import annotations

import socket
import typing as t


def split(address: str) -> tuple[str, int]:
    """Host and port of C(host:port), a number of IPv6 in brackets. Raises ValueError where it is something else."""
    host, _colon, port = address.rpartition(":")
    if not host:
        raise ValueError(f"{address!r} is not of the form host:port")
    return host.strip("[]"), int(port)


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
