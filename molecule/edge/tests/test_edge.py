# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.client
import json
import socket
import ssl
import typing as t

import checks
import pytest
import testinfra

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]

HAPROXY = """
import socket, sys
with socket.socket(socket.AF_UNIX) as stream:
    stream.connect(sys.argv[1])
    stream.sendall(b"show stat\\n")
    while chunk := stream.recv(65536):
        sys.stdout.write(chunk.decode())
"""


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    # keepalived adds the virtual address to the host and sends VRRP; see roles/edge/templates/release/compose.yml.j2.
    checks.assert_member(host, value, "edge", containers, secrets, {"keepalived": {"NET_ADMIN", "NET_RAW", "NET_BROADCAST", "SETUID", "SETGID"}})


def test_virtual_address_is_on_exactly_one_host(value: Value, pytestconfig: pytest.Config) -> None:
    inventory = pytestconfig.option.ansible_inventory
    holders = []
    for member in testinfra.get_hosts(["ansible://edge"], ansible_inventory=inventory):
        links = json.loads(member.check_output("ip -json address show"))
        holders += [checks.name(member) for link in links for item in link["addr_info"] if item.get("local") == value("platform_vip")]
    assert len(holders) == 1


def test_haproxy_sees_all_members_healthy(host: Host, value: Value) -> None:
    out = host.check_output("python3 -c %s %s", HAPROXY, f"{value('platform_root')}/edge/run/haproxy/admin.sock")
    header, *rows = [line.split(",") for line in out.splitlines() if line]
    servers = [dict(zip(header, row, strict=False)) for row in rows]
    members = [row for row in servers if row["svname"] not in ("FRONTEND", "BACKEND")]
    up = {row["# pxname"]: 0 for row in members}
    for row in members:
        up[row["# pxname"]] += row["status"].startswith("UP")
    assert sum(up.values()) >= len(value("edge_api_members")) + len(value("edge_s3_members")), up


@pytest.fixture(scope="module")
def tls(value: Value) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=value("platform_ca_certificate"))


def request(value: Value, tls: ssl.SSLContext | None, path: str) -> http.client.HTTPResponse:
    """GET from the controller by way of the virtual address, verified against the platform's CA."""
    address = value("platform_vip")
    connection = http.client.HTTPSConnection(address, timeout=10, context=tls) if tls else http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    return connection.getresponse()


def test_certificate_is_good_for_the_public_name(value: Value, tls: ssl.SSLContext) -> None:
    with socket.create_connection((value("platform_vip"), 443), 10) as stream, tls.wrap_socket(stream, server_hostname=value("platform_domain")) as secured:
        assert secured.version() == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(value: Value, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    with socket.create_connection((value("platform_vip"), 443), 10) as stream, pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        context.wrap_socket(stream)


def test_plain_http_is_sent_to_https(value: Value) -> None:
    answer = request(value, None, "/some/page?x=1")
    assert answer.status in (301, 308)
    assert answer.headers["Location"] == f"https://{value('platform_vip')}/some/page?x=1"


@pytest.mark.parametrize("path", ["/", "/health"])
def test_answers_carry_the_security_headers(value: Value, tls: ssl.SSLContext, path: str) -> None:
    answer = request(value, tls, path)
    assert answer.status == 200
    assert "max-age=" in answer.headers["Strict-Transport-Security"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"]
    assert "/" not in answer.headers.get("Server", "")


def test_a_page_of_the_application_can_be_opened_directly(value: Value, tls: ssl.SSLContext) -> None:
    answer = request(value, tls, "/tables/weather")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_metrics_of_the_api_are_not_public(value: Value, tls: ssl.SSLContext) -> None:
    answer = request(value, tls, "/metrics")
    assert answer.status == 404
    assert b"api_requests" not in answer.read()
