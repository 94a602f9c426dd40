# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipeline runs: what the pipeline recorded in Redis, and a request for a new one."""

from __future__ import annotations

import datetime
import json
import typing as t
import uuid

import redis
import redis.asyncio
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from .settings import Settings

RUNS = "pipeline:runs"
RUN = "pipeline:run:{}"
RUN_TTL = 30 * 86400
RUNS_KEPT = 200
FUNCTION = "pipeline.jobs.run_pipeline"


async def latest(connection: redis.asyncio.Redis, limit: int, offset: int) -> tuple[list[dict[str, t.Any]], int]:
    async with connection.pipeline(transaction=False) as pipe:
        pipe.lrange(RUNS, offset, offset + limit - 1)
        pipe.llen(RUNS)
        identifiers, total = await pipe.execute()
    async with connection.pipeline(transaction=False) as pipe:
        for identifier in identifiers:
            pipe.hgetall(RUN.format(identifier.decode()))
        records = await pipe.execute() if identifiers else []
    return [_present(record) for record in records if record], total


def _present(record: dict[bytes, bytes]) -> dict[str, t.Any]:
    fields = {name.decode(): value.decode() for name, value in record.items()}
    run: dict[str, t.Any] = {name: fields.get(name) for name in ("run_id", "status", "trigger", "queued_at", "started_at", "finished_at", "error")}
    run["tables"] = _json(fields.get("tables"))
    run["steps"] = [
        {"table": name.split(":")[1], "step": name.split(":")[2], **detail}
        for name, value in fields.items()
        if name.startswith("step:") and name.count(":") == 2 and isinstance(detail := _json(value), dict)
    ]
    run["steps"].sort(key=lambda step: str(step.get("ts")))
    return run


def _json(text: str | None) -> t.Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def enqueue(connection: redis.Redis, settings: Settings, tables: list[str] | None, requested_by: str) -> str:
    """Put a run on the pipeline's queue; blocks."""
    now = datetime.datetime.now(datetime.UTC)
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    key = RUN.format(run_id)
    fields: dict[t.Any, t.Any] = {"run_id": run_id, "status": "queued", "trigger": f"api:{requested_by}", "queued_at": now.isoformat(timespec="milliseconds")}
    if tables:
        fields["tables"] = json.dumps(tables)
    with connection.pipeline(transaction=True) as pipe:
        pipe.hset(key, mapping=fields)
        pipe.expire(key, RUN_TTL)
        pipe.lpush(RUNS, run_id)
        pipe.ltrim(RUNS, 0, RUNS_KEPT - 1)
        pipe.execute()
    Queue(settings.pipeline_queue, connection=connection, serializer=JSONSerializer, default_timeout=settings.pipeline_job_timeout).enqueue(
        FUNCTION,
        kwargs={"tables": tables, "run_id": run_id, "trigger": f"api:{requested_by}"},
        job_id=run_id,
        retry=Retry(max=settings.pipeline_retries, interval=[10, 60, 300]) if settings.pipeline_retries else None,
        result_ttl=7 * 86400,
        failure_ttl=30 * 86400,
        description=f"pipeline run {run_id} (api)",
    )
    return run_id
