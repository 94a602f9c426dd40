# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold of the containers of one tier on one host. evaluate() is pure; Fetcher asks the engine by its command line.

The command line and not the Docker SDK: a host has Debian's python3 and docker-cli and nothing else, the release module goes the same way, and the
context and permissions that an operator has hold here too. What is read is ``docker inspect``, whose form is that of the Engine API:
https://docs.docker.com/reference/api/engine/version/v1.44/#tag/Container/operation/ContainerInspect. Of it only what is needed is kept; the
environment of a container, which may hold secrets, is not.

Private to this collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import subprocess
import time
import typing as t

from ansible_collections.novacorrente.platform.plugins.module_utils._gates.contract import (
    AFTER,
    BEFORE,
    FAIL,
    PREFLIGHT,
    UNKNOWN,
    WAIT,
    Earlier,
    Evaluation,
    Question,
    Reason,
)
from ansible_collections.novacorrente.platform.plugins.module_utils._release import LABEL_ONEOFF, LABEL_RELEASE, LABEL_SERVICE

LABEL_PROJECT = "com.docker.compose.project"
# Seconds until the engine kills what it stops, where the container says nothing: https://docs.docker.com/reference/cli/docker/container/stop/
DEFAULT_STOP_TIMEOUT = 10.0
# Exit codes of containers whose command could not be run: https://docs.docker.com/engine/containers/run/#exit-status
NOT_RUN = (125, 126, 127)
# Seconds after which an engine that says nothing is taken for hanging.
TIMEOUT = 15.0


@dataclasses.dataclass(frozen=True)
class Container:
    """A container as the engine tells it. Times are seconds since the epoch; None is what was not told.

    ``health`` is empty where the container has no health check. ``digests`` are those of its image: of the image itself and of its manifests.
    """

    service: str
    name: str
    status: str
    restarting: bool = False
    oom_killed: bool = False
    exit_code: int = 0
    error: str = ""
    pid: int = 0
    created: float | None = None
    started: float | None = None
    restarts: int = 0
    health: str | None = ""
    failing_streak: int = 0
    health_output: str = ""
    release: str = ""
    image: str = ""
    digests: tuple[str, ...] | None = ()
    stop_timeout: float = DEFAULT_STOP_TIMEOUT
    log: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One look at the host. ``containers`` is None where the engine did not answer; ``disk_free`` in bytes where it keeps its images."""

    time: float
    containers: tuple[Container, ...] | None
    error: str = ""
    missing_images: tuple[str, ...] | None = ()
    disk_free: float | None = None
    live_restore: bool | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is wanted. ``images`` maps services to references with digest, ``min_stop_timeout`` is in seconds, ``min_disk_free`` in bytes."""

    services: tuple[str, ...] = ()
    images: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_restarts: int = 0
    healthcheck: bool = True
    min_stop_timeout: float = 0.0
    min_disk_free: float = 2 * 1024**3
    live_restore: bool = False

    @property
    def wanted(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.services, *self.images)))


def evaluate(snapshot: Snapshot, question: Question, earlier: Earlier[Snapshot], limits: Limits) -> Evaluation:
    """What one snapshot says to the question. Pure."""
    if snapshot.containers is None:
        return Evaluation((Reason("CONTAINER_ENGINE", UNKNOWN, snapshot.error or "the Docker engine does not answer."),), {"error": snapshot.error})
    reasons: list[Reason] = []
    if question.phase in (PREFLIGHT, BEFORE):
        reasons += host(snapshot, question, limits)
    # A member that is to go may be in any state.
    if question.phase != BEFORE:
        reasons += missing(snapshot.containers, question, limits)
        for container in snapshot.containers:
            found = list(running(container)) or list(healthy(container))
            reasons += found + list(steady(container, snapshot, question, earlier, limits))
            reasons += prepared(container, limits)
            if question.phase != PREFLIGHT:
                reasons += wanted(container, question, limits)
    sick = {reason.subject for reason in reasons}
    good = sum(container.service not in sick for container in snapshot.containers)
    return Evaluation(tuple(reasons), observed(snapshot), None, float(good) if question.phase == AFTER else None)


def host(snapshot: Snapshot, question: Question, limits: Limits) -> t.Iterator[Reason]:
    """What is to come has its images here, and room."""
    if snapshot.missing_images is None:
        yield Reason("CONTAINER_IMAGE_MISSING", UNKNOWN, "the engine does not tell which images it has.")
    for image in snapshot.missing_images or ():
        yield Reason("CONTAINER_IMAGE_MISSING", FAIL, f"image {image} is not on this host; stage the release, which pulls it.")
    if question.phase != PREFLIGHT:
        return
    if limits.min_disk_free > 0:
        if snapshot.disk_free is None:
            yield Reason("CONTAINER_DISK", UNKNOWN, "the engine does not tell where it keeps its images.")
        elif snapshot.disk_free < limits.min_disk_free:
            text = f"{snapshot.disk_free / 1024**2:.0f} MiB are free where the engine keeps its images; {limits.min_disk_free / 1024**2:.0f} MiB are needed."
            yield Reason("CONTAINER_DISK", FAIL, text, forceable=True)
    if limits.live_restore and not snapshot.live_restore:
        verdict = UNKNOWN if snapshot.live_restore is None else FAIL
        yield Reason("CONTAINER_LIVE_RESTORE", verdict, "live-restore is off: a restart of the engine would stop all containers.", forceable=True)


def missing(containers: t.Sequence[Container], question: Question, limits: Limits) -> t.Iterator[Reason]:
    """Each wanted service has a container. Before a rollout a host may have none at all: it is new then."""
    there = {container.service for container in containers}
    if question.phase == PREFLIGHT and not containers:
        return
    for service in limits.wanted:
        if service not in there:
            yield Reason("CONTAINER_MISSING", WAIT if question.phase == AFTER else FAIL, "has no container.", service, forceable=True)
    if not containers and not limits.wanted:
        yield Reason("CONTAINER_MISSING", WAIT if question.phase == AFTER else FAIL, "the tier has no container on this host.")


def running(container: Container) -> t.Iterator[Reason]:
    """The container's process runs. Yields nothing where it does."""
    subject = container.service
    if container.oom_killed:
        yield Reason("CONTAINER_OOM", FAIL, "ran out of memory: a process of it was killed. Raise its limit, or find the leak." + tail(container), subject)
    elif container.status == "running" and not container.restarting:
        return
    elif container.status == "restarting" or container.restarting:
        yield Reason("CONTAINER_RESTARTING", WAIT, f"ended with code {container.exit_code} and is started again.{tail(container)}", subject)
    elif container.status == "created" and not container.error and container.exit_code not in NOT_RUN:
        yield Reason("CONTAINER_CREATED", WAIT, "is made, but not started yet.", subject)
    elif container.error or container.exit_code in NOT_RUN:
        text = f"could not be started (code {container.exit_code}): {container.error or 'its command cannot be run.'}{tail(container)}"
        yield Reason("CONTAINER_NOT_STARTED", FAIL, text, subject)
    elif container.status == "paused":
        yield Reason("CONTAINER_PAUSED", FAIL, "is paused; docker unpause lets it go on.", subject)
    else:
        yield Reason("CONTAINER_STOPPED", FAIL, f"is {container.status} (code {container.exit_code}).{tail(container)}", subject)


def healthy(container: Container) -> t.Iterator[Reason]:
    """What its health check says. One success makes healthy; the engine never restarts what is unhealthy."""
    said = f" Its check said: {container.health_output}" if container.health_output else ""
    if container.health is None:
        yield Reason("CONTAINER_HEALTH", UNKNOWN, "has a health check, but the engine does not tell what it says.", container.service)
    elif container.health == "unhealthy":
        text = f"is unhealthy: its check failed {container.failing_streak} times in a row.{said}{tail(container)}"
        yield Reason("CONTAINER_UNHEALTHY", FAIL, text, container.service)
    elif container.health == "starting":
        yield Reason("CONTAINER_STARTING", WAIT, f"is starting; its health check has not succeeded yet.{said}", container.service)
    elif container.health == "healthy" and container.failing_streak:
        yield Reason("CONTAINER_HEALTH", WAIT, f"fails its health check, {container.failing_streak} times by now.{said}", container.service)
    elif container.health not in ("", "healthy"):
        yield Reason("CONTAINER_HEALTH", UNKNOWN, f"has the health {container.health!r}.", container.service)


def steady(container: Container, snapshot: Snapshot, question: Question, earlier: Earlier[Snapshot], limits: Limits) -> t.Iterator[Reason]:
    """The process is the same as at the look before, and the engine does not start it again and again."""
    fresh = question.not_before is not None and container.created is not None and container.created >= question.not_before
    first = same(container, earlier.first)
    grown = container.restarts - (0 if fresh or first is None else first.restarts)
    counts = question.phase == AFTER and (fresh or first is not None)
    if counts and grown > limits.max_restarts:
        text = f"was started again {grown} times by the engine; {limits.max_restarts} are allowed. It crashes (code {container.exit_code}).{tail(container)}"
        yield Reason("CONTAINER_CRASHES", FAIL, text, container.service)
    last = same(container, earlier.last)
    if last is not None and last.status == container.status == "running" and (last.pid, last.started) != (container.pid, container.started):
        yield Reason("CONTAINER_RESTARTED", WAIT, "was started anew while it was watched.", container.service)


def same(container: Container, snapshot: Snapshot | None) -> Container | None:
    """The same container in an earlier snapshot; one that was made anew is another."""
    found = [c for c in (snapshot.containers or () if snapshot else ()) if c.service == container.service and c.created == container.created]
    return found[0] if found else None


def prepared(container: Container, limits: Limits) -> t.Iterator[Reason]:
    """What a rollout builds on: a health check to wait for, and time to stop in."""
    if limits.healthcheck and container.health == "":
        yield Reason("CONTAINER_NO_HEALTHCHECK", FAIL, "has no health check, so nobody can tell when it is ready.", container.service, forceable=True)
    if container.stop_timeout < limits.min_stop_timeout:
        text = f"is killed {container.stop_timeout:g} s after it was told to stop; it needs {limits.min_stop_timeout:g} s (stop_grace_period)."
        yield Reason("CONTAINER_STOP_TIMEOUT", FAIL, text, container.service, forceable=True)


def wanted(container: Container, question: Question, limits: Limits) -> t.Iterator[Reason]:
    """It is what was to run: of the release, from the image, started after the change."""
    if question.expect_version and container.release != question.expect_version:
        yield Reason("CONTAINER_RELEASE", FAIL, f"is of release {container.release or 'unknown'}, not {question.expect_version}.", container.service)
    if limits.wanted and container.service not in limits.wanted:
        yield Reason(
            "CONTAINER_STRAY", FAIL, "belongs to no service of the release; docker compose up --remove-orphans removes it.", container.service, forceable=True
        )
    image = limits.images.get(container.service)
    if image and container.digests is None:
        yield Reason("CONTAINER_IMAGE", UNKNOWN, "its image is not on the host any more, so its digests cannot be told.", container.service)
    elif image and image.rpartition("@")[2] not in (container.digests or ()):
        yield Reason("CONTAINER_IMAGE", FAIL, f"runs image {container.image}, not {image}.", container.service)
    if question.phase == AFTER and question.not_before is not None and container.status == "running":
        if container.started is None:
            yield Reason("CONTAINER_OLD", UNKNOWN, "the engine does not tell when it was started.", container.service)
        elif container.started < question.not_before:
            text = f"was started {question.not_before - container.started:.0f} s before it was to be restarted: that is the old process."
            yield Reason("CONTAINER_OLD", WAIT, text, container.service)


def tail(container: Container) -> str:
    return f" Last lines of its log:\n{container.log}" if container.log else ""


def observed(snapshot: Snapshot) -> dict[str, t.Any]:
    """The facts for a person and for the journal."""
    return {
        "disk_free_mib": None if snapshot.disk_free is None else int(snapshot.disk_free / 1024**2),
        "live_restore": snapshot.live_restore,
        "containers": {
            container.name: {
                "service": container.service,
                "status": container.status,
                "health": container.health if container.health != "" else "no health check",
                "release": container.release,
                "image": container.image,
                "started": container.started,
                "restarts": container.restarts,
                "stop_timeout": container.stop_timeout,
            }
            for container in snapshot.containers or ()
        },
    }


def moment(text: str) -> float | None:
    """Seconds since the epoch of a time as the engine writes it, with up to nine digits of a second; None of the year 1, which says never."""
    if not text or text.startswith("0001-"):
        return None
    whole, _dot, rest = text.rstrip("Z").partition(".")
    fraction = float(f"0.{rest}") if rest.isdigit() else 0.0
    return datetime.datetime.strptime(whole[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc).timestamp() + fraction


def read_container(document: t.Mapping[str, t.Any], digests: tuple[str, ...] | None, log: str = "") -> Container:
    """One element of the answer to ``docker inspect``."""
    state, config = document["State"], document["Config"]
    labels = config.get("Labels") or {}
    health = state.get("Health") or {}
    # ["NONE"] switches off a health check that the image has.
    checked = (config.get("Healthcheck") or {}).get("Test") not in (None, [], ["NONE"])
    probes = health.get("Log") or []
    name = document["Name"].lstrip("/")
    said = health.get("Status")
    return Container(
        service=labels.get(LABEL_SERVICE) or name,
        name=name,
        status=state["Status"],
        restarting=bool(state.get("Restarting")),
        oom_killed=bool(state.get("OOMKilled")),
        exit_code=int(state.get("ExitCode") or 0),
        error=state.get("Error") or "",
        pid=int(state.get("Pid") or 0),
        created=moment(document.get("Created", "")),
        started=moment(state.get("StartedAt", "")),
        restarts=int(document.get("RestartCount") or 0),
        health=(said or None) if checked else "",
        failing_streak=int(health.get("FailingStreak") or 0),
        health_output=" ".join((probes[-1].get("Output") or "").split())[:300] if probes and probes[-1].get("ExitCode") else "",
        release=labels.get(LABEL_RELEASE, ""),
        image=document["Image"],
        digests=digests,
        stop_timeout=DEFAULT_STOP_TIMEOUT if config.get("StopTimeout") is None else float(config["StopTimeout"]),
        log=log,
    )


class EngineError(Exception):
    """The engine did not answer; the text is for the user."""


class Fetcher:
    """Asks the engine of this host.

    ``containers`` are names; without any, all containers of the Compose project ``tier`` are meant. ``full`` asks for the host too: whether it has
    ``images``, how much room, and the engine's settings.
    """

    def __init__(self, docker: str, tier: str, containers: t.Sequence[str], images: t.Sequence[str], full: bool, log_lines: int) -> None:
        self.docker, self.tier, self.names, self.images, self.log_lines = docker, tier, list(containers), list(dict.fromkeys(images)), log_lines
        self.full = full
        self.digests: dict[str, tuple[str, ...]] = {}
        self.logs: dict[tuple[t.Any, ...], str] = {}

    def look(self) -> Snapshot:
        """One look. Never raises for what it finds."""
        now = time.time()
        try:
            documents = self.inspect(["container", "inspect"], self.names or self.project())
            documents = [d for d in documents if (d["Config"].get("Labels") or {}).get(LABEL_ONEOFF, "False") != "True"]
            containers = tuple(read_container(document, self.digests_of(document["Image"]), self.log(document)) for document in documents)
            host_facts = self.host_facts() if self.full else {}
        except (EngineError, KeyError, ValueError) as exc:
            return Snapshot(now, None, error=str(exc) if isinstance(exc, EngineError) else f"the engine's answer is not understood: {exc!r}")
        return Snapshot(now, containers, **host_facts)

    def project(self) -> list[str]:
        code, out, err = self.call("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL_PROJECT}={self.tier}")
        if code != 0:
            raise EngineError(f"the Docker engine does not answer: {first_line(err)}")
        return out.split()

    def inspect(self, command: t.Sequence[str], names: t.Sequence[str]) -> list[t.Any]:
        """What there is of the names; the engine's command line lists that even where it misses some."""
        if not names:
            return []
        code, out, err = self.call(*command, *names)
        complaints = [line for line in err.splitlines() if line.strip() and "no such" not in line.lower()]
        if code != 0 and (complaints or not out.strip()):
            raise EngineError(f"the Docker engine does not answer: {first_line(chr(10).join(complaints) or err)}")
        return list(json.loads(out))

    def digests_of(self, image: str) -> tuple[str, ...] | None:
        """Digests of an image: its own, and those of the manifests that it was pulled by."""
        if image not in self.digests:
            found = self.inspect(["image", "inspect"], [image])
            if not found:
                return None
            self.digests[image] = (found[0]["Id"], *(name.rpartition("@")[2] for name in found[0].get("RepoDigests") or []))
        return self.digests[image]

    def log(self, document: t.Mapping[str, t.Any]) -> str:
        """The last lines of the log of a container that is not well; asked once for each of its states."""
        state = document["State"]
        health = (state.get("Health") or {}).get("Status")
        if not self.log_lines or (state["Status"] in ("running", "created") and health != "unhealthy" and not document.get("RestartCount")):
            return ""
        key = (document["Id"], state["Status"], state.get("StartedAt"), health)
        if key not in self.logs:
            _code, out, err = self.call("logs", "--tail", str(self.log_lines), document["Id"])
            self.logs[key] = "\n".join((out + err).splitlines()[-self.log_lines :])[-2000:]
        return self.logs[key]

    def host_facts(self) -> dict[str, t.Any]:
        there = {digest for image in self.inspect(["image", "inspect"], self.images) for digest in (image["Id"], *(image.get("RepoDigests") or []))}
        code, out, _err = self.call("info", "--format", "{{json .}}")
        info = json.loads(out) if code == 0 and out.strip() else {}
        disk = None
        try:
            stat = os.statvfs(info["DockerRootDir"])
            disk = float(stat.f_bavail * stat.f_frsize)
        except (OSError, KeyError):
            pass
        known = {digest.rpartition("@")[2] for digest in there}
        return {
            "missing_images": tuple(image for image in self.images if image.rpartition("@")[2] not in known),
            "disk_free": disk,
            "live_restore": info.get("LiveRestoreEnabled"),
        }

    def call(self, *words: str) -> tuple[int, str, str]:
        """Runs the command line; an engine that hangs is one that does not answer. Raises EngineError."""
        try:
            done = subprocess.run([self.docker, *words], capture_output=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired as exc:
            raise EngineError(f"the Docker engine gave no answer within {TIMEOUT:g} s.") from exc
        except OSError as exc:
            raise EngineError(f"docker cannot be run: {exc.strerror}") from exc
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "it says nothing.")[:300]
