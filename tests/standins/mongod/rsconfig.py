# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration of a replica set: defaults, what is refused, what may change at once.

https://www.mongodb.com/docs/manual/reference/replica-configuration/
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bson import Int64, ObjectId

from .common import Doc, MongoError

MEMBER_FIELDS = {
    "_id",
    "host",
    "arbiterOnly",
    "buildIndexes",
    "hidden",
    "priority",
    "tags",
    "secondaryDelaySecs",
    "slaveDelay",
    "votes",
    "horizons",
    "newlyAdded",
}
CONFIG_FIELDS = {"_id", "version", "term", "members", "protocolVersion", "writeConcernMajorityJournalDefault", "settings", "configsvr"}
SETTINGS: Doc = {
    "chainingAllowed": True,
    "heartbeatIntervalMillis": 2000,
    "heartbeatTimeoutSecs": 10,
    "electionTimeoutMillis": 10000,
    "catchUpTimeoutMillis": -1,
    "catchUpTakeoverDelayMillis": 30000,
    "getLastErrorModes": {},
    "getLastErrorDefaults": {"w": 1, "wtimeout": 0},
}


def _bad(message: str) -> MongoError:
    return MongoError("NewReplicaSetConfigurationIncompatible", message)


@dataclasses.dataclass(frozen=True)
class Member:
    """One line of `members`."""

    id: int
    host: str
    arbiter: bool
    hidden: bool
    priority: float
    votes: int
    delay: int  # seconds
    build_indexes: bool
    tags: tuple[tuple[str, str], ...]

    @property
    def electable(self) -> bool:
        return self.priority > 0 and not self.arbiter

    @property
    def data(self) -> bool:
        return not self.arbiter

    def doc(self) -> Doc:
        return {
            "_id": self.id,
            "host": self.host,
            "arbiterOnly": self.arbiter,
            "buildIndexes": self.build_indexes,
            "hidden": self.hidden,
            "priority": self.priority,
            "tags": dict(self.tags),
            "secondaryDelaySecs": Int64(self.delay),
            "votes": self.votes,
        }


def _number(doc: Doc, field: str, default: float) -> float:
    value = doc.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MongoError("TypeMismatch", f'Expected field "{field}" to have a numeric type, but found {type(value).__name__}')
    return value


def _member(doc: Doc) -> Member:
    for name in doc:
        if name not in MEMBER_FIELDS:
            raise MongoError("BadValue", f"Unexpected field {name} in replica set member configuration")
    if "_id" not in doc or not isinstance(doc.get("host"), str):
        raise _bad("Missing _id or host in a member configuration")
    host = doc["host"] if ":" in doc["host"] else f"{doc['host']}:27017"
    arbiter = bool(doc.get("arbiterOnly", False))
    priority, votes = float(_number(doc, "priority", 0 if arbiter else 1)), int(_number(doc, "votes", 1))
    delay = int(_number(doc, "secondaryDelaySecs", doc.get("slaveDelay", 0)))
    member = Member(
        int(_number(doc, "_id", 0)),
        host,
        arbiter,
        bool(doc.get("hidden", False)),
        0.0 if arbiter else priority,
        votes,
        delay,
        bool(doc.get("buildIndexes", True)),
        tuple(sorted((doc.get("tags") or {}).items())),
    )
    if not 0 <= priority <= 1000:
        raise _bad(f"priority must be between 0 and 1000, is {priority}")
    if votes not in (0, 1):
        raise _bad(f"votes must be 0 or 1, is {votes}")
    if votes == 0 and member.priority > 0:
        raise _bad("priority must be 0 when non-voting (votes:0)")
    if arbiter and votes == 0:
        raise _bad("Arbiter must vote (cannot have 0 votes)")
    if (member.hidden or delay or not member.build_indexes) and member.priority > 0:
        raise _bad("priority must be 0 when hidden=true, secondaryDelaySecs is set or buildIndexes=false")
    if not 0 <= member.id <= 255:
        raise _bad("_id must be between 0 and 255")
    return member


@dataclasses.dataclass(frozen=True)
class SetConfig:
    """A checked configuration. Times in seconds."""

    name: str
    version: int
    term: int
    members: tuple[Member, ...]
    settings: Doc
    journal_default: bool = True

    @classmethod
    def parse(cls, doc: Doc) -> SetConfig:
        """Raises MongoError for what mongod refuses."""
        for name in doc:
            if name not in CONFIG_FIELDS:
                raise MongoError("BadValue", f"Unexpected field {name} in replica set configuration")
        if doc.get("protocolVersion", 1) != 1:
            raise _bad("protocolVersion must be 1")
        given = doc.get("settings") or {}
        for name in given:
            if name not in SETTINGS and name != "replicaSetId":
                raise MongoError("BadValue", f"Unexpected field {name} in settings")
        settings = {**SETTINGS, **given}
        settings.setdefault("replicaSetId", ObjectId())
        members = tuple(_member(member) for member in doc.get("members") or [])
        config = cls(
            str(doc.get("_id")),
            int(_number(doc, "version", 1)),
            int(_number(doc, "term", -1)),
            members,
            settings,
            bool(doc.get("writeConcernMajorityJournalDefault", True)),
        )
        config._check()
        return config

    def _check(self) -> None:
        if not 1 <= len(self.members) <= 50:
            raise _bad(f"Replica set configuration contains {len(self.members)} members, but must have at least 1 and no more than 50")
        for what in ("id", "host"):
            values = [getattr(member, what) for member in self.members]
            if len(set(values)) < len(values):
                raise _bad(f"Found two member configurations with same {'_id' if what == 'id' else what} field")
        if not 1 <= len(self.voters) <= 7:
            raise _bad(f"Replica set configuration contains {len(self.voters)} voting members, but must be at least 1 and no more than 7")
        if not any(member.electable for member in self.members):
            raise _bad("Replica set configuration must contain at least one non-arbiter member with priority > 0")
        if self.version < 1:
            raise _bad("version field value must be positive")
        for name in ("heartbeatIntervalMillis", "electionTimeoutMillis", "heartbeatTimeoutSecs"):
            if _number(self.settings, name, 1) <= 0:
                raise _bad(f"{name} field value must be greater than 0")

    def doc(self) -> Doc:
        """As replSetGetConfig shows it."""
        return {
            "_id": self.name,
            "version": self.version,
            "term": Int64(self.term),
            "members": [member.doc() for member in self.members],
            "protocolVersion": Int64(1),
            "writeConcernMajorityJournalDefault": self.journal_default,
            "settings": dict(self.settings),
        }

    @property
    def order(self) -> tuple[int, int]:
        """Newer configurations have a greater one."""
        return self.term, self.version

    def newer_than(self, term: int, version: int) -> bool:
        """A forced configuration has no term (-1): versions alone decide then."""
        if self.term == -1 or term == -1:
            return self.version > version
        return (self.term, self.version) > (term, version)

    @property
    def voters(self) -> list[Member]:
        return [member for member in self.members if member.votes]

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def writable_voters(self) -> int:
        return sum(1 for member in self.voters if member.data)

    @property
    def write_majority(self) -> int:
        return min(self.majority, self.writable_voters)

    def index(self, host: str | None) -> int:
        return next((i for i, member in enumerate(self.members) if member.host == host), -1)

    def by_id(self, ident: Any) -> int:
        return next((i for i, member in enumerate(self.members) if member.id == ident), -1)

    @property
    def heartbeat_interval(self) -> float:
        return float(self.settings["heartbeatIntervalMillis"]) / 1000

    @property
    def heartbeat_timeout(self) -> float:
        return float(self.settings["heartbeatTimeoutSecs"])

    @property
    def election_timeout(self) -> float:
        return float(self.settings["electionTimeoutMillis"]) / 1000


def check_change(old: SetConfig, new: SetConfig) -> None:
    """What a reconfiguration without force may change. Raises MongoError."""
    if new.name != old.name:
        raise _bad(f"New and old configurations differ in replica set name; old: {old.name}, new: {new.name}")
    if new.settings.get("replicaSetId") != old.settings.get("replicaSetId"):
        raise _bad("New and old configurations differ in replica set ID")
    if new.version <= old.version:
        raise _bad(f"New replica set configuration version must be greater than old, but {new.version} is not greater than {old.version}")
    _same_identity(old, new)
    before, after = ({member.id for member in config.voters} for config in (old, new))
    if len(before ^ after) > 1:
        raise _bad(
            "Non force replica set reconfig can only add or remove at most 1 voting member. Number of voters added: "
            f"{len(after - before)}, number of voters removed: {len(before - after)}"
        )


def _same_identity(old: SetConfig, new: SetConfig) -> None:
    for member in new.members:
        index = old.index(member.host)
        if index >= 0 and old.members[index].id != member.id:
            raise _bad(f"New and old configurations both have members with host of {member.host} but in the new configuration the _id field is {member.id}")
        if index >= 0 and old.members[index].arbiter != member.arbiter:
            raise _bad(
                f"New and old configurations differ in the setting of the arbiterOnly field for member {member.host};"
                " to make such a change, remove then re-add the member"
            )
