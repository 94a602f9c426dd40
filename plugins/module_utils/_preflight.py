# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the host can tell, and whether that will do: readers of /proc, and judgements that are functions of their arguments.

Private to this collection. It must run on any Python that Ansible runs on, so that an old host can be told that it is too old.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import platform
import re
import socket
import sys
import time
import typing as t

ERROR = "error"
WARNING = "warning"

Finding = t.Dict[str, t.Any]

SUPPORTED = ({"id": "debian", "version": "13"}, {"id": "ubuntu", "version": "24.04"})
ARCHITECTURES = ("x86_64", "aarch64")
MINIMUM_PYTHON = (3, 9)


def finding(code: str, message: str, variable: str, value: str, accepted: str, mend: str, level: str = ERROR) -> Finding:
    return {"code": code, "level": level, "message": message, "variable": variable, "value": value, "accepted": accepted, "mend": mend}


# --- Reading -------------------------------------------------------------------------------------------------------------------------


def parse_os_release(text: str) -> dict[str, str]:
    values = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith("#"):
            values[name] = value.strip("\"'")
    return values


def parse_meminfo(text: str) -> dict[str, int]:
    """Sizes of /proc/meminfo in KiB."""
    values = {}
    for line in text.splitlines():
        match = re.match(r"^(\w+):\s+(\d+)", line)
        if match:
            values[match.group(1)] = int(match.group(2))
    return values


@dataclasses.dataclass(frozen=True)
class Listener:
    """A listening TCP socket."""

    address: str
    port: int
    inode: int


def _kernel_address(text: str) -> str:
    """An address as /proc/net/tcp writes it: words of four bytes, each in the machine's order."""
    raw = b"".join(int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8))
    return str(ipaddress.ip_address(raw))


def parse_listeners(text: str) -> list[Listener]:
    """Listening sockets in /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != "0A":
            continue
        address, port = fields[1].split(":")
        found.append(Listener(_kernel_address(address), int(port, 16), int(fields[9])))
    return found


def parse_local_addresses(fib_trie: str, if_inet6: str) -> set[str]:
    """The host's own addresses, from /proc/net/fib_trie and /proc/net/if_inet6."""
    addresses = set()
    last = ""
    for line in fib_trie.splitlines():
        match = re.match(r"^\s*\|--\s+(\S+)", line)
        if match:
            last = match.group(1)
        elif last and "/32 host LOCAL" in line:
            addresses.add(last)
    for line in if_inet6.splitlines():
        fields = line.split()
        if fields and len(fields[0]) == 32:
            addresses.add(str(ipaddress.ip_address(bytes.fromhex(fields[0]))))
    return addresses


CONTAINER = re.compile(r"(?:docker|libpod|cri-containerd|crio|containerd)[-/]([0-9a-f]{64})")


def cgroup_paths(text: str) -> list[str]:
    """Paths of /proc/<pid>/cgroup, of version 1 and 2."""
    return [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]


def container_of(cgroup: str, init_cgroup: str) -> str | None:
    """Id of the container that a process runs in, as seen from this host.

    A host can itself be a container of another engine, then every path begins with that one's: what process 1 is in does not count.
    """
    own = set(CONTAINER.findall(init_cgroup))
    for path in cgroup_paths(cgroup):
        inner = [item for item in CONTAINER.findall(path) if item not in own]
        if inner:
            return str(inner[-1])
    return None


def unit_of(cgroup: str) -> str | None:
    for path in cgroup_paths(cgroup):
        match = re.search(r"/([^/]+\.service)(?:/|$)", path)
        if match:
            return match.group(1)
    return None


@dataclasses.dataclass(frozen=True)
class Holder:
    """The process behind a listening socket."""

    pid: int
    name: str
    unit: str | None = None
    container: str | None = None

    def __str__(self) -> str:
        text = f"{self.name} (process {self.pid}"
        if self.unit and not self.container:
            text += f", unit {self.unit}"
        if self.container:
            text += f", container {self.container[:12]}"
        return text + ")"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def find_holders(inodes: t.Iterable[int], proc: str = "/proc") -> dict[int, Holder]:
    """Which process holds each of these sockets. Stops as soon as all are found."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    holders: dict[int, Holder] = {}
    init = _read(f"{proc}/1/cgroup")
    for pid in sorted((name for name in os.listdir(proc) if name.isdigit()), key=int):
        if len(holders) == len(wanted):
            break
        try:
            descriptors = os.listdir(f"{proc}/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                inode = wanted.get(os.readlink(f"{proc}/{pid}/fd/{descriptor}"))
            except OSError:
                continue
            if inode is not None and inode not in holders:
                cgroup = _read(f"{proc}/{pid}/cgroup")
                name = _read(f"{proc}/{pid}/comm").strip() or "unknown"
                holders[inode] = Holder(int(pid), name, unit_of(cgroup), container_of(cgroup, init))
    return holders


@dataclasses.dataclass(frozen=True)
class Container:
    """A container as the engine describes it."""

    id: str
    name: str
    tier: str | None
    ports: tuple[int, ...] = ()


def parse_containers(answer: str) -> list[Container]:
    """The engine's list of containers (GET /containers/json)."""
    found = []
    for item in json.loads(answer):
        ports = tuple(sorted({port["PublicPort"] for port in item.get("Ports") or () if port.get("PublicPort")}))
        name = (item.get("Names") or ["/?"])[0].lstrip("/")
        found.append(Container(item["Id"], name, (item.get("Labels") or {}).get("novacorrente.tier"), ports))
    return found


def ask_engine(path: str = "/var/run/docker.sock", timeout: float = 3) -> list[Container] | None:
    """The running containers, or none where the engine does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(b"GET /containers/json HTTP/1.0\r\nHost: docker\r\n\r\n")
            data = b""
            while True:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                data += chunk
        head, _separator, body = data.partition(b"\r\n\r\n")
        return parse_containers(body.decode("utf-8")) if b" 200 " in head.split(b"\r\n", 1)[0] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- Judging -------------------------------------------------------------------------------------------------------------------------


def judge_os(release: t.Mapping[str, str], supported: t.Sequence[t.Mapping[str, str]]) -> list[Finding]:
    name, version = release.get("ID", "unknown"), release.get("VERSION_ID", "unknown")
    if any(item["id"] == name and version == str(item["version"]) for item in supported):
        return []
    accepted = " or ".join(f"{item['id']} {item['version']}" for item in supported)
    return [
        finding(
            "OS_UNSUPPORTED",
            f"The operating system is {release.get('PRETTY_NAME') or name + ' ' + version}, which the platform is not tested on.",
            "operating system",
            f"{name} {version}",
            accepted,
            "Install an accepted system, or accept the risk: platform_accept_risks: [OS_UNSUPPORTED].",
        )
    ]


def judge_machine(architecture: str, python: t.Sequence[int], init: str) -> list[Finding]:
    findings = []
    if architecture not in ARCHITECTURES:
        findings.append(
            finding(
                "ARCHITECTURE_UNSUPPORTED",
                f"The processor architecture is {architecture}.",
                "architecture",
                architecture,
                " or ".join(ARCHITECTURES),
                "Use a host with an accepted architecture, or give images for this one and accept the risk.",
            )
        )
    if tuple(python[:2]) < MINIMUM_PYTHON:
        version = ".".join(str(part) for part in python[:3])
        findings.append(
            finding(
                "PYTHON_UNSUPPORTED",
                f"The host's Python is {version}.",
                "ansible_python_interpreter",
                version,
                ".".join(str(part) for part in MINIMUM_PYTHON) + " or newer",
                "Install a newer Python and set ansible_python_interpreter.",
            )
        )
    if init != "systemd":
        findings.append(
            finding(
                "SYSTEMD_MISSING",
                f"Process 1 is {init or 'unknown'}.",
                "init system",
                init or "unknown",
                "systemd",
                "Boot the host with systemd; services and timers of the platform are its units.",
            )
        )
    return findings


@dataclasses.dataclass(frozen=True)
class Space:
    """Free space under a directory. C(inodes) is none where a file system does not count them."""

    path: str
    mount: str
    device: int
    free_gib: float
    inodes: int | None


def space_of(path: str) -> Space:
    """Free space on the file system that a directory is or will be on."""
    place = os.path.abspath(path)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    device = os.stat(place).st_dev
    mount = place
    while mount != "/" and os.stat(os.path.dirname(mount)).st_dev == device:
        mount = os.path.dirname(mount)
    return Space(path, mount, device, status.f_bavail * status.f_frsize / 2**30, status.f_favail if status.f_files else None)


def judge_disk(spaces: t.Iterable[Space], minimum_gib: float, minimum_inodes: int) -> list[Finding]:
    findings = []
    by_device: dict[int, list[Space]] = {}
    for space in spaces:
        by_device.setdefault(space.device, []).append(space)
    for items in by_device.values():
        paths = " and ".join(dict.fromkeys(item.path for item in items))
        space = items[0]
        mend = (
            f"Free space on {space.mount} (docker system df shows what images and containers take), give it a larger disk, or set platform_root to another one."
        )
        if space.free_gib < minimum_gib:
            findings.append(
                finding(
                    "DISK_FULL",
                    f"{paths} (file system {space.mount}) has {space.free_gib:.1f} GiB free.",
                    "platform_minimum_disk_gib",
                    f"{space.free_gib:.1f} GiB",
                    f"{minimum_gib:g} GiB or more",
                    mend,
                )
            )
        if space.inodes is not None and space.inodes < minimum_inodes:
            findings.append(
                finding(
                    "INODES_FULL",
                    f"{paths} (file system {space.mount}) has {space.inodes} inodes free.",
                    "platform_minimum_inodes",
                    str(space.inodes),
                    f"{minimum_inodes} or more",
                    mend,
                )
            )
    return findings


def judge_memory(total_mib: int, needed_mib: int, limits: t.Mapping[str, int]) -> list[Finding]:
    # The kernel keeps a part of the memory that is built in for itself, so the total is never quite the nominal size.
    if not needed_mib or total_mib * 1.03 >= needed_mib:
        return []
    parts = ", ".join(f"{name} {limits[name]} MiB" for name in sorted(limits))
    return [
        finding(
            "MEMORY_TOO_SMALL",
            f"The host has {total_mib} MiB of memory; its members and its system may use {needed_mib} MiB" + (f" ({parts})." if parts else "."),
            " + ".join([*sorted(limits), "platform_memory_reserve_mib"]),
            f"{total_mib} MiB",
            f"{needed_mib} MiB or more",
            "Give the host more memory, lower the limits, or move a tier to another host.",
        )
    ]


OURS = ("docker-registry",)
ENGINE = ("docker-proxy", "dockerd", "rootlesskit")


def judge_ports(
    ports: t.Sequence[t.Mapping[str, t.Any]],
    listeners: t.Sequence[Listener],
    holders: t.Mapping[int, Holder],
    containers: t.Sequence[Container] | None,
) -> list[Finding]:
    """Ports that are held by something that is not the platform's own member."""
    findings = []
    for port in ports:
        taken = [listener for listener in listeners if listener.port == int(port["port"])]
        strangers: list[str] = []
        for listener in taken:
            text = _stranger(port, holders.get(listener.inode), containers)
            if text and text not in strangers:
                strangers.append(text)
        if strangers:
            where = ", ".join(dict.fromkeys(listener.address for listener in taken))
            findings.append(
                finding(
                    "PORT_TAKEN",
                    f"Port {port['port']}, which {port['tier']} needs ({port['purpose']}), is held by {' and '.join(strangers)} on {where}.",
                    str(port.get("variable") or f"port {port['port']} of {port['tier']}"),
                    str(port["port"]),
                    "a port that no other process listens on",
                    _free_port(port, [holders[item.inode] for item in taken if item.inode in holders]),
                )
            )
    return findings


def _stranger(port: t.Mapping[str, t.Any], holder: Holder | None, containers: t.Sequence[Container] | None) -> str | None:
    if holder is None:
        return "a process that cannot be seen"
    if holder.container is None and holder.name not in ENGINE:
        return None if holder.name in OURS and port["tier"] == "registry" else str(holder)
    if containers is None:
        # The engine does not answer: a container's port is taken for the platform's, and what is wrong shows when it starts.
        return None
    if holder.container is None:
        behind = [item for item in containers if int(port["port"]) in item.ports]
    else:
        behind = [item for item in containers if item.id == holder.container]
    others = [item for item in behind if item.tier is None]
    return f"the container {others[0].name}, which is not the platform's" if others else None


def _free_port(port: t.Mapping[str, t.Any], holders: t.Sequence[Holder]) -> str:
    for holder in holders:
        if holder.container is None and holder.unit:
            return f"Stop and disable {holder.unit} (systemctl disable --now {holder.unit}), or move it to another port."
    choice = f", or set {port['variable']} to a free port" if port.get("variable") else ""
    return f"Stop that process or container, or move it to another port{choice}."


def judge_address(address: str | None, own: t.Container[str]) -> list[Finding]:
    if not address:
        return []
    try:
        wanted = str(ipaddress.ip_address(address))
    except ValueError:
        return []
    if wanted in own:
        return []
    return [
        finding(
            "ADDRESS_NOT_ON_HOST",
            f"The host does not have the address {wanted} on any interface.",
            "platform_address",
            wanted,
            "an address that is set on the host",
            "Correct ansible_host, or set platform_address to the host's own address where the controller reaches it through another one.",
        )
    ]


def judge_clock(host_time: float, before: float, after: float, tolerance: float) -> list[Finding]:
    """The host's clock was read somewhere between two readings of the controller's: only what is certain counts."""
    if host_time < before - tolerance:
        offset = host_time - before
    elif host_time > after + tolerance:
        offset = host_time - after
    else:
        return []
    text = f"{abs(offset):.0f} s {'behind' if offset < 0 else 'ahead of'} the controller's"
    return [
        finding(
            "CLOCK_OFF",
            f"The host's clock is {text}.",
            "clock",
            time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(host_time)),
            f"{tolerance:g} s or less (platform_clock_tolerance)",
            "Set the host's clock and let it follow a time server (timedatectl set-ntp true); check the controller's clock too.",
        )
    ]


def judge_kernel(features: t.Mapping[str, bool]) -> list[Finding]:
    return [
        finding(
            "KERNEL_FEATURE_MISSING",
            f"The kernel does not show {name}.",
            f"kernel feature {name}",
            "missing",
            f"a kernel with {name}",
            "Use the distribution's kernel, or load the module.",
            WARNING,
        )
        for name, there in sorted(features.items())
        if not there
    ]


def judge_user(user: int) -> list[Finding]:
    if user == 0:
        return []
    return [
        finding(
            "BECOME_FAILED",
            f"The check ran as user {user} and not as root.",
            "ansible_become",
            "false",
            "a user that may become root without being asked",
            "Set ansible_become: true in the inventory, and give the user passwordless sudo or a vaulted ansible_become_password.",
        )
    ]


# --- The host ------------------------------------------------------------------------------------------------------------------------


def has_overlay(release: str) -> bool:
    if re.search(r"\boverlay$", _read("/proc/filesystems"), re.MULTILINE):
        return True
    modules = f"/lib/modules/{release}"
    return any("/overlay.ko" in _read(f"{modules}/{name}") for name in ("modules.dep", "modules.builtin"))


def has_nf_tables() -> bool:
    """Whether the kernel has a netlink family for netfilter, which nft talks to."""
    netlink_netfilter = 12
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter):
            return True
    except (OSError, AttributeError):
        return False


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a host is asked for."""

    address: str | None
    ports: t.Sequence[t.Mapping[str, t.Any]]
    directories: t.Sequence[str]
    minimum_disk_gib: float
    minimum_inodes: int
    memory_mib: int
    memory_limits: t.Mapping[str, int]
    supported: t.Sequence[t.Mapping[str, str]] = SUPPORTED


def look(wanted: Wanted) -> tuple[list[Finding], dict[str, t.Any]]:
    """Read the host and judge it. Returns findings and facts."""
    release = parse_os_release(_read("/etc/os-release"))
    machine = os.uname()
    memory = parse_meminfo(_read("/proc/meminfo"))
    listeners = parse_listeners(_read("/proc/net/tcp")) + parse_listeners(_read("/proc/net/tcp6"))
    numbers = {int(port["port"]) for port in wanted.ports}
    taken = [listener for listener in listeners if listener.port in numbers]
    holders = find_holders(listener.inode for listener in taken) if taken else {}
    by_engine = any(holder.container or holder.name in ENGINE for holder in holders.values())
    addresses = parse_local_addresses(_read("/proc/net/fib_trie"), _read("/proc/net/if_inet6"))
    spaces = [space_of(path) for path in wanted.directories]
    kernel = {"overlay": has_overlay(machine.release), "nf_tables": has_nf_tables()}
    init = _read("/proc/1/comm").strip()
    total_mib = memory.get("MemTotal", 0) // 1024

    findings = judge_user(os.geteuid())
    findings += judge_os(release, wanted.supported)
    findings += judge_machine(machine.machine, sys.version_info[:3], init)
    findings += judge_kernel(kernel)
    findings += judge_address(wanted.address, addresses)
    findings += judge_disk(spaces, wanted.minimum_disk_gib, wanted.minimum_inodes)
    findings += judge_memory(total_mib, wanted.memory_mib, wanted.memory_limits)
    if os.geteuid() == 0:
        findings += judge_ports(wanted.ports, taken, holders, ask_engine() if by_engine else None)
    facts = {
        "os": {"id": release.get("ID"), "version": release.get("VERSION_ID"), "name": release.get("PRETTY_NAME")},
        "architecture": machine.machine,
        "kernel": machine.release,
        "kernel_features": kernel,
        "python": platform.python_version(),
        "init": init,
        "memory_mib": total_mib,
        "memory_available_mib": memory.get("MemAvailable", 0) // 1024,
        "addresses": sorted(addresses),
        "disks": [{"path": item.path, "mount": item.mount, "free_gib": round(item.free_gib, 1), "free_inodes": item.inodes} for item in spaces],
        "ports": [{"port": item.port, "address": item.address, "holder": str(holders.get(item.inode, "unknown"))} for item in taken],
    }
    return findings, facts
