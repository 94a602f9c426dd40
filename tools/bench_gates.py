#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how soon a gate returns after its condition became true, beside what others do with their defaults, in one run.

Run by `make bench`; `tools/bench_gates.py TRIALS OTHERS` takes other numbers of trials than 30 for the gates and 5 for the others.
Systems are processes on loopback: an HTTPS server that gets ready at a moment of chance, and three members of the stand-in of MongoDB, of
which one answers nobody until such a moment. Prints Markdown (docs/measurements.md holds the figures of a run).
"""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

import yaml

REPO = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(sys.executable).parent
TRIALS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
OTHERS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
sys.path += [str(REPO / "tests" / "standins"), str(REPO / "tests" / "standins" / "mongod" / "tests")]

from replica import ROOT_PASSWORD, Authority, Cluster, wait_for  # noqa: E402

Tasks = list[dict[str, t.Any]]


class Conditions(http.server.ThreadingHTTPServer):
    """GET /arm makes the condition false, lets it become true 1 to 3 s later, and answers; GET /ready tells whether it is."""

    def __init__(self, authority: Authority, folder: pathlib.Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        authority.issue(folder / "ready.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "ready.pem")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.became_true: list[float] = []
        self.ready = threading.Event()
        self.begin: t.Callable[[], None] = lambda: None
        self.end: t.Callable[[], float] = time.time
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def arm(self) -> None:
        self.ready.clear()
        self.begin()
        threading.Thread(target=self.later, daemon=True).start()

    def later(self) -> None:
        time.sleep(random.uniform(1.5, 3))
        self.became_true.append(self.end())
        self.ready.set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = t.cast(Conditions, self.server)
        if self.path == "/arm":
            server.arm()
        body = b"{}"
        self.send_response(200 if self.path == "/arm" or server.ready.is_set() else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: t.Any) -> None:
        pass


def delays(conditions: Conditions, authority: Authority, folder: pathlib.Path, task: dict[str, t.Any], trials: int) -> list[float]:
    """Seconds from each condition to the end of the task that waited for it."""
    conditions.became_true.clear()
    port = conditions.server_address[1]
    arm = {"name": "Arm", "ansible.builtin.uri": {"url": f"https://127.0.0.1:{port}/arm", "ca_path": str(authority.file)}}
    (folder / "trial.yml").write_text(yaml.safe_dump([arm, {"name": "Wait", **task}], sort_keys=False))
    trial = {"name": "Try", "ansible.builtin.include_tasks": str(folder / "trial.yml"), "loop": list(range(trials))}
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": [trial]}]))
    stamps = folder / "stamps"
    stamps.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(REPO / "tools" / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "stamps",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "STAMPS": str(stamps),
    }
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(folder / "play.yml")],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    ends = [line for line in map(json.loads, stamps.read_text().splitlines()) if line["task"] == "Wait"]
    if done.returncode or len(ends) != trials or len(conditions.became_true) != trials:
        raise SystemExit(f"{len(ends)} of {trials} trials, exit code {done.returncode}:\n{done.stdout[-3000:]}")
    return [end["time"] - begin for end, begin in zip(ends, conditions.became_true, strict=True)]


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cluster = Cluster(folder)
        authority = cluster.authority
        conditions = Conditions(authority, folder)
        address = f"127.0.0.1:{conditions.server_address[1]}"
        once = {"successes": 1, "healthy_deadline": 60, "progress_deadline": 60}
        gate: dict[str, t.Any] = {"members": [{"name": "one", "address": address}], "ca_file": str(authority.file), **once}
        rows.append(("http_gate", delays(conditions, authority, folder, {"novacorrente.platform.http_gate": gate}, TRIALS)))
        uri: dict[str, t.Any] = {
            "ansible.builtin.uri": {"url": f"https://{address}/ready", "ca_path": str(authority.file)},
            "register": "answer",
            "until": "answer is succeeded",
        }
        rows.append(("ansible.builtin.uri + until", delays(conditions, authority, folder, uri, OTHERS)))

        try:
            cluster.start()
            cluster.initiate()
            rows += mongodb(cluster, conditions, authority, folder, once)
        finally:
            cluster.close()
    print("| who waits | trials | median, s | slowest, s |\n|--|--:|--:|--:|")
    for title, found in rows:
        print(f"| {title} | {len(found)} | {statistics.median(found):.2f} | {max(found):.2f} |")


def mongodb(cluster: Cluster, conditions: Conditions, authority: Authority, folder: pathlib.Path, once: dict[str, t.Any]) -> list[tuple[str, list[float]]]:
    """A secondary hangs and comes back; the condition is that each member counts three healthy members again."""
    primary, victim = cluster.primary, cluster.secondaries[0]

    def misses(member: t.Any) -> bool:
        return any(line["health"] != 1 or line["stateStr"] not in ("PRIMARY", "SECONDARY") for line in member.status()["members"])

    def hang() -> None:
        victim.fault(set={"freeze": True})
        wait_for(lambda: misses(primary), "the primary misses the member")

    def come_back() -> float:
        victim.fault(heal=True)
        while any(misses(member) for member in cluster.members):
            time.sleep(0.01)
        return time.time()

    conditions.begin, conditions.end = hang, come_back
    login = {"login_user": "root", "login_password": ROOT_PASSWORD}
    members = [{"name": f"m{number}", "address": member.host} for number, member in enumerate(cluster.members)]
    gate = {"members": members, "ca_file": str(authority.file), "min_oplog": 0, "expected_downtime": 0, "min_disk_free": 0, **login, **once}
    status = {
        "login_host": "127.0.0.1",
        "login_port": primary.port,
        "ssl": True,
        "ssl_ca_certs": str(authority.file),
        "replica_set": "rs0",
        "poll": 10,
        **login,
    }
    return [
        ("mongodb_gate", delays(conditions, authority, folder, {"novacorrente.platform.mongodb_gate": gate}, TRIALS)),
        ("community.mongodb.mongodb_status", delays(conditions, authority, folder, {"community.mongodb.mongodb_status": status}, OTHERS)),
    ]


if __name__ == "__main__":
    main()
