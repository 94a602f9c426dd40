# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A connection to another member: TLS, the key file's user, one command at a time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

from bson import Binary, errors

from . import wire
from .auth import MECHANISM, SYSTEM, ScramClient
from .common import Doc, PeerError

if TYPE_CHECKING:
    from .node import Node


class Link:
    """Connects when first used, and again after an error."""

    def __init__(self, node: Node, host: str) -> None:
        self.node, self.host = node, host
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()
        self.last: Doc = {}

    async def command(self, database: str, body: Doc, timeout: float) -> Doc:
        """The answer of a command. timeout in seconds. Raises PeerError."""
        try:
            async with asyncio.timeout(timeout):
                async with self._lock:
                    await self.node.faults.reach(self.host)
                    if self._streams is None:
                        await self._connect()
                    answer = await self._exchange(database, body)
                    # An answer that comes through a partition has not come.
                    await self.node.faults.reach(self.host)
        except (OSError, EOFError, TimeoutError, ValueError, ssl.SSLError, wire.ProtocolError, errors.BSONError) as error:
            self.close()
            raise PeerError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from None
        except BaseException:
            self.close()
            raise
        self.last = answer
        if not answer.get("ok"):
            raise PeerError(str(answer.get("errmsg")), int(answer.get("code", 1)))
        return answer

    async def _exchange(self, database: str, body: Doc) -> Doc:
        assert self._streams is not None
        reader, writer = self._streams
        _, data = wire.pack({**body, "$db": database})
        writer.write(data)
        await writer.drain()
        return (await wire.receive(reader)).body

    async def _connect(self) -> None:
        name, _, port = self.host.rpartition(":")
        context = self.node.tls.client if self.node.tls else None
        self._streams = await asyncio.open_connection(name.strip("[]"), int(port), ssl=context, server_hostname=name.strip("[]") if context else None)
        # Which member this is, for the other's partitions: no part of MongoDB's protocol.
        await self._exchange("admin", {"hello": 1, "standinPeer": self.node.host})
        if self.node.config.keys:
            await self._authenticate(self.node.config.keys)

    async def _authenticate(self, keys: list[str]) -> None:
        """The first key of the list, then the others: they differ while keys are rotated."""
        message = ""
        for key in keys:
            client = ScramClient(SYSTEM[0], key)
            answer = await self._exchange(SYSTEM[1], {"saslStart": 1, "mechanism": MECHANISM, "payload": Binary(client.first())})
            if answer.get("ok"):
                final = client.final(bytes(answer["payload"]))
                answer = await self._exchange(SYSTEM[1], {"saslContinue": 1, "conversationId": answer["conversationId"], "payload": Binary(final)})
            if answer.get("ok"):
                client.check(bytes(answer["payload"]))
                return
            message = str(answer.get("errmsg"))
        self.close()
        raise PeerError(f"could not authenticate: {message}", 18)

    def close(self) -> None:
        if self._streams is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._streams[1].transport.abort()
            self._streams = None
