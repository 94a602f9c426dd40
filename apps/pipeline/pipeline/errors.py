# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that carry what an operator needs: table, step, rule, and whether trying again can help."""

from __future__ import annotations

import typing as t


class PipelineError(Exception):
    """A step failed. `retryable` says whether the same input may succeed later."""

    retryable = False

    def __init__(self, message: str, *, table: str | None = None, step: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.table = table
        self.step = step
        if retryable is not None:
            self.retryable = retryable

    @property
    def rule(self) -> str | None:
        return None


class ConfigError(PipelineError):
    """The source configuration or an environment variable is wrong; lists every finding."""

    def __init__(self, findings: t.Sequence[str]) -> None:
        self.findings = list(findings)
        super().__init__("; ".join(self.findings))


class SourceError(PipelineError):
    """The source could not be read."""


class TransformError(PipelineError):
    """DuckDB refused the source file or the SQL."""


class StoreError(PipelineError):
    """The object store refused or did not answer."""

    retryable = True


class ValidationError(PipelineError):
    """What lies in the buckets is not what the manifests say."""


class QualityError(PipelineError):
    """Data quality rules of severity error failed; nothing was changed."""

    def __init__(self, table: str, layer: str, failures: t.Sequence[dict[str, t.Any]], rows: int) -> None:
        self.layer = layer
        self.failures = list(failures)
        parts = []
        for failure in self.failures:
            text = f"rule {failure['rule']}: {failure['message']}"
            if failure["sample"]:
                text += "; for example " + ", ".join("(" + ", ".join(f"{name}={value}" for name, value in row.items()) + ")" for row in failure["sample"])
            parts.append(text)
        super().__init__(f"{layer} table {table} ({rows} rows) failed its quality rules: " + " | ".join(parts), table=table)

    @property
    def rule(self) -> str | None:
        return ", ".join(failure["rule"] for failure in self.failures)


class RunFailed(PipelineError):
    """One or more tables of a run failed."""

    def __init__(self, run_id: str, failures: t.Sequence[PipelineError]) -> None:
        self.run_id = run_id
        self.failures = list(failures)
        super().__init__(
            f"run {run_id} failed: " + " || ".join(f"[{f.table or '-'}/{f.step or '-'}] {f}" for f in self.failures),
            retryable=any(f.retryable for f in self.failures),
        )

    @property
    def rule(self) -> str | None:
        rules = [f.rule for f in self.failures if f.rule]
        return ", ".join(rules) or None
