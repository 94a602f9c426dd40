# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of an HTTP service mean. One healthy cluster of three, and named changes to it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, http, https
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import Earlier, Question
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.http import Keys, Limits, Look, Snapshot, Through

READY = Look(status=200, seconds=0.01, version="1.4.2", started=2000.0, dependencies={"minio": ("up", True), "redis": ("up", False)})
HEALTHY = Snapshot({"app1": READY, "app2": READY, "app3": READY})
VERSION = {"expect_version": "1.4.2"}


def but(look: Look = READY, **change) -> Look:
    return dataclasses.replace(look, **change)


def unseen(problem: str) -> Look:
    return Look(problem=problem, error=problem)


def cluster(**members: Look) -> Snapshot:
    return Snapshot({**HEALTHY.members, **members})


def through(*looks: Look, served=None) -> Snapshot:
    return Snapshot(HEALTHY.members, Through(looks, served))


def ask(snapshot: Snapshot, phase: str, limits: Limits = Limits(), **question) -> contract.Evaluation:  # noqa: B008 - frozen
    target = "app1" if phase in ("before", "after") else ""
    return http.evaluate(snapshot, Question(**{"phase": phase, "target": target, **question}), Earlier(), limits)


DOWN = but(status=503, dependencies={"minio": ("down", True)})
SITUATIONS = {
    # preflight: all members must be ready
    "all ready": (HEALTHY, "preflight", {}, "pass", []),
    "one starts": (cluster(app2=unseen(https.REFUSED)), "preflight", {}, "wait", ["HTTP_REFUSED app2"]),
    "one hangs": (cluster(app2=unseen(https.NO_ANSWER)), "preflight", {}, "wait", ["HTTP_NO_ANSWER app2"]),
    "one host is gone": (cluster(app2=unseen(https.UNREACHABLE)), "preflight", {}, "unknown", ["HTTP_UNREACHABLE app2"]),
    "one name is not known": (cluster(app2=unseen(https.NAME)), "preflight", {}, "unknown", ["HTTP_UNREACHABLE app2"]),
    "one certificate is expired": (cluster(app2=unseen(https.TLS)), "preflight", {}, "fail", ["HTTP_TLS app2"]),
    "one is not ready": (cluster(app2=DOWN), "preflight", {}, "wait", ["HTTP_STATUS app2"]),
    "one is throttled": (cluster(app2=but(status=429)), "preflight", {}, "wait", ["HTTP_STATUS app2"]),
    "the wrong path": (cluster(app2=but(status=404)), "preflight", {}, "fail", ["HTTP_STATUS app2"]),
    "a redirect is not ready": (cluster(app2=but(status=302)), "preflight", {}, "fail", ["HTTP_STATUS app2"]),
    "one is slow": (cluster(app2=but(seconds=1.2)), "preflight", {}, "wait", ["HTTP_SLOW app2"]),
    "a dependency it can do without is down": (cluster(app2=but(dependencies={"redis": ("down", False)})), "preflight", {}, "pass", []),
    "a required dependency is down, and yet it says ready": (
        cluster(app2=but(dependencies={"minio": ("down", True)})),
        "preflight",
        {},
        "wait",
        ["HTTP_DEPENDENCY app2"],
    ),
    "a dependency that we ask for is down": (
        cluster(app2=but(dependencies={"redis": ("down", False)})),
        "preflight",
        {"limits": Limits(dependencies=("redis",))},
        "wait",
        ["HTTP_DEPENDENCY app2"],
    ),
    "a dependency that we ask for is not told": (
        cluster(app2=but(dependencies=None)),
        "preflight",
        {"limits": Limits(dependencies=("redis",))},
        "unknown",
        ["HTTP_DEPENDENCY_UNKNOWN app2"],
    ),
    "an interrupted rollout may be taken up again": (cluster(app2=but(version="1.4.1")), "preflight", {}, "pass", []),
    # before: enough must remain without the target
    "one of three may go": (HEALTHY, "before", {}, "pass", []),
    "a sick member may go": (cluster(app1=unseen(https.REFUSED)), "before", {}, "pass", []),
    "another is down": (cluster(app2=unseen(https.REFUSED)), "before", {}, "wait", ["HTTP_TOO_FEW"]),
    "another is not seen": (cluster(app2=unseen(https.UNREACHABLE)), "before", {}, "unknown", ["HTTP_TOO_FEW"]),
    "another has a bad certificate": (cluster(app2=unseen(https.TLS)), "before", {}, "fail", ["HTTP_TOO_FEW"]),
    "another is down, one is enough": (cluster(app2=unseen(https.REFUSED)), "before", {"limits": Limits(min_available=1)}, "pass", []),
    "two must remain of two": (Snapshot({"app1": READY, "app2": READY}), "before", {"limits": Limits(min_available=2)}, "fail", ["HTTP_TOO_FEW"]),
    "the only member": (Snapshot({"app1": READY}), "before", {}, "fail", ["HTTP_TOO_FEW"]),
    "the only member, its outage announced": (Snapshot({"app1": READY}), "before", {"limits": Limits(min_available=0)}, "pass", []),
    "a target that is none": (HEALTHY, "before", {"target": "app9"}, "fail", ["HTTP_NO_SUCH_MEMBER app9"]),
    # after: the target is back, with the right version, started since
    "back": (HEALTHY, "after", {**VERSION, "not_before": 1000.0}, "pass", []),
    "still starting": (cluster(app1=unseen(https.REFUSED)), "after", VERSION, "wait", ["HTTP_REFUSED app1"]),
    "others do not matter": (cluster(app2=unseen(https.REFUSED)), "after", VERSION, "pass", []),
    "the old version": (cluster(app1=but(version="1.4.1")), "after", VERSION, "fail", ["HTTP_VERSION app1"]),
    "the old version, ending": (cluster(app1=but(status=503, version="1.4.1")), "after", VERSION, "wait", ["HTTP_STATUS app1", "HTTP_VERSION app1"]),
    "no version": (cluster(app1=but(version="")), "after", VERSION, "unknown", ["HTTP_VERSION_UNKNOWN app1"]),
    "not restarted": (cluster(app1=but(started=999.0)), "after", {"not_before": 1000.0}, "fail", ["HTTP_NOT_RESTARTED app1"]),
    "no time of start": (cluster(app1=but(started=None)), "after", {"not_before": 1000.0}, "unknown", ["HTTP_START_UNKNOWN app1"]),
    "the load balancer serves": (through(READY), "after", VERSION, "pass", []),
    "the load balancer has nobody": (through(but(status=503)), "after", VERSION, "wait", ["HTTP_THROUGH"]),
    "the load balancer is not seen": (through(unseen(https.UNREACHABLE)), "after", VERSION, "unknown", ["HTTP_THROUGH"]),
    "the load balancer passes the target by": (through(READY, served=("app2", "app3")), "after", VERSION, "wait", ["HTTP_NOT_SERVED app1"]),
    "the load balancer sends to the target": (through(READY, served=("app1", "app2")), "after", VERSION, "pass", []),
    # final: all ready, one version
    "all done": (HEALTHY, "final", VERSION, "pass", []),
    "one was left out": (cluster(app3=but(version="1.4.1")), "final", VERSION, "fail", ["HTTP_VERSION app3", "HTTP_VERSIONS_DIFFER"]),
    "two versions, none expected": (cluster(app3=but(version="1.4.1")), "final", {}, "fail", ["HTTP_VERSIONS_DIFFER"]),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_situation(situation):
    snapshot, phase, options, verdict, keys = SITUATIONS[situation]
    seen = ask(snapshot, phase, **options)
    assert (seen.verdict, [reason.key() for reason in seen.reasons]) == (verdict, keys)
    assert json.dumps(seen.observed)


@pytest.mark.parametrize(
    ("snapshot", "phase", "limits", "margin"),
    [
        (HEALTHY, "preflight", Limits(), 2),
        (HEALTHY, "before", Limits(), 1),
        (HEALTHY, "before", Limits(min_available=2), 0),
        (cluster(app2=DOWN, app3=DOWN), "before", Limits(), -1),
    ],
)
def test_margin_is_what_may_still_be_lost(snapshot, phase, limits, margin):
    assert ask(snapshot, phase, limits).margin == margin


def test_a_person_may_take_the_only_member_down_but_not_a_blind_step():
    question = Question("before", "app1", policy="forced", forced_because="announced")
    assert contract.apply_policy(ask(Snapshot({"app1": READY}), "before"), question).verdict == "pass"
    assert contract.apply_policy(ask(cluster(app2=unseen(https.UNREACHABLE)), "before"), question).verdict == "unknown"


LOOKS = st.builds(
    but,
    status=st.sampled_from([200, 200, 200, 503, 404]),
    seconds=st.sampled_from([0.1, 5.0]),
    version=st.sampled_from(["1.4.2", "1.4.1", ""]),
    started=st.sampled_from([2000.0, 500.0, None]),
    dependencies=st.sampled_from([None, {"minio": ("up", True)}, {"minio": ("down", True)}]),
) | st.sampled_from([unseen(problem) for problem in http.PROBLEMS])
CLUSTERS = st.integers(1, 5).flatmap(lambda n: st.fixed_dictionaries({f"app{i}": LOOKS for i in range(1, n + 1)})).map(Snapshot)
PHASES = st.sampled_from(contract.PHASES)
ASKED = {"expect_version": "1.4.2", "not_before": 1000.0}


def healthy(look: Look) -> bool:
    return not http.member_reasons("", look, Limits())


@given(snapshot=CLUSTERS, needed=st.integers(1, 5))
def test_before_never_passes_below_what_must_remain(snapshot, needed):
    remaining = sum(healthy(look) for name, look in snapshot.members.items() if name != "app1")
    assert (ask(snapshot, "before", Limits(min_available=needed)).verdict == "pass") == (remaining >= needed)


@given(snapshot=CLUSTERS, phase=PHASES, data=st.data())
def test_what_is_not_seen_never_makes_a_pass(snapshot, phase, data):
    name = data.draw(st.sampled_from(sorted(snapshot.members)))
    dark = st.sampled_from([unseen(https.UNREACHABLE), but(snapshot.members[name], version=""), but(snapshot.members[name], started=None)])
    darker = Snapshot({**snapshot.members, name: data.draw(dark)})
    if ask(snapshot, phase, **ASKED).verdict != "pass":
        # a version that nobody tells is no version that differs; with one expected it is unknown all the same
        assert ask(darker, phase, **ASKED).verdict != "pass"


@given(snapshot=CLUSTERS, phase=PHASES, data=st.data())
def test_a_healthier_member_never_makes_it_worse(snapshot, phase, data):
    name = data.draw(st.sampled_from(sorted(snapshot.members)))
    better = Snapshot({**snapshot.members, name: READY})
    order = contract.SEVERITY.index
    assert order(ask(better, phase, **ASKED).verdict) <= order(ask(snapshot, phase, **ASKED).verdict)


# What an answer tells

BODY = {"status": "ready", "version": "1.4.2", "started": "1970-01-01T00:33:20Z", "dependencies": {"minio": {"status": "up", "required": True}, "redis": False}}


def answer(body: object = None, **headers: str) -> https.Answer:
    return https.Answer(200, headers, json.dumps(body).encode(), 0.01)


def test_an_answer_of_the_reference_app():
    look = http.look_of(answer(BODY), Keys(started="started"))
    assert look == Look(200, 0.01, version="1.4.2", started=2000.0, dependencies={"minio": ("up", True), "redis": ("down", True)})


def test_a_header_and_a_dotted_way():
    look = http.look_of(answer({"build": {"at": 12.5}}, **{"x-version": "7"}), Keys(version_header="X-Version", started="build.at"))
    assert (look.version, look.started) == ("7", 12.5)


@pytest.mark.parametrize("body", [b"", b"ok", b"[1]", b'{"version": 3, "dependencies": [], "started": "yesterday"}', b'{"started": NaN}', b"\xff\xfe"])
def test_an_answer_that_tells_nothing(body):
    look = http.look_of(https.Answer(200, {}, body), Keys(started="started"))
    assert (look.version, look.started, look.dependencies) == ("", None, None)
