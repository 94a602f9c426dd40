#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mongodb_settings
short_description: Members, roles, users and indexes of a MongoDB replica set
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Makes a replica set once, and then keeps its members, settings, custom roles, users, indexes and profilers what is wanted, changing the
    difference only. All of it is one module execution.
  - A set is made only when every member answers, is empty, and none was ever part of a set. An empty member of a set that exists never makes one.
  - Members change one at a time, each configuration committed by a majority before the next. A new member has no vote until it has caught up; the
    primary steps down before it is removed. Nothing is changed where a majority would be lost on the way, or where a member that stays does not answer.
  - Roles, users and indexes that are not named are left alone. Members that are not named are removed from the set.
  - A user's password cannot be read back. It is tested by a login, and set where the server refuses that.
  - Logs in as the servers do among themselves (C(__system), with the key file), directly at each member, so that it works on an empty member, before there
    is a user, and after an administrator's password was lost. Runs on a member, where the key file is.
attributes:
  check_mode:
    support: full
    description: The servers are read and the changes are reported, none is made.
  diff_mode:
    support: full
    description: Shows each change. Passwords are never shown.
  idempotent:
    support: full
    description: Nothing is written where nothing differs.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
requirements:
  - pymongo >= 3.11 (Python; C(python3-pymongo) of the distribution)
options:
  set_name:
    description: Name of the replica set.
    type: str
    required: true
  ca_file:
    description: File with the certificate authorities that the servers' certificates are verified against.
    type: path
    required: true
  key_file:
    description: The members' key file, one key or a YAML list of several. Any of them may be the one that a member accepts.
    type: path
    required: true
  members:
    description: All members of the set.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: Address and port under which the other members and the clients reach it.
        type: str
        required: true
      priority:
        description: Who is preferred as primary, 0 to 1000; V(0) never is. Must be V(0) for members that are hidden, delayed or without vote.
        type: float
        default: 1
      votes:
        description: V(1) or V(0).
        type: int
        choices: [0, 1]
        default: 1
      hidden:
        description: Whether clients do not see the member.
        type: bool
        default: false
      delay:
        description: Seconds by which the member stays behind on purpose.
        type: int
        default: 0
      tags:
        description: Tags for read preferences and write concerns.
        type: dict
        default: {}
  settings:
    description:
      - Settings of the set, as in C(settings) of a replica set configuration, for example C(electionTimeoutMillis). Those not named are left alone.
    type: dict
    default: {}
  roles:
    description: Custom roles that must exist or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role.
        type: str
        required: true
      database:
        description: Database that the role belongs to.
        type: str
        default: admin
      privileges:
        description: Privileges, each with C(resource) and C(actions) as in the command C(createRole).
        type: list
        elements: dict
        default: []
      roles:
        description: Roles that it inherits.
        type: list
        elements: dict
        default: []
        suboptions:
          role:
            description: Name of the role.
            type: str
            required: true
          db:
            description: Database of the role.
            type: str
            default: admin
      state:
        description: V(absent) removes the role.
        type: str
        choices: [present, absent]
        default: present
  users:
    description: Users that must exist or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      database:
        description: Database that the user logs in at.
        type: str
        default: admin
      password:
        description: Password. Required where the user is to be present.
        type: str
      roles:
        description: The user's roles, no others.
        type: list
        elements: dict
        default: []
        suboptions:
          role:
            description: Name of the role.
            type: str
            required: true
          db:
            description: Database of the role.
            type: str
            default: admin
      state:
        description: V(absent) removes the user.
        type: str
        choices: [present, absent]
        default: present
  indexes:
    description:
      - Indexes that must exist or must not. Collections are made by their first index.
      - An index that exists with other keys or options is not replaced; the module fails and says what to do.
    type: list
    elements: dict
    default: []
    suboptions:
      database:
        description: Database of the collection.
        type: str
        required: true
      collection:
        description: Name of the collection.
        type: str
        required: true
      name:
        description: Name of the index.
        type: str
        required: true
      keys:
        description: "Fields in their order, each a dictionary with one entry such as C({created: -1})."
        type: list
        elements: dict
        default: []
      unique:
        description: Whether two documents with the same keys are refused.
        type: bool
        default: false
      sparse:
        description: Whether documents without the fields are left out.
        type: bool
        default: false
      expire_after_seconds:
        description: Seconds after the date in the field at which a document is removed.
        type: int
      state:
        description: V(absent) removes the index.
        type: str
        choices: [present, absent]
        default: present
  profilers:
    description:
      - Profiler levels of databases, set on every member. A server forgets them when it is started again; the next run sets them again.
    type: list
    elements: dict
    default: []
    suboptions:
      database:
        description: Name of the database.
        type: str
        required: true
      level:
        description: V(0) is off, V(1) records slow operations, V(2) all.
        type: int
        choices: [0, 1, 2]
        required: true
  wait_timeout:
    description: Seconds to wait for a primary, and for a configuration to be committed.
    type: int
    default: 120
  sync_timeout:
    description: Seconds to wait for a new member to have copied the data. A run that gave up is continued by the next one.
    type: int
    default: 14400
seealso:
  - name: Replica set configuration
    description: What members and settings mean.
    link: https://www.mongodb.com/docs/manual/reference/replica-configuration/
"""

EXAMPLES = r"""
- name: Settle the set
  novacorrente.platform.mongodb_settings:
    set_name: platform
    ca_file: /srv/platform/mongodb/live/tls/ca.crt
    key_file: /srv/platform/mongodb/current/secrets/keyfile
    members:
      - {host: "192.0.2.31:27017", tags: {zone: a}}
      - {host: "192.0.2.32:27017", tags: {zone: b}}
      - {host: "192.0.2.33:27017", tags: {zone: c}}
    users:
      - name: api
        password: "{{ mongodb_api_password }}"
        roles: [{role: readWrite, db: platform}]
    indexes:
      - {database: platform, collection: outbox, name: change_id, keys: [{change_id: 1}], unique: true}
  run_once: true

- name: Take a user away
  novacorrente.platform.mongodb_settings:
    set_name: platform
    ca_file: /srv/platform/mongodb/live/tls/ca.crt
    key_file: /srv/platform/mongodb/current/secrets/keyfile
    members: "{{ mongodb_members }}"
    users:
      - {name: former, state: absent}
"""

RETURN = r"""
primary:
  description: The member that takes writes, empty where the set is not made yet.
  returned: success
  type: str
  sample: 192.0.2.31:27017
members:
  description: State of each member, as the primary sees it.
  returned: success
  type: dict
  sample: {"192.0.2.31:27017": "PRIMARY"}
actions:
  description: The changes that were, or in check mode would be, made.
  returned: success
  type: list
  elements: str
  sample: ["add_member 192.0.2.34:27017: absent -> priority 0, votes 0"]
"""

import contextlib
import functools
import time
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils import _mongodb as core
from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb_server import DOWN, PRIMARY, SECONDARY, STARTUP, UNKNOWN, brief, state_name
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together
from ansible_collections.novacorrente.platform.plugins.module_utils._steps import diff

try:
    from bson.son import SON
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError

    PYMONGO_ERROR: str | None = None
except ImportError:
    PYMONGO_ERROR = traceback.format_exc()

Document = t.Dict[str, t.Any]

CONNECT_TIMEOUT = 5.0
COMMAND_TIMEOUT = 60.0
POLL = 0.5
# https://www.mongodb.com/docs/manual/reference/error-codes/
AUTHENTICATION_FAILED = 18
NAMESPACE_NOT_FOUND = 26
NOT_YET_INITIALIZED = 94
INVALID_CONFIG = 93
# A primary that is none any more, or is busy with another configuration: another look tells.
NOT_NOW = (10107, 13435, 11602, 189, 91, 109, 308)
# Seconds that a primary may wait for another to catch up, and that it is not elected again.
CATCH_UP = 30
STEPPED_DOWN = 120
MAJORITY = {"w": "majority", "wtimeout": int(COMMAND_TIMEOUT * 1000)}


class SettingsError(Exception):
    """Something that keeps the module from doing its work; the text is for the user."""


class Servers:
    """Direct connections to single servers, as the user that they are among themselves."""

    def __init__(self, ca_file: str, keys: t.Sequence[str]) -> None:
        self.ca_file = ca_file
        self.keys = keys
        self.clients: dict[str, t.Any] = {}

    def connect(self, host: str, user: str, password: str, database: str) -> t.Any:
        """A client that has logged in. Raises OperationFailure (code 18) where the password is wrong."""
        client: t.Any = MongoClient(
            host,
            directConnection=True,
            username=user,
            password=password,
            authSource=database,
            authMechanism="SCRAM-SHA-256",
            tls=True,
            tlsCAFile=self.ca_file,
            serverSelectionTimeoutMS=int(CONNECT_TIMEOUT * 1000),
            connectTimeoutMS=int(CONNECT_TIMEOUT * 1000),
            socketTimeoutMS=int((COMMAND_TIMEOUT + CONNECT_TIMEOUT) * 1000),
            retryWrites=False,
            appname="mongodb_settings",
        )
        try:
            client.admin.command("ping")
        except BaseException:
            client.close()
            raise
        return client

    def command(self, host: str, command: Document, database: str = "admin") -> Document:
        """Run a command on one server. Raises PyMongoError."""
        if host not in self.clients:
            self.clients[host] = self.login(host)
        return dict(self.clients[host][database].command(SON(command)))

    def login(self, host: str) -> t.Any:
        for number, key in enumerate(self.keys, 1):
            try:
                return self.connect(host, "__system", key, "local")
            except OperationFailure as exc:
                if exc.code != AUTHENTICATION_FAILED or number == len(self.keys):
                    raise
        raise SettingsError("key_file: there is no key in it.")

    def opens(self, host: str, user: str, password: str, database: str) -> bool:
        """Whether the server lets the user in with the password."""
        try:
            self.connect(host, user, password, database).close()
        except OperationFailure as exc:
            if exc.code == AUTHENTICATION_FAILED:
                return False
            raise
        return True

    def ask(self, host: str) -> core.Node:
        """What a server says about itself and its set. Raises nothing for a server that does not."""
        known = host in self.clients
        node = self.look_at(host)
        # A connection that was kept may be one to a server that was started again meanwhile.
        return self.look_at(host) if node.problem and known else node

    def look_at(self, host: str) -> core.Node:
        try:
            hello = self.command(host, {"hello": 1})
            config, initialised = None, False
            try:
                config = self.command(host, {"replSetGetConfig": 1})["config"]
                status = self.command(host, {"replSetGetStatus": 1})
                initialised = True
            except OperationFailure as exc:
                if exc.code not in (NOT_YET_INITIALIZED, INVALID_CONFIG):
                    raise
                # A member that was removed knows a configuration in which it has no place.
                initialised, status = exc.code == INVALID_CONFIG, {}
        except OperationFailure as exc:
            if exc.code == AUTHENTICATION_FAILED:
                return core.Node(host, problem="runs with another key file: it refuses the key of this one")
            return core.Node(host, problem=f"answers: {exc}")
        except PyMongoError as exc:
            return core.Node(host, problem=f"does not answer: {brief(exc)}")
        states = {item["name"]: int(item["state"]) if item.get("health") else DOWN for item in status.get("members", [])}
        return core.Node(
            host,
            initialised=initialised,
            config=config,
            writable=bool(hello.get("isWritablePrimary")),
            term=int(status.get("term", -1)),
            states=states,
        )

    def ask_all(self, hosts: t.Iterable[str]) -> dict[str, core.Node]:
        return together({host: functools.partial(self.ask, host) for host in hosts})

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


class MongodbSettings:
    """Reads the set, compares, and changes the difference."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: Document = module.params
        self.members = [
            core.Member(item["host"], item["priority"], item["votes"], item["hidden"], item["delay"], {key: str(value) for key, value in item["tags"].items()})
            for item in self.params["members"]
        ]
        self.passwords = {(user["database"], user["name"]): user["password"] for user in self.params["users"]}
        try:
            with open(self.params["key_file"], encoding="utf-8") as stream:
                keys = core.key_file_keys(stream.read())
        except OSError as exc:
            raise SettingsError(f"key_file: cannot be read: {exc.strerror}.") from exc
        self.servers = Servers(self.params["ca_file"], keys)
        self.done: list[core.Step] = []

    def run(self) -> Document:
        core.check_wanted(self.members)
        self.check_users()
        try:
            primary = self.settle_set()
            nodes = self.look()
            wanted = self.wanted_content()
            changes = core.content_steps(wanted, self.seen_content(wanted, primary) if primary else core.Content())
            for step in changes:
                if not self.module.check_mode:
                    self.change(step, wanted, primary)
                self.done.append(step)
        finally:
            self.servers.close()
        states = nodes[primary].states if primary in nodes else {}
        return {
            "changed": bool(self.done),
            "primary": primary,
            "members": {host: state_name(state) for host, state in states.items()},
            "actions": [str(step) for step in self.done],
            "diff": diff(self.done),
        }

    def check_users(self) -> None:
        for user in self.params["users"]:
            if user["state"] == "present" and not user["password"]:
                raise SettingsError(f"users: {user['name']!r} is to be present and has no password.")

    # The set

    def look(self) -> dict[str, core.Node]:
        """Every wanted member, and every member of the sets that these know of."""
        nodes = self.servers.ask_all(member.host for member in self.members)
        others = {host for node in nodes.values() if node.config for host in core.members_of(node.config)} - set(nodes)
        nodes.update(self.servers.ask_all(sorted(others)))
        return nodes

    def settle_set(self) -> str:
        """Make the set what is wanted, one step at a time. Returns the primary; empty in check mode where there is no set yet.

        Each step is planned from what the servers say then: an election in between changes who is to step down, and a run that was killed is continued.
        """
        changed = False
        while True:
            nodes = self.look()
            config = core.the_set(self.params["set_name"], (member.host for member in self.members), nodes)
            if config is None:
                first = core.first_config(self.params["set_name"], self.members, self.params["settings"])
                step = core.Step(core.INITIATE, self.params["set_name"], "absent", ", ".join(member.host for member in self.members), config=first)
                self.done.append(step)
                if self.module.check_mode:
                    return ""
                candidate = max(self.members, key=lambda member: member.priority).host
                self.servers.command(candidate, {"replSetInitiate": first})
                changed = True
                self.wait_for_primary()
                continue
            primary = core.primary_of(nodes.values())
            if primary is None:
                nodes = self.wait_for_primary()
                continue
            steps = core.set_steps(self.members, self.params["settings"], primary.config or config, nodes, primary)
            if self.module.check_mode:
                self.done += steps
                return primary.host
            if not steps:
                if changed:
                    self.wait_for_members()
                return primary.host
            if steps[0].awaits and primary.states.get(steps[0].awaits) != SECONDARY:
                self.wait_for_member(steps[0].awaits)
                continue
            if self.change_set(steps[0], primary.host):
                self.done.append(steps[0])
                changed = True

    def change_set(self, step: core.Step, primary: str) -> bool:
        """Make one step; whether it was made. A primary that is none any more is not an error: the next look finds the new one."""
        if step.action == core.STEP_DOWN:
            # A connection that is lost says nothing; the next look does.
            with contextlib.suppress(ConnectionFailure):
                self.servers.command(primary, {"replSetStepDown": STEPPED_DOWN, "secondaryCatchUpPeriodSecs": CATCH_UP})
            self.wait_for_primary(other_than=primary)
            return True
        try:
            self.wait_for_commitment(primary)
            self.servers.command(primary, {"replSetReconfig": step.config, "maxTimeMS": int(COMMAND_TIMEOUT * 1000)})
            self.wait_for_commitment(primary)
        except OperationFailure as exc:
            if exc.code in NOT_NOW:
                time.sleep(POLL)
                return False
            raise
        return True

    def wait_for_commitment(self, primary: str) -> None:
        """Until the configuration at hand is that of a majority: the next one must not overtake it."""

        def committed() -> str:
            answer = self.servers.command(primary, {"replSetGetConfig": 1, "commitmentStatus": True})
            return "" if answer["commitmentStatus"] else "the configuration is not committed by a majority of the members"

        self.wait(committed, self.params["wait_timeout"])

    def wait_for_primary(self, other_than: str = "") -> dict[str, core.Node]:
        nodes: dict[str, core.Node] = {}

        def there() -> str:
            nodes.update(self.look())
            found = core.primary_of(node for node in nodes.values() if node.host != other_than)
            said = (f"{node.host} {node.problem or state_name(node.states.get(node.host, STARTUP))}" for node in nodes.values())
            return "" if found else "the set has no primary: " + "; ".join(said)

        self.wait(there, self.params["wait_timeout"])
        return nodes

    def wait_for_member(self, host: str) -> None:
        self.wait_for_states([host], (SECONDARY,))

    def wait_for_members(self) -> None:
        self.wait_for_states([member.host for member in self.members], (PRIMARY, SECONDARY))

    def wait_for_states(self, hosts: t.Sequence[str], accepted: t.Sequence[int]) -> None:
        def reached() -> str:
            primary = core.primary_of(self.look().values())
            if primary is None:
                return "the set has no primary"
            late = [f"{host} is {state_name(primary.states.get(host, UNKNOWN))}" for host in hosts if primary.states.get(host) not in accepted]
            return ", ".join(late)

        self.wait(reached, self.params["sync_timeout"])

    def wait(self, problem: t.Callable[[], str], seconds: float) -> None:
        """Until ``problem`` says nothing. Raises SettingsError with its last words."""
        deadline = time.monotonic() + seconds
        pause = POLL
        while True:
            said = problem()
            if not said:
                return
            if time.monotonic() >= deadline:
                made = f" Made until here: {'; '.join(map(str, self.done))}. Another run goes on." if self.done else ""
                raise SettingsError(f"After {seconds:g} s {said}.{made}")
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)

    # Roles, users, indexes, profilers

    def wanted_content(self) -> core.Content:
        def pairs(roles: t.Sequence[Document]) -> frozenset[core.Name]:
            return frozenset((role["db"], role["role"]) for role in roles)

        def present(item: Document) -> bool:
            return bool(item["state"] == "present")

        return core.Content(
            roles={
                (item["database"], item["name"]): core.Role(core.normal_privileges(item["privileges"]), pairs(item["roles"])) if present(item) else None
                for item in self.params["roles"]
            },
            users={(item["database"], item["name"]): core.User(pairs(item["roles"]), True) if present(item) else None for item in self.params["users"]},
            indexes={
                (f"{item['database']}.{item['collection']}", item["name"]): core.index_of(index_document(item)) if present(item) else None
                for item in self.params["indexes"]
            },
            profilers={(member.host, item["database"]): item["level"] for member in self.members for item in self.params["profilers"]},
        )

    def seen_content(self, wanted: core.Content, primary: str) -> core.Content:
        return core.Content(
            roles={key: role for key, role in ((key, self.seen_role(key, primary)) for key in wanted.roles) if role},
            users={key: user for key, user in ((key, self.seen_user(key, primary)) for key in wanted.users) if user},
            indexes={(collection, name): index for collection in {key[0] for key in wanted.indexes} for name, index in self.seen_indexes(collection, primary)},
            profilers={key: int(self.servers.command(key[0], {"profile": -1}, key[1])["was"]) for key in wanted.profilers},
        )

    def seen_role(self, key: core.Name, primary: str) -> core.Role | None:
        found = self.servers.command(primary, {"rolesInfo": {"role": key[1], "db": key[0]}, "showPrivileges": True})["roles"]
        if not found:
            return None
        return core.Role(core.normal_privileges(found[0]["privileges"]), frozenset((role["db"], role["role"]) for role in found[0]["roles"]))

    def seen_user(self, key: core.Name, primary: str) -> core.User | None:
        found = self.servers.command(primary, {"usersInfo": {"user": key[1], "db": key[0]}})["users"]
        if not found:
            return None
        password = self.passwords[key]
        valid = bool(password) and self.servers.opens(primary, key[1], password, key[0])
        return core.User(frozenset((role["db"], role["role"]) for role in found[0]["roles"]), valid)

    def seen_indexes(self, collection: str, primary: str) -> list[tuple[str, core.Index]]:
        database, _dot, name = collection.partition(".")
        try:
            answer = self.servers.command(primary, {"listIndexes": name, "cursor": {"batchSize": 1000}}, database)
        except OperationFailure as exc:
            if exc.code == NAMESPACE_NOT_FOUND:
                return []
            raise
        return [(item["name"], core.index_of(item)) for item in answer["cursor"]["firstBatch"]]

    def change(self, step: core.Step, wanted: core.Content, primary: str) -> None:
        """Make one change; the step's name says of what."""
        what, _at, where = step.name.rpartition("@")
        index, on = step.name.rpartition(" ")[2], step.name.partition(" ")[0]
        database, _dot, collection = on.partition(".")
        if step.action == core.SET_ROLE:
            role = next(item for item in self.params["roles"] if (item["name"], item["database"]) == (what, where))
            verb = "createRole" if step.before == "absent" else "updateRole"
            self.write(primary, {verb: what, "privileges": role["privileges"], "roles": role["roles"]}, where)
        elif step.action == core.REMOVE_ROLE:
            self.write(primary, {"dropRole": what}, where)
        elif step.action in (core.CREATE_USER, core.SET_PASSWORD, core.SET_USER_ROLES):
            user = wanted.users[where, what]
            fields: Document = {"createUser" if step.action == core.CREATE_USER else "updateUser": what}
            if step.action != core.SET_USER_ROLES:
                fields.update(pwd=self.passwords[where, what], mechanisms=["SCRAM-SHA-256"])
            if step.action != core.SET_PASSWORD and user:
                fields["roles"] = [{"role": role, "db": db} for db, role in sorted(user.roles)]
            self.write(primary, fields, where)
        elif step.action == core.REMOVE_USER:
            self.write(primary, {"dropUser": what}, where)
        elif step.action == core.CREATE_INDEX:
            item = next(item for item in self.params["indexes"] if (f"{item['database']}.{item['collection']}", item["name"]) == (on, index))
            # A majority has to have built it, and not all: the build would wait for a member that is down.
            self.write(primary, {"createIndexes": collection, "indexes": [index_document(item)], "commitQuorum": "majority"}, database)
        elif step.action == core.REMOVE_INDEX:
            self.write(primary, {"dropIndexes": collection, "index": index}, database)
        elif step.action == core.SET_PROFILER:
            self.servers.command(index, {"profile": wanted.profilers[index, on]}, on)
        else:
            raise AssertionError(f"unknown step {step.action}")

    def write(self, primary: str, command: Document, database: str) -> None:
        self.servers.command(primary, {**command, "writeConcern": MAJORITY}, database)


def index_document(item: Document) -> Document:
    """An index as createIndexes takes it."""
    document: Document = {"name": item["name"], "key": SON([(field, direction) for entry in item["keys"] for field, direction in entry.items()])}
    document.update({name: True for name in ("unique", "sparse") if item[name]})
    if item["expire_after_seconds"] is not None:
        document["expireAfterSeconds"] = item["expire_after_seconds"]
    return document


def main() -> t.NoReturn:
    state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    name = {"type": "str", "required": True}
    granted = {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"role": name, "db": {"type": "str", "default": "admin"}},
    }
    module = AnsibleModule(
        argument_spec={
            "set_name": name,
            "ca_file": {"type": "path", "required": True},
            "key_file": {"type": "path", "required": True, "no_log": False},
            "members": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "host": name,
                    "priority": {"type": "float", "default": 1},
                    "votes": {"type": "int", "choices": [0, 1], "default": 1},
                    "hidden": {"type": "bool", "default": False},
                    "delay": {"type": "int", "default": 0},
                    "tags": {"type": "dict", "default": {}},
                },
            },
            "settings": {"type": "dict", "default": {}},
            "roles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": name,
                    "database": {"type": "str", "default": "admin"},
                    "privileges": {"type": "list", "elements": "dict", "default": []},
                    "roles": granted,
                    "state": state,
                },
            },
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": name,
                    "database": {"type": "str", "default": "admin"},
                    "password": {"type": "str", "no_log": True},
                    "roles": granted,
                    "state": state,
                },
            },
            "indexes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "database": name,
                    "collection": name,
                    "name": name,
                    "keys": {"type": "list", "elements": "dict", "default": [], "no_log": False},
                    "unique": {"type": "bool", "default": False},
                    "sparse": {"type": "bool", "default": False},
                    "expire_after_seconds": {"type": "int"},
                    "state": state,
                },
            },
            "profilers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"database": name, "level": {"type": "int", "choices": [0, 1, 2], "required": True}},
            },
            "wait_timeout": {"type": "int", "default": 120},
            "sync_timeout": {"type": "int", "default": 14400},
        },
        supports_check_mode=True,
    )
    if PYMONGO_ERROR:
        module.fail_json(msg=missing_required_lib("pymongo"), exception=PYMONGO_ERROR)
    try:
        result = MongodbSettings(module).run()
    except (SettingsError, core.Refusal) as exc:
        module.fail_json(msg=str(exc))
    except OperationFailure as exc:
        module.fail_json(msg=f"MongoDB refused a command (code {exc.code}): {exc}")
    except (ConfigurationError, PyMongoError, OSError) as exc:
        module.fail_json(msg=f"MongoDB did not answer as expected: {brief(exc)}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
