# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's promise: data from a file is answered over TLS on the VIP and drawn in a browser."""

from __future__ import annotations

import json
import pathlib
import subprocess

import duckdb
import load
import pytest
import support
from playwright.sync_api import sync_playwright

SOURCES = support.REPO / ".lab" / "sources"
CHROMIUM = [path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/snap/bin/chromium") if pathlib.Path(path).exists()]


def rows(table: str, query: str = "limit=1000") -> list[dict[str, object]]:
    """All rows of a gold table, page by page."""
    found: list[dict[str, object]] = []
    while True:
        code, _headers, body = support.fetch(f"/api/v1/tables/{table}?{query}&offset={len(found)}")
        assert code == 200, body
        page = json.loads(body)
        found += page["rows"]
        if len(found) >= page["total"] or not page["rows"]:
            return found


def test_curl_reads_a_table_with_the_platforms_own_ca():
    out = subprocess.run(
        [
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--cacert",
            support.ca_file(),
            "--resolve",
            f"{support.domain()}:443:{support.vip()}",
            f"https://{support.domain()}/api/v1/tables/weather?limit=3",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(json.loads(out)["rows"]) == 3


def test_a_certificate_of_another_ca_is_refused():
    done = subprocess.run(
        ["curl", "--silent", "--noproxy", "*", "--resolve", f"{support.domain()}:443:{support.vip()}", f"https://{support.domain()}/"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 60


@pytest.mark.parametrize("table", ["weather", "weather_monthly", "electricity", "employment"])
def test_the_gold_table_is_there(table):
    assert rows(table)


# What the pipeline must have made of the source file, written down independently of its configuration.
SOURCE = "SELECT strptime(date, '%Y/%m/%d')::DATE AS day, precipitation, temp_max, temp_min, wind, weather FROM read_csv('{path}', types={{'date': 'VARCHAR'}})"


def source_rows(query: str) -> list[tuple[object, ...]]:
    source = SOURCE.format(path=SOURCES / "seattle-weather.csv")
    return duckdb.sql(f"WITH source AS ({source}) {query}").fetchall()


def test_the_weather_table_equals_what_duckdb_reads_from_the_source_file():
    expected = source_rows("SELECT day::VARCHAR, precipitation, temp_max, temp_min, wind, weather FROM source ORDER BY day")
    served = rows("weather", "limit=1000&order_by=date")
    found = [(r["date"], r["precipitation_mm"], r["temp_max_c"], r["temp_min_c"], r["wind_ms"], r["weather"]) for r in served]
    assert len(found) == len(expected) > 1000
    assert found == expected


def test_the_monthly_table_equals_an_aggregate_of_the_source_file():
    expected = dict(source_rows("SELECT date_trunc('month', day)::DATE::VARCHAR, round(sum(precipitation), 1) FROM source GROUP BY 1"))
    assert {r["month"]: pytest.approx(r["precipitation_mm"], abs=0.051) for r in rows("weather_monthly")} == expected


def test_filters_and_order_equal_what_duckdb_says():
    expected = source_rows("SELECT day::VARCHAR, temp_max FROM source WHERE weather = 'snow' ORDER BY temp_max DESC, day LIMIT 5")
    code, _headers, body = support.fetch("/api/v1/tables/weather?filter=weather:eq:snow&order_by=-temp_max_c,date&columns=date,temp_max_c&limit=5")
    assert code == 200, body
    assert [(r["date"], r["temp_max_c"]) for r in json.loads(body)["rows"]] == expected


def test_a_login_gives_a_token_that_opens_what_is_closed_to_others():
    code, _headers, _body = support.fetch("/api/v1/runs", data=b"{}", headers={"Content-Type": "application/json"})
    assert code in (401, 403)
    login = json.dumps({"username": "admin", "password": support.secrets()["api_admin_password"]}).encode()
    code, _headers, body = support.fetch("/api/v1/auth/token", data=login, headers={"Content-Type": "application/json"})
    assert code == 200, body
    token = json.loads(body)["access_token"]
    code, _headers, body = support.fetch("/api/v1/runs", headers={"Authorization": f"Bearer {token}"})
    assert code == 200
    code, _headers, body = support.fetch(
        "/api/v1/auth/token", data=login.replace(b'"password": "', b'"password": "x'), headers={"Content-Type": "application/json"}
    )
    assert code == 401
    assert json.loads(body)["status"] == 401


def test_the_tables_have_insights_that_are_linked():
    token = load.token()
    code, found = load.ask(token, "GET", "/api/v1/insights?tag=table&limit=200")
    assert code == 200
    assert {"weather", "weather_monthly", "electricity", "employment"} <= {insight["id"] for insight in found["insights"]}
    code, around = load.ask(token, "GET", "/api/v1/insights/weather_monthly/neighbours?depth=1&limit=500")
    assert (code, around["lag"]) == (200, 0)
    months = {str(row["month"])[:7] for row in rows("weather_monthly")}
    assert {node["id"] for node in around["nodes"]} >= {f"weather_monthly-{month}" for month in months} and months


def test_security_headers_and_redirect():
    code, headers, _body = support.fetch("/")
    assert code == 200
    names = {name.lower(): value for name, value in headers.items()}
    for name in ("strict-transport-security", "content-security-policy", "x-content-type-options", "referrer-policy"):
        assert name in names, f"{name} is missing"
    assert "nginx/" not in names.get("server", "")


def test_headless_chromium_sees_the_chart(tmp_path):
    assert CHROMIUM, "chromium is not installed (make setup installs it)"
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM[0],
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-proxy-server",
                f"--host-resolver-rules=MAP {support.domain()} {support.vip()}",
            ],
        )
        # The page's certificate is checked by the tests above; Chromium has no switch to trust a CA file.
        page = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900}).new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(f"https://{support.domain()}/")
        chart = page.get_by_test_id("chart")
        chart.wait_for(timeout=30_000)
        page.wait_for_function("Number(document.querySelector('[data-testid=chart]').dataset.points) >= 12", timeout=30_000)
        assert page.locator("[data-testid=chart] svg path").count() > 0
        assert page.get_by_test_id("api-state").inner_text().strip()
        support.OUTPUT.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(support.OUTPUT / "dashboard.png"), full_page=True)
        browser.close()
    assert problems == []
