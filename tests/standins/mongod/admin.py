# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commands about the server, its databases, collections and indexes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import socket
import ssl
from typing import Any

from bson import Int64

from .common import Doc, MongoError, log, monotonic, split, utcnow
from .crud import ensure, existing, list_reply
from .node import Node
from .registry import COMMANDS, Request, command, default_concern
from .storage import Oplog

# Server parameters: name → default.
PARAMETERS: Doc = {
    "authenticationMechanisms": ["SCRAM-SHA-256"],
    "authSchemaVersion": 5,
    "enableTestCommands": False,
    "maxSessions": 1000000,
    "transactionLifetimeLimitSeconds": 60,
    "wiredTigerConcurrentReadTransactions": 0,
    "wiredTigerConcurrentWriteTransactions": 0,
    "minSnapshotHistoryWindowInSeconds": 300,
    "diagnosticDataCollectionEnabled": True,
    "localLogicalSessionTimeoutMinutes": 30,
    "periodicNoopIntervalSecs": 10,
    "shutdownTimeoutMillisForSignaledShutdown": 15000,
    "ttlMonitorEnabled": True,
    "logLevel": 0,
    "quiet": False,
    "notablescan": False,
    "cursorTimeoutMillis": 600000,
    "syncdelay": 60,
    "journalCommitInterval": 100,
    "tlsWithholdClientCertificate": False,
    "enableLocalhostAuthBypass": True,
}
RUN_TIME = {
    *("shutdownTimeoutMillisForSignaledShutdown", "ttlMonitorEnabled", "logLevel", "quiet", "notablescan", "cursorTimeoutMillis", "syncdelay"),
    *("journalCommitInterval", "transactionLifetimeLimitSeconds", "wiredTigerConcurrentReadTransactions", "wiredTigerConcurrentWriteTransactions"),
}


@command("ping", on="open")
def ping(request: Request) -> Doc:
    return {}


@command("buildInfo", on="open", alias="buildinfo")
def build_info(request: Request) -> Doc:
    node = request.node
    numbers = [int(part) for part in node.version.split("-")[0].split(".")]
    return {
        "version": node.version,
        "gitVersion": "stand-in",
        "modules": [],
        "allocator": "system",
        "javascriptEngine": "none",
        "sysInfo": "deprecated",
        "versionArray": [*numbers, *[0] * (4 - len(numbers))],
        "bits": 64,
        "debug": False,
        "maxBsonObjectSize": 16 * 1024 * 1024,
        "storageEngines": ["wiredTiger"],
        "openssl": {"running": ssl.OPENSSL_VERSION, "compiled": ssl.OPENSSL_VERSION},
    }


@command("whatsmyuri", on="open")
def whats_my_uri(request: Request) -> Doc:
    return {"you": request.connection.address}


@command("listCommands", on="open")
def list_commands(request: Request) -> Doc:
    return {"commands": {known.name: {"requiresAuth": known.on != "open", "adminOnly": known.on == "cluster"} for known in COMMANDS.values()}}


# Parameters


def parameter(node: Node, name: str) -> Any:
    if name == "featureCompatibilityVersion":
        return {key: value for key, value in node.fcv().items() if key != "_id"}
    return node.parameters.get(name, PARAMETERS[name])


def set_startup_parameters(node: Node, given: Doc) -> None:
    """Raises ValueError for one that does not exist."""
    for name, value in given.items():
        if name not in PARAMETERS:
            raise ValueError(f"Unknown --setParameter '{name}'")
        node.parameters[name] = value


@command("getParameter", "getParameter", "cluster")
def get_parameter(request: Request) -> Doc:
    node, body = request.node, request.body
    every = body["getParameter"] == "*" or isinstance(body["getParameter"], dict) and body["getParameter"].get("allParameters")
    names = [*PARAMETERS, "featureCompatibilityVersion"] if every else [name for name in body if name in PARAMETERS or name == "featureCompatibilityVersion"]
    if not names:
        raise MongoError("InvalidOptions", "no option found to get")
    return {name: parameter(node, name) for name in names}


_GENERIC = {"$db", "lsid", "$clusterTime", "$readPreference", "maxTimeMS", "comment", "writeConcern", "readConcern", "txnNumber"}


@command("setParameter", "setParameter", "cluster")
def set_parameter(request: Request) -> Doc:
    node = request.node
    given = {name: value for name, value in request.body.items() if name != "setParameter" and name not in _GENERIC}
    if not given:
        raise MongoError("InvalidOptions", "no option found to set, use help:true to see options ")
    for name in given:
        if name not in PARAMETERS:
            raise MongoError("InvalidOptions", f"attempted to set unrecognized parameter [{name}], use help:true to see options ")
        if name not in RUN_TIME:
            raise MongoError("IllegalOperation", f"not allowed to change [{name}] at runtime")
    reply: Doc = {}
    for name, value in given.items():
        default = PARAMETERS[name]
        if isinstance(default, int) and not isinstance(default, bool) and not isinstance(value, int):
            raise MongoError("BadValue", f"Failed to set {name}: {value!r} is not a number")
        reply.setdefault("was", parameter(node, name))
        node.parameters[name] = value
    return reply


@command("getCmdLineOpts", "getCmdLineOpts", "cluster")
def get_cmd_line_opts(request: Request) -> Doc:
    parsed: Doc = {}
    for name, value in request.node.config.options.items():
        at = parsed
        *folders, last = name.split(".")
        for folder in folders:
            at = at.setdefault(folder, {})
        at[last] = value
    return {"argv": ["mongod", *request.node.config.argv], "parsed": parsed}


@command("getLog", "getLog", "cluster")
def get_log(request: Request) -> Doc:
    if request.value == "*":
        return {"names": ["global", "startupWarnings"]}
    return {"totalLinesWritten": 0, "log": []}


@command("logRotate", "logRotate", "cluster")
def log_rotate(request: Request) -> Doc:
    request.server.reopen_log()
    return {}


# The process


def _memory() -> tuple[int, int]:
    """Resident and virtual memory in MiB."""
    values = {"VmRSS": 0, "VmSize": 0}
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in values:
                values[name] = int(rest.split()[0]) // 1024
    return values["VmRSS"], values["VmSize"]


def _oplog(node: Node) -> Oplog:
    return node.storage.oplog


@command("serverStatus", "serverStatus", "cluster")
def server_status(request: Request) -> Doc:
    node, server = request.node, request.server
    uptime = monotonic() - node.started
    resident, virtual = _memory()
    cache = int(float(node.config.get("storage.wiredTiger.engineConfig.cacheSizeGB", 0.25)) * 1024**3)
    used = min(cache, resident * 1024 * 1024 // 2)
    ops = {name: Int64(node.counters[key]) for name, key in _OPCOUNTERS.items()}
    reply: Doc = {
        "host": f"{socket.gethostname()}:{node.config.port}",
        "version": node.version,
        "process": "mongod",
        "service": ["mongod"],
        "pid": Int64(os.getpid()),
        "uptime": uptime,
        "uptimeMillis": Int64(int(uptime * 1000)),
        "uptimeEstimate": Int64(int(uptime)),
        "localTime": utcnow(),
        "asserts": {"regular": 0, "warning": 0, "msg": 0, "user": 0, "tripwire": 0, "rollovers": 0},
        "connections": {
            "current": len(server.connections),
            "available": 51200 - len(server.connections),
            "totalCreated": server.total_connections,
            "rejected": 0,
            "active": len(server.active),
            "threaded": len(server.connections),
        },
        "extra_info": {"note": "fields vary by platform", "page_faults": 0},
        "globalLock": {
            "totalTime": Int64(int(uptime * 1e6)),
            "currentQueue": {"total": 0, "readers": 0, "writers": 0},
            "activeClients": {"total": len(server.active), "readers": 0, "writers": 0},
        },
        "network": {"bytesIn": Int64(server.bytes_in), "bytesOut": Int64(server.bytes_out), "numRequests": Int64(server.requests)},
        "opcounters": ops,
        "opcountersRepl": {name: Int64(0) for name in _OPCOUNTERS},
        "mem": {"bits": 64, "resident": resident, "virtual": virtual, "supported": True},
        "metrics": {
            "cursor": {"timedOut": Int64(0), "open": {"total": Int64(len(server.cursors)), "noTimeout": Int64(0), "pinned": Int64(0)}},
            "document": {name: Int64(0) for name in ("deleted", "inserted", "returned", "updated")},
            "ttl": {"deletedDocuments": Int64(0), "passes": Int64(0)},
        },
        "security": {"authentication": {}, "SSLServerSubjectName": ""},
        "storageEngine": {"name": "wiredTiger", "supportsCommittedReads": True, "persistent": True, "readOnly": False, "supportsSnapshotReadConcern": True},
        "transactions": {"retriedCommandsCount": Int64(0), "retriedStatementsCount": Int64(node.counters["retriedStatements"]), "currentActive": Int64(0)},
        "wiredTiger": {
            "cache": {
                "bytes currently in the cache": Int64(used),
                "maximum bytes configured": Int64(cache),
                "tracked dirty bytes in the cache": Int64(0),
                "bytes read into cache": Int64(0),
                "bytes written from cache": Int64(0),
                "unmodified pages evicted": Int64(0),
                "modified pages evicted": Int64(0),
                "pages evicted by application threads": Int64(0),
            },
            "concurrentTransactions": {kind: {"out": 0, "available": 128, "totalTickets": 128} for kind in ("read", "write")},
        },
    }
    if node.replicated:
        reply |= _repl_status(node)
    return reply


_OPCOUNTERS = {"insert": "insert", "query": "find", "update": "update", "delete": "delete", "getmore": "getMore", "command": "command"}


def _repl_status(node: Node) -> Doc:
    config, topology = node.topology.config, node.topology
    reply: Doc = {}
    if config:
        primary = topology.state.name == "PRIMARY" and node.writable
        reply["repl"] = {
            "setName": config.name,
            "setVersion": config.version,
            "isWritablePrimary": primary,
            "secondary": node.state.name == "SECONDARY",
            "primary": node.primary_host() or "",
            "hosts": [member.host for member in config.members if not member.hidden and member.data],
            "me": node.host,
            "rbid": node.rbid,
            "userWriteBlockMode": 1,
            "lastWrite": {"opTime": node.storage.applied.doc(), "lastWriteDate": node.storage.applied.date},
        }
    counts = node.election_counts
    reasons = {"stepUpCmd": "stepUpRequest", "priorityTakeover": "priorityTakeover", "catchUpTakeover": "", "electionTimeout": "electionTimeout"}
    reply["electionMetrics"] = {
        **{name: {what: Int64(counts[f"{key}.{what}"]) for what in ("called", "successful")} for name, key in reasons.items()},
        "freezeTimeout": {"called": Int64(0), "successful": Int64(0)},
        "numStepDownsCausedByHigherTerm": Int64(0),
        "numCatchUps": Int64(0),
    }
    oplog = _oplog(node)
    reply["oplogTruncation"] = {
        "totalTimeProcessingMicros": Int64(0),
        "processingMethod": "scanning",
        "totalTimeTruncatingMicros": Int64(0),
        "truncateCount": Int64(oplog.head),
    }
    return reply


@command("hostInfo", "hostInfo", "cluster", alias="hostinfo")
def host_info(request: Request) -> Doc:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    return {
        "system": {
            "currentTime": utcnow(),
            "hostname": request.node.host,
            "cpuAddrSize": 64,
            "memSizeMB": Int64(pages),
            "memLimitMB": Int64(pages),
            "numCores": os.cpu_count(),
            "cpuArch": platform.machine(),
            "numaEnabled": False,
        },
        "os": {"type": platform.system(), "name": platform.platform(), "version": platform.release()},
        "extra": {},
    }


@command("currentOp", "inprog", "cluster")
def current_op(request: Request) -> Doc:
    return {"inprog": request.server.operations()}


@command("killOp", "killop", "cluster")
def kill_op(request: Request) -> Doc:
    for active in request.server.active.values():
        if active.op_id == request.body["op"]:
            active.killed = True
    request.node.progress.notify()
    return {"info": "attempting to kill op"}


@command("profile", "enableProfiler", "db")
def profile(request: Request) -> Doc:
    server, level = request.server, int(request.value)
    was, slow = server.profile.get(request.db, 0), server.slow_ms
    if level not in (-1, 0, 1, 2):
        raise MongoError("BadValue", "Profiling level must be between 0 and 2")
    if level >= 0:
        server.profile[request.db] = level
    if "slowms" in request.body:
        server.slow_ms = int(request.body["slowms"])
    return {"was": was, "slowms": slow, "sampleRate": 1.0}


@command("rotateCertificates", "rotateCertificates", "cluster")
def rotate_certificates(request: Request) -> Doc:
    tls = request.node.tls
    if tls is None:
        raise MongoError("IllegalOperation", "TLS/SSL must be enabled to rotate certificates")
    try:
        tls.load()
    except OSError as error:
        raise MongoError("InvalidOptions", f"Failed to read the certificates: {error}") from None
    log("NETWORK", "Successfully rotated X509 certificates.")
    return {}


@command("shutdown", "shutdown", "cluster")
async def shutdown(request: Request) -> Doc:
    node, body = request.node, request.body
    await node.shutdown(float(body.get("timeoutSecs", 15)), bool(body.get("force")))
    return {}


@command("setFeatureCompatibilityVersion", "setFeatureCompatibilityVersion", "cluster", "primary")
async def set_fcv(request: Request) -> Doc:
    node, wanted = request.node, request.value
    known = ["6.0", "7.0", "8.0", "8.2"]
    at = known.index(node.series) if node.series in known else 1
    allowed = known[max(0, at - 1) : at + 1]
    if wanted not in allowed:
        raise MongoError("BadValue", f"Invalid feature compatibility version value '{wanted}', expected one of {', '.join(allowed)}")
    if not request.body.get("confirm"):
        raise MongoError(
            "Location7369100",
            "Once you have upgraded to a new feature compatibility version, you will not be able to downgrade the binary without support."
            " Please re-run this command with 'confirm: true' to acknowledge this and continue.",
        )
    present = node.fcv()["version"]
    ns, collection = "admin.system.version", ensure(request, "admin.system.version")
    request.wrote = node.storage.applied
    if present == wanted and "targetVersion" not in node.fcv():
        return {}
    base = {"op": "u", "ns": ns, "ui": collection.uuid, "o2": {"_id": "featureCompatibilityVersion"}}
    doc: Doc = {"_id": "featureCompatibilityVersion", "version": min(present, wanted), "targetVersion": wanted}
    if wanted < present:
        doc["previousVersion"] = present
    node.write([{**base, "o": doc}])
    await asyncio.sleep(0)
    request.wrote = node.write([{**base, "o": {"_id": "featureCompatibilityVersion", "version": wanted}}])
    return {}


def _default_concerns(request: Request) -> Doc:
    settings = request.node.storage.catalog.get("config.settings")
    stored = (settings.docs.get("ReadWriteConcernDefaults") if settings else None) or {}
    shown = {key: value for key, value in stored.items() if key != "_id"}
    defaults = {"defaultReadConcern": {"level": "local"}, "defaultWriteConcern": default_concern(request.node)}
    sources = {"defaultWriteConcernSource": "global" if "defaultWriteConcern" in shown else "implicit", "defaultReadConcernSource": "implicit"}
    return {**defaults, **shown, **sources}


@command("getDefaultRWConcern", "getDefaultRWConcern", "cluster", "data")
def get_default_concern(request: Request) -> Doc:
    return _default_concerns(request)


@command("setDefaultRWConcern", "setDefaultRWConcern", "cluster", "primary")
def set_default_concern(request: Request) -> Doc:
    body, collection = request.body, ensure(request, "config.settings")
    doc: Doc = {**collection.docs.get("ReadWriteConcernDefaults", {}), "_id": "ReadWriteConcernDefaults", "updateWallClockTime": utcnow()}
    for name in ("defaultWriteConcern", "defaultReadConcern"):
        if name in body:
            doc[name] = body[name]
    request.wrote = request.node.write([{"op": "u", "ns": "config.settings", "ui": collection.uuid, "o": doc, "o2": {"_id": doc["_id"]}}])
    return _default_concerns(request)


# Databases and collections


@command("listDatabases", "", "login", "data")
def list_databases(request: Request) -> Doc:
    node, catalog = request.node, request.node.storage.catalog
    sizes = {name: sum(catalog.collections[ns].size() for ns in catalog.of(name)) for name in catalog.databases()}
    if node.replicated:
        sizes["local"] = _oplog(node).bytes
    everything = request.may("listDatabases", None)
    if not everything:
        sizes = {name: size for name, size in sizes.items() if request.may("listCollections", name)}
    found: list[Doc] = [{"name": name, "sizeOnDisk": Int64(size), "empty": False} for name, size in sorted(sizes.items())]
    if query := request.body.get("filter"):
        from mongomock import filtering

        found = [doc for doc in found if filtering.filter_applies(query, doc)]
    if request.body.get("nameOnly"):
        return {"databases": [{"name": doc["name"]} for doc in found]}
    total = sum(int(doc["sizeOnDisk"]) for doc in found)
    return {"databases": found, "totalSize": Int64(total), "totalSizeMb": Int64(total // 1024**2)}


@command("listCollections", "", "login", "data")
def list_collections(request: Request) -> Doc:
    from mongomock import filtering

    node, catalog, body = request.node, request.node.storage.catalog, request.body
    if not (body.get("authorizedCollections") and body.get("nameOnly")):
        request.demand("listCollections", request.db)
    docs: list[Doc] = []
    for ns in catalog.of(request.db):
        collection, name = catalog.collections[ns], split(ns)[1]
        if not request.may("listCollections", request.db) and not request.may("find", request.db, name):
            continue
        doc: Doc = {"name": name, "type": "collection"}
        if not body.get("nameOnly"):
            index = {"v": 2, "key": {"_id": 1}, "name": "_id_"}
            doc |= {"options": collection.options, "info": {"readOnly": False, "uuid": collection.uuid}, "idIndex": index}
        docs.append(doc)
    if request.db == "local" and node.replicated:
        docs.append({"name": "oplog.rs", "type": "collection", "options": {"capped": True, "size": Int64(_oplog(node).cap)}, "info": {"readOnly": False}})
    if query := body.get("filter"):
        docs = [doc for doc in docs if filtering.filter_applies(query, doc)]
    if request.connection.internal:
        return {"cursor": {"firstBatch": docs, "id": Int64(0), "ns": f"{request.db}.$cmd.listCollections"}}
    return list_reply(request, f"{request.db}.$cmd.listCollections", docs)


@command("create", "createCollection", "collection", "primary")
def create(request: Request) -> Doc:
    catalog = request.node.storage.catalog
    names = ("capped", "size", "max", "validator", "validationLevel", "validationAction", "changeStreamPreAndPostImages", "clusteredIndex")
    options = {name: request.body[name] for name in names if name in request.body}
    for name in ("viewOn", "timeseries", "validator", "capped"):
        if request.body.get(name):
            raise MongoError("NotImplemented", f"{name} is not supported by this stand-in")
    if old := catalog.get(request.ns):
        if old.options == options:
            return {}
        raise MongoError("NamespaceExists", f"Collection {request.ns} already exists.")
    ensure(request, request.ns)
    request.wrote = request.node.storage.applied
    return {}


@command("drop", "dropCollection", "collection", "primary")
def drop(request: Request) -> Doc:
    collection, node = request.node.storage.catalog.get(request.ns), request.node
    request.wrote = node.storage.applied
    if collection is None:
        if node.series < "7.0":
            raise MongoError("NamespaceNotFound", "ns not found")
        return {}
    request.wrote = node.write([{"op": "c", "ns": f"{request.db}.$cmd", "ui": collection.uuid, "o": {"drop": request.value}}])
    return {"ns": request.ns, "nIndexesWas": len(collection.indexes)}


@command("dropDatabase", "dropDatabase", "db", "primary")
def drop_database(request: Request) -> Doc:
    if request.db in ("admin", "config", "local"):
        raise MongoError("IllegalOperation", f"Dropping the '{request.db}' database is prohibited.")
    request.wrote = request.node.storage.applied
    if request.node.storage.catalog.of(request.db):
        request.wrote = request.node.write([{"op": "c", "ns": f"{request.db}.$cmd", "o": {"dropDatabase": 1}}])
    return {"dropped": request.db}


@command("renameCollection", "", "login", "primary")
def rename_collection(request: Request) -> Doc:
    source, target, node = request.value, request.body["to"], request.node
    request.demand("dropCollection", *split(source))
    request.demand("insert", *split(target))
    if source not in node.storage.catalog.collections:
        raise MongoError("NamespaceNotFound", f"Source collection {source} does not exist")
    if target in node.storage.catalog.collections and not request.body.get("dropTarget"):
        raise MongoError("NamespaceExists", "target namespace exists")
    request.wrote = node.write([{"op": "c", "ns": f"{split(source)[0]}.$cmd", "o": {"renameCollection": source, "to": target}}])
    return {}


@command("dbStats", "dbStats", "db", "data", alias="dbstats")
def db_stats(request: Request) -> Doc:
    node, scale = request.node, int(request.body.get("scale", 1) or 1)
    found = [node.storage.catalog.collections[ns] for ns in node.storage.catalog.of(request.db)]
    objects, size = sum(len(c.docs) for c in found), sum(c.size() for c in found)
    indexes, disk = sum(len(c.indexes) for c in found), shutil.disk_usage(node.config.dbpath)
    return {
        "db": request.db,
        "collections": Int64(len(found)),
        "views": Int64(0),
        "objects": Int64(objects),
        "avgObjSize": size / objects if objects else 0.0,
        "dataSize": size / scale,
        "storageSize": size / scale,
        "freeStorageSize": 0.0,
        "indexes": Int64(indexes),
        "indexSize": indexes * 4096 / scale,
        "totalSize": (size + indexes * 4096) / scale,
        "scaleFactor": Int64(scale),
        "fsUsedSize": disk.used / scale,
        "fsTotalSize": disk.total / scale,
    }


@command("collStats", "collStats", "collection", "data", alias="collstats")
def coll_stats(request: Request) -> Doc:
    node, scale = request.node, int(request.body.get("scale", 1) or 1)
    if request.ns == "local.oplog.rs":
        oplog = _oplog(node)
        count = oplog.end - oplog.head
        return {
            "ns": request.ns,
            "size": oplog.bytes // scale,
            "count": count,
            "storageSize": oplog.bytes // scale,
            "capped": True,
            "maxSize": Int64(oplog.cap // scale),
        }
    collection = node.storage.catalog.get(request.ns)
    count, size = (len(collection.docs), collection.size()) if collection else (0, 0)
    names = list(collection.indexes) if collection else []
    return {
        "ns": request.ns,
        "size": size // scale,
        "count": count,
        "avgObjSize": size // count if count else 0,
        "storageSize": size // scale,
        "freeStorageSize": 0,
        "capped": False,
        "nindexes": len(names),
        "indexBuilds": [],
        "totalIndexSize": 4096 * len(names) // scale,
        "totalSize": (size + 4096 * len(names)) // scale,
        "indexSizes": {name: 4096 // scale for name in names},
        "scaleFactor": scale,
    }


@command("validate", "validate", "collection", "data")
def validate(request: Request) -> Doc:
    collection = existing(request)
    return {
        "ns": request.ns,
        "uuid": collection.uuid,
        "nrecords": len(collection.docs),
        "nIndexes": len(collection.indexes),
        "keysPerIndex": {name: len(collection.docs) for name in collection.indexes},
        "valid": True,
        "repaired": False,
        "warnings": [],
        "errors": [],
        "extraIndexEntries": [],
        "missingIndexEntries": [],
        "corruptRecords": [],
    }


@command("dbHash", "dbHash", "db", "data", alias="dbhash")
def db_hash(request: Request) -> Doc:
    catalog, begin = request.node.storage.catalog, monotonic()
    names = [split(ns)[1] for ns in catalog.of(request.db)]
    wanted = request.body.get("collections") or names
    hashes = {name: catalog.digest(f"{request.db}.{name}") for name in names if name in wanted}
    total = hashlib.md5("".join(f"{name}{digest}" for name, digest in hashes.items()).encode(), usedforsecurity=False).hexdigest()
    uuids = {name: catalog.collections[f"{request.db}.{name}"].uuid for name in hashes}
    return {"host": request.node.host, "collections": hashes, "capped": [], "uuids": uuids, "md5": total, "timeMillis": int((monotonic() - begin) * 1000)}


# Indexes


def _index_spec(given: Doc) -> Doc:
    if not isinstance(given.get("key"), dict) or not given["key"]:
        raise MongoError("CannotCreateIndex", "Index keys cannot be empty.")
    spec = {"v": 2, "key": given["key"], "name": given.get("name") or "_".join(f"{field}_{kind}" for field, kind in given["key"].items())}
    known = {
        "unique",
        "sparse",
        "expireAfterSeconds",
        "partialFilterExpression",
        "hidden",
        "weights",
        "default_language",
        "language_override",
        "textIndexVersion",
    }
    for name, value in given.items():
        if name in known:
            spec[name] = value
        elif name in ("collation", "wildcardProjection") and value:
            raise MongoError("NotImplemented", f"{name} is not supported by this stand-in")
        elif name not in ("v", "key", "name", "background", "ns"):
            raise MongoError("InvalidOptions", f"The field '{name}' is not valid for an index specification")
    return spec


def _same(one: Doc, other: Doc) -> bool:
    def shown(spec: Doc) -> Any:
        return [(name, list(value.items()) if name == "key" else value) for name, value in sorted(spec.items()) if name not in ("name", "v")]

    return bool(shown(one) == shown(other))


@command("createIndexes", "createIndex", "collection", "primary")
def create_indexes(request: Request) -> Doc:
    node, catalog = request.node, request.node.storage.catalog
    specs = [_index_spec(given) for given in request.body["indexes"]]
    created = request.ns not in catalog.collections
    collection = ensure(request, request.ns)
    before = len(collection.indexes)
    for spec in specs:
        if list(spec["key"].items()) == [("_id", 1)]:
            continue
        if old := collection.indexes.get(spec["name"]):
            if not _same(old, spec):
                same_keys = list(old["key"].items()) == list(spec["key"].items())
                name = "IndexOptionsConflict" if same_keys else "IndexKeySpecsConflict"
                raise MongoError(name, f"An existing index has the same name as the requested index. Requested index: {spec}, existing index: {old}")
            continue
        for old in collection.indexes.values():
            if _same(old, spec):
                raise MongoError("IndexOptionsConflict", f"Index already exists with a different name: {old['name']}")
        # Tried here: in the oplog it must not fail any more.
        collection.add_index(spec)
        collection.drop_index(spec["name"])
        o = {"createIndexes": request.value, "spec": spec}
        node.write([{"op": "c", "ns": f"{request.db}.$cmd", "ui": collection.uuid, "o": o}])
    request.wrote = node.storage.applied
    reply: Doc = {
        "numIndexesBefore": before,
        "numIndexesAfter": len(collection.indexes),
        "createdCollectionAutomatically": created,
        "commitQuorum": "votingMembers",
    }
    if reply["numIndexesBefore"] == reply["numIndexesAfter"]:
        reply["note"] = "all indexes already exist"
    return reply


@command("listIndexes", "listIndexes", "collection", "data")
def list_indexes(request: Request) -> Doc:
    docs = list(existing(request).indexes.values())
    if request.connection.internal:
        return {"cursor": {"firstBatch": docs, "id": Int64(0), "ns": request.ns}}
    return list_reply(request, request.ns, docs)


@command("dropIndexes", "dropIndex", "collection", "primary", alias="deleteIndexes")
def drop_indexes(request: Request) -> Doc:
    collection, wanted, node = existing(request), request.body["index"], request.node
    before = len(collection.indexes)
    if wanted == "*":
        names = [name for name in collection.indexes if name != "_id_"]
    elif isinstance(wanted, dict):
        names = [name for name, spec in collection.indexes.items() if list(spec["key"].items()) == list(wanted.items())]
    else:
        names = [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name in collection.indexes]
    if "_id_" in names:
        raise MongoError("InvalidOptions", "cannot drop _id index")
    if not names and wanted != "*":
        raise MongoError("IndexNotFound", f"index not found with name [{wanted}]")
    for name in names:
        node.write([{"op": "c", "ns": f"{request.db}.$cmd", "ui": collection.uuid, "o": {"dropIndexes": request.value, "index": name}}])
    request.wrote = node.storage.applied
    return {"nIndexesWas": before}


@command("collMod", "collMod", "collection", "primary")
def coll_mod(request: Request) -> Doc:
    raise MongoError("NotImplemented", "collMod is not supported by this stand-in")
