# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers for the tests of both apps: Redis with the documented access rules, MinIO, and Neo4j Community."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib
import ipaddress
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
import uuid

import minio
import pytest
import redis
import vega_datasets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = pathlib.Path(__file__).parent
ADMIN = "admin-password"
PASSWORDS = {"api": "api-password", "pipeline": "pipeline-password"}
SOURCES = pathlib.Path(vega_datasets.__file__).parent / "_data"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: t.Callable[[], t.Any], seconds: float = 20.0, what: str = "the condition") -> t.Any:
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.05)


def documented_rules() -> dict[tuple[str, str], str]:
    """(server, user) -> ACL rule, from the README that operators copy them from."""
    text = (HERE / "pipeline/README.md").read_text(encoding="utf-8")
    found = re.findall(r"^# (\w+) server\nuser (\w+) on ([^\n]+)$", text, re.MULTILINE)
    rules = {(server, user): rule.replace("><password>", f">{PASSWORDS[user]}") for server, user, rule in found}
    assert set(rules) == {("cache", "api"), ("queue", "api"), ("queue", "pipeline")}
    return rules


class Certificates:
    """A private authority and a leaf for the loopback address, as files."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.authority, self.certificate, self.key = (str(directory / name) for name in ("ca.crt", "tls.crt", "tls.key"))
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        ca = self._build(self._ca_name, self._ca_key, x509.BasicConstraints(ca=True, path_length=0))
        pathlib.Path(self.authority).write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.renew()

    def renew(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._build(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "member")]), key, x509.BasicConstraints(ca=False, path_length=None))
        plain = serialization.NoEncryption()
        pathlib.Path(self.key).write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        pathlib.Path(self.certificate).write_bytes(leaf.public_bytes(serialization.Encoding.PEM))

    def _build(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, constraints: x509.BasicConstraints) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        usage = {f: False for f in ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")}
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(constraints, critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=constraints.ca, crl_sign=constraints.ca, **usage), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()), critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )


@dataclasses.dataclass
class RedisServer:
    port: int
    process: subprocess.Popen[bytes]

    def admin(self) -> redis.Redis:
        return redis.Redis(port=self.port, username="admin", password=ADMIN, socket_timeout=5)

    def refused(self) -> list[t.Any]:
        """What the access rules refused since the server started or was cleared."""
        with self.admin() as connection:
            return [entry for entry in connection.acl_log() if entry["reason"] != "auth"]


@contextlib.contextmanager
def run_redis(
    directory: pathlib.Path, users: dict[str, str], *options: str, mode: str = "redis-server", port: int | None = None, tls: Certificates | None = None
) -> t.Iterator[RedisServer]:
    binary = shutil.which(mode) or pytest.fail(f"{mode} is not installed: apt-get install redis-server redis-sentinel")
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "redis.conf"
    lines = ["bind 127.0.0.1", f"dir {directory}", "daemonize no", f"port {port}", *options]
    if tls is not None:
        lines[3:4] = [
            "port 0", f"tls-port {port}", f"tls-cert-file {tls.certificate}", f"tls-key-file {tls.key}", f"tls-ca-cert-file {tls.authority}",
            "tls-auth-clients no", "tls-replication yes",
        ]  # fmt: skip
    if mode == "redis-server":
        lines += ['save ""', "user default off", f"user admin on >{ADMIN} ~* &* +@all", *(f"user {name} on {rule}" for name, rule in users.items())]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen([binary, str(config)], stdout=log, stderr=log)
    server = RedisServer(port, process)
    try:
        wait_for(lambda: _listens(port), what=f"{mode} on port {port}")
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def redis_rules() -> dict[tuple[str, str], str]:
    return documented_rules()


@pytest.fixture(scope="session")
def _queue_server(tmp_path_factory: pytest.TempPathFactory, redis_rules: dict[tuple[str, str], str]) -> t.Iterator[RedisServer]:
    users = {user: rule for (server, user), rule in redis_rules.items() if server == "queue"}
    with run_redis(tmp_path_factory.mktemp("queue"), users) as server:
        yield server


@pytest.fixture(scope="session")
def _cache_server(tmp_path_factory: pytest.TempPathFactory, redis_rules: dict[tuple[str, str], str]) -> t.Iterator[RedisServer]:
    with run_redis(tmp_path_factory.mktemp("cache"), {"api": redis_rules["cache", "api"]}) as server:
        yield server


@contextlib.contextmanager
def _fresh(server: RedisServer) -> t.Iterator[RedisServer]:
    with server.admin() as connection:
        connection.flushall()
        connection.acl_log_reset()
    yield server
    refused = server.refused()
    assert not refused, f"the documented access rules refuse what the apps need: {refused}"


@pytest.fixture
def queue_server(_queue_server: RedisServer) -> t.Iterator[RedisServer]:
    with _fresh(_queue_server) as server:
        yield server


@pytest.fixture
def cache_server(_cache_server: RedisServer) -> t.Iterator[RedisServer]:
    with _fresh(_cache_server) as server:
        yield server


def minio_binary(directory: pathlib.Path) -> str:
    """From MINIO_BINARY, PATH, or a MinIO image that the container engine already has."""
    given = os.environ.get("MINIO_BINARY") or shutil.which("minio")
    if given:
        return given
    docker = shutil.which("docker")
    images = []
    if docker:
        listing = subprocess.run([docker, "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=False)
        images = [line for line in listing.stdout.split() if line.partition(":")[0].rpartition("/")[2] == "minio"]
    for image in images:
        created = subprocess.run([docker, "create", image], capture_output=True, text=True, check=False)
        identifier = created.stdout.strip()
        if created.returncode:
            continue
        try:
            target = directory / "minio"
            for path in ("/usr/local/bin/minio", "/usr/bin/minio"):
                if subprocess.run([docker, "cp", f"{identifier}:{path}", str(target)], capture_output=True, check=False).returncode == 0:
                    return str(target)
        finally:
            subprocess.run([docker, "rm", identifier], capture_output=True, check=False)
    return pytest.fail("no MinIO: set MINIO_BINARY, put `minio` into PATH, or build the lab's image of it")


@dataclasses.dataclass
class Buckets:
    """Three buckets of a test's own, on one server."""

    endpoint: str
    client: minio.Minio
    names: dict[str, str]

    def environment(self) -> dict[str, str]:
        return {
            "MINIO_ENDPOINT": self.endpoint,
            "MINIO_ACCESS_KEY": "root-user",
            "MINIO_SECRET_KEY": "root-password",
            **{f"MINIO_BUCKET_{layer.upper()}": name for layer, name in self.names.items()},
        }

    def state(self, *layers: str) -> dict[str, tuple[str, t.Any]]:
        """Everything that lies in the buckets, comparable."""
        return {
            f"{layer}/{item.object_name}": (item.etag, item.last_modified)
            for layer in layers or self.names
            for item in self.client.list_objects(self.names[layer], recursive=True)
        }


@pytest.fixture(scope="session")
def _minio_server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[str]:
    directory = tmp_path_factory.mktemp("minio")
    port = free_port()
    environment = {**os.environ, "MINIO_ROOT_USER": "root-user", "MINIO_ROOT_PASSWORD": "root-password", "MINIO_BROWSER": "off"}
    with (directory / "minio.log").open("wb") as log:
        process = subprocess.Popen(
            [minio_binary(directory), "server", str(directory / "data"), "--address", f"127.0.0.1:{port}"], env=environment, stdout=log, stderr=log
        )
    try:
        client = minio.Minio(f"127.0.0.1:{port}", access_key="root-user", secret_key="root-password", secure=False)
        wait_for(lambda: _answers(client), 60, "MinIO")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: minio.Minio) -> bool:
    with contextlib.suppress(Exception):
        client.list_buckets()
        return True
    return False


def make_buckets(endpoint: str) -> Buckets:
    client = minio.Minio(endpoint, access_key="root-user", secret_key="root-password", secure=False, region="us-east-1")
    suffix = uuid.uuid4().hex[:8]
    names = {layer: f"{layer}-{suffix}" for layer in ("bronze", "silver", "gold")}
    for name in names.values():
        client.make_bucket(name)
    return Buckets(endpoint, client, names)


@pytest.fixture
def buckets(_minio_server: str) -> Buckets:
    return make_buckets(_minio_server)


NEO4J = "5.26.30"
NEO4J_PASSWORD = "neo4j-password"


def neo4j_jars() -> pathlib.Path:
    """The server's jars: in NEO4J_HOME_LIB, or fetched once from Maven Central."""
    given = os.environ.get("NEO4J_HOME_LIB")
    if given:
        return pathlib.Path(given)
    home = HERE.parent / f".cache/neo4j-{NEO4J}"
    if not (home / "lib").is_dir():
        maven = shutil.which("mvn") or pytest.fail("no Neo4j: set NEO4J_HOME_LIB to a directory with its jars, or install maven")
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as work:
            dependency = f"<dependency><groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{NEO4J}</version></dependency>"
            pathlib.Path(work, "pom.xml").write_text(
                '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>neo4j</artifactId>'
                f"<version>1</version><packaging>pom</packaging><dependencies>{dependency}</dependencies></project>",
                encoding="utf-8",
            )
            command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={work}/lib"]
            subprocess.run(command, cwd=work, check=True)
            os.replace(f"{work}/lib", home / "lib")  # whole or not at all
    return home / "lib"


class Neo4jServer:
    """One Community member on the loopback address, with Bolt over TLS."""

    login: bytes | None = None

    def __init__(self, home: pathlib.Path, tls: Certificates, port: int | None = None) -> None:
        self.home, self.port = home, port or free_port()
        self.uri = f"bolt+s://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        (home / "conf").mkdir(parents=True)
        certificates = home / "certificates"
        certificates.mkdir()
        shutil.copy(tls.certificate, certificates / "public.crt")
        shutil.copy(tls.key, certificates / "private.key")
        lines = (
            f"server.bolt.listen_address=127.0.0.1:{self.port}", f"server.bolt.advertised_address=127.0.0.1:{self.port}", "server.bolt.tls_level=REQUIRED",
            "server.http.enabled=false", "server.https.enabled=false",
            "dbms.ssl.policy.bolt.enabled=true", f"dbms.ssl.policy.bolt.base_directory={certificates}", "dbms.ssl.policy.bolt.client_auth=NONE",
            "db.tx_log.preallocate=false", "db.tx_log.rotation.size=16m", "server.memory.pagecache.size=16m", "dbms.usage_report.enabled=false",
            "internal.dbms.bolt.netty_server_shutdown_quiet_period=0",
        )  # fmt: skip
        (home / "conf/neo4j.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._set_password()

    def _set_password(self) -> None:
        """By the server's own tool, once; what it writes is the same for all members."""
        written = self.home / "data/dbms/auth.ini"
        if Neo4jServer.login is None:
            assert self._java("org.neo4j.cli.AdminTool", "dbms", "set-initial-password", NEO4J_PASSWORD).wait(600) == 0
            Neo4jServer.login = written.read_bytes()
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_bytes(Neo4jServer.login)

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        opened = (f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.nio", "java.io", "sun.nio.ch"))
        command = [
            "java",
            "-Xmx128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            *opened,
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-cp",
            f"{neo4j_jars()}/*",
            main,
            *arguments,
        ]
        environment = {**os.environ, "NEO4J_HOME": str(self.home), "NEO4J_CONF": str(self.home / "conf")}
        with (self.home / "console.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start(self) -> None:
        """Without waiting: two members start side by side."""
        self.process = self._java(
            "org.neo4j.server.CommunityEntryPoint", f"--home-dir={self.home}", f"--config-dir={self.home / 'conf'}", "--console-mode"
        )  # fmt: skip

    def wait(self) -> None:
        wait_for(lambda: _listens(self.port), 600, "Neo4j")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None


ReplicaSet = t.Any  # tests/standins/mongod/tests/replica.py: Cluster


@contextlib.contextmanager
def run_replica_set(directory: pathlib.Path) -> t.Iterator[ReplicaSet]:
    """Three members that speak MongoDB's protocol, with TLS and users, as the tests of the stand-in start them."""
    standins = HERE.parent / "tests/standins"
    sys.path += [str(standins), str(standins / "mongod/tests")]
    replica = importlib.import_module("replica")
    cluster = replica.Cluster(directory)
    try:
        cluster.start()
        cluster.initiate()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def example_config(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The example configuration with its /sources where the package keeps its files."""
    path = tmp_path_factory.mktemp("config") / "sources.yml"
    text = (HERE / "pipeline/sources.example.yml").read_text(encoding="utf-8")
    path.write_text(text.replace("file:///sources/", f"file://{SOURCES}/"), encoding="utf-8")
    return path


@pytest.fixture
def certificates(tmp_path: pathlib.Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def python_environment() -> dict[str, str]:
    """For child processes: the apps' own variables must not leak in from the outside."""
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {
        **{name: os.environ[name] for name in keep if name in os.environ},
        "PYTHONPATH": os.pathsep.join((str(HERE / "api"), str(HERE / "pipeline"))),
        "PYTHONUNBUFFERED": "1",
    }
