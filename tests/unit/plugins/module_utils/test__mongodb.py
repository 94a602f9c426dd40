# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed in a replica set, from what is wanted and what its members say; and what is refused."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils import _mongodb as m
from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb_server import ARBITER, DOWN, PRIMARY, SECONDARY
from ansible_collections.novacorrente.platform.plugins.module_utils._steps import diff

NAME = "platform"
A, B, C, D, E, F, G, H = (f"192.0.2.{number}:27017" for number in range(31, 39))


def config_of(*members: m.Member, identity: str = "one", **fields: t.Any) -> dict[str, t.Any]:
    """A configuration as replSetGetConfig tells it."""
    documents = [{"buildIndexes": True, "arbiterOnly": member.arbiter, **m.document_of(member, number)} for number, member in enumerate(members)]
    return {"_id": NAME, "version": 7, "term": 3, "members": documents, "settings": {"replicaSetId": identity, "electionTimeoutMillis": 10000}, **fields}


def members(*hosts: str, **fields: t.Any) -> list[m.Member]:
    return [m.Member(host, **fields) for host in hosts]


def cluster(config: dict[str, t.Any], primary: str = A, down: t.Collection[str] = (), new: t.Collection[str] = (), **states: int) -> dict[str, m.Node]:
    """All members of a set and some new servers. ``states`` by letter where a member is neither primary nor secondary."""
    named = {globals()[letter]: state for letter, state in states.items()}
    hosts = list(m.members_of(config))
    view = {host: DOWN if host in down else named.get(host, PRIMARY if host == primary else SECONDARY) for host in hosts}
    nodes = {
        host: m.Node(host, "does not answer")
        if host in down
        else m.Node(host, initialised=True, config=config, writable=host == primary, term=config["term"], states=view)
        for host in hosts
    }
    return {**nodes, **{host: m.Node(host) for host in new}}


def plan(
    wanted: t.Sequence[m.Member], config: dict[str, t.Any], nodes: dict[str, m.Node] | None = None, wants: dict[str, t.Any] | None = None
) -> list[tuple[str, str]]:
    nodes = nodes or cluster(config, new=[member.host for member in wanted if member.host not in m.members_of(config)])
    primary = m.primary_of(nodes.values())
    assert primary
    return [(step.action, step.name) for step in m.set_steps(wanted, wants or {}, config, nodes, primary)]


THREE = config_of(*members(A, B, C))
FIVE = config_of(*members(A, B, C, D, E))


def test_nothing_is_done_where_nothing_differs():
    assert plan(members(A, B, C), THREE) == []


def test_a_grown_set_gets_its_members_without_votes_before_it_gets_the_votes_one_by_one():
    assert plan(members(A, B, C, D, E), THREE) == [(m.ADD_MEMBER, D), (m.ADD_MEMBER, E), (m.GRANT_VOTE, D), (m.GRANT_VOTE, E)]


def test_a_new_member_cannot_vote_or_be_elected_and_keeps_all_else():
    nodes = cluster(THREE, new=[D])
    wanted = [*members(A, B, C), m.Member(D, priority=2, tags={"zone": "b"})]
    first, second = m.set_steps(wanted, {}, THREE, nodes, nodes[A])
    assert first.config
    assert first.config["version"] == 8
    assert first.config["members"][:3] == THREE["members"]
    assert first.config["members"][3] == {
        "_id": 3,
        "host": D,
        "priority": 0.0,
        "votes": 0,
        "hidden": False,
        "secondaryDelaySecs": 0,
        "tags": {"zone": "b"},
    }
    assert (first.awaits, second.awaits) == ("", D)
    assert second.config and m.members_of(second.config)[D] == wanted[3]


def test_a_member_that_came_without_vote_in_a_killed_run_gets_it():
    config = config_of(*members(A, B, C), m.Member(D, priority=0, votes=0))
    assert plan(members(A, B, C, D), config) == [(m.GRANT_VOTE, D)]


def test_a_shrunk_set_loses_its_members_one_by_one_the_primary_last_and_after_stepping_down():
    nodes = cluster(FIVE, primary=A)
    assert plan(members(B, C, E), FIVE, nodes) == [(m.REMOVE_MEMBER, D), (m.STEP_DOWN, A), (m.REMOVE_MEMBER, A)]


def test_a_dead_member_is_replaced():
    nodes = cluster(THREE, down=[C], new=[D])
    assert plan(members(A, B, D), THREE, nodes) == [(m.REMOVE_MEMBER, C), (m.ADD_MEMBER, D), (m.GRANT_VOTE, D)]


def test_a_live_member_is_replaced_after_its_successor_has_the_data():
    assert plan(members(A, B, D), THREE) == [(m.ADD_MEMBER, D), (m.GRANT_VOTE, D), (m.REMOVE_MEMBER, C)]


def test_an_eighth_voter_is_never_made_in_between():
    seven = config_of(*members(A, B, C, D, E, F, G))
    assert plan(members(A, B, C, D, E, F, H), seven) == [(m.REMOVE_MEMBER, G), (m.ADD_MEMBER, H), (m.GRANT_VOTE, H)]


def test_a_number_is_not_used_again():
    config = config_of(*members(A, B, C))
    config["members"][2]["_id"] = 9
    nodes = cluster(config, new=[D])
    step = m.set_steps(members(A, B, C, D), {}, config, nodes, nodes[A])[0]
    assert step.config and step.config["members"][-1]["_id"] == 10


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({B: {"priority": 5.0}}, [(m.CHANGE_MEMBER, B)]),
        ({A: {"priority": 5.0}}, [(m.CHANGE_MEMBER, A)]),
        ({B: {"tags": {"zone": "b"}}}, [(m.CHANGE_MEMBER, B)]),
        ({B: {"priority": 0.0, "hidden": True}}, [(m.CHANGE_MEMBER, B)]),
        ({B: {"priority": 0.0, "hidden": True, "delay": 3600, "votes": 0}}, [(m.CHANGE_MEMBER, B)]),
        ({A: {"priority": 0.0}}, [(m.STEP_DOWN, A), (m.CHANGE_MEMBER, A)]),
        ({A: {"priority": 0.0}, B: {"priority": 0.0}}, [(m.CHANGE_MEMBER, B), (m.STEP_DOWN, A), (m.CHANGE_MEMBER, A)]),
    ],
)
def test_changes_of_members(change: dict[str, dict[str, t.Any]], steps: list[tuple[str, str]]):
    assert plan([dataclasses.replace(member, **change.get(member.host, {})) for member in members(A, B, C)], THREE) == steps


def test_settings_that_are_not_named_stay():
    nodes = cluster(THREE)
    (step,) = m.set_steps(members(A, B, C), {"chainingAllowed": False}, THREE, nodes, nodes[A])
    assert step.config and step.config["settings"] == {"replicaSetId": "one", "electionTimeoutMillis": 10000, "chainingAllowed": False}
    assert plan(members(A, B, C), THREE, wants={"electionTimeoutMillis": 10000}) == []


def test_an_arbiter_that_somebody_made_is_removed():
    config = config_of(*members(A, B), m.Member(C, priority=0, arbiter=True), *members(D))
    assert plan(members(A, B, D), config, cluster(config, C=ARBITER)) == [(m.REMOVE_MEMBER, C)]


@pytest.mark.parametrize(
    ("wanted", "config", "nodes", "text"),
    [
        # Somebody who stays, or is to come, is silent.
        (members(A, B, C, D), THREE, cluster(THREE, down=[C], new=[D]), f"{C} does not answer"),
        (members(A, B, C, D), THREE, {**cluster(THREE), D: m.Node(D, "does not answer")}, f"{D} does not answer"),
        (members(A, B, C, D), THREE, {**cluster(THREE), D: m.Node(D, "runs with another key file")}, "another key file"),
        # The votes that are left would not be a majority.
        (members(A, B), THREE, cluster(THREE, B=3), "1 of 2 votes"),
        (members(A, B, C), FIVE, cluster(FIVE, B=3, C=5, D=9), "2 of 5 votes at hand, of which it needs 3"),
        # Only arbiters would be left to acknowledge.
        (
            members(A, B, D),
            config_of(*members(A, B), m.Member(C, priority=0, arbiter=True)),
            {**cluster(config_of(*members(A, B), m.Member(C, priority=0, arbiter=True)), B=3, C=ARBITER), D: m.Node(D)},
            "votes at hand",
        ),
        # Nobody could be elected.
        ([m.Member(A, priority=0), *members(B), m.Member(C, priority=0)], THREE, cluster(THREE, B=3), "0 members that may be elected"),
    ],
)
def test_changes_that_are_refused(wanted: list[m.Member], config: dict[str, t.Any], nodes: dict[str, m.Node], text: str):
    with pytest.raises(m.Refusal, match=text.replace("[", r"\[")):
        plan(wanted, config, nodes)


def test_a_silent_member_is_no_reason_where_nothing_is_to_be_changed():
    assert plan(members(A, B, C), THREE, cluster(THREE, down=[C])) == []


def test_a_member_in_initial_sync_does_not_keep_another_from_being_added():
    assert plan(members(A, B, C, D), THREE, cluster(THREE, new=[D], C=5)) == [(m.ADD_MEMBER, D), (m.GRANT_VOTE, D)]


# --- Which set it is ---


def empty(*hosts: str) -> dict[str, m.Node]:
    return {host: m.Node(host) for host in hosts}


def test_empty_servers_that_all_answer_make_a_set():
    assert m.the_set(NAME, [A, B, C], empty(A, B, C)) is None


def test_an_empty_member_joins_the_set_that_another_knows():
    nodes = {**empty(A), B: m.Node(B, initialised=True, config=THREE), C: m.Node(C, "does not answer")}
    assert m.the_set(NAME, [A, B, C], nodes) == THREE


def test_the_newest_configuration_counts():
    newer = {**THREE, "version": 9}
    later_term = {**THREE, "version": 8, "term": 4}
    nodes = {host: m.Node(host, initialised=True, config=config) for host, config in ((A, THREE), (B, later_term), (C, newer))}
    assert m.the_set(NAME, [A, B, C], nodes) == later_term


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ({**empty(A, B), C: m.Node(C, "does not answer: timed out")}, f"{C} does not answer: timed out"),
        ({**empty(A, B), C: m.Node(C, initialised=True)}, "members of a set that no server knows"),
        ({**empty(A, B), C: m.Node(C, initialised=True, config={**THREE, "_id": "other"})}, "belongs to the set 'other'"),
        (
            {**empty(A), B: m.Node(B, initialised=True, config=THREE), C: m.Node(C, initialised=True, config=config_of(*members(C), identity="two"))},
            "different sets",
        ),
    ],
)
def test_a_set_is_neither_made_nor_joined(nodes: dict[str, m.Node], text: str):
    with pytest.raises(m.Refusal, match=text):
        m.the_set(NAME, [A, B, C], nodes)


def test_of_two_primaries_the_one_of_the_newer_term_counts():
    old, new = m.Node(A, writable=True, term=4), m.Node(B, writable=True, term=5)
    assert m.primary_of([new, old, m.Node(C)]) == new
    assert m.primary_of(empty(A).values()) is None


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ([], "at least one"),
        (members(A, A), "named twice"),
        (members(*(f"192.0.2.{n}:27017" for n in range(1, 9))), "8 of which 8 vote"),
        (members(*(f"192.0.2.{n}:27017" for n in range(1, 52)), votes=0, priority=0), "51 of which 0 vote"),
        ([*members(A), m.Member(B, votes=2)], "votes are 0 or 1"),
        ([*members(A), m.Member(B, hidden=True)], "priority 0"),
        ([*members(A), m.Member(B, delay=60)], "priority 0"),
        ([*members(A), m.Member(B, votes=0)], "priority 0"),
        (members(A, priority=0), "none may become primary"),
    ],
)
def test_members_that_no_server_accepts(wanted: list[m.Member], text: str):
    with pytest.raises(m.Refusal, match=text):
        m.check_wanted(wanted)


# --- Properties ---

KINDS = st.sampled_from(
    [{"priority": 1.0}, {"priority": 2.0}, {"priority": 0.0}, {"priority": 0.0, "votes": 0}, {"priority": 0.0, "hidden": True, "votes": 0, "delay": 60}]
)


@st.composite
def sets(draw: st.DrawFn) -> tuple[list[m.Member], dict[str, t.Any], dict[str, m.Node]]:
    """A set with a primary, some of its members down or not healthy, and another one that is wanted."""

    def some(least: int) -> list[m.Member]:
        hosts = draw(st.lists(st.sampled_from([A, B, C, D, E, F, G, H]), min_size=least, max_size=7, unique=True))
        found = [m.Member(host, **draw(KINDS)) for host in hosts]
        return found if any(member.priority for member in found) else [m.Member(hosts[0]), *found[1:]]

    there, wanted = some(1), some(1)
    config = config_of(*there)
    primary = draw(st.sampled_from([member.host for member in there if member.priority]))
    others = [member.host for member in there if member.host != primary]
    down = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    states = {host: draw(st.sampled_from([2, 2, 2, 3, 5])) for host in others}
    nodes = cluster(config, primary=primary, down=down)
    view = {**nodes[primary].states, **{host: state for host, state in states.items() if host not in down}}
    nodes = {host: dataclasses.replace(node, states=view) if not node.problem else node for host, node in nodes.items()}
    nodes.update({member.host: m.Node(member.host) for member in wanted if member.host not in nodes})
    return wanted, config, nodes


def votes(config: t.Mapping[str, t.Any]) -> set[str]:
    return {host for host, member in m.members_of(config).items() if member.votes}


@given(sets())
def test_every_configuration_on_the_way_keeps_the_rules_of_the_server(case: tuple[list[m.Member], dict[str, t.Any], dict[str, m.Node]]):
    wanted, config, nodes = case
    primary = m.primary_of(nodes.values())
    assert primary
    try:
        steps = m.set_steps(wanted, {}, config, nodes, primary)
    except m.Refusal:
        return
    up = {host for host, state in primary.states.items() if state in (PRIMARY, SECONDARY) and not nodes[host].problem}
    leader: str | None = primary.host
    before = config
    for step in steps:
        if step.action == m.STEP_DOWN:
            assert step.name == leader
            leader = None
            continue
        assert step.config
        if step.awaits:
            assert step.awaits in m.members_of(before) or step.awaits in {member.host for member in wanted}
            up.add(step.awaits)
        assert len(votes(before) ^ votes(step.config)) <= 1
        assert len(set(m.members_of(before)) ^ set(m.members_of(step.config))) <= 1
        assert len(votes(step.config)) <= m.MAX_VOTERS
        assert len(votes(step.config) & up) > len(votes(step.config)) // 2
        assert len({item["_id"] for item in step.config["members"]}) == len(step.config["members"])
        kept = m.members_of(step.config)
        assert any(member.priority and host in up for host, member in kept.items())
        if leader:
            assert kept[leader].priority > 0
        before = step.config
    assert m.members_of(before) == {member.host: member for member in wanted}


@given(sets())
def test_the_first_steps_one_after_the_other_arrive(case: tuple[list[m.Member], dict[str, t.Any], dict[str, m.Node]]):
    """As the module goes: one step, another look, a plan anew. A step-down makes any healthy candidate the primary."""
    wanted, config, nodes = case
    for _turn in range(60):
        primary = m.primary_of(nodes.values())
        assert primary
        try:
            steps = m.set_steps(wanted, {}, config, nodes, primary)
        except m.Refusal:
            assert _turn == 0, "refused after something had been changed"
            return
        if not steps:
            break
        step, leader, states = steps[0], primary.host, dict(primary.states)
        if step.action == m.STEP_DOWN:
            candidates = [host for host, member in m.members_of(config).items() if member.priority and host != leader and states[host] == SECONDARY]
            if not candidates:
                return
            states.update({leader: SECONDARY, candidates[0]: PRIMARY})
            leader = candidates[0]
        else:
            assert step.config
            config = dict(step.config)
        hosts = set(m.members_of(config))
        if step.awaits:
            states[step.awaits] = SECONDARY
        view = {host: states.get(host, SECONDARY) for host in hosts}
        nodes = {
            host: node
            if node.problem
            else m.Node(host, initialised=host in hosts, config=config if host in hosts else None, writable=host == leader, states=view)
            for host, node in nodes.items()
        }
    assert m.members_of(config) == {member.host: member for member in wanted}


@given(st.permutations([A, B, C]), st.sets(st.sampled_from([A, B, C]), min_size=1))
def test_a_set_is_never_made_beside_a_silent_server(order: list[str], silent: set[str]):
    nodes = {host: m.Node(host, "does not answer") if host in silent else m.Node(host) for host in order}
    with pytest.raises(m.Refusal):
        m.the_set(NAME, order, nodes)


# --- Roles, users, indexes, profilers ---

READ = [{"resource": {"db": "platform", "collection": "outbox"}, "actions": ["find"]}]
ROLE = m.Role(m.normal_privileges(READ))
API = ("admin", "api")
RIGHTS = frozenset({("platform", "readWrite")})
OUTBOX = ("platform.outbox", "change_id")
UNIQUE = m.index_of({"key": {"change_id": 1}, "unique": True})
WANTED = m.Content({("platform", "reader"): ROLE}, {API: m.User(RIGHTS, True)}, {OUTBOX: UNIQUE}, {(A, "platform"): 1})


def changes(wanted: m.Content, seen: m.Content) -> list[tuple[str, str]]:
    return [(step.action, step.name) for step in m.content_steps(wanted, seen)]


def test_content_that_is_as_wanted_is_left_alone():
    assert changes(WANTED, WANTED) == []


def test_an_empty_set_gets_roles_before_users():
    assert changes(WANTED, m.Content()) == [
        (m.SET_ROLE, "reader@platform"),
        (m.CREATE_USER, "api@admin"),
        (m.CREATE_INDEX, "platform.outbox change_id"),
        (m.SET_PROFILER, f"platform on {A}"),
    ]


def test_what_is_not_named_is_left_alone():
    more = dataclasses.replace(
        WANTED, users={**WANTED.users, ("admin", "other"): m.User(frozenset())}, indexes={**WANTED.indexes, ("platform.outbox", "_id_"): m.Index(())}
    )
    assert changes(WANTED, more) == []


def test_users_go_before_their_roles():
    gone = m.Content({("platform", "reader"): None}, {API: None})
    assert changes(gone, WANTED) == [(m.REMOVE_USER, "api@admin"), (m.REMOVE_ROLE, "reader@platform")]
    assert changes(gone, m.Content()) == []


@pytest.mark.parametrize(
    ("there", "actions"),
    [
        (m.User(RIGHTS, False), [m.SET_PASSWORD]),
        (m.User(frozenset({("admin", "root")}), True), [m.SET_USER_ROLES]),
        (m.User(frozenset(), False), [m.SET_PASSWORD, m.SET_USER_ROLES]),
    ],
)
def test_a_user_that_differs(there: m.User, actions: list[str]):
    assert [action for action, _name in changes(m.Content(users={API: m.User(RIGHTS, True)}), m.Content(users={API: there}))] == actions


def test_an_index_with_another_meaning_is_not_replaced():
    with pytest.raises(m.Refusal, match="Give the new one another name"):
        m.content_steps(WANTED, dataclasses.replace(WANTED, indexes={OUTBOX: m.index_of({"key": {"change_id": 1}})}))


def test_an_index_is_read_back_as_it_was_written():
    assert m.index_of({"v": 2, "key": {"change_id": 1.0}, "name": "change_id", "unique": True, "sparse": False}) == UNIQUE
    assert m.index_of({"key": {"a": 1, "b": -1}}) != m.index_of({"key": {"b": -1, "a": 1}})
    assert str(UNIQUE) == "{change_id: 1} unique=true"


def test_privileges_have_one_spelling():
    one = [{"resource": {"db": "a", "collection": ""}, "actions": ["find", "insert"]}, {"resource": {"cluster": True}, "actions": ["serverStatus"]}]
    other = [one[1], {"resource": {"collection": "", "db": "a"}, "actions": ["insert"]}, {"resource": {"db": "a", "collection": ""}, "actions": ["find"]}]
    assert m.normal_privileges(one) == m.normal_privileges(other)
    assert m.normal_privileges(one) != m.normal_privileges(one[:1])


def test_no_step_shows_a_password():
    steps = m.content_steps(WANTED, dataclasses.replace(WANTED, users={API: m.User(RIGHTS, False)}))
    assert [entry["after"] for entry in diff(steps)] == ["the given password\n"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("abcd ef\ngh\n", ["abcdefgh"]),
        ("- old12345\n- new12345\n", ["old12345", "new12345"]),
        ("- 'old12345'\n", ["old12345"]),
    ],
)
def test_key_files(text: str, keys: list[str]):
    assert m.key_file_keys(text) == keys
