# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bolt's messages on a socket: PackStream values, messages in chunks, and the handshake. Source: https://neo4j.com/docs/bolt/current/"""

from __future__ import annotations

import socket
import struct
import typing as t

MAGIC = b"\x60\x60\xb0\x17"
VERSION = (5, 4)


class Closed(Exception):
    """The client has gone, or talks something else."""


class Structure(t.NamedTuple):
    tag: int
    fields: list[t.Any]


def pack(value: t.Any) -> bytes:
    """A value as PackStream. Takes None, bool, int, float, str, list, dict and Structure."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if -16 <= value <= 127:
            return struct.pack(">b", value)
        for marker, form, limit in ((b"\xc8", ">b", 1 << 7), (b"\xc9", ">h", 1 << 15), (b"\xca", ">i", 1 << 31)):
            if -limit <= value < limit:
                return marker + struct.pack(form, value)
        return b"\xcb" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xc1" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return _size(len(data), 0x80, 0xD0) + data
    if isinstance(value, Structure):
        return bytes((0xB0 | len(value.fields), value.tag)) + b"".join(map(pack, value.fields))
    if isinstance(value, (list, tuple)):
        return _size(len(value), 0x90, 0xD4) + b"".join(map(pack, value))
    if isinstance(value, dict):
        return _size(len(value), 0xA0, 0xD8) + b"".join(pack(key) + pack(found) for key, found in value.items())
    raise TypeError(f"no PackStream for {type(value).__name__}")


def _size(size: int, tiny: int, marker: int) -> bytes:
    if size < 16:
        return bytes((tiny | size,))
    if size < 256:
        return bytes((marker, size))
    return bytes((marker + 1,)) + struct.pack(">H", size)


class Unpacker:
    """Reads values from a message."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        part = self.data[self.place : self.place + size]
        if len(part) < size:
            raise Closed("a message is too short")
        self.place += size
        return part

    def value(self) -> t.Any:
        marker = self.take(1)[0]
        high, low = marker & 0xF0, marker & 0x0F
        if marker < 0x80 or marker >= 0xF0:
            return marker if marker < 0x80 else marker - 256
        if high == 0x80:
            return self.take(low).decode()
        if high == 0x90:
            return [self.value() for _ in range(low)]
        if high == 0xA0:
            return self._map(low)
        if high == 0xB0:
            tag = self.take(1)[0]
            return Structure(tag, [self.value() for _ in range(low)])
        if marker in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[marker]
        if marker == 0xC1:
            return struct.unpack(">d", self.take(8))[0]
        if 0xC8 <= marker <= 0xCB:
            return int.from_bytes(self.take(1 << (marker - 0xC8)), "big", signed=True)
        if 0xCC <= marker <= 0xCE:
            return self.take(int.from_bytes(self.take(1 << (marker - 0xCC)), "big"))
        for base, read in ((0xD0, self._text), (0xD4, self._list), (0xD8, self._map)):
            if base <= marker <= base + 2:
                return read(int.from_bytes(self.take(1 << (marker - base)), "big"))
        raise Closed(f"PackStream marker {marker:#x} is not known")

    def _text(self, size: int) -> str:
        return self.take(size).decode()

    def _list(self, size: int) -> list[t.Any]:
        return [self.value() for _ in range(size)]

    def _map(self, size: int) -> dict[str, t.Any]:
        return {self.value(): self.value() for _ in range(size)}


class Connection:
    """Messages over a socket, after the handshake."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream

    def handshake(self) -> None:
        """Agrees on VERSION. Raises Closed where the client does not offer it."""
        offer = self._read(20)
        if offer[:4] != MAGIC:
            raise Closed("not Bolt")
        for place in range(4, 20, 4):
            _zero, span, minor, major = offer[place : place + 4]
            if major == VERSION[0] and minor - span <= VERSION[1] <= minor:
                self.stream.sendall(bytes((0, 0, VERSION[1], VERSION[0])))
                return
        self.stream.sendall(bytes(4))
        raise Closed(f"the client does not offer Bolt {VERSION[0]}.{VERSION[1]}")

    def receive(self) -> Structure:
        parts = []
        while True:
            size = int.from_bytes(self._read(2), "big")
            if size:
                parts.append(self._read(size))
            elif parts:
                message = Unpacker(b"".join(parts)).value()
                if not isinstance(message, Structure):
                    raise Closed("not a message")
                return message

    def send(self, tag: int, *fields: t.Any) -> None:
        data = pack(Structure(tag, list(fields)))
        chunks = [data[place : place + 0xFFFF] for place in range(0, len(data), 0xFFFF)]
        self.stream.sendall(b"".join(struct.pack(">H", len(chunk)) + chunk for chunk in chunks) + b"\0\0")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.stream.recv(size - len(data))
            if not part:
                raise Closed("the client has gone")
            data += part
        return data
