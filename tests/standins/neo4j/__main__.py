# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for a member of a Neo4j Enterprise cluster: ``python3 tests/standins/neo4j CONFIG.json``."""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import http.server
import json
import re
import socket
import socketserver
import ssl
import sys
import threading
import time
import typing as t
import uuid

from bolt import Closed, Connection
from cluster import BEAT, Cluster, NotLeader

HELLO, GOODBYE, RESET, RUN, BEGIN, COMMIT, ROLLBACK = 0x01, 0x02, 0x0F, 0x10, 0x11, 0x12, 0x13
DISCARD, PULL, TELEMETRY, ROUTE, LOGON, LOGOFF = 0x2F, 0x3F, 0x54, 0x66, 0x6A, 0x6B
SUCCESS, RECORD, IGNORED, FAILURE = 0x70, 0x71, 0x7E, 0x7F

WORDS = re.compile(r"\s+")
SHOW = re.compile(r"SHOW (SERVERS?|DATABASES?|SETTINGS?)(?: YIELD (?P<columns>.+?))?(?: WHERE (?P<where>.+))?$", re.I)
SHORT = {
    "servers": ("name", "address", "state", "health", "hosting"),
    "databases": ("name", "type", "aliases", "access", "address", "role", "writer", "requestedStatus", "currentStatus", "statusMessage", "default", "home"),
    "settings": ("name", "value"),
}
Rows = list[dict[str, t.Any]]


class Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Standin:
    def __init__(self, config: dict[str, t.Any]) -> None:
        self.config = config
        self.cluster = Cluster(config["name"], config.get("version", "5.26.30"), config["members"], config.get("databases", {"neo4j": 3, "system": 3}))
        self.settings = {"dbms.cluster.discovery.version": config.get("discovery", "V2_ONLY"), "server.bolt.advertised_address": self.me.bolt}
        tls = config["tls"]
        self.server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_tls.load_cert_chain(tls["certificate"], tls["key"])
        self.client_tls = ssl.create_default_context(cafile=tls["ca"])
        login = f"{config['username']}:{config['password']}"
        self.authorization = "Basic " + base64.b64encode(login.encode()).decode()

    @property
    def me(self) -> t.Any:
        return self.cluster.members[self.cluster.name]

    def knows(self, name: str, password: str) -> bool:
        return hmac.compare_digest(f"{name}:{password}".encode(), f"{self.config['username']}:{self.config['password']}".encode())

    def hang(self) -> None:
        """Holds every answer while the fault is on."""
        while self.cluster.fault.get("freeze"):
            time.sleep(0.05)

    def listen_to(self, name: str) -> None:
        """Asks a peer for its state, for ever."""
        host, _colon, port = self.cluster.members[name].http.rpartition(":")
        connection: http.client.HTTPSConnection | None = None
        while True:
            time.sleep(BEAT)
            if self.cluster.fault.get("freeze") or name in self.cluster.fault.get("partition", ()):
                continue
            try:
                connection = connection or http.client.HTTPSConnection(host, int(port), timeout=1, context=self.client_tls)
                connection.request("GET", f"/standin/{self.cluster.name}", headers={"Authorization": self.authorization})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    self.cluster.heard(name, json.loads(body))
            except (OSError, http.client.HTTPException, ValueError):
                if connection:
                    connection.close()
                connection = None

    def run(self, text: str, parameters: dict[str, t.Any], database: str, write: bool) -> Rows:
        """The rows of a query. Raises Refused for what the stand-in does not know."""
        query = WORDS.sub(" ", text).strip().rstrip(";")
        shown = SHOW.fullmatch(query)
        if shown:
            return self.show(shown)
        if "dbms.cluster.statusCheck" in query:
            return self.cluster.check([])
        if "getRoutingTable" in query:
            table = self.cluster.routing(database)
            return [{"ttl": table["ttl"], "servers": table["servers"]}]
        if "dbms.queryJmx" in query and "StartTime" in query:
            return [{"started": int(self.cluster.started * 1000)}]
        if query.upper().startswith("CALL DBMS.COMPONENTS"):
            return [{"name": "Neo4j Kernel", "versions": [self.cluster.version], "edition": "enterprise"}]
        if re.match(r"(CREATE|MERGE)\b", query, re.I):
            try:
                if not write:
                    raise Refused("Neo.ClientError.Statement.AccessMode", "Writing in read access mode not allowed.")
                self.cluster.write(database)
            except NotLeader:
                raise Refused("Neo.ClientError.Cluster.NotALeader", f"No longer possible to write to server at {self.me.bolt}") from None
            return []
        literal = re.fullmatch(r"RETURN (\d+)(?: AS (\w+))?", query, re.I)
        if literal:
            return [{literal[2] or literal[1]: int(literal[1])}]
        raise Refused("Neo.ClientError.Statement.SyntaxError", "The stand-in does not know this query, see its README.")

    def show(self, shown: re.Match[str]) -> Rows:
        kind = shown[1].lower().rstrip("s") + "s"
        if kind == "settings":
            rows: Rows = [{"name": name, "value": value} for name, value in self.settings.items()]
            wanted = re.search(r"name = '([^']+)'", shown["where"] or "")
            rows = [row for row in rows if not wanted or row["name"] == wanted[1]]
        else:
            rows = self.cluster.servers() if kind == "servers" else self.cluster.rows()
        columns = [name.strip() for name in shown["columns"].split(",")] if shown["columns"] else list(SHORT[kind])
        if columns == ["*"]:
            return rows
        unknown = [name for name in columns if rows and name not in rows[0]]
        if unknown:
            raise Refused("Neo.ClientError.Statement.SyntaxError", f"Variable `{unknown[0]}` not defined")
        return [{name: row[name] for name in columns} for row in rows]


class BoltHandler(socketserver.BaseRequestHandler):
    """One client: Bolt's states, as far as drivers use them."""

    standin: Standin

    def handle(self) -> None:
        with contextlib.suppress(Closed, OSError):
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = self.standin.server_tls.wrap_socket(self.request, server_side=True)
            self.connection = Connection(stream)
            self.connection.handshake()
            self.known = self.failed = False
            self.rows: Rows = []
            self.database, self.write = "neo4j", True
            while True:
                message = self.connection.receive()
                self.standin.hang()
                if message.tag == GOODBYE:
                    return
                self.answer(message.tag, message.fields)

    def answer(self, tag: int, fields: list[t.Any]) -> None:
        if tag == RESET:
            self.failed, self.rows = False, []
            return self.connection.send(SUCCESS, {})
        if self.failed:
            return self.connection.send(IGNORED)
        try:
            self.connection.send(SUCCESS, self.act(tag, fields))
        except Refused as exc:
            self.failed = True
            self.connection.send(FAILURE, {"code": exc.code, "message": str(exc)})
            if exc.code.startswith("Neo.ClientError.Security."):
                raise Closed("refused") from None
        return None

    def act(self, tag: int, fields: list[t.Any]) -> dict[str, t.Any]:
        """What a message does, and what is said of its success. Raises Refused."""
        if tag == HELLO:
            return {"server": f"Neo4j/{self.standin.cluster.version}", "connection_id": f"bolt-{uuid.uuid4().hex[:8]}", "hints": {}}
        if tag == LOGON:
            if not self.standin.knows(str(fields[0].get("principal", "")), str(fields[0].get("credentials", ""))):
                raise Refused("Neo.ClientError.Security.Unauthorized", "The client is unauthorized due to authentication failure.")
            self.known = True
            return {}
        if not self.known:
            raise Refused("Neo.ClientError.Security.Unauthorized", "Log on first.")
        if tag in (LOGOFF, TELEMETRY, ROLLBACK):
            self.known = tag != LOGOFF
            return {}
        if tag == COMMIT:
            return {"bookmark": self.bookmark()}
        if tag == ROUTE:
            return {"rt": self.standin.cluster.routing(self.place(fields[2]))}
        if tag == BEGIN:
            self.place(fields[0])
            return {}
        if tag == RUN:
            if fields[2]:
                self.place(fields[2])
            self.rows = self.standin.run(fields[0], fields[1], self.database, self.write)
            return {"fields": list(self.rows[0]) if self.rows else [], "t_first": 0}
        if tag in (PULL, DISCARD):
            for row in self.rows if tag == PULL else []:
                self.connection.send(RECORD, list(row.values()))
            self.rows = []
            return {"type": "rw", "t_last": 0, "db": self.database, "bookmark": self.bookmark()}
        raise Refused("Neo.ClientError.Request.Invalid", "This message is not known.")

    def place(self, extra: dict[str, t.Any]) -> str:
        """The database of a request, kept for those that follow."""
        name = extra.get("db") or "neo4j"
        if name not in self.standin.cluster.databases:
            raise Refused("Neo.ClientError.Database.DatabaseNotFound", f"Database {name} not found")
        self.database, self.write = name, extra.get("mode") != "r"
        return str(name)

    def bookmark(self) -> str:
        return f"standin:{self.database}:{self.standin.cluster.applied(self.database)}"


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """The documented endpoints, and what peers ask each other."""

    protocol_version = "HTTP/1.1"
    standin: Standin

    def do_GET(self) -> None:
        self.standin.hang()
        cluster = self.standin.cluster
        if self.path == "/":
            return self.say(200, {"bolt_routing": f"neo4j://{self.standin.me.bolt}", "neo4j_version": cluster.version, "neo4j_edition": "enterprise"})
        if not hmac.compare_digest(self.headers.get("Authorization", ""), self.standin.authorization):
            return self.say(401, {"errors": [{"code": "Neo.ClientError.Security.Unauthorized", "message": "No authentication header supplied."}]})
        if self.path.startswith("/standin/"):
            cut = self.path.removeprefix("/standin/") in cluster.fault.get("partition", ())
            return self.say(503 if cut else 200, cluster.state())
        if self.path == "/dbms/cluster/status":
            ids = {name: str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in cluster.databases}
            return self.say(200, [{"databaseName": name, "databaseUuid": ids[name], "databaseStatus": cluster.status(name)} for name in cluster.databases])
        match = re.fullmatch(r"/db/([^/]+)/cluster/(status|available|writable|read-only)", self.path)
        if not match or match[1] not in cluster.databases:
            return self.say(404, {"errors": [{"code": "Neo.ClientError.Request.Invalid", "message": "Not Found"}]})
        if match[2] == "status":
            status = cluster.status(match[1])
            return self.say(200, {**status, "isHealthy": status.pop("healthy")})
        leads = cluster.groups[match[1]].leader == cluster.name
        good = {"available": True, "writable": leads, "read-only": not leads}[match[2]]
        return self.say(200 if good else 404, good)

    def say(self, status: int, document: t.Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - the name is the base class's
        pass


class ControlHandler(HttpHandler):
    """Faults, on the loopback: GET tells the state, PUT replaces the faults by a JSON document, ``{}`` heals."""

    def do_GET(self) -> None:
        self.say(200, {"name": self.standin.cluster.name, **self.standin.cluster.state()})

    def do_PUT(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        known = {"lag", "unhealthy", "not_participating", "databases", "cordoned", "partition", "freeze"}
        if not isinstance(document, dict) or set(document) - known:
            return self.say(400, {"accepted": sorted(known)})
        self.standin.cluster.fault = document
        return self.say(200, document)


class HttpServer(http.server.ThreadingHTTPServer):
    """TLS is shaken in the connection's own thread, so that one slow client holds nobody up."""

    tls: ssl.SSLContext | None = None
    daemon_threads = True
    request_queue_size = 64

    def finish_request(self, request: t.Any, client_address: t.Any) -> None:
        super().finish_request(self.tls.wrap_socket(request, server_side=True) if self.tls else request, client_address)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        pass


class BoltServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        pass


def place_of(address: str) -> tuple[str, int]:
    host, _colon, port = address.rpartition(":")
    return host, int(port)


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        standin = Standin(json.load(file))
    bolt = BoltServer(place_of(standin.config.get("bolt_listen", standin.me.bolt)), type("Bolt", (BoltHandler,), {"standin": standin}))
    web = HttpServer(place_of(standin.config.get("http_listen", standin.me.http)), type("Http", (HttpHandler,), {"standin": standin}))
    web.tls = standin.server_tls
    loops: list[t.Callable[[], None]] = [bolt.serve_forever, web.serve_forever]
    if standin.config.get("control"):
        loops.append(HttpServer(place_of(standin.config["control"]), type("Control", (ControlHandler,), {"standin": standin})).serve_forever)
    for loop in loops:
        threading.Thread(target=loop, daemon=True).start()
    for name in standin.cluster.order:
        if name != standin.cluster.name:
            threading.Thread(target=standin.listen_to, args=(name,), daemon=True).start()
    print(f"Started {standin.cluster.name}: Bolt {standin.me.bolt}, HTTPS {standin.me.http}", flush=True)
    while True:
        time.sleep(BEAT)
        if not standin.cluster.fault.get("freeze"):
            standin.cluster.tick()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
