# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Saying hello, logging in, sessions."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from bson import Binary, Int64

from . import auth
from .auth import Credential, ScramServer
from .common import Doc, MongoError, log, monotonic, utcnow
from .crud import MAX_DOCUMENT, election_id
from .election import State
from .registry import Request, command, topology_version
from .wire import MAX_MESSAGE

WIRE = {"6.0": 17, "7.0": 21, "8.0": 25, "8.2": 27}


def _replica_part(request: Request) -> Doc:
    node, topology = request.node, request.node.topology
    config, me = topology.config, topology.me
    if config is None or me is None:
        reply: Doc = {"isWritablePrimary": False, "secondary": False, "isreplicaset": True}
        return {**reply, "info": "Does not have a valid replica set config"}
    hosts = [m.host for m in config.members if m.electable and not m.hidden and not m.delay]
    passives = [m.host for m in config.members if not m.electable and not m.arbiter and not m.hidden and not m.delay]
    arbiters = [m.host for m in config.members if m.arbiter]
    primary = topology.state == State.PRIMARY and node.writable
    reply = {"hosts": hosts}
    if passives:
        reply["passives"] = passives
    if arbiters:
        reply["arbiters"] = arbiters
    reply |= {
        "setName": config.name,
        "setVersion": config.version,
        "isWritablePrimary": primary,
        "secondary": node.state == State.SECONDARY,
    }
    if (host := node.primary_host()) and (host != node.host or primary):
        reply["primary"] = host
    for name, value in {"arbiterOnly": me.arbiter, "passive": not me.electable and not me.arbiter, "hidden": me.hidden}.items():
        if value:
            reply[name] = True
    if me.delay:
        reply["secondaryDelaySecs"] = Int64(me.delay)
    if me.tags:
        reply["tags"] = dict(me.tags)
    reply["me"] = me.host
    if primary:
        reply["electionId"] = election_id(topology.term)
    storage = node.storage
    if not me.arbiter:
        reply["lastWrite"] = {
            "opTime": storage.applied.doc(),
            "lastWriteDate": storage.applied.date,
            "majorityOpTime": storage.committed.doc(),
            "majorityWriteDate": storage.committed.date,
        }
    return reply


async def _hello(request: Request, writable_name: str) -> Doc:
    node, body = request.node, request.body
    if peer := body.get("standinPeer"):
        request.connection.peer = str(peer)
    await _await_news(request)
    if node.quiesce_until is not None:
        remaining = max(0, node.quiesce_until - monotonic())
        raise MongoError(
            "ShutdownInProgress",
            "Replication is being shut down",
            topologyVersion=topology_version(node),
            remainingQuiesceTimeMillis=Int64(int(remaining * 1000)),
        )
    reply: Doc = {"topologyVersion": topology_version(node)}
    if node.replicated:
        reply |= _replica_part(request)
    else:
        reply["isWritablePrimary"] = True
    reply[writable_name] = reply.pop("isWritablePrimary")
    reply |= {
        "helloOk": True,
        "maxBsonObjectSize": MAX_DOCUMENT,
        "maxMessageSizeBytes": MAX_MESSAGE,
        "maxWriteBatchSize": 100000,
        "localTime": utcnow(),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": request.connection.id,
        "minWireVersion": 0,
        "maxWireVersion": WIRE.get(node.series, 21),
        "readOnly": False,
    }
    if wanted := body.get("saslSupportedMechs"):
        database, _, user = str(wanted).partition(".")
        known = auth.stored_user(node.storage.catalog, user, database)
        reply["saslSupportedMechs"] = list(known["credentials"]) if known else []
    if speculative := body.get("speculativeAuthenticate"):
        with contextlib.suppress(MongoError):  # The client then logs in the long way, and gets the error there.
            reply["speculativeAuthenticate"] = _start(request, speculative, str(speculative.get("db", "admin")))
    return reply


async def _await_news(request: Request) -> None:
    """A hello that names the version it knows is answered when there is a newer one, or when its time is up."""
    body, node = request.body, request.node
    known, limit = body.get("topologyVersion"), body.get("maxAwaitTimeMS")
    if known is None or limit is None:
        return
    if known["processId"] != node.process_id or int(known["counter"]) < node.hello_counter:
        return
    counter = node.hello_counter
    await node.hello_changed.until(lambda: node.hello_counter != counter or node.closing.is_set(), float(limit) / 1000)


@command("hello", on="open")
async def hello(request: Request) -> Doc:
    return await _hello(request, "isWritablePrimary")


@command("isMaster", on="open", alias="ismaster")
async def is_master(request: Request) -> Doc:
    return await _hello(request, "ismaster")


# SCRAM


def _credentials(request: Request) -> Any:
    node = request.node
    system = [Credential.make(key, auth.KEYFILE_SALT) for key in node.config.keys]

    def lookup(user: str, database: str) -> list[Credential]:
        if (user, database) == auth.SYSTEM:
            return system
        doc = auth.stored_user(node.storage.catalog, user, database)
        stored = (doc or {}).get("credentials", {}).get(auth.MECHANISM)
        return [Credential.of(stored)] if stored else []

    return lookup


def _start(request: Request, body: Doc, database: str) -> Doc:
    if body.get("mechanism") != auth.MECHANISM:
        raise MongoError("AuthenticationFailed", f"Unsupported mechanism {body.get('mechanism')}")
    connection = request.connection
    connection.scram, connection.scram_done = ScramServer(database), False
    payload = connection.scram.start(bytes(body["payload"]), _credentials(request))
    return {"conversationId": 1, "done": False, "payload": Binary(payload)}


def _failed(request: Request, user: str) -> None:
    log("ACCESS", "Failed to authenticate", user=user, db=request.db, client=request.connection.address, member=request.connection.peer)


@command("saslStart", on="open")
def sasl_start(request: Request) -> Doc:
    return _start(request, request.body, request.db)


@command("saslContinue", on="open")
def sasl_continue(request: Request) -> Doc:
    connection = request.connection
    scram = connection.scram
    if scram is None:
        raise MongoError("AuthenticationFailed", "No SASL session state found")
    payload = bytes(request.body["payload"])
    if connection.scram_done:
        # The empty exchange that clients without skipEmptyExchange expect.
        connection.scram = None
        return {"conversationId": 1, "done": True, "payload": Binary(b"")}
    try:
        answer = scram.finish(payload)
    except MongoError:
        connection.scram = None
        _failed(request, scram.user)
        raise
    if connection.users and connection.users != [(scram.user, scram.database)]:
        raise MongoError("AuthenticationFailed", "another user is already authenticated")
    connection.users = [(scram.user, scram.database)]
    connection.scram_done = True
    return {"conversationId": 1, "done": True, "payload": Binary(answer)}


@command("logout", on="open")
def logout(request: Request) -> Doc:
    request.connection.users = []
    return {}


@command("connectionStatus", on="open")
def connection_status(request: Request) -> Doc:
    catalog = request.node.storage.catalog
    users = [{"user": user, "db": database} for user, database in request.connection.users]
    roles: list[Doc] = []
    for user, database in request.connection.users:
        doc = auth.stored_user(catalog, user, database)
        roles.extend(auth.expand(catalog, doc["roles"])[0] if doc else [])
    info: Doc = {"authenticatedUsers": users, "authenticatedUserRoles": roles}
    if request.body.get("showPrivileges"):
        info["authenticatedUserPrivileges"] = auth.privilege_docs(request.privileges())
    return {"authInfo": info}


@command("startSession", on="login")
def start_session(request: Request) -> Doc:
    return {"id": {"id": Binary(uuid.uuid4().bytes, 4)}, "timeoutMinutes": 30}


for _name in ("endSessions", "refreshSessions", "killSessions", "killAllSessions"):
    command(_name, on="login")(lambda request: {})
