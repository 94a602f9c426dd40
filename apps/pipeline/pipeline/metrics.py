# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of a worker. Jobs run in child processes: they send what happened through a pipe to the worker, which serves it."""

from __future__ import annotations

import http.server
import json
import logging
import os
import select
import threading
import typing as t

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

log = logging.getLogger("pipeline.metrics")

STEP_NAMES = ("extract_and_load", "transform_with_duckdb", "load_to_gold", "validate_pipeline")

_pipe: int | None = None


def emit(kind: str, **values: t.Any) -> None:
    """Tell the worker; outside of a worker nobody listens."""
    if _pipe is None:
        return
    line = json.dumps({"kind": kind, **values}).encode() + b"\n"
    # a write of at most PIPE_BUF bytes is never mixed with another process's
    if len(line) <= select.PIPE_BUF:
        try:
            os.write(_pipe, line)
        except OSError:
            log.debug("metric lost", exc_info=True)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs = Counter("pipeline_runs", "Runs by result.", ["status"], registry=self.registry)
        self.steps = Counter("pipeline_steps", "Steps by result.", ["step", "status"], registry=self.registry)
        self.errors = Counter("pipeline_errors", "Failed steps.", ["step"], registry=self.registry)
        self.seconds = Histogram(
            "pipeline_step_duration_seconds",
            "Duration of a step.",
            ["step"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800),
            registry=self.registry,
        )
        self.run_seconds = Histogram(
            "pipeline_run_duration_seconds", "Duration of a run.", buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600), registry=self.registry
        )
        self.rows = Gauge("pipeline_gold_rows", "Rows of a gold table when this worker last published it.", ["table"], registry=self.registry)
        self.violations = Counter("pipeline_quality_violations", "Rows that broke a rule of severity warn.", ["table", "severity"], registry=self.registry)
        self.alerts = Counter("pipeline_alerts", "Alerts by channel and result.", ["channel", "status"], registry=self.registry)
        self.last_success = Gauge("pipeline_last_success_timestamp_seconds", "End of this worker's last good run.", registry=self.registry)
        self.busy = Gauge("pipeline_worker_busy", "1 while a job runs.", registry=self.registry)
        for status in ("succeeded", "failed", "retrying"):
            self.runs.labels(status)
        for step in STEP_NAMES:
            self.errors.labels(step)
            self.seconds.labels(step)

    def apply(self, event: dict[str, t.Any]) -> None:
        kind = event.pop("kind")
        if kind == "step":
            self.steps.labels(event["step"], event["status"]).inc()
            self.seconds.labels(event["step"]).observe(event["seconds"])
            if event["status"] == "failed":
                self.errors.labels(event["step"]).inc()
        elif kind == "run":
            self.runs.labels(event["status"]).inc()
            if event.get("seconds") is not None:
                self.run_seconds.observe(event["seconds"])
            if event["status"] == "succeeded":
                self.last_success.set_to_current_time()
        elif kind == "rows":
            self.rows.labels(event["table"]).set(event["value"])
        elif kind == "violations":
            self.violations.labels(event["table"], event["severity"]).inc(event["value"])
        elif kind == "alert":
            self.alerts.labels(event["channel"], event["status"]).inc()

    def listen(self) -> None:
        """Open the pipe and read it in a thread for the life of the process."""
        global _pipe
        reader, _pipe = os.pipe()
        os.set_blocking(_pipe, False)
        threading.Thread(target=self._read, args=(reader,), name="metrics", daemon=True).start()

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as stream:
            for line in stream:
                try:
                    self.apply(json.loads(line))
                except (ValueError, KeyError):
                    log.warning("unreadable metric", exc_info=True)

    def serve(self, host: str, port: int, healthy: t.Callable[[], bool]) -> http.server.ThreadingHTTPServer:
        """GET /metrics and /health."""
        metrics = self

        class Handler(http.server.BaseHTTPRequestHandler):
            server_version = "pipeline"
            sys_version = ""
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/health":
                    good = healthy()
                    self._answer(200 if good else 503, "application/json", json.dumps({"status": "ok" if good else "stalled"}).encode())
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"not found\n")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
                log.debug(format, *args)

        server = http.server.ThreadingHTTPServer((host, port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="metrics-http", daemon=True).start()
        return server
