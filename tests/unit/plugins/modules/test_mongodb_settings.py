# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against sets of separate server processes on loopback, with TLS, key file and elections (tests/standins/mongod)."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import typing as t

import pytest

pytest.importorskip("pymongo")

from ansible_collections.novacorrente.platform.plugins.modules import mongodb_settings

pytestmark = pytest.mark.servers

REPO = pathlib.Path(__file__).resolve().parents[4]
# replica.py takes parts of the stand-in itself.
sys.path += [str(REPO / "tests" / "standins"), str(REPO / "tests" / "standins" / "mongod" / "tests")]

from replica import SETTINGS, Authority, Member, wait_for  # noqa: E402

SECRET = "api-password-of-this-test"
USERS = [
    {"name": "admin", "password": "admin-password-of-this-test", "roles": [{"role": "root"}]},
    {"name": "api", "password": SECRET, "roles": [{"role": "readWrite", "db": "platform"}]},
    {"name": "applier", "password": "applier-password-of-test", "roles": [{"role": "applier"}]},
]
ROLES = [{"name": "applier", "privileges": [{"resource": {"db": "platform", "collection": "outbox"}, "actions": ["find"]}]}]
INDEXES = [
    {"database": "platform", "collection": "outbox", "name": "change_id", "keys": [{"change_id": 1}], "unique": True},
    {"database": "platform", "collection": "insights", "name": "by_word", "keys": [{"words": 1}, {"created": -1}, {"_id": -1}]},
]


class Set:
    """Servers of one set, and the module on them."""

    def __init__(self, folder: pathlib.Path, run: t.Callable[..., dict[str, t.Any]]) -> None:
        self.folder, self.run, self.authority, self.members = folder, run, Authority(folder), list[Member]()

    def add(self, count: int = 1) -> None:
        for _number in range(count):
            member = Member(self.folder / f"m{len(self.members)}", self.authority, "platform")
            self.members.append(member.start())
        for member in self.members[-count:]:
            wait_for(member.hello, f"{member.host} starts")

    def close(self) -> None:
        for member in self.members:
            member.close()

    def settle(self, *numbers: int, check: bool = False, ok: bool = True, of: dict[int, dict[str, t.Any]] | None = None, **changes: t.Any) -> dict[str, t.Any]:
        """Run the module for the members of these numbers. The answer never holds a password."""
        arguments = {
            "set_name": "platform",
            "ca_file": str(self.authority.file),
            "key_file": str(self.members[0].keyfile),
            "members": [{"host": self.members[number].host, **(of or {}).get(number, {})} for number in numbers],
            "settings": SETTINGS,
            "users": USERS,
            "roles": ROLES,
            "indexes": INDEXES,
            "wait_timeout": 30,
            "sync_timeout": 60,
            **changes,
        }
        answer = self.run("mongodb_settings", **arguments, _ansible_check_mode=check)
        assert bool(answer.get("failed")) is not ok, answer
        shown = {name: value for name, value in answer.items() if name != "invocation"}
        assert not [user["password"] for user in arguments["users"] if user.get("password") and user["password"] in json.dumps(shown)]
        return answer

    def primary(self) -> int:
        found = [number for number, member in enumerate(self.members) if member.running and member.hello().get("isWritablePrimary")]
        assert len(found) == 1
        return found[0]

    def config(self) -> dict[str, dict[str, t.Any]]:
        with self.client("admin", USERS[0]["password"]) as client:
            return {item["host"]: item for item in client.admin.command("replSetGetConfig")["config"]["members"]}

    @contextlib.contextmanager
    def client(self, user: str, password: str) -> t.Iterator[t.Any]:
        with self.members[self.primary()].client(user, password) as client:
            yield client


@pytest.fixture
def servers(tmp_path: pathlib.Path, run_module: t.Callable[..., dict[str, t.Any]]) -> t.Iterator[Set]:
    made = Set(tmp_path, run_module)
    yield made
    made.close()


def names(answer: dict[str, t.Any]) -> list[str]:
    return [action.partition(":")[0].partition(" 127")[0] for action in answer["actions"]]


def test_from_empty_servers_to_five_members_and_back(servers: Set):
    servers.add(3)

    dry = servers.settle(0, 1, 2, check=True)
    assert dry["changed"] and dry["primary"] == ""
    assert dry["actions"][0].startswith("initiate platform: absent")
    assert not servers.members[0].hello().get("setName")

    made = servers.settle(0, 1, 2)
    assert made["actions"] == dry["actions"]
    assert sorted(made["members"].values()) == ["PRIMARY", "SECONDARY", "SECONDARY"]
    assert [entry["after"] for entry in made["diff"] if entry["after_header"] == "create_user api@admin"] == ["roles readWrite@platform\n"]
    for check in (False, True):
        again = servers.settle(0, 1, 2, check=check)
        assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
    with servers.client("api", SECRET) as client:
        client.platform.outbox.insert_one({"change_id": 1})
        assert list(client.platform.outbox.index_information()) == ["_id_", "change_id"]
    with servers.client("applier", USERS[2]["password"]) as client:
        assert client.platform.outbox.find_one()["change_id"] == 1
        with pytest.raises(mongodb_settings.OperationFailure):
            client.platform.outbox.insert_one({"change_id": 2})

    servers.add(2)
    dry = servers.settle(0, 1, 2, 3, 4, check=True)
    grown = servers.settle(0, 1, 2, 3, 4)
    assert names(grown) == ["add_member", "add_member", "grant_vote", "grant_vote"]
    assert dry["actions"] == grown["actions"]
    assert [(item["votes"], item["priority"]) for item in servers.config().values()] == [(1, 1)] * 5
    assert servers.members[4].client("api", SECRET, readPreference="secondary").platform.outbox.count_documents({}) == 1

    leader = servers.primary()
    kept = [number for number in range(5) if number != leader][:3]
    shrunk = servers.settle(*kept)
    assert names(shrunk) == ["remove_member", "step_down", "remove_member"]
    assert set(servers.config()) == {servers.members[number].host for number in kept}
    assert shrunk["members"][shrunk["primary"]] == "PRIMARY"
    assert not servers.settle(*kept)["changed"]


def test_members_with_parts_of_their_own_and_a_primary_that_gives_up_its_priority(servers: Set):
    servers.add(4)
    parts = {
        0: {"priority": 5, "tags": {"zone": "a"}},
        2: {"tags": {"zone": "c"}},
        3: {"priority": 0, "votes": 0, "hidden": True, "delay": 3600},
    }
    servers.settle(0, 1, 2, 3, of=parts)
    hosts = [member.host for member in servers.members]
    config = servers.config()
    assert config[hosts[0]]["tags"] == {"zone": "a"}
    assert (config[hosts[3]]["hidden"], int(config[hosts[3]]["secondaryDelaySecs"]), config[hosts[3]]["votes"]) == (True, 3600, 0)
    wait_for(lambda: servers.primary() == 0, "the preferred member is primary")
    assert not servers.settle(0, 1, 2, 3, of=parts)["changed"]

    changed = servers.settle(0, 1, 2, 3, of={**parts, 0: {"priority": 0}}, settings={**SETTINGS, "chainingAllowed": False})
    assert names(changed) == ["step_down", "change_member", "change_settings platform"]
    assert servers.primary() in (1, 2)
    assert servers.config()[hosts[0]]["priority"] == 0


def test_what_is_refused_changes_nothing(servers: Set):
    servers.add(3)
    servers.members[2].kill()
    silent = servers.settle(0, 1, 2, ok=False)
    assert "a set is only made when all of them answer" in silent["msg"] and servers.members[2].host in silent["msg"]
    assert not servers.members[0].hello().get("setName")

    servers.members[2].write_key("the-key-of-another-set")
    servers.members[2].start()
    wait_for(servers.members[2].hello, "the third starts")
    assert "another key file" in servers.settle(0, 1, 2, ok=False)["msg"]
    servers.members[2].terminate()
    servers.members[2].write_key("the-key-of-this-set")
    servers.members[2].start()
    wait_for(servers.members[2].hello, "the third starts")
    servers.settle(0, 1, 2)

    # One is dead: the set that stays may not be changed, the dead one may be removed, and another put in its place.
    servers.add()
    dead = next(number for number in (0, 1, 2) if number != servers.primary())
    servers.members[dead].kill()
    before = servers.config()
    assert "does not answer" in servers.settle(0, 1, 2, 3, ok=False)["msg"]
    assert servers.config() == before
    users = [*USERS, {"name": "more", "password": "more-password-of-this-test"}]
    assert servers.settle(0, 1, 2, users=users)["actions"] == ["create_user more@admin: absent -> roles none"]
    live = [number for number in (0, 1, 2) if number != dead]
    replaced = servers.settle(*live, 3)
    assert names(replaced) == ["remove_member", "add_member", "grant_vote"]

    # Two of three are dead: there is nobody to change anything at.
    last = servers.primary()
    for number in {*live, 3} - {last}:
        servers.members[number].kill()
    wait_for(lambda: not servers.members[last].hello()["isWritablePrimary"], "the last one steps down")
    assert "the set has no primary" in servers.settle(*live, 3, ok=False, wait_timeout=2)["msg"]


def test_an_empty_member_of_a_set_joins_it_again_and_never_makes_one(servers: Set):
    servers.add(3)
    servers.settle(0, 1, 2)
    with servers.client("api", SECRET) as client:
        client.platform.outbox.insert_one({"change_id": 1})
    # The member on which the module runs, and which stands first, has lost its data; only a secondary answers beside it.
    lost = next(number for number in (0, 1, 2) if number != servers.primary())
    order = [lost, *(number for number in (0, 1, 2) if number != lost)]
    servers.members[lost].kill()
    shutil.rmtree(servers.members[lost].folder / "db")
    identity = servers.config()
    servers.members[lost].start()
    wait_for(servers.members[lost].hello, "the empty member starts")
    assert not servers.settle(*order)["changed"]
    wait_for(lambda: servers.members[lost].hello().get("secondary"), "the empty member has the data")
    assert servers.config() == identity
    assert servers.members[lost].client("api", SECRET, readPreference="secondary").platform.outbox.count_documents({}) == 1


def test_passwords_roles_indexes_and_profilers(servers: Set):
    servers.add(1)
    servers.settle(0)
    new = [{**USERS[0], "password": "a-new-admin-password-here"}, {**USERS[1], "roles": [{"role": "read", "db": "platform"}]}, {**USERS[2], "state": "absent"}]
    wanted = {
        "users": new,
        "roles": [{**ROLES[0], "state": "absent"}, {"name": "watcher", "privileges": [{"resource": {"cluster": True}, "actions": ["serverStatus"]}]}],
        "indexes": [INDEXES[0], {**INDEXES[1], "state": "absent"}],
        "profilers": [{"database": "platform", "level": 1}],
    }
    dry = servers.settle(0, check=True, **wanted)
    changed = servers.settle(0, **wanted)
    assert changed["actions"] == dry["actions"]
    assert names(changed) == [
        "set_role watcher@admin",
        "set_password admin@admin",
        "set_user_roles api@admin",
        "remove_index platform.insights by_word",
        "set_profiler platform on",
        "remove_user applier@admin",
        "remove_role applier@admin",
    ]
    assert not servers.settle(0, **wanted)["changed"]
    with servers.client("admin", "a-new-admin-password-here") as client:
        assert client.platform.command("profile", -1)["was"] == 1
    with pytest.raises(mongodb_settings.OperationFailure), servers.client("admin", USERS[0]["password"]) as client:
        client.admin.command("replSetGetStatus")

    other = {**INDEXES[0], "unique": False}
    assert "Give the new one another name" in servers.settle(0, ok=False, **{**wanted, "indexes": [other]})["msg"]
    assert "has no password" in servers.settle(0, ok=False, users=[{"name": "nobody"}])["msg"]
    role = {"name": "watcher", "privileges": [{"resource": {"cluster": True}, "actions": ["serverStatus", "hostInfo"]}]}
    assert names(servers.settle(0, **{**wanted, "roles": [role]})) == ["set_role watcher@admin"]


def test_keys_are_changed_while_the_set_runs(servers: Set):
    """Three rolls: old → [old, new] → [new, old] → new. Members of two steps always understand each other, and so does the module with either file."""
    servers.add(3)
    servers.settle(0, 1, 2)
    for keys in (("the-key-of-this-set", "the-new-key-of-it"), ("the-new-key-of-it", "the-key-of-this-set"), ("the-new-key-of-it",)):
        for member in servers.members:
            member.terminate()
            member.write_key(*keys)
            member.start()
            wait_for(lambda m=member: m.hello().get("secondary") or m.hello().get("isWritablePrimary"), "back in the set")
        assert not servers.settle(0, 1, 2)["changed"]


def test_a_key_file_that_is_not_there(servers: Set):
    servers.add(1)
    assert "key_file" in servers.settle(0, ok=False, key_file=str(servers.folder / "none"))["msg"]


def test_a_renewed_certificate_is_taken_up_by_the_script_of_the_role(servers: Set):
    """The script in its place under a release, with another port; once with the key that the server shows second."""
    servers.add(1)
    servers.settle(0)
    member = servers.members[0]
    release, live = servers.folder / "mongodb" / "releases" / "r1", servers.folder / "mongodb" / "live" / "tls"
    for folder in (release / "config", release / "secrets", live / "private"):
        folder.mkdir(parents=True)
    source = (REPO / "roles/mongodb/templates/release/config/rotate-certificates.py").read_text()
    script = release / "config" / "rotate-certificates.py"
    script.write_text(source.replace("PORT = 27017", f"PORT = {member.port}"))
    (live / "ca.crt").write_bytes(servers.authority.file.read_bytes())

    def rotate(*keys: str) -> subprocess.CompletedProcess[str]:
        (release / "secrets" / "keyfile").write_text("".join(f"- {key}\n" for key in keys))
        return subprocess.run([sys.executable, str(script), "127.0.0.1"], capture_output=True, text=True, check=False)

    for keys in (["the-key-of-this-set"], ["a-key-it-does-not-know", "the-key-of-this-set"]):
        servers.authority.issue(member.pem)
        (live / "private" / "mongod.pem").write_bytes(member.pem.read_bytes())
        done = rotate(*keys)
        assert (done.returncode, done.stderr) == (0, "")

    # A certificate that the server was not given, and a key that it does not know.
    servers.authority.issue(live / "private" / "mongod.pem")
    done = rotate("the-key-of-this-set")
    assert done.returncode == 1 and "does not show the certificate" in done.stderr
    done = rotate("a-key-it-does-not-know")
    assert done.returncode == 1 and "a-key-it" not in done.stderr
