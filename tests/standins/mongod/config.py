# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration file and command line of mongod.

https://www.mongodb.com/docs/manual/reference/configuration-options/
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
from typing import Any

import yaml

from .common import Doc

# Option → accepted types. What is accepted but has no effect here: see README.md.
OPTIONS: dict[str, tuple[type, ...]] = {
    "net.port": (int,),
    "net.bindIp": (str,),
    "net.bindIpAll": (bool,),
    "net.ipv6": (bool,),
    "net.maxIncomingConnections": (int,),
    "net.compression.compressors": (str,),
    "net.unixDomainSocket.enabled": (bool,),
    "net.tls.mode": (str,),
    "net.tls.certificateKeyFile": (str,),
    "net.tls.clusterFile": (str,),
    "net.tls.CAFile": (str,),
    "net.tls.allowConnectionsWithoutCertificates": (bool,),
    "net.tls.allowInvalidHostnames": (bool,),
    "net.tls.disabledProtocols": (str,),
    "security.authorization": (str,),
    "security.clusterAuthMode": (str,),
    "security.keyFile": (str,),
    "security.javascriptEnabled": (bool,),
    "storage.dbPath": (str,),
    "storage.directoryPerDB": (bool,),
    "storage.engine": (str,),
    "storage.journal.commitIntervalMs": (int,),
    "storage.wiredTiger.engineConfig.cacheSizeGB": (int, float),
    "storage.wiredTiger.engineConfig.directoryForIndexes": (bool,),
    "storage.wiredTiger.engineConfig.journalCompressor": (str,),
    "storage.wiredTiger.collectionConfig.blockCompressor": (str,),
    "storage.oplogMinRetentionHours": (int, float),
    "replication.replSetName": (str,),
    "replication.oplogSizeMB": (int,),
    "replication.enableMajorityReadConcern": (bool,),
    "operationProfiling.mode": (str,),
    "operationProfiling.slowOpThresholdMs": (int,),
    "operationProfiling.slowOpSampleRate": (int, float),
    "systemLog.destination": (str,),
    "systemLog.path": (str,),
    "systemLog.logAppend": (bool,),
    "systemLog.logRotate": (str,),
    "systemLog.quiet": (bool,),
    "systemLog.verbosity": (int,),
    "systemLog.timeStampFormat": (str,),
    "processManagement.fork": (bool,),
    "processManagement.pidFilePath": (str,),
    "processManagement.timeZoneInfo": (str,),
}


class ConfigError(Exception):
    """What is wrong, as mongod says it."""


@dataclasses.dataclass
class Config:
    """What one server was started with."""

    options: Doc  # flat: "net.port" → 27017
    parameters: Doc  # setParameter
    argv: list[str]
    keys: list[str] = dataclasses.field(default_factory=list)

    def get(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)

    @property
    def port(self) -> int:
        return int(self.get("net.port", 27017))

    @property
    def addresses(self) -> list[str]:
        if self.get("net.bindIpAll"):
            return ["0.0.0.0"]
        return [part.strip() for part in str(self.get("net.bindIp", "127.0.0.1")).split(",")]

    @property
    def authorization(self) -> bool:
        """A key file turns authorization on, as with mongod."""
        return self.get("security.authorization") == "enabled" or bool(self.keys)

    @property
    def tls(self) -> bool:
        return bool(self.get("net.tls.mode", "disabled") != "disabled")

    @property
    def set_name(self) -> str | None:
        name = self.get("replication.replSetName")
        return str(name) if name else None

    @property
    def dbpath(self) -> pathlib.Path:
        return pathlib.Path(self.get("storage.dbPath", "/data/db"))


def flatten(document: Any, prefix: str = "") -> Doc:
    """Nested YAML → flat names; both spellings are allowed in a file."""
    flat: Doc = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        elif value is not None:
            flat[name] = value
    return flat


def check(options: Doc) -> None:
    """Refuse what mongod refuses. Raises ConfigError."""
    for name, value in options.items():
        if name not in OPTIONS:
            raise ConfigError(f"Unrecognized option: {name}")
        if not isinstance(value, OPTIONS[name]) or isinstance(value, bool) and bool not in OPTIONS[name]:
            raise ConfigError(f'Error parsing option "{name}" as {OPTIONS[name][0].__name__}: {value!r}')
    mode = options.get("net.tls.mode", "disabled")
    if mode not in ("disabled", "requireTLS", "allowTLS", "preferTLS"):
        raise ConfigError(f"unsupported value for tlsMode {mode}")
    if mode != "disabled" and not options.get("net.tls.certificateKeyFile"):
        raise ConfigError("need tlsCertificateKeyFile or certificateSelector to be set when TLS is enabled")
    if options.get("security.authorization", "disabled") not in ("enabled", "disabled"):
        raise ConfigError("security.authorization must be either 'enabled' or 'disabled'")
    if options.get("operationProfiling.mode", "off") not in ("off", "slowOp", "all"):
        raise ConfigError("operationProfiling.mode must be either 'off', 'slowOp' or 'all'")
    if options.get("systemLog.destination", "file") not in ("file", "syslog"):
        raise ConfigError("systemLog.destination must be either 'file' or 'syslog'")
    if options.get("systemLog.destination") == "file" and not options.get("systemLog.path"):
        raise ConfigError("systemLog.path is required when systemLog.destination is file")
    cache = options.get("storage.wiredTiger.engineConfig.cacheSizeGB")
    if cache is not None and not 0.25 <= cache <= 10000:
        raise ConfigError(f"storage.wiredTiger.engineConfig.cacheSizeGB must be between 0.25 and 10000, is {cache}")
    if not 0 < options.get("net.port", 27017) < 65536:
        raise ConfigError("net.port must be between 1 and 65535")


def read_keys(path: str) -> list[str]:
    """The keys of a key file: one string, or a YAML list of strings of which any is accepted.

    https://www.mongodb.com/docs/manual/core/security-internal-authentication/#keyfiles. Raises ConfigError.
    """
    file = pathlib.Path(path)
    try:
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"permissions on {path} are too open")
        text = file.read_text()
    except OSError as error:
        raise ConfigError(f"Error reading file {path}: {error.strerror}") from None
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        parsed = text
    keys = ["".join(str(key).split()) for key in (parsed if isinstance(parsed, list) else [text])]
    for key in keys:
        if not 6 <= len(key) <= 1024:
            raise ConfigError(f"security key in {path} has length {len(key)}, must be between 6 and 1024 chars")
    if not keys:
        raise ConfigError(f"security key in {path} is empty")
    return keys


def parse(argv: list[str]) -> Config:
    """The command line and the file it names. Raises ConfigError."""
    parser = argparse.ArgumentParser("mongod", allow_abbrev=False)
    parser.add_argument("-f", "--config")
    parser.add_argument("--port", type=int)
    parser.add_argument("--bind_ip")
    parser.add_argument("--bind_ip_all", action="store_true")
    parser.add_argument("--dbpath")
    parser.add_argument("--replSet")
    parser.add_argument("--keyFile")
    parser.add_argument("--auth", action="store_true")
    parser.add_argument("--oplogSize", type=int)
    parser.add_argument("--setParameter", action="append", default=[])
    parser.add_argument("--version", action="store_true")
    given = parser.parse_args(argv)
    options: Doc = {}
    parameters: Doc = {}
    if given.config:
        try:
            document = yaml.safe_load(pathlib.Path(given.config).read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"Error reading config file {given.config}: {error}") from None
        if not isinstance(document, dict):
            raise ConfigError("Error parsing YAML config file: not a map")
        parameters = {name: value for name, value in (document.pop("setParameter", None) or {}).items()}
        options = flatten(document)
    for name, value in {
        "net.port": given.port,
        "net.bindIp": given.bind_ip,
        "net.bindIpAll": given.bind_ip_all or None,
        "storage.dbPath": given.dbpath,
        "replication.replSetName": given.replSet,
        "replication.oplogSizeMB": given.oplogSize,
        "security.keyFile": given.keyFile,
        "security.authorization": "enabled" if given.auth else None,
    }.items():
        if value is not None:
            options[name] = value
    for pair in given.setParameter:
        name, _, text = pair.partition("=")
        parameters[name] = yaml.safe_load(text)
    check(options)
    config = Config(options, parameters, argv)
    if options.get("security.keyFile"):
        config.keys = read_keys(options["security.keyFile"])
    if config.set_name and options.get("security.authorization") == "enabled" and not config.keys:
        raise ConfigError("security.keyFile is required when authorization is enabled with replica sets")
    return config


def version_as() -> str:
    """The version that this server says it has."""
    return os.environ.get("MONGOD_STANDIN_VERSION", "7.0.14")
