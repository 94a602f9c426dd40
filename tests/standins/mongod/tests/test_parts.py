# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts without I/O: votes, configurations, the query engine's layer, the wire, the oplog on disk."""

from __future__ import annotations

import pathlib
import struct
from typing import Any

import bson
import pytest
from mongod import wire
from mongod.auth import Credential, ScramClient, ScramServer, allows, builtin
from mongod.catalog import Catalog, freeze
from mongod.common import MongoError, OpTime, pack, utcnow
from mongod.config import ConfigError, read_keys
from mongod.election import State, Topology
from mongod.rsconfig import SetConfig, check_change
from mongod.storage import Oplog, Storage

# Elections


def config(*members: dict[str, Any], version: int = 1, **settings: Any) -> SetConfig:
    lines = [{"_id": i, "host": f"h{i}:1", **member} for i, member in enumerate(members)]
    return SetConfig.parse({"_id": "rs", "version": version, "term": 1, "members": lines, "settings": settings})


def topology(*members: dict[str, Any], me: int = 0, **settings: Any) -> Topology:
    found = Topology(seed=1)
    found.install(config(*members, **settings), me, 0)
    found.state, found.term, found.applied = State.SECONDARY, 1, OpTime(1, 100)
    return found


def beat(found: Topology, ident: int, now: float, state: State = State.SECONDARY, term: int = 1, ts: int = 100, **more: Any) -> None:
    optime = OpTime(term, ts).doc()
    found.answered(ident, {"state": int(state), "term": term, "opTime": optime, "durableOpTime": optime, "electable": True, **more}, now)


def test_election_only_after_the_timeout_and_with_a_majority() -> None:
    found = topology({}, {}, {})
    assert found.campaign(100) is None  # nobody was heard of
    beat(found, 1, 100)
    assert found.campaign(found.election_at - 1) is None
    assert found.campaign(found.election_at) == "electionTimeout"
    found.frozen_until = 1000
    assert found.campaign(999) is None


def test_a_living_primary_puts_the_election_off() -> None:
    found = topology({}, {}, {})
    beat(found, 1, 50, State.PRIMARY)
    assert 60 <= found.election_at <= 62
    assert found.primary_index() == 1


def test_later_term_wins_when_two_say_they_are_primary() -> None:
    found = topology({}, {}, {})
    beat(found, 1, 1, State.PRIMARY, term=3)
    beat(found, 2, 1, State.PRIMARY, term=4)
    assert found.primary_index() == 2


def test_takeover_by_the_highest_priority_first_and_only_when_fresh() -> None:
    members: tuple[dict[str, Any], ...] = ({"priority": 2}, {"priority": 1}, {"priority": 3})
    second = topology(*members)
    beat(second, 1, 0, State.PRIMARY)
    beat(second, 2, 0)
    assert second.campaign(1) is None
    assert second.takeover_at == 1 + 10 * 2  # one member has a higher priority
    assert second.campaign(21) == "electionTimeout" or second.takeover_at == float("inf")
    first = topology(*members, me=2)
    beat(first, 1, 0, State.PRIMARY, ts=100 + (10 << 32))
    assert first.campaign(0.5) is None and first.takeover_at == 10.5
    first.election_at = 1e9
    assert first.campaign(11) is None  # ten seconds behind
    first.applied = OpTime(1, 100 + (10 << 32))
    assert first.campaign(12) == "priorityTakeover"


def test_votes() -> None:
    found = topology({}, {}, {})
    good = {"setName": "rs", "term": 2, "candidateIndex": 1, "configVersion": 1, "configTerm": 1, "lastAppliedOpTime": OpTime(1, 100).doc()}
    assert found.vote(good) == (True, "")
    for change in (
        {"setName": "other"},
        {"term": 0},
        {"configVersion": 0},
        {"lastAppliedOpTime": OpTime(1, 99).doc()},
        {"candidateIndex": 7},
    ):
        assert not found.vote({**good, **change})[0], change
    found.voted = 2
    assert not found.vote(good)[0]
    assert found.vote({**good, "dryRun": True})[0]
    # A later term's entry beats a greater timestamp.
    assert found.vote({**good, "term": 3, "lastAppliedOpTime": OpTime(2, 1).doc()})[0]


def test_arbiter_protects_the_primary_it_sees() -> None:
    found = topology({}, {}, {"arbiterOnly": True}, me=2)
    found.state = State.ARBITER
    request = {"setName": "rs", "term": 2, "candidateIndex": 1, "configVersion": 1, "configTerm": 1, "lastAppliedOpTime": OpTime(1, 100).doc()}
    assert found.vote(request)[0]
    beat(found, 0, 1, State.PRIMARY)
    assert not found.vote(request)[0]


def test_primary_without_a_majority_steps_down() -> None:
    found = topology({}, {}, {})
    found.state = State.PRIMARY
    beat(found, 1, 100)
    assert not found.must_step_down(109)
    assert found.must_step_down(111)
    assert found.see_term(2) and not found.see_term(2)


def test_commit_point_is_the_majoritys_and_of_this_term() -> None:
    found = topology({}, {}, {}, {"votes": 0, "priority": 0})
    found.state, found.applied, found.durable = State.PRIMARY, OpTime(1, 300), OpTime(1, 300)
    beat(found, 3, 1, ts=300)
    assert found.commit_point() == OpTime(-1, 0)
    beat(found, 1, 1, ts=200)
    assert found.commit_point() == OpTime(1, 200)
    found.term = 2
    assert found.commit_point() == OpTime(-1, 0)


def test_successor_is_caught_up_with_the_highest_priority_then_the_lowest_index() -> None:
    found = topology({}, {"priority": 1}, {"priority": 1}, {"priority": 9})
    found.state = State.PRIMARY
    beat(found, 1, 1)
    beat(found, 2, 1)
    beat(found, 3, 1, ts=99)
    assert found.caught_up() == [1, 2]
    assert found.safe_to_step_down()
    beat(found, 1, 1, ts=99)
    beat(found, 2, 1, ts=99)
    found.views[1].applied = found.views[2].applied = OpTime(1, 99)
    assert not found.safe_to_step_down()


# Configurations


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 2000},
        {"votes": 2},
        {"votes": 0},
        {"hidden": True},
        {"secondaryDelaySecs": 5},
        {"unknown": 1},
        {"arbiterOnly": True, "votes": 0},
        {"host": "h0:1"},
        {"_id": 0},
    ],
)
def test_bad_members_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MongoError):
        config({}, {"priority": 1, **change}, {})


def test_only_one_voter_at_a_time() -> None:
    three, four = config({}, {}, {}), config({}, {}, {}, {}, version=2)
    four = SetConfig.parse({**four.doc(), "settings": three.settings})
    check_change(three, four)
    five = SetConfig.parse({**config({}, {}, {}, {}, {}, version=2).doc(), "settings": three.settings})
    with pytest.raises(MongoError, match="at most 1 voting member"):
        check_change(three, five)
    assert (three.majority, three.write_majority, four.majority, five.majority) == (2, 2, 3, 3)
    psa = config({}, {}, {"arbiterOnly": True})
    assert (psa.majority, psa.write_majority, psa.writable_voters) == (2, 2, 2)


# Documents


def entry(number: int, op: str, o: dict[str, Any], ns: str = "d.c", **more: Any) -> dict[str, Any]:
    return {"ts": bson.Timestamp(100, number), "t": bson.Int64(1), "op": op, "ns": ns, "o": o, "wall": utcnow(), **more}


def test_every_entry_can_be_taken_back() -> None:
    catalog = Catalog()
    catalog.apply(entry(1, "i", {"_id": 1, "x": 1}))
    spec = {"v": 2, "key": {"x": 1}, "name": "x_1", "unique": True}
    catalog.apply(entry(2, "c", {"createIndexes": "c", "spec": spec}, "d.$cmd"))
    before = catalog.digest("d.c")
    changes = [
        entry(3, "i", {"_id": 2, "x": 2}),
        entry(4, "u", {"_id": 1, "x": 5}),
        entry(5, "d", {"_id": 2}),
        entry(6, "c", {"dropIndexes": "c", "index": "x_1"}, "d.$cmd"),
        entry(7, "c", {"renameCollection": "d.c", "to": "d.e"}, "d.$cmd"),
        entry(8, "c", {"drop": "e"}, "d.$cmd"),
        entry(9, "c", {"create": "c"}, "d.$cmd"),
    ]
    undo = [catalog.apply(change) for change in changes]
    for back in reversed(undo):
        back()
    assert catalog.digest("d.c") == before
    assert set(catalog.collections["d.c"].indexes) == {"_id_", "x_1"}
    assert catalog.collections["d.c"].conflict({"_id": 9, "x": 1})
    assert not catalog.collections["d.c"].conflict({"_id": 9, "x": 5})


def test_record_of_a_retryable_write_is_the_same_decoded_and_not() -> None:
    session = {"id": bson.Binary(b"1" * 16, 4), "uid": bson.Binary(b"2" * 32)}
    assert freeze(session) == freeze(bson.decode(bson.encode({"s": session}))["s"])
    assert freeze(True) != freeze(1) and freeze(1) == freeze(1.0)


def test_unique_index_of_an_array_holds_each_element() -> None:
    catalog = Catalog()
    catalog.apply(entry(1, "i", {"_id": 1, "tags": ["a", "b"]}))
    collection = catalog.collections["d.c"]
    collection.add_index({"v": 2, "key": {"tags": 1}, "name": "tags_1", "unique": True})
    assert collection.conflict({"_id": 2, "tags": ["c", "b"]})
    assert not collection.conflict({"_id": 2, "tags": ["c", "d"]})


# Disk


def writes(storage: Storage, first: int, last: int) -> None:
    storage.append([entry(n, "i", {"_id": n, "text": "x" * 500}) for n in range(first, last)])


def reopened(storage: Storage, folder: pathlib.Path) -> Storage:
    storage.close(clean=False)
    return Storage(folder, storage.cap)


def test_what_was_written_is_there_after_a_crash_and_a_torn_write_is_cut(tmp_path: pathlib.Path) -> None:
    storage = Storage(tmp_path, 1 << 20)
    writes(storage, 1, 50)
    storage.commit(OpTime(1, pack(bson.Timestamp(100, 20))))
    storage = reopened(storage, tmp_path)
    assert storage.unclean and len(storage.catalog.collections["d.c"].docs) == 49
    storage.close(clean=False)
    segment = max((tmp_path / "oplog").iterdir())
    segment.write_bytes(segment.read_bytes()[:-3])
    storage = Storage(tmp_path, 1 << 20)
    assert len(storage.catalog.collections["d.c"].docs) == 48
    writes(storage, 49, 60)
    storage = reopened(storage, tmp_path)
    assert len(storage.catalog.collections["d.c"].docs) == 59


def test_rollback_snapshot_and_commit_point(tmp_path: pathlib.Path) -> None:
    storage = Storage(tmp_path, 1 << 20)
    writes(storage, 1, 30)
    common = OpTime(1, pack(bson.Timestamp(100, 20)))
    storage.commit(common)
    storage.snapshot()  # holds only what is committed
    with storage.at_commit_point() as catalog:
        assert len(catalog.collections["d.c"].docs) == 20
    assert len(storage.catalog.collections["d.c"].docs) == 29
    storage = reopened(storage, tmp_path)
    assert storage.rollback_to(common) == 9
    assert len(storage.catalog.collections["d.c"].docs) == 20
    assert len(list((tmp_path / "rollback").rglob("removed.*.bson"))) == 1
    with pytest.raises(RuntimeError, match="UnrecoverableRollback"):
        storage.rollback_to(OpTime(1, pack(bson.Timestamp(100, 5))))
    storage = reopened(storage, tmp_path)
    assert storage.applied == common


def test_oplog_is_capped_but_never_before_the_snapshot_has_it(tmp_path: pathlib.Path) -> None:
    storage = Storage(tmp_path, 300_000)
    for n in range(1, 4000):
        writes(storage, n, n + 1)
        storage.commit(storage.applied)
    assert storage.oplog.bytes <= 300_000
    assert storage.oplog.first > OpTime(1, pack(bson.Timestamp(100, 1)))
    storage = reopened(storage, tmp_path)
    assert len(storage.catalog.collections["d.c"].docs) == 3999
    storage.commit(storage.applied)
    storage.snapshot()
    assert len(list((tmp_path / "oplog").iterdir())) <= 3
    oplog = Oplog(tmp_path / "oplog", 300_000)
    assert oplog.last == storage.applied


# Wire, logins, keys


def test_message_with_a_document_sequence_and_a_checksum() -> None:
    body, docs = bson.encode({"insert": "c", "$db": "d"}), bson.encode({"_id": 1}) + bson.encode({"_id": 2})
    sequence = b"documents\0" + docs
    data = struct.pack("<I", wire.CHECKSUM) + b"\0" + body + b"\1" + struct.pack("<i", 4 + len(sequence)) + sequence + b"abcd"
    flags, found = wire._op_msg(data)
    assert flags == wire.CHECKSUM and found["documents"] == [{"_id": 1}, {"_id": 2}]
    with pytest.raises(wire.ProtocolError):
        wire._op_msg(struct.pack("<I", 4) + b"\0" + body)


def test_scram_with_any_key_of_a_list_and_not_with_another() -> None:
    def lookup(user: str, database: str) -> list[Credential]:
        return [Credential.make(key, b"salt" * 7) for key in ("new-key", "old-key")]

    def login(password: str) -> None:
        server, client = ScramServer("local"), ScramClient("__system", password)
        client.check(server.finish(client.final(server.start(client.first(), lookup))))

    login("new-key")
    login("old-key")
    with pytest.raises(MongoError):
        login("wrong-key")


def test_key_files(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text("abc def\nghi\n")
    assert read_keys(str(file)) == ["abcdefghi"]
    file.write_text("- first-key\n- second-key\n")
    assert read_keys(str(file)) == ["first-key", "second-key"]
    file.write_text("short")
    with pytest.raises(ConfigError):
        read_keys(str(file))
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="too open"):
        read_keys(str(file))


def test_privileges_reach_as_far_as_they_say() -> None:
    read_any = list(builtin("readAnyDatabase", "admin") or ())
    assert allows(read_any, "find", "shop", "orders") and not allows(read_any, "insert", "shop", "orders")
    assert not allows(read_any, "find", "local", "oplog.rs") and not allows(read_any, "find", "admin", "system.users")
    assert builtin("readAnyDatabase", "shop") is None
    local = list(builtin("read", "local") or ())
    assert allows(local, "find", "local", "oplog.rs") and not allows(local, "find", "shop", "orders")
    assert not allows(list(builtin("backup", "admin") or ()), "insert", "shop", "orders")
