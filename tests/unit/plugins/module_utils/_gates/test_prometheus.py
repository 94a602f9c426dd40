# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What metrics mean. One healthy state of three members, and named changes to it; answers as Prometheus documents and gives them."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, https, prometheus
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import Earlier, Question
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.prometheus import Condition, Limits, Metric, Series, Snapshot, condition_of

NAN = math.nan
NOW, CHANGE = 10_000.0, 9_800.0
ERRORS = Metric("errors", "q", Condition("<=", 0.01), Condition(">", 0.05), samples="s", factor=1.5, offset=0.005)
LATENCY = Metric("p95", "q", Condition("<=", 0.5))
ALERTS = Metric("alerts", "q", Condition("==", 0), by_member=False)
LIMITS = Limits((ERRORS, LATENCY, ALERTS), since=CHANGE)
LABELS = {"app1": "192.0.2.21:8001", "app2": "192.0.2.22:8001", "app3": "192.0.2.23:8001"}


def series(*values, error="") -> Series:
    return Series({label: value for label, value in zip(LABELS.values(), values, strict=False) if value is not None}, error)


HEALTHY = Snapshot(
    time=NOW,
    window=200.0,
    labels=LABELS,
    up=series(1.0, 1.0, 1.0),
    scraped=series(NOW - 5, NOW - 5, NOW - 5),
    values={"errors": series(0.001, 0.002, 0.001), "p95": series(0.1, 0.1, 0.2), "alerts": Series({"": 0.0})},
    samples={"errors": series(500.0, 400.0, 300.0)},
)


def but(snapshot: Snapshot = HEALTHY, **change) -> Snapshot:
    """``errors=(...)`` and the like change the values of a metric, ``counts`` the samples, others the fields."""
    values = {name: found if isinstance(found, Series) else series(*found) for name, found in change.items() if name in HEALTHY.values}
    rest = {name: found for name, found in change.items() if name not in HEALTHY.values and name != "counts"}
    samples = {"errors": series(*change["counts"])} if "counts" in change else snapshot.samples
    return dataclasses.replace(snapshot, values={**snapshot.values, **values}, samples=samples, **rest)


def ask(snapshot: Snapshot, phase: str = "after", limits: Limits = LIMITS, **question) -> contract.Evaluation:
    target = "app1" if phase in ("before", "after") else ""
    return prometheus.evaluate(snapshot, Question(**{"phase": phase, "target": target, **question}), Earlier(), limits)


ALONE = dataclasses.replace(HEALTHY, labels={"app1": LABELS["app1"]})
NO_CHANGE = dataclasses.replace(LIMITS, since=None)
SITUATIONS = {
    "all is well": (but(), "after", "pass", []),
    "it is too early": (but(window=None, time=CHANGE + 10), "after", "wait", ["PROM_TOO_EARLY"]),
    "bad, and worse than the others": (but(errors=(0.2, 0.001, 0.001)), "after", "fail", ["PROM_BAD app1/errors"]),
    "neither good nor bad": (but(errors=(0.03, 0.001, 0.001)), "after", "unknown", ["PROM_INCONCLUSIVE app1/errors"]),
    "not good, but as the others": (but(errors=(0.03, 0.03, 0.03)), "after", "pass", []),
    "bad everywhere": (but(errors=(0.2, 0.3, 0.3)), "after", "unknown", ["PROM_BAD_EVERYWHERE app1/errors"]),
    "a little worse than the others, still allowed": (but(errors=(0.02, 0.01, 0.012)), "after", "pass", []),
    "exactly the limit": (but(errors=(0.01, 0.0, 0.0)), "after", "pass", []),
    "exactly the bad limit is not bad yet": (but(errors=(0.05, 0.0, 0.0)), "after", "unknown", ["PROM_INCONCLUSIVE app1/errors"]),
    "no requests at all": (but(errors=(NAN, 0.0, 0.0), counts=(0.0, 400.0, 300.0)), "after", "unknown", ["PROM_NO_NUMBER app1/errors"]),
    "infinite": (but(p95=(math.inf, 0.1, 0.1)), "after", "unknown", ["PROM_NO_NUMBER app1/p95"]),
    "minus infinite is less than the limit, and no number": (but(p95=(-math.inf, 0.1, 0.1)), "after", "unknown", ["PROM_NO_NUMBER app1/p95"]),
    "too few samples, however good": (but(counts=(49.0, 400.0, 300.0)), "after", "unknown", ["PROM_FEW_SAMPLES app1/errors"]),
    "too few samples, however bad": (but(errors=(1.0, 0, 0), counts=(3.0, 400.0, 300.0)), "after", "unknown", ["PROM_FEW_SAMPLES app1/errors"]),
    "samples that nobody counted": (but(counts=(None, 400.0, 300.0)), "after", "unknown", ["PROM_FEW_SAMPLES app1/errors"]),
    "samples that are no number": (but(counts=(NAN, 400.0, 300.0)), "after", "unknown", ["PROM_FEW_SAMPLES app1/errors"]),
    "an empty vector": (but(p95=()), "after", "unknown", ["PROM_NO_DATA app1/p95"]),
    "an empty vector where none is good": (but(alerts=Series()), "after", "unknown", ["PROM_NO_DATA alerts"]),
    "the others' numbers do not stand for the target": (but(p95=(None, 0.1, 0.1)), "after", "unknown", ["PROM_NO_DATA app1/p95"]),
    "the query is refused": (but(p95=Series(error="bad_data")), "after", "unknown", ["PROM_QUERY app1/p95"]),
    "not scraped": (but(up=series(0.0, 1.0, 1.0)), "after", "unknown", ["PROM_NOT_SCRAPED app1"]),
    "another is not scraped": (but(up=series(1.0, 0.0, 1.0)), "after", "pass", []),
    "an old scrape": (but(scraped=series(NOW - 31, NOW, NOW)), "after", "unknown", ["PROM_STALE app1"]),
    "no scrape since the change": (
        but(time=CHANGE + 20, scraped=series(CHANGE - 1, CHANGE + 19, CHANGE + 19)),
        "after",
        "unknown",
        ["PROM_STALE app1"],
    ),
    "Prometheus does not know it": (but(up=series(None, 1.0, 1.0)), "after", "unknown", ["PROM_NO_DATA app1"]),
    "Prometheus is away": (
        but(up=Series(error="x"), errors=Series(error="x"), p95=Series(error="x"), alerts=Series(error="x")),
        "after",
        "unknown",
        ["PROM_NO_DATA app1", "PROM_QUERY app1/errors", "PROM_QUERY app1/p95", "PROM_QUERY alerts"],
    ),
    "an alert fires": (but(alerts=Series({"": 1.0})), "after", "unknown", ["PROM_INCONCLUSIVE alerts"]),
    "others with too few samples are nothing to compare with": (
        but(errors=(0.03, 0.9, 0.9), counts=(500.0, 3.0, 3.0)),
        "after",
        "unknown",
        ["PROM_NO_BASELINE app1/errors"],
    ),
    "alone and good": (ALONE, "after", "pass", []),
    "alone, with nothing to compare": (but(ALONE, errors=(0.2,)), "after", "unknown", ["PROM_NO_BASELINE app1/errors"]),
    "alone, and worse than before": (but(ALONE, errors=(0.2,), earlier={"errors": series(0.001)}), "after", "fail", ["PROM_BAD app1/errors"]),
    "alone, and as before": (but(ALONE, errors=(0.03,), earlier={"errors": series(0.02)}), "after", "pass", []),
    "a target that is none": (but(), "after", "fail", ["PROM_NO_SUCH_MEMBER app9"]),
    "before: the target's own numbers do not matter": (but(errors=(0.9, 0.001, 0.001), up=series(0.0, 1.0, 1.0)), "before", "pass", []),
    "before: another is bad": (but(errors=(0.001, 0.9, 0.001)), "before", "fail", ["PROM_BAD app2/errors"]),
    "preflight: one is bad": (but(p95=(0.1, 0.1, 0.9)), "preflight", "unknown", ["PROM_INCONCLUSIVE app3/p95"]),
    "final: all is well": (but(), "final", "pass", []),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_situation(situation):
    snapshot, phase, verdict, keys = SITUATIONS[situation]
    target = {"target": "app9"} if situation == "a target that is none" else {}
    limits = LIMITS if phase == "after" else NO_CHANGE
    seen = ask(snapshot, phase, limits, **target)
    assert (seen.verdict, [reason.key() for reason in seen.reasons]) == (verdict, keys)
    assert json.loads(json.dumps(seen.observed, allow_nan=False)) is not None


NUMBERS = st.sampled_from([None, 0.0, 0.004, 0.03, 0.2, 1.0, NAN, math.inf, -math.inf])
COUNTS = st.sampled_from([None, 0.0, 49.0, 50.0, 1000.0, NAN])
SNAPSHOTS = st.builds(
    lambda errors, p95, counts, up, age, alerts: but(
        errors=errors, p95=p95, counts=counts, up=series(*up), scraped=series(*(NOW - seconds for seconds in age)), alerts=Series({"": alerts})
    ),
    *(st.tuples(NUMBERS, NUMBERS, NUMBERS),) * 2,
    st.tuples(COUNTS, COUNTS, COUNTS),
    st.tuples(*(st.sampled_from([0.0, 1.0, None]),) * 3),
    st.tuples(*(st.sampled_from([1.0, 60.0, 500.0]),) * 3),
    st.sampled_from([0.0, 1.0]),
)
PHASES = st.sampled_from(contract.PHASES)


def blind(snapshot: Snapshot, what: str) -> Snapshot:
    """One thing that is not known any more, of the target."""
    app1 = LABELS["app1"]

    def without(found: Series) -> Series:
        return Series({label: value for label, value in found.values.items() if label != app1})

    if what in ("up", "scraped"):
        return dataclasses.replace(snapshot, **{what: without(getattr(snapshot, what))})
    if what == "counts":
        return dataclasses.replace(snapshot, samples={"errors": without(snapshot.samples["errors"])})
    return but(snapshot, **{what: Series() if what == "alerts" else without(snapshot.values[what])})


@given(snapshot=SNAPSHOTS, phase=PHASES, what=st.sampled_from(["up", "scraped", "counts", "errors", "p95", "alerts"]))
def test_what_is_not_known_never_makes_a_pass(snapshot, phase, what):
    limits = LIMITS if phase == "after" else NO_CHANGE
    # a value of the target is also what others are compared with; its own verdict is what counts here
    snapshot = dataclasses.replace(snapshot, labels={"app1": LABELS["app1"]})
    if phase != "before" and ask(snapshot, phase, limits).verdict != "pass":
        assert ask(blind(snapshot, what), phase, limits).verdict != "pass"


@given(snapshot=SNAPSHOTS)
def test_a_pass_has_every_number_of_the_target(snapshot):
    if ask(snapshot).verdict == "pass":
        label = LABELS["app1"]
        assert snapshot.up.values[label] == 1 and NOW - snapshot.scraped.values[label] <= 30
        assert snapshot.samples["errors"].values[label] >= 50
        assert snapshot.values["p95"].values[label] <= 0.5 and math.isfinite(snapshot.values["errors"].values[label])


@given(snapshot=SNAPSHOTS, better=st.sampled_from([0.0, 0.001]))
def test_a_better_target_never_makes_it_worse(snapshot, better):
    others = snapshot.values["errors"].values
    improved = but(snapshot, errors=(better, *(others.get(LABELS[name]) for name in ("app2", "app3"))))
    order = contract.SEVERITY.index
    before = snapshot.values["errors"].values.get(LABELS["app1"])
    if before is None or not before < better:
        assert order(ask(improved).verdict) <= order(ask(snapshot).verdict)


# Answers


def answer(document: object, status: int = 200) -> https.Answer:
    return https.Answer(status, {}, document if isinstance(document, bytes) else json.dumps(document).encode(), 0.01)


def vector(*elements: tuple[dict, str], **more) -> https.Answer:
    result = [{"metric": metric, "value": [1795342514.257, value]} for metric, value in elements]
    return answer({"status": "success", "data": {"resultType": "vector", "result": result}, **more})


@pytest.mark.parametrize(
    ("given_answer", "values"),
    [
        (vector(({"instance": "a:1"}, "0.25"), ({"instance": "b:1"}, "NaN")), {"a:1": "0.25", "b:1": "nan"}),
        (vector(({}, "+Inf")), {"": "inf"}),
        (vector(), {}),
        (answer({"status": "success", "data": {"resultType": "scalar", "result": [1795342514.257, "3"]}}), {"": "3.0"}),
    ],
)
def test_results(given_answer, values):
    found = prometheus.series_of(given_answer, "instance")
    assert ({label: str(value) for label, value in found.values.items()}, found.error) == (values, "")


@pytest.mark.parametrize(
    ("given_answer", "text"),
    [
        (answer({"status": "error", "errorType": "bad_data", "error": "1:4: parse error"}, 400), "(400): bad_data: 1:4: parse error"),
        (answer({"status": "error", "errorType": "timeout", "error": "query timed out"}, 503), "query timed out"),
        (vector(({"instance": "a:1"}, "1"), warnings=["store is down"]), "a part of the data only: store is down"),
        (vector(({"instance": "a:1", "code": "200"}, "1"), ({"instance": "a:1", "code": "500"}, "1")), "add an aggregation by (instance)"),
        (answer({"status": "success", "data": {"resultType": "matrix", "result": []}}), "is a matrix"),
        (answer(b"<html>", 502), "(502) is not Prometheus"),
        (answer([1]), "is not Prometheus"),
        (answer(b"Unauthorized", 401), "refuses the user (401)"),
        (https.Answer(problem=https.REFUSED, error="nothing listens there"), "nothing listens there"),
    ],
)
def test_answers_that_are_none(given_answer, text):
    found = prometheus.series_of(given_answer, "instance")
    assert not found.values and text in found.error


@pytest.mark.parametrize("text", ["", "0.01", "<", "=< 1", "< one", "< 1; > 2"])
def test_a_condition_that_is_none(text):
    with pytest.raises(prometheus.ConditionError, match="accepted is an operator"):
        condition_of(text)


def test_conditions():
    assert [condition_of("<=0.01"), condition_of(" > -1e3 ")] == [Condition("<=", 0.01), Condition(">", -1000.0)]
    assert not any(Condition(sign, 0.0).met(NAN) for sign in prometheus.OPERATORS)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric("x", "q", Condition(">=", 1), factor=1.3), "must then be < or <="),
        (Metric("x", "q", Condition("<", 1), factor=1.3, by_member=False), "scope service has none"),
        (Metric("x", "q", Condition("<", 0.05), Condition(">", 0.01)), "meets both"),
        (Metric("x", "q", Condition("!=", 0), Condition(">", 5)), "meets both"),
    ],
)
def test_metrics_that_make_no_sense(metric, text):
    assert text in metric.problems()[0]
    assert not any(good.problems() for good in LIMITS.metrics)
