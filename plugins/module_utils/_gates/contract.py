# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all gates have in common: questions, verdicts, policies, and the loop that waits. Pure but for the clock it is given.

A gate of a system is two functions. ``fetch()`` looks at the system and returns a snapshot; whatever cannot be seen is in the snapshot as not seen,
it never raises for that. ``evaluate(snapshot, question, earlier)`` is pure and returns an :class:`Evaluation`. Everything else is here.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import random
import typing as t

PASS = "pass"
WAIT = "wait"
FAIL = "fail"
UNKNOWN = "unknown"
# What several findings come to. A fact that will not mend itself weighs more than something unseen, and that more than something under way.
SEVERITY = (PASS, WAIT, UNKNOWN, FAIL)

PREFLIGHT = "preflight"
BEFORE = "before"
AFTER = "after"
FINAL = "final"
PHASES = (PREFLIGHT, BEFORE, AFTER, FINAL)

STRICT = "strict"
NO_WORSE = "no_worse"
FORCED = "forced"
POLICIES = (STRICT, NO_WORSE, FORCED)

HEALTHY_DEADLINE = "GATE_HEALTHY_DEADLINE"
PROGRESS_DEADLINE = "GATE_PROGRESS_DEADLINE"
HARD_DEADLINE = "GATE_HARD_DEADLINE"

Snapshot = t.TypeVar("Snapshot")


@dataclasses.dataclass(frozen=True)
class Reason:
    """One finding that keeps a gate from passing.

    ``code`` is stable and in capitals, ``subject`` the member it is about (empty: the cluster), ``text`` is for a person. ``verdict`` is what the
    finding means by itself. ``forceable`` says whether a person may overrule it: what is unknown never is, nor what would lose data.
    """

    code: str
    verdict: str
    text: str
    subject: str = ""
    forceable: bool = False

    def __str__(self) -> str:
        return f"{self.code}{' ' + self.subject if self.subject else ''}: {self.text}"

    def key(self) -> str:
        """What makes two findings the same one at different times."""
        return f"{self.code} {self.subject}".rstrip()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one snapshot says.

    ``observed`` holds the facts behind the verdict, without secrets. ``margin`` is the number of further members that may be lost, None where the
    system has no such number. ``progress`` grows while a recovery advances, None where nothing can be measured.
    """

    reasons: tuple[Reason, ...] = ()
    observed: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    margin: int | None = None
    progress: float | None = None
    tolerated: tuple[Reason, ...] = ()

    @property
    def verdict(self) -> str:
        """The worst of the reasons; pass where there is none."""
        return max((reason.verdict for reason in self.reasons), key=SEVERITY.index, default=PASS)


def member_facts(version: str = "", role: str = "", lag: float | None = None, unit: str = "", **more: t.Any) -> dict[str, t.Any]:
    """A member as all gates have it in ``observed["members"]``, by its name in the inventory; what is None or empty is left out.

    ``role`` is what it is in its cluster, in small letters. ``lag`` becomes a text with its unit, such as ``12 bytes``: how far its data are behind
    the newest that were seen. A member that the others follow has none.
    """
    facts = {"version": version, "role": role, "lag": "" if lag is None else f"{max(0.0, lag):.0f} {unit}", **more}
    return {key: value for key, value in facts.items() if value not in (None, "")}


@dataclasses.dataclass(frozen=True)
class Question:
    """What a gate is asked.

    ``target`` is the member that is to go or that came back, ``expect_version`` what must run there after, ``not_before`` the time (seconds since
    the epoch) before which it may not have been started. ``baseline`` holds the keys of findings that were there before, for policy no_worse.
    """

    phase: str
    target: str = ""
    expect_version: str = ""
    not_before: float | None = None
    policy: str = STRICT
    baseline: frozenset[str] = frozenset()
    forced_because: str = ""


@dataclasses.dataclass(frozen=True)
class Dials:
    """How long a gate waits; all in seconds but the counts. They mean what Nomad's update block means by them.

    The verdict must be pass ``successes`` times in a row and for ``min_healthy_time``. A verdict fail must be seen ``failures`` times in a row.
    A member has ``healthy_deadline`` to become healthy; while its recovery advances it has ``progress_deadline`` from the last advance on instead.
    ``hard_deadline`` ends the wait whatever happens. ``interval`` lies between looks at a system that is healthy, ``eager_interval`` between
    looks at one that is not yet. Source: https://developer.hashicorp.com/nomad/docs/job-specification/update
    """

    successes: int = 3
    failures: int = 2
    interval: float = 2.0
    eager_interval: float = 0.2
    min_healthy_time: float = 30.0
    healthy_deadline: float = 300.0
    progress_deadline: float = 600.0
    hard_deadline: float = 3600.0

    def problems(self) -> list[str]:
        """What is wrong with the values, each as a sentence with the option's name, its value and what is accepted."""
        found = []
        if self.successes < 1:
            found.append(f"successes is {self.successes}; accepted is 1 or more.")
        if self.failures < 1:
            found.append(f"failures is {self.failures}; accepted is 1 or more.")
        for name in ("interval", "eager_interval"):
            if not 0.05 <= getattr(self, name) <= 60:
                found.append(f"{name} is {getattr(self, name)} seconds; accepted is 0.05 to 60.")
        if self.min_healthy_time < 0:
            found.append(f"min_healthy_time is {self.min_healthy_time} seconds; accepted is 0 or more.")
        if not self.min_healthy_time < self.healthy_deadline <= self.progress_deadline <= self.hard_deadline:
            found.append(
                f"min_healthy_time, healthy_deadline, progress_deadline and hard_deadline are {self.min_healthy_time:g}, {self.healthy_deadline:g}, "
                f"{self.progress_deadline:g} and {self.hard_deadline:g} seconds; accepted are values that rise in this order."
            )
        return found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a gate answers: the last evaluation, the verdict it comes to (a deadline turns wait into fail), seconds and looks it took."""

    verdict: str
    evaluation: Evaluation
    elapsed: float
    polls: int
    deadline: Reason | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return self.evaluation.reasons + ((self.deadline,) if self.deadline else ())


def apply_policy(evaluation: Evaluation, question: Question) -> Evaluation:
    """Moves to ``tolerated`` what the policy overrules. What is unknown stays: no policy turns it into pass."""

    def overruled(reason: Reason) -> bool:
        if reason.verdict == UNKNOWN:
            return False
        if question.policy == NO_WORSE:
            # It is no worse to lose a member of a cluster that has lost its majority, and yet not allowed.
            return reason.key() in question.baseline and (reason.forceable or question.phase != BEFORE)
        return question.policy == FORCED and reason.forceable

    tolerated = tuple(reason for reason in evaluation.reasons if overruled(reason))
    kept = tuple(reason for reason in evaluation.reasons if not overruled(reason))
    return dataclasses.replace(evaluation, reasons=kept, tolerated=tolerated)


class Earlier(t.Generic[Snapshot]):
    """The snapshots before the present one that an evaluation may compare with: the first of this gate, and the last before the present."""

    def __init__(self, first: Snapshot | None = None, last: Snapshot | None = None) -> None:
        self.first = first
        self.last = last


def wait_for(
    fetch: t.Callable[[], Snapshot],
    evaluate: t.Callable[[Snapshot, Question, Earlier[Snapshot]], Evaluation],
    question: Question,
    dials: Dials,
    clock: t.Callable[[], float],
    sleep: t.Callable[[float], None],
) -> Outcome:
    """Looks until the verdict stands or a deadline has passed.

    A pass must last, a fail must be confirmed, what waits may wait until its deadline and is then a fail, what is unknown stays unknown at its
    deadline: then a person is asked, nothing is taken back.
    """
    begin = clock()
    earlier: Earlier[Snapshot] = Earlier()
    polls = failures = successes = 0
    healthy_since = 0.0
    best: float | None = None
    deadline, deadline_code = begin + dials.healthy_deadline, HEALTHY_DEADLINE
    hard = begin + dials.hard_deadline
    while True:
        snapshot = fetch()
        now = clock()
        polls += 1
        seen = apply_policy(evaluate(snapshot, question, earlier), question)
        earlier = Earlier(snapshot if earlier.first is None else earlier.first, snapshot)
        verdict = seen.verdict

        if seen.progress is not None and (best is None or seen.progress > best):
            if best is not None:
                deadline, deadline_code = now + dials.progress_deadline, PROGRESS_DEADLINE
            best = seen.progress

        failures = failures + 1 if verdict == FAIL else 0
        if verdict == PASS:
            if successes == 0:
                healthy_since = now
            successes += 1
        else:
            successes = 0

        if verdict == PASS and successes >= dials.successes and now - healthy_since >= dials.min_healthy_time:
            return Outcome(PASS, seen, now - begin, polls)
        if failures >= dials.failures:
            return Outcome(FAIL, seen, now - begin, polls)
        # A member that is healthy by now is not cut short while it proves that it stays so, except by the hard deadline.
        passed = hard if verdict == PASS else min(deadline, hard)
        if now >= passed:
            code = HARD_DEADLINE if now >= hard else deadline_code
            ended = UNKNOWN if verdict == UNKNOWN else FAIL
            return Outcome(ended, seen, now - begin, polls, Reason(code, ended, deadline_text(code, dials)))

        # A little chance, so that gates that began together do not ask together.
        pause = (dials.interval if verdict == PASS else dials.eager_interval) * random.uniform(0.9, 1.0)
        if verdict == PASS and successes >= dials.successes:
            pause = min(pause, dials.min_healthy_time - (now - healthy_since))
        sleep(max(0.01, min(pause, passed - now)))


def deadline_text(code: str, dials: Dials) -> str:
    if code == HARD_DEADLINE:
        return f"Not healthy within hard_deadline, {dials.hard_deadline:g} s."
    if code == PROGRESS_DEADLINE:
        return f"No progress within progress_deadline, {dials.progress_deadline:g} s."
    return f"Not healthy within healthy_deadline, {dials.healthy_deadline:g} s, and no progress was seen."


def summary(system: str, question: Question, outcome: Outcome) -> str:
    """The outcome for a person: verdict first, then what was found, then what can be lost."""
    about = f" of {question.target}" if question.target else ""
    lines = [f"{system} gate {question.phase}{about}: {outcome.verdict.upper()} after {outcome.elapsed:.1f} s and {outcome.polls} looks."]
    lines += [f"  {reason.verdict:7} {reason}" for reason in outcome.reasons]
    lines += [f"  overruled by policy {question.policy}: {reason}" for reason in outcome.evaluation.tolerated]
    margin = outcome.evaluation.margin
    if margin is not None:
        lines.append(f"  {'can lose ' + str(margin) + ' more' if margin >= 0 else 'has ' + str(-margin) + ' members too few'}")
    return "\n".join(lines)
