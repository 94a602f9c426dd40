# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed at a Neo4j server, and what is left alone."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils import _neo4j as core
from ansible_collections.novacorrente.platform.plugins.module_utils._neo4j import UNIQUE, Schema, Seen, User, Wanted, WantedUser

ID = Schema(UNIQUE, "Insight", ("id",))
TITLE = Schema("TEXT", "Insight", ("title",))
TABLE = Schema("RANGE", "Insight", ("table",))


def words(wanted: Wanted, seen: Seen, enterprise: bool = False) -> list[str]:
    return [str(step) for step in core.steps(wanted, seen, enterprise)]


def test_a_new_server_gets_everything_schema_first() -> None:
    wanted = Wanted([WantedUser("api"), WantedUser("former", present=False)], {"insight_id": ID}, {"by_title": TITLE, "old": None})
    steps = core.steps(wanted, Seen(), False)
    assert [(step.action, step.name, step.system) for step in steps] == [
        (core.CREATE_CONSTRAINT, "insight_id", False),
        (core.CREATE_INDEX, "by_title", False),
        (core.SET_USER, "api", True),
    ]
    assert steps[0].statement == "CREATE CONSTRAINT `insight_id` FOR (n:`Insight`) REQUIRE (n.`id`) IS UNIQUE"
    assert steps[1].statement == "CREATE TEXT INDEX `by_title` FOR (n:`Insight`) ON (n.`title`)"


CASES: list[tuple[str, Wanted, Seen, list[str]]] = [
    ("same", Wanted([WantedUser("api")], {"c": ID}, {"i": TABLE}), Seen({"api": User(True)}, {"c": ID}, {"i": TABLE}), []),
    ("other name", Wanted(constraints={"c": ID}), Seen(constraints={"made_by_hand": ID}), []),
    ("not named", Wanted(), Seen({"x": User(False)}, {"c": ID}, {"i": TABLE}), []),
    (
        "other shape",
        Wanted(constraints={"c": ID}),
        Seen(constraints={"c": Schema(UNIQUE, "Insight", ("title",))}),
        ["drop_constraint c: uniqueness of Insight(title) -> absent", "create_constraint c: absent -> uniqueness of Insight(id)"],
    ),
    ("other type", Wanted(indexes={"i": TABLE}), Seen(indexes={"i": Schema("TEXT", "Insight", ("table",))}), ["drop_index i", "create_index i"]),
    ("to go", Wanted(constraints={"c": None}, indexes={"i": None}), Seen(constraints={"c": ID}, indexes={"i": TABLE}), ["drop_constraint c", "drop_index i"]),
    ("gone", Wanted(constraints={"c": None}, indexes={"i": None}), Seen(), []),
    ("password", Wanted([WantedUser("api")]), Seen({"api": User(False)}), ["set_user api: another password -> the given password"]),
    ("expired", Wanted([WantedUser("api")]), Seen({"api": User(True, change_required=True)}), ["set_user api: must change its password -> need not"]),
    ("user to go", Wanted([WantedUser("x", present=False)]), Seen({"x": User(False)}), ["remove_user x"]),
    ("user gone", Wanted([WantedUser("x", present=False)]), Seen(), []),
    ("roles in Community", Wanted([WantedUser("api", frozenset({"reader"}))]), Seen({"api": User(True)}), []),
]


@pytest.mark.parametrize(("wanted", "seen", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_changes(wanted: Wanted, seen: Seen, expected: list[str]) -> None:
    found = words(wanted, seen)
    assert len(found) == len(expected) and all(one.startswith(start) for one, start in zip(found, expected, strict=True)), found


def test_roles_of_enterprise_are_granted_and_revoked_and_public_is_left_alone() -> None:
    wanted = Wanted([WantedUser("api", frozenset({"reader"})), WantedUser("new", frozenset({"architect"}))])
    seen = Seen({"api": User(True, frozenset({"admin", core.PUBLIC}))})
    steps = core.steps(wanted, seen, True)
    assert [step.statement for step in steps] == [
        "GRANT ROLE `reader` TO $name",
        "REVOKE ROLE `admin` FROM $name",
        "CREATE USER $name SET PASSWORD $password CHANGE NOT REQUIRED",
        "GRANT ROLE `architect` TO $name",
    ]


@pytest.mark.parametrize("name", ["", "a`b", "a b", "1a", "a-b", "`", "a" * 64, "á"])
def test_a_name_that_could_end_its_quotes_is_refused(name: str) -> None:
    for wanted in (
        Wanted([WantedUser(name)]),
        Wanted([WantedUser("a", frozenset({name}))]),
        Wanted(constraints={name: None}),
        Wanted(constraints={"c": Schema(UNIQUE, name, ("id",))}),
        Wanted(indexes={"c": Schema("RANGE", "Insight", ("id", name))}),
    ):
        assert len(core.invalid_names(wanted)) == 1
    assert core.invalid_names(Wanted([WantedUser("api", frozenset({"reader"}))], {"c": ID}, {"i": TABLE})) == []


NAMES = st.sampled_from(["a", "b", "c"])
SCHEMAS = st.builds(Schema, st.just("RANGE"), st.sampled_from(["X", "Y"]), st.sampled_from([("id",), ("id", "at")]))
ROLES = st.frozensets(st.sampled_from(["reader", "editor", "admin"]))


def after(seen: Seen, steps: t.Sequence[core.Step], wanted: Wanted) -> Seen:
    """A server that does what the steps say."""
    users, constraints, indexes = dict(seen.users), dict(seen.constraints), dict(seen.indexes)
    for step in steps:
        if step.action == core.SET_USER:
            users[step.name] = User(True, users[step.name].roles if step.name in users else frozenset({core.PUBLIC}))
        elif step.action == core.REMOVE_USER:
            del users[step.name]
        elif step.action == core.GRANT_ROLE:
            users[step.name] = User(True, (users[step.name].roles or frozenset()) | {step.after})
        elif step.action == core.REVOKE_ROLE:
            users[step.name] = User(True, (users[step.name].roles or frozenset()) - {step.before})
        else:
            made, there = (wanted.constraints, constraints) if "constraint" in step.action else (wanted.indexes, indexes)
            if step.action.startswith("drop"):
                del there[step.name]
            else:
                schema = made[step.name]
                assert step.name not in there and schema is not None and schema not in there.values(), "a server would refuse this"
                there[step.name] = schema
    return Seen(users, constraints, indexes)


@given(
    users=st.lists(st.builds(WantedUser, NAMES, ROLES, st.booleans()), unique_by=lambda user: user.name),
    indexes=st.dictionaries(NAMES, st.none() | SCHEMAS),
    there=st.dictionaries(NAMES, st.builds(User, st.booleans(), ROLES, st.booleans())),
    # A server has no two indexes of the same schema.
    schema=st.dictionaries(NAMES, SCHEMAS).filter(lambda found: len(set(found.values())) == len(found)),
    enterprise=st.booleans(),
)
def test_a_second_run_has_nothing_to_do(users: t.Any, indexes: t.Any, there: t.Any, schema: t.Any, enterprise: bool) -> None:
    wanted, seen = Wanted(users, {}, indexes), Seen(there, {}, schema)
    done = after(seen, core.steps(wanted, seen, enterprise), wanted)
    assert core.steps(wanted, done, enterprise) == []
