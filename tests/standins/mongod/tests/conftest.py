# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Replica sets for the tests: one that they share, and own ones for those that change too much."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[2])]

from replica import Cluster  # noqa: E402


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members with root user. Whoever breaks it heals it: see `trio`."""
    cluster = Cluster(tmp_path_factory.mktemp("set"))
    try:
        cluster.start()
        cluster.initiate()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def trio(shared: Cluster) -> Iterator[Cluster]:
    """The shared set, healthy before and after."""
    shared.heal()
    yield shared
    shared.heal()


@pytest.fixture
def own(tmp_path: pathlib.Path) -> Iterator[Callable[..., Cluster]]:
    """A factory of sets that end with the test."""
    made: list[Cluster] = []

    def make(size: int = 3, **options: Any) -> Cluster:
        made.append(Cluster(tmp_path / f"set{len(made)}" if made else tmp_path, size, **options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()
