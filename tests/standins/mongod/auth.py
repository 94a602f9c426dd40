# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who a client is (SCRAM-SHA-256) and what it may do (roles, privileges).

https://datatracker.ietf.org/doc/html/rfc7677 and https://www.mongodb.com/docs/manual/reference/built-in-roles/
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import hmac
import os
from typing import Any

from bson import Binary
from pymongo.saslprep import saslprep

from .catalog import Catalog
from .common import Doc, MongoError

ITERATIONS = 15000
MECHANISM = "SCRAM-SHA-256"
SYSTEM = ("__system", "local")  # members authenticate as this user, with the key file's content as password
# One salt for every key of a key file: the server must send it before it knows which key the member has.
KEYFILE_SALT = hashlib.sha256(b"stand-in key file").digest()[:28]

FAILED = "Authentication failed."


@functools.lru_cache(64)
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", str(saslprep(password)).encode(), salt, iterations)


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


@dataclasses.dataclass(frozen=True)
class Credential:
    """What a server keeps of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    @classmethod
    def make(cls, password: str, salt: bytes | None = None) -> Credential:
        salt = salt or os.urandom(28)
        salted = _salted(password, salt, ITERATIONS)
        stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        return cls(salt, ITERATIONS, stored, _hmac(salted, b"Server Key"))

    @classmethod
    def of(cls, doc: Doc) -> Credential:
        return cls(*(base64.b64decode(doc["salt"]), int(doc["iterationCount"])), *(base64.b64decode(doc[key]) for key in ("storedKey", "serverKey")))

    def doc(self) -> Doc:
        encoded = {"salt": self.salt, "storedKey": self.stored_key, "serverKey": self.server_key}
        return {"iterationCount": self.iterations, **{name: base64.b64encode(value).decode() for name, value in encoded.items()}}


def _parse(message: bytes) -> dict[str, str]:
    return {part[:1]: part[2:] for part in message.decode().split(",") if part[1:2] == "="}


class ScramServer:
    """One conversation: `start` with the client's first message, `finish` with its second."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.user = ""
        self._candidates: list[Credential] = []
        self._first = b""
        self._nonce = ""

    def start(self, payload: bytes, lookup: Any) -> bytes:
        """lookup: (user, database) → credentials of which any is good. Raises MongoError."""
        try:
            bare = payload[payload.index(b",", payload.index(b",") + 1) + 1 :]
            fields = _parse(bare)
            self.user = fields["n"].replace("=2C", ",").replace("=3D", "=")
            self._nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
        except (ValueError, KeyError, UnicodeDecodeError):
            raise MongoError("AuthenticationFailed", FAILED) from None
        # An unknown user gets the same conversation as a wrong password.
        self._candidates = lookup(self.user, self.database) or [Credential(os.urandom(28), ITERATIONS, os.urandom(32), os.urandom(32))]
        salt, iterations = self._candidates[0].salt, self._candidates[0].iterations
        answer = f"r={self._nonce},s={base64.b64encode(salt).decode()},i={iterations}".encode()
        self._first = bare + b"," + answer
        return answer

    def finish(self, payload: bytes) -> bytes:
        """Raises MongoError when the password is wrong."""
        try:
            fields = _parse(payload)
            proof = base64.b64decode(fields["p"])
            text = self._first + b"," + payload[: payload.rindex(b",p=")]
            if fields["r"] != self._nonce or len(proof) != 32:
                raise ValueError
        except (ValueError, KeyError, UnicodeDecodeError):
            raise MongoError("AuthenticationFailed", FAILED) from None
        for credential in self._candidates:
            signature = _hmac(credential.stored_key, text)
            key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
            if hmac.compare_digest(hashlib.sha256(key).digest(), credential.stored_key):
                return b"v=" + base64.b64encode(_hmac(credential.server_key, text))
        raise MongoError("AuthenticationFailed", FAILED)


class ScramClient:
    """How a member proves to another that it has the key."""

    def __init__(self, user: str, password: str) -> None:
        self._password = password
        self._nonce = base64.b64encode(os.urandom(18)).decode()
        self._bare = f"n={user},r={self._nonce}"
        self._verify = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        fields = _parse(server_first)
        if not fields.get("r", "").startswith(self._nonce):
            raise ValueError("server nonce")
        salted = _salted(self._password, base64.b64decode(fields["s"]), int(fields["i"]))
        without = f"c=biws,r={fields['r']}"
        text = f"{self._bare},{server_first.decode()},{without}".encode()
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), text)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._verify = b"v=" + base64.b64encode(_hmac(_hmac(salted, b"Server Key"), text))
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def check(self, server_final: bytes) -> None:
        if not hmac.compare_digest(server_final, self._verify):
            raise ValueError("server signature")


# Roles. A privilege: (kind of resource, database, collection) → actions.

READ = "changeStream collStats dbHash dbStats find killCursors listIndexes listCollections planCacheRead"
WRITE = READ + " convertToCapped createCollection dropCollection createIndex dropIndex insert remove renameCollectionSameDB update"
DB_ADMIN = (
    "collStats dbHash dbStats killCursors listIndexes listCollections planCacheRead planCacheWrite bypassDocumentValidation collMod compact convertToCapped"
    " createCollection createIndex dropCollection dropDatabase dropIndex enableProfiler reIndex renameCollectionSameDB validate"
)
USER_ADMIN = "changeCustomData changePassword createRole createUser dropRole dropUser grantRole revokeRole setAuthenticationRestriction viewRole viewUser"
MONITOR = (
    "checkFreeMonitoringStatus connPoolStats getCmdLineOpts getDefaultRWConcern getLog getParameter getShardMap hostInfo inprog listDatabases listSessions"
    " listShards netstat replSetGetConfig replSetGetStatus serverStatus setFreeMonitoring shardingState top"
)
MANAGER = (
    "addShard appendOplogNote applicationMessage cleanupOrphaned flushRouterConfig getDefaultRWConcern listSessions listShards removeShard replSetConfigure"
    " replSetGetConfig replSetGetStatus replSetStateChange resync setDefaultRWConcern setFeatureCompatibilityVersion setFreeMonitoring"
)
HOST = (
    "applicationMessage closeAllDatabases connPoolSync flushRouterConfig fsync getCmdLineOpts getParameter getLog hostInfo invalidateUserCache killAnyCursor"
    " killAnySession killop logRotate resync rotateCertificates setParameter shutdown touch unlock inprog serverStatus"
)
RESTORE = (
    "bypassDocumentValidation changeCustomData changePassword collMod convertToCapped createCollection createIndex createRole createUser dropCollection"
    " dropRole dropUser find grantRole insert listCollections listIndexes remove revokeRole update viewRole viewUser"
)

Privilege = tuple[str, str, str, frozenset[str]]


def _on(kind: str, actions: str, database: str = "", collection: str = "") -> Privilege:
    return kind, database, collection, frozenset(actions.split())


@functools.lru_cache(256)
def builtin(role: str, database: str) -> tuple[Privilege, ...] | None:
    """The privileges of a built-in role, None for a name that is none."""

    def db(actions: str) -> Privilege:
        return _on("db", actions, database)

    everywhere = {
        "readAnyDatabase": (_on("db", READ), _on("cluster", "listDatabases")),
        "readWriteAnyDatabase": (_on("db", WRITE), _on("cluster", "listDatabases")),
        "dbAdminAnyDatabase": (_on("db", DB_ADMIN), _on("cluster", "listDatabases")),
        "userAdminAnyDatabase": (_on("db", USER_ADMIN), _on("cluster", "listDatabases invalidateUserCache"), _on("db", READ, "admin", "system.users")),
        "clusterMonitor": (
            _on("cluster", MONITOR),
            _on("db", "collStats dbStats getDatabaseVersion indexStats useUUID"),
            _on("db", READ, "local"),
            _on("db", READ, "config"),
        ),
        "clusterManager": (_on("cluster", MANAGER), _on("db", READ, "local"), _on("db", WRITE, "config")),
        "hostManager": (_on("cluster", HOST),),
        "backup": (
            _on("cluster", "appendOplogNote getParameter listDatabases serverStatus inprog setParameter"),
            _on("any", "find listCollections listIndexes collStats viewRole viewUser"),
        ),
        "restore": (_on("cluster", "getParameter"), _on("any", RESTORE)),
        "directShardOperations": (),
    }
    if database == "admin" and role in everywhere:
        return everywhere[role]
    if role == "clusterAdmin" and database == "admin":
        parts = [*everywhere["clusterMonitor"], *everywhere["clusterManager"], *everywhere["hostManager"]]
        return (*parts, _on("db", "dropDatabase"))
    if role == "root" and database == "admin":
        names = ("readWriteAnyDatabase", "dbAdminAnyDatabase", "userAdminAnyDatabase", "backup", "restore")
        parts = [privilege for name in names for privilege in everywhere[name]]
        return (*parts, *(builtin("clusterAdmin", "admin") or ()), _on("any", "validate"))
    if role == "__system" and database == "admin":
        return (("all", "", "", frozenset()),)
    return {
        "read": (db(READ),),
        "readWrite": (db(WRITE),),
        "dbAdmin": (db(DB_ADMIN),),
        "userAdmin": (db(USER_ADMIN),),
        "dbOwner": (db(f"{WRITE} {DB_ADMIN} {USER_ADMIN}"),),
    }.get(role)


BUILTIN_EVERYWHERE = ("read", "readWrite", "dbAdmin", "userAdmin", "dbOwner")
BUILTIN_ADMIN = (
    *("readAnyDatabase", "readWriteAnyDatabase", "dbAdminAnyDatabase", "userAdminAnyDatabase", "clusterMonitor", "clusterManager", "hostManager"),
    *("clusterAdmin", "backup", "restore", "root", "directShardOperations"),
)


def stored_role(catalog: Catalog, role: str, database: str) -> Doc | None:
    collection = catalog.get("admin.system.roles")
    return collection.docs.get(f"{database}.{role}") if collection else None


def stored_user(catalog: Catalog, user: str, database: str) -> Doc | None:
    collection = catalog.get("admin.system.users")
    return collection.docs.get(f"{database}.{user}") if collection else None


def role_exists(catalog: Catalog, role: str, database: str) -> bool:
    return builtin(role, database) is not None or stored_role(catalog, role, database) is not None


def _of_doc(doc: Doc) -> Privilege:
    resource, actions = doc["resource"], frozenset(doc["actions"])
    if resource.get("cluster"):
        return "cluster", "", "", actions
    if resource.get("anyResource"):
        return "any", "", "", actions
    return "db", resource.get("db", ""), resource.get("collection", ""), actions


def expand(catalog: Catalog, roles: list[Doc]) -> tuple[list[Doc], list[Privilege]]:
    """All roles that these hold, and their privileges."""
    seen: dict[tuple[str, str], None] = {}
    privileges: list[Privilege] = []
    todo = [(role["role"], role["db"]) for role in roles]
    while todo:
        name, database = todo.pop()
        if (name, database) in seen:
            continue
        seen[(name, database)] = None
        known = builtin(name, database)
        if known is not None:
            privileges.extend(known)
        elif doc := stored_role(catalog, name, database):
            privileges.extend(_of_doc(item) for item in doc.get("privileges", []))
            todo.extend((role["role"], role["db"]) for role in doc.get("roles", []))
    return [{"role": name, "db": database} for name, database in seen], privileges


def privilege_docs(privileges: list[Privilege]) -> list[Doc]:
    merged: dict[tuple[str, str, str], set[str]] = {}
    for kind, database, collection, actions in privileges:
        merged.setdefault((kind, database, collection), set()).update(actions)
    docs = []
    for (kind, database, collection), found in merged.items():
        resource: Doc = {"db": database, "collection": collection}
        if kind == "cluster":
            resource = {"cluster": True}
        elif kind in ("any", "all"):
            resource = {"anyResource": True}
        docs.append({"resource": resource, "actions": sorted(found)})
    return docs


def _covers(privilege: Privilege, action: str, database: str, collection: str) -> bool:
    """Whether a privilege allows an action on a collection ('' for the database as a whole)."""
    kind, on_database, on_collection, actions = privilege
    if kind == "all":
        return True
    if action not in actions or kind == "cluster":
        return False
    if kind == "any":
        return True
    if on_database and on_database != database:
        return False
    # "All databases" leaves out local and config, "all collections" the system's.
    if not on_database and not on_collection and database in ("local", "config"):
        return False
    if on_collection:
        return on_collection == collection
    return not collection.startswith("system.") or collection == "system.profile"


def allows(privileges: list[Privilege], action: str, database: str | None, collection: str = "") -> bool:
    """database None: an action on the cluster."""
    if database is None:
        return any(kind == "all" or kind == "cluster" and action in actions for kind, _, _, actions in privileges)
    return any(_covers(privilege, action, database, collection) for privilege in privileges)


# What a client on the same machine may do until there is a user: enough to make the set and the first user.
LOCALHOST: list[Privilege] = [
    _on("db", "createUser grantRole", "admin"),
    _on("db", "createUser", "$external"),
    _on("cluster", "addShard replSetConfigure replSetGetStatus"),
]
LOCALHOST_ARBITER = _on("cluster", "getCmdLineOpts getParameter serverStatus shutdown")


def user_doc(user: str, database: str, password: str | None, roles: list[Doc], custom: Doc | None) -> Doc:
    import uuid

    doc: Doc = {"_id": f"{database}.{user}", "userId": Binary(uuid.uuid4().bytes, 4), "user": user, "db": database}
    doc["credentials"] = {MECHANISM: Credential.make(password).doc()} if password is not None else {"external": True}
    doc["roles"] = roles
    if custom is not None:
        doc["customData"] = custom
    return doc
