# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of the two Redis masters, cache and queue, found through Sentinel where there is one."""

from __future__ import annotations

import socket
import typing as t

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff

from .settings import Settings

# A peer that vanished without a word is noticed after about 10 + 3 x 5 seconds.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


def _options(settings: Settings, timeout: float | None) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    common: dict[str, t.Any] = {"socket_connect_timeout": 1.0, "socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    if settings.redis_tls:
        common.update(ssl=True, ssl_ca_certs=settings.redis_ca_file, ssl_cert_reqs="required", ssl_check_hostname=True)
    data = {**common, "username": settings.redis_username or None, "password": settings.redis_password or None, "socket_timeout": timeout}
    watch = {
        **common,
        "socket_timeout": 1.0,
        "username": settings.redis_sentinel_username or None,
        "password": settings.redis_sentinel_password or None,
    }
    return data, watch


def asynchronous(settings: Settings, master: str, host: str, port: int, timeout: float | None) -> redis.asyncio.Redis:
    data, watch = _options(settings, timeout)
    data["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 1)
    watch["retry"] = redis.asyncio.retry.Retry(NoBackoff(), 0)
    if not settings.redis_sentinels:
        return redis.asyncio.Redis(host=host, port=port, **data)
    sentinel: t.Any = redis.asyncio.sentinel.Sentinel(settings.redis_sentinels, sentinel_kwargs=watch, **data)  # type: ignore[no-untyped-call]
    return t.cast(redis.asyncio.Redis, sentinel.master_for(master))


def cache(settings: Settings) -> redis.asyncio.Redis:
    return asynchronous(settings, settings.redis_sentinel_cache, settings.redis_host, settings.redis_port, 1.0)


def queue(settings: Settings, timeout: float | None = 2.0) -> redis.asyncio.Redis:
    return asynchronous(settings, settings.redis_sentinel_queue, settings.redis_queue_host, settings.redis_queue_port, timeout)


def queue_blocking(settings: Settings) -> redis.Redis:
    """For RQ, which has no asynchronous side."""
    data, watch = _options(settings, 3.0)
    data["retry"] = redis.retry.Retry(NoBackoff(), 1)
    watch["retry"] = redis.retry.Retry(NoBackoff(), 0)
    if not settings.redis_sentinels:
        return redis.Redis(host=settings.redis_queue_host, port=settings.redis_queue_port, **data)
    sentinel: t.Any = redis.sentinel.Sentinel(settings.redis_sentinels, sentinel_kwargs=watch, **data)  # type: ignore[no-untyped-call]
    return t.cast(redis.Redis, sentinel.master_for(settings.redis_sentinel_queue))
