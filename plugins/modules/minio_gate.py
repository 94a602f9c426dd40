#!/usr/bin/python
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: minio_gate
short_description: Whether a node of a MinIO cluster may go, or is back
version_added: 0.2.0
author:
  - Nova Corrente platform team (@novacorrente)
description:
  - Asks each node of a MinIO cluster for its own health, and one node, not the target where there is another, for versions, drives and who
    reaches whom. Whether the target can be spared is asked of the target itself, as a node answers that for its own drives.
  - Nothing is written before a node goes. In phases V(after) and V(final) a small object is written, read and removed through the node where
    O(probe_bucket) names a bucket. In check mode it is not.
  - The margin of the result is the number of further nodes that can be lost with the cluster still writing, the unluckiest ones; in phase
    V(before) without the target. The progress is the number of drives online and of items healed.
  - Runs where the V(minio) library is, usually on the controller by C(delegate_to).
extends_documentation_fragment:
  - novacorrente.platform.gate
attributes:
  check_mode:
    support: full
    description: No probe object is written in check mode. The result's RV(observed) says through which nodes one was.
requirements:
  - minio >= 7.2 (Python)
options:
  members:
    description: The nodes of the cluster, all of them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host in the inventory.
        type: str
        required: true
      address:
        description: Address of its S3 port as C(host:port), as it stands in the servers' own arguments.
        type: str
        required: true
  access_key:
    description: A user who has C(admin:ServerInfo), which the policy V(diagnostics) gives, and who may write, read and remove in O(probe_bucket).
    type: str
    required: true
  secret_key:
    description: Secret key of that user.
    type: str
    required: true
  ca_file:
    description:
      - Path of a file with the certificate authorities, PEM, that the nodes' certificates are verified against.
      - Where it is left out, the system's authorities are used. The certificates are always verified.
    type: path
  region:
    description: Region of the site.
    type: str
    default: us-east-1
  probe_bucket:
    description: Bucket for the probe object, which is called C(platform-gate/) and a random name. Empty writes none.
    type: str
    default: ''
  min_free_percent:
    description: Space that must be free on each drive before a rollout, in percent.
    type: float
    default: 5.0
  max_clock_skew:
    description: Seconds that the clock of a node may be off from that of the machine which runs the module, before a rollout. It is seen to a second.
    type: float
    default: 1.0
notes:
  - V(MINIO_UNSEEN), a node does not answer. Look at the network between this machine and the node, and at its certificate.
  - V(MINIO_DETAILS_UNSEEN), drives and versions can't be seen. The text says why. Look at O(access_key), it needs C(admin:ServerInfo).
  - V(MINIO_OFFLINE), a node does not run. Start it, or look at its log. A target that is down already may be worked on with policy V(forced).
  - V(MINIO_STARTING), a node runs and is not initialised. If it stays so, its log says what it waits for, most often for other nodes.
  - V(MINIO_QUORUM), a node sees too few drives for writing. The cluster is down. Bring nodes or drives back.
  - V(MINIO_HEALING), drives are being filled again. Wait. No node may go meanwhile.
  - V(MINIO_DRIVES), drives of a node that runs can't be used. V(offline) and V(unformatted) mend by themselves, anything else needs a person.
  - V(MINIO_CUT_OFF), a node is ready but others can't reach it. Look at the network and the certificates between the nodes.
  - V(MINIO_NEEDED), without the target the cluster could not write. Bring the others back. If it says that the layout can never spare a node,
    restart all nodes at once in an announced outage.
  - V(MINIO_MARGIN), without the target no further node could be lost, though the layout allows for it. Bring the others back.
  - V(MINIO_MEMBERS), O(members) or O(target) is not what the cluster consists of. Correct the inventory.
  - V(MINIO_VERSIONS_MIXED), nodes run different versions, which MinIO does not support. Finish the rollout that was begun, with policy V(no_worse).
  - V(MINIO_VERSION), a node was restarted and runs another version than O(expect_version). Look at the image.
  - V(MINIO_NOT_RESTARTED), the target still runs as it did at O(not_before).
  - V(MINIO_PROBE), the probe object could not be written, read or removed through a node. Look at the text, the bucket and the policy of O(access_key).
  - V(MINIO_SPACE), a drive is nearly full. V(MINIO_CLOCK), a clock is wrong. Both are asked before a rollout only.
  - V(MINIO_POOLS), the cluster has several pools, and whether data is moved between them can't be seen here. Look, then use policy V(forced).
  - V(GATE_HEALTHY_DEADLINE), V(GATE_PROGRESS_DEADLINE) and V(GATE_HARD_DEADLINE) say which deadline passed with the other findings still there.
seealso:
  - name: Health checks of MinIO
    description: What the health endpoints answer.
    link: https://github.com/minio/minio/tree/master/docs/metrics/healthcheck
"""

EXAMPLES = r"""
- name: May this node be rebooted?
  novacorrente.platform.minio_gate:
    phase: before
    target: "{{ inventory_hostname }}"
    members:
      - {name: data1, address: "192.0.2.31:9000"}
      - {name: data2, address: "192.0.2.32:9000"}
      - {name: data3, address: "192.0.2.33:9000"}
      - {name: data4, address: "192.0.2.34:9000"}
    ca_file: pki/ca.crt
    access_key: "{{ minio_root_user }}"
    secret_key: "{{ minio_root_password }}"
  delegate_to: localhost
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"

- name: Is it back?
  novacorrente.platform.minio_gate:
    phase: after
    target: "{{ inventory_hostname }}"
    not_before: "{{ stopped_at }}"
    members: "{{ minio_gate_members }}"
    ca_file: pki/ca.crt
    access_key: "{{ minio_root_user }}"
    secret_key: "{{ minio_root_password }}"
    probe_bucket: bronze
  delegate_to: localhost

# At three in the morning; the inventory fills in the braces, so that no secret is in the command:
# ansible data1 -i inventories/production -c local -m novacorrente.platform.minio_gate -a '{"wait": false, "ca_file": "pki/ca.crt",
#   "members": [{"name": "data1", "address": "192.0.2.31:9000"}, {"name": "data2", "address": "192.0.2.32:9000"}],
#   "access_key": "{{ minio_root_user }}", "secret_key": "{{ minio_root_password }}"}'
"""

RETURN = r"""
verdict:
  description: What was found, one of V(pass), V(wait), V(fail) and V(unknown). V(wait) only where O(wait=false).
  returned: always
  type: str
  sample: wait
reasons:
  description: The findings that keep the gate from passing, each with C(code), C(verdict), C(subject), C(text) and C(key).
  returned: always
  type: list
  elements: dict
  sample: [{code: MINIO_HEALING, verdict: wait, subject: data1, text: "Drives are healing: https://192.0.2.31:9000/data1.", key: MINIO_HEALING data1}]
tolerated:
  description: Keys of findings that the policy overruled.
  returned: always
  type: list
  elements: str
observed:
  description:
    - The number of drives, and through which nodes a probe object was written.
    - C(members) has by inventory name each node's C(version), C(state) and whether it C(can_be_spared), or an C(error). Nodes have no role, and no lag
      that can be measured.
  returned: always
  type: dict
  sample:
    members:
      data1: {version: "2026-02-12T20:18:48Z", state: ready, can_be_spared: true}
      data2: {error: no answer within 5 s}
    observer: data1
    drives_online: 3
    drives: 4
    can_spare_a_node_when_healthy: true
    probed: []
margin:
  description: Further nodes that can be lost with the cluster still writing. Negative where it can't write.
  returned: always
  type: int
  sample: 1
progress:
  description: Drives online and items healed.
  returned: always
  type: float
elapsed:
  description: Seconds that the gate took.
  returned: always
  type: float
polls:
  description: How many times it looked.
  returned: always
  type: int
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.novacorrente.platform.plugins.module_utils._gates import contract, minio, minio_fetch
from ansible_collections.novacorrente.platform.plugins.module_utils._gates import module as gate


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **gate.OPTIONS,
            "members": gate.MEMBERS,
            "access_key": {"type": "str", "required": True, "no_log": False},
            "secret_key": {"type": "str", "required": True, "no_log": True},
            "ca_file": {"type": "path"},
            "region": {"type": "str", "default": "us-east-1"},
            "probe_bucket": {"type": "str", "default": ""},
            "min_free_percent": {"type": "float", "default": minio.Limits.min_free_percent},
            "max_clock_skew": {"type": "float", "default": minio.Limits.max_clock_skew},
        },
        supports_check_mode=True,
    )
    if minio_fetch.MINIO_ERROR:
        module.fail_json(msg=missing_required_lib("minio >= 7.2"), exception=minio_fetch.MINIO_ERROR)
    params = module.params
    if not params["members"]:
        module.fail_json(msg="members is empty; the nodes of the cluster are needed.")
    members = {member["name"]: member["address"] for member in params["members"]}
    probing = params["probe_bucket"] and not module.check_mode
    through = {contract.AFTER: [params["target"]], contract.FINAL: list(members)}.get(params["phase"])
    try:
        look = minio_fetch.Look(
            members,
            access_key=params["access_key"],
            secret_key=params["secret_key"],
            ca_file=params["ca_file"],
            region=params["region"],
            target=params["target"],
            probe_bucket=params["probe_bucket"],
            probe_through=through if probing else None,
        )
    except OSError as exc:
        module.fail_json(msg=f"ca_file: {params['ca_file']} can't be used: {exc}")
    limits = minio.Limits(params["min_free_percent"], params["max_clock_skew"])
    gate.run(module, "minio", look.fetch, lambda snapshot, question, earlier: minio.evaluate(snapshot, question, earlier, limits))


if __name__ == "__main__":
    main()
