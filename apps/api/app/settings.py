# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the API takes from the environment. Each secret X may be given as X or, better, as X_FILE."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t

from . import __version__
from .environment import Reader
from .passwords import hash_password, parse_hash

_SIZE = r"[1-9][0-9]*(\.[0-9]+)?(KB|MB|GB|KiB|MiB|GiB)"
ROLES = ("reader", "admin")


class SettingsError(ValueError):
    def __init__(self, findings: t.Sequence[str]) -> None:
        self.findings = list(findings)
        super().__init__("; ".join(self.findings))


@dataclasses.dataclass(frozen=True)
class User:
    name: str
    password_hash: str = dataclasses.field(repr=False)
    roles: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class MongoSettings:
    """Documents and the outbox."""

    uri: str
    username: str
    password: str = dataclasses.field(repr=False)
    ca_file: str | None
    database: str

    @classmethod
    def load(cls, env: Reader) -> MongoSettings | None:
        """None where MONGODB_URI is not set; what is wrong is added to the reader's findings."""
        uri = env.text("MONGODB_URI")
        # the value is not echoed: what is wrong with it may be that it holds a password
        if uri and not re.fullmatch(r"mongodb(\+srv)?://[^@/?\s]+(/[^@\s]*)?", uri):
            env.findings.append("MONGODB_URI is not accepted; accepted: mongodb://host:port,host:port/?replicaSet=name, without user and password")
        settings = cls(
            uri=uri,
            username=env.text("MONGODB_USERNAME"),
            password=env.secret("MONGODB_PASSWORD"),
            ca_file=env.file("MONGODB_CA_FILE"),
            database=env.matching("MONGODB_DATABASE", "platform", r"[A-Za-z0-9_-]{1,38}", "letters, digits, - and _"),
        )
        if bool(settings.username) != bool(settings.password):
            env.findings.append("MONGODB_USERNAME and MONGODB_PASSWORD_FILE: set both or neither")
        return settings if uri else None


@dataclasses.dataclass(frozen=True)
class GraphSettings:
    """Relations. `uris`: one a Community member (bolt+s), or the cluster's (neo4j+s). `max_lag`: changes that a member may be behind and still be read."""

    uris: tuple[str, ...]
    username: str
    password: str = dataclasses.field(repr=False)
    ca_file: str | None
    edition: str
    max_lag: int

    @classmethod
    def load(cls, env: Reader) -> GraphSettings | None:
        """None where NEO4J_URIS is not set; what is wrong is added to the reader's findings."""
        edition = env.choice("NEO4J_EDITION", "community", ("community", "enterprise"))
        scheme = "bolt+s" if edition == "community" else "neo4j+s"
        uris = env.words("NEO4J_URIS")
        for uri in uris:
            if not re.fullmatch(re.escape(scheme) + r"://[A-Za-z0-9.-]+:[0-9]{1,5}", uri):
                env.findings.append(f"NEO4J_URIS: not accepted with edition {edition}; accepted: {scheme}://host:port,..., without user and password")
        if len(set(uris)) != len(uris):
            env.findings.append("NEO4J_URIS: a member is named twice")
        settings = cls(
            uris=uris,
            username=env.text("NEO4J_USERNAME", "neo4j"),
            password=env.secret("NEO4J_PASSWORD", required=bool(uris)),
            ca_file=env.file("NEO4J_CA_FILE"),
            edition=edition,
            max_lag=env.integer("NEO4J_MAX_LAG", 100, 0, 1_000_000),
        )
        return settings if uris else None


def load_stores(env: Reader) -> tuple[MongoSettings | None, GraphSettings | None]:
    mongodb, neo4j = MongoSettings.load(env), GraphSettings.load(env)
    if neo4j and not mongodb:
        env.findings.append("NEO4J_URIS needs MONGODB_URI: every change of the graph is first a record in MongoDB")
    return mongodb, neo4j


@dataclasses.dataclass(frozen=True)
class Settings:
    host: str
    port: int
    reload: bool
    version: str
    log_level: str
    # object store
    minio_endpoint: str
    minio_access_key: str = dataclasses.field(repr=False)
    minio_secret_key: str = dataclasses.field(repr=False)
    minio_secure: bool
    minio_ca_file: str | None
    minio_region: str
    bucket_bronze: str
    bucket_silver: str
    bucket_gold: str
    # DuckDB
    duckdb_path: str
    duckdb_read_only: bool
    duckdb_memory_limit: str
    duckdb_threads: int
    duckdb_cache_bytes: int
    query_timeout: int
    query_concurrency: int
    # Redis
    redis_host: str
    redis_port: int
    redis_queue_host: str
    redis_queue_port: int
    redis_sentinels: tuple[tuple[str, int], ...]
    redis_sentinel_username: str
    redis_sentinel_password: str = dataclasses.field(repr=False)
    redis_sentinel_cache: str
    redis_sentinel_queue: str
    redis_username: str
    redis_password: str = dataclasses.field(repr=False)
    redis_tls: bool
    redis_ca_file: str | None
    pipeline_queue: str
    pipeline_job_timeout: int
    pipeline_retries: int
    # documents and relations; None: not configured, and without their endpoints
    mongodb: MongoSettings | None
    neo4j: GraphSettings | None
    # security
    secret_key: str = dataclasses.field(repr=False)
    algorithm: str
    token_ttl: int
    users: dict[str, User]
    login_attempts: int
    public_tables: tuple[str, ...]
    cors_origins: tuple[str, ...]
    forwarded_allow_ips: str
    tls_cert_file: str | None
    tls_key_file: str | None
    # behaviour
    cache_ttl: int
    refresh_seconds: int
    drain_seconds: int
    shutdown_grace_seconds: int

    @property
    def redis_configured(self) -> bool:
        return bool(self.redis_host or self.redis_sentinels)

    def is_public(self, table: str) -> bool:
        return "*" in self.public_tables or table in self.public_tables

    @classmethod
    def load(cls, environ: t.Mapping[str, str] | None = None) -> Settings:
        env = Reader(os.environ if environ is None else environ)
        minio_ca = env.file("MINIO_CA_FILE")
        mongodb, neo4j = load_stores(env)
        redis_host, redis_port = env.text("REDIS_HOST"), env.integer("REDIS_PORT", 6379, 1, 65535)
        settings = cls(
            host=env.text("API_HOST", "0.0.0.0"),  # noqa: S104 - inside the container's own network
            port=env.integer("API_PORT", 8000, 1, 65535),
            reload=env.boolean("API_RELOAD", False),
            version=env.text("API_VERSION", __version__),
            log_level=env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
            minio_endpoint=env.address("MINIO_ENDPOINT", required=True),
            minio_access_key=env.secret("MINIO_ACCESS_KEY", required=True),
            minio_secret_key=env.secret("MINIO_SECRET_KEY", required=True),
            minio_secure=env.boolean("MINIO_SECURE", minio_ca is not None),
            minio_ca_file=minio_ca,
            minio_region=env.text("MINIO_REGION", "us-east-1"),
            bucket_bronze=env.text("MINIO_BUCKET_BRONZE", "bronze"),
            bucket_silver=env.text("MINIO_BUCKET_SILVER", "silver"),
            bucket_gold=env.text("MINIO_BUCKET_GOLD", "gold"),
            duckdb_path=env.text("DUCKDB_PATH", "/data/duckdb"),
            duckdb_read_only=env.boolean("DUCKDB_READ_ONLY", True),
            duckdb_memory_limit=env.matching("DUCKDB_MEMORY_LIMIT", "256MB", _SIZE, "a number with a unit, such as 256MB or 2GB"),
            duckdb_threads=env.integer("DUCKDB_THREADS", 2, 1, 128),
            duckdb_cache_bytes=env.integer("DUCKDB_CACHE_BYTES", 1 << 30, 1 << 20, 1 << 50),
            query_timeout=env.integer("QUERY_TIMEOUT_SECONDS", 10, 1, 300),
            query_concurrency=env.integer("QUERY_CONCURRENCY", 8, 1, 128),
            redis_host=redis_host,
            redis_port=redis_port,
            redis_queue_host=env.text("REDIS_QUEUE_HOST", redis_host),
            redis_queue_port=env.integer("REDIS_QUEUE_PORT", redis_port, 1, 65535),
            redis_sentinels=env.addresses("REDIS_SENTINELS"),
            redis_sentinel_username=env.text("REDIS_SENTINEL_USERNAME"),
            redis_sentinel_password=env.secret("REDIS_SENTINEL_PASSWORD"),
            redis_sentinel_cache=env.text("REDIS_SENTINEL_CACHE", "cache"),
            redis_sentinel_queue=env.text("REDIS_SENTINEL_QUEUE", "queue"),
            redis_username=env.text("REDIS_USERNAME"),
            redis_password=env.secret("REDIS_PASSWORD"),
            redis_tls=env.boolean("REDIS_TLS", False),
            redis_ca_file=env.file("REDIS_CA_FILE"),
            pipeline_queue=env.matching("PIPELINE_QUEUE", "pipeline", r"[A-Za-z0-9_-]+", "letters, digits, - and _"),
            pipeline_job_timeout=env.integer("PIPELINE_JOB_TIMEOUT", 1800, 10, 86400),
            pipeline_retries=env.integer("PIPELINE_RETRIES", 3, 0, 20),
            mongodb=mongodb,
            neo4j=neo4j,
            secret_key=env.secret("SECRET_KEY", required=True),
            algorithm=env.choice("ALGORITHM", "HS256", ("HS256", "HS384", "HS512")),
            token_ttl=env.integer("TOKEN_TTL_SECONDS", 3600, 60, 604800),
            users=_users(env),
            login_attempts=env.integer("LOGIN_ATTEMPTS_PER_MINUTE", 10, 1, 10000),
            public_tables=env.words("PUBLIC_TABLES"),
            cors_origins=env.words("CORS_ORIGINS"),
            forwarded_allow_ips=env.text("FORWARDED_ALLOW_IPS", "127.0.0.1"),
            tls_cert_file=env.file("TLS_CERT_FILE"),
            tls_key_file=env.file("TLS_KEY_FILE"),
            cache_ttl=env.integer("CACHE_TTL_SECONDS", 300, 0, 86400),
            refresh_seconds=env.integer("TABLES_REFRESH_SECONDS", 5, 0, 3600),
            drain_seconds=env.integer("DRAIN_SECONDS", 5, 0, 300),
            shutdown_grace_seconds=env.integer("SHUTDOWN_GRACE_SECONDS", 20, 1, 600),
        )
        if settings.secret_key and len(settings.secret_key) < 32:
            env.findings.append("SECRET_KEY is too short; accepted: at least 32 characters")
        if not settings.users and not env.findings:
            env.findings.append("no user: set API_USERS_FILE or API_ADMIN_PASSWORD_FILE")
        if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
            env.findings.append("TLS_CERT_FILE and TLS_KEY_FILE: set both or neither")
        for origin in settings.cors_origins:
            if origin == "*":
                env.findings.append("CORS_ORIGINS: '*' is not accepted; accepted: origins such as https://host, separated by commas")
            elif not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", origin):
                env.findings.append(f"CORS_ORIGINS: {origin!r} is not accepted; accepted: origins such as https://host, without a path")
        if env.findings:
            raise SettingsError(env.findings)
        return settings


def _users(env: Reader) -> dict[str, User]:
    users: dict[str, User] = {}
    document: t.Any = {}
    text = env.secret("API_USERS")
    if text:
        try:
            document = json.loads(text)
        except ValueError as exc:
            env.findings.append(f"API_USERS_FILE is not valid JSON: {exc}")
    if not isinstance(document, dict):
        env.findings.append("API_USERS_FILE: accepted: an object of user name -> {password_hash, roles}")
        return users
    for name, entry in document.items():
        if not isinstance(entry, dict) or set(entry) - {"password_hash", "roles"} or not isinstance(entry.get("password_hash"), str):
            env.findings.append(f"API_USERS_FILE: user {name!r}: accepted: an object with password_hash and roles")
            continue
        try:
            parse_hash(entry["password_hash"])
        except ValueError as exc:
            env.findings.append(f"API_USERS_FILE: user {name!r}: password_hash: {exc}")
            continue
        roles = entry.get("roles", ["reader"])
        if not isinstance(roles, list) or any(role not in ROLES for role in roles):
            env.findings.append(f"API_USERS_FILE: user {name!r}: roles: {roles!r} is not accepted; accepted: a list of {', '.join(ROLES)}")
            continue
        users[name] = User(name, entry["password_hash"], tuple(roles))
    password = env.secret("API_ADMIN_PASSWORD")
    if password:
        if len(password) < 12:
            env.findings.append("API_ADMIN_PASSWORD is too short; accepted: at least 12 characters")
        users["admin"] = User("admin", hash_password(password), ("reader", "admin"))
    return users
