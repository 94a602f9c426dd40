# SPDX-License-Identifier: GPL-3.0-or-later
"""What the end-to-end tests share: running playbooks, asking the lab's hosts, reading its secrets."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import time
import typing as t
import urllib.request

REPO = pathlib.Path(__file__).resolve().parents[2]
INVENTORY = REPO / "inventories" / "lab"
LAB = "novacorrente-lab"
OUTPUT = REPO / "tests" / "output"
BIN = pathlib.Path(sys.executable).parent
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished ansible-playbook: exit code, everything it printed, seconds it took."""

    code: int
    text: str
    seconds: float

    def recap(self) -> dict[str, dict[str, int]]:
        """Counters by host, from the play recap."""
        names = ("ok", "changed", "unreachable", "failed")
        return {host: dict(zip(names, map(int, counts), strict=True)) for host, *counts in RECAP.findall(self.text)}

    def changed(self) -> dict[str, int]:
        return {host: row["changed"] for host, row in self.recap().items() if row["changed"]}


def environment(**extra: str) -> dict[str, str]:
    return {
        **os.environ,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_FORCE_COLOR": "0",
        "PATH": f"{BIN}:{os.environ['PATH']}",
        **extra,
    }


def start_playbook(log: str, *args: str, playbook: str = "site.yml", inventory: pathlib.Path = INVENTORY, **extra: str) -> subprocess.Popen[bytes]:
    """Start ansible-playbook in a process group of its own, its output going to tests/output/<log>.log."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with open(OUTPUT / f"{log}.log", "wb") as stream:
        return subprocess.Popen(
            [str(BIN / "ansible-playbook"), playbook, "-i", str(inventory), *args],
            cwd=REPO,
            env=environment(**extra),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def playbook(log: str, *args: str, playbook: str = "site.yml", inventory: pathlib.Path = INVENTORY, timeout: int = 900, **extra: str) -> Run:
    """Run ansible-playbook to its end."""
    begin = time.monotonic()
    process = start_playbook(log, *args, playbook=playbook, inventory=inventory, **extra)
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    return Run(code, (OUTPUT / f"{log}.log").read_text(errors="replace"), time.monotonic() - begin)


def gate(tier: str, phase: str = "preflight", target: str = "", wait: bool = False, seconds: int = 120) -> Run:
    """What the gate of a tier says: exit code 0 for pass, findings in the text. With ``wait`` it is asked until it passes, for ``seconds``."""
    asked = {"tier": tier, "gate_phase": phase, "gate_target": target, "gate_wait": wait, "gate_healthy_deadline": seconds}
    return playbook(f"gate-{tier}", "-e", json.dumps(asked), playbook="playbooks/gate.yml", timeout=seconds + 120)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all that descend from it: the workers of ansible-core have sessions of their own."""
    family = [process.pid]
    for pid in family:
        with contextlib.suppress(OSError):
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@functools.cache
def inventory() -> dict[str, t.Any]:
    """The lab's inventory with all variables, secrets included; never printed."""
    out = subprocess.run(
        [str(BIN / "ansible-inventory"), "-i", str(INVENTORY), "--list"], cwd=REPO, env=environment(), check=True, capture_output=True, text=True
    ).stdout
    return dict(json.loads(out.replace("{{ inventory_dir }}", str(INVENTORY))))


def hostvars(host: str) -> dict[str, t.Any]:
    return dict(inventory()["_meta"]["hostvars"][host])


def group(name: str) -> list[str]:
    return list(inventory()[name]["hosts"])


def hosts() -> list[str]:
    return sorted(inventory()["_meta"]["hostvars"])


def address(host: str) -> str:
    return str(hostvars(host)["ansible_host"])


def vip() -> str:
    return str(hostvars("edge1")["platform_vip"])


def domain() -> str:
    return str(hostvars("edge1")["platform_domain"])


def ssh_command(host: str, command: str) -> list[str]:
    """The words that run a shell command as root on a host."""
    values = hostvars(host)
    common = str(values.get("ansible_ssh_common_args", "")).split()
    login = ["-i", str(values["ansible_ssh_private_key_file"]), *common, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
    return ["ssh", *login, f"{values['ansible_user']}@{address(host)}", "sudo -H sh -c " + _quote(command)]


def ssh(host: str, command: str, check: bool = True, timeout: int = 60) -> str:
    """Run a shell command as root on a host; its standard output."""
    done = subprocess.run(ssh_command(host, command), cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{host}: {command!r} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def cut_power(host: str) -> None:
    """End all that runs on a host at once, as a power cut does."""
    _lab_engine("kill", host)


def switch_on(host: str) -> None:
    """Boot a host again, and wait until all that runs there is healthy."""
    _lab_engine("start", host)
    wait_for(f"all of {host} is up", lambda: all_healthy(host), 240, 1)


def all_healthy(host: str) -> bool:
    """Whether all containers of a host run, and those with a health check pass it."""
    states = [container["State"] for container in containers(host)]
    return bool(states) and all(state["Running"] and state.get("Health", {}).get("Status", "healthy") == "healthy" for state in states)


def _lab_engine(verb: str, host: str) -> None:
    subprocess.run(["docker", verb, f"{LAB}-{host}"], check=True, capture_output=True, timeout=120)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def containers(host: str) -> list[dict[str, t.Any]]:
    """docker inspect of every container on a host."""
    out = ssh(host, "docker ps -aq | xargs -r docker inspect")
    return list(json.loads(out or "[]"))


def releases() -> dict[tuple[str, str], set[str]]:
    """Releases that the running containers of each host and tier are of."""
    found: dict[tuple[str, str], set[str]] = {}
    for host in hosts():
        for container in containers(host):
            labels = container["Config"]["Labels"]
            if container["State"]["Running"] and "novacorrente.release" in labels:
                found.setdefault((host, labels["novacorrente.tier"]), set()).add(labels["novacorrente.release"])
    return found


def started_at() -> dict[str, str]:
    """Start time of every container of the platform, by host and name."""
    return {f"{host}/{c['Name'].lstrip('/')}": c["State"]["StartedAt"] for host in hosts() for c in containers(host)}


def ca_file() -> str:
    return str(INVENTORY / "pki" / "ca.crt")


def fetch(
    path: str, headers: dict[str, str] | None = None, data: bytes | None = None, method: str | None = None, timeout: float = 20
) -> tuple[int, dict[str, str], bytes]:
    """GET (or POST, or another method) https://<VIP><path>, the certificate verified against the platform's CA; errors are answers too."""
    context = ssl.create_default_context(cafile=ca_file())
    request = urllib.request.Request(f"https://{vip()}{path}", data=data, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as exc:
        return exc.code, dict(exc.headers), exc.read()


@functools.cache
def secrets() -> dict[str, str]:
    """Every secret of the lab: what its vault file holds."""
    out = subprocess.run(
        [str(BIN / "ansible-vault"), "view", str(INVENTORY / "group_vars" / "all" / "vault.yml")],
        cwd=REPO,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    import yaml

    return {name: str(value) for name, value in yaml.safe_load(out).items() if isinstance(value, str)}


def wait_for(what: str, condition: t.Callable[[], bool], seconds: float, pause: float = 0.5) -> float:
    """Wait until a condition holds; seconds it took. AssertionError names what did not come about."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        try:
            if condition():
                return time.monotonic() - begin
        except (OSError, AssertionError):
            pass
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds} s")
