# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of /proc and judgements about a host, from recorded texts."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import socket
import socketserver
import sys
import threading
import typing as t

import pytest

from ansible_collections.novacorrente.platform.plugins.module_utils import _preflight as preflight

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\nID=debian\n# comment\n'
UBUNTU = "ID=ubuntu\nVERSION_ID='24.04'\n"
OUTER = "1" * 64
INNER = "2" * 64
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0
   1: 1F00A8C0:0016 0100A8C0:D2A4 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 4713 1 0000000000000000 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1 0 100 0 0 10 0
   1: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4715 1 0 100 0 0 10 0
"""
FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.31
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
"""
IF_INET6 = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000001 02 40 00 80     eth0\n"


def codes(findings: list[preflight.Finding]) -> list[str]:
    for finding in findings:
        assert set(finding) == {"code", "level", "message", "variable", "value", "accepted", "mend"}
        assert all(finding.values())
    return [finding["code"] for finding in findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIAN, []),
        (UBUNTU, []),
        ("ID=debian\nVERSION_ID=12\n", ["OS_UNSUPPORTED"]),
        ("ID=ubuntu\nVERSION_ID=22.04\n", ["OS_UNSUPPORTED"]),
        ("", ["OS_UNSUPPORTED"]),
    ],
)
def test_operating_system(text: str, expected: list[str]) -> None:
    findings = preflight.judge_os(preflight.parse_os_release(text), preflight.SUPPORTED)
    assert codes(findings) == expected
    if findings:
        assert findings[0]["accepted"] == "debian 13 or ubuntu 24.04"


@pytest.mark.parametrize(
    ("architecture", "python", "init", "expected"),
    [
        ("x86_64", (3, 13, 5), "systemd", []),
        ("aarch64", (3, 9, 0), "systemd", []),
        ("i686", (3, 13, 5), "systemd", ["ARCHITECTURE_UNSUPPORTED"]),
        ("x86_64", (3, 8, 10), "systemd", ["PYTHON_UNSUPPORTED"]),
        ("x86_64", (3, 13, 5), "init", ["SYSTEMD_MISSING"]),
        ("s390x", (2, 7, 18), "", ["ARCHITECTURE_UNSUPPORTED", "PYTHON_UNSUPPORTED", "SYSTEMD_MISSING"]),
    ],
)
def test_machine(architecture: str, python: tuple[int, ...], init: str, expected: list[str]) -> None:
    assert codes(preflight.judge_machine(architecture, python, init)) == expected


@pytest.mark.skipif(sys.byteorder != "little", reason="recorded on a little-endian machine")
def test_listeners() -> None:
    assert preflight.parse_listeners(TCP) == [preflight.Listener("0.0.0.0", 9000, 4711), preflight.Listener("127.0.0.1", 6379, 4713)]
    assert preflight.parse_listeners(TCP6) == [preflight.Listener("::", 80, 4714), preflight.Listener("2001:db8::1", 443, 4715)]
    assert preflight.parse_listeners("") == []


def test_addresses() -> None:
    own = preflight.parse_local_addresses(FIB_TRIE, IF_INET6)
    assert own == {"192.0.2.31", "127.0.0.1", "::1", "2001:db8::1"}
    assert codes(preflight.judge_address("192.0.2.31", own)) == []
    assert codes(preflight.judge_address("2001:0db8::1", own)) == []
    assert codes(preflight.judge_address("192.0.2.255", own)) == ["ADDRESS_NOT_ON_HOST"]
    assert codes(preflight.judge_address("data1.example.org", own)) == []
    assert codes(preflight.judge_address(None, own)) == []


def test_meminfo() -> None:
    assert preflight.parse_meminfo("MemTotal:        8143948 kB\nMemAvailable:  10 kB\nHugePages_Total:       0\nnonsense\n") == {
        "MemTotal": 8143948,
        "MemAvailable": 10,
        "HugePages_Total": 0,
    }


@pytest.mark.parametrize(
    ("process", "init", "container", "unit"),
    [
        # cgroup v2, the engine's systemd driver
        (f"0::/system.slice/docker-{INNER}.scope\n", "0::/init.scope\n", INNER, None),
        ("0::/system.slice/nginx.service\n", "0::/init.scope\n", None, "nginx.service"),
        # cgroup v1, the engine's cgroupfs driver
        (f"4:memory:/docker/{INNER}\n1:name=systemd:/docker/{INNER}\n", "4:memory:/\n1:name=systemd:/init.scope\n", INNER, None),
        # the host is itself a container: what process 1 is in does not count
        (f"1:name=systemd:/docker/{OUTER}/system.slice/ssh.service\n", f"1:name=systemd:/docker/{OUTER}/init.scope\n", None, "ssh.service"),
        (f"4:memory:/docker/{INNER}\n", f"4:memory:/docker/{OUTER}\n", INNER, None),
        (f"1:name=systemd:/docker/{OUTER}/docker/{INNER}\n", f"1:name=systemd:/docker/{OUTER}/init.scope\n", INNER, None),
        ("", "", None, None),
    ],
)
def test_cgroups(process: str, init: str, container: str | None, unit: str | None) -> None:
    assert preflight.container_of(process, init) == container
    assert preflight.unit_of(process) == unit


MINIO = {"port": 9000, "tier": "minio", "purpose": "S3", "variable": "minio_port"}
REGISTRY = {"port": 5000, "tier": "registry", "purpose": "image registry", "variable": ""}
ANY = preflight.Listener("0.0.0.0", 9000, 1)
OWN_MEMBER = preflight.Container(INNER, "minio-minio-1", "minio", (9000,))
STRANGER = preflight.Container(INNER, "blog", None, (9000,))


@pytest.mark.parametrize(
    ("port", "listener", "holder", "containers", "text"),
    [
        (MINIO, None, None, None, None),
        (MINIO, preflight.Listener("0.0.0.0", 9001, 1), preflight.Holder(9, "nginx"), None, None),
        (MINIO, ANY, preflight.Holder(812, "nginx", "nginx.service"), None, "nginx (process 812, unit nginx.service) on 0.0.0.0"),
        (MINIO, ANY, preflight.Holder(812, "python3"), None, "python3 (process 812)"),
        (MINIO, ANY, None, None, "cannot be seen"),
        (MINIO, ANY, preflight.Holder(7, "minio", None, INNER), [OWN_MEMBER], None),
        (MINIO, ANY, preflight.Holder(7, "minio", None, INNER), None, None),
        (MINIO, ANY, preflight.Holder(7, "minio", None, INNER), [STRANGER], "container blog"),
        (MINIO, ANY, preflight.Holder(7, "docker-proxy", "docker.service"), [OWN_MEMBER], None),
        (MINIO, ANY, preflight.Holder(7, "docker-proxy", "docker.service"), [STRANGER], "container blog"),
        (MINIO, ANY, preflight.Holder(7, "dockerd", "docker.service"), None, None),
        (REGISTRY, preflight.Listener("::", 5000, 1), preflight.Holder(5, "docker-registry", "docker-registry.service"), None, None),
        (MINIO, ANY, preflight.Holder(5, "docker-registry", "docker-registry.service"), None, "docker-registry"),
    ],
)
def test_ports(
    port: dict[str, t.Any],
    listener: preflight.Listener | None,
    holder: preflight.Holder | None,
    containers: list[preflight.Container] | None,
    text: str | None,
) -> None:
    findings = preflight.judge_ports([port], [listener] if listener else [], {1: holder} if holder else {}, containers)
    assert codes(findings) == (["PORT_TAKEN"] if text else [])
    if text:
        assert text in findings[0]["message"] and findings[0]["value"] == str(port["port"])


def test_how_to_free_a_port() -> None:
    unit = preflight.judge_ports([MINIO], [ANY], {1: preflight.Holder(812, "nginx", "nginx.service")}, None)[0]
    assert "systemctl disable --now nginx.service" in unit["mend"]
    process = preflight.judge_ports([MINIO], [ANY], {1: preflight.Holder(812, "python3")}, None)[0]
    assert "minio_port" in process["mend"]


def test_the_real_owner_of_a_socket_is_found(tmp_path: pathlib.Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        number = listener.getsockname()[1]
        found = [item for item in preflight.parse_listeners(pathlib.Path("/proc/net/tcp").read_text(encoding="ascii")) if item.port == number]
        assert [item.address for item in found] == ["127.0.0.1"]
        holders = preflight.find_holders(item.inode for item in found)
        assert holders[found[0].inode].pid == os.getpid()


class Engine(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(
            [
                {"Id": INNER, "Names": ["/minio-minio-1"], "Labels": {"novacorrente.tier": "minio"}, "Ports": [{"PublicPort": 9000}, {"PrivatePort": 1}]},
                {"Id": OUTER, "Names": None, "Labels": None, "Ports": None},
            ]
        ).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, *args: t.Any) -> None:
        pass


def test_the_engine_is_asked(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "s")
    with socketserver.UnixStreamServer(path, Engine) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert preflight.ask_engine(path) == [preflight.Container(INNER, "minio-minio-1", "minio", (9000,)), preflight.Container(OUTER, "?", None, ())]
    assert preflight.ask_engine(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("spaces", "expected"),
    [
        ([preflight.Space("/srv/platform", "/", 1, 50.0, 10**6)], []),
        ([preflight.Space("/srv/platform", "/", 1, 4.9, 10**6)], ["DISK_FULL"]),
        ([preflight.Space("/srv/platform", "/", 1, 50.0, 10)], ["INODES_FULL"]),
        ([preflight.Space("/srv/platform", "/", 1, 50.0, None)], []),
        ([preflight.Space("/srv/platform", "/", 1, 1.0, 5), preflight.Space("/var/lib/docker", "/", 1, 1.0, 5)], ["DISK_FULL", "INODES_FULL"]),
        ([preflight.Space("/srv/platform", "/srv", 1, 1.0, None), preflight.Space("/var/lib/docker", "/", 2, 1.0, None)], ["DISK_FULL", "DISK_FULL"]),
    ],
)
def test_disk(spaces: list[preflight.Space], expected: list[str]) -> None:
    assert codes(preflight.judge_disk(spaces, 5, 100000)) == expected


def test_space_of_a_directory_that_is_not_there_yet(tmp_path: pathlib.Path) -> None:
    space = preflight.space_of(str(tmp_path / "not" / "yet"))
    assert space.free_gib > 0 and os.path.ismount(space.mount)


@pytest.mark.parametrize(("total", "needed", "expected"), [(8000, 4000, []), (3900, 4000, []), (3000, 4000, ["MEMORY_TOO_SMALL"]), (100, 0, [])])
def test_memory(total: int, needed: int, expected: list[str]) -> None:
    findings = preflight.judge_memory(total, needed, {"minio_memory_limit": 2048})
    assert codes(findings) == expected
    if findings:
        assert "minio_memory_limit 2048 MiB" in findings[0]["message"]


@pytest.mark.parametrize(
    ("host", "before", "after", "expected"),
    [
        (100.0, 100.0, 101.0, None),
        (105.9, 100.0, 101.0, None),
        (106.1, 100.0, 101.0, "5 s ahead"),
        (94.9, 100.0, 101.0, "5 s behind"),
        # a call that took 20 s says nothing about a clock 15 s ahead of its start
        (115.0, 100.0, 120.0, None),
        (0.0, 100000.0, 100001.0, "100000 s behind"),
    ],
)
def test_clock(host: float, before: float, after: float, expected: str | None) -> None:
    findings = preflight.judge_clock(host, before, after, 5)
    assert codes(findings) == (["CLOCK_OFF"] if expected else [])
    if expected:
        assert expected in findings[0]["message"]


def test_kernel_and_user() -> None:
    assert codes(preflight.judge_kernel({"overlay": True, "nf_tables": False})) == ["KERNEL_FEATURE_MISSING"]
    assert codes(preflight.judge_user(0)) == []
    assert codes(preflight.judge_user(1000)) == ["BECOME_FAILED"]


def test_all_codes_are_known_with_their_level() -> None:
    from ansible_collections.novacorrente.platform.plugins.plugin_utils._validation import CODES

    source = pathlib.Path(preflight.__file__).read_text(encoding="utf-8")
    names = {line.strip().strip('",') for line in source.splitlines() if line.strip().startswith('"') and line.strip().strip('",').isupper()}
    names = {name for name in names if "_" in name}
    assert len(names) >= 12 and names <= set(CODES)
    assert preflight.judge_kernel({"overlay": False})[0]["level"] == CODES["KERNEL_FEATURE_MISSING"].level


def test_this_machine_can_be_read() -> None:
    wanted = preflight.Wanted("127.0.0.1", [MINIO], ["/srv/platform"], 0, 0, 0, {})
    findings, facts = preflight.look(wanted)
    assert "ADDRESS_NOT_ON_HOST" not in codes(findings)
    assert facts["memory_mib"] > 0 and facts["python"].count(".") == 2 and "127.0.0.1" in facts["addresses"]
