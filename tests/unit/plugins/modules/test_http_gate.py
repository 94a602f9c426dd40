# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against real servers on the loopback, over TLS."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time

import pytest

PASS = {"status": "ready", "version": "1.4.2", "started": 2000, "dependencies": {"minio": {"status": "up", "required": True}}}


class Service(http.server.ThreadingHTTPServer):
    """Answers as it is told: a status, a document, seconds of silence, and a count of connections after which each is closed."""

    daemon_threads = True

    def __init__(self, leaf):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.document, self.silence, self.close_after, self.headers, self.requests, self.connections = 200, PASS, 0.0, False, [], [], 0
        self.tls = leaf.server_context()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def finish_request(self, request, client_address):
        self.connections += 1
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers["Host"]))
        time.sleep(server.silence)
        body = json.dumps(server.document).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        if server.headers:
            # one after the other, and then the last one for ever
            self.send_header("X-Member", server.headers.pop(0) if server.headers[1:] else server.headers[0])
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = server.close_after

    def log_message(self, *args):
        pass


@pytest.fixture
def service(authority):
    started = []

    def start(leaf=None):
        started.append(Service(leaf or authority.leaf("127.0.0.1")))
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def ask(run_module, authority):
    def run(services, **params):
        members = [{"name": name, "address": getattr(service, "address", service)} for name, service in services.items()]
        defaults = {"members": members, "ca_file": str(authority.file), "successes": 1, "failures": 1, "min_healthy_time": 0, "interval": 0.1}
        return run_module("http_gate", **{**defaults, **params})

    return run


def test_two_healthy_members(service, ask):
    app1, app2 = service(), service()
    result = ask({"app1": app1, "app2": app2}, successes=3)
    assert (result["rc"], result["verdict"], result["polls"], result["margin"], result["changed"]) == (0, "pass", 3, 1, False)
    assert "http gate preflight: PASS" in result["msg"]
    assert (app1.connections, len(app1.requests)) == (1, 3)


def test_a_connection_that_was_closed_while_idle_is_no_finding(service, ask):
    app1 = service()
    app1.close_after = True
    assert ask({"app1": app1}, successes=3)["verdict"] == "pass"
    assert app1.connections == 3


def test_after_waits_until_the_new_version_answers(service, ask):
    app1 = service()
    app1.status = 503
    timer = threading.Timer(0.5, lambda: setattr(app1, "status", 200))
    timer.start()
    result = ask({"app1": app1}, phase="after", target="app1", expect_version="1.4.2", not_before=1000, started_key="started")
    assert result["verdict"] == "pass"
    assert result["polls"] > 1


@pytest.mark.parametrize("phase", ["before", "after"])
def test_the_version_counts_after_only(service, ask, phase):
    result = ask({"app1": service(), "app2": service()}, phase=phase, target="app1", expect_version="1.5.0")
    assert (result["verdict"], [reason["code"] for reason in result["reasons"]]) == (("pass", []) if phase == "before" else ("fail", ["HTTP_VERSION"]))
    assert result["rc"] == (0 if phase == "before" else 1)


def test_a_certificate_of_somebody_else(service, ask, stranger):
    result = ask({"app1": service(stranger.leaf("127.0.0.1"))})
    assert (result["verdict"], result["reasons"][0]["code"]) == ("fail", "HTTP_TLS")


def test_a_certificate_for_another_name(service, ask, authority):
    app1 = service(authority.leaf("app1"))
    assert ask({"app1": app1})["reasons"][0]["code"] == "HTTP_TLS"
    members = [{"name": "app1", "address": app1.address, "server_name": "app1"}]
    assert ask({}, members=members)["verdict"] == "pass"
    assert app1.requests == [("/ready", f"app1:{app1.server_port}")]


def test_nothing_listens_silence_and_no_tls(service, ask):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = f"127.0.0.1:{listener.getsockname()[1]}"
    silent = service()
    silent.silence = 5
    plain = service()
    plain.tls = None
    result = ask({"app1": free, "app2": silent, "app3": plain}, wait=False, required=False, timeout=0.5)
    assert [reason["key"] for reason in result["reasons"]] == ["HTTP_REFUSED app1", "HTTP_NO_ANSWER app2", "HTTP_TLS app3"]
    assert (result["rc"], result["verdict"], result["margin"]) == (0, "fail", -1)


def test_through_the_load_balancer_until_the_target_is_served(service, ask, authority):
    balancer = service(authority.leaf("platform.example"))
    balancer.headers = ["app2"] * 9 + ["app1"]
    result = ask(
        {"app1": service(), "app2": service()},
        phase="after",
        target="app1",
        through="https://platform.example/health",
        through_address=balancer.address,
        member_header="X-Member",
    )
    assert result["verdict"] == "pass"
    assert result["observed"]["through"]["served"] == ["app1", "app2"]
    assert result["polls"] > 2
    assert set(balancer.requests) == {("/health", "platform.example")}


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"scheme": "http", "members": [{"name": "app1", "address": "192.0.2.21:80"}]}, "http is accepted on the loopback only"),
        ({"members": [{"name": "app1", "address": "user@192.0.2.21"}]}, "holds a user"),
        ({"members": [{"name": "app1", "address": "192.0.2.21:port"}]}, "accepted is HOST:PORT"),
        ({"ca_file": "/nowhere"}, "ca_file is '/nowhere'"),
        ({"phase": "after", "target": "app1", "not_before": 5}, "started_key"),
        ({"phase": "before"}, "target is empty"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(ask, params, text):
    result = ask({"app1": "127.0.0.1:1"}, **params)
    assert result["rc"] == 1 and text in result["msg"]
    assert "verdict" not in result
