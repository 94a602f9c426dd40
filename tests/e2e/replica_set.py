# SPDX-License-Identifier: GPL-3.0-or-later
"""What the members of the lab's MongoDB replica set say, asked on the hosts themselves."""

from __future__ import annotations

import json
import typing as t

import support

# On a member, with its own PyMongo and key file: {"members", "database", "command", "direct"} on standard input, the answer as JSON.
ASK = """
import json, sys
from pymongo import MongoClient
q = json.load(sys.stdin)
key = open("/srv/platform/mongodb/current/secrets/keyfile").readline()[2:].strip()
where = dict(directConnection=True) if q["direct"] else dict(replicaSet="platform")
client = MongoClient(q["members"], tls=True, tlsCAFile="/srv/platform/mongodb/live/tls/ca.crt", username="__system", password=key, authSource="local",
                     authMechanism="SCRAM-SHA-256", serverSelectionTimeoutMS=30000, **where)
print(json.dumps(client[q["database"]].command(q["command"]), default=str))
"""


def ask(host: str, command: dict[str, t.Any], members: list[str] | None = None, database: str = "admin") -> dict[str, t.Any]:
    """A command to the member of a host, or to the primary of ``members``, from that host."""
    targets = [f"{support.address(name)}:27017" for name in members or [host]]
    question = json.dumps({"members": targets, "direct": members is None, "database": database, "command": command})
    out = support.ssh(host, f"echo '{question}' | python3 -c '{ASK}'")
    return dict(json.loads(out))


def states(host: str = "data1") -> dict[str, str]:
    """State of each member as one of them sees it, by host."""
    names = {support.address(name): name for name in support.hosts()}
    status = ask(host, {"replSetGetStatus": 1})
    return {names[item["name"].rpartition(":")[0]]: item["stateStr"] for item in status["members"]}


def healthy(members: list[str], host: str = "") -> bool:
    found = states(host or members[0])
    return sorted(found) == sorted(members) and sorted(found.values()) == ["PRIMARY"] + ["SECONDARY"] * (len(members) - 1)


def primary(host: str = "data1") -> str:
    return next(name for name, state in states(host).items() if state == "PRIMARY")
