# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a MinIO cluster, with the official library and its HTTP client.

Private to this collection.
"""

from __future__ import annotations

import email.utils
import functools
import io
import json
import re
import ssl
import time
import traceback
import typing as t
import uuid

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.addresses import names_of
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.minio import Details, Drive, Node, Probe, Server, Snapshot, write_quorum
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

try:
    import urllib3
    from minio import Minio
    from minio.credentials.providers import StaticProvider
    from minio.error import MinioAdminException, MinioException, S3Error
    from minio.minioadmin import MinioAdmin

    MINIO_ERROR: str | None = None
except ImportError:
    MINIO_ERROR = traceback.format_exc()

CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 5.0
# A node through which the probe object went is not asked for it again for so long, in seconds.
PROBE_AGE = 10.0
PROBE_PREFIX = "platform-gate"
# Refusals of the probe object that say nothing about the node.
NOT_THE_NODES_FAULT = ("AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "SignatureDoesNotMatch")


class Look:
    """Looks at a cluster, again and again over the same connections.

    ``members`` maps names to addresses as C(host:port). ``probe_through`` names the members through which a probe object is written to
    ``probe_bucket``; None where nothing may be written. Raises OSError or ssl.SSLError where ``ca_file`` can't be used, nothing later.
    """

    def __init__(
        self,
        members: t.Mapping[str, str],
        access_key: str,
        secret_key: str,
        ca_file: str | None = None,
        region: str = "us-east-1",
        target: str = "",
        probe_bucket: str = "",
        probe_through: t.Collection[str] | None = None,
    ) -> None:
        self.members = members
        self.target = target
        self.region = region
        self.probe_bucket = probe_bucket
        self.probe_through = probe_through
        self.access_key, self.secret_key = access_key, secret_key
        self.http = urllib3.PoolManager(
            num_pools=len(members),
            ssl_context=ssl.create_default_context(cafile=ca_file or None),
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            retries=False,
        )
        self.names = names_of(members)
        self.probed: dict[str, float] = {}

    def fetch(self) -> Snapshot:
        nodes = tuple(together({name: functools.partial(self.node, name) for name in self.members}).values())
        details, error = self.details(nodes)
        probes = None
        if self.probe_through is not None:
            ready = [node.name for node in nodes if node.ready and node.name in self.probe_through]
            probes = together({name: functools.partial(self.probe, name) for name in ready})
        return Snapshot(nodes, details, error, probes)

    def node(self, name: str) -> Node:
        """A node by itself. Its answer for maintenance tells all where it is good: one request for a healthy node."""
        begin = time.time()
        try:
            answer = self.get(name, "/minio/health/cluster?maintenance=true")
            end = time.time()
            status = answer.headers.get("x-minio-server-status", "")
            spare = {200: True, 412: False}.get(answer.status)
            ready = True if spare else self.get(name, "/minio/health/cluster").status == 200
        except urllib3.exceptions.HTTPError as exc:
            return Node(name, answered=False, refused="refused" in str(exc), error=plain(exc))
        return Node(
            name,
            status=status,
            ready=ready and not status,
            spare=None if status else spare,
            healing=None if status or spare is None else int(answer.headers.get("x-minio-healing-drives", 0)),
            skew=least_skew(answer.headers.get("date", ""), begin, end),
            error="" if spare is not None or status else f"answers {answer.status} to /minio/health/cluster?maintenance=true",
        )

    def get(self, name: str, path: str) -> t.Any:
        return self.http.request("GET", f"https://{self.members[name]}{path}")

    def details(self, nodes: t.Sequence[Node]) -> tuple[Details | None, str]:
        """The cluster as one initialised node sees it, the target only where there is no other; or why it can't be seen."""
        error = ""
        for node in sorted(nodes, key=lambda node: (not node.ready, node.name == self.target)):
            if node.answered and not node.status:
                admin = MinioAdmin(
                    endpoint=self.members[node.name],
                    credentials=StaticProvider(self.access_key, self.secret_key),
                    region=self.region,
                    http_client=self.http,
                )
                try:
                    return read_details(node.name, json.loads(admin.info()), self.names, time.time()), ""
                except (MinioException, MinioAdminException, urllib3.exceptions.HTTPError, KeyError, TypeError, ValueError) as exc:
                    error = error or f"{node.name} does not describe the cluster: {plain(exc)}."
        return None, error

    def probe(self, name: str) -> Probe:
        """Writes, reads and removes an object through a node."""
        if time.monotonic() - self.probed.get(name, -PROBE_AGE) < PROBE_AGE:
            return Probe()
        client = Minio(endpoint=self.members[name], access_key=self.access_key, secret_key=self.secret_key, region=self.region, http_client=self.http)
        where: dict[str, t.Any] = {"bucket_name": self.probe_bucket, "object_name": f"{PROBE_PREFIX}/{uuid.uuid4()}"}
        token = where["object_name"].encode()
        version = None
        try:
            try:
                version = client.put_object(**where, data=io.BytesIO(token), length=len(token)).version_id
                answer = client.get_object(**where)
                seen = answer.read()
                answer.release_conn()
            finally:
                # With the version, or a bucket with versioning would keep the object behind a delete marker. Where the answer to the writing was
                # lost the object may be there all the same; without versioning this removes it.
                client.remove_object(**where, version_id=version)
        except S3Error as exc:
            return Probe(f"{exc.code} for bucket {self.probe_bucket}", seen=exc.code not in NOT_THE_NODES_FAULT)
        except (MinioException, urllib3.exceptions.HTTPError, ValueError) as exc:
            return Probe(plain(exc))
        if seen != token:
            return Probe("what was read is not what was written")
        self.probed[name] = time.monotonic()
        return Probe()


def plain(exc: Exception) -> str:
    """An error for a person. Neither the library nor the server repeats secrets in these, but signed requests are long, so they are cut."""
    if isinstance(exc, MinioAdminException):
        # Its text has the whole answer; the code of the error is enough.
        code = re.search(r'"Code"\s*:\s*"(\w+)"', str(exc))
        return f"refused with {code.group(1)}" if code else "refused"
    cause = exc.__cause__ or exc.__context__
    if isinstance(exc, urllib3.exceptions.TimeoutError) and not isinstance(exc, urllib3.exceptions.NewConnectionError):
        return f"no answer within {READ_TIMEOUT:g} s"
    return str(cause if isinstance(cause, OSError) else exc)[:200]


def least_skew(date: str, begin: float, end: float) -> float | None:
    """Seconds by which a clock is wrong at least, when between begin and end it said a date that is cut to seconds."""
    try:
        said = email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
    return max(0.0, said - end, begin - (said + 1.0))


def read_details(observer: str, info: t.Mapping[str, t.Any], names: t.Mapping[str, str], now: float) -> Details:
    """MinIO's server information (madmin.InfoMessage) as details. Raises KeyError, TypeError or ValueError where it is something else."""
    if info["mode"] != "online":
        raise ValueError(f"mode is {info['mode']}")
    servers, drives = {}, []
    for entry in info["servers"]:
        name = names.get(entry["endpoint"], entry["endpoint"])
        servers[name] = Server(
            online=entry["state"] == "online",
            version=entry.get("version", ""),
            started=now - entry["uptime"] if "uptime" in entry else None,
            cut_off_from=tuple(names.get(address, address) for address, state in entry.get("network", {}).items() if state != "online"),
        )
        for drive in entry.get("drives", ()):
            total = drive.get("totalspace", 0)
            under_way = drive.get("healing", False)
            drives.append(
                Drive(
                    name=drive["endpoint"],
                    member=name,
                    pool=drive["pool_index"],
                    set=drive["set_index"],
                    state=drive["state"],
                    healing=under_way,
                    healed=drive.get("heal_info", {}).get("items_healed", 0) if under_way else 0,
                    free_percent=100.0 * drive.get("availspace", 0) / total if total else None,
                )
            )
    parity = info["backend"]["standardSCParity"]
    return Details(
        observer=observer,
        servers=servers,
        drives=tuple(drives),
        quorums=tuple(write_quorum(count, parity) for count in info["backend"]["totalDrivesPerSet"]),
        strangers=tuple(sorted(set(servers) - set(names.values()))),
    )
