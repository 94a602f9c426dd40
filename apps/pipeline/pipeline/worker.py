# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue's consumer: one job at a time, in a child process; SIGTERM lets the current job finish."""

from __future__ import annotations

import logging
import socket
import typing as t
import uuid

from redis import Redis
from rq import Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from . import alerts, config, events, health, jobs, metrics
from .errors import PipelineError
from .redis_client import connect
from .settings import Settings

log = logging.getLogger("pipeline.worker")

# How long a worker blocks on the queue at a time, plus 15 s: also how soon a dead Redis host is noticed.
WORKER_TTL = 45


class PipelineWorker(Worker):
    max_connection_wait_time = 5.0
    health_file = ""

    def heartbeat(self, timeout: int | None = None, pipeline: t.Any = None) -> None:
        super().heartbeat(timeout, pipeline)
        if self.health_file:
            health.touch(self.health_file)


def handle_failure(settings: Settings, job: Job, error: BaseException | str, connection: Redis) -> None:
    """A run failed: try again later if that can help and tries are left, else record it and tell people."""
    if isinstance(error, PipelineError) and not error.retryable:
        job.retries_left = 0
    status = "retrying" if job.should_retry else "failed"
    metrics.emit("run", status=status)
    run_id = str((job.kwargs or {}).get("run_id") or job.id)
    events.Recorder(connection, run_id, settings.runs_kept).finish(status, str(error))
    if status == "failed":
        alerts.send(settings.alerts, alerts.Alert.of(run_id, error))


def work(settings: Settings, *, burst: bool = False) -> int:
    config.load(settings.config)  # a wrong configuration stops the worker, and its rollout, at once
    connection = connect(settings.redis)

    def on_exception(job: Job, _kind: t.Any, value: BaseException, _traceback: t.Any) -> None:
        handle_failure(settings, job, value, connection)

    def on_killed(job: Job, _pid: int, status: int, _usage: t.Any) -> None:
        handle_failure(settings, job, f"the job's process was killed (wait status {status}); out of memory?", connection)

    counters = metrics.Metrics()
    counters.listen()
    if settings.metrics_port:
        counters.serve(settings.metrics_host, settings.metrics_port, lambda: health.healthy(settings.health_file))
    health.remove(settings.health_file)
    worker = PipelineWorker(
        [jobs.queue(connection, settings)],
        name=f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        connection=connection,
        job_class=jobs.PipelineJob,
        serializer=JSONSerializer,
        exception_handlers=[on_exception],
        work_horse_killed_handler=on_killed,
        worker_ttl=WORKER_TTL,
        job_monitoring_interval=10,
        maintenance_interval=60,
        default_result_ttl=jobs.RESULT_TTL,
    )
    worker.health_file = settings.health_file
    worker.log_result_lifespan = False
    log.info("worker %s starts", worker.name)
    # the worker's own scheduler process puts jobs back whose time for another try has come
    worker.work(burst=burst, with_scheduler=True, logging_level=settings.log_level.upper())
    log.info("worker %s stops", worker.name)
    return 0
