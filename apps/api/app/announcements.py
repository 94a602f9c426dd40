# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipeline runs as they happen: one subscription a process, handed on to every open WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import typing as t

from redis.exceptions import RedisError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from . import metrics, redis_client
from .settings import Settings

log = logging.getLogger("app.announcements")

CHANNEL = "pipeline-events"
PING_SECONDS = 25.0
QUEUE_LENGTH = 200
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013


class Announcer:
    def __init__(self, settings: Settings, on_event: t.Callable[[dict[str, t.Any]], None]) -> None:
        self.settings = settings
        self.on_event = on_event
        self._listeners: set[asyncio.Queue[dict[str, t.Any] | None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    def start(self) -> None:
        if self.settings.redis_configured:
            self._task = asyncio.create_task(self._listen(), name="announcer")

    async def stop(self) -> None:
        self.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def close(self) -> None:
        """Send every client to another member."""
        self.closing = True
        for queue in self._listeners:
            _offer(queue, None)

    async def _listen(self) -> None:
        delay = 0.2
        while True:
            connection = redis_client.queue(self.settings, timeout=None)
            try:
                async with connection.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    delay = 0.2
                    while True:
                        # the time limit lets the ping below notice a peer that is gone
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=10.0)
                        if message is None:
                            await subscription.ping()
                        elif message["type"] == "message":
                            self._relay(message["data"])
            except (RedisError, OSError, RuntimeError) as exc:
                log.warning("no announcements of runs: %s; trying again", type(exc).__name__)
            finally:
                with contextlib.suppress(RedisError, OSError, RuntimeError):
                    await connection.aclose()
            await asyncio.sleep(delay + random.uniform(0, delay))  # noqa: S311 - jitter
            delay = min(delay * 2, 5.0)

    def _relay(self, data: bytes) -> None:
        try:
            event = json.loads(data)
        except ValueError:
            log.warning("an announcement is not JSON")
            return
        if not isinstance(event, dict):
            return
        self.on_event(event)
        for queue in self._listeners:
            _offer(queue, {"type": "run", **event})

    async def serve(self, websocket: WebSocket) -> None:
        """Talk to one client that was let in, until it leaves or the process stops."""
        queue: asyncio.Queue[dict[str, t.Any] | None] = asyncio.Queue(QUEUE_LENGTH)
        self._listeners.add(queue)
        metrics.SOCKETS.inc()
        if self.closing:
            _offer(queue, None)
        reader = asyncio.create_task(self._drain(websocket), name="websocket-reader")
        try:
            await websocket.send_json({"type": "hello", "version": self.settings.version})
            while not reader.done():
                getter = asyncio.create_task(queue.get())
                done, _pending = await asyncio.wait({getter, reader}, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if getter not in done:
                    getter.cancel()
                    if reader not in done:
                        await websocket.send_json({"type": "ping"})
                    continue
                event = getter.result()
                if event is None:
                    await websocket.send_json({"type": "reconnect", "after_ms": random.randint(200, 3000)})  # noqa: S311 - jitter
                    await websocket.close(SERVICE_RESTART, "the member stops; connect again")
                    break
                await websocket.send_json(event)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._listeners.discard(queue)
            metrics.SOCKETS.dec()
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await reader
            if websocket.client_state == WebSocketState.CONNECTED and websocket.application_state == WebSocketState.CONNECTED:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await websocket.close()

    @staticmethod
    async def _drain(websocket: WebSocket) -> None:
        """Clients have nothing to say; reading notices that one left."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await websocket.receive_text()


def _offer(queue: asyncio.Queue[dict[str, t.Any] | None], event: dict[str, t.Any] | None) -> None:
    """A client that does not keep up loses its oldest news, never the last."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(event)
