# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all gate modules have in common: their options, and the way from parameters to a result.

Private to this collection.
"""

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract

# Documented in doc_fragments/gate.py.
OPTIONS: dict[str, dict[str, t.Any]] = {
    "phase": {"type": "str", "choices": list(contract.PHASES), "default": contract.PREFLIGHT},
    "target": {"type": "str", "default": ""},
    "expect_version": {"type": "str", "default": ""},
    "not_before": {"type": "float"},
    "policy": {"type": "str", "choices": list(contract.POLICIES), "default": contract.STRICT},
    "baseline": {"type": "list", "elements": "str", "default": []},
    "forced_because": {"type": "str", "default": ""},
    "wait": {"type": "bool", "default": True},
    "required": {"type": "bool", "default": True},
    "successes": {"type": "int", "default": 3},
    "failures": {"type": "int", "default": 2},
    "interval": {"type": "float", "default": 2.0},
    "min_healthy_time": {"type": "float"},
    "healthy_deadline": {"type": "float", "default": 300.0},
    "progress_deadline": {"type": "float", "default": 600.0},
    "hard_deadline": {"type": "float", "default": 3600.0},
}
# A member of a system, and the members of it: modules that need more of a member extend these.
MEMBER: dict[str, dict[str, t.Any]] = {"name": {"type": "str", "required": True}, "address": {"type": "str", "required": True}}
MEMBERS: dict[str, t.Any] = {"type": "list", "elements": "dict", "required": True, "options": MEMBER}


class GateError(Exception):
    """Something that keeps a gate from looking at all, such as a wrong option; the text is for the user."""


def question_of(params: t.Mapping[str, t.Any]) -> contract.Question:
    """The question in the module's parameters. Raises GateError where they contradict each other."""
    if params["phase"] in (contract.BEFORE, contract.AFTER) and not params["target"]:
        raise GateError(f"target is empty; phase {params['phase']!r} is about one member, so its name is needed.")
    if params["policy"] == contract.FORCED and not params["forced_because"].strip():
        raise GateError("forced_because is empty; policy 'forced' needs the reason that goes into the journal.")
    return contract.Question(
        phase=params["phase"],
        target=params["target"],
        expect_version=params["expect_version"],
        not_before=params["not_before"],
        policy=params["policy"],
        baseline=frozenset(params["baseline"]),
        forced_because=params["forced_because"],
    )


def dials_of(params: t.Mapping[str, t.Any]) -> contract.Dials:
    """The dials in the module's parameters. Only a member that came back has to prove that it stays. Raises GateError on bad values."""
    healthy_time = params["min_healthy_time"]
    if healthy_time is None:
        healthy_time = contract.Dials.min_healthy_time if params["phase"] == contract.AFTER else 0.0
    names = ("successes", "failures", "interval", "healthy_deadline", "progress_deadline", "hard_deadline")
    dials = contract.Dials(min_healthy_time=healthy_time, **{name: params[name] for name in names})
    if dials.problems():
        raise GateError(" ".join(dials.problems()))
    return dials


def result_of(system: str, question: contract.Question, outcome: contract.Outcome) -> dict[str, t.Any]:
    """The module's result. Nothing in it is a secret."""
    return {
        "changed": False,
        "msg": contract.summary(system, question, outcome),
        "verdict": outcome.verdict,
        "reasons": [
            {"code": reason.code, "verdict": reason.verdict, "subject": reason.subject, "text": reason.text, "key": reason.key()} for reason in outcome.reasons
        ],
        "tolerated": [reason.key() for reason in outcome.evaluation.tolerated],
        "observed": dict(outcome.evaluation.observed),
        "margin": outcome.evaluation.margin,
        "progress": outcome.evaluation.progress,
        "elapsed": round(outcome.elapsed, 3),
        "polls": outcome.polls,
    }


def run(
    module: AnsibleModule,
    system: str,
    fetch: t.Callable[[], contract.Snapshot],
    evaluate: t.Callable[[contract.Snapshot, contract.Question, contract.Earlier[contract.Snapshot]], contract.Evaluation],
) -> t.NoReturn:
    """Asks the gate as the parameters say, and ends the module. A gate changes nothing, so check mode makes no difference."""
    try:
        question = question_of(module.params)
        dials = dials_of(module.params)
    except GateError as exc:
        module.fail_json(msg=str(exc))
    if module.params["wait"]:
        outcome = contract.wait_for(fetch, evaluate, question, dials, time.monotonic, time.sleep)
    else:
        begin = time.monotonic()
        seen = contract.apply_policy(evaluate(fetch(), question, contract.Earlier()), question)
        outcome = contract.Outcome(seen.verdict, seen, time.monotonic() - begin, 1)
    result = result_of(system, question, outcome)
    if module.params["required"] and outcome.verdict != contract.PASS:
        module.fail_json(**result)
    module.exit_json(**result)
