# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes that modules for settings plan, make and show.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Step:
    """One change: what is done to which thing, as it was, and as it becomes. Never holds a secret."""

    action: str
    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.action} {self.name}: {self.before} -> {self.after}"


def diff(changes: t.Iterable[Step], member: str = "") -> list[dict[str, str]]:
    """The changes as Ansible shows them, with the member that they are made on where each has its own."""
    where = f"{member}: " if member else ""
    return [
        {
            "before_header": f"{where}{step.action} {step.name}",
            "after_header": f"{where}{step.action} {step.name}",
            "before": step.before + "\n",
            "after": step.after + "\n",
        }
        for step in changes
    ]
