#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: status
short_description: Tell what the members on a host are like
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Reads for each tier on a host which release is current, how its containers are, and how many days its certificate has left. One
    module execution for all tiers.
  - It tells what the host itself can see. Whether a cluster is well is for the gates to say, such as M(novacorrente.platform.redis_gate).
attributes:
  check_mode:
    support: full
    description: Nothing is changed, in check mode too.
  diff_mode:
    support: none
    description: There is nothing to show.
  idempotent:
    support: full
    description: Nothing is changed.
  platform:
    support: full
    platforms: posix
    description: The platforms the module runs on.
requirements:
  - Docker Engine on the host
  - openssl on the host, for the days that certificates have left
options:
  tiers:
    description: Tiers that the host should run, mostly the groups it is in.
    type: list
    elements: str
    required: true
  root:
    description: Directory under which all tiers lie.
    type: path
    default: /srv/platform
"""

EXAMPLES = r"""
- name: Look at the members of the host
  novacorrente.platform.status:
    tiers: "{{ group_names }}"
  register: members

- name: Say which are not well
  ansible.builtin.debug:
    msg: "{{ members.tiers | dict2items | selectattr('value.faults') | map(attribute='key') }}"
"""

RETURN = r"""
tiers:
  description: The members of the host by tier. A tier of O(tiers) without containers and release is left out.
  returned: success
  type: dict
  contains:
    release:
      description: The current release, empty where there is none.
      type: str
      sample: 8d4f2a61c0b7
    previous:
      description: The release to go back to, empty where there is none.
      type: str
      sample: 5b1e77a90d3c
    faults:
      description: What is wrong with the member, as sentences without a full stop.
      type: list
      elements: str
      sample: ["sentinel is restarting"]
    certificate_days:
      description: Whole days until the first of its certificates expires; none where it has no certificate or it cannot be read.
      type: int
      sample: 81
    services:
      description: Its containers, each with service, state, health, release, image, version, started, restarts, out_of_memory.
      type: list
      elements: dict
"""

import dataclasses
import datetime
import itertools
import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._status import LABEL_TIER, Service, days_left, faults, services_by_tier


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "tiers": {"type": "list", "elements": "str", "required": True},
            "root": {"type": "path", "default": "/srv/platform"},
        },
        supports_check_mode=True,
    )
    services = inspect(module)
    tiers = {}
    for tier in module.params["tiers"]:
        base = os.path.join(module.params["root"], tier)
        if tier in services or os.path.isdir(os.path.join(base, "releases")):
            tiers[tier] = member(module, base, services.get(tier, []))
    module.exit_json(changed=False, tiers=tiers)


def inspect(module: AnsibleModule) -> dict[str, list[Service]]:
    """All containers of the platform, those that do not run too."""
    docker = module.get_bin_path("docker")
    if not docker:
        return {}
    code, out, err = module.run_command([docker, "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL_TIER}"])
    if code != 0:
        module.fail_json(msg=f"The Docker engine does not answer: {err.strip()}")
    identities = out.split()
    if not identities:
        return {}
    # One of them may have gone meanwhile: what is left is still printed.
    _code, out, err = module.run_command([docker, "inspect", "--type", "container", *identities])
    return services_by_tier(json.loads(out or "[]"))


def member(module: AnsibleModule, base: str, services: list[Service]) -> dict[str, t.Any]:
    release, previous = (os.path.basename(os.readlink(path)) if os.path.islink(path) else "" for path in (f"{base}/current", f"{base}/previous"))
    return {
        "release": release,
        "previous": previous,
        "faults": faults(services, release),
        "certificate_days": min(certificates(module, [f"{base}/live", f"{base}/current/"]), default=None),
        "services": [dataclasses.asdict(service) for service in services],
    }


def certificates(module: AnsibleModule, roots: t.Sequence[str]) -> list[int]:
    """Days left of each certificate that the member shows; authorities are left out. Servers that read theirs at their start only have it in the release."""
    openssl = module.get_bin_path("openssl")
    found = []
    for folder, _folders, names in itertools.chain.from_iterable(map(os.walk, roots)):
        for name in names:
            if not openssl or not name.endswith((".crt", ".pem")) or name.startswith("ca."):
                continue
            _code, out, _err = module.run_command([openssl, "x509", "-noout", "-enddate", "-in", os.path.join(folder, name)])
            days = days_left(out, datetime.datetime.now(datetime.timezone.utc))
            if days is not None:
                found.append(days)
    return found


if __name__ == "__main__":
    main()
