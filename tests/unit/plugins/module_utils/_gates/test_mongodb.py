# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict about a replica set, from documents in the form of the manual's: one healthy set, and named changes to it."""

from __future__ import annotations

import copy
import dataclasses
import datetime

import pytest

pytest.importorskip("bson")

from bson import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import mongodb, mongodb_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import SEVERITY, Earlier, Question, apply_policy
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.mongodb import Facts, Limits, Member, Probe, Snapshot

NOW = 1_790_000_000
OLD, NEW = "7.0.14", "7.0.20"
STEPPED_BACK = {"priority": 0, "hidden": True, "votes": 0}


def date(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).replace(tzinfo=None)


def address(name: str) -> str:
    return f"192.0.2.3{name[-1]}:27017"


class Documents:
    """What the members of a set answer; data1 is primary, all are healthy. Methods are named changes and return the documents."""

    def __init__(self, count: int = 3, version: str = OLD) -> None:
        self.names = [f"data{number}" for number in range(1, count + 1)]
        self.config = {
            "config": {
                "_id": "rs",
                "version": 3,
                "term": 7,
                "members": [
                    {
                        "_id": index,
                        "host": address(name),
                        "arbiterOnly": False,
                        "hidden": False,
                        "priority": 1,
                        "votes": 1,
                        "secondaryDelaySecs": 0,
                    }
                    for index, name in enumerate(self.names)
                ],
            },
            "ok": 1.0,
        }
        self.hello = {
            name: {
                "setName": "rs",
                "me": address(name),
                "primary": address("data1"),
                "isWritablePrimary": name == "data1",
                "secondary": name != "data1",
            }
            for name in self.names
        }
        self.status = {name: self.status_of(name) for name in self.names}
        self.facts = {
            name: Facts(version=version, started=NOW - 90_000.0, rollbacks=1, fcv="7.0", oplog=80_000.0, disk_free=0.6, index_builds=0) for name in self.names
        }
        self.missing: dict[str, tuple[str, str]] = {}
        self.probe: Probe | None = None
        self.seats_seen = True

    def status_of(self, name: str) -> dict:
        return {
            "set": "rs",
            "date": date(NOW),
            "myState": 1 if name == "data1" else 2,
            "term": 7,
            "syncSourceHost": "" if name == "data1" else address("data1"),
            "syncSourceId": -1 if name == "data1" else 0,
            "heartbeatIntervalMillis": 2000,
            "majorityVoteCount": len(self.names) // 2 + 1,
            "writeMajorityCount": len(self.names) // 2 + 1,
            "votingMembersCount": len(self.names),
            "writableVotingMembersCount": len(self.names),
            "optimes": {"appliedOpTime": {"ts": Timestamp(NOW, 1), "t": 7}, "durableOpTime": {"ts": Timestamp(NOW, 1), "t": 7}},
            "members": [
                {
                    "_id": index,
                    "name": address(other),
                    "health": 1.0,
                    "state": 1 if other == "data1" else 2,
                    "uptime": 90_000,
                    "configVersion": 3,
                    "configTerm": 7,
                    **({"electionDate": date(NOW - 90_000)} if other == "data1" else {}),
                    **({"self": True} if other == name else {}),
                }
                for index, other in enumerate(self.names)
            ],
            "ok": 1.0,
        }

    # Named changes

    def seat(self, name, **values):
        self.config["config"]["members"][self.names.index(name)].update(values)
        return self

    def view(self, observer, name, **values):
        self.status[observer]["members"][self.names.index(name)].update(values)
        return self

    def known(self, name, **facts):
        self.facts[name] = dataclasses.replace(self.facts[name], **facts)
        if facts.get("started") is not None:
            for observer in filter(self.status.get, self.names):
                self.view(observer, name, uptime=int(NOW - facts["started"]))
        return self

    def state(self, name, number, health=1.0):
        """The member is in a state, and all see it so."""
        self.status[name]["myState"] = number
        self.hello[name]["secondary"] = number == 2
        for observer in self.names:
            self.view(observer, name, state=number, health=health)
        return self

    def lag(self, name, seconds):
        self.status[name]["optimes"]["appliedOpTime"] = {"ts": Timestamp(NOW - seconds, 9), "t": 7}
        return self

    def down(self, name):
        """Neither the gate nor the others reach the member."""
        for observer in self.names:
            self.view(observer, name, state=8, health=0.0)
        return self.unreachable(name)

    def unreachable(self, name, text="connection refused", kind="unreached"):
        """The gate does not reach the member; what the others say stays."""
        self.missing[name] = (text, kind)
        return self

    def cut_off(self, name):
        """The member hears nobody and nobody hears it; the gate reaches all."""
        for other in self.names:
            if other != name:
                self.view(other, name, state=8, health=0.0)
                self.view(name, other, state=8, health=0.0)
        self.hello[name]["primary"] = ""
        return self

    def primary(self, name, term=8, since=60):
        """Another member was elected and all know it."""
        for member in self.names:
            number = 1 if member == name else 2
            self.state(member, number)
            self.hello[member].update(primary=address(name), isWritablePrimary=member == name)
            status = self.status[member]
            status["term"] = term
            status["syncSourceHost"] = "" if member == name else address(name)
            status["optimes"]["appliedOpTime"] = {"ts": Timestamp(NOW, 1), "t": term}
            for view in status["members"]:
                view.pop("electionDate", None)
            self.view(member, name, electionDate=date(NOW - since))
        return self

    def arbiter(self, name):
        """The member is an arbiter: no priority, no data, nobody may log in."""
        self.seat(name, arbiterOnly=True, priority=0)
        self.hello[name].update(arbiterOnly=True, secondary=False)
        self.status[name] = None
        self.facts[name] = Facts(version=self.facts[name].version)
        return self.view_by_all(name, state=7)

    def view_by_all(self, name, **values):
        for observer in self.names:
            if self.status[observer]:
                self.view(observer, name, **values)
        return self

    def probed(self, verdict="pass", text=""):
        self.probe = Probe(verdict, text)
        return self

    def restarted(self, name, version=NEW):
        return self.known(name, version=version, started=NOW - 40.0)

    def set(self, name, **values):
        self.status[name].update(values)
        return self

    def snapshot(self) -> Snapshot:
        def member(name):
            if name in self.missing:
                text, kind = self.missing[name]
                hello = mongodb_fetch.read_hello(self.hello[name]) if kind == "refused" else None
                return Member(name, address(name), hello=hello, error=text, kind=kind)
            status = mongodb_fetch.read_status(self.status[name], NOW, NOW) if self.status[name] else None
            return Member(name, address(name), mongodb_fetch.read_hello(self.hello[name]), status, self.facts[name])

        seats = mongodb_fetch.read_seats(self.config) if self.seats_seen else None
        return Snapshot(NOW, tuple(member(name) for name in self.names), seats, self.probe)


def ask(documents, phase="preflight", target="", earlier=None, limits=None, **question):
    snapshot = documents.snapshot() if isinstance(documents, Documents) else documents
    asked = Question(phase=phase, target=target, **question)
    return apply_policy(mongodb.evaluate(snapshot, asked, earlier or Earlier(), limits or Limits()), asked)


def codes(evaluation) -> set[str]:
    return {reason.key() for reason in evaluation.reasons}


def psa() -> Documents:
    return Documents().arbiter("data3")


def old_primary_comes_back() -> Documents:
    """data1 was cut off and still believes that it is primary of term 7, data2 was elected in term 8."""
    documents = Documents().primary("data2")
    documents.status["data1"] = documents.status_of("data1")
    documents.hello["data1"].update(isWritablePrimary=True, primary=address("data1"))
    return documents.view_by_all("data1", state=8, health=0.0).view("data1", "data1", state=1, health=1.0)


def initial_sync(documents, name, failed=0, copied=2_000, total=9_000):
    documents.state(name, 5)
    documents.status[name]["initialSyncStatus"] = {"failedInitialSyncAttempts": failed, "approxTotalDataSize": total, "approxTotalBytesCopied": copied}
    documents.status[name]["optimes"]["appliedOpTime"] = {"ts": Timestamp(0, 0), "t": -1}
    return documents


PREFLIGHT = {
    "healthy": (Documents(), "pass", set()),
    "five healthy": (Documents(5), "pass", set()),
    "an arbiter": (psa(), "pass", set()),
    "an even number of votes, a hidden one without": (Documents(4).seat("data4", **STEPPED_BACK), "pass", set()),
    "a delayed member is as late as wanted": (Documents(4).seat("data4", **STEPPED_BACK, secondaryDelaySecs=3600).lag("data4", 3604), "pass", set()),
    "one behind": (Documents().lag("data3", 31), "wait", {"MDB_LAG data3"}),
    "one ten seconds behind": (Documents().lag("data3", 10), "pass", set()),
    "an idle set in a new term": (Documents().primary("data2", since=60), "pass", set()),
    "unreachable for us only": (Documents().unreachable("data3"), "unknown", {"MDB_UNREACHABLE data3"}),
    "the primary unreachable for us only": (Documents().unreachable("data1"), "unknown", {"MDB_UNREACHABLE data1", "MDB_NO_PRIMARY"}),
    "down for all": (Documents().down("data3"), "fail", {"MDB_DOWN data3"}),
    "cut off from the others, but not from us": (
        Documents().cut_off("data3"),
        "wait",
        {"MDB_PEERS data3", "MDB_PRIMARY_DISPUTED data3"},
    ),
    "all unreachable": (
        Documents().unreachable("data1").unreachable("data2").unreachable("data3"),
        "unknown",
        {"MDB_UNREACHABLE data1", "MDB_UNREACHABLE data2", "MDB_UNREACHABLE data3", "MDB_NO_PRIMARY"},
    ),
    "wrong password": (Documents().unreachable("data3", "Authentication failed.", "refused"), "unknown", {"MDB_REFUSED data3"}),
    "recovering": (Documents().state("data3", 3), "fail", {"MDB_STATE data3"}),
    "too stale": (Documents().state("data3", 3).set("data3", tooStale=True), "fail", {"MDB_TOO_STALE data3"}),
    "rolling back": (Documents().state("data3", 9), "fail", {"MDB_STATE data3"}),
    "initial sync of a hidden member": (
        initial_sync(Documents(4).seat("data4", **STEPPED_BACK), "data4"),
        "fail",
        {"MDB_STATE data4"},
    ),
    "removed, but still running": (Documents().unreachable("data3", "not a member", "expelled"), "fail", {"MDB_REMOVED data3"}),
    "no primary": (
        Documents().state("data1", 2).set("data1"),
        "wait",
        {"MDB_NO_PRIMARY"},
    ),
    "two primaries in different terms": (
        old_primary_comes_back(),
        "wait",
        {"MDB_TWO_PRIMARIES"},
    ),
    "one has not heard of the election yet": (
        Documents().primary("data2").set("data3", term=7).view("data3", "data2", state=2).view("data3", "data1", state=1),
        "wait",
        {"MDB_TERM", "MDB_PRIMARY_DISPUTED data3"},
    ),
    "elected a moment ago": (Documents().primary("data2", since=1), "wait", {"MDB_ELECTION data2"}),
    "elected, but still catching up": (Documents().primary("data2"), "wait", {"MDB_NO_PRIMARY"}),
    "a takeover is pending": (Documents().seat("data2", priority=2), "wait", {"MDB_TAKEOVER data2"}),
    "reconfiguration under way": (Documents().view("data3", "data3", configVersion=2), "wait", {"MDB_CONFIG"}),
    "another set's member": (Documents().set("data3", set="other"), "fail", {"MDB_SET_NAME"}),
    "a member nobody told us of": (Documents(4), "unknown", {"MDB_NOT_ASKED 192.0.2.34:27017"}),
    "an oplog of half an hour": (Documents().known("data2", oplog=1800.0), "fail", {"MDB_OPLOG data2"}),
    "an unknown oplog": (Documents().known("data2", oplog=None), "unknown", {"MDB_OPLOG data2"}),
    "an index build": (Documents().known("data1", index_builds=1), "wait", {"MDB_INDEX_BUILD data1"}),
    "setFeatureCompatibilityVersion under way": (Documents().known("data1", fcv_changing=True), "wait", {"MDB_FCV data1"}),
    "featureCompatibilityVersions differ": (Documents().known("data3", fcv="6.0"), "wait", {"MDB_FCV"}),
    "a disk almost full": (Documents().known("data2", disk_free=0.04), "fail", {"MDB_DISK data2"}),
    "clocks apart": (Documents().set("data2", date=date(NOW + 5)), "fail", {"MDB_CLOCK data2"}),
}


@pytest.mark.parametrize("name", PREFLIGHT)
def test_preflight(name):
    documents, verdict, expected = PREFLIGHT[name]
    documents = copy.deepcopy(documents)
    if name == "elected, but still catching up":
        documents.hello["data2"]["isWritablePrimary"] = False
    if name == "no primary":
        documents.hello["data1"]["isWritablePrimary"] = False
    snapshot = documents.snapshot()
    if name == "a member nobody told us of":
        snapshot = dataclasses.replace(snapshot, members=snapshot.members[:3])
    seen = ask(snapshot)
    assert (seen.verdict, codes(seen)) == (verdict, expected)


@pytest.mark.parametrize(
    ("version", "fcv", "expected"),
    [
        ("7.0.20", "7.0", set()),
        ("8.0.4", "7.0", set()),
        ("8.0.4", "6.0", {"MDB_UPGRADE_PATH data1", "MDB_UPGRADE_PATH data2", "MDB_UPGRADE_PATH data3"}),
        ("6.0.19", "7.0", {"MDB_UPGRADE_PATH data1", "MDB_UPGRADE_PATH data2", "MDB_UPGRADE_PATH data3"}),
    ],
)
def test_one_major_series_at_a_time_and_never_back(version, fcv, expected):
    documents = Documents()
    for name in documents.names:
        documents.known(name, fcv=fcv)
    assert codes(ask(documents, expect_version=version)) == expected


def uninitiated(count=3) -> Documents:
    documents = Documents(count)
    for name in documents.names:
        documents.unreachable(name, "no replset config has been received", "uninitiated")
    documents.seats_seen = False
    return documents


def test_a_set_that_was_never_initiated():
    seen = ask(uninitiated())
    assert seen.verdict == "fail"
    assert "MDB_UNINITIATED" in codes(seen)


def test_without_the_configuration_nothing_is_known():
    documents = Documents()
    documents.seats_seen = False
    seen = ask(documents)
    assert (seen.verdict, seen.margin) == ("unknown", None)
    assert "MDB_CONFIG_UNSEEN" in codes(seen)


BEFORE = {
    "a secondary of three": (Documents(), "data3", "pass", set(), 0),
    "the primary of three": (Documents(), "data1", "pass", set(), 0),
    "one of five": (Documents(5), "data3", "pass", set(), 1),
    "the target is down already": (Documents().down("data3"), "data3", "pass", set(), 0),
    "we cannot see the target": (Documents().unreachable("data3"), "data3", "pass", set(), 0),
    "another one is down": (Documents().down("data2"), "data3", "fail", {"MDB_DOWN data2", "MDB_QUORUM"}, -1),
    "another one is unreachable for us": (
        Documents().unreachable("data2"),
        "data3",
        "unknown",
        {"MDB_UNREACHABLE data2", "MDB_QUORUM"},
        -1,
    ),
    "another one recovers": (Documents().state("data2", 3), "data3", "wait", {"MDB_STATE data2", "MDB_QUORUM"}, -1),
    "another one is too stale": (
        Documents().state("data2", 3).set("data2", tooStale=True),
        "data3",
        "fail",
        {"MDB_TOO_STALE data2", "MDB_QUORUM"},
        -1,
    ),
    "another one lags": (Documents().lag("data2", 60), "data3", "wait", {"MDB_LAG data2", "MDB_WRITE_MAJORITY"}, -1),
    "the primary, its only successor lags": (
        Documents().lag("data2", 60).seat("data3", priority=0),
        "data1",
        "wait",
        {"MDB_LAG data2", "MDB_WRITE_MAJORITY", "MDB_SUCCESSOR data1"},
        -1,
    ),
    "the primary, nobody else may be one": (
        Documents().seat("data2", priority=0).seat("data3", priority=0),
        "data1",
        "fail",
        {"MDB_SUCCESSOR data1"},
        0,
    ),
    "four of five, one known to be down": (Documents(5).down("data5"), "data4", "fail", {"MDB_DOWN data5", "MDB_MARGIN"}, 0),
    "five, two known to be down": (Documents(5).down("data5").down("data4"), "data3", "fail", {"MDB_DOWN data4", "MDB_DOWN data5", "MDB_QUORUM"}, -1),
    "PSA, the secondary": (psa(), "data2", "fail", {"MDB_ARBITER"}, -1),
    "PSA, the primary": (psa(), "data1", "fail", {"MDB_ARBITER"}, -1),
    "PSA, the arbiter": (psa(), "data3", "pass", set(), 0),
    "the arbiter is away, the secondary wants to go": (
        psa().unreachable("data3"),
        "data2",
        "fail",
        {"MDB_UNREACHABLE data3", "MDB_QUORUM", "MDB_ARBITER"},
        -1,
    ),
    "a hidden member without a vote": (Documents(4).seat("data4", **STEPPED_BACK), "data4", "pass", set(), 1),
    "a delayed voter does not make writes durable": (
        Documents().seat("data2", priority=0, hidden=True, secondaryDelaySecs=3600).lag("data2", 3600),
        "data3",
        "fail",
        {"MDB_WRITE_MAJORITY"},
        -1,
    ),
    "cut off from the others": (
        Documents().cut_off("data2"),
        "data3",
        "wait",
        {"MDB_PEERS data2", "MDB_PRIMARY_DISPUTED data2", "MDB_QUORUM"},
        -1,
    ),
    "two primaries": (old_primary_comes_back(), "data3", "wait", {"MDB_TWO_PRIMARIES", "MDB_WRITE_MAJORITY", "MDB_SUCCESSOR data3"}, -2),
    "no such member": (Documents(), "data9", "fail", {"MDB_TARGET data9"}, 1),
    "an index build": (Documents().known("data2", index_builds=2), "data3", "wait", {"MDB_INDEX_BUILD data2"}, 0),
    "an oplog too short": (Documents().known("data1", oplog=60.0), "data3", "fail", {"MDB_OPLOG data1"}, 0),
}


@pytest.mark.parametrize("name", BEFORE)
def test_before(name):
    documents, target, verdict, expected, left = BEFORE[name]
    seen = ask(copy.deepcopy(documents), "before", target)
    assert (seen.verdict, codes(seen), seen.margin) == (verdict, expected, left)


def test_the_successor_of_a_primary_is_updated_first():
    documents = Documents().restarted("data3")
    seen = ask(documents, "before", "data1", expect_version=NEW)
    assert (seen.verdict, codes(seen)) == ("fail", {"MDB_SUCCESSOR_VERSION data1"})
    assert ask(documents.restarted("data2"), "before", "data1", expect_version=NEW).verdict == "pass"
    assert ask(documents.known("data2", version=None), "before", "data1", expect_version=NEW).verdict == "unknown"


def test_the_successor_has_the_highest_priority_then_the_lowest_index():
    assert ask(Documents()).observed["successor"] == "data2"
    assert ask(Documents().seat("data1", priority=5).seat("data3", priority=3)).observed["successor"] == "data3"
    assert ask(Documents().seat("data1", priority=5).seat("data3", priority=3).lag("data3", 60)).observed["successor"] == "data2"


def test_members_are_told_with_version_role_and_lag():
    members = ask(Documents(4).lag("data2", 3).seat("data4", priority=0).state("data4", 3)).observed["members"]
    assert [(members[name]["version"], members[name].get("role"), members[name].get("lag"), members[name].get("state")) for name in sorted(members)] == [
        (OLD, "primary", None, None),
        (OLD, "secondary", "3 s", None),
        (OLD, "secondary", "0 s", None),
        (OLD, None, "0 s", "RECOVERING"),
    ]


def test_elections_to_expect():
    assert ask(Documents()).observed["expected_elections"] == 1
    assert ask(Documents().seat("data1", priority=2)).observed["expected_elections"] == 2


def test_a_primary_that_was_told_to_step_down_has_to_have_done_so():
    told = Limits(handed_over=True)
    assert codes(ask(Documents(), "before", "data1", limits=told)) == {"MDB_STILL_PRIMARY data1"}
    assert ask(Documents().primary("data2"), "before", "data1", limits=told).verdict == "pass"
    # It may have the higher priority: it is about to go, and may not take over.
    assert ask(Documents().primary("data2").seat("data1", priority=2), "before", "data1", limits=told).verdict == "pass"
    writing = Limits(handed_over=True, probe=True)
    assert codes(ask(Documents().primary("data2"), "before", "data1", limits=writing)) == {"MDB_PROBE data1"}
    assert ask(Documents().primary("data2").probed(), "before", "data1", limits=writing).verdict == "pass"


def test_policies():
    four = Documents(5).down("data5")
    baseline = frozenset({"MDB_DOWN data5", "MDB_MARGIN"})
    assert ask(four, "before", "data4", policy="no_worse", baseline=baseline).verdict == "pass"
    assert ask(psa(), "before", "data2", policy="forced", forced_because="lab").verdict == "pass"
    assert ask(Documents().down("data2"), "before", "data3", policy="forced", forced_because="x").verdict == "fail"


def back(version=NEW) -> Documents:
    return Documents().restarted("data3", version).probed()


def lost_users(documents, state):
    """In initial sync the member has no users yet, so nobody can log in; the primary sees its state."""
    return documents.state("data3", state).unreachable("data3", "Authentication failed.", "refused")


AFTER = {
    "back": (back(), "pass", set()),
    "back as primary": (Documents().primary("data3").restarted("data3").probed(), "pass", set()),
    "not reachable yet": (back().down("data3"), "wait", {"MDB_DOWN data3"}),
    "reachable for the others, not for us": (back().unreachable("data3"), "unknown", {"MDB_UNREACHABLE data3"}),
    "starting": (back().state("data3", 0), "wait", {"MDB_STATE data3"}),
    "recovering": (back().state("data3", 3), "wait", {"MDB_STATE data3"}),
    "too stale": (back().state("data3", 3).set("data3", tooStale=True), "fail", {"MDB_TOO_STALE data3"}),
    "removed": (back().unreachable("data3", "not a member", "expelled"), "fail", {"MDB_REMOVED data3"}),
    "behind": (back().lag("data3", 45), "wait", {"MDB_LAG data3"}),
    "the old process": (back().known("data3", started=NOW - 5_000.0), "wait", {"MDB_RESTART data3"}),
    "the old process in the old version": (back().known("data3", started=NOW - 5_000.0, version=OLD), "wait", {"MDB_RESTART data3"}),
    "the old version again": (back(OLD), "fail", {"MDB_VERSION data3"}),
    "an unknown version": (back().known("data3", version=None), "unknown", {"MDB_VERSION data3"}),
    "an unknown start": (back().known("data3", started=None), "unknown", {"MDB_RESTART data3"}),
    "an unplanned initial sync": (initial_sync(back(), "data3"), "fail", {"MDB_INITIAL_SYNC data3"}),
    "an initial sync that failed": (initial_sync(back(), "data3", failed=2), "fail", {"MDB_INITIAL_SYNC_FAILED data3"}),
    "it has no users: its data are gone": (lost_users(back(), 5), "fail", {"MDB_INITIAL_SYNC data3"}),
    "nobody can log in yet": (lost_users(back(), 3), "wait", {"MDB_STATE data3"}),
    "nobody can log in, though it is a secondary": (lost_users(back(), 2), "unknown", {"MDB_REFUSED data3"}),
    "it follows nobody": (back().set("data3", syncSourceHost=""), "wait", {"MDB_SYNC_SOURCE data3"}),
    "only itself sees it": (
        back().view("data1", "data3", state=8, health=0.0).view("data2", "data3", state=8, health=0.0),
        "wait",
        {"MDB_PEERS data3"},
    ),
    "all but the primary see it": (back().view("data1", "data3", state=8, health=0.0), "wait", {"MDB_PEERS data3"}),
    "it does not see the primary": (back().cut_off("data3"), "wait", {"MDB_PEERS data3", "MDB_PRIMARY_DISPUTED data3"}),
    "another member went down": (back().down("data2"), "wait", {"MDB_DOWN data2"}),
    "no probe yet": (Documents().restarted("data3"), "wait", {"MDB_PROBE data3"}),
    "the probe did not arrive": (back().probed("wait", "a write did not reach"), "wait", {"MDB_PROBE data3"}),
}


@pytest.mark.parametrize("name", AFTER)
def test_after(name):
    documents, verdict, expected = AFTER[name]
    seen = ask(copy.deepcopy(documents), "after", "data3", limits=Limits(probe=True), expect_version=NEW, not_before=NOW - 60)
    assert (seen.verdict, codes(seen)) == (verdict, expected)


def test_a_planned_initial_sync_shows_its_progress():
    limits = Limits(initial_sync_expected=True)
    numbers = []
    for copied in (0, 4_000, 9_000):
        seen = ask(initial_sync(back(), "data3", copied=copied), "after", "data3", limits=limits)
        assert (seen.verdict, codes(seen)) == ("wait", {"MDB_INITIAL_SYNC data3"})
        numbers.append(seen.progress)
    numbers.append(ask(back().lag("data3", 60), "after", "data3", limits=limits).progress)
    numbers.append(ask(back(), "after", "data3", limits=limits).progress)
    assert numbers == sorted(set(numbers))


def test_a_rollback_is_noticed_even_when_it_is_over():
    first = back().snapshot()
    seen = ask(back().known("data3", rollbacks=2), "after", "data3", earlier=Earlier(first, first))
    assert (seen.verdict, codes(seen)) == ("fail", {"MDB_ROLLBACK data3"})
    unseen = ask(back().known("data3", rollbacks=None), "after", "data3", earlier=Earlier(first, first))
    assert (unseen.verdict, codes(unseen)) == ("unknown", {"MDB_ROLLBACK data3"})


def test_a_rollback_may_not_last():
    rolling = back().state("data3", 9).snapshot()
    assert codes(ask(rolling, "after", "data3", earlier=Earlier(rolling, rolling))) == {"MDB_STATE data3"}
    long_ago = dataclasses.replace(rolling, time=NOW - 61)
    assert ask(rolling, "after", "data3", earlier=Earlier(long_ago, rolling)).verdict == "fail"


def test_an_arbiter_comes_back():
    documents = psa().known("data3", version=NEW).view_by_all("data3", uptime=20)
    asked = {"expect_version": NEW, "not_before": NOW - 60}
    assert ask(documents, "after", "data3", **asked).verdict == "pass"
    assert codes(ask(documents.view_by_all("data3", uptime=900), "after", "data3", **asked)) == {"MDB_RESTART data3"}


FINAL = {
    "all new": (Documents(version=NEW), "pass", set()),
    "one was forgotten": (Documents(version=NEW).known("data2", version=OLD), "fail", {"MDB_VERSION data2"}),
    "one does not tell": (Documents(version=NEW).known("data2", version=None), "unknown", {"MDB_VERSION data2"}),
    "a takeover is to come": (Documents(version=NEW).seat("data3", priority=2), "wait", {"MDB_TAKEOVER data3"}),
    "one is behind": (Documents(version=NEW).lag("data2", 40), "wait", {"MDB_LAG data2"}),
    "one is recovering": (Documents(version=NEW).state("data2", 3), "wait", {"MDB_STATE data2"}),
    "one is gone": (Documents(version=NEW).down("data2"), "fail", {"MDB_DOWN data2"}),
}


@pytest.mark.parametrize("name", FINAL)
def test_final(name):
    documents, verdict, expected = FINAL[name]
    seen = ask(copy.deepcopy(documents), "final", expect_version=NEW)
    assert (seen.verdict, codes(seen)) == (verdict, expected)


def test_final_without_an_expected_version_wants_one_for_all():
    assert codes(ask(Documents().known("data2", version=NEW), "final")) == {"MDB_VERSIONS"}
    assert ask(Documents(), "final").verdict == "pass"


@pytest.mark.parametrize(("size", "limit", "hours"), [(1000, 1000, 10), (100, 1000, 100), (1500, 1000, 10)])
def test_an_oplog_that_is_not_full_is_reckoned_as_it_will_be(size, limit, hours):
    first = {"ts": Timestamp(NOW - 36_000, 1)}
    assert mongodb_fetch.read_oplog(first, NOW, {"size": size, "maxSize": limit}) == pytest.approx(hours * 3600)
    assert mongodb_fetch.read_oplog(None, NOW, {"size": size, "maxSize": limit}) is None


def test_a_server_before_5_answers_ismaster():
    assert mongodb_fetch.read_hello({"ismaster": True, "me": "a:1"}).writable


# Properties

# From worse to better; each is a named change.
HEALTH = ("down", "unreachable", "stale", "recovering", "lagging", "well")


def apply_health(documents: Documents, name: str, health: str) -> None:
    if health == "down":
        documents.down(name)
    elif health == "unreachable":
        documents.unreachable(name)
    elif health == "stale":
        documents.state(name, 3).set(name, tooStale=True)
    elif health == "recovering":
        documents.state(name, 3)
    elif health == "lagging":
        documents.lag(name, 100)


@st.composite
def sets(draw):
    """A set whose members may be hidden, voteless, delayed or arbiters, and in any health; data1 is an ordinary member and the primary, if well.

    It does not lag: lag is what others are behind the primary.
    """
    count = draw(st.integers(1, 7))
    kinds = ["plain"] + [draw(st.sampled_from(["plain", "plain", "plain", "voteless", "delayed", "arbiter"])) for _number in range(count - 1)]
    health = [draw(st.sampled_from(["well", "well", *(grade for grade in HEALTH if number or grade != "lagging")])) for number in range(count)]
    return kinds, health


def built(kinds, health) -> Documents:
    documents = Documents(len(kinds))
    for name, kind in zip(documents.names, kinds, strict=True):
        if kind == "voteless":
            documents.seat(name, **STEPPED_BACK)
        elif kind == "delayed":
            documents.seat(name, priority=0, hidden=True, secondaryDelaySecs=600).lag(name, 600)
    for name, kind, condition in zip(documents.names, kinds, health, strict=True):
        if kind != "arbiter":
            apply_health(documents, name, condition)
    for name, kind, condition in zip(documents.names, kinds, health, strict=True):
        if kind == "arbiter":
            documents.arbiter(name)
            if condition == "down":
                documents.view_by_all(name, state=8, health=0.0)
            if condition != "well":
                documents.unreachable(name)
    return documents


def rank(evaluation) -> int:
    return SEVERITY.index(evaluation.verdict)


@given(sets(), st.data(), st.sampled_from(["strict", "forced"]))
def test_no_set_passes_before_whose_remaining_votes_are_below_the_majority(drawn, data, policy):
    kinds, health = drawn
    documents = built(kinds, health)
    target = data.draw(st.sampled_from(documents.names))
    voters = [index for index, kind in enumerate(kinds) if kind != "voteless"]
    left = [i for i in voters if documents.names[i] != target and health[i] in ("well", "lagging") and not (kinds[i] == "arbiter" and health[i] != "well")]
    seen = ask(documents, "before", target, policy=policy, forced_because="property")
    if len(left) < len(voters) // 2 + 1:
        assert seen.verdict != "pass"
    elif seen.verdict == "pass" and policy == "strict":
        assert seen.margin >= 0


def without(snapshot: Snapshot, name: str, what: str) -> Snapshot:
    """The snapshot with one datum not seen."""
    if what == "seats":
        return dataclasses.replace(snapshot, seats=None)

    def lose(member):
        if member.name != name:
            return member
        if what == "all":
            return Member(member.name, member.address, error="timed out", kind="unreached")
        if what == "hello":
            return dataclasses.replace(member, hello=None)
        if what == "elected_for":
            return dataclasses.replace(member, status=dataclasses.replace(member.status, elected_for=None)) if member.status else member
        return dataclasses.replace(member, facts=dataclasses.replace(member.facts, **{what: None}))

    return dataclasses.replace(snapshot, members=tuple(lose(member) for member in snapshot.members))


FACTS = ["version", "started", "rollbacks", "fcv", "oplog", "disk_free", "index_builds"]


@given(sets(), st.data(), st.sampled_from(["preflight", "before", "after", "final"]), st.sampled_from(["seats", "all", "hello", "elected_for", *FACTS]))
def test_not_seeing_something_never_turns_a_finding_into_a_pass(drawn, data, phase, what):
    documents = built(*drawn)
    name, target = data.draw(st.sampled_from(documents.names)), data.draw(st.sampled_from(documents.names))
    bad = data.draw(
        st.sampled_from([{}, {"version": OLD}, {"index_builds": 3}, {"oplog": 5.0}, {"disk_free": 0.01}, {"started": NOW - 99_000.0}, {"fcv": "5.0"}])
    )
    documents.known(name, **bad)
    if phase == "before" and name == target and what not in ("seats",):
        # What the member that goes anyway says does not count.
        return
    snapshot = documents.snapshot()
    asked = {"expect_version": NEW if bad == {"version": OLD} else OLD, "not_before": NOW - 95_000}
    if ask(snapshot, phase, target, **asked).verdict != "pass":
        assert ask(without(snapshot, name, what), phase, target, **asked).verdict != "pass"


@given(sets(), st.data(), st.sampled_from(["preflight", "before", "final"]))
def test_a_healthier_member_never_makes_it_worse(drawn, data, phase):
    kinds, health = drawn
    index = data.draw(st.integers(0, len(kinds) - 1))
    better = list(health)
    better[index] = "well"
    target = f"data{data.draw(st.integers(1, len(kinds)))}"
    now, then = ask(built(kinds, better), phase, target), ask(built(kinds, health), phase, target)
    # One more observer may tell that what was not known is bad.
    assert rank(now) <= rank(then) or then.verdict == "unknown"


@given(sets())
def test_every_evaluation_can_be_told_and_says_each_thing_once(drawn):
    seen = ask(built(*drawn), "before", "data1")
    assert len(codes(seen)) == len(seen.reasons)
    assert all(reason.text.endswith(".") or reason.text for reason in seen.reasons)
