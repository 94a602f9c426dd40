# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents, outbox, appliers and graph on servers: a replica set of three with TLS, users and elections, and Neo4j Community members."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import pathlib
import signal
import subprocess
import sys
import threading
import typing as t
import urllib.request

import pytest
from app import schema
from graph_helpers import URL, Client, empty, graph_environment
from servers import Buckets, Certificates, Neo4jServer, ReplicaSet, free_port, run_replica_set, wait_for

API = {"MINIO_ENDPOINT": "127.0.0.1:1", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.graph.SLOW_TIMEOUT", 120.0)


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[ReplicaSet]:
    with run_replica_set(tmp_path_factory.mktemp("mongodb")) as found:
        yield found


@pytest.fixture
def stores(replica_set: ReplicaSet, tmp_path: pathlib.Path) -> dict[str, str]:
    """The environment of a database of this test's own."""
    replica_set.heal()
    name = f"platform-{tmp_path.name[-20:].strip('-_0')}"[:38]
    password = tmp_path / "mongodb-password"
    with replica_set.client() as client:
        client.drop_database(name)
        # what README.md says that the API's user needs
        client.admin.command("createUser", name, pwd="mongo-password", roles=[{"role": "readWrite", "db": name}])
    password.write_text("mongo-password\n", encoding="utf-8")
    return {
        "MONGODB_URI": f"mongodb://{replica_set.uri()}/?replicaSet=rs0", "MONGODB_USERNAME": name, "MONGODB_PASSWORD_FILE": str(password),
        "MONGODB_CA_FILE": str(replica_set.authority.file), "MONGODB_DATABASE": name,
    }  # fmt: skip


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False, timeout=900)


def records(replica_set: ReplicaSet, stores: dict[str, str]) -> list[t.Any]:
    with replica_set.client() as client:
        found = list(client[stores["MONGODB_DATABASE"]]["outbox"].find().sort("_id", 1))
    assert [record["_id"] for record in found] == list(range(1, len(found) + 1))
    return found


def test_documents_on_a_replica_set(base_environment: dict[str, str], stores: dict[str, str], replica_set: ReplicaSet) -> None:
    with Client({**base_environment, **API, **stores}) as api:
        made = api.post(URL, json={"title": "Ação", "tags": ["x"], "table": "weather"}, headers={"Idempotency-Key": "one"})
        assert (made.status_code, made.json()["version"]) == (201, 1)
        assert api.post(URL, json={"title": "Ação", "tags": ["x"], "table": "weather"}, headers={"Idempotency-Key": "one"}).json() == made.json()
        url = made.headers["location"]
        changed = api.patch(url, json={"text": "words to find"}, headers={"If-Match": made.headers["etag"]})
        assert (changed.status_code, changed.json()["version"]) == (200, 2)
        assert api.patch(url, json={"text": "other"}, headers={"If-Match": made.headers["etag"]}).status_code == 412
        for number in range(12):
            assert api.put(f"{URL}/n{number:02}", json={"title": f"number {number}", "tags": ["many"]}).status_code == 201
        seen: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = api.get(URL, params={"tag": "many", "limit": 5, **after}).json()
            seen += [one["id"] for one in page["insights"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert seen == [f"n{number:02}" for number in range(11, -1, -1)]
        assert [one["id"] for one in api.get(URL, params={"text": "acao find"}).json()["insights"]] == [made.json()["id"]]
        assert api.delete(f"{URL}/n00").status_code == 204
        assert api.get(f"{URL}/n00").status_code == 404
        assert api.get("/ready").json()["dependencies"]["mongodb"]["status"] == "up"
    assert [record["op"] for record in records(replica_set, stores)].count("insight.remove") == 1
    with replica_set.client() as client:
        database = client[stores["MONGODB_DATABASE"]]
        assert database["insights"].count_documents({}) == 12
        for name, models in schema.INDEXES.items():
            assert set(database[name].index_information()) == {"_id_", *(model.document["name"] for model in models)}


def test_the_primary_is_killed_and_no_request_fails(
    base_environment: dict[str, str], stores: dict[str, str], replica_set: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mongo.RIDE_OUT", 120.0)  # the machine may be busy with other things; test_outbox.py has an election's seconds on a clock
    acknowledged: dict[str, int] = {}
    failures: list[t.Any] = []
    leave = threading.Event()
    with Client({**base_environment, **API, **stores}) as api:

        def write(worker: int) -> None:
            number = 0
            while not leave.is_set():
                number += 1
                name = f"w{worker}-{number % 10}"
                answer = api.put(f"{URL}/{name}", json={"title": f"{worker} {number}"})
                if answer.status_code in (200, 201):
                    acknowledged[name] = number
                else:
                    failures.append(answer.json())
                read = api.get(f"{URL}/{name}")
                if read.status_code != 200 or read.json()["title"] != f"{worker} {number}":
                    failures.append(read.json())

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(acknowledged) >= 30, 300, "writes before")
        old = replica_set.primary
        old.kill()
        replica_set.primary  # noqa: B018 - waits for the next one
        before = dict(acknowledged)
        wait_for(lambda: all(acknowledged[name] > number for name, number in before.items()), 300, "writes after")
        old.start()
        leave.set()
        for thread in threads:
            thread.join(300)
        assert not failures
        replica_set.heal()
        for name, number in acknowledged.items():
            assert api.get(f"{URL}/{name}").json()["title"].split(" ")[1] == str(number)
    found = records(replica_set, stores)
    assert len({record["change_id"] for record in found}) == len(found)
    last = {record["data"]["id"]: record["data"]["title"].split(" ")[1] for record in found}
    assert last == {name: str(number) for name, number in acknowledged.items()}


def test_commands(python_environment: dict[str, str], stores: dict[str, str], graph_servers: list[Neo4jServer], authority: Certificates) -> None:
    environment = {**python_environment, **stores, **graph_environment(authority, graph_servers[0].uri)}
    for _ in range(2):
        done = run(environment, "app.schema")
        assert (done.returncode, done.stderr) == (0, "")
    done = run({**environment, "NEO4J_URIS": f"bolt+s://127.0.0.1:{free_port()}"}, "app.schema")
    assert done.returncode == 1
    assert "schema: neo4j 127.0.0.1" in done.stderr
    done = run({**environment, "NEO4J_URIS": f"bolt+s://127.0.0.1:{free_port()}"}, "app.applier", "--lag")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["applied"], answer["newest"], answer["lag"], list(answer["errors"])) == (1, None, 0, None, ["neo4j"])
    done = run({**environment, "NEO4J_URIS": "neo4j+s://x:7687", "MONGODB_URI": "mongodb://user:hidden@x/"}, "app.applier")
    assert done.returncode == 2
    assert "MONGODB_URI is not accepted" in done.stderr
    assert "hidden" not in done.stderr + done.stdout


@contextlib.contextmanager
def applier_of(environment: dict[str, str], server: Neo4jServer, directory: pathlib.Path) -> t.Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    changes = {"NEO4J_URIS": server.uri, "APPLIER_METRICS_HOST": "127.0.0.1", "APPLIER_METRICS_PORT": str(port)}
    with (directory / f"applier-{server.port}.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "app.applier"], env={**environment, **changes}, stdout=log, stderr=log)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait(10)


def test_seeded_graph_with_appliers_that_are_killed(
    base_environment: dict[str, str], python_environment: dict[str, str], demo: Buckets, stores: dict[str, str], replica_set: ReplicaSet,
    graph_servers: list[Neo4jServer], authority: Certificates, tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    asyncio.run(empty(authority, *graph_servers))
    environment = {**base_environment, **demo.environment(), **stores, **graph_environment(authority, *(server.uri for server in graph_servers))}
    inner = {**python_environment, **environment}
    with contextlib.ExitStack() as stack:
        appliers = [stack.enter_context(applier_of(inner, server, tmp_path)) for server in graph_servers]
        counts = []
        for _ in range(2):  # the second time changes nothing
            done = run(inner, "app.seed")
            assert (done.returncode, done.stderr) == (0, "")
            counts.append((json.loads(done.stdout), len(records(replica_set, stores))))
            appliers[0][0].kill()  # in the middle of things, or after
            appliers[0][0].wait(10)
            appliers[0] = stack.enter_context(applier_of(inner, graph_servers[0], tmp_path))
        assert counts[0] == counts[1]
        made, newest = counts[0]
        assert made["insights"] + made["links"] == newest
        assert made["links"] > 50

        def metric(port: int, name: str) -> float:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                return float(next(line.split(" ")[1] for line in page.read().decode().splitlines() if line.startswith(f"{name} ")))
            return -1.0

        def applied(port: int) -> bool:
            return metric(port, "applier_applied") == newest

        for _process, port in appliers:
            wait_for(functools.partial(applied, port), 300, "the applier")
            assert metric(port, "applier_lag_changes") == 0
        answers = [json.loads(run({**inner, "NEO4J_URIS": server.uri}, "app.applier", "--checksum").stdout) for server in graph_servers]
        assert answers[0] == answers[1]
        assert (answers[0]["applied"], answers[0]["nodes"], answers[0]["links"]) == (newest, made["insights"], made["links"])
        done = run({**inner, "NEO4J_URIS": graph_servers[1].uri}, "app.applier", "--lag")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"applied": newest, "newest": newest, "lag": 0, "diverged": False})
        with Client(environment) as api:
            near = api.get(f"{URL}/weather_monthly-2012-01/neighbours").json()
            assert {"weather_monthly", "employment-2012-01"} <= {node["id"] for node in near["nodes"]}
            assert near["lag"] == 0
        for process, _port in appliers:
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
    assert all("password" not in path.read_text(encoding="utf-8") for path in tmp_path.glob("applier-*.log"))
