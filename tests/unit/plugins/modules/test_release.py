# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How live files are taken up by services. The rest of the module is tested on a real host (tests/e2e/test_7_release.py)."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.novacorrente.platform.plugins.module_utils._tree import TreeError
from ansible_collections.novacorrente.platform.plugins.modules.release import Release


class Module:
    """As much of AnsibleModule as a reload uses: commands of the host run for real, those of Docker are only noted."""

    check_mode = False

    def __init__(self, root: pathlib.Path) -> None:
        self.params = {"root": str(root), "tier": "demo"}
        self.docker: list[list[str]] = []

    def get_bin_path(self, name: str) -> str:
        return f"/usr/bin/{name}"

    def run_command(self, words: list[str], cwd: str | None = None, handle_exceptions: bool = True) -> tuple[int, str, str]:
        if words[0] == "docker":
            self.docker.append(words)
            return 0, "", ""
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def module(tmp_path: pathlib.Path) -> Module:
    (tmp_path / "demo" / "releases" / "r1" / "config").mkdir(parents=True)
    (tmp_path / "demo" / "current").symlink_to("releases/r1")
    (tmp_path / "demo" / "reload-pending").touch()
    return Module(tmp_path)


def reload(module: Module, **step: t.Any) -> None:
    Release(t.cast(t.Any, module)).reload([{"service": "server", **step}])


def test_a_command_of_the_host_runs_in_the_current_release(module: Module, tmp_path: pathlib.Path):
    reload(module, host_command=[sys.executable, "-c", "import pathlib; pathlib.Path('config/told').write_text('x')"])
    assert (tmp_path / "demo/releases/r1/config/told").read_text() == "x"
    assert not (tmp_path / "demo/reload-pending").exists()
    assert module.docker == []


def test_a_command_of_the_host_that_fails_is_owed_to_the_next_run(module: Module, tmp_path: pathlib.Path):
    with pytest.raises(TreeError, match="reload of server failed and is repeated by the next run: not today"):
        reload(module, host_command=[sys.executable, "-c", "raise SystemExit('not today')"])
    assert (tmp_path / "demo/reload-pending").exists()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"command": ["/bin/reload", "now"]}, ["exec", "-T", "server", "/bin/reload", "now"]),
        ({"signal": "HUP"}, ["kill", "--signal", "HUP", "server"]),
    ],
)
def test_commands_in_the_container_and_signals_go_by_compose(module: Module, step: dict[str, t.Any], words: list[str]):
    reload(module, **step)
    assert module.docker[0][-len(words) :] == words
