# SPDX-License-Identifier: GPL-3.0-or-later
"""MongoDB, with elections ridden out.

The driver repeats a command once it knows that it may (retryable reads and writes); what it gives up on is repeated here, up to RIDE_OUT seconds after the
first failure. An election takes at most 12 s with default settings (MongoDB manual, "Replica Set Elections"), so none fails a request. Work given to
`run` is therefore repeated as a whole, and must be written so that a second time after an unseen success does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import typing as t

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from . import metrics, middleware
from .problems import Unavailable
from .settings import MongoSettings

log = logging.getLogger("app.mongo")

Document = dict[str, t.Any]
T = t.TypeVar("T")

# Seconds after the first failure in which requests wait for a primary, and that all waits of one request may take together; less than the edge
# waits for an answer (15).
RIDE_OUT = 14.0
QUICK = 1.5  # what a request may still take in an outage that is older
ATTEMPT = 5.0  # a member that vanished without a word holds an attempt no longer than this

# What passes by itself: shutting down, no primary, not enough members for the write concern, a majority not known yet
# (MongoDB manual, "Error Codes"). Codes that say "not primary" come as ConnectionFailure.
_PASSING = {6, 7, 64, 89, 91, 100, 134, 189, 262, 9001, 11600, 11602}
_REFUSED = {13, 18}


def passes(exc: PyMongoError) -> bool:
    """Whether the same again may succeed."""
    if isinstance(exc, ConnectionFailure) or exc.timeout or exc.has_error_label("RetryableWriteError"):
        return True
    return isinstance(exc, OperationFailure) and exc.code in _PASSING


class Mongo:
    """A client and its database. Made without I/O; nothing waits for the server at start."""

    def __init__(self, settings: MongoSettings, database: t.Any = None) -> None:
        self.client: AsyncMongoClient[Document] | None = None
        if database is None:
            options: dict[str, t.Any] = {"username": settings.username, "password": settings.password} if settings.username else {}
            if settings.ca_file:
                options.update(tls=True, tlsCAFile=settings.ca_file)
            self.client = AsyncMongoClient(
                settings.uri, appname="platform-api", tz_aware=True, retryWrites=True, w="majority", readConcernLevel="majority",
                connectTimeoutMS=2000, heartbeatFrequencyMS=3000, maxPoolSize=50, **options,
            )  # fmt: skip
            database = self.client[settings.database]
        self.database: AsyncDatabase[Document] = database
        self._down_since: float | None = None

    def collection(self, name: str) -> AsyncCollection[Document]:
        return self.database[name]

    async def run(self, work: t.Callable[[], t.Awaitable[T]], ride_out: float | None = None) -> T:
        """The result of `work`, repeated while what failed may pass, for `ride_out` seconds, RIDE_OUT unless told.

        Raises Unavailable after that time, and errors that repeating does not mend (DuplicateKeyError among them) at once.
        """
        now = time.monotonic()
        ride_out = RIDE_OUT if ride_out is None else ride_out
        # an outage is waited for once, not by every request anew
        deadline = now + ride_out if self._down_since is None else max(self._down_since + ride_out, now + min(QUICK, ride_out))
        began = middleware.began.get()
        if began is not None:
            deadline = max(min(deadline, began + RIDE_OUT), now + 0.05)
        try:
            async with asyncio.timeout(deadline - now + 0.5):  # for what hangs outside of the driver's own limits
                return await self._attempts(work, deadline)
        except TimeoutError:
            raise self._unavailable("no answer in time") from None

    async def _attempts(self, work: t.Callable[[], t.Awaitable[T]], deadline: float) -> T:
        delay = 0.05
        while True:
            try:
                with pymongo.timeout(max(min(ATTEMPT, deadline - time.monotonic()), 0.05)):
                    result = await work()
            except PyMongoError as exc:
                if isinstance(exc, OperationFailure) and exc.code in _REFUSED:
                    raise self._unavailable("it refuses this API's user") from exc
                if not passes(exc):
                    raise
                if self._down_since is None:
                    self._down_since = time.monotonic()
                    log.warning("MongoDB does not answer: %s; trying again", type(exc).__name__)
                pause = delay * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
                if time.monotonic() + pause >= deadline:
                    raise self._unavailable(type(exc).__name__) from exc
                metrics.RETRIES.inc()
                await asyncio.sleep(pause)
                delay = min(delay * 2, 0.5)
            else:
                if self._down_since is not None:
                    log.info("MongoDB answers again after %.1f s", time.monotonic() - self._down_since)
                self._down_since = None
                return result

    def _unavailable(self, reason: str) -> Unavailable:
        if self._down_since is None:
            self._down_since = time.monotonic()
        return Unavailable("mongodb", f"MongoDB cannot serve the request: {reason}.")

    async def ping(self) -> None:
        """Ask the primary; raises what the driver raises."""
        with pymongo.timeout(1.5):
            await self.database.command("ping")

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()
