# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the members on a host are like, from what the engine, the release directories and certificates say. Pure, without any I/O.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._release import LABEL_ONEOFF, LABEL_RELEASE, LABEL_SERVICE

LABEL_TIER = "novacorrente.tier"
LABEL_VERSION = "org.opencontainers.image.version"

# What openssl prints: notAfter=Nov 22 10:00:00 2027 GMT
END_DATE = "%b %d %H:%M:%S %Y %Z"


@dataclasses.dataclass(frozen=True)
class Service:
    """A container of a member. ``health`` is empty where the container has no health check, ``version`` where its image has no such label."""

    service: str
    state: str
    health: str
    release: str
    image: str
    version: str
    started: str
    restarts: int
    out_of_memory: bool


def service_of(inspected: t.Mapping[str, t.Any]) -> Service:
    """One element of what ``docker inspect`` prints."""
    config, state = inspected["Config"], inspected["State"]
    labels = config.get("Labels") or {}
    return Service(
        service=labels.get(LABEL_SERVICE, inspected["Name"].lstrip("/")),
        state=state.get("Status", "unknown"),
        health=(state.get("Health") or {}).get("Status", ""),
        release=labels.get(LABEL_RELEASE, ""),
        image=config.get("Image", ""),
        version=labels.get(LABEL_VERSION, ""),
        started=state.get("StartedAt", ""),
        restarts=int(inspected.get("RestartCount") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
    )


def services_by_tier(inspected: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, list[Service]]:
    """All containers of the platform by tier; one-off containers are left out."""
    found: dict[str, list[Service]] = {}
    for item in inspected:
        labels = item["Config"].get("Labels") or {}
        if labels.get(LABEL_TIER) and labels.get(LABEL_ONEOFF, "False") != "True":
            found.setdefault(labels[LABEL_TIER], []).append(service_of(item))
    return {tier: sorted(services, key=lambda service: service.service) for tier, services in found.items()}


def days_left(end_date: str, now: datetime.datetime) -> int | None:
    """Whole days until the date in openssl's answer ``notAfter=...``, negative once it has passed; None for any other answer."""
    text = end_date.strip().partition("notAfter=")[2]
    try:
        end = datetime.datetime.strptime(text, END_DATE).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    return (end - now).days


def faults(services: t.Sequence[Service], current: str) -> list[str]:
    """What is wrong with a member as its own host sees it; empty where all is well."""
    if not services:
        return ["nothing of it runs"]
    found = []
    for service in services:
        if service.state != "running":
            found.append(f"{service.service} is {service.state}")
        elif service.health not in ("healthy", ""):
            found.append(f"{service.service} is {service.health}")
        if service.out_of_memory:
            found.append(f"{service.service} was killed for want of memory")
        if service.release != current:
            found.append(f"{service.service} runs release {service.release or 'unknown'}, not {current or 'any known'}")
    return found
