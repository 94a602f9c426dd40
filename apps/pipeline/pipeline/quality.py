# SPDX-License-Identifier: GPL-3.0-or-later
"""Data quality rules, each one query that finds the rows that break it."""

from __future__ import annotations

import typing as t

import duckdb

from . import engine
from .config import Rule
from .engine import identifier
from .errors import QualityError

SAMPLES = 10


def check(
    connection: duckdb.DuckDBPyConnection, relation: str, table: str, layer: str, rules: t.Sequence[Rule], key: t.Sequence[str]
) -> list[dict[str, t.Any]]:
    """Run the rules; raise QualityError if one of severity error fails, else return what was found."""
    columns = {column["name"]: column["type"] for column in engine.describe(connection, relation)}
    rows = engine.count(connection, relation)
    results = [_check_one(connection, relation, rule, key, columns, rows) for rule in rules]
    failures = [result for result in results if result["violations"] and result["severity"] == "error"]
    if failures:
        raise QualityError(table, layer, failures, rows)
    return results


def _check_one(connection: duckdb.DuckDBPyConnection, relation: str, rule: Rule, key: t.Sequence[str], columns: dict[str, str], rows: int) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {"rule": rule.name, "severity": rule.severity, "violations": 0, "message": "", "sample": []}
    missing = [column for column in rule.columns if column not in columns]
    if missing:
        result.update(violations=rows or 1, message=f"column {missing[0]!r} does not exist; columns: {', '.join(columns)}")
        return result
    if rule.kind == "row_count":
        if rule.minimum is not None and rows < rule.minimum:
            result.update(violations=1, message=f"{rows} rows, at least {rule.minimum} wanted")
        elif rule.maximum is not None and rows > rule.maximum:
            result.update(violations=1, message=f"{rows} rows, at most {rule.maximum} wanted")
        return result
    try:
        if rule.kind == "unique":
            _unique(connection, relation, rule, result)
        else:
            _rowwise(connection, relation, rule, key, columns, result)
    except duckdb.Error as exc:
        result.update(violations=rows or 1, message=f"the rule could not run: {str(exc).splitlines()[0]}")
    return result


def _rowwise(connection: duckdb.DuckDBPyConnection, relation: str, rule: Rule, key: t.Sequence[str], columns: dict[str, str], result: dict[str, t.Any]) -> None:
    parameters: list[t.Any] = []
    column = identifier(rule.columns[0]) if rule.columns else ""
    if rule.kind == "not_null":
        condition = " OR ".join(f"{identifier(name)} IS NULL" for name in rule.columns)
        wanted = "has no value"
    elif rule.kind == "range":
        kind = columns[rule.columns[0]]
        terms = []
        for operator, limit in (("<", rule.minimum), (">", rule.maximum)):
            if limit is not None:
                terms.append(f"{column} {operator} CAST(? AS {kind})" if isinstance(limit, str) else f"{column} {operator} ?")
                parameters.append(limit)
        # a float's NaN is above every number for DuckDB: with only a minimum it would slip through
        if kind in ("DOUBLE", "FLOAT"):
            terms.append(f"isnan({column})")
        condition = " OR ".join(terms)
        low = "" if rule.minimum is None else f"{rule.minimum} <= "
        high = "" if rule.maximum is None else f" <= {rule.maximum}"
        wanted = f"is not {low}{rule.columns[0]}{high}"
    elif rule.kind == "accepted_values":
        kind = columns[rule.columns[0]]
        condition = f"{column} IS NOT NULL AND {column} NOT IN ({', '.join(f'CAST(? AS {kind})' for _ in rule.values)})"
        parameters.extend(rule.values)
        wanted = f"is not one of {', '.join(map(str, rule.values))}"
    else:
        condition = f"(\n{rule.sql}\n) IS NOT TRUE"
        wanted = f"does not satisfy {rule.sql}"
    source = f"FROM {identifier(relation)} WHERE {condition}"
    row = connection.execute(f"SELECT count(*) {source}", parameters).fetchone()
    number = int(row[0]) if row else 0
    if not number:
        return
    shown = list(dict.fromkeys([name for name in (*key, *rule.columns) if name in columns])) or list(columns)[:5]
    sample = connection.execute(f"SELECT {', '.join(map(identifier, shown))} {source} LIMIT {SAMPLES}", parameters).fetchall()
    result.update(
        violations=number,
        message=f"{number} row{'s' if number > 1 else ''}: {', '.join(rule.columns) or 'row'} {wanted}",
        sample=[_row(shown, values) for values in sample],
    )


def _unique(connection: duckdb.DuckDBPyConnection, relation: str, rule: Rule, result: dict[str, t.Any]) -> None:
    names = ", ".join(map(identifier, rule.columns))
    groups = f"FROM (SELECT {names}, count(*) AS __count FROM {identifier(relation)} GROUP BY {names} HAVING count(*) > 1)"
    row = connection.execute(f"SELECT count(*) {groups}").fetchone()
    number = int(row[0]) if row else 0
    if not number:
        return
    sample = connection.execute(f"SELECT {names}, __count {groups} ORDER BY ALL LIMIT {SAMPLES}").fetchall()
    result.update(
        violations=number,
        message=f"{number} value{'s' if number > 1 else ''} of ({', '.join(rule.columns)}) occur more than once",
        sample=[_row([*rule.columns, "occurrences"], values) for values in sample],
    )


def _row(names: t.Sequence[str], values: t.Sequence[t.Any]) -> dict[str, str]:
    return {name: "NULL" if value is None else str(value) for name, value in zip(names, values, strict=True)}
