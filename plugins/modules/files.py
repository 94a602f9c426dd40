#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: files
short_description: Write all configuration files of a role in one execution
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Renders the tree C(templates/<tree>/) of the role on the controller, ships it as one payload, and writes what differs to the same
    paths under C(/) on the host. C(templates/files/etc/x.conf.j2) becomes C(/etc/x.conf); a file without the suffix C(.j2) is
    taken as it is; a template that renders to nothing is left out.
  - Each file is written beside its place, checked, synced and renamed. What must follow a change (a reload) belongs to O(reactions); it
    is remembered on disk before the first write, so that a run that was killed in between does it the next time.
  - The content of files that others may not read never appears in a diff or a result.
attributes:
  check_mode:
    support: full
    description: Nothing is written and no reaction runs; validation commands are skipped too.
  diff_mode:
    support: full
    description: Files with a mode that gives no read permission to group or others are shown as secret.
  idempotent:
    support: full
    description: Nothing is written and no reaction runs where the files are as wanted.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
options:
  tree:
    description: Directory under the role's C(templates/) that is rendered.
    type: str
    default: files
  name:
    description: Name under which pending reactions are kept on the host. The role's name by default.
    type: str
  owner:
    description: Owner of the files, a name or a number.
    type: str
    default: root
  group:
    description: Group of the files, a name or a number.
    type: str
    default: root
  mode:
    description: Mode of the files in octal, as a string.
    type: str
    default: "0644"
  modes:
    description: Modes of single files, by path relative to the tree.
    type: dict
    default: {}
  extra_files:
    description: Files that lie elsewhere on the controller, at most 8 MiB each.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path relative to C(/) on the host.
        type: str
        required: true
      src:
        description: Path on the controller.
        type: str
        required: true
  absent:
    description: Absolute paths of files that must not exist.
    type: list
    elements: str
    default: []
  directories:
    description: Directories that must exist.
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
        default: "0755"
      owner:
        description: Owner, a name, C(uid) or C(uid:gid).
        type: str
        default: root
  validate:
    description:
      - Commands that judge a file before it takes its place, by path relative to the tree. Each is a list of arguments in which
        C(%s) stands for the temporary file.
    type: dict
    default: {}
  reactions:
    description: What must run after a file changed, each at most once.
    type: list
    elements: dict
    default: []
    suboptions:
      paths:
        description: Regular expressions for absolute paths; one that matches a changed path starts the reaction.
        type: list
        elements: str
        required: true
      command:
        description: The command as a list of arguments.
        type: list
        elements: str
        required: true
      holds:
        description:
          - A command that succeeds as long as what the reaction brings about is there, such as a rule set in the kernel.
          - Where it fails, the reaction runs though no path changed. It must change nothing itself, as check mode runs it too.
        type: list
        elements: str
  payload:
    description: The rendered files. Made by the action plugin; not to be given by a user.
    type: str
"""

EXAMPLES = r"""
- name: Write the host's configuration
  novacorrente.platform.files:
    modes:
      root/.docker/config.json: "0600"
    validate:
      etc/ssh/sshd_config.d/50-platform.conf: [sshd, -t, -f, "%s"]
    reactions:
      - paths: [^/etc/sysctl\.d/]
        command: [sysctl, --system]
  register: host_files
"""

RETURN = r"""
changed_paths:
  description: Absolute paths of files and directories that were, or in check mode would be, written or removed.
  returned: always
  type: list
  elements: str
  sample: [/etc/sysctl.d/60-platform.conf]
reactions:
  description: Commands that ran, or in check mode would run.
  returned: always
  type: list
  elements: str
  sample: [sysctl --system]
"""

import json
import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._tree import (
    TreeError,
    TreeFile,
    check_relative,
    commit_temporary,
    decode_payload,
    differences,
    ensure_directory,
    file_diff,
    read_file,
    resolve_owner,
    write_file,
    write_temporary,
)

PENDING = "/var/lib/novacorrente/pending"


class Files:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.files = decode_payload(self.params["payload"])
        self.owner = resolve_owner(self.params["owner"], self.params["group"])
        self.reactions: list[dict[str, t.Any]] = self.params["reactions"]
        check_relative(self.params["name"])
        self.marker = os.path.join(PENDING, self.params["name"] + ".json")

    def run(self) -> dict[str, t.Any]:
        changed_paths: list[str] = []
        diff: list[dict[str, str]] = []
        for item in self.params["directories"]:
            owner = resolve_owner(item["owner"])
            if ensure_directory(item["path"], int(item["mode"], 8), owner, self.module.check_mode):
                changed_paths.append(item["path"])
        wanted: list[tuple[str, TreeFile]] = []
        for item in self.files:
            path = "/" + item.path
            found = differences(path, item, self.owner)
            if found:
                wanted.append((path, item))
                changed_paths.append(path)
                diff.append(file_diff(path, read_file(path), item))
        unwanted = [path for path in self.params["absent"] if os.path.lexists(path)]
        changed_paths.extend(unwanted)

        pending = self.pending(changed_paths)
        if not self.module.check_mode:
            if pending:
                self.remember(pending)
            self.write(wanted, unwanted)
            self.react(pending)
        return {
            "changed": bool(changed_paths or pending),
            "changed_paths": changed_paths,
            "reactions": [" ".join(command) for command in pending],
            "diff": diff,
        }

    def pending(self, changed_paths: list[str]) -> list[list[str]]:
        """Commands owed: by what changes now, and by what an earlier run left undone."""
        left = json.loads((read_file(self.marker) or b"[]").decode("utf-8"))
        known = [reaction["command"] for reaction in self.reactions]
        owed = [command for command in left if command in known]
        for reaction in self.reactions:
            touched = any(re.search(pattern, path) for pattern in reaction["paths"] for path in changed_paths)
            if reaction["command"] not in owed and (touched or not self.holds(reaction["holds"])):
                owed.append(reaction["command"])
        return sorted(owed, key=known.index)

    def holds(self, command: list[str] | None) -> bool:
        if not command:
            return True
        try:
            return bool(self.module.run_command(command, handle_exceptions=False)[0] == 0)
        except OSError:
            # A program that is not there yet holds nothing.
            return False

    def remember(self, commands: list[list[str]]) -> None:
        write_file(self.marker, TreeFile("marker", json.dumps(commands).encode("utf-8"), "0600"), None)

    def write(self, wanted: list[tuple[str, TreeFile]], unwanted: list[str]) -> None:
        """All files are written and judged beside their places first, so that one refused file leaves every old one."""
        written: list[tuple[str, str]] = []
        try:
            for path, item in wanted:
                written.append((write_temporary(path, item, self.owner), path))
                self.validate(item.path, written[-1][0])
            while written:
                commit_temporary(*written.pop(0))
        finally:
            for temporary, _path in written:
                os.unlink(temporary)
        for path in unwanted:
            os.unlink(path)

    def validate(self, path: str, temporary: str) -> None:
        command = self.params["validate"].get(path)
        if not command:
            return
        argv = [temporary if word == "%s" else str(word) for word in command]
        code, out, err = self.module.run_command(argv)
        if code != 0:
            raise TreeError(f"/{path} was not changed: {' '.join(argv)} refused the new content with exit code {code}: {(err or out).strip()}")

    def react(self, commands: list[list[str]]) -> None:
        left = list(commands)
        for command in commands:
            code, out, err = self.module.run_command(command)
            if code != 0:
                reason = (err or out).strip()
                raise TreeError(f"{' '.join(command)} failed with exit code {code} after its files changed: {reason} It is repeated by the next run.")
            left.remove(command)
            if left:
                self.remember(left)
        if commands:
            os.unlink(self.marker)


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "absent": {"type": "list", "elements": "str", "default": []},
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0755"},
                    "owner": {"type": "str", "default": "root"},
                },
            },
            "validate": {"type": "dict", "default": {}},
            "reactions": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "paths": {"type": "list", "elements": "str", "required": True},
                    "command": {"type": "list", "elements": "str", "required": True},
                    "holds": {"type": "list", "elements": "str"},
                },
            },
            "payload": {"type": "str", "no_log": True},
            # The action plugin's own, resolved on the controller.
            "tree": {"type": "str", "default": "files"},
            "mode": {"type": "str", "default": "0644"},
            "modes": {"type": "dict", "default": {}},
            "extra_files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "src": {"type": "str", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    try:
        result = Files(module).run()
    except (TreeError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
