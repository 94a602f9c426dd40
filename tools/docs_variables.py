#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write each role's table of variables into its README from meta/argument_specs.yml, and check both against the defaults.

    tools/docs_variables.py            write the tables
    tools/docs_variables.py --check    change nothing, exit 1 where something differs

What is checked: every default is documented, every documented variable has a default or none by intention (required, or without
`default`), literal defaults are the same in both files, names carry the role's prefix, and each variable is used somewhere.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- variables: written by tools/docs_variables.py from meta/argument_specs.yml -->"
END = "<!-- variables: end -->"
# A longer default would make the table unreadable.
LONGEST = 160
USERS = ("roles", "plugins", "playbooks")
SUFFIXES = {".yml", ".j2", ".py", ".sh", ".conf"}


class Loader(yaml.SafeLoader):
    """Vaulted and unsafe values are kept as text."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: loader.construct_scalar(t.cast(yaml.ScalarNode, node)))


def load(path: Path) -> dict[str, t.Any]:
    if not path.exists():
        return {}
    document = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    return document if isinstance(document, dict) else {}


def markdown(text: str | list[str]) -> str:
    """Ansible's markup as Markdown, on one line that fits a table's cell."""
    line = " ".join(text) if isinstance(text, list) else text
    line = re.sub(r"\b[COVE]\(([^)]*)\)", r"`\1`", line)
    line = re.sub(r"\bRV\(([^)]*)\)", r"`\1`", line)
    line = re.sub(r"\b[MP]\(([^)#]*)(#[a-z]+)?\)", r"`\1`", line)
    line = re.sub(r"\bB\(([^)]*)\)", r"**\1**", line)
    line = re.sub(r"\bI\(([^)]*)\)", r"*\1*", line)
    line = re.sub(r"\bL\(([^,]*),\s*([^)]*)\)", r"[\1](\2)", line)
    line = re.sub(r"\bU\(([^)]*)\)", r"<\1>", line)
    return re.sub(r"\s+", " ", line).strip().replace("|", "\\|")


def kind(option: dict[str, t.Any]) -> str:
    name = str(option.get("type", "str"))
    return f"{name} of {option['elements']}" if "elements" in option else name


def default(option: dict[str, t.Any]) -> str:
    if option.get("required"):
        return "*required*"
    if "default" not in option:
        return ""
    value = option["default"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > LONGEST:
        return "see [defaults](defaults/main.yml)"
    return "`" + re.sub(r"\s+", " ", text).strip().replace("|", "\\|") + "`" if text else '`""`'


def rows(options: dict[str, t.Any], prefix: str = "") -> t.Iterator[str]:
    for name, option in options.items():
        text = markdown(option.get("description", ""))
        if option.get("choices"):
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        if option.get("no_log") and not text.endswith("Secret."):
            text += " Secret."
        yield f"| `{prefix}{name}` | {kind(option)} | {default(option)} | {text} |"
        if option.get("options"):
            mark = "[]." if option.get("type") == "list" else "."
            yield from rows(option["options"], f"{prefix}{name}{mark}")


def table(options: dict[str, t.Any]) -> str:
    return "\n".join([BEGIN, "", "| variable | type | default | meaning |", "|---|---|---|---|", *rows(options), "", END])


def replace(text: str, block: str) -> str | None:
    """The text with the block between the markers; None where it has no markers."""
    start, end = text.find(BEGIN), text.find(END)
    if start < 0 or end < start:
        return None
    return text[:start] + block + text[end + len(END) :]


def same_default(documented: t.Any, real: t.Any) -> bool:
    """A computed default (a template) may be documented in words; a literal one is written the same."""
    return "{{" in str(real) or "{%" in str(real) or documented == real


def options_of(role: Path) -> dict[str, t.Any]:
    """What the role's argument specs document, of all entry points."""
    options: dict[str, t.Any] = {}
    for entry in load(role / "meta/argument_specs.yml").get("argument_specs", {}).values():
        options.update(entry.get("options") or {})
    return options


def check_role(role: Path, corpus: dict[Path, str]) -> list[str]:
    name = role.name
    options = options_of(role)
    defaults = load(role / "defaults/main.yml")
    found = [f"{key} has a default but no entry in meta/argument_specs.yml" for key in defaults if not key.startswith("__") and key not in options]
    for key, option in options.items():
        if not key.startswith(name + "_"):
            found.append(f"{key} does not carry the role's prefix {name}_")
        if not option.get("description"):
            found.append(f"{key} has no description")
        if "default" in option and key not in defaults:
            found.append(f"{key} has a documented default but none in defaults/main.yml")
        if key in defaults and option.get("required"):
            found.append(f"{key} is required and has a default, which cannot both be")
        # What is computed has no literal of its type that could be documented; its description says what it is.
        computed = "{{" in str(defaults.get(key)) and option.get("type", "str") not in ("str", "path")
        if key in defaults and "default" not in option and not computed:
            found.append(f"{key} has a default in defaults/main.yml that is not documented")
        if key in defaults and "default" in option and not same_default(option["default"], defaults[key]):
            found.append(f"{key} is documented with default {option['default']!r}, but has {defaults[key]!r}")
        if not used(key, role, corpus):
            found.append(f"{key} is used nowhere")
    return found


def used(key: str, role: Path, corpus: dict[Path, str]) -> bool:
    word = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(key)}(?![A-Za-z0-9_])")
    for path, text in corpus.items():
        if path == role / "meta/argument_specs.yml":
            continue
        # In the defaults themselves the definition does not count, a use in another default does.
        if path == role / "defaults/main.yml":
            text = re.sub(rf"(?m)^{re.escape(key)}:", "", text)
        if word.search(text):
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where something differs")
    check = parser.parse_args().check
    corpus = {
        path: path.read_text(encoding="utf-8", errors="replace")
        for top in USERS
        for path in sorted((ROOT / top).rglob("*"))
        if path.is_file() and path.suffix in SUFFIXES
    }
    problems = 0
    for role in sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir()):
        found = check_role(role, corpus)
        options = options_of(role)
        readme = role / "README.md"
        if not readme.exists():
            found.append("README.md is missing")
        elif options:
            old = readme.read_text(encoding="utf-8")
            new = replace(old, table(options))
            if new is None:
                found.append(f"README.md has no place for the table: add the lines {BEGIN!r} and {END!r}")
            elif new != old and check:
                found.append("README.md differs from meta/argument_specs.yml: run tools/docs_variables.py")
            elif new != old:
                readme.write_text(new, encoding="utf-8")
                print(f"roles/{role.name}/README.md written")
        for line in found:
            print(f"roles/{role.name}: {line}", file=sys.stderr)
        problems += len(found)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
