# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action as a playbook sees it: files, check mode, diff, second run."""

from __future__ import annotations

import datetime
import pathlib
import sys
import typing as t
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ansible_collections.novacorrente.platform.plugins.action.leaf_certificates import ActionModule

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "plugin_utils"))
from test__certificates import CA, CA_KEY, PASSPHRASE, make_ca  # noqa: E402


def ended_ca() -> x509.Certificate:
    return make_ca(days=-0.5, now=datetime.datetime.now(datetime.UTC))[0]


@pytest.fixture
def pki(tmp_path: pathlib.Path) -> pathlib.Path:
    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    (tmp_path / "ca.crt").write_bytes(CA.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(CA_KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    return tmp_path


def run(pki: pathlib.Path, check_mode: bool = False, **extra: t.Any) -> dict[str, t.Any]:
    wanted = {"path": str(pki / "hosts" / "data1" / "minio.pem"), "names": ["data1"], "addresses": ["192.0.2.31"], "usages": ["serverAuth"]}
    args = {"certificates": [wanted], "ca_certificate": str(pki / "ca.crt"), "ca_key": str(pki / "ca.key"), "passphrase": PASSPHRASE, **extra}
    task = mock.MagicMock(args=args, check_mode=check_mode, async_val=0, diff=False)
    action = ActionModule(task, mock.MagicMock(), mock.MagicMock(check_mode=check_mode), mock.MagicMock(), mock.MagicMock(), mock.MagicMock())
    return action.run(task_vars={"inventory_hostname": "data1"})


def test_the_first_run_issues_and_the_second_does_nothing(pki: pathlib.Path):
    first = run(pki)
    leaf = pki / "hosts" / "data1" / "minio.pem"
    assert first["changed"] and first["issued"][0]["reason"] == "there is none yet"
    assert leaf.stat().st_mode & 0o777 == 0o600 and leaf.parent.stat().st_mode & 0o777 == 0o700
    assert "names: data1" in first["diff"][0]["after"] and "KEY" not in str(first)
    content = leaf.read_bytes()
    second = run(pki)
    assert not second["changed"] and second["issued"] == [] and leaf.read_bytes() == content


def test_check_mode_writes_nothing_and_needs_no_ca(pki: pathlib.Path):
    assert run(pki, check_mode=True)["changed"]
    (pki / "ca.crt").unlink()
    assert run(pki, check_mode=True)["issued"][0]["reason"] == "there is no CA yet"
    assert not (pki / "hosts").exists()


@pytest.mark.parametrize(
    ("break_it", "extra", "message"),
    [
        (lambda pki: (pki / "ca.crt").unlink(), {}, "there is no CA certificate"),
        (lambda pki: (pki / "ca.key").unlink(), {}, "there is no CA key"),
        (lambda pki: (pki / "ca.crt").write_bytes(ended_ca().public_bytes(serialization.Encoding.PEM)), {}, r"ended on \d{4}-\d\d-\d\d"),
        (lambda pki: None, {"passphrase": "wrong"}, "cannot be read with the passphrase"),
        (lambda pki: None, {"renew_days": 80}, "it must be less"),
    ],
)
def test_what_cannot_work_is_told(pki: pathlib.Path, break_it: t.Callable[[pathlib.Path], t.Any], extra: dict[str, t.Any], message: str):
    break_it(pki)
    with pytest.raises(AnsibleActionFail, match=message):
        run(pki, **extra)
