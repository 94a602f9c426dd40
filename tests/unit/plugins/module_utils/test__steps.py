# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How changes are shown."""

from __future__ import annotations

from ansible_collections.novacorrente.platform.plugins.module_utils._steps import Step, diff

STEP = Step("set_user", "api", "disabled", "enabled")


def test_a_step_says_what_was_and_what_becomes():
    assert str(STEP) == "set_user api: disabled -> enabled"
    entry = {"before_header": "set_user api", "after_header": "set_user api", "before": "disabled\n", "after": "enabled\n"}
    assert diff([STEP]) == [entry]
    assert diff([]) == []


def test_a_step_on_one_member_says_on_which():
    (entry,) = diff([STEP], "data1:7687")
    assert (entry["before_header"], entry["after_header"]) == ("data1:7687: set_user api",) * 2
