# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import typing as t

import pytest
from app.passwords import hash_password, parse_hash, verify
from app.settings import Settings, SettingsError

GOOD = {
    "MINIO_ENDPOINT": "minio:9000", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b", "SECRET_KEY": "s" * 32, "API_ADMIN_PASSWORD": "long-password",
}  # fmt: skip

MONGODB = {"MONGODB_URI": "mongodb://one:27017,two:27017/?replicaSet=rs0"}


def test_documents_and_relations_are_left_out_unless_configured() -> None:
    settings = Settings.load(GOOD)
    assert (settings.mongodb, settings.neo4j) == (None, None)
    settings = Settings.load({**GOOD, **MONGODB, "NEO4J_URIS": "bolt+s://one:7687, bolt+s://two:7687", "NEO4J_PASSWORD": "hidden"})
    assert settings.mongodb is not None
    assert settings.neo4j is not None
    assert (settings.mongodb.database, settings.neo4j.uris, settings.neo4j.max_lag) == ("platform", ("bolt+s://one:7687", "bolt+s://two:7687"), 100)
    assert "hidden" not in repr(settings)


def test_defaults_are_those_of_the_guide() -> None:
    settings = Settings.load(GOOD)
    assert (settings.host, settings.port, settings.reload, settings.algorithm) == ("0.0.0.0", 8000, False, "HS256")
    assert (settings.bucket_bronze, settings.bucket_silver, settings.bucket_gold) == ("bronze", "silver", "gold")
    assert (settings.duckdb_path, settings.duckdb_read_only, settings.redis_port) == ("/data/duckdb", True, 6379)
    assert not settings.redis_configured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"API_PORT": "0"}, "API_PORT: '0' is not accepted; accepted: a whole number from 1 to 65535"),
        ({"API_RELOAD": "sometimes"}, "API_RELOAD: 'sometimes' is not accepted; accepted: true, false"),
        ({"MINIO_ENDPOINT": "http://minio:9000/"}, "MINIO_ENDPOINT: 'http://minio:9000/' is not accepted; accepted: host:port"),
        ({"MINIO_ACCESS_KEY": ""}, "neither MINIO_ACCESS_KEY nor MINIO_ACCESS_KEY_FILE is set"),
        ({"MINIO_CA_FILE": "/nowhere"}, "MINIO_CA_FILE: cannot read /nowhere: No such file or directory"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is too short; accepted: at least 32 characters"),
        ({"SECRET_KEY_FILE": "/nowhere"}, "SECRET_KEY_FILE: cannot read /nowhere"),
        ({"ALGORITHM": "none"}, "ALGORITHM: 'none' is not accepted; accepted: HS256, HS384, HS512"),
        ({"ALGORITHM": "RS256"}, "ALGORITHM: 'RS256' is not accepted"),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS: '*' is not accepted"),
        ({"CORS_ORIGINS": "https://host/path"}, "CORS_ORIGINS: 'https://host/path' is not accepted"),
        ({"API_ADMIN_PASSWORD": ""}, "no user: set API_USERS_FILE or API_ADMIN_PASSWORD_FILE"),
        ({"API_ADMIN_PASSWORD": "short"}, "API_ADMIN_PASSWORD is too short"),
        ({"API_USERS": "{"}, "API_USERS_FILE is not valid JSON"),
        ({"API_USERS": '{"ann": {"password_hash": "md5$x"}}'}, "user 'ann': password_hash: accepted: scrypt$n$r$p$salt$hash"),
        ({"API_USERS": json.dumps({"ann": {"password_hash": hash_password("x"), "roles": ["root"]}})}, "roles: ['root'] is not accepted"),
        ({"TLS_CERT_FILE": __file__}, "TLS_CERT_FILE and TLS_KEY_FILE: set both or neither"),
        ({"REDIS_SENTINELS": "one"}, "REDIS_SENTINELS: 'one' is not accepted"),
        ({"TOKEN_TTL_SECONDS": "1"}, "TOKEN_TTL_SECONDS: '1' is not accepted"),
        ({"DUCKDB_MEMORY_LIMIT": "much"}, "DUCKDB_MEMORY_LIMIT: 'much' is not accepted"),
        ({"MONGODB_URI": "mongodb://user:short@m:27017/"}, "MONGODB_URI is not accepted; accepted: mongodb://host:port"),
        ({"MONGODB_URI": "http://m"}, "MONGODB_URI is not accepted"),
        ({"MONGODB_URI": "mongodb://m", "MONGODB_USERNAME": "api"}, "MONGODB_USERNAME and MONGODB_PASSWORD_FILE: set both or neither"),
        ({"MONGODB_URI": "mongodb://m", "MONGODB_DATABASE": "a/b"}, "MONGODB_DATABASE: 'a/b' is not accepted"),
        ({"NEO4J_URIS": "bolt+s://m:7687", "NEO4J_PASSWORD": "p"}, "NEO4J_URIS needs MONGODB_URI"),
        ({**MONGODB, "NEO4J_URIS": "bolt://m:7687"}, "NEO4J_URIS: not accepted with edition community; accepted: bolt+s://host:port"),
        ({**MONGODB, "NEO4J_URIS": "bolt+s://m:7687,bolt+s://m:7687"}, "NEO4J_URIS: a member is named twice"),
        ({**MONGODB, "NEO4J_URIS": "bolt+s://m:7687", "NEO4J_EDITION": "enterprise"}, "NEO4J_URIS: not accepted with edition enterprise; accepted: neo4j+s://"),
        ({**MONGODB, "NEO4J_URIS": "bolt+s://m:7687"}, "neither NEO4J_PASSWORD nor NEO4J_PASSWORD_FILE is set"),
        ({**MONGODB, "NEO4J_EDITION": "aura"}, "NEO4J_EDITION: 'aura' is not accepted; accepted: community, enterprise"),
        ({"NEO4J_MAX_LAG": "-1"}, "NEO4J_MAX_LAG: '-1' is not accepted"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_accepted(change: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({**GOOD, **change})
    assert words in str(caught.value)
    assert "short'" not in str(caught.value)


def test_every_finding_at_once_and_status_2(python_environment: dict[str, str]) -> None:
    for words in (["-m", "app"], ["-c", "import uvicorn; uvicorn.run('app.main:app')"]):
        done = subprocess.run([sys.executable, *words], env={**python_environment, "API_PORT": "x"}, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "api: API_PORT: 'x' is not accepted" in done.stderr
        assert "api: MINIO_ENDPOINT is not set" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_directory_that_cannot_be_made_is_named(python_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    environment = {**python_environment, **GOOD, "DUCKDB_PATH": str(tmp_path / "file/below")}
    done = subprocess.run([sys.executable, "-m", "app"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "DUCKDB_PATH: cannot use" in done.stderr) == (2, True)


def test_secrets_come_from_files_and_are_never_shown(tmp_path: pathlib.Path) -> None:
    secrets = {}
    for name in ("MINIO_SECRET_KEY", "SECRET_KEY", "API_ADMIN_PASSWORD", "REDIS_PASSWORD"):
        path = tmp_path / name
        path.write_text(f"hidden-{name}-".ljust(40, "x") + "\n", encoding="utf-8")
        secrets[f"{name}_FILE"] = str(path)
    settings = Settings.load({"MINIO_ENDPOINT": "minio:9000", "MINIO_ACCESS_KEY": "a", **secrets})
    assert settings.secret_key.startswith("hidden-SECRET_KEY-")
    assert "hidden" not in repr(settings)
    assert "scrypt" not in repr(settings)


def test_password_hashes() -> None:
    text = hash_password("correct horse")
    assert text.startswith("scrypt$16384$8$1$")
    assert verify("correct horse", text)
    assert not verify("correct horsf", text)


@pytest.mark.parametrize(
    "text",
    ["", "scrypt$1$1$1$x$y", "scrypt$2$8$1$AAAA$AAAA", "scrypt$16384$8$1$!$!", "scrypt$a$8$1$AAAA$AAAA", "scrypt$1073741824$8$1$" + "A" * 24 + "$" + "A" * 44],
)
def test_weak_or_malformed_hashes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hash(text)


def test_the_password_command(python_environment: dict[str, str]) -> None:
    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "app.passwords"], env=python_environment, input=text, capture_output=True, text=True, check=False)

    assert verify("long-enough-password", run("long-enough-password\n").stdout.strip())
    assert run("short\n").returncode == 2


def test_both_apps_pin_the_same_versions() -> None:
    def pins(app: str) -> dict[str, str]:
        lines = (pathlib.Path(__file__).parents[2] / app / "requirements.txt").read_text(encoding="utf-8").splitlines()
        return dict(t.cast("tuple[str, str]", tuple(line.split(" ")[0].split("=="))) for line in lines if "==" in line and not line.lstrip().startswith("#"))

    api, pipeline = pins("api"), pins("pipeline")
    assert api.keys() & pipeline.keys() >= {"duckdb", "minio", "redis", "rq"}
    assert {name: (api[name], pipeline[name]) for name in api.keys() & pipeline.keys() if api[name] != pipeline[name]} == {}
    for name in ("torch", "tensorflow", "scikit-learn", "mlflow", "pandas"):
        assert name not in {**api, **pipeline}
