# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What MongoDB servers and their driver say, in words."""

from __future__ import annotations

import pytest

from ansible_collections.novacorrente.platform.plugins.module_utils._mongodb_server import SECONDARY, brief, state_name


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("data1:27017: [Errno 111] Connection refused (configured timeouts: connectTimeoutMS: 2000.0ms), Timeout: 2.0s, Topology: <...>", "refused"),
        ("not authorized on admin, full error: {'ok': 0.0}", "not authorized on admin"),
        ("one\nand more", "one"),
        ("", "ValueError"),
    ],
)
def test_an_error_is_one_line_without_what_the_driver_adds(said: str, shown: str):
    assert brief(ValueError(said)).endswith(shown)


def test_a_state_that_nobody_knows_is_its_number():
    assert (state_name(SECONDARY), state_name(4)) == ("SECONDARY", "4")
