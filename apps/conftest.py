# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

pytest_plugins = ["servers"]
# Databases take long to start: tests that need one are run by tools/check-servers.
DATABASES = {"graph_servers", "replica_set"}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if DATABASES & set(item.fixturenames):
            item.add_marker(pytest.mark.servers)
