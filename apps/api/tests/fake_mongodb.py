# SPDX-License-Identifier: GPL-3.0-or-later
"""A database in memory with PyMongo's asynchronous methods, which can fail before or after each of its operations took effect."""

from __future__ import annotations

import asyncio
import typing as t

import mongomock
from app.mongo import Mongo
from app.settings import MongoSettings
from pymongo.errors import AutoReconnect

SETTINGS = MongoSettings("mongodb://nowhere:1/", "", "", None, "platform")


class Database:
    def __init__(self) -> None:
        self.real: t.Any = mongomock.MongoClient(tz_aware=True)["platform"]
        self.operations: list[str] = []
        # (operation's index, before or after its effect) -> the error; None as index: every one
        self.failures: dict[tuple[int | None, str], Exception] = {}

    def __getitem__(self, name: str) -> Collection:
        return Collection(self, name)

    def down(self) -> None:
        self.failures[None, "before"] = AutoReconnect("down")

    def up(self) -> None:
        self.failures.clear()

    async def command(self, name: str) -> None:
        await self.perform(name, lambda: None)

    async def perform(self, name: str, work: t.Callable[[], t.Any]) -> t.Any:
        index = len(self.operations)
        self.operations.append(name)
        await asyncio.sleep(0)  # where others come in between
        for when in ("before", "after"):
            result = work() if when == "after" else None
            failure = self.failures.get((index, when)) or self.failures.get((None, when))
            if failure is not None:
                raise failure
        return result


class Collection:
    def __init__(self, database: Database, name: str) -> None:
        self.database, self.name, self.real = database, name, database.real[name]

    def with_options(self, **_options: t.Any) -> Collection:
        return self

    def find(self, *arguments: t.Any) -> Cursor:
        return Cursor(self, self.real.find(*arguments))

    async def create_indexes(self, models: list[t.Any]) -> None:
        await self.database.perform(f"{self.name}.create_indexes", lambda: self.real.create_indexes(models))

    def __getattr__(self, method: str) -> t.Callable[..., t.Awaitable[t.Any]]:
        async def call(*arguments: t.Any, **options: t.Any) -> t.Any:
            return await self.database.perform(f"{self.name}.{method}", lambda: getattr(self.real, method)(*arguments, **options))

        return call


class Cursor:
    def __init__(self, collection: Collection, real: t.Any) -> None:
        self.collection, self.real = collection, real

    def sort(self, *arguments: t.Any) -> Cursor:
        return Cursor(self.collection, self.real.sort(*arguments))

    def limit(self, number: int) -> Cursor:
        return Cursor(self.collection, self.real.limit(number))

    async def to_list(self) -> list[t.Any]:
        found: list[t.Any] = await self.collection.database.perform(f"{self.collection.name}.find", lambda: list(self.real))
        return found


def mongo(database: Database) -> Mongo:
    return Mongo(SETTINGS, database)


def replay(database: Database) -> tuple[dict[str, t.Any], set[tuple[str, str, str]]]:
    """The graph that the outbox says, by the rules that the applier's statements follow; the records are checked on the way."""
    nodes: dict[str, t.Any] = {}
    links: set[tuple[str, str, str]] = set()
    records = list(database.real["outbox"].find().sort("_id", 1))
    assert [record["_id"] for record in records] == list(range(1, len(records) + 1)), "numbers are dense"
    assert len({record["change_id"] for record in records}) == len(records), "a change has one number"
    for record in records:
        data = record["data"]
        if record["op"] == "insight.put":
            assert data["version"] > nodes.get(data["id"], {"version": 0})["version"], "changes of one insight keep their order"
            nodes[data["id"]] = data
        elif record["op"] == "insight.remove":
            nodes.pop(data["id"], None)
            links = {link for link in links if data["id"] not in (link[0], link[2])}
        elif data["source"] in nodes and data["target"] in nodes:
            link = (data["source"], data["kind"], data["target"])
            links = links | {link} if record["op"] == "link.put" else links - {link}
    return nodes, links


def agree(database: Database) -> None:
    """Documents and the outbox's graph say the same."""
    nodes, _links = replay(database)
    documents = {d["_id"]: d for d in database.real["insights"].find({"buried": None})}
    assert {i: (d["title"], d["version"]) for i, d in documents.items()} == {i: (n["title"], n["version"]) for i, n in nodes.items()}
    assert not list(database.real["insights"].find({"pending.change_id": {"$exists": True}}))
    assert not list(database.real["insights"].find({"buried": {"$exists": True}}))
