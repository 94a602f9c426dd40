# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: executions
type: aggregate
short_description: Count module executions by role and host
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Writes a JSON file that says how many modules ran on each host, by role or playbook, and how long the tasks took. A module
    execution is what a converge costs; actions that only compute on the controller are not counted.
  - It is meant for C(make bench); enable it with C(ANSIBLE_CALLBACKS_ENABLED=novacorrente.platform.executions).
options:
  path:
    description: Where the file is written. Nothing is written where it is not set.
    type: path
    env:
      - name: PLATFORM_EXECUTIONS_PATH
    ini:
      - section: callback_executions
        key: path
"""

import collections
import json
import time
import typing as t

from ansible.plugins.callback import CallbackBase

# Actions of ansible-core that run on the controller and start no module.
CONTROLLER_ONLY = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "ansible.builtin.", "ansible.legacy.")
    for name in (
        "add_host",
        "assert",
        "debug",
        "fail",
        "group_by",
        "import_playbook",
        "import_role",
        "import_tasks",
        "include_role",
        "include_tasks",
        "include_vars",
        "meta",
        "pause",
        "set_fact",
        "set_stats",
        "validate_argument_spec",
    )
) | {"novacorrente.platform.validate"}


class CallbackModule(CallbackBase):
    """Counts results that came from a module on a host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "novacorrente.platform.executions"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self.begin = time.monotonic()
        self.counts: dict[str, dict[str, int]] = collections.defaultdict(lambda: collections.defaultdict(int))
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.running: tuple[str, float] | None = None

    @staticmethod
    def owner(task: t.Any) -> str:
        """The role a task belongs to, else its playbook."""
        role = getattr(task, "_role", None)
        if role is not None:
            return str(role.get_name()).rpartition(".")[2]
        return str(task.get_path()).rpartition("/")[2].partition(":")[0]

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        self._close()
        self.running = (self.owner(task), time.monotonic())

    def _close(self) -> None:
        if self.running is not None:
            role, begin = self.running
            self.seconds[role] += time.monotonic() - begin
            self.running = None

    def _count(self, result: t.Any) -> None:
        task = result._task
        if task.action in CONTROLLER_ONLY or "skip_reason" in result._result:
            return
        rows = result._result.get("results")
        number = sum(1 for row in rows if "skip_reason" not in row) if task.loop is not None and isinstance(rows, list) else 1
        self.counts[result._host.get_name()][self.owner(task)] += number

    v2_runner_on_ok = _count

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._count(result)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        self._close()
        path = self.get_option("path")
        if not path:
            return
        report = {
            "seconds": round(time.monotonic() - self.begin, 2),
            "hosts": {host: dict(sorted(rows.items())) for host, rows in sorted(self.counts.items())},
            "total": {host: sum(rows.values()) for host, rows in sorted(self.counts.items())},
            "seconds_by_role": {role: round(value, 2) for role, value in sorted(self.seconds.items())},
        }
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=1)
