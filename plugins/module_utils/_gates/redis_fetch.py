# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at Redis servers and Sentinels, with the official library.

Private to this collection.
"""

from __future__ import annotations

import functools
import time
import traceback
import typing as t
import uuid

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.addresses import join, names_of, split
from ansible_collections.novacorrente.platform.plugins.module_utils._gates.redis import MASTER, Follower, Known, Probe, Sentinel, Server, Snapshot
from ansible_collections.novacorrente.platform.plugins.module_utils._parallel import together

try:
    import redis as library
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError, RedisError, ResponseError
    from redis.retry import Retry

    REDIS_ERROR: str | None = None
except ImportError:
    REDIS_ERROR = traceback.format_exc()

CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 4.0
# How long a write may take to be acknowledged, in milliseconds, less than the read time-out; and how long its key may live, in seconds.
WAIT_TIMEOUT = 2000
PROBE_EXPIRE = 60
# A master on which the probe went well is not written to again for so long, in seconds.
PROBE_AGE = 10.0


class Look:
    """Looks at servers and Sentinels, again and again over the same connections.

    ``members`` and ``sentinels`` map names to addresses as C(host:port); ``master_name`` is what the Sentinels call the master. A login is a user name
    and a password. ``probe_key`` is the key that is written on the master, empty where nothing may be written. Raises ValueError for an address that is none.
    """

    def __init__(
        self,
        members: t.Mapping[str, str],
        sentinels: t.Mapping[str, str],
        master_name: str,
        login: tuple[str | None, str | None],
        sentinel_login: tuple[str | None, str | None],
        ca_file: str | None = None,
        probe_key: str = "",
    ) -> None:
        self.master_name = master_name
        self.probe_key = probe_key
        self.probed: tuple[str, float] = ("", -PROBE_AGE)
        self.names = names_of(members)

        def client(address: str, login: tuple[str | None, str | None]) -> t.Any:
            host, port = split(address)
            return library.Redis(
                host=host,
                port=port,
                username=login[0],
                password=login[1],
                ssl=True,
                ssl_ca_certs=ca_file,
                ssl_cert_reqs="required",
                ssl_check_hostname=True,
                protocol=2,
                socket_connect_timeout=CONNECT_TIMEOUT,
                socket_timeout=READ_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )

        self.servers = {name: client(address, login) for name, address in members.items()}
        self.sentinels = {name: client(address, sentinel_login) for name, address in sentinels.items()}

    def fetch(self) -> Snapshot:
        found: dict[str, t.Any] = together(
            {
                **{"server " + name: functools.partial(self.server, name) for name in self.servers},
                **{"sentinel " + name: functools.partial(self.sentinel, name) for name in self.sentinels},
            }
        )
        servers = tuple(found["server " + name] for name in self.servers)
        sentinels = tuple(found["sentinel " + name] for name in self.sentinels)
        masters = [server for server in servers if server.answered and server.role == MASTER]
        probe = self.probe(masters[0]) if self.probe_key and len(masters) == 1 else None
        return Snapshot(servers, sentinels, probe)

    def server(self, name: str) -> Server:
        try:
            with self.servers[name].pipeline(transaction=False) as pipeline:
                pipeline.info()
                pipeline.config_get("save")
                pipeline.config_get("min-replicas-to-write")
                info, save, minimum = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as exc:
            return Server(name, answered=False, refused="refused" in str(exc), error=plain(exc))
        if isinstance(info, Exception):
            return Server(name, answered=False, error=plain(info))
        return read_server(name, info, save, minimum, self.names, time.time())

    def sentinel(self, name: str) -> Sentinel:
        try:
            with self.sentinels[name].pipeline(transaction=False) as pipeline:
                for command in ("MASTER", "GET-MASTER-ADDR-BY-NAME", "REPLICAS", "CKQUORUM"):
                    pipeline.execute_command("SENTINEL", command, self.master_name)
                master, named, replicas, quorum = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as exc:
            return Sentinel(name, answered=False, refused="refused" in str(exc), error=plain(exc))
        return read_sentinel(name, master, named, replicas, quorum, self.names)

    def probe(self, master: Server) -> Probe:
        """Writes a key on the master and waits for its replicas to acknowledge that; removes it in any case, and it would expire if that were lost."""
        wanted = sum(follower.state == "online" for follower in master.followers.values())
        if self.probed[0] == master.name and time.monotonic() - self.probed[1] < PROBE_AGE:
            return Probe(wanted, wanted)
        try:
            # One pipeline: WAIT is about the writes of its own connection.
            with self.servers[master.name].pipeline(transaction=False) as pipeline:
                pipeline.set(self.probe_key, str(uuid.uuid4()), ex=PROBE_EXPIRE)
                pipeline.wait(wanted, WAIT_TIMEOUT)
                pipeline.delete(self.probe_key)
                answers = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as exc:
            return Probe(wanted, error=plain(exc))
        for answer in answers:
            if isinstance(answer, Exception):
                return Probe(wanted, error=plain(answer), seen=not isinstance(answer, NoPermissionError))
        if answers[1] >= wanted:
            self.probed = (master.name, time.monotonic())
        return Probe(wanted, answers[1])


def plain(exc: Exception) -> str:
    """An error for a person. Redis repeats no passwords in its own."""
    return (str(exc) or type(exc).__name__)[:200].rstrip(".")


def read_server(name: str, info: t.Mapping[str, t.Any], save: t.Any, minimum: t.Any, names: t.Mapping[str, str], now: float) -> Server:
    """What INFO says. ``save`` and ``minimum`` are the answers of CONFIG GET, or errors where it is not allowed."""
    followers, strangers = {}, 0
    for key, each in info.items():
        if key.startswith("slave") and key[5:].isdigit():
            follower = names.get(join(each["ip"], each["port"]))
            if follower is None:
                strangers += 1
            else:
                followers[follower] = Follower(each["state"], int(each["offset"]), int(each.get("lag", 0)))
    saves = None if isinstance(save, Exception) else bool(save.get("save"))
    # Without the right to read the configuration: the field is there where the setting is not 0.
    least = int("min_slaves_good_slaves" in info) if isinstance(minimum, Exception) else int(minimum.get("min-replicas-to-write", 0))
    master = join(str(info.get("master_host", "")), info.get("master_port", ""))
    return Server(
        name,
        role=str(info["role"]),
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        started=now - int(info["uptime_in_seconds"]),
        loading=bool(info.get("loading", 0)) or bool(info.get("async_loading", 0)),
        saving=bool(info.get("rdb_bgsave_in_progress", 0)) or bool(info.get("aof_rewrite_in_progress", 0)),
        save_failed="err" in (info.get("rdb_last_bgsave_status"), info.get("aof_last_write_status"), info.get("aof_last_bgrewrite_status")),
        persistent=True if info.get("aof_enabled") else saves,
        master=names.get(master, master) if "master_host" in info else "",
        link_up=info.get("master_link_status") == "up",
        syncing=bool(info.get("master_sync_in_progress", 0)),
        sync_bytes=int(info.get("master_sync_read_bytes", 0)),
        silence=int(info.get("master_last_io_seconds_ago", 0)),
        offset=int(info.get("slave_repl_offset", info.get("master_repl_offset", 0))),
        backlog=int(info.get("repl_backlog_size", 0)),
        min_replicas=least,
        followers=followers,
        strangers=strangers,
    )


def read_sentinel(name: str, master: t.Any, named: t.Any, replicas: t.Any, quorum: t.Any, names: t.Mapping[str, str]) -> Sentinel:
    """What SENTINEL MASTER, GET-MASTER-ADDR-BY-NAME, REPLICAS and CKQUORUM say: flat lists, of keys and values but for the second, or errors.

    Towards the end of a failover MASTER still has the former master's address; what clients are told counts.
    """
    if isinstance(master, ResponseError) and "No such master" in str(master):
        return Sentinel(name, missing=True)
    denied = [answer for answer in (master, named, replicas) if isinstance(answer, Exception)]
    if denied or isinstance(quorum, NoPermissionError):
        return Sentinel(name, answered=False, error=plain(denied[0] if denied else quorum))
    about = pairs(master)
    known = {}
    for each in map(pairs, replicas):
        address = join(each["ip"], each["port"])
        known[names.get(address, address)] = Known(
            flags=tuple(each["flags"].split(",")), link_ok=each["master-link-status"] == "ok", priority=int(each["slave-priority"])
        )
    address = join(*named)
    return Sentinel(
        name,
        master=names.get(address, address),
        epoch=int(about["config-epoch"]),
        flags=tuple(about["flags"].split(",")),
        quorum=int(about["quorum"]),
        quorum_error=plain(quorum) if isinstance(quorum, Exception) else "",
        others=int(about["num-other-sentinels"]),
        replicas=known,
    )


def pairs(flat: t.Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2]))
