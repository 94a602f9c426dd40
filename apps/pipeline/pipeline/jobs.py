# SPDX-License-Identifier: GPL-3.0-or-later
"""What the queue calls. `run_pipeline` is safe to repeat: the queue delivers a job at least once."""

from __future__ import annotations

import logging
import time
import typing as t

from redis import Redis
from rq import Queue, Retry
from rq.job import Job, get_current_job
from rq.serializers import JSONSerializer

from . import config, events, metrics, steps
from .errors import PipelineError
from .redis_client import connect
from .settings import Settings
from .store import Store

log = logging.getLogger("pipeline.jobs")

FUNCTION = "pipeline.jobs.run_pipeline"
RESULT_TTL = 7 * 86400
FAILURE_TTL = 30 * 86400


class PipelineJob(Job):
    """A job that can only be what this queue is for: who may write to the queue may not call any function he likes."""

    def perform(self) -> t.Any:
        if self.func_name != FUNCTION:
            raise PipelineError(f"job {self.id} names the function {self.func_name!r}; accepted: {FUNCTION}")
        return super().perform()


def context(settings: Settings, connection: Redis | None, run_id: str, trigger: str) -> steps.Context:
    recorder = events.Recorder(connection, run_id, settings.runs_kept, trigger)
    return steps.Context(settings, config.load(settings.config), Store(settings.store), recorder, run_id)


def run_pipeline(tables: list[str] | None = None, run_id: str | None = None, trigger: str = "queue") -> dict[str, t.Any]:
    """Run all steps for the tables; called by a worker."""
    settings = Settings.load(redis=True)
    job = get_current_job()
    run_id = run_id or (job.id if job else steps.new_run_id())
    started = time.monotonic()
    report = steps.run(context(settings, connect(settings.redis), run_id, trigger), tables)
    metrics.emit("run", status="succeeded", seconds=round(time.monotonic() - started, 3))
    return report


def queue(connection: Redis, settings: Settings) -> Queue:
    return Queue(settings.queue, connection=connection, job_class=PipelineJob, serializer=JSONSerializer, default_timeout=settings.job_timeout)


def enqueue(connection: Redis, settings: Settings, *, run_id: str, trigger: str, tables: list[str] | None = None) -> Job:
    """Put a run on the queue; the run's id is the job's, and a second job of the same id is refused (DuplicateJobError)."""
    retry = Retry(max=settings.retries, interval=list(settings.retry_intervals)) if settings.retries else None
    job = queue(connection, settings).enqueue(
        FUNCTION,
        kwargs={"tables": tables, "run_id": run_id, "trigger": trigger},
        job_id=run_id,
        unique=True,
        retry=retry,
        result_ttl=RESULT_TTL,
        failure_ttl=FAILURE_TTL,
        description=f"pipeline run {run_id} ({trigger})",
    )
    events.register(connection, run_id, settings.runs_kept, trigger=trigger, tables=tables, queued_at=events.timestamp())
    if connection.hsetnx(events.RUN.format(run_id), "status", "queued"):
        events.Recorder(connection, run_id, settings.runs_kept, trigger).publish(None, None, "queued")
    return job
