# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from pipeline import config, events, steps
from pipeline.settings import Settings
from pipeline.store import Store


@pytest.fixture
def environment(buckets: t.Any, tmp_path: pathlib.Path) -> dict[str, str]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return {
        **buckets.environment(),
        "PIPELINE_SCRATCH": str(scratch),
        "PIPELINE_CONFIG": str(tmp_path / "sources.yml"),
        "PIPELINE_HEALTH_FILE": str(tmp_path / "health"),
        "WORKER_METRICS_PORT": "0",
    }


@pytest.fixture
def queue_environment(environment: dict[str, str], queue_server: t.Any) -> dict[str, str]:
    return {
        **environment,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(queue_server.port),
        "REDIS_USERNAME": "pipeline",
        "REDIS_PASSWORD": "pipeline-password",
    }


@pytest.fixture
def make_context(environment: dict[str, str]) -> t.Callable[..., steps.Context]:
    """A context without Redis for a configuration given as a document or a path."""

    def make(document: t.Any, connection: t.Any = None) -> steps.Context:
        settings = Settings.load(environment)
        parsed = config.load(str(document)) if isinstance(document, pathlib.Path) else config.parse(document)
        run_id = steps.new_run_id()
        return steps.Context(settings, parsed, Store(settings.store), events.Recorder(connection, run_id, 50), run_id)

    return make


@pytest.fixture
def orders(tmp_path: pathlib.Path) -> t.Any:
    """A small table whose source file a test can rewrite."""
    return Orders(tmp_path)


class Orders:
    GOOD = "id;day;state;amount\n1;2026-01-01;paid;10.50\n2;2026-01-02;open;-\n3;2026-02-01;paid;7.25\n"

    def __init__(self, directory: pathlib.Path) -> None:
        self.file = directory / "orders.csv"
        self.config = directory / "sources.yml"
        self.write(self.GOOD)
        self.configure()

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def document(self, **changes: t.Any) -> dict[str, t.Any]:
        return {
            "tables": [
                {
                    "name": "orders",
                    "source": {
                        "uri": f"file://{self.file}",
                        "format": "csv",
                        "options": {"delimiter": ";", "nullstr": "-", "types": {"day": "DATE", "amount": "DECIMAL(10,2)"}},
                    },
                    "key": ["id"],
                    "silver": {
                        "rules": [
                            {"rule": "not_null", "columns": ["id", "day"]},
                            {"rule": "unique"},
                            {"rule": "accepted_values", "column": "state", "values": ["paid", "open"]},
                            {"rule": "not_null", "columns": "amount", "severity": "warn"},
                        ]
                    },
                    "gold": [
                        {"name": "orders"},
                        {
                            "name": "orders_monthly",
                            "key": ["month"],
                            "sql": "SELECT CAST(date_trunc('month', day) AS DATE) AS month, sum(amount) AS amount FROM silver GROUP BY ALL",
                            "rules": [{"rule": "range", "column": "amount", "min": 0, "name": "no negative month"}],
                        },
                    ],
                    **changes,
                }
            ]
        }

    def configure(self, **changes: t.Any) -> None:
        self.config.write_text(yaml.safe_dump(self.document(**changes)), encoding="utf-8")
