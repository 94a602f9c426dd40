# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with a command line in the place of docker's, which answers from a file in the words of the real one."""

from __future__ import annotations

import json
import stat
import sys

import pytest

IMAGE = "sha256:" + "cd" * 32
DIGEST = "sha256:" + "ab" * 32
REFERENCE = f"registry.example.org:5000/redis@{DIGEST}"
ID = "9f" * 32

DOCKER = """#!{python}
import json, sys, time
world = json.load(open({world!r}))
words = sys.argv[1:]
with open({calls!r}, "a") as calls:
    print(*words, file=calls)
if world.get("hang"):
    time.sleep(60)
if world.get("down"):
    sys.exit("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?")
if words[0] == "ps":
    print(*world["containers"], sep="\\n")
elif words[:2] in (["container", "inspect"], ["image", "inspect"]):
    known = world[words[0] + "s"]
    print(json.dumps([known[name] for name in words[2:] if name in known]))
    missing = [name for name in words[2:] if name not in known]
    for name in missing:
        print("Error response from daemon: No such " + words[0] + ": " + name, file=sys.stderr)
    sys.exit(bool(missing))
elif words[0] == "info":
    print(json.dumps(world["info"]))
elif words[0] == "logs":
    print("a line of the log")
    print("Bad file format reading the append only file", file=sys.stderr)
"""


def document(**state):
    return {
        "Id": ID,
        "Created": "2026-09-21T14:13:19.100000001Z",
        "State": {
            "Status": "running",
            "Running": True,
            "Restarting": False,
            "OOMKilled": False,
            "Pid": 4321,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "2026-09-21T14:13:20.25Z",
            "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
            **state,
        },
        "Image": IMAGE,
        "Name": "/redis-cache-1",
        "RestartCount": 0,
        "Config": {
            "Env": ["REDIS_PASSWORD=hunter2"],
            "Healthcheck": {"Test": ["CMD", "true"]},
            "StopTimeout": 40,
            "Labels": {"com.docker.compose.service": "cache", "novacorrente.release": "r1"},
        },
    }


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Says what the engine answers from now on; ``engine.calls`` are the words it was asked with."""
    world, calls, docker = tmp_path / "world.json", tmp_path / "calls", tmp_path / "docker"
    docker.write_text(DOCKER.format(python=sys.executable, world=str(world), calls=str(calls)))
    docker.chmod(docker.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    class Engine:
        def says(self, *documents, **values):
            images = {IMAGE: {"Id": IMAGE, "RepoDigests": [REFERENCE]}, REFERENCE: {"Id": IMAGE, "RepoDigests": [REFERENCE]}}
            info = {"DockerRootDir": str(tmp_path), "LiveRestoreEnabled": False}
            containers = {found["Id"]: found for found in documents}
            world.write_text(json.dumps({"containers": containers, "images": images, "info": info, **values}))

        @property
        def calls(self):
            return calls.read_text().splitlines()

    engine = Engine()
    engine.says(document())
    return engine


@pytest.fixture
def ask(run_module, engine):
    def run(**params):
        which = {} if "containers" in params else {"tier": "redis"}
        quick = {"successes": 2, "interval": 0.1, "min_healthy_time": 0, "min_disk_free_mib": 1, "required": False, "target": "data1"}
        result = run_module("container_gate", **{**which, "images": {"cache": REFERENCE}, **quick, **params})
        assert "hunter2" not in str(result)
        return result

    return run


def keys(result):
    return {reason["key"] for reason in result["reasons"]}


@pytest.mark.parametrize("phase", ["preflight", "before", "after", "final"])
def test_a_healthy_tier(ask, engine, phase):
    result = ask(phase=phase, expect_version="r1", not_before=1_790_000_000.0)
    assert (result["verdict"], result["polls"]) == ("pass", 2), result["msg"]
    assert result["observed"]["containers"]["redis-cache-1"]["health"] == "healthy"
    assert "ps --all --quiet --no-trunc --filter label=com.docker.compose.project=redis" in engine.calls


def test_containers_by_name(ask, engine):
    engine.says(containers={"redis-cache-1": document()})
    assert ask(containers=["redis-cache-1"], phase="after")["verdict"] == "pass"
    assert not any(call.startswith("ps") for call in engine.calls)
    missing = ask(containers=["redis-cache-1", "redis-queue-1"], services=["cache", "queue"], phase="final")
    assert (missing["verdict"], keys(missing)) == ("fail", {"CONTAINER_MISSING queue"})


def test_the_log_is_shown_where_something_is_wrong(ask, engine):
    engine.says(document(Status="exited", Running=False, ExitCode=1))
    result = ask(phase="after")
    assert (result["verdict"], keys(result)) == ("fail", {"CONTAINER_STOPPED cache"})
    assert "Bad file format" in result["msg"]
    # Once for this state, however often it was looked at.
    assert result["polls"] == 2
    assert sum(call.startswith("logs") for call in engine.calls) == 1


def test_an_engine_that_is_down_is_unknown(ask, engine):
    engine.says(down=True)
    result = ask(phase="after", wait=False)
    assert (result["verdict"], keys(result)) == ("unknown", {"CONTAINER_ENGINE"})
    assert "Cannot connect to the Docker daemon" in result["msg"]


def test_an_engine_that_hangs_is_unknown(ask, engine, monkeypatch):
    monkeypatch.setattr("ansible_collections.novacorrente.platform.plugins.module_utils._gates.container.TIMEOUT", 0.5)
    engine.says(hang=True)
    result = ask(phase="after", wait=False)
    assert result["verdict"] == "unknown"
    assert "gave no answer" in result["msg"]


def test_an_image_that_is_not_staged(ask, engine):
    engine.says(images={IMAGE: {"Id": IMAGE, "RepoDigests": []}})
    result = ask(phase="preflight")
    assert (result["verdict"], keys(result)) == ("fail", {"CONTAINER_IMAGE_MISSING"})


def test_an_image_that_was_removed_while_it_runs(ask, engine):
    engine.says(document(), images={})
    assert keys(ask(phase="after", wait=False)) == {"CONTAINER_IMAGE cache"}


def test_a_one_off_container_does_not_count(ask, engine):
    once = document()
    once["Config"]["Labels"]["com.docker.compose.oneoff"] = "True"
    engine.says(once)
    assert keys(ask(phase="final")) == {"CONTAINER_MISSING cache"}


def test_an_image_without_digest_is_refused(ask):
    result = ask(images={"cache": "redis:7"})
    assert result["failed"] and "digest" in result["msg"]
