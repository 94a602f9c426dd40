# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from pipeline import config
from pipeline.errors import ConfigError
from pipeline.settings import Settings

GOOD: dict[str, t.Any] = {
    "tables": [
        {
            "name": "sales",
            "source": {"uri": "file:///sources/sales.csv", "format": "csv", "options": {"delimiter": ","}},
            "key": ["id"],
            "silver": {"sql": "SELECT * FROM source", "rules": [{"rule": "unique"}]},
            "gold": [{"name": "sales"}],
        }
    ]
}


def broken(change: t.Callable[[dict[str, t.Any]], t.Any]) -> dict[str, t.Any]:
    document = copy.deepcopy(GOOD)
    change(document["tables"][0])
    return document


CASES: list[tuple[t.Callable[[dict[str, t.Any]], t.Any], tuple[str, ...]]] = [
    (lambda x: x.update(name="Sales"), ("tables[0] (Sales).name", "'Sales'", "lower case")),
    (lambda x: x.update(nmae="x"), ("tables[0] (sales).nmae", "unknown field", "accepted: name, source")),
    (lambda x: x.pop("source"), ("tables[0] (sales).source", "is missing")),
    (lambda x: x["source"].update(format="xls"), ("source.format", "'xls'", "csv, parquet, json")),
    (lambda x: x["source"].update(uri="ftp://host/x.csv"), ("source.uri", "'ftp://host/x.csv'", "s3://")),
    (lambda x: x["source"].update(uri="file://sources/x.csv"), ("source.uri", "absolute path")),
    (lambda x: x["source"]["options"].update(delimeter=";"), ("source.options.delimeter", "unknown option of format csv", "delimiter")),
    (lambda x: x["source"]["options"].update(header="yes"), ("source.options.header", "'yes'", "bool")),
    (lambda x: x["source"]["options"].update(types={"a": "DATE); DROP"}), ("source.options.types.a", "DuckDB type")),
    (lambda x: x["source"].update(format="parquet"), ("source.options.delimiter", "format parquet", "none")),
    (lambda x: x["silver"].update(sql="SELEC 1"), ("silver.sql", "is not valid SQL", "SELEC")),
    (lambda x: x["silver"].update(sql="SELECT 1; DROP TABLE x"), ("silver.sql", "exactly one SELECT")),
    (lambda x: x["silver"].update(sql="CREATE TABLE x AS SELECT 1"), ("silver.sql", "exactly one SELECT")),
    (lambda x: x["silver"].update(rules=[{"rule": "nonnull"}]), ("silver.rules[0].rule", "'nonnull'", "not_null, unique, range")),
    (lambda x: x["silver"].update(rules=[{"rule": "range", "column": "a"}]), ("silver.rules[0]", "needs min, max or both")),
    (lambda x: x["silver"].update(rules=[{"rule": "range", "column": "a", "min": 2, "max": 1}]), ("silver.rules[0]", "min 2 is above max 1")),
    (lambda x: x["silver"].update(rules=[{"rule": "unique", "severity": "fatal"}]), ("silver.rules[0].severity", "'fatal'", "error, warn")),
    (lambda x: x["silver"].update(rules=[{"rule": "accepted_values", "column": "a"}]), ("silver.rules[0].values", "is missing")),
    (lambda x: x["silver"].update(rules=[{"rule": "row_count", "min": -1}]), ("silver.rules[0].min", "-1")),
    (lambda x: x["silver"].update(rules=[{"rule": "expression", "sql": "a >"}]), ("silver.rules[0].sql", "not valid SQL")),
    (lambda x: x["silver"].update(rules=[{"rule": "unique"}, {"rule": "unique"}]), ("silver.rules", "two rules are called 'unique(id)'")),
    (lambda x: (x.pop("key"), x["silver"].update(rules=[{"rule": "unique"}])), ("silver.rules[0].columns", "no key")),
    (lambda x: x.update(gold=[]), ("gold", "a list of gold tables")),
    (lambda x: x.update(gold=[{"name": "a"}, {"name": "a"}]), ("gold table 'a' is declared more than once",)),
    (lambda x: x.update(key="id,other" and [1]), ("key", "a list of column names")),
]


@pytest.mark.parametrize(("change", "words"), CASES, ids=[words[0] + str(i) for i, (_c, words) in enumerate(CASES)])
def test_a_mistake_is_named_with_field_value_and_what_is_accepted(change: t.Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(broken(change))
    for word in words:
        assert word in str(caught.value)


def test_all_mistakes_are_reported_at_once() -> None:
    document = broken(lambda x: (x["source"].update(format="xls"), x.update(name="9")))
    with pytest.raises(ConfigError) as caught:
        config.parse(document)
    assert len(caught.value.findings) == 2


@pytest.mark.parametrize("document", [None, [], "x", {"tables": {}}, {"tables": None}, {"tables": ["x"]}, {"tables": GOOD["tables"], "version": 2}])
def test_a_document_of_another_shape_is_refused(document: t.Any) -> None:
    with pytest.raises(ConfigError):
        config.parse(document)


def test_defaults() -> None:
    table = config.parse({"tables": [{"name": "a", "source": {"uri": "s3://b/k.parquet", "format": "parquet"}}]}).tables[0]
    assert (table.silver_sql, table.gold[0].name, table.gold[0].sql) == ("SELECT * FROM source", "a", "SELECT * FROM silver")


def test_the_example_is_good(example_config: pathlib.Path) -> None:
    loaded = config.load(str(example_config))
    assert [gold.name for table in loaded.tables for gold in table.gold] == ["weather", "weather_monthly", "electricity", "employment"]
    assert [table.name for table in loaded.select(["weather_monthly"])] == ["weather"]
    with pytest.raises(ConfigError, match="'nothing' is not configured; configured: weather, electricity, employment"):
        loaded.select(["nothing"])


ENVIRONMENT = {"MINIO_ENDPOINT": "minio:9000", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MINIO_ENDPOINT": "https://minio:9000"}, "MINIO_ENDPOINT: 'https://minio:9000' is not accepted; accepted: host:port"),
        ({"MINIO_ENDPOINT": ""}, "MINIO_ENDPOINT is not set"),
        ({"MINIO_SECRET_KEY": ""}, "neither MINIO_SECRET_KEY nor MINIO_SECRET_KEY_FILE is set"),
        ({"MINIO_SECRET_KEY_FILE": "/nowhere"}, "MINIO_SECRET_KEY_FILE: cannot read /nowhere: No such file or directory"),
        ({"MINIO_SECURE": "maybe"}, "MINIO_SECURE: 'maybe' is not accepted; accepted: true, false"),
        ({"REDIS_PORT": "70000"}, "REDIS_PORT: '70000' is not accepted; accepted: a whole number from 1 to 65535"),
        ({"REDIS_SENTINELS": "a:1,b"}, "REDIS_SENTINELS: 'b' is not accepted"),
        ({"REDIS_CA_FILE": "/nowhere"}, "REDIS_CA_FILE: cannot read /nowhere"),
        ({"PIPELINE_TIMEZONE": "Mars/Base"}, "PIPELINE_TIMEZONE: 'Mars/Base' is not a time zone"),
        ({"PIPELINE_SCHEDULE": "at two"}, "PIPELINE_SCHEDULE: 'at two' is not accepted"),
        ({"PIPELINE_RETRY_INTERVALS": "1,x"}, "PIPELINE_RETRY_INTERVALS: '1,x' is not accepted"),
        ({"DUCKDB_MEMORY_LIMIT": "lots"}, "DUCKDB_MEMORY_LIMIT: 'lots' is not accepted"),
        ({"ALERT_SMTP_SECURITY": "ssl"}, "ALERT_SMTP_SECURITY: 'ssl' is not accepted; accepted: starttls, tls, none"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: 'loud' is not accepted; accepted: debug, info, warning, error"),
    ],
)
def test_a_wrong_variable_is_named(change: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({**ENVIRONMENT, **change})
    assert words in str(caught.value)


def test_a_secret_comes_from_a_file_and_is_never_shown(tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text("very-secret\n", encoding="utf-8")
    settings = Settings.load({**ENVIRONMENT, "MINIO_SECRET_KEY_FILE": str(tmp_path / "key")})
    assert settings.store.secret_key == "very-secret"
    assert "very-secret" not in repr(settings)


def test_the_command_leaves_with_2_and_a_line_for_each_finding(python_environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "run"], env={**python_environment, "REDIS_PORT": "x"}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert "pipeline: MINIO_ENDPOINT is not set" in lines
    assert any("REDIS_PORT" in line for line in lines)
    assert "Traceback" not in done.stderr


def test_both_apps_read_their_environment_in_the_same_way() -> None:
    """The two images share no package: this module is the same file twice, and what is mended in one is mended in the other."""
    apps = pathlib.Path(__file__).resolve().parents[2]
    assert (apps / "api/app/environment.py").read_bytes() == (apps / "pipeline/pipeline/environment.py").read_bytes()


def test_health_is_cheap_and_tells_age(python_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "health"
    command = [sys.executable, "-X", "importtime", "-m", "pipeline", "health"]
    environment = {**python_environment, "PIPELINE_HEALTH_FILE": str(path)}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1
    path.touch()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not any(name in done.stderr for name in ("duckdb", "minio", "redis"))
    os.utime(path, (1, 1))
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1
