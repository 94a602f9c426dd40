# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import checks
import pytest

if t.TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://mongodb"]

Containers = dict[str, dict[str, t.Any]]
Value = t.Callable[[str], t.Any]

# Runs on the member with its own PyMongo and its own key file, as the role's module does: no password leaves the controller.
ASK = """
import json, sys
from pymongo import MongoClient
from pymongo.errors import PyMongoError
question = json.loads(sys.argv[1])
if question["key_file"]:
    key = open(question["key_file"]).readline()[2:].strip()
    question["login"] = {"username": "__system", "password": key, "authSource": "local", "authMechanism": "SCRAM-SHA-256"}
client = MongoClient(question["address"], 27017, directConnection=True, tls=True, tlsCAFile=question["ca"], serverSelectionTimeoutMS=5000,
                     **question["login"])
try:
    print(json.dumps({"answers": [client[database].command(command) for database, command in question["commands"]]}, default=str))
except PyMongoError as error:
    print(json.dumps({"code": getattr(error, "code", None), "error": str(error)}))
"""
PLAIN = """
import socket, sys
with socket.create_connection((sys.argv[1], 27017), 5) as stream:
    try:
        stream.sendall(bytes.fromhex(sys.argv[2]))
        print(stream.recv(64))
    except ConnectionError:
        print("reset")
"""
# OP_MSG {hello: 1, $db: "admin"}
HELLO = "340000000100000000000000dd07000000000000001f0000001068656c6c6f000100000002246462000600000061646d696e0000"


Commands = t.Callable[..., list[dict[str, t.Any]]]


def ask(host: Host, value: Value, login: dict[str, str] | None, *commands: tuple[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    """Answers of this member to commands, `code` where it refuses. Logs in with the member's key where no login is given."""
    root = value("mongodb_root")
    key_file = f"{root}/current/secrets/keyfile" if login is None else ""
    question = {"address": value("platform_address"), "ca": f"{root}/live/tls/ca.crt", "key_file": key_file, "login": login or {}, "commands": commands}
    return dict(json.loads(host.check_output("python3 -c %s %s", ASK, json.dumps(question))))


@pytest.fixture
def administrator(host: Host, value: Value) -> Commands:
    def run(*commands: tuple[str, dict[str, t.Any]]) -> list[dict[str, t.Any]]:
        answer = ask(host, value, None, *commands)
        assert "answers" in answer, answer
        return list(answer["answers"])

    return run


def test_member_keeps_the_rules_of_the_house(host: Host, value: Value, containers: Containers, secrets: dict[str, str]) -> None:
    checks.assert_member(host, value, "mongodb", containers, secrets)


def test_listens_on_the_hosts_own_address_only(host: Host, value: Value) -> None:
    assert {address for address, port in checks.listeners(host) if port == 27017} == {value("platform_address")}


def test_refuses_plain_text(host: Host, value: Value) -> None:
    assert host.check_output("python3 -c %s %s %s", PLAIN, value("platform_address"), HELLO) in ("b''", "reset")


def test_nobody_does_anything_without_a_password(host: Host, value: Value) -> None:
    assert ask(host, value, {}, ("admin", {"replSetGetStatus": 1}))["code"] == 13
    assert ask(host, value, {"username": "admin", "password": "not-the-password"}, ("admin", {"ping": 1}))["code"] == 18


def test_all_members_are_in_one_set_and_follow_one_primary(value: Value, administrator: Commands) -> None:
    status, config, build = administrator(("admin", {"replSetGetStatus": 1}), ("admin", {"replSetGetConfig": 1}), ("admin", {"buildInfo": 1}))
    members = {member["host"]: member for member in value("mongodb_members")}
    assert status["set"] == value("mongodb_set_name")
    assert {item["name"] for item in status["members"]} == set(members)
    states = sorted(item["stateStr"] for item in status["members"])
    assert states == ["PRIMARY"] + ["SECONDARY"] * (len(members) - 1)
    for item in config["config"]["members"]:
        wanted = members[item["host"]]
        assert (item["priority"], item["votes"], item["hidden"], item["tags"]) == (wanted["priority"], wanted["votes"], wanted["hidden"], wanted["tags"])
    assert build["version"].startswith(f"{value('mongodb_version')}.")


def test_applications_have_their_roles_and_no_others(value: Value, administrator: Commands) -> None:
    """That their passwords are right is what the role itself has tested by a login, or it would have changed something."""
    answers = administrator(*[("admin", {"usersInfo": {"user": user["name"], "db": "admin"}}) for user in value("mongodb_users")])
    for user, answer in zip(value("mongodb_users"), answers, strict=True):
        (account,) = answer["users"]
        assert account["mechanisms"] == ["SCRAM-SHA-256"]
        assert [(role["role"], role["db"]) for role in account["roles"]] == [(role["role"], role.get("db", "admin")) for role in user["roles"]]


def test_the_indexes_are_there(value: Value, administrator: Commands) -> None:
    wanted = value("mongodb_indexes")
    for database, collection in {(item["database"], item["collection"]) for item in wanted}:
        command = {"listIndexes": collection, "$readPreference": {"mode": "secondaryPreferred"}}
        (answer,) = administrator((database, command))
        found = {item["name"] for item in answer["cursor"]["firstBatch"]}
        assert {item["name"] for item in wanted if (item["database"], item["collection"]) == (database, collection)} <= found


def test_a_stopping_member_has_time_to_hand_over(containers: Containers) -> None:
    assert containers["mongodb"]["Config"]["StopTimeout"] >= 120
