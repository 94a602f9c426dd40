# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the pipeline takes from the environment. Each secret X may be given as X or, better, as X_FILE."""

from __future__ import annotations

import dataclasses
import os
import typing as t
import zoneinfo

from .environment import Reader
from .errors import ConfigError

_SIZE = r"[1-9][0-9]*(\.[0-9]+)?(KB|MB|GB|KiB|MiB|GiB)"


@dataclasses.dataclass(frozen=True)
class RedisSettings:
    host: str
    port: int
    sentinels: tuple[tuple[str, int], ...]
    sentinel_username: str
    sentinel_password: str = dataclasses.field(repr=False)
    master: str
    username: str
    password: str = dataclasses.field(repr=False)
    tls: bool
    ca_file: str | None

    @property
    def configured(self) -> bool:
        return bool(self.host or self.sentinels)


@dataclasses.dataclass(frozen=True)
class StoreSettings:
    endpoint: str
    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    secure: bool
    ca_file: str | None
    region: str
    bronze: str
    silver: str
    gold: str


@dataclasses.dataclass(frozen=True)
class AlertSettings:
    smtp_host: str
    smtp_port: int
    smtp_security: str
    smtp_username: str
    smtp_password: str = dataclasses.field(repr=False)
    smtp_ca_file: str | None
    sender: str
    recipients: tuple[str, ...]
    webhook_url: str = dataclasses.field(repr=False)
    platform: str

    @property
    def email(self) -> bool:
        return bool(self.smtp_host and self.recipients)


@dataclasses.dataclass(frozen=True)
class Settings:
    store: StoreSettings
    redis: RedisSettings
    alerts: AlertSettings
    config: str
    scratch: str
    memory_limit: str
    threads: int
    max_source_bytes: int
    gold_keep: int
    queue: str
    job_timeout: int
    retries: int
    retry_intervals: tuple[int, ...]
    runs_kept: int
    schedule: str
    timezone: str
    misfire_seconds: int
    metrics_host: str
    metrics_port: int
    health_file: str
    log_level: str

    @classmethod
    def load(cls, environ: t.Mapping[str, str] | None = None, *, store: bool = True, redis: bool = False) -> Settings:
        """Read and check; `store` and `redis` say which of the two the command cannot do without."""
        env = Reader(os.environ if environ is None else environ)
        store_ca = env.file("MINIO_CA_FILE")
        settings = cls(
            store=StoreSettings(
                endpoint=env.address("MINIO_ENDPOINT", required=store),
                access_key=env.secret("MINIO_ACCESS_KEY", required=store),
                secret_key=env.secret("MINIO_SECRET_KEY", required=store),
                secure=env.boolean("MINIO_SECURE", store_ca is not None),
                ca_file=store_ca,
                region=env.text("MINIO_REGION", "us-east-1"),
                bronze=env.text("MINIO_BUCKET_BRONZE", "bronze"),
                silver=env.text("MINIO_BUCKET_SILVER", "silver"),
                gold=env.text("MINIO_BUCKET_GOLD", "gold"),
            ),
            redis=RedisSettings(
                host=env.text("REDIS_HOST"),
                port=env.integer("REDIS_PORT", 6379, 1, 65535),
                sentinels=env.addresses("REDIS_SENTINELS"),
                sentinel_username=env.text("REDIS_SENTINEL_USERNAME"),
                sentinel_password=env.secret("REDIS_SENTINEL_PASSWORD"),
                master=env.text("REDIS_SENTINEL_QUEUE", "queue"),
                username=env.text("REDIS_USERNAME"),
                password=env.secret("REDIS_PASSWORD"),
                tls=env.boolean("REDIS_TLS", False),
                ca_file=env.file("REDIS_CA_FILE"),
            ),
            alerts=AlertSettings(
                smtp_host=env.text("ALERT_SMTP_HOST"),
                smtp_port=env.integer("ALERT_SMTP_PORT", 587, 1, 65535),
                smtp_security=env.choice("ALERT_SMTP_SECURITY", "starttls", ("starttls", "tls", "none")),
                smtp_username=env.text("ALERT_SMTP_USERNAME"),
                smtp_password=env.secret("ALERT_SMTP_PASSWORD"),
                smtp_ca_file=env.file("ALERT_SMTP_CA_FILE"),
                sender=env.text("ALERT_EMAIL_FROM", "pipeline@localhost"),
                recipients=env.words("ALERT_EMAIL_TO"),
                webhook_url=env.secret("ALERT_WEBHOOK_URL"),
                platform=env.text("ALERT_PLATFORM", "data platform"),
            ),
            config=env.text("PIPELINE_CONFIG", "/etc/pipeline/sources.yml"),
            scratch=env.text("PIPELINE_SCRATCH", "/tmp"),  # noqa: S108 - a tmpfs in the container
            memory_limit=env.matching("DUCKDB_MEMORY_LIMIT", "512MB", _SIZE, "a number with a unit, such as 512MB or 2GB"),
            threads=env.integer("DUCKDB_THREADS", 2, 1, 128),
            max_source_bytes=env.integer("PIPELINE_MAX_SOURCE_BYTES", 1 << 30, 1, 1 << 50),
            gold_keep=env.integer("PIPELINE_GOLD_KEEP", 3, 1, 1000),
            queue=env.matching("PIPELINE_QUEUE", "pipeline", r"[A-Za-z0-9_-]+", "letters, digits, - and _"),
            job_timeout=env.integer("PIPELINE_JOB_TIMEOUT", 1800, 10, 86400),
            retries=env.integer("PIPELINE_RETRIES", 3, 0, 20),
            retry_intervals=env.integers("PIPELINE_RETRY_INTERVALS", (10, 60, 300), 0, 86400),
            runs_kept=env.integer("PIPELINE_RUNS_KEPT", 200, 10, 10000),
            schedule=env.text("PIPELINE_SCHEDULE", "0 2 * * *"),
            timezone=env.text("PIPELINE_TIMEZONE", "UTC"),
            misfire_seconds=env.integer("PIPELINE_MISFIRE_SECONDS", 21600, 60, 604800),
            metrics_host=env.text("WORKER_METRICS_HOST", "0.0.0.0"),  # noqa: S104 - inside the container's own network
            metrics_port=env.integer("WORKER_METRICS_PORT", 9102, 0, 65535),
            health_file=env.text("PIPELINE_HEALTH_FILE", "/tmp/pipeline.health"),  # noqa: S108
            log_level=env.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        )
        if redis and not settings.redis.configured:
            env.findings.append("neither REDIS_SENTINELS nor REDIS_HOST is set")
        try:
            zoneinfo.ZoneInfo(settings.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            env.findings.append(f"PIPELINE_TIMEZONE: {settings.timezone!r} is not a time zone; accepted: a name such as America/Sao_Paulo")
        import croniter

        if not croniter.croniter.is_valid(settings.schedule) or len(settings.schedule.split()) != 5:
            env.findings.append(f"PIPELINE_SCHEDULE: {settings.schedule!r} is not accepted; accepted: five cron fields such as '0 2 * * *'")
        if settings.alerts.webhook_url and not settings.alerts.webhook_url.startswith(("https://", "http://")):
            env.findings.append("ALERT_WEBHOOK_URL: not an http(s) URL")
        if env.findings:
            raise ConfigError(env.findings)
        return settings
