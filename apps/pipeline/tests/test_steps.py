# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import typing as t

import duckdb
import pytest
from pipeline import steps
from pipeline.errors import ConfigError, RunFailed, StoreError


def failure(context: steps.Context, names: t.Sequence[str] | None = None) -> RunFailed:
    with pytest.raises(RunFailed) as caught:
        steps.run(context, names)
    return caught.value


def gold(context: steps.Context, name: str, tmp_path: pathlib.Path) -> tuple[dict[str, t.Any], duckdb.DuckDBPyRelation]:
    bucket = context.settings.store.gold
    manifest = context.store.get_json(bucket, f"{name}/_manifest.json")
    assert manifest is not None
    path = tmp_path / f"{name}-{manifest['sha256'][:8]}.parquet"
    assert context.store.download(bucket, manifest["object"], str(path)) == manifest["sha256"]
    return manifest, duckdb.read_parquet(str(path))


def test_the_example_runs_and_equals_duckdb_on_the_source(make_context: t.Any, example_config: pathlib.Path, tmp_path: pathlib.Path) -> None:
    context = make_context(example_config)
    report = steps.run(context)
    assert list(report["tables"]) == ["weather", "electricity", "employment"]
    source = str(pathlib.Path(context.config.tables[0].uri.removeprefix("file://")))
    manifest, weather = gold(context, "weather", tmp_path)
    assert manifest["rows"] == 1461
    assert manifest["columns"][0] == {"name": "date", "type": "DATE"}
    assert (
        weather.aggregate("sum(precipitation_mm), min(date), max(temp_max_c)").fetchall()
        == duckdb.read_csv(source).aggregate("sum(precipitation), min(date), max(temp_max)").fetchall()
    )
    _manifest, monthly = gold(context, "weather_monthly", tmp_path)
    direct = duckdb.sql(
        f"SELECT CAST(date_trunc('month', date) AS DATE), count(*), round(sum(precipitation), 1) FROM read_csv('{source}') GROUP BY ALL ORDER BY 1"
    )
    assert monthly.project("month, days, precipitation_mm").order("month").fetchall() == direct.fetchall()
    assert gold(context, "electricity", tmp_path)[0]["rows"] == 51
    assert "trade_transportation_utilities" in gold(context, "employment", tmp_path)[1].columns


def test_the_same_input_twice_changes_nothing(make_context: t.Any, example_config: pathlib.Path, buckets: t.Any) -> None:
    steps.run(make_context(example_config))
    before = buckets.state()
    report = steps.run(make_context(example_config))
    assert buckets.state() == before
    for outcome in report["tables"].values():
        assert [outcome[step]["status"] for step in steps.STEPS] == ["unchanged", "unchanged", "unchanged", "done"]


def test_layers_and_metadata(make_context: t.Any, orders: t.Any, buckets: t.Any) -> None:
    context = make_context(orders.config)
    steps.run(context)
    names = {name for name in buckets.state() if not name.startswith("gold/")}
    load = context.store.get_json(buckets.names["bronze"], "orders/_latest.json")
    prefix = f"bronze/orders/load_id={load['load_id']}"
    assert names == {
        f"{prefix}/data.csv",
        f"{prefix}/metadata.json",
        "bronze/orders/_latest.json",
        "silver/orders/data.parquet",
        "silver/orders/_manifest.json",
    }
    manifest = context.store.get_json(buckets.names["gold"], "orders/_manifest.json")
    assert manifest["source_load_id"] == load["load_id"]
    assert manifest["run_id"] == context.run_id
    assert manifest["columns"] == [
        {"name": "id", "type": "BIGINT"}, {"name": "day", "type": "DATE"}, {"name": "state", "type": "VARCHAR"}, {"name": "amount", "type": "DECIMAL(10,2)"},
    ]  # fmt: skip
    assert {"rule": "not_null(amount)", "severity": "warn", "violations": 1} in context.store.get_json(buckets.names["silver"], "orders/_manifest.json")[
        "quality"
    ]


BAD_LOADS = {
    "duplicate": ("id;day;state;amount\n1;2026-01-01;paid;1\n1;2026-01-02;paid;2\n", "unique(id)", "(id=1, occurrences=2)"),
    "no day": ("id;day;state;amount\n1;2026-01-01;paid;1\n7;-;paid;2\n", "not_null(id, day)", "(id=7, day=NULL)"),
    "unknown state": ("id;day;state;amount\n9;2026-01-01;lost;1\n", "accepted_values(state)", "(id=9, state=lost)"),
    "negative month": ("id;day;state;amount\n5;2026-03-01;paid;-4\n", "no negative month", "(month=2026-03-01, amount=-4.00)"),
}


@pytest.mark.parametrize("case", BAD_LOADS)
def test_a_bad_load_stops_before_gold_changes_and_says_which_rule_and_rows(make_context: t.Any, orders: t.Any, buckets: t.Any, case: str) -> None:
    steps.run(make_context(orders.config))
    before = buckets.state("gold")
    text, rule, row = BAD_LOADS[case]
    orders.write(text)
    error = failure(make_context(orders.config))
    assert buckets.state("gold") == before
    assert rule in str(error)
    assert row in str(error)
    assert rule in (error.rule or "")
    assert not error.retryable
    orders.write(orders.GOOD + "4;2026-02-03;open;2\n")
    steps.run(make_context(orders.config))
    assert buckets.state("gold") != before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("id;day;state;amount\n1;yesterday;paid;1\n", "yesterday"),
        ("id;day;state;amount\n1;2026-01-01;paid;1;9;9\n2;2026-01-01;paid;1\n", "DuckDB refused the source file"),
        ("id;state\n1;paid\n", "day"),
    ],
)
def test_a_file_that_cannot_be_read_as_configured_is_refused(make_context: t.Any, orders: t.Any, buckets: t.Any, text: str, words: str) -> None:
    orders.write(text)
    error = failure(make_context(orders.config))
    assert words in str(error)
    assert not buckets.state("silver", "gold")


def test_a_failing_table_does_not_stop_the_others(make_context: t.Any, orders: t.Any, buckets: t.Any) -> None:
    document = orders.document()
    missing = {"name": "absent", "source": {"uri": "file:///nowhere/x.csv", "format": "csv"}}
    document["tables"].insert(0, missing)
    error = failure(make_context(document))
    assert [(f.table, f.step) for f in error.failures] == [("absent", "extract_and_load")]
    assert "file:///nowhere/x.csv does not exist" in str(error)
    assert "gold/orders/_manifest.json" in buckets.state("gold")


def test_a_changed_rule_or_transform_builds_again(make_context: t.Any, orders: t.Any, buckets: t.Any) -> None:
    steps.run(make_context(orders.config))
    before = buckets.state("gold")
    orders.configure(gold=[{"name": "orders", "sql": "SELECT id, upper(state) AS state FROM silver", "key": ["id"]}])
    steps.run(make_context(orders.config))
    after = buckets.state("gold")
    assert after["gold/orders/_manifest.json"] != before["gold/orders/_manifest.json"]
    assert after["gold/orders_monthly/_manifest.json"] == before["gold/orders_monthly/_manifest.json"]


@pytest.mark.parametrize("key", ["orders/data.parquet", "orders/_manifest.json"])
def test_a_run_cut_off_in_silver_is_healed_by_the_next(
    make_context: t.Any, orders: t.Any, buckets: t.Any, monkeypatch: pytest.MonkeyPatch, key: str, tmp_path: pathlib.Path
) -> None:
    """Stopped just before each write, then the source goes back to what it was: nothing may be left half."""
    steps.run(make_context(orders.config))
    before = buckets.state("gold")
    orders.write(orders.GOOD + "4;2026-02-03;open;2\n")
    context = make_context(orders.config)
    for name in ("put_json", "upload"):
        original = getattr(context.store, name)

        def guarded(bucket: str, target: str, *rest: t.Any, _original: t.Any = original) -> t.Any:
            if bucket == buckets.names["silver"] and target == key:
                raise StoreError("cut off")
            return _original(bucket, target, *rest)

        monkeypatch.setattr(context.store, name, guarded)
    assert failure(context).retryable
    assert buckets.state("gold") == before
    orders.write(orders.GOOD)
    steps.run(make_context(orders.config))
    steps.run(make_context(orders.config))
    assert gold(make_context(orders.config), "orders", tmp_path)[0]["rows"] == 3


def test_a_gold_reader_sees_old_or_new_as_a_whole(
    make_context: t.Any, orders: t.Any, buckets: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    steps.run(make_context(orders.config))
    orders.write(orders.GOOD + "4;2026-02-03;open;2\n")
    context = make_context(orders.config)
    original = context.store.put_json
    seen = []

    def spy(bucket: str, key: str, document: dict[str, t.Any]) -> None:
        if bucket == buckets.names["gold"]:
            seen.append(gold(context, "orders", tmp_path)[0]["rows"])
            assert context.store.exists(bucket, document["object"])
        original(bucket, key, document)

    monkeypatch.setattr(context.store, "put_json", spy)
    steps.run(context)
    assert seen[0] == 3
    assert gold(context, "orders", tmp_path)[0]["rows"] == 4


def test_old_objects_are_swept(make_context: t.Any, orders: t.Any, buckets: t.Any, environment: dict[str, str]) -> None:
    environment["PIPELINE_GOLD_KEEP"] = "2"
    for number in range(4):
        orders.write(orders.GOOD + "".join(f"{10 + n};2026-02-03;open;2\n" for n in range(number)))
        steps.run(make_context(orders.config))
    kept = [name for name in buckets.state("gold") if name.startswith("gold/orders/") and name.endswith(".parquet")]
    assert len(kept) == 2


def test_validation_finds_what_was_tampered_with(make_context: t.Any, orders: t.Any, buckets: t.Any, tmp_path: pathlib.Path) -> None:
    context = make_context(orders.config)
    steps.run(context)
    bucket = buckets.names["gold"]
    manifest = context.store.get_json(bucket, "orders/_manifest.json")
    (tmp_path / "x").write_bytes(b"not parquet")
    context.store.upload(bucket, manifest["object"], str(tmp_path / "x"), "x")
    error = None
    with pytest.raises(RunFailed) as caught:
        steps.run(context, None, ["validate_pipeline"])
    error = caught.value
    assert "differs from its manifest's SHA-256" in str(error)
    steps.run(make_context(orders.config))  # load_to_gold notices the foreign etag and publishes again
    context.store.put_json(bucket, "orders/_manifest.json", {**manifest, "rows": 99})
    with pytest.raises(RunFailed, match="has 3 rows, its manifest says 99"):
        steps.run(context, None, ["validate_pipeline"])


def test_steps_need_the_one_before(make_context: t.Any, orders: t.Any) -> None:
    with pytest.raises(RunFailed, match="run extract_and_load first"):
        steps.run(make_context(orders.config), None, ["transform_with_duckdb"])
    with pytest.raises(RunFailed, match="run transform_with_duckdb first"):
        steps.run(make_context(orders.config), None, ["load_to_gold"])


def test_formats_and_places(make_context: t.Any, buckets: t.Any, tmp_path: pathlib.Path) -> None:
    rows = [{"id": n, "moment": f"2026-01-0{n}", "tags": ["x", "y"]} for n in (1, 2, 3)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"id|moment\n1|01/02/2026\n"))
    duckdb.sql("SELECT 1 AS id, DATE '2026-01-01' AS moment").write_parquet(str(tmp_path / "rows.parquet"))
    buckets.client.fput_object(buckets.names["bronze"], "inbox/rows.parquet", str(tmp_path / "rows.parquet"))
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: handler(*a, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web = f"http://127.0.0.1:{server.server_address[1]}"
        context = make_context(
            {
                "tables": [
                    {"name": "j", "source": {"uri": f"file://{tmp_path}/rows.json", "format": "json", "options": {"types": {"id": "SMALLINT"}}}},
                    {
                        "name": "c",
                        "source": {
                            "uri": f"{web}/rows.csv.gz?token=hidden",
                            "format": "csv",
                            "options": {"delimiter": "|", "types": {"moment": "DATE"}, "dateformat": "%d/%m/%Y"},
                        },
                    },
                    {"name": "p", "source": {"uri": f"s3://{buckets.names['bronze']}/inbox/rows.parquet", "format": "parquet"}},
                ]
            }
        )
        steps.run(context)
        gone = make_context({"tables": [{"name": "g", "source": {"uri": f"{web}/gone.csv?token=hidden", "format": "csv"}}]})
        error = failure(gone)
        server.shutdown()
    assert "answered 404" in str(error)
    assert "hidden" not in str(error)
    assert [tuple(r) for r in gold(context, "j", tmp_path)[1].project("id, moment, tags").limit(1).fetchall()][0][0] == 1
    assert gold(context, "j", tmp_path)[0]["columns"][0] == {"name": "id", "type": "SMALLINT"}
    assert str(gold(context, "c", tmp_path)[1].fetchall()[0][1]) == "2026-02-01"
    assert gold(context, "p", tmp_path)[0]["rows"] == 1
    metadata = json.dumps([context.store.get_json(buckets.names["bronze"], f"{n}/_latest.json") for n in "jcp"])
    assert "hidden" not in metadata


def test_a_source_above_the_limit_is_refused(make_context: t.Any, orders: t.Any, environment: dict[str, str]) -> None:
    environment["PIPELINE_MAX_SOURCE_BYTES"] = "20"
    assert "is larger than PIPELINE_MAX_SOURCE_BYTES (20)" in str(failure(make_context(orders.config)))


@pytest.mark.parametrize("sql", ["SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/hostname'", "SELECT getenv('HOME') AS x FROM source"])
def test_a_transform_reaches_nothing_but_its_source(make_context: t.Any, orders: t.Any, sql: str) -> None:
    orders.configure(silver={"sql": sql})
    assert "DuckDB refused the silver SQL" in str(failure(make_context(orders.config)))


def test_the_store_away_is_worth_another_try(make_context: t.Any, orders: t.Any, environment: dict[str, str], unused_port: int) -> None:
    environment["MINIO_ENDPOINT"] = f"127.0.0.1:{unused_port}"
    error = failure(make_context(orders.config))
    assert error.retryable
    assert "did not answer" in str(error)


def test_a_wrong_key_is_not(make_context: t.Any, orders: t.Any, environment: dict[str, str]) -> None:
    environment["MINIO_SECRET_KEY"] = "wrong-password"
    error = failure(make_context(orders.config))
    assert not error.retryable
    assert "SignatureDoesNotMatch" in str(error)


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_commands(environment: dict[str, str], orders: t.Any, python_environment: dict[str, str], buckets: t.Any) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *words], env={**python_environment, **environment}, capture_output=True, text=True, check=False
        )

    assert command("check").stdout == "configuration good: gold tables orders, orders_monthly\n"
    for step in steps.STEPS:
        done = command(step, "orders")
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["run_id"] == lines[-1]["run_id"]
    assert command("run", "nothing").returncode == 2
    orders.write("id;day;state;amount\n1;-;paid;1\n")
    done = command("run")
    assert done.returncode == 1
    assert "not_null(id, day)" in done.stderr
    assert "root-password" not in done.stdout + done.stderr


def test_unknown_tables_are_refused(make_context: t.Any, orders: t.Any) -> None:
    with pytest.raises(ConfigError):
        steps.run(make_context(orders.config), ["nothing"])
