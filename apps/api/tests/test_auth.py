# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import hmac
import json
import statistics
import time
import typing as t

import jwt
import pytest
from app.auth import ISSUER, LoginLimit
from app.passwords import hash_password
from fastapi.testclient import TestClient
from servers import free_port

SECRET = "0123456789abcdef0123456789abcdef"
PASSWORD = "admin-password-1"
TOKEN = "/api/v1/auth/token"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims(**changes: t.Any) -> dict[str, t.Any]:
    now = int(time.time())
    merged = {"iss": ISSUER, "sub": "admin", "roles": ["reader", "admin"], "iat": now, "exp": now + 60, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def test_json_and_form_give_a_token(client: TestClient) -> None:
    for body in ({"json": {"username": "admin", "password": PASSWORD}}, {"data": {"username": "admin", "password": PASSWORD, "grant_type": "password"}}):
        response = client.post(TOKEN, **t.cast(t.Any, body))
        document = response.json()
        assert (response.status_code, document["token_type"], document["expires_in"]) == (200, "bearer", 3600)
        decoded = jwt.decode(document["access_token"], SECRET, algorithms=["HS256"], issuer=ISSUER)
        assert (decoded["sub"], decoded["roles"], decoded["exp"] - decoded["iat"]) == ("admin", ["reader", "admin"], 3600)
        assert response.headers["cache-control"] == "no-store"


def test_wrong_password_and_unknown_user_look_the_same(make_client: t.Any) -> None:
    client = make_client(LOGIN_ATTEMPTS_PER_MINUTE="1000")
    times: dict[str, list[float]] = {"admin": [], "nobody": []}
    answers = set()
    for _ in range(6):
        for user, measured in times.items():
            started = time.perf_counter()
            response = client.post(TOKEN, json={"username": user, "password": "wrong-password"})
            measured.append(time.perf_counter() - started)
            answers.add((response.status_code, response.json()["detail"], response.headers["www-authenticate"]))
    assert len(answers) == 1
    known, unknown = (statistics.median(measured) for measured in times.values())
    assert unknown > known / 3  # an unknown user costs a hash, too


def test_users_from_a_file_and_their_roles(make_client: t.Any) -> None:
    users = {"ann": {"password_hash": hash_password("ann-password"), "roles": ["reader"]}}
    client = make_client(API_USERS=json.dumps(users), API_ADMIN_PASSWORD=None, PUBLIC_TABLES="electricity")
    token = client.post(TOKEN, json={"username": "ann", "password": "ann-password"}).json()["access_token"]
    assert client.get("/api/v1/tables/weather", headers=bearer(token)).status_code == 200
    refused = client.post("/api/v1/runs", headers=bearer(token))
    assert (refused.status_code, refused.json()["detail"]) == (403, "This needs the role admin.")


def test_public_tables_and_others(make_client: t.Any) -> None:
    client = make_client(PUBLIC_TABLES="electricity, employment")
    assert [table["name"] for table in client.get("/api/v1/tables").json()["tables"]] == ["electricity", "employment"]
    assert client.get("/api/v1/tables/electricity").status_code == 200
    for name in ("weather", "nothing"):  # whether it exists is not told
        response = client.get(f"/api/v1/tables/{name}")
        assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="platform"')
    assert client.get("/api/v1/runs").status_code == 401
    token = client.post(TOKEN, json={"username": "admin", "password": PASSWORD}).json()["access_token"]
    response = client.get("/api/v1/tables/weather", headers=bearer(token))
    assert (response.status_code, response.headers["cache-control"]) == (200, "private, no-cache")
    assert len(client.get("/api/v1/tables", headers=bearer(token)).json()["tables"]) == 5


def unsigned(payload: dict[str, t.Any], algorithm: str) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = f"{part(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{part(json.dumps(payload).encode())}"
    if algorithm == "HS512":
        return f"{head}.{part(hmac.new(SECRET.encode(), head.encode(), hashlib.sha512).digest())}"
    return head + "."


def forged() -> dict[str, str]:
    good = jwt.encode(claims(), SECRET, algorithm="HS256")
    reader = jwt.encode(claims(roles=["reader"]), SECRET, algorithm="HS256").split(".")
    admin = good.split(".")
    return {
        "another key": jwt.encode(claims(), "x" * 32, algorithm="HS256"),
        "no algorithm": unsigned(claims(), "none"),
        "another algorithm, right key": unsigned(claims(), "HS512"),
        "expired": jwt.encode(claims(iat=1, exp=int(time.time()) - 60), SECRET, algorithm="HS256"),
        "from the future": jwt.encode(claims(iat=int(time.time()) + 600), SECRET, algorithm="HS256"),
        "without exp": jwt.encode(claims(exp=None), SECRET, algorithm="HS256"),
        "without sub": jwt.encode(claims(sub=None), SECRET, algorithm="HS256"),
        "another issuer": jwt.encode(claims(iss="elsewhere"), SECRET, algorithm="HS256"),
        "swapped claims": ".".join((reader[0], admin[1], reader[2])),
        "rubbish": "not-a-token",
    }


@pytest.mark.parametrize("kind", list(forged()))
def test_a_token_that_is_not_ours_is_refused(client: TestClient, kind: str) -> None:
    for method, path in (("GET", "/api/v1/tables/weather"), ("POST", "/api/v1/runs")):
        response = client.request(method, path, headers=bearer(forged()[kind]))
        assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert client.get("/api/v1/tables", headers={"Authorization": "Basic YTpi"}).status_code == 401


def test_too_many_attempts_are_refused_for_all_members(make_client: t.Any, cache_server: t.Any) -> None:
    one, two = make_client(LOGIN_ATTEMPTS_PER_MINUTE="3"), make_client(LOGIN_ATTEMPTS_PER_MINUTE="3")
    if time.time() % 60 > 50:  # stay within one window
        time.sleep(60.1 - time.time() % 60)
    statuses = [client.post(TOKEN, json={"username": "admin", "password": "wrong"}).status_code for client in (one, two, one, two, one)]
    assert statuses == [401, 401, 401, 429, 429]
    refused = one.post(TOKEN, json={"username": "admin", "password": PASSWORD})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60


def test_who_tries_too_often_keeps_nobody_else_out(make_client: t.Any) -> None:
    other = make_client("192.0.2.1", LOGIN_ATTEMPTS_PER_MINUTE="2")
    owner = make_client("192.0.2.2", LOGIN_ATTEMPTS_PER_MINUTE="2")
    if time.time() % 60 > 50:
        time.sleep(60.1 - time.time() % 60)
    assert [other.post(TOKEN, json={"username": "admin", "password": "wrong"}).status_code for _ in range(4)] == [401, 401, 429, 429]
    # another name does not help who is throttled
    assert other.post(TOKEN, json={"username": "nobody", "password": "wrong"}).status_code == 429
    assert owner.post(TOKEN, json={"username": "admin", "password": PASSWORD}).status_code == 200


def test_attempts_are_counted_without_redis_too(make_client: t.Any) -> None:
    client = make_client(LOGIN_ATTEMPTS_PER_MINUTE="2", REDIS_PORT=str(free_port()))
    if time.time() % 60 > 50:
        time.sleep(60.1 - time.time() % 60)
    assert [client.post(TOKEN, json={"username": "x", "password": "wrong"}).status_code for _ in range(3)] == [401, 401, 429]


def test_memory_of_attempts_is_bounded() -> None:
    import asyncio

    limit = LoginLimit(t.cast(t.Any, type("S", (), {"login_attempts": 5})), None)

    async def many() -> None:
        for number in range(10050):
            await limit.check(str(number))

    asyncio.run(many())
    assert len(limit._memory) <= 10001


def test_no_secret_in_the_logs(client: TestClient, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    token = client.post(TOKEN, json={"username": "admin", "password": PASSWORD}).json()["access_token"]
    client.get("/api/v1/tables", headers=bearer(token))
    client.post(TOKEN, json={"username": "admin", "password": ["not", "text", PASSWORD]})
    with client.websocket_connect(f"/ws/runs?token={token}") as socket:
        socket.receive_json()
    text = caplog.text + "".join(json.dumps(record.__dict__, default=str) for record in caplog.records) + capsys.readouterr().out
    assert PASSWORD not in text
    assert token not in text
    assert SECRET not in text
