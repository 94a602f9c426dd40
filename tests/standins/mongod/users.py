# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Users and roles: documents of the admin database, replicated like any other."""

from __future__ import annotations

from typing import Any

from . import auth
from .common import Doc, MongoError
from .crud import ensure
from .registry import Request, command

USERS, ROLES = "admin.system.users", "admin.system.roles"


def _store(request: Request, ns: str, doc: Doc | None, ident: str) -> None:
    """Write or remove one document."""
    collection = ensure(request, ns)
    known = ident in collection.docs
    entry = {"op": "d", "o": {"_id": ident}} if doc is None else {"op": "u" if known else "i", "o": doc, "o2": {"_id": ident}}
    request.wrote = request.node.write([{"ns": ns, "ui": collection.uuid, **entry}])


def _roles(request: Request, given: list[Any], check: bool = True) -> list[Doc]:
    """Names and documents → documents. Raises MongoError for a role that does not exist."""
    roles = []
    for role in given:
        doc = {"role": role, "db": request.db} if isinstance(role, str) else {"role": role["role"], "db": role["db"]}
        if check and not auth.role_exists(request.node.storage.catalog, doc["role"], doc["db"]):
            raise MongoError("RoleNotFound", f"Could not find role: {doc['role']}@{doc['db']}")
        if doc not in roles:
            roles.append(doc)
    return roles


def _may_grant(request: Request, roles: list[Doc]) -> None:
    for role in roles:
        request.demand("grantRole", role["db"])


def _user(request: Request, name: str) -> Doc:
    doc = auth.stored_user(request.node.storage.catalog, name, request.db)
    if doc is None:
        raise MongoError("UserNotFound", f'Could not find user "{name}" for db "{request.db}"')
    return doc


def _mechanisms(body: Doc) -> None:
    for mechanism in body.get("mechanisms", []):
        if mechanism not in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            raise MongoError("BadValue", f"Unknown auth mechanism '{mechanism}'")


def _password(body: Doc) -> str:
    password = body.get("pwd")
    if not isinstance(password, str) or not password:
        raise MongoError("BadValue", "User passwords must not be empty")
    return password


@command("createUser", "createUser", "db", "primary")
def create_user(request: Request) -> Doc:
    body, name = request.body, request.value
    if not isinstance(name, str) or not name:
        raise MongoError("BadValue", "User names must be non-empty strings")
    if request.db == "local":
        raise MongoError("BadValue", "Cannot create users in the local database")
    if auth.stored_user(request.node.storage.catalog, name, request.db):
        raise MongoError("Location51003", f'User "{name}@{request.db}" already exists')
    _mechanisms(body)
    roles = _roles(request, body.get("roles", []))
    _may_grant(request, roles)
    password = None if request.db == "$external" else _password(body)
    _store(request, USERS, auth.user_doc(name, request.db, password, roles, body.get("customData")), f"{request.db}.{name}")
    return {}


@command("updateUser", "", "login", "primary")
def update_user(request: Request) -> Doc:
    body, name = request.body, request.value
    own = (name, request.db) in request.connection.users
    for field, action in (("pwd", "changePassword"), ("customData", "changeCustomData")):
        own_right = {"pwd": "changeOwnPassword", "customData": "changeOwnCustomData"}[field]
        if field in body and not (own and request.may(own_right, request.db)):
            request.demand(action, request.db)
    doc = dict(_user(request, name))
    if "roles" in body:
        roles = _roles(request, body["roles"])
        _may_grant(request, roles)
        request.demand("revokeRole", request.db)
        doc["roles"] = roles
    if "pwd" in body:
        doc["credentials"] = {auth.MECHANISM: auth.Credential.make(_password(body)).doc()}
    if "customData" in body:
        doc["customData"] = body["customData"]
    _store(request, USERS, doc, doc["_id"])
    return {}


@command("dropUser", "dropUser", "db", "primary")
def drop_user(request: Request) -> Doc:
    _store(request, USERS, None, _user(request, request.value)["_id"])
    return {}


@command("dropAllUsersFromDatabase", "dropUser", "db", "primary")
def drop_all_users(request: Request) -> Doc:
    users = request.node.storage.catalog.get(USERS)
    gone = [doc["_id"] for doc in (users.docs.values() if users else []) if doc["db"] == request.db]
    for ident in gone:
        _store(request, USERS, None, ident)
    return {"n": len(gone)}


def _change_roles(request: Request, doc: Doc, ns: str, add: bool) -> Doc:
    given = _roles(request, request.body["roles"], check=add)
    for role in given:
        request.demand("grantRole" if add else "revokeRole", role["db"])
    kept = [role for role in doc.get("roles", []) if role not in given]
    _store(request, ns, {**doc, "roles": [*kept, *given] if add else kept}, doc["_id"])
    return {}


@command("grantRolesToUser", "", "login", "primary")
def grant_roles(request: Request) -> Doc:
    return _change_roles(request, _user(request, request.value), USERS, add=True)


@command("revokeRolesFromUser", "", "login", "primary")
def revoke_roles(request: Request) -> Doc:
    return _change_roles(request, _user(request, request.value), USERS, add=False)


@command("usersInfo", "", "login", "data")
def users_info(request: Request) -> Doc:
    body, value, catalog = request.body, request.value, request.node.storage.catalog
    users = catalog.get(USERS)
    docs = list(users.docs.values()) if users else []
    wanted: list[tuple[str, str]] | None = None
    if isinstance(value, dict) and value.get("forAllDBs"):
        request.demand("viewUser", None if not request.may("viewUser", "admin") else "admin")
    elif isinstance(value, str | dict | list):
        items = value if isinstance(value, list) else [value]
        wanted = [(item, request.db) if isinstance(item, str) else (item["user"], item["db"]) for item in items]
        docs = [doc for doc in docs if (doc["user"], doc["db"]) in wanted]
    else:
        docs = [doc for doc in docs if doc["db"] == request.db]
    for database in {doc["db"] for doc in docs} | {request.db}:
        if not all((doc["user"], doc["db"]) in request.connection.users for doc in docs if doc["db"] == database) or not docs:
            request.demand("viewUser", database)
    return {"users": [_shown_user(request, doc, body) for doc in docs]}


def _shown_user(request: Request, doc: Doc, body: Doc) -> Doc:
    shown = {key: value for key, value in doc.items() if key != "credentials"}
    shown["mechanisms"] = [name for name in doc["credentials"] if name != "external"]
    if body.get("showCredentials"):
        shown["credentials"] = doc["credentials"]
    if body.get("showPrivileges"):
        roles, privileges = auth.expand(request.node.storage.catalog, doc["roles"])
        shown |= {"inheritedRoles": roles, "inheritedPrivileges": auth.privilege_docs(privileges)}
    return shown


# Roles


def _privileges(given: list[Doc]) -> list[Doc]:
    for item in given:
        resource, actions = item.get("resource"), item.get("actions")
        if not isinstance(resource, dict) or not isinstance(actions, list):
            raise MongoError("FailedToParse", "a privilege needs a resource and actions")
        if not (resource.get("cluster") or resource.get("anyResource") or {"db", "collection"} <= set(resource)):
            raise MongoError("FailedToParse", f"resource {resource} is neither cluster, anyResource nor db and collection")
    return given


def _role(request: Request, name: str) -> Doc:
    doc = auth.stored_role(request.node.storage.catalog, name, request.db)
    if doc is None:
        if auth.builtin(name, request.db) is not None:
            raise MongoError("BadValue", f"{name}@{request.db} is a built-in role and cannot be modified.")
        raise MongoError("RoleNotFound", f"Could not find role: {name}@{request.db}")
    return doc


@command("createRole", "createRole", "db", "primary")
def create_role(request: Request) -> Doc:
    name, body = request.value, request.body
    if not isinstance(name, str) or not name:
        raise MongoError("BadValue", "Role name must be non-empty")
    if auth.role_exists(request.node.storage.catalog, name, request.db):
        raise MongoError("Location51002", f'Role "{name}@{request.db}" already exists')
    roles = _roles(request, body["roles"])
    _may_grant(request, roles)
    doc: Doc = {"_id": f"{request.db}.{name}", "role": name, "db": request.db, "privileges": _privileges(body["privileges"]), "roles": roles}
    if body.get("authenticationRestrictions"):
        raise MongoError("NotImplemented", "authenticationRestrictions are not supported by this stand-in")
    _store(request, ROLES, doc, doc["_id"])
    return {}


@command("updateRole", "grantRole", "db", "primary")
def update_role(request: Request) -> Doc:
    body, doc = request.body, dict(_role(request, request.value))
    if "privileges" in body:
        doc["privileges"] = _privileges(body["privileges"])
    if "roles" in body:
        doc["roles"] = _roles(request, body["roles"])
        _may_grant(request, doc["roles"])
    if body.get("authenticationRestrictions"):
        raise MongoError("NotImplemented", "authenticationRestrictions are not supported by this stand-in")
    _store(request, ROLES, doc, doc["_id"])
    return {}


@command("dropRole", "dropRole", "db", "primary")
def drop_role(request: Request) -> Doc:
    doc = _role(request, request.value)
    users = request.node.storage.catalog.get(USERS)
    gone = {"role": doc["role"], "db": doc["db"]}
    for user in list(users.docs.values()) if users else []:
        if gone in user["roles"]:
            _store(request, USERS, {**user, "roles": [role for role in user["roles"] if role != gone]}, user["_id"])
    _store(request, ROLES, None, doc["_id"])
    return {}


@command("grantRolesToRole", "", "login", "primary")
def grant_roles_to_role(request: Request) -> Doc:
    return _change_roles(request, _role(request, request.value), ROLES, add=True)


@command("revokeRolesFromRole", "", "login", "primary")
def revoke_roles_from_role(request: Request) -> Doc:
    return _change_roles(request, _role(request, request.value), ROLES, add=False)


def _shown_role(request: Request, name: str, database: str, body: Doc) -> Doc | None:
    catalog = request.node.storage.catalog
    builtin, stored = auth.builtin(name, database), auth.stored_role(catalog, name, database)
    if builtin is None and stored is None:
        return None
    direct = stored["roles"] if stored else []
    inherited, privileges = auth.expand(catalog, direct)
    shown: Doc = {"_id": f"{database}.{name}", "role": name, "db": database, "isBuiltin": builtin is not None, "roles": direct, "inheritedRoles": inherited}
    if body.get("showPrivileges"):
        own = stored["privileges"] if stored else auth.privilege_docs(list(builtin or ()))
        shown |= {"privileges": own, "inheritedPrivileges": [*own, *auth.privilege_docs(privileges)]}
    return shown


@command("rolesInfo", "viewRole", "db", "data")
def roles_info(request: Request) -> Doc:
    body, value = request.body, request.value
    names: list[tuple[str, str]]
    if isinstance(value, str | dict | list):
        items = value if isinstance(value, list) else [value]
        names = [(item, request.db) if isinstance(item, str) else (item["role"], item["db"]) for item in items]
    else:
        stored = request.node.storage.catalog.get(ROLES)
        names = [(doc["role"], doc["db"]) for doc in (stored.docs.values() if stored else []) if doc["db"] == request.db]
        if body.get("showBuiltinRoles"):
            admin = auth.BUILTIN_ADMIN if request.db == "admin" else ()
            names += [(name, request.db) for name in (*auth.BUILTIN_EVERYWHERE, *admin)]
    found = (_shown_role(request, name, database, body) for name, database in names)
    return {"roles": [role for role in found if role]}
