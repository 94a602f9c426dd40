# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The wire protocol: OP_MSG, and OP_QUERY for the first hello of a driver.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import struct

import bson

from .common import CODEC, Doc

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM, MORE_TO_COME, EXHAUST_ALLOWED = 1, 2, 1 << 16
MAX_MESSAGE = 48_000_000

_HEADER = struct.Struct("<iiii")
_ids = itertools.count(1)


class ProtocolError(Exception):
    """The other side does not speak the protocol: the connection is closed."""


@dataclasses.dataclass
class Message:
    """One request or answer."""

    request_id: int
    response_to: int
    opcode: int
    flags: int
    body: Doc

    @property
    def more_to_come(self) -> bool:
        return self.opcode == OP_MSG and bool(self.flags & MORE_TO_COME)

    @property
    def exhaust_allowed(self) -> bool:
        return self.opcode == OP_MSG and bool(self.flags & EXHAUST_ALLOWED)


def _op_msg(data: bytes) -> tuple[int, Doc]:
    (flags,) = struct.unpack_from("<I", data)
    # Bits 0 to 15 must be understood.
    if flags & 0xFFFF & ~(CHECKSUM | MORE_TO_COME):
        raise ProtocolError("unknown required flag bits")
    end = len(data) - (4 if flags & CHECKSUM else 0)
    at, body = 4, None
    sequences: Doc = {}
    while at < end:
        kind, at = data[at], at + 1
        (size,) = struct.unpack_from("<i", data, at)
        if size < 5 or at + size > end:
            raise ProtocolError("section out of bounds")
        if kind == 0:
            body = bson.decode(data[at : at + size], CODEC)
        elif kind == 1:
            zero = data.index(0, at + 4)
            name = data[at + 4 : zero].decode()
            sequences[name] = bson.decode_all(data[zero + 1 : at + size], CODEC)
        else:
            raise ProtocolError(f"unknown section kind {kind}")
        at += size
    if body is None:
        raise ProtocolError("no body")
    return flags, {**body, **sequences}


def _op_query(data: bytes) -> Doc:
    zero = data.index(0, 4)
    namespace = data[4:zero].decode()
    (size,) = struct.unpack_from("<i", data, zero + 9)
    body: Doc = bson.decode(data[zero + 9 : zero + 9 + size], CODEC)
    body = dict(body.get("$query", body))
    body.setdefault("$db", namespace.split(".", 1)[0])
    return body


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message. Raises ProtocolError, asyncio.IncompleteReadError at the end of the connection."""
    length, request_id, response_to, opcode = _HEADER.unpack(await reader.readexactly(16))
    if not 16 < length <= MAX_MESSAGE:
        raise ProtocolError(f"message of {length} bytes")
    data = await reader.readexactly(length - 16)
    try:
        if opcode == OP_MSG:
            flags, body = _op_msg(data)
            return Message(request_id, response_to, opcode, flags, body)
        if opcode == OP_QUERY:
            return Message(request_id, response_to, opcode, 0, _op_query(data))
    except (bson.errors.BSONError, struct.error, ValueError, IndexError) as error:
        raise ProtocolError(str(error)) from None
    raise ProtocolError(f"opcode {opcode} is not supported")


def pack(body: Doc, response_to: int = 0, flags: int = 0, legacy: bool = False) -> tuple[int, bytes]:
    """A message's id and bytes; legacy: as OP_REPLY."""
    identity = next(_ids) & 0x7FFFFFFF
    document = bson.encode(body, codec_options=CODEC)
    if legacy:
        data, opcode = struct.pack("<iqii", 8, 0, 0, 1) + document, OP_REPLY
    else:
        data, opcode = struct.pack("<IB", flags, 0) + document, OP_MSG
    return identity, _HEADER.pack(16 + len(data), identity, response_to, opcode) + data
