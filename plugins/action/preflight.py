# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.novacorrente.platform.plugins.module_utils._preflight import judge_clock
from ansible_collections.novacorrente.platform.plugins.plugin_utils import _validation as core


class ActionModule(ActionBase):
    """Runs the module of the same name, compares the clocks, and turns a host that does not answer into a finding."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        host = str(task_vars.get("inventory_hostname", ""))
        connection = dict(args.get("connection") or {})
        tolerance = core.number(args.get("clock_tolerance"), 5)
        before = time.time()
        try:
            answer = self._execute_module(module_name="novacorrente.platform.preflight", module_args=args, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            answer = {"unreachable": True, "msg": str(error)}
        except AnsibleError as error:
            # A connection plugin raises this where sudo wants a password that it has not got.
            answer = {"failed": True, "msg": str(error)}
        after = time.time()
        if "findings" in answer:
            answer["findings"] += judge_clock(float(answer["time"]), before, after, tolerance)
            result.update(answer)
            return result
        findings = core.Findings()
        core.check_preflight_result(findings, host, connection, answer)
        result.update(changed=False, findings=[finding.as_dict() for finding in findings.sorted()], msg=str(answer.get("msg", "")))
        return result
