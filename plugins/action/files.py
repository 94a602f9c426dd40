# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.novacorrente.platform.plugins.plugin_utils._render import pack, read_extra, render_tree, role_path


class ActionModule(ActionBase):
    """Renders the role's tree on the controller and hands it to the module of the same name in one execution."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        _unused, valid = self.validate_argument_spec(
            argument_spec={
                "tree": {"type": "str", "default": "files"},
                "name": {"type": "str"},
                "owner": {"type": "str", "default": "root"},
                "group": {"type": "str", "default": "root"},
                "mode": {"type": "str", "default": "0644"},
                "modes": {"type": "dict", "default": {}},
                "extra_files": {"type": "list", "elements": "dict", "default": []},
                "absent": {"type": "list", "elements": "str", "default": []},
                "directories": {"type": "list", "elements": "dict", "default": []},
                "validate": {"type": "dict", "default": {}},
                "reactions": {"type": "list", "elements": "dict", "default": []},
            },
        )
        default_mode, modes = valid["mode"], valid["modes"]

        def mode_of(path: str) -> str:
            return str(modes.get(path, default_mode))

        base = os.path.join(role_path(self), "templates", args.pop("tree", "files"))
        files = render_tree(self, base, task_vars, mode_of) + read_extra(valid["extra_files"], mode_of)
        for name in ("mode", "modes", "extra_files"):
            args.pop(name, None)
        args.setdefault("name", os.path.basename(role_path(self)))
        args["payload"] = pack(files)
        result.update(self._execute_module(module_name="novacorrente.platform.files", module_args=args, task_vars=task_vars))
        return result
