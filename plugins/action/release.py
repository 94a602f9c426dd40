# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import os
import typing as t

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.novacorrente.platform.plugins.module_utils._tree import TreeFile
from ansible_collections.novacorrente.platform.plugins.plugin_utils._render import pack, read_extra, render_tree, role_path

COMPOSE = "release/compose.yml"


def mode_of(path: str) -> str:
    """Secrets and private keys can be read by their owner only, scripts can be run, the rest can be read."""
    if path.startswith("release/secrets/") or "/private/" in path or path.endswith(".key"):
        return "0400"
    return "0555" if path.endswith(".sh") else "0444"


def mode_below(top: str, path: str) -> str:
    return mode_of(f"{top}/{path}")


def compose_services(files: t.Iterable[TreeFile]) -> list[str]:
    """Names of the services that the rendered compose file defines. Raises AnsibleActionFail where there is none."""
    for item in files:
        if item.path == COMPOSE:
            try:
                document = yaml.safe_load(item.content)
                return sorted(document["services"])
            except (yaml.YAMLError, KeyError, TypeError) as exc:
                raise AnsibleActionFail(f"templates/release/compose.yml.j2 did not render to a Compose file with services: {exc}") from exc
    raise AnsibleActionFail("The role has no templates/release/compose.yml.j2; a release needs one.")


class ActionModule(ActionBase):
    """Renders templates/release and templates/live of the role and hands both to the module in one execution."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if args.get("state", "staged") == "staged":
            templates = os.path.join(role_path(self), "templates")
            files = [
                TreeFile(f"{top}/{item.path}", item.content, item.mode, item.secret)
                for top in ("release", "live")
                for item in render_tree(self, os.path.join(templates, top), task_vars, functools.partial(mode_below, top))
            ]
            extra = [{**item, "path": f"release/{item['path']}"} for item in args.pop("extra_files", None) or []]
            files += read_extra(extra, mode_of)
            args["services"] = compose_services(files)
            args["payload"] = pack(files)
        result.update(self._execute_module(module_name="novacorrente.platform.release", module_args=args, task_vars=task_vars))
        if self._task._role is not None:
            result["settles"] = os.path.exists(os.path.join(role_path(self), "tasks", "settle.yml"))
        return result
