# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the queue's master, found through Sentinel where there is one."""

from __future__ import annotations

import socket
import typing as t

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from .settings import RedisSettings

# A peer that vanished without a word is noticed after about 10 + 3 x 5 seconds.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class _Interruptible:
    """A reply that was not waited for must never be taken for the next command's.

    A worker's signal handler leaves a blocking read by an exception. redis-py then drops the connection, but not behind Sentinel
    (8.1: `disconnect_on_error` defaults to False there), where the next command would wait for, and get, the abandoned reply.
    """

    def read_response(self, *arguments: t.Any, **options: t.Any) -> t.Any:
        options.setdefault("disconnect_on_error", True)
        return super().read_response(*arguments, **options)  # type: ignore[misc]


class _Connection(_Interruptible, SentinelManagedConnection):
    pass


class _SSLConnection(_Interruptible, SentinelManagedSSLConnection):
    pass


def connect(settings: RedisSettings, *, timeout: float = 5.0) -> Redis:
    common: dict[str, t.Any] = {"socket_connect_timeout": 2.0, "socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if settings.tls:
        common.update(ssl=True, ssl_ca_certs=settings.ca_file, ssl_cert_reqs="required", ssl_check_hostname=True)
    options = {
        **common,
        "username": settings.username or None,
        "password": settings.password or None,
        "socket_timeout": timeout,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=1.0, base=0.1), 3),
    }
    if not settings.sentinels:
        return Redis(host=settings.host, port=settings.port, **options)
    sentinel: t.Any = Sentinel(  # type: ignore[no-untyped-call]
        settings.sentinels,
        sentinel_kwargs={
            **common,
            "socket_timeout": 2.0,
            "username": settings.sentinel_username or None,
            "password": settings.sentinel_password or None,
            "retry": Retry(ExponentialBackoff(cap=0.1, base=0.1), 0),
        },
        **options,
    )
    return t.cast(Redis, sentinel.master_for(settings.master, connection_class=_SSLConnection if settings.tls else _Connection))
