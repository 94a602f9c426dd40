#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Stage, activate or revert the release of a member
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - A release is an immutable directory that holds all that a member runs from (Compose file, configuration, secrets, image digests),
    named by the hash of its content. This module brings it to the host, says how what runs differs from it, and switches to it.
  - In O(state=staged) the action plugin renders the role's C(templates/release/) and C(templates/live/) on the controller. Files under
    C(release/secrets/) and private keys get mode 0400 and belong to O(owner).
  - Files under C(live/) are not part of the release. They are what a server re-reads without a restart, such as certificates.
  - Staging touches nothing that runs. All that O(state=active) needs is then on the host, so that a run which was killed can be
    finished by another.
attributes:
  check_mode:
    support: full
    description: Nothing is written, pulled or started. Validation commands need the written release and are skipped.
  diff_mode:
    support: full
    description: The wanted release is compared with the current one; secrets are shown as changed or not, never with their content.
  idempotent:
    support: full
    description: A member that runs the wanted release is left alone, its containers are not restarted.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
requirements:
  - Docker Engine with the Compose plugin (v2) on the host
options:
  state:
    description:
      - V(staged) writes the release and the live files beside those in use, makes directories, pulls images, validates, and reports.
      - V(active) switches the member to the staged release and waits until its containers are healthy; where only live files
        differ, it runs the reloads.
      - V(reverted) switches the member back to the release before.
      - V(reported) reads what the member runs and changes nothing.
    type: str
    choices: [staged, active, reverted, reported]
    default: staged
  tier:
    description: Name of the tier, which is the name of the Compose project and of the directory under O(root).
    type: str
    required: true
  root:
    description: Directory under which all tiers lie.
    type: path
    default: /srv/platform
  owner:
    description: Numeric owner of secrets and data directories, C(uid) or C(uid:gid); the user that the containers run as.
    type: str
    default: "0"
  directories:
    description: Directories that must exist, such as those for data.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      mode:
        description: Octal mode, as a string.
        type: str
        default: "0750"
      owner:
        description: Owner where it is not O(owner).
        type: str
  extra_files:
    description: Files on the controller, outside the role, that belong to the release (at most 8 MiB each). Used by the action plugin.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path relative to the release.
        type: str
        required: true
      src:
        description: Path on the controller.
        type: str
        required: true
  images:
    description: References of the images, with digest, that are pulled before anything is switched.
    type: list
    elements: str
    default: []
  validate:
    description: Commands that judge the staged release in the target image before it can be activated.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Service whose image and mounts are used.
        type: str
        required: true
      command:
        description: The command as a list of arguments.
        type: list
        elements: str
        required: true
  reload:
    description: What makes running services take up changed live files.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Name of the service.
        type: str
        required: true
      signal:
        description: Signal to send to the service's main process.
        type: str
      command:
        description: Command to run inside the service's container, instead of a signal.
        type: list
        elements: str
      host_command:
        description:
          - Command to run on the host in the directory of the current release, instead of a signal.
          - For a service whose image has no client that could do it.
        type: list
        elements: str
  wait_timeout:
    description: Seconds to wait for the containers to be healthy after a switch.
    type: int
    default: 180
  keep_releases:
    description: How many releases to keep beside the current and the previous one.
    type: int
    default: 3
  services:
    description: Names of the services. Made by the action plugin.
    type: list
    elements: str
    default: []
  payload:
    description: The rendered files. Made by the action plugin; not to be given by a user.
    type: str
seealso:
  - name: Docker Compose file reference
    description: How the Compose file of a release is written.
    link: https://docs.docker.com/reference/compose-file/
"""

EXAMPLES = r"""
- name: Stage the release
  novacorrente.platform.release:
    tier: redis
    owner: "10020"
    directories:
      - path: /srv/platform/redis/data
    images:
      - registry.example.org:5000/redis@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  register: platform_release

- name: Switch to the staged release
  novacorrente.platform.release:
    state: active
    tier: redis
  when: platform_release.state != 'current'

- name: Go back to the release before
  novacorrente.platform.release:
    state: reverted
    tier: redis
"""

RETURN = r"""
state:
  description:
    - What the member is, compared with the staged release, before this execution changed anything.
    - V(new) nothing of the tier runs here. V(changed) another release runs. V(drifted) a container is missing, stopped,
      unhealthy or of another release. V(reload) only live files differ. V(current) nothing is to be done.
  returned: always
  type: str
  sample: changed
reasons:
  description: Why the member is in this state, and which files of the release differ.
  returned: always
  type: list
  elements: str
  sample: ["release 52fd4c0a1b7e8d90 -> 0c9e1f2a3b4c5d6e", "config/redis.conf: 2 lines"]
release:
  description: Name of the staged release.
  returned: always
  type: str
  sample: 0c9e1f2a3b4c5d6e
current:
  description: Name of the release that was current before this execution, empty where there was none.
  returned: always
  type: str
  sample: 52fd4c0a1b7e8d90
settles:
  description: Whether the role has something to settle once a cluster (C(tasks/settle.yml)).
  returned: when used inside a role
  type: bool
  sample: true
pulled:
  description: Images that were, or in check mode would be, pulled.
  returned: always
  type: list
  elements: str
"""

import json
import os
import shutil
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._release import (
    CURRENT,
    NEW,
    RELOAD,
    Container,
    Seen,
    Wanted,
    judge,
    parse_containers,
    releases_to_remove,
)
from ansible_collections.novacorrente.platform.plugins.module_utils._tree import (
    Owner,
    TreeError,
    TreeFile,
    changed_lines,
    decode_payload,
    differences,
    ensure_directory,
    file_diff,
    is_secret,
    list_files,
    read_file,
    resolve_owner,
    sync_directory,
    tree_id,
    write_file,
)

ROOT = Owner(0, 0)
PULL_TRIES = 3
LOG_LINES = 30
PARTIAL = ".partial-"
# Seconds after which an unfinished release directory is what a killed run left.
PARTIAL_AGE = 3600


class Release:
    """The releases of one member on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, t.Any] = module.params
        self.tier: str = self.params["tier"]
        self.base = os.path.join(self.params["root"], self.tier)
        self.live = os.path.join(self.base, "live")
        self.staged_live = os.path.join(self.base, "staged-live")
        self.record = os.path.join(self.base, "staged.json")
        self.reload_marker = os.path.join(self.base, "reload-pending")
        # Holds the release to go back to, from before a switch until the new release is healthy.
        self.switch_marker = os.path.join(self.base, "switching")
        self.diff: list[dict[str, str]] = []

    # What is there

    def path(self, release: str) -> str:
        return os.path.join(self.base, "releases", release)

    def link(self, name: str) -> str:
        """The release that ``current`` or ``previous`` names; empty where there is none."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.base, name)))
        except OSError:
            return ""

    def containers(self) -> list[Container]:
        code, out, err = self.docker(["ps", "--all", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.tier}", "--format", "{{json .}}"])
        if code == 0:
            return parse_containers(out)
        if self.module.check_mode:
            return []
        raise TreeError(f"The Docker engine does not answer on this host; the docker role installs and starts it: {err.strip()}")

    def staged(self) -> dict[str, t.Any]:
        content = read_file(self.record)
        if content is None:
            raise TreeError(f"tier: {self.tier!r} has no staged release on this host; run with state=staged first.")
        return dict(json.loads(content))

    def live_files(self) -> list[TreeFile]:
        """The live files as they were staged."""
        found = []
        for path in list_files(self.staged_live):
            mode = _mode(os.path.join(self.staged_live, path))
            found.append(TreeFile(path, read_file(os.path.join(self.staged_live, path)) or b"", mode, is_secret(mode)))
        return found

    def live_differs(self, live: list[TreeFile], owner: Owner) -> bool:
        return any(differences(os.path.join(self.live, f.path), f, self.file_owner(f, owner)) for f in live)

    def switched_from(self) -> str | None:
        content = read_file(self.switch_marker)
        return None if content is None else content.decode("ascii")

    def seen(self, live_differs: bool) -> Seen:
        return Seen(self.link("current") or None, self.containers(), live_differs, os.path.exists(self.reload_marker), self.switched_from())

    # States

    def stage(self) -> dict[str, t.Any]:
        files = decode_payload(self.params["payload"])
        owner = resolve_owner(self.params["owner"])
        content = [_below(f, "release/") for f in files if f.path.startswith("release/")]
        live = [_below(f, "live/") for f in files if f.path.startswith("live/")]
        release = tree_id(content, [self.params["owner"]])
        wanted = Wanted(release, self.params["services"])
        seen = self.seen(self.live_differs(live, owner))
        self.check_owner(seen)
        state, reasons = judge(wanted, seen)
        # What nobody has seen healthy is nothing to compare with, nor to go back to.
        current = (seen.current or "") if seen.switched_from is None else seen.switched_from
        if current != release:
            reasons += self.compare(current, content)
        for item in live:
            found = read_file(os.path.join(self.live, item.path))
            if found != item.content:
                self.diff.append(file_diff(os.path.join(self.live, item.path), found, item))

        changed = self.make_directories(owner)
        missing = self.missing_images()
        record = {
            "release": release,
            "services": list(wanted.services),
            "reload": self.params["reload"],
            "validate": self.params["validate"],
            "owner": self.params["owner"],
        }
        writes = bool(self.damaged(release, content, owner)) or self.stage_differs(record, live, owner)
        if not self.module.check_mode:
            self.pull(missing)
            self.write_release(release, content, owner)
            self.write_live(self.staged_live, live, owner)
            if state == NEW:
                # Nothing runs that could be disturbed, and validation needs the files where the containers will look for them.
                self.write_live(self.live, live, owner)
            self.validate(release)
            self.write_record(record)
        return {
            "changed": bool(changed or missing or writes or (self.module.check_mode and state != CURRENT)),
            "state": state,
            "reasons": reasons,
            "release": release,
            "current": current,
            "pulled": missing,
            "diff": self.diff,
        }

    def activate(self) -> dict[str, t.Any]:
        if self.module.check_mode:
            return self.answer("unknown", True, ["the release is staged by a real run only"], "")
        record = self.staged()
        release = record["release"]
        owner = resolve_owner(record["owner"])
        live = self.live_files()
        seen = self.seen(self.live_differs(live, owner))
        state, reasons = judge(Wanted(release, record["services"]), seen)
        if state == CURRENT:
            return self.answer(state, False, reasons, release)
        before = {f.path: read_file(os.path.join(self.live, f.path)) for f in live}
        if seen.live_differs:
            write_file(self.reload_marker, TreeFile("reload-pending", b"", "0600"), ROOT)
            self.write_live(self.live, live, owner)
        if state == RELOAD:
            self.validate_live(record["validate"], live, before, owner)
            self.reload(record["reload"])
        else:
            self.switch(release)
            self.start(release, [c.service for c in seen.containers if c.unhealthy and c.release == release])
            self.forget_switch()
            # New processes have read the new files, those that were kept have not.
            if os.path.exists(self.reload_marker):
                self.reload(record["reload"])
            self.prune()
        return self.answer(state, True, reasons, release)

    def revert(self) -> dict[str, t.Any]:
        current = self.link("current")
        target = self.switched_from()
        if target is None:
            # A switch that failed before it began has left the release that ran where it was.
            begun = current == self.staged()["release"]
            target = self.link("previous") if begun else current
        if not target or not os.path.isdir(self.path(target)):
            raise TreeError(f"tier: {self.tier!r} has no release before {current or 'this one'} on this host to go back to.")
        if not self.module.check_mode:
            self.set_link("current", target)
            self.start(target, [])
            self.forget_switch()
        # Where nothing was switched, all that may be needed is to start again what runs.
        back = target != current
        return self.answer("changed" if back else CURRENT, back, [f"release {current} -> {target}"] if back else [], target)

    def report(self) -> dict[str, t.Any]:
        record = self.staged()
        live_differs = self.live_differs(self.live_files(), resolve_owner(record["owner"]))
        state, reasons = judge(Wanted(record["release"], record["services"]), self.seen(live_differs))
        return self.answer(state, False, reasons, record["release"])

    def answer(self, state: str, changed: bool, reasons: list[str], release: str) -> dict[str, t.Any]:
        return {"changed": changed, "state": state, "reasons": reasons, "release": release, "current": self.link("current"), "pulled": [], "diff": []}

    # Steps

    def check_owner(self, seen: Seen) -> None:
        """Data and keys of a running member belong to its user. Another one would have to be given them all at a standstill."""
        if read_file(self.record) is None or not seen.containers:
            return
        there = self.staged()["owner"]
        if there != self.params["owner"]:
            raise TreeError(
                f"owner: is {self.params['owner']!r}, but the member of tier {self.tier!r} on this host runs as {there!r}, and so belong its data; accepted "
                f"is {there!r}. To change it, stop the member (docker compose -p {self.tier} down), give what lies under {self.base} that belongs to {there} "
                f"to the new user, remove {self.record}, and run again."
            )

    def make_directories(self, owner: Owner) -> bool:
        changed = ensure_directory(self.base, 0o755, ROOT, self.module.check_mode)
        for item in self.params["directories"]:
            holder = resolve_owner(item["owner"]) if item["owner"] else owner
            changed |= ensure_directory(item["path"], int(item["mode"], 8), holder, self.module.check_mode)
        return changed

    def file_owner(self, item: TreeFile, owner: Owner) -> Owner:
        return owner if item.secret else ROOT

    def stage_differs(self, record: dict[str, t.Any], live: list[TreeFile], owner: Owner) -> bool:
        if read_file(self.record) != _record_bytes(record):
            return True
        return any(differences(os.path.join(self.staged_live, f.path), f, self.file_owner(f, owner)) for f in live)

    def compare(self, current: str, content: list[TreeFile]) -> list[str]:
        """Reasons and diff: the wanted release against the current one, file by file."""
        base = self.path(current) if current else ""
        before = {path for path in list_files(base) if path not in (".env", ".validated")} if base else set()
        reasons = []
        for item in content:
            old = read_file(os.path.join(base, item.path)) if item.path in before else None
            if old == item.content:
                continue
            self.diff.append(file_diff(os.path.join(self.base, "current", item.path), old, item))
            if old is None:
                reasons.append(f"{item.path}: new")
            elif item.secret:
                reasons.append(f"{item.path}: changed")
            else:
                reasons.append(f"{item.path}: {changed_lines(old, item.content)} lines")
        reasons.extend(f"{path}: removed" for path in sorted(before - {f.path for f in content}))
        return reasons

    def files_of(self, release: str, content: list[TreeFile]) -> list[TreeFile]:
        """All files of a release's directory: those rendered, and what an operator's own `docker compose` there needs."""
        environment = f"RELEASE_ID={release}\nCOMPOSE_PROJECT_NAME={self.tier}\n".encode()
        return [*content, TreeFile(".env", environment, "0444")]

    def damaged(self, release: str, content: list[TreeFile], owner: Owner) -> list[TreeFile]:
        """Files of a release that are not on disk as they were made: all of them before it is written, none afterwards."""
        base = self.path(release)
        return [f for f in self.files_of(release, content) if differences(os.path.join(base, f.path), f, self.file_owner(f, owner))]

    def write_release(self, release: str, content: list[TreeFile], owner: Owner) -> None:
        """Write the directory under another name and rename it, so that a release is there as a whole or not at all."""
        target = self.path(release)
        if os.path.isdir(target):
            for item in self.damaged(release, content, owner):
                write_file(os.path.join(target, item.path), item, self.file_owner(item, owner))
            return
        # A name of its own for each run: another one may be writing the same release.
        partial = os.path.join(self.base, "releases", f"{PARTIAL}{release}-{os.getpid()}")
        for item in self.files_of(release, content):
            write_file(os.path.join(partial, item.path), item, self.file_owner(item, owner))
        try:
            os.rename(partial, target)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            if not os.path.isdir(target):
                raise
        sync_directory(os.path.dirname(target))

    def write_live(self, base: str, live: list[TreeFile], owner: Owner) -> None:
        for item in live:
            path = os.path.join(base, item.path)
            holder = self.file_owner(item, owner)
            if differences(path, item, holder):
                write_file(path, item, holder)

    def write_record(self, record: dict[str, t.Any]) -> None:
        if read_file(self.record) != _record_bytes(record):
            write_file(self.record, TreeFile("staged.json", _record_bytes(record), "0644"), ROOT)

    def missing_images(self) -> list[str]:
        if not self.params["images"]:
            return []
        images = list(dict.fromkeys(self.params["images"]))
        _code, out, _err = self.docker(["image", "inspect", "--format", "{{json .RepoDigests}}", *images])
        there = {reference for line in out.splitlines() if line.startswith("[") for reference in json.loads(line)}
        return [image for image in images if image not in there]

    def pull(self, images: list[str]) -> None:
        for image in images:
            for attempt in range(1, PULL_TRIES + 1):
                code, _out, err = self.docker(["pull", "--quiet", image])
                if code == 0:
                    break
                if attempt == PULL_TRIES:
                    raise TreeError(f"images: cannot pull {image}: {err.strip()}")
                time.sleep(attempt)

    def validate(self, release: str) -> None:
        stamp = os.path.join(self.path(release), ".validated")
        if not self.params["validate"] or os.path.exists(stamp):
            return
        for item in self.params["validate"]:
            command = [str(word) for word in item["command"]]
            code, out, err = self.compose(release, ["run", "--rm", "--no-deps", "-T", "--entrypoint", command[0], item["service"], *command[1:]])
            if code != 0:
                raise TreeError(
                    f"tier {self.tier}: the new release was refused by {' '.join(command)!r} in service {item['service']} "
                    f"(exit code {code}); nothing was changed: {(out + err).strip()[-2000:]}"
                )
        write_file(stamp, TreeFile(".validated", b"", "0444"), ROOT)

    def switch(self, release: str) -> None:
        current = self.link("current")
        if current == release:
            return
        proven = self.switched_from()
        if proven is None:
            proven = current
            write_file(self.switch_marker, TreeFile("switching", proven.encode("ascii"), "0600"), ROOT)
        if proven:
            self.set_link("previous", proven)
        self.set_link("current", release)

    def forget_switch(self) -> None:
        if os.path.exists(self.switch_marker):
            os.unlink(self.switch_marker)
            sync_directory(self.base)

    def set_link(self, name: str, release: str) -> None:
        temporary = os.path.join(self.base, f".{name}")
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(os.path.join("releases", release), temporary)
        os.rename(temporary, os.path.join(self.base, name))
        sync_directory(self.base)

    def start(self, release: str, recreate: list[str]) -> None:
        timeout = str(self.params["wait_timeout"])
        if recreate:
            self.compose(release, ["rm", "--force", "--stop", *recreate])
        code, out, err = self.compose(release, ["up", "--detach", "--wait", "--wait-timeout", timeout, "--remove-orphans"])
        if code != 0:
            _code, logs, _err = self.compose(release, ["logs", "--no-color", "--tail", str(LOG_LINES)])
            raise TreeError(
                f"tier {self.tier}: release {release} did not become healthy within {timeout} s: "
                f"{(err or out).strip()[-1500:]}\nLast lines of its logs:\n{logs.strip()[-4000:]}"
            )

    def validate_live(self, steps: list[dict[str, t.Any]], live: list[TreeFile], before: dict[str, bytes | None], owner: Owner) -> None:
        """Have the running containers judge the new live files; what they refuse is taken back before a server has read it."""
        release = self.link("current")
        for step in steps:
            code, out, err = self.compose(release, ["exec", "-T", step["service"], *step["command"]])
            if code == 0:
                continue
            self.write_live(self.live, [TreeFile(f.path, before[f.path] or b"", f.mode, f.secret) for f in live if before[f.path] is not None], owner)
            # Where a killed run has written them, there is nothing to take back to: the reload stays owed, and the run fails until they are good.
            if os.path.exists(self.reload_marker) and any(before[f.path] != f.content for f in live):
                os.unlink(self.reload_marker)
            raise TreeError(
                f"tier {self.tier}: the new live files were refused by {' '.join(step['command'])!r} in service {step['service']} "
                f"(exit code {code}) and taken back: {(out + err).strip()[-2000:]}"
            )

    def reload(self, steps: list[dict[str, t.Any]]) -> None:
        release = self.link("current")
        for step in steps:
            if step.get("command"):
                code, out, err = self.compose(release, ["exec", "-T", step["service"], *step["command"]])
            elif step.get("host_command"):
                code, out, err = self.module.run_command(step["host_command"], cwd=self.path(release))
            else:
                code, out, err = self.compose(release, ["kill", "--signal", step["signal"], step["service"]])
            if code != 0:
                raise TreeError(f"tier {self.tier}: the reload of {step['service']} failed and is repeated by the next run: {(err or out).strip()}")
        if os.path.exists(self.reload_marker):
            os.unlink(self.reload_marker)

    def prune(self) -> None:
        folder = os.path.join(self.base, "releases")
        ages = {name: os.stat(os.path.join(folder, name)).st_mtime for name in os.listdir(folder)}
        unfinished = {name for name in ages if name.startswith(PARTIAL)}
        for name in unfinished:
            if time.time() - ages.pop(name) > PARTIAL_AGE:
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        in_use = {self.link("current"), self.link("previous"), self.staged()["release"], self.switched_from() or ""}
        for name in releases_to_remove(ages, in_use, self.params["keep_releases"]):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)

    def compose(self, release: str, words: list[str]) -> tuple[int, str, str]:
        base = self.path(release)
        return self.docker(["compose", "--project-name", self.tier, "--project-directory", base, "--file", os.path.join(base, "compose.yml"), *words])

    def docker(self, words: list[str]) -> tuple[int, str, str]:
        code, out, err = self.module.run_command(["docker", *words], handle_exceptions=False) if self.has_docker() else (127, "", "docker is not installed")
        return int(code), str(out), str(err)

    def has_docker(self) -> bool:
        return bool(self.module.get_bin_path("docker"))


def _below(item: TreeFile, prefix: str) -> TreeFile:
    start = len(prefix)
    return TreeFile(item.path[start:], item.content, item.mode, item.secret)


def _mode(path: str) -> str:
    return format(os.stat(path).st_mode & 0o7777, "04o")


def _record_bytes(record: dict[str, t.Any]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode("utf-8")


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["staged", "active", "reverted", "reported"], "default": "staged"},
            "tier": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/srv/platform"},
            "owner": {"type": "str", "default": "0"},
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0750"},
                    "owner": {"type": "str"},
                },
            },
            "images": {"type": "list", "elements": "str", "default": []},
            "validate": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "service": {"type": "str", "required": True},
                    "command": {"type": "list", "elements": "str", "required": True},
                },
            },
            "reload": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "service": {"type": "str", "required": True},
                    "signal": {"type": "str"},
                    "command": {"type": "list", "elements": "str"},
                    "host_command": {"type": "list", "elements": "str"},
                },
                "required_one_of": [("signal", "command", "host_command")],
                "mutually_exclusive": [("signal", "command", "host_command")],
            },
            "wait_timeout": {"type": "int", "default": 180},
            "keep_releases": {"type": "int", "default": 3},
            "services": {"type": "list", "elements": "str", "default": []},
            "payload": {"type": "str", "no_log": True},
            # The action plugin's own, resolved on the controller.
            "extra_files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "src": {"type": "str", "required": True}},
            },
        },
        required_if=[("state", "staged", ("payload",))],
        supports_check_mode=True,
    )
    member = Release(module)
    states = {"staged": member.stage, "active": member.activate, "reverted": member.revert, "reported": member.report}
    try:
        result = states[module.params["state"]]()
    except (TreeError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
