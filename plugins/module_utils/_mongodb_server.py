# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What MongoDB servers and their driver say: the numbers of states, and errors. Pure, without any I/O.

Private to this collection.
"""

from __future__ import annotations

# https://www.mongodb.com/docs/manual/reference/replica-states/; there is no 4.
STARTUP, PRIMARY, SECONDARY, RECOVERING, STARTUP2, UNKNOWN, ARBITER, DOWN, ROLLBACK, REMOVED = 0, 1, 2, 3, 5, 6, 7, 8, 9, 10
STATES = {
    STARTUP: "STARTUP",
    PRIMARY: "PRIMARY",
    SECONDARY: "SECONDARY",
    RECOVERING: "RECOVERING",
    STARTUP2: "STARTUP2",
    UNKNOWN: "UNKNOWN",
    ARBITER: "ARBITER",
    DOWN: "DOWN",
    ROLLBACK: "ROLLBACK",
    REMOVED: "REMOVED",
}


def state_name(state: int) -> str:
    """The name of a state, or its number where a newer server has one that is not known here."""
    return STATES.get(state, str(state))


def brief(exc: BaseException) -> str:
    """One line about an error, without what the driver adds about itself."""
    text = str(exc).partition(", full error:")[0].partition(" (configured timeouts")[0].partition(", Timeout:")[0].strip() or type(exc).__name__
    return text.splitlines()[0][:200]
