# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict about containers, from documents in the form of `docker inspect`: one healthy container, and named changes to it."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import container
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.container import Limits, Snapshot
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import SEVERITY, Earlier, Question, apply_policy

RELEASE = "0c9e1f2a3b4c5d6e"
DIGEST = "sha256:" + "ab" * 32
IMAGE_ID = "sha256:" + "cd" * 32
REFERENCE = f"registry.example.org:5000/redis@{DIGEST}"
# 2026-09-21T14:13:20Z
STARTED = 1_790_000_000.25
NOW = STARTED + 60


def healthy(service: str = "cache") -> dict:
    """What the engine says of a container that is well. Engine 26, shortened to what matters and what must not be shown."""
    return {
        "Id": "9f" * 32,
        "Created": "2026-09-21T14:13:19.100000001Z",
        "State": {
            "Status": "running",
            "Running": True,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": 4321,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "2026-09-21T14:13:20.250000000Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": {"Status": "healthy", "FailingStreak": 0, "Log": [{"Start": "", "End": "", "ExitCode": 0, "Output": "PONG\n"}]},
        },
        "Image": IMAGE_ID,
        "Name": f"/redis-{service}-1",
        "RestartCount": 0,
        "HostConfig": {"RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}},
        "Config": {
            "Env": ["REDIS_PASSWORD=hunter2"],
            "Image": REFERENCE,
            "Healthcheck": {"Test": ["CMD", "redis-cli", "ping"], "Interval": 30_000_000_000},
            "StopTimeout": 40,
            "Labels": {
                "com.docker.compose.project": "redis",
                "com.docker.compose.service": service,
                "com.docker.compose.oneoff": "False",
                "novacorrente.release": RELEASE,
            },
        },
    }


def state(**values) -> dict:
    document = healthy()
    document["State"].update(values)
    return document


def health(status, streak=0, output="", code=1) -> dict:
    return state(Health={"Status": status, "FailingStreak": streak, "Log": [{"ExitCode": code, "Output": output}]})


def stopped(status, code=0, error="", **values) -> dict:
    document = state(Status=status, Running=False, Pid=0, ExitCode=code, Error=error, **values)
    del document["State"]["Health"]
    return document


def changed(**values) -> dict:
    return {**healthy(), **values}


def config(**values) -> dict:
    document = healthy()
    document["Config"].update(values)
    return document


def label(name, value) -> dict:
    document = healthy()
    document["Config"]["Labels"][name] = value
    return document


def without_health_check() -> dict:
    document = config(Healthcheck=None)
    del document["State"]["Health"]
    return document


def without_health() -> dict:
    document = healthy()
    del document["State"]["Health"]
    return document


def snapshot(*documents, digests=(IMAGE_ID, DIGEST), log="", **values) -> Snapshot:
    values = {"disk_free": 9e9, "live_restore": True, **values}
    return Snapshot(NOW, tuple(container.read_container(document, digests, log) for document in documents), **values)


LIMITS = Limits(services=("cache",), images={"cache": REFERENCE}, min_stop_timeout=20.0)


def ask(seen, phase="after", limits=LIMITS, first=None, last=None, **question):
    asked = Question(phase=phase, target="data1", **question)
    return apply_policy(container.evaluate(seen, asked, Earlier(first, last or first), limits), asked)


def codes(evaluation) -> set[str]:
    return {reason.key() for reason in evaluation.reasons}


AFTER = {
    "healthy": (healthy(), "pass", set()),
    "without a health check": (without_health_check(), "fail", {"CONTAINER_NO_HEALTHCHECK cache"}),
    "its health check is switched off": (config(Healthcheck={"Test": ["NONE"]}), "fail", {"CONTAINER_NO_HEALTHCHECK cache"}),
    "the engine tells no health": (without_health(), "unknown", {"CONTAINER_HEALTH cache"}),
    "an unheard-of health": (health("recovering"), "unknown", {"CONTAINER_HEALTH cache"}),
    "starting": (health("starting"), "wait", {"CONTAINER_STARTING cache"}),
    "starting, its check fails so far": (health("starting", 2, "LOADING"), "wait", {"CONTAINER_STARTING cache"}),
    "unhealthy": (health("unhealthy", 3, "connection refused"), "fail", {"CONTAINER_UNHEALTHY cache"}),
    "healthy, but the last check failed": (health("healthy", 1, "timed out"), "wait", {"CONTAINER_HEALTH cache"}),
    "made, not started": (stopped("created"), "wait", {"CONTAINER_CREATED cache"}),
    "its port is taken": (
        stopped("created", 128, "driver failed programming external connectivity: Bind for 0.0.0.0:6379 failed: port is already allocated"),
        "fail",
        {"CONTAINER_NOT_STARTED cache"},
    ),
    "its command does not exist": (stopped("created", 127, "exec: not found"), "fail", {"CONTAINER_NOT_STARTED cache"}),
    "its command is no program": (stopped("exited", 126), "fail", {"CONTAINER_NOT_STARTED cache"}),
    "ended": (stopped("exited", 1), "fail", {"CONTAINER_STOPPED cache"}),
    "ended well, which a service must not": (stopped("exited", 0), "fail", {"CONTAINER_STOPPED cache"}),
    "dead": (stopped("dead", 1), "fail", {"CONTAINER_STOPPED cache"}),
    "paused": (state(Status="paused", Paused=True), "fail", {"CONTAINER_PAUSED cache"}),
    "out of memory": (stopped("exited", 137, OOMKilled=True), "fail", {"CONTAINER_OOM cache"}),
    "a child out of memory": (state(OOMKilled=True), "fail", {"CONTAINER_OOM cache"}),
    "started again once": (stopped("restarting", 1, Restarting=True), "wait", {"CONTAINER_RESTARTING cache"}),
    "a crash loop": (
        {**stopped("restarting", 1, Restarting=True), "RestartCount": 4},
        "fail",
        {"CONTAINER_RESTARTING cache", "CONTAINER_CRASHES cache"},
    ),
    "a crash loop, caught while it runs": (changed(RestartCount=1), "fail", {"CONTAINER_CRASHES cache"}),
    "another release": (label("novacorrente.release", "old"), "fail", {"CONTAINER_RELEASE cache"}),
    "of no release": (config(Labels={"com.docker.compose.service": "cache"}), "fail", {"CONTAINER_RELEASE cache"}),
    "a stray": (label("com.docker.compose.service", "former"), "fail", {"CONTAINER_MISSING cache", "CONTAINER_STRAY former"}),
    "killed too early": (config(StopTimeout=None), "fail", {"CONTAINER_STOP_TIMEOUT cache"}),
    "the old process": (state(StartedAt="2026-09-21T13:00:00Z"), "wait", {"CONTAINER_OLD cache"}),
    "it was never started, says the engine": (state(StartedAt="0001-01-01T00:00:00Z"), "unknown", {"CONTAINER_OLD cache"}),
}


@pytest.mark.parametrize("name", AFTER)
def test_after(name):
    document, verdict, expected = AFTER[name]
    seen = ask(snapshot(document), expect_version=RELEASE, not_before=STARTED - 5)
    assert (seen.verdict, codes(seen)) == (verdict, expected)


def test_images():
    assert codes(ask(snapshot(healthy(), digests=(IMAGE_ID, "sha256:" + "ef" * 32)))) == {"CONTAINER_IMAGE cache"}
    assert ask(snapshot(healthy(), digests=None)).verdict == "unknown"
    assert ask(snapshot(healthy()), limits=Limits(images={"cache": IMAGE_ID})).verdict == "pass"
    assert ask(snapshot(healthy()), limits=Limits(images={"cache": f"elsewhere/redis@{DIGEST}"})).verdict == "pass"


def test_no_container_at_all():
    assert codes(ask(snapshot())) == {"CONTAINER_MISSING cache"}
    assert ask(snapshot()).verdict == "wait"
    assert codes(ask(snapshot(), limits=Limits())) == {"CONTAINER_MISSING"}
    assert ask(snapshot(), "final").verdict == "fail"
    assert ask(snapshot(), "preflight").verdict == "pass"
    assert ask(snapshot(healthy("queue")), "preflight").verdict == "fail"


def test_an_engine_that_does_not_answer():
    seen = ask(Snapshot(NOW, None, error="Cannot connect to the Docker daemon"))
    assert (seen.verdict, codes(seen)) == ("unknown", {"CONTAINER_ENGINE"})
    assert "Cannot connect" in seen.reasons[0].text


def test_a_process_that_changes_while_it_is_watched_begins_anew():
    first = snapshot(healthy())
    again = snapshot(state(Pid=5000, StartedAt="2026-09-21T14:13:50Z"))
    assert codes(ask(again, first=first)) == {"CONTAINER_RESTARTED cache"}
    assert ask(again, first=first, last=again).verdict == "pass"


def test_restarts_count_from_the_first_look_where_the_container_is_an_old_one():
    first = snapshot(changed(RestartCount=7))
    later = {"not_before": STARTED + 1}
    assert "CONTAINER_CRASHES cache" not in codes(ask(first, **later))
    assert "CONTAINER_CRASHES cache" not in codes(ask(first, first=first, **later))
    assert "CONTAINER_CRASHES cache" in codes(ask(snapshot(changed(RestartCount=8)), first=first, **later))
    assert "CONTAINER_CRASHES cache" not in codes(ask(snapshot(changed(RestartCount=8)), first=first, limits=Limits(max_restarts=1), **later))


def test_a_container_that_was_made_anew_is_another_one():
    first = snapshot(changed(RestartCount=7, Created="2026-09-20T00:00:00Z"))
    assert ask(snapshot(healthy()), first=first).verdict == "pass"


PREFLIGHT = {
    "well": ({}, "pass", set()),
    "the image is not here": ({"missing_images": (REFERENCE,)}, "fail", {"CONTAINER_IMAGE_MISSING"}),
    "nobody knows the images": ({"missing_images": None}, "unknown", {"CONTAINER_IMAGE_MISSING"}),
    "no room": ({"disk_free": 1e9}, "fail", {"CONTAINER_DISK"}),
    "nobody knows the room": ({"disk_free": None}, "unknown", {"CONTAINER_DISK"}),
    "no live-restore": ({"live_restore": False}, "fail", {"CONTAINER_LIVE_RESTORE"}),
    "nobody knows of live-restore": ({"live_restore": None}, "unknown", {"CONTAINER_LIVE_RESTORE"}),
}


@pytest.mark.parametrize("name", PREFLIGHT)
def test_preflight(name):
    values, verdict, expected = PREFLIGHT[name]
    # What runs is of the release before, and of its image.
    seen = ask(snapshot(healthy(), digests=(), **values), "preflight", dataclasses.replace(LIMITS, live_restore=True), expect_version="next")
    assert (seen.verdict, codes(seen)) == (verdict, expected)


@pytest.mark.parametrize("name", AFTER)
def test_a_member_that_is_to_go_may_be_in_any_state(name):
    document, _verdict, _expected = AFTER[name]
    assert ask(snapshot(document), "before").verdict == "pass"


def test_policies():
    stopping = config(StopTimeout=None)
    assert ask(snapshot(stopping), policy="forced", forced_because="lab").verdict == "pass"
    assert ask(snapshot(health("unhealthy")), policy="forced", forced_because="lab").verdict == "fail"
    assert ask(snapshot(health("unhealthy")), "preflight", policy="no_worse", baseline=frozenset({"CONTAINER_UNHEALTHY cache"})).verdict == "pass"


def test_the_failure_tells_what_the_check_and_the_log_said():
    text = ask(snapshot(health("unhealthy", 3, "NOAUTH Authentication\n required\n"), log="Bad file format")).reasons[0].text
    assert "NOAUTH Authentication required" in text
    assert "Bad file format" in text


def test_the_environment_is_not_kept():
    seen = ask(snapshot(healthy()))
    assert "hunter2" not in repr(seen) + repr(snapshot(healthy()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-21T14:13:20.25Z", STARTED),
        ("2026-09-21T14:13:20.250000000Z", STARTED),
        ("2026-09-21T14:13:20Z", STARTED - 0.25),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
    ],
)
def test_times_of_the_engine(text, expected):
    assert container.moment(text) == expected


LADDER = [stopped("exited", 1), health("unhealthy", 3), health("starting"), health("healthy", 1), healthy()]


def rank(evaluation) -> int:
    return SEVERITY.index(evaluation.verdict)


@given(st.lists(st.integers(0, len(LADDER) - 1), min_size=1, max_size=4), st.integers(0, 3), st.sampled_from(["preflight", "after", "final"]))
def test_a_healthier_container_never_makes_it_worse(steps, index, phase):
    def at(levels):
        documents = [copy.deepcopy(LADDER[level]) for level in levels]
        for number, document in enumerate(documents):
            document["Config"]["Labels"]["com.docker.compose.service"] = f"s{number}"
        return ask(snapshot(*documents), phase, Limits())

    better = list(steps)
    better[index % len(steps)] = min(better[index % len(steps)] + 1, len(LADDER) - 1)
    assert rank(at(better)) <= rank(at(steps))


@given(
    st.sampled_from([document for document, _verdict, _expected in AFTER.values()]),
    st.sampled_from(["preflight", "before", "after", "final"]),
    st.sampled_from(["containers", "digests", "health", "started", "missing_images", "disk_free", "live_restore"]),
    st.sampled_from([{}, {"missing_images": (REFERENCE,)}, {"disk_free": 1.0}, {"live_restore": False}]),
)
def test_not_seeing_something_never_turns_a_finding_into_a_pass(document, phase, what, bad):
    seen = snapshot(document, **bad)
    limits = dataclasses.replace(LIMITS, live_restore=True)
    asked = {"expect_version": RELEASE, "not_before": STARTED - 5}
    if what in ("digests", "health", "started"):
        unseen = dataclasses.replace(seen, containers=tuple(dataclasses.replace(c, **{what: None}) for c in seen.containers))
    else:
        unseen = dataclasses.replace(seen, **{what: None})
    if ask(seen, phase, limits, **asked).verdict != "pass":
        assert ask(unseen, phase, limits, **asked).verdict != "pass"
