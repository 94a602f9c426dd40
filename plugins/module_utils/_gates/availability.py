# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many members are enough, for gates of systems whose members can stand in for each other.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import FAIL, UNKNOWN, WAIT, Reason

Faults = t.Mapping[str, t.Sequence[Reason]]


def required(min_available: int | None, members: int) -> int:
    """How many members must remain while one is away: what was said, else all but one, and at least one."""
    return min_available if min_available is not None else max(1, members - 1)


def too_few(code: str, counted: t.Sequence[str], faults: Faults, needed: int, subject: str = "", forceable: bool = True) -> list[Reason]:
    """Whether enough of the counted members have no fault.

    More could become of those that wait, and of those that nobody sees, but none of those that do not exist: that decides the verdict.
    """
    healthy = sum(not faults[name] for name in counted)
    if healthy >= needed:
        return []
    worst = [max((reason.verdict for reason in faults[name]), key=contract.SEVERITY.index) for name in counted if faults[name]]
    waiting, unseen = worst.count(WAIT), worst.count(UNKNOWN)
    verdict = WAIT if healthy + waiting >= needed else UNKNOWN if healthy + waiting + unseen >= needed else FAIL
    why = "; ".join(str(reason) for name in counted for reason in faults[name])
    text = f"{healthy} healthy members would remain, {needed} are needed" + (f" ({why})" if why else "")
    return [Reason(code, verdict, text, subject, forceable=forceable)]
