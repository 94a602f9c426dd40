# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes and constraints that the app needs, as data.

`python3 -m app.schema` makes what is missing, in MongoDB and in every Neo4j member that is named, and leaves what is there. The API and the appliers
do the same before they first write, since the outbox is only right with its unique index.
"""

from __future__ import annotations

import asyncio
import os
import sys
import typing as t

import neo4j
import pymongo
from pymongo.errors import PyMongoError

from .environment import Reader
from .mongo import Mongo
from .neo4j_client import DATABASE, FAILURES, drivers
from .problems import Problem
from .settings import SettingsError, load_stores

INSIGHTS, OUTBOX = "insights", "outbox"

# One order of listing for all searches: newest first, the id as the last word. It makes every page one range of an index.
_ORDER = [("created", pymongo.DESCENDING), ("_id", pymongo.DESCENDING)]
INDEXES: dict[str, list[pymongo.IndexModel]] = {
    INSIGHTS: [
        pymongo.IndexModel(_ORDER, name="newest"),
        pymongo.IndexModel([("words", pymongo.ASCENDING), *_ORDER], name="by_word"),
        pymongo.IndexModel([("tags", pymongo.ASCENDING), *_ORDER], name="by_tag"),
        pymongo.IndexModel([("table", pymongo.ASCENDING), *_ORDER], name="by_table"),
        pymongo.IndexModel("pending.change_id", name="pending", sparse=True),
        pymongo.IndexModel("buried", name="buried", sparse=True),
    ],
    OUTBOX: [pymongo.IndexModel("change_id", name="change_id", unique=True)],
}
CONSTRAINTS: tuple[t.LiteralString, ...] = (
    "CREATE CONSTRAINT insight_id IF NOT EXISTS FOR (n:Insight) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT outbox_id IF NOT EXISTS FOR (n:Outbox) REQUIRE n.id IS UNIQUE",
)


async def ensure_mongodb(mongo: Mongo) -> None:
    for name, models in INDEXES.items():
        await mongo.collection(name).create_indexes(models)


async def ensure_neo4j(driver: neo4j.AsyncDriver) -> None:
    for statement in CONSTRAINTS:
        await driver.execute_query(statement, database_=DATABASE)


async def ensure() -> list[str]:
    """What could not be done, a line each."""
    env = Reader(os.environ)
    mongodb, neo4j_settings = load_stores(env)
    if env.findings:
        raise SettingsError(env.findings)
    failures = []
    if mongodb:
        mongo = Mongo(mongodb)
        try:
            await mongo.run(lambda: ensure_mongodb(mongo))
        except (PyMongoError, Problem) as exc:
            failures.append(f"mongodb: {exc}")
        finally:
            await mongo.close()
    if neo4j_settings:
        for name, driver in drivers(neo4j_settings):
            try:
                await ensure_neo4j(driver)
            except FAILURES as exc:
                failures.append(f"neo4j {name}: {type(exc).__name__}")
            finally:
                await driver.close()
    return failures


def main() -> int:
    try:
        failures = asyncio.run(ensure())
    except SettingsError as exc:
        for finding in exc.findings:
            print(f"schema: {finding}", file=sys.stderr)
        return 2
    for failure in failures:
        print(f"schema: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
