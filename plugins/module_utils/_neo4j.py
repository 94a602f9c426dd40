# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, constraints and indexes of a Neo4j server: what is wanted against what is there. Pure, without any I/O.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils import _steps

SET_USER = "set_user"
REMOVE_USER = "remove_user"
GRANT_ROLE = "grant_role"
REVOKE_ROLE = "revoke_role"
CREATE_CONSTRAINT = "create_constraint"
DROP_CONSTRAINT = "drop_constraint"
CREATE_INDEX = "create_index"
DROP_INDEX = "drop_index"

SYSTEM = "system"
SET_PASSWORD = "ALTER USER $name SET PASSWORD $password CHANGE NOT REQUIRED"
# Every user has it, and nobody can lose it (Operations manual, "Manage roles").
PUBLIC = "PUBLIC"
UNIQUE = "UNIQUENESS"
INDEX_TYPES = ("RANGE", "TEXT")
# What may stand between backticks in a statement. Cypher has no parameters for labels, properties and names of the schema.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


@dataclasses.dataclass(frozen=True)
class Schema:
    """A constraint or an index on the nodes of a label: ``kind`` is UNIQUENESS, RANGE or TEXT."""

    kind: str
    label: str
    properties: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind.lower()} of {self.label}({', '.join(self.properties)})"


@dataclasses.dataclass(frozen=True)
class User:
    """A user as it is there. ``valid`` says whether the wanted password is its password. ``roles`` is None in Community, which has none."""

    valid: bool
    roles: frozenset[str] | None = None
    change_required: bool = False


@dataclasses.dataclass(frozen=True)
class WantedUser:
    """A user as it is wanted; one with ``present`` false must not exist."""

    name: str
    roles: frozenset[str] = frozenset()
    present: bool = True


@dataclasses.dataclass(frozen=True)
class Wanted:
    """By name; None for a constraint or an index stands for one that must not exist."""

    users: t.Sequence[WantedUser] = ()
    constraints: t.Mapping[str, Schema | None] = dataclasses.field(default_factory=dict)
    indexes: t.Mapping[str, Schema | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is there, by name, schema of other kinds included."""

    users: t.Mapping[str, User] = dataclasses.field(default_factory=dict)
    constraints: t.Mapping[str, Schema] = dataclasses.field(default_factory=dict)
    indexes: t.Mapping[str, Schema] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Step(_steps.Step):
    """A change that ``statement`` makes, run in the database ``system`` where ``system`` is set.

    The parameters of the statement are the name of the user, and for set_user the password.
    """

    statement: str
    system: bool = False


def invalid_names(wanted: Wanted) -> list[str]:
    """Names that cannot stand in a statement, each with where it is. Empty where all are good."""
    found = []
    for user in wanted.users:
        found += [f"user {name!r}" for name in [user.name] if not NAME.fullmatch(name)]
        found += [f"role {name!r} of user {user.name}" for name in sorted(user.roles) if not NAME.fullmatch(name)]
    for what, schemas in (("constraint", wanted.constraints), ("index", wanted.indexes)):
        for name, schema in schemas.items():
            words = [name, *([schema.label, *schema.properties] if schema else [])]
            found += [f"{word!r} in {what} {name}" for word in words if not NAME.fullmatch(word)]
    return found


def steps(wanted: Wanted, seen: Seen, enterprise: bool) -> list[Step]:
    """The changes that make ``seen`` what is ``wanted``. Things not named are left alone.

    A constraint or index that is there under another name counts: the server would refuse a second one like it.
    """
    return [
        *_schema_steps(wanted.constraints, seen.constraints, "CONSTRAINT", CREATE_CONSTRAINT, DROP_CONSTRAINT),
        *_schema_steps(wanted.indexes, seen.indexes, "INDEX", CREATE_INDEX, DROP_INDEX),
        *_user_steps(wanted.users, seen.users, enterprise),
    ]


def _schema_steps(wanted: t.Mapping[str, Schema | None], seen: t.Mapping[str, Schema], word: str, create: str, drop: str) -> list[Step]:
    dropped = {name: there for name, there in seen.items() if name in wanted and wanted[name] != there}
    found = [Step(drop, name, str(there), "absent", f"DROP {word} `{name}`") for name, there in dropped.items()]
    kept = {there for name, there in seen.items() if name not in dropped}
    for name, schema in wanted.items():
        if schema is not None and schema not in kept:
            found.append(Step(create, name, "absent", str(schema), _create(word, name, schema)))
            kept.add(schema)
    return found


def _create(word: str, name: str, schema: Schema) -> str:
    properties = ", ".join(f"n.`{item}`" for item in schema.properties)
    if word == "CONSTRAINT":
        return f"CREATE CONSTRAINT `{name}` FOR (n:`{schema.label}`) REQUIRE ({properties}) IS UNIQUE"
    return f"CREATE {schema.kind} INDEX `{name}` FOR (n:`{schema.label}`) ON ({properties})"


def _user_steps(wanted: t.Sequence[WantedUser], seen: t.Mapping[str, User], enterprise: bool) -> list[Step]:
    found = []
    for user in wanted:
        there = seen.get(user.name)
        if not user.present:
            if there is not None:
                found.append(Step(REMOVE_USER, user.name, "present", "absent", "DROP USER $name", system=True))
            continue
        if there is None:
            statement = "CREATE USER $name SET PASSWORD $password CHANGE NOT REQUIRED"
            found.append(Step(SET_USER, user.name, "absent", "present", statement, system=True))
        elif not there.valid:
            found.append(Step(SET_USER, user.name, "another password", "the given password", SET_PASSWORD, system=True))
        elif there.change_required:
            # The server refuses to set the password that a user has.
            statement = "ALTER USER $name SET PASSWORD CHANGE NOT REQUIRED"
            found.append(Step(SET_USER, user.name, "must change its password", "need not", statement, system=True))
        if not enterprise:
            continue
        roles = ((there.roles if there else None) or frozenset()) - {PUBLIC}
        for role in sorted(user.roles - roles):
            found.append(Step(GRANT_ROLE, user.name, f"without {role}", role, f"GRANT ROLE `{role}` TO $name", system=True))
        for role in sorted(roles - user.roles):
            found.append(Step(REVOKE_ROLE, user.name, role, f"without {role}", f"REVOKE ROLE `{role}` FROM $name", system=True))
    return found
