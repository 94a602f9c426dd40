# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""For tools/bench_gates.py: when each task ended, a line each, appended to $STAMPS."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stamps
type: notification
short_description: Note when tasks ended
description: One JSON line a task.
"""


class CallbackModule(CallbackBase):
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "stamps"

    def note(self, result: t.Any, good: bool) -> None:
        with open(os.environ["STAMPS"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"task": result._task.get_name(), "good": good, "time": time.time()}) + "\n")

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self.note(result, True)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self.note(result, False)
