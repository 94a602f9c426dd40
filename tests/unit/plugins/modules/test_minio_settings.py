# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifecycle rules between the library's form and ours. The module itself is tested against a real cluster."""

from __future__ import annotations

import pytest

pytest.importorskip("minio")

from minio.commonconfig import Filter
from minio.lifecycleconfig import Expiration, NoncurrentVersionExpiration, Rule

from ansible_collections.novacorrente.platform.plugins.module_utils._minio import RULE_ID, Lifecycle
from ansible_collections.novacorrente.platform.plugins.modules.minio_settings import lifecycle_of, rules_of


@pytest.mark.parametrize(
    "lifecycle",
    [Lifecycle(), Lifecycle(noncurrent_days=30, delete_markers=True), Lifecycle(expire_days=7), Lifecycle(expire_days=7, noncurrent_days=90)],
)
def test_what_is_written_is_read_back_as_the_same(lifecycle: Lifecycle):
    assert lifecycle_of(rules_of(lifecycle)) == lifecycle


def test_rules_of_others_are_counted_so_that_they_are_seen_and_replaced():
    other = Rule("Enabled", rule_filter=Filter(prefix="logs/"), rule_id="mine", expiration=Expiration(days=1))
    ours = rules_of(Lifecycle(noncurrent_days=30, delete_markers=True))
    assert lifecycle_of([*ours, other]) == Lifecycle(noncurrent_days=30, delete_markers=True, foreign=1)
    assert lifecycle_of([other]) == Lifecycle(foreign=1)


@pytest.mark.parametrize(("prefix", "status"), [("part/", "Enabled"), ("", "Disabled")])
def test_our_rule_where_somebody_narrowed_or_disabled_it_is_not_ours_any_more(prefix: str, status: str):
    expiration = NoncurrentVersionExpiration(noncurrent_days=30)
    rule = Rule(status, rule_filter=Filter(prefix=prefix), rule_id=RULE_ID, noncurrent_version_expiration=expiration)
    assert lifecycle_of([rule]) == Lifecycle(foreign=1)
