# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The commands of a replica set."""

from __future__ import annotations

import asyncio
from typing import Any

from bson import Int64, ObjectId

from .common import Doc, MongoError, PeerError, monotonic, unpack, utcnow
from .election import State
from .node import Node
from .registry import Request, command
from .rsconfig import SetConfig, check_change


def _initialized(node: Node) -> SetConfig:
    if not node.replicated:
        raise MongoError("NoReplicationEnabled", "not running with --replSet")
    if node.topology.config is None:
        raise MongoError("NotYetInitialized", "no replset config has been received")
    return node.topology.config


# Between members


@command("replSetHeartbeat", "internal", "cluster")
async def heartbeat(request: Request) -> Doc:
    if not request.node.replicated:
        raise MongoError("NoReplicationEnabled", "not running with --replSet")
    return await request.node.heartbeat_received(request.body)


@command("replSetRequestVotes", "internal", "cluster")
def request_votes(request: Request) -> Doc:
    _initialized(request.node)
    return request.node.vote_requested(request.body)


@command("replSetUpdatePosition", "internal", "cluster")
def update_position(request: Request) -> Doc:
    request.node.positions_received(request.body)
    return {"lastOpCommitted": request.node.storage.committed.doc()}


@command("replSetGetRBID", "internal", "cluster")
def get_rbid(request: Request) -> Doc:
    _initialized(request.node)
    return {"rbid": request.node.rbid}


@command("replSetStepUp", "replSetStateChange", "cluster")
async def step_up(request: Request) -> Doc:
    node = request.node
    _initialized(node)
    if why := node.topology.unelectable(monotonic()):
        raise MongoError("ElectionInProgress", f"Election failed: {why}")
    if not await node.elect("stepUpRequest", dry_run=not request.body.get("skipDryRun")):
        raise MongoError("ElectionInProgress", "Election failed.")
    return {}


# Making and changing the set


async def _ask_all(node: Node, config: SetConfig) -> dict[str, Doc | PeerError]:
    """A heartbeat to every other proposed member."""
    hosts = [member.host for member in config.members if member.host != node.host]

    async def ask(host: str) -> Doc | PeerError:
        request = {**node.heartbeat_request(), "replSetHeartbeat": config.name, "configVersion": -1, "from": ""}
        try:
            return await node.link(host, "quorum").command("admin", request, 5)
        except PeerError as error:
            return error

    answers = await asyncio.gather(*(ask(host) for host in hosts))
    return dict(zip(hosts, answers, strict=True))


@command("replSetInitiate", "replSetConfigure", "cluster")
async def initiate(request: Request) -> Doc:
    node = request.node
    if not node.replicated:
        raise MongoError("NoReplicationEnabled", "This node was not started with replication enabled.")
    if node.topology.config is not None or node.reconfiguring:
        raise MongoError("AlreadyInitialized", "already initialized")
    given: Doc = dict(request.value) if isinstance(request.value, dict) else {}
    if not given.get("members"):
        given = {"_id": node.config.set_name, "version": 1, "members": [{"_id": 0, "host": node.host}], **given}
    given.setdefault("settings", {})
    given["settings"] = {**given["settings"], "replicaSetId": ObjectId()}
    try:
        config = SetConfig.parse({**given, "version": 1, "term": 1})
    except MongoError as error:
        raise MongoError("InvalidReplicaSetConfig", error.message) from None
    if config.name != node.config.set_name:
        raise MongoError(
            "InvalidReplicaSetConfig",
            f"Attempting to initiate a replica set with name {config.name}, but command line reports {node.config.set_name}; rejecting",
        )
    index = await node._self_index(config)
    if index < 0:
        raise MongoError("NodeNotFound", f"No host described in new configuration with {{version: 1, term: 1}} for replica set {config.name} maps to this node")
    if not config.members[index].electable:
        raise MongoError("InvalidReplicaSetConfig", "This node is not electable under the new configuration")
    node.host = config.members[index].host
    node.reconfiguring = True
    try:
        for host, answer in (await _ask_all(node, config)).items():
            if isinstance(answer, PeerError):
                raise MongoError(
                    "NodeNotFound",
                    f"replSetInitiate quorum check failed because not all proposed set members responded affirmatively: {host} failed with {answer}",
                )
            if int(answer["v"]) > 0:
                raise MongoError("InvalidReplicaSetConfig", f"replSetInitiate quorum check failed: {host} already has a configuration")
            if not answer.get("empty"):
                raise MongoError("CannotSatisfyWriteConcern", f"'{host}' has data already, cannot initiate set.")
        if node.topology.config is not None:
            raise MongoError("AlreadyInitialized", "already initialized")
        node._append([{"op": "n", "ns": "", "o": {"msg": "initiating set"}}, node.fcv_entry()], 0)
        await node.storage.sync()
        await node.install(config)
        node.storage.commit(node.storage.applied)
    finally:
        node.reconfiguring = False
    return {}


async def _committed_config(node: Node, config: SetConfig, timeout: float | None) -> bool:
    """A majority of the voters has the configuration."""

    def enough() -> bool:
        topology = node.topology
        mine = topology.me
        have = sum(1 for m in config.voters if mine and m.id == mine.id or (view := topology.views.get(m.id)) and view.config == config.order)
        return have >= config.majority or topology.state != State.PRIMARY

    return await node.progress.until(enough, timeout)


def _config_is_committed(node: Node) -> bool:
    config, topology = node.topology.config, node.topology
    assert config is not None and topology.me is not None
    have = sum(1 for m in config.voters if m.id == topology.me.id or topology.views[m.id].config == config.order)
    return have >= config.majority and node.storage.committed.t == topology.term


@command("replSetReconfig", "replSetConfigure", "cluster")
async def reconfig(request: Request) -> Doc:
    node, force = request.node, bool(request.body.get("force"))
    old = _initialized(node)
    if not force and not node.writable:
        raise MongoError(
            "NotWritablePrimary", f"New config is rejected because safe reconfig is only accepted on a writable PRIMARY node. Current state {node.state.name}"
        )
    if node.reconfiguring:
        raise MongoError("ConfigurationInProgress", "Cannot run replSetReconfig because the node is currently updating its configuration")
    given = dict(request.value)
    given["settings"] = {**(given.get("settings") or {})}
    given["settings"].setdefault("replicaSetId", old.settings["replicaSetId"])
    given.pop("term", None)
    if force:
        given["version"] = max(int(given.get("version", 1)), old.version) + 10000
    new = SetConfig.parse({**given, "term": -1 if force else node.topology.term})
    if new.name != old.name:
        raise MongoError("NewReplicaSetConfigurationIncompatible", f"New and old configurations differ in replica set name; old: {old.name}, new: {new.name}")
    node.reconfiguring = True
    try:
        if not force:
            check_change(old, new)
            # The present one first: two changes at once could leave two disjoint majorities.
            if not await node.progress.until(lambda: _config_is_committed(node) or not node.writable, request.max_time or 60):
                raise MongoError(
                    "CurrentConfigNotCommittedYet",
                    f"Cannot run replSetReconfig because the current config: {{version: {old.version}, term: {old.term}}} is not majority committed",
                )
            node.check_writable()
            if node.topology.config is not old:
                raise MongoError("ConfigurationInProgress", "The configuration changed meanwhile")
        index = await node._self_index(new)
        if index < 0:
            raise MongoError("NodeNotFound", f"No host described in new configuration for replica set {new.name} maps to this node")
        if not force:
            if not new.members[index].electable:
                raise MongoError("InvalidReplicaSetConfig", "This node is not electable under the new configuration")
            await _quorum(node, new)
            node.check_writable()
        await node.install(new)
    finally:
        node.reconfiguring = False
    if not force:
        if not await _committed_config(node, new, request.max_time):
            raise MongoError("MaxTimeMSExpired", "operation exceeded time limit")
        if node.writable:
            # What was committed under the old majority must be so under the new one.
            point = node.write([{"op": "n", "ns": "", "o": {"msg": "Reconfig set", "version": new.version}}])
            await node.progress.until(lambda: node.storage.committed >= point or not node.writable, request.max_time)
    return {}


async def _quorum(node: Node, config: SetConfig) -> None:
    """A majority of the new voters answers, and none belongs to another set."""
    alive = 1 if node.topology.me and node.topology.me.votes else 0
    voters = {member.host for member in config.voters}
    bad = []
    for host, answer in (await _ask_all(node, config)).items():
        if isinstance(answer, PeerError):
            bad.append(f"{host} failed with {answer}")
            if answer.code in (76, 93):
                raise MongoError("NewReplicaSetConfigurationIncompatible", f"replSetReconfig: {host}: {answer}")
        elif host in voters:
            alive += 1
    if alive < config.majority:
        raise MongoError(
            "NodeNotFound",
            f"Quorum check failed because not enough voting nodes responded; required {config.majority} but only the following {alive} voting nodes responded:"
            f" {'; '.join(bad)}",
        )


@command("replSetGetConfig", "replSetGetConfig", "cluster")
def get_config(request: Request) -> Doc:
    node = request.node
    config = _initialized(node)
    reply: Doc = {"config": config.doc()}
    if request.body.get("commitmentStatus"):
        node.check_writable()
        reply["commitmentStatus"] = _config_is_committed(node)
    return reply


# State


@command("replSetStepDown", "replSetStateChange", "cluster")
async def step_down(request: Request) -> Doc:
    node, body = request.node, request.body
    _initialized(node)
    until, force = float(request.value), bool(body.get("force"))
    # With force there is no wait unless asked for.
    wait = float(body.get("secondaryCatchUpPeriodSecs", 0 if force else 10))
    if until < 1:
        raise MongoError("BadValue", "stepdown period must be a positive integer")
    if wait < 0:
        raise MongoError("BadValue", "secondaryCatchUpPeriodSecs period must be a positive or absent")
    if until <= wait and "secondaryCatchUpPeriodSecs" in body:
        raise MongoError("BadValue", "stepdown period must be longer than secondaryCatchUpPeriodSecs")
    await node.step_down_safely(min(wait, until), force, until)
    return {}


@command("replSetFreeze", "replSetStateChange", "cluster")
def freeze(request: Request) -> Doc:
    node, seconds = request.node, float(request.value)
    _initialized(node)
    if node.topology.state == State.PRIMARY:
        raise MongoError("NotSecondary", "cannot freeze node when primary or running for election. state: Primary")
    if seconds == 0:
        node.topology.frozen_until = -1e9
        return {"info": "unfreezing"}
    node.topology.frozen_until = monotonic() + seconds
    return {"warning": "you really want to freeze for only 1 second?"} if seconds == 1 else {}


@command("replSetMaintenance", "replSetStateChange", "cluster")
def maintenance(request: Request) -> Doc:
    node = request.node
    _initialized(node)
    if node.topology.state == State.PRIMARY:
        raise MongoError("NotSecondary", "primaries can't modify maintenance mode")
    if request.value:
        node.maintenance += 1
    elif node.maintenance:
        node.maintenance -= 1
    else:
        raise MongoError("IllegalOperation", "already out of maintenance mode")
    node.hello_news()
    return {}


@command("replSetSyncFrom", "replSetStateChange", "cluster")
def sync_from(request: Request) -> Doc:
    raise MongoError("NotImplemented", "replSetSyncFrom is not supported by this stand-in")


# Status


def _source(config: SetConfig, host: str | None) -> Doc:
    index = config.index(host) if host else -1
    return {"syncSourceHost": host or "", "syncSourceId": config.members[index].id if index >= 0 else -1}


def _me(node: Node, config: SetConfig) -> Doc:
    me, storage = node.topology.me, node.storage
    assert me is not None
    doc: Doc = {
        "_id": me.id,
        "name": me.host,
        "health": 1.0,
        "state": int(node.state),
        "stateStr": node.state.name,
        "uptime": int(monotonic() - node.started),
    }
    if me.data:
        doc |= {
            "optime": storage.applied.doc(),
            "optimeDate": storage.applied.date,
            "optimeWritten": storage.applied.doc(),
            "optimeWrittenDate": storage.applied.date,
            "lastAppliedWallTime": storage.applied.date,
            "lastDurableWallTime": storage.durable.date,
            "lastWrittenWallTime": storage.applied.date,
        }
        if node.series < "8.0":
            for name in ("optimeWritten", "optimeWrittenDate", "lastWrittenWallTime"):
                del doc[name]
    doc |= _source(config, node.puller.source if node.state != State.PRIMARY else None)
    if node.maintenance:
        doc["maintenanceMode"] = node.maintenance
    doc["infoMessage"] = ""
    if node.state == State.PRIMARY:
        doc |= _election(node.election_time)
    return doc | {"configVersion": config.version, "configTerm": Int64(config.term), "self": True, "lastHeartbeatMessage": ""}


def _election(packed: int) -> Doc:
    stamp = unpack(packed)
    return {"electionTime": stamp, "electionDate": stamp.as_datetime().replace(tzinfo=None)}


def _other(node: Node, config: SetConfig, ident: int) -> Doc:
    member = config.members[config.by_id(ident)]
    view, seen = node.topology.views[ident], node.seen[ident]
    up = view.health == 1
    name = view.state.name if up else "(not reachable/healthy)"
    doc: Doc = {
        "_id": ident,
        "name": member.host,
        "health": float(up),
        "state": int(view.state) if view.health >= 0 else int(State.DOWN if seen.message else State.UNKNOWN),
        "stateStr": name,
        "uptime": int(monotonic() - view.up_since) if up else 0,
    }
    if member.data:
        applied, durable = view.applied, view.durable
        doc |= {
            "optime": applied.doc(),
            "optimeDurable": durable.doc(),
            "optimeDate": applied.date,
            "optimeDurableDate": durable.date,
            "lastAppliedWallTime": applied.date,
            "lastDurableWallTime": durable.date,
        }
    epoch = utcnow().replace(year=1970, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    doc |= {
        "lastHeartbeat": seen.last or epoch,
        "lastHeartbeatRecv": seen.received or epoch,
        "pingMs": Int64(int(seen.ping)),
        "lastHeartbeatMessage": seen.message,
    }
    if view.auth_issue:
        doc["authenticated"] = False
    doc |= _source(config, view.sync_source if view.state != State.PRIMARY else None)
    doc["infoMessage"] = ""
    if up and view.state == State.PRIMARY:
        doc |= _election(view.election_time)
    return doc | {"configVersion": view.config[1], "configTerm": view.config[0]}


def initial_sync_status(node: Node) -> Doc:
    sync = node.puller.sync
    if not sync:
        return {}
    elapsed = int((utcnow() - sync["initialSyncStart"]).total_seconds() * 1000)
    total, copied = int(sync.get("approxTotalDataSize", 0)), int(sync.get("approxTotalBytesCopied", 0))
    shown = {key: value for key, value in sync.items() if key not in ("begin", "syncSource")}
    shown["totalInitialSyncElapsedMillis"] = Int64(elapsed)
    if copied:
        shown["remainingInitialSyncEstimatedMillis"] = Int64(max(0, int(elapsed * (total - copied) / copied)))
    return shown


@command("replSetGetStatus", "replSetGetStatus", "cluster")
def get_status(request: Request) -> Doc:
    node, topology, storage = request.node, request.node.topology, request.node.storage
    if not node.replicated:
        raise MongoError("NoReplicationEnabled", "not running with --replSet")
    config = topology.config
    if config is None:
        raise MongoError("NotYetInitialized", "no replset config has been received")
    if topology.me is None:
        raise MongoError(
            "InvalidReplicaSetConfig",
            "Our replica set config is invalid or we are not a member of it",
            state=int(State.REMOVED),
            stateStr="REMOVED",
            uptime=int(monotonic() - node.started),
            optime=storage.applied.doc(),
        )
    reply: Doc = {"set": config.name, "date": utcnow(), "myState": int(node.state), "term": Int64(topology.term)}
    if node.puller.too_stale:
        reply["tooStale"] = True
    reply |= _source(config, node.puller.source if node.state != State.PRIMARY else None)
    reply |= {
        "heartbeatIntervalMillis": Int64(int(config.heartbeat_interval * 1000)),
        "majorityVoteCount": config.majority,
        "writeMajorityCount": config.write_majority,
        "votingMembersCount": len(config.voters),
        "writableVotingMembersCount": config.writable_voters,
        "optimes": {
            "lastCommittedOpTime": storage.committed.doc(),
            "lastCommittedWallTime": storage.committed.date,
            "readConcernMajorityOpTime": storage.committed.doc(),
            "appliedOpTime": storage.applied.doc(),
            "durableOpTime": storage.durable.doc(),
            "lastAppliedWallTime": storage.applied.date,
            "lastDurableWallTime": storage.durable.date,
        },
        "lastStableRecoveryTimestamp": unpack(storage.committed.ts),
    }
    if sync := initial_sync_status(node):
        reply["initialSyncStatus"] = sync
    if node.election_doc and node.state == State.PRIMARY:
        reply["electionCandidateMetrics"] = node.election_doc
    others: list[Any] = [_other(node, config, ident) for ident in topology.views]
    reply["members"] = sorted([_me(node, config), *others], key=lambda member: int(member["_id"]))
    return reply


@command("appendOplogNote", "appendOplogNote", "cluster", "primary")
def append_note(request: Request) -> Doc:
    request.wrote = request.node.write([{"op": "n", "ns": "", "o": dict(request.body["data"])}])
    return {}
