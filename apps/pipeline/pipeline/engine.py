# SPDX-License-Identifier: GPL-3.0-or-later
"""DuckDB, limited in memory and to the scratch directory: it reads and writes nothing else and loads no extension."""

from __future__ import annotations

import hashlib
import typing as t

import duckdb

from .config import Table
from .errors import TransformError


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: t.Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(str(key))}: {literal(item)}" for key, item in value.items()) + "}"
    return "'" + str(value).replace("'", "''") + "'"


def connect(scratch: str, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"memory_limit": memory_limit, "threads": threads})
    for statement in (
        "SET autoinstall_known_extensions = false",
        "SET autoload_known_extensions = false",
        f"SET temp_directory = {literal(scratch)}",
        "SET TimeZone = 'UTC'",
        f"SET allowed_directories = [{literal(scratch)}]",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)
    return connection


_CSV = {"delimiter": "delim"}
_JSON = {"records": "format", "types": "columns"}


def _reader(table: Table, path: str) -> str:
    arguments = [literal(path)]
    names = _CSV if table.format == "csv" else {}
    for option, value in table.options.items():
        if table.format == "json" and option in ("types", "records"):
            continue
        arguments.append(f"{names.get(option, option)} = {literal(value)}")
    if table.format == "csv":
        if path.endswith(".gz"):
            arguments.append("compression = 'gzip'")
        # strict: a malformed line stops the load and is named, it is never skipped
        return f"read_csv({', '.join(arguments)})"
    if table.format == "json":
        arguments.append(f"format = {literal(table.options.get('records', 'auto'))}")
        if path.endswith(".gz"):
            arguments.append("compression = 'gzip'")
        return f"read_json({', '.join(arguments)})"
    return f"read_parquet({literal(path)})"


def read_source(connection: duckdb.DuckDBPyConnection, table: Table, path: str) -> None:
    """Make the relation `source` from the raw file."""
    selection = "*"
    if table.format == "json" and table.options.get("types"):
        casts = (f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in table.options["types"].items())
        selection = f"* REPLACE ({', '.join(casts)})"
    _run(connection, f"CREATE TABLE source AS SELECT {selection} FROM {_reader(table, path)}", "the source file")


def make(connection: duckdb.DuckDBPyConnection, relation: str, sql: str, what: str) -> None:
    _run(connection, f"CREATE OR REPLACE TABLE {identifier(relation)} AS {sql}", what)


def read_parquet(connection: duckdb.DuckDBPyConnection, relation: str, path: str) -> None:
    _run(connection, f"CREATE OR REPLACE TABLE {identifier(relation)} AS SELECT * FROM read_parquet({literal(path)})", path)


def _run(connection: duckdb.DuckDBPyConnection, statement: str, what: str) -> None:
    try:
        connection.execute(statement)
    except duckdb.OutOfMemoryException as exc:
        raise TransformError(f"{what} needs more memory than DUCKDB_MEMORY_LIMIT allows: {_brief(exc)}") from exc
    except duckdb.Error as exc:
        raise TransformError(f"DuckDB refused {what}: {_brief(exc)}") from exc


def _brief(exc: Exception) -> str:
    """The message without DuckDB's advice paragraphs."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return " ".join(lines[:4])[:600]


def describe(connection: duckdb.DuckDBPyConnection, relation: str) -> list[dict[str, str]]:
    rows = connection.execute(f"DESCRIBE {identifier(relation)}").fetchall()
    return [{"name": row[0], "type": row[1]} for row in rows]


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {identifier(relation)}").fetchone()
    return int(row[0]) if row else 0


def write_parquet(connection: duckdb.DuckDBPyConnection, relation: str, path: str, key: t.Sequence[str]) -> str:
    """Write a relation, ordered by its key so that equal content gives an equal file; returns its SHA-256."""
    order = ""
    if key:
        names = [column["name"] for column in describe(connection, relation)]
        missing = [name for name in key if name not in names]
        if missing:
            raise TransformError(f"key column {missing[0]!r} is not in the result; its columns: {', '.join(names)}")
        columns = [*key, *(name for name in names if name not in key)]
        order = " ORDER BY " + ", ".join(identifier(name) for name in columns)
    _run(
        connection,
        f"COPY (SELECT * FROM {identifier(relation)}{order}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)",
        f"to write {path}",
    )
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
