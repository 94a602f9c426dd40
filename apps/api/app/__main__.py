# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m app: serve, and stop without a client noticing.

On SIGTERM /ready answers 503 while requests are still served for DRAIN_SECONDS; then WebSocket clients are sent elsewhere,
listening ends, and requests in flight have SHUTDOWN_GRACE_SECONDS to finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
import time
import types
import typing as t

import uvicorn

from . import logs
from .main import create_app, load_settings
from .settings import Settings

log = logging.getLogger("app.server")

# longer than any proxy in front keeps an idle connection, so that it is never this side that closes under a request
KEEP_ALIVE = 75
CERTIFICATE_POLL = 10.0


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, state: t.Any, settings: Settings) -> None:
        super().__init__(config)
        self.state = state
        self.settings = settings
        self._stop_at: float | None = None
        self._signals = 0

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1 and self.started:
            log.info("draining for %s s", self.settings.drain_seconds)
            self.state.drain()
            self._stop_at = time.monotonic() + self.settings.drain_seconds
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: t.Any = None) -> None:
        self.state.announcer.close()
        await asyncio.sleep(0.2)  # lets the farewell reach the WebSocket clients before uvicorn closes them
        await super().shutdown(sockets)

    async def startup(self, sockets: t.Any = None) -> None:
        await super().startup(sockets)
        if self.config.ssl is not None:
            self._watcher = asyncio.create_task(self._watch_certificate(self.config.ssl), name="certificate")

    async def _watch_certificate(self, context: ssl.SSLContext) -> None:
        """A renewed certificate is used for new connections without a restart; SIGHUP looks at once."""
        certificate, key = self.settings.tls_cert_file, self.settings.tls_key_file
        assert certificate and key
        wake = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wake.set)
        known = _stamp(certificate, key)
        while True:
            # not wait_for: before Python 3.12 it loses a cancellation that comes together with the signal (python/cpython#86296)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CERTIFICATE_POLL):
                    await wake.wait()
            wake.clear()
            found = _stamp(certificate, key)
            if found is None or found == known:
                continue
            try:
                # tried on a throw-away context first: half a renewal must not touch the one in use
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
                context.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as exc:
                log.error("the new certificate is not used: %s", exc)
                continue
            known = found
            log.info("a new certificate is in use")


def _stamp(*paths: str) -> tuple[tuple[int, int, int], ...] | None:
    try:
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in map(os.stat, paths))
    except OSError:
        return None


def _context(config: uvicorn.Config, default: t.Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def main() -> int:
    settings = load_settings()
    logs.configure(settings.log_level)
    options: dict[str, t.Any] = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": settings.shutdown_grace_seconds,
        "proxy_headers": True,
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "ws_max_size": 4096,
    }
    if settings.tls_cert_file:
        options.update(ssl_certfile=settings.tls_cert_file, ssl_keyfile=settings.tls_key_file, ssl_context_factory=_context)
    if settings.reload:
        uvicorn.run("app.main:app", reload=True, **options)
        return 0
    try:
        application = create_app(settings)
    except OSError as exc:
        print(f"api: DUCKDB_PATH: cannot use {settings.duckdb_path}: {exc.strerror}", file=sys.stderr)
        return 2
    server = Server(uvicorn.Config(application, **options), application.state.platform, settings)
    server.run()
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
