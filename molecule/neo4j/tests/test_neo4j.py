# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import ssl
import typing as t

import checks
import neo4j
import pytest
from neo4j.exceptions import AuthError, DriverError, Neo4jError

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://neo4j"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]
PORTS = {7473, 7687}


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_member(host, value, "neo4j", containers, secrets)
    assert set(containers) == {"neo4j", "applier"} if value("neo4j_applier") else {"neo4j"}


def connect(value: Value, user: str, password: str, **options: t.Any) -> neo4j.Driver:
    """A driver of this member alone, from the controller, as the role itself makes one."""
    if options.get("encrypted", True):
        options["ssl_context"] = ssl.create_default_context(cadata=value("platform_ca_certificate"))
    return neo4j.GraphDatabase.driver(f"bolt://{value('platform_address')}:7687", auth=(user, password), connection_timeout=5, **options)


@pytest.fixture(scope="module")
def driver(value: Value) -> t.Iterator[neo4j.Driver]:
    with connect(value, "neo4j", value("neo4j_password")) as found:
        yield found


def test_listens_on_the_hosts_own_address_only(host: Host, value: Value) -> None:
    others = {7474, 5000, 6000, 6362, 7000, 7688}
    mine = {(address.removeprefix("::ffff:"), port) for address, port in checks.listeners(host) if port in PORTS | others}
    cluster = {6000, 7000, 7688} if value("neo4j_edition") == "enterprise" else set()
    assert mine == {(value("platform_address"), port) for port in PORTS | cluster}


def test_metrics_of_the_applier_stay_on_the_host(host: Host, value: Value) -> None:
    assert {address for address, port in checks.listeners(host) if port == 9102} == ({"127.0.0.1"} if value("neo4j_applier") else set())


def test_answers_https_with_the_platforms_certificate(host: Host, value: Value) -> None:
    answer = checks.get(host, f"https://{value('platform_address')}:7473/", f"{value('platform_root')}/neo4j/current/config/tls/trusted/ca.crt")
    assert answer.status == 200
    assert json.loads(answer.body)["neo4j_edition"] == value("neo4j_edition")


def test_refuses_plain_text(value: Value) -> None:
    with connect(value, "neo4j", "not-this-one", encrypted=False) as found, pytest.raises((DriverError, OSError)):
        found.verify_connectivity()


@pytest.mark.parametrize(("user", "password"), [("neo4j", "neo4j"), ("nobody", "no-such-password")])
def test_refuses_default_and_unknown_users(value: Value, user: str, password: str) -> None:
    with connect(value, user, password) as found, pytest.raises(AuthError):
        found.verify_connectivity()


def test_the_apps_users_get_in(value: Value) -> None:
    for user in value("neo4j_users"):
        with connect(value, user["name"], user["password"]) as found:
            found.verify_connectivity()


def test_all_databases_are_online(driver: neo4j.Driver) -> None:
    rows = driver.execute_query("SHOW DATABASES YIELD name, currentStatus, statusMessage", database_="system").records
    assert {row["name"]: (row["currentStatus"], row["statusMessage"]) for row in rows} == {"neo4j": ("online", ""), "system": ("online", "")}


def test_constraints_are_what_the_variables_say(driver: neo4j.Driver, value: Value) -> None:
    rows = driver.execute_query("SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties", database_="neo4j").records
    there = {(row["type"], row["labelsOrTypes"][0], tuple(row["properties"])) for row in rows}
    assert {("UNIQUENESS", item["label"], tuple(item["properties"])) for item in value("neo4j_constraints")} <= there


def test_memory_of_the_server_stays_in_its_limit(host: Host, value: Value, containers: Containers, driver: neo4j.Driver) -> None:
    names = ["server.memory.heap.max_size", "server.memory.pagecache.size"]
    rows = driver.execute_query("SHOW SETTINGS YIELD name, value WHERE name IN $names RETURN name, value", names=names, database_="neo4j").records
    sizes = {row["name"]: row["value"] for row in rows}
    wanted = (value("neo4j_heap_mib"), value("neo4j_page_cache_mib"))
    assert tuple(sizes[name].replace(".00", "").removesuffix("MiB") for name in names) == tuple(str(size) for size in wanted)
    assert sum(wanted) * 1048576 < containers["neo4j"]["HostConfig"]["Memory"]


@pytest.mark.parametrize("source", ["file:///etc/hostname", "https://platform.example.org/"])
def test_queries_reach_no_file_and_no_address(driver: neo4j.Driver, source: str) -> None:
    with pytest.raises(Neo4jError):
        driver.execute_query("LOAD CSV FROM $source AS line RETURN line", source=source, database_="neo4j")


def test_the_applier_follows_the_outbox(host: Host, value: Value, containers: Containers) -> None:
    if not value("neo4j_applier"):
        pytest.skip("a single member without an outbox")
    answer = json.loads(host.check_output("docker exec %s python3 -m app.applier --lag", containers["applier"]["Id"]))
    assert answer["diverged"] is False and answer["lag"] <= 100
