#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: http_gate
short_description: Gate of an HTTP service, asking whether a member may go or is back
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks the readiness of all members of an HTTP service at the same time, and where O(through) is given the load balancer too.
  - In phase V(before) enough healthy members must remain without O(target). In phase V(after) O(target) must be ready, run O(expect_version), and
    answer in time, and the load balancer must serve, by the target too where O(member_header) tells. In phases V(preflight) and V(final) all members
    must be ready, in V(final) with one version.
  - TLS is always verified.
notes:
  - Reason codes, and what to do about each.
  - C(HTTP_REFUSED) (wait) nothing listens there. The container is starting, or has ended; look at its log.
  - C(HTTP_NO_ANSWER) (wait) connected, and then silence. The service hangs or is overloaded.
  - C(HTTP_UNREACHABLE) (unknown) no way to the host. Look at the host, the network and the firewall.
  - C(HTTP_TLS) (fail) the certificate is expired, of another authority or for another name. Renew it, or correct O(ca_file) or the server name.
  - C(HTTP_STATUS) (wait for 5xx, 408, 425 and 429, else fail) not ready, or the wrong O(path).
  - C(HTTP_SLOW) (wait) slower than O(max_latency).
  - C(HTTP_DEPENDENCY) (wait) a dependency of the member is down. Mend the dependency, the member is not to blame.
  - C(HTTP_DEPENDENCY_UNKNOWN) (unknown) the answer does not name a dependency of O(dependencies).
  - C(HTTP_VERSION) (fail) another version than O(expect_version) runs.
  - C(HTTP_VERSION_UNKNOWN) (unknown) the answer does not tell a version. See O(version_key) and O(version_header).
  - C(HTTP_VERSIONS_DIFFER) (fail) a rollout was not finished. Run it again.
  - C(HTTP_NOT_RESTARTED) (fail) the process is older than O(not_before).
  - C(HTTP_START_UNKNOWN) (unknown) the answer does not tell a time of start. See O(started_key).
  - C(HTTP_TOO_FEW) (as the members that are missing) too few healthy members would remain. Mend those first, or force with a reason.
  - C(HTTP_THROUGH) (as the answer) the load balancer does not serve.
  - C(HTTP_NOT_SERVED) (wait) the load balancer does not send requests to the target yet. Is it drained?
  - C(HTTP_NO_SUCH_MEMBER) (fail) O(target) is not in O(members).
extends_documentation_fragment:
  - novacorrente.platform.gate
options:
  members:
    description: The members of the service.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the member in the inventory.
        type: str
        required: true
      address:
        description: Where it listens, as C(host:port).
        type: str
        required: true
      server_name:
        description: The name that its certificate must have, and that is sent as C(Host). By default the host of O(members[].address).
        type: str
        default: ''
  path:
    description: The path of the readiness endpoint.
    type: str
    default: /ready
  scheme:
    description: V(http) is accepted for addresses of the loopback only.
    type: str
    choices: [https, http]
    default: https
  ca_file:
    description: File of certificates in PEM form that servers are verified against. By default the system's.
    type: path
  timeout:
    description: Seconds that a connection or an answer may take.
    type: float
    default: 3.0
  statuses:
    description: Status codes that mean ready.
    type: list
    elements: int
    default: [200]
  max_latency:
    description: Seconds that an answer may take.
    type: float
    default: 1.0
  min_available:
    description: Healthy members that must remain in phase V(before). By default all but one, and at least one.
    type: int
  dependencies:
    description: Dependencies that must be up, besides those that an answer itself calls required.
    type: list
    elements: str
    default: []
  version_key:
    description: Dotted way to the version in the JSON body.
    type: str
    default: version
  version_header:
    description: Header with the version, in place of O(version_key).
    type: str
    default: ''
  started_key:
    description: Dotted way to the time of start in the JSON body, seconds since the epoch or ISO 8601 with a zone. Needed where O(not_before) is given.
    type: str
    default: ''
  dependencies_key:
    description:
      - Dotted way to the table of dependencies in the JSON body. An entry is a state, V(up) being good, or a truth value, or a dictionary with C(status) and
        C(required).
    type: str
    default: dependencies
  through:
    description: URL that clients use, asked in all phases but V(before).
    type: str
    default: ''
  through_address:
    description: Where to ask O(through), as C(host:port), whatever its name resolves to.
    type: str
    default: ''
  member_header:
    description: Header in which a member gives its name. With it, phase V(after) waits until the load balancer sends requests to O(target).
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: May this member of the API go?
  novacorrente.platform.http_gate:
    phase: before
    target: "{{ inventory_hostname }}"
    members:
      - {name: app1, address: "192.0.2.21:8001", server_name: app1}
      - {name: app2, address: "192.0.2.22:8001", server_name: app2}
    ca_file: /etc/platform/ca.crt

- name: Is it back, with the new version, and do clients reach it?
  novacorrente.platform.http_gate:
    phase: after
    target: "{{ inventory_hostname }}"
    expect_version: 1.4.2
    members:
      - {name: app1, address: "192.0.2.21:8001", server_name: app1}
      - {name: app2, address: "192.0.2.22:8001", server_name: app2}
    ca_file: /etc/platform/ca.crt
    through: https://platform.example/health
    through_address: 192.0.2.10:443

# From the command line:
#   ansible localhost -m novacorrente.platform.http_gate -a '{"wait": false, "ca_file": "/etc/platform/ca.crt",
#     "members": [{"name": "app1", "address": "192.0.2.21:8001", "server_name": "app1"}]}'
"""

RETURN = r"""
msg:
  description: The outcome for a person.
  returned: always
  type: str
verdict:
  description: V(pass), V(wait), V(fail) or V(unknown).
  returned: when the gate looked
  type: str
  sample: pass
reasons:
  description: What keeps the gate from passing, each with C(code), C(verdict), C(subject), C(text) and C(key).
  returned: when the gate looked
  type: list
  elements: dict
tolerated:
  description: Keys of findings that the policy overruled.
  returned: when the gate looked
  type: list
  elements: str
observed:
  description:
    - The answers of the load balancer, and in C(members) by inventory name those of the members, with C(version) where they tell it. Members behind a load
      balancer are alike and have neither role nor lag.
  returned: when the gate looked
  type: dict
margin:
  description: How many more members may be lost before fewer than O(min_available), or none, are left. In phase V(before) without the target.
  returned: when the gate looked
  type: int
progress:
  description: Always null, a readiness has no measure.
  returned: when the gate looked
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: when the gate looked
  type: float
polls:
  description: How many times it looked.
  returned: when the gate looked
  type: int
"""

import functools
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import addresses, http, https
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate


def fetcher_of(params: t.Mapping[str, t.Any]) -> http.Fetcher:
    """Raises GateError or addresses.AddressError where parameters cannot be used."""
    if params["phase"] == "after" and params["not_before"] is not None and not params["started_key"]:
        raise gate.GateError("not_before needs started_key, else the time of start cannot be seen. Set it, or leave the time to container_gate.")
    keys = http.Keys(
        version=params["version_key"],
        version_header=params["version_header"],
        started=params["started_key"],
        dependencies=params["dependencies_key"],
        member_header=params["member_header"],
    )
    places, path = {}, "/"
    for member in params["members"]:
        place, path = https.place_of(f"{params['scheme']}://{member['address']}{params['path']}", server_name=member["server_name"])
        places[member["name"]] = place
    through = https.place_of(params["through"], params["through_address"]) if params["through"] else None
    return http.Fetcher(places, path, https.tls_context(params["ca_file"]), params["timeout"], keys, through)


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "members": {**gate.MEMBERS, "options": {**gate.MEMBER, "server_name": {"type": "str", "default": ""}}},
            "path": {"type": "str", "default": "/ready"},
            "scheme": {"type": "str", "choices": ["https", "http"], "default": "https"},
            "ca_file": {"type": "path"},
            "timeout": {"type": "float", "default": 3.0},
            "statuses": {"type": "list", "elements": "int", "default": [200]},
            "max_latency": {"type": "float", "default": 1.0},
            "min_available": {"type": "int"},
            "dependencies": {"type": "list", "elements": "str", "default": []},
            "version_key": {"type": "str", "default": "version", "no_log": False},
            "version_header": {"type": "str", "default": ""},
            "started_key": {"type": "str", "default": "", "no_log": False},
            "dependencies_key": {"type": "str", "default": "dependencies", "no_log": False},
            "through": {"type": "str", "default": ""},
            "through_address": {"type": "str", "default": ""},
            "member_header": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        fetcher = fetcher_of(params)
    except (gate.GateError, addresses.AddressError) as exc:
        module.fail_json(msg=str(exc))
    limits = http.Limits(
        statuses=tuple(params["statuses"]),
        max_latency=params["max_latency"],
        dependencies=tuple(params["dependencies"]),
        min_available=params["min_available"],
    )
    gate.run(module, "http", fetcher.fetch, functools.partial(http.evaluate, limits=limits))


if __name__ == "__main__":
    main()
