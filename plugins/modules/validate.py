#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: validate
short_description: Check an inventory and report all findings at once
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Checks, on the controller and without any host, every variable of every host of the platform against the argument specs of the roles that
    will run there, with the roles' defaults resolved as the roles will see them; the topology (each cluster survives the loss of any one
    host, and of any one zone where zones are given); ports, addresses and networks; images; secrets; and the private CA.
  - Never stops at the first finding. Each finding has a stable code, the hosts, the variable, its value, what is accepted, and how to mend it;
    the same finding on several hosts is one. Secrets are shown by their length only.
  - Errors whose code is in the variable C(platform_accept_risks) become warnings, where the code allows it.
  - With O(checked) and O(preflight) it checks nothing again, but adds what the hosts said about themselves to an earlier result.
  - This is an action plugin, it always runs on the controller. C(--limit) does not narrow what it sees.
attributes:
  check_mode:
    support: full
    description: Never changes anything.
  diff_mode:
    support: none
    description: Never changes anything.
  idempotent:
    support: full
    description: Never changes anything.
  platform:
    support: full
    platforms: posix
    description: The platforms the action runs on.
requirements:
  - cryptography (on the controller, where there is a private CA)
options:
  online:
    description:
      - Whether images that no source on the controller holds may be looked up in their registry, over TLS, 5 seconds at most, all at once.
      - Without it nothing is said about such images.
    type: bool
    default: true
  fail:
    description:
      - Whether the report is displayed, and errors fail the task.
      - A task that failed and is not registered returns no data, so that the report stays in sight.
    type: bool
    default: true
  tiers:
    description: Groups that are wanted and checked. All of the platform's by default.
    type: list
    elements: str
    choices: [minio, redis, api, worker, scheduler, edge, registry]
  checked:
    description: Result of an earlier execution with O(fail=false).
    type: dict
  preflight:
    description: Results of M(novacorrente.platform.preflight) by host. An empty dictionary stands for a host that was not asked.
    type: dict
notes:
  - All codes are listed in C(docs/validation.md).
seealso:
  - module: novacorrente.platform.preflight
"""

EXAMPLES = r"""
- name: Check the inventory
  novacorrente.platform.validate:
    online: false
  run_once: true

- name: Check the inventory and go on
  novacorrente.platform.validate:
    fail: false
  register: checked
  run_once: true

- name: Let each host say what only it knows
  novacorrente.platform.preflight:
    address: "{{ checked.hosts[inventory_hostname].address }}"
    ports: "{{ checked.hosts[inventory_hostname].ports }}"
  register: asked

- name: Report everything
  novacorrente.platform.validate:
    checked: "{{ checked }}"
    preflight: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='asked', default={}))) }}"
  run_once: true
"""

RETURN = r"""
findings:
  description: All findings, errors first.
  returned: where the task did not fail, or is registered
  type: list
  elements: dict
  contains:
    code:
      description: Stable name of the kind of finding.
      type: str
      sample: MINIO_TOO_FEW_NODES
    level:
      description: Either V(error) or V(warning).
      type: str
      sample: error
    hosts:
      description: Hosts it was found on. Empty if it belongs to none.
      type: list
      elements: str
      sample: [data1, data2]
    message:
      description: What is wrong.
      type: str
      sample: "The cluster minio has 2 nodes (data1 and data2)."
    variable:
      description: The variable, or V(group x).
      type: str
      sample: group minio
    value:
      description: The value, of a secret only its length.
      type: str
      sample: "['data1', 'data2']"
    accepted:
      description: What would be accepted.
      type: str
      sample: 4 or more nodes
    mend:
      description: How to mend it.
      type: str
      sample: Add hosts to the group minio.
    accepted_risk:
      description: Whether this was an error that the operator accepted.
      type: bool
      sample: false
report:
  description: The findings as text for a person.
  returned: where the task did not fail, or is registered
  type: str
  sample: "Validation: 0 errors and 0 warnings."
error_count:
  description: Number of errors.
  returned: always
  type: int
  sample: 0
warning_count:
  description: Number of warnings.
  returned: always
  type: int
  sample: 0
hosts:
  description: What was resolved for each host of the platform, meant for M(novacorrente.platform.preflight).
  returned: where the task did not fail, or is registered
  type: dict
  contains:
    tiers:
      description: Tiers that run on the host.
      type: list
      elements: str
    address:
      description: The host's address.
      type: str
    zone:
      description: The host's zone.
      type: str
    root:
      description: Directory of the platform on the host.
      type: str
    ports:
      description: Ports that the host's tiers take.
      type: list
      elements: dict
    memory:
      description: Memory limits in MiB by variable.
      type: dict
    memory_mib:
      description: Memory that the host needs, in MiB.
      type: int
    disk_gib:
      description: Free space that must be left, in GiB.
      type: float
    inodes:
      description: Free inodes that must be left.
      type: int
    clock_tolerance:
      description: Seconds by which the clock may be off.
      type: float
    risks:
      description: Accepted risks.
      type: list
      elements: str
    connection:
      description: How the host is reached.
      type: dict
  sample: {}
"""
