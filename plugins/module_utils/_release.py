# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member runs against what it should run: pure decisions, without any I/O.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

NEW = "new"
CHANGED = "changed"
DRIFTED = "drifted"
RELOAD = "reload"
CURRENT = "current"

LABEL_RELEASE = "novacorrente.release"
LABEL_SERVICE = "com.docker.compose.service"
LABEL_ONEOFF = "com.docker.compose.oneoff"


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of the member as the engine reports it."""

    name: str
    service: str
    state: str
    release: str
    unhealthy: bool = False


def parse_containers(lines: str) -> list[Container]:
    """Read the output of ``docker ps --all --format '{{json .}}'``; one-off containers are left out."""
    found = []
    for line in lines.splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        labels = dict(pair.partition("=")[::2] for pair in row.get("Labels", "").split(","))
        if labels.get(LABEL_ONEOFF, "False") == "True":
            continue
        found.append(
            Container(
                name=row.get("Names", ""),
                service=labels.get(LABEL_SERVICE, ""),
                state=row.get("State", ""),
                release=labels.get(LABEL_RELEASE, ""),
                unhealthy="(unhealthy)" in row.get("Status", ""),
            )
        )
    return found


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the member should be."""

    release: str
    services: t.Sequence[str]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the member is: the release that ``current`` names, its containers, and whether live files wait to be taken up.

    ``switched_from`` is the release that ran before a switch which has not come to its end; None where there is no such switch.
    """

    current: str | None
    containers: t.Sequence[Container]
    live_differs: bool = False
    reload_pending: bool = False
    switched_from: str | None = None


def judge(wanted: Wanted, seen: Seen) -> tuple[str, list[str]]:
    """Name the member's state and the reasons for it.

    * ``new``: nothing of the tier runs here, so nothing can be taken down by starting it.
    * ``changed``: another release runs, or nobody has seen yet that the wanted one runs well.
    * ``drifted``: the wanted release is current, but a container is missing, stopped, unhealthy or of another release.
    * ``reload``: only files that servers re-read differ.
    * ``current``: nothing to do.
    """
    if not any(c.state == "running" for c in seen.containers):
        return NEW, ["nothing of this tier is running on the host"]
    if seen.current != wanted.release:
        return CHANGED, [f"release {seen.current or 'unknown'} -> {wanted.release}"]
    if seen.switched_from is not None:
        return CHANGED, [f"an earlier run did not finish its switch from release {seen.switched_from or 'none'}"]
    reasons = []
    by_service = {c.service: c for c in seen.containers}
    for service in wanted.services:
        container = by_service.get(service)
        if container is None:
            reasons.append(f"{service}: no container")
        elif container.state != "running":
            reasons.append(f"{service}: container is {container.state}")
        elif container.release != wanted.release:
            reasons.append(f"{service}: container runs release {container.release or 'unknown'}")
        elif container.unhealthy:
            reasons.append(f"{service}: container is unhealthy")
    reasons.extend(f"{c.service or c.name}: container belongs to no service" for c in seen.containers if c.service not in wanted.services)
    if reasons:
        return DRIFTED, reasons
    if seen.live_differs:
        return RELOAD, ["live files differ"]
    if seen.reload_pending:
        return RELOAD, ["an earlier run did not finish its reload"]
    return CURRENT, []


def releases_to_remove(releases: t.Mapping[str, float], kept: t.Collection[str], keep: int) -> list[str]:
    """Old releases (name to time of making) that may go: all but those in use and the ``keep`` newest."""
    spare = sorted((name for name in releases if name not in kept), key=lambda name: releases[name], reverse=True)
    return spare[keep:]
