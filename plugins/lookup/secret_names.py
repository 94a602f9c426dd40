# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: the names of the secrets that the roles of this collection require."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secret_names
short_description: Names of the secrets that the roles require
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Reads the argument specs of the roles of this collection, and returns the options that are both C(required) and C(no_log).
  - A generator of secrets therefore knows the secrets of a new role without being told.
options:
  _terms:
    description: Not used.
    required: false
"""

EXAMPLES = r"""
- name: Show which secrets an inventory must have
  ansible.builtin.debug:
    msg: "{{ query('novacorrente.platform.secret_names') }}"
"""

RETURN = r"""
_list:
  description: The names, sorted.
  type: list
  elements: str
"""

import os
import typing as t

from ansible.plugins.lookup import LookupBase

from ansible_collections.novacorrente.platform.plugins.plugin_utils._validation import spec_secrets
from ansible_collections.novacorrente.platform.plugins.plugin_utils._validation_io import load_roles


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        collection = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        names: set[str] = set()
        for role in load_roles(os.path.join(collection, "roles")).values():
            names |= {name for name in spec_secrets(role.options) if role.options[name].get("required")}
        return sorted(names)
