# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gate of an HTTP service: whether its members are ready, run the right version, and can spare one.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
import ssl
import threading
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, https
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.availability import required, too_few
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import FAIL, UNKNOWN, WAIT, Evaluation, Question, Reason
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

# A service that answers so is up and says that it is busy, starting or short of something (RFC 9110, 15.5.9 and 15.6; RFC 6585, 4; RFC 8470, 5.2).
PASSING_STATUS = frozenset((408, 425, 429))
# What cannot be seen is unknown; the rest is known to be bad, and may become well by itself but for the certificate.
PROBLEMS = {
    https.REFUSED: ("HTTP_REFUSED", WAIT),
    https.NO_ANSWER: ("HTTP_NO_ANSWER", WAIT),
    https.UNREACHABLE: ("HTTP_UNREACHABLE", UNKNOWN),
    https.NAME: ("HTTP_UNREACHABLE", UNKNOWN),
    https.TLS: ("HTTP_TLS", FAIL),
}


@dataclasses.dataclass(frozen=True)
class Look:
    """One answer. ``problem`` as https.Answer has it. None and empty stand for what the answer does not tell; ``started`` is epoch seconds.

    ``dependencies`` holds (state, required) by name; None where the answer has no such table.
    """

    status: int = 0
    seconds: float = 0.0
    problem: str = ""
    error: str = ""
    version: str = ""
    started: float | None = None
    dependencies: t.Mapping[str, tuple[str, bool]] | None = None


@dataclasses.dataclass(frozen=True)
class Through:
    """The way through the load balancer: this time's answers, and the members that answered at any time of this gate (None: not told)."""

    looks: tuple[Look, ...]
    served: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Snapshot:
    members: t.Mapping[str, Look]
    through: Through | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is asked of a member. ``max_latency`` in seconds; ``dependencies`` must be up whatever the member itself requires.

    ``min_available`` members must remain in phase before; None stands for all but one, and at least one.
    """

    statuses: tuple[int, ...] = (200,)
    max_latency: float = 1.0
    dependencies: tuple[str, ...] = ()
    min_available: int | None = None


def evaluate(snapshot: Snapshot, question: Question, earlier: contract.Earlier[Snapshot], limits: Limits) -> Evaluation:
    """Pure: what the answers mean for the question."""
    target, members = question.target, snapshot.members
    reasons: list[Reason] = []
    if target and target not in members:
        text = f"is not among the members: {', '.join(sorted(members)) or 'there are none'}"
        return Evaluation((Reason("HTTP_NO_SUCH_MEMBER", FAIL, text, target),), observed_of(snapshot))

    faults = {name: member_reasons(name, look, limits) for name, look in members.items()}
    counted = [name for name in members if question.phase != contract.BEFORE or name != target]
    healthy = sum(not faults[name] for name in counted)

    if question.phase == contract.BEFORE:
        reasons += too_few("HTTP_TOO_FEW", counted, faults, required(limits.min_available, len(members)))
    elif question.phase == contract.AFTER:
        reasons += faults[target]
        reasons += version_reasons(target, members[target], question)
        reasons += through_reasons(snapshot.through, question, limits)
    else:
        reasons += [reason for name in sorted(faults) for reason in faults[name]]
        if question.phase == contract.FINAL:
            reasons += [reason for name, look in sorted(members.items()) for reason in version_reasons(name, look, question)]
            reasons += mixed_versions({name: look for name, look in members.items() if look.status in limits.statuses})
        reasons += through_reasons(snapshot.through, question, limits)
    return Evaluation(tuple(reasons), observed_of(snapshot), margin=healthy - (limits.min_available or 1))


def member_reasons(name: str, look: Look, limits: Limits) -> list[Reason]:
    """Why a member cannot serve; empty where it can."""
    if look.problem:
        code, verdict = PROBLEMS[look.problem]
        return [Reason(code, verdict, look.error, name)]
    if look.status not in limits.statuses:
        passing = look.status >= 500 or look.status in PASSING_STATUS
        accepted = ", ".join(str(status) for status in limits.statuses)
        down = [f"{key} {state}" for key, (state, _required) in sorted((look.dependencies or {}).items()) if state != "up"]
        text = f"answers {look.status}; accepted is {accepted}" + (f" (it says: {', '.join(down)})" if down else "")
        return [Reason("HTTP_STATUS", WAIT if passing else FAIL, text, name)]
    reasons = []
    if look.seconds > limits.max_latency:
        text = f"took {look.seconds:.2f} s to answer; {limits.max_latency:g} s are allowed"
        reasons.append(Reason("HTTP_SLOW", WAIT, text, name, forceable=True))
    stated = look.dependencies or {}
    for key in sorted(set(limits.dependencies) | {key for key, (_state, needed) in stated.items() if needed}):
        if key not in stated:
            reasons.append(Reason("HTTP_DEPENDENCY_UNKNOWN", UNKNOWN, f"does not tell the state of its dependency {key!r}", name))
        elif stated[key][0] != "up":
            reasons.append(Reason("HTTP_DEPENDENCY", WAIT, f"its dependency {key!r} is {stated[key][0]!r}, not 'up'", name, forceable=True))
    return reasons


def version_reasons(name: str, look: Look, question: Question) -> list[Reason]:
    """Whether what answers is what was started. Only asked of an answer that was seen; an old process that is ending is waited for."""
    if look.problem:
        return []
    reasons = []
    ends = look.status >= 500
    if question.expect_version and not look.version:
        reasons.append(Reason("HTTP_VERSION_UNKNOWN", UNKNOWN, f"does not tell its version; {question.expect_version!r} is expected", name))
    elif question.expect_version and look.version != question.expect_version:
        text = f"runs version {look.version!r}; {question.expect_version!r} is expected"
        reasons.append(Reason("HTTP_VERSION", WAIT if ends else FAIL, text, name))
    if question.phase == contract.AFTER and question.not_before is not None:
        if look.started is None:
            reasons.append(Reason("HTTP_START_UNKNOWN", UNKNOWN, "does not tell when it was started", name))
        elif look.started <= question.not_before:
            text = f"was started {question.not_before - look.started:.0f} s before the change"
            reasons.append(Reason("HTTP_NOT_RESTARTED", WAIT if ends else FAIL, text, name))
    return reasons


def mixed_versions(members: t.Mapping[str, Look]) -> list[Reason]:
    by_version: dict[str, list[str]] = {}
    for name, look in sorted(members.items()):
        if look.version:
            by_version.setdefault(look.version, []).append(name)
    if len(by_version) < 2:
        return []
    text = "; ".join(f"{version!r} on {', '.join(names)}" for version, names in sorted(by_version.items()))
    return [Reason("HTTP_VERSIONS_DIFFER", FAIL, f"the members run different versions: {text}", forceable=True)]


def through_reasons(through: Through | None, question: Question, limits: Limits) -> list[Reason]:
    """Whether clients are served, and by the target too where the answers tell who gave them."""
    if through is None:
        return []
    found = [reason for look in through.looks for reason in member_reasons("", look, limits)]
    reasons = []
    if found:
        worst = max(found, key=lambda reason: contract.SEVERITY.index(reason.verdict))
        reasons.append(dataclasses.replace(worst, code="HTTP_THROUGH", text=f"the load balancer: {worst}"))
    if question.phase == contract.AFTER and through.served is not None and question.target not in through.served:
        reasons.append(Reason("HTTP_NOT_SERVED", WAIT, "gets no requests from the load balancer yet", question.target))
    return reasons


def observed_of(snapshot: Snapshot) -> dict[str, t.Any]:
    """The facts, plain and without what was not told."""

    def plain(look: Look) -> dict[str, t.Any]:
        found = {key: value for key, value in dataclasses.asdict(look).items() if value not in (None, "", 0)}
        found["seconds"] = round(look.seconds, 3)
        return found

    observed: dict[str, t.Any] = {"members": {name: plain(look) for name, look in snapshot.members.items()}}
    if snapshot.through is not None:
        observed["through"] = {"looks": [plain(look) for look in snapshot.through.looks], "served": list(snapshot.through.served or ())}
    return observed


# Looking


@dataclasses.dataclass(frozen=True)
class Keys:
    """Where an answer tells things: dotted ways into a JSON body, or names of headers. Empty: it does not."""

    version: str = "version"
    version_header: str = ""
    started: str = ""
    dependencies: str = "dependencies"
    member_header: str = ""


def look_of(answer: https.Answer, keys: Keys) -> Look:
    """What an answer tells. Pure."""
    if answer.problem:
        return Look(seconds=answer.seconds, problem=answer.problem, error=answer.error)
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    version = answer.headers.get(keys.version_header.lower(), "") if keys.version_header else at(document, keys.version)
    return Look(
        status=answer.status,
        seconds=answer.seconds,
        version=version if isinstance(version, str) else "",
        started=epoch(at(document, keys.started)),
        dependencies=dependencies_of(at(document, keys.dependencies)),
    )


def at(document: t.Any, way: str) -> t.Any:
    """What lies at a dotted way in a document, None where nothing does."""
    if not way:
        return None
    for key in way.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def epoch(value: t.Any) -> float | None:
    """Seconds since the epoch, of a number or an ISO 8601 text with its zone; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
        return moment.timestamp() if moment.tzinfo else None
    return None


def dependencies_of(table: t.Any) -> dict[str, tuple[str, bool]] | None:
    """State and need of each dependency. A state is a text, a truth value, or a dictionary with ``status`` and, if need be, ``required``."""
    if not isinstance(table, dict):
        return None
    found = {}
    for name, entry in table.items():
        state, needed = (entry.get("status"), entry.get("required", True)) if isinstance(entry, dict) else (entry, True)
        if isinstance(state, bool):
            state = "up" if state else "down"
        found[str(name)] = (str(state), bool(needed))
    return found


class Fetcher:
    """Looks at all members at the same time, and through the load balancer with as many connections as it takes to reach each member."""

    def __init__(
        self,
        places: t.Mapping[str, https.Place],
        path: str,
        context: ssl.SSLContext,
        timeout: float,
        keys: Keys,
        through: tuple[https.Place, str] | None = None,
    ) -> None:
        self.clients = {name: https.Client(place, context, timeout) for name, place in places.items()}
        self.path, self.keys, self.through = path, keys, through
        # One connection shows one member. Without a header that names it, one is as good as many.
        count = (2 * len(places) if keys.member_header else 1) if through else 0
        self.clients_through = [https.Client(through[0], context, timeout) for _number in range(count)] if through else []
        self.served: set[str] = set()
        self.lock = threading.Lock()

    def fetch(self) -> Snapshot:
        work: dict[str, t.Callable[[], Look]] = {}
        for name, client in self.clients.items():
            work["member " + name] = functools.partial(self.look, client)
        for number, client in enumerate(self.clients_through):
            work[f"through {number}"] = functools.partial(self.look_through, client)
        looks = together(work)
        through = None
        if self.through:
            served = tuple(sorted(self.served)) if self.keys.member_header else None
            through = Through(tuple(looks[f"through {number}"] for number in range(len(self.clients_through))), served)
        return Snapshot({name: looks["member " + name] for name in self.clients}, through)

    def look(self, client: https.Client) -> Look:
        return look_of(client.get(self.path), self.keys)

    def look_through(self, client: https.Client) -> Look:
        answer = client.get(self.through[1] if self.through else "/", keep=not self.keys.member_header)
        member = answer.headers.get(self.keys.member_header.lower(), "") if self.keys.member_header else ""
        if member and not answer.problem and answer.status < 500:
            with self.lock:
                self.served.add(member)
        return look_of(answer, self.keys)
