# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the graph share."""

from __future__ import annotations

import asyncio
import contextlib
import time
import typing as t

import neo4j
from app import mongo
from app.applier import Applier
from app.main import create_app
from app.neo4j_client import FAILURES, drivers
from app.outbox import Outbox
from app.settings import GraphSettings, Settings
from fake_mongodb import SETTINGS, Database
from fastapi.testclient import TestClient
from servers import NEO4J_PASSWORD, Certificates, Neo4jServer

PASSWORD = "admin-password-1"
URL = "/api/v1/insights"
CONTENT: dict[str, t.Any] = {"title": "One", "text": "", "table": None, "tags": []}


def settings_of(authority: Certificates, *servers: Neo4jServer, max_lag: int = 100) -> GraphSettings:
    return GraphSettings(tuple(server.uri for server in servers), "neo4j", NEO4J_PASSWORD, authority.authority, "community", max_lag)


@contextlib.asynccontextmanager
async def connected(authority: Certificates, *servers: Neo4jServer) -> t.AsyncIterator[list[neo4j.AsyncDriver]]:
    found = [driver for _name, driver in drivers(settings_of(authority, *servers))]
    try:
        yield found
    finally:
        for driver in found:
            await driver.close()


async def wipe(driver: neo4j.AsyncDriver) -> None:
    deadline = time.monotonic() + 300
    while True:  # Bolt listens a moment before the database is there
        try:
            await driver.execute_query("MATCH (n) DETACH DELETE n", database_="neo4j")
            return
        except FAILURES:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)


async def contents(driver: neo4j.AsyncDriver) -> tuple[dict[str, t.Any], set[tuple[str, str, str]]]:
    nodes = await driver.execute_query("MATCH (n:Insight) RETURN properties(n) AS item", database_="neo4j")
    links = await driver.execute_query("MATCH (a:Insight)-[r]->(b:Insight) RETURN a.id, r.kind, b.id", database_="neo4j")
    assert len({tuple(record.values()) for record in links.records}) == len(links.records)
    return {record["item"]["id"]: record["item"] for record in nodes.records}, {t.cast(t.Any, tuple(record.values())) for record in links.records}


def without_nulls(nodes: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: {key: value for key, value in node.items() if value is not None} for name, node in nodes.items()}


def box_of(database: Database) -> Outbox:
    return Outbox(mongo.Mongo(SETTINGS, database))


async def catch_up(box: Outbox, driver: neo4j.AsyncDriver) -> None:
    member = Applier(box, driver)
    while await member.step():
        pass


async def empty(authority: Certificates, *servers: Neo4jServer) -> None:
    async with connected(authority, *servers) as found:
        for driver in found:
            await wipe(driver)


class Client:
    """A client with an administrator's token."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.client = TestClient(create_app(Settings.load(environment)), raise_server_exceptions=False)

    def __enter__(self) -> TestClient:
        self.client.__enter__()
        answer = self.client.post("/api/v1/auth/token", json={"username": "admin", "password": PASSWORD})
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return self.client

    def __exit__(self, *details: t.Any) -> None:
        self.client.__exit__(*details)


def graph_environment(authority: Certificates, *uris: str) -> dict[str, str]:
    return {"NEO4J_URIS": ",".join(uris), "NEO4J_PASSWORD": NEO4J_PASSWORD, "NEO4J_CA_FILE": authority.authority}
