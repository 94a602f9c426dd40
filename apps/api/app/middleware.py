# SPDX-License-Identifier: GPL-3.0-or-later
"""Around every request: its id, the access log, the metrics, the headers, and a problem document instead of a stack trace."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import time
import typing as t
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import metrics, problems
from .logs import request_id

log = logging.getLogger("app.access")

# When the request that is being served began, on the monotonic clock in seconds: what it waits for together must not take longer than the edge waits.
began: contextvars.ContextVar[float | None] = contextvars.ContextVar("began", default=None)

_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_QUIET = ("/health", "/ready", "/metrics")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Observe:
    def __init__(self, app: ASGIApp, version: str, draining: t.Callable[[], bool]) -> None:
        self.app = app
        self.version = version
        self.draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        identifier = given if _ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(identifier)
        try:
            if scope["type"] == "websocket":
                await self._websocket(scope, receive, send)
            else:
                await self._http(scope, receive, send, identifier)
        finally:
            request_id.reset(token)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        log.info("websocket opened", extra={"path": scope["path"], "client": _client(scope)})
        try:
            await self.app(scope, receive, send)
        finally:
            log.info("websocket closed", extra={"path": scope["path"], "seconds": round(time.monotonic() - started, 3)})

    async def _http(self, scope: Scope, receive: Receive, send: Send, identifier: str) -> None:
        started = time.monotonic()
        token = began.set(started)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = identifier
                headers["X-Platform-Version"] = self.version
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
                if self.draining():
                    headers["Connection"] = "close"
            await send(message)

        metrics.IN_FLIGHT.inc()
        try:
            await self.app(scope, receive, answer)
        except Exception:
            log.exception("unhandled error", extra={"method": scope["method"], "path": scope["path"]})
            if status == 0:
                detail = "Something went wrong here; the request's id finds it in the logs."
                body = json.dumps(problems.body(500, "internal-error", detail, scope["path"])).encode()
                headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
                await answer({"type": "http.response.start", "status": 500, "headers": headers})
                await send({"type": "http.response.body", "body": body})
            else:
                raise
        finally:
            began.reset(token)
            self._record(scope, status, time.monotonic() - started)

    @staticmethod
    def _record(scope: Scope, status: int, seconds: float) -> None:
        metrics.IN_FLIGHT.dec()
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.REQUESTS.labels(method, route, str(status)).inc()
        metrics.SECONDS.labels(method, route).observe(seconds)
        if status >= 500:
            metrics.ERRORS.labels(method, route).inc()
        quiet = scope["path"] in _QUIET and status < 500
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %s",
            method,
            scope["path"],
            status,
            extra={
                "method": method,
                "path": scope["path"],
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 1),
                "client": _client(scope),
                "user": scope.get("state", {}).get("user"),
            },
        )


def _client(scope: Scope) -> str | None:
    return scope["client"][0] if scope.get("client") else None
