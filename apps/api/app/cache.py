# SPDX-License-Identifier: GPL-3.0-or-later
"""The result cache in Redis. It can only help: any failure is a miss, and after one Redis is left alone for a moment."""

from __future__ import annotations

import asyncio
import logging
import time
import typing as t

import redis.asyncio
from redis.exceptions import RedisError

from . import metrics

log = logging.getLogger("app.cache")

PAUSE = 3.0
LIMIT = 1 << 20
PREFIX = "cache:api:"


class ResultCache:
    def __init__(self, connection: redis.asyncio.Redis | None, ttl: int) -> None:
        self.connection = connection if ttl else None
        self.ttl = ttl
        self._down_until = 0.0

    def _usable(self) -> bool:
        return self.connection is not None and time.monotonic() >= self._down_until

    def _failed(self, exc: Exception) -> None:
        metrics.CACHE.labels("error").inc()
        if time.monotonic() >= self._down_until:
            log.warning("the cache does not answer: %s", type(exc).__name__)
        self._down_until = time.monotonic() + PAUSE

    async def get(self, key: str) -> bytes | None:
        if not self._usable():
            return None
        assert self.connection is not None
        try:
            async with asyncio.timeout(1.5):
                value = t.cast("bytes | None", await self.connection.get(PREFIX + key))
        except (RedisError, OSError, TimeoutError) as exc:
            self._failed(exc)
            return None
        metrics.CACHE.labels("hit" if value is not None else "miss").inc()
        return value

    async def put(self, key: str, value: bytes) -> None:
        if not self._usable() or len(value) > LIMIT:
            return
        assert self.connection is not None
        try:
            async with asyncio.timeout(1.5):
                await self.connection.set(PREFIX + key, value, ex=self.ttl)
        except (RedisError, OSError, TimeoutError) as exc:
            self._failed(exc)
