# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of validation, as tables: what is put in, which findings come out."""

from __future__ import annotations

import copy
import datetime
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.plugin_utils import _validation as core

DIGEST = "sha256:" + "ab" * 32
NAMES = ("minio", "redis", "mongodb", "neo4j", "api", "pipeline", "frontend", "haproxy", "keepalived")
GOOD_SECRETS = {
    "platform_registry_password": "mT4vQz8LkR2wXn6Pj9Hd",
    "platform_ca_passphrase": "Zk7RtW3yNq9BvX5mLc2JhGd8",
    "minio_root_password": "Fp6HsD4uKx8TzM2nVb9QwYc3",
    "minio_api_secret_key": "Lw5NgC7jSv3RyP9kXd4TqZm8",
    "minio_pipeline_secret_key": "Vt8BxJ2hQk6WnF4zMr7DsLp9",
    "redis_admin_password": "Qc3YwG9dTm5KvZ7xHj2NrBf6",
    "redis_api_password": "Xn9PzR4sLd2VhK8tWg6MqJb5",
    "redis_pipeline_password": "Hj7DkT5wBv9NxQ3cFz8RmGs2",
    "redis_sentinel_password": "Rg2MvX8qZt6LcP4nJw9KdHy7",
    "redis_replication_password": "Bs5WqN3yKh7GxT9fVm4ZrDj6",
    "api_secret_key": "Kd8TzV4mQw6RnX2pLj9HcYb5GsFt7Nv3Bx",
    "api_admin_password": "Yp4JxK9sDt7WmZ3qVh5NgRc8",
    "edge_vrrp_password": "Nw6CrH2vTx8KzQ5jBm3FdLs9",
}
SPECS: dict[str, dict[str, dict[str, t.Any]]] = {
    "platform": {
        "platform_address": {"type": "str"},
        "platform_vip": {"type": "str", "required": True, "description": "Address of the edge."},
        "platform_allow_unpinned_images": {"type": "bool"},
        "platform_operations_networks": {"type": "list", "elements": "str"},
        "platform_minimum_inodes": {"type": "int"},
        "platform_minimum_disk_gib": {"type": "float"},
        "platform_images": {"type": "dict", "required": True},
        "platform_ca_passphrase": {"type": "str", "required": True, "no_log": True},
    },
    "minio": {
        "minio_drives": {"type": "int", "required": True},
        "minio_mode": {"type": "str", "choices": ["fast", "safe"]},
        "minio_buckets": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "days": {"type": "int"}},
        },
        "minio_users": {"type": "list", "elements": "dict", "options": {"key": {"type": "str", "no_log": True, "required": True}}},
        "minio_root_password": {"type": "str", "required": True, "no_log": True},
    },
}
KNOWN = {name for options in SPECS.values() for name in options}


def platform(**changes: t.Any) -> tuple[dict[str, dict[str, t.Any]], dict[str, list[str]]]:
    """A good platform of nine hosts and three zones: six MinIO nodes, so that it survives any zone."""
    groups = {
        "edge": ["edge1", "edge2"],
        "api": ["app1", "app2"],
        "worker": ["app1", "app2"],
        "scheduler": ["app1", "app2"],
        "minio": ["data1", "data2", "data3", "data4", "data5", "data6"],
        "redis": ["data1", "data2", "data3"],
        "registry": ["ops1"],
    }
    names = ["edge1", "edge2", "app1", "app2", *groups["minio"], "ops1"]
    zones = dict(zip(groups["minio"], "abcabc", strict=True))
    zones.update(edge1="a", edge2="b", app1="a", app2="b", ops1="c")
    hosts = {
        name: {
            "platform_address": f"192.0.2.{10 + number}",
            "platform_vip": "192.0.2.100",
            "platform_zone": zones[name],
            "platform_zones": ["a", "b", "c"],
            "platform_domain": "platform.example.org",
            "platform_time_zone": "Etc/UTC",
            "platform_operations_networks": ["192.0.2.0/29"],
            "platform_container_networks": "198.19.0.0/17",
            "platform_images": {image: f"192.0.2.20:5000/{image}@{DIGEST}" for image in NAMES},
            "platform_accept_risks": [],
            "minio_drives": 2,
            **GOOD_SECRETS,
        }
        for number, name in enumerate(names)
    }
    for name, values in changes.items():
        for host in hosts if name == "all" else [name]:
            hosts[host].update(copy.deepcopy(values))
    return hosts, groups


def judge(hosts: dict[str, dict[str, t.Any]], groups: dict[str, list[str]]) -> core.Findings:
    """All rules that need no disk and no network, in the order of the action."""
    findings = core.Findings()
    present = core.check_groups(findings, groups, core.expected_tiers(groups))
    core.check_access_keys(findings, hosts)
    core.check_secrets(findings, hosts, core.all_secrets())
    core.check_addresses(findings, hosts, groups)
    core.check_names(findings, hosts, lambda name: name != "Mars/Olympus")
    core.check_zones(findings, hosts)
    core.check_clusters(findings, groups, hosts, present)
    core.check_ports(findings, groups, hosts, present)
    core.check_images(findings, groups, hosts, present)
    core.check_risks(findings, hosts)
    return findings


def only(findings: core.Findings, code: str) -> core.Finding:
    found = [finding for finding in findings.sorted() if finding.code == code]
    assert len(found) == 1, core.report(findings.sorted())
    return found[0]


def test_a_good_platform_has_no_findings() -> None:
    findings = judge(*platform())
    assert findings.codes() == [], core.report(findings.sorted())


# host, changed variables, the one code that must come out, what the finding must say
CASES: list[tuple[str, dict[str, t.Any], str, str]] = [
    ("data1", {"platform_zone": "d"}, "ZONE_UNKNOWN", "one of a, b, c"),
    ("data1", {"platform_zone": None}, "ZONE_MISSING", "data1 have no zone"),
    ("data1", {"platform_address": "data1.example.org"}, "ADDRESS_INVALID", "data1.example.org"),
    ("data1", {"platform_address": "192.0.2.300"}, "ADDRESS_INVALID", "192.0.2.300"),
    ("data1", {"platform_address": "127.0.0.1"}, "ADDRESS_INVALID", "127.0.0.1"),
    ("data1", {"platform_address": "192.0.2.10"}, "ADDRESS_DUPLICATE", "edge1 and data1"),
    ("all", {"platform_vip": "192.0.2.10"}, "VIP_IS_HOST_ADDRESS", "address of edge1"),
    ("all", {"platform_vip": "vip"}, "ADDRESS_INVALID", "platform_vip is 'vip'"),
    ("edge1", {"platform_vip": "203.0.113.9"}, "VIP_OTHER_NETWORK", "203.0.113.9"),
    ("edge1", {"platform_vip": "2001:db8::1"}, "ADDRESS_INVALID", "an IPv4 address"),
    ("all", {"platform_operations_networks": []}, "OPERATIONS_NETWORKS_EMPTY", "consoles"),
    ("all", {"platform_operations_networks": ["192.0.2.1/24"]}, "NETWORK_INVALID", "192.0.2.0/24"),
    ("all", {"platform_operations_networks": ["office"]}, "NETWORK_INVALID", "CIDR"),
    ("all", {"platform_container_networks": "192.0.2.0/24"}, "NETWORK_OVERLAP", "edge1"),
    ("all", {"platform_container_networks": "198.19.0.0/33"}, "NETWORK_INVALID", "198.19.0.0/33"),
    ("all", {"platform_domain": "platform"}, "DOMAIN_INVALID", "platform.example.org"),
    ("all", {"platform_domain": "Platform.Example.org"}, "DOMAIN_INVALID", "lower case"),
    ("all", {"platform_time_zone": "Mars/Olympus"}, "TIME_ZONE_UNKNOWN", "Mars/Olympus"),
    ("data2", {"minio_drives": 4}, "MINIO_DRIVES_UNEVEN", "data2 4"),
    ("all", {"minio_parity": "EC:9"}, "MINIO_PARITY", "1 to 6"),
    ("all", {"minio_parity": 1}, "MINIO_HOST_LOSS", "writes need 11"),
    ("all", {"platform_accept_risks": ["MINIO_TO_FEW_NODES"]}, "RISK_UNKNOWN", "MINIO_TOO_FEW_NODES"),
    ("all", {"platform_accept_risks": ["SECRET_WEAK"]}, "RISK_UNKNOWN", "cannot be accepted"),
    ("all", {"minio_root_user": "ab"}, "ACCESS_KEY_INVALID", "3 or more"),
    ("all", {"minio_users": [{"access_key": "api"}, {"access_key": "a,b"}]}, "ACCESS_KEY_INVALID", "minio_users[1].access_key"),
    ("all", {"api_minio_access_key": "api=1"}, "ACCESS_KEY_INVALID", "without '='"),
    ("all", {"minio_root_password": "Fp6HsD4uKx8TzM2nVb9QwYc"}, "SECRET_WEAK", "23 characters"),
    ("all", {"minio_root_password": "minioadmin"}, "SECRET_WEAK", "10 characters"),
    ("all", {"minio_root_password": "minioadmin-minioadmin-123"}, "SECRET_WEAK", "common words"),
    ("all", {"redis_api_password": "change-me-change-me-change-me"}, "SECRET_WEAK", "common words"),
    ("all", {"redis_api_password": "aaaaaaaaaaaaaaaaaaaaaaaa"}, "SECRET_WEAK", "repetition"),
    ("all", {"redis_api_password": "abcdefghijklmnopqrstuvwxyz"}, "SECRET_WEAK", "sequence"),
    ("all", {"redis_api_password": "xqxqxqxqxqxqxqxqxqxqxqxqxqxq"}, "SECRET_WEAK", "different characters"),
    ("all", {"api_secret_key": "Kd8TzV4mQw6RnX2pLj9HcYb5"}, "SECRET_WEAK", "32 or more"),
    ("all", {"redis_api_password": "Xn9PzR4sLd2VhK8tWg6MqJb5\n"}, "SECRET_FORMAT", "white space"),
    ("all", {"redis_api_password": "Xn9PzR4sLd 2VhK8tWg6MqJb5"}, "SECRET_FORMAT", "white space"),
    ("all", {"redis_api_password": 'Xn9PzR4sLd"2VhK8tWg6MqJb5'}, "SECRET_FORMAT", 'the character " in it'),
    ("all", {"minio_api_secret_key": "Xn9PzR4sLd2VhK8tWg6MqJb5Yw3CfH7uQe1DaZxN0"}, "SECRET_FORMAT", "at most 40"),
    ("all", {"redis_api_password": GOOD_SECRETS["redis_admin_password"]}, "SECRET_REUSED", "redis_admin_password and redis_api_password"),
]


@pytest.mark.parametrize(("host", "changes", "code", "text"), CASES, ids=[f"{case[2]}-{number}" for number, case in enumerate(CASES)])
def test_one_mistake_gives_one_finding(host: str, changes: dict[str, t.Any], code: str, text: str) -> None:
    hosts, groups = platform(**{host: changes})
    findings = judge(hosts, groups)
    assert set(findings.codes()) == {code}, core.report(findings.sorted())
    finding = only(findings, code)
    assert finding.level == core.CODES[code].level
    assert text in " | ".join(filter(None, (finding.message, finding.value, finding.accepted, finding.mend)))
    assert finding.variable and finding.accepted and finding.mend
    for value in changes.values():
        if code.startswith("SECRET"):
            assert str(value).strip() not in core.report([finding])


def shrink(**members: list[str]) -> core.Findings:
    hosts, groups = platform()
    groups.update(members)
    kept = {name for names in groups.values() for name in names}
    return judge({name: values for name, values in hosts.items() if name in kept}, groups)


@pytest.mark.parametrize(
    ("members", "codes"),
    [
        ({"minio": ["data1", "data2"]}, {"MINIO_TOO_FEW_NODES", "MINIO_HOST_LOSS"}),
        ({"minio": ["data1", "data2", "data3"]}, {"MINIO_TOO_FEW_NODES"}),
        ({"redis": ["data1"]}, {"REDIS_TOO_FEW_NODES"}),
        ({"redis": ["data1", "data2"]}, {"REDIS_TOO_FEW_NODES"}),
        ({"redis": ["data1", "data2", "data3", "data4"]}, {"REDIS_EVEN", "REDIS_ZONE_LOSS"}),
        ({"redis": ["data1", "data4", "data3"]}, {"REDIS_ZONE_LOSS"}),
        ({"edge": ["edge1"]}, {"EDGE_TOO_FEW_HOSTS"}),
        ({"api": ["app1"]}, {"API_TOO_FEW_HOSTS"}),
        ({"worker": ["app2"]}, {"WORKER_TOO_FEW_HOSTS"}),
        ({"scheduler": ["app1"]}, {"SCHEDULER_TOO_FEW_HOSTS"}),
        ({"api": ["app1", "data1"]}, {"API_ZONE_LOSS"}),
        ({"edge": ["edge1", "data2"]}, {"PORT_CONFLICT"}),
        ({"registry": []}, {"GROUP_MISSING"}),
    ],
)
def test_topology(members: dict[str, list[str]], codes: set[str]) -> None:
    findings = shrink(**members)
    assert set(findings.codes()) == codes, core.report(findings.sorted())


def test_three_drives_make_no_erasure_set() -> None:
    hosts, groups = platform(all={"minio_drives": 1})
    groups["minio"] = ["data1", "data2", "data3"]
    findings = judge({name: values for name, values in hosts.items() if name not in ("data4", "data5", "data6")}, groups)
    assert findings.codes() == ["MINIO_TOO_FEW_NODES", "MINIO_ERASURE_SET"]
    assert "4 to 16 drives" in str(only(findings, "MINIO_ERASURE_SET").accepted)


def test_two_minio_nodes_are_told_what_is_accepted() -> None:
    finding = only(shrink(minio=["data1", "data2"]), "MINIO_TOO_FEW_NODES")
    assert finding.accepted == "4 or more nodes"
    assert finding.hosts == ["data1", "data2"]
    assert "MINIO_TOO_FEW_NODES" in str(finding.mend)


def test_a_zone_that_minio_cannot_lose_is_named_with_the_reason() -> None:
    hosts, groups = platform()
    groups["minio"] = ["data1", "data2", "data3", "data4"]
    finding = only(judge({name: values for name, values in hosts.items() if name not in ("data5", "data6")}, groups), "MINIO_ZONE_LOSS")
    assert finding.level == core.WARNING
    assert "zone a" in finding.message and "data1 and data4, 4 of 8 drives" in finding.message and "writes need 5" in finding.message


def test_a_misspelt_group_is_recognised() -> None:
    hosts, groups = platform()
    groups["reddis"] = groups.pop("redis")
    assert "did you mean the group reddis?" in only(judge(hosts, groups), "GROUP_MISSING").message


@pytest.mark.parametrize(
    ("nodes", "drives", "size", "parity", "quorum"),
    [
        (4, 1, 4, 2, 3),
        (4, 2, 8, 4, 5),
        (5, 1, 5, 2, 3),
        (6, 1, 6, 3, 4),
        (7, 1, 7, 3, 4),
        (6, 2, 12, 4, 8),
        (4, 4, 16, 4, 12),
        (8, 4, 16, 4, 12),
        (5, 4, 10, 4, 6),
        (3, 2, 6, 3, 4),
        (2, 2, 4, 2, 3),
        (9, 2, 9, 4, 5),
    ],
)
def test_erasure_arithmetic(nodes: int, drives: int, size: int, parity: int, quorum: int) -> None:
    plan = core.erasure([f"n{number}" for number in range(nodes)], drives)
    assert plan is not None
    assert (plan.size, plan.parity, plan.write_quorum) == (size, parity, quorum)


def test_no_erasure_set_divides_a_prime_number_of_drives() -> None:
    assert core.erasure_set_size(17, 1) is None
    assert core.erasure([], 2) is None


@given(nodes=st.integers(4, 16), drives=st.integers(1, 8))
def test_four_nodes_or_more_survive_the_loss_of_any_one(nodes: int, drives: int) -> None:
    names = [f"n{number}" for number in range(nodes)]
    plan = core.erasure(names, drives)
    if plan is None or plan.size < 4 or plan.size % nodes:
        return
    assert sum(sum(members.values()) for members in plan.sets) == nodes * drives
    left = min(plan.left_without([name]) for name in names)
    assert left == plan.size - plan.size // nodes
    assert (left >= plan.write_quorum) == (plan.size // nodes <= plan.size - plan.write_quorum)


# --- variables against specs


def variables(role: str, **values: t.Any) -> core.Findings:
    findings = core.Findings()
    good: dict[str, t.Any] = {"platform_vip": "192.0.2.1", "platform_images": {}, "platform_ca_passphrase": "x", "minio_drives": 2, "minio_root_password": "x"}
    good.update(values)
    core.check_role_variables(findings, "h", role, SPECS[role], {k: v for k, v in good.items() if v is not ...}, {}, set())
    return findings


@pytest.mark.parametrize(
    ("role", "values", "code", "text"),
    [
        ("minio", {"minio_drives": "two"}, "VARIABLE_TYPE", "a whole number"),
        ("minio", {"minio_drives": [1]}, "VARIABLE_TYPE", "minio_drives is [1] (list)"),
        ("minio", {"minio_drives": 2.5}, "VARIABLE_TYPE", "2.5"),
        ("minio", {"minio_mode": "quick"}, "VARIABLE_VALUE", "one of fast, safe"),
        ("minio", {"minio_buckets": [{"days": 1}]}, "VARIABLE_VALUE", "name"),
        ("minio", {"minio_buckets": [{"name": "a", "days": "x"}]}, "VARIABLE_TYPE", "days"),
        ("minio", {"minio_buckets": [{"name": "a", "day": 1}]}, "VARIABLE_VALUE", "day"),
        ("minio", {"minio_buckets": "bronze"}, "VARIABLE_TYPE", "and not a list"),
        ("minio", {"minio_users": [{"key": {}, "nokey": "TopSecret"}]}, "VARIABLE_VALUE", "accepted form"),
        ("minio", {"minio_drives": None}, "VARIABLE_MISSING", "empty (null)"),
        ("minio", {"minio_drives": ...}, "VARIABLE_MISSING", "not defined"),
        ("platform", {"platform_vip": ...}, "VARIABLE_MISSING", "Address of the edge"),
        ("platform", {"platform_allow_unpinned_images": "perhaps"}, "VARIABLE_TYPE", "true or false"),
        ("platform", {"platform_images": "minio=x"}, "VARIABLE_TYPE", "a dictionary"),
        ("platform", {"platform_operations_networks": {"a": 1}}, "VARIABLE_TYPE", "list"),
        ("platform", {"platform_minimum_disk_gib": "much"}, "VARIABLE_TYPE", "a number"),
    ],
)
def test_wrong_values(role: str, values: dict[str, t.Any], code: str, text: str) -> None:
    findings = variables(role, **values)
    assert set(findings.codes()) == {code}, core.report(findings.sorted())
    assert text in core.report(findings.sorted())
    assert "TopSecret" not in core.report(findings.sorted())


@pytest.mark.parametrize(
    ("role", "values"),
    [
        ("minio", {"minio_drives": "2"}),
        ("platform", {"platform_allow_unpinned_images": "yes"}),
        ("platform", {"platform_minimum_inodes": "1000"}),
        ("platform", {"platform_operations_networks": []}),
        ("minio", {"minio_buckets": [{"name": "bronze", "days": "30"}]}),
    ],
)
def test_what_ansible_accepts_is_accepted(role: str, values: dict[str, t.Any]) -> None:
    assert variables(role, **values).codes() == []


def test_values_get_their_type() -> None:
    values: dict[str, t.Any] = {"minio_drives": "4", "minio_root_password": "x"}
    core.check_role_variables(core.Findings(), "h", "minio", SPECS["minio"], values, {}, set())
    assert values["minio_drives"] == 4


def test_all_mistakes_of_a_value_are_reported() -> None:
    findings = variables("minio", minio_drives="x", minio_mode="y", minio_buckets=[{"name": "a", "days": "x"}, {"days": 1}])
    assert len(findings) >= 4
    assert {finding.variable for finding in findings.sorted()} == {"minio_drives", "minio_mode", "minio_buckets"}


def test_a_missing_secret_is_left_to_the_secrets() -> None:
    findings = core.Findings()
    missing = core.check_role_variables(findings, "h", "minio", SPECS["minio"], {"minio_drives": 1}, {}, set())
    assert missing == {"minio_root_password"} and findings.codes() == []
    core.missing_secret(findings, "minio_root_password", ["h"])
    assert "24 or more" in str(only(findings, "SECRET_MISSING").accepted)
    assert "playbooks/secrets.yml" in str(only(findings, "SECRET_MISSING").mend)


@pytest.mark.parametrize(
    ("name", "code", "guess"),
    [
        ("minio_drivs", "VARIABLE_UNKNOWN", "minio_drives"),
        ("platform_adress", "VARIABLE_UNKNOWN", "platform_address"),
        ("minio_completely_different", "VARIABLE_UNKNOWN", None),
        ("mino_root_password", "VARIABLE_SIMILAR", "minio_root_password"),
        ("pltform_address", "VARIABLE_SIMILAR", "platform_address"),
        ("ansible_host", None, None),
        ("my_own_variable", None, None),
        ("minio_drives", None, None),
    ],
)
def test_unknown_variables(name: str, code: str | None, guess: str | None) -> None:
    findings = core.Findings()
    core.check_unknown(findings, "h", [name], KNOWN, SPECS, lambda item: "1")
    assert findings.codes() == ([code] if code else [])
    if guess:
        assert f"did you mean {guess}?" in findings.sorted()[0].message


@pytest.mark.parametrize(
    ("text", "undefined", "later"),
    [
        ("'platform_vip' is undefined", ("platform_vip",), False),
        ("Error: object of type 'HostVarsVars' has no attribute 'platform_vip'", ("platform_vip",), False),
        ("'ansible_facts' is undefined", ("ansible_facts",), True),
        ("could not find /x/pki/hosts/a.key", (), True),
        ("the filter failed", (), False),
    ],
)
def test_errors_of_templates_are_read(text: str, undefined: tuple[str, ...], later: bool) -> None:
    problem = core.problem_from_error(text, ["ansible_facts", "/x/pki"])
    assert (problem.undefined, problem.later) == (undefined, later)


def test_what_follows_from_a_missing_variable_is_not_reported_again() -> None:
    findings = core.Findings()
    problems = {
        "a": core.Problem("", ("gone",)),
        "b": core.Problem("", ("other",)),
        "c": core.Problem("wrong"),
        "d": core.Problem("", ("ansible_facts",), True),
    }
    problems["e"] = core.problem_from_error("'other' is undefined", (), "{{ b }}")
    core.check_problems(findings, "h", problems, {"gone"})
    assert [finding.variable for finding in findings.sorted()] == ["b", "c"]
    assert "Define other" in str(findings.sorted()[0].mend)


def test_the_same_finding_on_many_hosts_is_one() -> None:
    findings = core.Findings()
    for host in ("a", "b", "a"):
        findings.add("VARIABLE_UNKNOWN", "x", host, variable="x")
    findings.add("VARIABLE_UNKNOWN", "x", "a", variable="y")
    assert [(finding.variable, finding.hosts) for finding in findings.sorted()] == [("x", ["a", "b"]), ("y", ["a"])]


# --- images


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        (f"192.0.2.20:5000/redis@{DIGEST}", None),
        (f"registry.example.org/team/redis@{DIGEST}", None),
        (f"[2001:db8::1]:5000/redis:7@{DIGEST}", None),
        (f"localhost/redis@{DIGEST}", None),
        ("192.0.2.20:5000/redis:7", "IMAGE_UNPINNED"),
        ("192.0.2.20:5000/redis", "IMAGE_UNPINNED"),
        (f"redis@{DIGEST}", "IMAGE_FORMAT"),
        (f"library/redis@{DIGEST}", "IMAGE_FORMAT"),
        (f"192.0.2.20:5000/redis@sha256:{'ab' * 31}", "IMAGE_FORMAT"),
        (f"192.0.2.20:5000/Redis@{DIGEST}", "IMAGE_FORMAT"),
        (7, "IMAGE_FORMAT"),
    ],
)
def test_image_references(reference: t.Any, code: str | None) -> None:
    hosts, groups = platform()
    for values in hosts.values():
        values["platform_images"]["redis"] = reference
    findings = judge(hosts, groups)
    assert findings.codes() == ([code] if code else [])
    if code:
        assert only(findings, code).accepted == core.REFERENCE_FORM


def test_unpinned_images_can_be_allowed() -> None:
    hosts, groups = platform(all={"platform_allow_unpinned_images": True})
    for values in hosts.values():
        values["platform_images"]["redis"] = "192.0.2.20:5000/redis:7"
    assert judge(hosts, groups).codes() == []


def test_an_image_that_a_tier_needs_is_missing() -> None:
    hosts, groups = platform()
    for values in hosts.values():
        values["platform_images"].pop("haproxy")
    finding = only(judge(hosts, groups), "IMAGE_MISSING")
    assert finding.hosts == ["edge1", "edge2"] and "edge runs" in finding.message


NO, YES, UNKNOWN = core.Presence(False, "not here"), core.Presence(True), core.Presence(None)


@pytest.mark.parametrize(
    ("source", "registry", "found"),
    [(YES, UNKNOWN, True), (UNKNOWN, YES, True), (UNKNOWN, UNKNOWN, True), (NO, YES, True), (NO, UNKNOWN, False), (UNKNOWN, NO, False), (NO, NO, False)],
)
def test_an_image_must_be_somewhere(source: core.Presence, registry: core.Presence, found: bool) -> None:
    findings = core.Findings()
    reference = f"192.0.2.20:5000/redis@{DIGEST}"
    image = core.parse_image(reference)
    assert image is not None
    core.check_presence(findings, image, reference, "platform_images.redis", ["data1"], source, registry)
    assert findings.codes() == ([] if found else ["IMAGE_NOT_FOUND"])


def test_sources_are_matched_by_name_and_digest() -> None:
    image = core.parse_image(f"192.0.2.20:5000/redis@{DIGEST}")
    assert image is not None
    assert core.source_for(image, [{"name": "redis", "digest": DIGEST[7:]}]) is not None
    assert core.source_for(image, [{"name": "redis", "digest": "sha256:" + "cd" * 32}, {"name": "minio", "digest": DIGEST}, "x"]) is None


# --- secrets


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=0, max_size=15))
def test_short_secrets_are_weak(value: str) -> None:
    assert core.weakness("redis_api_password", value) is not None


def test_random_secrets_are_not_weak() -> None:
    import secrets

    for _attempt in range(300):
        assert core.weakness("redis_api_password", secrets.token_urlsafe(24)) is None
        assert core.weakness("api_secret_key", secrets.token_hex(32)) is None


def test_values_derived_from_another_are_not_reuse() -> None:
    hosts, _groups = platform(all={"redis_api_password": GOOD_SECRETS["redis_admin_password"]})
    findings = core.Findings()
    core.check_secrets(findings, hosts, core.all_secrets(), lambda host, name: name != "redis_api_password")
    assert findings.codes() == []


def test_secrets_are_taken_out_of_other_texts() -> None:
    assert core.scrub("redis://:abcdefgh@h", ["abcdefgh", ""]) == "redis://:<secret>@h"
    assert core.show("hello", True) == "<secret, 5 characters>"
    assert core.scrub(None, ["x"]) is None


# --- the private CA

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
PASSPHRASE = "Zk7RtW3yNq9BvX5mLc2JhGd8"


def authority(begin: int, end: int, ca: bool = True, sign: bool | None = True, passphrase: str | None = PASSPHRASE) -> tuple[bytes, bytes]:
    """A CA that is valid from one day to another, counted from now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW + datetime.timedelta(days=begin)).not_valid_after(NOW + datetime.timedelta(days=end))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
    if sign is not None:
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"),
            False,
        )
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=sign, **usage), True)
    encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), pem


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        ({"begin": -1, "end": 3650}, []),
        ({"begin": -1, "end": 3650, "sign": None}, []),
        ({"begin": -400, "end": -1}, ["CA_EXPIRED"]),
        ({"begin": -400, "end": 20}, ["CA_EXPIRES_SOON"]),
        ({"begin": 2, "end": 400}, ["CA_NOT_YET_VALID"]),
        ({"begin": -1, "end": 400, "ca": False, "sign": False}, ["CA_NOT_A_CA"]),
        ({"begin": -1, "end": 400, "sign": False}, ["CA_NOT_A_CA"]),
        ({"begin": -1, "end": 400, "passphrase": None}, ["CA_KEY_PLAIN"]),
        ({"begin": -1, "end": 400, "passphrase": "another-passphrase"}, ["CA_PASSPHRASE"]),
    ],
)
def test_the_ca(arguments: dict[str, t.Any], codes: list[str]) -> None:
    findings = core.Findings()
    certificate, key = authority(**arguments)
    core.check_ca(findings, certificate, key, PASSPHRASE, NOW, "/pki", ["a"])
    assert findings.codes() == codes
    assert PASSPHRASE not in core.report(findings.sorted())


def test_a_ca_without_or_with_another_key() -> None:
    certificate, _key = authority(-1, 400)
    for key, code in ((None, "CA_KEY_MISSING"), (authority(-1, 400)[1], "CA_KEY_MISMATCH")):
        findings = core.Findings()
        core.check_ca(findings, certificate, key, PASSPHRASE, NOW, "/pki")
        assert findings.codes() == [code]
    findings = core.Findings()
    core.check_ca(findings, b"no certificate", None, PASSPHRASE, NOW, "/pki")
    assert findings.codes() == ["CA_UNREADABLE"]


# --- what hosts answered


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("ssh: connect to host 192.0.2.31 port 22: Connection timed out", "is up"),
        ("ssh: connect to host 192.0.2.31 port 22: Connection refused", "SSH server"),
        ("operator@192.0.2.31: Permission denied (publickey).", "authorized_keys"),
        ("Host key verification failed.", "known_hosts"),
        ("Could not resolve hostname data1: Name or service not known", "resolvable"),
    ],
)
def test_unreachable_hosts(text: str, mend: str) -> None:
    findings = core.Findings()
    values = {"ansible_host": "192.0.2.31", "ansible_user": "operator", "ansible_port": 22}
    core.check_preflight_result(findings, "data1", values, {"unreachable": True, "msg": text})
    finding = only(findings, "HOST_UNREACHABLE")
    assert "operator at 192.0.2.31, port 22" in finding.message and text in finding.message and mend in str(finding.mend)


def test_answers_of_hosts_are_taken_over() -> None:
    findings = core.Findings()
    core.check_preflight_result(findings, "a", {}, {})
    core.check_preflight_result(findings, "b", {}, {"skipped": True})
    core.check_preflight_result(findings, "c", {}, {"failed": True, "msg": "MODULE FAILURE"})
    core.check_preflight_result(findings, "d", {}, {"findings": [{"code": "DISK_FULL", "level": "error", "message": "full", "hosts": []}]})
    assert [(finding.code, finding.hosts) for finding in findings.sorted()] == [("PREFLIGHT_FAILED", ["c"]), ("DISK_FULL", ["d"])]


# --- accepted risks and the report


def test_accepted_risks_become_warnings() -> None:
    findings = shrink(minio=["data1", "data2", "data3"])
    result = core.accept_risks(findings.sorted(), {"data1": {"platform_accept_risks": ["MINIO_TOO_FEW_NODES"]}})
    assert [(item.code, item.level, item.accepted_risk) for item in result] == [("MINIO_TOO_FEW_NODES", "warning", True)]
    assert "risk accepted" in core.report(result)


def test_a_risk_must_be_accepted_for_each_host_concerned() -> None:
    findings = core.Findings()
    findings.add("DISK_FULL", "x", ["a", "b"])
    hosts = {"a": {"platform_accept_risks": ["DISK_FULL"]}, "b": {}}
    assert core.accept_risks(findings.sorted(), hosts)[0].level == core.ERROR


def test_errors_that_may_not_be_accepted_stay() -> None:
    findings = core.Findings()
    findings.add("SECRET_WEAK", "x", ["a"])
    assert core.accept_risks(findings.sorted(), {"a": {"platform_accept_risks": ["SECRET_WEAK"]}})[0].level == core.ERROR


def test_the_report_is_for_a_person() -> None:
    findings = core.Findings()
    findings.add("ZONE_UNKNOWN", "data1 is in zone 'd'.", ["data1"], variable="platform_zone", value="'d'", accepted="one of a, b", mend="Correct it.")
    findings.add("CA_EXPIRES_SOON", "soon", ["data1", "data2"])
    text = core.report(findings.sorted(), ["data1", "data2"])
    assert text.splitlines()[0] == "Validation: 1 error and 1 warning."
    assert "ERROR ZONE_UNKNOWN on data1" in text and "accepted: one of a, b" in text and "WARNING CA_EXPIRES_SOON on all hosts" in text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("512m", 512),
        ("1g", 1024),
        ("1.5G", 1536),
        ("256MiB", 256),
        (1048576, 1),
        ("2048k", 2),
        ("lots", None),
        (True, None),
    ],
)
def test_memory_limits(text: t.Any, amount: float | None) -> None:
    assert core.mebibytes(text) == amount


def test_memory_of_a_host() -> None:
    values = {
        "redis_cache_memory_limit": "384m",
        "redis_cache_maxmemory": "256mb",
        "api_memory_mib": 1024,
        "worker_memory_mib": "x",
        "edge_nginx_memory_mib": "1g",
    }
    assert core.memory_of(values, ["redis", "api", "worker", "registry"]) == {"redis_cache_memory_limit": 384, "api_memory_mib": 1024}


def test_the_table_of_tiers_names_variables_and_images_that_there_are() -> None:
    from ansible_collections.novacorrente.platform.plugins.plugin_utils._validation_io import load_roles

    roles = load_roles(str(pathlib.Path(__file__).resolve().parents[4] / "roles"))
    for name, tier in {**core.TIERS, **core.SERVICES}.items():
        assert set(tier.memory) | {port.variable for port in tier.ports if port.variable} <= set(roles[name].options) | set(roles["platform"].options)
        assert set(tier.images) <= set(NAMES)


def with_neo4j(members: list[str], **values: t.Any) -> tuple[dict[str, dict[str, t.Any]], dict[str, list[str]]]:
    """The good platform with members of Neo4j as the role's defaults resolve on them."""
    hosts, groups = platform()
    groups["neo4j"] = members
    for host in members:
        defaults = {"neo4j_edition": "community", "neo4j_accept_license": False, "neo4j_applier": True, "neo4j_settings": {}}
        defaults.update(neo4j_memory_mib=1024, neo4j_heap_mib=288, neo4j_page_cache_mib=288)
        hosts[host].update({**defaults, **copy.deepcopy(values)})
    return hosts, groups


ENTERPRISE = {"neo4j_edition": "enterprise", "neo4j_accept_license": True}


# members, values on each of them, the codes that must come out, and what a finding must say
NEO4J: list[tuple[list[str], dict[str, t.Any], list[str], str]] = [
    (["data1", "data2"], {}, [], ""),
    (["data1"], {"neo4j_applier": False}, ["NEO4J_SINGLE"], "data1 alone"),
    (["data1"], {}, ["NEO4J_SINGLE"], "data1 alone"),
    (["data1", "data4"], {}, ["NEO4J_ZONE_LOSS"], "zone a: all members are there"),
    (["data1", "data2"], {"neo4j_applier": False}, ["NEO4J_NO_OUTBOX"], "nothing keeps the members equal"),
    (["data1", "data2"], {"neo4j_edition": "enterprise"}, ["NEO4J_LICENSE", "NEO4J_TOO_FEW_NODES"], "not accepted"),
    (["data1", "data2", "data3"], {"neo4j_edition": "enterprise"}, ["NEO4J_LICENSE"], "not accepted"),
    (["data1", "data2", "data3"], ENTERPRISE, [], ""),
    (["data1", "data2", "data4"], ENTERPRISE, ["NEO4J_ZONE_LOSS"], "zone a: it holds data1 and data4, 2 of 3 members, and 2 are a majority"),
    (["data1"], ENTERPRISE, ["NEO4J_TOO_FEW_NODES"], "1 primary (data1)"),
    (["data1", "data2", "data3"], {**ENTERPRISE, "neo4j_settings": {"dbms.cluster.discovery.log_level": "DEBUG"}}, [], ""),
    (["data1", "data2"], {"neo4j_settings": {"dbms.cluster.discovery.resolver_type": "LIST"}}, ["NEO4J_CLUSTER_SETTING"], "resolver_type"),
    (["data1", "data2"], {"neo4j_settings": {"initial.dbms.default_primaries_count": 3}}, ["NEO4J_CLUSTER_SETTING"], "primaries_count"),
    (["data1", "data2"], {"neo4j_settings": {"initial.dbms.default_database": "graph"}}, [], ""),
    (["data1", "data2"], {"neo4j_heap_mib": 700}, ["NEO4J_MEMORY"], "leave 36 MiB"),
    (["data1", "data2"], {"neo4j_heap_mib": 544}, [], ""),
    (["data1", "data2"], {"neo4j_heap_mib": 545}, ["NEO4J_MEMORY"], "leave 191 MiB"),
    # what has no accepted type or value is reported as such, and says nothing here
    (["data1", "data2"], {"neo4j_edition": "free", "neo4j_heap_mib": "much", "neo4j_settings": "none"}, [], ""),
]


@pytest.mark.parametrize(("members", "values", "codes", "says"), NEO4J)
def test_neo4j(members: list[str], values: dict[str, t.Any], codes: list[str], says: str) -> None:
    findings = judge(*with_neo4j(members, **values))
    assert sorted(set(findings.codes())) == codes, core.report(findings.sorted())
    assert says in " ".join(finding.message for finding in findings.sorted())


def test_members_of_neo4j_are_of_one_edition() -> None:
    hosts, groups = with_neo4j(["data1", "data2", "data3"])
    hosts["data2"].update(ENTERPRISE)
    assert "data1 community, data2 enterprise, data3 community" in only(judge(hosts, groups), "NEO4J_EDITION").message


def test_an_optional_tier_is_missed_only_where_it_is_asked_for() -> None:
    _hosts, groups = platform()
    assert "neo4j" not in core.expected_tiers(groups)
    assert "neo4j" in core.expected_tiers({**groups, "neo4j": ["data1"]})
    findings = core.Findings()
    core.check_groups(findings, groups, ["neo4j"])
    assert findings.codes() == ["GROUP_MISSING"]


KEY = "dR4kWz8TnX2vLq6MhY9pJc3GbS7fKt5N"
OTHER_KEY = "Vu7yQm3HxZ9sBw2KdP6nRf8JtC4gLa5E"


def with_mongodb(members: list[str], single: dict[str, dict[str, t.Any]], **values: t.Any) -> tuple[dict[str, dict[str, t.Any]], dict[str, list[str]]]:
    """The good platform with MongoDB on these hosts, as its role's defaults have it. ``single`` holds values of single hosts."""
    hosts, groups = platform()
    groups["mongodb"] = members
    for host in members:
        own = {**values, **single.get(host, {})}
        plain = not (own.get("mongodb_hidden") or own.get("mongodb_delay") or own.get("mongodb_votes") == 0)
        defaults = {"mongodb_votes": 1, "mongodb_hidden": False, "mongodb_delay": 0, "mongodb_priority": 1 if plain else 0, "mongodb_set_name": "platform"}
        hosts[host].update({**defaults, "mongodb_memory_limit": "1024m", "mongodb_cache_gb": 0.25, "mongodb_keyfile": KEY, **own})
    return hosts, groups


FIVE = ["data1", "data2", "data3", "data5", "data6"]
APART = ["data1", "data2", "data3", "app1", "app2", "edge1", "edge2", "ops1"]


@pytest.mark.parametrize(
    ("members", "values", "single", "codes", "says"),
    [
        (["data1", "data2", "data3"], {}, {}, [], ""),
        (FIVE, {}, {}, [], ""),
        (["data1"], {}, {}, ["MONGODB_TOO_FEW_MEMBERS"], "has 1 member"),
        (["data1", "data2"], {}, {}, ["MONGODB_TOO_FEW_MEMBERS"], "3 or more members"),
        (["data1", "data2", "data3", "data4"], {}, {}, ["MONGODB_EVEN", "MONGODB_ZONE_LOSS"], "4 survive no more losses than 3"),
        (["data1", "data2", "data3", "data4"], {}, {"data4": {"mongodb_votes": 0}}, [], ""),
        (["data1", "data4", "data3"], {}, {}, ["MONGODB_ZONE_LOSS"], "data1 and data4, 2 of 3 votes"),
        (["data1", "data2", "data3"], {}, {"data3": {"mongodb_votes": 0}}, ["MONGODB_TOO_FEW_MEMBERS"], "data1 and data2"),
        (APART, {}, {}, ["MONGODB_SET"], "8 members, of which 8 vote"),
        (["data1", "data2", "data3"], {"mongodb_priority": 0}, {}, ["MONGODB_SET"], "may become primary"),
        (FIVE, {}, {"data6": {"mongodb_hidden": True, "mongodb_priority": 1}}, ["MONGODB_SET"], "priority 1 and is hidden"),
        (FIVE, {}, {"data6": {"mongodb_votes": 0, "mongodb_delay": 60, "mongodb_priority": 2}}, ["MONGODB_SET"], "delayed and without vote"),
        (FIVE, {}, {"data6": {"mongodb_set_name": "other"}}, ["MONGODB_SET"], "other and platform"),
        (FIVE, {}, {"data6": {"mongodb_delay": 3600, "mongodb_hidden": True}}, ["MONGODB_SLOW_VOTER"], "3600 s behind"),
        (FIVE, {"mongodb_cache_gb": 0.7}, {}, ["MONGODB_CACHE"], "leaves 307 MiB"),
        (FIVE, {"mongodb_cache_gb": 0.6}, {}, [], ""),
        (FIVE, {"mongodb_memory_limit": "400m"}, {}, ["MONGODB_CACHE"], "512m or more"),
        (FIVE, {"mongodb_keyfile": [KEY, OTHER_KEY]}, {}, [], ""),
        (FIVE, {"mongodb_keyfile": []}, {}, ["MONGODB_KEYFILE"], "without a key"),
        (FIVE, {"mongodb_keyfile": [KEY, KEY]}, {}, ["MONGODB_KEYFILE"], "twice"),
        (FIVE, {"mongodb_keyfile": [KEY, "short"]}, {}, ["MONGODB_KEYFILE"], "5 characters"),
        (FIVE, {"mongodb_keyfile": [KEY, "abc123" * 3]}, {}, ["MONGODB_KEYFILE"], "18 characters"),
        (FIVE, {"mongodb_keyfile": [KEY + "!"]}, {}, ["MONGODB_KEYFILE"], "base64"),
        (FIVE, {"mongodb_keyfile": [KEY * 40]}, {}, ["MONGODB_KEYFILE"], "1280 characters"),
        (FIVE, {"mongodb_keyfile": ["ab" * 20]}, {}, ["MONGODB_KEYFILE"], "too weak"),
        (FIVE, {}, {"data6": {"mongodb_keyfile": OTHER_KEY}}, ["MONGODB_KEYFILE"], "would not let each other in"),
        # What has another type is reported as such, and breaks nothing here.
        (FIVE, {"mongodb_votes": "many", "mongodb_delay": None, "mongodb_cache_gb": "x", "mongodb_memory_limit": "much"}, {}, [], ""),
    ],
)
def test_mongodb(members: list[str], values: dict[str, t.Any], single: dict[str, dict[str, t.Any]], codes: list[str], says: str) -> None:
    findings = judge(*with_mongodb(members, single, **values))
    assert findings.codes() == codes, core.report(findings.sorted())
    text = core.report(findings.sorted())
    assert says in text
    assert KEY not in text and OTHER_KEY not in text


def test_a_platform_without_mongodb_lacks_nothing() -> None:
    assert "mongodb" not in core.expected_tiers(platform()[1])
    assert "mongodb" in core.expected_tiers(with_mongodb(["data1"], {})[1])


def test_all_codes_are_documented_with_their_level() -> None:
    page = pathlib.Path(__file__).resolve().parents[4] / "docs" / "validation.md"
    rows = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) >= 4:
            rows[cells[0].strip("`")] = (cells[1], cells[2])
    expected = {code: (entry.level, "yes" if entry.acceptable else "no" if entry.level == core.ERROR else "-") for code, entry in core.CODES.items()}
    assert rows == expected
    assert list(rows) == list(expected)
