# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Replica sets of stand-in processes on loopback, with TLS of a throw-away authority and a key file."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import json
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pymongo
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mongod import wire
from mongod.auth import ScramClient
from ports import free_ports

STANDINS = pathlib.Path(__file__).resolve().parents[2]
ROOT_PASSWORD = "root-password"
# Short, but longer on a machine that has other work: members that are not heard of in time are voted out.
SLOWNESS = max(1.0, min(4.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 2))
SETTINGS = {"heartbeatIntervalMillis": 200, "heartbeatTimeoutSecs": int(2 * SLOWNESS), "electionTimeoutMillis": int(1500 * SLOWNESS)}
PATIENCE = 120.0  # seconds for anything that must happen


class Authority:
    """A certificate authority for one test run."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in tests")])
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, key: Any, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, file: pathlib.Path) -> int:
        """Key and certificate in one file, as mongod wants them. The serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "member")]), key.public_key(), ca=False)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
        return int(certificate.serial_number)


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The condition's first true value; errors of a server that is not there count as not yet."""
    deadline, last = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
            last = value
        except (pymongo.errors.PyMongoError, OSError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout} s, last {last!r}")


class Raw:
    """A connection without a driver's help: no monitor, no session of its own."""

    def __init__(self, port: int, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        self._sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="127.0.0.1")
        self._file = self._sock.makefile("rb")

    def ask(self, database: str, body: dict[str, Any]) -> dict[str, Any]:
        self._sock.sendall(wire.pack({**body, "$db": database})[1])
        (length,) = struct.unpack("<i", self._file.read(4))
        return dict(bson.decode(self._file.read(length - 4)[12 + 5 :]))

    def login(self, user: str, password: str) -> Raw:
        scram = ScramClient(user, password)
        start = self.ask("admin", {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": scram.first()})
        end = self.ask("admin", {"saslContinue": 1, "conversationId": 1, "payload": scram.final(start["payload"])})
        scram.check(end["payload"])
        return self

    def close(self) -> None:
        self._sock.close()


class Member:
    """One process."""

    def __init__(self, folder: pathlib.Path, authority: Authority, set_name: str | None, **options: Any) -> None:
        self.folder, self.authority = folder, authority
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.control = free_ports(2)
        self.host = f"127.0.0.1:{self.port}"
        self.pem = folder / "member.pem"
        self.serial = authority.issue(self.pem)
        self.keyfile = folder / "keyfile"
        self.write_key("the-key-of-this-set")
        self.version = "7.0.14"
        self.environment: dict[str, str] = {}
        config: dict[str, Any] = {
            "net": {
                "port": self.port,
                "bindIp": "127.0.0.1",
                "tls": {
                    "mode": "requireTLS",
                    "certificateKeyFile": str(self.pem),
                    "CAFile": str(authority.file),
                    "allowConnectionsWithoutCertificates": True,
                },
            },
            "security": {"authorization": "enabled", "keyFile": str(self.keyfile)},
            "storage": {"dbPath": str(folder / "db")},
            "replication": {"replSetName": set_name, "oplogSizeMB": options.pop("oplog", 64)},
            "setParameter": {"shutdownTimeoutMillisForSignaledShutdown": 2000, "periodicNoopIntervalSecs": 1},
        }
        self.config = folder / "mongod.conf"
        self.config.write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}

    def write_key(self, *keys: str) -> None:
        self.keyfile.touch(mode=0o600)
        self.keyfile.write_text(keys[0] if len(keys) == 1 else yaml.safe_dump(list(keys)))

    def start(self) -> Member:
        environment = {
            **os.environ,
            "PYTHONPATH": str(STANDINS),
            "MONGOD_STANDIN_VERSION": self.version,
            "MONGOD_STANDIN_CONTROL": f"127.0.0.1:{self.control}",
            **self.environment,
        }
        with open(self.folder / "log", "ab") as log:
            command = [sys.executable, "-m", "mongod", "--config", str(self.config)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        if self.running:
            self.kill()

    def client(self, user: str | None = "root", password: str = ROOT_PASSWORD, **options: Any) -> Any:
        """A client of this member alone."""
        login: dict[str, Any] = {"username": user, "password": password, "authSource": "admin"} if user else {}
        given: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 3000, "heartbeatFrequencyMS": 500, **options}
        return pymongo.MongoClient(self.host, tls=True, tlsCAFile=str(self.authority.file), **login, **given)

    def raw(self) -> contextlib.closing[Raw]:
        return contextlib.closing(Raw(self.port, self.authority))

    @property
    def admin(self) -> Any:
        """The administrator's database of a client that is kept."""
        if "root" not in self._clients:
            self._clients["root"] = self.client()
        return self._clients["root"].admin

    def hello(self) -> dict[str, Any]:
        if "anyone" not in self._clients:
            self._clients["anyone"] = self.client(user=None)
        return dict(self._clients["anyone"].admin.command("hello"))

    def status(self) -> dict[str, Any]:
        return dict(self.admin.command("replSetGetStatus"))

    def rbid(self) -> int:
        """How often this member has rolled back, plus one."""
        return int(self.admin.command("serverStatus")["repl"]["rbid"])

    def fault(self, **request: Any) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self.control), 5) as sock:
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(sock.makefile().readline())
        assert "error" not in answer, answer
        return dict(answer)

    def state(self) -> str:
        """The member's state in its own words, also when it answers no client."""
        return str(self.fault()["state"])

    def log(self) -> str:
        return (self.folder / "log").read_text()


class Cluster:
    """The members of one set."""

    def __init__(self, folder: pathlib.Path, size: int = 3, **options: Any) -> None:
        self.folder, self.options = folder, options
        self.authority = Authority(folder)
        self.members: list[Member] = []
        for _ in range(size):
            self.add()

    def add(self) -> Member:
        member = Member(self.folder / f"m{len(self.members)}", self.authority, "rs0", **dict(self.options))
        self.members.append(member)
        return member

    def start(self) -> None:
        for member in self.members:
            member.start()
        for member in self.members:
            wait_for(member.hello, f"{member.host} starts")

    def initiate(self, *extra: dict[str, Any]) -> None:
        """As a role does it: on one member, through the localhost exception; then the first user."""
        first = self.members[0]
        lines = [{"_id": i, "host": member.host, **(extra[i] if i < len(extra) else {})} for i, member in enumerate(self.members)]
        with first.client(user=None) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": lines, "settings": SETTINGS})
        wait_for(self._first_user, "the first user")
        wait_for(self.healthy, "a healthy set")

    def _first_user(self) -> bool:
        with self.primary.client(user=None) as client:
            try:
                client.admin.command("createUser", "root", pwd=ROOT_PASSWORD, roles=["root"])
            except pymongo.errors.OperationFailure as error:
                # An election in between: the user may be there in spite of an error. If not, nobody can log in later.
                if error.code not in (13, 51003):
                    raise
        return True

    def healthy(self) -> bool:
        """One primary, everybody else follows it, in the eyes of each."""
        running = [member for member in self.members if member.running]
        # Nobody can log in on an arbiter: it has no users.
        for member in (member for member in running if not member.hello().get("arbiterOnly")):
            states = sorted(line["stateStr"] for line in member.status()["members"])
            if len(states) != len(running) or states.count("PRIMARY") != 1 or set(states) - {"PRIMARY", "SECONDARY", "ARBITER"}:
                return False
        hello = [member.hello() for member in running]
        return len({answer.get("primary") for answer in hello}) == 1 and sum(answer["isWritablePrimary"] for answer in hello) == 1

    @property
    def primary(self) -> Member:
        def find() -> Member | None:
            found = [member for member in self.members if member.running and member.hello().get("isWritablePrimary")]
            return found[0] if len(found) == 1 else None

        member: Member = wait_for(find, "one primary")
        return member

    @property
    def secondaries(self) -> list[Member]:
        return [member for member in self.members if member.running and member.hello().get("secondary")]

    def uri(self) -> str:
        return ",".join(member.host for member in self.members)

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[Any]:
        """A client of the whole set, as an application has it."""
        given = {"w": "majority", "retryWrites": True, "serverSelectionTimeoutMS": 60000, "heartbeatFrequencyMS": 500, **options}
        client: Any = pymongo.MongoClient(
            self.uri(),
            replicaSet="rs0",
            tls=True,
            tlsCAFile=str(self.authority.file),
            username="root",
            password=ROOT_PASSWORD,
            **given,
        )
        with client:
            yield client

    def heal(self) -> None:
        """Everything running, no faults, a healthy set."""
        for member in self.members:
            if not member.running:
                member.start()
        for member in self.members:
            wait_for(functools.partial(member.fault, heal=True), f"{member.host} runs")
        wait_for(self.healthy, "a healthy set")

    def close(self) -> None:
        for member in self.members:
            member.close()
