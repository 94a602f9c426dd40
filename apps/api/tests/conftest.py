# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import typing as t

import pytest
from app.main import create_app
from app.settings import Settings
from fastapi.testclient import TestClient
from gold_tables import publish
from pipeline import config, events, steps
from pipeline.settings import Settings as PipelineSettings
from pipeline.store import Store
from servers import Buckets, Certificates, Neo4jServer, make_buckets

SECRET = "0123456789abcdef0123456789abcdef"
PASSWORD = "admin-password-1"


@pytest.fixture(scope="session")
def demo(_minio_server: str, example_config: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Buckets:
    """The example's tables in gold, as the pipeline makes them, and one with awkward values."""
    buckets = make_buckets(_minio_server)
    directory = tmp_path_factory.mktemp("demo")
    settings = PipelineSettings.load({**buckets.environment(), "PIPELINE_SCRATCH": str(directory)})
    steps.run(steps.Context(settings, config.load(str(example_config)), Store(settings.store), events.Recorder(None, "demo", 1), "demo"))
    publish(
        buckets,
        "awkward",
        """SELECT 1 AS id, 'nan'::DOUBLE AS number, 'infinity'::FLOAT AS big, NULL::VARCHAR AS nothing, DATE '2026-01-02' AS day,
             TIMESTAMP '2026-01-02 03:04:05' AS moment, TIMESTAMPTZ '2026-01-02 03:04:05+00' AS instant, TIME '03:04:05' AS hour, 12.50::DECIMAL(6,2) AS price,
             9007199254740993::BIGINT AS huge, true AS flag, [1, NULL] AS list, {'a': DATE '2026-01-01', 'b': 'nan'::DOUBLE} AS struct, '\\xAA'::BLOB AS bytes,
             'quote " and ''' AS "odd ""name", UUID '00000000-0000-0000-0000-000000000001' AS uid
           UNION ALL BY NAME SELECT 2 AS id, 'ação, "é"' AS nothing""",
        directory,
    )
    return buckets


@pytest.fixture
def base_environment(tmp_path: pathlib.Path) -> dict[str, str]:
    return {
        "DUCKDB_PATH": str(tmp_path / "duckdb"), "SECRET_KEY": SECRET, "API_ADMIN_PASSWORD": PASSWORD, "API_VERSION": "9.9.9",
        "PUBLIC_TABLES": "*", "CORS_ORIGINS": "http://localhost:3000", "TABLES_REFRESH_SECONDS": "0",
    }  # fmt: skip


@pytest.fixture
def environment(base_environment: dict[str, str], demo: Buckets, cache_server: t.Any, queue_server: t.Any) -> dict[str, str]:
    return {
        **base_environment, **demo.environment(), "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(cache_server.port), "REDIS_QUEUE_PORT": str(queue_server.port),
        "REDIS_USERNAME": "api", "REDIS_PASSWORD": "api-password",
    }  # fmt: skip


@pytest.fixture
def make_client(environment: dict[str, str]) -> t.Iterator[t.Callable[..., TestClient]]:
    """A client at an address, of an application with changed variables; None takes one away."""
    opened: list[TestClient] = []

    def make(address: str = "testclient", **changes: str | None) -> TestClient:
        merged = {name: value for name, value in {**environment, **changes}.items() if value is not None}
        client = TestClient(create_app(Settings.load(merged)), raise_server_exceptions=False, client=(address, 50000))
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: t.Callable[..., TestClient]) -> TestClient:
    return make_client()


@pytest.fixture
def token(client: TestClient) -> str:
    return str(client.post("/api/v1/auth/token", json={"username": "admin", "password": PASSWORD}).json()["access_token"])


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def graph_servers(tmp_path_factory: pytest.TempPathFactory, authority: Certificates) -> t.Iterator[list[Neo4jServer]]:
    """Two Neo4j Community members. A test that replaces one puts the new one in its place."""
    found = [Neo4jServer(tmp_path_factory.mktemp("graph") / name, authority) for name in ("one", "two")]
    try:
        for server in found:
            server.start()
        for server in found:
            server.wait()
        yield found
    finally:
        for server in found:
            server.kill()
