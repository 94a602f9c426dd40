# SPDX-License-Identifier: GPL-3.0-or-later
"""A heartbeat file: touched after each successful contact with Redis, looked at by the container's health check."""

from __future__ import annotations

import contextlib
import os
import pathlib
import time

MAX_AGE = 120.0


def touch(path: str) -> None:
    with contextlib.suppress(OSError):
        pathlib.Path(path).touch()


def remove(path: str) -> None:
    pathlib.Path(path).unlink(missing_ok=True)


def healthy(path: str, max_age: float = MAX_AGE) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime <= max_age
    except OSError:
        return False


def main() -> int:
    path = os.environ.get("PIPELINE_HEALTH_FILE") or "/tmp/pipeline.health"  # noqa: S108
    if healthy(path):
        return 0
    print(f"unhealthy: {path} was not touched in the last {MAX_AGE:.0f} s: no contact with Redis")
    return 1
