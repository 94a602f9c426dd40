# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets, policies and users of a MinIO cluster: what is wanted against what is there. Pure, without any I/O.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._steps import Step

CREATE_BUCKET = "create_bucket"
SET_VERSIONING = "set_versioning"
SET_LIFECYCLE = "set_lifecycle"
SET_POLICY = "set_policy"
REMOVE_POLICY = "remove_policy"
SET_USER = "set_user"
SET_USER_POLICIES = "set_user_policies"
REMOVE_USER = "remove_user"

RULE_ID = "platform"


@dataclasses.dataclass(frozen=True)
class Lifecycle:
    """The part of a lifecycle that this collection sets. ``foreign`` counts the rules, or parts of them, that it does not know."""

    expire_days: int | None = None
    noncurrent_days: int | None = None
    delete_markers: bool = False
    foreign: int = 0

    def __str__(self) -> str:
        words = []
        if self.expire_days:
            words.append(f"current versions expire after {self.expire_days} days")
        if self.noncurrent_days:
            words.append(f"noncurrent versions expire after {self.noncurrent_days} days")
        if self.delete_markers:
            words.append("delete markers without versions are removed")
        if self.foreign:
            words.append(f"{self.foreign} rules of others")
        return ", ".join(words) or "none"


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket as it is wanted, or as it is there. ``versioning`` is enabled, suspended or off."""

    versioning: str = "off"
    lifecycle: Lifecycle = Lifecycle()


@dataclasses.dataclass(frozen=True)
class User:
    """A user as it is there. ``secret_valid`` says whether the wanted secret key opens the door."""

    enabled: bool
    policies: frozenset[str]
    secret_valid: bool = False


@dataclasses.dataclass(frozen=True)
class WantedUser:
    """A user as it is wanted; None for ``policies`` stands for a user that must not exist."""

    access_key: str
    policies: frozenset[str] | None


@dataclasses.dataclass(frozen=True)
class Wanted:
    buckets: t.Mapping[str, Bucket]
    policies: t.Mapping[str, t.Mapping[str, t.Any] | None]
    users: t.Sequence[WantedUser]


@dataclasses.dataclass(frozen=True)
class Seen:
    buckets: t.Mapping[str, Bucket]
    policies: t.Mapping[str, t.Mapping[str, t.Any]]
    users: t.Mapping[str, User]


def normal_policy(document: t.Mapping[str, t.Any]) -> str:
    """A policy in one spelling, so that order and a list of one element make no difference. MinIO's answers drop empty fields."""

    def listed(value: t.Any) -> list[str]:
        return sorted({str(v) for v in (value if isinstance(value, (list, tuple)) else [value])})

    def condition(value: t.Any) -> t.Any:
        return {operator: {key: listed(values) for key, values in keys.items()} for operator, keys in (value or {}).items()}

    statements = document.get("Statement") or []
    if isinstance(statements, t.Mapping):
        statements = [statements]
    found = []
    for statement in statements:
        entry = {"Effect": statement.get("Effect", "Allow")}
        for key in ("Action", "NotAction", "Resource", "NotResource"):
            if statement.get(key):
                entry[key] = listed(statement[key])
        if statement.get("Condition"):
            entry["Condition"] = condition(statement["Condition"])
        found.append(json.dumps(entry, sort_keys=True))
    return json.dumps([json.loads(entry) for entry in sorted(found)], indent=1, sort_keys=True)


def steps(wanted: Wanted, seen: Seen) -> list[Step]:
    """The changes that make ``seen`` what is ``wanted``, in an order in which each finds what it needs. Things not named are left alone."""
    found: list[Step] = []
    for name, bucket in wanted.buckets.items():
        there = seen.buckets.get(name)
        if there is None:
            found.append(Step(CREATE_BUCKET, name, "absent", "present"))
            there = Bucket()
        # A bucket that was never versioned and one whose versioning is suspended store no new versions: neither is to be changed for the other.
        if bucket.versioning != there.versioning and {bucket.versioning, there.versioning} != {"off", "suspended"}:
            target = "suspended" if bucket.versioning == "off" else bucket.versioning
            found.append(Step(SET_VERSIONING, name, there.versioning, target))
        if bucket.lifecycle != there.lifecycle:
            found.append(Step(SET_LIFECYCLE, name, str(there.lifecycle), str(bucket.lifecycle)))
    removed_policies = []
    for name, document in wanted.policies.items():
        current = seen.policies.get(name)
        if document is None:
            if current is not None:
                removed_policies.append(Step(REMOVE_POLICY, name, "present", "absent"))
        elif current is None or normal_policy(current) != normal_policy(document):
            found.append(Step(SET_POLICY, name, "absent" if current is None else normal_policy(current), normal_policy(document)))
    for user in wanted.users:
        account = seen.users.get(user.access_key)
        if user.policies is None:
            if account is not None:
                found.append(Step(REMOVE_USER, user.access_key, "present", "absent"))
            continue
        if account is None:
            found.append(Step(SET_USER, user.access_key, "absent", "present"))
        elif not account.enabled:
            found.append(Step(SET_USER, user.access_key, "disabled", "enabled"))
        elif not account.secret_valid:
            found.append(Step(SET_USER, user.access_key, "another secret key", "the given secret key"))
        policies = account.policies if account else frozenset()
        if policies != user.policies:
            found.append(Step(SET_USER_POLICIES, user.access_key, _names(policies), _names(user.policies)))
    return found + removed_policies


def _names(names: t.Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
