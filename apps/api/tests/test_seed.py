# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from app import seed
from app.insights import Content

ROWS = [
    {"month": "2012-01-01", "days": 31, "rain": 5.5, "name": "a"},
    {"month": "2012-02-01", "days": 29, "rain": None, "name": "b"},
    {"month": "2012-03-01", "days": 31, "rain": 1.5, "name": "c"},
]


def test_months_and_their_extremes() -> None:
    found = seed.month_insights("weather", ROWS)
    assert list(found) == ["2012-01", "2012-02", "2012-03"]
    assert found["2012-01"] == {
        "title": "weather in 2012-01", "text": "days: 31; rain: 5.5", "table": "weather", "tags": ["2012-01", "month", "extreme", "max-days", "max-rain"],
    }  # fmt: skip
    assert found["2012-02"]["tags"] == ["2012-02", "month", "extreme", "min-days"]
    assert found["2012-03"]["tags"] == ["2012-03", "month", "extreme", "min-rain"]
    for content in found.values():  # what the API itself would accept, unchanged
        assert Content.model_validate(content).model_dump() == content
    assert seed.month_insights("weather", []) == {}


def test_links_of_months() -> None:
    assert seed.links({"b": ["2012-02", "2012-01"], "a": ["2012-02"]}) == [
        ("a-2012-02", "of", "a"), ("b-2012-01", "of", "b"), ("b-2012-02", "of", "b"), ("a-2012-02", "same-month", "b-2012-02"),
    ]  # fmt: skip


def test_only_a_date_called_month_makes_months() -> None:
    assert seed.month_column({"month": "DATE"}) == "month"
    assert seed.month_column({"month": "VARCHAR", "date": "DATE"}) is None
