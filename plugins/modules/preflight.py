#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight
short_description: Tell what only the host knows, before anything is changed on it
version_added: 0.1.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Reads operating system, architecture, Python, init system, kernel features, addresses, free disk space and inodes, memory, the processes
    behind the ports that the host's tiers need, and the clock, in one execution.
  - Whatever it finds is returned as data in the form of M(novacorrente.platform.validate); the task itself never fails. A host that cannot be
    reached, has no Python or does not let its user become root is a finding too.
  - A port that a container of the platform holds is not taken. The engine is asked over its socket whose container it is.
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
    description: The platforms the module runs on.
options:
  address:
    description: Address that the host must have on one of its interfaces.
    type: str
  ports:
    description: TCP ports that the host's tiers take.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The number.
        type: int
        required: true
      tier:
        description: The tier that needs it.
        type: str
        required: true
      purpose:
        description: What it is for.
        type: str
        default: service
      variable:
        description: The variable that sets it, if there is one.
        type: str
        default: ""
  directories:
    description: Directories whose file systems must have room. They need not exist.
    type: list
    elements: path
    default: [/srv/platform, /var/lib/docker]
  min_disk_gib:
    description: Free space in GiB that must be left on each of these file systems.
    type: float
    default: 5
  min_inodes:
    description: Free inodes that must be left on each of these file systems.
    type: int
    default: 100000
  min_memory_mib:
    description: Memory that the host must have, in MiB. V(0) accepts any.
    type: int
    default: 0
  memory_limits:
    description: What O(min_memory_mib) is made of, in MiB by variable, for the message.
    type: dict
    default: {}
  clock_tolerance:
    description: Seconds by which the host's clock may be off the controller's, beyond the time that the call took.
    type: float
    default: 5
  connection:
    description: How the host is reached (C(ansible_host), C(ansible_user), C(ansible_port)), for the message when it cannot be.
    type: dict
    default: {}
  supported:
    description: Operating systems that are accepted.
    type: list
    elements: dict
    default:
      - {id: debian, version: "13"}
      - {id: ubuntu, version: "24.04"}
    suboptions:
      id:
        description: C(ID) of C(/etc/os-release).
        type: str
        required: true
      version:
        description: C(VERSION_ID) of C(/etc/os-release).
        type: str
        required: true
notes:
  - Needs C(become), to see which process holds a port.
seealso:
  - module: novacorrente.platform.validate
"""

EXAMPLES = r"""
- name: Ask the host
  novacorrente.platform.preflight:
    address: 192.0.2.31
    ports:
      - port: 9000
        tier: minio
        purpose: S3
        variable: minio_port
    min_disk_gib: 20
    min_memory_mib: 4096
  become: true
  register: asked

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ asked.findings | map(attribute='message') }}"
"""

RETURN = r"""
findings:
  description: What is wrong, in the form of RV(novacorrente.platform.validate#module:findings).
  returned: always
  type: list
  elements: dict
  sample:
    - code: PORT_TAKEN
      level: error
      message: Port 9000, which minio needs (S3), is held by nginx (process 812, unit nginx.service) on 0.0.0.0.
      variable: minio_port
      value: "9000"
      accepted: a port that no other process listens on
      mend: Stop and disable nginx.service (systemctl disable --now nginx.service), or move it to another port.
preflight:
  description: Facts that were read.
  returned: where the host answered
  type: dict
  contains:
    os:
      description: Operating system.
      type: dict
      sample: {id: debian, name: Debian GNU/Linux 13 (trixie), version: "13"}
    architecture:
      description: Processor architecture.
      type: str
      sample: x86_64
    kernel:
      description: Release of the kernel.
      type: str
      sample: 6.12.0
    kernel_features:
      description: Whether C(overlay) and C(nf_tables) are there.
      type: dict
      sample: {nf_tables: true, overlay: true}
    python:
      description: Version of Python.
      type: str
      sample: 3.13.5
    init:
      description: Name of process 1.
      type: str
      sample: systemd
    memory_mib:
      description: Memory in MiB.
      type: int
      sample: 7953
    memory_available_mib:
      description: Memory in MiB that could be used now.
      type: int
      sample: 6120
    addresses:
      description: The host's addresses.
      type: list
      elements: str
      sample: [127.0.0.1, 192.0.2.31]
    disks:
      description: Room on the file systems asked for.
      type: list
      elements: dict
      sample: [{free_gib: 61.2, free_inodes: 4127000, mount: /, path: /srv/platform}]
    ports:
      description: Ports asked for that somebody listens on, and who.
      type: list
      elements: dict
      sample: [{address: 0.0.0.0, holder: "minio (process 4711, container 9d3f4a8b1c2e)", port: 9000}]
time:
  description: The host's clock in seconds since 1970, read while the module ran.
  returned: where the host answered
  type: float
  sample: 1795334400.5
"""

import time
import traceback

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._preflight import Wanted, look


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str"},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "tier": {"type": "str", "required": True},
                    "purpose": {"type": "str", "default": "service"},
                    "variable": {"type": "str", "default": ""},
                },
            },
            "directories": {"type": "list", "elements": "path", "default": ["/srv/platform", "/var/lib/docker"]},
            "min_disk_gib": {"type": "float", "default": 5},
            "min_inodes": {"type": "int", "default": 100000},
            "min_memory_mib": {"type": "int", "default": 0},
            "memory_limits": {"type": "dict", "default": {}},
            "clock_tolerance": {"type": "float", "default": 5},
            "connection": {"type": "dict", "default": {}},
            "supported": {
                "type": "list",
                "elements": "dict",
                "default": [{"id": "debian", "version": "13"}, {"id": "ubuntu", "version": "24.04"}],
                "options": {"id": {"type": "str", "required": True}, "version": {"type": "str", "required": True}},
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Wanted(
        address=params["address"],
        ports=params["ports"],
        directories=params["directories"],
        minimum_disk_gib=params["min_disk_gib"],
        minimum_inodes=params["min_inodes"],
        memory_mib=params["min_memory_mib"],
        memory_limits=params["memory_limits"],
        supported=params["supported"],
    )
    try:
        findings, facts = look(wanted)
    except Exception as error:  # a host that cannot be read is a finding, made by the action
        module.fail_json(msg=f"The host could not be read: {error}", exception=traceback.format_exc())
    module.exit_json(changed=False, findings=findings, preflight=facts, time=time.time())


if __name__ == "__main__":
    main()
