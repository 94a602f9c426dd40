# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gate of metrics: thresholds on PromQL queries, by member and by service, against the other members.

A value is good, bad or neither. Neither, and all that cannot be relied on (no data, NaN, too few samples, a scrape that is old), is unknown: then a
person decides, nothing is taken back. Private to this collection.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import re
import ssl
import statistics
import time
import typing as t
import urllib.parse

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, https
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import FAIL, UNKNOWN, WAIT, Evaluation, Question, Reason
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

OPERATORS: dict[str, t.Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
CONDITION = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*")


class ConditionError(ValueError):
    """A condition that cannot be read; the text is for the user."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """An operator and a number, such as ``<= 0.01``. NaN meets none."""

    sign: str
    number: float

    def met(self, value: float) -> bool:
        return not math.isnan(value) and OPERATORS[self.sign](value, self.number)

    def __str__(self) -> str:
        return f"{self.sign} {self.number:g}"


def condition_of(text: str) -> Condition:
    """Raises ConditionError."""
    match = CONDITION.fullmatch(text)
    if not match:
        raise ConditionError(f"condition is {text!r}; accepted is an operator (<, <=, >, >=, ==, !=) and a number, such as '<= 0.01'.")
    return Condition(match[1], float(match[2]))


@dataclasses.dataclass(frozen=True)
class Metric:
    """A query and what its value must be.

    ``by_member`` says whether the result has one element for each member, else one in all. ``success_when`` and ``fail_when`` leave room between
    them, which is neither. Fewer than ``min_samples`` events in the window prove nothing; ``samples`` is the query that counts them.
    With ``factor`` a value is good as well where it is no more than ``factor`` times the others' plus ``offset``: only a metric whose low
    values are good has that.
    """

    name: str
    query: str
    success_when: Condition
    fail_when: Condition | None = None
    by_member: bool = True
    samples: str = ""
    min_samples: float = 50.0
    factor: float | None = None
    offset: float = 0.0

    def problems(self) -> list[str]:
        found = []
        if self.factor is not None and self.success_when.sign not in ("<", "<="):
            found.append(f"metric {self.name!r}: factor compares with the others, success_when must then be < or <=, and is {self.success_when}.")
        if self.factor is not None and not self.by_member:
            found.append(f"metric {self.name!r}: factor compares members, scope service has none.")
        low, high = sorted((self.success_when.number, (self.fail_when or self.success_when).number))
        for number in (low - 1, low, (low + high) / 2, high, high + 1):
            if self.fail_when and self.fail_when.met(number) and self.success_when.met(number):
                found.append(f"metric {self.name!r}: {number:g} meets both success_when and fail_when; accepted are conditions that exclude each other.")
                break
        return found


@dataclasses.dataclass(frozen=True)
class Series:
    """The result of a query: values by the member's label, ``""`` for an element without it. ``error`` says why there is none."""

    values: t.Mapping[str, float] = dataclasses.field(default_factory=dict)
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What Prometheus says at a time (epoch seconds). ``window`` is the seconds that rates look back; None: it is too early to ask.

    ``up`` and ``scraped`` (epoch seconds of the last scrape) are by label. ``values``, ``samples`` and ``earlier`` (the hour before the change) are by
    the metric's name.
    """

    time: float
    window: float | None
    labels: t.Mapping[str, str]
    up: Series = Series()
    scraped: Series = Series()
    values: t.Mapping[str, Series] = dataclasses.field(default_factory=dict)
    samples: t.Mapping[str, Series] = dataclasses.field(default_factory=dict)
    earlier: t.Mapping[str, Series] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Seconds: of the scrape interval, of the wait after ``since`` (epoch seconds; None: nothing changed), and of the longest window."""

    metrics: tuple[Metric, ...]
    scrape_interval: float = 15.0
    initial_delay: float = 30.0
    max_window: float = 300.0
    since: float | None = None


def evaluate(snapshot: Snapshot, question: Question, earlier: contract.Earlier[Snapshot], limits: Limits) -> Evaluation:
    """Pure: what the metrics mean for the question.

    Phase after is about the target, phase before about all but the target, the others about all members. The service as a whole always counts.
    """
    members = sorted(snapshot.labels)
    if question.target and question.target not in members:
        text = f"is not among the members: {', '.join(members) or 'there are none'}"
        return Evaluation((Reason("PROM_NO_SUCH_MEMBER", FAIL, text, question.target),))
    if snapshot.window is None:
        rest = (limits.since or 0.0) + limits.initial_delay - snapshot.time
        return Evaluation((Reason("PROM_TOO_EARLY", WAIT, f"asks in {max(rest, 0):.0f} s, {limits.initial_delay:g} s after the change"),))
    if question.phase == contract.AFTER:
        members = [question.target]
    elif question.phase == contract.BEFORE:
        members = [name for name in members if name != question.target]

    reasons: list[Reason] = []
    if any(metric.by_member for metric in limits.metrics):
        reasons += [reason for name in members for reason in scrape_reasons(name, snapshot, limits)]
    for metric in limits.metrics:
        for subject in members if metric.by_member else [""]:
            reasons += value_reasons(metric, subject, snapshot)
    return Evaluation(tuple(reasons), observed_of(snapshot, limits))


def scrape_reasons(name: str, snapshot: Snapshot, limits: Limits) -> list[Reason]:
    """Whether what Prometheus has of a member is of now."""
    label = snapshot.labels[name]
    up, scraped = snapshot.up.values.get(label), snapshot.scraped.values.get(label)
    if up is None or scraped is None:
        why = snapshot.up.error or snapshot.scraped.error or f"nothing is known of it under the label {label!r}"
        return [Reason("PROM_NO_DATA", UNKNOWN, why, name)]
    if up != 1:
        return [Reason("PROM_NOT_SCRAPED", UNKNOWN, "cannot be scraped", name)]
    age = snapshot.time - scraped
    if age > 2 * limits.scrape_interval:
        return [Reason("PROM_STALE", UNKNOWN, f"was scraped {age:.0f} s ago; {2 * limits.scrape_interval:g} s are allowed", name)]
    if limits.since is not None and scraped <= limits.since:
        return [Reason("PROM_STALE", UNKNOWN, "was not scraped since the change", name)]
    return []


def value_reasons(metric: Metric, member: str, snapshot: Snapshot) -> list[Reason]:
    """Why a metric of a member, or of the service (no member), is not good."""
    subject = f"{member}/{metric.name}" if member else metric.name
    series = snapshot.values.get(metric.name, Series(error="was not asked"))
    label = snapshot.labels[member] if member else ""
    if series.error:
        return [Reason("PROM_QUERY", UNKNOWN, series.error, subject)]
    value = series.values.get(label)
    if value is None:
        return [Reason("PROM_NO_DATA", UNKNOWN, "the query has no result", subject)]
    if not math.isfinite(value):
        return [Reason("PROM_NO_NUMBER", UNKNOWN, f"the query has the result {value}", subject)]
    if metric.samples:
        counted = snapshot.samples.get(metric.name, Series(error="was not asked"))
        count = counted.values.get(label)
        if counted.error or count is None or not count >= metric.min_samples:
            text = counted.error or f"{0 if count is None else count:.0f} samples in {snapshot.window:.0f} s; {metric.min_samples:g} are needed"
            return [Reason("PROM_FEW_SAMPLES", UNKNOWN, text, subject)]
    return verdict_of(metric, value, member, subject, snapshot)


def verdict_of(metric: Metric, value: float, member: str, subject: str, snapshot: Snapshot) -> list[Reason]:
    if metric.success_when.met(value):
        return []
    shown = f"is {value:g}; {metric.success_when} is good"
    base = baseline(metric, member, snapshot)
    bad = metric.fail_when is not None and metric.fail_when.met(value)
    if metric.factor is not None:
        if base is None:
            return [Reason("PROM_NO_BASELINE", UNKNOWN, f"{shown}, and there is nothing to compare it with", subject)]
        allowed = base * metric.factor + metric.offset
        shown += f", as is {allowed:g} next to {base:g} elsewhere"
        if value <= allowed:
            # As bad everywhere: not this member's fault, and yet nothing to go on with.
            return [Reason("PROM_BAD_EVERYWHERE", UNKNOWN, f"{shown}; {metric.fail_when} is bad", subject)] if bad else []
    if bad:
        return [Reason("PROM_BAD", FAIL, f"{shown}; {metric.fail_when} is bad", subject, forceable=True)]
    return [Reason("PROM_INCONCLUSIVE", UNKNOWN, f"{shown}, {metric.fail_when or 'nothing'} is bad", subject)]


def baseline(metric: Metric, member: str, snapshot: Snapshot) -> float | None:
    """What the metric is elsewhere: at the other members now, else at the same member in the hour before the change."""
    label = snapshot.labels.get(member, "")
    values = snapshot.values[metric.name].values
    others = [other for name, other in snapshot.labels.items() if name != member]
    if metric.samples:
        counts = snapshot.samples.get(metric.name, Series()).values
        others = [other for other in others if counts.get(other, 0.0) >= metric.min_samples]
    numbers = [values[other] for other in others if math.isfinite(values.get(other, math.nan))]
    if numbers:
        return statistics.median(numbers)
    before = snapshot.earlier.get(metric.name, Series()).values.get(label)
    return before if before is not None and math.isfinite(before) else None


def observed_of(snapshot: Snapshot, limits: Limits) -> dict[str, t.Any]:
    """The values by metric and member, as texts where JSON has no number for them."""
    names = {label: name for name, label in snapshot.labels.items()}

    def plain(series: Series) -> t.Any:
        if series.error:
            return {"error": series.error}
        return {names.get(label, label): value if math.isfinite(value) else str(value) for label, value in series.values.items() if not label or label in names}

    observed: dict[str, t.Any] = {"window": snapshot.window, "up": plain(snapshot.up)}
    for metric in limits.metrics:
        found = {"value": plain(snapshot.values.get(metric.name, Series()))}
        if metric.samples:
            found["samples"] = plain(snapshot.samples.get(metric.name, Series()))
        if metric.name in snapshot.earlier:
            found["earlier"] = plain(snapshot.earlier[metric.name])
        observed[metric.name] = found
    return observed


# Looking


def series_of(answer: https.Answer, label: str) -> Series:
    """The result of an instant query. Pure. Source: https://prometheus.io/docs/prometheus/latest/querying/api/"""
    if answer.problem:
        return Series(error=f"Prometheus: {answer.error}")
    if answer.status in (401, 403):
        return Series(error=f"Prometheus refuses the user ({answer.status})")
    try:
        document = json.loads(answer.body)
        if document["status"] != "success":
            return Series(error=f"Prometheus ({answer.status}): {document['errorType']}: {document['error']}")
        # A result that lacks a part is worth less than none.
        if document.get("warnings"):
            return Series(error=f"Prometheus has a part of the data only: {'; '.join(document['warnings'])}")
        data = document["data"]
        if data["resultType"] == "scalar":
            return Series({"": float(data["result"][1])})
        if data["resultType"] != "vector":
            return Series(error=f"the query's result is a {data['resultType']}; accepted is a vector or a scalar")
        values: dict[str, float] = {}
        for element in data["result"]:
            name = element["metric"].get(label, "")
            if name in values:
                return Series(error=f"the query has several results for {label}={name!r}; add an aggregation by ({label})")
            values[name] = float(element["value"][1])
        return Series(values)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return Series(error=f"what answers ({answer.status}) is not Prometheus")


def prepared(query: str, window: float) -> str:
    """The query with the window in place of ``$window``."""
    return query.replace("$window", f"{max(1, int(window))}s")


class Fetcher:
    """Asks one Prometheus, all queries at the same time, each over a connection of its own that is kept."""

    def __init__(
        self,
        place: https.Place,
        path: str,
        context: ssl.SSLContext,
        timeout: float,
        headers: t.Mapping[str, str],
        labels: t.Mapping[str, str],
        label: str,
        up: str,
        limits: Limits,
        clock: t.Callable[[], float] = time.time,
    ) -> None:
        self.new_client = functools.partial(https.Client, place, context, timeout, headers)
        self.path, self.labels, self.label, self.up, self.limits, self.clock = path.rstrip("/"), labels, label, up, limits, clock
        self.clients: dict[str, https.Client] = {}
        self.before: dict[str, Series] = {}

    def query(self, client: https.Client, query: str, moment: float) -> Series:
        parameters = urllib.parse.urlencode({"query": query, "time": f"{moment:.3f}"})
        return series_of(client.get(f"{self.path}/api/v1/query?{parameters}"), self.label)

    def fetch(self) -> Snapshot:
        now, limits = self.clock(), self.limits
        window = limits.max_window
        if limits.since is not None:
            if now < limits.since + limits.initial_delay:
                return Snapshot(now, None, self.labels)
            # What was before the change must not hide what is after it.
            window = min(window, now - limits.since)
        queries: dict[str, tuple[str, float]] = {"up": (self.up, now), "scraped": (f"timestamp({self.up})", now)}
        for metric in limits.metrics:
            queries["value " + metric.name] = (prepared(metric.query, window), now)
            if metric.samples:
                queries["samples " + metric.name] = (prepared(metric.samples, window), now)
            if metric.factor is not None and limits.since is not None and len(self.labels) == 1 and not self.usable(metric.name):
                queries["before " + metric.name] = (prepared(metric.query, 3600), limits.since)
        work = {}
        for key, (query, moment) in queries.items():
            client = self.clients.setdefault(key, self.new_client())
            work[key] = functools.partial(self.query, client, query, moment)
        found = together(work)
        self.before.update({key.split(" ", 1)[1]: series for key, series in found.items() if key.startswith("before ")})
        return Snapshot(
            time=now,
            window=window,
            labels=self.labels,
            up=found["up"],
            scraped=found["scraped"],
            values={metric.name: found["value " + metric.name] for metric in limits.metrics},
            samples={metric.name: found["samples " + metric.name] for metric in limits.metrics if metric.samples},
            earlier=dict(self.before),
        )

    def usable(self, name: str) -> bool:
        """Whether the hour before the change was seen already; it does not change any more."""
        return name in self.before and not self.before[name].error
