# SPDX-License-Identifier: GPL-3.0-or-later
"""The process as it runs in its container: TLS, certificates, and a stop that no client notices."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t

import httpx
import pytest
import websockets.exceptions
import websockets.sync.client
from servers import Certificates, free_port, wait_for


class Api:
    def __init__(self, process: subprocess.Popen[bytes], port: int, log: pathlib.Path, authority: str | None) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.context = ssl.create_default_context(cafile=authority) if authority else None
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.context or False, timeout=10)

    def lines(self) -> list[dict[str, t.Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError), self.client() as client:
            return client.get("/ready").status_code == 200
        return False


@pytest.fixture
def start(environment: dict[str, str], python_environment: dict[str, str], tmp_path: pathlib.Path) -> t.Iterator[t.Callable[..., Api]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(authority: str | None = None, **changes: str) -> Api:
        port = free_port()
        log = tmp_path / f"api-{port}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "app"], env={**python_environment, **environment, "API_HOST": "127.0.0.1", "API_PORT": str(port), **changes},
                stdout=stream, stderr=stream,
            )  # fmt: skip
        started.append(process)
        api = Api(process, port, log, authority)
        wait_for(api.ready, 40, "the API")
        return api

    yield run
    for process in started:
        process.kill()
        process.wait(10)


def test_a_stop_that_no_client_notices(start: t.Callable[..., Api]) -> None:
    """Clients behind a balancer: they leave when /ready says so, and none of their requests fails."""
    api = start(DRAIN_SECONDS="6", SHUTDOWN_GRACE_SECONDS="10")
    leave = threading.Event()
    counts: dict[str, int] = {"good": 0, "bad": 0}
    failures: list[str] = []

    def load() -> None:
        with api.client() as client:
            while not leave.is_set():
                try:
                    good = client.get("/api/v1/tables/weather", params={"limit": 5, "offset": counts["good"] % 1000}).status_code == 200
                except httpx.HTTPError as exc:
                    good = False
                    failures.append(repr(exc))
                counts["good" if good else "bad"] += 1

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    # a request that begins while the member drains and whose body ends after it stopped to listen
    late = socket.create_connection(("127.0.0.1", api.port))
    body = b'{"username": "admin", "password": "admin-password-1"}'
    late.sendall(b"POST /api/v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    with websockets.sync.client.connect(f"ws://127.0.0.1:{api.port}/ws/runs") as news:
        assert json.loads(news.recv(5))["type"] == "hello"
        time.sleep(0.5)
        stopped = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        with api.client() as client:
            wait_for(lambda: client.get("/ready").status_code == 503, 3, "the flip of /ready")
            assert client.get("/ready").json()["status"] == "draining"
            still = client.get("/health")
            assert (still.status_code, still.headers["connection"]) == (200, "close")
        time.sleep(1.0)  # the balancer's check interval times its fall count
        leave.set()
        for thread in threads:
            thread.join(10)
        assert json.loads(news.recv(20))["type"] == "reconnect"
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            news.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert time.monotonic() - stopped >= 6.0
    wait_for(lambda: not _listens(api.port), 20, "the end of listening")
    late.sendall(body)
    answer = b""
    while part := late.recv(65536):
        answer += part
    late.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"access_token" in answer
    assert api.process.wait(20) == 0
    assert counts["bad"] == 0, failures
    assert counts["good"] > 20
    assert all("password" not in json.dumps(line) for line in api.lines())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_client_that_hangs_does_not_keep_it_from_stopping(start: t.Callable[..., Api]) -> None:
    api = start(DRAIN_SECONDS="0", SHUTDOWN_GRACE_SECONDS="1")
    hanging = socket.create_connection(("127.0.0.1", api.port))
    hanging.sendall(b"POST /api/v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
    time.sleep(0.3)
    started = time.monotonic()
    api.process.terminate()
    api.process.wait(20)
    assert time.monotonic() - started < 10
    hanging.close()


def test_tls_a_new_certificate_and_idle_connections(start: t.Callable[..., Api], certificates: Certificates, python_environment: dict[str, str]) -> None:
    api = start(certificates.authority, TLS_CERT_FILE=certificates.certificate, TLS_KEY_FILE=certificates.key)
    context = api.context
    assert context is not None
    idle = http.client.HTTPSConnection("127.0.0.1", api.port, context=context, timeout=5)
    idle.request("GET", "/health")
    assert idle.getresponse().read().startswith(b'{"status":"ok"')
    kept = idle.sock
    began = time.monotonic()

    def health() -> int:
        environment = {**python_environment, "API_PORT": str(api.port), "TLS_CERT_FILE": certificates.certificate}
        return subprocess.run([sys.executable, "-m", "app.health"], env=environment, capture_output=True, check=False).returncode

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", api.port))

    assert health() == 0
    before = shown()
    key = pathlib.Path(certificates.key).read_bytes()
    certificates.renew()
    fresh = pathlib.Path(certificates.key).read_bytes()
    pathlib.Path(certificates.key).write_bytes(key)  # half a renewal: certificate and key do not belong together
    api.process.send_signal(signal.SIGHUP)
    wait_for(lambda: any("the new certificate is not used" in line["message"] for line in api.lines()), 20, "the refusal")
    assert shown() == before
    assert health() == 1  # the server does not show the certificate that it should
    pathlib.Path(certificates.key).write_bytes(fresh)
    api.process.send_signal(signal.SIGHUP)
    wait_for(lambda: shown() != before, 20, "the new certificate")
    assert health() == 0
    assert api.ready()
    old = ssl.create_default_context(cafile=certificates.authority)
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(socket.create_connection(("127.0.0.1", api.port)), server_hostname="127.0.0.1")
    # uvicorn's own default would have closed this connection after 5 seconds
    time.sleep(max(0.0, 6.5 - (time.monotonic() - began)))
    idle.request("GET", "/health")
    assert idle.getresponse().status == 200
    assert idle.sock is kept
    idle.close()


def test_logs_are_json_with_request_ids_and_without_queries(start: t.Callable[..., Api]) -> None:
    api = start(LOG_LEVEL="debug")
    with api.client() as client:
        client.get("/api/v1/tables/weather", params={"filter": "weather:eq:secret-value"}, headers={"X-Request-ID": "trace-me-please"})
    (line,) = wait_for(lambda: [x for x in api.lines() if x.get("request_id") == "trace-me-please" and "status" in x], 20, "the access log")
    assert (line["method"], line["path"], line["route"], line["status"]) == ("GET", "/api/v1/tables/weather", "/api/v1/tables/{name}", 200)
    assert line["duration_ms"] > 0
    assert "secret-value" not in api.log.read_text(encoding="utf-8")
