# SPDX-License-Identifier: GPL-3.0-or-later
"""A second run changes nothing, restarts nothing, and stays within its budget of module executions."""

from __future__ import annotations

import support

BUDGET = 25


def executions_since(host: str, mark: str) -> int:
    """Module executions that the host itself has logged ("Invoked with") since a mark was written to its journal."""
    out = support.ssh(host, f"journalctl --no-pager --output=cat --after-cursor={support._quote(mark)} | grep -c 'Invoked with' || true")
    return int(out.strip() or 0)


def cursor(host: str) -> str:
    out = support.ssh(host, "journalctl --no-pager -n 0 --show-cursor | tail -n 1")
    return out.split("-- cursor: ")[1].strip()


def test_a_second_run_changes_nothing_and_stays_in_budget():
    before = support.started_at()
    marks = {host: cursor(host) for host in support.hosts()}
    run = support.playbook("second-run")
    assert run.code == 0, run.text[-3000:]
    assert run.changed() == {}
    assert set(run.recap()) >= set(support.hosts())
    assert support.started_at() == before
    counts = {host: executions_since(host, mark) for host, mark in marks.items()}
    print(f"second run: {run.seconds:.1f} s, module executions {counts}")
    assert all(0 < count <= BUDGET for count in counts.values()), counts
