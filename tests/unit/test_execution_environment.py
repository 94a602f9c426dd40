# SPDX-License-Identifier: GPL-3.0-or-later
"""What plugins import has to be in an execution environment: all of them may run on the controller."""

from __future__ import annotations

import ast
import pathlib
import re
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def imported(path: pathlib.Path) -> set[str]:
    """Top-level names of the modules that a Python file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_every_package_that_plugins_import_is_named() -> None:
    text = (REPOSITORY / "meta" / "ee-requirements.txt").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)^([a-z0-9_.-]+)", text))
    modules: set[str] = set().union(*(imported(path) for path in (REPOSITORY / "plugins").rglob("*.py")))
    assert {"minio", "cryptography"} <= modules
    # ansible-core brings PyYAML; bson is a part of pymongo.
    packages = {{"bson": "pymongo"}.get(module, module) for module in modules - {"ansible", "ansible_collections", "yaml"} - sys.stdlib_module_names}
    assert packages - named == set()
