#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a converge that has nothing to do costs: seconds and module executions, by role, and the slope over hosts.

Run by `make bench` on a converged lab; `tools/bench.py TRIALS` takes another number of trials than three.
Prints Markdown (docs/measurements.md holds the figures of a run).
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import typing as t

REPO = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(sys.executable).parent
TRIALS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
SIZES = {3: "data1,app1,edge1", 6: "data1,data2,app1,app2,edge1,edge2", 9: "all"}


def converge(limit: str) -> dict[str, t.Any]:
    """One run of site.yml; the report of the `executions` callback."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "report.json")
        environment = {**os.environ, "ANSIBLE_CALLBACKS_ENABLED": "novacorrente.platform.executions", "PLATFORM_EXECUTIONS_PATH": path}
        subprocess.run(
            [str(BIN / "ansible-playbook"), "site.yml", "-i", "inventories/lab", "--limit", f"{limit},localhost"],
            cwd=REPO,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))


def main() -> None:
    reports = {size: [converge(limit) for _trial in range(TRIALS)] for size, limit in SIZES.items()}
    print(f"| hosts | seconds (median of {TRIALS}) | module executions, all hosts | most on one host |\n|--:|--:|--:|--:|")
    medians = {}
    for size, rows in reports.items():
        total = {host: count for host, count in rows[-1]["total"].items() if host != "localhost"}
        medians[size] = statistics.median(row["seconds"] for row in rows)
        print(f"| {size} | {medians[size]:.1f} | {sum(total.values())} | {max(total.values())} |")
    small, large = min(medians), max(medians)
    print(f"\nslope: {(medians[large] - medians[small]) / (large - small):.2f} s a host\n")
    last = reports[large][-1]
    roles = sorted({role for rows in last["hosts"].values() for role in rows})
    print("| role | executions, all hosts | seconds |\n|--|--:|--:|")
    for role in roles:
        count = sum(rows.get(role, 0) for rows in last["hosts"].values())
        print(f"| {role} | {count} | {last['seconds_by_role'].get(role, 0):.1f} |")


if __name__ == "__main__":
    main()
