# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of one API process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
REQUESTS = Counter("api_requests", "Requests by route template.", ["method", "route", "status"], registry=REGISTRY)
ERRORS = Counter("api_errors", "Requests answered with 5xx.", ["method", "route"], registry=REGISTRY)
SECONDS = Histogram(
    "api_request_duration_seconds",
    "Duration of a request.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge("api_requests_in_flight", "Requests being answered.", registry=REGISTRY)
CACHE = Counter("api_cache", "Look-ups in the result cache.", ["result"], registry=REGISTRY)
QUERIES = Histogram("api_query_duration_seconds", "Duration of a DuckDB query.", buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10), registry=REGISTRY)
OBJECTS = Counter("api_objects_downloaded", "Gold objects fetched from the object store.", registry=REGISTRY)
LOGINS = Counter("api_logins", "Login attempts.", ["result"], registry=REGISTRY)
SOCKETS = Gauge("api_websockets", "Open WebSocket connections.", registry=REGISTRY)
GRAPH_READS = Counter("api_graph_reads", "Reads of the graph by member and result.", ["member", "result"], registry=REGISTRY)
GRAPH_LAG = Gauge("api_graph_lag_changes", "Changes that a graph member was behind when it was last read.", ["member"], registry=REGISTRY)
OUTBOX_NEWEST = Gauge("api_outbox_newest", "Number of the newest change of the graph that this process knows.", registry=REGISTRY)
OUTBOX_LEFT = Counter("api_outbox_left", "Changes that a request could not number and that the sweeper does.", registry=REGISTRY)
RETRIES = Counter("api_mongodb_retries", "Attempts on MongoDB that failed and were repeated.", registry=REGISTRY)
READY = Gauge("api_ready", "1 while /ready answers 200.", registry=REGISTRY)
DEPENDENCY = Gauge("api_dependency_up", "1 while a dependency answered its last check.", ["dependency"], registry=REGISTRY)
INFO = Gauge("api_build_info", "The version that runs.", ["version"], registry=REGISTRY)
for _result in ("hit", "miss", "error"):
    CACHE.labels(_result)
