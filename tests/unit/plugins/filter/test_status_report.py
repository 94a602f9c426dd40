# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of playbooks/status.yml."""

from __future__ import annotations

from ansible_collections.novacorrente.platform.plugins.filter.status_report import status_report

SERVICE = {"service": "cache", "state": "running", "health": "healthy", "release": "r1", "version": "8.0", "image": "", "started": "", "restarts": 0}
MEMBER = {"release": "r1", "previous": "", "faults": [], "certificate_days": 81, "services": [SERVICE]}
WANTED = {"redis": ["data1", "data2"]}


def gate(verdict="pass", margin=1, reasons=(), **members):
    return {"verdict": verdict, "margin": margin, "reasons": list(reasons), "observed": {"members": members}}


def report(hosts=None, gates=None):
    healthy = {"data1": {"redis": MEMBER}, "data2": {"redis": MEMBER}}
    results = [{**result, "item": name} for name, result in (gates or {"cache": gate()}).items()]
    return status_report(healthy if hosts is None else hosts, WANTED, {"redis": {"results": results}})


def test_a_healthy_platform():
    gates = {"cache": gate(data1={"role": "master", "version": "8.0.3"}, data2={"role": "replica", "lag": "12 bytes"})}
    found = report(gates=gates)
    assert found["ok"]
    assert "redis cache: pass, can lose 1 more" in found["text"]
    assert found["text"].endswith("All is well.")
    lines = found["text"].splitlines()
    assert lines[1].split() == ["redis", "data1", "well", "8.0.3", "master", "-", "r1", "81", "-"]
    assert lines[2].split() == ["redis", "data2", "well", "8.0", "replica", "12", "bytes", "r1", "81", "-"]


def test_roles_that_differ_by_cluster_are_both_named():
    gates = {"cache": gate(data1={"role": "master"}), "queue": gate(data1={"role": "replica"})}
    assert report(gates=gates)["members"][0]["role"] == "cache master, queue replica"


def test_what_only_one_of_several_clusters_tells_is_told_with_its_name():
    gates = {"cache": gate(data1={"role": "master"}), "queue": gate(data1={"role": "replica", "lag": "0 bytes"})}
    assert report(gates=gates)["members"][0]["lag"] == "queue 0 bytes"


def test_an_image_without_a_version_is_told_by_its_digest():
    first, second = ({**SERVICE, "version": "", "image": f"registry.example.org:5000/edge@sha256:{text * 16}"} for text in ("8d4f", "5b1e"))
    labelled = {**SERVICE, "version": "3.2"}
    found = report({"data1": {"redis": {**MEMBER, "services": [first, labelled]}}, "data2": {"redis": {**MEMBER, "services": [second, second]}}})
    assert [member["version"] for member in found["members"]] == ["3.2, 8d4f8d4f8d4f", "5b1e5b1e5b1e"]
    built_here = {**SERVICE, "version": "", "image": "redis:dev"}
    assert report({"data1": {"redis": {**MEMBER, "services": [built_here]}}, "data2": {}})["members"][0]["version"] == ""


def test_a_host_that_does_not_answer_is_not_well():
    found = report({"data1": {"redis": MEMBER}})
    assert not found["ok"]
    assert "redis data2: the host does not answer" in found["text"]


def test_a_member_that_is_not_there_is_not_well():
    found = report({"data1": {"redis": MEMBER}, "data2": {}})
    assert not found["ok"]
    assert "redis data2: nothing of it runs" in found["text"]


def test_a_member_with_a_fault_is_not_well():
    assert not report({"data1": {"redis": {**MEMBER, "faults": ["cache is exited"]}}, "data2": {"redis": MEMBER}})["ok"]


def test_a_cluster_whose_gate_waits_is_not_well():
    found = report(gates={"cache": gate("wait", 0, [{"code": "REDIS_SYNC", "subject": "data2", "text": "is syncing"}])})
    assert not found["ok"]
    assert "redis cache: wait, can lose none\n    REDIS_SYNC data2: is syncing" in found["text"]


def test_a_gate_that_could_not_be_asked_is_unknown():
    found = report(gates={"cache": {"failed": True, "msg": "no route to host"}})
    assert (found["ok"], found["tiers"]["redis"]["cache"]["verdict"]) == (False, "unknown")
    assert "no route to host" in found["text"]


def test_a_cluster_that_nobody_could_ask_is_unknown():
    found = status_report({"data1": None, "data2": None}, WANTED, {})
    assert found["tiers"]["redis"]["redis"]["verdict"] == "unknown"


def test_the_gate_of_a_tier_with_one_cluster_has_no_name_of_its_own():
    found = status_report({"data1": {"redis": MEMBER}, "data2": {"redis": MEMBER}}, WANTED, {"redis": gate()})
    assert (found["ok"], "redis: pass, can lose 1 more" in found["text"]) == (True, True)
