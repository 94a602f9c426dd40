# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""community.mongodb's modules, as roles use them: from `ansible`, against the stand-in."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from replica import ROOT_PASSWORD, SETTINGS, Cluster, wait_for

Play = Callable[[list[dict[str, Any]]], dict[str, Any]]


@pytest.fixture
def play(tmp_path: pathlib.Path) -> Play:
    """Run tasks on this machine; what each said, by its name. One play for many: each start costs seconds."""

    def run(tasks: list[dict[str, Any]]) -> dict[str, Any]:
        file = tmp_path / "play.yml"
        host = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
        file.write_text(yaml.safe_dump([host], sort_keys=False))
        (tmp_path / "ansible.cfg").touch()
        environment = {
            **os.environ,
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_DEPRECATION_WARNINGS": "false",
            "ANSIBLE_HOME": str(tmp_path),
        }
        command = [
            str(pathlib.Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            "-e",
            f"ansible_python_interpreter={sys.executable}",
            str(file),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
        assert "{" in done.stdout, done.stderr
        report = json.loads(done.stdout[done.stdout.index("{") :])
        return {task["task"]["name"]: task["hosts"]["localhost"] for task in report["plays"][0]["tasks"]}

    return run


def test_modules_from_an_empty_set_to_a_step_down(own: Callable[..., Cluster], play: Play) -> None:
    cluster = own(3)
    cluster.start()
    first = cluster.members[0]
    common = {"login_host": "127.0.0.1", "ssl": True, "ssl_ca_certs": str(cluster.authority.file)}
    login = {**common, "login_user": "root", "login_password": ROOT_PASSWORD}
    at_first = {"login_port": first.port}
    members = [{"host": member.host, "priority": 2 if member is first else 1} for member in cluster.members]
    initiate = {
        "community.mongodb.mongodb_replicaset": {
            **common,
            **at_first,
            "replica_set": "rs0",
            "members": members,
            "election_timeout_millis": SETTINGS["electionTimeoutMillis"],
        }
    }
    # The first user through the localhost exception, on the member with the highest priority.
    first_user = {
        "community.mongodb.mongodb_user": {
            **common,
            **at_first,
            "database": "admin",
            "name": "root",
            "password": ROOT_PASSWORD,
            "roles": [{"role": "root", "db": "admin"}],
            "create_for_localhost_exception": str(cluster.folder / "made"),
            "strict_compatibility": False,
        },
        "register": "made",
        "until": "made is success",
        "retries": 60,
        "delay": 1,
    }
    said = play([{"name": "initiate", **initiate}, {"name": "initiate again", **initiate}, {"name": "first user", **first_user}])
    assert {name: said[name]["changed"] for name in said} == {"initiate": True, "initiate again": False, "first user": True}, said
    wait_for(cluster.healthy, "a healthy set")
    wait_for(lambda: cluster.primary is first, "the takeover by priority")

    app = {**login, **at_first, "database": "shop", "name": "app", "password": "app-password", "roles": ["readWrite"], "update_password": "on_create"}
    role = {
        **login,
        **at_first,
        "database": "admin",
        "name": "watcher",
        "privileges": [{"resource": {"cluster": True}, "actions": ["replSetGetStatus"]}],
        "roles": [],
    }
    index = {"database": "shop", "collection": "orders", "keys": {"number": 1}, "options": {"name": "number", "unique": True}, "state": "present"}
    indexes = {**login, **at_first, "indexes": [index]}
    # No members are sent that replicaset would compare: only the lines that differ are changed.
    regrow = {**login, **at_first, "replica_set": "rs0", "reconfigure": True, "members": [{**line, "priority": 1} for line in members]}
    tasks: list[dict[str, Any]] = [
        {"name": "status", "community.mongodb.mongodb_status": {**login, **at_first, "replica_set": "rs0", "poll": 20, "interval": 1}},
        {"name": "user", "community.mongodb.mongodb_user": app},
        {"name": "user again", "community.mongodb.mongodb_user": app},
        {"name": "role", "community.mongodb.mongodb_role": role},
        {"name": "role again", "community.mongodb.mongodb_role": role},
        {"name": "index", "community.mongodb.mongodb_index": indexes},
        {"name": "index again", "community.mongodb.mongodb_index": indexes},
        {
            "name": "parameter",
            "community.mongodb.mongodb_parameter": {**login, **at_first, "param": "cursorTimeoutMillis", "value": "500000", "param_type": "int"},
        },
        {"name": "info", "community.mongodb.mongodb_info": {**login, **at_first}},
        {"name": "reconfigure", "community.mongodb.mongodb_replicaset": regrow},
        {"name": "step down", "community.mongodb.mongodb_stepdown": {**login, **at_first, "stepdown_seconds": 30}},
        {"name": "no user", "community.mongodb.mongodb_user": {**app, "state": "absent", "replica_set": "rs0"}},
    ]
    said = play(tasks)
    assert {name: (answer.get("failed", False), answer.get("changed", False)) for name, answer in said.items()} == {
        "status": (False, False),
        "user": (False, True),
        "user again": (False, False),
        "role": (False, True),
        "role again": (False, False),
        "index": (False, True),
        "index again": (False, False),
        "parameter": (False, True),
        "info": (False, False),
        "reconfigure": (False, True),
        "step down": (False, True),
        "no user": (False, True),
    }, said
    assert sorted(said["status"]["replicaset"].values()) == ["PRIMARY", "SECONDARY", "SECONDARY"]
    assert said["info"]["general"]["version"] == "7.0.14"
    assert "root" in said["info"]["users"]["admin"]
    assert cluster.primary is not first
