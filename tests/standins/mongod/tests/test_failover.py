# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Failover, as PyMongo sees it."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import bson
import pymongo
import pytest
from pymongo import monitoring
from replica import ROOT_PASSWORD, SLOWNESS, Cluster, Raw, wait_for


class Ledger(threading.Thread):
    """Writes one document after the other, and keeps which were acknowledged and what went wrong."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__()
        self.cluster, self.name_of = cluster, name
        self.acknowledged: list[int] = []
        self.errors: list[BaseException] = []
        self.slowest = 0.0
        self._end = threading.Event()

    def run(self) -> None:
        with self.cluster.client() as client:
            collection, number = client.ledger[self.name_of], 0
            while not self._end.is_set():
                begin = time.monotonic()
                try:
                    collection.insert_one({"_id": number})
                    self.acknowledged.append(number)
                except pymongo.errors.PyMongoError as error:
                    self.errors.append(error)
                self.slowest = max(self.slowest, time.monotonic() - begin)
                number += 1

    def grown(self, by: int) -> None:
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + by, "writes go on")

    def stop(self) -> None:
        self._end.set()
        self.join()

    def missing(self) -> set[int]:
        with self.cluster.client() as client:
            found = {doc["_id"] for doc in client.ledger[self.name_of].find({}, {"_id": 1})}
        return set(self.acknowledged) - found


@pytest.fixture
def ledger(trio: Cluster, request: pytest.FixtureRequest) -> Any:
    thread = Ledger(trio, request.node.name)
    thread.start()
    thread.grown(20)
    yield thread
    thread.stop()


def test_kill_of_the_primary_loses_no_acknowledged_write_and_shows_no_error(trio: Cluster, ledger: Ledger) -> None:
    for _ in range(2):
        trio.primary.kill()
        ledger.grown(20)
        trio.heal()
    ledger.stop()
    assert ledger.errors == []
    assert ledger.missing() == set()
    print(f"{len(ledger.acknowledged)} writes, the slowest took {ledger.slowest:.2f} s")


def test_step_down_is_hidden_by_one_retry(trio: Cluster, ledger: Ledger) -> None:
    old = trio.primary
    term = old.status()["term"]
    old.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
    new = trio.primary
    assert new is not old
    assert new.status()["term"] == term + 1
    ledger.grown(20)
    ledger.stop()
    assert ledger.errors == []
    assert ledger.missing() == set()
    # Handed over, not waited for.
    assert new.status()["electionCandidateMetrics"]["lastElectionReason"] == "stepUpRequest"
    old.admin.command("replSetFreeze", 0)


def test_sigterm_hands_over_before_the_process_ends(trio: Cluster, ledger: Ledger) -> None:
    old = trio.primary
    # Asked directly: a driver stops asking a server that says it goes.
    connection = Raw(old.port, old.authority)

    def quiesced() -> dict[str, Any] | None:
        answer = connection.ask("admin", {"hello": 1})
        return None if answer["ok"] else answer

    quiesce = int(3000 * SLOWNESS)
    old.admin.command("setParameter", 1, shutdownTimeoutMillisForSignaledShutdown=quiesce)
    assert old.process
    old.process.terminate()
    answer = wait_for(quiesced, "quiesce mode")
    assert answer["code"] == 91
    assert answer["remainingQuiesceTimeMillis"] <= quiesce
    assert old.running
    assert trio.primary is not old
    assert old.process.wait(60) == 0
    ledger.grown(20)
    ledger.stop()
    assert ledger.errors == []
    assert ledger.missing() == set()


def test_all_killed_at_once_lose_nothing_acknowledged(trio: Cluster) -> None:
    with trio.client(journal=True) as client:
        client.durable.docs.insert_many([{"_id": i, "text": "x" * 200} for i in range(300)])
        client.durable.docs.update_many({"_id": {"$lt": 10}}, {"$set": {"seen": True}})
        client.durable.docs.delete_many({"_id": {"$gte": 290}})
    for member in trio.members:
        assert member.process
        member.process.kill()
    for member in trio.members:
        assert member.process
        member.process.wait()
        member.start()
    trio.heal()
    with trio.client() as client:
        assert client.durable.docs.count_documents({}) == 290
        assert client.durable.docs.count_documents({"seen": True}) == 10
    digests = {member.admin.client.durable.command("dbHash")["md5"] for member in trio.members}
    assert len(digests) == 1


def test_repeated_write_is_answered_from_the_record_also_after_a_failover(trio: Cluster) -> None:
    trio.primary.admin.client.retry.docs.insert_one({"_id": "counter", "n": 0})
    command = {
        "findAndModify": "docs",
        "query": {"_id": "counter"},
        "update": {"$inc": {"n": 1}},
        "new": True,
        "lsid": {"id": bson.Binary(uuid.uuid4().bytes, 4)},
        "txnNumber": bson.Int64(5),
        "writeConcern": {"w": "majority"},
    }

    def ask(**change: Any) -> dict[str, Any]:
        with trio.primary.raw() as connection:
            return dict(connection.login("root", ROOT_PASSWORD).ask("retry", {**command, **change}))

    first, again = ask(), ask()
    assert first["value"]["n"] == again["value"]["n"] == 1
    assert again["retriedStmtId"] == 0
    trio.primary.kill()
    assert ask()["value"]["n"] == 1
    assert ask(txnNumber=bson.Int64(4))["code"] == 225
    assert ask(txnNumber=bson.Int64(6))["value"]["n"] == 2


def test_driver_notices_a_step_down_by_the_awaited_hello(trio: Cluster) -> None:
    """Monitors stream: the change arrives without waiting for the next check."""
    seen: list[tuple[str, int | None]] = []

    class Listener(monitoring.TopologyListener):
        def opened(self, event: Any) -> None: ...

        def closed(self, event: Any) -> None: ...

        def description_changed(self, event: Any) -> None:
            seen.extend(address for address, server in event.new_description.server_descriptions().items() if server.server_type_name == "RSPrimary")

    with trio.client(heartbeatFrequencyMS=60000, event_listeners=[Listener()]) as client:
        client.admin.command("ping")
        old = trio.primary
        wait_for(lambda: seen, "the driver knows the primary")
        old.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
        new = trio.primary
        # Far less than the 60 s between two checks.
        wait_for(lambda: seen[-1] == ("127.0.0.1", new.port), "the driver knows the new primary", 30)
        old.admin.command("replSetFreeze", 0)
