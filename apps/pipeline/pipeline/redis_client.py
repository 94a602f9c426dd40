# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the queue's master, found through Sentinel where there is one."""

from __future__ import annotations

import socket
import typing as t

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from .settings import RedisSettings

# A peer that vanished without a word is noticed after about 10 + 3 x 5 seconds.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


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
    return t.cast(Redis, sentinel.master_for(settings.master))
