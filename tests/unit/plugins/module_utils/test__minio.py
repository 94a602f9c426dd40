# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written to a MinIO cluster, from what is wanted and what is there."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils import _minio as m
from ansible_collections.novacorrente.platform.plugins.module_utils._steps import Step, diff

READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["arn:aws:s3:::gold/*"]}]}
GOLD = m.Bucket("enabled", m.Lifecycle(noncurrent_days=90, delete_markers=True))
API = m.WantedUser("api", frozenset({"reader"}))
WANTED = m.Wanted({"gold": GOLD}, {"reader": READ}, [API])
THERE = m.Seen({"gold": GOLD}, {"reader": READ}, {"api": m.User(True, frozenset({"reader"}), True)})
EMPTY = m.Seen({}, {}, {})


def names(found: list[Step]) -> list[tuple[str, str]]:
    return [(step.action, step.name) for step in found]


def test_nothing_is_done_where_nothing_differs():
    assert m.steps(WANTED, THERE) == []


def test_an_empty_cluster_gets_everything_in_an_order_in_which_each_step_finds_what_it_needs():
    assert names(m.steps(WANTED, EMPTY)) == [
        (m.CREATE_BUCKET, "gold"),
        (m.SET_VERSIONING, "gold"),
        (m.SET_LIFECYCLE, "gold"),
        (m.SET_POLICY, "reader"),
        (m.SET_USER, "api"),
        (m.SET_USER_POLICIES, "api"),
    ]


def test_things_that_are_not_named_are_left_alone():
    seen = m.Seen({**THERE.buckets, "other": m.Bucket()}, {**THERE.policies, "consoleAdmin": {}}, {**THERE.users, "someone": m.User(True, frozenset())})
    assert m.steps(WANTED, seen) == []


@pytest.mark.parametrize(
    ("wanted", "there", "after"),
    [
        ("enabled", "off", "enabled"),
        ("enabled", "suspended", "enabled"),
        ("off", "enabled", "suspended"),
        ("off", "suspended", None),
        ("off", "off", None),
        ("enabled", "enabled", None),
    ],
)
def test_versioning_can_be_suspended_but_not_undone(wanted: str, there: str, after: str | None):
    found = m.steps(m.Wanted({"b": m.Bucket(wanted)}, {}, []), m.Seen({"b": m.Bucket(there)}, {}, {}))
    assert [step.after for step in found] == ([after] if after else [])


@pytest.mark.parametrize(
    "there",
    [
        m.Lifecycle(),
        m.Lifecycle(noncurrent_days=30, delete_markers=True),
        m.Lifecycle(noncurrent_days=90),
        m.Lifecycle(noncurrent_days=90, delete_markers=True, foreign=1),
        m.Lifecycle(noncurrent_days=90, delete_markers=True, expire_days=1),
    ],
)
def test_a_lifecycle_is_what_is_wanted_and_nothing_else(there: m.Lifecycle):
    seen = dataclasses.replace(THERE, buckets={"gold": m.Bucket("enabled", there)})
    assert names(m.steps(WANTED, seen)) == [(m.SET_LIFECYCLE, "gold")]


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        (m.User(False, frozenset({"reader"})), [(m.SET_USER, "api")]),
        (m.User(True, frozenset({"reader"}), secret_valid=False), [(m.SET_USER, "api")]),
        (m.User(True, frozenset({"reader", "consoleAdmin"}), True), [(m.SET_USER_POLICIES, "api")]),
        (m.User(True, frozenset(), False), [(m.SET_USER, "api"), (m.SET_USER_POLICIES, "api")]),
    ],
)
def test_a_user_is_set_where_it_is_disabled_has_another_key_or_other_policies(account: m.User, expected: list[tuple[str, str]]):
    assert names(m.steps(WANTED, dataclasses.replace(THERE, users={"api": account}))) == expected


def test_users_go_before_their_policies_and_what_is_gone_already_stays_gone():
    wanted = m.Wanted({}, {"old": None}, [m.WantedUser("former", None)])
    assert names(m.steps(wanted, m.Seen({}, {"old": READ}, {"former": m.User(True, frozenset())}))) == [
        (m.REMOVE_USER, "former"),
        (m.REMOVE_POLICY, "old"),
    ]
    assert m.steps(wanted, EMPTY) == []


@pytest.mark.parametrize(
    "document",
    [
        {"Statement": {"Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "arn:aws:s3:::gold/*"}},
        {"Version": "2012-10-17", "Statement": [{**READ["Statement"][0], "Action": ["s3:ListBucket", "s3:GetObject", "s3:GetObject"], "Sid": ""}]},
        {"Statement": [{**READ["Statement"][0], "Condition": {}}]},
    ],
)
def test_a_policy_is_the_same_in_another_spelling(document: dict[str, t.Any]):
    assert m.normal_policy(document) == m.normal_policy(READ)


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Deny"},
        {"Action": ["s3:GetObject"]},
        {"Resource": ["arn:aws:s3:::gold/*", "arn:aws:s3:::silver/*"]},
        {"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}},
        {"NotResource": ["arn:aws:s3:::gold/secret/*"]},
    ],
)
def test_a_policy_that_allows_something_else_differs(change: dict[str, t.Any]):
    other = {"Statement": [{**READ["Statement"][0], **change}]}
    assert names(m.steps(WANTED, dataclasses.replace(THERE, policies={"reader": other}))) == [(m.SET_POLICY, "reader")]


STATEMENTS = st.lists(
    st.fixed_dictionaries(
        {
            "Effect": st.sampled_from(["Allow", "Deny"]),
            "Action": st.lists(st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:*"]), min_size=1),
            "Resource": st.lists(st.sampled_from(["arn:aws:s3:::a/*", "arn:aws:s3:::b"]), min_size=1),
        }
    ),
    max_size=4,
)


@given(STATEMENTS, st.randoms())
def test_the_order_in_a_policy_makes_no_difference(statements: list[dict[str, t.Any]], random: t.Any):
    shuffled = [{key: random.sample(value, len(value)) if isinstance(value, list) else value for key, value in item.items()} for item in statements]
    random.shuffle(shuffled)
    assert m.normal_policy({"Statement": statements}) == m.normal_policy({"Statement": shuffled})
    assert m.normal_policy({"Statement": json.loads(m.normal_policy({"Statement": statements}))}) == m.normal_policy({"Statement": statements})


def test_the_diff_says_what_was_and_what_becomes():
    found = m.steps(WANTED, dataclasses.replace(THERE, buckets={"gold": m.Bucket("enabled", m.Lifecycle(noncurrent_days=30))}))
    assert diff(found) == [
        {
            "before_header": "set_lifecycle gold",
            "after_header": "set_lifecycle gold",
            "before": "noncurrent versions expire after 30 days\n",
            "after": "noncurrent versions expire after 90 days, delete markers without versions are removed\n",
        }
    ]
    assert str(found[0]).startswith("set_lifecycle gold: noncurrent versions expire after 30 days -> ")
    assert str(m.Lifecycle(expire_days=1, foreign=2)) == "current versions expire after 1 days, 2 rules of others"
