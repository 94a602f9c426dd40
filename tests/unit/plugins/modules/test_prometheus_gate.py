# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real Prometheus that scrapes itself, and a member that is not there. Over TLS, with a password."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import time

import pytest
from ports import free_ports

from ansible_collections.novacorrente.platform.plugins.filter.htpasswd_entry import htpasswd_entry

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="needs a prometheus binary (Debian: prometheus)")
PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def prometheus(authority, tmp_path_factory):
    """The port of a server that has scraped itself twice."""
    leaf, directory = authority.leaf("127.0.0.1"), tmp_path_factory.mktemp("prometheus")
    port, nobody = free_ports(2)
    login = {"basic_auth": {"username": "gate", "password": PASSWORD}, "tls_config": {"ca_file": str(authority.file)}, "scheme": "https"}
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"member": "app1"}},
        {"targets": [f"127.0.0.1:{nobody}"], "labels": {"member": "app2"}},
    ]
    # JSON is YAML
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}, "scrape_configs": [{"job_name": "api", "static_configs": targets, **login}]}
    web = {
        "tls_server_config": {"cert_file": str(leaf.certificate), "key_file": str(leaf.key)},
        "basic_auth_users": {"gate": htpasswd_entry(PASSWORD, "gate", 4).partition(":")[2]},
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    (directory / "web.yml").write_text(json.dumps(web))
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={directory}/prometheus.yml",
            f"--web.config.file={directory}/web.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=(directory / "log").open("wb"),
    )
    try:
        deadline = time.monotonic() + 60
        context = ssl.create_default_context(cafile=authority.file)
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            try:
                connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
                connection.request("GET", "/-/ready", headers={"Authorization": "Basic Z2F0ZTpjb3JyZWN0LWhvcnNl"})
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        time.sleep(2)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def ask(run_module, authority, prometheus):
    def run(query: str, success_when: str, **params):
        metric = {"name": "metric", "query": query, "success_when": success_when, **params.pop("metric", {})}
        defaults = {
            "url": f"https://127.0.0.1:{prometheus}",
            "ca_file": str(authority.file),
            "username": "gate",
            "password": PASSWORD,
            "phase": "after",
            "target": "app1",
            "label": "member",
            "up": 'up{job="api"}',
            "members": [{"name": "app1"}, {"name": "app2"}],
            "scrape_interval": 2,
            "metrics": [metric],
            "wait": False,
            "required": False,
        }
        result = run_module("prometheus_gate", **{**defaults, **params})
        assert PASSWORD not in json.dumps(result)
        return result

    return run


REQUESTS = "sum by (member) (rate(prometheus_http_requests_total[$window]))"


def codes(result):
    return result["verdict"], [reason["key"] for reason in result["reasons"]]


def test_a_good_value_with_samples(ask):
    samples = {"samples": "sum by (member) (increase(prometheus_http_requests_total[$window]))", "min_samples": 0.1}
    result = ask(REQUESTS, "> 0", metric=samples, since=time.time() - 3, initial_delay=1, wait=True, min_healthy_time=0, required=True)
    assert (codes(result), result["rc"]) == (("pass", []), 0)
    assert 3 <= result["observed"]["window"] < 60 and result["observed"]["metric"]["samples"]["app1"] > 0


def test_bad_inconclusive_and_too_early(ask):
    assert codes(ask(REQUESTS, "> 1e9", metric={"fail_when": "< 1e6"})) == ("fail", ["PROM_BAD app1/metric"])
    assert codes(ask(REQUESTS, "> 1e9")) == ("unknown", ["PROM_INCONCLUSIVE app1/metric"])
    assert codes(ask(REQUESTS, "> 0", since=time.time())) == ("wait", ["PROM_TOO_EARLY"])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sum by (member) (up) * 0 / 0", "PROM_NO_NUMBER app1/metric"),
        ("sum by (member) (up) / 0", "PROM_NO_NUMBER app1/metric"),
        ("nothing_of_this_name", "PROM_NO_DATA app1/metric"),
        ("sum by (member", "PROM_QUERY app1/metric"),
        ("up[1m]", "PROM_QUERY app1/metric"),
        ("prometheus_http_requests_total", "PROM_QUERY app1/metric"),
    ],
)
def test_results_that_prove_nothing(ask, query, code):
    result = ask(query, ">= 0")
    assert (result["verdict"], code in [reason["key"] for reason in result["reasons"]]) == ("unknown", True)


def test_a_member_that_cannot_be_scraped(ask):
    assert "PROM_NOT_SCRAPED app2" in codes(ask(REQUESTS, "> 0", target="app2"))[1]
    # its series end, so the age of the last scrape is told by Prometheus itself
    assert ask(REQUESTS, "> 0", phase="before", target="app1")["verdict"] == "unknown"


def test_the_service_as_a_whole(ask):
    assert codes(ask("count(ALERTS) or vector(0)", "== 0", metric={"scope": "service"})) == ("pass", [])


def test_wrong_password_and_strange_authority(ask, stranger):
    reasons = ask(REQUESTS, "> 0", password="wrong-horse")["reasons"]
    assert {reason["verdict"] for reason in reasons} == {"unknown"} and "refuses the user (401)" in reasons[0]["text"]
    assert "certificate is not good" in ask(REQUESTS, "> 0", ca_file=str(stranger.file))["reasons"][0]["text"]


def test_options_that_make_no_sense(ask):
    assert "accepted is an operator" in ask(REQUESTS, "small")["msg"]
    assert "exclude each other" in ask(REQUESTS, "> 1", metric={"fail_when": "> 2"})["msg"]
    assert "http is accepted on the loopback only" in ask(REQUESTS, "> 1", url="http://ops1:9090")["msg"]
