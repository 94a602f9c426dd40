# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several things at the same time.

Private to this collection.
"""

from __future__ import annotations

import concurrent.futures
import typing as t

Key = t.TypeVar("Key", bound=t.Hashable)
Result = t.TypeVar("Result")


def together(work: t.Mapping[Key, t.Callable[[], Result]], limit: int = 32) -> dict[Key, Result]:
    """The results of all functions, in their order. They run at the same time, no more than ``limit`` of them."""
    if not work:
        return {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(len(work), limit)) as pool:
        running = {key: pool.submit(function) for key, function in work.items()}
        return {key: future.result() for key, future in running.items()}
