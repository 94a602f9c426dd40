# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several things at the same time."""

from __future__ import annotations

import threading

from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together


def test_all_run_at_the_same_time_and_answer_in_their_order():
    meeting = threading.Barrier(3, timeout=30)
    numbers = together({name: meeting.wait for name in ("c", "a", "b")})
    assert list(numbers) == ["c", "a", "b"] and sorted(numbers.values()) == [0, 1, 2]


def test_nothing_to_do_is_done():
    assert together({}) == {}
