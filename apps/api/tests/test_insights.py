# SPDX-License-Identifier: GPL-3.0-or-later
"""The documents' endpoints, on a database in memory; test_stores.py has the same on servers."""

from __future__ import annotations

import datetime
import typing as t

import app.main
import pytest
from app import insights
from app.insights import Conditions
from app.main import create_app
from app.mongo import Mongo
from app.passwords import hash_password
from app.problems import Problem
from app.settings import Settings
from fake_mongodb import SETTINGS, Database, agree
from fastapi.testclient import TestClient

PASSWORD = "admin-password-1"
URL = "/api/v1/insights"
LIGHT = {"MINIO_ENDPOINT": "127.0.0.1:1", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b", "MONGODB_URI": "mongodb://127.0.0.1:1/?replicaSet=rs0"}
READER = '{"ann": {"password_hash": "%s", "roles": ["reader"]}}' % hash_password("ann-password")  # noqa: UP031 - braces


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def make(base_environment: dict[str, str], database: Database, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[..., TestClient]]:
    monkeypatch.setattr(app.main, "Mongo", lambda settings: Mongo(SETTINGS, database))
    opened = []

    def build(user: str = "admin", password: str = PASSWORD, **changes: str) -> TestClient:
        client = TestClient(create_app(Settings.load({**base_environment, **LIGHT, "API_USERS": READER, **changes})), raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        if user:
            answer = client.post("/api/v1/auth/token", json={"username": user, "password": password})
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    yield build
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def api(make: t.Callable[..., TestClient]) -> TestClient:
    return make()


def test_create_read_change_remove(api: TestClient, database: Database) -> None:
    made = api.post(URL, json={"title": " A wet month ", "text": "Rain", "table": "weather", "tags": ["Rain", "rain", "2012-01"]})
    document = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"{URL}/{document['id']}")
    assert (document["title"], document["tags"], document["version"], document["table"]) == ("A wet month", ["rain", "2012-01"], 1, "weather")
    assert datetime.datetime.fromisoformat(document["created"]).tzinfo is not None
    url = made.headers["location"]
    read = api.get(url)
    assert (read.status_code, read.json(), read.headers["etag"]) == (200, document, made.headers["etag"])
    assert api.get(url, headers={"If-None-Match": read.headers["etag"]}).status_code == 304
    changed = api.patch(url, json={"table": None}, headers={"If-Match": read.headers["etag"]})
    assert (changed.status_code, changed.json()["version"], changed.json()["table"], changed.json()["title"]) == (200, 2, None, "A wet month")
    assert changed.headers["etag"] != read.headers["etag"]
    assert api.delete(url, headers={"If-Match": read.headers["etag"]}).status_code == 412
    assert [api.delete(url).status_code for _ in range(2)] == [204, 204]
    gone = api.get(url)
    assert (gone.status_code, gone.headers["content-type"], gone.json()["type"]) == (404, "application/problem+json", "urn:platform:problem:unknown-insight")
    assert api.patch(url, json={"title": "x"}).status_code == 404
    agree(database)


def test_put_with_an_id_of_the_client_is_idempotent(api: TestClient, database: Database) -> None:
    body = {"title": "One", "tags": ["x"]}
    answers = [api.put(f"{URL}/mine", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert {answer.headers["etag"] for answer in answers} == {answers[0].headers["etag"]}
    changed = api.put(f"{URL}/mine", json={**body, "title": "Two"}, headers={"If-Match": answers[0].headers["etag"]})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    # the client got no answer and says it again: that it was done is the right answer; another's change is not overwritten
    assert api.put(f"{URL}/mine", json={**body, "title": "Two"}, headers={"If-Match": answers[0].headers["etag"]}).status_code == 200
    assert api.put(f"{URL}/mine", json={**body, "title": "Three"}, headers={"If-Match": answers[0].headers["etag"]}).status_code == 412
    assert api.put(f"{URL}/mine", json=body, headers={"If-None-Match": "*"}).status_code == 412
    assert api.put(f"{URL}/absent", json=body, headers={"If-Match": "*"}).status_code == 412
    assert api.put(f"{URL}/new", json=body, headers={"If-None-Match": "*"}).status_code == 201
    assert database.real["outbox"].count_documents({}) == 3
    agree(database)


def test_a_new_insight_with_an_old_id_has_another_etag(api: TestClient) -> None:
    first = api.put(f"{URL}/mine", json={"title": "One"})
    api.delete(f"{URL}/mine")
    again = api.put(f"{URL}/mine", json={"title": "One"})
    assert (again.status_code, again.json()["version"]) == (201, 1)
    assert again.headers["etag"] != first.headers["etag"]


def test_an_idempotency_key_makes_one_insight(make: t.Callable[..., TestClient], database: Database) -> None:
    one, two = make(), make()  # two members
    body, key = {"title": "Once"}, {"Idempotency-Key": "key-1"}
    answers = [client.post(URL, json=body, headers=key) for client in (one, two, one)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = one.post(URL, json={"title": "Other"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:platform:problem:idempotency-key-reused")
    assert one.post(URL, json=body, headers={"Idempotency-Key": "key-2"}).json()["id"] != answers[0].json()["id"]
    assert one.post(URL, json=body).json()["id"] != one.post(URL, json=body).json()["id"]
    agree(database)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.title"),
        ({"title": "  "}, "body.title"),
        ({"title": "x" * 201}, "body.title"),
        ({"title": "x", "text": 1}, "body.text"),
        ({"title": "x", "table": "Not a table"}, "body.table"),
        ({"title": "x", "tags": ["t"] * 21}, "body.tags"),
        ({"title": "x", "tags": [""]}, "body.tags.0"),
        ({"title": "x", "owner": "me"}, "body.owner"),
    ],
)
def test_what_is_wrong_is_named(api: TestClient, body: t.Any, where: str) -> None:
    answer = api.post(URL, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["where"] for error in answer.json()["errors"]] == [where]


def test_text_that_is_no_text_is_refused(api: TestClient) -> None:
    answer = api.post(URL, content=b'{"title": "\\ud800"}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert api.put(f"{URL}/-bad", json={"title": "x"}).status_code == 422
    assert api.get(f"{URL}/{'x' * 65}").status_code == 422


def test_search_by_words_tag_and_table_page_by_page(api: TestClient) -> None:
    for number in range(25):
        table = ("weather", "employment")[number % 2]
        api.put(
            f"{URL}/i{number:02}",
            json={"title": f"Número {number}", "text": "ação rápida" if number % 5 == 0 else "", "table": table, "tags": [f"T{number % 3}"]},
        )
    seen: list[str] = []
    after: str | None = None
    while True:
        page = api.get(URL, params={"table": "weather", "limit": 5, **({"after": after} if after else {})}).json()
        seen += [one["id"] for one in page["insights"]]
        after = page["next"]
        if after is None:
            break
        api.put(f"{URL}/new-{len(seen)}", json={"title": "made while paging", "table": "weather"})  # disturbs nothing: newest are first
    assert seen == [f"i{number:02}" for number in range(24, -1, -2)]

    def found(**parameters: t.Any) -> list[str]:
        return sorted(one["id"] for one in api.get(URL, params=parameters).json()["insights"])

    assert found(text="ACAO") == ["i00", "i05", "i10", "i15", "i20"]
    assert found(text="rápida numero 15") == ["i15"]
    assert found(text="acao", tag="t0") == ["i00", "i15"]
    assert found(text="acao", table="employment") == ["i05", "i15"]
    assert found(text="nothing") == []
    api.delete(f"{URL}/i15")
    assert found(text="rapida 15") == []
    assert api.get(URL, params={"text": "?!"}).status_code == 422
    for cursor in ("x", "W10", "WzEsMV0", "WzFlOTk5LCJhIl0", "é"):
        assert api.get(URL, params={"after": cursor}).json()["type"] == "urn:platform:problem:invalid-cursor"


def test_who_may(make: t.Callable[..., TestClient]) -> None:
    make().put(f"{URL}/mine", json={"title": "One"})
    nobody = make(user="", PUBLIC_TABLES="weather")
    assert [nobody.get(path).status_code for path in (URL, f"{URL}/mine")] == [401, 401]
    assert make(user="").get(f"{URL}/mine").status_code == 200  # PUBLIC_TABLES=*
    reader = make("ann", "ann-password", PUBLIC_TABLES="weather")
    assert reader.get(f"{URL}/mine").status_code == 200
    writes: tuple[tuple[str, str, t.Any], ...] = (
        ("POST", URL, {"title": "x"}),
        ("PUT", f"{URL}/x", {"title": "x"}),
        ("PATCH", f"{URL}/mine", {}),
        ("DELETE", f"{URL}/mine", None),
    )
    for method, path, body in writes:
        assert reader.request(method, path, json=body).status_code == 403
        assert nobody.request(method, path, json=body).status_code == 401


def test_without_the_settings_there_is_nothing_new(make: t.Callable[..., TestClient]) -> None:
    plain = make(MONGODB_URI="")
    assert [plain.get(path).status_code for path in (URL, f"{URL}/x", f"{URL}/x/neighbours")] == [404] * 3
    assert set(plain.get("/ready").json()["dependencies"]) == {"minio", "duckdb", "redis"}
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PUT"}
    assert plain.options(URL, headers=preflight).status_code == 400
    assert not any("insights" in path for path in plain.get("/api/v1/openapi.json").json()["paths"])
    documents = make()
    assert documents.get(f"{URL}/x/neighbours").status_code == 404
    assert documents.put(f"{URL}/x/links/like/y").status_code == 404
    assert set(documents.get("/ready").json()["dependencies"]) == {"minio", "duckdb", "redis", "mongodb"}
    assert documents.options(URL, headers=preflight).status_code == 200


def test_mongodb_away_stops_its_own_endpoints_only(api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.mongo.RIDE_OUT", 0.2)
    database.down()
    for method, path, body in (("GET", URL, None), ("GET", f"{URL}/x", None), ("PUT", f"{URL}/x", {"title": "x"}), ("DELETE", f"{URL}/x", None)):
        answer = api.request(method, path, json=body)
        assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (503, "application/problem+json", "5")
        assert (answer.json()["dependency"], answer.json()["type"]) == ("mongodb", "urn:platform:problem:mongodb-unavailable")
    ready = api.get("/ready").json()["dependencies"]["mongodb"]
    assert (ready["status"], ready["required"], ready["error"]) == ("down", False, "AutoReconnect")
    assert api.get("/health").status_code == 200
    assert api.post("/api/v1/auth/token", json={"username": "admin", "password": PASSWORD}).status_code == 200
    database.up()
    assert api.put(f"{URL}/x", json={"title": "x"}).status_code == 201


def test_conditions() -> None:
    document = {"version": 3, "change": "0123456789abcdef"}
    tag = insights.etag(document)
    assert tag == '"3-0123456789ab"'
    assert Conditions().hold(None)
    assert Conditions(match=f'"x", {tag}').hold(document)
    assert not Conditions(match=f"W/{tag}").hold(document)  # strong comparison
    assert Conditions(match="*").hold(document)
    assert not Conditions(match="*").hold(None)
    assert Conditions(none_match="*").hold(None)
    assert not Conditions(none_match="*").hold(document)
    assert Conditions(none_match='"other"').hold(document)


def test_words_and_cursors() -> None:
    assert insights.words("São Paulo, são_paulo 2012-01 a É!") == ["sao", "paulo", "sao_paulo", "2012", "01"]
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.UTC)
    query = insights.read_cursor(insights.write_cursor({"created": moment, "_id": "x"}))
    assert query == {"$or": [{"created": {"$lt": moment}}, {"created": moment, "_id": {"$lt": "x"}}]}
    with pytest.raises(Problem):
        insights.read_cursor("WzFlMzAwLCAiYSJd")


def test_a_document_stays_bounded() -> None:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    document: t.Any = None
    for number in range(50):
        content: t.Any = {"title": "x", "text": " ".join(f"word{n}" for n in range(3000)), "table": None, "tags": []}
        document = {**insights.revise(document, "x", content, f"c{number}", now), "pending": []}
    assert len(document["recent"]) == insights.RECENT
    assert document["recent"][-1] == document["change"] == "c49"
    assert len(document["words"]) == insights.MAX_WORDS
