# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import typing as t

import pytest
import redis
from fastapi.testclient import TestClient
from rq.job import Job
from rq.serializers import JSONSerializer
from servers import Buckets, free_port, make_buckets, wait_for
from starlette.websockets import WebSocketDisconnect


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def publisher(port: int) -> redis.Redis:
    return redis.Redis(port=port, username="pipeline", password="pipeline-password")


def announce(port: int, **event: t.Any) -> None:
    """As soon as the API listens."""
    with publisher(port) as connection:
        wait_for(lambda: connection.publish("pipeline-events", json.dumps(event)), what="a listener")


def test_from_a_request_to_new_rows(
    _minio_server: str, make_client: t.Any, python_environment: dict[str, str], tmp_path: pathlib.Path, example_config: pathlib.Path, queue_server: t.Any
) -> None:
    """The API enqueues, a worker of the other app runs it, the WebSocket tells, the table is there."""
    buckets: Buckets = make_buckets(_minio_server)
    client: TestClient = make_client(**buckets.environment())
    token = client.post("/api/v1/auth/token", json={"username": "admin", "password": "admin-password-1"}).json()["access_token"]
    assert client.get("/api/v1/tables").json() == {"tables": []}
    worker = {
        **python_environment, **buckets.environment(), "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(queue_server.port), "REDIS_USERNAME": "pipeline",
        "REDIS_PASSWORD": "pipeline-password", "PIPELINE_CONFIG": str(example_config), "PIPELINE_SCRATCH": str(tmp_path), "WORKER_METRICS_PORT": "0",
        "PIPELINE_HEALTH_FILE": str(tmp_path / "health"),
    }  # fmt: skip
    with client.websocket_connect("/ws/runs") as socket:
        assert socket.receive_json() == {"type": "hello", "version": "9.9.9"}
        with publisher(queue_server.port) as connection:
            wait_for(lambda: connection.publish("pipeline-events", '{"probe": 1}'), what="the subscription")
        started = client.post("/api/v1/runs", json={"tables": ["electricity"]}, headers=headers(token))
        assert (started.status_code, started.json()["status"]) == (202, "queued")
        run_id = started.json()["run_id"]
        (queued,) = client.get("/api/v1/runs").json()["runs"]
        assert (queued["run_id"], queued["status"], queued["trigger"], queued["tables"]) == (run_id, "queued", "api:admin", ["electricity"])
        done = subprocess.run([sys.executable, "-m", "pipeline", "worker", "--burst"], env=worker, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout
        events = []
        while not events or events[-1].get("status") not in ("succeeded", "failed"):
            events.append(socket.receive_json())
    seen = [(event.get("table"), event.get("step"), event.get("status")) for event in events if event["type"] == "run" and event.get("run_id") == run_id]
    assert seen[0] == (None, None, "started")
    assert ("electricity", "load_to_gold", "published") in seen
    assert seen[-1] == (None, None, "succeeded")
    (run,) = client.get("/api/v1/runs").json()["runs"]
    assert (run["status"], run["error"]) == ("succeeded", None)
    assert [(step["step"], step["status"]) for step in run["steps"]] == [
        ("extract_and_load", "done"), ("transform_with_duckdb", "done"), ("load_to_gold", "done"), ("validate_pipeline", "done"),
    ]  # fmt: skip
    assert client.get("/api/v1/tables/electricity").json()["total"] == 51


@pytest.mark.parametrize(("retries", "intervals"), [("5", [10, 60, 300]), ("0", None)])
def test_limits_of_a_run_come_from_the_environment(make_client: t.Any, token: str, queue_server: t.Any, retries: str, intervals: list[int] | None) -> None:
    client: TestClient = make_client(PIPELINE_JOB_TIMEOUT="600", PIPELINE_RETRIES=retries)
    run_id = client.post("/api/v1/runs", headers=headers(token)).json()["run_id"]
    with queue_server.admin() as admin:
        job = Job.fetch(run_id, connection=admin, serializer=JSONSerializer)
    assert (job.timeout, job.retries_left, job.retry_intervals) == (600, int(retries) or None, intervals)


def test_pages_of_runs(client: TestClient, token: str) -> None:
    identifiers = [client.post("/api/v1/runs", headers=headers(token)).json()["run_id"] for _ in range(3)]
    page = client.get("/api/v1/runs", params={"limit": 2, "offset": 1}).json()
    assert [run["run_id"] for run in page["runs"]] == identifiers[1::-1]
    assert page["total"] == 3


@pytest.mark.parametrize("body", [{"tables": []}, {"tables": ["Weather"]}, {"tables": ["a;b"]}, {"table": "weather"}, {"tables": "weather"}, []])
def test_a_wrong_request_is_refused(client: TestClient, token: str, body: t.Any) -> None:
    response = client.post("/api/v1/runs", json=body, headers=headers(token))
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")


def test_the_socket_needs_a_token_unless_all_is_public(make_client: t.Any) -> None:
    client: TestClient = make_client(PUBLIC_TABLES="weather")
    token = client.post("/api/v1/auth/token", json={"username": "admin", "password": "admin-password-1"}).json()["access_token"]
    for path, protocols in (("/ws/runs", None), ("/ws/runs?token=wrong", None), ("/ws/runs", ["bearer", "wrong"])):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path, subprotocols=protocols):
            pass
    with client.websocket_connect(f"/ws/runs?token={token}") as socket:
        assert socket.receive_json()["type"] == "hello"
    with client.websocket_connect("/ws/runs", subprotocols=["bearer", token]) as socket:
        assert socket.receive_json()["type"] == "hello"
        assert socket.accepted_subprotocol == "bearer"


def test_a_page_of_another_origin_is_refused(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws/runs", headers={"Origin": "https://evil.example"}):
        pass
    for origin in ("http://localhost:3000", "http://testserver"):
        with client.websocket_connect("/ws/runs", headers={"Origin": origin}) as socket:
            assert socket.receive_json()["type"] == "hello"


def test_a_stopping_member_sends_its_clients_away(client: TestClient) -> None:
    with client.websocket_connect("/ws/runs") as socket:
        socket.receive_json()
        client.app.state.platform.announcer.close()  # type: ignore[attr-defined]
        message = socket.receive_json()
        assert message["type"] == "reconnect"
        assert 200 <= message["after_ms"] <= 3000
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_json()
        assert caught.value.code == 1012


def test_pings_and_a_slow_client(client: TestClient, monkeypatch: pytest.MonkeyPatch, queue_server: t.Any) -> None:
    monkeypatch.setattr("app.announcements.PING_SECONDS", 0.2)
    monkeypatch.setattr("app.announcements.QUEUE_LENGTH", 3)
    with client.websocket_connect("/ws/runs") as socket:
        assert socket.receive_json()["type"] == "hello"
        assert socket.receive_json()["type"] == "ping"
        announce(queue_server.port, run_id="x", status="started")
        wait_for(lambda: socket.receive_json()["type"] == "run", what="the event")
        with publisher(queue_server.port) as connection:
            connection.publish("pipeline-events", "not json")
            connection.publish("pipeline-events", "[1]")
        announce(queue_server.port, run_id="y", status="succeeded")
        wait_for(lambda: socket.receive_json().get("run_id") == "y", what="the next event")


def test_the_subscription_survives_a_redis_restart(client: TestClient, queue_server: t.Any) -> None:
    with client.websocket_connect("/ws/runs") as socket:
        socket.receive_json()
        announce(queue_server.port, run_id="before", status="started")
        assert socket.receive_json()["run_id"] == "before"
        with queue_server.admin() as admin:
            admin.client_kill_filter(_type="pubsub")
        announce(queue_server.port, run_id="after", status="started")
        assert socket.receive_json()["run_id"] == "after"


def test_without_a_queue_a_request_is_a_problem(make_client: t.Any) -> None:
    client: TestClient = make_client(REDIS_QUEUE_PORT=str(free_port()))
    token = client.post("/api/v1/auth/token", json={"username": "admin", "password": "admin-password-1"}).json()["access_token"]
    response = client.post("/api/v1/runs", headers=headers(token))
    assert (response.status_code, response.json()["type"]) == (503, "urn:platform:problem:queue-unavailable")
