# SPDX-License-Identifier: GPL-3.0-or-later
"""The action around the module preflight: clocks, and hosts that do not answer."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.novacorrente.platform.plugins.action.preflight import ActionModule


class Task:
    args: t.ClassVar[dict[str, t.Any]] = {"clock_tolerance": 5, "connection": {"ansible_host": "192.0.2.31", "ansible_user": "operator"}}
    async_val = 0
    check_mode = True
    diff = False
    register = None


def ask(monkeypatch: pytest.MonkeyPatch, answer: t.Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
    action = ActionModule.__new__(ActionModule)
    action._task = Task()
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
    monkeypatch.setattr(ActionModule, "_execute_module", lambda self, **kwargs: answer())
    return action.run(task_vars={"inventory_hostname": "data1"})


def test_a_good_answer_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask(monkeypatch, lambda: {"findings": [], "preflight": {"init": "systemd"}, "time": time.time()})
    assert result["findings"] == [] and result["preflight"] == {"init": "systemd"}


@pytest.mark.parametrize(("offset", "text"), [(-60, "behind"), (60, "ahead")])
def test_a_wrong_clock_is_a_finding(monkeypatch: pytest.MonkeyPatch, offset: int, text: str) -> None:
    result = ask(monkeypatch, lambda: {"findings": [], "preflight": {}, "time": time.time() + offset})
    assert [item["code"] for item in result["findings"]] == ["CLOCK_OFF"] and text in result["findings"][0]["message"]


def test_an_unreachable_host_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[str, t.Any]:
        raise AnsibleConnectionFailure("connect to host 192.0.2.31 port 22: Connection refused")

    result = ask(monkeypatch, refuse)
    assert [item["code"] for item in result["findings"]] == ["HOST_UNREACHABLE"] and not result.get("failed") and not result.get("unreachable")
    assert result["findings"][0]["hosts"] == ["data1"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"failed": True, "msg": "MODULE FAILURE", "module_stderr": "/usr/bin/python3: not found"}, "PREFLIGHT_FAILED"),
        ({"failed": True, "msg": "Missing sudo password"}, "BECOME_FAILED"),
        ({"failed": True, "msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required"}, "BECOME_FAILED"),
        ({"failed": True, "msg": "", "module_stderr": "operator is not in the sudoers file."}, "BECOME_FAILED"),
    ],
)
def test_a_module_that_cannot_run_is_a_finding(monkeypatch: pytest.MonkeyPatch, answer: dict[str, t.Any], code: str) -> None:
    result = ask(monkeypatch, lambda: answer)
    assert [item["code"] for item in result["findings"]] == [code] and not result.get("failed")
