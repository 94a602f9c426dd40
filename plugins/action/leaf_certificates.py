# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.novacorrente.platform.plugins.module_utils._tree import TreeFile, read_file, write_file
from ansible_collections.novacorrente.platform.plugins.plugin_utils._certificates import (
    USAGES,
    CertificateError,
    Wanted,
    days_left,
    describe,
    issue,
    lifetime_days,
    load_ca_key,
    load_first,
    reason_to_issue,
)

if t.TYPE_CHECKING:
    from cryptography import x509

ARGUMENTS = {
    "certificates": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "usages": {"type": "list", "elements": "str", "choices": sorted(USAGES), "default": ["serverAuth"]},
        },
    },
    "common_name": {"type": "str"},
    "ca_certificate": {"type": "path", "required": True},
    "ca_key": {"type": "path", "required": True},
    "passphrase": {"type": "str", "required": True, "no_log": True},
    "days": {"type": "int", "default": 90},
    "spread_days": {"type": "int", "default": 20},
    "renew_days": {"type": "int", "default": 30},
    "ca_warn_days": {"type": "int", "default": 365},
}


class Due(t.NamedTuple):
    """A certificate to issue."""

    path: str
    wanted: Wanted
    days: int
    reason: str


class ActionModule(ActionBase):
    """Judges and issues certificates in the process of the controller; no module is executed."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _unused, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        now = datetime.datetime.now(datetime.UTC)
        common_name = args["common_name"] or (task_vars or {}).get("inventory_hostname") or "localhost"
        shortest = args["days"] - args["spread_days"]
        try:
            if args["renew_days"] >= shortest:
                raise CertificateError(f"renew_days is {args['renew_days']}, but the shortest certificates live {shortest} days; it must be less.")
            ca = self._ca(args, now)
            due = [item for row in args["certificates"] if (item := self._judge(row, args, ca, now))]
            diff = [{"before_header": item.path, "after_header": item.path, "before": describe(read_file(item.path))} for item in due]
            if due and ca and not self._task.check_mode:
                self._issue(due, ca, common_name, args, now)
            for item, entry in zip(due, diff, strict=False):
                written = not self._task.check_mode
                entry["after"] = describe(read_file(item.path)) if written else f"(issued anew: {item.reason})\n"
        except CertificateError as exc:
            raise AnsibleActionFail(f"leaf_certificates: {exc}") from exc
        except OSError as exc:
            raise AnsibleActionFail(f"leaf_certificates: {exc.filename or ''}: {exc.strerror}.") from exc
        result.update(changed=bool(due), issued=[{"path": item.path, "reason": item.reason} for item in due], diff=diff)
        return result

    def _ca(self, args: dict[str, t.Any], now: datetime.datetime) -> x509.Certificate | None:
        path = args["ca_certificate"]
        pem = read_file(path)
        if pem is None:
            if self._task.check_mode:
                return None
            raise CertificateError(f"there is no CA certificate {path}.")
        ca = load_first(pem, path)
        left = days_left(ca, now)
        if left <= 0:
            raise CertificateError(f"the CA {path} ended on {ca.not_valid_after_utc:%Y-%m-%d}. Replace it: nothing it signed is trusted any more.")
        if left < args["ca_warn_days"]:
            Display().warning(f"The CA {path} ends on {ca.not_valid_after_utc:%Y-%m-%d}; plan its replacement.")
        return ca

    def _judge(self, row: dict[str, t.Any], args: dict[str, t.Any], ca: x509.Certificate | None, now: datetime.datetime) -> Due | None:
        wanted = Wanted.of(row["names"], row["addresses"], row["usages"])
        path = row["path"]
        days = lifetime_days("/".join(path.split(os.sep)[-2:]), args["days"], args["spread_days"])
        if ca is None:
            return Due(path, wanted, days, "there is no CA yet")
        # Near the CA's own end a new certificate cannot last longer than the present one.
        reason = reason_to_issue(read_file(path), wanted, ca, min(args["renew_days"], days_left(ca, now) - 1), now)
        return Due(path, wanted, days, reason) if reason else None

    def _issue(self, due: list[Due], ca: x509.Certificate, common_name: str, args: dict[str, t.Any], now: datetime.datetime) -> None:
        pem = read_file(args["ca_key"])
        if pem is None:
            raise CertificateError(f"there is no CA key {args['ca_key']}.")
        key = load_ca_key(pem, args["passphrase"], ca)
        for item in due:
            os.makedirs(os.path.dirname(item.path), 0o700, exist_ok=True)
            content = issue(common_name, item.wanted, ca, key, item.days, args["passphrase"], now)
            write_file(item.path, TreeFile(os.path.basename(item.path), content, "0600", secret=True), None)
