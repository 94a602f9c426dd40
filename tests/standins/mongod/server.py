# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The port: connections, messages, and the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import ssl
from typing import Any

from . import admin, faults, replset, session, users, wire
from .common import Doc, log, monotonic
from .crud import Cursors
from .node import Node
from .registry import Connection, Request, run

HANDSHAKE = 30  # seconds for TLS
COMMAND_MODULES = (admin, replset, session, users)  # importing them registers their commands


class Protocol(asyncio.StreamReaderProtocol):
    """A stream that ends the work for its client when the client has gone."""

    task: asyncio.Task[Any] | None = None
    busy = False

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.busy and self.task:
            self.task.cancel()


class Server:
    """Accepts clients and gives their commands to the node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cursors = Cursors()
        self.connections: dict[int, Connection] = {}
        self.active: dict[int, Request] = {}
        self.profile: dict[str, int] = {}
        self.slow_ms = int(node.config.get("operationProfiling.slowOpThresholdMs", 100))
        self.total_connections = self.requests = self.bytes_in = self.bytes_out = 0
        self._ids = itertools.count(1)
        self._ops = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sockets: list[socket.socket] = []

    def operations(self) -> list[Doc]:
        """What is running, as currentOp shows it."""
        shown = []
        for request in list(self.active.values()):
            seconds = monotonic() - request.started
            body = {key: value for key, value in request.body.items() if key not in ("pwd", "payload", "speculativeAuthenticate")}
            doc: Doc = {
                "type": "op",
                "host": self.node.host,
                "desc": f"conn{request.connection.id}",
                "connectionId": request.connection.id,
                "client": request.connection.address,
                "active": True,
                "opid": request.op_id,
                "op": {"insert": "insert", "update": "update", "delete": "remove", "find": "query", "getMore": "getmore"}.get(request.name, "command"),
                "ns": f"{request.db}.{body[request.name]}" if isinstance(body.get(request.name), str) else f"{request.db}.$cmd",
                "command": {key: value for key, value in body.items() if not key.startswith("$") and key != "lsid"},
                "secs_running": int(seconds),
                "microsecs_running": int(seconds * 1e6),
                "effectiveUsers": [{"user": user, "db": database} for user, database in request.connection.users],
            }
            shown.append(doc)
        return shown

    def reopen_log(self) -> None:
        """After the file was moved away (SIGUSR1, logRotate)."""
        path = self.node.config.get("systemLog.path")
        if self.node.config.get("systemLog.destination") == "file":
            old, log.stream = log.stream, open(path, "a")  # noqa: SIM115 (open as long as the process)
            old.close()

    # Listening

    async def listen(self) -> None:
        """Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        for address in self.node.config.addresses:
            found = await loop.getaddrinfo(address, self.node.config.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, where = found[0]
            sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(where)
            sock.listen(1024)
            self._sockets.append(sock)
            self._spawn(self._accept(sock))
        log("NETWORK", "Waiting for connections", port=self.node.config.port, ssl="on" if self.node.tls else "off")

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        # Accepted by hand, so that each connection gets the certificates of the moment.
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                log("NETWORK", "Error accepting a connection", "E", error=str(error))
                await asyncio.sleep(0.1)
                continue
            self._spawn(self._serve(sock, str(address[0])))

    async def _context(self, sock: socket.socket) -> ssl.SSLContext | None:
        """TLS or not; allowTLS and preferTLS look at the first byte (22 opens a TLS handshake)."""
        tls = self.node.tls
        if tls is None or tls.required:
            return tls.server if tls else None
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sock, readable.set)
        try:
            async with asyncio.timeout(HANDSHAKE):
                await readable.wait()
        finally:
            loop.remove_reader(sock)
        return tls.server if sock.recv(1, socket.MSG_PEEK) == b"\x16" else None

    async def _serve(self, sock: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(next(self._ids), address)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            context = await self._context(sock)
            reader = asyncio.StreamReader(limit=1 << 20)
            protocol = Protocol(reader)
            protocol.task = asyncio.current_task()
            options = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE} if context else {}
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, **options)  # type: ignore[arg-type]
        except (OSError, TimeoutError, ssl.SSLError) as error:
            log("NETWORK", "Error receiving request from client. Ending connection from remote", error=str(error), remote=address)
            sock.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.connections[connection.id] = connection
        self.total_connections += 1
        try:
            while True:
                message = await wire.receive(reader)
                protocol.busy = True
                if not await self._message(message, connection, writer):
                    break
                protocol.busy = False
        except wire.ProtocolError as error:
            log("NETWORK", "Client sent what is no message", "W", error=str(error), remote=address)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # The client has gone.
        finally:
            del self.connections[connection.id]
            transport.abort()

    # Messages

    async def _message(self, message: wire.Message, connection: Connection, writer: asyncio.StreamWriter) -> bool:
        """Run one message; False when the connection must end."""
        self.requests += 1
        body, response_to = message.body, message.request_id
        peer = connection.peer or body.get("standinPeer")
        if await self.node.faults.hold(peer) and peer:
            return False  # Lost in the partition.
        while True:
            reply = await self._run(message, body, connection)
            if message.more_to_come:
                return True
            if await self.node.faults.hold(peer) and peer:
                return False
            stream = message.exhaust_allowed and body.get("topologyVersion") is not None and bool(reply.get("ok"))
            flags = wire.MORE_TO_COME if stream else 0
            identity, data = wire.pack(reply, response_to, flags, legacy=message.opcode == wire.OP_QUERY)
            self.bytes_out += len(data)
            writer.write(data)
            await writer.drain()
            if not stream:
                return True
            # The client gets the next hello without asking: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
            body, response_to = {**body, "topologyVersion": reply["topologyVersion"]}, identity

    async def _run(self, message: wire.Message, body: Doc, connection: Connection) -> Doc:
        name = next(iter(body))
        request = Request(self.node, self, connection, body, name, str(body.get("$db", "admin")), legacy=message.opcode == wire.OP_QUERY)
        request.op_id = next(self._ops)
        self.active[request.op_id] = request
        try:
            reply = await run(request)
        finally:
            del self.active[request.op_id]
        took = (monotonic() - request.started) * 1000
        if took > self.slow_ms and name not in ("hello", "isMaster", "ismaster", "getMore", "shutdown", "saslStart", "saslContinue"):
            log("COMMAND", "Slow query", type="command", ns=request.db, command=name, durationMillis=int(took))
        return reply

    # The end

    async def until_closed(self) -> None:
        loop, node = asyncio.get_running_loop(), self.node

        def terminate() -> None:
            limit = float(admin.parameter(node, "shutdownTimeoutMillisForSignaledShutdown")) / 1000
            log("CONTROL", "Received signal", signal="SIGTERM")
            if node.quiesce_until is None:
                self._spawn(self._signalled(limit))

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, terminate)
        loop.add_signal_handler(signal.SIGUSR1, self.reopen_log)
        await node.closing.wait()
        await asyncio.sleep(0.05)  # The answer to `shutdown` and the last hellos go out.
        for sock in self._sockets:
            sock.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await node.stop()

    async def _signalled(self, limit: float) -> None:
        with contextlib.suppress(Exception):
            await self.node.shutdown(limit, force=True)
        self.node.closing.set()


async def main(node: Node, control: str | None, slow_start: float) -> None:
    """Serve until told to stop. Raises OSError when the port is taken."""
    server = Server(node)
    if control:
        await faults.serve(control, node.faults, node.fault_state, node.act)
    await node.start()
    if slow_start:
        await asyncio.sleep(slow_start)
    await server.listen()
    await server.until_closed()
