#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: container_gate
short_description: Whether a tier's containers on this host are what they should be, and stay so
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Reads the containers of one tier from the engine of the host, again and again while O(min_healthy_time) runs. A container that runs and is healthy,
    but was started anew in between, has to prove itself from the beginning.
  - V(preflight) wants what runs to be well, and the coming images and their room to be on the host. A host without any container of the tier is new
    and passes. V(before) wants the coming images; the target may be in any state, and what the tier loses without it is what the tier's own gate knows.
    V(after) and V(final) want all containers healthy, of the expected release and images.
  - That a container is healthy is not that its service is; ask the tier's own gate too.
  - It runs C(docker) on the host, as the module M(novacorrente.platform.release) does, so that nothing need be installed for it.
extends_documentation_fragment:
  - novacorrente.platform.gate
notes:
  - O(expect_version) is the release that the containers' label C(novacorrente.release) must name. O(target) is the name of the host; it is only shown.
  - O(not_before) is compared with the clock of the host.
  - C(CONTAINER_ENGINE) the engine does not answer. See C(systemctl status docker), and whether the user may use it.
  - C(CONTAINER_MISSING) a service has no container. Run C(docker compose up) for the release.
  - C(CONTAINER_CREATED), C(CONTAINER_STARTING) it is on its way. Wait.
  - C(CONTAINER_RESTARTING), C(CONTAINER_CRASHES) it ends and the engine starts it again. See the lines of its log.
  - C(CONTAINER_RESTARTED) it was started anew while it was watched. Wait; find out who did.
  - C(CONTAINER_NOT_STARTED) it cannot be started, such as for a port that another holds or a command that is not there. See the text.
  - C(CONTAINER_STOPPED), C(CONTAINER_PAUSED) somebody stopped it, or it ended. Start it.
  - C(CONTAINER_OOM) it ran out of its memory limit. Raise the limit or find the leak.
  - C(CONTAINER_UNHEALTHY), C(CONTAINER_HEALTH) its health check fails. The text has what the check said.
  - C(CONTAINER_NO_HEALTHCHECK) nobody can tell when it is ready. Add one, or set O(healthcheck) to V(false).
  - C(CONTAINER_RELEASE), C(CONTAINER_IMAGE), C(CONTAINER_STRAY), C(CONTAINER_OLD) something else than the release runs. Activate the release.
  - C(CONTAINER_IMAGE_MISSING) a coming image is not on the host. Stage the release.
  - C(CONTAINER_DISK) there is no room for the coming images. Remove old ones (C(docker image prune)).
  - C(CONTAINER_STOP_TIMEOUT) the engine would kill it too early. Set stop_grace_period.
  - C(CONTAINER_LIVE_RESTORE) a restart of the engine would stop all containers. Set live-restore in its daemon.json.
requirements:
  - Docker Engine and its command line on the host
options:
  tier:
    description: The Compose project whose containers are meant.
    type: str
  containers:
    description: Names of containers, instead of O(tier).
    type: list
    elements: str
  services:
    description: Services that must have a container. By default those of O(images).
    type: list
    elements: str
    default: []
  images:
    description:
      - Service to image, as a reference with digest (C(name@sha256:...)) or the digest alone. In phases V(after) and V(final) the service must run
        it, in V(preflight) and V(before) it must be on the host.
    type: dict
    default: {}
  max_restarts:
    description: How many times the engine may have started a container again.
    type: int
    default: 0
  healthcheck:
    description: Whether every container must have a health check.
    type: bool
    default: true
  min_stop_timeout:
    description: Seconds that each container must be given to stop in, before it is killed.
    type: float
    default: 0.0
  min_disk_free_mib:
    description: MiB that must be free where the engine keeps its images, in phase V(preflight). V(0) does not ask.
    type: int
    default: 2048
  live_restore:
    description: Whether the engine must leave containers running when it is restarted, in phases V(preflight) and V(before).
    type: bool
    default: false
  log_lines:
    description: How many lines of the log of a container that is not well are shown.
    type: int
    default: 10
seealso:
  - module: novacorrente.platform.release
  - name: Health checks
    description: How the engine comes to a container's health.
    link: https://docs.docker.com/reference/dockerfile/#healthcheck
"""

EXAMPLES = r"""
- name: Are the new containers well, and do they stay so?
  novacorrente.platform.container_gate:
    phase: after
    target: "{{ inventory_hostname }}"
    tier: redis
    services: [cache, queue, sentinel]
    images:
      cache: registry.example.org:5000/redis@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    expect_version: "{{ platform_release.release }}"
    not_before: "{{ restarted_at }}"

# From the command line, a look at what runs:
# ansible data1 -b -m novacorrente.platform.container_gate -a 'tier=redis wait=false'
"""

RETURN = r"""
verdict:
  description: V(pass), V(wait), V(fail) or V(unknown).
  returned: always
  type: str
  sample: pass
reasons:
  description: What keeps the gate from passing.
  returned: always
  type: list
  elements: dict
  sample:
    - code: CONTAINER_STARTING
      key: CONTAINER_STARTING cache
      subject: cache
      text: is starting; its health check has not succeeded yet.
      verdict: wait
tolerated:
  description: Keys of findings that O(policy) overruled.
  returned: always
  type: list
  elements: str
observed:
  description: Each container's status, health, release, image, start and restarts.
  returned: always
  type: dict
margin:
  description: Always none, one host's containers tell nothing of what the tier can lose.
  returned: always
  type: int
progress:
  description: How many containers are well, in phase V(after).
  returned: always
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: always
  type: float
polls:
  description: How many times the gate looked.
  returned: always
  type: int
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import container, contract
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "tier": {"type": "str"},
            "containers": {"type": "list", "elements": "str"},
            "services": {"type": "list", "elements": "str", "default": []},
            "images": {"type": "dict", "default": {}},
            "max_restarts": {"type": "int", "default": 0},
            "healthcheck": {"type": "bool", "default": True},
            "min_stop_timeout": {"type": "float", "default": 0.0},
            "min_disk_free_mib": {"type": "int", "default": 2048},
            "live_restore": {"type": "bool", "default": False},
            "log_lines": {"type": "int", "default": 10},
        },
        mutually_exclusive=[("tier", "containers")],
        required_one_of=[("tier", "containers")],
        supports_check_mode=True,
    )
    params = module.params
    without = [service for service, image in params["images"].items() if "sha256:" not in str(image)]
    if without:
        module.fail_json(msg=f"images: the image of {', '.join(without)} has no digest; accepted are name@sha256:... and sha256:...")
    limits = container.Limits(
        services=tuple(params["services"]),
        images=params["images"],
        max_restarts=params["max_restarts"],
        healthcheck=params["healthcheck"],
        min_stop_timeout=params["min_stop_timeout"],
        min_disk_free=params["min_disk_free_mib"] * 1024.0**2,
        live_restore=params["live_restore"],
    )
    look = container.Fetcher(
        module.get_bin_path("docker") or "docker",
        params["tier"] or "",
        params["containers"] or [],
        list(params["images"].values()),
        params["phase"] in (contract.PREFLIGHT, contract.BEFORE),
        params["log_lines"],
    )

    def evaluate(snapshot: container.Snapshot, question: contract.Question, earlier: contract.Earlier[container.Snapshot]) -> contract.Evaluation:
        return container.evaluate(snapshot, question, earlier, limits)

    gate.run(module, "container", look.look, evaluate)


if __name__ == "__main__":
    main()
