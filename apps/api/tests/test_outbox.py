# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents and the outbox through crashes, lost answers and collisions. Each failure is tried at each operation."""

from __future__ import annotations

import asyncio
import random
import typing as t

import pytest
from app import insights, middleware, mongo, outbox
from app.insights import Conditions, Insights
from app.outbox import Outbox
from app.problems import Problem, Unavailable
from fake_mongodb import SETTINGS, Database, agree, replay
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure, ServerSelectionTimeoutError

CONTENT: dict[str, t.Any] = {"title": "One", "text": "first", "table": None, "tags": []}


def service(database: Database) -> Insights:
    client = mongo.Mongo(SETTINGS, database)
    return Insights(client, Outbox(client))


async def scenario(documents: Insights) -> None:
    """Everything that writes, once."""
    await documents.put("a", CONTENT)
    await documents.put("b", CONTENT)
    await documents.link("a", "b", "like", "link-1")
    await documents.patch("a", {"title": "Two"}, Conditions())
    await documents.link("a", "b", "other", "link-2")
    await documents.link("a", "b", "other", "link-3", remove=True)
    await documents.post("c", CONTENT)
    await documents.delete("b", Conditions())
    await documents.put("b", {**CONTENT, "title": "Again"})
    await documents.link("b", "c", "like", "link-4")


def expected(database: Database) -> None:
    agree(database)
    nodes, links = replay(database)
    assert {i: n["title"] for i, n in nodes.items()} == {"a": "Two", "b": "Again", "c": "One"}
    assert links == {("b", "like", "c")}


def operations() -> int:
    database = Database()
    asyncio.run(scenario(service(database)))
    expected(database)
    return len(database.operations)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_is_lost_is_ridden_out_wherever_it_happens(when: str) -> None:
    """No request fails, nothing is done twice: neither a record too many nor a version."""
    whole = Database()
    asyncio.run(scenario(service(whole)))
    for index in range(operations()):
        database = Database()
        database.failures[index, when] = AutoReconnect("lost")
        asyncio.run(scenario(service(database)))
        expected(database)
        assert database.real["outbox"].count_documents({}) == whole.real["outbox"].count_documents({}), (index, when)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_anywhere_is_mended_by_the_sweeper_or_the_repeated_request(when: str) -> None:
    """The process dies at an operation. Another one sweeps, and then the client repeats what it has no answer for."""

    class Crash(BaseException):
        pass

    for index in range(operations()):
        database = Database()
        database.failures[index, when] = t.cast(t.Any, Crash())
        with pytest.raises(Crash):
            asyncio.run(scenario(service(database)))
        database.up()
        asyncio.run(service(database).sweep())
        agree(database)
        asyncio.run(scenario(service(database)))
        agree(database)
        nodes, _links = replay(database)
        assert {i: n["title"] for i, n in nodes.items()} == {"a": "Two", "b": "Again", "c": "One"}


def test_a_write_is_good_while_the_outbox_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    documents = service(database)

    append = documents.outbox.append

    async def refuse(entry: t.Any, ride_out: float | None = None) -> int:
        if entry["op"] == outbox.PUT_INSIGHT:
            raise Unavailable("mongodb", "away")
        return await append(entry, ride_out)

    async def go() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(documents.outbox, "append", refuse)
            await documents.put("a", CONTENT)
            await documents.put("a", {**CONTENT, "title": "Two"})
            with pytest.raises(Unavailable):  # a link never overtakes its nodes
                await documents.link("a", "a", "like", "early")
        assert database.real["outbox"].count_documents({}) == 0
        assert await documents.sweep() == 1
        assert await documents.sweep() == 0
        assert await documents.link("a", "a", "like", "late") == 3

    asyncio.run(go())
    agree(database)
    assert [r["data"].get("version", r["change_id"]) for r in database.real["outbox"].find().sort("_id", 1)] == [1, 2, "late"]


def test_many_writers_of_several_processes_make_one_dense_order() -> None:
    database = Database()
    processes = [service(database) for _ in range(3)]

    async def write(number: int) -> None:
        documents = processes[number % 3]
        identifier = f"i{random.Random(number).randrange(4)}"  # noqa: S311 - a test's choice
        if number % 7 == 6:
            await documents.delete(identifier, Conditions())
        else:
            await documents.put(identifier, {**CONTENT, "title": f"title {number}"})

    async def go() -> None:
        await asyncio.gather(*(write(number) for number in range(60)))
        await asyncio.gather(*(one.sweep() for one in processes))

    asyncio.run(go())
    agree(database)
    assert database.real["outbox"].count_documents({}) >= 52


def test_a_number_that_is_taken_back_by_a_failover_leaves_no_gap() -> None:
    """Another writer's record 2 exists on the primary only: it collides, is not seen by majority reads, and is rolled back."""
    database = Database()
    box = Outbox(mongo.Mongo(SETTINGS, database))
    uncommitted = 3

    class Records:
        def __init__(self, real: t.Any) -> None:
            self.real = real

        async def insert_one(self, record: t.Any) -> None:
            nonlocal uncommitted
            if record["_id"] == 2 and uncommitted:
                uncommitted -= 1
                raise DuplicateKeyError("E11000", 11000)
            await self.real.insert_one(record)

        def __getattr__(self, name: str) -> t.Any:
            return getattr(self.real, name)

    box.records = t.cast(t.Any, Records(box.records))

    async def go() -> list[int]:
        return [await box.append(outbox.change(f"c{number}", outbox.REMOVE_INSIGHT, id="x")) for number in range(3)]

    assert asyncio.run(go()) == [1, 2, 3]
    replay(database)


def test_a_change_given_twice_has_one_number() -> None:
    database = Database()
    box = Outbox(mongo.Mongo(SETTINGS, database))

    async def go() -> None:
        entry = outbox.change("same", outbox.REMOVE_INSIGHT, id="x")
        assert await box.append(outbox.change("other", outbox.REMOVE_INSIGHT, id="x")) == 1
        assert [await box.append(entry) for _ in range(3)] == [2, 2, 2]
        assert [record["_id"] for record in await box.since(2, 10, 1.0)] == [2]

    asyncio.run(go())


def test_an_election_fails_no_request_and_a_long_outage_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0

    async def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    monkeypatch.setattr(mongo.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(mongo.time, "monotonic", lambda: clock)  # type: ignore[attr-defined]
    client = mongo.Mongo(SETTINGS, Database())
    until = clock + 12.0

    async def work() -> str:
        if clock < until:
            raise ServerSelectionTimeoutError("no primary")
        return "good"

    assert asyncio.run(client.run(work)) == "good"
    assert clock - until < 1.0
    until = clock + 1e9
    for longest in (mongo.RIDE_OUT, mongo.QUICK, mongo.QUICK):
        started = clock
        with pytest.raises(Unavailable) as caught:
            asyncio.run(client.run(work))
        assert clock - started <= longest
        assert (caught.value.status, caught.value.headers, caught.value.extra) == (503, {"Retry-After": "5"}, {"dependency": "mongodb"})
    until = 0.0
    assert asyncio.run(client.run(work)) == "good"


def test_what_a_request_waits_for_in_several_steps_ends_before_the_edge_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0

    async def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    monkeypatch.setattr(mongo.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    monkeypatch.setattr(mongo.time, "monotonic", lambda: clock)  # type: ignore[attr-defined]
    client = mongo.Mongo(SETTINGS, Database())

    async def elected() -> str:
        if clock < 1010.0:
            raise ServerSelectionTimeoutError("no primary")
        return "good"

    async def no_majority() -> None:
        raise ServerSelectionTimeoutError("a majority is missing")

    async def request() -> None:
        assert await client.run(elected) == "good"
        await client.run(no_majority)

    token = middleware.began.set(clock)
    try:
        with pytest.raises(Unavailable):
            asyncio.run(request())
        assert 1010.0 < clock <= 1000.0 + mongo.RIDE_OUT
    finally:
        middleware.began.reset(token)


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (AutoReconnect("x"), True),
        (ServerSelectionTimeoutError("x"), True),
        (OperationFailure("x", 91), True),
        (OperationFailure("x", 1, {"errorLabels": ["RetryableWriteError"]}), True),
        (OperationFailure("x", 50), True),
        (OperationFailure("x", 2), False),
        (DuplicateKeyError("x", 11000), False),
    ],
)
def test_what_is_worth_another_try(error: t.Any, passing: bool) -> None:
    assert mongo.passes(error) is passing


def test_a_refused_user_is_said_at_once() -> None:
    async def work() -> None:
        raise OperationFailure("no", 18)

    with pytest.raises(Unavailable, match="refuses"):
        asyncio.run(mongo.Mongo(SETTINGS, Database()).run(work))


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        await asyncio.sleep(60)

    with pytest.raises(Unavailable, match="no answer in time"):
        asyncio.run(mongo.Mongo(SETTINGS, Database()).run(work, 0.1))


def test_a_condition_that_was_met_by_our_own_lost_write_still_holds() -> None:
    database = Database()
    documents = service(database)

    def lose_the_next_write() -> None:
        database.failures[len(database.operations) + 1, "after"] = AutoReconnect("lost")  # the read, then the swap

    async def go() -> None:
        first, _ = await documents.put("a", CONTENT)
        lose_the_next_write()
        second = await documents.patch("a", {"text": "new"}, Conditions(match=insights.etag(first)))
        assert second["version"] == 2
        lose_the_next_write()
        made, new = await documents.put("b", CONTENT, Conditions(none_match="*"))
        assert (made["version"], new) == (1, True)
        lose_the_next_write()
        await documents.delete("b", Conditions(match=insights.etag(made)))
        assert await documents.get("b") is None
        with pytest.raises(Problem) as caught:
            await documents.patch("a", {"text": "newer"}, Conditions(match=insights.etag(first)))
        assert caught.value.status == 412

    asyncio.run(go())
    agree(database)
