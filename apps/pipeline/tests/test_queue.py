# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker and the scheduler against a real Redis, with the access rules of the README."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import pathlib
import signal
import socketserver
import subprocess
import sys
import threading
import time
import typing as t
import urllib.request

import pytest
import redis
from pipeline import alerts, events, jobs, metrics, steps
from pipeline.errors import QualityError, RunFailed
from pipeline.redis_client import connect
from pipeline.scheduler import SINCE, Scheduler
from pipeline.settings import Settings
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from servers import free_port, wait_for


class Mailbox(socketserver.StreamRequestHandler):
    """Enough of an SMTP server to receive a message."""

    messages: t.ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go\r\n")
                text = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    text += part
                type(self).messages.append(text.decode())
                self.wfile.write(b"250 ok\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


class Hook(http.server.BaseHTTPRequestHandler):
    bodies: t.ClassVar[list[dict[str, t.Any]]] = []
    status: t.ClassVar[int] = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).bodies.append({"path": self.path, **body})
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def alert_environment(queue_environment: dict[str, str], tmp_path: pathlib.Path) -> t.Iterator[dict[str, str]]:
    Mailbox.messages, Hook.bodies, Hook.status = [], [], 200
    secret = tmp_path / "webhook"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as mail, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        for server in (mail, hook):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        secret.write_text(f"http://127.0.0.1:{hook.server_address[1]}/services/very-secret", encoding="utf-8")
        yield {
            **queue_environment,
            "ALERT_SMTP_HOST": "127.0.0.1",
            "ALERT_SMTP_PORT": str(mail.server_address[1]),
            "ALERT_SMTP_SECURITY": "none",
            "ALERT_EMAIL_TO": "oncall@example.com, team@example.com",
            "ALERT_WEBHOOK_URL_FILE": str(secret),
            "ALERT_PLATFORM": "lab",
        }
        for server in (mail, hook):
            server.shutdown()


@contextlib.contextmanager
def worker(environment: dict[str, str], python: dict[str, str], tmp_path: pathlib.Path, *words: str) -> t.Iterator[subprocess.Popen[bytes]]:
    log = (tmp_path / "worker.log").open("ab")
    process = subprocess.Popen([sys.executable, "-m", "pipeline", "worker", *words], env={**python, **environment}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            finally:
                # A worker left behind would take the jobs of the tests that follow.
                process.kill()
                process.wait()
        log.close()


def logged(tmp_path: pathlib.Path) -> str:
    return (tmp_path / "worker.log").read_text(encoding="utf-8")


def state(connection: redis.Redis, run_id: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in connection.hgetall(events.RUN.format(run_id)).items()}


def ended(connection: redis.Redis, run_id: str, seconds: float = 40) -> dict[str, str]:
    wait_for(lambda: state(connection, run_id).get("status") in ("succeeded", "failed"), seconds, f"the end of run {run_id}")
    return state(connection, run_id)


def test_a_run_through_the_queue(
    queue_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path, buckets: t.Any
) -> None:
    settings = Settings.load(queue_environment)
    connection = connect(settings.redis)
    heard: list[dict[str, t.Any]] = []
    subscription = connection.pubsub()
    subscription.subscribe(**{events.CHANNEL: lambda message: heard.append(json.loads(message["data"]))})
    thread = subscription.run_in_thread(sleep_time=0.05, daemon=True)
    port = free_port()
    with worker({**queue_environment, "WORKER_METRICS_PORT": str(port)}, python_environment, tmp_path) as process:
        jobs.enqueue(connection, settings, run_id="first", trigger="test")
        record = ended(connection, "first")
        assert record["status"] == "succeeded", logged(tmp_path)
        assert json.loads(record["step:orders:load_to_gold"])["status"] == "done"
        # a second run finds nothing to do, and is as fast as that
        jobs.enqueue(connection, settings, run_id="second", trigger="test", tables=["orders"])
        before = buckets.state()
        assert ended(connection, "second")["status"] == "succeeded"
        assert buckets.state() == before

        def page(path: str) -> str:
            return str(urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read().decode())

        wait_for(lambda: 'pipeline_runs_total{status="succeeded"} 2.0' in page("/metrics"), what="two counted runs")
        text = page("/metrics")
        assert 'pipeline_step_duration_seconds_count{step="load_to_gold"} 2.0' in text
        assert 'pipeline_gold_rows{table="orders"} 3.0' in text
        assert 'pipeline_quality_violations_total{severity="warn",table="orders"} 1.0' in text
        assert json.loads(page("/health")) == {"status": "ok"}
        assert pathlib.Path(queue_environment["PIPELINE_HEALTH_FILE"]).exists()
        process.terminate()
        assert process.wait(10) == 0
    thread.stop()
    thread.join(5)
    subscription.close()
    assert [run.decode() for run in connection.lrange(events.RUNS, 0, -1)] == ["second", "first"]
    first = [(e["table"], e["step"], e["status"]) for e in heard if e["run_id"] == "first"]
    assert first[:2] == [(None, None, "queued"), (None, None, "started")]
    assert ("orders", "load_to_gold", "published") in first
    assert first[-1] == (None, None, "succeeded")
    assert all(isinstance(json.loads(line), dict) for line in logged(tmp_path).splitlines())
    assert all(secret not in logged(tmp_path) for secret in ("root-password", "pipeline-password"))


def test_a_bad_load_is_not_tried_again_and_people_are_told(
    alert_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path
) -> None:
    orders.write("id;day;state;amount\n7;-;paid;1\n")
    settings = Settings.load(alert_environment)
    connection = connect(settings.redis)
    jobs.enqueue(connection, settings, run_id="bad", trigger="test")
    with worker(alert_environment, python_environment, tmp_path):
        record = ended(connection, "bad")
        wait_for(lambda: Mailbox.messages and Hook.bodies, what="both alerts")
    assert record["status"] == "failed"
    assert "(id=7, day=NULL)" in record["error"]
    assert len(Mailbox.messages) == len(Hook.bodies) == 1
    (hook,) = Hook.bodies
    for text in (Mailbox.messages[0].replace("=\r\n", ""), hook["text"]):
        assert "run id: bad" in text
        assert "table orders, step transform_with_duckdb, rule not_null(id, day)" in text.replace("=3D", "=")
    assert "Subject: [lab] pipeline run bad failed for 1 table" in Mailbox.messages[0]
    assert "oncall@example.com, team@example.com" in Mailbox.messages[0]
    assert hook["path"] == "/services/very-secret"
    assert "very-secret" not in logged(tmp_path)


def test_a_passing_trouble_is_tried_again_then_people_are_told(
    alert_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path
) -> None:
    environment = {**alert_environment, "MINIO_ENDPOINT": f"127.0.0.1:{free_port()}", "PIPELINE_RETRIES": "2", "PIPELINE_RETRY_INTERVALS": "1"}
    settings = Settings.load(environment)
    connection = connect(settings.redis)
    jobs.enqueue(connection, settings, run_id="away", trigger="test")
    with worker(environment, python_environment, tmp_path):
        wait_for(lambda: state(connection, "away").get("status") == "retrying", 30, "the first retry")
        assert not Hook.bodies
        ended(connection, "away", 90)
        wait_for(lambda: Hook.bodies, what="the alert")
    lines = [json.loads(line) for line in logged(tmp_path).splitlines()]
    assert sum(line["message"].startswith("orders extract_and_load: cannot read") for line in lines) == 3
    assert len(Hook.bodies) == 1


def test_the_store_back_in_time_ends_well(alert_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path) -> None:
    source = orders.file.rename(orders.file.with_suffix(".away"))
    orders.file.mkdir()  # reading a directory fails as a disk may, and may work later
    environment = {**alert_environment, "PIPELINE_RETRY_INTERVALS": "1"}
    settings = Settings.load(environment)
    connection = connect(settings.redis)
    # a missing file is final, an unreadable one too: only the store and the network are worth another try
    jobs.enqueue(connection, settings, run_id="unreadable", trigger="test")
    with worker(environment, python_environment, tmp_path):
        assert ended(connection, "unreadable")["status"] == "failed"
        orders.file.rmdir()
        source.rename(orders.file)
        jobs.enqueue(connection, settings, run_id="back", trigger="test")
        assert ended(connection, "back")["status"] == "succeeded"


@pytest.fixture
def slow_source(orders: t.Any) -> t.Iterator[threading.Event]:
    """The source answers when the test says so: a job that lasts."""
    release = threading.Event()
    asked = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            release.wait(30)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(orders.GOOD.encode())

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = orders.document()["tables"][0]["source"]
        orders.configure(source={**source, "uri": f"http://127.0.0.1:{server.server_address[1]}/orders.csv"})
        release.asked = asked  # type: ignore[attr-defined]
        yield release
        release.set()
        server.shutdown()


def test_sigterm_lets_the_job_finish(queue_environment: dict[str, str], python_environment: dict[str, str], slow_source: t.Any, tmp_path: pathlib.Path) -> None:
    settings = Settings.load(queue_environment)
    connection = connect(settings.redis)
    for run_id in ("current", "next"):
        jobs.enqueue(connection, settings, run_id=run_id, trigger="test")
    with worker(queue_environment, python_environment, tmp_path) as process:
        assert slow_source.asked.wait(20)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None
        slow_source.set()
        assert process.wait(15) == 0
    assert state(connection, "current")["status"] == "succeeded"
    assert state(connection, "next")["status"] == "queued"


def test_a_killed_worker_loses_no_job(
    queue_environment: dict[str, str], python_environment: dict[str, str], slow_source: t.Any, tmp_path: pathlib.Path, queue_server: t.Any
) -> None:
    environment = {**queue_environment, "PIPELINE_RETRY_INTERVALS": "0"}
    settings = Settings.load(environment)
    connection = connect(settings.redis)
    jobs.enqueue(connection, settings, run_id="orphan", trigger="test")
    with worker(environment, python_environment, tmp_path) as process:
        assert slow_source.asked.wait(20)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
        for pid in (process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        process.wait(5)
    slow_source.set()
    with queue_server.admin() as admin:
        # what time would do: the dead worker's claim on the job, its locks and the table's lock expire
        for member, _score in admin.zrange("rq:wip:pipeline", 0, -1, withscores=True):
            admin.zadd("rq:wip:pipeline", {member: 1})
        for key in (*admin.keys("rq:scheduler-lock:*"), *admin.keys("rq:clean*"), *admin.keys("pipeline:lock:*")):
            admin.delete(key)
    with worker(environment, python_environment, tmp_path):
        assert ended(connection, "orphan")["status"] == "succeeded"


def test_the_queue_takes_no_other_function(
    queue_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path
) -> None:
    settings = Settings.load(queue_environment)
    connection = connect(settings.redis)
    target = tmp_path / "owned"
    job = Queue("pipeline", connection=connection, serializer=JSONSerializer).enqueue("os.mkdir", str(target))
    with worker(queue_environment, python_environment, tmp_path, "--burst"):
        wait_for(lambda: Job.fetch(job.id, connection=connection, serializer=JSONSerializer).is_failed, what="the refusal")
    assert not target.exists()
    assert "names the function 'os.mkdir'" in logged(tmp_path)


def test_the_command_waits_for_the_end(queue_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path) -> None:
    with worker(queue_environment, python_environment, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "enqueue", "--wait", "30", "--run-id", "asked", "orders"],
            env={**python_environment, **queue_environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["queued", "succeeded"]
    assert done.returncode == 0


def test_two_runs_take_turns_on_a_table(queue_environment: dict[str, str]) -> None:
    connection = connect(Settings.load(queue_environment).redis)
    first, second = (events.Recorder(connection, run_id, 50) for run_id in ("a", "b"))
    order = []
    with first.lock("orders"):
        other = threading.Thread(target=lambda: order.append("enter") if second.lock("orders").__enter__() is None else None)
        other.start()
        time.sleep(0.7)
        assert order == []
        order.append("leave")
    other.join(5)
    assert order == ["leave", "enter"]


def test_without_redis_data_still_flows(make_context: t.Any, orders: t.Any, queue_environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.load({**queue_environment, "REDIS_PORT": str(free_port())})
    context = make_context(orders.config, connect(settings.redis))
    steps.run(context)
    assert sum("the run is not recorded" in record.message for record in caplog.records) == 1  # asked once, then left alone


def test_alerts_that_fail_are_reported_without_the_secret(alert_environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    Hook.status = 500
    settings = Settings.load({**alert_environment, "ALERT_SMTP_PORT": str(free_port())})
    error = RunFailed("r", [QualityError("t", "silver", [{"rule": "unique", "message": "m", "sample": []}], 3)])
    assert alerts.send(settings.alerts, alerts.Alert.of("r", error)) == {"email": False, "webhook": False}
    assert "alert by webhook failed: HTTPError 500" in caplog.text
    assert "very-secret" not in caplog.text


UTC = datetime.UTC


def scheduler(environment: dict[str, str], name: str = "one", **changes: str) -> Scheduler:
    settings = Settings.load({**environment, **changes}, redis=True)
    return Scheduler(settings, connect(settings.redis), name)


def test_two_schedulers_enqueue_a_time_once(queue_environment: dict[str, str]) -> None:
    one, two = scheduler(queue_environment), scheduler(queue_environment, "two")
    start = datetime.datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert one.tick(start) == "before the first start"
    at = datetime.datetime(2026, 3, 2, 2, 0, 3, tzinfo=UTC)
    barrier, outcomes = threading.Barrier(8), []

    def race(member: Scheduler) -> None:
        barrier.wait()
        outcomes.append(member.tick(at))

    threads = [threading.Thread(target=race, args=(scheduler(queue_environment, f"member{n}"),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["enqueued", *["taken"] * 7]
    assert two.tick(at + datetime.timedelta(hours=3)) == "taken"
    assert jobs.queue(one.connection, one.settings).job_ids == ["scheduled-20260302T020000Z"]
    assert two.tick(at + datetime.timedelta(days=1)) == "enqueued"


def test_a_claim_whose_holder_died_is_taken_over(queue_environment: dict[str, str]) -> None:
    member = scheduler(queue_environment)
    member.connection.set(SINCE, "0")
    at = datetime.datetime(2026, 3, 2, 2, 0, 3, tzinfo=UTC)
    member.connection.set("pipeline:schedule:20260302T020000Z", "claimed by dead", ex=1)
    assert member.tick(at) == "taken"
    time.sleep(1.1)
    assert member.tick(at) == "enqueued"


def test_a_claim_after_the_run_was_enqueued_does_not_enqueue_it_twice(queue_environment: dict[str, str]) -> None:
    member = scheduler(queue_environment)
    member.connection.set(SINCE, "0")
    at = datetime.datetime(2026, 3, 2, 2, 0, 3, tzinfo=UTC)
    assert member.tick(at) == "enqueued"
    member.connection.delete("pipeline:schedule:20260302T020000Z")
    assert member.tick(at) == "duplicate"


def test_a_missed_time_is_caught_up_if_young_enough(alert_environment: dict[str, str]) -> None:
    member = scheduler(alert_environment, PIPELINE_MISFIRE_SECONDS="3600")
    member.connection.set(SINCE, "0")
    assert member.tick(datetime.datetime(2026, 3, 2, 2, 59, tzinfo=UTC)) == "enqueued"
    assert member.tick(datetime.datetime(2026, 3, 3, 3, 1, tzinfo=UTC)) == "missed"
    wait_for(lambda: Hook.bodies, what="the alert")
    assert "scheduled-20260303T020000Z was missed" in Hook.bodies[0]["text"]


def test_the_schedule_follows_its_time_zone(queue_environment: dict[str, str]) -> None:
    member = scheduler(queue_environment, PIPELINE_TIMEZONE="America/Sao_Paulo")
    assert member.due(datetime.datetime(2026, 3, 2, 5, 0, 0, tzinfo=UTC)) == datetime.datetime(2026, 3, 2, 5, tzinfo=UTC)
    assert member.due(datetime.datetime(2026, 3, 2, 4, 59, 58, tzinfo=UTC)) == datetime.datetime(2026, 3, 1, 5, tzinfo=UTC)
    berlin = scheduler(queue_environment, PIPELINE_TIMEZONE="Europe/Berlin", PIPELINE_SCHEDULE="30 2 * * *")
    days = {berlin.due(datetime.datetime(2026, 3, day, 12, tzinfo=UTC)) for day in (28, 29, 30, 31)}
    assert len(days) == 4  # the night without 02:30 has its run too


def test_the_scheduler_process(queue_environment: dict[str, str], python_environment: dict[str, str], orders: t.Any, tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "pipeline", "scheduler"], env={**python_environment, **queue_environment}, stdout=subprocess.PIPE)
    health = pathlib.Path(queue_environment["PIPELINE_HEALTH_FILE"])
    wait_for(health.exists, what="the heartbeat")
    process.terminate()
    output, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert [json.loads(line)["message"].split()[0] for line in output.splitlines()] == ["scheduler", "scheduler"]


def test_metrics_outside_of_a_worker_go_nowhere() -> None:
    metrics.emit("step", step="x", status="done", seconds=1.0)
