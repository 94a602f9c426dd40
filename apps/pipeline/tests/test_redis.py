# SPDX-License-Identifier: GPL-3.0-or-later
"""Both apps find their master through Sentinel, over TLS, with their own users, and follow it when it moves."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest
import redis
from app import redis_client as api_client
from app.settings import Settings as ApiSettings
from pipeline import jobs
from pipeline.redis_client import connect
from pipeline.settings import Settings
from servers import ADMIN, Certificates, RedisServer, run_redis, wait_for

SENTINEL = "sentinel-password"


class Cluster(t.NamedTuple):
    servers: tuple[RedisServer, RedisServer]
    sentinel: RedisServer
    environment: dict[str, str]

    def ask(self) -> redis.Redis:
        ca = self.environment["REDIS_CA_FILE"]
        return redis.Redis(host="127.0.0.1", port=self.sentinel.port, password=SENTINEL, ssl=True, ssl_ca_certs=ca, decode_responses=True)

    def master(self) -> int:
        with self.ask() as connection:
            return int(connection.sentinel_get_master_addr_by_name("queue")[1])

    def replicate(self) -> None:
        """The replica has all that was written until now: a write that it has not may be lost with the master."""
        ca = self.environment["REDIS_CA_FILE"]
        with redis.Redis(host="127.0.0.1", port=self.master(), username="admin", password=ADMIN, ssl=True, ssl_ca_certs=ca) as admin:
            admin.set("replicated", 1)
            assert admin.wait(1, 30000) == 1


@pytest.fixture
def cluster(tmp_path: pathlib.Path, certificates: Certificates, redis_rules: dict[tuple[str, str], str]) -> t.Iterator[Cluster]:
    users = {user: rule for (server, user), rule in redis_rules.items() if server == "queue"}
    replication = ("masteruser admin", f"masterauth {ADMIN}", "repl-diskless-sync-delay 0")
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(run_redis(tmp_path / "one", users, *replication, tls=certificates))
        two = stack.enter_context(run_redis(tmp_path / "two", users, *replication, f"replicaof 127.0.0.1 {one.port}", tls=certificates))
        watch = (
            f"requirepass {SENTINEL}", f"sentinel monitor queue 127.0.0.1 {one.port} 1", "sentinel auth-user queue admin", f"sentinel auth-pass queue {ADMIN}",
            "sentinel down-after-milliseconds queue 2000", "sentinel failover-timeout queue 10000",
        )  # fmt: skip
        sentinel = stack.enter_context(run_redis(tmp_path / "sentinel", {}, *watch, mode="redis-sentinel", tls=certificates))
        environment = {
            "REDIS_SENTINELS": f"127.0.0.1:1,127.0.0.1:{sentinel.port}",  # the first is away: the next one answers
            "REDIS_SENTINEL_PASSWORD": SENTINEL, "REDIS_TLS": "true", "REDIS_CA_FILE": certificates.authority,
            "MINIO_ENDPOINT": "minio:9000", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b",
        }  # fmt: skip
        cluster = Cluster((one, two), sentinel, environment)

        def replicated() -> bool:
            with cluster.ask() as connection:
                replicas = connection.sentinel_slaves("queue")
            return bool(replicas) and replicas[0]["master-link-status"] == "ok"

        wait_for(replicated, 30, "the replica")
        yield cluster


def test_sentinel_tls_users_and_a_failover(cluster: Cluster) -> None:
    settings = Settings.load({**cluster.environment, "REDIS_USERNAME": "pipeline", "REDIS_PASSWORD": "pipeline-password"})
    api = ApiSettings.load(
        {**cluster.environment, "REDIS_USERNAME": "api", "REDIS_PASSWORD": "api-password", "SECRET_KEY": "s" * 32, "API_ADMIN_PASSWORD": "long-password"}
    )
    connection = connect(settings.redis)
    connection.lpush("pipeline:runs", "before")
    cluster.replicate()
    blocking = api_client.queue_blocking(api)
    assert blocking.lrange("pipeline:runs", 0, -1) == [b"before"]

    async def asynchronous() -> list[bytes]:
        client = api_client.queue(api)
        try:
            return t.cast("list[bytes]", await t.cast(t.Any, client.lrange("pipeline:runs", 0, -1)))
        finally:
            await client.aclose()

    assert asyncio.run(asynchronous()) == [b"before"]
    old = cluster.master()
    with cluster.ask() as ask:
        ask.execute_command("SENTINEL", "FAILOVER", "queue")
    wait_for(lambda: cluster.master() != old, 30, "the failover")

    def writes() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(connection.lpush("pipeline:runs", "after"))
        return False

    wait_for(writes, 20, "a write to the new master")
    wait_for(lambda: b"before" in asyncio.run(asynchronous()), 20, "the API on the new master")
    assert b"after" in blocking.lrange("pipeline:runs", 0, -1)


def test_a_server_of_another_authority_is_refused(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    environment = {**cluster.environment, "REDIS_CA_FILE": Certificates(other).authority, "REDIS_USERNAME": "pipeline", "REDIS_PASSWORD": "pipeline-password"}
    with pytest.raises(redis.ConnectionError):
        connect(Settings.load(environment).redis).ping()


def test_a_worker_and_its_retries_behind_sentinel(cluster: Cluster, python_environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    """RQ's own scheduler process connects anew: it must find the master, too."""
    sources = tmp_path / "sources.yml"
    sources.write_text("tables: [{name: t, source: {uri: 's3://bucket/key.csv', format: csv}}]", encoding="utf-8")
    environment = {
        **cluster.environment,
        "REDIS_USERNAME": "pipeline",
        "REDIS_PASSWORD": "pipeline-password",
        "MINIO_ENDPOINT": "127.0.0.1:1",
        "PIPELINE_CONFIG": str(sources),
        "PIPELINE_HEALTH_FILE": str(tmp_path / "health"),
        "PIPELINE_RETRIES": "1",
        "PIPELINE_RETRY_INTERVALS": "1",
        "WORKER_METRICS_PORT": "0",
    }
    settings = Settings.load(environment)
    connection = connect(settings.redis)
    jobs.enqueue(connection, settings, run_id="again", trigger="test")
    log = tmp_path / "worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-m", "pipeline", "worker"], env={**python_environment, **environment}, stdout=stream, stderr=stream)
    try:
        wait_for(lambda: connection.hget("pipeline:run:again", "status") == b"failed", 90, "the last try")
        time.sleep(1)  # it waits on the queue again: an idle worker stops at once
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.terminate()
        process.wait(20)
    assert log.read_text(encoding="utf-8").count("t extract_and_load: cannot read s3://bucket/key.csv") == 2


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("pipeline", ("CONFIG", "GET", "*")), ("pipeline", ("FLUSHALL",)), ("pipeline", ("KEYS", "*")), ("pipeline", ("SET", "cache:x", "1")),
        ("pipeline", ("PUBLISH", "other", "x")), ("api", ("GET", "pipeline:schedule:since")), ("api", ("DEL", "pipeline:runs")),
        ("api", ("PUBLISH", "pipeline-events", "x")), ("api", ("EVAL", "return 1", "0")), ("api", ("BLMOVE", "rq:queue:pipeline", "rq:x", "LEFT", "LEFT", "1")),
    ],
)  # fmt: skip
def test_the_users_may_not_do_more(_queue_server: RedisServer, user: str, command: tuple[str, ...]) -> None:
    with redis.Redis(port=_queue_server.port, username=user, password=f"{user}-password") as connection, pytest.raises(redis.exceptions.NoPermissionError):
        connection.execute_command(*command)
