# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that was killed can be run again: it converges, and nothing that was stored is lost."""

from __future__ import annotations

import json
import random
import time

import pytest
import support

KILLS = 5
SEED = 20261122


def ledger() -> dict[str, object]:
    """What must survive: a gold table as the API serves it, and the objects under the data drives."""
    code, _headers, body = support.fetch("/api/v1/tables/weather?limit=1000&order_by=date")
    assert code == 200, body
    return {"rows": json.loads(body)["rows"], "drives": support.ssh("data1", "find /srv/platform/minio/data1/gold -name xl.meta | sort")}


def settings(number: int) -> list[str]:
    level = "debug" if number % 2 else "warning"
    values = {
        "api_log_level": level,
        "worker_log_level": level,
        "redis_cache_maxmemory": f"{200 + number}mb",
        "host_journal_max_use": f"{800 + number}M",
        "edge_max_body_mib": 9 + number,
    }
    return ["-e", json.dumps(values)]


@pytest.mark.parametrize("run_after_each", [pytest.param(False, id="one_run_after_all"), pytest.param(True, id="a_run_after_each", marks=pytest.mark.long)])
def test_five_kills_at_random_moments_then_a_run_converges(run_after_each: bool):
    pick = random.Random(SEED)
    before = ledger()
    for number in range(KILLS):
        # Each round asks for other settings on every host and tier, so that there is work to interrupt; the last one for the inventory's own again.
        changes = settings(number) if number < KILLS - 1 else []
        process = support.start_playbook(f"interrupted-{number}", *changes)
        moment = pick.uniform(4, 45)
        time.sleep(moment)
        assert process.poll() is None, f"the run ended before it was killed at {moment:.1f} s"
        support.kill(process)
        print(f"killed after {moment:.1f} s")
        if run_after_each or number == KILLS - 1:
            again = support.playbook(f"interrupted-{number}-again", *changes)
            assert again.code == 0, again.text[-3000:]
    after = support.playbook("interrupted-after")
    assert after.code == 0, after.text[-3000:]
    assert after.changed() == {}
    support.wait_for("the API answers", lambda: support.fetch("/api/v1/tables")[0] == 200, 60)
    assert ledger() == before
