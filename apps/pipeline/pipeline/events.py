# SPDX-License-Identifier: GPL-3.0-or-later
"""A run's record in Redis and its announcements. Data comes first: without Redis a run goes on, only unrecorded.

pipeline:runs            list of run ids, newest first, capped
pipeline:run:<run_id>    hash: status, times, error, and one JSON field step:<table>:<step> each
pipeline:lock:<table>    one run at a time works on a table
channel pipeline-events  JSON {run_id, table, step, status, ts, ...}
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import logging
import threading
import time
import typing as t
import uuid

from redis import Redis
from redis.exceptions import RedisError

from .errors import PipelineError

log = logging.getLogger("pipeline.events")

CHANNEL = "pipeline-events"
RUNS = "pipeline:runs"
RUN = "pipeline:run:{}"
LOCK = "pipeline:lock:{}"
RUN_TTL = 30 * 86400
LOCK_TTL = 60
LOCK_WAIT = 600
# After a failure Redis is left alone for so long: the data must not wait for its record.
PAUSE = 10.0

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end return 0"


def timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def register(connection: Redis, run_id: str, kept: int, **fields: t.Any) -> None:
    """Add a run to the list, once."""
    key = RUN.format(run_id)
    new = connection.hsetnx(key, "run_id", run_id)
    values: dict[t.Any, t.Any] = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items() if value is not None}
    with connection.pipeline(transaction=True) as pipe:
        if values:
            pipe.hset(key, mapping=values)
        pipe.expire(key, RUN_TTL)
        if new:
            pipe.lpush(RUNS, run_id)
            pipe.ltrim(RUNS, 0, kept - 1)
        pipe.execute()


def _claim(got: list[t.Any], key: str, token: str, connection: Redis) -> None:
    got.append(connection.set(key, token, nx=True, ex=LOCK_TTL))


class Recorder:
    def __init__(self, connection: Redis | None, run_id: str, kept: int, trigger: str = "command") -> None:
        self.connection = connection
        self.run_id = run_id
        self.kept = kept
        self.trigger = trigger
        self._down_until = 0.0

    def start(self, tables: list[str]) -> None:
        def write(connection: Redis) -> None:
            register(connection, self.run_id, self.kept, status="running", trigger=self.trigger, tables=tables, started_at=timestamp())
            connection.hdel(RUN.format(self.run_id), "finished_at", "error")

        self._try(write)
        self.publish(None, None, "started")

    def finish(self, status: str, error: str | None) -> None:
        fields: dict[t.Any, t.Any] = {"status": status, "finished_at": timestamp(), **({"error": error[:4000]} if error else {})}
        self._try(lambda connection: connection.hset(RUN.format(self.run_id), mapping=fields))
        self.publish(None, None, status, **({"message": error[:1000]} if error else {}))

    def step(self, table: str, step: str, status: str, **detail: t.Any) -> None:
        entry = {"status": status, "ts": timestamp(), **detail}
        self._try(lambda connection: connection.hset(RUN.format(self.run_id), f"step:{table}:{step}", json.dumps(entry, default=str)))
        self.publish(table, step, status, **{name: value for name, value in detail.items() if name in ("message", "rule", "rows", "seconds")})

    def publish(self, table: str | None, step: str | None, status: str, **detail: t.Any) -> None:
        message = {"run_id": self.run_id, "table": table, "step": step, "status": status, "ts": timestamp(), **detail}
        self._try(lambda connection: connection.publish(CHANNEL, json.dumps(message, default=str)))

    @contextlib.contextmanager
    def lock(self, table: str) -> t.Iterator[None]:
        """Keep two runs from working on one table; without Redis there is no second run to fear but a manual one."""
        key, token = LOCK.format(table), uuid.uuid4().hex
        stop = threading.Event()
        held = self._acquire(key, token, stop)
        renewer = threading.Thread(target=self._renew, args=(key, token, stop), name=f"lock-{table}", daemon=True)
        if held:
            renewer.start()
        try:
            yield
        finally:
            stop.set()
            if held:
                renewer.join(timeout=5)
                self._try(lambda connection: connection.eval(_RELEASE, 1, key, token))

    def _acquire(self, key: str, token: str, stop: threading.Event) -> bool:
        for _attempt in range(LOCK_WAIT * 2):
            got: list[t.Any] = []
            if not self._try(functools.partial(_claim, got, key, token)):
                return False
            if got[0]:
                return True
            stop.wait(0.5)
        raise PipelineError(f"another run holds the lock {key} for more than {LOCK_WAIT} s", retryable=True)

    def _renew(self, key: str, token: str, stop: threading.Event) -> None:
        while not stop.wait(LOCK_TTL / 3):
            self._try(lambda connection: connection.eval(_RENEW, 1, key, token, LOCK_TTL))

    def _try(self, action: t.Callable[[Redis], t.Any]) -> bool:
        if self.connection is None or time.monotonic() < self._down_until:
            return False
        try:
            action(self.connection)
            return True
        except RedisError as exc:
            log.warning("the run is not recorded: Redis does not answer: %s", exc)
            self._down_until = time.monotonic() + PAUSE
            return False
