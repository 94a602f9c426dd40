# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of several roles ask of a host, a container or a file."""

from __future__ import annotations

import json
import re
import typing as t

if t.TYPE_CHECKING:
    from testinfra.host import Host

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
FETCH = """
import http.client, json, ssl, sys
address, port, path, ca, name, headers = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(address, port, timeout=10, context=context)
connection.request("GET", path, headers=headers)
answer = connection.getresponse()
print(json.dumps([answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode("utf-8", "replace")]))
"""

# Run in a container of the pipeline, with its own settings: its user at the queue's master, found by way of Sentinel, and at the object store.
ASK_QUEUE = """
from pipeline.redis_client import connect
from pipeline.settings import Settings
assert connect(Settings.load(store=False, redis=True).redis).ping()
"""
ASK_STORE = """
from pipeline.settings import Settings
from pipeline.store import Store
settings = Settings.load().store
for bucket in (settings.bronze, settings.silver, settings.gold):
    assert not Store(settings).exists(bucket, "there/is/no/such/object")
"""


class Answer(t.NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def name(host: Host) -> str:
    """The host's name in the inventory."""
    return str(host.backend.host)


def listeners(host: Host, protocol: str = "tcp") -> set[tuple[str, int]]:
    """Address and port of all listening sockets."""
    out = host.check_output(f"ss --no-header --listening --numeric --{protocol}")
    found = set()
    for line in out.splitlines():
        address, _colon, port = line.split()[3].rpartition(":")
        found.add((address.partition("%")[0].strip("[]"), int(port)))
    return found


def containers(host: Host, tier: str) -> dict[str, dict[str, t.Any]]:
    """docker inspect of the tier's running containers, by service."""
    out = host.check_output(f"docker ps --quiet --filter label=novacorrente.tier={tier} | xargs --no-run-if-empty docker inspect")
    return {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in json.loads(out or "[]")}


def container_faults(container: dict[str, t.Any], capabilities: t.Collection[str] = (), root: bool = False) -> list[str]:
    """What a container of the platform does that it must not. Empty where all is as it should be."""
    config, host_config = container["Config"], container["HostConfig"]
    user = config["User"].partition(":")[0]
    added = {item.removeprefix("CAP_") for item in host_config["CapAdd"] or []}
    conditions = {
        f"runs as user {config['User']!r}": root or (user.isdigit() and int(user) > 0),
        "may write to its root file system": host_config["ReadonlyRootfs"],
        f"drops only {host_config['CapDrop']}": host_config["CapDrop"] == ["ALL"],
        f"has the capabilities {sorted(added)}": added <= set(capabilities),
        "may gain privileges": any(item.startswith("no-new-privileges") and not item.endswith("false") for item in host_config["SecurityOpt"] or []),
        "is privileged": not host_config["Privileged"],
        "has no memory limit": host_config["Memory"] > 0,
        "has no processor limit": host_config["NanoCpus"] > 0 or host_config["CpuQuota"] > 0,
        "has no process limit": (host_config["PidsLimit"] or 0) > 0,
        "has the Docker socket": not any("docker.sock" in mount["Source"] for mount in container["Mounts"]),
        f"restarts {host_config['RestartPolicy']['Name']!r}": host_config["RestartPolicy"]["Name"] == "unless-stopped",
        f"runs image {config['Image']!r} without digest": bool(DIGEST.search(config["Image"])),
        f"is {container['State'].get('Health', {}).get('Status', 'without health check')}": container["State"].get("Health", {}).get("Status") == "healthy",
        "has no release label": bool(config["Labels"].get("novacorrente.release")),
    }
    return [fault for fault, good in conditions.items() if not good]


def assert_confined(containers: dict[str, dict[str, t.Any]], capabilities: t.Mapping[str, t.Collection[str]] | None = None) -> None:
    """Every container of the tier is confined; `capabilities` names services that may have some, and with them the root user."""
    assert containers, "no container of the tier is running"
    allowed = capabilities or {}
    faults = {service: container_faults(c, allowed.get(service, ()), root=service in allowed) for service, c in containers.items()}
    assert {service: found for service, found in faults.items() if found} == {}


def assert_member(
    host: Host,
    value: t.Callable[[str], t.Any],
    tier: str,
    containers: dict[str, dict[str, t.Any]],
    secrets: dict[str, str],
    capabilities: t.Mapping[str, t.Collection[str]] | None = None,
) -> None:
    """What holds for the member of every tier: confined containers of the current release, secrets in the user's own files and nowhere else."""
    root = value("platform_root")
    assert_confined(containers, capabilities)
    assert_current_release(host, root, tier, containers)
    assert_secret_files(host, root, tier, value(f"{tier}_uid"))
    assert_no_secret(containers, secrets)


def assert_no_secret(containers: dict[str, dict[str, t.Any]], secrets: dict[str, str]) -> None:
    """docker inspect shows no secret: not in the environment, the command, a label or a health check's output."""
    shown = {service: json.dumps(container) for service, container in containers.items()}
    assert [(service, name) for service, text in shown.items() for name, secret in secrets.items() if secret in text] == []


def assert_secret_files(host: Host, root: str, tier: str, uid: int, expect: bool = True) -> None:
    """Secrets and private keys belong to the tier's user, who may only read them, and nobody else may."""
    base = f"{root}/{tier}"
    wanted = "'(' -path '*/secrets/*' -o -path '*/private/*' -o -name '*.key' ')'"
    # A tier without secrets has no such directory.
    out = host.run(f"find -L {base}/current/secrets {base}/live -type f {wanted} -printf '%m %U %p\\n'").stdout
    lines = [line.split(" ", 2) for line in out.splitlines()]
    assert bool(lines) == expect
    assert [path for mode, owner, path in lines if mode != "400" or int(owner) != uid] == []


def assert_current_release(host: Host, root: str, tier: str, containers: dict[str, dict[str, t.Any]]) -> None:
    """All containers run the release to which `current` points."""
    release = host.check_output("basename $(readlink -f %s/%s/current)", root, tier)
    assert {c["Config"]["Labels"]["novacorrente.release"] for c in containers.values()} == {release}


def get(host: Host, url: str, ca: str, headers: dict[str, str] | None = None) -> Answer:
    """GET https://address:port/path as the host itself sees it, the certificate verified against the CA file on the host."""
    match = re.fullmatch(r"https://([^/:]+)(?::(\d+))?(/.*)", url)
    assert match, url
    address, port, path = match.groups()
    argument = json.dumps([address, int(port or 443), path, ca, address, headers or {}])
    return Answer(*json.loads(host.check_output("python3 -c %s %s", FETCH, argument)))
