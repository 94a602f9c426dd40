# SPDX-License-Identifier: GPL-3.0-or-later
"""Enqueues the daily run. Any number of schedulers may run: Redis decides who enqueues which time, exactly once."""

from __future__ import annotations

import datetime
import logging
import signal
import socket
import threading
import typing as t
import zoneinfo

import croniter
from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError

from . import alerts, events, health, jobs
from .redis_client import connect
from .settings import Settings

log = logging.getLogger("pipeline.scheduler")

MARK = "pipeline:schedule:{}"
SINCE = "pipeline:schedule:since"
CLAIM_TTL = 60
MARK_TTL = 8 * 86400
TICK = 15.0


class Scheduler:
    def __init__(self, settings: Settings, connection: Redis, name: str | None = None) -> None:
        self.settings = settings
        self.connection = connection
        self.name = name or socket.gethostname()
        self.zone = zoneinfo.ZoneInfo(settings.timezone)
        self.stop = threading.Event()

    def due(self, at: datetime.datetime) -> datetime.datetime:
        """The latest scheduled time that is not after `at`, in UTC."""
        cursor = croniter.croniter(self.settings.schedule, at.astimezone(self.zone) + datetime.timedelta(seconds=1))
        return t.cast(datetime.datetime, cursor.get_prev(datetime.datetime)).astimezone(datetime.UTC)

    def tick(self, at: datetime.datetime | None = None) -> str:
        """Look once; says what happened to the latest scheduled time."""
        at = at or datetime.datetime.now(datetime.UTC)
        # times before the platform's first scheduler are not missed runs
        self.connection.set(SINCE, str(at.timestamp()), nx=True)
        since = float(t.cast(bytes, self.connection.get(SINCE)) or 0)
        due = self.due(at)
        if due.timestamp() <= since:
            return "before the first start"
        stamp = f"{due:%Y%m%dT%H%M%SZ}"
        mark = MARK.format(stamp)
        # the claim lasts a minute: if its holder dies before the run is enqueued, another takes over
        if not self.connection.set(mark, f"claimed by {self.name}", nx=True, ex=CLAIM_TTL):
            return "taken"
        run_id = f"scheduled-{stamp}"
        if (at - due).total_seconds() > self.settings.misfire_seconds:
            log.error("the run of %s was missed and is too old to be caught up", stamp)
            alerts.send(self.settings.alerts, alerts.Alert(run_id, f"pipeline run {run_id} was missed", ("no scheduler was running in time",)))
            outcome = "missed"
        else:
            try:
                jobs.enqueue(self.connection, self.settings, run_id=run_id, trigger="schedule")
                outcome = "enqueued"
                log.info("run %s enqueued", run_id, extra={"run_id": run_id})
            except DuplicateJobError:
                outcome = "duplicate"
        self.connection.set(mark, f"{outcome} by {self.name} at {events.timestamp()}", ex=MARK_TTL)
        return outcome

    def run(self) -> None:
        log.info("scheduler %s starts: %s %s", self.name, self.settings.schedule, self.settings.timezone)
        while not self.stop.is_set():
            try:
                self.tick()
                health.touch(self.settings.health_file)
            except RedisError as exc:
                log.warning("Redis does not answer, trying again: %s", exc)
            self.stop.wait(TICK - datetime.datetime.now().timestamp() % TICK)
        log.info("scheduler %s stops", self.name)


def run(settings: Settings) -> int:
    health.remove(settings.health_file)
    scheduler = Scheduler(settings, connect(settings.redis))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: scheduler.stop.set())
    scheduler.run()
    return 0
