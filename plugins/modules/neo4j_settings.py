#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: neo4j_settings
short_description: Passwords, users, constraints and indexes of Neo4j
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Compares the users, constraints and indexes of Neo4j servers with what is wanted, and changes the difference only.
  - In the Community edition each member is a server of its own and is settled for itself; in the Enterprise edition the members are one
    cluster. Either way it is one module execution.
  - Users, constraints and indexes that are not named are left alone.
  - A password cannot be read back. It is tested by a login, and set where the server refuses that.
  - Runs where the V(neo4j) library is, usually on the controller by C(delegate_to).
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
  - neo4j >= 5.14 (Python)
options:
  members:
    description: Addresses of the members' Bolt connectors as C(host:port).
    type: list
    elements: str
    required: true
  edition:
    description: Edition that the members must be of. With another one the module fails before it changes anything.
    type: str
    choices: [community, enterprise]
    default: community
  ca_certificate:
    description:
      - PEM text of the certificate authorities that the members' certificates are verified against.
      - Where it is left out, the system's authorities are used.
    type: str
  username:
    description: Name of an administrator.
    type: str
    default: neo4j
  password:
    description: Password that the administrator has, or gets where a member only accepts O(previous_password).
    type: str
    required: true
  previous_password:
    description: Password of the administrator before O(password), for the time of a change. Tried where a member refuses O(password).
    type: str
  database:
    description: Database of the constraints and indexes.
    type: str
    default: neo4j
  wait_timeout:
    description: Seconds to wait for a member to answer, such as after a first start.
    type: int
    default: 90
  users:
    description: Users that must exist or must not.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user, letters, digits and C(_).
        type: str
        required: true
      password:
        description: Password of 8 characters or more. Required where the user is to be present.
        type: str
      roles:
        description: Roles that the user has beside C(PUBLIC), no others. Only with O(edition=enterprise), as Community has none.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes the user.
        type: str
        choices: [present, absent]
        default: present
  constraints:
    description: Constraints that make properties of a label's nodes unique.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name, letters, digits and C(_).
        type: str
        required: true
      label:
        description: Label of the nodes. Required where it is to be present.
        type: str
      properties:
        description: Properties of the nodes. Required where it is to be present.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes it.
        type: str
        choices: [present, absent]
        default: present
  indexes:
    description: Indexes on properties of a label's nodes.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name, letters, digits and C(_).
        type: str
        required: true
      label:
        description: Label of the nodes. Required where it is to be present.
        type: str
      properties:
        description: Properties of the nodes. Required where it is to be present.
        type: list
        elements: str
        default: []
      state:
        description: V(absent) removes it.
        type: str
        choices: [present, absent]
        default: present
      type:
        description: V(range) for equality, ranges and prefixes, V(text) for words within texts.
        type: str
        choices: [range, text]
        default: range
seealso:
  - name: Neo4j Python driver
    description: The library that this module stands on.
    link: https://neo4j.com/docs/python-manual/current/
"""

EXAMPLES = r"""
- name: Settle two Community members
  novacorrente.platform.neo4j_settings:
    members: [192.0.2.31:7687, 192.0.2.32:7687]
    ca_certificate: "{{ lookup('ansible.builtin.file', 'pki/ca.crt') }}"
    password: "{{ neo4j_password }}"
    users:
      - name: api
        password: "{{ neo4j_api_password }}"
    constraints:
      - name: insight_id
        label: Insight
        properties: [id]
    indexes:
      - name: insight_table
        label: Insight
        properties: [table]
  delegate_to: localhost
  run_once: true
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"

- name: Change the administrator's password
  novacorrente.platform.neo4j_settings:
    members: [192.0.2.31:7687]
    password: "{{ neo4j_password }}"
    previous_password: "{{ neo4j_previous_password }}"
"""

RETURN = r"""
actions:
  description: The changes that were, or in check mode would be, made, by member. An Enterprise cluster is one member.
  returned: success
  type: dict
  sample: {"192.0.2.31:7687": ["set_user api: absent -> present"]}
"""

import ssl
import time
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils._neo4j import (
    SET_PASSWORD,
    SET_USER,
    SYSTEM,
    UNIQUE,
    Schema,
    Seen,
    Step,
    User,
    Wanted,
    WantedUser,
    invalid_names,
    steps,
)
from ansible_collections.novacorrente.platform.plugins.module_utils._steps import diff

try:
    import neo4j
    from neo4j.exceptions import AuthError, DriverError, Neo4jError, ServiceUnavailable

    NEO4J_ERROR: str | None = None
except ImportError:
    NEO4J_ERROR = traceback.format_exc()

CONNECT_TIMEOUT = 10.0  # seconds, TLS included; a busy server takes a while
RETRY_TIME = 15.0  # seconds in which the driver finds another server, or a new leader
POLL = 1.0
RATE_LIMIT = "Neo.ClientError.Security.AuthenticationRateLimit"
# The password is right, and must be changed before anything else is done.
EXPIRED = "Neo.ClientError.Security.CredentialsExpired"
COMPONENTS = "CALL dbms.components() YIELD edition RETURN edition"
CONSTRAINTS = "SHOW CONSTRAINTS YIELD name, type, entityType, labelsOrTypes, properties"
INDEXES = "SHOW INDEXES YIELD name, type, entityType, labelsOrTypes, properties, owningConstraint"


class SettingsError(Exception):
    """Something that keeps the module from doing its work; the text is for the user."""


class Neo4jSettings:
    """Reads the members' settings, compares, and changes the difference."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, t.Any] = module.params
        self.enterprise = self.params["edition"] == "enterprise"
        self.passwords: dict[str, str] = {user["name"]: user["password"] or "" for user in self.params["users"]}
        self.passwords[self.params["username"]] = self.params["password"]
        self.wanted = self.read_wanted()
        try:
            self.context = ssl.create_default_context(cadata=self.params["ca_certificate"] or None)
        except ssl.SSLError as exc:
            raise SettingsError(f"ca_certificate: not a certificate in PEM form: {exc}") from exc

    def read_wanted(self) -> Wanted:
        """What the parameters want. Raises SettingsError where they cannot be meant so."""
        for user in self.params["users"]:
            if user["state"] == "present" and len(user["password"] or "") < 8:
                raise SettingsError(f"users: {user['name']!r} is to be present and needs a password of 8 characters or more.")
            if user["roles"] and not self.enterprise:
                raise SettingsError(f"users: {user['name']!r} has roles, which the Community edition does not know.")
            if user["name"] == self.params["username"]:
                raise SettingsError(f"users: {user['name']!r} is the administrator, whose password is the parameter password.")
        for what in ("constraints", "indexes"):
            for item in self.params[what]:
                if item["state"] == "present" and not (item["label"] and item["properties"]):
                    raise SettingsError(f"{what}: {item['name']!r} is to be present and needs label and properties.")
        wanted = Wanted(
            users=[WantedUser(item["name"], frozenset(item["roles"]), item["state"] == "present") for item in self.params["users"]],
            constraints={item["name"]: schema_of(item, UNIQUE) for item in self.params["constraints"]},
            indexes={item["name"]: schema_of(item, item["type"].upper()) for item in self.params["indexes"]},
        )
        bad = invalid_names(wanted)
        if bad:
            raise SettingsError(f"Accepted are letters, digits and _, not: {'; '.join(bad)}.")
        return wanted

    def run(self) -> dict[str, t.Any]:
        members = [",".join(self.params["members"])] if self.enterprise else self.params["members"]
        plans = {}
        # All are read before any is changed: what cannot be done at all is not done by half.
        for member in members:
            plans[member] = self.plan(member)
        if not self.module.check_mode:
            for member, (password, changes) in plans.items():
                with self.driver(member, self.params["username"], password) as driver:
                    for step in changes:
                        self.apply(driver, step)
        changes_of = {member: changes for member, (_password, changes) in plans.items()}
        return {
            "changed": any(changes_of.values()),
            "actions": {member: [str(step) for step in changes] for member, changes in changes_of.items()},
            "diff": [entry for member, changes in changes_of.items() for entry in diff(changes, member)],
        }

    def driver(self, member: str, username: str, password: str) -> neo4j.Driver:
        """A driver of a Community member, or of the cluster. TLS is always verified, names included."""
        addresses = member.split(",")
        options: dict[str, t.Any] = {"resolver": lambda _address: [neo4j.Address.parse(address) for address in addresses]} if self.enterprise else {}
        return neo4j.GraphDatabase.driver(
            f"{'neo4j' if self.enterprise else 'bolt'}://{addresses[0]}",
            auth=(username, password),
            ssl_context=self.context,
            connection_timeout=CONNECT_TIMEOUT,
            connection_acquisition_timeout=RETRY_TIME,
            max_transaction_retry_time=RETRY_TIME,
            max_connection_pool_size=4,
            notifications_min_severity="OFF",
            telemetry_disabled=True,
            **options,
        )

    def opens(self, member: str, username: str, password: str) -> bool:
        """Whether the member lets the user in. Waits for one that does not answer yet, and while logins of others keep it locked."""
        deadline = time.monotonic() + self.params["wait_timeout"]
        while True:
            try:
                with self.driver(member, username, password) as driver:
                    driver.verify_connectivity()
                return True
            except AuthError:
                return False
            except (DriverError, Neo4jError, OSError) as exc:
                if isinstance(exc, Neo4jError) and exc.code == EXPIRED:
                    return True
                locked = isinstance(exc, Neo4jError) and exc.code == RATE_LIMIT
                if not (locked or isinstance(exc, (ServiceUnavailable, OSError)) or (isinstance(exc, Neo4jError) and exc.is_retryable())):
                    raise
                if time.monotonic() >= deadline:
                    what = f"has locked the user {username}, as somebody keeps trying a wrong password" if locked else f"does not answer: {exc}"
                    raise SettingsError(f"{member} {what} (waited {self.params['wait_timeout']} s).") from exc
            time.sleep(POLL)

    # Reading

    def plan(self, member: str) -> tuple[str, list[Step]]:
        """The password by which the administrator gets in now, and what is to be done."""
        username, password, previous = self.params["username"], self.params["password"], self.params["previous_password"]
        first = []
        if not self.opens(member, username, password):
            if not previous or not self.opens(member, username, previous):
                hint = "and neither previous_password" if previous else "and there is no previous_password"
                raise SettingsError(f"{member} does not accept the password of {username}, {hint}.")
            first = [Step(SET_USER, username, "the previous password", "the given password", SET_PASSWORD, system=True)]
            password = previous
        with self.driver(member, username, password) as driver:
            edition = self.ask(driver, COMPONENTS, self.params["database"])[0]["edition"]
            if edition != self.params["edition"]:
                raise SettingsError(f"{member} runs the {edition} edition, wanted is {self.params['edition']}. The image and the edition do not fit.")
            changes = steps(self.wanted, self.seen(member, driver), self.enterprise)
        # The administrator's own password comes last: the steps before it run on the login that is known to work.
        return password, changes + first

    def seen(self, member: str, driver: neo4j.Driver) -> Seen:
        wanted = {user.name: user for user in self.wanted.users}
        users = {}
        for row in self.ask(driver, "SHOW USERS", SYSTEM) if wanted else ():
            user = wanted.get(row["user"])
            if user is not None:
                # A suspended user (Enterprise) is left so: somebody has locked it out, and its password cannot be tested.
                valid = not user.present or bool(row["suspended"]) or self.opens(member, user.name, self.passwords[user.name])
                users[user.name] = User(valid, None if row["roles"] is None else frozenset(row["roles"]), bool(row["passwordChangeRequired"]))
        database = self.params["database"]
        constraints = {row["name"]: schema_seen(row) for row in self.ask(driver, CONSTRAINTS, database)}
        # An index that belongs to a constraint goes with it.
        indexes = {row["name"]: schema_seen(row) for row in self.ask(driver, INDEXES, database) if not row["owningConstraint"]}
        return Seen(users, constraints, indexes)

    @staticmethod
    def ask(driver: neo4j.Driver, statement: str, database: str, **parameters: str) -> list[neo4j.Record]:
        return driver.execute_query(statement, parameters, database_=database).records

    # Changing

    def apply(self, driver: neo4j.Driver, step: Step) -> None:
        parameters = {}
        if step.system:
            parameters["name"] = step.name
            if step.action == SET_USER:
                parameters["password"] = self.passwords[step.name]
        self.ask(driver, step.statement, SYSTEM if step.system else self.params["database"], **parameters)


def schema_of(item: dict[str, t.Any], kind: str) -> Schema | None:
    return Schema(kind, item["label"], tuple(item["properties"])) if item["state"] == "present" else None


def schema_seen(row: t.Any) -> Schema:
    """A constraint or index that is there. One that this module cannot make, as of relationships, is told from all that it can by its kind."""
    kind = row["type"] if row["entityType"] == "NODE" else f"{row['type']} {row['entityType']}"
    return Schema(kind, ":".join(row["labelsOrTypes"] or ()), tuple(row["properties"] or ()))


def main() -> t.NoReturn:
    schema = {
        "name": {"type": "str", "required": True},
        "label": {"type": "str"},
        "properties": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(
        argument_spec={
            "members": {"type": "list", "elements": "str", "required": True},
            "edition": {"type": "str", "choices": ["community", "enterprise"], "default": "community"},
            "ca_certificate": {"type": "str"},
            "username": {"type": "str", "default": "neo4j"},
            "password": {"type": "str", "required": True, "no_log": True},
            "previous_password": {"type": "str", "no_log": True},
            "database": {"type": "str", "default": "neo4j"},
            "wait_timeout": {"type": "int", "default": 90},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "no_log": True},
                    "roles": {"type": "list", "elements": "str", "default": []},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "constraints": {"type": "list", "elements": "dict", "default": [], "options": schema},
            "indexes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**schema, "type": {"type": "str", "choices": ["range", "text"], "default": "range"}},
            },
        },
        supports_check_mode=True,
    )
    if NEO4J_ERROR:
        module.fail_json(msg=missing_required_lib("neo4j"), exception=NEO4J_ERROR)
    try:
        result = Neo4jSettings(module).run()
    except SettingsError as exc:
        module.fail_json(msg=str(exc))
    except Neo4jError as exc:
        module.fail_json(msg=f"Neo4j refused the request ({exc.code}): {exc.message}")
    except (DriverError, OSError) as exc:
        module.fail_json(msg=f"Neo4j did not answer as expected: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
