# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a tree of templates on the controller and pack it for one module execution.

Private to this collection.
"""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.template import trust_as_template

from ansible_collections.novacorrente.platform.plugins.module_utils._tree import TreeFile, encode_payload, is_secret

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

SUFFIX = ".j2"
MAX_FILE_BYTES = 8 * 1024 * 1024

ModeOf = t.Callable[[str], str]


def role_path(action: ActionBase) -> str:
    """The directory of the role that the task belongs to."""
    role = action._task._role
    if role is None:
        raise AnsibleActionFail(f"{action._task.action} renders the templates of a role and can only be used inside one.")
    return str(to_text(role._role_path))


def list_tree(base: str) -> list[str]:
    """Paths of all files under a directory, relative to it, sorted. Empty where the directory does not exist."""
    found: list[str] = []
    for folder, _dirs, names in os.walk(base):
        found.extend(os.path.relpath(os.path.join(folder, name), base) for name in names)
    return sorted(found)


def render_tree(action: ActionBase, base: str, task_vars: dict[str, t.Any], mode_of: ModeOf) -> list[TreeFile]:
    """Render every file under ``base``.

    ``X.j2`` is templated to ``X``; any other file is taken as it is. A file whose rendered text is blank is left out, so
    that a template can switch itself off. ``mode_of`` gives the octal mode of a path; one without read permission
    for others makes the file secret.
    """
    files: list[TreeFile] = []
    templar = None
    for source in list_tree(base):
        full = os.path.join(base, source)
        if source.endswith(SUFFIX):
            if templar is None:
                search = [base, os.path.dirname(base), *task_vars.get("ansible_search_path", [])]
                templar = action._templar.copy_with_new_env(searchpath=search, available_variables=task_vars)
            path = source[: -len(SUFFIX)]
            content = _render(action, templar, full)
            if not content.strip():
                continue
        else:
            path = source
            with open(full, "rb") as stream:
                content = stream.read()
        files.append(_tree_file(path, content, mode_of(path)))
    return files


def read_extra(items: t.Sequence[t.Mapping[str, str]], mode_of: ModeOf) -> list[TreeFile]:
    """Files that lie on the controller outside the role: ``path`` (in the tree) and ``src`` (on the controller)."""
    files = []
    for item in items:
        try:
            with open(to_bytes(item["src"]), "rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
        except OSError as exc:
            raise AnsibleActionFail(f"extra_files: cannot read {item['src']!r} on the controller: {exc.strerror}.") from exc
        if len(content) > MAX_FILE_BYTES:
            raise AnsibleActionFail(
                f"extra_files: {item['src']!r} is larger than {MAX_FILE_BYTES} bytes, the limit of a release. "
                "Mount such a file on the host, or read it from an S3 or HTTPS address."
            )
        files.append(_tree_file(item["path"], content, mode_of(item["path"])))
    return files


def pack(files: t.Sequence[TreeFile]) -> str:
    """The files as one opaque string (the only module argument that holds their content, marked no_log)."""
    return encode_payload(files)


def _tree_file(path: str, content: bytes, mode: str) -> TreeFile:
    return TreeFile(path=path, content=content, mode=mode, secret=is_secret(mode))


def _render(action: ActionBase, templar: t.Any, full: str) -> bytes:
    text = trust_as_template(action._loader.get_text_file_contents(full))
    try:
        rendered = templar.template(text, escape_backslashes=False, overrides={"trim_blocks": True})
    except Exception as exc:
        raise AnsibleActionFail(f"Cannot render {full}: {exc}") from exc
    return bytes(to_bytes("" if rendered is None else rendered, nonstring="simplerepr"))
