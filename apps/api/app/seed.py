# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m app.seed: insights and links from the gold tables, through the functions that the API uses. Run again, it changes nothing.

One insight a table; for tables with a month one a month, tagged with the columns that have their highest or lowest value there. A month is linked to its table
(`of`), and the same month of two tables to each other (`same-month`).
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import json
import os
import sys
import typing as t

from . import tables
from .insights import Insights, key_id
from .mongo import Document, Mongo
from .outbox import Outbox
from .problems import Problem
from .settings import Settings, SettingsError

COLUMNS = 6  # of a table, in the text of a month
ROWS = 1000


def month_column(columns: t.Mapping[str, str]) -> str | None:
    return "month" if columns.get("month") == "DATE" else None


def table_insight(manifest: tables.Manifest) -> Document:
    text = f"Table {manifest.table} has {manifest.rows} rows of {', '.join(manifest.columns)}."
    return {"title": f"Table {manifest.table}", "text": text[:20000], "table": manifest.table, "tags": ["table"]}


def month_insights(table: str, rows: t.Sequence[Document]) -> dict[str, Document]:
    """By month as YYYY-MM. An extreme is tagged `max-column` or `min-column`; of equal ones the earliest."""
    numbers = [name for name, value in rows[0].items() if name != "month" and isinstance(value, (int, float))][:COLUMNS] if rows else []
    extremes: dict[str, list[str]] = {}
    for name, (word, choose) in itertools.product(numbers, (("max", max), ("min", min))):
        known = [row for row in rows if row[name] is not None]
        if known:
            best: Document = choose(known, key=lambda row: row[name])
            extremes.setdefault(best["month"][:7], []).append(f"{word}-{name}"[:50])
    found = {}
    for row in rows:
        month = row["month"][:7]
        text = "; ".join(f"{name}: {row[name]}" for name in numbers)
        tags = [month, "month", *(["extreme"] if month in extremes else []), *extremes.get(month, [])]
        found[month] = {"title": f"{table} in {month}", "text": text, "table": table, "tags": tags}
    return found


def links(months: t.Mapping[str, t.Collection[str]]) -> list[tuple[str, str, str]]:
    """(source, kind, target) for the months of each table."""
    found = [(f"{table}-{month}", "of", table) for table in sorted(months) for month in sorted(months[table])]
    for one, two in itertools.combinations(sorted(months), 2):
        found += [(f"{one}-{month}", "same-month", f"{two}-{month}") for month in sorted(set(months[one]) & set(months[two]))]
    return found


def read_months(catalog: tables.Catalog, manifest: tables.Manifest) -> list[Document]:
    query = tables.Query.parse(manifest, None, [], "month", ROWS, 0)
    rows: list[Document] = json.loads(catalog.rows(manifest, query))["rows"]
    return [row for row in rows if row["month"] is not None]


async def seed(settings: Settings, documents: Insights) -> dict[str, int]:
    catalog = tables.Catalog(settings)
    made: dict[str, datetime.datetime] = {}
    months: dict[str, dict[str, Document]] = {}

    async def put(identifier: str, content: Document) -> None:
        document, _new = await documents.put(identifier, content)
        made[identifier] = document["created"]

    for manifest in await asyncio.to_thread(catalog.manifests):
        await put(manifest.table, table_insight(manifest))
        if month_column(manifest.columns):
            months[manifest.table] = month_insights(manifest.table, await asyncio.to_thread(read_months, catalog, manifest))
    for table, found in months.items():
        for month, content in found.items():
            await put(f"{table}-{month}", content)
    wanted = links(months)
    for source, kind, target in wanted:
        # the same link between the same two documents is one change, however often this runs
        mark = key_id("seed", f"{source}\0{kind}\0{target}", f"{made[source].isoformat()} {made[target].isoformat()}")
        await documents.link(source, target, kind, mark)
    return {"insights": len(made), "links": len(wanted)}


async def run(settings: Settings) -> dict[str, int]:
    assert settings.mongodb is not None
    mongo = Mongo(settings.mongodb)
    try:
        return await seed(settings, Insights(mongo, Outbox(mongo)))
    finally:
        await mongo.close()


def main() -> int:
    try:
        settings = Settings.load(os.environ)
        if settings.mongodb is None:
            raise SettingsError(["MONGODB_URI is not set"])
    except SettingsError as exc:
        for finding in exc.findings:
            print(f"seed: {finding}", file=sys.stderr)
        return 2
    try:
        print(json.dumps(asyncio.run(run(settings))))
    except (Problem, tables.Unavailable) as exc:
        print(f"seed: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
