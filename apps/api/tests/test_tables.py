# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import pathlib
import shutil
import typing as t
import urllib.parse

import duckdb
import pytest
from fastapi.testclient import TestClient
from gold_tables import publish, put_manifest
from servers import SOURCES, Buckets, free_port, make_buckets

WEATHER = "/api/v1/tables/weather"
SOURCE = f"read_csv('{SOURCES}/seattle-weather.csv')"


def get(client: TestClient, path: str = WEATHER, **parameters: t.Any) -> t.Any:
    response = client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_list(client: TestClient) -> None:
    tables = {table["name"]: table for table in get(client, "/api/v1/tables")["tables"]}
    assert set(tables) == {"weather", "weather_monthly", "electricity", "employment", "awkward"}
    assert tables["weather"]["rows"] == 1461
    assert tables["weather"]["columns"][0] == {"name": "date", "type": "DATE"}
    assert tables["weather"]["run_id"] == "demo"


def test_pages_together_equal_duckdb_on_the_source(client: TestClient) -> None:
    rows: list[dict[str, t.Any]] = []
    while True:
        page = get(client, limit=400, offset=len(rows), order_by="-precipitation_mm,date")
        assert page["total"] == 1461
        if not page["rows"]:
            break
        rows += page["rows"]
    direct = duckdb.sql(f"SELECT date::VARCHAR, precipitation, temp_max, weather FROM {SOURCE} ORDER BY precipitation DESC, date").fetchall()
    assert [(row["date"], row["precipitation_mm"], row["temp_max_c"], row["weather"]) for row in rows] == direct


def test_pages_never_overlap_even_with_equal_values(client: TestClient) -> None:
    dates = [row["date"] for offset in range(0, 1461, 100) for row in get(client, offset=offset, order_by="weather", columns="date")["rows"]]
    assert len(dates) == len(set(dates)) == 1461


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        (["weather:eq:snow"], "weather = 'snow'"),
        (["weather:ne:sun"], "weather <> 'sun'"),
        (["date:lt:2012-02-01"], "date < '2012-02-01'"),
        (["date:ge:2015-12-30"], "date >= '2015-12-30'"),
        (["temp_max_c:le:0"], "temp_max <= 0"),
        (["temp_max_c:gt:34.5"], "temp_max > 34.5"),
        (["weather:in:snow,fog"], "weather IN ('snow', 'fog')"),
        (["weather:like:%ri%"], "weather LIKE '%ri%'"),
        (["weather:eq:rain", "precipitation_mm:gt:30", "date:lt:2014-01-01"], "weather = 'rain' AND precipitation > 30 AND date < '2014-01-01'"),
        (["weather:eq:nothing like this"], "false"),
    ],
)
def test_filters_equal_duckdb_on_the_source(client: TestClient, filters: list[str], condition: str) -> None:
    page = get(client, filter=filters, limit=1000, columns="date", order_by="date")
    direct = [row[0] for row in duckdb.sql(f"SELECT date::VARCHAR FROM {SOURCE} WHERE {condition} ORDER BY date").fetchall()]
    assert [row["date"] for row in page["rows"]] == direct
    assert page["total"] == len(direct)
    assert page["columns"] == [{"name": "date", "type": "DATE"}]


INJECTIONS = ["' OR 1=1 --", '" OR 1=1 --', "x'; DROP TABLE weather; --", "rain' UNION SELECT * FROM duckdb_settings() --", "%' OR '%'='", "\\", "\x00", "'"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_from_a_client_stays_text(client: TestClient, text: str) -> None:
    for operator in ("eq", "in", "like"):
        response = client.get(WEATHER, params={"filter": f"weather:{operator}:{text}"})
        assert response.status_code in (200, 422)
        if response.status_code == 200:
            assert (response.json()["total"], response.json()["rows"]) == (0, [])
    for parameters in ({"filter": f"{text}:eq:1"}, {"filter": f"weather:{text}:1"}, {"order_by": f"date{text}"}, {"columns": f"date,{text}"}, {"limit": text}):
        response = client.get(WEATHER, params=parameters)
        assert response.status_code == 422, parameters
        assert response.headers["content-type"] == "application/problem+json"
    assert client.get(f"/api/v1/tables/{urllib.parse.quote(text, safe='')}").status_code == 404
    assert get(client)["total"] == 1461


@pytest.mark.parametrize(
    ("parameters", "kind", "words"),
    [
        ({"filter": "weather"}, "invalid-filter", "column:operator:value"),
        ({"filter": "weather:near:rain"}, "invalid-filter", "'near' is not accepted"),
        ({"filter": "date:eq:soon"}, "invalid-filter", "soon"),
        ({"filter": "date:like:2012%"}, "invalid-filter", "needs a text column"),
        ({"filter": "date:in:"}, "invalid-filter", "1 to 200 values"),
        ({"filter": ["weather:eq:x"] * 21}, "too-many-filters", "at most 20"),
        ({"filter": "nothing:eq:1"}, "unknown-column", "'nothing'"),
        ({"order_by": "nothing"}, "unknown-column", "order_by"),
        ({"order_by": "--date"}, "unknown-column", "'-date'"),
        ({"columns": "date,date"}, "invalid-columns", "named twice"),
        ({"limit": 0}, "invalid-request", "limit"),
        ({"limit": 1001}, "invalid-request", "limit"),
        ({"offset": -1}, "invalid-request", "offset"),
        ({"offset": 10_000_001}, "invalid-request", "offset"),
    ],
)
def test_what_cannot_be_is_a_problem_with_the_reason(client: TestClient, parameters: dict[str, t.Any], kind: str, words: str) -> None:
    response = client.get(WEATHER, params=parameters)
    problem = response.json()
    assert (response.status_code, problem["status"], problem["type"]) == (422, 422, f"urn:platform:problem:{kind}")
    assert words in problem["detail"]


def test_filter_on_a_column_without_order_is_refused(client: TestClient) -> None:
    assert client.get("/api/v1/tables/awkward", params={"filter": "struct:eq:1"}).status_code == 422


def test_values_of_every_type_are_json(client: TestClient) -> None:
    page = get(client, "/api/v1/tables/awkward", order_by="id")
    first, second = page["rows"]
    assert first == {
        "id": 1, "number": None, "big": None, "nothing": None, "day": "2026-01-02", "moment": "2026-01-02T03:04:05", "instant": "2026-01-02T03:04:05+00:00",
        "hour": "03:04:05", "price": 12.5, "huge": 9007199254740993, "flag": True, "list": [1, None], "struct": {"a": "2026-01-01", "b": None},
        "bytes": "qg==", 'odd "name': "quote \" and '", "uid": "00000000-0000-0000-0000-000000000001",
    }  # fmt: skip
    assert second["nothing"] == 'ação, "é"'
    assert get(client, "/api/v1/tables/awkward", columns='odd "name', order_by='-odd "name', filter='odd "name:like:quote%')["total"] == 1
    assert get(client, "/api/v1/tables/awkward", filter='nothing:in:"ação, ""é""",x')["total"] == 1
    assert get(client, "/api/v1/tables/awkward", filter="instant:eq:2026-01-02 03:04:05+00")["total"] == 1
    assert get(client, "/api/v1/tables/awkward", filter="huge:eq:9007199254740993")["total"] == 1


def test_etag_and_304(client: TestClient) -> None:
    first = client.get(WEATHER)
    again = client.get(WEATHER, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(WEATHER, params={"limit": 2}, headers={"If-None-Match": first.headers["etag"]}).status_code == 200
    assert first.headers["cache-control"] == "public, no-cache"


def test_results_are_cached_by_content_and_question(client: TestClient, cache_server: t.Any) -> None:
    assert [client.get(WEATHER, params={"limit": 3}).headers["x-cache"] for _ in range(2)] == ["miss", "hit"]
    assert client.get(WEATHER, params={"limit": 4}).headers["x-cache"] == "miss"
    with cache_server.admin() as admin:
        (key, _other) = sorted(admin.keys("cache:api:*"))
        assert 0 < admin.ttl(key) <= 300
    text = client.get("/metrics").text
    assert "api_cache_total" in text


def test_without_redis_everything_but_runs_works(make_client: t.Callable[..., TestClient]) -> None:
    away = str(free_port())
    client = make_client(REDIS_PORT=away, REDIS_QUEUE_PORT=away)
    for _ in range(2):
        response = client.get(WEATHER)
        assert (response.status_code, response.headers["x-cache"]) == (200, "miss")
    ready = client.get("/ready")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert ready.json()["dependencies"]["redis"]["status"] == "down"
    assert client.get("/api/v1/runs").status_code == 503
    login = client.post("/api/v1/auth/token", json={"username": "admin", "password": "admin-password-1"})
    assert login.status_code == 200
    off = make_client(REDIS_HOST=None, REDIS_PORT=None, REDIS_QUEUE_PORT=None)
    assert off.get(WEATHER).status_code == 200
    assert off.get("/ready").json()["status"] == "ready"
    assert off.get("/api/v1/runs").json()["detail"] == "No job queue is configured."


def test_without_the_object_store_it_is_not_ready(make_client: t.Callable[..., TestClient]) -> None:
    client = make_client(MINIO_ENDPOINT=f"127.0.0.1:{free_port()}")
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert (ready.json()["status"], ready.json()["dependencies"]["minio"]["status"]) == ("unready", "down")
    assert client.get("/health").status_code == 200
    problem = client.get(WEATHER)
    assert (problem.status_code, problem.json()["type"]) == (503, "urn:platform:problem:data-unavailable")
    assert problem.headers["retry-after"] == "2"


@pytest.fixture
def own(_minio_server: str, tmp_path: pathlib.Path, environment: dict[str, str]) -> Buckets:
    buckets = make_buckets(_minio_server)
    environment.update(buckets.environment())
    return buckets


def test_a_new_version_is_served_as_soon_as_its_manifest_is_there(own: Buckets, make_client: t.Any, tmp_path: pathlib.Path) -> None:
    publish(own, "t", "SELECT 1 AS n", tmp_path)
    client = make_client(TABLES_REFRESH_SECONDS="60")
    first = client.get("/api/v1/tables/t")
    publish(own, "t", "SELECT 2 AS n", tmp_path)
    assert client.get("/api/v1/tables/t").json()["rows"] == [{"n": 1}]  # remembered for TABLES_REFRESH_SECONDS
    client.app.state.platform._on_event({"status": "published"})
    second = client.get("/api/v1/tables/t", headers={"If-None-Match": first.headers["etag"]})
    assert second.json()["rows"] == [{"n": 2}]


def test_what_was_fetched_is_served_while_the_store_is_away(own: Buckets, make_client: t.Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(own, "t", "SELECT 1 AS n", tmp_path)
    client = make_client()
    assert client.get("/api/v1/tables/t").status_code == 200
    catalog = client.app.state.platform.catalog
    from app.tables import Unavailable

    def away(*_arguments: t.Any) -> t.Any:
        raise Unavailable("away")

    monkeypatch.setattr(catalog.store, "manifest", away)
    monkeypatch.setattr(catalog.store, "names", away)
    assert client.get("/api/v1/tables/t", params={"limit": 7}).json()["rows"] == [{"n": 1}]


@pytest.mark.parametrize(
    "change",
    [{"object": "../../etc/passwd"}, {"object": "t/x.parquet"}, {"sha256": "x"}, {"columns": []}, {"rows": "many"}, {"sha256": "0" * 64}],
)
def test_a_manifest_that_cannot_be_trusted_is_not_used(own: Buckets, make_client: t.Any, tmp_path: pathlib.Path, change: dict[str, t.Any]) -> None:
    manifest = publish(own, "t", "SELECT 1 AS n", tmp_path)
    put_manifest(own, "t", {**manifest, **change})
    client = make_client()
    assert client.get("/api/v1/tables/t").status_code == 503
    assert [path.name for path in pathlib.Path(client.app.state.platform.settings.duckdb_path).iterdir()] == []


def test_a_hostile_column_type_or_name_is_harmless(own: Buckets, make_client: t.Any, tmp_path: pathlib.Path) -> None:
    manifest = publish(own, "t", "SELECT 1 AS n", tmp_path)
    put_manifest(own, "t", {**manifest, "columns": [{"name": "n", "type": "INTEGER) OR (1=1"}]})
    client = make_client()
    assert client.get("/api/v1/tables/t", params={"filter": "n:eq:5"}).status_code == 422


def test_the_file_cache_is_bounded_and_heals(own: Buckets, make_client: t.Any, tmp_path: pathlib.Path) -> None:
    for name in ("a", "b", "c"):
        publish(own, name, f"SELECT '{name}' || hash(range)::VARCHAR AS n FROM range(40000)", tmp_path)
    client = make_client(DUCKDB_CACHE_BYTES=str(1 << 20), CACHE_TTL_SECONDS="0")
    directory = pathlib.Path(client.app.state.platform.settings.duckdb_path)
    for name in ("a", "b", "c", "a"):
        assert client.get(f"/api/v1/tables/{name}").json()["rows"][0]["n"].startswith(name)
        assert sum(path.stat().st_size for path in directory.iterdir()) <= 1 << 20
    shutil.rmtree(directory)
    directory.mkdir()
    assert client.get("/api/v1/tables/a").status_code == 200


def test_a_query_has_a_time_limit(make_client: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client(CACHE_TTL_SECONDS="0")
    engine = client.app.state.platform.catalog.engine
    engine.timeout = 0.2
    original = engine.fetch
    monkeypatch.setattr(engine, "fetch", lambda _s: original([("SELECT count(*) FROM range(100000000000) a, range(10000) b", [])]))
    response = client.get(WEATHER)
    assert (response.status_code, response.json()["type"]) == (503, "urn:platform:problem:query-timeout")
    monkeypatch.undo()
    assert client.get(WEATHER).status_code == 200


@pytest.mark.parametrize("sql", ["CREATE TABLE x AS SELECT 1", "COPY (SELECT 1) TO '/tmp/x.csv'", "SELECT 1; DROP TABLE x", "ATTACH 'x.db'", "SET threads = 1"])
def test_read_only_means_read_only(client: TestClient, sql: str) -> None:
    with pytest.raises(PermissionError):
        client.app.state.platform.catalog.engine.fetch([(sql, [])])  # type: ignore[attr-defined]


def test_duckdb_reads_nothing_but_its_files(client: TestClient) -> None:
    with pytest.raises(duckdb.Error):
        client.app.state.platform.catalog.engine.fetch([("SELECT * FROM read_text('/etc/passwd')", [])])  # type: ignore[attr-defined]


def test_problems_everywhere(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(method: str, path: str, status: int, **more: t.Any) -> dict[str, t.Any]:
        response = client.request(method, path, **more)
        document: dict[str, t.Any] = response.json()
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "instance", "request_id"} <= set(document)
        assert (document["status"], document["instance"], document["request_id"]) == (status, path, response.headers["x-request-id"])
        assert "Traceback" not in response.text
        return document

    problem("GET", "/nothing", 404)
    problem("GET", "/api/v1/tables/nothing", 404)
    problem("DELETE", "/health", 405)
    problem("POST", "/api/v1/auth/token", 415, content=b"x")
    problem("POST", "/api/v1/auth/token", 400, content=b"{", headers={"Content-Type": "application/json"})
    problem("POST", "/api/v1/auth/token", 422, json={"username": "x"})
    problem("POST", "/api/v1/auth/token", 413, json={"username": "x", "password": "y" * 5000})
    problem("POST", "/api/v1/runs", 401)

    def broken(*_arguments: t.Any) -> t.Any:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(client.app.state.platform.catalog, "manifest", broken)  # type: ignore[attr-defined]
    assert "secret detail" not in json.dumps(problem("GET", WEATHER, 500))


def test_request_ids_versions_and_headers(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    given = client.get("/health", headers={"X-Request-ID": "abc-123.DEF_456"})
    assert given.headers["x-request-id"] == "abc-123.DEF_456"
    for bad in ("short", "x" * 200, "has space in it", 'quote"injection'):
        assert client.get("/health", headers={"X-Request-ID": bad}).headers["x-request-id"] != bad
    assert given.headers["x-platform-version"] == "9.9.9"
    assert given.headers["x-content-type-options"] == "nosniff"
    assert given.json() == {"status": "ok", "version": "9.9.9"}


def test_cors(client: TestClient) -> None:
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    good = client.options(WEATHER, headers={"Origin": "http://localhost:3000", **preflight})
    assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
    assert "access-control-allow-origin" not in client.get(WEATHER, headers={"Origin": "http://evil.example"}).headers


def test_metrics_use_route_templates(client: TestClient) -> None:
    client.get(WEATHER)
    client.get("/wp-admin.php")
    text = client.get("/metrics").text
    assert 'api_requests_total{method="GET",route="/api/v1/tables/{name}",status="200"}' in text
    assert 'route="unmatched",status="404"' in text
    assert "wp-admin" not in text
    assert 'api_build_info{version="9.9.9"} 1.0' in text
    assert 'api_dependency_up{dependency="minio"}' in text or client.get("/ready").status_code == 200
