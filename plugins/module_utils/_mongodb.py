# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica set, its roles, users and indexes: what is wanted against what is there. Pure, without any I/O.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils import _steps
from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb_server import ARBITER, PRIMARY, SECONDARY

INITIATE = "initiate"
ADD_MEMBER = "add_member"
GRANT_VOTE = "grant_vote"
CHANGE_MEMBER = "change_member"
REMOVE_MEMBER = "remove_member"
STEP_DOWN = "step_down"
CHANGE_SETTINGS = "change_settings"
SET_ROLE = "set_role"
REMOVE_ROLE = "remove_role"
CREATE_USER = "create_user"
SET_PASSWORD = "set_password"
SET_USER_ROLES = "set_user_roles"
REMOVE_USER = "remove_user"
CREATE_INDEX = "create_index"
REMOVE_INDEX = "remove_index"
SET_PROFILER = "set_profiler"

# https://www.mongodb.com/docs/manual/reference/limits/#replica-sets
MAX_MEMBERS, MAX_VOTERS = 50, 7
# What an index is compared by. https://www.mongodb.com/docs/manual/reference/command/createIndexes/
INDEX_OPTIONS = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")

Document = t.Mapping[str, t.Any]


class Refusal(Exception):
    """A change that would not be safe, or cannot be made; the text is for the user."""


# --- The set -------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of the set. ``delay`` in seconds, ``host`` as address:port."""

    host: str
    priority: float = 1.0
    votes: int = 1
    hidden: bool = False
    delay: int = 0
    tags: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    arbiter: bool = False

    def __str__(self) -> str:
        words = [f"priority {self.priority:g}", f"votes {self.votes}"]
        words += ["hidden"] if self.hidden else []
        words += [f"delay {self.delay} s"] if self.delay else []
        words += ["arbiter"] if self.arbiter else []
        words += [f"{key}={value}" for key, value in sorted(self.tags.items())]
        return ", ".join(words)


@dataclasses.dataclass(frozen=True)
class Node:
    """What one server said when it was asked directly.

    ``problem`` says why it could not be asked. ``config`` is its copy of the set's configuration; ``initialised`` is also true for a server that once had
    one, such as a member that was removed. ``states`` are those of all members as this one sees them (DOWN for those that it cannot reach).
    """

    host: str
    problem: str = ""
    initialised: bool = False
    config: Document | None = None
    writable: bool = False
    term: int = -1
    states: t.Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Step(_steps.Step):
    """A change. ``config`` is the configuration that it installs, ``awaits`` the member that must have caught up before it."""

    config: Document | None = dataclasses.field(default=None, compare=False)
    awaits: str = dataclasses.field(default="", compare=False)


def member_of(document: Document) -> Member:
    """A member as a configuration has it."""
    return Member(
        host=str(document["host"]),
        priority=float(document.get("priority", 1)),
        votes=int(document.get("votes", 1)),
        hidden=bool(document.get("hidden", False)),
        delay=int(document.get("secondaryDelaySecs", 0)),
        tags=dict(document.get("tags") or {}),
        arbiter=bool(document.get("arbiterOnly", False)),
    )


def members_of(config: Document) -> dict[str, Member]:
    return {member.host: member for member in map(member_of, config["members"])}


def document_of(member: Member, number: int) -> dict[str, t.Any]:
    """A member as a configuration wants it. https://www.mongodb.com/docs/manual/reference/replica-configuration/"""
    return {
        "_id": number,
        "host": member.host,
        "priority": member.priority,
        "votes": member.votes,
        "hidden": member.hidden,
        "secondaryDelaySecs": member.delay,
        "tags": dict(member.tags),
    }


def check_wanted(members: t.Sequence[Member]) -> None:
    """What no server accepts, said before one is asked. Raises Refusal."""
    voters = [member for member in members if member.votes]
    hosts = [member.host for member in members]
    if not members:
        raise Refusal("members: the set needs at least one.")
    if len(set(hosts)) != len(hosts):
        raise Refusal("members: a host is named twice.")
    if len(members) > MAX_MEMBERS or len(voters) > MAX_VOTERS:
        raise Refusal(f"members: {len(members)} of which {len(voters)} vote; a set has at most {MAX_MEMBERS} members and {MAX_VOTERS} that vote.")
    for member in members:
        if member.votes not in (0, 1) or not 0 <= member.priority <= 1000 or member.delay < 0:
            raise Refusal(f"members: {member.host} has {member}; votes are 0 or 1, a priority is 0 to 1000, a delay 0 or more.")
        if member.priority and (member.hidden or member.delay or not member.votes):
            raise Refusal(f"members: {member.host} has {member}; a member that is hidden, delayed or without vote has priority 0.")
    if not any(member.priority for member in members):
        raise Refusal("members: none may become primary; at least one needs a priority above 0.")


def the_set(name: str, wanted: t.Iterable[str], nodes: t.Mapping[str, Node]) -> Document | None:
    """The newest configuration of the one set that the servers belong to; None where all of them answer and none was ever part of a set.

    Raises Refusal where a set must neither be made nor joined: an empty member beside silent ones may be one of theirs.
    """
    known = [node for node in nodes.values() if node.config]
    for node in known:
        if node.config and node.config["_id"] != name:
            raise Refusal(f"{node.host} belongs to the set {node.config['_id']!r} and not to {name!r}.")
    identities = {str((node.config or {}).get("settings", {}).get("replicaSetId")) for node in known}
    if len(identities) > 1:
        listed = "; ".join(f"{node.host}: {(node.config or {}).get('settings', {}).get('replicaSetId')}" for node in known)
        raise Refusal(f"The servers belong to different sets of the name {name!r} ({listed}); which one is right is not for a program to say.")
    if known:
        return max((node.config for node in known if node.config), key=lambda config: (config.get("term", -1), config["version"]))
    silent = [nodes[host] for host in wanted if nodes[host].problem]
    if silent:
        raise Refusal(
            "No server that answers has a configuration, and a set is only made when all of them answer: "
            + "; ".join(f"{node.host} {node.problem}" for node in silent)
        )
    former = [host for host in wanted if nodes[host].initialised]
    if former:
        raise Refusal(f"{', '.join(former)} were members of a set that no server knows any more; a new one is not made over their data.")
    return None


def first_config(name: str, members: t.Sequence[Member], settings: Document) -> dict[str, t.Any]:
    """What replSetInitiate gets."""
    return {"_id": name, "version": 1, "members": [document_of(member, number) for number, member in enumerate(members)], "settings": dict(settings)}


def primary_of(nodes: t.Iterable[Node]) -> Node | None:
    """The server that takes writes. Of two, which there may be for a moment, the one of the newer term."""
    writable = [node for node in nodes if node.writable]
    return max(writable, key=lambda node: node.term) if writable else None


def set_steps(wanted: t.Sequence[Member], settings: Document, config: Document, nodes: t.Mapping[str, Node], primary: Node) -> list[Step]:
    """The changes that make the set what is wanted, each of which leaves a set that can elect and take majority writes. Empty where nothing differs.

    Only the first is for use: its configuration follows the present one. The rest says what comes, and is planned again after each step.
    A member comes without vote and gets it once it has caught up; one vote changes at a time; the primary goes last and steps down before.
    https://www.mongodb.com/docs/manual/tutorial/expand-replica-set/ and .../reference/command/replSetReconfig/. Raises Refusal.
    """
    return _Plan(wanted, settings, config, nodes, primary).steps()


class _Plan:
    """Builds the steps on a copy of the configuration, and checks each configuration on the way."""

    def __init__(self, wanted: t.Sequence[Member], settings: Document, config: Document, nodes: t.Mapping[str, Node], primary: Node) -> None:
        self.wanted = {member.host: member for member in wanted}
        self.settings = settings
        self.config = config
        self.now = members_of(config)
        self.nodes = nodes
        self.primary = primary
        self.numbers = {str(item["host"]): int(item["_id"]) for item in config["members"]}
        self.up = {host for host in self.now if not nodes[host].problem and primary.states.get(host) in (PRIMARY, SECONDARY, ARBITER)}
        self.found: list[Step] = []

    def steps(self) -> list[Step]:
        surplus = [host for host in self.now if host not in self.wanted or self.now[host].arbiter]
        missing = [member for host, member in self.wanted.items() if host not in self.now]
        changed = [member for host, member in self.wanted.items() if host in self.now and host not in surplus and self.now[host] != member]
        if not (surplus or missing or changed or self.settings_differ()):
            return []
        self.refuse_unless_safe()

        dead = [host for host in surplus if self.nodes[host].problem]
        gaining = [member for member in missing if member.votes] + [member for member in changed if member.votes > self.now[member.host].votes]
        losing = [member for member in changed if member not in gaining]
        leaving = [host for host in surplus if host not in dead]
        # The primary last: then nobody who is to go can be elected in its place.
        leaving.sort(key=lambda host: host == self.primary.host)
        losing.sort(key=lambda member: member.host == self.primary.host)
        voters = sum(member.votes for member in self.now.values()) - sum(self.now[host].votes for host in dead)
        tight = voters + len(gaining) > MAX_VOTERS or len(self.now) - len(dead) + len(missing) > MAX_MEMBERS

        for host in dead:
            self.remove(host)
        if tight:
            self.shrink(leaving, losing)
        for member in missing:
            self.install(ADD_MEMBER, dataclasses.replace(member, votes=0, priority=0.0), "absent")
        for member in gaining:
            # Votes may only be counted on a member that has the data.
            self.install(GRANT_VOTE, member, str(self.now[member.host]), awaits=member.host)
        if not tight:
            self.shrink(leaving, losing)
        if self.settings_differ():
            there = self.config.get("settings", {})
            before = ", ".join(f"{key}={there.get(key)}" for key in sorted(self.settings))
            self.add(Step(CHANGE_SETTINGS, str(self.config["_id"]), before, ", ".join(f"{key}={self.settings[key]}" for key in sorted(self.settings))))
        return self.found

    def settings_differ(self) -> bool:
        there = self.config.get("settings", {})
        return any(there.get(key) != value for key, value in self.settings.items())

    def refuse_unless_safe(self) -> None:
        silent = [self.nodes[host] for host in self.wanted if self.nodes[host].problem]
        if silent:
            said = "; ".join(f"{node.host} {node.problem}" for node in silent)
            raise Refusal(f"The set is not changed while a member that stays, or is to come, cannot be asked: {said}")
        self.check()

    def check(self) -> None:
        """Whether the configuration at hand leaves a majority, of votes and of data, and somebody to elect. Raises Refusal."""
        voters = [member for member in self.now.values() if member.votes]
        majority = len(voters) // 2 + 1
        up = [member for member in voters if member.host in self.up]
        data = [member for member in voters if not member.arbiter]
        enough = len(up) >= majority and len([member for member in up if not member.arbiter]) >= min(majority, len(data))
        if enough and any(member.priority for member in up):
            return
        after = f"After {self.found[-1].action} {self.found[-1].name} the set" if self.found else "The set"
        down = sorted(member.host for member in voters if member.host not in self.up)
        raise Refusal(
            f"{after} would have {len(up)} of {len(voters)} votes at hand, of which it needs {majority}, "
            f"and {sum(bool(member.priority) for member in up)} members that may be elected; nothing was changed. Not healthy: {', '.join(down) or 'none'}."
        )

    def shrink(self, leaving: t.Sequence[str], losing: t.Sequence[Member]) -> None:
        for host in [host for host in leaving if host != self.primary.host]:
            self.remove(host)
        for member in losing:
            if member.host == self.primary.host and not member.priority:
                self.step_down()
            self.install(CHANGE_MEMBER, member, str(self.now[member.host]))
        if self.primary.host in leaving:
            self.step_down()
            self.remove(self.primary.host)

    def step_down(self) -> None:
        self.found.append(Step(STEP_DOWN, self.primary.host, "PRIMARY", "SECONDARY"))

    def remove(self, host: str) -> None:
        member = self.now.pop(host)
        self.add(Step(REMOVE_MEMBER, host, str(member), "absent"))

    def install(self, action: str, member: Member, before: str, awaits: str = "") -> None:
        if member.host not in self.numbers:
            # A number is not used again as long as there are others, up to 255.
            taken = self.numbers.values()
            self.numbers[member.host] = next(number for number in [*range(max(taken) + 1, 256), *range(256)] if number not in taken)
        self.now[member.host] = member
        if awaits:
            self.up.add(awaits)
        self.add(Step(action, member.host, before, str(member), awaits=awaits))

    def add(self, step: Step) -> None:
        originals = {str(item["host"]): item for item in self.config["members"]}
        # What nobody here knows of a member (buildIndexes, horizons) stays as it is.
        members = [{**originals.get(host, {}), **document_of(member, self.numbers[host])} for host, member in self.now.items()]
        config = {**self.config, "version": self.config["version"] + 1, "members": members}
        if step.action == CHANGE_SETTINGS:
            config["settings"] = {**self.config.get("settings", {}), **self.settings}
        self.found.append(dataclasses.replace(step, config=config))
        self.check()


# --- Roles, users, indexes, profilers ------------------------------------------------------------------------------------------------

Name = t.Tuple[str, str]  # database, name


@dataclasses.dataclass(frozen=True)
class Role:
    """A custom role: privileges in one spelling (normal_privileges), and the roles that it inherits as (database, name)."""

    privileges: str
    roles: frozenset[Name] = frozenset()

    def __str__(self) -> str:
        return f"privileges {self.privileges}, roles {names(self.roles)}"


@dataclasses.dataclass(frozen=True)
class User:
    """A user as it is there. ``password_valid`` says whether the wanted password opens the door."""

    roles: frozenset[Name]
    password_valid: bool = False


@dataclasses.dataclass(frozen=True)
class Index:
    """An index; ``options`` holds those of INDEX_OPTIONS that are set."""

    keys: tuple[tuple[str, t.Any], ...]
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        words = [f"{field}: {direction}" for field, direction in self.keys]
        return "{" + ", ".join(words) + "}" + "".join(f" {key}={value}" for key, value in self.options)


@dataclasses.dataclass(frozen=True)
class Content:
    """What belongs to the set as a whole, by (database, name) or (database.collection, index name); what is None must not exist.

    ``profilers`` are the levels by (host, database).
    """

    roles: t.Mapping[Name, Role | None] = dataclasses.field(default_factory=dict)
    users: t.Mapping[Name, User | None] = dataclasses.field(default_factory=dict)
    indexes: t.Mapping[Name, Index | None] = dataclasses.field(default_factory=dict)
    profilers: t.Mapping[Name, int] = dataclasses.field(default_factory=dict)


def normal_privileges(privileges: t.Iterable[Document]) -> str:
    """Privileges in one spelling: order and repetition make no difference."""
    merged: dict[str, set[str]] = {}
    for privilege in privileges:
        merged.setdefault(json.dumps(dict(privilege["resource"]), sort_keys=True), set()).update(privilege["actions"])
    return json.dumps([{"resource": json.loads(resource), "actions": sorted(actions)} for resource, actions in sorted(merged.items())], sort_keys=True)


def index_of(document: Document) -> Index:
    """An index as listIndexes tells it, or as it is written."""
    keys = tuple((str(field), int(value) if isinstance(value, (int, float)) else str(value)) for field, value in document["key"].items())
    options = tuple((name, json.dumps(document[name], sort_keys=True, default=str)) for name in INDEX_OPTIONS if document.get(name) not in (None, False))
    return Index(keys, options)


def names(pairs: t.Iterable[Name]) -> str:
    return ", ".join(sorted(f"{name}@{database}" for database, name in pairs)) or "none"


def content_steps(wanted: Content, seen: Content) -> list[Step]:
    """The changes that make ``seen`` what is ``wanted``, in an order in which each finds what it needs. Things not named are left alone.

    Raises Refusal for an index that exists with another meaning: between its removal and its return it would not do its work.
    """
    found: list[Step] = []
    removed: list[Step] = []
    for key, role in wanted.roles.items():
        there = seen.roles.get(key)
        if role is None:
            removed += [Step(REMOVE_ROLE, names([key]), "present", "absent")] if there else []
        elif there != role:
            found.append(Step(SET_ROLE, names([key]), str(there or "absent"), str(role)))
    for key, user in wanted.users.items():
        account = seen.users.get(key)
        if user is None:
            removed[:0] = [Step(REMOVE_USER, names([key]), "present", "absent")] if account else []
        elif account is None:
            found.append(Step(CREATE_USER, names([key]), "absent", f"roles {names(user.roles)}"))
        else:
            if not account.password_valid:
                found.append(Step(SET_PASSWORD, names([key]), "another password", "the given password"))
            if account.roles != user.roles:
                found.append(Step(SET_USER_ROLES, names([key]), names(account.roles), names(user.roles)))
    for (collection, name), index in wanted.indexes.items():
        present = seen.indexes.get((collection, name))
        if index is None:
            found += [Step(REMOVE_INDEX, f"{collection} {name}", str(present), "absent")] if present else []
        elif present is None:
            found.append(Step(CREATE_INDEX, f"{collection} {name}", "absent", str(index)))
        elif present != index:
            raise Refusal(
                f"The index {name} of {collection} is {present} and should be {index}; it is not replaced, as it would be missing for a while. "
                "Give the new one another name and remove the old one (state: absent) once it is built."
            )
    for (host, database), level in wanted.profilers.items():
        was = seen.profilers.get((host, database), 0)
        if was != level:
            found.append(Step(SET_PROFILER, f"{database} on {host}", f"level {was}", f"level {level}"))
    return found + removed


def key_file_keys(text: str) -> list[str]:
    """The keys of a key file in order: one, or a YAML list of several (the form that the role writes: one ``- key`` a line).

    https://www.mongodb.com/docs/manual/core/security-internal-authentication/#keyfiles: white space in a key does not count.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and all(line.startswith("- ") for line in lines):
        return [line[2:].strip().strip("\"'") for line in lines]
    return ["".join(text.split())]
