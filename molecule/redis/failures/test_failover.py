# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue's master is lost while it is written to, and a replica falls so far behind that it must copy everything: no acknowledged write is lost."""

from __future__ import annotations

import json
import subprocess
import typing as t

import pytest
import support

# Runs on a member with its own python3-redis. Prints a line of JSON a question.
CLIENT = """
import json, sys, time
import redis
from redis.sentinel import Sentinel

question = json.load(sys.stdin)
secret = open("/srv/platform/redis/current/secrets/admin_password").read().strip()
common = dict(ssl=True, ssl_ca_certs="/srv/platform/redis/live/tls/ca.crt", username="admin", password=secret, socket_timeout=2, socket_connect_timeout=2)
sentinel = Sentinel([(host, 26379) for host in question["members"]], sentinel_kwargs=common, **common)


def master():
    return sentinel.master_for("queue", **common)


def write(seconds, prefix):
    # Each value is written until one replica besides the master has it, as what must not be lost is.
    acknowledged, gap, last, end = 0, 0.0, time.monotonic(), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            client = master()
            with client.pipeline(transaction=False) as pipe:
                answers = pipe.set(f"{prefix}:{acknowledged}", "x").wait(1, 1000).execute()
            if answers[1] < 1:
                continue
        except redis.RedisError:
            time.sleep(0.1)
            continue
        now = time.monotonic()
        acknowledged, gap, last = acknowledged + 1, max(gap, now - last), now
        time.sleep(0.01)
    return {"acknowledged": acknowledged, "gap": gap}


def missing(prefix, count):
    client = master()
    lost = [n for n in range(count) if client.get(f"{prefix}:{n}") is None]
    client.delete(*[f"{prefix}:{n}" for n in range(count)])
    return {"missing": lost}


def fill(megabytes):
    client = master()
    for _number in range(megabytes):
        client.set("e2e:big", b"x" * 2**20)
    client.delete("e2e:big")
    return {}


def leader():
    return {"address": sentinel.discover_master("queue")[0]}


def info(section, server):
    return redis.Redis(host=server, port=6380, **common).info(section) if server else master().info(section)


print(json.dumps(globals()[question.pop("do")](**{key: value for key, value in question.items() if key != "members"}), default=str))
"""
PREFIX = "e2e"


def start(host: str, **question: t.Any) -> subprocess.Popen[str]:
    members = [support.address(name) for name in support.group("redis")]
    process = subprocess.Popen(
        support.ssh_command(host, f"python3 -c '{CLIENT}'"), cwd=support.REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin
    process.stdin.write(json.dumps({"members": members, **question}))
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: subprocess.Popen[str], seconds: float = 120) -> dict[str, t.Any]:
    out, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors[-2000:]
    return dict(json.loads(out))


def ask(host: str, **question: t.Any) -> dict[str, t.Any]:
    return answer(start(host, **question))


def master(asked: str) -> str:
    """The host of the queue's master, as the Sentinels name it to another host."""
    found = ask(asked, do="leader")["address"]
    return next(name for name in support.group("redis") if support.address(name) == found)


@pytest.fixture(autouse=True)
def healthy() -> t.Iterator[None]:
    assert support.gate("redis", wait=True).code == 0
    yield
    for host in support.group("redis"):
        support.ssh(host, "docker unpause redis-queue-1; docker compose --project-name redis start", check=False, timeout=120)
    run = support.gate("redis", wait=True, seconds=180)
    assert run.code == 0, run.text[-2000:]


def test_a_killed_master_is_replaced_and_comes_back_as_a_replica() -> None:
    members = support.group("redis")
    old = master(members[0])
    witness = next(host for host in members if host != old)
    writer = start(witness, do="write", seconds=40, prefix=PREFIX)
    support.wait_for("the writer's first values", lambda: _keys(witness) > 5, 20)
    support.ssh(old, "docker kill redis-queue-1")
    run = support.gate("redis")
    assert run.code != 0 and f"REDIS_DOWN {old}" in run.text, run.text[-2000:]
    support.wait_for("another master", lambda: master(witness) != old, 60)
    support.ssh(old, "docker start redis-queue-1")
    assert support.gate("redis", "after", old, wait=True).code == 0
    wrote = answer(writer)
    print(f"{wrote['acknowledged']} values acknowledged; the longest time without one was {wrote['gap']:.1f} s")
    assert wrote["acknowledged"] > 50
    assert ask(witness, do="missing", prefix=PREFIX, count=wrote["acknowledged"])["missing"] == []
    assert ask(witness, do="info", section="replication", server=support.address(old))["role"] == "slave"


def _keys(host: str) -> int:
    found = ask(host, do="info", section="keyspace", server="")
    return int(found["db0"]["keys"]) if "db0" in found else 0


def test_a_replica_out_of_sync_is_seen_and_copies_everything() -> None:
    members = support.group("redis")
    leader = master(members[0])
    behind = next(host for host in members if host != leader)
    before = ask(leader, do="info", section="stats", server="")["sync_full"]
    support.ssh(behind, "docker pause redis-queue-1")
    try:
        # Past what the master keeps for a replica that was away for a moment.
        backlog = int(ask(leader, do="info", section="replication", server="")["repl_backlog_size"]) // 2**20
        ask(leader, do="fill", megabytes=2 * backlog + 8)
        run = support.gate("redis")
        assert run.code != 0 and behind in run.text, run.text[-2000:]
        # The one replica that is left must not go now.
        third = next(host for host in members if host not in (leader, behind))
        refused = support.gate("redis", "before", third)
        assert refused.code != 0 and "REDIS_LAST_REPLICA" in refused.text, refused.text[-2000:]
        support.wait_for("the master gives it up", lambda: int(ask(leader, do="info", section="replication", server="")["connected_slaves"]) == 1, 90, 2)
    finally:
        support.ssh(behind, "docker unpause redis-queue-1")
    assert support.gate("redis", "after", behind, wait=True).code == 0
    found = ask(leader, do="info", section="stats", server="")
    assert found["sync_full"] > before
    assert ask(leader, do="info", section="replication", server=support.address(behind))["master_link_status"] == "up"
