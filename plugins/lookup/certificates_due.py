# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: certificates_due
short_description: Which leaf certificates of the controller must be issued
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Compares the leaf certificates that are wanted with the files on the controller, and returns those that are missing, state other
    names or usages, come from another CA, or end soon, each with the reason.
  - Costs about a millisecond a certificate and no module execution.
  - Fails where the CA itself has ended, warns where it will within O(ca_warn_days).
options:
  _terms:
    description:
      - The certificates that are wanted, as dictionaries with the keys C(path) (file on the controller that holds certificate and
        encrypted key), C(names), C(addresses), C(usages) (C(serverAuth), C(clientAuth)); other keys are handed through.
    type: list
    elements: dict
    required: true
  ca_file:
    description: The CA's certificate. Where the file does not exist, everything is due. Unset skips what concerns the issuer.
    type: path
  renew_days:
    description: A certificate with fewer days left is due.
    type: int
    default: 30
  days:
    description: Lifetime of a new certificate in days.
    type: int
    default: 90
  spread_days:
    description: Each certificate lives up to so many days less than O(days), told from its path, so that they do not all end on one day.
    type: int
    default: 0
  ca_warn_days:
    description: Warn where the CA has fewer days left.
    type: int
    default: 365
"""

EXAMPLES = r"""
- name: Show what is due
  ansible.builtin.debug:
    msg: "{{ lookup('novacorrente.platform.certificates_due', leaves, ca_file='pki/ca.crt', wantlist=true) }}"
  vars:
    leaves:
      - path: pki/hosts/edge1/edge.pem
        names: [platform.example.org]
        addresses: [192.0.2.10]
        usages: [serverAuth]
"""

RETURN = r"""
_list:
  description: The certificates that are due, with the keys C(reason) and C(lifetime_days) added.
  type: list
  elements: dict
"""

import datetime
import os
import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.novacorrente.platform.plugins.plugin_utils._certificates import (
    CertificateError,
    Wanted,
    days_left,
    lifetime_days,
    load_first,
    reason_to_issue,
)

if t.TYPE_CHECKING:
    from cryptography import x509


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise AnsibleLookupError(f"certificates_due: cannot read {path}: {exc.strerror}.") from exc


class LookupModule(LookupBase):
    def run(self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        now = datetime.datetime.now(datetime.timezone.utc)
        ca_file = self.get_option("ca_file")
        try:
            ca, ca_days = self._ca(ca_file, now) if ca_file else (None, None)
            return [due for leaf in self._flatten(terms) if (due := self._judge(leaf, ca_file, ca, ca_days, now))]
        except CertificateError as exc:
            raise AnsibleLookupError(f"certificates_due: {exc}") from exc

    def _ca(self, path: str, now: datetime.datetime) -> tuple[x509.Certificate | None, float | None]:
        pem = _read(path)
        if pem is None:
            return None, None
        ca = load_first(pem, path)
        left = days_left(ca, now)
        if left <= 0:
            raise CertificateError(f"the CA {path} ended on {ca.not_valid_after_utc:%Y-%m-%d}. Replace it: nothing it signed is trusted any more.")
        if left < self.get_option("ca_warn_days"):
            Display().warning(f"The CA {path} ends on {ca.not_valid_after_utc:%Y-%m-%d}; plan its replacement.")
        return ca, left

    def _judge(
        self, leaf: dict[str, t.Any], ca_file: str | None, ca: x509.Certificate | None, ca_days: float | None, now: datetime.datetime
    ) -> dict[str, t.Any] | None:
        try:
            wanted = Wanted.of(leaf["names"], leaf["addresses"], leaf["usages"])
            path = leaf["path"]
        except (KeyError, TypeError) as exc:
            raise CertificateError(f"each term needs path, names, addresses and usages; {exc} is missing or of a wrong type.") from exc
        if ca_file and ca is None:
            reason = "there is no CA yet"
        else:
            reason = reason_to_issue(_read(path), wanted, ca, self.get_option("renew_days"), now)
        if not reason:
            return None
        identity = "/".join(str(path).split(os.sep)[-2:])
        days = lifetime_days(identity, self.get_option("days"), self.get_option("spread_days"))
        # A leaf that outlives its CA would look valid and be refused.
        return {**leaf, "reason": reason, "lifetime_days": days if ca_days is None else max(1, min(days, int(ca_days)))}
