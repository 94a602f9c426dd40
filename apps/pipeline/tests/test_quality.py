# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import duckdb
import pytest
from pipeline import config, quality
from pipeline.errors import QualityError


@pytest.fixture
def connection() -> t.Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            """CREATE TABLE t AS SELECT * FROM (VALUES
                 (1, 'a', DATE '2026-01-01', 1.5::DOUBLE), (2, 'b', DATE '2026-01-02', NULL), (2, NULL, DATE '1999-01-01', -3), (4, 'z', NULL, 'nan'::DOUBLE)
               ) v(id, kind, day, amount)"""
        )
        yield connection


def rules(*items: dict[str, t.Any]) -> tuple[config.Rule, ...]:
    table = {"name": "t", "source": {"uri": "file:///x", "format": "csv"}, "key": ["id"], "silver": {"rules": list(items)}}
    return config.parse({"tables": [table]}).tables[0].rules


def check(connection: duckdb.DuckDBPyConnection, *items: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    return quality.check(connection, "t", "t", "silver", rules(*({"severity": "warn", **item} for item in items)), ["id"])


@pytest.mark.parametrize(
    ("rule", "violations", "sample"),
    [
        ({"rule": "not_null", "columns": ["kind", "day"]}, 2, {"id": "2", "kind": "NULL", "day": "1999-01-01"}),
        ({"rule": "not_null", "columns": "id"}, 0, None),
        ({"rule": "unique"}, 1, {"id": "2", "occurrences": "2"}),
        ({"rule": "unique", "columns": ["id", "kind"]}, 0, None),
        ({"rule": "range", "column": "day", "min": "2000-01-01"}, 1, {"id": "2", "day": "1999-01-01"}),
        ({"rule": "range", "column": "amount", "min": -10}, 1, {"id": "4", "amount": "nan"}),
        ({"rule": "range", "column": "amount", "min": 0, "max": 1}, 3, {"id": "1", "amount": "1.5"}),
        ({"rule": "range", "column": "id", "min": 1, "max": 4}, 0, None),
        ({"rule": "accepted_values", "column": "kind", "values": ["a", "b"]}, 1, {"id": "4", "kind": "z"}),
        ({"rule": "accepted_values", "column": "kind", "values": ["a", "b", "z'; DROP TABLE t; --"]}, 1, {"id": "4", "kind": "z"}),
        ({"rule": "row_count", "min": 4, "max": 4}, 0, None),
        ({"rule": "row_count", "min": 5}, 1, None),
        ({"rule": "row_count", "max": 3}, 1, None),
        ({"rule": "expression", "sql": "amount > 0 -- positive"}, 2, {"id": "2"}),
        ({"rule": "range", "column": "missing", "min": 0}, 4, None),
        ({"rule": "expression", "sql": "missing > 0"}, 4, None),
        ({"rule": "range", "column": "day", "min": "soon"}, 4, None),
    ],
)
def test_rule(connection: duckdb.DuckDBPyConnection, rule: dict[str, t.Any], violations: int, sample: dict[str, str] | None) -> None:
    (result,) = check(connection, rule)
    assert result["violations"] == violations
    assert (violations == 0) == (result["message"] == "")
    if sample is not None:
        assert sample in result["sample"]


def test_an_error_names_rule_count_and_rows(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(QualityError) as caught:
        quality.check(connection, "t", "orders", "silver", rules({"rule": "not_null", "columns": ["day"]}, {"rule": "unique"}), ["id"])
    text = str(caught.value)
    assert "silver table orders (4 rows)" in text
    assert "rule not_null(day): 1 row: day has no value; for example (id=4, day=NULL)" in text
    assert "rule unique(id): 1 value of (id) occur more than once; for example (id=2, occurrences=2)" in text
    assert caught.value.rule == "not_null(day), unique(id)"
    assert not caught.value.retryable


def test_at_most_ten_rows_are_shown(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE OR REPLACE TABLE t AS SELECT range AS id, NULL AS day FROM range(50)")
    (result,) = check(connection, {"rule": "not_null", "columns": ["day"]})
    assert (result["violations"], len(result["sample"])) == (50, 10)
