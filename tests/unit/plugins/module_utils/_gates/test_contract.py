# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of all gates: verdicts, policies, and the loop that waits, with a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import Dials, Evaluation, Question, Reason

QUESTION = Question(phase="after", target="data1")
DIALS = Dials(successes=3, failures=2, interval=2, min_healthy_time=5, healthy_deadline=60, progress_deadline=120, hard_deadline=600)


def finding(verdict: str, code: str = "X", forceable: bool = False) -> Evaluation:
    return Evaluation((Reason(code, verdict, "text", "data1", forceable),)) if verdict != "pass" else Evaluation()


class World:
    """A clock that only sleeping moves, and a system that is what a function of the time says."""

    def __init__(self, at):
        self.now, self.at, self.looks = 0.0, at, []

    def fetch(self):
        self.looks.append(self.now)
        return self.at(self.now)

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds

    def ask(self, dials=DIALS, question=QUESTION):
        return contract.wait_for(self.fetch, lambda snapshot, _question, _earlier: snapshot, question, dials, lambda: self.now, self.sleep)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "pass"),
        (["wait"], "wait"),
        (["wait", "unknown"], "unknown"),
        (["unknown", "fail", "wait"], "fail"),
    ],
)
def test_the_worst_finding_is_the_verdict(verdicts, expected):
    assert Evaluation(tuple(Reason("X", verdict, "") for verdict in verdicts)).verdict == expected


def test_a_healthy_system_passes_after_its_time():
    world = World(lambda now: finding("pass"))
    outcome = world.ask()
    assert outcome.verdict == "pass"
    assert 5 <= outcome.elapsed <= 6
    assert outcome.polls >= 3


def test_a_healthy_system_is_looked_at_no_more_often_than_said():
    world = World(lambda now: finding("pass"))
    world.ask()
    # The last pause ends with the healthy time.
    assert min(b - a for a, b in zip(world.looks, world.looks[1:-1], strict=False)) >= 1.8


def test_the_end_of_a_wait_is_seen_soon():
    world = World(lambda now: finding("pass" if now >= 40 else "wait"))
    outcome = world.ask(Dials(successes=1, min_healthy_time=0, healthy_deadline=60, progress_deadline=60, hard_deadline=60))
    assert outcome.verdict == "pass"
    assert 40 <= outcome.elapsed <= 40.25


def test_a_break_begins_the_healthy_time_anew():
    world = World(lambda now: finding("wait" if 3 <= now < 4 else "pass"))
    outcome = world.ask()
    assert outcome.verdict == "pass"
    assert outcome.elapsed >= 4 + 5


def test_one_bad_look_is_not_a_failure_two_are():
    assert World(lambda now: finding("fail" if now == 0 else "pass")).ask().verdict == "pass"
    outcome = World(lambda now: finding("fail")).ask()
    assert (outcome.verdict, outcome.polls) == ("fail", 2)
    assert outcome.deadline is None


def test_a_wait_fails_at_the_healthy_deadline():
    outcome = World(lambda now: finding("wait")).ask()
    assert outcome.verdict == "fail"
    assert outcome.reasons[-1].code == "GATE_HEALTHY_DEADLINE"
    assert 60 <= outcome.elapsed <= 60.5


def test_unknown_stays_unknown_at_the_deadline():
    outcome = World(lambda now: finding("unknown")).ask()
    assert outcome.verdict == "unknown"
    assert 60 <= outcome.elapsed <= 60.5


def test_progress_moves_the_deadline_and_its_end_is_noticed():
    outcome = World(lambda now: Evaluation(finding("wait").reasons, progress=min(now, 300))).ask()
    assert outcome.reasons[-1].code == "GATE_PROGRESS_DEADLINE"
    assert 420 <= outcome.elapsed <= 420.5


def test_progress_does_not_move_the_hard_deadline():
    outcome = World(lambda now: Evaluation(finding("wait").reasons, progress=now)).ask()
    assert outcome.reasons[-1].code == "GATE_HARD_DEADLINE"
    assert 600 <= outcome.elapsed <= 600.5


def test_a_member_that_is_healthy_late_may_prove_that_it_stays_so():
    outcome = World(lambda now: finding("pass" if now >= 58 else "wait")).ask()
    assert outcome.verdict == "pass"


def test_no_worse_tolerates_what_was_there_before():
    question = Question("before", "data1", policy="no_worse", baseline=frozenset({"X data1"}))
    seen = contract.apply_policy(finding("fail", forceable=True), question)
    assert (seen.verdict, [r.key() for r in seen.tolerated]) == ("pass", ["X data1"])
    assert contract.apply_policy(finding("fail", "Y", forceable=True), question).verdict == "fail"


def test_no_worse_takes_no_member_that_not_even_a_person_may_take():
    question = Question("before", "data1", policy="no_worse", baseline=frozenset({"X data1"}))
    assert contract.apply_policy(finding("fail"), question).verdict == "fail"
    after = Question("after", "data1", policy="no_worse", baseline=frozenset({"X data1"}))
    assert contract.apply_policy(finding("fail"), after).verdict == "pass"


def test_forced_overrules_only_what_a_person_may_overrule():
    question = Question("before", "data1", policy="forced", forced_because="lab")
    assert contract.apply_policy(finding("fail", forceable=True), question).verdict == "pass"
    assert contract.apply_policy(finding("fail"), question).verdict == "fail"


@given(policy=st.sampled_from(contract.POLICIES), baseline=st.booleans(), forceable=st.booleans(), others=st.lists(st.sampled_from(contract.SEVERITY)))
def test_no_policy_turns_unknown_into_pass(policy, baseline, forceable, others):
    reasons = tuple(Reason("X", verdict, "", "data1", forceable) for verdict in ["unknown", *others])
    question = Question("before", "data1", policy=policy, baseline=frozenset({"X data1"} if baseline else ()), forced_because="x")
    assert contract.apply_policy(Evaluation(reasons), question).verdict in ("unknown", "fail")


@pytest.mark.parametrize(
    ("change", "name"),
    [({"successes": 0}, "successes"), ({"failures": 0}, "failures"), ({"interval": 0}, "interval"), ({"min_healthy_time": -1}, "min_healthy_time")]
    + [({"healthy_deadline": 3}, "healthy_deadline"), ({"hard_deadline": 10}, "hard_deadline")],
)
def test_bad_dials_are_named(change, name):
    problems = Dials(**change).problems()
    assert problems and name in problems[0] and "accepted" in problems[0]


def test_a_member_has_its_lag_with_the_unit_and_nothing_empty():
    assert contract.member_facts("8.0.3", "replica", 12, "bytes", offset=0, error="") == {"version": "8.0.3", "role": "replica", "lag": "12 bytes", "offset": 0}
    assert contract.member_facts(lag=0.0, unit="s") == {"lag": "0 s"}
    # The other side was asked a moment earlier.
    assert contract.member_facts(lag=-3, unit="records") == {"lag": "0 records"}
    assert contract.member_facts(error="no answer") == {"error": "no answer"}


def test_the_summary_is_for_a_person():
    world = World(lambda now: Evaluation((Reason("MDB_LAG", "wait", "is 12 s behind; 10 s are allowed", "data1"),), margin=1))
    text = contract.summary("mongodb", QUESTION, world.ask())
    assert text.splitlines()[0].startswith("mongodb gate after of data1: FAIL after 60")
    assert "MDB_LAG data1: is 12 s behind" in text
    assert "can lose 1 more" in text
