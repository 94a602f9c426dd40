# SPDX-License-Identifier: GPL-3.0-or-later
"""Appliers and reads of the graph on two real Neo4j Community members. The outbox is in memory here; test_stores.py has servers for both."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random
import threading
import time
import typing as t

import app.main
import pytest
from app import applier, graph, mongo, outbox
from app.applier import Ahead, Applier, Stuck
from app.insights import Conditions, Insights
from app.neo4j_client import FAILURES
from app.problems import Problem
from app.settings import GraphSettings
from fake_mongodb import SETTINGS, Database, replay
from graph_helpers import CONTENT, URL, Client, box_of, catch_up, connected, contents, empty, graph_environment, settings_of, wipe, without_nulls
from servers import NEO4J_PASSWORD, Certificates, Neo4jServer, free_port, wait_for

LIGHT = {"MINIO_ENDPOINT": "127.0.0.1:1", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b", "MONGODB_URI": "mongodb://127.0.0.1:1/"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy with other things."""
    monkeypatch.setattr(graph, "SLOW_TIMEOUT", 120.0)
    monkeypatch.setattr(applier, "ANSWER", 120.0)
    monkeypatch.setattr(applier, "TRANSACTION", 120.0)


async def random_history(database: Database, count: int, seed: int = 1) -> None:
    """Insights, links and removals as the API's functions make them."""
    documents = Insights(mongo.Mongo(SETTINGS, database), box_of(database))
    dice = random.Random(seed)  # noqa: S311 - reproducible
    names = [f"n{number}" for number in range(40)]
    for number in range(count):
        one, two = dice.sample(names, 2)
        choice = dice.random()
        if choice < 0.4 or not await documents.get(one) or not await documents.get(two):
            await documents.put(one, {**CONTENT, "title": f"title {number}", "tags": [str(number)]})
        elif choice < 0.9:
            await documents.link(one, two, dice.choice(["like", "same-month"]), f"{seed}-{number}", remove=choice > 0.8)
        else:
            await documents.delete(one, Conditions())


def record(number: int, op: str = outbox.REMOVE_INSIGHT, **data: t.Any) -> dict[str, t.Any]:
    return {"_id": number, **outbox.change(f"c{number}", op, **(data or {"id": "x"}))}


def test_what_is_to_be_applied() -> None:
    records = [record(number) for number in range(1, 6)]
    assert applier.check(0, None, records) == records
    assert applier.check(2, "c2", records[1:]) == records[2:]
    assert applier.check(5, "c5", records[4:]) == []
    assert applier.check(0, None, []) == []
    assert applier.check(2, "c2", records[2:]) == records[2:]  # its own record was compacted
    for number, change_id, given, state in (
        (2, "other", records[1:], applier.DIVERGED), (0, None, records[1:], applier.GAP), (2, "c2", records[3:], applier.GAP),
        (0, None, [records[0], records[2]], applier.GAP), (0, None, [record(1, "later.kind")], applier.UNKNOWN_OP),
    ):  # fmt: skip
        with pytest.raises(Stuck) as caught:
            applier.check(number, change_id, given)
        assert caught.value.state == state
    with pytest.raises(Ahead):
        applier.check(5, "c5", [])


def test_neighbours_of_one_kind_are_one_statement_and_order_is_kept() -> None:
    put, remove = outbox.PUT_INSIGHT, outbox.REMOVE_INSIGHT
    records = [record(1, put, id="a", v=1), record(2, put, id="b", v=1), record(3, put, id="a", v=2), record(4, remove, id="a"), record(5, put, id="a", v=3)]
    assert applier.runs(records) == [(put, [{"id": "a", "v": 2}, {"id": "b", "v": 1}]), (remove, [{"id": "a"}]), (put, [{"id": "a", "v": 3}])]


@pytest.mark.parametrize("batch", [3, 500])
def test_a_member_is_what_the_outbox_says(graph_servers: list[Neo4jServer], authority: Certificates, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier, "BATCH", batch)
    database = Database()

    async def go() -> None:
        await random_history(database, 90)
        async with connected(authority, *graph_servers) as (one, two):
            await wipe(one)
            await catch_up(box_of(database), one)
            nodes, links = replay(database)
            assert len(links) > 5
            assert await contents(one) == (without_nulls(nodes), links)
            # two appliers of the same member at once, as in a rollout
            await wipe(two)
            stop = time.monotonic() + 300
            both = [Applier(box_of(database), two) for _ in range(2)]
            tasks = [asyncio.create_task(member.run()) for member in both]
            newest = await box_of(database).newest(1.0)
            while any(member.position is None or member.position.number < newest for member in both):
                assert time.monotonic() < stop
                await asyncio.sleep(0.05)
            for member in both:
                member.stop.set()
            await asyncio.gather(*tasks)
            digests = [await applier.checksum(driver) for driver in (one, two)]
            assert digests[0] == digests[1]
            assert (digests[0]["applied"], digests[0]["nodes"], digests[0]["links"]) == (newest, len(nodes), len(links))
            # and the checksum notices
            await two.execute_query("MATCH (n:Insight) WITH n LIMIT 1 SET n.title = 'other'", database_="neo4j")
            assert (await applier.checksum(two))["sha256"] != digests[0]["sha256"]

    asyncio.run(go())


def test_members_are_compared_at_one_number_while_changes_come_in(graph_servers: list[Neo4jServer], authority: Certificates) -> None:
    database = Database()

    async def at(member: Applier, number: int) -> None:
        stop = time.monotonic() + 120
        while member.position is None or member.position.number < number:
            assert time.monotonic() < stop
            await asyncio.sleep(0.05)

    async def go() -> None:
        async with connected(authority, *graph_servers) as (one, two):
            await wipe(one)
            await wipe(two)
            members = [Applier(box_of(database), driver) for driver in (one, two)]
            tasks = [asyncio.create_task(member.run()) for member in members]
            held = []
            for member in members:
                await random_history(database, 30)
                await at(member, await box_of(database).newest(1.0))
                held.append((await applier.hold(member.driver, 120))["applied"])
            await random_history(database, 30)
            newest = await box_of(database).newest(1.0)
            assert held[0] < held[1] < newest
            digests = await asyncio.gather(*(applier.checksum_at(driver, held[1]) for driver in (one, two)))
            assert digests[0] == digests[1] and digests[0]["applied"] == held[1]
            # the hold has ended, and so has one that ran out
            for member in members:
                await at(member, newest)
            await applier.hold(one, 0)
            for driver in (one, two):
                with pytest.raises(applier.HoldEnded):
                    await applier.checksum_at(driver, newest)
            # a member that passed the number is no member to compare
            await applier.hold(one, 120)
            with pytest.raises(applier.HoldEnded):
                await applier.checksum_at(one, newest - 1)
            for member in members:
                member.stop.set()
            await asyncio.gather(*tasks)

    asyncio.run(go())


def test_a_batch_is_whole_or_not_at_all(graph_servers: list[Neo4jServer], authority: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(1, outbox.PUT_INSIGHT, id="a", title="A", tags=[], version=1), record(2)]

    async def go() -> None:
        async with connected(authority, graph_servers[0]) as (driver,):
            await wipe(driver)
            with monkeypatch.context() as patch:
                patch.setitem(applier.STATEMENTS, outbox.REMOVE_INSIGHT, "UNWIND $rows AS row RETURN 1 / 0")
                with pytest.raises(FAILURES):
                    await applier.apply(driver, 0, records)
            assert (await applier.reached(driver)).number == 0
            assert await contents(driver) == ({}, set())
            await applier.apply(driver, 0, records)
            await applier.apply(driver, 0, records)  # a commit whose answer was lost
            assert await applier.reached(driver) == graph.Position(2, "c2", False)
            with pytest.raises(applier.Moved):
                await applier.apply(driver, 1, records[1:] + [record(3)])

    asyncio.run(go())


def test_a_member_with_changes_that_mongodb_lost_is_not_read_and_not_written(
    graph_servers: list[Neo4jServer], authority: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applier, "AHEAD", 0.0)
    before, after = Database(), Database()

    async def go() -> None:
        await random_history(before, 30)
        async with connected(authority, graph_servers[0]) as (driver,):
            await wipe(driver)
            await catch_up(box_of(before), driver)
            reads = graph.Graph(settings_of(authority, graph_servers[0]), box_of(after))
            member = Applier(box_of(after), driver)

            async def watch(condition: t.Callable[[], bool]) -> None:
                task = asyncio.create_task(member.run())
                async with asyncio.timeout(300):
                    while not condition():
                        await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)
                member.stop.set()
                await task
                member.stop.clear()

            try:
                # restored to an earlier time: first with nothing, then with another course
                await watch(lambda: member.state == applier.DIVERGED)
                assert (await applier.reached(driver)).diverged
                with pytest.raises(Problem, match="diverged"):
                    await reads.read(lambda tx: graph.neighbours(tx, "n1", 1, 10))
                kept = await contents(driver)
                await random_history(after, 60, seed=2)
                await watch(lambda: member.state == applier.DIVERGED)
                assert await contents(driver) == kept
                await wipe(driver)  # rebuilt from nothing
                newest = await box_of(after).newest(1.0)
                await watch(lambda: member.position is not None and member.position.number == newest)
                assert member.state == applier.FOLLOWING
                nodes, links = replay(after)
                assert await contents(driver) == (without_nulls(nodes), links)
                await reads.read(lambda tx: graph.neighbours(tx, "n1", 1, 10))
            finally:
                await reads.close()

    asyncio.run(go())


def nearest(links: set[tuple[str, str, str]], start: str, depth: int) -> dict[str, int]:
    found, edge = {start: 0}, [start]
    for level in range(1, depth + 1):
        near = {b for a, _kind, b in links if a in edge} | {a for a, _kind, b in links if b in edge}
        edge = sorted(near - set(found))
        found.update(dict.fromkeys(edge, level))
    return found


def test_neighbours_are_those_of_the_outbox(graph_servers: list[Neo4jServer], authority: Certificates) -> None:
    database = Database()

    async def go() -> None:
        await random_history(database, 110, seed=3)
        nodes, links = replay(database)
        async with connected(authority, graph_servers[0]) as (driver,):
            await wipe(driver)
            await catch_up(box_of(database), driver)
        reads = graph.Graph(settings_of(authority, graph_servers[0]), box_of(database))
        try:
            for start in sorted(nodes):
                for depth in (1, 2, 5):
                    answer, reading = await reads.read(lambda tx, start=start, depth=depth: graph.neighbours(tx, start, depth, 100))  # type: ignore[misc]
                    expected = nearest(links, start, depth)
                    assert answer is not None
                    assert {node["id"]: node["depth"] for node in answer["nodes"]} | {start: 0} == expected
                    assert {(one["source"], one["kind"], one["target"]) for one in answer["links"]} == {
                        link for link in links if link[0] in expected and link[2] in expected
                    }
                    assert (answer["truncated"], reading.lag) == (False, 0)
            start = max(nodes, key=lambda name: len(nearest(links, name, 5)))
            whole = nearest(links, start, 5)
            for limit in (1, 3, len(whole) - 2, len(whole) - 1, len(whole)):
                answer, _reading = await reads.read(lambda tx, limit=limit: graph.neighbours(tx, start, 5, limit))  # type: ignore[misc]
                assert answer is not None
                assert len(answer["nodes"]) == min(limit, len(whole) - 1)
                assert answer["truncated"] == (limit < len(whole) - 1)
                depths = [node["depth"] for node in answer["nodes"]]
                assert depths == sorted(whole.values())[1 : limit + 1]
            assert (await reads.read(lambda tx: graph.neighbours(tx, "absent", 1, 10)))[0] is None
        finally:
            await reads.close()

    asyncio.run(go())


def test_a_cluster_is_reached_by_routing(graph_servers: list[Neo4jServer], authority: Certificates) -> None:
    """Community answers the driver's questions for routes, too: a cluster of one. The first of the addresses is dead."""
    database = Database()
    live = f"neo4j+s://127.0.0.1:{graph_servers[0].port}"
    settings = GraphSettings((f"neo4j+s://127.0.0.1:{free_port()}", live), "neo4j", NEO4J_PASSWORD, authority.authority, "enterprise", 0)

    async def go() -> None:
        await empty(authority, graph_servers[0])
        await random_history(database, 20)
        reads = graph.Graph(settings, box_of(database))
        try:
            (member,) = reads.members
            await catch_up(box_of(database), member.driver)
            nodes, links = replay(database)
            assert await contents(member.driver) == (without_nulls(nodes), links)
            answer, reading = await reads.read(lambda tx: graph.neighbours(tx, min(nodes), 1, 10))
            assert answer is not None
            assert reading.lag == 0
        finally:
            await reads.close()

    asyncio.run(go())


def test_a_member_that_is_too_far_behind_is_passed_over(graph_servers: list[Neo4jServer], authority: Certificates) -> None:
    database = Database()

    async def go() -> None:
        await random_history(database, 40)
        async with connected(authority, *graph_servers) as (one, two):
            await wipe(one)
            await wipe(two)
            await catch_up(box_of(database), one)
        newest = await box_of(database).newest(1.0)
        strict = graph.Graph(settings_of(authority, *graph_servers, max_lag=newest - 1), box_of(database))
        loose = graph.Graph(settings_of(authority, *graph_servers, max_lag=newest), box_of(database))
        late = graph.Graph(settings_of(authority, graph_servers[1], max_lag=newest - 1), box_of(database))

        async def nothing(_tx: t.Any) -> None:
            return None

        try:
            assert {(await strict.read(nothing))[1].lag for _ in range(4)} == {0}
            assert {(await loose.read(nothing))[1].lag for _ in range(4)} == {0, newest}
            assert await strict.status() == (1, 2, 0)
            with pytest.raises(Problem, match=f"{newest} changes behind, at most {newest - 1} accepted"):
                await late.read(nothing)
            # MongoDB away: the last known number still counts; a process that never knew one reads on
            database.down()
            strict._asked = 0.0
            assert {(await strict.read(nothing))[1].lag for _ in range(4)} == {0}
            fresh = graph.Graph(settings_of(authority, graph_servers[1], max_lag=0), box_of(database))
            assert (await fresh.read(nothing))[1].lag is None
            await fresh.close()
        finally:
            for reads in (strict, loose, late):
                await reads.close()

    asyncio.run(go())


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    found = Database()
    monkeypatch.setattr(app.main, "Mongo", lambda settings: mongo.Mongo(SETTINGS, found))
    return found


class Appliers:
    """An applier a member, in a thread with a loop of its own, as they are processes of their own elsewhere."""

    def __init__(self, database: Database, authority: Certificates, *servers: Neo4jServer) -> None:
        self.database, self.authority, self.servers = database, authority, servers
        self.members: list[Applier] = []

    def __enter__(self) -> Appliers:
        ready = threading.Event()

        async def go() -> None:
            self.loop = asyncio.get_running_loop()
            async with connected(self.authority, *self.servers) as found:
                self.members = [Applier(box_of(self.database), driver) for driver in found]
                ready.set()
                await asyncio.gather(*(member.run() for member in self.members))

        self.thread = threading.Thread(target=lambda: asyncio.run(go()))
        self.thread.start()
        assert ready.wait(60)
        return self

    def __exit__(self, *_details: t.Any) -> None:
        for member in self.members:
            self.loop.call_soon_threadsafe(member.stop.set)
        self.thread.join(300)
        assert not self.thread.is_alive()

    def caught_up(self, number: int) -> bool:
        return all(member.position is not None and member.position.number >= number for member in self.members)


def test_the_graph_is_away_and_only_its_endpoint_fails(
    base_environment: dict[str, str], database: Database, authority: Certificates, tmp_path: pathlib.Path
) -> None:
    with Client({**LIGHT, **base_environment, **graph_environment(authority, *(f"bolt+s://127.0.0.1:{free_port()}" for _ in range(2)))}) as api:
        for name in ("a", "b"):
            assert api.put(f"{URL}/{name}", json={"title": name}).status_code == 201
        linked = api.put(f"{URL}/a/links/like/b")
        assert (linked.status_code, linked.headers["x-graph-change"]) == (200, "3")
        answer = api.get(f"{URL}/a/neighbours")
        assert (answer.status_code, answer.json()["dependency"], answer.headers["retry-after"]) == (503, "neo4j", "5")
        assert api.get(f"{URL}/a").status_code == 200
        ready = api.get("/ready").json()["dependencies"]
        assert (ready["neo4j"]["status"], ready["neo4j"]["required"], ready["mongodb"]["status"]) == ("down", False, "up")


def test_links_and_what_is_wrong_with_them(
    base_environment: dict[str, str], database: Database, graph_servers: list[Neo4jServer], authority: Certificates, tmp_path: pathlib.Path
) -> None:
    asyncio.run(empty(authority, graph_servers[0]))
    with Appliers(database, authority, graph_servers[0]), Client({**LIGHT, **base_environment, **graph_environment(authority, graph_servers[0].uri)}) as api:
        for name in ("a", "b", "c"):
            api.put(f"{URL}/{name}", json={"title": name, "table": "weather"})

        def near(name: str, number: t.Any = None, **parameters: t.Any) -> t.Any:
            if number is not None:  # what was written is there once the position has reached its number
                wait_for(lambda: api.get(f"{URL}/{name}/neighbours").json()["position"] >= int(number), 120, "the change")
            return api.get(f"{URL}/{name}/neighbours", params=parameters).json()

        api.put(f"{URL}/a/links/like/b")
        number = api.put(f"{URL}/b/links/same-month/c").headers["x-graph-change"]
        found = near("a", number, depth=2)
        assert found["nodes"] == [{"id": "b", "title": "b", "table": "weather", "depth": 1}, {"id": "c", "title": "c", "table": "weather", "depth": 2}]
        assert found["links"] == [{"source": "a", "target": "b", "kind": "like"}, {"source": "b", "target": "c", "kind": "same-month"}]
        assert (found["lag"], found["truncated"]) == (0, False)
        assert [node["id"] for node in near("c")["nodes"]] == ["b"]
        key = {"Idempotency-Key": "once"}
        numbers = {api.delete(f"{URL}/a/links/like/b", headers=key).headers["x-graph-change"] for _ in range(3)}
        assert len(numbers) == 1
        assert near("a", numbers.pop())["nodes"] == []
        api.delete(f"{URL}/c")
        assert api.delete(f"{URL}/b/links/same-month/c").status_code == 204
        newest = database.real["outbox"].count_documents({})
        assert near("b", newest)["nodes"] == []
        assert api.get(f"{URL}/c/neighbours").status_code == 404
        for path, status in (("a/links/like/absent", 404), ("absent/links/like/a", 404), ("a/links/like/a", 422), ("a/links/Bad_Kind/b", 422)):
            assert api.put(f"{URL}/{path}").status_code == status
        for depth in (0, 6):
            assert api.get(f"{URL}/a/neighbours", params={"depth": depth}).status_code == 422
        assert database.real["outbox"].count_documents({}) == newest
        wait_for(lambda: api.get("/ready").json()["dependencies"]["neo4j"]["status"] == "up", 120, "the graph's status")


def test_one_of_two_dies_and_nothing_fails_then_it_is_rebuilt_from_nothing(
    base_environment: dict[str, str], database: Database, graph_servers: list[Neo4jServer], authority: Certificates, tmp_path: pathlib.Path
) -> None:
    asyncio.run(empty(authority, *graph_servers))
    with (
        Client({**LIGHT, **base_environment, **graph_environment(authority, *(server.uri for server in graph_servers))}) as api,
        contextlib.ExitStack() as stack,
    ):
        appliers = stack.enter_context(Appliers(database, authority, *graph_servers))
        for number in range(20):
            api.put(f"{URL}/i{number}", json={"title": f"title {number}"})
            if number:
                api.put(f"{URL}/i{number}/links/after/i{number - 1}")
        newest = database.real["outbox"].count_documents({})
        wait_for(lambda: appliers.caught_up(newest), 300, "both members")
        leave, answers = threading.Event(), {"reads": 0, "writes": 0}
        failures: list[t.Any] = []

        def load(kind: str, send: t.Callable[[int], t.Any]) -> None:
            number = 0
            while not leave.is_set():
                number += 1
                answer = send(number)
                answers[kind] += 1
                if answer.status_code >= 400:
                    failures.append((kind, answer.json()))

        threads = [
            threading.Thread(target=load, args=("reads", lambda n: api.get(f"{URL}/i{n % 20}/neighbours", params={"depth": 3}))),
            threading.Thread(target=load, args=("reads", lambda n: api.get(f"{URL}/i{n % 7}/neighbours"))),
            threading.Thread(target=load, args=("writes", lambda n: api.put(f"{URL}/w{n}", json={"title": f"written {n}"}))),
        ]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        graph_servers[1].kill()
        before = dict(answers)
        wait_for(lambda: all(answers[kind] > before[kind] + 20 for kind in answers), 300, "requests after the death")
        assert api.get("/ready").json()["dependencies"]["neo4j"]["status"] != "up"
        # rebuilt: an empty member at the same address; its applier finds it at 0
        graph_servers[1] = Neo4jServer(tmp_path / "again", authority, graph_servers[1].port)
        graph_servers[1].start()
        graph_servers[1].wait()
        leave.set()
        for thread in threads:
            thread.join(300)
        assert not failures
        newest = database.real["outbox"].count_documents({})
        wait_for(lambda: appliers.caught_up(newest), 300, "the rebuilt member")
        wait_for(lambda: api.get("/ready").json()["dependencies"]["neo4j"]["status"] == "up", 120, "both members")

    async def digests() -> list[t.Any]:
        async with connected(authority, *graph_servers) as found:
            return [await applier.checksum(driver) for driver in found]

    one, two = asyncio.run(digests())
    assert one == two
    nodes, links = replay(database)
    assert (one["applied"], one["nodes"], one["links"]) == (newest, len(nodes), len(links))
