# SPDX-License-Identifier: GPL-3.0-or-later
"""Drivers of the graph's members, or of the one cluster."""

from __future__ import annotations

import typing as t
import urllib.parse

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from .settings import GraphSettings

DATABASE = "neo4j"
ROUTED_TIMEOUT = 12.0  # seconds a cluster has, in which the driver finds another server or a new leader
FAILURES = (Neo4jError, DriverError, OSError, TimeoutError)


def drivers(settings: GraphSettings) -> list[tuple[str, neo4j.AsyncDriver]]:
    """A driver for each member, or one for the whole cluster; made without I/O. TLS is always verified, names included."""
    trust = neo4j.TrustCustomCAs(settings.ca_file) if settings.ca_file else neo4j.TrustSystemCAs()
    options: dict[str, t.Any] = {
        "auth": (settings.username, settings.password),
        "encrypted": True,
        "trusted_certificates": trust,  # the driver takes it with the schemes bolt and neo4j only
        "connection_timeout": 1.5,
        "connection_acquisition_timeout": 2.0,
        "connection_write_timeout": 5.0,
        "max_connection_pool_size": 50,
        "max_connection_lifetime": 600,
        "notifications_min_severity": "OFF",
        "telemetry_disabled": True,
    }
    addresses = [urllib.parse.urlsplit(uri).netloc for uri in settings.uris]
    if settings.edition == "community":
        # a second try at the same member gains nothing: the next member is asked
        options["max_transaction_retry_time"] = 0
        return [(address, neo4j.AsyncGraphDatabase.driver(f"bolt://{address}", **options)) for address in addresses]
    options["max_transaction_retry_time"] = ROUTED_TIMEOUT
    options["connection_acquisition_timeout"] = ROUTED_TIMEOUT
    options["resolver"] = lambda _address: [neo4j.Address.parse(address) for address in addresses]
    return [(",".join(addresses), neo4j.AsyncGraphDatabase.driver(f"neo4j://{addresses[0]}", **options))]
